import net from 'node:net';
import { setTimeout as delay } from 'node:timers/promises';
import { Errno, ErrnoError } from '../errno.ts';
import { type Logger, log as rootLog } from '../log.ts';
import { isLoopback, type ListenerAddress, listen, parseTcp } from '../net/listener.ts';
import { acceptedWire } from '../net/socket.ts';
import { portKey } from '../scsi/nexus.ts';
import type { UnitStore } from '../scsi/unit.ts';
import { Units } from '../scsi/units.ts';
import { Shares } from '../volumes/shares.ts';
import type { VolumeProvider } from '../volumes/volume.ts';
import type { ChapSecrets } from './chap.ts';
import { Connection, type ConnectionOptions } from './connection.ts';
import { LoginStatus } from './constants.ts';
import { LoginError } from './errors.ts';
import {
  COMPARE_BLOCKS_MAX,
  defaultLimits,
  type IscsiLimits,
  SAME_BYTES_MAX,
  UNMAP_BYTES_MAX,
  UNMAP_DESCRIPTORS_MAX,
} from './limits.ts';
import type { Established } from './login.ts';
import { type IscsiMetrics, newMetrics } from './metrics.ts';
import { PREFIX_DEFAULT } from './names.ts';
import { StashBudget } from './stash.ts';
import { type TargetConfig, type TargetPolicy, Targets } from './targets.ts';

/** Where the server listens, what it shows there, and to whom. */
export interface IscsiListenerOptions extends TargetPolicy {
  /** `host:port`, `[::1]:port`; port 0 takes a free one. */
  readonly listen: string;
  /** Who may log in; without it everybody. */
  readonly chap?: ChapSecrets | undefined;
  /** Where the names of the volumes' own targets begin. */
  readonly prefix?: string | undefined;
  /** Must be true to listen without `chap` on an address that others than this machine reach. */
  readonly allowRemote?: boolean | undefined;
}

export interface IscsiServerOptions {
  readonly provider: VolumeProvider;
  /** Where reservations are kept. */
  readonly store: UnitStore;
  readonly listeners: readonly IscsiListenerOptions[];
  /** Targets with logical units of one's choice. */
  readonly targets?: readonly TargetConfig[];
  /** Logical block of the volumes' own targets, bytes. Default: 512. */
  readonly blockBytes?: number;
  /** Product revision level of INQUIRY, four characters. */
  readonly revision?: string;
  /** With other frontends of the same provider; default: its own. */
  readonly shares?: Shares;
  readonly limits?: Partial<IscsiLimits>;
  readonly log?: Logger;
}

/** How often stalled connections are looked for. */
const STALL_CHECKS = 4;
const TSIH_MAX = 0xffff;

/**
 * Checks a listener without opening it.
 * @throws ErrnoError EINVAL (bad address), EPERM (reachable from the network unprotected).
 */
export function checkIscsiListener({ listen: address, chap, allowRemote }: IscsiListenerOptions): void {
  const { host } = parseTcp('iscsi', address);
  if (isLoopback(host) || chap !== undefined || allowRemote === true) return;
  throw new ErrnoError(Errno.EPERM, `iscsi: ${address} can be reached from the network: set chap, or allow_remote`);
}

/**
 * iSCSI server: every volume of the provider is a target, as far as the listener's policy shows it.
 *
 *   const server = new IscsiServer({ provider, store, listeners: [{ listen: '127.0.0.1:3260' }] });
 *   await server.start();  …  await server.close();
 */
export class IscsiServer {
  readonly metrics: IscsiMetrics = newMetrics();
  readonly #options: IscsiServerOptions;
  readonly #limits: IscsiLimits;
  readonly #log: Logger;
  readonly #shares: Shares;
  readonly #stash: StashBudget;
  readonly #units: Units;
  readonly #servers: net.Server[] = [];
  readonly #addresses: ListenerAddress[] = [];
  readonly #connections = new Set<Connection>();
  /** Connections before the end of their login, the oldest first. */
  readonly #logins = new Set<Connection>();
  /** Normal sessions by their nexus: as long as anything of them is there. */
  readonly #sessions = new Map<
    string,
    { readonly connection: Connection; readonly tsih: number; readonly cid: number }
  >();
  #tsih = 0;
  #stallTimer: NodeJS.Timeout | undefined;
  #closing: Promise<void> | undefined;
  #allClosed: (() => void) | undefined;

