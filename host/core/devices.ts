import { type Device, isPending } from '../devices/device.ts';
import { DroppedPools } from '../devices/dropped.ts';
import { openDevice } from '../devices/open.ts';
import { Errno, ErrnoError, errnoOf } from '../errno.ts';
import { log } from '../log.ts';
import type { WasmModule } from '../runtime/module.ts';
import { type CoreExports, ioPending, type Seam } from '../runtime/seam.ts';

/** Flags of device-open (wasm/zow.wit). */
const deviceWritable = 1;
const deviceExclusive = 2;

/** How often it is looked whether the paths of open devices still lead to them. */
const presenceMs = 1000;
/** How long devices are waited for that are closed for a core that is gone, milliseconds. */
const closeMs = 5000;
/** The core keeps a device that is needed. Every so many looks it is asked again. */
const unlinkedLooks = 10;

/** The imports of vdev_zow.c: the pool's disks on host/devices. */
export class CoreDevices {
  readonly #module: WasmModule<CoreExports>;
  readonly #open = new Map<number, Device>();
  readonly #openDevice: typeof openDevice;
  readonly #dropped = new DroppedPools();
  /** How often a device was not found under its path, by handle. */
  readonly #unlinked = new Map<number, number>();
  /** A path on a network that hangs must not be looked for twice. */
  readonly #looking = new Set<number>();
  readonly #presence: NodeJS.Timeout;
  #last = 0;
  #hasEnded = false;

