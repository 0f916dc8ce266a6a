import { copyFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import test from 'ava';
import { Lab, MiB, must, root, until } from './host.ts';

/**
 * Filesystems, which the host never mounts: what they have on disk, their properties, quotas, snapshots and streams. The judge of
 * what is on disk is the natively built zdb, and pools that kernels made (upstream's own test files).
 */
const zdbProgram = join(root, 'cli/native/bin/zdb');
const samples = join(root, 'zfs-src/upstream/2.4.3/tests/zfs-tests/tests/functional');

/** What zdb says about a dataset of an exported pool, or about some of its objects. */
function dump(lab: Lab, dataset: string, ...objects: number[]): Promise<string> {
  return must(zdbProgram, ['-ddddd', '-e', '-p', lab.disks, dataset, ...objects.map(String)]);
}

/** The dnode of an object below 64 of an exported pool's dataset, as it is on disk. */
async function dnode(lab: Lab, dataset: string, object: number): Promise<Buffer> {
  const blockOffset = (Math.floor(object / 32) * 16384).toString(16);
  const block = new RegExp(`^ +${blockOffset} +L0 +(\\d+:[0-9a-f]+):[0-9a-f]+ .*?([0-9a-f]+)L/([0-9a-f]+)P`, 'm');
  const found = block.exec(await dump(lab, dataset, 0));
  if (found === null) throw new Error(`${dataset} has no dnode block at ${blockOffset}`);
  const [, where, logical, physical] = found;
  const pool = dataset.split('/')[0]!;
  const script = `"$1" -e -p "$2" -R "$3" "$4" 2>/dev/null | base64 -w0`;
  const args = [zdbProgram, lab.disks, pool, `${where}:${logical}/${physical}:dr`];
  const bytes = Buffer.from(await must('/bin/sh', ['-c', script, 'sh', ...args]), 'base64');
  return bytes.subarray((object % 32) * 512, (object % 32) * 512 + 512);
}

test('a filesystem has on disk what a kernel makes', async (t) => {
  const lab = await Lab.withPool(t);
  await lab.zfs('create', 'tank/fs');
  await lab.finish('tank');

  const master = await dump(lab, 'tank/fs', 1);
  for (const entry of [
    'VERSION = 5',
    'SA_ATTRS = 32',
    'DELETE_QUEUE = 33',
    'ROOT = 34',
    'utf8only = 0',
    'casesensitivity = 0',
  ]) {
    t.true(master.includes(entry), entry);
  }
  const directory = await dump(lab, 'tank/fs', 34);
  t.regex(directory, /ZFS directory[\s\S]*176 +bonus +System attributes/);
  t.regex(directory, /USERUSED_ACCOUNTED USEROBJUSED_ACCOUNTED/);
  t.regex(directory, /path\s+\/\n\s*uid\s+0\n\s*gid\s+0\n/);
  t.regex(
    directory,
    /mode\s+40755\n\s*size\s+2\n\s*parent\s+34\n\s*links\s+2\n\s*pflags\s+840800000144\n\s*projid\s+0\n/,
  );
  t.regex(await dump(lab, 'tank/fs', 36), /2 = \[ 5 +6 +4 +12 +13 +7 +11 +0 +1 +2 +3 +8 +21 +16 +19 \]/);
});

test('the root directory of a filesystem is to the byte as Linux makes it', async (t) => {
  const lab = await Lab.withPool(t);
  await lab.zfs('create', 'tank/fs');
  // testpool_zstd/x86_64 was made on Linux in 2021; a file was put into its root directory later.
  await must('tar', ['xzf', join(samples, 'compression/testpool_zstd.tar.gz'), '-C', lab.disks]);
  await lab.finish('tank');
  const ours = await dnode(lab, 'tank/fs', 34);
  const linux = await dnode(lab, 'testpool_zstd/x86_64', 34);
  t.is(linux.readUInt32LE(192), 0x2f505a, 'the bonus begins with the magic of system attributes');
  for (const bytes of [ours, linux]) {
    bytes.fill(0, 64, 192); // the block pointer: entries and times
    bytes.fill(0, 200 + 8, 200 + 24); // size and generation
    bytes.fill(0, 200 + 56, 200 + 120); // times
  }
  t.deepEqual(ours.toString('hex'), linux.toString('hex'));
});

test('nested, with parents and properties; nothing is mounted, and that is said once', async (t) => {
  const lab = await Lab.withPool(t);
  const created = await lab.run('zfs', [
    'create',
    '-p',
    '-o',
    'compression=gzip-3',
    '-o',
    'recordsize=1M',
    'tank/a/b/c',
  ]);
  t.is(created.code, 0, created.stderr);
  t.is(created.stderr.split('not mounted').length, 2, created.stderr);
  await lab.zfs('create', '-u', '-o', 'quota=64M', '-o', 'org.example:note=hello', 'tank/quiet');
  await lab.zfs('create', '-o', 'dnodesize=4k', 'tank/wide');
  await lab.zfs('create', 'tank/wide/child');
  t.deepEqual((await lab.zfs('list', '-Ho', 'name,mounted', '-r', 'tank')).trim().split('\n'), [
    'tank\tno',
    'tank/a\tno',
    'tank/a/b\tno',
    'tank/a/b/c\tno',
    'tank/quiet\tno',
    'tank/wide\tno',
    'tank/wide/child\tno',
  ]);
  t.is(
    await lab.get('tank/a/b', 'compression'),
    await lab.get('tank', 'compression'),
    'properties are of the last one only',
  );
  t.is(await lab.get('tank/a/b/c', 'compression'), 'gzip-3');
  t.is(await lab.get('tank/a/b/c', 'recordsize'), String(MiB));
  t.is(await lab.get('tank/quiet', 'org.example:note'), 'hello');

  const all = await lab.zfs('get', '-Hp', '-o', 'property,value', 'all', 'tank/a/b/c');
  const properties = new Map(
    all
      .trimEnd()
      .split('\n')
      .map((line) => line.split('\t') as [string, string]),
  );
  t.true(properties.size > 70, `${properties.size} properties`);
  for (const [name, value] of Object.entries({
    type: 'filesystem',
    mounted: 'no',
    mountpoint: '/tank/a/b/c',
    version: '5',
    utf8only: 'off',
    normalization: 'none',
    casesensitivity: 'sensitive',
    encryption: 'off',
    defaultuserquota: '0',
  })) {
    t.is(properties.get(name), value, name);
  }
  t.true(Number(properties.get('used')) > 0 && Number(properties.get('used')) < MiB);

  t.regex(await lab.fails('zfs', 'mount', 'tank/a'), /cannot mount 'tank\/a': ZoW has no kernel file system/);
  t.regex(await lab.fails('zfs', 'create', 'tank/no/parent'), /parent does not exist/);
  t.regex(await lab.fails('zfs', 'create', 'tank/a'), /dataset already exists/);
  await lab.zpool('export', 'tank');
  await lab.zpool('import', '-d', lab.disks, 'tank');
  t.is(await lab.get('tank/wide/child', 'version'), '5');
  await lab.finish('tank');
  t.regex(await dump(lab, 'tank/wide/child', 34), / 34 +\d+ +128K +512 +0 +4K +512 .*ZFS directory/);
});

test('names: case, normalization and UTF-8 are kept, inherited and not changed', async (t) => {
  const lab = await Lab.withPool(t);
  const names = ['casesensitivity=insensitive', 'normalization=formD', 'utf8only=on'].flatMap((value) => ['-o', value]);
  await lab.zfs('create', ...names, 'tank/names');
  await lab.zfs('create', 'tank/names/child');
  for (const dataset of ['tank/names', 'tank/names/child']) {
    t.is(await lab.get(dataset, 'casesensitivity'), 'insensitive');
    t.is(await lab.get(dataset, 'normalization'), 'formD');
    t.is(await lab.get(dataset, 'utf8only'), 'on');
  }
  t.regex(
    await lab.fails('zfs', 'set', 'utf8only=off', 'tank/names'),
    /readonly|read-only|can not be modified|after creation/i,
  );
  await lab.finish('tank');
  const master = await dump(lab, 'tank/names/child', 1);
  t.regex(master, /casesensitivity = 1\b/);
  t.regex(master, /normalization = 16\b/);
  t.regex(master, /utf8only = 1\b/);
});

test('the root filesystem takes its properties and its key from zpool create', async (t) => {
  const lab = await Lab.open(t);
  const disk = lab.disk('a');
  const key = join(lab.directory, 'key');
  writeFileSync(key, 'correct horse battery\n');
  await lab.start();
  const properties = ['casesensitivity=mixed', 'normalization=formKC', 'dnodesize=auto', 'canmount=off'];
  const encryption = ['encryption=on', 'keyformat=passphrase', `keylocation=file://${key}`];
  await lab.zpool('create', ...[...properties, ...encryption].flatMap((value) => ['-O', value]), 'tank', disk);
  await lab.zfs('create', 'tank/child');
  await lab.zpool('export', 'tank');
  await lab.zpool('import', '-d', lab.disks, '-l', 'tank');
  for (const dataset of ['tank', 'tank/child']) {
    t.is(await lab.get(dataset, 'keystatus'), 'available');
    t.is(await lab.get(dataset, 'casesensitivity'), 'mixed');
    t.is(await lab.get(dataset, 'normalization'), 'formKC');
    t.regex(await lab.zfs('userspace', '-n', dataset), /POSIX User\s+0\s/);
  }
  await lab.finish('tank');
});

test('filesystems of every version, and zfs upgrade', async (t) => {
  const lab = await Lab.withPool(t);
  for (const version of [1, 2, 3, 4]) await lab.zfs('create', '-o', `version=${version}`, `tank/v${version}`);
  t.is(await lab.get('tank/v2', 'version'), '2');
  t.regex(await lab.fails('zfs', 'set', 'version=3', 'tank/v4'), /downgrade; already at version 4/);
  t.regex(await lab.fails('zfs', 'create', '-o', 'version=6', 'tank/v6'), /version|property/);
  t.regex(await lab.zfs('upgrade', 'tank/v2'), /1 filesystems upgraded/);
  t.is(await lab.get('tank/v2', 'version'), '5');
  t.regex(await lab.zpool('history', '-i', 'tank'), /upgrade tank\/v2 \(\d+\) from 2 to 5/);
  t.regex(await lab.zfs('userspace', '-n', 'tank/v1'), /POSIX User\s+0\s/);
  await lab.finish('tank');
  for (const version of [1, 3, 4]) {
    const directory = await dump(lab, `tank/v${version}`, 33);
    t.regex(directory, /264 +bonus +ZFS znode/);
    t.regex(directory, /mode\s+40755\n\s*size\s+2\n\s*parent\s+33\n\s*links\s+2\n/);
    t.regex(directory, version < 3 ? /pflags\s+144\n/ : /pflags\s+40800000144\n/);
  }
  t.regex(await dump(lab, 'tank/v2', 1), /SA_ATTRS = \d+/);
});

test('space and quotas of users, groups and projects', async (t) => {
  const lab = await Lab.withPool(t);
  await lab.zfs('create', 'tank/fs');
  t.regex(await lab.zfs('userspace', '-n', 'tank/fs'), /POSIX User\s+0\s+\d+B?\s+none\s+1\s+none/);
  t.regex(await lab.zfs('groupspace', '-n', 'tank/fs'), /POSIX Group\s+0\s/);
  t.regex(await lab.zfs('projectspace', 'tank/fs'), /Project\s+0\s/);
  const quotas = {
    'userquota@1000': 10 * MiB,
    'groupquota@1001': 20 * MiB,
    'userobjquota@1000': 77,
    'projectquota@5': 30 * MiB,
  };
  for (const [property, value] of Object.entries(quotas)) await lab.zfs('set', `${property}=${value}`, 'tank/fs');
  for (const [property, value] of Object.entries(quotas)) t.is(await lab.get('tank/fs', property), String(value));
  t.is(await lab.get('tank/fs', 'userobjused@0'), '1');
  await lab.zfs('set', 'userquota@1000=none', 'tank/fs');
  t.is(await lab.get('tank/fs', 'userquota@1000'), '0');
  await lab.zfs('set', 'defaultuserquota=5M', 'tank/fs');
  await lab.zfs('create', 'tank/fs/child');
  t.is(await lab.get('tank/fs/child', 'defaultuserquota'), String(5 * MiB), 'a default is inherited at creation');
  await lab.zfs('set', 'defaultuserquota=none', 'tank/fs');
  t.is(await lab.get('tank/fs', 'defaultuserquota'), '0');
  await lab.zfs('snapshot', 'tank/fs@s');
  t.regex(await lab.zfs('userspace', '-n', 'tank/fs@s'), /POSIX User\s+1000\s.*\s77\n/);
  await lab.stop();
  await lab.start();
  await lab.zpool('import', '-d', lab.disks, 'tank');
  t.is(await lab.get('tank/fs', 'groupquota@1001'), String(20 * MiB));
  await lab.finish('tank');
});

test('requests about one filesystem at the same time take turns; a receive is not waited for', async (t) => {
  const lab = await Lab.withPool(t);
  await lab.zfs('create', 'tank/fs');
  const results = await Promise.all(
    Array.from({ length: 8 }, (_, i) =>
      i % 2 === 0
        ? lab.run('zfs', ['set', `userquota@${1000 + i}=1M`, 'tank/fs'])
        : lab.run('zfs', ['userspace', '-n', 'tank/fs']),
    ),
  );
  for (const { code, stderr } of results) t.is(code, 0, stderr);
  t.is((await lab.zfs('userspace', '-nHp', 'tank/fs')).match(/^POSIX User\t100[0246]\t/gm)?.length, 4);

  await lab.zfs('snapshot', 'tank/fs@s');
  const held = join(lab.directory, 'held');
  writeFileSync(held, '');
  const hold = `while [ -e ${held} ]; do sleep 0.1; done`;
  const script = `(zfs send tank/fs@s | head -c 6000; ${hold}) | zfs receive -u tank/coming`;
  const receiving = lab.shell(script);
  await until('the receive has begun', async () => (await lab.run('zfs', ['list', 'tank/coming'])).code === 0);
  t.regex(await lab.fails('zfs', 'userspace', 'tank/coming'), /busy/);
  rmSync(held);
  t.not((await receiving).code, 0, 'half a stream');
  await lab.finish('tank');
});

test('snapshots, clones, promote, rename, rollback, destroy', async (t) => {
  const lab = await Lab.withPool(t);
  await lab.zfs('create', '-p', 'tank/a/b');
  await lab.zfs('snapshot', '-r', 'tank@1');
  await lab.zfs('clone', 'tank/a@1', 'tank/clone');
  await lab.zfs('promote', 'tank/clone');
  t.is(await lab.get('tank/a', 'origin'), 'tank/clone@1');
  await lab.zfs('rename', 'tank/clone', 'tank/renamed');
  await lab.zfs('rename', '-r', 'tank@1', 'tank@one');
  t.is(await lab.get('tank/a', 'origin'), 'tank/renamed@one');
  await lab.zfs('set', 'userquota@7=1M', 'tank/renamed');
  await lab.zfs('rollback', 'tank/renamed@one');
  t.is(await lab.get('tank/renamed', 'userquota@7'), '0', 'a rollback takes back what the master node got');
  t.regex(await lab.fails('zfs', 'diff', 'tank/renamed@one'), /Cannot diff an unmounted snapshot/);
  t.regex(await lab.fails('zfs', 'destroy', 'tank/a'), /has children[\s\S]*use '-r'/);
  await lab.zfs('destroy', '-r', 'tank/a');
  t.regex(await lab.fails('zfs', 'destroy', 'tank/renamed'), /has children/);
  await lab.zfs('destroy', '-R', 'tank/renamed');
  t.deepEqual((await lab.zfs('list', '-Ho', 'name', '-t', 'all', '-r', 'tank')).trim().split('\n'), [
    'tank',
    'tank@one',
  ]);
  await lab.finish('tank');
});

test('send | receive between two pools, full, incremental and replicated', async (t) => {
  const lab = await Lab.withPool(t);
  await lab.zpool('create', 'backup', lab.disk('b'));
  await lab.zfs('create', '-p', '-o', 'org.example:note=kept', 'tank/a/b');
  await lab.zfs('set', 'userquota@1000=10M', 'tank/a');
  await lab.zfs('snapshot', '-r', 'tank@one');
  const pipe = async (script: string): Promise<void> => {
    const result = await lab.shell(script);
    t.is(result.code, 0, `${script}\n${result.stderr}`);
  };
  await pipe('zfs send -R tank@one | zfs receive -u backup/copy');
  await lab.zfs('set', 'userquota@1000=20M', 'tank/a');
  await lab.zfs('snapshot', '-r', 'tank@two');
  await pipe('zfs send -R -i @one tank@two | zfs receive -u -F backup/copy');
  t.is(await lab.get('backup/copy/a', 'userquota@1000'), String(20 * MiB));
  t.is(await lab.get('backup/copy/a/b', 'org.example:note'), 'kept');
  t.is(await lab.get('backup/copy/a@two', 'guid'), await lab.get('tank/a@two', 'guid'));
  t.is(
    await lab.zfs('userspace', '-nHp', 'backup/copy/a'),
    await lab.zfs('userspace', '-nHp', 'tank/a'),
    'accounting is done again where a filesystem is received',
  );
  t.regex(await lab.fails('zfs', 'diff', 'backup/copy/a@one', 'backup/copy/a@two'), /unmounted/);
  await lab.finish('tank', 'backup');
  t.regex(await dump(lab, 'backup/copy/a', 34), /path\s+\/\n/);
});

test('pools that kernels made are imported, used, upgraded, and stay sound', async (t) => {
  const lab = await Lab.open(t);
  await must('tar', ['xzf', join(samples, 'compression/testpool_zstd.tar.gz'), '-C', lab.disks]);
  const sample = join(samples, 'cli_root/zpool_upgrade/blockfiles/zfs-pool-v5.dat.bz2');
  copyFileSync(sample, join(lab.disks, 'v5.bz2'));
  await must('bzip2', ['-d', join(lab.disks, 'v5.bz2')]);
  await lab.start();
  await lab.zpool('import', '-d', lab.disks, 'testpool_zstd');
  await lab.zpool('import', '-d', lab.disks, 'v5-pool');
  await lab.zpool('create', 'backup', lab.disk('b'));
  t.regex(await lab.zfs('userspace', '-n', 'testpool_zstd/x86_64'), /POSIX User\s+0\s+361K\s+none\s+4\s+none/);
  await lab.zfs('snapshot', 'testpool_zstd/x86_64@s');
  const copied = await lab.shell('zfs send -cL testpool_zstd/x86_64@s | zfs receive -u backup/x86_64');
  t.is(copied.code, 0, copied.stderr);
  t.regex(await lab.zfs('userspace', '-n', 'backup/x86_64'), /POSIX User\s+0\s+361K\s+none\s+4\s+none/);

  t.regex(await lab.fails('zfs', 'userspace', 'v5-pool'), /cannot get used\/quota|version/);
  await lab.zpool('upgrade', 'v5-pool');
  await lab.zfs('upgrade', 'v5-pool');
  t.is(await lab.get('v5-pool', 'version'), '5');
  t.regex(await lab.zfs('userspace', '-n', 'v5-pool'), /POSIX User\s+0\s+8K\s+none\s+8\s+none/);
  for (const pool of ['testpool_zstd', 'v5-pool']) {
    await lab.zpool('scrub', '-w', pool);
    t.regex(await lab.zpool('status', pool), /repaired 0B in \S+ with 0 errors/);
  }
  await lab.finish('testpool_zstd', 'v5-pool', 'backup');
});

test('channel programs list, answer, destroy, and are stopped', async (t) => {
  const lab = await Lab.withPool(t);
  await lab.zfs('create', 'tank/a');
  for (const name of ['one', 'two']) await lab.zfs('snapshot', '-r', `tank@${name}`);
  const program = (lua: string, ...flags: string[]) =>
    lab.run('zfs', ['program', ...flags, 'tank', '-', 'tank/a'], { input: lua });
  const list = await program(
    'args = ...; r = {}; for s in zfs.list.snapshots(args.argv[1]) do r[#r + 1] = s end; return r',
    '-jn',
  );
  const names = Object.values(JSON.parse(list.stdout).return as Record<string, string>);
  t.deepEqual(names.sort(), ['tank/a@one', 'tank/a@two'], list.stderr); // they come in the order of a hash
  const quota = await program('used = zfs.get_prop("tank/a", "userused@0"); return used', '-jn');
  t.true(JSON.parse(quota.stdout).return > 0, quota.stderr);
  const destroyed = await program('zfs.sync.destroy("tank/a@two"); return zfs.exists("tank/a@two")', '-j');
  t.deepEqual(JSON.parse(destroyed.stdout), { return: false }, destroyed.stderr);
  const failed = await program('error("not today")');
  t.is(failed.code, 1);
  t.regex(failed.stderr, /not today[\s\S]*stack traceback/);
  const endless = await program('while true do end', '-t', '10000');
  t.is(endless.code, 1);
  t.regex(endless.stderr, /timed out/);
  t.regex(await lab.zfs('list', '-t', 'snapshot'), /tank\/a@one/);
  await lab.finish('tank');
});
