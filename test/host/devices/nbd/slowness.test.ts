import test from 'ava';
import { Slowness } from '../../../../host/devices/nbd/slowness.ts';

const slowness = () => new Slowness({ overMs: 500, forMs: 5000 });

test('slow is who was slow all the time', (t) => {
  const disk = slowness();
  for (let now = 600; now <= 5500; now += 100) {
    disk.answered(600, now);
    t.is(disk.isSlow, now >= 5500, `${now}`);
  }
  disk.answered(500, 5600);
  t.false(disk.isSlow, 'one that is quick ends it');
  disk.answered(501, 6200);
  t.false(disk.isSlow);
});

test('a request that is not answered counts while it waits', (t) => {
  const disk = slowness();
  for (let now = 50; now < 5500; now += 50) {
    disk.waits(now, now);
    t.false(disk.isSlow, `${now}`);
  }
  disk.waits(5500, 5500);
  t.true(disk.isSlow);
});

test('a disk of which nothing is wanted is not slow', (t) => {
  const disk = slowness();
  disk.answered(2000, 2000);
  disk.answered(2000, 7100);
  t.false(disk.isSlow, 'the one before was long ago: it begins anew');
  disk.answered(2000, 11_000);
  t.true(disk.isSlow);
});
