import { Errno, ErrnoError } from '../errno.ts';
import { type Logger, tracer } from '../log.ts';
import { ProtocolError } from '../net/errors.ts';
import type { Window } from '../net/onread.ts';
import { type Patience, patience } from '../net/patience.ts';
import type { Wire, WireSink } from '../net/wire.ts';
import type { Units } from '../scsi/units.ts';
import type { Share } from '../volumes/share.ts';
import type { Shares } from '../volumes/shares.ts';
import { StallWatch } from '../volumes/stall-watch.ts';
import type { ChapSecrets } from './chap.ts';
import { PORTAL_GROUP } from './constants.ts';
import type { LoginError } from './errors.ts';
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
  readonly metrics: IscsiMetrics;
  readonly log: Logger;
  /** IP address of the initiator, and where it connected to, `host:port`. */
  readonly address: string;
  readonly localAddress: string;
  /** See LoginHost. */
  readonly admit: (connection: Connection, established: Established, tsih: number) => Promise<number>;
  /** The login is over. */
  readonly onEstablished: (connection: Connection) => void;
  /** Everything of the connection is gone: socket, buffers, volumes. Exactly once. */
  readonly onClosed: (connection: Connection) => void;
}

/** Read buffer of all connections: what is read into it is consumed, or copied aside, before anybody else reads. */
const scratch: Window = { bytes: Buffer.allocUnsafeSlow(64 << 10) };
/** What a ping itself moves, with its digest, bytes. */
const PING_BYTES = 52;

const trace = tracer('iscsi');

/**
 * One initiator's connection: its wire, the phase it is in, its timers, and how it ends.
 *
 *   accepted ─► Login ─► Session ─► finishing (no more input; answers go out) ─► wire ended ─► closed
 *        └────────┴────────┴──── fail ──► wire destroyed ─────────────────────────────┘
 */
export class Connection implements WireSink, PduSink, LoginHost, SessionHost {
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
  #wire: Wire | undefined;
  #direct: Window | undefined;
  /** Bytes that came while nothing could be taken. */
  #stashed: Buffer | undefined;
  #patience: Patience | undefined;
  #initiator: string | undefined;
  #finishing = false;
  /** All is answered and given back. */
  #drained = false;
  /** The wire is told to end. */
  #ending = false;
  #wireClosed = false;
  #done = false;
  readonly #stall = new StallWatch();
  #pingProgress = -1;

  constructor(options: ConnectionOptions) {
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

  get wire(): Wire {
    return this.#wire!;
  }

  get session(): Session | undefined {
    return this.#session;
  }

  /** Bytes of the buffer pool this connection keeps from others. */
  get heldBytes(): number {
    return this.#session?.heldBytes ?? 0;
  }

  /** Names of those it has open. */
  get volumes(): readonly string[] {
    return this.#session?.volumes ?? [];
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

  /** Called at regular intervals: how many times in a row it held buffers, waited for the initiator and moved no byte. */
  checkStall(): number {
    const stalls = this.heldBytes > 0 && this.#session!.waitsForInitiator && this.share !== undefined;
    return this.#stall.check(stalls, this.wire.progress);
  }

  start(wire: Wire): void {
    this.#wire = wire;
    this.#patience = patience(this.limits.loginMs, () => {
      this.fail(new ErrnoError(Errno.ETIMEDOUT, `no login within ${this.limits.loginMs} ms`));
    });
    wire.resume();
  }

  // --- WireSink: what the transport delivers ---

  window(): Window {
    this.#direct = this.#finishing ? undefined : this.#receiver.direct();
    return this.#direct ?? scratch;
  }

