/**
 * The contract of a disk. One file of this folder is one backend; wrappers (fault injection, tracing) take any Device and
 * are one; `test/host/devices/conformance.ts` is what they all promise.
 *
 * Buffers: the caller owns them and keeps them untouched until the operation is over; they may be views on shared
 * WebAssembly memory. Offsets and lengths are bytes. An operation either completes at once and returns its value, or
 * returns a promise: a caller that cares about speed tests for that and saves the trip through the microtask queue.
 *
 * Ranges: an offset or length that is negative or not an integer is EINVAL. A read at or past the end returns 0, a write
 * there fails with ENOSPC, one that crosses the end is short; trim and writeZeroes must lie within the device (EINVAL).
 * A transfer of no bytes returns 0. No alignment is asked of a caller, but a block device may insist on whole sectors
 * in trim and writeZeroes (EINVAL), and a remote one on its server's blocks in everything, where the server does.
 *
 * Order: operations in flight together have none, and overlapping ones may mix. One that is over is seen by all later.
 *
 * Errors are thrown (or rejected with) as ErrnoError; ENXIO and ENODEV say that the disk is gone for good. After an error
 * the content of the range is undefined for a read and either old or new, sector by sector, for a write.
 */
export type MaybePromise<T> = T | Promise<T>;

export interface DeviceCapabilities {
  /** Writes are refused with EROFS. */
  readonly readOnly: boolean;
  /** `trim` gives space back; without it `trim` throws EOPNOTSUPP. */
  readonly trim: boolean;
  /** `writeZeroes` is cheaper than writing zeroes; without it `writeZeroes` throws EOPNOTSUPP. */
  readonly writeZeroes: boolean;
  /** False where `flush` cannot make data durable (memory). */
  readonly durable: boolean;
  /** Seek costs nothing: ZFS's `nonrot`. */
  readonly nonRotational: boolean;
}

export interface Device {
  /** How users name it: a path or a URL. */
  readonly name: string;
  /** Equal for two Devices exactly when they are the same disk (`file:DEV:INO`, `block:MAJOR:MINOR`, `mem:NAME`). */
  readonly identity: string;
  readonly capabilities: DeviceCapabilities;
  /** Logical and physical sector size in bytes, powers of two, at least 512. */
  readonly logicalSectorBytes: number;
  readonly physicalSectorBytes: number;

  /**
   * Whether its path still leads to it: false for a file that was removed, or replaced by another, and for a disk that was
   * unplugged. What is open may work on. True where that cannot be told.
   */
  isPresent(): MaybePromise<boolean>;
  /** Size in bytes now; asked again at each (re)open, so a device that has grown is seen. */
  size(): MaybePromise<number>;
  /**
   * Reads into `buffer` from `offset`. Returns the bytes transferred: fewer than asked is a short transfer, which the
   * caller continues; 0 means at or past the end of the device.
   */
  read(buffer: Uint8Array, offset: number): MaybePromise<number>;
  /** Writes `buffer` at `offset`; returns the bytes transferred, as `read` does. Not durable before `flush`. */
  write(buffer: Uint8Array, offset: number): MaybePromise<number>;
  /**
   * Makes every write that completed before this call durable. Never acknowledged early. Once a flush has failed, so
   * does every later flush and write until the device is opened again: what the first did not write can be lost for
   * good, and nothing may be built on it.
   */
  flush(): MaybePromise<void>;
  /** The range's content no longer matters; reads of it return anything until rewritten. */
  trim(offset: number, length: number): MaybePromise<void>;
  /** The range reads as zeroes afterwards. */
  writeZeroes(offset: number, length: number): MaybePromise<void>;
  /** Waits for what is in flight, releases locks and descriptors. Later calls of any method throw EBADF; a second close does nothing. */
  close(): MaybePromise<void>;
}

export interface DeviceOpenOptions {
  /** Open for reading only. */
  readonly readOnly?: boolean;
  /**
   * Take the exclusive lock that keeps other processes off the device (EBUSY with the holder's pid where known). It is
   * this process's: it may open the device more than once, as ZFS does with spares and while it looks for pools.
   */
  readonly exclusive?: boolean;
}

/** True when an operation did not complete at once. */
export function isPending<T>(value: MaybePromise<T>): value is Promise<T> {
  return typeof value === 'object' && value !== null && typeof (value as Promise<T>).then === 'function';
}
