import assert from 'node:assert/strict';
import fs from 'node:fs';
import { Errno, ErrnoError, errnoOf } from '../errno.ts';
import { log } from '../log.ts';
import { type Device, type DeviceCapabilities, isPending, type MaybePromise } from './device.ts';
import type { DeviceLock } from './lock.ts';
import { checkOffset, checkWithin, closedError, readOnlyError, roomForWrite, unsupportedError } from './range.ts';
import { type IoMode, StallGuard } from './stall.ts';
import { type Calls, type RangeCall, syscalls } from './syscalls.ts';
import { onThread, THREADS_PER_DISK, Turns } from './threads.ts';

/**
 * Longer transfers always go to libuv's threads: the copy alone then takes longer than the trip there, and another core
 * can do it. Measured with `test/bench/devices.ts`: see its header.
 */
const SYNC_BYTES_MAX = 256 * 1024;

/** ZFS has two labels at each end of a disk; those at the end are aligned (vdev_label_t). */
const LABEL_BYTES = 256 * 1024;

/** An open descriptor and what its opener found out about it. */
export interface Descriptor {
  readonly name: string;
  readonly identity: string;
  readonly fd: number;
  readonly ioMode: IoMode;
  readonly readOnly: boolean;
  readonly nonRotational: boolean;
  readonly logicalSectorBytes: number;
  readonly physicalSectorBytes: number;
  /** The call behind `trim` and `writeZeroes`; undefined when there is none. */
  readonly trimCall: RangeCall | undefined;
  readonly zeroCall: RangeCall | undefined;
  /** Size in bytes when it was opened. */
  readonly sizeBytes: number;
  /** Size in bytes now. */
  measure(): MaybePromise<number>;
  /** Whether what stat(2) found under the disk's name is the disk that is open. */
  isSame(stat: fs.BigIntStats): boolean;
  /** Whether the disk is there, whatever its name. */
  exists(): boolean;
  /**
   * Whether a write that fails so may tell of earlier ones, which no flush will tell of any more: NFS reports there what it
   * could not write back (fs/nfs/file.c: nfs_file_write), and an EIO is nobody's own.
   */
  writeErrorsAreLate(errno: number): boolean;
  /** Given back at close; undefined when the open is not exclusive. */
  readonly lock: DeviceLock | undefined;
  /** Ended at close. */
  readonly calls: Calls;
}

/**
 * A Device on a file descriptor: regular files and block devices.
 *
 * Reads and writes are adaptive. What the page cache can answer is done at once on this thread, where it costs 2 to 5 us
 * instead of 10 to 80; what waits for the disk goes through libuv's threads. For reads the kernel tells which it is
 * (RWF_NOWAIT); for writes, and where a filesystem does not know that flag, a StallGuard guesses. On file systems that
 * ask another process or machine everything waits on libuv's threads: that one may never answer.
 */
export class DescriptorDevice implements Device {
  readonly name: string;
  readonly identity: string;
  readonly capabilities: DeviceCapabilities;
  readonly logicalSectorBytes: number;
  readonly physicalSectorBytes: number;
  readonly #descriptor: Descriptor;
  readonly #readGuard = new StallGuard();
  readonly #writeGuard = new StallGuard();
  readonly #threads = new Turns(THREADS_PER_DISK);
  #kernelTells = syscalls !== undefined;
  #sizeBytes: number;
  #inFlight = 0;
  #closing: PromiseWithResolvers<void> | undefined;
  #flushing = false;
  /** Those whose flush begins when the one that is under way has ended. */
  #nextFlush: PromiseWithResolvers<void> | undefined;
  #flushFailure: ErrnoError | undefined;

