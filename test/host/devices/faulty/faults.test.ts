import { spawn } from 'node:child_process';
import { once } from 'node:events';
import fs from 'node:fs';
import path from 'node:path';
import test, { type ExecutionContext } from 'ava';
import type { Device } from '../../../../host/devices/device.ts';
import {
  DelayDevice,
  ErrorDevice,
  type FaultCondition,
  FaultTrigger,
  ShortDevice,
} from '../../../../host/devices/faulty/faults.ts';
import { parseFaults, withFaults } from '../../../../host/devices/faulty/faultspec.ts';
import { Recorder } from '../../../../host/devices/faulty/record.ts';
import { VolatileDevice } from '../../../../host/devices/faulty/volatile.ts';
import { MemoryDevice } from '../../../../host/devices/memory.ts';
import { createSparse } from '../../../../host/devices/sparse.ts';
import { fails, pattern, readAll, same, writeAll } from '../conformance.ts';
import { scratch } from '../disks.ts';

const disk = (bytes = 64 * 1024, name = 'a'): MemoryDevice => new MemoryDevice(name, new Uint8Array(bytes));
const failing = (condition: FaultCondition, errno = 5) => new ErrorDevice(disk(), new FaultTrigger(condition), errno);

test('error: by operation, count and range', async (t) => {
  const reads = failing({ operations: ['read'] });
  await fails(t, 'EIO', () => reads.read(new Uint8Array(512), 0));
  await writeAll(reads, pattern(512, 1), 0);

  const third = failing({ operations: ['write'], nth: 3 }, 28);
  await third.write(new Uint8Array(512), 0);
  await third.write(new Uint8Array(512), 0);
  await fails(t, 'ENOSPC', () => third.write(new Uint8Array(512), 0));
  await third.write(new Uint8Array(512), 0);

  const twice = failing({ times: 2 });
  await fails(t, 'EIO', () => twice.read(new Uint8Array(1), 0));
  await fails(t, 'EIO', () => twice.trim(0, 512));
  t.is(await twice.read(new Uint8Array(1), 0), 1);

  const range = failing({ from: 4096, to: 8192 });
  t.is(await range.read(new Uint8Array(4096), 0), 4096);
  t.is(await range.read(new Uint8Array(4096), 8192), 4096);
  await fails(t, 'EIO', () => range.read(new Uint8Array(4097), 0));
  await fails(t, 'EIO', () => range.read(new Uint8Array(1), 8191));
});

test('error: the switch, and a probability that a seed repeats', async (t) => {
  const device = failing({});
  device.trigger.enabled = false;
  t.is(await device.read(new Uint8Array(1), 0), 1);
  device.trigger.enabled = true;
  await fails(t, 'EIO', () => device.read(new Uint8Array(1), 0));

  const outcomes = async (seed: number) => {
    const some = failing({ probability: 0.3, seed });
    for (let count = 0; count < 1000; count += 1) {
      try {
        await some.read(new Uint8Array(1), count);
      } catch {}
    }
    return some.trigger.strikes;
  };
  t.is(await outcomes(1), await outcomes(1));
  t.true((await outcomes(2)) > 230 && (await outcomes(2)) < 370);
});

test('error: after a failed flush, flushes and writes fail', async (t) => {
  const device = failing({ operations: ['flush'], times: 1 });
  await device.write(pattern(512, 1), 0);
  await fails(t, 'EIO', () => device.flush());
  await fails(t, 'EIO', () => device.flush());
  await fails(t, 'EIO', () => device.write(pattern(512, 2), 0));
  t.deepEqual(await readAll(device, 0, 512), pattern(512, 1), 'reads go on');
});

test('delay: takes effect late, and others overtake it', async (t) => {
  const device = new DelayDevice(disk(), new FaultTrigger({ operations: ['write'], nth: 1 }), 50);
  const start = performance.now();
  const late = device.write(pattern(512, 1), 0);
  await device.write(pattern(512, 2), 0);
  t.deepEqual(await readAll(device, 0, 512), pattern(512, 2));
  await late;
  t.true(performance.now() - start >= 45);
  t.deepEqual(await readAll(device, 0, 512), pattern(512, 1));
});

test('short: transfers a beginning, which callers continue', async (t) => {
  const recorder = new Recorder();
  const device = new ShortDevice(recorder.wrap(disk()), new FaultTrigger({ probability: 0.8 }), 512);
  await writeAll(device, pattern(32 * 1024, 1), 4096);
  t.true(same(await readAll(device, 4096, 32 * 1024), pattern(32 * 1024, 1)));
  t.true(recorder.events.length > 2);
  t.true(recorder.events.every(({ length }) => length % 512 === 0));
});