  constructor(module: WasmModule<CoreExports>, open = openDevice) {
    this.#module = module;
    this.#openDevice = open;
    this.#presence = setInterval(() => {
      for (const handle of this.#open.keys()) void this.#lookFor(handle);
    }, presenceMs).unref();
  }

  get imports(): Seam['devices'] {
    return {
      'device-open': (fiber, path, length, flags) =>
        this.#fiberCall(fiber, this.#openPath(this.#module.memory.text(path, length), flags)),
      'device-info': (fiber, handle, info) => this.#fiberCall(fiber, this.#info(handle, info)),
      'device-close': (fiber, handle) => this.#fiberCall(fiber, this.#close(handle)),
      'device-read': (token, handle, buffer, length, offset) =>
        this.#transfer(token, handle, 'read', this.#module.memory.view(buffer, length), offset),
      'device-write': (token, handle, buffer, length, offset) =>
        this.#transfer(token, handle, 'write', this.#module.memory.view(buffer, length), offset),
      'device-flush': (token, handle) => this.#operation(token, () => this.#device(handle).flush()),
      'device-trim': (token, handle, offset, length) =>
        this.#operation(token, () => this.#device(handle).trim(offset, length)),
      'device-drop': (handle, pool) => {
        this.#open.set(handle, this.#dropped.drop(this.#device(handle), pool));
      },
      'devices-forget': (pool) => this.#dropped.forget(pool),
    };
  }

  /** The core is gone: it is told nothing more. I/O that is under way goes on, in memory that nobody else gets. */
  end(): void {
    this.#hasEnded = true;
    clearInterval(this.#presence);
  }

  /** Closes what is open, for a core that is gone. A disk that does not answer is left behind. */
  async closeAll(): Promise<void> {
    const devices = [...this.#open.values()];
    this.#open.clear();
    const closed = Promise.all(devices.map(async (device) => device.close())).catch(() => undefined);
    const { promise: tooLong, resolve } = Promise.withResolvers<boolean>();
    const timer = setTimeout(resolve, closeMs, true);
    if ((await Promise.race([closed, tooLong])) === true) {
      log.warn({ devices: devices.map(({ name }) => name) }, 'devices that do not answer are left behind');
    }
    clearTimeout(timer);
  }

  async #lookFor(handle: number): Promise<void> {
    const device = this.#device(handle);
    if (device.capabilities.readOnly || this.#looking.has(handle)) return;
    this.#looking.add(handle);
    const isPresent = await device.isPresent();
    this.#looking.delete(handle);
    // It may have been closed meanwhile, or the core is lost.
    if (this.#hasEnded || !this.#open.has(handle)) return;
    if (isPresent) this.#unlinked.delete(handle);
    else this.#notFound(handle, device);
  }

  #notFound(handle: number, device: Device): void {
    const looks = this.#unlinked.get(handle) ?? 0;
    this.#unlinked.set(handle, looks + 1);
    if (looks === 0) log.warn({ device: device.name }, 'device is gone: its path leads to it no more');
    if (looks % unlinkedLooks !== 0) return;
    this.#tell(() => this.#module.exports['vdev-unlinked'](handle));
  }

  /** Calls into the core, if it is there. A trap in the call is its end, which `onTrap` has told. */
  #tell(call: () => void): void {
    if (this.#hasEnded) return;
    try {
      call();
      this.#module.scheduler.kick();
    } catch (error) {
      if (!this.#hasEnded) throw error;
    }
  }

  #device(handle: number): Device {
    const device = this.#open.get(handle);
    if (device === undefined) throw new Error(`the core uses device ${handle}, which is not open`);
    return device;
  }

  /** Completes the fiber with the promise's value, or -errno. */
  #fiberCall(fiber: number, result: Promise<number>): number {
    result.then(
      (value) => this.#module.scheduler.complete(fiber, value),
      (error: unknown) => this.#module.scheduler.complete(fiber, -errnoOf(error)),
    );
    return ioPending;
  }

  async #openPath(path: string, flags: number): Promise<number> {
    try {
      const device = await this.#openDevice(path, {
        readOnly: (flags & deviceWritable) === 0,
        exclusive: (flags & deviceExclusive) !== 0,
      });
      if (this.#hasEnded) {
        await device.close();
        throw new ErrnoError(Errno.EIO, 'the core is gone');
      }
      const handle = ++this.#last;
      this.#open.set(handle, device);
      return handle;
    } catch (error) {
      // A missing device is ordinary: imports try paths.
      const errno = errnoOf(error);
      if (errno !== Errno.ENOENT)
        log.warn({ device: path, error: (error as Error).message }, 'device cannot be opened');
      throw error;
    }
  }

  /** Fills a device-description (wasm/zow.wit). */
  async #info(handle: number, info: number): Promise<number> {
    const device = this.#device(handle);
    const size = await device.size();
    const { memory } = this.#module;
    memory.setF64(info, size);
    memory.setU32(info + 8, Math.log2(device.logicalSectorBytes));
    memory.setU32(info + 12, Math.log2(device.physicalSectorBytes));
    memory.setU32(info + 16, device.capabilities.nonRotational ? 1 : 0);
    memory.setU32(info + 20, device.capabilities.trim ? 1 : 0);
    memory.setU32(info + 24, device.identity.startsWith('block:') ? 1 : 0);
    return 0;
  }

  async #close(handle: number): Promise<number> {
    const device = this.#device(handle);
    this.#open.delete(handle);
    this.#unlinked.delete(handle);
    await device.close();
    return 0;
  }

  #complete(token: number, errno: number): void {
    this.#tell(() => this.#module.exports['vdev-complete'](token, errno));
  }

  /** Transfers the whole buffer, going on after short transfers; what lies past the end is EIO, or ENOSPC of a write. */
  #transfer(token: number, handle: number, direction: 'read' | 'write', buffer: Buffer, offset: number): number {
    const device = this.#device(handle);
    let done = 0;
    try {
      while (done < buffer.length) {
        const part = done === 0 ? buffer : buffer.subarray(done);
        const result = device[direction](part, offset + done);
        if (isPending(result)) {
          this.#continue(token, device, direction, buffer, offset, done, result);
          return ioPending;
        }
        if (result === 0) return -(direction === 'read' ? Errno.EIO : Errno.ENOSPC);
        done += result;
      }
      return 0;
    } catch (error) {
      return -errnoOf(error);
    }
  }

  #continue(
    token: number,
    device: Device,
    direction: 'read' | 'write',
    buffer: Buffer,
    offset: number,
    before: number,
    pending: Promise<number>,
  ): void {
    pending.then(
      (count) => {
        const done = before + count;
        if (done === buffer.length) this.#complete(token, 0);
        else if (count === 0) this.#complete(token, direction === 'read' ? Errno.EIO : Errno.ENOSPC);
        else {
          const next = Promise.resolve().then(() => device[direction](buffer.subarray(done), offset + done));
          this.#continue(token, device, direction, buffer, offset, done, next);
        }
      },
      (error: unknown) => this.#complete(token, errnoOf(error)),
    );
  }

  #operation(token: number, run: () => void | Promise<void>): number {
    try {
      const result = run();
      if (!isPending(result as Promise<void>)) return 0;
      (result as Promise<void>).then(
        () => this.#complete(token, 0),
        (error: unknown) => this.#complete(token, errnoOf(error)),
      );
      return ioPending;
    } catch (error) {
      return -errnoOf(error);
    }
  }
}
