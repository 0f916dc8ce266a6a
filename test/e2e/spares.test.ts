import test, { type ExecutionContext } from 'ava';
import { Lab, MiB, noise, until } from './host.ts';

/** Devices that fail, and what OpenZFS's event daemon does about them: diagnosis, hot spares. */

/** The state that `zpool status` shows for a device, or for the pool: of a spare, the one in its list. */
async function stateOf(lab: Lab, pool: string, name: string): Promise<string | undefined> {
  const status = await lab.zpool('status', pool);
  return [...status.matchAll(new RegExp(`^\\s+(?:\\S*/)?${name}\\s+([A-Z]+)`, 'gm'))].at(-1)?.[1];
}

function becomes(lab: Lab, pool: string, name: string, state: string, timeoutMs = 60_000): Promise<void> {
  return until(`${name} is ${state}`, async () => (await stateOf(lab, pool, name)) === state, timeoutMs);
}

/** A host with a pool, and a volume full of data that is read from the disks. */
async function pool(t: ExecutionContext<unknown>, lab: Lab, name: string, ...vdevs: string[]): Promise<Buffer> {
  await lab.zpool('create', '-o', 'ashift=12', '-O', 'primarycache=metadata', name, ...vdevs);
  await lab.zfs('create', '-o', 'volblocksize=16K', '-V', '32M', `${name}/v`);
  const data = noise(8 * MiB, 11);
  const client = await lab.open(`${name}/v`);
  t.is((await client.writeAt(0, data)).errno, 0);
  t.is((await client.request({ type: 3 })).errno, 0);
  client.destroy();
  await lab.zpool('sync', name);
  return data;
}

async function holds(lab: Lab, name: string, data: Buffer): Promise<boolean> {
  const client = await lab.open(`${name}/v`);
  const read = await client.readAt(0, data.length);
  client.destroy();
  return read.equals(data);
}

test('checksum errors degrade a device, a spare takes over, and returns when the device is replaced', async (t) => {
  const lab = await Lab.open(t);
  const [a, b, spare, fresh] = lab.manyDisks(4) as [string, string, string, string];
  await lab.start();
  const data = await pool(t, lab, 'tank', 'mirror', a, b, 'spare', spare);
  await lab.zpool('set', 'checksum_n=5', 'tank', a);
  await lab.zpool('set', 'checksum_t=600', 'tank', a);
  await lab.zinject('-d', a, '-e', 'corrupt', '-T', 'read', '-f', '100', 'tank');
  t.true(await holds(lab, 'tank', data), 'the other side has it');
  await becomes(lab, 'tank', 'd2', 'INUSE');
  t.is(await stateOf(lab, 'tank', 'd0'), 'DEGRADED');
  t.is(await stateOf(lab, 'tank', 'tank'), 'DEGRADED');
  await lab.zinject('-c', 'all');
  await lab.zpool('wait', '-t', 'resilver', 'tank');
  t.regex(await lab.zpool('status', 'tank'), /resilvered [1-9][\d.]*M in .* with 0 errors/);
  await lab.zpool('replace', '-w', 'tank', a, fresh);
  await becomes(lab, 'tank', 'd2', 'AVAIL');
  t.is(await stateOf(lab, 'tank', 'tank'), 'ONLINE');
  t.true(await holds(lab, 'tank', data));
  await lab.finish('tank');
});

test('I/O errors fault a device as soon as there are as many as its io_n allows', async (t) => {
  const lab = await Lab.open(t);
  const [a, b, spare, c, d, other] = lab.manyDisks(6) as [string, string, string, string, string, string];
  await lab.start();
  const data = await pool(t, lab, 'strict', 'mirror', a, b, 'spare', spare);
  await pool(t, lab, 'lenient', 'mirror', c, d, 'spare', other);
  await lab.zpool('set', 'io_n=2', 'strict', a);
  await lab.zpool('set', 'io_n=100000', 'lenient', c);
  await lab.zinject('-d', a, '-e', 'io', '-T', 'read', '-f', '100', 'strict');
  await lab.zinject('-d', c, '-e', 'io', '-T', 'read', '-f', '100', 'lenient');
  // A mirror reads from the side that is less busy, which may be the good one for a while.
  const errors = /d3\s+ONLINE\s+[1-9]\d/;
  await until(
    'd3 has as many errors',
    async () => (await holds(lab, 'lenient', data)) && errors.test(await lab.zpool('status', 'lenient')),
  );
  const faulted = async () => (await holds(lab, 'strict', data)) && (await stateOf(lab, 'strict', 'd2')) === 'INUSE';
  await until('d2 is INUSE', faulted, 60_000);
  t.is(await stateOf(lab, 'strict', 'd0'), 'FAULTED');
  t.is(await stateOf(lab, 'strict', 'strict'), 'DEGRADED');
  t.is(await stateOf(lab, 'lenient', 'd3'), 'ONLINE');
  t.is(await stateOf(lab, 'lenient', 'd5'), 'AVAIL');
  await lab.zinject('-c', 'all');
  await lab.zpool('wait', '-t', 'resilver', 'strict');
  t.true(await holds(lab, 'strict', data));
  await lab.finish('strict', 'lenient');
});

