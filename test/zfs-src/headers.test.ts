import { spawnSync } from 'node:child_process';
import { cpSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import test from 'ava';
import { defaultPlaces, unpack } from '../../zfs-src/fetch.ts';
import { MUSL_ARCH, muslHeaders } from '../../zfs-src/headers.ts';
import { BuildError, projectRoot, readReleases } from '../../zfs-src/releases.ts';
import { temporaryFolder } from './project.ts';

const MUSL = 'zfs-src/upstream/libc/libc-top-half/musl';

test.before(async () => {
  const places = defaultPlaces(projectRoot, undefined, new AbortController().signal);
  const target = join(projectRoot, 'zfs-src/upstream/libc');
  await unpack(readReleases().libc, 'libc', target, join(projectRoot, 'zfs-src/patches'), places);
});

test('types are expanded as musl’s own makefile does it', (t) => {
  const header = muslHeaders(projectRoot, MUSL).get('bits/alltypes.h')!;
  const musl = join(projectRoot, MUSL);
  const inputs = [`arch/${MUSL_ARCH}/bits/alltypes.h.in`, 'include/alltypes.h.in'];
  const bySed = spawnSync('sed', ['-f', 'tools/mkalltypes.sed', ...inputs], { cwd: musl, encoding: 'utf8' }).stdout;
  const ours = header
    .replace('define _Addr long', 'define _Addr int')
    .replace('typedef long long clock_t;', 'typedef long clock_t;');
  t.deepEqual(
    ours.split('\n').filter((line) => line !== ''),
    bySed.split('\n').filter((line) => line !== ''),
  );
});

test('a new musl that no longer has what is replaced is an error', (t) => {
  const root = temporaryFolder(t);
  for (const file of [
    `arch/${MUSL_ARCH}/bits/alltypes.h.in`,
    `arch/${MUSL_ARCH}/bits/syscall.h.in`,
    'include/alltypes.h.in',
    'VERSION',
  ]) {
    mkdirSync(join(root, 'musl', file, '..'), { recursive: true });
    cpSync(join(projectRoot, MUSL, file), join(root, 'musl', file));
  }
  t.notThrows(() => muslHeaders(root, 'musl'));
  const types = join(root, 'musl/include/alltypes.h.in');
  writeFileSync(types, readFileSync(types, 'utf8').replace('TYPEDEF long clock_t;', ''));
  t.throws(() => muslHeaders(root, 'musl'), { instanceOf: BuildError, message: /expected .* once, found it 0 times/ });
});
