import { renameSync } from 'node:fs';
import { join } from 'node:path';
import ava from 'ava';
import { canLoop, loopDevice, noLoop } from '../host/devices/disks.ts';
import { unless } from '../skip.ts';
import { Lab, MiB, noise, until } from './host.ts';

/**
 * multihost=on, the last guard of a pool whose disks two machines can reach. Two loop devices on one file are a disk
 * as two machines see it: each has a page cache of its own, and a lock on one is none on the other.
 */

const test = unless(canLoop() ? undefined : noLoop, ava);
type Loop = NonNullable<ReturnType<typeof loopDevice>>;
const FLUSH = { type: 3 };

test('multihost keeps a second host from a pool in use, also by force, until the first has crashed', async (t) => {
  const [one, two] = [await Lab.open(t), await Lab.open(t)];
  const [first, second] = ['0x11111111', '0x22222222'].map((id) => ({ vars: { ZFS_HOSTID: id } }));
  await one.start(first);
  await two.start(second);
  const disks = one.manyDisks(2);
  const [near, far] = [disks, disks].map((files) => files.map((file) => loopDevice(file)!)) as [Loop[], Loop[]];
  t.teardown(() => {
    for (const loop of [...near, ...far]) loop.detach();
  });
  const [here, there] = [near, far].map((loops) => loops.flatMap(({ path }) => ['-d', path])) as [string[], string[]];
  await one.zpool('create', '-o', 'ashift=12', '-o', 'multihost=on', 'tank', 'mirror', ...near.map(({ path }) => path));
  await one.zfs('create', '-V', '16M', 'tank/v');
  const client = await one.open('tank/v');
  const data = noise(MiB, 1);
  t.is((await client.writeAt(0, data)).errno, 0);
  t.is((await client.request(FLUSH)).errno, 0);

  // The second host sees the first write its uberblocks.
  t.regex(
    await two.zpool('import', ...there),
    /state: UNAVAIL\s+status: The pool is currently imported by another system/,
  );
  for (const force of [[], ['-f']]) {
    const refusal = await two.fails('zpool', 'import', ...force, ...there, 'tank');
    t.regex(refusal, /pool is imported on .*11111111/, force.join());
  }
  t.regex(await two.zpool('list'), /no pools available/);
  t.is((await client.writeAt(MiB, data)).errno, 0);
  t.is((await client.request(FLUSH)).errno, 0);
  t.regex(await one.zpool('status', 'tank'), /state: ONLINE/);
  client.destroy();

  await one.kill();
  // Not by accident either: another host used it last.
  t.regex(await two.fails('zpool', 'import', ...there, 'tank'), /previously in use from another system|-f/);
  await two.zpool('import', '-f', ...there, 'tank');
  const again = await two.open('tank/v');
  t.true((await again.readAt(0, MiB)).equals(data));
  t.true((await again.readAt(MiB, MiB)).equals(data));
  again.destroy();

  // The first host is back and finds it in use.
  await one.start(first);
  t.regex(await one.fails('zpool', 'import', '-f', ...here, 'tank'), /pool is imported on .*22222222/);
  await until('it is still served', async () => /ONLINE/.test(await two.zpool('status', 'tank')));
  await one.stop();
  await two.zpool('export', 'tank');
  await two.stop();
  await one.zdb('tank');
});

ava(
  'a multihost pool whose host and one disk of a mirror are lost comes back, and only when somebody says so',
  async (t) => {
    const lab = await Lab.open(t);
    const tunables = { zfs_multihost_interval: 200, zfs_multihost_import_intervals: 2 };
    const [first, second] = ['0x11111111', '0x22222222'].map((id) => ({
      vars: { ZFS_HOSTID: id },
      config: { tunables },
    }));
    const [a, b] = [lab.disk('a'), lab.disk('b')];
    const [away, lost] = [join(lab.directory, 'away'), join(lab.directory, 'lost')];
    await lab.start(first);
    await lab.zpool('create', '-o', 'multihost=on', 'tank', 'mirror', a, b);
    await lab.zfs('create', '-s', '-V', '16M', 'tank/v');
    const client = await lab.open('tank/v');
    const data = noise(MiB, 1);
    await client.writeAt(0, data);
    t.is((await client.request(FLUSH)).errno, 0);
    client.destroy();
    await lab.kill();
    renameSync(b, lost);

    // The same host: its own hostid does not help it either.
    const pools = { tank: { vdevs: ['mirror', a, b] } };
    t.is(await lab.launch({ ...first, config: { tunables, pools } }), 2);
    t.regex(lab.hostLog, /zpool import -f\s*does not help|Bring the missing disks back/, lab.hostLog);
    await lab.start(second);
    t.regex(await lab.fails('zpool', 'import', '-f', '-d', lab.disks, 'tank'), /imported on host '<unknown>'/);
    t.regex(lab.hostLog, /cannot be claimed: 1 of the 2 writes/);

    // The way out, for who knows that no other host has it.
    t.is((await lab.zow('tunable', 'zow_multihost_reclaim=1')).code, 0);
    await lab.zpool('import', '-f', '-d', lab.disks, 'tank');
    t.is((await lab.zow('tunable', 'zow_multihost_reclaim=0')).code, 0);
    const again = await lab.open('tank/v');
    t.true((await again.readAt(0, MiB)).equals(data));
    again.destroy();
    await lab.zpool('offline', 'tank', b);
    await lab.zpool('sync', 'tank');
    await lab.kill();

    // Its labels say now that the disk is not expected: the next crash needs no word.
    await lab.start(first);
    await lab.zpool('import', '-f', '-d', lab.disks, 'tank');
    await lab.zpool('export', 'tank');
    await lab.stop();

    // Who has the lost disk only, with labels of before, does not get the pool.
    renameSync(a, away);
    renameSync(lost, b);
    await lab.start(second);
    t.regex(
      await lab.fails('zpool', 'import', '-f', '-d', lab.disks, 'tank'),
      /imported on host '<unknown>'|no such pool/,
    );
    await lab.stop();
    renameSync(b, lost);
    renameSync(away, a);
    await lab.zdb('tank');
  },
);
