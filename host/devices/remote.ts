import { Errno, ErrnoError } from '../errno.ts';
import type { Device, DeviceOpenOptions } from './device.ts';
import type { NbdDisk } from './nbd/disk.ts';

/** The folder that programs see remote disks in. Nothing is there: no path of this machine leads to them. */
export const REMOTE_FOLDER = '/dev/zow/';

/** The remote disks of a host, by name. */
export class RemoteDisks {
  readonly #byPath = new Map<string, NbdDisk>();

  constructor(disks: readonly NbdDisk[]) {
    this.add(disks);
  }

  get disks(): readonly NbdDisk[] {
    return [...this.#byPath.values()];
  }

  /** Others, which were started. */
  add(disks: readonly NbdDisk[]): void {
    for (const disk of disks) this.#byPath.set(disk.name, disk);
  }

  /** Begins to connect to all; resolves when each was tried once. */
  async start(): Promise<void> {
    await Promise.all(this.disks.map((disk) => disk.start()));
  }

  /** As if they had never been added; they are not closed. */
  remove(disks: readonly NbdDisk[]): void {
    for (const disk of disks) this.#byPath.delete(disk.name);
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