test('volatile: flushed data survive a power cut, others in part', async (t) => {
  const inner = disk();
  const device = new VolatileDevice(inner);
  await writeAll(device, pattern(4096, 1), 0);
  await device.flush();
  for (let block = 1; block < 16; block += 1) await writeAll(device, pattern(4096, block), block * 4096);
  t.deepEqual(await readAll(device, 4096, 4096), pattern(4096, 1), 'the cache is seen by reads');
  t.true((await readAll(inner, 4096, 60 * 1024)).every((byte) => byte === 0));
  await device.crash({ seed: 7, keep: 0.5 });
  await fails(t, 'ENXIO', () => device.read(new Uint8Array(512), 0));
  await fails(t, 'ENXIO', () => device.flush());
  t.deepEqual(await readAll(inner, 0, 4096), pattern(4096, 1));
  let kept = 0;
  for (let block = 1; block < 16; block += 1) {
    const found = await readAll(inner, block * 4096, 4096);
    if (same(found, pattern(4096, block))) kept += 1;
    else t.true(found.every((byte) => byte === 0));
  }
  t.true(kept > 0 && kept < 15, `${kept} kept`);
});

test('volatile: a torn write is old or new sector by sector', async (t) => {
  const inner = disk();
  const device = new VolatileDevice(inner);
  await writeAll(device, new Uint8Array(8192).fill(1), 256);
  await device.flush();
  await writeAll(device, new Uint8Array(8192).fill(2), 256);
  await device.crash({ seed: 3, torn: true });
  const found = await readAll(inner, 0, 16384);
  const seen = new Set<number>();
  for (let sector = 0; sector < 32; sector += 1) {
    const bytes = new Set(found.subarray(Math.max(sector * 512, 256), Math.min((sector + 1) * 512, 8448)));
    if (sector * 512 >= 8448) break;
    t.is(bytes.size, 1, `sector ${sector} is whole`);
    seen.add([...bytes][0]!);
  }
  t.deepEqual([...seen].sort(), [1, 2]);
});

test('volatile: a disk that lies loses what it acknowledged', async (t) => {
  const inner = disk();
  const device = new VolatileDevice(inner, { liesAboutFlush: true });
  await writeAll(device, pattern(4096, 1), 0);
  await device.flush();
  await device.crash({ keep: 0 });
  t.true((await readAll(inner, 0, 4096)).every((byte) => byte === 0));
});

test('volatile: a full cache evicts, in order', async (t) => {
  const inner = disk();
  const device = new VolatileDevice(inner, { cacheBytesMax: 8192 });
  for (let round = 0; round < 8; round += 1) await writeAll(device, pattern(4096, round), (round % 2) * 4096);
  t.deepEqual(await readAll(device, 0, 4096), pattern(4096, 6));
  t.deepEqual(await readAll(device, 4096, 4096), pattern(4096, 7));
  t.false((await readAll(inner, 0, 4096)).every((byte) => byte === 0));
  await device.close();
  await fails(t, 'EBADF', () => inner.size());
});

test('volatile: a flush that fails forgets a part of the cache, and is the last', async (t) => {
  const content = new Uint8Array(64 * 1024);
  let failing = false;
  const device = new VolatileDevice(new MemoryDevice('v', content), { flushFails: () => failing });
  await device.write(pattern(4096, 1), 0);
  await device.flush();
  failing = true;
  for (let at = 4096; at < content.length; at += 4096) await device.write(pattern(4096, at), at);
  await fails(t, 'EIO', () => device.flush());
  failing = false;
  await fails(t, 'EIO', () => device.flush());
  await fails(t, 'EIO', () => device.write(pattern(512, 2), 0));
  const kept = Array.from({ length: 15 }, (_, i) => content[4096 * (i + 1) + 9] !== 0).filter(Boolean).length;
  t.true(kept > 0 && kept < 15, `${kept} of 15`);
  t.deepEqual(content.subarray(0, 4096), pattern(4096, 1));
  await device.close();
});

/** A disk whose flush ends when it is told to. */
class SlowFlush extends MemoryDevice {
  readonly gate = Promise.withResolvers<void>();
  override flush(): never {
    return this.gate.promise as never;
  }
}

test('volatile: a flush that the power cut overtakes is not acknowledged', async (t) => {
  const inner = new SlowFlush('slow', new Uint8Array(8192));
  const device = new VolatileDevice(inner);
  await writeAll(device, pattern(512, 1), 0);
  const flush = fails(t, 'ENXIO', () => device.flush());
  await new Promise(setImmediate);
  await device.crash();
  inner.gate.resolve();
  await flush;
});

test('the recorder keeps order, data and outcome', async (t) => {
  const recorder = new Recorder(8192);
  const one = recorder.wrap(disk());
  const two = recorder.wrap(new ErrorDevice(disk(4096, 'b'), new FaultTrigger({ operations: ['write'] }), 5));
  const buffer = pattern(512, 1);
  await one.write(buffer, 512);
  buffer.fill(0);
  await one.flush();
  await fails(t, 'EIO', () => two.write(buffer, 0));
  await one.trim(0, 4096);
  await one.read(buffer, 0);
  const [write, flush, failed, trim] = recorder.events;
  t.is(recorder.events.length, 4);
  t.deepEqual(write!.data, pattern(512, 1), 'a copy');
  t.true(write!.issued < write!.completed! && write!.completed! < flush!.issued && flush!.issued < flush!.completed!);
  t.is(write!.device.name, 'mem:a');
  t.true(failed!.failed && failed!.completed === undefined && failed!.device.name === 'mem:b');
  t.deepEqual([trim!.operation, trim!.offset, trim!.length], ['trim', 0, 4096]);
  await fails(t, 'ENOMEM', () => one.write(new Uint8Array(8192), 0));
});

