import { Errno, ErrnoError } from '../errno.ts';
import { type Logger, tracer } from '../log.ts';
import { ProtocolError } from '../net/errors.ts';
import type { Window } from '../net/onread.ts';
import { type Patience, patience } from '../net/patience.ts';
import type { Wire, WireSink } from '../net/wire.ts';
import type { Exports } from '../volumes/exports.ts';
import type { Share } from '../volumes/share.ts';
import { StallWatch } from '../volumes/stall-watch.ts';
import type { BufferPool, VolumeHandle } from '../volumes/volume.ts';
import type { Handover } from './handover.ts';
import { Handshake, type HandshakeHost } from './handshake.ts';
import type { NbdLimits } from './limits.ts';
import type { NbdMetrics } from './metrics.ts';
import { type Negotiation, Transmission, type TransmissionHost } from './transmission.ts';

export interface ConnectionOptions {
  readonly exports: Exports;
  /** The part of the buffer pool that requests of a volume share. */
  readonly shareOf: (volume: string) => Share;
  readonly tls: 'off' | 'optional' | 'required';
  readonly limits: NbdLimits;
  readonly requestBytesMax: number;
  readonly metrics: NbdMetrics;
  readonly log: Logger;
  /** Replaces the wire by one that speaks TLS over it. */
  readonly startTls: (wire: Wire, sink: WireSink) => Promise<Wire>;
  /** Everything of the connection is gone: socket, buffers, volume. Exactly once. */
  readonly onClosed: (connection: Connection) => void;
}

const nothing = Buffer.alloc(0);

/** Read buffer of all connections: what is read into it is consumed, or copied aside, before anybody else reads. */
const scratch: Window = { bytes: Buffer.allocUnsafeSlow(64 << 10) };

const trace = tracer('nbd');

/**
 * One client: its wire, the phase it is in, its timers, and how it ends.
 *
 *   accepted ─► Handshake ─► Transmission ─► finishing (no more input; replies go out) ─► wire ended ─► closed
 *        └──────────┴─────────────┴──── fail ──► wire destroyed ──────────────────────────────┘
 */
export class Connection implements WireSink, HandshakeHost, TransmissionHost {
  readonly exports: Exports;
  readonly tls: 'off' | 'optional' | 'required';
  readonly limits: NbdLimits;
  readonly requestBytesMax: number;
  readonly metrics: NbdMetrics;
  #share: Share | undefined;
  readonly #options: ConnectionOptions;
  #wire: Wire | undefined;
  #handshake: Handshake | undefined;
  #transmission: Transmission | undefined;
  #direct: Window | undefined;
  /** Bytes that came while the phase was blocked. */
  #stash: Buffer | undefined;
  #patience: Patience | undefined;
  #handle: VolumeHandle | undefined;
  #flushes = false;
  #gone = false;
  #finishing = false;
  /** The last reply is written, the wire told to end. */
  #ending = false;
  #wireClosed = false;
  /** The client is in the process of its volume. */
  #moved: VolumeHandle | undefined;
  #done = false;
  #idleProgress = -1;
  readonly #stall = new StallWatch();

  constructor(options: ConnectionOptions) {
    this.#options = options;
    this.exports = options.exports;
    this.tls = options.tls;
    this.limits = options.limits;
    this.requestBytesMax = options.requestBytesMax;
    this.metrics = options.metrics;
  }

  get wire(): Wire {
    return this.#wire!;
  }

  /** Where the requests of its volume get their buffers; undefined before the transmission phase. */
  get share(): Share | undefined {
    return this.#share;
  }

  get buffers(): BufferPool {
    return this.#share!;
  }

