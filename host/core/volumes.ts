import { Errno, ErrnoError } from '../errno.ts';
import type { WasmModule } from '../runtime/module.ts';
import type { CoreExports, Seam } from '../runtime/seam.ts';
import { Pool } from '../volumes/pool.ts';
import { count, type IoKind, type VolumeStatistics } from '../volumes/statistics.ts';
import type { Extent, IoBuffer, VolumeHandle, VolumeInfo, VolumeProvider, VolumeWatcher } from '../volumes/volume.ts';
import { Requests } from './requests.ts';

/** Operations and flags of volume-submit (wasm/zow.wit). */
const op = {
  read: 0,
  write: 1,
  flush: 2,
  trim: 3,
  zero: 4,
  close: 5,
  status: 7,
  compareWrite: 9,
  or: 10,
  compare: 11,
} as const;
/** What is counted, and as what: the rest is counted nowhere. */
const countedAs = new Map<number, IoKind>([
  [op.read, 'read'],
  [op.compare, 'read'],
  [op.write, 'write'],
  [op.compareWrite, 'write'],
  [op.or, 'write'],
  [op.flush, 'flush'],
  [op.trim, 'trim'],
  [op.zero, 'zero'],
]);
const fuaFlag = 1;
const allocateFlag = 2;

/** Extents that one blockStatus reports at the most, and the end mark. */
const statusEntries = 129;

/** The largest request a frontend makes, in bytes (NBD's and qemu's 32 MiB). */
const requestBytesMax = 32 * 1024 * 1024;

/** ZFS_MAX_DATASET_NAME_LEN: with the NUL. */
const nameBytesMax = 256;

/** Why a volume cannot be opened, for whoever asked for it. */
function notOpened(name: string, error: unknown): unknown {
  if (!(error instanceof ErrnoError)) return error;
  const because = (errno: number, why: string) => new ErrnoError(errno, why, { cause: error });
  switch (error.errno) {
    case Errno.ENOENT:
      return because(Errno.ENOENT, `there is no volume ${name}`);
    case Errno.EINVAL:
      return because(Errno.ENOENT, `${name} is not a volume`);
    case Errno.EACCES:
      return because(Errno.EACCES, `${name} is encrypted, and its key is not loaded, or does not fit`);
    case Errno.EROFS:
      return because(Errno.EROFS, `${name} is read-only`);
    case Errno.EBUSY:
      return because(Errno.EBUSY, `${name} is in use, by a receive for one`);
    case Errno.ENXIO:
      return because(Errno.ENXIO, `${name} is going away`);
    case Errno.EOVERFLOW:
    case Errno.EFBIG:
      return because(Errno.EFBIG, `${name} is larger than the host can count`);
    default:
      return error.message.includes(name) ? error : because(error.errno, `${name} cannot be opened`);
  }
}

interface Running {
  readonly resolve: (handle: number) => void;
  readonly reject: (error: Error) => void;
}

/** The host's half of zvol_os.c: the core's volumes as a frontend sees them. */
export class CoreVolumes implements VolumeProvider {
  readonly buffers: Pool;
  readonly #module: WasmModule<CoreExports>;
  readonly #volumes = new Map<string, VolumeInfo>();
  readonly #handles = new Set<Handle>();
  readonly #requests: Requests<Running>;
  /** Of volumes that were opened: as many as are there, at most. */
  readonly #statistics = new Map<string, VolumeStatistics>();
  #hasEnded = false;
  #watcher: VolumeWatcher | undefined;

  constructor(module: WasmModule<CoreExports>) {
    this.#module = module;
    this.#requests = new Requests(() => module.scheduler.kick());
    // What stacks, the ARC and dirty data leave. Frontends make requests of half of it at the most (NbdServer).
    const limitBytes = module.memory.buffer.byteLength / 8;
    this.buffers = new Pool({
      allocator: {
        memory: module.memory.buffer,
        alloc: (size) => module.exports.alloc(size) >>> 0,
        free: (address) => module.exports.free(address),
      },
      limitBytes,
      maxBytes: requestBytesMax,
    });
  }

