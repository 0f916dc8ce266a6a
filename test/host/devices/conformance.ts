import type { ExecutionContext, TestFn } from 'ava';
import fc from 'fast-check';
import type { Device, DeviceOpenOptions } from '../../../host/devices/device.ts';

/** A disk under test. Its content is all zeroes at first and outlives the Devices opened on it. */
export interface TestDisk {
  open(options?: DeviceOpenOptions): Promise<Device>;
  remove(): Promise<void> | void;
}

/** Makes a disk of so many bytes. */
export type MakeDisk = (t: ExecutionContext, bytes: number) => Promise<TestDisk> | TestDisk;

const KiB = 1024;
const MiB = 1024 * KiB;
const SIZE = 20 * MiB;

/** What every backend, and every wrapper that is told to do nothing, promises: the contract in host/devices/device.ts. */
export function conformance(test: TestFn, title: string, make: MakeDisk): void {
  const check = (what: string, body: (t: ExecutionContext, disk: TestDisk, device: Device) => Promise<void>) =>
    test.serial(`${title}: ${what}`, async (t) => {
      const disk = await make(t, SIZE);
      const device = await disk.open();
      try {
        await body(t, disk, device);
      } finally {
        await device.close();
        await disk.remove();
      }
    });

  check('describes itself', async (t, _disk, device) => {
    t.is(await device.size(), SIZE);
    t.not(device.name, '');
    t.not(device.identity, '');
    t.false(device.capabilities.readOnly);
    t.true(await device.isPresent());
    for (const sector of [device.logicalSectorBytes, device.physicalSectorBytes]) {
      t.true(sector >= 512 && Number.isInteger(Math.log2(sector)));
    }
  });

  check('is the same disk however often it is opened, and another than others', async (t, disk, device) => {
    const again = await disk.open();
    t.is(again.identity, device.identity);
    await writeAll(device, pattern(4096, 7), 8192);
    await device.flush();
    t.deepEqual(await readAll(again, 8192, 4096), pattern(4096, 7));
    await again.close();
    const other = await make(t, SIZE);
    const otherDevice = await other.open();
    t.not(otherDevice.identity, device.identity);
    await otherDevice.close();
    await other.remove();
  });

  check('keeps what is written, from 512 bytes to 16 MiB, in shared memory', async (t, _disk, device) => {
    const memory = new SharedArrayBuffer(17 * MiB);
    for (const length of [512, 4 * KiB, 64 * KiB, 128 * KiB, 257 * KiB, MiB, 16 * MiB]) {
      const view = new Uint8Array(memory, 4096 + 8, length);
      const offset = 3 * MiB + 512;
      const expected = pattern(length, length);
      view.set(expected);
      await writeAll(device, view, offset);
      t.true(same(view, expected), 'a write leaves its buffer alone');
      view.fill(0);
      t.is(await transfer(view, (part, done) => device.read(part, offset + done)), length);
      t.true(same(view, expected));
    }
    t.true(
      (await readAll(device, 3 * MiB, 512)).every((byte) => byte === 0),
      'nothing before the range',
    );
    t.true(
      (await readAll(device, 19 * MiB + 512, 512)).every((byte) => byte === 0),
      'nothing after it',
    );
  });

  check('takes any alignment', async (t, _disk, device) => {
    await writeAll(device, pattern(10000, 1), 777);
    await writeAll(device, pattern(3, 2), 1000);
    const expected = pattern(10000, 1);
    expected.set(pattern(3, 2), 1000 - 777);
    t.deepEqual(await readAll(device, 777, 10000), expected);
  });

  check('leaves the buffer around a view alone', async (t, _disk, device) => {
    await writeAll(device, pattern(4096, 3), 0);
    const memory = new Uint8Array(new SharedArrayBuffer(3 * 4096)).fill(0xaa);
    await transfer(memory.subarray(4096, 8192), (part, done) => device.read(part, done));
    t.true(memory.subarray(0, 4096).every((byte) => byte === 0xaa));
    t.true(memory.subarray(8192).every((byte) => byte === 0xaa));
  });

  check('ends where it ends', async (t, _disk, device) => {
    await writeAll(device, pattern(4096, 4), SIZE - 4096);
    const buffer = new Uint8Array(4096);
    t.is(await device.read(buffer, SIZE), 0);
    t.is(await device.read(buffer, SIZE + MiB), 0);
    t.is(await device.read(buffer, SIZE - 512), 512);
    t.deepEqual(buffer.subarray(0, 512), pattern(4096, 4).subarray(4096 - 512));
    await fails(t, 'ENOSPC', () => device.write(buffer, SIZE));
    await fails(t, 'ENOSPC', () => device.write(buffer, SIZE + MiB));
    t.is(await device.write(pattern(4096, 5), SIZE - 1024), 1024);
    t.deepEqual(await readAll(device, SIZE - 1024, 1024), pattern(4096, 5).subarray(0, 1024));
    t.is(await device.size(), SIZE, 'no write makes it grow');
  });

  check('refuses impossible ranges', async (t, _disk, device) => {
    const buffer = new Uint8Array(512);
    for (const offset of [-1, 0.5, Number.NaN, Number.POSITIVE_INFINITY, 2 ** 53]) {
      await fails(t, 'EINVAL', () => device.read(buffer, offset));
      await fails(t, 'EINVAL', () => device.write(buffer, offset));
    }
  });

  check('transfers nothing at no cost', async (t, _disk, device) => {
    t.is(await device.read(new Uint8Array(0), 0), 0);
    t.is(await device.write(new Uint8Array(0), 4096), 0);
    t.is(await device.write(new Uint8Array(0), SIZE), 0);
  });

  check('works on many operations at once', async (t, _disk, device) => {
    const blocks = Array.from({ length: 96 }, (_, index) => index);
    const place = (index: number) => index * 96 * KiB;
    await Promise.all(blocks.map((index) => writeAll(device, pattern(64 * KiB, index), place(index))));
    const [contents] = await Promise.all([
      Promise.all(blocks.map((index) => readAll(device, place(index), 64 * KiB))),
      ...blocks.map((index) => writeAll(device, pattern(16 * KiB, index), place(index) + 64 * KiB)),
    ]);
    for (const index of blocks) t.true(same(contents[index]!, pattern(64 * KiB, index)), `block ${index}`);
  });

  check('flushes, many at once too', async (t, _disk, device) => {
    await device.flush();
    await writeAll(device, pattern(MiB, 6), 0);
    await Promise.all([device.flush(), device.flush(), writeAll(device, pattern(MiB, 7), MiB), device.flush()]);
    await device.flush();
    t.true(same(await readAll(device, 0, MiB), pattern(MiB, 6)));
    t.true(same(await readAll(device, MiB, MiB), pattern(MiB, 7)));
  });

  check('zeroes and trims where it says so', async (t, _disk, device) => {
    await writeAll(device, pattern(MiB, 8), 0);
    if (device.capabilities.writeZeroes) {
      await device.writeZeroes(64 * KiB, 128 * KiB);
      t.true((await readAll(device, 64 * KiB, 128 * KiB)).every((byte) => byte === 0));
      await device.writeZeroes(0, 0);
      await fails(t, 'EINVAL', () => device.writeZeroes(SIZE - 4096, 8192));
      await fails(t, 'EINVAL', () => device.writeZeroes(-4096, 4096));
    } else {
      await fails(t, 'EOPNOTSUPP', () => device.writeZeroes(0, 4096));
    }
    if (device.capabilities.trim) {
      await device.trim(256 * KiB, 128 * KiB);
      await writeAll(device, pattern(4096, 9), 256 * KiB);
      t.deepEqual(await readAll(device, 256 * KiB, 4096), pattern(4096, 9), 'a trimmed range can be written again');
      await fails(t, 'EINVAL', () => device.trim(SIZE, 4096));
    } else {
      await fails(t, 'EOPNOTSUPP', () => device.trim(0, 4096));
    }
    const kept = pattern(MiB, 8);
    t.true(same(await readAll(device, 0, 64 * KiB), kept.subarray(0, 64 * KiB)), 'before the ranges');
    t.true(same(await readAll(device, 512 * KiB, 512 * KiB), kept.subarray(512 * KiB)), 'after the ranges');
  });

  check('opened for reading only, is', async (t, disk, device) => {
    await writeAll(device, pattern(4096, 10), 0);
    await device.flush();
    const reader = await disk.open({ readOnly: true });
    t.true(reader.capabilities.readOnly);
    t.deepEqual(await readAll(reader, 0, 4096), pattern(4096, 10));
    await fails(t, 'EROFS', () => reader.write(new Uint8Array(512), 0));
    await fails(t, 'EROFS', () => reader.trim(0, 4096));
    await fails(t, 'EROFS', () => reader.writeZeroes(0, 4096));
    await reader.flush();
    await reader.close();
    t.deepEqual(await readAll(device, 0, 4096), pattern(4096, 10));
  });

  check('closes after what is in flight, and only once', async (t, disk, device) => {
    let over = 0;
    const work = [0, 1, 2, 3].map(async (index) => {
      await device.write(pattern(2 * MiB, index), index * 2 * MiB);
      over += 1;
    });
    const flushes = [device.flush(), device.flush()];
    await device.close();
    // Those that waited for the operations run in the same turn as the one that waited for the close.
    await new Promise(setImmediate);
    t.is(over, 4);
    await Promise.all([...work, ...flushes]);
    await device.close();
    const buffer = new Uint8Array(512);
    await fails(t, 'EBADF', () => device.size());
    await fails(t, 'EBADF', () => device.read(buffer, 0));
    await fails(t, 'EBADF', () => device.write(buffer, 0));
    await fails(t, 'EBADF', () => device.flush());
    await fails(t, 'EBADF', () => device.trim(0, 512));
    await fails(t, 'EBADF', () => device.writeZeroes(0, 512));
    const again = await disk.open();
    t.true(same(await readAll(again, 6 * MiB, 2 * MiB), pattern(2 * MiB, 3)));
    await again.close();
  });

  check('agrees with a model on random operations', async (t, _disk, device) => {
    await fc.assert(
      fc.asyncProperty(fc.array(anyStep, { maxLength: 40 }), (steps) => agrees(device, steps)),
      {
        numRuns: 25,
      },
    );
    t.pass();
  });
}

