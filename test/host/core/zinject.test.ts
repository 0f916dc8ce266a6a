import { setTimeout as sleep } from 'node:timers/promises';
import test from 'ava';
import type { Device, MaybePromise } from '../../../host/devices/device.ts';
import { DeviceWrapper } from '../../../host/devices/wrapper.ts';
import { decodeNativeNvlist } from '../../../host/nvlist/native.ts';
import { cmdFields, TestCore, type TestSession } from './fixture.ts';

/** zinject's ioctl beside what others do to the pool (wasm/core/mended/checked.c). */

const flag = { none: 1, flushArc: 2, calcRange: 8 } as const;

/** Which read of a disk waits, counted from `arm()`, and until when. */
class Gate {
  #nth = -1;
  #held = Promise.withResolvers<void>();
  #open = Promise.withResolvers<void>();

  arm(nth: number): void {
    this.#nth = nth;
    this.#held = Promise.withResolvers();
    this.#open = Promise.withResolvers();
  }

  get held(): Promise<void> {
    return this.#held.promise;
  }

  open(): void {
    this.#nth = -1;
    this.#open.resolve();
  }

  pass<T>(run: () => MaybePromise<T>): MaybePromise<T> {
    if (this.#nth < 0 || this.#nth-- > 0) return run();
    this.#held.resolve();
    return this.#open.promise.then(run);
  }
}

class GatedDevice extends DeviceWrapper {
  readonly #gate: Gate;

  constructor(inner: Device, gate: Gate) {
    super(inner);
    this.#gate = gate;
  }

  override read(buffer: Uint8Array, offset: number): MaybePromise<number> {
    return this.#gate.pass(() => this.inner.read(buffer, offset));
  }
}

/** zinject_record_t, of an object's first MiB. */
function record(objset: bigint, object: bigint): Buffer {
  const bytes = Buffer.alloc(368);
  bytes.writeBigUInt64LE(objset, 0);
  bytes.writeBigUInt64LE(object, 8);
  bytes.writeBigUInt64LE(1n << 20n, 24);
  bytes.writeUInt32LE(1, 344);
  return bytes;
}

async function objsetId(session: TestSession, name: string): Promise<bigint> {
  const { dst } = await session.must('OBJSET_STATS', { cmd: { name }, dstRoom: 65536 });
  const bytes = Buffer.from(dst);
  return bytes.readBigUInt64LE(bytes.indexOf('value\0', bytes.indexOf('objsetid\0')) + 8);
}

/** Out of memory, and in again. */
async function reimport(session: TestSession): Promise<void> {
  const { dst } = await session.must('POOL_STATS', { cmd: { name: 'tank' }, dstRoom: 1 << 17 });
  const guid = decodeNativeNvlist(Buffer.from(dst)).pairs.find(({ name }) => name === 'pool_guid')!.value as bigint;
  await session.must('POOL_EXPORT', { cmd: { name: 'tank' } });
  await session.must('POOL_IMPORT', { cmd: { name: 'tank', guid }, conf: Buffer.from(dst), dstRoom: 1 << 17 });
}

test('a snapshot is not destroyed while zinject reads it: what it holds lasts until the range is known', async (t) => {
  const gate = new Gate();
  const core = await TestCore.load({ wrap: (device) => new GatedDevice(device, gate) });
  const session = await core.open();
  await core.createPool(session);
  const inject = (objset: bigint, flags: number) =>
    session.ioctl('INJECT_FAULT', { cmd: { name: 'tank', injectRecord: record(objset, 1n), guid: flags } });
  let reads = 0;
  for (let isOver = false; !isOver; reads++) {
    const snaps = { 'tank@s': true } as const;
    await session.must('SNAPSHOT', { cmd: { name: 'tank' }, src: { snaps }, dstRoom: 4096 });
    const objset = await objsetId(session, 'tank@s');
    await reimport(session);
    t.is((await inject(0n, flag.none | flag.flushArc)).errno, 0);
    gate.arm(reads);
    const order: string[] = [];
    const injected = inject(objset, flag.none | flag.calcRange).then(({ errno, cmd }) => {
      order.push('injected');
      t.is(errno, 0, `read ${reads}`);
      t.is(Buffer.from(cmd).readBigUInt64LE(cmdFields.injectRecord[0] + 16), 0n);
    });
    await Promise.race([gate.held, injected]);
    isOver = order.length > 0;
    const destroyed = session
      .must('DESTROY_SNAPS', { cmd: { name: 'tank' }, src: { snaps }, dstRoom: 4096 })
      .then(() => order.push('destroyed'));
    // Longer than it takes where nobody holds the snapshot.
    await Promise.race([destroyed, sleep(1000)]);
    gate.open();
    await Promise.all([injected, destroyed]);
    t.deepEqual(order, ['injected', 'destroyed'], `when read ${reads} waits`);
  }
  t.true(reads > 2, `${reads} reads: what zinject looks at was in memory`);
  await core.core.close();
});
