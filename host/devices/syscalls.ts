import { Worker } from 'node:worker_threads';
import { Errno } from '../errno.ts';
import { LOCK_EX_NB, linuxFfi } from '../ffi.ts';
import type { MaybePromise } from './device.ts';

/**
 * The few Linux calls a disk needs that `node:fs` lacks, through `node:ffi` (on by default since Node 26.1). Everything
 * here is optional: without FFI (`--no-experimental-ffi`, another system) reads are adaptive by timing alone, trim is
 * not offered and exclusive locks are refused.
 */
export interface Syscalls {
  /** preadv2(2) with RWF_NOWAIT: bytes read, or minus an errno: EAGAIN where it would wait for the disk. */
  readNoWait(fd: number, buffer: Uint8Array, offset: number): number;
  /** posix_fadvise(2) with POSIX_FADV_DONTNEED: what is cached of the range is forgotten, unless it is not written yet. */
  forget(fd: number, offset: number, length: number): void;
  /** flock(2) with LOCK_EX | LOCK_NB: 0 or an errno, EAGAIN when another holds it. */
  tryLock(fd: number): number;
  /** fallocate(2), for probing; see `Calls` for real work. 0 or an errno. */
  fallocate(fd: number, mode: number, offset: number, length: number): number;
}

/** FALLOC_FL_KEEP_SIZE | FALLOC_FL_PUNCH_HOLE (include/uapi/linux/falloc.h). */
export const PUNCH_HOLE = 0x01 | 0x02;
/** FALLOC_FL_KEEP_SIZE | FALLOC_FL_ZERO_RANGE. */
export const ZERO_RANGE = 0x01 | 0x10;
const RWF_NOWAIT = 0x08;
const POSIX_FADV_DONTNEED = 4;

export const syscalls: Syscalls | undefined = load();

function load(): Syscalls | undefined {
  const ffi = linuxFfi();
  if (ffi === undefined) return undefined;
  const { functions: libc } = ffi.dlopen(null, {
    preadv2: { arguments: ['i32', 'pointer', 'i32', 'i64', 'i32'], return: 'i64' },
    posix_fadvise: { arguments: ['i32', 'i64', 'i64', 'i32'], return: 'i32' },
    flock: { arguments: ['i32', 'i32'], return: 'i32' },
    fallocate: { arguments: ['i32', 'i32', 'i64', 'i64'], return: 'i32' },
    __errno_location: { arguments: [], return: 'pointer' },
  });
  // errno's place is fixed per thread. Node may run between the call and this look: trust it for choices, not for data.
  const errnoAt = libc.__errno_location();
  const errno = () => ffi.getInt32(errnoAt) || Errno.EIO;
  const iovec = new BigUint64Array(2);
  const iovecAt = ffi.getRawPointer(iovec.buffer);
  return {
    readNoWait(fd, buffer, offset) {
      iovec[0] = ffi.getRawPointer(buffer);
      iovec[1] = BigInt(buffer.byteLength);
      const bytes = Number(libc.preadv2(fd, iovecAt, 1, BigInt(offset), RWF_NOWAIT));
      return bytes < 0 ? -errno() : bytes;
    },
    forget(fd, offset, length) {
      libc.posix_fadvise(fd, BigInt(offset), BigInt(length), POSIX_FADV_DONTNEED);
    },
    tryLock: (fd) => (libc.flock(fd, LOCK_EX_NB) === 0 ? 0 : errno()),
    fallocate: (fd, mode, offset, length) =>
      libc.fallocate(fd, mode, BigInt(offset), BigInt(length)) === 0 ? 0 : errno(),
  };
}

/** `discard` is ioctl BLKDISCARD, for block devices; the others are fallocate with PUNCH_HOLE or ZERO_RANGE. */
export type RangeCall = 'punch' | 'zero' | 'discard';
/** `lock` is flock with LOCK_EX | LOCK_NB, `forget` posix_fadvise with POSIX_FADV_DONTNEED. */
type Call = RangeCall | 'lock' | 'forget';

