import test from 'ava';
import { Cmd } from '../../host/protocols/nbd.ts';
import { Lab, MiB, noise, until } from './host.ts';

/** What ZFS's properties and commands mean for the clients of volumes. */
const ENOSPC = 28;

test('volmode hides a volume only with none; snapdev decides whether snapshots are listed', async (t) => {
  const lab = await Lab.withPool(t, 256 * MiB, '-o', 'ashift=12');
  await lab.zfs('create', '-s', '-V', '16M', '-o', 'volmode=none', 'tank/v');
  await lab.zfs('create', '-s', '-V', '16M', 'tank/w');
  await lab.zfs('snapshot', 'tank/v@s');
  t.deepEqual(await lab.exports(), ['tank/w']);
  for (const mode of ['full', 'none', 'dev', 'none', 'geom', 'none', 'default']) {
    await lab.zfs('set', `volmode=${mode}`, 'tank/v');
    t.deepEqual(await lab.exports(), mode === 'none' ? ['tank/w'] : ['tank/v', 'tank/w'], mode);
  }
  await lab.zfs('set', 'snapdev=visible', 'tank/v');
  t.deepEqual(await lab.exports(), ['tank/v', 'tank/v@s', 'tank/w']);
  await lab.zfs('set', 'snapdev=hidden', 'tank/v');
  t.deepEqual(await lab.exports(), ['tank/v', 'tank/w']);
  // What nothing lists can be read by its name.
  t.is((await lab.open('tank/v@s')).size, 16 * MiB);
  await lab.zfs('set', 'volthreading=off', 'sync=disabled', 'logbias=throughput', 'tank/w');
  const client = await lab.open('tank/w');
  t.is((await client.writeAt(0, noise(MiB))).errno, 0);
  t.is((await client.request({ type: 3 })).errno, 0);
  t.true((await client.readAt(0, MiB)).equals(noise(MiB)));
  await lab.stop();
  await lab.zdb('tank');
});

test('a change of volmode disconnects the clients of the volume, after what they had asked for', async (t) => {
  const lab = await Lab.withPool(t, 256 * MiB, '-o', 'ashift=12');
  await lab.zfs('create', '-s', '-V', '16M', 'tank/v');
  // Upstream goes on with the change after `zfs set` has returned.
  const there = async (count: number) => (await lab.exports()).length === count;
  for (const mode of ['none', 'dev', 'full']) {
    const client = await lab.open('tank/v');
    t.is((await client.writeAt(0, noise(MiB))).errno, 0);
    await lab.zfs('set', `volmode=${mode}`, 'tank/v');
    await client.closed();
    if (mode === 'none') {
      await until('the volume is hidden', () => there(0));
      await lab.zfs('set', 'volmode=geom', 'tank/v');
    }
    await until('the volume is back', () => there(1));
    const again = await lab.open('tank/v');
    t.true((await again.readAt(0, MiB)).equals(noise(MiB)));
    again.destroy();
  }
  await lab.zfs('destroy', 'tank/v');
  await lab.finish('tank');
});

test('a client that does not read its replies does not hold a change of volmode up', async (t) => {
  const lab = await Lab.withPool(t, 256 * MiB, '-o', 'ashift=12');
  await lab.zfs('create', '-s', '-V', '32M', 'tank/v');
  const deaf = await lab.open('tank/v');
  deaf.socket.pause();
  for (let i = 0; i < 64; i++) deaf.sendRequest({ type: Cmd.READ, offset: i % 2, length: MiB });
  await lab.zfs('set', 'volmode=none', 'tank/v');
  // Upstream makes and removes the minors of a pool one after the other: these wait for that one.
  await lab.zfs('create', '-s', '-V', '16M', 'tank/w');
  await until('the other volume is there', async () => (await lab.exports()).includes('tank/w'), 30_000);
  t.deepEqual(await lab.exports(), ['tank/w']);
  await lab.zfs('destroy', 'tank/v');
  await lab.finish('tank');
});

