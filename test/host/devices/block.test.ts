import { execFileSync } from 'node:child_process';
import fs from 'node:fs';
import path from 'node:path';
import ava from 'ava';
import { openDevice } from '../../../host/devices/open.ts';
import { createSparse } from '../../../host/devices/sparse.ts';
import { unless } from '../../skip.ts';
import { fails, pattern, readAll, writeAll } from './conformance.ts';
import { canLoop, loopDevice, noLoop, scratch } from './disks.ts';

const test = unless(canLoop() ? undefined : noLoop, ava);
const MiB = 1024 * 1024;

/** A loop device of 8 MiB made with these options of losetup. */
async function withLoop(options: string[], body: (device: string, file: string) => Promise<void>): Promise<void> {
  const folder = scratch();
  const file = path.join(folder, 'disk.img');
  createSparse(file, 8 * MiB);
  const loop = loopDevice(file, ...options)!;
  try {
    await body(loop.path, file);
  } finally {
    loop.detach();
    fs.rmSync(folder, { recursive: true });
  }
}

test('geometry is the kernel’s, and any alignment works on 4 KiB sectors', async (t) => {
  await withLoop(['--sector-size', '4096'], async (loop) => {
    const device = await openDevice(loop, { exclusive: true });
    t.is(device.logicalSectorBytes, 4096);
    t.true(device.physicalSectorBytes >= 4096);
    t.is(await device.size(), 8 * MiB);
    t.regex(device.identity, /^block:\d+:\d+$/);
    await writeAll(device, pattern(1000, 1), 4000);
    t.deepEqual(await readAll(device, 4000, 1000), pattern(1000, 1));
    if (device.capabilities.trim) {
      await device.trim(4096, 4096);
      await fails(t, 'EINVAL', () => device.trim(512, 4096));
    }
    await device.close();
  });
});

test('a read-only device opens for reading only', async (t) => {
  await withLoop(['--read-only'], async (loop) => {
    await fails(t, 'EROFS', () => openDevice(loop));
    const device = await openDevice(loop, { readOnly: true, exclusive: true });
    t.is(await device.read(new Uint8Array(512), 0), 512);
    t.false(device.capabilities.trim || device.capabilities.writeZeroes);
    await device.close();
  });
});

test('a device that has grown says so', async (t) => {
  await withLoop([], async (loop, file) => {
    const device = await openDevice(loop);
    fs.truncateSync(file, 16 * MiB);
    execFileSync('losetup', ['--set-capacity', loop]);
    t.is(await device.size(), 16 * MiB);
    await writeAll(device, pattern(4096, 1), 12 * MiB);
    await device.close();
  });
});

test('an exclusive reader becomes a writer, and trims under its own claim', async (t) => {
  await withLoop([], async (loop) => {
    const reader = await openDevice(loop, { exclusive: true, readOnly: true });
    const writer = await openDevice(loop, { exclusive: true });
    await writeAll(writer, pattern(4096, 1), 0);
    if (writer.capabilities.trim) await writer.trim(0, 4096);
    if (writer.capabilities.writeZeroes) await writer.writeZeroes(0, 4096);
    t.is(await reader.read(new Uint8Array(512), 0), 512);
    await reader.close();
    if (writer.capabilities.trim) await writer.trim(4096, 4096);
    await writer.close();
  });
});
