import type { Device, DeviceCapabilities, DeviceOpenOptions } from './device.ts';
import { checkOffset, checkWithin, closedError, readOnlyError, roomForWrite } from './range.ts';

/**
 * A disk in memory: the reference the other backends are compared with. It always answers at once, and never falls
 * back on short transfers but at its end. The content is the caller's array, so that it outlives a close.
 */
export class MemoryDevice implements Device {
  readonly name: string;
  readonly identity: string;
  readonly capabilities: DeviceCapabilities;
  readonly logicalSectorBytes = 512;
  readonly physicalSectorBytes = 4096;
  readonly #content: Uint8Array;
  #closed = false;

  constructor(name: string, content: Uint8Array, options: DeviceOpenOptions = {}) {
    this.name = `mem:${name}`;
    this.identity = this.name;
    this.#content = content;
    this.capabilities = {
      readOnly: options.readOnly ?? false,
      trim: true,
      writeZeroes: true,
      durable: false,
      nonRotational: true,
    };
  }

  isPresent(): boolean {
    return true;
  }

  size(): number {
    this.#open();
    return this.#content.byteLength;
  }

  read(buffer: Uint8Array, offset: number): number {
    this.#open();
    checkOffset(this.name, offset, buffer.byteLength);
    const part = this.#content.subarray(offset, offset + buffer.byteLength);
    buffer.set(part);
    return part.byteLength;
  }

  write(buffer: Uint8Array, offset: number): number {
    this.#writable();
    checkOffset(this.name, offset, buffer.byteLength);
    const length = roomForWrite(this.name, offset, buffer.byteLength, this.#content.byteLength);
    if (length > 0) this.#content.set(buffer.subarray(0, length), offset);
    return length;
  }

  flush(): void {
    this.#open();
  }

  trim(offset: number, length: number): void {
    this.writeZeroes(offset, length);
  }

  writeZeroes(offset: number, length: number): void {
    this.#writable();
    checkWithin(this.name, offset, length, this.#content.byteLength);
    this.#content.fill(0, offset, offset + length);
  }

  close(): void {
    this.#closed = true;
  }

  #open(): void {
    if (this.#closed) throw closedError(this.name);
  }

  #writable(): void {
    this.#open();
    if (this.capabilities.readOnly) throw readOnlyError(this.name);
  }
}
