import { Errno, ErrnoError } from '../../../host/errno.ts';
import { type Allocator, Pool } from '../../../host/volumes/pool.ts';
import type { Extent, IoBuffer, VolumeHandle, VolumeInfo, VolumeProvider } from '../../../host/volumes/volume.ts';

/**
 * malloc for tests: size classes of powers of two, carved from one SharedArrayBuffer. It counts, and refuses what is
 * wrong: a free of what is not allocated throws.
 */
export class TestAllocator implements Allocator {
  readonly memory: SharedArrayBuffer;
  readonly #free = new Map<number, number[]>();
  readonly #live = new Map<number, number>();
  #top = 64; // address 0 means "no memory"

  constructor(bytes: number) {
    this.memory = new SharedArrayBuffer(bytes);
  }

  get live(): number {
    return this.#live.size;
  }

  alloc(size: number): number {
    const rounded = 2 ** Math.ceil(Math.log2(Math.max(64, size)));
    let address = this.#free.get(rounded)?.pop();
    if (address === undefined) {
      if (this.#top + rounded > this.memory.byteLength) return 0;
      address = this.#top;
      this.#top += rounded;
    }
    this.#live.set(address, rounded);
    return address;
  }

  free(address: number): void {
    const rounded = this.#live.get(address);
    if (rounded === undefined) throw new Error(`free of ${address}, which is not allocated`);
    this.#live.delete(address);
    const list = this.#free.get(rounded);
    if (list === undefined) this.#free.set(rounded, [address]);
    else list.push(address);
  }
}

export type MemoryOperation =
  | 'read'
  | 'write'
  | 'flush'
  | 'trim'
  | 'zero'
  | 'compare'
  | 'compareWrite'
  | 'orWrite'
  | 'blockStatus';

/** Called before each operation: may wait, may throw. Undefined costs nothing. */
export type MemoryHook = (operation: MemoryOperation, offset: number, length: number) => Promise<void> | undefined;

let nextGuid = 1n;

/** A volume in memory. Space is allocated by the block, so that holes are seen. */
export class MemoryVolume {
  name: string;
  readonly blockSize: number;
  readonly readOnly: boolean;
  size: number;
  data: Uint8Array;
  allocated: Uint8Array;
  hook: MemoryHook | undefined;
  /** How often each was called. */
  readonly calls = {
    read: 0,
    write: 0,
    flush: 0,
    trim: 0,
    zero: 0,
    compare: 0,
    compareWrite: 0,
    orWrite: 0,
    blockStatus: 0,
    fua: 0,
    allocate: 0,
  };
  readonly handles = new Set<MemoryHandle>();
  readonly guid = nextGuid++;

  constructor(name: string, size: number, blockSize = 16384, readOnly = false) {
    this.name = name;
    this.size = size;
    this.blockSize = blockSize;
    this.readOnly = readOnly;
    this.data = new Uint8Array(size);
    this.allocated = new Uint8Array(Math.ceil(size / blockSize));
  }

  get info(): VolumeInfo {
    const { name, size, blockSize, readOnly, guid } = this;
    return { name, size, blockSize, readOnly, poolGuid: 0xfeedn, guid };
  }
}

class MemoryHandle implements VolumeHandle {
  info: VolumeInfo;
  readonly volume: MemoryVolume;
  readonly readOnly: boolean;
  inFlight = 0;
  closed = false;
  gone = false;
  readonly goneListeners: ((reason: string) => void)[] = [];
  readonly resizeListeners: ((size: number) => void)[] = [];

  constructor(volume: MemoryVolume, readOnly: boolean) {
    this.volume = volume;
    this.info = volume.info;
    this.readOnly = readOnly;
    volume.handles.add(this);
  }

  async read(offset: number, buffer: IoBuffer): Promise<void> {
    this.#check('read', offset, buffer.bytes.length);
    const { bytes } = buffer;
    const waits = this.volume.hook?.('read', offset, bytes.length);
    buffer.lend();
    try {
      if (waits !== undefined) await this.#held(waits);
      this.volume.calls.read++;
      bytes.set(this.volume.data.subarray(offset, offset + bytes.length));
    } finally {
      buffer.giveBack();
    }
  }

  async write(offset: number, buffer: IoBuffer, options: { readonly fua: boolean }): Promise<void> {
    this.#check('write', offset, buffer.bytes.length);
    const { bytes } = buffer;
    const waits = this.volume.hook?.('write', offset, bytes.length);
    buffer.lend();
    try {
      if (waits !== undefined) await this.#held(waits);
      this.volume.calls.write++;
      if (options.fua) this.volume.calls.fua++;
      this.volume.data.set(bytes, offset);
      this.#mark(offset, bytes.length);
    } finally {
      buffer.giveBack();
    }
  }

