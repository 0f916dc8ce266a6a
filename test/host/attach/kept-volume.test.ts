import test, { type ExecutionContext } from 'ava';
import type { KeptVolume } from '../../../host/attach/kept-volume.ts';
import { Volume } from '../../../host/volumes/open-volume.ts';
import { dice } from '../../e2e/process.ts';
import { pattern, until } from '../nbd/fixture.ts';
import { CrashingHost } from './host.ts';

const MiB = 1 << 20;

/** ava's own comparison shows differences, and takes seconds for a MiB. */
function same(t: ExecutionContext, found: Uint8Array, expected: Uint8Array): void {
  t.true(Buffer.from(found).equals(expected));
}

async function open(kept: KeptVolume) {
  const handle = await kept.open('tank/vm0', { readOnly: false });
  return { handle, volume: new Volume(handle, kept.buffers) };
}

test('what was acknowledged and not flushed is there again after a crash, and durable', async (t) => {
  const host = await CrashingHost.open(t, MiB);
  const kept = await host.attach(t);
  const { handle, volume } = await open(kept);
  await volume.write(0, pattern(65536, 1));
  await volume.flush();
  t.is(kept.status.unflushedBytes, 0);
  // Each over a part of the one before; a durable one among them, which is not to be undone by an older one.
  await volume.write(0, pattern(8192, 2));
  await volume.write(4096, pattern(8192, 3), { fua: true });
  await handle.zero(8192, 8192, { fua: false, allocate: false });
  await volume.write(12288, pattern(4096, 4));
  await volume.trim(32768, 16384);
  await volume.write(36864, pattern(4096, 5));
  const expected = host.volume.data.slice();
  t.true(kept.status.unflushedBytes > 20480);
  await host.crash();
  t.false(Buffer.from(host.volume.data).equals(expected), 'the host lost something');
  const read = volume.read(0, MiB);
  const flush = volume.flush();
  t.false(kept.status.isConnected);
  await host.start();
  same(t, await read, expected);
  await flush;
  same(t, host.durable, expected);
  t.is(kept.status.unflushedBytes, 0);
});

test('requests that were under way at the crash are made again', async (t) => {
  const host = await CrashingHost.open(t, MiB);
  const { volume } = await open(await host.attach(t));
  await volume.write(0, pattern(4096, 1));
  host.holds = ['write', 'read', 'flush'];
  const under = [volume.write(0, pattern(4096, 2)), volume.flush(), volume.read(4096, 4096)];
  await until(() => host.volume.handles.size === 1, 'they are under way');
  await host.crash();
  host.holds = [];
  await host.start();
  await Promise.all(under);
  same(t, host.volume.data.subarray(0, 4096), pattern(4096, 2));
  await host.crash();
  await host.start();
  await volume.flush();
  same(t, host.durable.subarray(0, 4096), pattern(4096, 2));
});

for (const seed of [1, 2, 3]) {
  test(`nothing is lost whatever is done and whenever it crashes (seed ${seed})`, async (t) => {
    const host = await CrashingHost.open(t, MiB);
    const { handle, volume } = await open(await host.attach(t));
    const model = new Uint8Array(MiB);
    const roll = dice(seed);
    let crashes = 0;
    for (let step = 0; step < 250; step++) {
      const offset = roll(200) * 4096;
      const length = (1 + roll(16)) * 4096;
      const what = roll(20);
      const crashing = what < 2 ? host.crash().then(() => host.start()) : undefined;
      if (crashing !== undefined) crashes++;
      if (what === 19) await volume.flush();
      else if (what === 18) {
        await volume.trim(offset, length);
        model.fill(0, offset, offset + length);
      } else if (what === 17) {
        await handle.zero(offset, length, { fua: roll(2) === 0, allocate: roll(2) === 0 });
        model.fill(0, offset, offset + length);
      } else {
        const data = pattern(length, seed * 1000 + step);
        await volume.write(offset, data, { fua: roll(8) === 0 });
        model.set(data, offset);
      }
      if (roll(10) === 0) same(t, await volume.read(offset, length), model.subarray(offset, offset + length));
      await crashing;
    }
    t.true(crashes > 5);
    await host.crash();
    await host.start();
    await volume.flush();
    same(t, host.durable, model);
  });
}

