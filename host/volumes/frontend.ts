import net from 'node:net';
import type { Logger } from '../log.ts';
import { type ListenerAddress, type ListenerOptions, listen } from '../net/listener.ts';
import type { ClientConnection, ClientSummary, ConnectionMetrics, Protocol } from './client-connection.ts';
import { addCounts } from './counts.ts';
import type { ClientLimits } from './limits.ts';
import type { Shares } from './shares.ts';
import type { AdoptedClient } from './volume.ts';

export interface FrontendOptions<Listener, Metrics> {
  /** For errors and logs. */
  readonly protocol: Protocol;
  readonly listeners: readonly Listener[];
  readonly limits: Pick<ClientLimits, 'connections' | 'stallMs' | 'shutdownMs'>;
  readonly shares: Shares;
  readonly newMetrics: () => Metrics;
  readonly log: Logger;
}

/** How often stalled connections are looked for. */
const STALL_CHECKS = 4;

/** A listener that is open. */
interface Opened<Listener, Client> {
  readonly listener: Listener;
  readonly server: net.Server;
  readonly address: ListenerAddress;
  readonly clients: Set<Client>;
}

/** Somebody waits until these are gone. */
interface Drain<Client> {
  readonly left: Set<Client>;
  readonly done: () => void;
}

/**
 * What serves volumes to clients, in whatever protocol: its listeners, the connections they accept, and how all of that
 * ends. Every connection is told of by `add`, and by `forget` when everything of it is gone.
 */
export abstract class Frontend<
  Listener,
  Client extends ClientConnection,
  Metrics extends { readonly connections: ConnectionMetrics },
