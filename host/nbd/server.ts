import net from 'node:net';
import { type Logger, log as rootLog } from '../log.ts';
import { Share } from '../volumes/share.ts';
import type { VolumeProvider } from '../volumes/volume.ts';
import { Connection, type ConnectionOptions } from './connection.ts';
import { Exports } from './exports.ts';
import { defaultLimits, type NbdLimits } from './limits.ts';
import { checkListener, type ListenerAddress, type ListenerOptions, listen } from './listener.ts';
import { type NbdMetrics, newMetrics } from './metrics.ts';
import { acceptedWire, securedWire } from './socket.ts';
import { loadTls, type TlsUpgrade } from './tls.ts';

export interface NbdServerOptions {
  readonly provider: VolumeProvider;
  readonly listeners: readonly ListenerOptions[];
  readonly limits?: Partial<NbdLimits>;
  readonly log?: Logger;
}

/** How often stalled connections are looked for. */
const STALL_CHECKS = 4;

/**
 * NBD server: every volume of the provider on every listener, as far as the listener's policy shows it.
 *
 *   const server = new NbdServer({ provider, listeners: [{ unix: 'run/nbd.sock' }] });
 *   await server.start();  …  await server.close();
 */
export class NbdServer {
  readonly metrics: NbdMetrics = newMetrics();
  readonly #provider: VolumeProvider;
  readonly #listeners: readonly ListenerOptions[];
  readonly #limits: NbdLimits;
  readonly #log: Logger;
  readonly #requestBytesMax: number;
  readonly #shareBytes: number;
  /** By zpool; as many as there ever were, which are few. */
  readonly #shares = new Map<string, Share>();
  readonly #servers: net.Server[] = [];
  readonly #addresses: ListenerAddress[] = [];
  readonly #connections = new Set<Connection>();
  #stallTimer: NodeJS.Timeout | undefined;
  #closing: Promise<void> | undefined;
  #allClosed: (() => void) | undefined;

  /** @throws ErrnoError when a listener is not allowed as configured, see checkListener. */
  constructor(options: NbdServerOptions) {
    this.#provider = options.provider;
    this.#listeners = options.listeners;
    this.#limits = { ...defaultLimits, ...options.limits };
    this.#log = options.log ?? rootLog;
    const { limitBytes, maxBytes } = options.provider.buffers;
    this.#shareBytes = Math.floor(limitBytes / 2);
    // A power of two: a multiple of every block size a volume can have.
    const largest = Math.min(this.#limits.requestBytes, maxBytes, this.#shareBytes);
    this.#requestBytesMax = 2 ** Math.floor(Math.log2(largest));
    for (const listener of options.listeners) checkListener(listener);
  }

  /** Opens all listeners, or none: on failure what was opened is closed again and the first error thrown. */
  async start(): Promise<void> {
    try {
      for (const listener of this.#listeners) await this.#listen(listener);
    } catch (error) {
      await this.close();
      throw error;
    }
    const period = Math.max(10, this.#limits.stallMs / STALL_CHECKS);
    this.#stallTimer = setInterval(() => this.#cutStalled(), period).unref();
  }

  /** Where clients connect to, in the order of the options. */
  addresses(): readonly ListenerAddress[] {
    return this.#addresses;
  }

  /** Connections now. */
  get connections(): number {
    return this.#connections.size;
  }

  /**
   * Accepts nobody any more, answers what is in flight, flushes and closes the volumes. Clients that do not read their
   * replies within `shutdownMs` are cut. After that time again, requests that a suspended pool does not answer are left
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
        const volumes = [...this.#connections].map(({ volume }) => volume);
        this.#log.warn({ volumes }, 'nbd requests that are not answered are left behind');
        this.#allClosed!();
      }, 2 * shutdownMs);
      await drained;
      clearTimeout(cut);
      clearTimeout(leave);
    }
    await Promise.all(closed);
  }

  async #listen(options: ListenerOptions): Promise<void> {
    const upgrade = options.tls === undefined ? undefined : await loadTls(options.tls);
    const server = net.createServer({ allowHalfOpen: true, pauseOnConnect: true, noDelay: true, keepAlive: true });
    server.maxConnections = this.#limits.connections;
    const base: Omit<ConnectionOptions, 'startTls'> = {
      exports: new Exports(this.#provider, options),
      shareOf: (volume) => this.#shareOf(volume),
      tls: options.tls?.mode ?? 'off',
      limits: options.idleMs === undefined ? this.#limits : { ...this.#limits, idleMs: options.idleMs },
      requestBytesMax: this.#requestBytesMax,
      metrics: this.metrics,
      log: this.#log,
      onClosed: (connection) => this.#forget(connection),
    };
    server.on('drop', () => {
      this.metrics.connections.refused++;
    });
    this.#addresses.push(await listen(server, options));
    this.#servers.push(server);
    const name = options.unix ?? this.#addresses.at(-1)!.tcp!;
    server.on('error', (error) => this.#log.error({ err: error, listener: name }, 'nbd listener failed'));
    server.on('connection', (socket) => this.#accept(socket, base, upgrade, name));
    this.#log.info({ listener: name, tls: base.tls }, 'nbd listening');
  }

  #accept(
    socket: net.Socket,
    base: Omit<ConnectionOptions, 'startTls'>,
    upgrade: TlsUpgrade | undefined,
    name: string,
  ): void {
    const { connections } = this.metrics;
    connections.open++;
    connections.total++;
    const peer = socket.remoteAddress === undefined ? name : `${socket.remoteAddress}:${socket.remotePort}`;
    const connection = new Connection({
      ...base,
      startTls: (wire, sink) => securedWire(wire, sink, upgrade!),
    });
    this.#connections.add(connection);
    connection.start(acceptedWire(socket, connection, peer, this.#limits.lingerMs));
  }

  /** Who waits for memory shall not wait for clients that are gone in all but name. */
  #cutStalled(): void {
    let wanted = false;
    for (const share of this.#shares.values()) wanted ||= share.waitingInPool > 0;
    for (const connection of this.#connections) {
      if (connection.checkStall() < STALL_CHECKS) continue;
      if (!wanted && connection.share!.waiting === 0) continue;
      this.metrics.connections.stalled++;
      this.#log.info({ peer: connection.wire.peer, heldBytes: connection.heldBytes }, 'nbd client stalled: cut');
      connection.fail(new Error('stalled'));
    }
  }

  /** Volumes of one zpool share one half of the buffers: when it is suspended, the others go on in the other half. */
  #shareOf(volume: string): Share {
    const zpool = volume.split(/[/@]/, 1)[0]!;
    let share = this.#shares.get(zpool);
    if (share === undefined) {
      share = new Share(this.#provider.buffers, this.#shareBytes);
      this.#shares.set(zpool, share);
    }
    return share;
  }

  #forget(connection: Connection): void {
    if (!this.#connections.delete(connection)) return;
    this.metrics.connections.open--;
    if (this.#connections.size === 0) this.#allClosed?.();
  }
}
