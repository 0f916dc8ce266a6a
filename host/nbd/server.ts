import type net from 'node:net';
import { type Logger, log as rootLog } from '../log.ts';
import { checkListener } from '../net/listener.ts';
import { acceptedWire, securedWire } from '../net/socket.ts';
import { loadTls, type TlsUpgrade } from '../net/tls.ts';
import { Exports } from '../volumes/exports.ts';
import { Frontend } from '../volumes/frontend.ts';
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

  /** @throws ErrnoError when a listener is not allowed as configured, see checkListener. */
  constructor(options: NbdServerOptions) {
    const { provider, listeners, log = rootLog } = options;
    const limits = { ...defaultLimits, ...options.limits };
    const shares = options.shares ?? new Shares(provider);
    super({ protocol: 'nbd', listeners, limits, shares, metrics: newMetrics(), log });
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

  protected async open(options: NbdListenerOptions): Promise<void> {
    const upgrade = options.tls === undefined ? undefined : await loadTls(options.tls);
    const base: Omit<ConnectionOptions, 'startTls'> = {
      exports: new Exports(this.#provider, options),
      shareOf: (volume) => this.shares.of(volume),
      tls: options.tls?.mode ?? 'off',
      limits: options.idleMs === undefined ? this.#limits : { ...this.#limits, idleMs: options.idleMs },
      requestBytesMax: this.#requestBytesMax,
      metrics: this.metrics,
      log: this.log,
      onClosed: (connection) => this.forget(connection),
    };
    const listener = await this.listen(options, (socket, name) => this.#accept(socket, base, upgrade, name));
    this.log.info({ listener, tls: base.tls }, 'nbd listening');
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
    const connection = new Connection({
      exports: new Exports(this.#provider, {}),
      shareOf: (volume) => this.shares.of(volume),
      tls: 'off',
      limits,
      requestBytesMax: agreed.requestBytesMax,
      metrics: this.metrics,
      log: this.log,
      onClosed: (closed) => {
        this.forget(closed);
        resolve();
      },
      startTls: () => Promise.reject(new Error('TLS after the handshake')),
    });
    this.add(connection);
    connection.continue(acceptedWire(socket, connection, peer, limits.lingerMs), { ...agreed, handle }, received);
    return { gone: promise, dismiss: () => connection.shutDown() };
  }

  #accept(
    socket: net.Socket,
    base: Omit<ConnectionOptions, 'startTls'>,
    upgrade: TlsUpgrade | undefined,
    listener: string,
  ): void {
    const peer = socket.remoteAddress === undefined ? listener : `${socket.remoteAddress}:${socket.remotePort}`;
    const connection = new Connection({
      ...base,
      startTls: (wire, sink) => securedWire(wire, sink, upgrade!),
    });
    this.add(connection);
    connection.start(acceptedWire(socket, connection, peer, this.#limits.lingerMs));
  }
}