  async flush(): Promise<void> {
    this.#check('flush', 0, 0);
    const waits = this.volume.hook?.('flush', 0, 0);
    if (waits !== undefined) await this.#held(waits);
    this.volume.calls.flush++;
  }

  async trim(offset: number, length: number, options: { readonly fua: boolean }): Promise<void> {
    this.#check('trim', offset, length);
    const waits = this.volume.hook?.('trim', offset, length);
    if (waits !== undefined) await this.#held(waits);
    this.volume.calls.trim++;
    if (options.fua) this.volume.calls.fua++;
    const { blockSize } = this.volume;
    const first = Math.ceil(offset / blockSize);
    const last = Math.floor((offset + length) / blockSize);
    if (last <= first) return;
    this.volume.data.fill(0, first * blockSize, last * blockSize);
    this.volume.allocated.fill(0, first, last);
  }

  async zero(
    offset: number,
    length: number,
    options: { readonly fua: boolean; readonly allocate: boolean },
  ): Promise<void> {
    this.#check('zero', offset, length);
    const waits = this.volume.hook?.('zero', offset, length);
    if (waits !== undefined) await this.#held(waits);
    this.volume.calls.zero++;
    if (options.fua) this.volume.calls.fua++;
    if (options.allocate) this.volume.calls.allocate++;
    this.volume.data.fill(0, offset, offset + length);
    if (options.allocate) this.#mark(offset, length);
    else {
      const { blockSize } = this.volume;
      this.volume.allocated.fill(0, Math.ceil(offset / blockSize), Math.floor((offset + length) / blockSize));
    }
  }

  async compare(offset: number, buffer: IoBuffer): Promise<number | undefined> {
    const { length } = buffer.bytes;
    this.#check('compare', offset, length);
    const waits = this.volume.hook?.('compare', offset, length);
    if (waits !== undefined) await this.#held(waits);
    this.volume.calls.compare++;
    const found = this.volume.data.subarray(offset, offset + length);
    const differs = found.findIndex((byte, i) => byte !== buffer.bytes[i]);
    return differs === -1 ? undefined : differs;
  }

  async compareWrite(
    offset: number,
    buffer: IoBuffer,
    options: { readonly fua: boolean },
  ): Promise<number | undefined> {
    const length = buffer.bytes.length / 2;
    this.#check('compareWrite', offset, length);
    const waits = this.volume.hook?.('compareWrite', offset, length);
    if (waits !== undefined) await this.#held(waits);
    this.volume.calls.compareWrite++;
    const found = this.volume.data.subarray(offset, offset + length);
    const differs = found.findIndex((byte, i) => byte !== buffer.bytes[i]);
    if (differs !== -1) return differs;
    if (options.fua) this.volume.calls.fua++;
    found.set(buffer.bytes.subarray(length));
    this.#mark(offset, length);
    return undefined;
  }

  async orWrite(offset: number, buffer: IoBuffer, options: { readonly fua: boolean }): Promise<void> {
    const { length } = buffer.bytes;
    this.#check('orWrite', offset, length);
    const waits = this.volume.hook?.('orWrite', offset, length);
    if (waits !== undefined) await this.#held(waits);
    this.volume.calls.orWrite++;
    if (options.fua) this.volume.calls.fua++;
    for (let i = 0; i < length; i++) this.volume.data[offset + i]! |= buffer.bytes[i]!;
    this.#mark(offset, length);
  }

  async blockStatus(offset: number, length: number): Promise<readonly Extent[]> {
    this.#check('blockStatus', offset, length);
    const waits = this.volume.hook?.('blockStatus', offset, length);
    if (waits !== undefined) await this.#held(waits);
    this.volume.calls.blockStatus++;
    const { blockSize, allocated } = this.volume;
    const extents: Extent[] = [];
    const end = offset + length;
    for (let at = offset; at < end; ) {
      const hole = allocated[Math.floor(at / blockSize)] === 0;
      let next = at;
      while (next < end && (allocated[Math.floor(next / blockSize)] === 0) === hole) {
        next = (Math.floor(next / blockSize) + 1) * blockSize;
      }
      next = Math.min(next, end);
      extents.push({ length: next - at, hole });
      at = next;
    }
    return extents;
  }

  async close(): Promise<void> {
    if (this.closed) return;
    if (this.inFlight > 0) throw new Error('closed while requests are in flight');
    this.closed = true;
    this.volume.handles.delete(this);
  }

  onGone(listener: (reason: string) => void): void {
    if (this.gone) listener('destroyed');
    else this.goneListeners.push(listener);
  }

