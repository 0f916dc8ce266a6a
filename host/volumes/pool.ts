import { assert } from '../assert.ts';
import { Errno, ErrnoError } from '../errno.ts';
import { Lendable } from '../lendable.ts';
import type { BufferPool, IoBuffer } from './volume.ts';

/** Where the memory comes from: malloc and free of the WebAssembly core. */
export interface Allocator {
  readonly memory: SharedArrayBuffer;
  /** Address of `size` bytes, 0 when there is no memory. */
  alloc(size: number): number;
  free(address: number): void;
}

export interface PoolOptions {
  readonly allocator: Allocator;
  /** Bytes all buffers together may have, kept ones included. */
  readonly limitBytes: number;
  /** Largest single buffer in bytes; at most (and by default) `limitBytes`. */
  readonly maxBytes?: number;
  /** How long `acquire` waits for an allocator that has no memory while nobody can give any back, milliseconds. */
  readonly patienceMs?: number;
}

/** Allocated memory: lives longer than the lease on it when it is kept for the next request of the same size. */
interface Block {
  readonly address: number;
  readonly view: Buffer;
}

/** How often an allocator without memory is asked again, milliseconds: the ARC shrinks, which nobody tells. */
const retryMs = 5;

interface Waiter {
  readonly size: number;
  /** performance.now() */
  readonly since: number;
  readonly grant: (buffer: IoBuffer) => void;
  readonly refuse: (reason: unknown) => void;
}

class Lease extends Lendable implements IoBuffer {
  readonly #pool: Pool;
  readonly #block: Block;

  constructor(pool: Pool, block: Block) {
    super();
    this.#pool = pool;
    this.#block = block;
  }

  get bytes(): Uint8Array {
    assert(!this.ended, 'a buffer is used after its release');
    return this.#block.view;
  }

  release(): void {
    this.end();
  }

  protected free(): void {
    this.#pool.reclaim(this.#block);
  }
}

/**
 * The memory of all volume frontends together: never more than `limitBytes`, first come first served.
 *
 *   tryAcquire ─┬─ a kept block of that size ──┐            released and ┌─ the first waiters
 *               ├─ alloc ──────────────────────┼─→ Lease ────────────────┼─ kept, up to an eighth of the limit
 *   acquire ────┴─ waiters (FIFO) ─────────────┘            not lent      └─ free
 *
 * Blocks are kept by exact size: clients repeat a few sizes, and making a view costs more than the rest of a request.
 */
export class Pool implements BufferPool {
  readonly maxBytes: number;
  readonly limitBytes: number;
  readonly #allocator: Allocator;
  readonly #keepBytes: number;
  readonly #patienceMs: number;
  readonly #kept = new Map<number, Block[]>();
  #keptBytes = 0;
  #leasedBytes = 0;
  #leases = 0;
  // FIFO: a Map keeps insertion order and forgets an aborted waiter in constant time.
  readonly #waiters = new Map<number, Waiter>();
  #nextWaiter = 0;
  #retry: NodeJS.Timeout | undefined;
  #ended: Error | undefined;

  constructor(options: PoolOptions) {
    this.#allocator = options.allocator;
    this.limitBytes = options.limitBytes;
    this.maxBytes = Math.min(options.maxBytes ?? options.limitBytes, options.limitBytes);
    this.#keepBytes = Math.floor(options.limitBytes / 8);
    this.#patienceMs = options.patienceMs ?? 20_000;
  }

  /** Bytes in buffers that are not released yet. */
  get leasedBytes(): number {
    return this.#leasedBytes;
  }

  /** Buffers that are not released yet. */
  get leases(): number {
    return this.#leases;
  }

  /** How many `acquire` calls wait for memory. */
  get waiting(): number {
    return this.#waiters.size;
  }