  /** Name of the volume it has open. */
  get volume(): string | undefined {
    return (this.#handle ?? this.#moved)?.info.name;
  }

  get volumes(): readonly string[] {
    return this.volume === undefined ? [] : [this.volume];
  }

  /** Bytes of the buffer pool this connection keeps from others. */
  get heldBytes(): number {
    return this.#transmission?.heldBytes ?? 0;
  }

  /** Called at regular intervals: how many times in a row it held buffers, waited for the client and moved no byte. */
  checkStall(): number {
    return this.#stall.check(this.heldBytes > 0 && this.#transmission!.waitsForClient, this.wire.progress);
  }

  /** Greets the client. The wire delivers nothing before its `resume`. */
  start(wire: Wire): void {
    this.#wire = wire;
    this.#handshake = new Handshake(this);
    this.#awaitChoice(this.#handshake);
    this.#handshake.start().catch((error) => this.fail(error));
  }

  #awaitChoice(handshake: Handshake): void {
    this.#patience = patience(this.limits.handshakeMs, () => {
      if (handshake.opens) this.#awaitChoice(handshake);
      else this.fail(new ErrnoError(Errno.ETIMEDOUT, `no export chosen within ${this.limits.handshakeMs} ms`));
    });
  }

  // --- WireSink: what the transport delivers ---

  window(): Window {
    // What comes after the end is dropped, and shall land in no buffer.
    this.#direct = this.#finishing ? undefined : this.#transmission?.direct();
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
    return this.#ending; // what comes then is dropped: all that is still of interest is the client's end
  }

  ended(): void {
    if (this.#transmission === undefined || !this.#transmission.atBoundary) {
      trace?.({ peer: this.wire.peer }, 'client ended early');
    }
    this.finish();
  }

  closed(error: Error | undefined): void {
    if (error !== undefined) trace?.({ peer: this.wire.peer, error: error.message }, 'socket error');
    this.#wireClosed = true;
    this.#finishing = true;
    this.#stash = undefined;
    this.#patience?.end();
    this.#handshake?.close();
    if (this.#transmission === undefined || this.#ending) this.#release();
    else this.#transmission.close(); // comes back in `drained`
  }

  // --- HandshakeHost and TransmissionHost: what the phases ask for ---

  send(bytes: Buffer): Promise<void> {
    if (this.#finishing) return Promise.reject(new ErrnoError(Errno.ECONNRESET, 'sending'));
    return new Promise((resolve, reject) => {
      this.wire.write([bytes], () => {
        if (this.#wireClosed) reject(new ErrnoError(Errno.ECONNRESET, 'sending'));
        else resolve();
      });
    });
  }

  async startTls(): Promise<void> {
    // Bytes sent before our reply would be taken for part of the protected conversation (CVE-2021-3716 in nbdkit).
    if (this.#stash !== undefined) throw new ProtocolError('data between STARTTLS and its reply');
    this.wire.pause();
    const secured = await this.#options.startTls(this.wire, this);
    if (this.#finishing) {
      secured.destroy();
      throw new ErrnoError(Errno.ECONNRESET, 'TLS handshake');
    }
    this.#wire = secured;
  }

  resume(): void {
    if (this.#finishing) return;
    const stash = this.#stash;
    if (stash !== undefined) {
      this.#stash = undefined;
      try {
        if (!this.#feed(stash, 0, stash.length)) return;
      } catch (error) {
        this.fail(error);
        return;
      }
    }
    this.wire.resume();
  }

  transmit(negotiation: Negotiation): void {
    this.#patience?.end();
    this.#handshake = undefined;
    const { handle } = negotiation;
    if (handle.adopt !== undefined) {
      this.#moveOn(negotiation);
      return;
    }
    this.#share = this.#options.shareOf(handle.info.name);
    this.#transmission = new Transmission(this, negotiation);
    handle.onGone((reason) => {
      this.#gone = true;
      this.#options.log.info({ volume: handle.info.name, peer: this.wire.peer, reason }, 'nbd export gone');
      this.finish();
    });
    trace?.({ peer: this.wire.peer, volume: handle.info.name, style: negotiation.style }, 'transmission');
    this.#handle = handle;
    if (this.limits.idleMs > 0) this.#watchIdle();
    this.resume();
  }

  /** Begins with the transmission phase: the handshake was made in another process. The wire delivers nothing yet. */
  continue(wire: Wire, negotiation: Negotiation, received: Uint8Array): void {
    this.#wire = wire;
    if (received.length > 0) this.#stash = Buffer.from(received);
    this.transmit(negotiation);
  }

  /** To the process that has the volume. What is left here counts the connection, until the client is gone. */
  #moveOn({ handle, ...agreed }: Negotiation): void {
    this.#finishing = true;
    this.#wireClosed = true; // nothing is sent or cut here from now on
    const { peer } = this.wire;
    const socket = this.wire.take!();
    const received = this.#stash ?? nothing;
    this.#stash = undefined;
    trace?.({ peer, volume: handle.info.name, style: agreed.style }, 'moves to its engine');
    this.#moved = handle;
    const handover: Handover = { ...agreed, peer, limits: this.limits, received };
    handle.adopt!(socket, handover)
      .catch((error: unknown) => trace?.({ peer, error: String(error) }, 'its engine is gone'))
      .finally(() => {
        socket.destroy();
        this.#done = true;
        this.#options.onClosed(this);
      });
  }

  /** As `finish`, and what the client wrote is made durable before its volume is closed. */
  shutDown(): void {
    this.#flushes = true;
    if (this.#moved !== undefined) void this.#moved.close().catch(() => undefined);
    else this.finish();
  }

  /** No more input; what is in flight is answered, then the wire ends. */
  finish(): void {
    if (this.#finishing) return;
    this.#finishing = true;
    this.#stash = undefined;
    this.#patience?.end();
    this.wire.pause();
    if (this.#transmission !== undefined) {
      this.#transmission.finish();
      return;
    }
    this.#handshake?.close();
    this.#end();
  }

  drained(): void {
    if (this.#wireClosed) this.#release();
    else this.#end();
  }

  /** Cuts the connection. */
  fail(error: unknown): void {
    if (this.#wireClosed) return;
    const reason = error instanceof Error ? error.message : String(error);
    if (error instanceof ProtocolError) {
      this.metrics.connections.protocolErrors++;
      this.#options.log.info({ peer: this.wire.peer, reason }, 'nbd client broke the protocol');
    } else {
      trace?.({ peer: this.wire.peer, reason }, 'connection cut');
    }
    this.#finishing = true;
    this.wire.destroy();
  }

  #end(): void {
    this.#finishing = true;
    this.#ending = true;
    this.#patience?.end();
    this.wire.end(); // comes back in `closed`
  }

  /** False when no more input can be taken for now. */
  #take(bytes: Buffer, length: number): boolean {
    const transmission = this.#transmission;
    if (transmission === undefined || bytes !== this.#direct?.bytes) return this.#feed(bytes, 0, length);
    transmission.filled(length);
    return !transmission.blocked;
  }

  #feed(bytes: Buffer, start: number, end: number): boolean {
    let at = start;
    // Twice around at most: the handshake's last option may be followed by requests.
    for (;;) {
      const phase = this.#transmission ?? this.#handshake!;
      at = phase.feed(bytes, at, end);
      if (this.#finishing) return false;
      if (phase.blocked) break;
      if (at >= end) return true;
    }
    if (at < end) this.#stash = Buffer.from(bytes.subarray(at, end));
    return false;
  }

  #watchIdle(): void {
    this.#patience = patience(this.limits.idleMs, () => {
      const { progress } = this.wire;
      if (this.#transmission!.inFlight === 0 && progress === this.#idleProgress) {
        trace?.({ peer: this.wire.peer }, 'idle');
        this.finish();
        return;
      }
      this.#idleProgress = progress;
      this.#watchIdle();
    });
  }

  /** Wire and requests are gone: give the volume back. */
  #release(): void {
    if (this.#done) return;
    this.#done = true;
    this.#closeVolume()
      .catch((error) => this.#options.log.error({ err: error, peer: this.wire.peer }, 'nbd: closing a volume failed'))
      .finally(() => this.#options.onClosed(this));
  }

  async #closeVolume(): Promise<void> {
    const handle = this.#handle;
    if (handle === undefined) return;
    try {
      if (this.#flushes && !this.#gone) await handle.flush();
    } finally {
      await handle.close();
    }
  }
}
