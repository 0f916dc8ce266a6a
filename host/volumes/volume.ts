import type { Socket } from 'node:net';
import type { VolumeStatistics } from './statistics.ts';

/**
 * What a volume frontend (NBD, iSCSI) sees: exports by name, and block I/O on one of them with ZFS's rules.
 * `host/core/volumes.ts` implements it on the core; tests implement it in memory.
 *
 * Buffers come from the provider's pool, which is WebAssembly memory in the real thing: a socket reads into them and
 * writes out of them, and the core works on them in place. The pool is the memory bound of all frontends together:
 * `acquire` waits when it is exhausted, and that wait is the back-pressure.
 */
export interface IoBuffer {
  /** Exactly the bytes asked for. Throws after `release`. */
  readonly bytes: Uint8Array;
  /**
   * Who uses the memory beyond a call (a socket that reads into it or writes it, a volume that carries out a request)
   * borrows it before and gives it back after: until then it is nobody else's, whatever its owner does. See Lendable.
   */
  lend(): void;
  giveBack(): void;
  /** The owner is done with it. Exactly once; the memory is free when every borrower is done, too. */
  release(): void;
}

export interface BufferPool {
  /** Largest size one buffer can have, in bytes. */
  readonly maxBytes: number;
  /** What all buffers together can have, in bytes. */
  readonly limitBytes: number;
  /**
   * A buffer of `size` bytes with undefined content, first come first served; undefined when none is free at once.
   * `holdsMore`: who asks has other buffers; a pool may keep a part for those who have none.
   */
  tryAcquire(size: number, holdsMore?: boolean): IoBuffer | undefined;
  /**
   * As tryAcquire, but waits for memory; meanwhile who asks may give its other buffers back. Rejects with the signal's
   * reason when aborted.
   */
  acquire(size: number, signal?: AbortSignal, holdsMore?: () => boolean): Promise<IoBuffer>;
}

export interface VolumeInfo {
  /** Dataset name: `tank/vm0`, or of a snapshot `tank/vm0@monday`. */
  readonly name: string;
  /** Bytes. */
  readonly size: number;
  /** `volblocksize` in bytes: the preferred I/O size. */
  readonly blockSize: number;
  readonly readOnly: boolean;
  /** Of its pool and of its dataset: stay what they are whatever the names, wherever the pool is imported. */
  readonly poolGuid: bigint;
  readonly guid: bigint;
}

/** A run of bytes of one kind. */
export interface Extent {
  /** Bytes, > 0. */
  readonly length: number;
  /** No space is allocated and the bytes read as zeroes. */
  readonly hole: boolean;
}

/**
 * One client's open of a volume; an open counts as use (EBUSY for `zfs destroy` and friends).
 * Operations on one handle run concurrently and complete in any order. Offsets and lengths are bytes of any alignment
 * within the volume; outside of it they fail with ENOSPC (writes and zeroes) or EINVAL (the others). They reject with
 * ErrnoError.
 */
