import { mkdirSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { open } from 'node:fs/promises';
import { join } from 'node:path';
import test from 'ava';
import { Lab, MiB, must, noise, root } from '../e2e/host.ts';
import { natively, type Promised, promises, refused } from './manual.ts';

/** zpool-import(8), zpool-export(8), and the cachefile of zpoolprops(7). */

test('zpool import finds pools by directory, device, name, id and cache file, and imports them as it is told', async (t) => {
  const lab = await Lab.open(t);
  const [a, b, c] = lab.manyDisks(3, 128 * MiB) as [string, string, string];
  const cache = join(lab.directory, 'cache');
  await lab.start();
  await lab.zpool('create', '-o', `cachefile=${cache}`, 'tank', 'mirror', a, b);
  await lab.zpool('create', 'two', c);
  lab.key();
  const key = ['-o', 'keyformat=raw', '-o', `keylocation=file://${lab.directory}/key`];
  await lab.zfs('create', '-V', '8M', '-o', 'encryption=on', ...key, 'two/secret');
  const guid = (await lab.zpool('get', '-Ho', 'value', 'guid', 'tank')).trim();
  const twoGuid = (await lab.zpool('get', '-Ho', 'value', 'guid', 'two')).trim();
  const config = readFileSync(cache);
  await lab.zpool('export', '-a');
  t.throws(() => readFileSync(cache), { code: 'ENOENT' }, 'the last pool of a cache file is gone');
  writeFileSync(cache, config);

  const found = await lab.zpool('import', '-d', lab.disks);
  t.regex(
    found,
    new RegExp(`pool: tank\n {4}id: ${guid}\n state: ONLINE\naction: The pool can be imported using its name`),
  );
  t.regex(found, /\ttank +ONLINE\n\t {2}mirror-0 +ONLINE\n\t {4}\S+d0 +ONLINE\n\t {4}\S+d1 +ONLINE/);
  t.regex(await lab.zpool('import', '-d', a, '-d', b), /pool: tank/);
  t.notRegex(await lab.zpool('import', '-d', c), /pool: tank/);
  const scanned = await lab.run('zpool', ['import', '-s'], { vars: { ZPOOL_IMPORT_PATH: lab.disks } });
  t.is(scanned.stdout, found);
  t.regex(await lab.zpool('import', '-c', cache), /pool: tank[\s\S]*mirror-0/);
  const wrong: readonly Promised[] = [
    [['import', '-d', lab.disks, 'nopool'], 1, /cannot import 'nopool': no such pool available/],
    [['import', '-d', lab.disks, '12345'], 1, /cannot import '12345': no such pool available/],
    [['import', '-d', '/nowhere'], 0, /no pools available to import/],
    [['import', '-c', '/nowhere', 'tank'], 1, /failed to open cache file: No such file or directory/],
    [['import', '-c', cache, '-d', lab.disks], 2, /-c is incompatible with -d/],
    [['import', '-a', 'tank'], 2, /too many arguments/],
    [['import', '-n', '-d', lab.disks, 'tank'], 2, /-n or -X only meaningful with -F/],
    [['import', '-o', 'size=1', '-d', lab.disks, 'tank'], 1, /'size' is readonly/],
    [['import', '-d', lab.disks, 'tank', 'a/b'], 1, /invalid character '\/' in pool name/],
    [['export'], 2, /missing pool argument/],
    [['export', 'nopool'], 1, /cannot open 'nopool': no such pool/],
    [['export', '-a', 'tank'], 2, /too many arguments/],
  ];
  await promises(t, lab, 'zpool', wrong);

  // Renamed for good, and under another name until it is exported.
  await lab.zpool('import', '-d', lab.disks, guid, 'renamed');
  await lab.zpool('export', '-f', 'renamed');
  await lab.zpool('import', '-d', lab.disks, '-t', 'renamed', 'passing');
  t.is(await lab.zpool('get', '-Ho', 'value', 'cachefile', 'passing'), 'none\n');
  t.regex(
    await lab.fails('zpool', 'import', '-d', lab.disks, 'two', 'passing'),
    /cannot import 'two' as 'passing': pool already exists/,
  );
  await lab.zpool('export', 'passing');
  await lab
    .zpool('import', '-c', cache, 'tank', 'tank')
    .catch((error: Error) => t.regex(error.message, /renamed|tank/));
  await lab.zpool('export', '-a');

  const options = ['-o', 'readonly=on', '-o', 'comment=seen', '-R', '/alt', '-N'];
  await lab.zpool('import', '-d', lab.disks, ...options, twoGuid);
  t.is(await lab.zpool('get', '-Ho', 'value', 'readonly,altroot,cachefile', 'two'), 'on\n/alt\nnone\n');
  t.regex(await lab.fails('zfs', 'create', '-V', '8M', 'two/v'), /read-only|readonly/i);
  t.regex(await lab.fails('zpool', 'set', 'comment=x', 'two'), /pool is read-only|read-only/i);
  await lab.zpool('export', 'two');

  await lab.zpool('import', '-a', '-l', '-d', lab.disks);
  t.is((await lab.zpool('list', '-Ho', 'name')).split('\n').length, 3);
  t.is(await lab.get('two/secret', 'keystatus'), 'available');
  t.regex((await lab.run('zpool', ['import', '-a', '-d', lab.disks])).stdout, /^(no pools available to import\n)?$/);
});

test('a pool whose devices are missing says which; -m does without its log, -D brings a destroyed one back', async (t) => {
  const lab = await Lab.open(t);
  const [a, b, log, c] = lab.manyDisks(4, 128 * MiB) as [string, string, string, string];
  await lab.start();
  await lab.zpool('create', 'tank', a, b, 'log', log);
  await lab.zpool('export', 'tank');
  renameSync(log, `${lab.directory}/log`);
  t.regex(
    await lab.zpool('import', '-d', lab.disks),
    /state: DEGRADED\nstatus: One or more devices are missing from the system/,
  );
  const without = await refused(lab, 'zpool', 'import', '-d', lab.disks, 'tank');
  t.regex(without, /The devices below are missing or corrupted, use '-m' to import the pool anyway:\n\s+\S+d2 \[log\]/);
  await lab.zpool('import', '-m', '-d', lab.disks, 'tank');
  t.regex(await lab.zpool('status', 'tank'), /state: DEGRADED[\s\S]*logs\s+\d+ +UNAVAIL .* was \S+d2/);
  await lab.zpool('remove', 'tank', log);
  t.regex(await lab.zpool('status', 'tank'), /state: ONLINE/);
  await lab.zpool('export', 'tank');
  renameSync(b, `${lab.directory}/b`);
  const missing = await lab.zpool('import', '-d', lab.disks);
  t.regex(missing, /state: UNAVAIL[\s\S]*The pool cannot be imported[\s\S]*d1 +UNAVAIL +cannot open/);
  t.regex(await lab.fails('zpool', 'import', '-d', lab.disks, 'tank'), /cannot import 'tank': no such pool or dataset/);
  renameSync(`${lab.directory}/b`, b);

  await lab.zpool('import', '-d', lab.disks, 'tank');
  await lab.zpool('checkpoint', 'tank');
  await lab.zfs('create', '-V', '8M', 'tank/later');
  await lab.zpool('export', 'tank');
  await lab.zpool('import', '-d', lab.disks, '--rewind-to-checkpoint', '-o', 'readonly=on', 'tank');
  t.is(await lab.zfs('list', '-Ho', 'name'), 'tank\n', 'what it would be like');
  await lab.zpool('export', 'tank');
  await lab.zpool('import', '-d', lab.disks, 'tank');
  t.regex(await lab.zfs('list', '-Ho', 'name'), /tank\/later/);
  await lab.zpool('export', 'tank');
  await lab.zpool('import', '-d', lab.disks, '--rewind-to-checkpoint', 'tank');
  t.is(await lab.zfs('list', '-Ho', 'name'), 'tank\n');
  t.is(await lab.zpool('get', '-Ho', 'value', 'checkpoint', 'tank'), '-\n');

  await lab.zpool('create', 'gone', c);
  await lab.zpool('destroy', 'gone');
  t.notRegex((await lab.run('zpool', ['import', '-d', lab.disks])).stdout, /pool: gone/);
  t.regex(await lab.zpool('import', '-D', '-d', lab.disks), /pool: gone[\s\S]*DESTROYED/);
  await lab.zpool('import', '-D', '-f', '-a', '-d', lab.disks);
  t.is(await lab.zpool('list', '-Ho', 'health', 'gone'), 'ONLINE\n');
});

/** The places, in bytes, of the newest uberblock's root block on a disk that is a pool's only one. */
async function newestRoot(lab: Lab, disk: string): Promise<{ txgs: number[]; places: number[] }> {
  const { stdout } = await natively(lab, 'zdb', ['-luuuu', disk]);
  const found = [...stdout.matchAll(/^\ttxg = (\d+)\n(?:\t(?!txg).*\n)*?\trootbp = (.*)$/gm)];
  const txgs = [...new Set(found.map(([, txg]) => Number(txg)))].sort((x, y) => x - y);
  const newest = found.find(([, txg]) => Number(txg) === txgs.at(-1))![2]!;
  const places = [...newest.matchAll(/DVA\[\d\]=<0:([0-9a-f]+):/g)].map(([, at]) => Number.parseInt(at!, 16) + 4 * MiB);
  return { txgs, places };
}

test('-F goes back to the last transactions that can be read, -n only says so, -T and -X go further', async (t) => {
  const lab = await Lab.open(t);
  const disk = lab.disk('a', 128 * MiB);
  await lab.start();
  await lab.zpool('create', 'tank', disk);
  for (const name of ['one', 'two', 'three']) {
    await lab.zfs('create', '-V', '1M', `tank/${name}`);
    await lab.zpool('sync', 'tank');
  }
  await lab.kill();
  const { txgs, places } = await newestRoot(lab, disk);
  t.true(places.length >= 2 && txgs.length > 4, `${places} ${txgs}`);
  const file = await open(disk, 'r+');
  for (const at of places) await file.write(noise(512, at), 0, 512, at);
  await file.close();
  await lab.start();

  const listed = await lab.zpool('import', '-d', lab.disks);
  t.regex(listed, /state: FAULTED\nstatus: The pool metadata is corrupted/);
  const why = await refused(lab, 'zpool', 'import', '-d', lab.disks, 'tank');
  t.regex(why, /cannot import 'tank': I\/O error/);
  t.regex(
    why,
    /Recovery is possible, but will result in some data loss[\s\S]*Recovery can be attempted\n\s+by executing 'zpool import -F tank'/,
  );
  const would = ['import', '-d', lab.disks, '-F', '-n', 'tank'];
  const said = await lab.run('zpool', would);
  t.regex(said.stdout, /^Would be able to return tank to its state as of /);
  t.deepEqual(said, await natively(lab, 'zpool', would));
  t.is(await lab.zpool('list', '-H'), '', '-n imports nothing');
  await lab.zpool('import', '-d', lab.disks, '-F', 'tank');
  t.regex(await lab.zfs('list', '-Ho', 'name'), /tank\/one\ntank\/t/);
  await lab.zpool('scrub', '-w', 'tank');
  t.regex(await lab.zpool('status', 'tank'), /state: ONLINE[\s\S]*with 0 errors/);
  await lab.zpool('export', 'tank');

  // Further back: as it was, read-only, and then by itself.
  const { txgs: now } = await newestRoot(lab, disk);
  await lab.zpool('import', '-d', lab.disks, '-o', 'readonly=on', '-T', String(now.at(-2)), 'tank');
  await lab.zpool('export', 'tank');
  const { places: last } = await newestRoot(lab, disk);
  const again = await open(disk, 'r+');
  for (const at of last) await again.write(noise(512, at), 0, 512, at);
  await again.close();
  await lab.zpool('import', '-d', lab.disks, '-FX', 'tank');
  t.regex(await lab.zpool('status', 'tank'), /state: ONLINE/);
});

test('a pool that the natively built ztest made', async (t) => {
  const lab = await Lab.open(t);
  const directory = join(lab.directory, 'ztest');
  mkdirSync(directory);
  // Six disks in mirrors of raidz; ztest's own check of the pool would take half a minute.
  const flags = [
    '-f',
    directory,
    '-p',
    'zt',
    '-T',
    '1',
    '-P',
    '1',
    '-k',
    '0',
    '-s',
    '128M',
    '-m',
    '1',
    '-r',
    '3',
    '-K',
    'raidz',
  ];
  const ztest = must(join(root, 'cli/native/bin/ztest'), [...flags, '-t', '2', '-d', '1'], {
    vars: { ZDB: '/bin/true' },
  });
  await lab.start();
  await ztest;
  t.regex(await lab.zpool('import', '-d', directory), /pool: zt[\s\S]*state: ONLINE[\s\S]*mirror-0[\s\S]*raidz1-0/);
  await lab.zpool('import', '-d', directory, '-f', 'zt');
  await lab.zpool('scrub', '-w', 'zt');
  t.regex(await lab.zpool('status', 'zt'), /repaired \S+ in \S+ with 0 errors/);
  await lab.zfs('create', '-V', '8M', 'zt/v');
  await lab.zpool('create', 'back', lab.disk('back', 128 * MiB));
  const client = await lab.open('zt/v');
  const data = noise(4 * MiB, 3);
  await client.writeAt(0, data);
  client.destroy();
  await lab.zfs('snapshot', '-r', 'zt@s');
  const sent = await lab.shell('zfs send -Rc zt@s | zfs receive -u back/zt');
  t.is(sent.code, 0, sent.stderr);
  const copy = await lab.open('back/zt/v');
  t.true((await copy.readAt(0, data.length)).equals(data));
  copy.destroy();
  await lab.zpool('export', 'zt');
  await lab.zdb('zt', directory);
  rmSync(directory, { recursive: true });
});
