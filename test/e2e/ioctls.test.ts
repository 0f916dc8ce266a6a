import { mkdtempSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import test from 'ava';
import { Errno } from '../../host/errno.ts';
import { readIoctls } from '../../zfs-src/ioctls.ts';
import { unavailable } from '../ioctls/unavailable.ts';
import { compileNative } from '../native.ts';
import { execute, Lab, MiB, must, noise, root, sleep, until } from './host.ts';

/**
 * ioctls that no other test has a reason to issue: with the programs where one does, else with raw-ioctl.c, which is linked as they
 * are. docs/ioctls.md says which test exercises each.
 */
const numbers = new Map(
  readIoctls(join(root, 'zfs-src/upstream/2.4.3')).flatMap(({ name, aliases, request }) =>
    [name, ...aliases].map((each) => [each, request] as const),
  ),
);
const scratch = mkdtempSync(join(tmpdir(), 'zow-ioctls-'));
const rawProgram = join(scratch, 'raw-ioctl');

test.before('raw-ioctl is compiled', (t) => {
  compileNative('test/e2e/raw-ioctl.c', rawProgram, 'libzfs_core', 'libnvpair', 'libspl', 'libspl_assert');
  t.pass();
});

test.after.always(() => rmSync(scratch, { recursive: true }));

/** An ioctl and fields of its zfs_cmd_t, as raw-ioctl.c takes them. */
type Call = readonly [name: string, fields: Record<string, string | number>];

interface Reply {
  readonly errno: number;
  readonly value: string;
  readonly cookie: number;
  readonly obj: number;
  readonly objset_type: number;
  readonly mode: number;
  readonly dst?: Record<string, unknown>;
}

/** Issues ioctls one after the other on one open of /dev/zfs; `redirect` is the shell's, of the descriptors that they use. */
async function raw(lab: Lab, calls: readonly Call[], redirect = ''): Promise<Reply[]> {
  const args = calls.flatMap(([name, fields], i) => [
    ...(i > 0 ? ['--'] : []),
    String(numbers.get(name)),
    ...Object.entries(fields).map(([field, value]) => `${field}=${value}`),
  ]);
  const result = await lab.shell([rawProgram, ...args].map((word) => `'${word}'`).join(' ') + redirect);
  if (result.code !== 0) throw new Error(`${args.join(' ')} -> ${result.code}\n${result.stderr}`);
  return result.stderr
    .trim()
    .split('\n')
    .map((line) => JSON.parse(line) as Reply);
}

/** One ioctl that has to succeed. */
async function succeed(lab: Lab, name: string, fields: Call[1], redirect = ''): Promise<Reply> {
  const [reply] = await raw(lab, [[name, fields]], redirect);
  if (reply!.errno !== 0) throw new Error(`${name}: errno ${reply!.errno}`);
  return reply!;
}

test("upstream's libzfs_input_check passes", async (t) => {
  const lab = await Lab.withPool(t, undefined, '-o', 'ashift=12');
  const check = join(root, 'cli/native/bin/libzfs_input_check');
  const { code, stdout, stderr } = await execute(check, ['tank'], { vars: { ZOW_SOCKET: lab.socket } });
  t.is(code, 0, stderr);
  t.is(stdout, '');
  // It says which ioctls of the release it has no case for: upstream's own gaps.
  const gaps = ['ZFS_IOC_VDEV_GET_PROPS', 'ZFS_IOC_VDEV_SET_PROPS', 'ZFS_IOC_POOL_PREFETCH', 'ZFS_IOC_DDT_PRUNE'];
  t.deepEqual(
    stderr.trim().split('\n'),
    gaps.map((name) => `cmd ${numbers.get(name)! - numbers.get('ZFS_IOC_POOL_CREATE')!} is missing a test case (1031)`),
  );
  await lab.finish('tank');
});

test('devices are initialized, trimmed, reopened and described; a pool gets another guid', async (t) => {
  const lab = await Lab.withPool(t, undefined, '-o', 'ashift=12');
  const vdev = join(lab.disks, 'a');
  await lab.zpool('initialize', '-w', 'tank');
  t.regex(await lab.zpool('status', '-i', 'tank'), /100% initialized, completed/);
  await lab.zpool('trim', '-w', 'tank');
  t.regex(await lab.zpool('status', '-t', 'tank'), /100% trimmed, completed/);
  t.is((await lab.zpool('get', '-Ho', 'value', 'path', 'tank', vdev)).trim(), vdev);
  await lab.zpool('set', 'org.example:shelf=7', 'tank', vdev);
  t.is((await lab.zpool('get', '-Ho', 'value', 'org.example:shelf', 'tank', vdev)).trim(), '7');
  await lab.zpool('reopen', 'tank');
  await lab.zpool('prefetch', '-t', 'ddt', 'tank');
  const guid = await lab.zpool('get', '-Ho', 'value', 'guid', 'tank');
  await lab.zpool('reguid', 'tank');
  t.not(await lab.zpool('get', '-Ho', 'value', 'guid', 'tank'), guid);
  await lab.finish('tank');
});

test('the table of deduplicated blocks forgets those that are there once', async (t) => {
  const lab = await Lab.withPool(t, undefined, '-o', 'ashift=12');
  await lab.zfs('create', '-V', '32M', '-o', 'dedup=on', 'tank/v');
  const client = await lab.open('tank/v');
  await client.writeAt(0, noise(4 * MiB));
  client.destroy();
  await lab.zpool('sync');
  const entries = async () => Number(/entries (\d+)/.exec(await lab.zpool('status', '-D', 'tank'))?.[1] ?? 0);
  const before = await entries();
  t.true(before >= 256, `${before} entries`);
  // Entries come into the table, where they are looked for, from a log, some at each sync.
  await until('unique entries are gone', async () => {
    await lab.zpool('ddtprune', '-p', '100', 'tank');
    await lab.zpool('sync');
    return (await entries()) < before;
  });
  await lab.finish('tank');
});

test('a mirror is split into two pools', async (t) => {
  const lab = await Lab.open(t);
  const [a, b] = lab.manyDisks(2) as [string, string];
  await lab.start();
  await lab.zpool('create', 'tank', 'mirror', a, b);
  await lab.zfs('create', '-V', '16M', 'tank/v');
  await lab.zpool('split', 'tank', 'half');
  await lab.zpool('import', '-d', lab.disks, 'half');
  t.is((await lab.zfs('list', '-Ho', 'name', '-r', 'half')).trim(), 'half\nhalf/v');
  await lab.zpool('scrub', '-w', 'tank');
  t.regex(await lab.zpool('status', 'tank'), /scrub repaired 0B .* with 0 errors/);
  await lab.zpool('export', '-a');
  await lab.stop();
  // Not lab.zdb(): spa_vdev_split_mirror() leaves the space map of a missing disk's times allocated, and zdb counts those.
  for (const pool of ['tank', 'half']) {
    const { stdout } = await execute(join(root, 'cli/native/bin/zdb'), ['-bcc', '-e', '-p', lab.disks, pool]);
    t.regex(stdout, /No leaks \(block sum matches space maps exactly\)/);
  }
});

test('bookmarks, holds and space between snapshots', async (t) => {
  const lab = await Lab.withPool(t, undefined, '-o', 'ashift=12');
  await lab.zfs('create', '-V', '32M', 'tank/v');
  const client = await lab.open('tank/v');
  await lab.zfs('snapshot', 'tank/v@one');
  await client.writeAt(0, noise(4 * MiB));
  await lab.zfs('snapshot', 'tank/v@two');
  await client.writeAt(0, noise(4 * MiB, 2));
  client.destroy();
  await lab.zfs('snapshot', 'tank/v@three');
  t.true(Number(await lab.get('tank/v', 'written@one')) >= 4 * MiB);
  const reclaim = /reclaim\t(\d+)/.exec(await lab.zfs('destroy', '-nvp', 'tank/v@one%two'));
  t.true(Number(reclaim?.[1]) >= 4 * MiB, reclaim?.[0]);

  await lab.zfs('bookmark', 'tank/v@one', 'tank/v#mark');
  t.is((await lab.zfs('list', '-Ho', 'name', '-t', 'bookmark', 'tank/v')).trim(), 'tank/v#mark');
  await lab.zfs('destroy', 'tank/v#mark');
  await lab.fails('zfs', 'list', 'tank/v#mark');

  await lab.zfs('hold', 'keep', 'tank/v@two');
  t.regex(await lab.zfs('holds', '-H', 'tank/v@two'), /^tank\/v@two\tkeep\t/);
  t.regex(await lab.fails('zfs', 'destroy', 'tank/v@two'), /it's being held/);
  await lab.zfs('release', 'keep', 'tank/v@two');
  await lab.zfs('destroy', 'tank/v@one%three');
  t.is((await lab.zfs('list', '-Ho', 'name', '-t', 'snapshot')).trim(), '');
  await lab.finish('tank');
});

test('received properties are kept beside local ones, and come back', async (t) => {
  const lab = await Lab.withPool(t, undefined, '-o', 'ashift=12');
  await lab.zfs('create', '-V', '16M', '-o', 'compression=gzip-2', 'tank/v');
  await lab.zfs('snapshot', 'tank/v@one');
  const result = await lab.shell('zfs send -p tank/v@one | zfs receive -o compression=off tank/copy');
  t.is(result.code, 0, result.stderr);
  t.is(await lab.get('tank/copy', 'compression'), 'off');
  const received = ['get', '-Ho', 'received', 'compression', 'tank/copy'];
  t.is((await lab.zfs(...received)).trim(), 'gzip-2');
  await lab.zfs('inherit', '-S', 'compression', 'tank/copy');
  t.is(await lab.get('tank/copy', 'compression'), 'gzip-2');
  await lab.zfs('inherit', 'compression', 'tank/copy');
  t.is(await lab.get('tank/copy', 'compression'), await lab.get('tank', 'compression'));
  await lab.finish('tank');
});

test('zfs send -v says how far it is while its reader takes its time', async (t) => {
  const lab = await Lab.withPool(t, undefined, '-o', 'ashift=12');
  await lab.zfs('create', '-V', '64M', 'tank/v');
  const client = await lab.open('tank/v');
  await client.writeAt(0, noise(16 * MiB));
  client.destroy();
  await lab.zfs('snapshot', 'tank/v@one');
  const send = lab.spawn('zfs', ['send', '-v', 'tank/v@one']);
  const ended = new Promise<number | null>((resolve) => send.on('close', resolve));
  let said = '';
  send.stderr!.on('data', (chunk: Buffer) => {
    said += chunk;
  });
  const progress = /^\d\d:\d\d:\d\d +\S+ +tank\/v@one$/m;
  for await (const _ of send.stdout!) if (!progress.test(said)) await sleep(20);
  t.regex(said, progress);
  t.is(await ended, 0, said);
  await lab.finish('tank');
});

test('zfs wait ends when nothing is left to be done', async (t) => {
  const lab = await Lab.withPool(t, undefined, '-o', 'ashift=12');
  await lab.zfs('create', 'tank/fs');
  const { code, stdout } = await lab.run('zfs', ['wait', '-t', 'deleteq', 'tank/fs']);
  t.deepEqual([code, stdout], [0, '']);
  await lab.finish('tank');
});

test('a frozen pool syncs no more; what was flushed comes back from its intent log', async (t) => {
  const lab = await Lab.withPool(t, undefined, '-o', 'ashift=12');
  await lab.zfs('create', '-V', '16M', 'tank/v');
  const client = await lab.open('tank/v');
  const flush = () => client.request({ type: 3, offset: 0, length: 0 });
  t.is((await client.writeAt(0, noise(MiB))).errno, 0);
  t.is((await flush()).errno, 0);
  // The intent log's header, which the first flush makes, has to be on disk: nothing of the pool will be any more.
  await lab.zpool('sync');
  await lab.zpool('freeze', 'tank');
  t.is((await client.writeAt(MiB, noise(MiB, 2))).errno, 0);
  t.is((await flush()).errno, 0);
  client.destroy();
  await lab.kill();
  await lab.start();
  await lab.zpool('import', '-f', '-d', lab.disks, 'tank');
  const again = await lab.open('tank/v');
  t.true((await again.readAt(0, MiB)).equals(noise(MiB)));
  t.true((await again.readAt(MiB, MiB)).equals(noise(MiB, 2)));
  again.destroy();
  await lab.finish('tank');
});

test('raw: a scrub as older programs start it', async (t) => {
  const lab = await Lab.withPool(t, undefined, '-o', 'ashift=12');
  const scrub = 1;
  await succeed(lab, 'ZFS_IOC_POOL_SCAN', { name: 'tank', cookie: scrub });
  await lab.zpool('wait', '-t', 'scrub', 'tank');
  t.regex(await lab.zpool('status', 'tank'), /scrub repaired 0B/);
  await lab.finish('tank');
});

test('raw: the path and the FRU of a device are recorded', async (t) => {
  const lab = await Lab.withPool(t, undefined, '-o', 'ashift=12');
  const guid = (await lab.zpool('get', '-Hpo', 'value', 'guid', 'tank', join(lab.disks, 'a'))).trim();
  renameSync(join(lab.disks, 'a'), join(lab.disks, 'b'));
  await succeed(lab, 'ZFS_IOC_VDEV_SETPATH', { name: 'tank', guid, value: join(lab.disks, 'b') });
  await succeed(lab, 'ZFS_IOC_VDEV_SETFRU', { name: 'tank', guid, value: 'shelf-7' });
  t.regex(await lab.zpool('status', '-P', 'tank'), /disks\/b +ONLINE/);
  await lab.finish('tank');
  const label = await must(join(root, 'cli/native/bin/zdb'), ['-l', join(lab.disks, 'b')]);
  t.regex(label, /path: '.*disks\/b'/);
  t.regex(label, /fru: 'shelf-7'/);
});

test('raw: events are read from where one seeks to', async (t) => {
  const lab = await Lab.withPool(t, undefined, '-o', 'ashift=12');
  const next: Call = ['ZFS_IOC_EVENTS_NEXT', { self: 1, dst: 65536 }];
  const [, first, second] = await raw(lab, [['ZFS_IOC_EVENTS_SEEK', { self: 1, guid: 0 }], next, next]);
  t.deepEqual([first!.errno, second!.errno], [0, 0]);
  t.is(first!.dst!.eid, 1);
  t.is(second!.dst!.eid, 2);
  const [found, again] = await raw(lab, [['ZFS_IOC_EVENTS_SEEK', { self: 1, guid: 1 }], next]);
  t.is(found!.errno, 0);
  t.is(again!.dst!.eid, 2, 'what follows the one that was sought');
  const [missing] = await raw(lab, [['ZFS_IOC_EVENTS_SEEK', { self: 1, guid: 999_999 }]]);
  t.is(missing!.errno, Errno.ENOENT);
  await lab.finish('tank');
});

test("raw: a boot environment's data is stored in the pool's labels", async (t) => {
  const lab = await Lab.withPool(t, undefined, '-o', 'ashift=12');
  await succeed(lab, 'ZFS_IOC_SET_BOOTENV', { name: 'tank', 'uint64.version': 1, 'string.grub:envmap': 'next=zow' });
  await lab.zpool('export', 'tank');
  await lab.zpool('import', '-d', lab.disks, 'tank');
  const { dst } = await succeed(lab, 'ZFS_IOC_GET_BOOTENV', { name: 'tank', dst: 65536 });
  t.deepEqual(dst, { version: 1, 'grub:envmap': 'next=zow' });
  await lab.finish('tank');
});

test('raw: objects of a filesystem, their paths, attributes and what changed between snapshots', async (t) => {
  const lab = await Lab.open(t);
  await lab.start();
  // A pool that Linux made in 2021, with a file /zstd.
  const sample = 'zfs-src/upstream/2.4.3/tests/zfs-tests/tests/functional/compression/testpool_zstd.tar.gz';
  await must('tar', ['xzf', join(root, sample), '-C', lab.disks]);
  await lab.zpool('import', '-d', lab.disks, 'testpool_zstd');
  const name = 'testpool_zstd/x86_64';
  t.is((await succeed(lab, 'ZFS_IOC_NEXT_OBJ', { name, obj: 33 })).obj, 34);
  t.is((await succeed(lab, 'ZFS_IOC_OBJ_TO_PATH', { name, obj: 34 })).value, '/');
  t.is((await succeed(lab, 'ZFS_IOC_OBJ_TO_PATH', { name, obj: 2 })).value, '/zstd');
  const file = await succeed(lab, 'ZFS_IOC_OBJ_TO_STATS', { name, obj: 2 });
  t.deepEqual([file.value, file.mode.toString(8)], ['/zstd', '100755']);

  await lab.zfs('snapshot', `${name}@one`);
  await lab.zfs('set', 'userquota@1000=1M', name);
  await lab.zfs('snapshot', `${name}@two`);
  const names = { name: `${name}@two`, value: `${name}@one`, cookie: 1 };
  await succeed(lab, 'ZFS_IOC_DIFF', names, '> changes');
  const changes = readFileSync(join(lab.directory, 'changes'));
  // dmu_diff_record_t: type, first, last. The master node is changed, the object with the quotas is new.
  const inUse = 2n;
  const records = Array.from({ length: changes.length / 24 }, (_, i) => i * 24);
  t.true(records.length > 0);
  t.true(
    records.some((at) => changes.readBigUInt64LE(at) === inUse && changes.readBigUInt64LE(at + 8) <= 1n),
    changes.toString('hex'),
  );

  const temporary: Call = ['ZFS_IOC_TMP_SNAPSHOT', { name, value: 'diff', self: 1 }];
  const [made, listed] = await raw(lab, [temporary, ['ZFS_IOC_SNAPSHOT_LIST_NEXT', { name, cookie: 0 }]]);
  t.deepEqual([made!.errno, listed!.errno], [0, 0]);
  t.regex(made!.value, /^diff-[0-9a-f]{16}$/);
  await until('the temporary snapshot is gone with its descriptor', async () => {
    const left = await lab.zfs('list', '-Ho', 'name', '-t', 'snapshot', '-r', name);
    return left.trim() === `${name}@one\n${name}@two`;
  });
  await lab.finish('testpool_zstd');
});

test('raw: the space that users take is accounted for in a filesystem of an old version', async (t) => {
  const lab = await Lab.open(t);
  const disk = lab.disk('a');
  await lab.start();
  await lab.zpool('create', '-o', 'version=14', 'tank', disk);
  await lab.zfs('create', '-o', 'version=3', 'tank/fs');
  t.regex(await lab.fails('zfs', 'userspace', 'tank/fs'), /unsupported version or feature/);
  await lab.zpool('upgrade', '-V', '28', 'tank');
  await lab.zfs('upgrade', 'tank/fs');
  await succeed(lab, 'ZFS_IOC_USERSPACE_UPGRADE', { name: 'tank/fs' });
  t.regex(await lab.zfs('userspace', '-Hp', 'tank/fs'), /^POSIX User\troot\t[1-9]/);
  await lab.finish('tank');
});

test('raw: streams as older programs send and receive them', async (t) => {
  const lab = await Lab.withPool(t, undefined, '-o', 'ashift=12');
  await lab.zfs('create', '-V', '16M', 'tank/v');
  const client = await lab.open('tank/v');
  await client.writeAt(0, noise(MiB));
  client.destroy();
  await lab.zfs('snapshot', 'tank/v@one');
  const sendobj = await lab.get('tank/v@one', 'objsetid');
  const estimate = await succeed(lab, 'ZFS_IOC_SEND', { name: 'tank/v@one', sendobj, guid: 1 });
  t.true(estimate.objset_type >= MiB, `${estimate.objset_type} bytes are expected`);
  await succeed(lab, 'ZFS_IOC_SEND', { name: 'tank/v@one', sendobj, cookie: 1 }, '> stream');
  const stream = readFileSync(join(lab.directory, 'stream'));
  const recordBytes = 312;
  writeFileSync(join(lab.directory, 'rest'), stream.subarray(recordBytes));
  const begin = join(lab.directory, 'stream');
  const target = { name: 'tank/copy', value: 'tank/copy@one', begin, cookie: 0 };
  await succeed(lab, 'ZFS_IOC_RECV', target, '< rest');
  t.is(await lab.get('tank/copy@one', 'guid'), await lab.get('tank/v@one', 'guid'));
  const copy = await lab.open('tank/copy');
  t.true((await copy.readAt(0, MiB)).equals(noise(MiB)));
  copy.destroy();
  await lab.finish('tank');
});

test('what needs mounted filesystems, or another system, fails with a clear errno', async (t) => {
  const lab = await Lab.withPool(t, undefined, '-o', 'ashift=12');
  await lab.zfs('create', 'tank/fs');
  for (const [name, { errno }] of Object.entries(unavailable)) {
    const [reply] = await raw(lab, [[name, { name: 'tank/fs' }]]);
    t.is(reply!.errno, errno, name);
  }
  t.regex(
    await lab.fails('zfs', 'zone', '/proc/self/ns/user', 'tank/fs'),
    /cannot zone: ZoW has no kernel whose namespaces could own a dataset/,
  );
  await lab.finish('tank');
});
