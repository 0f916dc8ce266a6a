import type net from 'node:net';
import { Errno, ErrnoError } from '../errno.ts';
import type { Logger } from '../log.ts';
import type { Window } from '../net/onread.ts';
import { patience } from '../net/patience.ts';
import type { Wire } from '../net/wire.ts';
import type { Units } from '../scsi/units.ts';
import { ClientConnection, type Intake } from '../volumes/client-connection.ts';
import type { Share } from '../volumes/share.ts';
import type { Shares } from '../volumes/shares.ts';
import type { AdoptedClient, VolumeProcess } from '../volumes/volume.ts';
import type { ChapSecrets } from './chap.ts';
import { PORTAL_GROUP } from './constants.ts';
import type { LoginError } from './errors.ts';
import type { SessionHandover } from './handover.ts';
import type { IscsiLimits } from './limits.ts';
import { type Established, Login, type LoginHost } from './login.ts';
import type { IscsiMetrics } from './metrics.ts';
import { Output } from './output.ts';
import type { Pdu } from './pdu.ts';
import { type PduSink, Receiver } from './receiver.ts';
import { Session, type SessionHost } from './session.ts';
import type { StashBudget } from './stash.ts';
import type { Targets } from './targets.ts';

export interface ConnectionOptions {
  readonly targets: Targets;
  readonly units: Units;
  readonly shares: Shares;
  readonly stash: StashBudget;
  readonly chap: ChapSecrets | undefined;
  readonly limits: IscsiLimits;
  /** The name of the listener that it came by, and what is counted of that. */
  readonly listener: string;
  readonly metrics: IscsiMetrics;
  readonly log: Logger;
  /** IP address of the initiator, and where it connected to, `host:port`. */
  readonly address: string;
  readonly localAddress: string;
  /** See LoginHost. `process`: who is to serve the session, where that is another process. */
  readonly admit: (
    connection: Connection,
    established: Established,
    tsih: number,
  ) => Promise<{ readonly tsih: number; readonly process?: VolumeProcess | undefined }>;
  /** The login is over. */
  readonly onEstablished: (connection: Connection) => void;
  /** Everything of the connection is gone: socket, buffers, volumes. Exactly once. */
  readonly onClosed: (connection: Connection) => void;
}

/** What a ping itself moves, with its digest, bytes. */
const PING_BYTES = 52;

/**
 * One initiator's connection: the phase it is in, its timers, and how it ends.
 *
 *   accepted ─► Login ─► Session ─► finishing (no more input; answers go out) ─► wire ended ─► closed
 *        └────────┴────────┴──── fail ──► wire destroyed ─────────────────────────────┘
 *
 * Where the volumes are in another process, the session is there, too; what is left here counts it until it is gone.
 */
export class Connection extends ClientConnection implements PduSink, LoginHost, SessionHost {
  readonly targets: Targets;
  readonly units: Units;
  readonly stash: StashBudget;
  readonly chap: ChapSecrets | undefined;
  readonly limits: IscsiLimits;
  readonly metrics: IscsiMetrics;
  readonly address: string;
  readonly output: Output;
  /** Resolves when everything of it is gone. */
  readonly gone: Promise<void>;
  readonly #leave: () => void;
  readonly #options: ConnectionOptions;
  readonly #receiver = new Receiver(this);
  readonly #login = new Login(this);
  #session: Session | undefined;
  #established: Established | undefined;
  /** Who is to serve the session, and how it is ended there. */
  #process: VolumeProcess | undefined;
  #moved: { readonly client: AdoptedClient; readonly socket: net.Socket } | undefined;
  /** All is answered and given back. */
  #drained = false;
  #done = false;
  #pingProgress = -1;

  constructor(options: ConnectionOptions) {
    super('iscsi', options.metrics, options.log);
    this.#options = options;
    this.targets = options.targets;
    this.units = options.units;
    this.stash = options.stash;
    this.chap = options.chap;
    this.limits = options.limits;
    this.metrics = options.metrics;
    this.address = options.address;
    this.output = new Output(
      () => this.wire,
      () => this.#outputDrained(),
    );
    const { promise, resolve } = Promise.withResolvers<void>();
    this.gone = promise;
    this.#leave = resolve;
  }

  protected get intake(): Intake {
    return this.#receiver;
  }