/** Steps stay in the last bytes of the disk, so that they meet each other and its end. */
const WINDOW = 64 * KiB;

type Step = { kind: 'write' | 'read' | 'zero' | 'flush'; at: number; length: number; seed: number };

const anyStep: fc.Arbitrary<Step> = fc.record({
  kind: fc.constantFrom('write', 'write', 'read', 'zero', 'flush'),
  at: fc.nat(WINDOW),
  length: fc.nat(24 * KiB),
  seed: fc.nat(255),
});

async function agrees(device: Device, steps: readonly Step[]): Promise<void> {
  const base = SIZE - WINDOW;
  const model = new Uint8Array(WINDOW);
  await writeAll(device, model, base);
  for (const { kind, at, length, seed } of steps) {
    const room = Math.min(length, WINDOW - at);
    if (kind === 'write' && room > 0) {
      const data = pattern(length, seed);
      const done = await device.write(data, base + at);
      if (done !== room) throw new Error(`wrote ${done} of ${room} bytes that fit`);
      model.set(data.subarray(0, room), at);
    } else if (kind === 'read') {
      const buffer = new Uint8Array(new SharedArrayBuffer(length));
      const done = await device.read(buffer, base + at);
      if (done !== room) throw new Error(`read ${done} of ${room} bytes`);
      if (!same(buffer.subarray(0, room), model.subarray(at, at + room))) throw new Error(`wrong data at ${at}`);
    } else if (kind === 'zero' && device.capabilities.writeZeroes) {
      // Whole sectors: a block device takes no others.
      const [from, to] = [Math.ceil(at / 512) * 512, Math.floor((at + room) / 512) * 512];
      if (from >= to) continue;
      await device.writeZeroes(base + from, to - from);
      model.fill(0, from, to);
    } else if (kind === 'flush') {
      await device.flush();
    }
  }
  if (!same(await readAll(device, base, WINDOW), model)) throw new Error('the end state differs');
}

