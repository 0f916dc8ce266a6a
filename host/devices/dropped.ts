import { type Device, isPending } from './device.ts';
import { DeviceWrapper } from './wrapper.ts';

/** What was written to a disk that is not changed any more, oldest first. */
export type Remembered = { readonly offset: number; readonly data: Uint8Array }[];

/**
 * A disk that is not changed any more: what is written is only remembered, for reads. A pool that must not write to its disks,
 * because one of them has lost data, can so be taken down in an orderly way. `remembered` is its caller's, for the disk may go,
 * be opened anew, and must not have forgotten then what the pool is built on.
 */
export class DroppedDevice extends DeviceWrapper {
  readonly #remembered: Remembered;

  constructor(inner: Device, remembered: Remembered) {
    super(inner);
    this.#remembered = remembered;
  }

  override async read(buffer: Uint8Array, offset: number): Promise<number> {
    const result = this.inner.read(buffer, offset);
    const length = isPending(result) ? await result : result;
    for (const { offset: at, data } of this.#remembered) {
      const from = Math.max(offset, at);
      const to = Math.min(offset + length, at + data.byteLength);
      if (from < to) buffer.set(data.subarray(from - at, to - at), from - offset);
    }
    return length;
  }

  override write(buffer: Uint8Array, offset: number): number {
    this.#remembered.push({ offset, data: Uint8Array.from(buffer) });
    return buffer.byteLength;
  }

  override flush(): void {}

  override trim(): void {}

  override writeZeroes(offset: number, length: number): void {
    this.#remembered.push({ offset, data: new Uint8Array(length) });
  }
}

/** What the disks of pools that left remember, by a pool's number and a disk's path. */
export class DroppedPools {
  readonly #pools = new Map<number, Map<string, Remembered>>();

  /** The same disk, whose content stays as it is now. What is under way is not stopped. */
  drop(device: Device, pool: number): Device {
    if (device instanceof DroppedDevice) return device;
    const disks = this.#pools.get(pool) ?? new Map<string, Remembered>();
    this.#pools.set(pool, disks);
    const remembered = disks.get(device.name) ?? [];
    disks.set(device.name, remembered);
    return new DroppedDevice(device, remembered);
  }

  forget(pool: number): void {
    this.#pools.delete(pool);
  }
}
