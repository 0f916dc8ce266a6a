import { Errno, ErrnoError } from '../errno.ts';
import { Lendable } from '../lendable.ts';
import type { BufferPool, IoBuffer } from '../volumes/volume.ts';

class HeapBuffer extends Lendable implements IoBuffer {
  readonly bytes: Uint8Array;
  readonly #onFree: (size: number) => void;

  constructor(size: number, onFree: (size: number) => void) {
    super();
    // Not of Node's own pool, in which many small ones would keep one another.
    this.bytes = Buffer.allocUnsafeSlow(size);
    this.#onFree = onFree;
  }

  release(): void {
    this.end();
  }

  protected free(): void {
    this.#onFree(this.bytes.length);
  }
}

interface Waiter {
  readonly size: number;
  readonly grant: () => void;
}

/** Buffers on the heap of this process, bounded as the core's are: first come first served. */
export class HeapBuffers implements BufferPool {
  readonly limitBytes: number;
  readonly maxBytes: number;
  #usedBytes = 0;
  readonly #waiters = new Set<Waiter>();

  constructor(limitBytes: number, maxBytes: number) {
    this.limitBytes = limitBytes;
    this.maxBytes = maxBytes;
  }

  tryAcquire(size: number): IoBuffer | undefined {
    if (!Number.isInteger(size) || size <= 0 || size > this.maxBytes) {
      throw new ErrnoError(Errno.EINVAL, `buffer of ${size} bytes (1 to ${this.maxBytes})`);
    }
    if (this.#waiters.size > 0 || this.#usedBytes + size > this.limitBytes) return undefined;
    return this.#take(size);
  }

  async acquire(size: number, signal?: AbortSignal): Promise<IoBuffer> {
    signal?.throwIfAborted();
    const buffer = this.tryAcquire(size);
    if (buffer !== undefined) return buffer;
    return new Promise((resolve, reject) => {
      const abort = () => {
        this.#waiters.delete(waiter);
        reject(signal?.reason);
        this.#serve();
      };
      const waiter: Waiter = {
        size,
        grant: () => {
          signal?.removeEventListener('abort', abort);
          resolve(this.#take(size));
        },
      };
      this.#waiters.add(waiter);
      signal?.addEventListener('abort', abort, { once: true });
    });
  }

  #take(size: number): IoBuffer {
    this.#usedBytes += size;
    return new HeapBuffer(size, (freed) => {
      this.#usedBytes -= freed;
      this.#serve();
    });
  }

  #serve(): void {
    for (const waiter of this.#waiters) {
      if (this.#usedBytes + waiter.size > this.limitBytes) return;
      this.#waiters.delete(waiter);
      waiter.grant();
    }
  }
}
