import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import test from 'ava';
import { Lab } from '../e2e/host.ts';
import { natively, promises } from './manual.ts';

/** zpool-create(8), zpool-destroy(8), zpool-labelclear(8), and the compatibility of zpool-features(7). */

test('zpool create: -n shows, -m, -o, -O, -R and -t say what the pool is like', async (t) => {
  const lab = await Lab.open(t);
  const [a, b, c, d] = lab.manyDisks(4) as [string, string, string, string];
  await lab.start();

  const planned = await lab.zpool('create', '-n', 'tank', 'mirror', a, b, 'log', c, 'cache', d);
  t.regex(
    planned,
    /^would create 'tank' with the following layout:\n\n\ttank\n\t {2}mirror\n\t {4}\S+d0\n\t {4}\S+d1\n/,
  );
  t.regex(planned, /\tlogs\s*\n\t {2}\S+d2\n\tcache\s*\n\t {2}\S+d3\n/);
  t.is(await lab.zpool('list', '-H'), '');

  const properties = ['-o', 'ashift=13', '-o', 'comment=a comment'];
  await lab.zpool('create', '-m', '/elsewhere', ...properties, '-O', 'compression=zstd', '-O', 'atime=off', 'tank', a);
  t.is(await lab.zpool('get', '-Ho', 'value', 'ashift,comment,cachefile,altroot', 'tank'), '13\na comment\n-\n-\n');
  t.is(await lab.zfs('get', '-Ho', 'value', 'mountpoint,compression,atime', 'tank'), '/elsewhere\nzstd\noff\n');

  await lab.zpool('create', '-R', '/alt', 'two', b);
  t.is(await lab.zpool('get', '-Ho', 'value', 'altroot,cachefile', 'two'), '/alt\nnone\n');
  t.is(await lab.zfs('get', '-Ho', 'value', 'mountpoint', 'two'), '/alt/two\n');

  await lab.zpool('create', '-t', 'temporary', '-m', 'none', 'three', c);
  t.is(await lab.zpool('get', '-Ho', 'value', 'name,cachefile', 'temporary'), 'temporary\nnone\n');
  t.regex((await natively(lab, 'zdb', ['-l', c])).stdout, /name: 'three'/);
  await lab.zpool('export', 'temporary');
  await lab.zpool('import', '-d', lab.disks, 'three');

  await lab.zpool('create', '-d', '-o', 'feature@async_destroy=enabled', '-m', 'legacy', 'four', d);
  const features = (await lab.zpool('get', '-Ho', 'property,value', 'all', 'four')).match(/^feature@.*$/gm)!;
  t.true(features.length > 40);
  t.deepEqual(
    features.filter((line) => !line.endsWith('disabled')),
    ['feature@async_destroy\tenabled'],
  );
  await lab.zpool('destroy', '-f', 'four');
  await lab.zpool('create', '-f', '-o', 'feature@encryption=disabled', 'four', d);
  t.is(await lab.zpool('get', '-Ho', 'value', 'feature@encryption,feature@lz4_compress', 'four'), 'disabled\nactive\n');

  await lab.zpool('destroy', 'four');
  await lab.zpool('create', '-o', 'version=28', 'four', d);
  t.is(await lab.zpool('get', '-Ho', 'value', 'version', 'four'), '28\n');
});

