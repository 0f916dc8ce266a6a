import test from 'ava';
import { Pool } from '../../../host/volumes/pool.ts';
import { TestAllocator } from './memory.ts';

const KiB = 1024;

function pool(limitBytes: number, memory = limitBytes * 8, patienceMs = 20_000) {
  const allocator = new TestAllocator(memory);
  return { allocator, pool: new Pool({ allocator, limitBytes, patienceMs }) };
}

test('buffers have exactly the size asked for, in the shared memory, and do not overlap', (t) => {
  const { allocator, pool: buffers } = pool(64 * KiB);
  const a = buffers.tryAcquire(1000)!;
  const b = buffers.tryAcquire(1000)!;
  t.is(a.bytes.length, 1000);
  t.is(a.bytes.buffer, allocator.memory as unknown as ArrayBuffer);
  a.bytes.fill(1);
  b.bytes.fill(2);
  t.true(a.bytes.every((byte) => byte === 1));
  a.release();
  b.release();
  buffers.trim();
  t.is(allocator.live, 0);
});

test('never more than the limit', (t) => {
  const { pool: buffers } = pool(64 * KiB);
  const held = [];
  for (let buffer = buffers.tryAcquire(10 * KiB); buffer; buffer = buffers.tryAcquire(10 * KiB)) held.push(buffer);
  t.is(held.length, 6);
  t.is(buffers.leasedBytes, 60 * KiB);
  t.truthy(buffers.tryAcquire(4 * KiB));
});

test('sizes no buffer can have', async (t) => {
  const { pool: buffers } = pool(64 * KiB);
  for (const size of [0, -1, 1.5, 64 * KiB + 1, Number.NaN]) {
    t.throws(() => buffers.tryAcquire(size), { code: 'EINVAL' });
    await t.throwsAsync(buffers.acquire(size), { code: 'EINVAL' });
  }
});

test('a buffer is released once, and of no use afterwards', (t) => {
  const { pool: buffers } = pool(64 * KiB);
  const buffer = buffers.tryAcquire(100)!;
  buffer.release();
  t.throws(() => buffer.release(), { message: /twice/ });
  t.throws(() => buffer.bytes, { message: /after its release/ });
  t.throws(() => buffer.lend(), { message: /done with it/ });
  const next = buffers.tryAcquire(100)!; // the same memory, another lease
  t.throws(() => buffer.release(), { message: /twice/ });
  next.release();
  t.is(buffers.leases, 0);
});

test('a buffer that is lent is nobody else’s before the last borrower is done, whenever it is released', async (t) => {
  const { pool: buffers } = pool(64 * KiB);
  const buffer = buffers.tryAcquire(64 * KiB)!;
  t.throws(() => buffer.giveBack(), { message: /not lent/ });
  buffer.lend();
  buffer.lend();
  buffer.giveBack();
  buffer.release();
  t.throws(() => buffer.release(), { message: /twice/ });
  t.throws(() => buffer.bytes, { message: /after its release/ });
  t.is(buffers.leases, 1);
  const next = buffers.acquire(64 * KiB);
  t.is(buffers.waiting, 1);
  buffer.giveBack();
  t.throws(() => buffer.giveBack(), { message: /not lent/ });
  (await next).release();
  t.is(buffers.leases, 0);
});

test('who waits is served in order, and nobody overtakes', async (t) => {
  const { pool: buffers } = pool(64 * KiB);
  const a = buffers.tryAcquire(40 * KiB)!;
  const order: number[] = [];
  const big = buffers.acquire(60 * KiB).then((buffer) => {
    order.push(1);
    return buffer;
  });
  const small = buffers.acquire(1 * KiB).then((buffer) => {
    order.push(2);
    return buffer;
  });
  t.is(buffers.waiting, 2);
  t.is(buffers.tryAcquire(100), undefined, 'there is room, but others were first');
  a.release();
  (await big).release();
  (await small).release();
  t.deepEqual(order, [1, 2]);
});