/** Bytes that tell their place and the seed. */
export function pattern(length: number, seed: number): Uint8Array {
  const bytes = new Uint8Array(length);
  for (let index = 0; index < length; index += 1)
    bytes[index] = (index * 31 + (index >> 9) * 7 + seed * 101 + 1) & 0xff;
  return bytes;
}

export function same(one: Uint8Array, other: Uint8Array): boolean {
  return Buffer.from(one.buffer, one.byteOffset, one.byteLength).equals(other);
}

export async function fails(
  t: ExecutionContext,
  code: string,
  action: () => unknown,
): Promise<Error & { code: string }> {
  const error = await t.throwsAsync(async () => await action());
  t.is((error as { code?: string } | undefined)?.code, code);
  return error as Error & { code: string };
}

export async function readAll(device: Device, offset: number, length: number): Promise<Uint8Array> {
  const buffer = new Uint8Array(length);
  const done = await transfer(buffer, (part, at) => device.read(part, offset + at));
  return buffer.subarray(0, done);
}

export async function writeAll(device: Device, data: Uint8Array, offset: number): Promise<void> {
  const done = await transfer(data, (part, at) => device.write(part, offset + at));
  if (done !== data.byteLength) throw new Error(`wrote ${done} of ${data.byteLength} bytes`);
}

/** Continues short transfers. */
async function transfer(
  buffer: Uint8Array,
  step: (part: Uint8Array, done: number) => number | Promise<number>,
): Promise<number> {
  let done = 0;
  while (done < buffer.byteLength) {
    const more = await step(buffer.subarray(done), done);
    if (more === 0) break;
    done += more;
  }
  return done;
}