test('zpool create refuses what the page forbids: 1 for what cannot be, 2 for what is no command', async (t) => {
  const lab = await Lab.open(t);
  const [a, b, c, used] = lab.manyDisks(4) as [string, string, string, string];
  const small = lab.disk('small', 96 * 1024 ** 2);
  await lab.start();
  await lab.zpool('create', 'tank', used);
  await lab.zpool('create', 'gone', c);
  await lab.zpool('export', 'gone');
  await promises(t, lab, 'zpool', [
    [['create'], 2, /missing pool name argument[\s\S]*usage:/],
    [['create', 'x'], 2, /missing vdev specification/],
    [['create', '-z', 'x', a], 2, /invalid option 'z'/],
    [['create', 'mirror2', a], 1, /name is reserved/],
    [['create', 'log', a], 1, /name is reserved/],
    [['create', '9x', a], 1, /name must begin with a letter/],
    [['create', 'a/b', a], 1, /invalid character '\/' in pool name/],
    [['create', '-m', 'none', 'x'.repeat(300), a], 1, /name is too long/],
    [['create', 'tank', a], 1, /pool already exists/],
    [['create', '-t', 'tank', 'x', a], 1, /pool already exists/],
    [['create', '-t', '9x', 'x', a], 1, /cannot create 'x': invalid argument for this pool operation/],
    [['create', '-t', 'mirror', 'x', a], 1, /cannot create 'x': invalid argument for this pool operation/],
    [['create', 'tmp', a], 1, /mountpoint '\/tmp' exists and is not empty\n\s*use '-m' option/],
    [['create', 'x', '/nowhere/disk'], 1, /cannot resolve path '\/nowhere\/disk'/],
    [['create', 'x', 'nodisk'], 1, /cannot open 'nodisk': no such device in \/dev/],
    [['create', 'x', '/dev/null'], 1, /cannot use '\/dev\/null': must be a block device or regular file/],
    [['create', '-f', 'x', used], 1, /d3 is part of active pool 'tank'/],
    [['create', 'x', c], 1, /use '-f' to override[\s\S]*d2 is part of exported pool 'gone'/],
    [['create', 'x', a, a], 1, /one or more vdevs refer to the same device/],
    [['create', 'x', 'raidz3', a, b, small], 1, /raidz3 requires at least 4 devices/],
    [['create', 'x', 'draid2:4d:3c', a, b, small], 1, /requested number of dRAID data disks per group 4 is too high/],
    [['create', 'x', 'mirror', a, small], 1, /use '-f' to override[\s\S]*mirror contains devices of different sizes/],
    [['create', 'x', a, 'mirror', b, small], 1, /mismatched replication level: both file and mirror vdevs are present/],
    [['create', 'x', 'log', a], 1, /at least one general top-level vdev must be specified/],
    [['create', '-o', 'foo=bar', 'x', a], 1, /property 'foo' is not a valid pool or vdev property/],
    [
      ['create', '-o', 'ashift=99', 'x', a],
      1,
      /invalid 'ashift=99' property: only values between 9 and 16 are allowed/,
    ],
    [['create', '-o', 'size=5', 'x', a], 1, /'size' is readonly/],
    [['create', '-o', 'feature@lz4_compress=on', 'x', a], 1, /can only be set to 'enabled' or 'disabled'/],
    [['create', '-O', 'foo=bar', 'x', a], 1, /property 'foo' is not a valid filesystem property/],
    [['create', '-O', 'compression=fast', 'x', a], 1, /'compression' must be one of/],
    [['create', '-m', 'relative', 'x', a], 1, /must be an absolute path, 'legacy', or 'none'/],
    [['create', '-R', 'relative', 'x', a], 1, /invalid alternate root 'relative': must be an absolute path/],
  ]);
  t.is(await lab.zpool('list', '-Ho', 'name'), 'tank\n');
  await lab.zpool('create', '-f', 'x', 'mirror', a, small, 'mirror', b, c);
  t.regex(await lab.zpool('status', 'x'), /mirror-0 [\s\S]*d0 [\s\S]*small [\s\S]*mirror-1 /);
});

test('zpool destroy and zpool labelclear', async (t) => {
  const lab = await Lab.open(t);
  const [a, b, cache] = lab.manyDisks(3) as [string, string, string];
  await lab.start();
  await lab.zpool('create', 'tank', a, 'cache', cache);
  await lab.zpool('create', 'other', b);
  await promises(t, lab, 'zpool', [
    [['destroy'], 2, /missing pool argument/],
    [['destroy', 'tank', 'other'], 2, /too many arguments/],
    [['destroy', 'nopool'], 1, /cannot open 'nopool': no such pool/],
    [['labelclear'], 2, /missing vdev name/],
    [['labelclear', a], 1, /d0 is a member \(ACTIVE\) of pool "tank"/],
    [['labelclear', '-f', a], 1, /d0 is a member \(ACTIVE\) of pool "tank"/],
    [['labelclear', '-f', cache], 1, /d2 is a member \(L2CACHE\) of pool/],
    [['labelclear', '/nowhere/disk'], 1, /failed to (find|open)/],
  ]);
  await lab.zpool('export', 'tank');
  t.regex(
    await lab.fails('zpool', 'labelclear', a),
    /use '-f' to override.*\n.*d0 is a member of exported pool "tank"/,
  );
  await lab.zpool('labelclear', '-f', a);
  await lab.zpool('labelclear', '-f', cache);
  for (const disk of [a, cache]) {
    const label = await natively(lab, 'zdb', ['-l', disk]);
    t.is(label.stdout.match(/failed to unpack label/g)?.length, 4, label.stdout);
  }
  t.regex((await lab.run('zpool', ['import', '-d', lab.disks])).stderr, /no pools available to import/);
  await lab.zpool('destroy', 'other');
  t.regex(await lab.zpool('import', '-D', '-d', lab.disks), /pool: other[\s\S]*state: ONLINE \(DESTROYED\)/);
  await lab.zpool('labelclear', '-f', b);
  t.regex((await lab.run('zpool', ['import', '-D', '-d', lab.disks])).stderr, /no pools available to import/);
});