test('the daemon is started again when it dies, and misses nothing', async (t) => {
  const lab = await Lab.open(t);
  const [a, b, spare] = lab.manyDisks(3) as [string, string, string];
  await lab.start();
  const daemon = () =>
    [...lab.hostLog.matchAll(/ZFS Event Daemon \S+ \(PID (\d+)\)/g)].map((match) => Number(match[1]));
  await until('zed runs', () => daemon().length === 1);
  process.kill(daemon()[0]!, 'SIGKILL');
  await until('it is gone', () => lab.hostLog.includes('zed ended'));
  const data = await pool(t, lab, 'tank', 'mirror', a, b, 'spare', spare);
  await lab.zpool('set', 'checksum_n=2', 'tank', a);
  await lab.zinject('-d', a, '-e', 'corrupt', '-T', 'read', '-f', '100', 'tank');
  t.true(await holds(lab, 'tank', data));
  await becomes(lab, 'tank', 'd2', 'INUSE');
  await lab.zinject('-c', 'all');
  await lab.zpool('wait', '-t', 'resilver', 'tank');
  const last = daemon().at(-1)!;
  await lab.finish('tank');
  t.throws(() => process.kill(last, 0), { code: 'ESRCH' }, 'it ends with the host');
});

test('zed: false leaves failed devices to the administrator', async (t) => {
  const lab = await Lab.open(t);
  await lab.start({ config: { zed: false } });
  await lab.zpool('list');
  await lab.stop();
  t.false(lab.hostLog.includes('ZFS Event Daemon'));
});

test('a spare that two pools share is of one of them when each has an engine, and the other says so', async (t) => {
  const lab = await Lab.open(t);
  const [a, b, c, d, spare] = lab.manyDisks(5) as [string, string, string, string, string];
  await lab.start({ config: { zed: false }, vars: { ZOW_ENGINES: 'one' } });
  await lab.zpool('create', 'first', 'mirror', a, b, 'spare', spare);
  await lab.zpool('create', 'second', 'mirror', c, d, 'spare', spare);
  await lab.zpool('export', '-f', 'first', 'second');
  await lab.stop();

  await lab.start({ config: { zed: false }, vars: { ZOW_ENGINES: 'processes' } });
  for (const pool of ['first', 'second']) await lab.zpool('import', '-d', lab.disks, pool);
  const reason = /d4\s+UNAVAIL\s+currently in use/;
  t.is(await stateOf(lab, 'first', 'd4'), 'AVAIL');
  t.regex(await lab.zpool('status', 'second'), reason);
  t.regex(await lab.fails('zpool', 'replace', 'second', c, spare), /cannot replace .*d4/);
  await lab.zpool('replace', '-w', 'first', a, spare);
  t.is(await stateOf(lab, 'first', 'd4'), 'INUSE');
  t.regex(await lab.zpool('status', 'second'), reason);
  t.regex(await lab.fails('zpool', 'replace', '-f', 'second', c, spare), /cannot replace .*d4|d4 is/);
  await lab.zpool('detach', 'first', spare);
  // It is the other's when the one has no use for it any more.
  await lab.zpool('remove', 'first', spare);
  await lab.zpool('remove', 'second', spare);
  await lab.zpool('add', 'second', 'spare', spare);
  t.is(await stateOf(lab, 'second', 'd4'), 'AVAIL');
  t.regex(await lab.fails('zpool', 'add', 'first', 'spare', spare), /d4 is a spare of pool 'second'/);
  t.regex(await lab.fails('zpool', 'add', '-f', 'first', 'spare', spare), /d4 is a spare of pool 'second'/);
  await lab.zpool('replace', '-w', 'second', c, spare);
  t.is(await stateOf(lab, 'second', 'd4'), 'INUSE');
  await lab.finish('first', 'second');
});