export interface VolumeHandle {
  readonly info: VolumeInfo;
  /** Fills the whole of `buffer.bytes`. */
  read(offset: number, buffer: IoBuffer): Promise<void>;
  /** With `fua` the data are durable when it resolves. `length` bytes of the buffer are written (default: all). */
  write(offset: number, buffer: IoBuffer, options: { readonly fua: boolean }): Promise<void>;
  /** Every write, trim and zero of the volume acknowledged before, by any handle, is durable when it resolves. */
  flush(): Promise<void>;
  /** Frees the whole blocks within the range; they read as zeroes afterwards, the rest keeps its content. */
  trim(offset: number, length: number, options: { readonly fua: boolean }): Promise<void>;
  /** The range reads as zeroes afterwards. `allocate`: keep space reserved (NBD's NO_HOLE). */
  zero(offset: number, length: number, options: { readonly fua: boolean; readonly allocate: boolean }): Promise<void>;
  /** Compares what stands at `offset`. Resolves with the position of the first byte that differs; undefined: none does. */
  compare(offset: number, buffer: IoBuffer): Promise<number | undefined>;
  /**
   * Compares the first half of the buffer with what stands at `offset`, and writes its second half there when they are
   * equal, as one step for everybody else. Resolves as `compare`; undefined: written.
   */
  compareWrite(offset: number, buffer: IoBuffer, options: { readonly fua: boolean }): Promise<number | undefined>;
  /** Sets the bits there that are set in the buffer, as one step for everybody else; changes the buffer. */
  orWrite(offset: number, buffer: IoBuffer, options: { readonly fua: boolean }): Promise<void>;
  /**
   * What is allocated, from `offset` on: at least one extent, together at most `length` bytes. It may stop early (the
   * caller asks again from there), so that one call stays bounded. Absent: everything is reported as allocated.
   */
  blockStatus?(offset: number, length: number): Promise<readonly Extent[]>;
  /** Brings the range into the cache, as far as it likes. Absent: frontends read the range and drop the data. */
  prefetch?(offset: number, length: number): Promise<void>;
  /** Waits for what is in flight. A second close does nothing. */
  close(): Promise<void>;
  /**
   * Called once when the volume goes away under the client (destroyed, exported, renamed: the reason is a sentence for
   * the log), after which operations fail with ESHUTDOWN, and it is closed when those under way are over.
   */
  onGone(listener: (reason: string) => void): void;
  /** Called when the size changed; `info` is already new. */
  onResize(listener: (size: number) => void): void;
  /**
   * Present where the volume is in another process, and no other operation but `close` works then: the client's socket,
   * which delivers nothing any more, goes there with what its frontend agreed on. The volume is closed with the client.
   */
  adopt?(socket: Socket, agreed: object): AdoptedClient;
}

/** A client that another process serves. */
export interface AdoptedClient {
  /** Resolves when everything of the client is gone there; rejects when that process is gone. */
  readonly gone: Promise<void>;
  /** Dismisses it, as a server that stops does. */
  dismiss(): void;
  /** Cuts its connection. */
  cut(): void;
}

/** Another process that has volumes, and serves clients that do not keep to one open volume, as far as all of theirs are there. */
export interface VolumeProcess {
  /** Resolves when the process answers. Rejects with ErrnoError when it is gone. */
  settle(): Promise<void>;
  /** Gives it a client's socket, which delivers nothing any more, with what its frontend agreed on. */
  adopt(socket: Socket, agreed: object): AdoptedClient;
}

/** Hears of every volume that is new or has changed, and of those that are gone. */
export interface VolumeWatcher {
  set(info: VolumeInfo): void;
  remove(name: string): void;
}

export interface VolumeProvider {
  readonly buffers: BufferPool;
  /** Every volume and visible snapshot of a volume, sorted by name. */
  list(): readonly VolumeInfo[];
  /** What `open` would give, without using it; undefined when there is no such volume. */
  find(name: string): VolumeInfo | undefined;
  /** What clients have asked of the volume since it was first opened; undefined: nothing, or it is not there. */
  statistics?(name: string): VolumeStatistics | undefined;
  /** Where requests of that volume get their buffers, if not all do from the same pool. */
  buffersOf?(name: string): BufferPool;
  /** Tells of those that are there, and of every change from then on. One watcher at a time. */
  watch?(watcher: VolumeWatcher): void;
  /**
   * As `find`, of what need not be listed: a snapshot (`snapdev=hidden`, the default) is from then on. Rejects with
   * ErrnoError, whose sentence is for whoever asked. ENOENT: no such volume. EACCES: its encryption key is not loaded.
   */
  reveal?(name: string): Promise<VolumeInfo>;
  /** Present where volumes are in other processes: the one that a volume of that name is in, or would be; undefined: there is none now. */
  processOf?(name: string): VolumeProcess | undefined;
  /** Whether volumes of that name's pool are expected, and cannot be told yet. Absent: never. */
  awaits?(name: string): boolean;
  /** ENOENT: no such volume. EBUSY, EROFS, EACCES (its encryption key is not loaded), ENXIO: as opening a zvol. */
  open(name: string, options: { readonly readOnly: boolean }): Promise<VolumeHandle>;
}
