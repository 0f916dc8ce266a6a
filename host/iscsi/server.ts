import net from 'node:net';
import { setTimeout as delay } from 'node:timers/promises';
import { Errno, ErrnoError } from '../errno.ts';
import { type Logger, log as rootLog } from '../log.ts';
import { isLoopback, parseTcp } from '../net/listener.ts';
import { acceptedWire } from '../net/socket.ts';
import { portKey } from '../scsi/nexus.ts';
import type { UnitStore } from '../scsi/unit.ts';
import { Units } from '../scsi/units.ts';
import { Frontend } from '../volumes/frontend.ts';
import { Shares } from '../volumes/shares.ts';
import type { AdoptedClient, VolumeProcess, VolumeProvider } from '../volumes/volume.ts';
import type { ChapSecrets } from './chap.ts';
import { Connection, type ConnectionOptions } from './connection.ts';
import { LoginStatus } from './constants.ts';
import { LoginError } from './errors.ts';
import type { SessionHandover } from './handover.ts';
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
import { type Target, type TargetConfig, type TargetPolicy, Targets } from './targets.ts';

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

const TSIH_MAX = 0xffff;

/** What connections of one listener have in common. */
type Accepting = Omit<ConnectionOptions, 'address' | 'localAddress' | 'chap' | 'listener' | 'metrics'>;

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
export class IscsiServer extends Frontend<IscsiListenerOptions, Connection, IscsiMetrics> {
  readonly #options: IscsiServerOptions;
  readonly #limits: IscsiLimits;
  readonly #stash: StashBudget;
  readonly #units: Units;
  /** Of the listeners that ask for them; read again by renew(). */
  readonly #chap = new Map<IscsiListenerOptions, ChapSecrets>();
  /** Connections before the end of their login, the oldest first. */
  readonly #logins = new Set<Connection>();
  /** Normal sessions by their nexus: as long as anything of them is there. */
  readonly #sessions = new Map<
    string,
    { readonly connection: Connection; readonly tsih: number; readonly cid: number }
  >();
  #tsih = 0;