  /** @throws ErrnoError EINVAL when no buffer can ever have that size. */
  tryAcquire(size: number): IoBuffer | undefined {
    this.#check(size);
    if (this.#waiters.size > 0) return undefined;
    return this.#take(size);
  }

  /** Rejects with the signal's reason when aborted, with EINVAL as tryAcquire, with ENOMEM when waiting does not help. */
  async acquire(size: number, signal?: AbortSignal): Promise<IoBuffer> {
    signal?.throwIfAborted();
    const buffer = this.tryAcquire(size);
    if (buffer !== undefined) return buffer;
    const { promise, resolve, reject } = Promise.withResolvers<IoBuffer>();
    const id = this.#nextWaiter++;
    const abort = () => {
      this.#waiters.delete(id);
      reject(signal?.reason);
      this.#serve(); // who waited behind this one may fit now
    };
    const settle = () => signal?.removeEventListener('abort', abort);
    this.#waiters.set(id, {
      size,
      since: performance.now(),
      grant: (granted) => {
        settle();
        resolve(granted);
      },
      refuse: (reason) => {
        settle();
        reject(reason);
      },
    });
    signal?.addEventListener('abort', abort, { once: true });
    return promise;
  }

  /** Frees what is kept; buffers in use are freed as they are released. */
  trim(): void {
    for (const blocks of this.#kept.values()) for (const block of blocks) this.#allocator.free(block.address);
    this.#kept.clear();
    this.#keptBytes = 0;
  }

  /** The memory is gone: nobody gets any of it, and what comes back is forgotten. */
  end(error: Error): void {
    this.#ended ??= error;
    clearInterval(this.#retry);
    this.#kept.clear();
    this.#keptBytes = 0;
    const waiters = [...this.#waiters.values()];
    this.#waiters.clear();
    for (const waiter of waiters) waiter.refuse(error);
  }

  /** A lease's way back. */
  reclaim(block: Block): void {
    const size = block.view.length;
    this.#leases--;
    this.#leasedBytes -= size;
    assert(this.#leases >= 0 && this.#leasedBytes >= 0, 'the books of the buffer pool do not balance');
    if (this.#ended !== undefined) return;
    if (this.#keptBytes + size <= this.#keepBytes) {
      const blocks = this.#kept.get(size);
      if (blocks === undefined) this.#kept.set(size, [block]);
      else blocks.push(block);
      this.#keptBytes += size;
    } else {
      this.#allocator.free(block.address);
    }
    if (this.#waiters.size > 0) this.#serve();
  }

  #check(size: number): void {
    if (this.#ended !== undefined) throw this.#ended;
    if (!Number.isInteger(size) || size <= 0 || size > this.maxBytes) {
      throw new ErrnoError(Errno.EINVAL, `buffer of ${size} bytes (1 to ${this.maxBytes})`);
    }
  }

  #take(size: number): IoBuffer | undefined {
    const kept = this.#kept.get(size)?.pop();
    if (kept !== undefined) {
      this.#keptBytes -= size;
      return this.#lease(kept);
    }
    if (this.#leasedBytes + size > this.limitBytes) return undefined;
    if (this.#leasedBytes + this.#keptBytes + size > this.limitBytes) this.trim();
    let address = this.#allocator.alloc(size);
    if (address === 0 && this.#keptBytes > 0) {
      this.trim();
      address = this.#allocator.alloc(size);
    }
    if (address === 0) {
      this.#retry ??= setInterval(() => this.#serve(), retryMs);
      return undefined;
    }
    return this.#lease({ address, view: Buffer.from(this.#allocator.memory, address, size) });
  }

  #lease(block: Block): IoBuffer {
    this.#leases++;
    this.#leasedBytes += block.view.length;
    return new Lease(this, block);
  }

  #serve(): void {
    for (const [id, waiter] of this.#waiters) {
      const buffer = this.#take(waiter.size);
      if (buffer === undefined) {
        // Strictly in turn: a large request is not overtaken for ever.
        if (this.#leases > 0 || performance.now() - waiter.since < this.#patienceMs) return;
        this.#waiters.delete(id);
        waiter.refuse(new ErrnoError(Errno.ENOMEM, `buffer of ${waiter.size} bytes`));
        continue;
      }
      this.#waiters.delete(id);
      waiter.grant(buffer);
    }
    clearInterval(this.#retry);
    this.#retry = undefined;
  }
}
