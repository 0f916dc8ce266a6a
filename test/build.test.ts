import { spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import test from 'ava';
import { BuildError, findRelease, projectRoot, readReleases } from '../zfs-src/releases.ts';
import { bareProject, bringSources } from './zfs-src/project.ts';

/** build.sh in a project of its own, so that the checkout's lock and outputs are left alone. */
function build(
  root: string,
  args: readonly string[],
  env: NodeJS.ProcessEnv = {},
): { status: number | null; stderr: string } {
  return spawnSync('./build.sh', args, { cwd: root, encoding: 'utf8', env: { ...process.env, ...env } });
}

test('what it does not know is one line', (t) => {
  const root = bareProject(t);
  t.deepEqual(build(root, ['nonsense']).stderr, 'build.sh: unknown argument nonsense; see build.sh --help\n');
  const release = build(root, ['fetch', '--release', '9.9']);
  t.is(release.status, 1);
  t.is(
    release.stderr,
    'build.sh: release 9.9 is not supported; supported: 2.4.4, 2.4.3, 2.3.9, 2.3.2, 2.2.9, 2.1.11\n',
  );
  t.is(build(root, ['--help']).status, 0);
});

test('a wrong tarball is one line, an exit code, and nothing unpacked', (t) => {
  const root = bareProject(t);
  const wrong = join(root, 'wrong.tar.gz');
  writeFileSync(wrong, 'something else');
  const { status, stderr } = build(root, ['fetch'], { ZFS_TARBALL: wrong });
  t.is(status, 1);
  t.regex(stderr, /^build\.sh: .*wrong\.tar\.gz: wrong checksum: sha256 is [0-9a-f]{64}, expected [0-9a-f]{64}\n$/);
  t.false(existsSync(join(root, 'zfs-src/upstream')));
});

test('interrupted while it unpacks, it leaves nothing half-done', async (t) => {
  await bringSources(readReleases().default);
  const root = bareProject(t);
  const tarball = join(projectRoot, 'zfs-src/cache', findRelease(readReleases(), readReleases().default).tarball!);
  const child = spawn('./build.sh', ['fetch'], { cwd: root, env: { ...process.env, ZFS_TARBALL: tarball } });
  let stderr = '';
  child.stderr.setEncoding('utf8').on('data', (text: string) => {
    stderr += text;
    if (text.includes('unpacking')) child.kill('SIGTERM');
  });
  const [status] = await once(child, 'close');
  t.is(status, 1, stderr);
  t.regex(stderr, /build\.sh: interrupted by SIGTERM\n$/);
  t.deepEqual(readdirSync(join(root, 'zfs-src/upstream')), []);
});

test('a compiler that is missing is named, with what to install', (t) => {
  const root = bareProject(t);
  // As nobody in particular, without clang on the path: nothing can be installed, and it says what to.
  const tools = ['bash', 'dirname', 'id', 'mkdir', 'flock', 'head', 'make', 'tar', 'xz', 'patch', 'npm', 'cat', 'env'];
  const links = tools.map((tool) => `ln -s "$(command -v ${tool})" "$bin/${tool}"`).join('; ');
  const script = `bin=$(mktemp -d) && { ${links}; }; PATH=$bin ./build.sh wasm; status=$?; rm -r "$bin"; exit $status`;
  const result = spawnSync('bash', ['-c', script], { cwd: root, encoding: 'utf8' });
  t.is(result.status, 1);
  t.is(
    result.stderr,
    'build.sh: the WebAssembly toolchain is missing: install the packages clang-19 lld-19 llvm-19 (as root on Debian this is done for you)\n',
  );
});

test('every release of the table has all that a fetch needs', (t) => {
  const releases = readReleases();
  t.true(Object.hasOwn(releases.releases, releases.default));
  const listed = Object.values(releases.releases);
  // The others need a user who has them (ZFS_TREE, ZFS_TARBALL).
  const served = listed.filter(({ tarball }) => tarball !== undefined);
  t.true(
    served.includes(findRelease(releases, releases.default)),
    'who only clones this project can build the default',
  );
  for (const source of [...served, releases.libc]) {
    t.regex(source.sha256!, /^[0-9a-f]{64}$/);
    t.regex(source.tarball!, /^[\w.~+-]+\.tar\.(gz|xz)$/);
    t.regex(source.pool!, /^pool\/[\w/-]+$/);
  }
  for (const { sources } of listed) t.regex(sources, /^[0-9a-f]{64}$/);
  t.throws(() => findRelease(releases, '2.9'), { instanceOf: BuildError, message: /supported: 2\.4\.4, 2\.4\.3, / });
});

test('nothing of this machine gets into what is built', (t) => {
  const folder = join(projectRoot, 'build', readReleases().default, 'wasm');
  for (const name of ['zow', 'zpool', 'zfs', 'zdb', 'zstream', 'zinject']) {
    const bytes = readFileSync(join(folder, `${name}.wasm`));
    t.is(bytes.indexOf(projectRoot), -1, name);
    t.is(bytes.indexOf('zfs-src/upstream'), -1, name);
  }
});
