import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { basename, join } from 'node:path';
import { deserialize, serialize } from 'node:v8';
import { pino } from 'pino';
import { loadCore } from '../../host/core/load.ts';
import type { Device } from '../../host/devices/device.ts';
import { DelayDevice, FaultTrigger } from '../../host/devices/faulty/faults.ts';
import { Recorder } from '../../host/devices/faulty/record.ts';
import { VolatileDevice } from '../../host/devices/faulty/volatile.ts';
import { openDevice } from '../../host/devices/open.ts';
import { DeviceWrapper } from '../../host/devices/wrapper.ts';
import { ZowHost } from '../../host/zow.ts';
import { nativePrograms } from '../host/serve/native.ts';
import { Image } from './images.ts';
import { disksOf, failingOf, type LayoutName, layouts } from './layouts.ts';
import { Admin } from './pool.ts';
import type { Promises } from './promises.ts';
import { type Work, workload } from './workload.ts';

const MiB = 1024 ** 2;
export const diskBytes = 96 * MiB;

/** One change of a disk, or a flush of it; moments are those of Recorded (host/devices/faulty/record.ts). */
export interface DiskEvent {
  readonly disk: string;
  readonly operation: 'write' | 'flush' | 'trim' | 'writeZeroes';
  readonly offset: number;
  readonly length: number;
  readonly data: Uint8Array;
  readonly issued: number;
  readonly completed: number | undefined;
}

/** Everything that happened to a pool's disks from when they were blank, and what was promised meanwhile. */
export interface Recording {
  readonly layout: LayoutName;
  readonly seed: number;
  readonly diskBytes: number;
  readonly events: readonly DiskEvent[];
  readonly promises: Promises;
  /** The pool's configuration, packed, and of the encrypted layout its key. */
  readonly config: Uint8Array;
  readonly key: Uint8Array;
  /** Moments between which the power can be cut: the writers were at work. */
  readonly from: number;
  readonly to: number;
}

/**
 * Runs the writers against a pool on files that are written through a Recorder, below it a disk that is late with one
 * operation in four, so that there is something in flight. Checks that the record is complete.
 */
export async function record(
  layout: LayoutName,
  seed: number,
  work: Work,
  { silently = false }: RecordOptions = {},
): Promise<Recording> {
  const folder = mkdtempSync(join(tmpdir(), 'zow-record-'));
  try {
    return await recordIn(folder, layout, seed, work, silently);
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

/** A disk with a cache that a flush forgets a part of while `failing` says so; `silently`: and says that all is well. */
function forgetful(inner: Device, failing: () => boolean, silently: boolean): Device {
  const make = () => new VolatileDevice(inner, { flushFails: failing });
  return silently ? new SilentDevice(make) : make();
}

/** Tells nobody that a flush failed, as zio_flush() of upstream, and works on, as a disk after `zpool clear`. */
class SilentDevice extends DeviceWrapper {
  readonly #make: () => Device;
  #device: Device;

  constructor(make: () => Device) {
    const device = make();
    super(device);
    this.#make = make;
    this.#device = device;
  }

  override read(buffer: Uint8Array, offset: number) {
    return this.#device.read(buffer, offset);
  }

  override async write(buffer: Uint8Array, offset: number): Promise<number> {
    try {
      return await this.#device.write(buffer, offset);
    } catch {
      return this.#device.write(buffer, offset);
    }
  }

  override async flush(): Promise<void> {
    const device = this.#device;
    try {
      await device.flush();
    } catch {
      if (this.#device === device) this.#device = this.#make();
    }
  }

  override close() {
    return this.#device.close();
  }
}

async function recordIn(
  folder: string,
  name: LayoutName,
  seed: number,
  work: Work,
  silently: boolean,
): Promise<Recording> {
  const layout = layouts[name];
  const failing = failingOf(name);
  let broken = false;
  const recorder = new Recorder();
  const late = { probability: 0.25, seed, operations: ['write', 'flush', 'trim'] } as const;
  const vdevs = layout.vdevs.map((vdev) => (vdev.length === 1 ? `disks/${vdev}` : vdev));
  const tank = {
    vdevs,
    create: { size: String(diskBytes) },
    properties: { ashift: 12, autotrim: 'on', failmode: 'continue' },
  };
  const key = Buffer.alloc(32, seed + 1);
  mkdirSync(join(folder, 'disks'));
  writeFileSync(join(folder, 'key'), key);
  const host = await ZowHost.open(
    { socket: 'sock', memory: '256M', pools: { tank } },
    {
      directory: folder,
      programs: nativePrograms,
      log: pino({ level: 'silent' }),
      loadCore: (options) =>
        loadCore({
          ...options,
          openDevice: async (path, how) => {
            const disk = recorder.wrap(new DelayDevice(await openDevice(path, how), new FaultTrigger(late), 2));
            return failing?.disks.includes(basename(path)) === true ? forgetful(disk, () => broken, silently) : disk;
          },
        }),
    },
  );
  let made: Pick<Recording, 'promises' | 'config' | 'from' | 'to'>;
  try {
    if (layout.encrypted) {
      const encryption = ['encryption=on', 'keyformat=raw', `keylocation=file://${join(folder, 'key')}`];
      await run(host, 'zfs', 'create', ...encryption.flatMap((property) => ['-o', property]), layout.parent);
    }
    const admin = await Admin.open(host.core);
    const fault = failing && {
      ...failing,
      silently,
      breaks: (now: boolean) => {
        broken = now;
      },
    };
    const { end, ...promises } = await workload(host, layout.parent, seed, work, () => recorder.now(), fault);
    const config = await admin.config('tank');
    made = { ...promises, config };
    // A pool that is suspended has no other end: once its disk is back, it can be cleared and exported.
    if (failing?.cleared === false) {
      broken = false;
      if (!silently) await run(host, 'zpool', 'clear', 'tank');
    }
    await end();
  } finally {
    // One that cannot end keeps its process.
    await host.close().finally(() => host.core.close());
  }
  const events = eventsOf(recorder);
  for (const disk of disksOf(layout)) {
    const image = new Image(disk, diskBytes, events);
    image.advance(Number.POSITIVE_INFINITY);
    if (!readFileSync(join(folder, 'disks', disk)).equals(image.base))
      throw new Error(`the record of disk ${disk} is not complete`);
  }
  return { layout: name, seed, diskBytes, events, key, ...made };
}

export interface RecordOptions {
  /** Failed flushes are reported to nobody. */
  readonly silently?: boolean;
}

/** What a Recorder has seen, by the disks' file names. Throws when something failed. */
export function eventsOf(recorder: Recorder): DiskEvent[] {
  return recorder.events.map(({ device, operation, offset, length, data, issued, completed, failed }) => {
    if (failed) throw new Error(`${operation} of ${device.name} failed`);
    return { disk: basename(device.name), operation, offset, length, data, issued, completed };
  });
}

async function run(host: ZowHost, program: string, ...args: string[]): Promise<void> {
  const { code, stderr } = await host.run(program, args);
  if (code !== 0) throw new Error(`${program} ${args.join(' ')}: ${stderr}`);
}

export function save(recording: Recording, file: string): void {
  writeFileSync(file, serialize(recording));
}

export function load(file: string): Recording {
  return deserialize(readFileSync(file));
}