  onResize(listener: (size: number) => void): void {
    this.resizeListeners.push(listener);
  }

  async #held(waits: Promise<void>): Promise<void> {
    this.inFlight++;
    try {
      await waits;
    } finally {
      this.inFlight--;
    }
    if (this.gone) throw new ErrnoError(Errno.ESHUTDOWN, this.volume.name);
  }

  #check(operation: MemoryOperation, offset: number, length: number): void {
    if (this.closed) throw new Error(`${operation} on a closed handle`);
    if (this.gone) throw new ErrnoError(Errno.ESHUTDOWN, this.volume.name);
    const reads = ['read', 'flush', 'blockStatus', 'compare'].includes(operation);
    if (this.readOnly && !reads) throw new ErrnoError(Errno.EROFS, this.volume.name);
    if (offset + length <= this.volume.size) return;
    const needsSpace = operation === 'write' || operation === 'zero';
    throw new ErrnoError(needsSpace ? Errno.ENOSPC : Errno.EINVAL, this.volume.name);
  }

  #mark(offset: number, length: number): void {
    const { blockSize } = this.volume;
    this.volume.allocated.fill(1, Math.floor(offset / blockSize), Math.floor((offset + length - 1) / blockSize) + 1);
  }
}

export interface MemoryProviderOptions {
  /** Limit of the buffer pool, default 128 MiB. */
  readonly poolBytes?: number;
  readonly maxBytes?: number;
}

/** VolumeProvider in memory: the reference the NBD server is developed against. */
export class MemoryProvider implements VolumeProvider {
  readonly allocator: TestAllocator;
  readonly buffers: Pool;
  readonly volumes = new Map<string, MemoryVolume>();
  /** Thrown by `open` of these names. */
  readonly refuse = new Map<string, Error>();
  opens = 0;

  constructor(options: MemoryProviderOptions = {}) {
    const poolBytes = options.poolBytes ?? 128 << 20;
    this.allocator = new TestAllocator(poolBytes * 2);
    const max = options.maxBytes === undefined ? {} : { maxBytes: options.maxBytes };
    this.buffers = new Pool({ allocator: this.allocator, limitBytes: poolBytes, ...max });
  }

  add(name: string, size: number, blockSize?: number): MemoryVolume {
    const volume = new MemoryVolume(name, size, blockSize);
    this.volumes.set(name, volume);
    return volume;
  }

  /** `tank/vm0@monday`. */
  snapshot(name: string): MemoryVolume {
    const of = this.volumes.get(name.slice(0, name.indexOf('@')))!;
    const snapshot = new MemoryVolume(name, of.size, of.blockSize, true);
    snapshot.data.set(of.data);
    snapshot.allocated.set(of.allocated);
    this.volumes.set(name, snapshot);
    return snapshot;
  }

  /** Destroys a volume under its clients. */
  destroy(name: string): void {
    const volume = this.volumes.get(name)!;
    this.volumes.delete(name);
    for (const handle of volume.handles) {
      handle.gone = true;
      for (const listener of handle.goneListeners) listener('destroyed');
    }
  }

  resize(name: string, size: number): void {
    const volume = this.volumes.get(name)!;
    const data = new Uint8Array(size);
    data.set(volume.data.subarray(0, size));
    const allocated = new Uint8Array(Math.ceil(size / volume.blockSize));
    allocated.set(volume.allocated.subarray(0, allocated.length));
    volume.data = data;
    volume.allocated = allocated;
    volume.size = size;
    for (const handle of volume.handles) {
      handle.info = volume.info;
      for (const listener of handle.resizeListeners) listener(size);
    }
  }

  /** Handles open on all volumes. */
  get handles(): number {
    let count = 0;
    for (const volume of this.volumes.values()) count += volume.handles.size;
    return count;
  }

  list(): readonly VolumeInfo[] {
    return [...this.volumes.values()]
      .map((volume) => volume.info)
      .sort((a, b) => (a.name < b.name ? -1 : a.name > b.name ? 1 : 0));
  }

  find(name: string): VolumeInfo | undefined {
    return this.volumes.get(name)?.info;
  }

  async open(name: string, options: { readonly readOnly: boolean }): Promise<VolumeHandle> {
    const error = this.refuse.get(name);
    if (error !== undefined) throw error;
    const volume = this.volumes.get(name);
    if (volume === undefined) throw new ErrnoError(Errno.ENOENT, name);
    if (volume.readOnly && !options.readOnly) throw new ErrnoError(Errno.EROFS, name);
    this.opens++;
    return new MemoryHandle(volume, options.readOnly);
  }
}
