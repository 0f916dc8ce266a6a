import { spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import test from 'ava';
import { projectRoot } from '../../zfs-src/releases.ts';
import { skip } from '../skip.ts';
import { bringSources } from '../zfs-src/project.ts';

/** What `npm pack` makes of dist/, unpacked somewhere else: it has to work without the source tree and without npm. */

const folder = mkdtempSync(join(tmpdir(), 'zow-package-'));
test.after.always(() => rmSync(folder, { recursive: true }));
const root = join(folder, 'node_modules/zow');
const bin = (name: string) => join(root, 'dist/bin', `${name}.mjs`);

function run(command: string, args: readonly string[], cwd = folder) {
  const { status, stdout, stderr } = spawnSync(command, args, {
    cwd,
    encoding: 'utf8',
    env: { ...process.env, ZOW_WASM: '' },
  });
  return { status, stdout, stderr };
}

test.before((t) => {
  if (!existsSync('dist/zow.mjs')) throw new Error('dist/ is missing: make bundle');
  const packed = run('npm', ['pack', '--ignore-scripts', '--silent', '--pack-destination', folder], process.cwd());
  t.is(packed.status, 0, packed.stderr);
  mkdirSync(root, { recursive: true });
  const unpacked = run('tar', ['xzf', join(folder, packed.stdout.trim()), '-C', root, '--strip-components=1']);
  t.is(unpacked.status, 0, unpacked.stderr);
});

test.serial('it needs no other package, and holds none of the sources', (t) => {
  for (const part of ['host', 'cli', 'test', 'zfs-src', 'node_modules']) t.false(existsSync(join(root, part)), part);
  for (const part of ['LICENSE', 'NOTICE', 'dist/LICENSES.txt', 'dist/schema.json', 'examples/pool.yaml']) {
    t.true(existsSync(join(root, part)), part);
  }
});

test.serial('zow answers, and checks the example', (t) => {
  t.regex(run(process.execPath, [bin('zow'), '--version']).stdout, /^zow .*, OpenZFS /);
  const { status, stdout } = run(process.execPath, [bin('zow'), 'check', join(root, 'examples/pool.yaml')]);
  t.is(status, 0);
  t.regex(stdout, /pool {4}tank: mirror of 2; would be created/);
});

test.serial('an old Node is told so', (t) => {
  const node = '/usr/bin/node';
  if (!existsSync(node) || Number.parseInt(run(node, ['-p', 'process.versions.node']).stdout, 10) >= 26) {
    return skip(t, 'no older Node here');
  }
  const { status, stderr } = run(node, [bin('zpool'), 'status']);
  t.is(status, 1);
  t.regex(stderr, /^zpool: needs Node 26 or newer, this is v\d/);
});

test.serial('without a host a program says so in one line', (t) => {
  const { status, stderr } = spawnSync(
    process.execPath,
    [bin('zow'), '--socket', join(folder, 'none.sock'), 'zpool', 'list'],
    {
      encoding: 'utf8',
    },
  );
  t.is(status, 1);
  t.is(stderr.trim().split('\n').length, 1, stderr);
  t.regex(stderr, /none\.sock.*zow serve/s);
});

const CONFIG = {
  socket: 'zow.sock',
  memory: '256M',
  pools: { tank: { vdevs: ['a.img'], create: { size: '128M' }, volumes: { v: { size: '16M' } } } },
};

test.serial('zow serve, zpool and zfs work', async (t) => {
  const file = join(folder, 'pool.yaml');
  writeFileSync(file, JSON.stringify(CONFIG));
  for (const start of ['created', 'imported']) {
    const began = performance.now();
    const host = spawn(process.execPath, [bin('zow'), 'serve', file], { stdio: ['ignore', 'ignore', 'pipe'] });
    t.teardown(() => host.kill('SIGKILL'));
    let log = '';
    host.stderr.setEncoding('utf8');
    const closed = once(host, 'close');
    for await (const text of host.stderr) {
      log += text;
      if (log.includes('"msg":"ready"')) break;
    }
    t.log(`${start} and ready in ${Math.round(performance.now() - began)} ms`);
    t.regex(log, new RegExp(`pool ${start}`));
    const env = { ...process.env, ZOW_SOCKET: join(folder, 'zow.sock') };
    const status = spawnSync(process.execPath, [bin('zpool'), 'status', '-x'], { encoding: 'utf8', env });
    t.is(status.stdout, 'all pools are healthy\n', status.stderr);
    const list = spawnSync(process.execPath, [bin('zfs'), 'list', '-Ho', 'name,volsize', '-t', 'volume'], {
      encoding: 'utf8',
      env,
    });
    t.is(list.stdout, 'tank/v\t16M\n');
    const set = ['set', 'compatibility=ubuntu-22.04,openzfs-2.2', 'tank'];
    t.is(spawnSync(process.execPath, [bin('zpool'), ...set], { env }).status, 0, 'files of the package');
    host.kill('SIGTERM');
    t.is((await closed)[0], 0);
  }
});

test.serial('the library opens, writes, reads and closes', (t) => {
  writeFileSync(
    join(folder, 'library.mjs'),
    `import { ConfigError, ZowHost } from 'zow';
import schema from 'zow/schema.json' with { type: 'json' };
const host = await ZowHost.open(${JSON.stringify(CONFIG)});
const volume = await host.openVolume('tank/v');
await volume.write(100, Buffer.from('hello'));
await volume.flush();
console.log(Buffer.from(await volume.read(100, 5)).toString(), (await host.run('zfs', ['list', '-Ho', 'name', 'tank/v'])).stdout.trim());
await volume.close();
await host.close();
try { await ZowHost.open({ memory: 1 }); } catch (error) { console.log(error instanceof ConfigError, schema.title); }
`,
  );
  const { status, stdout, stderr } = run(process.execPath, ['library.mjs']);
  t.is(stdout, 'hello tank/v\ntrue ZoW configuration\n', stderr);
  t.is(status, 0);
});

test.serial('the library has types', (t) => {
  writeFileSync(
    join(folder, 'library.mts'),
    `import { type VolumeInfo, ZowHost } from 'zow';
const host: ZowHost = await ZowHost.open({ pools: {} }, { directory: '/' });
const volume = await host.openVolume('tank/v', { readOnly: true });
const info: VolumeInfo = volume.info;
// @ts-expect-error: a volume has no such method
volume.frobnicate(info.size);
`,
  );
  writeFileSync(
    join(folder, 'tsconfig.json'),
    JSON.stringify({
      compilerOptions: {
        module: 'nodenext',
        target: 'esnext',
        lib: ['esnext'],
        strict: true,
        noEmit: true,
        skipLibCheck: true,
        types: [],
      },
      files: ['library.mts'],
    }),
  );
  const { status, stdout } = run(join(process.cwd(), 'node_modules/.bin/tsc'), ['-p', folder]);
  t.is(status, 0, stdout);
});

test('a bundle of another release says so', async (t) => {
  await bringSources('2.3.2');
  const other = mkdtempSync(join(tmpdir(), 'zow-package-'));
  t.teardown(() => rmSync(other, { recursive: true }));
  for (const part of ['cli', 'host', 'node_modules', 'package.json', 'tsconfig.json', 'wasm', 'zfs-src']) {
    symlinkSync(join(projectRoot, part), join(other, part));
  }
  mkdirSync(join(other, 'build'));
  symlinkSync(join(projectRoot, 'build/types'), join(other, 'build/types'));
  // Which modules are packed makes no difference to what is asked here: the default's are at hand.
  const env = { ...process.env, ZOW_RELEASE: '2.3.2', ZOW_WASM: join(projectRoot, 'build/2.4.3/wasm') };
  const bundled = spawnSync(process.execPath, ['cli/bundle.ts'], { cwd: other, encoding: 'utf8', env });
  t.is(bundled.status, 0, bundled.stderr);
  t.regex(run(process.execPath, [join(other, 'dist/bin/zow.mjs'), '--version']).stdout, /, OpenZFS 2\.3\.2$/m);
});
