import { Errno, ErrnoError } from '../errno.ts';
import type { Device, DeviceOpenOptions } from './device.ts';
import type { NbdDisk } from './nbd/disk.ts';

/** The folder that programs see remote disks in. Nothing is there: no path of this machine leads to them. */
export const REMOTE_FOLDER = '/dev/zow/';

/** The remote disks of a host, by name. */
export class RemoteDisks {
  readonly disks: readonly NbdDisk[];
  readonly #byPath: ReadonlyMap<string, NbdDisk>;

  constructor(disks: readonly NbdDisk[]) {
    this.disks = disks;
    this.#byPath = new Map(disks.map((disk) => [disk.name, disk]));
  }

  /** Begins to connect to all; resolves when each was tried once. */
  async start(): Promise<void> {
    await Promise.all(this.disks.map((disk) => disk.start()));
  }

  has(path: string): boolean {
    return this.#byPath.has(path);
  }

  /** What keeps a disk of that name away; undefined: nothing, or there is none. */
  whyAway(path: string): string | undefined {
    return this.#byPath.get(path)?.status.reason;
  }

  /** ENOENT where there is none of that name; ENXIO where it is not connected. */
  open(path: string, options: DeviceOpenOptions): Device {
    const disk = this.#byPath.get(path);
    if (disk !== undefined) return disk.open(options);
    throw new ErrnoError(Errno.ENOENT, `cannot open ${path}: the configuration has no such device`);
  }

  async close(): Promise<void> {
    await Promise.all(this.disks.map((disk) => disk.close()));
  }
}