  get imports(): Seam['volume-events'] {
    const { memory } = this.#module;
    return {
      'volume-added': (name, length, size, blockSize, readOnly, poolGuid, guid) => {
        const volume = {
          name: memory.text(name, length),
          size,
          blockSize,
          readOnly: readOnly !== 0,
          poolGuid: BigInt.asUintN(64, poolGuid),
          guid: BigInt.asUintN(64, guid),
        };
        this.#volumes.set(volume.name, volume);
        this.#watcher?.set(volume);
      },
      'volume-removed': (name, length) => {
        this.#forget(memory.text(name, length), 'it was destroyed or exported, or its volmode changed');
      },
      'volume-renamed': (name, length, newName, newLength) => {
        const from = memory.text(name, length);
        const to = memory.text(newName, newLength);
        const volume = this.#volumes.get(from);
        if (volume === undefined) return;
        this.#volumes.delete(from);
        this.#volumes.set(to, { ...volume, name: to });
        const statistics = this.#statistics.get(from);
        this.#statistics.delete(from);
        if (statistics !== undefined) this.#statistics.set(to, statistics);
        this.#watcher?.remove(from);
        this.#watcher?.set({ ...volume, name: to });
        for (const handle of this.#handles) if (handle.info.name === from) handle.info = { ...handle.info, name: to };
      },
      'volume-resized': (name, length, size) => this.#change(memory.text(name, length), { size }),
      'volume-read-only': (name, length, readOnly) =>
        this.#change(memory.text(name, length), { readOnly: readOnly !== 0 }),
      'volume-done': (id, errno, handle) => {
        const { resolve, reject } = this.#requests.take(id);
        if (errno === 0) resolve(handle >>> 0);
        else reject(new ErrnoError(errno));
      },
    };
  }

  list(): readonly VolumeInfo[] {
    return [...this.#volumes.values()].sort((a, b) => (a.name < b.name ? -1 : 1));
  }

  find(name: string): VolumeInfo | undefined {
    return this.#volumes.get(name);
  }

  statistics(name: string): VolumeStatistics | undefined {
    return this.#statistics.get(name);
  }

  /** Tells `watcher` of those that are there, and of every change from then on. One at a time. */
  watch(watcher: VolumeWatcher): void {
    this.#watcher = watcher;
    for (const volume of this.#volumes.values()) watcher.set(volume);
  }

  async open(name: string, options: { readonly readOnly: boolean }): Promise<VolumeHandle> {
    const { exports } = this.#module;
    const found = this.#volumes.get(name) ?? (await this.reveal(name));
    const core = await this.#runNamed(name, (id, address) =>
      exports['volume-open'](id, address, options.readOnly ? 1 : 0),
    ).catch((error: unknown) => {
      throw this.#hasEnded ? error : notOpened(name, error);
    });
    const current = this.#volumes.get(name) ?? found;
    const statistics = this.#statistics.get(name) ?? {};
    if (this.#volumes.has(name)) this.#statistics.set(name, statistics);
    const info = { ...current, readOnly: current.readOnly || options.readOnly };
    const handle = new Handle(this, core, info, statistics);
    this.#handles.add(handle);
    return handle;
  }

  async reveal(name: string): Promise<VolumeInfo> {
    const listed = this.#volumes.get(name);
    if (listed !== undefined) return listed;
    // Longer, or with a NUL, it is the name of nothing, and of something else to the core.
    if (Buffer.byteLength(name) >= nameBytesMax || name.includes('\0') || name === '') {
      throw new ErrnoError(Errno.ENOENT, `there is no volume ${name.slice(0, nameBytesMax)}`);
    }
    await this.#runNamed(name, (id, address) => this.#module.exports['volume-reveal'](id, address)).catch(
      (error: unknown) => {
        throw this.#hasEnded ? error : notOpened(name, error);
      },
    );
    const revealed = this.#volumes.get(name);
    if (revealed === undefined) throw new ErrnoError(Errno.ENXIO, `${name} has volmode=none`);
    return revealed;
  }

  /** As #run; `start` gets the name, NUL-terminated in the core's memory, which is the core's from then on. */
  #runNamed(name: string, start: (id: number, address: number) => number): Promise<number> {
    const text = Buffer.from(`${name}\0`);
    return this.#run((id) => {
      const address = this.#module.exports.alloc(text.length);
      if (address === 0) return -Errno.ENOMEM;
      this.#module.memory.view(address, text.length).set(text);
      return start(id, address);
    });
  }

  /** The core is gone: what runs fails, and whatever comes; its volumes are closed. */
  end(error: Error): void {
    this.#hasEnded = true;
    this.#requests.end(error);
    this.buffers.end(error);
    this.#volumes.clear();
    for (const handle of this.#handles) handle.gone(error.message);
  }

  /** @internal Submits a request on an open volume. */
  submit(
    core: number,
    operation: number,
    buffer: number,
    offset: number,
    length: number,
    flags: number,
  ): Promise<number> {
    return this.#run((id) => this.#module.exports['volume-submit'](id, core, operation, buffer, offset, length, flags));
  }

  /** @internal Of a core that is gone there is nothing left to close. */
  async closeHandle(handle: Handle, core: number): Promise<void> {
    try {
      await this.submit(core, op.close, 0, 0, 0, 0);
    } catch (error) {
      if (!this.#hasEnded) throw error;
    } finally {
      this.#handles.delete(handle);
    }
  }

  /** A request that the core has no memory to start waits: that is the host's affair, no client's error. */
  #run(start: (id: number) => number): Promise<number> {
    return new Promise((resolve, reject) => {
      this.#requests.submit({ request: { resolve, reject }, what: 'volume', start, isPatient: true });
    });
  }

  #change(name: string, change: Partial<VolumeInfo>): void {
    const volume = this.#volumes.get(name);
    if (volume === undefined) return;
    const changed = { ...volume, ...change };
    this.#volumes.set(name, changed);
    this.#watcher?.set(changed);
    for (const handle of this.#handles) if (handle.info.name === name) handle.change(change);
  }

  #forget(name: string, reason: string): void {
    this.#volumes.delete(name);
    this.#statistics.delete(name);
    this.#watcher?.remove(name);
    for (const handle of this.#handles) if (handle.info.name === name) handle.gone(reason);
  }
}