/** JavaScript, not TypeScript, and in a string, so that it also starts from inside the one-file bundle. */
const workerSource = `
const { parentPort } = require('node:worker_threads');
process.emitWarning = () => {};
const ffi = require('node:ffi');
const { functions: libc } = ffi.dlopen(null, {
  fallocate: { arguments: ['i32', 'i32', 'i64', 'i64'], return: 'i32' },
  posix_fadvise: { arguments: ['i32', 'i64', 'i64', 'i32'], return: 'i32' },
  flock: { arguments: ['i32', 'i32'], return: 'i32' },
  ioctl: { arguments: ['i32', 'u64', 'buffer'], return: 'i32' },
  __errno_location: { arguments: [], return: 'pointer' },
});
const errnoAt = libc.__errno_location();
const BLKDISCARD = 0x1277n;
const calls = {
  discard: (fd, offset, length) => libc.ioctl(fd, BLKDISCARD, new BigUint64Array([offset, length])),
  punch: (fd, offset, length) => libc.fallocate(fd, ${PUNCH_HOLE}, offset, length),
  zero: (fd, offset, length) => libc.fallocate(fd, ${ZERO_RANGE}, offset, length),
  lock: (fd) => libc.flock(fd, ${LOCK_EX_NB}),
  forget: (fd, offset, length) => (libc.posix_fadvise(fd, offset, length, ${POSIX_FADV_DONTNEED}), 0),
};
parentPort.on('message', ({ id, call, fd, offset, length }) => {
  const result = calls[call](fd, offset, length);
  parentPort.postMessage({ id, errno: result === 0 ? 0 : ffi.getInt32(errnoAt) || ${Errno.EIO} });
});
`;

/**
 * Runs calls one after another in a Worker of their own, started at the first: a discard of a real disk can take a second,
 * and libuv's pool has no such request.
 */
class CallWorker {
  #worker: Worker | undefined;
  #nextId = 0;
  readonly #waiting = new Map<number, (errno: number) => void>();

  /** Resolves to 0 or an errno. The descriptor must stay open until then. */
  run(call: Call, fd: number, offset: number, length: number): Promise<number> {
    return new Promise((resolve) => {
      const id = this.#nextId++;
      this.#waiting.set(id, resolve);
      const worker = this.#start();
      worker.ref();
      worker.postMessage({ id, call, fd, offset: BigInt(offset), length: BigInt(length) });
    });
  }

  /** To be called when nothing is under way. */
  end(): void {
    void this.#worker?.terminate();
    this.#worker = undefined;
  }

  #start(): Worker {
    if (this.#worker !== undefined) return this.#worker;
    const worker = new Worker(workerSource, { eval: true, env: {}, execArgv: [] });
    worker.on('message', ({ id, errno }: { id: number; errno: number }) => this.#answered(id, errno));
    worker.on('error', () => this.#died());
    this.#worker = worker;
    return worker;
  }

  #answered(id: number, errno: number): void {
    const resolve = this.#waiting.get(id);
    this.#waiting.delete(id);
    // An idle Worker must not keep a finished program alive.
    if (this.#waiting.size === 0) this.#worker?.unref();
    resolve?.(errno);
  }

  #died(): void {
    this.#worker = undefined;
    for (const id of [...this.#waiting.keys()]) this.#answered(id, Errno.EIO);
  }
}

const ownDisks = new CallWorker();

/**
 * The calls of one open disk. What this machine answers itself is done at once, but for ranges, for which one Worker serves
 * all such disks. A disk that another process or machine serves may never answer: it has a Worker of its own.
 */
export class Calls {
  readonly #isDistant: boolean;
  readonly #worker: CallWorker;

  constructor(isDistant: boolean) {
    this.#isDistant = isDistant;
    this.#worker = isDistant ? new CallWorker() : ownDisks;
  }

  /** Resolves to 0 or an errno. The descriptor must stay open until then. */
  range(call: RangeCall, fd: number, offset: number, length: number): Promise<number> {
    return this.#worker.run(call, fd, offset, length);
  }

  /** Whether holes can be punched: tried where nothing is. */
  async punches(fd: number, offset: number, length: number): Promise<boolean> {
    if (syscalls === undefined) return false;
    if (this.#isDistant) return (await this.#worker.run('punch', fd, offset, length)) === 0;
    return syscalls.fallocate(fd, PUNCH_HOLE, offset, length) === 0;
  }

  /** As Syscalls.tryLock, which has to be there. */
  async tryLock(fd: number): Promise<number> {
    return this.#isDistant ? this.#worker.run('lock', fd, 0, 0) : syscalls!.tryLock(fd);
  }

  /** As Syscalls.forget; nothing where that is not there. */
  forget(fd: number, offset: number, length: number): MaybePromise<unknown> {
    if (syscalls === undefined) return undefined;
    return this.#isDistant ? this.#worker.run('forget', fd, offset, length) : syscalls.forget(fd, offset, length);
  }

  /** The disk is closed. */
  end(): void {
    if (this.#isDistant) this.#worker.end();
  }
}
