import type { Device, DeviceOpenOptions } from '../devices/device.ts';
import { addressText } from '../devices/nbd/address.ts';
import { NbdConnection } from '../devices/nbd/connection.ts';
import { NbdDevice } from '../devices/nbd/device.ts';
import { dial } from '../devices/nbd/dial.ts';
import { type NbdDiskOptions, type NbdLoss, notThere, whySmaller } from '../devices/nbd/disk.ts';
import type { RemoteOpener } from '../devices/remote.ts';
import { DeviceWrapper } from '../devices/wrapper.ts';
import { Errno, ErrnoError } from '../errno.ts';
import { remoteDiskOptions } from '../serve/remote.ts';
import { CrossedError } from './channel.ts';
import type { DiskGrant, EngineEvent } from './messages.ts';

/** How long a disk is kept that nobody has open: ZFS closes devices to open them again. */
const KEEP_MS = 2_000;

/**
 * The remote disks that this engine has, which are those that its core has open. A connection is asked for (lender.ts) when
 * the core opens a disk, and is given back when it was lost, or nobody has had the disk open for a while.
 */
export class BorrowedDisks implements RemoteOpener {
  readonly #tell: (event: EngineEvent) => void;
  readonly #disks = new Map<string, BorrowedDisk>();
  /** Disks that were asked for. */
  readonly #grants = new Map<string, (grant: DiskGrant) => void>();
  /** Disks that are on their way back. */
  readonly #leaving = new Map<string, Promise<void>>();

  constructor(tell: (event: EngineEvent) => void) {
    this.#tell = tell;
  }

  /** ENXIO where it is away, EBUSY where another engine has it, ENOENT where there is none of that name. */
  async open(path: string, options: DeviceOpenOptions): Promise<Device> {
    await this.#leaving.get(path);
    let disk = this.#disks.get(path);
    if (disk === undefined) {
      disk = new BorrowedDisk(path, this.#ask(path), (loss) => this.#gone(path, loss));
      this.#disks.set(path, disk);
    }
    return disk.open(options);
  }

  granted(path: string, grant: DiskGrant): void {
    this.#grants.get(path)?.(grant);
    this.#grants.delete(path);
  }

  /** Whether it was not in use, and is given back. */
  async giveUp(path: string): Promise<boolean> {
    const disk = this.#disks.get(path);
    if (disk?.isUsed === true) return false;
    if (disk !== undefined) this.#giveBack(path, disk);
    await this.#leaving.get(path);
    return true;
  }

  /** What is at an offset, at most so many bytes; for who only looks. ENXIO. */
  async read(path: string, offset: number, length: number): Promise<Uint8Array> {
    const disk = this.#disks.get(path);
    if (disk === undefined) throw new ErrnoError(Errno.ENXIO, `${path} was given back`);
    const device = await disk.open({ readOnly: true });
    try {
      const buffer = new Uint8Array(length);
      return buffer.subarray(0, await device.read(buffer, offset));
    } finally {
      await device.close();
    }
  }

  /** Ends all connections. */
  async close(): Promise<void> {
    for (const [path, disk] of this.#disks) this.#giveBack(path, disk);
    await Promise.all(this.#leaving.values());
  }

  #ask(path: string): Promise<DiskGrant> {
    const { promise, resolve } = Promise.withResolvers<DiskGrant>();
    this.#grants.set(path, resolve);
    this.#tell({ kind: 'disk-wanted', path });
    return promise;
  }

  #gone(path: string, end: End): void {
    const disk = this.#disks.get(path)!;
    if (end === 'unused') {
      this.#giveBack(path, disk);
      return;
    }
    this.#disks.delete(path);
    if (end !== 'refused') this.#tell({ kind: 'disk-returned', path, loss: end });
  }

  #giveBack(path: string, disk: BorrowedDisk): void {
    this.#disks.delete(path);
    const closed = disk.close().catch(() => undefined);
    const left = closed.then(() => {
      this.#leaving.delete(path);
      this.#tell({ kind: 'disk-returned', path, loss: undefined });
    });
    this.#leaving.set(path, left);
  }
}

/** Nobody has it open; it was not lent; its connection was lost. */
type End = 'unused' | 'refused' | NbdLoss;

/** One of them, for as long as its connection lives. */
class BorrowedDisk {
  readonly #path: string;
  readonly #connection: Promise<{ readonly connection: NbdConnection; readonly identity: string }>;
  /** It is of no use any more, once. */
  readonly #ended: (end: End) => void;
  #opens = 0;
  #isOver = false;
  #timer: NodeJS.Timeout | undefined;

  constructor(path: string, grant: Promise<DiskGrant>, ended: (end: End) => void) {
    this.#path = path;
    this.#ended = ended;
    this.#connection = this.#connect(grant);
    this.#connection.catch(() => undefined);
  }

  get isUsed(): boolean {
    return this.#opens > 0;
  }

  async open(options: DeviceOpenOptions): Promise<Device> {
    this.#opens++;
    clearTimeout(this.#timer);
    try {
      const { connection, identity } = await this.#connection;
      return new Counted(new NbdDevice(this.#path, identity, connection, options), () => this.#closed());
    } catch (error) {
      this.#closed();
      throw error;
    }
  }

  /** Ends the connection; resolves when the server has closed it. */
  async close(): Promise<void> {
    this.#isOver = true;
    clearTimeout(this.#timer);
    const { connection } = await this.#connection;
    await connection.close();
  }

  #closed(): void {
    this.#opens--;
    if (this.#opens > 0 || this.#isOver) return;
    this.#timer = setTimeout(() => this.#end('unused'), KEEP_MS);
  }

  #end(end: End): void {
    if (this.#isOver) return;
    this.#isOver = true;
    clearTimeout(this.#timer);
    this.#ended(end);
  }

  async #connect(granted: Promise<DiskGrant>) {
    const grant = await granted;
    if ('errno' in grant) {
      this.#end('refused');
      throw new CrossedError(grant.errno, grant.message);
    }
    const { address } = grant.device;
    try {
      const options = await remoteDiskOptions(grant.device);
      const connection = await this.#dial(options, grant.sizeBytes);
      return { connection, identity: `nbd:${addressText(address)}` };
    } catch (error) {
      const reason = (error as Error).message;
      this.#end({ reason, how: 'gone' });
      throw notThere(this.#path, address, reason);
    }
  }

  async #dial(options: NbdDiskOptions, sizeBytes: number): Promise<NbdConnection> {
    const { address, tls, connectTimeoutMs, ioTimeoutMs, slow } = options;
    const { socket, nbdExport } = await dial(address, { tls, timeoutMs: connectTimeoutMs });
    const smaller = whySmaller(nbdExport.sizeBytes, sizeBytes);
    if (smaller !== undefined) {
      socket.destroy();
      throw new Error(smaller);
    }
    return new NbdConnection(socket, nbdExport, {
      ...{ name: this.#path, ioTimeoutMs, slow },
      onLost: (reason, how) => this.#end({ reason, how }),
    });
  }
}

/** Says when it is closed. */
class Counted extends DeviceWrapper {
  #closed: Promise<void> | undefined;
  readonly #onClosed: () => void;

  constructor(inner: Device, onClosed: () => void) {
    super(inner);
    this.#onClosed = onClosed;
  }

  override close(): Promise<void> {
    this.#closed ??= Promise.resolve(this.inner.close()).finally(this.#onClosed);
    return this.#closed;
  }
}
