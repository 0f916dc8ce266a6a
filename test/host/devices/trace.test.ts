import test from 'ava';
import { DelayDevice, ErrorDevice, FaultTrigger } from '../../../host/devices/faulty/faults.ts';
import { MemoryDevice } from '../../../host/devices/memory.ts';
import { TracingDevice } from '../../../host/devices/trace.ts';
import { fails } from './conformance.ts';

test('tracing tells each operation, its range, result and whether it was answered at once', async (t) => {
  const lines: [string, Record<string, unknown>][] = [];
  const memory = new MemoryDevice('a', new Uint8Array(4096));
  const late = new DelayDevice(memory, new FaultTrigger({ operations: ['read'] }), 1);
  const device = new TracingDevice(
    new ErrorDevice(late, new FaultTrigger({ operations: ['flush'] }), 5),
    (fields, message) => lines.push([message, fields as Record<string, unknown>]),
  );
  await device.write(new Uint8Array(1024), 512);
  await device.read(new Uint8Array(512), 0);
  await fails(t, 'EIO', () => device.flush());
  t.deepEqual(
    lines.map(([operation, { device: name, offset, length, atOnce, result }]) => [
      operation,
      name,
      offset,
      length,
      atOnce,
      result,
    ]),
    [
      ['write', 'mem:a', 512, 1024, true, 1024],
      ['read', 'mem:a', 0, 512, false, 512],
      ['flush', 'mem:a', 0, 0, true, undefined],
    ],
  );
  t.regex(String(lines[2]![1].error), /injected fault.*EIO/);
});
