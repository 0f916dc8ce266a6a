import { Errno, ErrnoError } from '../errno.ts';
import type { BufferPool, VolumeHandle, VolumeInfo } from './volume.ts';

/**
 * An open volume for programs: reads and writes of any size at any byte offset, on ordinary memory. Frontends use
 * VolumeHandle, which copies nothing.
 */
export class Volume implements AsyncDisposable {
  readonly #handle: VolumeHandle;
  readonly #buffers: BufferPool;

  constructor(handle: VolumeHandle, buffers: BufferPool) {
    this.#handle = handle;
    this.#buffers = buffers;
  }

  get info(): VolumeInfo {
    return this.#handle.info;
  }

  /** The bytes from `offset`; rejects with ErrnoError EINVAL when they are not all within the volume. */
  async read(offset: number, length: number): Promise<Uint8Array> {
    this.#check(offset, length);
    const result = new Uint8Array(length);
    for (let done = 0; done < length; done += this.#buffers.maxBytes) {
      const piece = result.subarray(done, done + this.#buffers.maxBytes);
      const buffer = await this.#buffers.acquire(piece.length);
      try {
        await this.#handle.read(offset + done, buffer);
        piece.set(buffer.bytes);
      } finally {
        buffer.release();
      }
    }
    return result;
  }

  /** Writes all of `data` at `offset`; durable when it resolves with `fua`, else after the next flush. */
  async write(offset: number, data: Uint8Array, { fua = false }: { fua?: boolean } = {}): Promise<void> {
    this.#check(offset, data.length);
    for (let done = 0; done < data.length; done += this.#buffers.maxBytes) {
      const piece = data.subarray(done, done + this.#buffers.maxBytes);
      const buffer = await this.#buffers.acquire(piece.length);
      try {
        buffer.bytes.set(piece);
        await this.#handle.write(offset + done, buffer, { fua });
      } finally {
        buffer.release();
      }
    }
  }

  /** Every write acknowledged before, by anyone, is durable when it resolves. */
  flush(): Promise<void> {
    return this.#handle.flush();
  }

  /** Frees the whole blocks within the range; they read as zeroes afterwards. */
  trim(offset: number, length: number): Promise<void> {
    return this.#handle.trim(offset, length, { fua: false });
  }

  close(): Promise<void> {
    return this.#handle.close();
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }

  #check(offset: number, length: number): void {
    const { name, size } = this.info;
    const valid = Number.isSafeInteger(offset) && Number.isSafeInteger(length) && offset >= 0 && length >= 0;
    if (valid && offset + length <= size) return;
    throw new ErrnoError(Errno.EINVAL, `${length} bytes at ${offset} are not within ${name} of ${size} bytes`);
  }
}