test('receive onto a volume that a client has open: it goes on, on the new content', async (t) => {
  const lab = await Lab.withPool(t, 512 * MiB, '-o', 'ashift=12');
  await lab.zfs('create', '-s', '-V', '32M', 'tank/from');
  const from = await lab.open('tank/from');
  const [first, second] = [noise(4 * MiB, 1), noise(4 * MiB, 2)];
  await from.writeAt(0, first);
  await lab.zfs('snapshot', 'tank/from@a');
  t.is((await lab.shell('zfs send tank/from@a | zfs receive tank/to')).code, 0);
  const client = await lab.open('tank/to');
  t.true((await client.readAt(0, first.length)).equals(first));
  await client.writeAt(8 * MiB, noise(MiB, 3)); // -F drops this
  await from.writeAt(0, second);
  await lab.zfs('set', 'volsize=64M', 'tank/from');
  await lab.zfs('snapshot', 'tank/from@b');
  // A client that reads all the time sees one content or the other.
  let receiving = true;
  const reader = (async () => {
    const other = await lab.open('tank/to');
    for (let reads = 0; receiving || reads === 0; reads++) {
      const found = await other.readAt(0, first.length);
      if (!found.equals(first) && !found.equals(second)) throw new Error('a mixture was read');
    }
    other.destroy();
  })();
  const received = await lab.shell('zfs send -i a tank/from@b | zfs receive -F tank/to');
  t.is(received.code, 0, received.stderr);
  receiving = false;
  await reader;
  t.true((await client.readAt(0, second.length)).equals(second));
  t.true((await client.readAt(8 * MiB, MiB)).equals(Buffer.alloc(MiB)));
  t.is((await client.writeAt(63 * MiB, first.subarray(0, MiB))).errno, 0, 'the new size counts at once');
  for (const open of [from, client]) open.destroy();
  await until('the clients are gone', async () => (await lab.run('zpool', ['export', 'tank'])).code === 0);
  await lab.zpool('import', '-d', lab.disks, 'tank');
  await lab.finish('tank');
});

test('a pool that many clients fill to the brim: each gets ENOSPC and nothing else, freeing heals', async (t) => {
  const lab = await Lab.withPool(t, 128 * MiB, '-o', 'ashift=12');
  const names = Array.from({ length: 8 }, (_, i) => `tank/v${i}`);
  for (const name of names) await lab.zfs('create', '-s', '-V', '256M', name);
  const filled = await Promise.all(
    names.map(async (name, i) => {
      const client = await lab.open(name);
      for (let at = 0; at < 256; at++) {
        const { errno } = await client.writeAt(at * MiB, noise(MiB, i * 256 + at));
        if (errno !== 0) return { client, errno, at };
      }
      return { client, errno: 0, at: 256 };
    }),
  );
  t.deepEqual([...new Set(filled.map(({ errno }) => errno))], [ENOSPC]);
  for (const [i, { client, at }] of filled.entries()) {
    t.is((await client.request({ type: 3 })).errno, 0, 'what was taken can be flushed');
    if (at > 0) t.true((await client.readAt((at - 1) * MiB, MiB)).equals(noise(MiB, i * 256 + at - 1)));
  }
  filled[0]!.client.destroy();
  await until('a volume can be destroyed', async () => (await lab.run('zfs', ['destroy', names[0]!])).code === 0);
  await until('others have room', async () => {
    await lab.zpool('sync');
    return (await filled[1]!.client.writeAt(0, noise(MiB, 9999))).errno === 0;
  });
  for (const { client } of filled) client.destroy();
  await until('the clients are gone', async () => (await lab.run('zpool', ['export', 'tank'])).code === 0);
  await lab.zpool('import', '-d', lab.disks, 'tank');
  await lab.finish('tank');
});

test('a reservation holds what it promises: no snapshot takes it, and its writer never runs out of space', async (t) => {
  const lab = await Lab.withPool(t, 160 * MiB, '-o', 'ashift=12');
  await lab.zfs('create', '-V', '32M', 'tank/v');
  const client = await lab.open('tank/v');
  const fill = async (seed: number) => {
    for (let at = 0; at < 32; at++) t.is((await client.writeAt(at * MiB, noise(MiB, seed + at))).errno, 0);
    await client.request({ type: 3 });
    await lab.zpool('sync');
  };
  let snapshots = 0;
  for (;;) {
    await fill(100 * snapshots);
    const { code, stderr } = await lab.run('zfs', ['snapshot', `tank/v@${snapshots}`]);
    if (code !== 0) {
      t.regex(stderr, /out of space/);
      break;
    }
    snapshots++;
  }
  t.true(snapshots >= 1 && snapshots < 5, `${snapshots}`);
  await fill(10_000);
  client.destroy();
  await lab.zfs('destroy', 'tank/v@0');
  await until('there is room for a snapshot', async () => {
    return (await lab.run('zfs', ['snapshot', 'tank/v@again'])).code === 0;
  });
  await lab.finish('tank');
});
