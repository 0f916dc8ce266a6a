import { assert } from '../assert.ts';

const pageBytes = 65536;

/**
 * The module's memory: one SharedArrayBuffer of fixed size, so that views on it stay valid for ever, also while the
 * operating system reads into them. Addresses are unsigned 32-bit.
 */
export class Memory {
  readonly wasm: WebAssembly.Memory;
  readonly buffer: SharedArrayBuffer;
  readonly bytes: Buffer;
  readonly #data: DataView;

  /** `size` in bytes, rounded down to 64 KiB; at most 4 GiB. */
  constructor(size: number) {
    const pages = Math.floor(size / pageBytes);
    this.wasm = new WebAssembly.Memory({ initial: pages, maximum: pages, shared: true });
    this.buffer = this.wasm.buffer as SharedArrayBuffer;
    this.bytes = Buffer.from(this.buffer as unknown as ArrayBuffer);
    this.#data = new DataView(this.buffer);
  }

  /** A view of `length` bytes at `address`. Throws where they are not all memory: a shorter one would be a short I/O. */
  view(address: number, length: number): Buffer {
    const start = this.#checked(address, length);
    return this.bytes.subarray(start, start + (length >>> 0));
  }

  /** A copy of the bytes in memory of the host's own. */
  copy(address: number, length: number): Buffer {
    return Buffer.from(this.view(address, length));
  }

  /** UTF-8 text of `length` bytes. */
  text(address: number, length: number): string {
    const start = this.#checked(address, length);
    return this.bytes.toString('utf8', start, start + (length >>> 0));
  }

  /** UTF-8 text up to its NUL. */
  string(address: number): string {
    const start = this.#checked(address, 1);
    const end = this.bytes.indexOf(0, start);
    assert(end >= 0, `text at ${start} does not end in the module's memory`);
    return this.bytes.toString('utf8', start, end);
  }

  /** Where so many bytes begin; both are u32, which come as signed numbers. */
  #checked(address: number, length: number): number {
    const start = address >>> 0;
    const end = start + (length >>> 0);
    const holds = end <= this.bytes.length && (start > 0 || end === 0);
    if (!holds) assert(false, `${length >>> 0} bytes at ${start} are not in the module's memory`);
    return start;
  }

  u32(address: number): number {
    return this.#data.getUint32(address >>> 0, true);
  }

  setU8(address: number, value: number): void {
    this.#data.setUint8(address >>> 0, value);
  }

  setU16(address: number, value: number): void {
    this.#data.setUint16(address >>> 0, value, true);
  }

  setU32(address: number, value: number): void {
    this.#data.setUint32(address >>> 0, value, true);
  }

  setU64(address: number, value: bigint): void {
    this.#data.setBigUint64(address >>> 0, value, true);
  }

  setF64(address: number, value: number): void {
    this.#data.setFloat64(address >>> 0, value, true);
  }
}