class Handle implements VolumeHandle {
  info: VolumeInfo;
  readonly #volumes: CoreVolumes;
  readonly #core: number;
  readonly #statistics: VolumeStatistics;
  readonly #gone: ((reason: string) => void)[] = [];
  readonly #resize: ((size: number) => void)[] = [];
  #goneReason: string | undefined;
  readonly #inFlight = new Set<Promise<unknown>>();
  #closed: Promise<void> | undefined;

  constructor(volumes: CoreVolumes, core: number, info: VolumeInfo, statistics: VolumeStatistics) {
    this.#statistics = statistics;
    this.#volumes = volumes;
    this.#core = core;
    this.info = info;
  }

  async read(offset: number, buffer: IoBuffer): Promise<void> {
    await this.#transfer(op.read, offset, buffer, 0);
  }

  async write(offset: number, buffer: IoBuffer, options: { readonly fua: boolean }): Promise<void> {
    await this.#transfer(op.write, offset, buffer, options.fua ? fuaFlag : 0);
  }

  async flush(): Promise<void> {
    await this.#submit(op.flush, 0, 0, 0);
  }

  async trim(offset: number, length: number, options: { readonly fua: boolean }): Promise<void> {
    await this.#submit(op.trim, offset, length, options.fua ? fuaFlag : 0);
  }

