import { rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import test, { type ExecutionContext } from 'ava';
import { Cmd, CmdFlag } from '../../host/protocols/nbd.ts';
import type { Client } from '../host/nbd/client.ts';
import { execute, Lab, long, MiB, noise, root, sleep, until } from './host.ts';

/**
 * Disks whose flush fails and forgets a part of what was written. Nothing that was acknowledged as flushed may be lost,
 * whatever the operator does then.
 */
const block = 64 * 1024;
const suspended = /state: SUSPENDED/;

interface Scene {
  readonly lab: Lab;
  /** From now on the named disks' flushes fail. */
  breakFlushes(): void;
  mend(): void;
}

/** A host with the pool `tank` of `vdevs`, in which single letters are disks, and the volume tank/v. */
async function scene(
  t: ExecutionContext<unknown>,
  vdevs: readonly string[],
  failing: readonly string[],
  options: readonly string[] = [],
): Promise<Scene> {
  const lab = await Lab.open(t);
  const failure = join(lab.directory, 'failing');
  const paths = vdevs.map((word) => (word.length === 1 ? lab.disk(word, 128 * MiB) : word));
  const disks = vdevs.filter((word) => word.length === 1);
  const rules = disks.map((disk) => `disks/${disk}:volatile(${failing.includes(disk) ? `failing=${failure}` : ''})`);
  await lab.start({ vars: { ZOW_FAULTS: rules.join(';') } });
  await lab.zpool('create', '-o', 'ashift=12', ...options, 'tank', ...paths);
  await lab.zfs('create', '-s', '-V', '64M', 'tank/v');
  await lab.zpool('sync', 'tank');
  return { lab, breakFlushes: () => writeFileSync(failure, ''), mend: () => rmSync(failure) };
}

/** Writes a block of its own content, and flushes; what the flush said, or that there was no answer. */
async function promise(client: Client, index: number, seed = index): Promise<'durable' | 'failed'> {
  try {
    const { errno } = await client.writeAt(index * block, noise(block, seed));
    const flush = errno === 0 ? await client.request({ type: Cmd.FLUSH }) : { errno };
    return flush.errno === 0 ? 'durable' : 'failed';
  } catch {
    return 'failed';
  }
}

async function holds(client: Client, index: number, seed = index): Promise<boolean> {
  return (await client.readAt(index * block, block)).equals(noise(block, seed));
}

const isSuspended = (lab: Lab) => async () => suspended.test(await lab.zpool('status', 'tank'));

/** The pool's disks are those that a power cut leaves: a host imports them, and finds no fault. */
async function afterCrash(t: ExecutionContext<unknown>, lab: Lab, indices: readonly number[]): Promise<void> {
  await lab.kill();
  await lab.start();
  await lab.zpool('import', '-f', '-d', lab.disks, 'tank');
  const client = await lab.open('tank/v');
  for (const index of indices) t.true(await holds(client, index), `block ${index}`);
  client.destroy();
  await lab.zpool('scrub', '-w', 'tank');
  t.regex(await lab.zpool('status', 'tank'), /repaired 0B .* with 0 errors[\s\S]*No known data errors/);
  await lab.finish('tank');
}

const onlyCopies: readonly (readonly [string, readonly string[], readonly string[]])[] = [
  ['a single disk', ['a'], ['a']],
  ['one of two disks', ['a', 'b'], ['a']],
  ['both sides of a mirror', ['mirror', 'a', 'b'], ['a', 'b']],
  ['two of raidz1', ['raidz1', 'a', 'b', 'c'], ['a', 'c']],
];

for (const [name, vdevs, failing] of onlyCopies) {
  test(`${name}: a flush that failed is not acknowledged, and zpool clear goes back to what was`, async (t) => {
    const { lab, breakFlushes, mend } = await scene(t, vdevs, failing);
    const client = await lab.open('tank/v');
    t.is(await promise(client, 1), 'durable');
    breakFlushes();
    let said = 'nothing';
    const writes = (async () => {
      // Some may be acknowledged by a disk that works.
      const durable: number[] = [];
      for (let i = 10; i < 60; i++) {
        said = await promise(client, i);
        if (said !== 'durable') break;
        durable.push(i);
      }
      return durable;
    })();
    await until('the pool is suspended', isSuspended(lab));
    t.regex(await lab.zpool('status', 'tank'), /experienced I\/O failures/);
    t.regex(lab.hostLog, /the flush of \S+ failed, which has the only copy .*zpool clear tank/);
    mend();
    await lab.zpool('clear', 'tank');
    const durable = await writes;
    t.is(said, 'failed', 'who waited is told that it is gone');
    client.destroy();
    t.regex(await lab.zpool('status', 'tank'), /state: ONLINE/);
    const again = await lab.open('tank/v');
    for (const i of [1, ...durable]) t.true(await holds(again, i), `block ${i}`);
    t.is(await promise(again, 2), 'durable');
    again.destroy();
    await lab.zpool('scrub', '-w', 'tank');
    t.regex(await lab.zpool('status', 'tank'), /with 0 errors[\s\S]*No known data errors/);
    await afterCrash(t, lab, [1, 2, ...durable]);
  });
}

test('zpool status that is under way while zpool clear goes back ends as any other', async (t) => {
  const { lab, breakFlushes, mend } = await scene(t, ['a'], ['a']);
  const other = lab.disk('other', 128 * MiB);
  const ended = join(lab.directory, 'ended');
  const untilEnded = (command: string) => lab.shell(`until [ -e ${ended} ]; do ${command} || exit 1; done`);
  const zpool = join(root, 'cli/native/bin/zpool');
  // Each holds the lock of the pools' names for a while, for which all others then wait, in line.
  const holders = untilEnded(`${zpool} create other ${other} && ${zpool} destroy other`);
  const looks = Array.from({ length: 32 }, () => untilEnded(`${zpool} status`));
  for (let round = 0; round < 5; round++) {
    const client = await lab.open('tank/v');
    breakFlushes();
    const said = promise(client, round);
    await until('the pool is suspended', isSuspended(lab));
    mend();
    await lab.zpool('clear', 'tank');
    t.is(await said, 'failed');
    client.destroy();
  }
  writeFileSync(ended, '');
  for (const { code, stderr } of await Promise.all([...looks, holders])) t.is(code, 0, stderr);
});

for (const how of ['flush', 'fua', 'sync=always'] as const) {
  test(`a write that is durable by ${how} is not, when the only disk's flush failed`, async (t) => {
    const { lab, breakFlushes, mend } = await scene(t, ['a'], ['a'], ['-o', 'failmode=continue']);
    if (how === 'sync=always') await lab.zfs('set', 'sync=always', 'tank/v');
    const client = await lab.open('tank/v');
    t.is(await promise(client, 1), 'durable');
    breakFlushes();
    const write = await client.writeAt(5 * block, noise(block, 5), how === 'fua' ? CmdFlag.FUA : 0);
    const { errno } = how === 'flush' && write.errno === 0 ? await client.request({ type: Cmd.FLUSH }) : write;
    t.is(errno, 5);
    await until('the pool is suspended', isSuspended(lab));
    mend();
    client.destroy();
    await afterCrash(t, lab, [1]);
  });
}

test('many writers on a stripe: what was acknowledged survives, wherever its log went', async (t) => {
  for (let round = 0; round < (long ? 20 : 3); round++) {
    const { lab, breakFlushes, mend } = await scene(t, ['a', 'b'], ['a']);
    const durable: number[] = [];
    const writers = Array.from({ length: 8 }, async (_, w) => {
      const client = await lab.open('tank/v');
      for (let i = w; i < 800; i += 8) {
        if ((await promise(client, i)) !== 'durable') return;
        durable.push(i);
      }
    });
    await until('there are some', () => durable.length > 20);
    breakFlushes();
    await until('the pool is suspended', isSuspended(lab));
    await sleep(200);
    mend();
    await afterCrash(t, lab, [...durable]);
    await Promise.all(writers);
  }
});

const redundant: readonly (readonly [string, readonly string[], string])[] = [
  ['a mirror', ['mirror', 'a', 'b'], 'a'],
  ['raidz1', ['raidz1', 'a', 'b', 'c'], 'b'],
];

for (const [name, vdevs, failing] of redundant) {
  test(`${name}: a disk whose flush failed is out, the others go on, and zpool clear resilvers it`, async (t) => {
    const { lab, breakFlushes, mend } = await scene(t, vdevs, [failing]);
    const client = await lab.open('tank/v');
    for (let i = 0; i < 20; i++) t.is(await promise(client, i), 'durable');
    breakFlushes();
    for (let i = 20; i < 60; i++) t.is(await promise(client, i), 'durable');
    await lab.zpool('sync', 'tank');
    await until('the disk is out', async () =>
      new RegExp(`/${failing} +FAULTED`).test(await lab.zpool('status', 'tank')),
    );
    t.regex(lab.hostLog, /the flush of \S+ failed. It is not used until it is brought back by 'zpool clear tank'/);
    mend();
    await lab.zpool('clear', 'tank');
    await lab.zpool('wait', '-t', 'resilver', 'tank');
    t.regex(await lab.zpool('status', 'tank'), /state: ONLINE[\s\S]*resilvered .* with 0 errors/);
    t.is(await promise(client, 60), 'durable');
    client.destroy();
    await afterCrash(
      t,
      lab,
      Array.from({ length: 61 }, (_, i) => i),
    );
  });
}

// Suspending commits to the log, and the close is over when nobody has since. With its pool hung, at whatever place the close is.
test('a log is suspended, by a snapshot in a pool of an old version, while its volume closes', async (t) => {
  const lab = await Lab.open(t);
  const [hung, data, log] = [join(lab.directory, 'hung'), lab.disk('d'), lab.disk('l')];
  const faults = [`disks/d:delay(op=write,ms=20)`, `disks/d:hang(op=write,while=${hung})`];
  await lab.start({ vars: { ZOW_FAULTS: faults.join(';') }, config: { zed: false } });
  await lab.zpool('create', '-o', 'version=26', 'tank', data, 'log', log);
  await lab.zfs('create', '-V', '32M', '-o', 'sync=always', 'tank/v');
  await lab.zfs('create', '-V', '32M', '-o', 'sync=disabled', 'tank/other');
  // So that there is something to write in each txg.
  const other = await lab.open('tank/other');
  let isOver = false;
  const writing = (async () => {
    for (let i = 0; !isOver; i++) await Promise.all([other.writeAt((i % 256) * 65536, noise(512, i)), sleep(5)]);
  })();
  for (let i = 0; i < 8; i++) {
    const client = await lab.open('tank/v');
    t.is((await client.writeAt(i * 65536, noise(65536, i))).errno, 0);
    client.destroy();
    await sleep(i * 120);
    writeFileSync(hung, '');
    const snapshot = lab.zfs('snapshot', `tank/v@${i}`);
    await sleep(1_000);
    rmSync(hung);
    await snapshot;
  }
  isOver = true;
  await writing;
  other.destroy();
  const client = await lab.open('tank/v');
  for (let i = 0; i < 8; i++) t.deepEqual(await client.readAt(i * 65536, 65536), noise(65536, i));
  client.destroy();
  await lab.finish('tank');
});

test("a log device whose flush failed is left out: the pool's other disks have what it had", async (t) => {
  const { lab, breakFlushes, mend } = await scene(t, ['a', 'log', 'l'], ['l']);
  const client = await lab.open('tank/v');
  t.is(await promise(client, 1), 'durable');
  breakFlushes();
  for (let i = 2; i < 20; i++) t.is(await promise(client, i), 'durable');
  await until('the log is out', async () => /\/l +FAULTED/.test(await lab.zpool('status', 'tank')));
  mend();
  await lab.zpool('clear', 'tank');
  for (let i = 20; i < 24; i++) t.is(await promise(client, i), 'durable');
  client.destroy();
  await afterCrash(
    t,
    lab,
    Array.from({ length: 23 }, (_, i) => i + 1),
  );
});

for (const end of ['zpool export', 'SIGTERM'] as const) {
  test(`${end}: a pool that must not be written leaves without a word, and comes back as it was`, async (t) => {
    const { lab, breakFlushes } = await scene(t, ['a'], ['a']);
    const client = await lab.open('tank/v');
    t.is(await promise(client, 1), 'durable');
    breakFlushes();
    const flush = promise(client, 2);
    const create = lab.run('zfs', ['create', '-V', '8M', 'tank/never']);
    await until('the pool is suspended', isSuspended(lab));
    if (end === 'zpool export') {
      await lab.zpool('export', 'tank');
      t.is(await lab.zpool('list', '-H'), '');
      t.regex(lab.hostLog, /Pool 'tank' has left/);
    } else {
      process.kill(lab.pid, 'SIGTERM');
      t.is(await lab.ended(90_000), 0);
    }
    t.is(await flush, 'failed');
    t.not((await create).code, 0);
    client.destroy();
    await afterCrash(t, lab, [1]);
  });
}

test('a flush that fails by zinject is one', async (t) => {
  const { lab } = await scene(t, ['a'], [], ['-o', 'failmode=continue']);
  const client = await lab.open('tank/v');
  t.is(await promise(client, 1), 'durable');
  await lab.zinject('-d', join(lab.disks, 'a'), '-e', 'io', '-T', 'flush', 'tank');
  t.is(await promise(client, 2), 'failed');
  await until('the pool is suspended', isSuspended(lab));
  await lab.zinject('-c', 'all');
  client.destroy();
  await afterCrash(t, lab, [1]);
});

test('SIGTERM ends a host whose pool is suspended in the middle of its export', async (t) => {
  const lab = await Lab.withPool(t);
  await lab.zfs('create', '-V', '8M', 'tank/v');
  await lab.zpool('sync', 'tank');
  const disk = join(lab.disks, 'a');
  for (const what of ['probe', 'write']) await lab.zinject('-d', disk, '-e', 'io', '-T', what, 'tank');
  process.kill(lab.pid, 'SIGTERM');
  t.is(await lab.ended(90_000), 2);
  t.regex(lab.hostLog, /cannot export 'tank'.*suspended/);
  await lab.start();
  await lab.zpool('import', '-f', '-d', lab.disks, 'tank');
  await lab.finish('tank');
});

test('zpool clear opens a disk anew that failed and works again', async (t) => {
  const lab = await Lab.open(t);
  const failure = join(lab.directory, 'failing');
  await lab.start({ vars: { ZOW_FAULTS: `disks/a:error(op=flush,errno=EIO,while=${failure})` } });
  await lab.zpool('create', '-o', 'ashift=12', 'tank', lab.disk('a'));
  await lab.zfs('create', '-s', '-V', '64M', 'tank/v');
  await lab.zpool('sync', 'tank');
  writeFileSync(failure, '');
  const writing = execute('qemu-io', ['-f', 'raw', '-c', 'write 0 4k', '-c', 'flush', lab.uri('tank/v')]);
  await until('the pool is suspended', isSuspended(lab));
  rmSync(failure);
  // The first one.
  await lab.zpool('clear', 'tank');
  t.regex(await lab.zpool('status', 'tank'), /state: ONLINE[\s\S]*errors: No known data errors/);
  await writing;
  const client = await lab.open('tank/v');
  t.is(await promise(client, 1), 'durable');
  client.destroy();
  await lab.finish('tank');
});

test('a log block that one side of a mirror refused and the other forgot is not durable', async (t) => {
  const lab = await Lab.open(t);
  const disks = [lab.disk('a', 128 * MiB), lab.disk('b', 128 * MiB)];
  const [refuses, forgets] = [join(lab.directory, 'refuses'), join(lab.directory, 'forgets')];
  const rules = [`disks/a:error(op=write,errno=EIO,while=${refuses})`, `disks/b:volatile(failing=${forgets})`];
  const config = { zed: false, tunables: { zfs_txg_timeout: 3600 } };
  await lab.start({ vars: { ZOW_FAULTS: rules.join(';') }, config });
  await lab.zpool('create', '-o', 'ashift=12', 'tank', 'mirror', ...disks);
  await lab.zfs('create', '-s', '-V', '64M', 'tank/v');
  const client = await lab.open('tank/v');
  t.is((await client.writeAt(0, noise(block, 1), CmdFlag.FUA)).errno, 0);
  await lab.zpool('sync', 'tank');
  for (const failure of [refuses, forgets]) writeFileSync(failure, '');
  let answer: number | undefined;
  const late = client.writeAt(block, noise(block, 2), CmdFlag.FUA).then(({ errno }) => {
    answer = errno;
  });
  late.catch(() => undefined);
  await until('the pool is suspended', isSuspended(lab));
  await sleep(500);
  t.not(answer, 0);
  await lab.kill();
});