  protected override get who(): object {
    return { peer: this.wire.peer, initiator: this.#established?.initiator };
  }

  get session(): Session | undefined {
    return this.#session;
  }

  get heldBytes(): number {
    return this.#session?.heldBytes ?? 0;
  }

  get volumes(): readonly string[] {
    return this.#session?.volumes ?? [];
  }

  /** Volumes of its target, whether or not it has opened them, and wherever it is served. */
  get targetVolumes(): readonly string[] {
    return [...(this.#established?.target?.luns.values() ?? [])].map(({ volume }) => volume);
  }

  /** Of those that its commands get their buffers from, the one that is wanted most. */
  get share(): Share | undefined {
    const shares = this.volumes.map((volume) => this.shareOf(volume));
    return shares.reduce<Share | undefined>(
      (most, share) => (share.waiting > (most?.waiting ?? -1) ? share : most),
      undefined,
    );
  }

  shareOf(volume: string): Share {
    return this.#options.shares.of(volume);
  }

  protected get waitsForClient(): boolean {
    return this.#session?.waitsForInitiator ?? false;
  }

  start(wire: Wire): void {
    this.setWire(wire);
    this.patience = patience(this.limits.loginMs, () => {
      this.fail(new ErrnoError(Errno.ETIMEDOUT, `no login within ${this.limits.loginMs} ms`));
    });
    wire.resume();
  }

  /** Begins with the full feature phase: the login was made in another process. The wire delivers nothing yet. */
  continue(wire: Wire, established: Established, received: Uint8Array): void {
    this.setWire(wire, received);
    this.#begin(established);
    this.resume();
  }

  // --- WireSink ---

  ended(): void {
    if (!this.#receiver.atBoundary) this.trace('initiator ended early');
    this.finish('the initiator ended the connection');
  }

  override closed(error: Error | undefined): void {
    super.closed(error);
    this.#receiver.close();
    this.#login.close();
    if (this.#session === undefined) this.#release();
    else if (this.#drained) this.#release();
    else this.#session.close(); // comes back in `drained`
  }

  // --- PduSink: what the receiver delivers ---

  get receiveBytes(): number {
    return this.#session?.receiveBytes ?? this.#login.receiveBytes;
  }

  get congested(): boolean {
    return this.#session?.congested ?? this.#login.congested;
  }

  begin(pdu: Pdu): Window | undefined | 'wait' {
    return this.#session === undefined ? this.#login.begin(pdu) : this.#session.begin(pdu);
  }

  complete(pdu: Pdu, data: Uint8Array | undefined): void {
    if (this.#session === undefined) this.#login.complete(pdu, data);
    else this.#session.complete(pdu, data);
  }

  // --- LoginHost ---

  async admit(established: Established, tsih: number): Promise<number> {
    const admitted = await this.#options.admit(this, established, tsih);
    this.#process = admitted.process;
    return admitted.tsih;
  }

  established(established: Established): void {
    if (this.finishing) return;
    this.patience?.end();
    this.metrics.logins.succeeded++;
    this.#options.onEstablished(this);
    if (this.#process === undefined) this.#begin(established);
    else this.#moveOn(established, this.#process);
  }

  #begin(established: Established): void {
    this.#established = established;
    this.#session = new Session(this, established);
    this.#receiver.headerDigest = established.parameters.headerDigest;
    this.#receiver.dataDigest = established.parameters.dataDigest;
    this.#watch();
  }

  #moveOn(established: Established, process: VolumeProcess): void {
    this.#established = established;
    const { peer } = this.wire;
    this.trace('moves to its engine', { target: established.target!.name });
    const { address, limits } = this;
    const { localAddress, listener } = this.#options;
    const { socket, received } = this.handOver();
    const handover: SessionHandover = { peer, listener, address, localAddress, established, limits, received };
    const client = process.adopt(socket, handover);
    this.#moved = { client, socket };
    client.gone
      .catch((error: unknown) => this.trace('its engine is gone', { error: String(error) }))
      .finally(() => {
        socket.destroy();
        this.#release();
      });
  }

  refused(error: LoginError): void {
    this.metrics.logins.failed++;
    this.log.info({ ...this.who, reason: error.message }, 'iscsi login refused');
    this.finish('login refused');
  }

  // --- SessionHost ---

  discover(): { names: readonly string[]; address: string } {
    const { initiator, target } = this.#established!;
    const names = target === undefined ? this.targets.list({ name: initiator, address: this.address }) : [target.name];
    return { names, address: `${this.#options.localAddress},${PORTAL_GROUP}` };
  }

  place(target: Window | undefined): void {
    if (this.finishing) return;
    this.#receiver.place(target);
    this.resume();
  }

  drop(): void {
    if (this.finishing) return;
    this.#receiver.drop();
    // The socket lets go of it, too.
    this.wire.pause();
    this.resume();
  }

  drained(): void {
    this.#drained = true;
    if (this.wireClosed) this.#release();
    else this.#end();
  }

  // --- The end ---

  /** As `finish`, and what the initiator wrote is made durable before its volumes are closed. */
  shutDown(): void {
    this.#moved?.client.dismiss();
    if (!this.finishing) this.#session?.shutDown();
    this.finish('the host ends');
  }

  /** No more input; what is under way is answered, then the wire ends. */
  finish(reason: string): void {
    if (this.finishing) return;
    this.trace('finishing', { reason });
    this.stop();
    this.wire.pause();
    this.#receiver.close();
    this.#login.close();
    if (this.#session !== undefined) {
      this.#session.finish(); // comes back in `drained`
      return;
    }
    this.#drained = true;
    this.#end();
  }

  /** What is left here of a session that has moved goes at once; its engine may be stopped, or wait for its pool. */
  override fail(error: unknown): void {
    this.#moved?.client.cut();
    this.#moved?.socket.destroy();
    super.fail(error);
  }

  #outputDrained(): void {
    if (this.#drained) this.#end();
    else if (!this.finishing) this.resume();
  }

  #end(): void {
    if (!this.ending && !this.wireClosed && !this.output.busy) this.end();
  }

  /** Silence is asked about, and not for ever. */
  #watch(): void {
    this.patience = patience(this.limits.pingMs, () => {
      if (this.#answers()) this.#watch();
    });
  }

  /** Asks an initiator that says nothing whether it is there; one that did not answer the last time is cut: false. */
  #answers(): boolean {
    const { progress } = this.wire;
    const silent = progress - this.#pingProgress <= PING_BYTES;
    this.#pingProgress = progress;
    if (!silent || this.#session!.ping()) return true;
    this.log.info(this.who, 'iscsi initiator does not answer: cut');
    this.fail(new ErrnoError(Errno.ETIMEDOUT, 'no answer to NOP-In'));
    return false;
  }

  /** Wire and commands are gone. */
  #release(): void {
    if (this.#done) return;
    this.#done = true;
    this.#leave();
    this.#options.onClosed(this);
  }
}
