import type net from 'node:net';
import { type Logger, log as rootLog } from '../log.ts';
import { checkListener } from '../net/listener.ts';
import { acceptedWire, securedWire } from '../net/socket.ts';
import { loadTls, type TlsUpgrade } from '../net/tls.ts';
import { Exports } from '../volumes/exports.ts';
import { Frontend } from '../volumes/frontend.ts';
import { Shares } from '../volumes/shares.ts';
import type { AdoptedClient, VolumeHandle, VolumeProvider } from '../volumes/volume.ts';
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

/**
 * NBD server: every volume of the provider on every listener, as far as the listener's policy shows it.
 *
 *   const server = new NbdServer({ provider, listeners: [{ unix: 'run/nbd.sock' }] });
 *   await server.start();  …  await server.close();
 */
export class NbdServer extends Frontend<NbdListenerOptions, Connection, NbdMetrics> {
  readonly #provider: VolumeProvider;
  readonly #limits: NbdLimits;
  readonly #requestBytesMax: number;
  /** Of the listeners that have TLS. */
  readonly #tls = new Map<NbdListenerOptions, TlsUpgrade>();

  /** @throws ErrnoError when a listener is not allowed as configured, see checkListener. */
  constructor(options: NbdServerOptions) {
    const { provider, listeners, log = rootLog } = options;
    const limits = { ...defaultLimits, ...options.limits };
    const shares = options.shares ?? new Shares(provider);
    super({ protocol: 'nbd', listeners, limits, shares, newMetrics, log });
    this.#provider = provider;
    this.#limits = limits;
    // A power of two: a multiple of every block size a volume can have.
    const largest = Math.min(limits.requestBytes, provider.buffers.maxBytes, shares.limitBytes);
    this.#requestBytesMax = 2 ** Math.floor(Math.log2(largest));
    for (const listener of listeners) checkListener('nbd', listener);
  }

  /** Connections that have a volume of the pool open. */
  clientsOf(pool: string): number {
    let count = 0;
    for (const { volume } of this.clients) if (volume?.split(/[/@]/, 1)[0] === pool) count++;
    return count;
  }

  /**
   * Reads keys and certificates again, which connections to come then use. Rejects with ErrnoError when one of them cannot be used;
   * until what it resolves with is called, nothing has changed.
   */
  async renew(): Promise<() => void> {
    const renewed = await Promise.all(
      [...this.#tls.keys()].map(async (listener) => [listener, await loadTls(listener.tls!)] as const),
    );
    return () => {
      for (const [listener, upgrade] of renewed) if (this.#tls.has(listener)) this.#tls.set(listener, upgrade);
    };
  }

  override async change(wanted: readonly NbdListenerOptions[]): Promise<ReadonlyMap<NbdListenerOptions, Error>> {
    for (const listener of this.#tls.keys()) if (!wanted.includes(listener)) this.#tls.delete(listener);
    return super.change(wanted);
  }

  protected async open(options: NbdListenerOptions): Promise<void> {
    if (options.tls !== undefined) this.#tls.set(options, await loadTls(options.tls));
    const base: Omit<ConnectionOptions, 'startTls' | 'listener' | 'metrics'> = {
      exports: new Exports(this.#provider, options),
      shareOf: (volume) => this.shares.of(volume),
      tls: options.tls?.mode ?? 'off',
      limits: options.idleMs === undefined ? this.#limits : { ...this.#limits, idleMs: options.idleMs },
      requestBytesMax: this.#requestBytesMax,
      log: this.log,
      onClosed: (connection) => this.forget(connection),
    };
    const listener = await this.listen(options, options, (socket, name) => this.#accept(socket, base, options, name));
    this.log.info({ listener, tls: base.tls }, 'nbd listening');
  }

  /**
   * Serves a client from its transmission phase on; `socket` is paused, and what it was accepted from is another
   * process's. The volume is closed with it.
   */
  adopt(socket: net.Socket, handle: VolumeHandle, handover: Handover): AdoptedClient {
    const { peer, listener, limits, received, ...agreed } = handover;
    const { promise, resolve } = Promise.withResolvers<void>();
    const connection = new Connection({
      exports: new Exports(this.#provider, {}),
      shareOf: (volume) => this.shares.of(volume),
      tls: 'off',
      limits,
      requestBytesMax: agreed.requestBytesMax,
      listener,
      metrics: this.countsOf(listener),
      log: this.log,
      onClosed: (closed) => {
        this.forget(closed);
        resolve();
      },
      startTls: () => Promise.reject(new Error('TLS after the handshake')),
    });
    this.add(connection);
    connection.continue(acceptedWire(socket, connection, peer, limits.lingerMs), { ...agreed, handle }, received);
    return { gone: promise, ...this.ends(connection) };
  }

  #accept(
    socket: net.Socket,
    base: Omit<ConnectionOptions, 'startTls' | 'listener' | 'metrics'>,
    options: NbdListenerOptions,
    listener: string,
  ): void {
    const upgrade = this.#tls.get(options);
    const peer = socket.remoteAddress === undefined ? listener : `${socket.remoteAddress}:${socket.remotePort}`;
    const connection = new Connection({
      ...base,
      listener,
      metrics: this.countsOf(listener),
      startTls: (wire, sink) => securedWire(wire, sink, upgrade!),
    });
    this.add(connection, options);
    connection.start(acceptedWire(socket, connection, peer, this.#limits.lingerMs));
  }
}
