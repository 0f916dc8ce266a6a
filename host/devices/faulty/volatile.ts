import { Errno, ErrnoError } from '../../errno.ts';
import type { Device, MaybePromise } from '../device.ts';
import { checkOffset, checkWithin, closedError, readOnlyError, roomForWrite, unsupportedError } from '../range.ts';
import { DeviceWrapper } from '../wrapper.ts';
import { seededRandom } from './faults.ts';
import { InFlight } from './inflight.ts';

/**
 * A disk with a volatile write cache, and a power switch.
 *
 * Model: a write is acknowledged when it is in the cache, and reads see it there. A flush moves what the cache held when
 * it was called to the inner disk and flushes that. `crash` is a power cut: of the writes in the cache a random subset
 * reaches the inner disk, in the order they were made, whole or (`torn`) sector by sector; the rest is gone. With
 * `liesAboutFlush` a flush is acknowledged and does nothing. A full cache evicts its oldest writes, unflushed, to the
 * inner disk. writeZeroes is a write; trim goes straight through, the worst that it may do. A flush that `flushFails` says
 * fails, fails as Linux's: of what the cache held a random part reaches the disk, the rest is forgotten, also for reads.
 *
 * In a process of its own, SIGKILL is the power cut that loses the whole cache.
 */
export interface VolatileOptions {
  readonly liesAboutFlush?: boolean;
  /** Asked at each flush. */
  readonly flushFails?: () => boolean;
  /** Chance of each write to reach the disk all the same when a flush fails. Default 0.5. */
  readonly keptByFailure?: number;
  /** Default 64 MiB. */
  readonly cacheBytesMax?: number;
}

export interface CrashOptions {
  readonly seed?: number;
  /** Chance of each write, or sector, to have reached the disk. Default 0.5. */
  readonly keep?: number;
  /** Sectors of a write are kept or lost one by one. */
  readonly torn?: boolean;
}

interface CachedWrite {
  readonly offset: number;
  readonly data: Uint8Array;
}

const zeroes = new Uint8Array(1024 * 1024);

export class VolatileDevice extends DeviceWrapper {
  readonly #lies: boolean;
  readonly #flushFails: () => boolean;
  readonly #keptByFailure: number;
  readonly #random = seededRandom(1);
  readonly #cacheBytesMax: number;
  /** Oldest first. */
  #cache: CachedWrite[] = [];
  #cacheBytes = 0;
  /** The cache empties in order, so one after the other. */
  #emptying: Promise<void> = Promise.resolve();
  #flushFailure: unknown;
  readonly #inFlight = new InFlight();
  #state: 'on' | 'closed' | 'crashed' = 'on';

  constructor(inner: Device, options: VolatileOptions = {}) {
    super(inner);
    this.#lies = options.liesAboutFlush ?? false;
    this.#flushFails = options.flushFails ?? (() => false);
    this.#keptByFailure = options.keptByFailure ?? 0.5;
    this.#cacheBytesMax = options.cacheBytesMax ?? 64 * 1024 * 1024;
  }

  override read(buffer: Uint8Array, offset: number): Promise<number> {
    this.#on();
    return this.#inFlight.track(this.#read(buffer, offset));
  }