  received(bytes: Buffer, length: number): boolean {
    if (!this.#finishing) {
      try {
        if (this.#take(bytes, length)) return true;
      } catch (error) {
        this.fail(error);
      }
    }
    return this.#ending; // what comes then is dropped: all that is still of interest is the initiator's end
  }

  ended(): void {
    if (!this.#receiver.atBoundary) trace?.({ peer: this.wire.peer }, 'initiator ended early');
    this.finish('the initiator ended the connection');
  }

  closed(error: Error | undefined): void {
    if (error !== undefined) trace?.({ peer: this.wire.peer, error: error.message }, 'socket error');
    this.#wireClosed = true;
    this.#finishing = true;
    this.#stashed = undefined;
    this.#patience?.end();
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

  send(bytes: Buffer): Promise<void> {
    if (this.#finishing) return Promise.reject(new ErrnoError(Errno.ECONNRESET, 'sending'));
    return new Promise((resolve, reject) => {
      this.wire.write([bytes], () => {
        if (this.#wireClosed) reject(new ErrnoError(Errno.ECONNRESET, 'sending'));
        else resolve();
      });
    });
  }

  admit(established: Established, tsih: number): Promise<number> {
    return this.#options.admit(this, established, tsih);
  }

  established(established: Established): void {
    if (this.#finishing) return;
    this.#patience?.end();
    this.#initiator = established.initiator;
    this.#session = new Session(this, established);
    this.#receiver.headerDigest = established.parameters.headerDigest;
    this.#receiver.dataDigest = established.parameters.dataDigest;
    this.metrics.logins.succeeded++;
    this.#options.onEstablished(this);
    this.#watch();
  }

  refused(error: LoginError): void {
    this.metrics.logins.failed++;
    this.#options.log.info({ peer: this.wire.peer, reason: error.message }, 'iscsi login refused');
    this.finish('login refused');
  }

  // --- SessionHost ---

  discover(): { names: readonly string[]; address: string } {
    const who = { name: this.#initiator!, address: this.address };
    return { names: this.targets.list(who), address: `${this.#options.localAddress},${PORTAL_GROUP}` };
  }

  place(target: Window | undefined): void {
    if (this.#finishing) return;
    this.#receiver.place(target);
    this.resume();
  }

  drop(): void {
    if (this.#finishing) return;
    this.#receiver.drop();
    // The socket lets go of it, too.
    this.wire.pause();
    this.resume();
  }

  drained(): void {
    this.#drained = true;
    if (this.#wireClosed) this.#release();
    else this.#end();
  }

  // --- Both ---

  resume(): void {
    if (this.#finishing) return;
    const stashed = this.#stashed;
    if (stashed !== undefined) {
      this.#stashed = undefined;
      try {
        if (!this.#feed(stashed, 0, stashed.length)) return;
      } catch (error) {
        this.fail(error);
        return;
      }
    }
    if (!this.#receiver.blocked) this.wire.resume();
  }

  /** As `finish`, and what the initiator wrote is made durable before its volumes are closed. */
  shutDown(): void {
    if (!this.#finishing) this.#session?.shutDown();
    this.finish('the host ends');
  }

  /** No more input; what is under way is answered, then the wire ends. */
  finish(reason: string): void {
    if (this.#finishing) return;
    trace?.({ peer: this.wire.peer, reason }, 'finishing');
    this.#finishing = true;
    this.#stashed = undefined;
    this.#patience?.end();
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

  /** Cuts the connection. */
  fail(error: unknown): void {
    if (this.#wireClosed) return;
    const reason = error instanceof Error ? error.message : String(error);
    if (error instanceof ProtocolError) {
      this.metrics.connections.protocolErrors++;
      const { initiator } = this.#session ?? {};
      this.#options.log.info({ peer: this.wire.peer, initiator, reason }, 'iscsi initiator broke the protocol');
    } else {
      trace?.({ peer: this.wire.peer, reason }, 'connection cut');
    }
    this.#finishing = true;
    this.wire.destroy();
  }

  #outputDrained(): void {
    if (this.#drained) this.#end();
    else if (!this.#finishing) this.resume();
  }

  #end(): void {
    if (this.#ending || this.#wireClosed || this.output.busy) return;
    this.#ending = true;
    this.wire.end(); // comes back in `closed`
  }

  /** False when no more input can be taken for now. */
  #take(bytes: Buffer, length: number): boolean {
    if (bytes !== this.#direct?.bytes) return this.#feed(bytes, 0, length);
    this.#receiver.filled(length);
    return !this.#finishing && !this.#receiver.blocked;
  }

  #feed(bytes: Buffer, start: number, end: number): boolean {
    const at = this.#receiver.feed(bytes, start, end);
    if (this.#finishing) return false;
    if (at >= end) return !this.#receiver.blocked;
    this.#stashed = Buffer.from(bytes.subarray(at, end));
    return false;
  }

  /** Silence is asked about, and not for ever. */
  #watch(): void {
    this.#patience = patience(this.limits.pingMs, () => {
      if (this.#answers()) this.#watch();
    });
  }

  /** Asks an initiator that says nothing whether it is there; one that did not answer the last time is cut: false. */
  #answers(): boolean {
    const { progress } = this.wire;
    const silent = progress - this.#pingProgress <= PING_BYTES;
    this.#pingProgress = progress;
    if (!silent || this.#session!.ping()) return true;
    this.#options.log.info(
      { peer: this.wire.peer, initiator: this.#initiator },
      'iscsi initiator does not answer: cut',
    );
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