  async zero(
    offset: number,
    length: number,
    options: { readonly fua: boolean; readonly allocate: boolean },
  ): Promise<void> {
    const flags = (options.fua ? fuaFlag : 0) | (options.allocate ? allocateFlag : 0);
    await this.#submit(op.zero, offset, length, flags);
  }

  async compare(offset: number, buffer: IoBuffer): Promise<number | undefined> {
    const differs = await this.#transfer(op.compare, offset, buffer, 0);
    return differs === 0 ? undefined : differs - 1;
  }

  async compareWrite(
    offset: number,
    buffer: IoBuffer,
    options: { readonly fua: boolean },
  ): Promise<number | undefined> {
    const flags = options.fua ? fuaFlag : 0;
    const differs = await this.#transfer(op.compareWrite, offset, buffer, flags, buffer.bytes.length / 2);
    return differs === 0 ? undefined : differs - 1;
  }

  async orWrite(offset: number, buffer: IoBuffer, options: { readonly fua: boolean }): Promise<void> {
    await this.#transfer(op.or, offset, buffer, options.fua ? fuaFlag : 0);
  }

  async blockStatus(offset: number, length: number): Promise<readonly Extent[]> {
    const buffer = await this.#volumes.buffers.acquire(statusEntries * 8);
    try {
      await this.#transfer(op.status, offset, buffer, statusEntries, length);
      const { bytes } = buffer;
      const lengths = new Float64Array(bytes.buffer, bytes.byteOffset, statusEntries);
      const extents: Extent[] = [];
      for (let i = 0; i < statusEntries && lengths[i]! >= 0; i++)
        if (lengths[i]! > 0) extents.push({ length: lengths[i]!, hole: i % 2 === 1 });
      return extents;
    } finally {
      buffer.release();
    }
  }

  close(): Promise<void> {
    this.#closed ??= this.#close();
    return this.#closed;
  }

  /** The core frees what it knows of the handle, which requests under way still use. */
  async #close(): Promise<void> {
    await Promise.allSettled(this.#inFlight);
    await this.#volumes.closeHandle(this, this.#core);
  }

  onGone(listener: (reason: string) => void): void {
    if (this.#goneReason !== undefined) listener(this.#goneReason);
    else this.#gone.push(listener);
  }

  onResize(listener: (size: number) => void): void {
    this.#resize.push(listener);
  }

  /** @internal */
  change(change: Partial<VolumeInfo>): void {
    this.info = { ...this.info, ...change };
    if (change.size !== undefined) for (const listener of this.#resize) listener(change.size);
  }

  /** @internal */
  gone(reason: string): void {
    if (this.#goneReason !== undefined) return;
    this.#goneReason = reason;
    for (const listener of this.#gone) listener(reason);
    // Whoever takes the volume away waits for this, and not for what the client still has to do.
    this.close().catch(() => undefined);
  }

  /** The core has the buffer until the request is over. */
  async #transfer(
    operation: number,
    offset: number,
    buffer: IoBuffer,
    flags: number,
    length = buffer.bytes.length,
  ): Promise<number> {
    const address = buffer.bytes.byteOffset;
    buffer.lend();
    try {
      return await this.#submit(operation, offset, length, flags, address);
    } finally {
      buffer.giveBack();
    }
  }

  async #submit(operation: number, offset: number, length: number, flags: number, buffer = 0): Promise<number> {
    const gone = this.#goneReason ?? (this.#closed === undefined ? undefined : 'it is closed');
    if (gone !== undefined) throw new ErrnoError(Errno.ESHUTDOWN, `${this.info.name}: ${gone}`);
    const started = performance.now();
    const request = this.#volumes.submit(this.#core, operation, buffer, offset, length, flags);
    this.#inFlight.add(request);
    let failed = true;
    try {
      const value = await request;
      failed = false;
      return value;
    } finally {
      this.#inFlight.delete(request);
      const kind = countedAs.get(operation);
      if (kind !== undefined) count(this.#statistics, kind, length, (performance.now() - started) / 1000, failed);
    }
  }
}
