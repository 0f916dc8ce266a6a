import { assert } from '../assert.ts';
import { Errno, ErrnoError } from '../errno.ts';
import { Lendable } from '../lendable.ts';
import type { BufferPool, IoBuffer } from './volume.ts';

interface Waiter {
  readonly size: number;
  readonly holdsMore: () => boolean;
  readonly admit: () => void;
}

const holdsNothing = () => false;

/** Lent by itself: the pool's buffer is released when nobody uses this one. */
class SharedBuffer extends Lendable implements IoBuffer {
  readonly #share: Share;
  readonly #buffer: IoBuffer;
  readonly #size: number;

  constructor(share: Share, buffer: IoBuffer, size: number) {
    super();
    this.#share = share;
    this.#buffer = buffer;
    this.#size = size;
  }

  get bytes(): Uint8Array {
    assert(!this.ended, 'a buffer is used after its release');
    return this.#buffer.bytes;
  }

  release(): void {
    this.end();
  }

  protected free(): void {
    this.#buffer.release();
    this.#share.reclaim(this.#size);
  }
}

/**
 * A part of a buffer pool: who uses it leaves the rest to others, whatever becomes of its own requests. Frontends take
 * one for each zpool, so that one which is suspended, and keeps the buffers of all its requests, does not stop the rest.
 *
 * A request first waits for room in the share, in turn, then in the pool. A quarter of the share is kept for users that
 * hold nothing yet: some who never give back what they have may slow the others down, but not stop them. A user that is
 * refused for holding something is not in the way of those who hold nothing.
 */
export class Share implements BufferPool {
  readonly maxBytes: number;
  readonly limitBytes: number;
  readonly #pool: BufferPool;
  /** What users that hold something already can fill. */
  readonly #commonBytes: number;
  /** In use, or promised to a request that waits in the pool. */
  #takenBytes = 0;
  #waitingInPool = 0;
  readonly #waiters = new Map<number, Waiter>();
  #nextWaiter = 0;

  constructor(pool: BufferPool, limitBytes: number) {
    this.#pool = pool;
    this.limitBytes = limitBytes;
    this.maxBytes = Math.min(pool.maxBytes, limitBytes);
    this.#commonBytes = limitBytes - (limitBytes >> 2);
  }

  /** Requests that wait for the share's own users. */
  get waiting(): number {
    return this.#waiters.size;
  }

  /** Requests that have room in the share and wait for other users of the pool. */
  get waitingInPool(): number {
    return this.#waitingInPool;
  }

  tryAcquire(size: number, holdsMore = false): IoBuffer | undefined {
    if (this.#waiters.size > 0 || !this.#fits(size, holdsMore)) return undefined;
    const buffer = this.#pool.tryAcquire(size);
    if (buffer === undefined) return undefined;
    this.#takenBytes += size;
    return new SharedBuffer(this, buffer, size);
  }

  async acquire(size: number, signal?: AbortSignal, holdsMore = holdsNothing): Promise<IoBuffer> {
    signal?.throwIfAborted();
    const buffer = this.tryAcquire(size, holdsMore());
    if (buffer !== undefined) return buffer;
    if (size > this.maxBytes) throw new ErrnoError(Errno.EINVAL, `buffer of ${size} bytes (at most ${this.maxBytes})`);
    await this.#room(size, signal, holdsMore);
    this.#waitingInPool++;
    try {
      return new SharedBuffer(this, await this.#pool.acquire(size, signal), size);
    } catch (error) {
      this.reclaim(size);
      throw error;
    } finally {
      this.#waitingInPool--;
    }
  }

  /** A buffer's way back. */
  reclaim(size: number): void {
    this.#takenBytes -= size;
    assert(this.#takenBytes >= 0, 'the books of a share do not balance');
    this.#admit();
  }

  #fits(size: number, holdsMore: boolean): boolean {
    return this.#takenBytes + size <= (holdsMore ? this.#commonBytes : this.limitBytes);
  }

  /** Waits until `size` bytes fit in the share, and takes them. */
  #room(size: number, signal: AbortSignal | undefined, holdsMore: () => boolean): Promise<void> {
    const { promise, resolve, reject } = Promise.withResolvers<void>();
    const id = this.#nextWaiter++;
    const abort = () => {
      this.#waiters.delete(id);
      reject(signal?.reason);
      this.#admit();
    };
    const admit = () => {
      signal?.removeEventListener('abort', abort);
      resolve();
    };
    this.#waiters.set(id, { size, holdsMore, admit });
    signal?.addEventListener('abort', abort, { once: true });
    this.#admit();
    return promise;
  }

  #admit(): void {
    for (const [id, waiter] of this.#waiters) {
      const holdsMore = waiter.holdsMore();
      if (!this.#fits(waiter.size, holdsMore)) {
        if (holdsMore) continue;
        return;
      }
      this.#waiters.delete(id);
      this.#takenBytes += waiter.size;
      waiter.admit();
    }
  }
}
