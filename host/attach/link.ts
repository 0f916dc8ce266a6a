import type { NbdAddress } from '../devices/nbd/address.ts';
import { NbdConnection } from '../devices/nbd/connection.ts';
import { dial } from '../devices/nbd/dial.ts';
import { Errno, ErrnoError } from '../errno.ts';
import type { Logger } from '../log.ts';

export interface LinkOptions {
  /** For messages: the volume's name. */
  readonly name: string;
  readonly address: NbdAddress;
  /** Of the volume, decimal; another volume of the same name is not it. */
  readonly guid: string;
  /** Of the volume, which may grow, and not shrink. */
  readonly sizeBytes: number;
  readonly readOnly: boolean;
  /** How long requests wait for a host that is away, milliseconds; Infinity: for ever. */
  readonly waitMs: number;
  /** Does what has to be done on a connection before anybody else uses it. One that fails is given up. */
  readonly prepare: (connection: NbdConnection) => Promise<void>;
  readonly log: Logger;
}

/** What people are told of it. */
export interface LinkStatus {
  readonly isConnected: boolean;
  /** Why not. */
  readonly reason?: string;
  /** Seconds since it was. */
  readonly awaySeconds?: number;
  /** Requests fail, since they waited for too long. */
  readonly fails?: boolean;
}

/** After the first, second … try that failed in a row, milliseconds; the last for all that follow. */
const RETRY_MS = [50, 100, 250, 500, 1000];
const CONNECT_TIMEOUT_MS = 10_000;
/** A timer has 31 bits. */
const TIMER_MS_MAX = 2 ** 31 - 1;

interface Waiter {
  readonly resolve: (connection: NbdConnection) => void;
  readonly reject: (error: Error) => void;
}

/**
 * A connection to a volume of a host that may go away and come back: made anew whenever it is lost. While it is away
 * requests wait for the next one; after `waitMs` they fail with EIO, at once, until it is back.
 *
 *   connected ─ lost ─► away (requests wait) ─ waitMs ─► failing (requests fail)
 *       ▲                   │                                │
 *       └───── dial, the same volume, prepare ◄──────────────┘
 */
export class Link {
  readonly #options: LinkOptions;
  #connection: NbdConnection | undefined;
  readonly #waiters = new Set<Waiter>();
  #reason = 'no connection was made yet';
  #awaySince = performance.now();
  #fails = false;
  #patience: NodeJS.Timeout | undefined;
  #retry: NodeJS.Timeout | undefined;
  #failures = 0;
  readonly #closing = new AbortController();

  private constructor(options: LinkOptions) {
    this.#options = options;
  }

  /** Connects for the first time. Rejects with what is in the way. */
  static async open(options: LinkOptions): Promise<Link> {
    const link = new Link(options);
    await link.#connect();
    return link;
  }

  get status(): LinkStatus {
    if (this.#connection !== undefined) return { isConnected: true };
    const awaySeconds = Math.round((performance.now() - this.#awaySince) / 1000);
    return { isConnected: false, reason: this.#reason, awaySeconds, fails: this.#fails };
  }

  /** A connection that works, as far as is known; waits for it. Rejects with EIO when that took too long. */
  async ready(): Promise<NbdConnection> {
    if (this.#connection !== undefined) return this.#connection;
    if (this.#fails) throw this.#failure();
    return new Promise((resolve, reject) => this.#waiters.add({ resolve, reject }));
  }

  /** Nobody waits any longer for a host that is away. */
  stopWaiting(): void {
    clearTimeout(this.#patience);
    this.#fails = true;
    const waiters = [...this.#waiters];
    this.#waiters.clear();
    for (const { reject } of waiters) reject(this.#failure());
  }

  close(): void {
    this.#closing.abort();
    clearTimeout(this.#retry);
    this.#connection?.close();
    this.stopWaiting();
  }

  #failure(): ErrnoError {
    return new ErrnoError(Errno.EIO, `${this.#options.name}: the host is away (${this.#reason})`);
  }

  async #connect(): Promise<void> {
    const { name, address, prepare, log } = this.#options;
    const { signal } = this.#closing;
    const { socket, nbdExport } = await dial(address, { timeoutMs: CONNECT_TIMEOUT_MS, signal });
    const connection: NbdConnection = new NbdConnection(socket, nbdExport, {
      // A host that is there and slow, or whose pool is suspended, is a slow disk.
      ...{ name, ioTimeoutMs: Infinity },
      onLost: (reason) => this.#lost(connection, reason),
    });
    try {
      this.#check(connection);
      await prepare(connection);
    } catch (error) {
      connection.lose((error as Error).message);
      throw error;
    }
    if (connection.lost !== undefined) throw connection.lost;
    if (signal.aborted) {
      connection.close();
      return;
    }
    clearTimeout(this.#patience);
    this.#connection = connection;
    const awaySeconds = Math.round((performance.now() - this.#awaySince) / 1000);
    log.info({ volume: name, awaySeconds }, 'connected');
    this.#fails = false;
    this.#failures = 0;
    const waiters = [...this.#waiters];
    this.#waiters.clear();
    for (const { resolve } of waiters) resolve(connection);
  }

  /** @throws Error unless it is the volume that was attached. */
  #check(connection: NbdConnection): void {
    const { name, guid, sizeBytes, readOnly } = this.#options;
    const { description, sizeBytes: found } = connection.nbdExport;
    const [, foundGuid] = /, guid (\d+)$/.exec(description) ?? [];
    if (foundGuid !== guid) {
      throw new Error(`${name} is another volume now (guid ${foundGuid ?? 'unknown'}, it was ${guid})`);
    }
    if (found < sizeBytes) throw new Error(`${name} has ${found} bytes now, it had ${sizeBytes}`);
    if (!readOnly && connection.has('READ_ONLY')) throw new Error(`${name} is read-only now`);
  }

  #lost(connection: NbdConnection, reason: string): void {
    if (this.#connection !== connection || this.#closing.signal.aborted) return;
    const { name, waitMs, log } = this.#options;
    this.#connection = undefined;
    this.#reason = reason;
    this.#awaySince = performance.now();
    log.warn({ volume: name, reason }, 'the host is away');
    if (waitMs <= TIMER_MS_MAX) {
      this.#patience = setTimeout(() => {
        log.error({ volume: name, waitMs, reason: this.#reason }, 'the host stays away: reads and writes fail');
        this.stopWaiting();
      }, waitMs);
    }
    this.#try();
  }

  #try(): void {
    this.#connect().catch((error: Error) => {
      if (this.#closing.signal.aborted) return;
      if (error.message !== this.#reason) {
        this.#options.log.warn(
          { volume: this.#options.name, reason: error.message },
          'no connection; it is tried again',
        );
      }
      this.#reason = error.message;
      const waitMs = RETRY_MS[Math.min(this.#failures, RETRY_MS.length - 1)]!;
      this.#failures++;
      this.#retry = setTimeout(() => this.#try(), waitMs);
    });
  }
}
