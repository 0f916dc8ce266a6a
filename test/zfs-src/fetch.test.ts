import { spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { copyFileSync, existsSync, mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import test, { type ExecutionContext } from 'ava';
import { adoptTree, type FetchPlaces, fetchTarball, sha256File, unpack } from '../../zfs-src/fetch.ts';
import { BuildError, type Release, type Source } from '../../zfs-src/releases.ts';
import { sourcesDigest } from '../../zfs-src/tree.ts';
import { temporaryFolder } from './project.ts';

interface Bench {
  readonly folder: string;
  readonly source: Source;
  readonly tarball: string;
  readonly asked: string[];
  places(more?: Partial<FetchPlaces>): FetchPlaces;
}

/** A small tarball, and places that know it by different ways. */
function bench(t: ExecutionContext): Bench {
  const folder = temporaryFolder(t);
  mkdirSync(join(folder, 'made/zfs-1.0/module'), { recursive: true });
  writeFileSync(join(folder, 'made/zfs-1.0/module/a.c'), 'int a = 1;\n');
  const tarball = join(folder, 'elsewhere/zfs_1.0.tar.gz');
  mkdirSync(join(folder, 'elsewhere'));
  spawnSync('tar', ['-C', join(folder, 'made'), '-czf', tarball, 'zfs-1.0']);
  const sha256 = createHash('sha256').update(readFileSync(tarball)).digest('hex');
  const asked: string[] = [];
  return {
    folder,
    tarball,
    asked,
    source: { tarball: 'zfs_1.0.tar.gz', pool: 'pool/z', sha256 },
    places: (more = {}) => ({
      cache: join(folder, 'cache'),
      mirrors: ['http://one', 'http://two'],
      fallbacks: [join(folder, 'nowhere'), join(folder, 'elsewhere')],
      download: async (url) => {
        asked.push(url);
        return 'no network';
      },
      signal: new AbortController().signal,
      say: () => {},
      ...more,
    }),
  };
}

/** What is in the cache, partial files included. */
function cached(b: Bench): string[] {
  const cache = join(b.folder, 'cache');
  return existsSync(cache) ? readdirSync(cache) : [];
}

test('the override wins and is not copied; a wrong one is an error and nothing else is tried', async (t) => {
  const b = bench(t);
  t.is(await fetchTarball(b.source, b.places({ override: b.tarball })), b.tarball);
  t.deepEqual(cached(b), []);
  const wrong = join(b.folder, 'wrong.tar.gz');
  writeFileSync(wrong, 'something else');
  const error = await t.throwsAsync(fetchTarball(b.source, b.places({ override: wrong })), { instanceOf: BuildError });
  t.is(error.message, `${wrong}: wrong checksum: sha256 is ${sha256File(wrong)}, expected ${b.source.sha256}`);
  await t.throwsAsync(fetchTarball(b.source, b.places({ override: join(b.folder, 'missing') })), {
    message: /missing: cannot be read/,
  });
  t.deepEqual(b.asked, []);
});

test('the cache comes before the mirrors', async (t) => {
  const b = bench(t);
  mkdirSync(join(b.folder, 'cache'));
  copyFileSync(b.tarball, join(b.folder, 'cache/zfs_1.0.tar.gz'));
  t.is(await fetchTarball(b.source, b.places()), join(b.folder, 'cache/zfs_1.0.tar.gz'));
  t.deepEqual(b.asked, []);
});

test('mirrors are asked in order, and what one sends goes into the cache', async (t) => {
  const b = bench(t);
  const asked: string[] = [];
  const download: FetchPlaces['download'] = async (url, file) => {
    asked.push(url);
    if (url.startsWith('http://one')) return 'not found';
    copyFileSync(b.tarball, file);
    return undefined;
  };
  await fetchTarball(b.source, b.places({ download }));
  t.deepEqual(asked, ['http://one/pool/z/zfs_1.0.tar.gz', 'http://two/pool/z/zfs_1.0.tar.gz']);
  t.deepEqual(cached(b), ['zfs_1.0.tar.gz']);
});

test('without a network the fallback folder serves', async (t) => {
  const b = bench(t);
  await fetchTarball(b.source, b.places());
  t.is(b.asked.length, 2);
  t.deepEqual(cached(b), ['zfs_1.0.tar.gz']);
});

test('nowhere to be found: one line that lists what was tried', async (t) => {
  const b = bench(t);
  const error = await t.throwsAsync(fetchTarball(b.source, b.places({ fallbacks: ['/nowhere'] })));
  t.regex(
    error.message,
    /^no copy of zfs_1.0.tar.gz found; tried .*cache.*; http:\/\/one.*: no network; .*two.*; \/nowhere/,
  );
  t.false(error.message.includes('\n'));
});

test('a wrong file from a mirror or the cache is an error; nothing of a download stays', async (t) => {
  const b = bench(t);
  const download: FetchPlaces['download'] = async (_url, file) => {
    writeFileSync(file, 'a proxy says no');
    return undefined;
  };
  await t.throwsAsync(fetchTarball(b.source, b.places({ download })), { message: /^zfs_1.0.tar.gz: wrong checksum/ });
  t.deepEqual(cached(b), []);
  writeFileSync(join(b.folder, 'cache/zfs_1.0.tar.gz'), 'damaged');
  await t.throwsAsync(fetchTarball(b.source, b.places()), { message: /cache\/zfs_1.0.tar.gz: wrong checksum/ });
});

test('an interrupted download leaves nothing, and neither does one whose process was killed', async (t) => {
  const b = bench(t);
  const abort = new AbortController();
  const download: FetchPlaces['download'] = async (_url, file, signal) => {
    writeFileSync(file, 'the first half');
    abort.abort(new BuildError('interrupted'));
    signal.throwIfAborted();
    return undefined;
  };
  await t.throwsAsync(fetchTarball(b.source, b.places({ download, signal: abort.signal })), { message: 'interrupted' });
  t.deepEqual(cached(b), []);
  // No process has this id: Linux's greatest is 4194304.
  writeFileSync(join(b.folder, 'cache/zfs_1.0.tar.gz.part-9999999'), 'the first half');
  await fetchTarball(b.source, b.places());
  t.deepEqual(cached(b), ['zfs_1.0.tar.gz']);
});

test('a tree is unpacked once, patched, and again when a patch changes', async (t) => {
  const b = bench(t);
  const patches = join(b.folder, 'patches');
  const target = join(b.folder, 'upstream/1.0');
  const unpackIt = (): Promise<boolean> => unpack(b.source, '1.0', target, patches, b.places());
  const patch = (releases: string, value: number): void =>
    writeFileSync(
      join(patches, 'a.patch'),
      `Releases: ${releases}\nWhy: a test\n\n--- a/module/a.c\n+++ b/module/a.c\n@@ -1 +1 @@\n-int a = 1;\n+int a = ${value};\n`,
    );
  const content = (): string => readFileSync(join(target, 'module/a.c'), 'utf8');

  t.true(await unpackIt());
  t.false(await unpackIt());
  t.is(content(), 'int a = 1;\n');
  mkdirSync(patches);
  patch('1.0', 2);
  t.true(await unpackIt());
  t.is(content(), 'int a = 2;\n');
  t.false(await unpackIt());
  patch('9.9', 3);
  t.true(await unpackIt());
  t.is(content(), 'int a = 1;\n');

  writeFileSync(join(patches, 'a.patch'), '--- a/module/a.c\n');
  await t.throwsAsync(unpackIt(), { message: /the header of a patch has/ });
});

test('a patch that does not apply is one line, and the tree that was there stays', async (t) => {
  const b = bench(t);
  const patches = join(b.folder, 'patches');
  const target = join(b.folder, 'upstream/1.0');
  await unpack(b.source, '1.0', target, patches, b.places());
  mkdirSync(patches);
  writeFileSync(
    join(patches, 'a.patch'),
    'Releases: all\nWhy: a test\n\n--- a/module/a.c\n+++ b/module/a.c\n@@ -1 +1 @@\n-int b = 1;\n+int b = 2;\n',
  );
  const error = await t.throwsAsync(unpack(b.source, '1.0', target, patches, b.places()), { instanceOf: BuildError });
  t.regex(error.message, /^patch failed: /);
  t.false(error.message.includes('\n'));
  t.deepEqual(readdirSync(join(b.folder, 'upstream')), ['1.0']);
  t.is(readFileSync(join(target, 'module/a.c'), 'utf8'), 'int a = 1;\n');
});

/** A tree as git has it: what is compiled, META, and what must not come along. */
function checkout(t: ExecutionContext, version = '1.0', text = 'int a = 1;\n'): string {
  const folder = join(temporaryFolder(t), 'checkout');
  const files: Record<string, string> = {
    META: `Meta:          1\nName:          zfs\nVersion:       ${version}\nRelease:       1\n`,
    'module/zfs/a.c': text,
    'include/sys/a.h': '#define A 1\n',
    'lib/Makefile.am': 'X = 1\n',
    'module/zfs/a.o': 'an object',
    '.git/HEAD': 'ref: refs/heads/master\n',
  };
  for (const [name, content] of Object.entries(files)) {
    mkdirSync(join(folder, name, '..'), { recursive: true });
    writeFileSync(join(folder, name), content);
  }
  return folder;
}

test('the digest of the sources is that of what sha256sum says, whatever is built or lies beside them', (t) => {
  const tree = checkout(t);
  const names = ['include/sys/a.h', 'lib/Makefile.am', 'module/zfs/a.c'];
  const listed = spawnSync('sha256sum', names, { cwd: tree, encoding: 'utf8' }).stdout;
  const digest = createHash('sha256').update(listed).digest('hex');
  t.is(sourcesDigest(tree), digest);
  writeFileSync(join(tree, 'include/zfs_gitrev.h'), 'made');
  writeFileSync(join(tree, 'module/zfs/b.o'), 'built');
  t.is(sourcesDigest(tree), digest);
  writeFileSync(join(tree, 'module/zfs/a.c'), 'int a = 2;\n');
  t.not(sourcesDigest(tree), digest);
});

test('a tree of the user becomes ours: its sources without what was built, and what a tarball has besides', async (t) => {
  const b = bench(t);
  const tree = checkout(t);
  const target = join(b.folder, 'upstream/1.0');
  const adopt = (from = tree, release?: Release): Promise<boolean> =>
    adoptTree(from, release, '1.0', target, join(b.folder, 'patches'), b.places());
  t.true(await adopt());
  t.is(readFileSync(join(target, 'module/zfs/a.c'), 'utf8'), 'int a = 1;\n');
  t.is(readFileSync(join(target, 'include/zfs_gitrev.h'), 'utf8'), '#define\tZFS_META_GITREV "zfs-1.0"\n');
  t.false(existsSync(join(target, 'module/zfs/a.o')));
  t.false(existsSync(join(target, '.git')));
  t.false(await adopt(), 'nothing has changed');
  writeFileSync(join(tree, 'module/zfs/a.c'), 'int a = 2;\n');
  t.true(await adopt(), 'it has');
  t.is(readFileSync(join(target, 'module/zfs/a.c'), 'utf8'), 'int a = 2;\n');
});

test('a tree that is not the release that it says it is, is refused and leaves what was there', async (t) => {
  const b = bench(t);
  const target = join(b.folder, 'upstream/1.0');
  const good = checkout(t);
  const release = { sources: sourcesDigest(good) };
  const adopt = (from: string): Promise<boolean> =>
    adoptTree(from, release, '1.0', target, join(b.folder, 'patches'), b.places());
  t.true(await adopt(good));
  const changed = checkout(t, '1.0', 'int a = 3;\n');
  const error = await t.throwsAsync(adopt(changed), { instanceOf: BuildError });
  t.regex(
    error.message,
    /checkout: not the sources of OpenZFS 1\.0: their digest is [0-9a-f]{64}, expected [0-9a-f]{64}; /,
  );
  t.false(error.message.includes('\n'));
  const other = await t.throwsAsync(adopt(checkout(t, '2.0')), { instanceOf: BuildError });
  t.regex(other.message, /checkout: OpenZFS 2\.0, not 1\.0$/);
  const bare = checkout(t);
  rmSync(join(bare, 'META'));
  const none = await t.throwsAsync(adopt(bare), { instanceOf: BuildError });
  t.is(none.message, `${bare}: not the sources of an OpenZFS release: there is no META in it`);
  const gone = await t.throwsAsync(adopt('/nowhere/at/all'), { instanceOf: BuildError });
  t.is(gone.message, '/nowhere/at/all: not there (named by ZFS_TREE)');
  t.deepEqual(readdirSync(join(b.folder, 'upstream')), ['1.0']);
  t.is(readFileSync(join(target, 'module/zfs/a.c'), 'utf8'), 'int a = 1;\n');
});

test('a release that no mirror has: what to name is said; its tarball is held to its sources', async (t) => {
  const b = bench(t);
  const target = join(b.folder, 'upstream/1.0');
  const patches = join(b.folder, 'patches');
  const release = { sources: '0'.repeat(64) };
  const missing = await t.throwsAsync(unpack(release, '1.0', target, patches, b.places()), { instanceOf: BuildError });
  t.regex(missing.message, /^no Debian mirror has OpenZFS 1\.0: .*ZFS_TARBALL=.*ZFS_TREE=/);
  const without = unpack(release, '1.0', target, patches, b.places({ override: b.tarball }));
  const meta = await t.throwsAsync(without, { instanceOf: BuildError });
  t.is(meta.message, `${b.tarball}: not the sources of an OpenZFS release: there is no META in it`);
  const broken = join(b.folder, 'broken.tar.gz');
  writeFileSync(broken, readFileSync(b.tarball).subarray(0, 80));
  const half = await t.throwsAsync(unpack(release, '1.0', target, patches, b.places({ override: broken })), {
    instanceOf: BuildError,
  });
  t.regex(half.message, /broken\.tar\.gz: tar failed: /);
  t.false(half.message.includes('\n'));
  t.deepEqual(readdirSync(join(b.folder, 'upstream')), []);

  const tree = checkout(t);
  const tarball = join(b.folder, 'zfs-1.0.tar.gz');
  spawnSync('tar', ['-C', join(tree, '..'), '-czf', tarball, 'checkout']);
  const right = { sources: sourcesDigest(tree) };
  t.true(await unpack(right, '1.0', target, patches, b.places({ override: tarball })));
  t.false(await unpack(right, '1.0', target, patches, b.places()), 'the next build needs neither');
});
