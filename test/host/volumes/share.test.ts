import test from 'ava';
import { Pool } from '../../../host/volumes/pool.ts';
import { Share } from '../../../host/volumes/share.ts';
import { TestAllocator } from './memory.ts';

function setup(limitBytes: number, ...shares: number[]) {
  const pool = new Pool({ allocator: new TestAllocator(limitBytes * 16), limitBytes });
  return { pool, shares: shares.map((bytes) => new Share(pool, bytes)) };
}

test('a share takes no more than its part; others have the rest', (t) => {
  const { shares } = setup(1000, 600, 600);
  const [a, b] = shares as [Share, Share];
  const held = [a.tryAcquire(300)!, a.tryAcquire(300)!];
  t.is(a.tryAcquire(1), undefined);
  const other = b.tryAcquire(400)!;
  t.is(other.bytes.length, 400);
  t.is(b.tryAcquire(1), undefined, 'the pool is empty');
  for (const buffer of [...held, other]) buffer.release();
  t.truthy(b.tryAcquire(600));
});

test('first the share, in turn, then the pool', async (t) => {
  const { pool, shares } = setup(1000, 600, 600);
  const [a, b] = shares as [Share, Share];
  const first = a.tryAcquire(500)!;
  const order: string[] = [];
  const waiting = [400, 100].map((size) =>
    a.acquire(size).then((buffer) => {
      order.push(`${size}`);
      return buffer;
    }),
  );
  t.is(a.waiting, 2);
  t.is(a.waitingInPool, 0);
  t.is(a.tryAcquire(10), undefined, 'others were first');
  const others = b.tryAcquire(500)!;
  first.release();
  t.is(a.waiting, 0);
  const buffers = await Promise.all(waiting);
  t.deepEqual(order, ['400', '100']);
  const inPool = b.acquire(100);
  await new Promise((resolve) => setImmediate(resolve));
  t.is(b.waitingInPool, 1);
  t.is(b.waiting, 0);
  for (const buffer of buffers) buffer.release();
  (await inPool).release();
  others.release();
  t.is(pool.leases, 0);
});

test('a quarter is for those who hold nothing', async (t) => {
  const { shares } = setup(1000, 400);
  const [a] = shares as [Share];
  t.is(a.tryAcquire(301, true), undefined);
  const held = a.tryAcquire(300, true)!;
  t.is(a.tryAcquire(1, true), undefined);
  let holds = true;
  const more = a.acquire(100, undefined, () => holds);
  const first = a.acquire(50);
  const second = a.acquire(50);
  const buffers = await Promise.all([first, second]);
  t.is(a.waiting, 1, 'whoever holds something waits, and is in nobody else’s way');
  holds = false;
  buffers[0]!.release();
  t.is(a.waiting, 1);
  buffers[1]!.release();
  (await more).release();
  held.release();
  t.truthy(a.tryAcquire(400));
});

test('abort in either queue gives back what was taken', async (t) => {
  const { pool, shares } = setup(1000, 600, 600);
  const [a, b] = shares as [Share, Share];
  const held = a.tryAcquire(600)!;
  const controller = new AbortController();
  const inShare = a.acquire(600, controller.signal);
  const other = b.tryAcquire(400)!;
  const inPool = b.acquire(200, controller.signal);
  controller.abort(new Error('no'));
  await t.throwsAsync(inShare, { message: 'no' });
  await t.throwsAsync(inPool, { message: 'no' });
  held.release();
  other.release();
  for (const share of [a, b]) share.tryAcquire(600)!.release();
  t.is(pool.leasedBytes, 0);
});

test('sizes beyond the share, and a second release, are refused', async (t) => {
  const { shares } = setup(1000, 600);
  const [a] = shares as [Share];
  await t.throwsAsync(a.acquire(601), { code: 'EINVAL' });
  await t.throwsAsync(a.acquire(0), { code: 'EINVAL' });
  const buffer = a.tryAcquire(600)!;
  buffer.release();
  t.throws(() => buffer.release(), { message: /twice/ });
  t.truthy(a.tryAcquire(600), 'the books still balance');
});

test('a buffer that is lent counts until the last borrower is done', (t) => {
  const { pool, shares } = setup(1000, 600);
  const [a] = shares as [Share];
  const buffer = a.tryAcquire(600)!;
  buffer.lend();
  buffer.release();
  t.throws(() => buffer.bytes, { message: /after its release/ });
  t.is(a.tryAcquire(1), undefined);
  t.is(pool.leasedBytes, 600);
  buffer.giveBack();
  a.tryAcquire(600)!.release();
  t.is(pool.leasedBytes, 0);
});
