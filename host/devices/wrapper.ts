import type { Device, DeviceCapabilities, MaybePromise } from './device.ts';

export const operations = ['read', 'write', 'flush', 'trim', 'writeZeroes'] as const;
export type Operation = (typeof operations)[number];

/** One operation on its way through a wrapper. A flush has the range 0, 0. */
export interface Call {
  readonly operation: Operation;
  readonly offset: number;
  readonly length: number;
}

/** Passes everything on to another device: the base of the wrappers, and one that changes nothing. */
export class DeviceWrapper implements Device {
  readonly inner: Device;

  constructor(inner: Device) {
    this.inner = inner;
  }

  /** What a wrapper does around every operation; this one only runs it. */
  protected around<T>(_call: Call, run: () => MaybePromise<T>): MaybePromise<T> {
    return run();
  }

  get name(): string {
    return this.inner.name;
  }

  get identity(): string {
    return this.inner.identity;
  }

  get capabilities(): DeviceCapabilities {
    return this.inner.capabilities;
  }

  get logicalSectorBytes(): number {
    return this.inner.logicalSectorBytes;
  }

  get physicalSectorBytes(): number {
    return this.inner.physicalSectorBytes;
  }

  isPresent(): MaybePromise<boolean> {
    return this.inner.isPresent();
  }

  size(): MaybePromise<number> {
    return this.inner.size();
  }

  read(buffer: Uint8Array, offset: number): MaybePromise<number> {
    const call: Call = { operation: 'read', offset, length: buffer.byteLength };
    return this.around(call, () => this.inner.read(buffer, offset));
  }

  write(buffer: Uint8Array, offset: number): MaybePromise<number> {
    const call: Call = { operation: 'write', offset, length: buffer.byteLength };
    return this.around(call, () => this.inner.write(buffer, offset));
  }

  flush(): MaybePromise<void> {
    return this.around({ operation: 'flush', offset: 0, length: 0 }, () => this.inner.flush());
  }

  trim(offset: number, length: number): MaybePromise<void> {
    return this.around({ operation: 'trim', offset, length }, () => this.inner.trim(offset, length));
  }

  writeZeroes(offset: number, length: number): MaybePromise<void> {
    return this.around({ operation: 'writeZeroes', offset, length }, () => this.inner.writeZeroes(offset, length));
  }

  close(): MaybePromise<void> {
    return this.inner.close();
  }
}