  constructor(descriptor: Descriptor) {
    this.name = descriptor.name;
    this.identity = descriptor.identity;
    this.logicalSectorBytes = descriptor.logicalSectorBytes;
    this.physicalSectorBytes = descriptor.physicalSectorBytes;
    this.capabilities = {
      readOnly: descriptor.readOnly,
      trim: descriptor.trimCall !== undefined,
      writeZeroes: descriptor.zeroCall !== undefined,
      durable: true,
      nonRotational: descriptor.nonRotational,
    };
    this.#descriptor = descriptor;
    this.#sizeBytes = descriptor.sizeBytes;
  }

  async isPresent(): Promise<boolean> {
    try {
      return this.#descriptor.isSame(await fs.promises.stat(this.name, { bigint: true }));
    } catch (error) {
      const errno = errnoOf(error);
      return errno !== Errno.ENOENT && errno !== Errno.ENOTDIR;
    }
  }

  size(): MaybePromise<number> {
    this.#open();
    const measured = this.#descriptor.measure();
    if (isPending(measured)) return this.#track(measured.then((bytes) => this.#measured(bytes)));
    return this.#measured(measured);
  }

  #measured(bytes: number): number {
    this.#sizeBytes = bytes;
    return bytes;
  }

  read(buffer: Uint8Array, offset: number): MaybePromise<number> {
    this.#open();
    const length = buffer.byteLength;
    checkOffset(this.name, offset, length);
    if (length === 0) return 0;
    const forgotten = this.#isLabel(offset, length) ? this.#forgetLabels() : undefined;
    if (isPending(forgotten)) return this.#track(forgotten.then(() => this.#readLater(buffer, offset)));
    const done = this.#readNow(buffer, offset, length);
    if (done === length || done === 0) return done;
    if (done === undefined) return this.#readLater(buffer, offset);
    return this.#readLater(buffer.subarray(done), offset + done).then((more) => done + more);
  }

  #labelsAtEnd(): number {
    return this.#sizeBytes - (this.#sizeBytes % LABEL_BYTES) - 2 * LABEL_BYTES;
  }

  #isLabel(offset: number, length: number): boolean {
    return offset < 2 * LABEL_BYTES || offset + length > this.#labelsAtEnd();
  }

  /** Labels tell whether another machine uses the disk: what this one knows of them from before does not count. */
  #forgetLabels(): MaybePromise<unknown> {
    const { fd, calls } = this.#descriptor;
    const tail = this.#labelsAtEnd();
    const first = calls.forget(fd, 0, 2 * LABEL_BYTES);
    return tail > 0 ? calls.forget(fd, tail, this.#sizeBytes - tail) : first;
  }

  /** Bytes read without waiting, 0 at the end; undefined when it would wait. */
  #readNow(buffer: Uint8Array, offset: number, length: number): number | undefined {
    const { fd, ioMode } = this.#descriptor;
    if (ioMode === 'sync') return this.#sync('read', length, offset, () => fs.readSync(fd, buffer, 0, length, offset));
    if (ioMode === 'async' || length > SYNC_BYTES_MAX) return undefined;
    const start = performance.now();
    if (!this.#readGuard.allows(start)) return undefined;
    const done = this.#readNoWait(buffer, offset, length);
    // Even a read that does not wait can take long: it starts the disk's read-ahead.
    this.#readGuard.ran(start, performance.now(), length);
    return done;
  }

  #readNoWait(buffer: Uint8Array, offset: number, length: number): number | undefined {
    const { fd } = this.#descriptor;
    if (this.#kernelTells && syscalls !== undefined) {
      const result = syscalls.readNoWait(fd, buffer, offset);
      if (result >= 0) return result;
      // Any other error is left to the read that may wait, which meets it again.
      this.#kernelTells = result !== -Errno.EOPNOTSUPP;
      return undefined;
    }
    return this.#sync('read', length, offset, () => fs.readSync(fd, buffer, 0, length, offset));
  }

  #readLater(buffer: Uint8Array, offset: number): Promise<number> {
    const length = buffer.byteLength;
    return this.#async('read', length, offset, (done) => fs.read(this.#descriptor.fd, buffer, 0, length, offset, done));
  }

  write(buffer: Uint8Array, offset: number): MaybePromise<number> {
    this.#writable();
    checkOffset(this.name, offset, buffer.byteLength);
    // A file grows under a write past its end; a disk does not.
    const measured = offset + buffer.byteLength > this.#sizeBytes ? this.size() : undefined;
    if (isPending(measured)) return this.#track(measured.then(() => this.#writeWithin(buffer, offset)));
    return this.#writeWithin(buffer, offset);
  }

  #writeWithin(buffer: Uint8Array, offset: number): MaybePromise<number> {
    this.#unlessFailed();
    const length = roomForWrite(this.name, offset, buffer.byteLength, this.#sizeBytes);
    if (length === 0) return 0;
    const { fd, ioMode } = this.#descriptor;
    const start = performance.now();
    const now =
      ioMode === 'sync' || (ioMode === 'adaptive' && length <= SYNC_BYTES_MAX && this.#writeGuard.allows(start));
    if (!now) {
      return this.#async('write', length, offset, (done) => fs.write(fd, buffer, 0, length, offset, done));
    }
    const done = this.#sync('write', length, offset, () => fs.writeSync(fd, buffer, 0, length, offset));
    this.#writeGuard.ran(start, performance.now(), length);
    return done;
  }

  /**
   * fdatasync(2), always on another thread. A flush that is already running may have begun before the caller's writes
   * were over, so it does not cover them: callers that come meanwhile share the one after it.
   *
   * The kernel tells a descriptor once that pages could not be written, and forgets that they were dirty: another
   * fdatasync succeeds without having written them. So there is never more than one under way, which of two would get the
   * error cannot be known; and the first failure is final for this open, for all who wait and all who come.
   */
  flush(): MaybePromise<void> {
    this.#open();
    if (this.#descriptor.readOnly) return undefined;
    this.#unlessFailed();
    if (this.#flushing) {
      this.#nextFlush ??= this.#tracked();
      return this.#nextFlush.promise;
    }
    const flush = this.#tracked();
    this.#syncData(flush);
    return flush.promise;
  }

  /** Its end and the start of the next are one step, so that no flush can come in between. */
  #syncData({ resolve, reject }: PromiseWithResolvers<void>): void {
    assert(!this.#flushing && this.#flushFailure === undefined);
    this.#flushing = true;
    fs.fdatasync(this.#descriptor.fd, (cause) => {
      this.#flushing = false;
      const next = this.#nextFlush;
      this.#nextFlush = undefined;
      if (cause !== null) this.#lose(this.#failure('flush', 0, 0, cause));
      // A write may have met an error of others that were under way.
      if (this.#flushFailure !== undefined) {
        reject(this.#flushFailure);
        next?.reject(this.#flushFailure);
        return;
      }
      if (next !== undefined) this.#syncData(next);
      resolve();
    });
  }

  /** What was written since the last flush may be lost: nothing is acknowledged any more. */
  #lose(failure: ErrnoError): void {
    if (this.#flushFailure !== undefined) return;
    this.#flushFailure = failure;
    log.error(
      { device: this.name, error: failure.message },
      'the disk may have lost what was written since its last flush; nothing is written to it until it is opened again',
    );
  }

  #unlessFailed(): void {
    if (this.#flushFailure !== undefined) throw this.#flushFailure;
  }

  /** A promise that counts as in flight, so that the descriptor stays open for it. */
  #tracked(): PromiseWithResolvers<void> {
    const { promise, resolve, reject } = Promise.withResolvers<void>();
    return { promise: this.#track(promise), resolve, reject };
  }

  trim(offset: number, length: number): MaybePromise<void> {
    return this.#range('trim', this.#descriptor.trimCall, offset, length);
  }

  writeZeroes(offset: number, length: number): MaybePromise<void> {
    return this.#range('writeZeroes', this.#descriptor.zeroCall, offset, length);
  }

  #range(operation: string, call: RangeCall | undefined, offset: number, length: number): MaybePromise<void> {
    this.#writable();
    this.#unlessFailed();
    if (call === undefined) throw unsupportedError(this.name, operation);
    checkWithin(this.name, offset, length, this.#sizeBytes);
    if (length === 0) return undefined;
    return this.#track(this.#runRange(operation, call, offset, length));
  }

  async #runRange(operation: string, call: RangeCall, offset: number, length: number): Promise<void> {
    const { fd, lock, calls } = this.#descriptor;
    const errno = await calls.range(call, lock?.fd ?? fd, offset, length);
    if (errno !== 0) throw new ErrnoError(errno, `${this.name}: ${operation} of ${length} bytes at ${offset} failed`);
  }

  close(): MaybePromise<void> {
    if (this.#closing === undefined) {
      this.#closing = Promise.withResolvers<void>();
      if (this.#inFlight === 0) void this.#finish();
    }
    return this.#closing.promise;
  }

  /**
   * After a failed flush the cache has what the disk may not have, and is believed by whoever opens it next: what is still
   * to be written is, the rest is forgotten. A close waits, too, on file systems that write then what they have.
   */
  async #finish(): Promise<void> {
    const { fd, lock, calls } = this.#descriptor;
    if (this.#flushFailure !== undefined) {
      await onThread<void>((done) => fs.fdatasync(fd, done)).catch(() => undefined);
      await calls.forget(fd, 0, 0);
    }
    await onThread<void>((done) => fs.close(fd, done)).catch((error: unknown) => {
      // The descriptor is gone all the same, and durability was flush's affair.
      log.warn({ device: this.name, error: String(error) }, 'close failed');
    });
    await lock?.release();
    calls.end();
    this.#closing?.resolve();
  }

  #open(): void {
    if (this.#closing !== undefined) throw closedError(this.name);
  }

  #writable(): void {
    this.#open();
    if (this.#descriptor.readOnly) throw readOnlyError(this.name);
  }

  #sync(operation: string, length: number, offset: number, action: () => number): number {
    try {
      return action();
    } catch (error) {
      throw this.#failure(operation, length, offset, error);
    }
  }

  #async(
    operation: string,
    length: number,
    offset: number,
    start: (done: (error: Error | null, bytes: number) => void) => void,
  ): Promise<number> {
    return this.#track(
      new Promise((resolve, reject) => {
        const done = (error: Error | null, bytes: number) => {
          this.#threads.end();
          if (error !== null) reject(this.#failure(operation, length, offset, error));
          // It was under way when a flush failed: no other will cover it.
          else if (operation === 'write' && this.#flushFailure !== undefined) reject(this.#flushFailure);
          else resolve(bytes);
        };
        this.#threads.take(() => start(done));
      }),
    );
  }

  /** Counts an operation as in flight until it is over; the last one finishes a close that waits. */
  async #track<T>(operation: Promise<T>): Promise<T> {
    this.#inFlight += 1;
    try {
      return await operation;
    } finally {
      this.#inFlight -= 1;
      if (this.#inFlight === 0 && this.#closing !== undefined) void this.#finish();
    }
  }

  #failure(operation: string, length: number, offset: number, cause: unknown): ErrnoError {
    const what = operation === 'flush' ? 'flush' : `${operation} of ${length} bytes at ${offset}`;
    const errno = errnoOf(cause);
    // Of a disk that is unplugged Linux says that the transfer failed.
    const gone = errno === Errno.EIO && !this.#descriptor.exists();
    const failure = gone
      ? new ErrnoError(Errno.ENXIO, `${this.name}: ${what} failed: the disk is gone`, { cause })
      : new ErrnoError(errno, `${this.name}: ${what} failed`, { cause });
    if (operation === 'write' && this.#descriptor.writeErrorsAreLate(errno)) this.#lose(failure);
    return failure;
  }
}
