import { setTimeout as sleep } from 'node:timers/promises';
import test from 'ava';
import { DelayDevice, FaultTrigger } from '../../../host/devices/faulty/faults.ts';
import { Errno } from '../../../host/errno.ts';
import { decodeNativeNvlist } from '../../../host/nvlist/native.ts';
import { DataType } from '../../../host/nvlist/nvlist.ts';
import { Typed } from '../nvlist/pack.ts';
import { TestCore, type TestSession } from './fixture.ts';

/** Two opens of /dev/zfs by one process: an ioctl of the first names the second's descriptor, which closes meanwhile. */

const process = 'bb'.repeat(16);
const esrch = 3;

/** A core whose transaction groups take their time, with the pool tank in it. */
async function slowCore(): Promise<{ core: TestCore; witness: TestSession }> {
  const slow = new FaultTrigger({ operations: ['write'] });
  slow.enabled = false;
  const core = await TestCore.load({ wrap: (device) => new DelayDevice(device, slow, 20) });
  const witness = await core.open();
  await core.createPool(witness);
  slow.enabled = true;
  return { core, witness };
}

/** Two opens, of descriptors 3 and 4, that close, the second first, `delayMs` after the first began what takes a transaction group. */
async function closeDuring(
  core: TestCore,
  delayMs: number,
  start: (a: TestSession) => Promise<unknown>,
): Promise<void> {
  const [a, b] = [await core.open(process, 3), await core.open(process, 4)];
  const running = start(a);
  await (delayMs === 0 ? new Promise((resolve) => setImmediate(resolve)) : sleep(delayMs));
  await Promise.all([b.close(), a.close(), running]);
}

test('an ioctl that waits in line for a fiber ends when its client is interrupted, or closes', async (t) => {
  const slow = new FaultTrigger({ operations: ['write'] });
  slow.enabled = false;
  const core = await TestCore.load({ memoryBytes: 1024 ** 3, wrap: (device) => new DelayDevice(device, slow, 2000) });
  const [busy, client] = [await core.open(), await core.open(process)];
  await core.createPool(busy);
  slow.enabled = true;
  let over = 0;
  const call = { cmd: { name: 'tank' }, src: { force: new Typed(DataType.BOOLEAN_VALUE, 1) } };
  // As many as a pool has fibers for.
  const running = Array.from({ length: 512 }, async () => {
    await busy.must('POOL_SYNC', call);
    over++;
  });
  const signal = new AbortController();
  const waiting = client.ioctl('POOL_SYNC', { ...call, signal: signal.signal });
  await sleep(20);
  signal.abort();
  t.is((await waiting).errno, Errno.EINTR);
  const left = client.ioctl('POOL_SYNC', call);
  await client.close();
  t.is((await left).errno, Errno.EINTR);
  t.is(over, 0, 'the others go on');
  slow.enabled = false;
  await Promise.all(running);
  await core.core.close();
});

const delays = [0, 0, 1, 2, 4, 8, 16, 32];

test('a hold of an open that closes is released when it is there: zfs send -R, and Ctrl-C', async (t) => {
  const { core, witness } = await slowCore();
  const snaps = { 'tank@s': true } as const;
  await witness.must('SNAPSHOT', { cmd: { name: 'tank' }, src: { snaps } });
  const src = { holds: { 'tank@s': '.send-1-1' }, cleanup_fd: 4 };
  for (const delay of delays) {
    await closeDuring(core, delay, (a) => a.ioctl('HOLD', { cmd: { name: 'tank' }, src, dstRoom: 65536 }));
    const { dst } = await witness.must('GET_HOLDS', { cmd: { name: 'tank@s' }, dstRoom: 65536 });
    t.deepEqual(decodeNativeNvlist(Buffer.from(dst)).pairs, []);
  }
  await witness.must('DESTROY_SNAPS', { cmd: { name: 'tank' }, src: { snaps }, dstRoom: 65536 });
  await core.core.close();
});

test('a temporary snapshot of an open that closes goes when it is there: zfs diff, and Ctrl-C', async (t) => {
  const { core, witness } = await slowCore();
  for (const delay of delays) {
    const cmd = { name: 'tank', value: 'diff-', cleanupFd: 4 };
    await closeDuring(core, delay, (a) => a.ioctl('TMP_SNAPSHOT', { cmd }));
    const { errno } = await witness.ioctl('SNAPSHOT_LIST_NEXT', { cmd: { name: 'tank' }, dstRoom: 65536 });
    t.is(errno, esrch, 'there are no snapshots');
  }
  await core.core.close();
});

test('who waits for events with the cursor of an open that closes gets the next one; it closes then', async (t) => {
  const core = await TestCore.load();
  const [witness, a, b] = [await core.open(), await core.open(process, 3), await core.open(process, 4)];
  await a.must('EVENTS_SEEK', { cmd: { guid: 0xffffffffffffffffn, cleanupFd: 4 } });
  const waiting = a.ioctl('EVENTS_NEXT', { cmd: { cleanupFd: 4 }, dstRoom: 65536 });
  let closed = false;
  await sleep(10);
  const closing = b.close().then(() => {
    closed = true;
  });
  await sleep(50);
  t.false(closed, 'its cursor is in use');
  await core.createPool(witness, 'other');
  const { errno, dst } = await waiting;
  t.is(errno, 0);
  t.true(dst.length > 0);
  await closing;
  // And nobody finds it any more.
  t.is((await a.ioctl('EVENTS_NEXT', { cmd: { cleanupFd: 4 }, dstRoom: 65536 })).errno, Errno.EBADF);
  await a.close();
  await core.core.close();
});

for (const when of ['before it runs', 'while it waits'] as const) {
  test(`a signal ends an ioctl that waits for events: ${when}`, async (t) => {
    const core = await TestCore.load();
    const [a, b] = [await core.open(process, 3), await core.open(process, 4)];
    const abort = new AbortController();
    if (when === 'before it runs') abort.abort();
    const waiting = a.ioctl('EVENTS_NEXT', { cmd: { cleanupFd: 4 }, dstRoom: 65536, signal: abort.signal });
    await sleep(50);
    abort.abort();
    const result = await Promise.race([waiting, sleep(10_000, undefined, { ref: false })]);
    t.is(result?.errno, Errno.EINTR);
    if (result !== undefined) await Promise.all([a.close(), b.close()]);
    await core.core.close();
  });
}
