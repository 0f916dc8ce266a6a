import net from 'node:net';
import type { Logger } from '../log.ts';
import { type ListenerAddress, type ListenerOptions, listen } from '../net/listener.ts';
import type { ClientConnection, ClientSummary, ConnectionMetrics, Protocol } from './client-connection.ts';
import type { ClientLimits } from './limits.ts';
import type { Shares } from './shares.ts';

export interface FrontendOptions<Listener, Metrics> {
  /** For errors and logs. */
  readonly protocol: Protocol;
  readonly listeners: readonly Listener[];
  readonly limits: Pick<ClientLimits, 'connections' | 'stallMs' | 'shutdownMs'>;
  readonly shares: Shares;
  readonly metrics: Metrics;
  readonly log: Logger;
}

/** How often stalled connections are looked for. */
const STALL_CHECKS = 4;

/**
 * What serves volumes to clients, in whatever protocol: its listeners, the connections they accept, and how all of that
 * ends. Every connection is told of by `add`, and by `forget` when everything of it is gone.
 */
export abstract class Frontend<
  Listener,
  Client extends ClientConnection,
  Metrics extends { readonly connections: ConnectionMetrics },
> {
  readonly metrics: Metrics;
  protected readonly log: Logger;
  protected readonly shares: Shares;
  readonly #options: FrontendOptions<Listener, Metrics>;
  readonly #servers: net.Server[] = [];
  readonly #addresses: ListenerAddress[] = [];
  readonly #clients = new Set<Client>();
  #stallTimer: NodeJS.Timeout | undefined;
  #closing: Promise<void> | undefined;
  #allClosed: (() => void) | undefined;

  constructor(options: FrontendOptions<Listener, Metrics>) {
    this.#options = options;
    this.metrics = options.metrics;
    this.log = options.log;
    this.shares = options.shares;
  }

  /** Opens all listeners, or none: on failure what was opened is closed again and the first error thrown. */
  async start(): Promise<void> {
    try {
      for (const listener of this.#options.listeners) await this.open(listener);
    } catch (error) {
      await this.close();
      throw error;
    }
    const period = Math.max(10, this.#options.limits.stallMs / STALL_CHECKS);
    this.#stallTimer = setInterval(() => this.#cutStalled(), period).unref();
  }

  /** Opens one listener, by way of `listen`. */
  protected abstract open(listener: Listener): Promise<void>;

  /** Where clients connect to, in the order of the options. */
  addresses(): readonly ListenerAddress[] {
    return this.#addresses;
  }

  /** Connections now. */
  get connections(): number {
    return this.#clients.size;
  }

  /** The same as plain data, the oldest first. */
  summaries(): ClientSummary[] {
    return [...this.#clients].map(({ summary }) => summary);
  }

  /** Who is served now. */
  protected get clients(): ReadonlySet<Client> {
    return this.#clients;
  }

  /**
   * Accepts nobody any more, answers what is under way, flushes and closes the volumes. Clients that do not read their
   * answers within `shutdownMs` are cut. After that time again, what a suspended pool does not answer is left behind. A
   * second call waits for the first.
   */
  close(): Promise<void> {
    this.#closing ??= this.#close();
    return this.#closing;
  }

  async #close(): Promise<void> {
    clearInterval(this.#stallTimer);
    const closed = this.#servers.map((server) => new Promise<void>((resolve) => server.close(() => resolve())));
    if (this.#clients.size > 0) {
      const { protocol, limits } = this.#options;
      const drained = new Promise<void>((resolve) => {
        this.#allClosed = resolve;
      });
      for (const client of this.#clients) client.shutDown();
      const cut = setTimeout(() => {
        for (const client of this.#clients) client.fail(new Error('server shut down'));
      }, limits.shutdownMs);
      const leave = setTimeout(() => {
        const volumes = [...this.#clients].flatMap((client) => client.volumes);
        this.log.warn({ volumes }, `${protocol}: what is not answered is left behind`);
        this.#allClosed!();
      }, 2 * limits.shutdownMs);
      await drained;
      clearTimeout(cut);
      clearTimeout(leave);
    }
    await Promise.all(closed);
  }

  /** Listens; `accept` is given each connection, paused, and the listener's name, which is what it resolves with. */
  protected async listen(
    options: ListenerOptions,
    accept: (socket: net.Socket, listener: string) => void,
  ): Promise<string> {
    const { protocol, limits } = this.#options;
    const server = net.createServer({ allowHalfOpen: true, pauseOnConnect: true, noDelay: true, keepAlive: true });
    server.maxConnections = limits.connections;
    server.on('drop', () => {
      this.metrics.connections.refused++;
    });
    const address = await listen(protocol, server, options);
    this.#addresses.push(address);
    this.#servers.push(server);
    const name = address.unix ?? address.tcp!;
    server.on('error', (error) => this.log.error({ err: error, listener: name }, `${protocol} listener failed`));
    server.on('connection', (socket) => accept(socket, name));
    return name;
  }

  /** A connection begins. */
  protected add(client: Client): void {
    this.#clients.add(client);
    this.metrics.connections.open++;
    this.metrics.connections.total++;
  }

  /** Everything of the connection is gone. */
  protected forget(client: Client): void {
    if (!this.#clients.delete(client)) return;
    this.metrics.connections.open--;
    if (this.#clients.size === 0) this.#allClosed?.();
  }

  /** Who waits for memory shall not wait for clients that are gone in all but name. */
  #cutStalled(): void {
    for (const client of this.shares.stalled(this.#clients, STALL_CHECKS)) {
      this.metrics.connections.stalled++;
      const { peer } = client.wire;
      this.log.info({ peer, heldBytes: client.heldBytes }, `${this.#options.protocol} client stalled: cut`);
      client.fail(new Error('stalled'));
    }
  }
}