test("compatibility= takes the files that come with ZoW, and an administrator's", async (t) => {
  const lab = await Lab.open(t);
  const [a, b, c] = lab.manyDisks(3) as [string, string, string];
  await lab.start();
  const features = async (pool: string, state: RegExp) => {
    const all = await lab.zpool('get', '-Ho', 'property,value', 'all', pool);
    return [...all.matchAll(/^feature@(\S+)\t(\S+)$/gm)]
      .filter(([, , value]) => state.test(value!))
      .map(([, name]) => name!);
  };
  const listed = (file: string) =>
    readFileSync(file, 'utf8')
      .split('\n')
      .filter((line) => line !== '' && !line.startsWith('#'))
      .sort();
  const compatibilityFolder = join(import.meta.dirname, '../../zfs-src/upstream/2.4.3/cmd/zpool/compatibility.d');

  // A feature that others need (extensible_dataset) is enabled with them; all of these are in the file.
  await lab.zpool('create', '-o', 'compatibility=openzfs-2.1-linux', 'tank', a);
  t.deepEqual(
    (await features('tank', /enabled|active/)).sort(),
    listed(join(compatibilityFolder, 'openzfs-2.1-linux')),
  );
  t.regex(await lab.zpool('upgrade', 'tank'), /Pool 'tank' already has all supported and requested features enabled/);
  t.regex(await lab.zpool('status', 'tank'), /pool: tank/);
  t.notRegex(await lab.zpool('status', 'tank'), /status:/);
  t.regex(
    await lab.fails('zpool', 'set', 'feature@blake3=enabled', 'tank'),
    /cannot enable feature 'blake3' on pool 'tank'\nas it is not specified in this pool's current compatibility set/,
  );

  // Another name of a file, and what is in each of several.
  await lab.zpool('create', '-o', 'compatibility=2020,ubuntu-18.04', 'two', b);
  const both = new Set(listed(join(compatibilityFolder, 'zol-0.7')));
  t.deepEqual(
    (await features('two', /enabled|active/)).sort(),
    listed(join(compatibilityFolder, 'compat-2020')).filter((name) => both.has(name)),
  );
  await lab.zpool('set', 'compatibility=openzfs-2.2', 'two');
  t.regex(await lab.zpool('status', 'two'), /Some supported and requested features are not enabled on the pool/);
  await lab.zpool('upgrade', 'two');
  t.true((await features('two', /enabled|active/)).includes('blake3'));
  t.false((await features('two', /enabled|active/)).includes('raidz_expansion'));

  const own = join(lab.directory, 'own');
  writeFileSync(own, '# ours\nasync_destroy, lz4_compress\n');
  await lab.zpool('create', '-o', `compatibility=${own}`, 'three', c);
  t.deepEqual(await features('three', /enabled|active/), ['async_destroy', 'lz4_compress']);
  await lab.zpool('set', 'compatibility=legacy', 'three');
  await lab.zpool('upgrade', 'three');
  t.deepEqual(await features('three', /enabled|active/), ['async_destroy', 'lz4_compress']);
  await lab.zpool('set', 'compatibility=off', 'three');
  await lab.zpool('upgrade', 'three');
  t.true((await features('three', /enabled|active/)).length > 40);

  writeFileSync(own, 'lz4_compress');
  t.regex(
    await lab.fails('zpool', 'set', `compatibility=${own}`, 'two'),
    /could not read\/parse feature file\(s\): .*own/,
  );
  writeFileSync(own, 'lz4_compress nosuch_feature\n');
  t.regex(await lab.fails('zpool', 'set', `compatibility=${own}`, 'two'), /invalid feature name\(s\).*nosuch_feature/);
  t.regex(
    await lab.fails('zpool', 'set', 'compatibility=nosuch', 'two'),
    /could not read\/parse feature file\(s\): nosuch/,
  );
  t.true(existsSync(own));
});