test('ZOW_FAULTS: rules find their disks and stack', async (t) => {
  const rules = parseFaults(
    'disks/a.img:error(op=read|trim,p=1,errno=ENXIO); b.img:delay(ms=1,op=write) ;disks/a.img:short(align=512);',
  );
  t.deepEqual(
    rules.map((rule) => rule.disk),
    ['disks/a.img', 'b.img', 'disks/a.img'],
  );
  const named = (name: string) => Object.defineProperty(disk(), 'name', { value: name }) as Device;
  const a = withFaults(named('/srv/disks/a.img'), rules);
  t.true(a instanceof ShortDevice && a.inner instanceof ErrorDevice);
  await fails(t, 'ENXIO', () => a.read(new Uint8Array(512), 0));
  t.is(await a.write(new Uint8Array(1024), 0), 512);
  t.true(withFaults(named('/srv/b.img'), rules) instanceof DelayDevice);
  t.true(withFaults(named('/srv/xdisks/a.img'), rules) instanceof MemoryDevice);
  t.true(withFaults(disk(), parseFaults('mem:a:volatile(lies=yes)')) instanceof VolatileDevice);
});

test('ZOW_FAULTS: what is not understood is named', (t) => {
  for (const [spec, message] of [
    ['a.img', /not of the form/],
    ['a.img:melt()', /no fault melt; there are error, delay, hang, short, volatile/],
    ['a.img:error(errno=EWRONG)', /errno=EWRONG is not one of/],
    ['a.img:error(op=reed)', /op=reed is not one of read, write/],
    ['a.img:error(p=often)', /p=often is not a number/],
    ['a.img:delay(mss=5)', /mss is not a parameter/],
    ['a.img:hang(op=read)', /hang is not possible without while=PATH/],
    ['a.img:volatile(op=read)', /op is not a parameter/],
  ] as const) {
    t.throws(() => parseFaults(spec), { message });
  }
});

const program = `
  import { openDevice } from ${JSON.stringify(new URL('../../../../host/devices/open.ts', import.meta.url).href)};
  const device = await openDevice(process.argv[1]);
  for await (const line of process.stdin) {
    const [what] = String(line).trim().split(' ');
    try {
      if (what === 'write') await device.write(new Uint8Array(4096).fill(1), 0);
      if (what === 'flush') await device.flush();
      process.stdout.write('done\\n');
    } catch (error) {
      process.stdout.write(error.code + '\\n');
    }
  }
`;

/** A process with the disk open under ZOW_FAULTS, doing as told. */
function client(t: ExecutionContext, disk: string, faults: string) {
  const child = spawn(process.execPath, ['--input-type=module', '-e', program, disk], {
    env: { ...process.env, ZOW_FAULTS: faults },
    stdio: ['pipe', 'pipe', 'inherit'],
  });
  t.teardown(() => {
    child.kill('SIGKILL');
  });
  return {
    async tell(what: string): Promise<string> {
      child.stdin.write(`${what}\n`);
      const [answer] = await once(child.stdout, 'data');
      return String(answer).trim();
    },
    async kill(): Promise<void> {
      child.kill('SIGKILL');
      await once(child, 'exit');
    },
  };
}

test('ZOW_FAULTS works in another process, with a file as the switch and SIGKILL as the power cut', async (t) => {
  const folder = scratch();
  const image = path.join(folder, 'a.img');
  const flag = path.join(folder, 'fail');
  createSparse(image, 1024 * 1024);
  const first = () => fs.readFileSync(image)[0];

  const switched = client(t, image, `a.img:volatile();a.img:error(op=write,while=${flag})`);
  t.is(await switched.tell('write'), 'done');
  fs.writeFileSync(flag, '');
  t.is(await switched.tell('write'), 'EIO');
  fs.rmSync(flag);
  t.is(await switched.tell('write'), 'done');
  await switched.kill();
  t.is(first(), 0, 'never flushed: lost');

  const liar = client(t, image, 'a.img:volatile(lies=yes)');
  t.is(await liar.tell('write'), 'done');
  t.is(await liar.tell('flush'), 'done');
  await liar.kill();
  t.is(first(), 0, 'flushed by a liar: lost');

  const honest = client(t, image, 'a.img:volatile()');
  t.is(await honest.tell('write'), 'done');
  t.is(await honest.tell('flush'), 'done');
  await honest.kill();
  t.is(first(), 1, 'flushed: there');
  fs.rmSync(folder, { recursive: true });
});
