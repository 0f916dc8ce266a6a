import { type Device, isPending, type MaybePromise } from './device.ts';
import { DeviceWrapper } from './wrapper.ts';

interface Dropped {
  readonly offset: number;
  readonly data: Uint8Array;
}

/**
 * A disk that is not changed any more: what is written is only remembered, for reads, until it is closed. A pool that must
 * not write to its disks, because one of them has lost data, can so be taken down in an orderly way.
 */
export class DroppedDevice extends DeviceWrapper {
  /** Oldest first. */
  readonly #writes: Dropped[] = [];

  override async read(buffer: Uint8Array, offset: number): Promise<number> {
    const result = this.inner.read(buffer, offset);
    const length = isPending(result) ? await result : result;
    for (const { offset: at, data } of this.#writes) {
      const from = Math.max(offset, at);
      const to = Math.min(offset + length, at + data.byteLength);
      if (from < to) buffer.set(data.subarray(from - at, to - at), from - offset);
    }
    return length;
  }

  override write(buffer: Uint8Array, offset: number): number {
    this.#writes.push({ offset, data: Uint8Array.from(buffer) });
    return buffer.byteLength;
  }

  override flush(): void {}

  override trim(): void {}

  override writeZeroes(offset: number, length: number): void {
    this.#writes.push({ offset, data: new Uint8Array(length) });
  }

  override close(): MaybePromise<void> {
    this.#writes.length = 0;
    return this.inner.close();
  }
}

/** The same disk, whose content stays as it is now. What is under way is not stopped. */
export function drop(device: Device): Device {
  return device instanceof DroppedDevice ? device : new DroppedDevice(device);
}
