import { Errno, ErrnoError } from '../errno.ts';
import type { Device, DeviceOpenOptions, MaybePromise } from './device.ts';
import type { NbdDiskStatus } from './nbd/disk.ts';

/** The folder that programs see remote disks in. Nothing is there: no path of this machine leads to them. */
export const REMOTE_FOLDER = '/dev/zow/';

/** A disk that is not of this machine. */
export interface RemoteDisk {
  /** Its path for the programs. */
  readonly name: string;
  readonly status: NbdDiskStatus;
  /** Somebody has it open for writing, as far as is known. */
  readonly isWritten: boolean;
  /** Called whenever it can be opened that could not before. */
  onReady: () => void;
  /** Begins to connect; resolves when that was tried once. */
  start(): Promise<void>;
  /** ENXIO where it is away. */
  open(options: DeviceOpenOptions): MaybePromise<Device>;
  close(): Promise<void>;
}

/** Who opens what is below REMOTE_FOLDER. */
export interface RemoteOpener {
  open(path: string, options: DeviceOpenOptions): MaybePromise<Device>;
}

/** The remote disks of a host, by name. */
export class RemoteDisks<Disk extends RemoteDisk = RemoteDisk> implements RemoteOpener {
  readonly #byPath = new Map<string, Disk>();

  constructor(disks: readonly Disk[]) {
    this.add(disks);
  }

  get disks(): readonly Disk[] {
    return [...this.#byPath.values()];
  }

  /** Others, which were started. */
  add(disks: readonly Disk[]): void {
    for (const disk of disks) this.#byPath.set(disk.name, disk);
  }

  /** Begins to connect to all; resolves when each was tried once. */
  async start(): Promise<void> {
    await Promise.all(this.disks.map((disk) => disk.start()));
  }

  /** As if they had never been added; they are not closed. */
  remove(disks: readonly Disk[]): void {
    for (const disk of disks) this.#byPath.delete(disk.name);
  }

  has(path: string): boolean {
    return this.#byPath.has(path);
  }

  find(path: string): Disk | undefined {
    return this.#byPath.get(path);
  }

  /** What keeps a disk of that name away; undefined: nothing, or there is none. */
  whyAway(path: string): string | undefined {
    return this.#byPath.get(path)?.status.reason;
  }

  /** ENOENT where there is none of that name; ENXIO where it is not connected. */
  open(path: string, options: DeviceOpenOptions): MaybePromise<Device> {
    const disk = this.#byPath.get(path);
    if (disk !== undefined) return disk.open(options);
    throw noSuchDisk(path);
  }

  async close(): Promise<void> {
    await Promise.all(this.disks.map((disk) => disk.close()));
  }
}

export function noSuchDisk(path: string): ErrnoError {
  return new ErrnoError(Errno.ENOENT, `cannot open ${path}: the configuration has no such device`);
}