> {
  protected readonly log: Logger;
  protected readonly shares: Shares;
  readonly #options: FrontendOptions<Listener, Metrics>;
  readonly #counts = new Map<string, Metrics>();
  /** In the order of the options. */
  #opened: Opened<Listener, Client>[] = [];
  readonly #clients = new Set<Client>();
  readonly #drains = new Set<Drain<Client>>();
  #stallTimer: NodeJS.Timeout | undefined;
  #closing: Promise<void> | undefined;

  constructor(options: FrontendOptions<Listener, Metrics>) {
    this.#options = options;
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
    return this.#opened.map(({ address }) => address);
  }

  /**
   * Closes and opens listeners until they are `wanted`; those that stay are the same objects as before. Clients of one that is
   * closed are ended as by close(). Never rejects: one that cannot be opened is left out, and is in the answer with the reason.
   */
  async change(wanted: readonly Listener[]): Promise<ReadonlyMap<Listener, Error>> {
    const failed = new Map<Listener, Error>();
    const gone = this.#opened.filter(({ listener }) => !wanted.includes(listener));
    this.#opened = this.#opened.filter((opened) => !gone.includes(opened));
    const closed = gone.map(async ({ server, address, clients }) => {
      const end = new Promise<void>((resolve) => server.close(() => resolve()));
      this.log.info({ listener: nameOf(address) }, `${this.#options.protocol} listener closed`);
      await this.#dismiss(clients);
      await end;
      const name = nameOf(address);
      if (!this.#opened.some((opened) => nameOf(opened.address) === name)) this.#counts.delete(name);
    });
    // Others may be wanted on the same addresses, which are free at once; clients take their time.
    for (const listener of wanted) {
      if (this.#opened.some((opened) => opened.listener === listener)) continue;
      await this.open(listener).catch((error: Error) => failed.set(listener, error));
    }
    await Promise.all(closed);
    const order = ({ listener }: Opened<Listener, Client>) => wanted.indexOf(listener);
    this.#opened.sort((a, b) => order(a) - order(b));
    return failed;
  }

  /** By the names of the listeners that clients came by: those that are open, and those of another process. */
  get countsByListener(): ReadonlyMap<string, Metrics> {
    return this.#counts;
  }

  /** The same of all together. */
  get metrics(): Metrics {
    return [...this.#counts.values()].reduce(addCounts, this.#options.newMetrics());
  }

  protected countsOf(listener: string): Metrics {
    let counts = this.#counts.get(listener);
    if (counts === undefined) {
      counts = this.#options.newMetrics();
      this.#counts.set(listener, counts);
    }
    return counts;
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
    const closed = this.#opened.map(({ server }) => new Promise<void>((resolve) => server.close(() => resolve())));
    await this.dismissAll();
    await Promise.all(closed);
  }

  /** Ends all clients as close() does; others may come. */
  dismissAll(): Promise<void> {
    return this.#dismiss(this.#clients);
  }

  /** Ends clients: what is under way is answered. */
  async #dismiss(clients: ReadonlySet<Client>): Promise<void> {
    if (clients.size === 0) return;
    const { protocol, limits } = this.#options;
    const left = new Set(clients);
    const { promise: drained, resolve: done } = Promise.withResolvers<void>();
    const drain = { left, done };
    this.#drains.add(drain);
    for (const client of [...left]) client.shutDown();
    const cut = setTimeout(() => {
      for (const client of [...left]) client.fail(new Error('server shut down'));
    }, limits.shutdownMs);
    const leave = setTimeout(() => {
      const volumes = [...left].flatMap((client) => client.volumes);
      this.log.warn({ volumes }, `${protocol}: what is not answered is left behind`);
      done();
    }, 2 * limits.shutdownMs);
    await drained;
    this.#drains.delete(drain);
    clearTimeout(cut);
    clearTimeout(leave);
  }

  /** Listens; `accept` is given each connection, paused, and the listener's name, which is what it resolves with. */
  protected async listen(
    listener: Listener,
    options: ListenerOptions,
    accept: (socket: net.Socket, listener: string) => void,
  ): Promise<string> {
    const { protocol, limits } = this.#options;
    const server = net.createServer({ allowHalfOpen: true, pauseOnConnect: true, noDelay: true, keepAlive: true });
    server.maxConnections = limits.connections;
    const address = await listen(protocol, server, options);
    this.#opened.push({ listener, server, address, clients: new Set() });
    const name = nameOf(address);
    const { connections } = this.countsOf(name);
    server.on('drop', () => {
      connections.refused++;
    });
    server.on('error', (error) => this.log.error({ err: error, listener: name }, `${protocol} listener failed`));
    server.on('connection', (socket) => accept(socket, name));
    return name;
  }

  /** A connection begins: of a listener, or one that another process has accepted. */
  protected add(client: Client, listener?: Listener): void {
    this.#clients.add(client);
    this.#opened.find((opened) => opened.listener === listener)?.clients.add(client);
    client.counts.open++;
    client.counts.total++;
  }

  /** Of one that another process has accepted: how that ends it. */
  protected ends(client: Client): Pick<AdoptedClient, 'dismiss' | 'cut'> {
    return {
      dismiss: () => client.shutDown(),
      cut: () => client.fail(new Error('cut by the process that accepted it')),
    };
  }

  /** Everything of the connection is gone. */
  protected forget(client: Client): void {
    if (!this.#clients.delete(client)) return;
    client.counts.open--;
    for (const { clients } of this.#opened) clients.delete(client);
    for (const { left, done } of this.#drains) {
      left.delete(client);
      if (left.size === 0) done();
    }
  }

  /** Who waits for memory shall not wait for clients that are gone in all but name. */
  #cutStalled(): void {
    for (const client of this.shares.stalled(this.#clients, STALL_CHECKS)) {
      client.counts.stalled++;
      const { peer } = client.wire;
      this.log.info({ peer, heldBytes: client.heldBytes }, `${this.#options.protocol} client stalled: cut`);
      client.fail(new Error('stalled'));
    }
  }
}

function nameOf({ unix, tcp }: ListenerAddress): string {
  return (unix ?? tcp)!;
}