  /** @throws ErrnoError when a listener is not allowed as configured, see checkIscsiListener. */
  constructor(options: IscsiServerOptions) {
    const { provider, store, listeners, revision = '0001', log = rootLog } = options;
    const limits = { ...defaultLimits, ...options.limits };
    const shares = options.shares ?? new Shares(provider);
    super({ protocol: 'iscsi', listeners, limits, shares, newMetrics, log });
    this.#options = options;
    this.#limits = limits;
    const { buffers } = provider;
    this.#stash = new StashBudget(Math.floor(buffers.limitBytes / 4));
    const largest = Math.min(limits.transferBytes, buffers.maxBytes, shares.limitBytes);
    this.#units = new Units({
      provider,
      store,
      limits: {
        transferBytes: 2 ** Math.floor(Math.log2(largest)),
        compareBlocks: COMPARE_BLOCKS_MAX,
        sameBytes: SAME_BYTES_MAX,
        unmapBytes: UNMAP_BYTES_MAX,
        unmapDescriptors: UNMAP_DESCRIPTORS_MAX,
      },
      revision,
    });
    for (const listener of listeners) checkIscsiListener(listener);
  }

  /** Bytes of data that came before there was a buffer for them. */
  get stashedBytes(): number {
    return this.#stash.usedBytes;
  }

  /** Sessions whose target has a volume of the pool. */
  clientsOf(pool: string): number {
    let count = 0;
    for (const { targetVolumes } of this.clients)
      if (targetVolumes.some((volume) => volume.split(/[/@]/, 1)[0] === pool)) count++;
    return count;
  }

  /** Logins to come on this listener have to know other secrets. */
  renew(listener: IscsiListenerOptions, chap: ChapSecrets): void {
    this.#chap.set(listener, chap);
  }

  protected async open(options: IscsiListenerOptions): Promise<void> {
    if (options.chap !== undefined) this.#chap.set(options, options.chap);
    const { provider, blockBytes = 512, targets = [] } = this.#options;
    const { prefix = PREFIX_DEFAULT } = options;
    const base: Accepting = {
      ...this.#common,
      targets: new Targets({ provider, prefix, blockBytes, targets }, options),
      limits: this.#limits,
      admit: (connection, established, tsih) => this.#admit(connection, established, tsih),
      onEstablished: (connection) => this.#logins.delete(connection),
      onClosed: (connection) => {
        this.#logins.delete(connection);
        this.forget(connection);
      },
    };
    const tcp = { tcp: options.listen, allowPlaintextFromNetwork: true };
    const listener = await this.listen(options, tcp, (socket, name) => this.#accept(socket, base, options, name));
    this.log.info({ listener, chap: options.chap !== undefined }, 'iscsi listening');
  }

  get #common() {
    const { log, shares } = this;
    return { units: this.#units, stash: this.#stash, shares, log };
  }

  /** Serves a session whose login another process has made; `socket` is paused. */
  adopt(socket: net.Socket, handover: SessionHandover): AdoptedClient {
    const { peer, established, received, ...agreed } = handover;
    const { provider } = this.#options;
    const connection = new Connection({
      ...this.#common,
      ...agreed,
      metrics: this.countsOf(agreed.listener),
      // A normal session asks for nobody's targets.
      targets: new Targets({ provider, prefix: PREFIX_DEFAULT, blockBytes: 512, targets: [] }, {}),
      chap: undefined,
      admit: () => Promise.reject(new Error('a login after the login')),
      onEstablished: () => undefined,
      onClosed: (closed) => this.forget(closed),
    });
    this.add(connection);
    connection.continue(acceptedWire(socket, connection, peer, agreed.limits.lingerMs), established, received);
    return { gone: connection.gone, ...this.ends(connection) };
  }

  #accept(socket: net.Socket, base: Accepting, options: IscsiListenerOptions, listener: string): void {
    const address = plainAddress(socket.remoteAddress ?? '');
    const local = plainAddress(socket.localAddress ?? '');
    const localAddress = `${local.includes(':') ? `[${local}]` : local}:${socket.localPort}`;
    const connection = new Connection({
      ...{ ...base, chap: this.#chap.get(options), address, localAddress, listener },
      metrics: this.countsOf(listener),
    });
    this.add(connection, options);
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
  async #admit(
    connection: Connection,
    established: Established,
    tsih: number,
  ): Promise<{ readonly tsih: number; readonly process?: VolumeProcess | undefined }> {
    const { initiator, isid, target, cid } = established;
    if (target === undefined) return { tsih: this.#newTsih() };
    const process = await this.#processOf(target);
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
    if (!this.clients.has(connection)) throw new ErrnoError(Errno.ECONNRESET, 'login');
    const handle = tsih === 0 ? this.#newTsih() : tsih;
    this.#sessions.set(key, { connection, tsih: handle, cid });
    connection.gone.then(() => {
      if (this.#sessions.get(key)?.connection === connection) this.#sessions.delete(key);
    });
    return { tsih: handle, process };
  }

  /** Who serves sessions of that target; undefined: this process. Rejects with LoginError when it cannot, now. */
  async #processOf({ name, luns }: Target): Promise<VolumeProcess | undefined> {
    const { provider } = this.#options;
    if (provider.processOf === undefined) return undefined;
    const [process, ...others] = new Set([...luns.values()].map(({ volume }) => provider.processOf!(volume)));
    const unavailable = (why: string) => new LoginError(LoginStatus.SERVICE_UNAVAILABLE, `${name}: ${why}`);
    if (process === undefined) throw unavailable('its pool is not there');
    if (others.length > 0)
      throw unavailable('its volumes are of several pools, each of which has an engine of its own');
    const answers = process.settle().then(
      () => true,
      () => false,
    );
    // One that is stopped shall not have sessions waiting for it that their initiators gave up.
    if (!(await Promise.race([answers, delay(this.#limits.loginMs / 2, false, { ref: false })])))
      throw unavailable('the engine of its pool does not answer');
    return process;
  }

  #newTsih(): number {
    const used = new Set([...this.#sessions.values()].map((session) => session.tsih));
    do {
      this.#tsih = this.#tsih >= TSIH_MAX ? 1 : this.#tsih + 1;
    } while (used.has(this.#tsih));
    return this.#tsih;
  }
}

/** An IPv4 address that came by way of an IPv6 socket is one. */
function plainAddress(address: string): string {
  return address.startsWith('::ffff:') && net.isIPv4(address.slice(7)) ? address.slice(7) : address;
}
