import type { Socket } from 'node:net';
import { assert } from '../../assert.ts';
import { Errno, ErrnoError } from '../../errno.ts';
import { log } from '../../log.ts';
import type { TlsClientUpgrade } from '../../net/tls.ts';
import type { DeviceOpenOptions } from '../device.ts';
import { addressText, type NbdAddress } from './address.ts';
import { type Loss, NbdConnection } from './connection.ts';
import { NbdDevice } from './device.ts';
import { dial } from './dial.ts';
import type { SlowLimit } from './slowness.ts';

export interface NbdDiskOptions {
  /** How users name it: its path for the programs. */
  readonly name: string;
  readonly address: NbdAddress;
  /** How the connection is secured; undefined: not at all. */
  readonly tls?: TlsClientUpgrade | undefined;
  /** A request that is not answered for so long ends the connection. */
  readonly ioTimeoutMs: number;
  /** A disk that is slower is lost; undefined: it may be as slow as it is. */
  readonly slow?: SlowLimit | undefined;
  /** For a connection, with the handshakes of TLS and NBD. */
  readonly connectTimeoutMs: number;
  /** Instead of `backoff`, for tests. */
  readonly backoff?: Backoff;
}

export interface Backoff {
  /** After the first, second … connection that failed in a row, milliseconds; the last for all that follow. */
  readonly retryMs: readonly number[];
  /** After the first, second … loss of a connection soon after the one before. */
  readonly flapMs: readonly number[];
  /** A connection that lives for so long ends a row of losses. */
  readonly steadyMs: number;
}

/** A server that is away is asked every few seconds; one that comes and goes is left alone for longer and longer. */
const defaultBackoff: Backoff = {
  retryMs: [250, 500, 1000, 2000, 5000],
  flapMs: [0, 30_000, 60_000, 300_000],
  steadyMs: 600_000,
};

/** What people are told of a disk. */
export interface NbdDiskStatus {
  /** It is connected, here or where it is lent to. */
  readonly isReady: boolean;
  /** Why not. */
  readonly reason: string | undefined;
  /** Of the export, while it is. */
  readonly sizeBytes: number | undefined;
}

/** How a connection was lost. */
export interface NbdLoss {
  readonly reason: string;
  readonly how: Loss;
}

/**
 * A disk that an NBD server exports. Connections are made in the background, from `start` on and again whenever one is
 * lost; `open` takes the one that is ready, or fails at once.
 */
export class NbdDisk {
  readonly name: string;
  readonly identity: string;
  /** Called whenever a connection is ready. */
  onReady: () => void = () => {};
  readonly #options: NbdDiskOptions;
  readonly #backoff: Backoff;
  #connection: NbdConnection | undefined;
  #reason = 'no connection was made yet';
  #attempt: Promise<void> = Promise.resolve();
  #timer: NodeJS.Timeout | undefined;
  #failures = 0;
  #losses = 0;
  #readyMs = 0;
  /** Open for writing, as far as is known. */
  #written = new Set<NbdDevice>();
  /** Of the connection that was last opened: who uses the disk relies on it. */
  #usedBytes = 0;
  /** Another process has a connection of its own, instead of this one. */
  #isLent = false;
  /** There was none, the last time that one was to be there. */
  #isAway = true;
  #isClosed = false;
  readonly #abort = new AbortController();

  constructor(options: NbdDiskOptions) {
    this.#options = options;
    this.#backoff = options.backoff ?? defaultBackoff;
    this.name = options.name;
    this.identity = `nbd:${addressText(options.address)}`;
  }

  /** Begins to connect; resolves when the first try has succeeded or failed. */
  async start(): Promise<void> {
    this.#attempt = this.#connect();
    await this.#attempt;
  }

