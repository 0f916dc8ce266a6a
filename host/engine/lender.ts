import { assert } from '../assert.ts';
import type { RemoteDeviceConfig } from '../config/config.ts';
import type { Device, DeviceCapabilities, DeviceOpenOptions } from '../devices/device.ts';
import { NbdDisk, type NbdDiskOptions, type NbdDiskStatus, type NbdLoss } from '../devices/nbd/disk.ts';
import { closedError, readOnlyError } from '../devices/range.ts';
import { noSuchDisk, type RemoteDisk, type RemoteDisks } from '../devices/remote.ts';
import { DeviceWrapper } from '../devices/wrapper.ts';
import { Errno, ErrnoError } from '../errno.ts';
import type { DiskGrant } from './messages.ts';

/** How long who looks at a disk is waited for that an engine wants; then the look fails. */
const LOOKS_MS = 2_000;
/** How long an engine may take to say that it gives a disk up, or what is on it. */
const ANSWER_MS = 5_000;

/** An engine, as who has disks. */
export interface Borrower {
  /** Whether it had no use for the disk, and has given it back. */
  giveUp(path: string): Promise<boolean>;
  /** What is at an offset of a disk that it has, at most so many bytes. */
  read(path: string, offset: number, length: number): Promise<Uint8Array>;
}

/**
 * Who has the connection to each remote disk: the engine whose core has the disk open (borrowed-disks.ts), else this process,
 * the supervisor, which looks at it, and tries again where the server is away. Never two of them: a server may take one client,
 * and need not show one what another has written.
 */
export class Lender {
  readonly #disks: RemoteDisks<LendableDisk>;

  constructor(disks: RemoteDisks<LendableDisk>) {
    this.#disks = disks;
  }

  /** Rejects with ENOENT; ENXIO where it is away; EBUSY where another engine uses it. */
  async lend(path: string, to: Borrower): Promise<DiskGrant> {
    const disk = this.#disks.find(path);
    if (disk === undefined) throw noSuchDisk(path);
    return disk.lend(to);
  }

  /** An engine's connection has ended. */
  returned(path: string, by: Borrower, loss: NbdLoss | undefined): void {
    this.#disks.find(path)?.returned(by, loss);
  }

  /** An engine has ended, and its connections with it. */
  ended(engine: Borrower): void {
    for (const disk of this.#disks.disks) disk.returned(engine, undefined);
  }
}

/** A remote disk that one engine at a time can have. */
export class LendableDisk implements RemoteDisk {
  readonly name: string;
  readonly #device: RemoteDeviceConfig;
  readonly #own: NbdDisk;
  #borrower: Borrower | undefined;
  /** Devices that are open here. */
  readonly #looks = new Set<Promise<void>>();
  /** One at a time changes where the connection is, or begins to look. */
  #turn: Promise<unknown> = Promise.resolve();

  constructor(options: NbdDiskOptions, device: RemoteDeviceConfig) {
    this.name = options.name;
    this.#device = device;
    this.#own = new NbdDisk(options);
  }

  get status(): NbdDiskStatus {
    return this.#own.status;
  }

  /** An engine has what its core has open. */
  get isWritten(): boolean {
    return this.#borrower !== undefined;
  }

  get onReady(): () => void {
    return this.#own.onReady;
  }

  set onReady(call: () => void) {
    this.#own.onReady = call;
  }

  start(): Promise<void> {
    return this.#own.start();
  }

  close(): Promise<void> {
    return this.#own.close();
  }