test('a host that stays away fails requests; what it had acknowledged is there when it is back', async (t) => {
  const host = await CrashingHost.open(t, MiB);
  const kept = await host.attach(t, { waitMs: 100 });
  const { volume } = await open(kept);
  await volume.write(0, pattern(4096, 1));
  await host.crash();
  await t.throwsAsync(volume.flush(), { code: 'EIO', message: /the host is away/ });
  await t.throwsAsync(volume.write(4096, pattern(4096, 2)), { code: 'EIO' });
  t.true(kept.status.fails);
  await host.start();
  await until(() => kept.status.isConnected, 'it is connected');
  await volume.flush();
  same(t, host.durable.subarray(0, 4096), pattern(4096, 1));
});

test('another volume of that name, or a smaller one, is not taken for it', async (t) => {
  const host = await CrashingHost.open(t, MiB);
  const kept = await host.attach(t, { waitMs: 100, guid: String(host.volume.guid) });
  const { volume } = await open(kept);
  await volume.write(0, pattern(4096, 1));
  const { guid } = host.volume;
  await host.crash();
  Object.assign(host.volume, { guid: guid + 1n });
  await host.start();
  await t.throwsAsync(volume.flush(), { code: 'EIO' });
  const another = /^tank\/vm0 is another volume now \(guid \d+, it was \d+\)$/;
  await until(() => another.test(kept.status.reason ?? ''), 'it is looked at');
  t.true(
    host.volume.data.subarray(0, 4096).every((byte) => byte === 0),
    'nothing was written to it',
  );
  await host.crash();
  Object.assign(host.volume, { guid, size: MiB / 2 });
  await host.start();
  await until(() => /has 524288 bytes now/.test(kept.status.reason ?? ''), 'the size is looked at');
  await host.crash();
  host.volume.size = MiB;
  await host.start();
  await until(() => kept.status.isConnected, 'it is connected');
  await volume.flush();
  same(t, host.durable.subarray(0, 4096), pattern(4096, 1));
});

test('a flush that fails is told, and what it was for is written again', async (t) => {
  const host = await CrashingHost.open(t, MiB);
  const kept = await host.attach(t);
  const { volume } = await open(kept);
  await volume.write(0, pattern(4096, 1));
  const { hook } = host.volume;
  // As a pool that could not flush: it goes back to what was flushed, and works on.
  host.volume.hook = (operation) => {
    if (operation !== 'flush') return undefined;
    host.volume.hook = hook;
    host.volume.data = host.durable.slice();
    return Promise.reject(Object.assign(new Error('the pool went back'), { code: 'EIO' }));
  };
  await t.throwsAsync(volume.flush(), { code: 'EIO' });
  await volume.flush();
  same(t, host.durable.subarray(0, 4096), pattern(4096, 1));
});

test('what is kept has a bound: it is flushed when nobody else does', async (t) => {
  const host = await CrashingHost.open(t, 8 * MiB);
  const kept = await host.attach(t, { waitMs: 100 });
  const { volume } = await open(kept);
  for (let i = 0; i < 16; i++) await volume.write((i % 2) * 4 * MiB, Buffer.alloc(4 * MiB, i));
  t.true(host.volume.calls.flush >= 1);
  t.true(kept.status.unflushedBytes <= 36 * MiB);
  // And with a host that is away no request waits for room longer than for the host.
  host.holds = ['flush'];
  const writes = Array.from({ length: 16 }, (_, i) => volume.write((i % 2) * 4 * MiB, Buffer.alloc(4 * MiB, i)));
  const settled = Promise.allSettled(writes);
  await until(() => kept.status.unflushedBytes >= 32 * MiB, 'it is full');
  await host.crash();
  t.true((await settled).some(({ status }) => status === 'rejected'));
  host.holds = [];
  await host.start();
  await until(() => kept.status.isConnected, 'it is connected');
  await volume.flush();
  t.is(kept.status.unflushedBytes, 0);
});