  async #read(buffer: Uint8Array, offset: number): Promise<number> {
    // Taken before the read below: what is evicted meanwhile may not have been in it yet.
    const newer = this.#cache.filter((write) => overlaps(write, offset, buffer.byteLength));
    const done = await this.inner.read(buffer, offset);
    for (const write of newer) {
      const from = Math.max(offset, write.offset);
      const to = Math.min(offset + done, write.offset + write.data.byteLength);
      if (from < to) buffer.set(write.data.subarray(from - write.offset, to - write.offset), from - offset);
    }
    return done;
  }

  override write(buffer: Uint8Array, offset: number): Promise<number> {
    this.#writable();
    this.#unlessFailed();
    checkOffset(this.name, offset, buffer.byteLength);
    return this.#inFlight.track(this.#write(buffer, offset));
  }

  async #write(buffer: Uint8Array, offset: number): Promise<number> {
    const length = roomForWrite(this.name, offset, buffer.byteLength, await this.inner.size());
    if (this.#state === 'crashed') throw powerLost(this.name);
    this.#unlessFailed();
    // A Buffer's own slice() would be a view on memory that the caller takes back.
    this.#remember({ offset, data: Uint8Array.prototype.slice.call(buffer, 0, length) });
    if (this.#cacheBytes > this.#cacheBytesMax) await this.#empty(this.#cache[this.#cache.length >> 1]);
    return length;
  }

  override writeZeroes(offset: number, length: number): Promise<void> {
    this.#writable();
    this.#unlessFailed();
    if (!this.capabilities.writeZeroes) throw unsupportedError(this.name, 'writeZeroes');
    return this.#inFlight.track(this.#writeZeroes(offset, length));
  }

  async #writeZeroes(offset: number, length: number): Promise<void> {
    checkWithin(this.name, offset, length, await this.inner.size());
    for (let done = 0; done < length; done += zeroes.byteLength) {
      this.#remember({ offset: offset + done, data: zeroes.subarray(0, length - done) });
    }
  }

  override flush(): MaybePromise<void> {
    this.#on();
    if (this.#lies) return undefined;
    this.#unlessFailed();
    return this.#inFlight.track(this.#flush());
  }

  async #flush(): Promise<void> {
    try {
      if (this.#flushFails()) await this.#forget();
      await this.#empty(this.#cache.at(-1));
      await this.inner.flush();
      if (this.#state === 'crashed') throw powerLost(this.name);
      // Of another that was under way: it may have been about what this one was asked for.
      this.#unlessFailed();
    } catch (error) {
      this.#flushFailure ??= error;
      throw error;
    }
  }

  async #forget(): Promise<never> {
    this.#flushFailure ??= new ErrnoError(Errno.EIO, `${this.name}: injected fault: flush`);
    await this.#emptying;
    const forgotten = this.#cache;
    this.#cache = [];
    this.#cacheBytes = 0;
    for (const write of forgotten) if (this.#random() < this.#keptByFailure) await writeAll(this.inner, write);
    throw this.#flushFailure;
  }

  #unlessFailed(): void {
    if (this.#flushFailure !== undefined) throw this.#flushFailure;
  }

  /** An orderly end: like a disk that is shut down, it writes its cache first, even when it lies. */
  override async close(): Promise<void> {
    if (this.#state === 'closed') return;
    const crashed = this.#state === 'crashed';
    this.#state = 'closed';
    await this.#inFlight.settled();
    if (!crashed) await this.#empty(this.#cache.at(-1));
    await this.inner.close();
  }

  /** Cuts the power. Everything fails with ENXIO from here on; `inner` stays open, with what survived. */
  async crash(options: CrashOptions = {}): Promise<void> {
    this.#state = 'crashed';
    await this.#emptying;
    const random = seededRandom(options.seed ?? 1);
    const keep = options.keep ?? 0.5;
    for (const write of this.#cache) {
      const unit = options.torn === true ? this.logicalSectorBytes : write.data.byteLength;
      for (const part of sectors(write, unit)) {
        if (random() < keep) await writeAll(this.inner, part);
      }
    }
    this.#cache = [];
  }

  #remember(write: CachedWrite): void {
    if (write.data.byteLength === 0) return;
    this.#cache.push(write);
    this.#cacheBytes += write.data.byteLength;
  }

  /** Writes the cache to the inner disk, oldest first, up to and with `last`. */
  #empty(last: CachedWrite | undefined): Promise<void> {
    const turn = this.#emptying.then(async () => {
      while (last !== undefined && this.#cache.includes(last)) {
        if (this.#state === 'crashed') throw powerLost(this.name);
        const oldest = this.#cache[0]!;
        await writeAll(this.inner, oldest);
        this.#cache.shift();
        this.#cacheBytes -= oldest.data.byteLength;
      }
    });
    this.#emptying = turn.catch(() => {});
    return turn;
  }

  #on(): void {
    if (this.#state === 'closed') throw closedError(this.name);
    if (this.#state === 'crashed') throw powerLost(this.name);
  }

  #writable(): void {
    this.#on();
    if (this.capabilities.readOnly) throw readOnlyError(this.name);
  }
}

function powerLost(name: string): ErrnoError {
  return new ErrnoError(Errno.ENXIO, `${name} has lost power`);
}

function overlaps(write: CachedWrite, offset: number, length: number): boolean {
  return write.offset < offset + length && offset < write.offset + write.data.byteLength;
}

/** The parts of a write that lie in different units of the disk. */
function* sectors({ offset, data }: CachedWrite, unit: number): Generator<CachedWrite> {
  let start = 0;
  while (start < data.byteLength) {
    const end = Math.min(data.byteLength, unit === data.byteLength ? unit : start + unit - ((offset + start) % unit));
    yield { offset: offset + start, data: data.subarray(start, end) };
    start = end;
  }
}

async function writeAll(device: Device, { offset, data }: CachedWrite): Promise<void> {
  for (let done = 0; done < data.byteLength; ) {
    const more = await device.write(data.subarray(done), offset + done);
    if (more === 0) throw new ErrnoError(Errno.EIO, `${device.name}: a write made no progress`);
    done += more;
  }
}