  /** @throws ErrnoError when a listener is not allowed as configured, see checkIscsiListener. */
  constructor(options: IscsiServerOptions) {
    this.#options = options;
    this.#limits = { ...defaultLimits, ...options.limits };
    this.#log = options.log ?? rootLog;
    const { buffers } = options.provider;
    this.#shares = options.shares ?? new Shares(options.provider);
    this.#stash = new StashBudget(Math.floor(buffers.limitBytes / 4));
    const largest = Math.min(this.#limits.transferBytes, buffers.maxBytes, this.#shares.limitBytes);
    this.#units = new Units({
      provider: options.provider,
      store: options.store,
      limits: {
        transferBytes: 2 ** Math.floor(Math.log2(largest)),
        compareBlocks: COMPARE_BLOCKS_MAX,
        sameBytes: SAME_BYTES_MAX,
        unmapBytes: UNMAP_BYTES_MAX,
        unmapDescriptors: UNMAP_DESCRIPTORS_MAX,
      },
      revision: options.revision ?? '0001',
    });
    for (const listener of options.listeners) checkIscsiListener(listener);
  }

  /** Opens all listeners, or none: on failure what was opened is closed again and the first error thrown. */
  async start(): Promise<void> {
    try {
      for (const listener of this.#options.listeners) await this.#listen(listener);
    } catch (error) {
      await this.close();
      throw error;
    }
    const period = Math.max(10, this.#limits.stallMs / STALL_CHECKS);
    this.#stallTimer = setInterval(() => this.#cutStalled(), period).unref();
  }

  /** Where initiators connect to, in the order of the options. */
  addresses(): readonly ListenerAddress[] {
    return this.#addresses;
  }

  /** Connections now. */
  get connections(): number {
    return this.#connections.size;
  }

  /** Bytes of data that came before there was a buffer for them. */
  get stashedBytes(): number {
    return this.#stash.usedBytes;
  }

  /**
   * Accepts nobody any more, answers what is under way, flushes and closes the volumes. Initiators that do not read their
   * answers within `shutdownMs` are cut. After that time again, commands that a suspended pool does not answer are left
   * behind. A second call waits for the first.
   */
  close(): Promise<void> {
    this.#closing ??= this.#close();
    return this.#closing;
  }

  async #close(): Promise<void> {
    clearInterval(this.#stallTimer);
    const closed = this.#servers.map((server) => new Promise<void>((resolve) => server.close(() => resolve())));
    if (this.#connections.size > 0) {
      const drained = new Promise<void>((resolve) => {
        this.#allClosed = resolve;
      });
      for (const connection of this.#connections) connection.shutDown();
      const { shutdownMs } = this.#limits;
      const cut = setTimeout(() => {
        for (const connection of this.#connections) connection.fail(new Error('server shut down'));
      }, shutdownMs);
      const leave = setTimeout(() => {
        const volumes = [...this.#connections].flatMap(({ session }) => session?.volumes ?? []);
        this.#log.warn({ volumes }, 'iscsi commands that are not answered are left behind');
        this.#allClosed!();
      }, 2 * shutdownMs);
      await drained;
      clearTimeout(cut);
      clearTimeout(leave);
    }
    await Promise.all(closed);
  }

  async #listen(options: IscsiListenerOptions): Promise<void> {
    const { provider, blockBytes = 512, targets = [] } = this.#options;
    const { prefix = PREFIX_DEFAULT } = options;
    const server = net.createServer({ allowHalfOpen: true, pauseOnConnect: true, noDelay: true, keepAlive: true });
    server.maxConnections = this.#limits.connections;
    const base: Omit<ConnectionOptions, 'address' | 'localAddress'> = {
      targets: new Targets({ provider, prefix, blockBytes, targets }, options),
      units: this.#units,
      shares: this.#shares,
      stash: this.#stash,
      chap: options.chap,
      limits: this.#limits,
      metrics: this.metrics,
      log: this.#log,
      admit: (connection, established, tsih) => this.#admit(connection, established, tsih),
      onEstablished: (connection) => this.#logins.delete(connection),
      onClosed: (connection) => this.#forget(connection),
    };
    server.on('drop', () => {
      this.metrics.connections.refused++;
    });
    this.#addresses.push(await listen('iscsi', server, { tcp: options.listen, allowPlaintextFromNetwork: true }));
    this.#servers.push(server);
    const name = this.#addresses.at(-1)!.tcp!;
    server.on('error', (error) => this.#log.error({ err: error, listener: name }, 'iscsi listener failed'));
    server.on('connection', (socket) => this.#accept(socket, base));
    this.#log.info({ listener: name, chap: options.chap !== undefined }, 'iscsi listening');
  }

  #accept(socket: net.Socket, base: Omit<ConnectionOptions, 'address' | 'localAddress'>): void {
    const { connections } = this.metrics;
    connections.open++;
    connections.total++;
    const address = plainAddress(socket.remoteAddress ?? '');
    const local = plainAddress(socket.localAddress ?? '');
    const localAddress = `${local.includes(':') ? `[${local}]` : local}:${socket.localPort}`;
    const connection = new Connection({ ...base, address, localAddress });
    this.#connections.add(connection);
    this.#logins.add(connection);
    connection.start(acceptedWire(socket, connection, `${address}:${socket.remotePort}`, this.#limits.lingerMs));
    if (this.#logins.size <= this.#limits.logins) return;
    const [oldest] = this.#logins;
    this.#logins.delete(oldest!);
    oldest!.fail(new Error('too many logins under way'));
  }

  /**
   * Gives a session its handle. One of the same initiator port is ended before (RFC 7143, 6.3.5): what it had under way is
   * over then, and cannot overtake what its successor writes.
   */
  async #admit(connection: Connection, established: Established, tsih: number): Promise<number> {
    const { initiator, isid, target, cid } = established;
    if (target === undefined) return this.#newTsih();
    const key = portKey({ initiator, isid, target: target.name });
    const named = this.#sessions.get(key);
    if (tsih !== 0 && named?.tsih !== tsih) {
      throw new LoginError(LoginStatus.SESSION_DOES_NOT_EXIST, `there is no session ${tsih} of this initiator`);
    }
    if (tsih !== 0 && named!.cid !== cid) {
      throw new LoginError(LoginStatus.TOO_MANY_CONNECTIONS, 'a session has one connection');
    }
    for (let former = named; former !== undefined; former = this.#sessions.get(key)) {
      former.connection.fail(new Error('the initiator has begun another session'));
      const ended = former.connection.gone.then(() => true);
      if (!(await Promise.race([ended, delay(this.#limits.loginMs / 2, false, { ref: false })]))) {
        throw new LoginError(LoginStatus.SERVICE_UNAVAILABLE, 'the commands of the former session are not over');
      }
    }
    if (!this.#connections.has(connection)) throw new ErrnoError(Errno.ECONNRESET, 'login');
    const handle = tsih === 0 ? this.#newTsih() : tsih;
    this.#sessions.set(key, { connection, tsih: handle, cid });
    connection.gone.then(() => {
      if (this.#sessions.get(key)?.connection === connection) this.#sessions.delete(key);
    });
    return handle;
  }

  #newTsih(): number {
    const used = new Set([...this.#sessions.values()].map((session) => session.tsih));
    do {
      this.#tsih = this.#tsih >= TSIH_MAX ? 1 : this.#tsih + 1;
    } while (used.has(this.#tsih));
    return this.#tsih;
  }

  /** Who waits for memory shall not wait for initiators that are gone in all but name. */
  #cutStalled(): void {
    for (const connection of this.#shares.stalled(this.#connections, STALL_CHECKS)) {
      this.metrics.connections.stalled++;
      this.#log.info({ peer: connection.wire.peer, heldBytes: connection.heldBytes }, 'iscsi initiator stalled: cut');
      connection.fail(new Error('stalled'));
    }
  }

  #forget(connection: Connection): void {
    if (!this.#connections.delete(connection)) return;
    this.#logins.delete(connection);
    this.metrics.connections.open--;
    if (this.#connections.size === 0) this.#allClosed?.();
  }
}

/** An IPv4 address that came by way of an IPv6 socket is one. */
function plainAddress(address: string): string {
  return address.startsWith('::ffff:') && net.isIPv4(address.slice(7)) ? address.slice(7) : address;
}
