import net from 'node:net';
import { type Logger, log as rootLog } from '../log.ts';
import { checkListener, type ListenerAddress, listen } from '../net/listener.ts';
import { acceptedWire, securedWire } from '../net/socket.ts';
import { loadTls, type TlsUpgrade } from '../net/tls.ts';
import { Exports } from '../volumes/exports.ts';
import { Shares } from '../volumes/shares.ts';
import type { VolumeHandle, VolumeProvider } from '../volumes/volume.ts';
import { Connection, type ConnectionOptions } from './connection.ts';
import type { Handover } from './handover.ts';
import { defaultLimits, type NbdLimits } from './limits.ts';
import type { NbdListenerOptions } from './listener-options.ts';
import { type NbdMetrics, newMetrics } from './metrics.ts';

export interface NbdServerOptions {
  readonly provider: VolumeProvider;
  readonly listeners: readonly NbdListenerOptions[];
  readonly limits?: Partial<NbdLimits>;
  /** With other frontends of the same provider; default: its own. */
  readonly shares?: Shares;
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
  readonly #listeners: readonly NbdListenerOptions[];
  readonly #limits: NbdLimits;
  readonly #log: Logger;
  readonly #requestBytesMax: number;
  readonly #shares: Shares;
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
    const { buffers } = options.provider;
    this.#shares = options.shares ?? new Shares(options.provider);
    // A power of two: a multiple of every block size a volume can have.
    const largest = Math.min(this.#limits.requestBytes, buffers.maxBytes, this.#shares.limitBytes);
    this.#requestBytesMax = 2 ** Math.floor(Math.log2(largest));
    for (const listener of options.listeners) checkListener('nbd', listener);
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

  /** Connections that have a volume of the pool open. */
  clientsOf(pool: string): number {
    let count = 0;
    for (const { volume } of this.#connections) if (volume?.split(/[/@]/, 1)[0] === pool) count++;
    return count;
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

  async #listen(options: NbdListenerOptions): Promise<void> {
    const upgrade = options.tls === undefined ? undefined : await loadTls(options.tls);
    const server = net.createServer({ allowHalfOpen: true, pauseOnConnect: true, noDelay: true, keepAlive: true });
    server.maxConnections = this.#limits.connections;
    const base: Omit<ConnectionOptions, 'startTls'> = {
      exports: new Exports(this.#provider, options),
      shareOf: (volume) => this.#shares.of(volume),
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
    this.#addresses.push(await listen('nbd', server, options));
    this.#servers.push(server);
    const name = options.unix ?? this.#addresses.at(-1)!.tcp!;
    server.on('error', (error) => this.#log.error({ err: error, listener: name }, 'nbd listener failed'));
    server.on('connection', (socket) => this.#accept(socket, base, upgrade, name));
    this.#log.info({ listener: name, tls: base.tls }, 'nbd listening');
  }

  /**
   * Serves a client from its transmission phase on; `socket` is paused, and what it was accepted from is another
   * process's. `gone` resolves when it is, and the volume closed; `dismiss` is what close() does to all.
   */
  adopt(
    socket: net.Socket,
    handle: VolumeHandle,
    handover: Handover,
  ): { readonly gone: Promise<void>; readonly dismiss: () => void } {
    const { peer, limits, received, ...agreed } = handover;
    const { promise, resolve } = Promise.withResolvers<void>();
    const { connections } = this.metrics;
    connections.open++;
    connections.total++;
    const connection = new Connection({
      exports: new Exports(this.#provider, {}),
      shareOf: (volume) => this.#shares.of(volume),
      tls: 'off',
      limits,
      requestBytesMax: agreed.requestBytesMax,
      metrics: this.metrics,
      log: this.#log,
      onClosed: (closed) => {
        this.#forget(closed);
        resolve();
      },
      startTls: () => Promise.reject(new Error('TLS after the handshake')),
    });
    this.#connections.add(connection);
    connection.continue(acceptedWire(socket, connection, peer, limits.lingerMs), { ...agreed, handle }, received);
    return { gone: promise, dismiss: () => connection.shutDown() };
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
    for (const connection of this.#shares.stalled(this.#connections, STALL_CHECKS)) {
      this.metrics.connections.stalled++;
      this.#log.info({ peer: connection.wire.peer, heldBytes: connection.heldBytes }, 'nbd client stalled: cut');
      connection.fail(new Error('stalled'));
    }
  }

  #forget(connection: Connection): void {
    if (!this.#connections.delete(connection)) return;
    this.metrics.connections.open--;
    if (this.#connections.size === 0) this.#allClosed?.();
  }
}