  get status(): NbdDiskStatus {
    if (this.#isLent) return { isReady: true, reason: undefined, sizeBytes: this.#usedBytes };
    const connection = this.#connection;
    const isReady = connection !== undefined;
    return { isReady, reason: isReady ? undefined : this.#reason, sizeBytes: connection?.nbdExport.sizeBytes };
  }

  /** Resolves when a disk that was there, and is being connected to anew, is there or away; of others at once. */
  async settled(): Promise<void> {
    if (!this.#isAway) await this.#attempt;
  }

  /**
   * Ends the connection that is ready, for another process to make one: the server knows of one at a time. Until `takeBack`
   * none is made here. Resolves with the size of the export; ENXIO as `open`.
   */
  async lend(): Promise<number> {
    const connection = this.#ready();
    this.#connection = undefined;
    this.#isLent = true;
    const { sizeBytes } = connection.nbdExport;
    this.#usedBytes = sizeBytes;
    await connection.close();
    return sizeBytes;
  }

  /** The other process has ended its connection, or lost it. */
  takeBack(loss?: NbdLoss): void {
    assert(this.#isLent, 'a remote disk comes back that was not lent');
    this.#isLent = false;
    if (this.#isClosed) return;
    if (loss === undefined) this.#attempt = this.#connect();
    else this.#waitAfter(loss);
  }

  /** Somebody has it open for writing, on the connection that is ready. */
  get isWritten(): boolean {
    return [...this.#written].some((device) => device.isOpen && device.isPresent());
  }

  /** ENXIO where no connection is ready, with the reason; EROFS where the server lets nobody write. */
  open(options: DeviceOpenOptions = {}): NbdDevice {
    const connection = this.#ready();
    const device = new NbdDevice(this.name, this.identity, connection, options);
    if (!device.capabilities.readOnly) this.#written.add(device);
    this.#written = new Set([...this.#written].filter((other) => other.isOpen && other.isPresent()));
    this.#usedBytes = connection.nbdExport.sizeBytes;
    return device;
  }

  /** Ends the connection; devices that are open are lost. */
  async close(): Promise<void> {
    this.#isClosed = true;
    clearTimeout(this.#timer);
    this.#abort.abort();
    void this.#connection?.close();
    await this.#attempt;
  }

  #ready(): NbdConnection {
    if (this.#connection !== undefined) return this.#connection;
    throw notThere(this.name, this.#options.address, this.#isLent ? 'another process has it' : this.#reason);
  }

  /** One try. Never rejects. */
  async #connect(): Promise<void> {
    const { address, tls, connectTimeoutMs } = this.#options;
    try {
      const { socket, nbdExport } = await dial(address, {
        ...{ tls, timeoutMs: connectTimeoutMs, signal: this.#abort.signal },
      });
      if (this.#isClosed) socket.destroy();
      else this.#connected(socket, nbdExport);
    } catch (error) {
      this.#failed((error as Error).message);
    }
  }

  #connected(socket: Socket, nbdExport: NbdConnection['nbdExport']): void {
    const smaller = whySmaller(nbdExport.sizeBytes, this.#usedBytes);
    if (smaller !== undefined) {
      socket.destroy();
      this.#failed(smaller);
      return;
    }
    const connection: NbdConnection = new NbdConnection(socket, nbdExport, {
      name: this.name,
      ioTimeoutMs: this.#options.ioTimeoutMs,
      slow: this.#options.slow,
      onLost: (reason, how) => this.#lost(connection, reason, how),
    });
    this.#connection = connection;
    this.#readyMs = performance.now();
    this.#failures = 0;
    if (this.#isAway) this.#tell(connection);
    this.#isAway = false;
    this.onReady();
  }

  #tell(connection: NbdConnection): void {
    const { sizeBytes } = connection.nbdExport;
    log.info({ device: this.name, server: addressText(this.#options.address), sizeBytes }, 'remote disk is connected');
    if (!connection.has('READ_ONLY') && !connection.has('SEND_FLUSH') && !connection.has('SEND_FUA')) {
      log.warn({ device: this.name }, 'the server of a remote disk has no flush: a power cut there can lose data');
    }
  }

  #lost(connection: NbdConnection, reason: string, how: Loss): void {
    if (this.#connection !== connection) return;
    this.#connection = undefined;
    if (this.#isClosed) this.#reason = reason;
    else this.#waitAfter({ reason, how });
  }

  #waitAfter({ reason, how }: NbdLoss): void {
    this.#isAway = true;
    this.#reason = reason;
    const { flapMs, steadyMs } = this.#backoff;
    if (performance.now() - this.#readyMs >= steadyMs) this.#losses = 0;
    // One that is slow is there at once, and as slow.
    if (how === 'slow') this.#losses = Math.max(1, this.#losses);
    const waitMs = flapMs[Math.min(this.#losses, flapMs.length - 1)]!;
    this.#losses += 1;
    log.warn({ device: this.name, reason, ...(waitMs > 0 && { nextTryMs: waitMs }) }, 'remote disk is lost');
    this.#again(waitMs);
  }

  #failed(reason: string): void {
    if (this.#isClosed) return;
    this.#isAway = true;
    // Each reason once, not each try.
    if (this.#failures === 0 || reason !== this.#reason) {
      log.warn({ device: this.name, reason }, 'remote disk cannot be reached; it is tried again');
    }
    this.#reason = reason;
    const { retryMs } = this.#backoff;
    const waitMs = retryMs[Math.min(this.#failures, retryMs.length - 1)]!;
    this.#failures += 1;
    this.#again(waitMs);
  }

  #again(waitMs: number): void {
    this.#timer = setTimeout(() => {
      this.#attempt = this.#connect();
    }, waitMs).unref();
  }
}

/** What one is told that opens a disk that is away. */
export function notThere(name: string, address: NbdAddress, reason: string): ErrnoError {
  return new ErrnoError(Errno.ENXIO, `${name} (${addressText(address)}) is not there: ${reason}`);
}

/** Why an export cannot be taken any more by who relied on its size; undefined: it can. */
export function whySmaller(sizeBytes: number, usedBytes: number): string | undefined {
  if (sizeBytes >= usedBytes) return undefined;
  return `the export has ${sizeBytes} bytes, and had ${usedBytes} when it was last used`;
}