  /** For looking at it, wherever the connection is. EROFS for more. */
  async open({ readOnly = false }: DeviceOpenOptions): Promise<Device> {
    if (!readOnly) throw readOnlyError(this.name);
    return this.#inTurn(async () => {
      await this.#own.settled();
      const there = this.#borrower;
      const device = there === undefined ? this.#own.open({ readOnly }) : this.#elsewhere(there);
      const { promise, resolve } = Promise.withResolvers<void>();
      this.#looks.add(promise);
      return new Look(device, () => {
        this.#looks.delete(promise);
        resolve();
      });
    });
  }

  lend(to: Borrower): Promise<DiskGrant> {
    return this.#inTurn(async () => {
      assert(this.#borrower !== to, 'an engine wants a remote disk that it has');
      await within(LOOKS_MS, Promise.all(this.#looks));
      await this.#callIn(to);
      this.#borrower = to;
      try {
        return { device: this.#device, sizeBytes: await this.#own.lend() };
      } catch (error) {
        this.#borrower = undefined;
        throw error;
      }
    });
  }

  returned(by: Borrower, loss: NbdLoss | undefined): void {
    if (this.#borrower !== by) return;
    this.#borrower = undefined;
    this.#own.takeBack(loss);
  }

  /** The connection is here then, or it is known why not. */
  async #callIn(to: Borrower): Promise<void> {
    const other = this.#borrower;
    if (other !== undefined && other !== to) {
      await within(
        ANSWER_MS,
        other.giveUp(this.name).catch(() => false),
      );
      if (this.#borrower === other) throw new ErrnoError(Errno.EBUSY, `${this.name} is in use by another pool`);
    }
    await this.#own.settled();
  }

  #elsewhere(there: Borrower): Device {
    const { status, identity } = this.#own;
    return new DeviceElsewhere(this.name, identity, status.sizeBytes ?? 0, there);
  }

  #inTurn<T>(work: () => Promise<T>): Promise<T> {
    const turn = this.#turn.then(work);
    this.#turn = turn.catch(() => undefined);
    return turn;
  }
}

/** A disk whose connection is an engine's, for reading. */
class DeviceElsewhere implements Device {
  readonly name: string;
  readonly identity: string;
  readonly capabilities: DeviceCapabilities = {
    ...{ readOnly: true, trim: false, writeZeroes: false, durable: true, nonRotational: true },
  };
  readonly logicalSectorBytes = 512;
  readonly physicalSectorBytes = 512;
  readonly #sizeBytes: number;
  readonly #there: Borrower;
  #isClosed = false;

  constructor(name: string, identity: string, sizeBytes: number, there: Borrower) {
    this.name = name;
    this.identity = identity;
    this.#sizeBytes = sizeBytes;
    this.#there = there;
  }

  isPresent(): boolean {
    return true;
  }

  size(): number {
    if (this.#isClosed) throw closedError(this.name);
    return this.#sizeBytes;
  }

  async read(buffer: Uint8Array, offset: number): Promise<number> {
    if (this.#isClosed) throw closedError(this.name);
    const answer = this.#there.read(this.name, offset, buffer.byteLength);
    const bytes = await within(ANSWER_MS, answer);
    if (bytes === undefined) throw new ErrnoError(Errno.EIO, `the engine that has ${this.name} does not answer`);
    buffer.set(bytes);
    return bytes.byteLength;
  }

  write(): never {
    throw readOnlyError(this.name);
  }

  trim(): never {
    throw readOnlyError(this.name);
  }

  writeZeroes(): never {
    throw readOnlyError(this.name);
  }

  flush(): void {}

  close(): void {
    this.#isClosed = true;
  }
}

/** Tells when it is closed. */
class Look extends DeviceWrapper {
  readonly #onClosed: () => void;

  constructor(device: Device, onClosed: () => void) {
    super(device);
    this.#onClosed = onClosed;
  }

  override async close(): Promise<void> {
    try {
      await this.inner.close();
    } finally {
      this.#onClosed();
    }
  }
}

/** What a promise resolves with, or undefined where it has not within so many milliseconds. */
async function within<T>(ms: number, promise: Promise<T>): Promise<T | undefined> {
  const { promise: late, resolve } = Promise.withResolvers<undefined>();
  const timer = setTimeout(resolve, ms, undefined);
  try {
    return await Promise.race([promise, late]);
  } finally {
    clearTimeout(timer);
  }
}