test('one release serves several', async (t) => {
  const { pool: buffers } = pool(64 * KiB);
  const a = buffers.tryAcquire(64 * KiB)!;
  const waiting = [16, 16, 32].map((size) => buffers.acquire(size * KiB));
  a.release();
  for (const buffer of await Promise.all(waiting)) buffer.release();
  t.is(buffers.leasedBytes, 0);
});

test('abort: the waiter is gone, who is behind it moves up', async (t) => {
  const { pool: buffers } = pool(64 * KiB);
  const a = buffers.tryAcquire(40 * KiB)!;
  const controller = new AbortController();
  const big = buffers.acquire(60 * KiB, controller.signal);
  const small = buffers.acquire(20 * KiB);
  controller.abort(new Error('changed my mind'));
  await t.throwsAsync(big, { message: 'changed my mind' });
  (await small).release();
  a.release();
  await t.throwsAsync(buffers.acquire(1, controller.signal), { message: 'changed my mind' });
  t.is(buffers.waiting, 0);
});

test('an aborted signal after the fact does nothing', async (t) => {
  const { pool: buffers } = pool(64 * KiB);
  const controller = new AbortController();
  const a = buffers.tryAcquire(64 * KiB)!;
  const waiting = buffers.acquire(64 * KiB, controller.signal);
  a.release();
  const buffer = await waiting;
  controller.abort();
  t.is(buffer.bytes.length, 64 * KiB);
  buffer.release();
});

test('kept blocks make room for other sizes', (t) => {
  const { pool: buffers, allocator } = pool(64 * KiB);
  for (let size = 1; size <= 64; size++) buffers.tryAcquire(size * 100)!.release();
  const all = buffers.tryAcquire(64 * KiB)!;
  t.is(all.bytes.length, 64 * KiB);
  t.is(allocator.live, 1);
  all.release();
});

test('an allocator without memory is asked again, until it has some or patience ends', async (t) => {
  const { pool: buffers, allocator } = pool(64 * KiB, 16 * KiB, 500);
  await t.throwsAsync(buffers.acquire(32 * KiB), { code: 'ENOMEM' });
  const a = buffers.tryAcquire(2000)!;
  const hopeless = buffers.acquire(32 * KiB);
  a.release();
  await t.throwsAsync(hopeless, { code: 'ENOMEM' });
  t.is(buffers.waiting, 0);

  // Somebody else has it all, and gives it back without a word.
  const other = allocator.alloc(8 * KiB);
  t.not(other, 0);
  const waiting = buffers.acquire(8 * KiB);
  const behind = buffers.acquire(1000);
  t.is(buffers.waiting, 2);
  allocator.free(other);
  (await waiting).release();
  (await behind).release();
  t.is(buffers.waiting, 0);
});

test('ten thousand random acquires and releases keep the books', async (t) => {
  const { pool: buffers, allocator } = pool(256 * KiB);
  let state = 12345;
  const random = (n: number) => {
    state = (Math.imul(state, 1103515245) + 12345) >>> 0;
    return (state >>> 8) % n;
  };
  const held: { bytes: Uint8Array; release(): void }[] = [];
  const waiting: Promise<void>[] = [];
  for (let i = 0; i < 10_000; i++) {
    if (held.length > 0 && random(2) === 0) held.splice(random(held.length), 1)[0]!.release();
    else {
      waiting.push(
        buffers.acquire(1 + random(40 * KiB)).then((buffer) => {
          held.push(buffer);
        }),
      );
    }
    if (buffers.leasedBytes > 256 * KiB) t.fail('over the limit');
    if (i % 100 === 0) await new Promise((resolve) => setImmediate(resolve));
  }
  while (buffers.leases > 0 || buffers.waiting > 0) {
    for (const buffer of held.splice(0)) buffer.release();
    await new Promise((resolve) => setImmediate(resolve));
  }
  await Promise.all(waiting);
  buffers.trim();
  t.is(allocator.live, 0);
});
