import fs from 'node:fs';
import path from 'node:path';
import test from 'ava';
import { openBlock } from '../../../host/devices/block.ts';
import type { Device } from '../../../host/devices/device.ts';
import { DelayDevice, ErrorDevice, FaultTrigger, ShortDevice } from '../../../host/devices/faulty/faults.ts';
import { Recorder } from '../../../host/devices/faulty/record.ts';
import { VolatileDevice } from '../../../host/devices/faulty/volatile.ts';
import { openFile } from '../../../host/devices/file.ts';
import { MemoryDevice } from '../../../host/devices/memory.ts';
import { createSparse } from '../../../host/devices/sparse.ts';
import type { IoMode } from '../../../host/devices/stall.ts';
import { TracingDevice } from '../../../host/devices/trace.ts';
import { DeviceWrapper } from '../../../host/devices/wrapper.ts';
import { skip } from '../../skip.ts';
import { conformance, type MakeDisk } from './conformance.ts';
import { canLoop, loopDevice, noLoop, scratch } from './disks.ts';

let memories = 0;

function memory(wrap: (inner: Device) => Device): MakeDisk {
  return (_t, bytes) => {
    const content = new Uint8Array(bytes);
    const name = `disk${memories++}`;
    return { open: async (options) => wrap(new MemoryDevice(name, content, options)), remove: () => {} };
  };
}

function file(ioMode: IoMode, wrap: (inner: Device) => Device = (inner) => inner): MakeDisk {
  return (_t, bytes) => {
    const folder = scratch();
    const disk = path.join(folder, 'disk.img');
    createSparse(disk, bytes);
    return {
      open: async (options) => wrap(await openFile(disk, { ioMode, exclusive: true, ...options })),
      remove: () => fs.rmSync(folder, { recursive: true }),
    };
  };
}

const off = () => {
  const trigger = new FaultTrigger();
  trigger.enabled = false;
  return trigger;
};

conformance(
  test,
  'memory',
  memory((inner) => inner),
);
conformance(test, 'file, adaptive', file('adaptive'));
conformance(test, 'file, sync', file('sync'));
conformance(test, 'file, async', file('async'));
conformance(
  test,
  'plain wrapper',
  memory((inner) => new DeviceWrapper(inner)),
);
conformance(
  test,
  'tracing',
  file('adaptive', (inner) => new TracingDevice(inner, () => {})),
);
conformance(
  test,
  'recording',
  file('async', (inner) => new Recorder().wrap(inner)),
);
conformance(
  test,
  'error, switched off',
  file('adaptive', (inner) => new ErrorDevice(inner, off(), 5)),
);
conformance(
  test,
  'short, switched off',
  memory((inner) => new ShortDevice(inner, off())),
);
conformance(
  test,
  'delay of one millisecond',
  file('adaptive', (inner) => new DelayDevice(inner, new FaultTrigger(), 1)),
);

conformance(
  test,
  'volatile cache',
  memory((inner) => new VolatileDevice(inner)),
);

if (canLoop()) {
  conformance(test, 'block device', (_t, bytes) => {
    const folder = scratch();
    const disk = path.join(folder, 'disk.img');
    createSparse(disk, bytes);
    const loop = loopDevice(disk)!;
    return {
      open: async (options) => openBlock(loop.path, { exclusive: true, ...options }),
      remove: () => {
        loop.detach();
        fs.rmSync(folder, { recursive: true });
      },
    };
  });
} else {
  // The other backends run the same suite.
  test('block device: the suite of all devices', (t) => skip(t, noLoop));
}
