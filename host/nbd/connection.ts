import type net from 'node:net';
import { Errno, ErrnoError } from '../errno.ts';
import type { Logger } from '../log.ts';
import { ProtocolError } from '../net/errors.ts';
import { patience } from '../net/patience.ts';
import type { Wire, WireSink } from '../net/wire.ts';
import { ClientConnection, type Intake } from '../volumes/client-connection.ts';
import type { Exports } from '../volumes/exports.ts';
import type { Share } from '../volumes/share.ts';
import type { AdoptedClient, BufferPool, VolumeHandle } from '../volumes/volume.ts';
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
  /** The name of the listener that it came by, and what is counted of that. */
  readonly listener: string;
  readonly metrics: NbdMetrics;
  readonly log: Logger;
  /** Replaces the wire by one that speaks TLS over it. */
  readonly startTls: (wire: Wire, sink: WireSink) => Promise<Wire>;
  /** Everything of the connection is gone: socket, buffers, volume. Exactly once. */
  readonly onClosed: (connection: Connection) => void;
}

/**
 * One client: the phase it is in, its timers, and how it ends.
 *
 *   accepted ─► Handshake ─► Transmission ─► finishing (no more input; replies go out) ─► wire ended ─► closed
 *        └──────────┴─────────────┴──── fail ──► wire destroyed ──────────────────────────────┘
 */
export class Connection extends ClientConnection implements HandshakeHost, TransmissionHost {
  readonly exports: Exports;
  readonly tls: 'off' | 'optional' | 'required';
  readonly limits: NbdLimits;
  readonly requestBytesMax: number;
  readonly metrics: NbdMetrics;
  #share: Share | undefined;
  readonly #options: ConnectionOptions;
  #handshake: Handshake | undefined = new Handshake(this);
  #transmission: Transmission | undefined;
  #handle: VolumeHandle | undefined;
  #flushes = false;
  #gone = false;
  /** The client is in the process of its volume. */
  #moved: { readonly client: AdoptedClient; readonly volume: string; readonly socket: net.Socket } | undefined;
  #done = false;
  #idleProgress = -1;

  constructor(options: ConnectionOptions) {
    super('nbd', options.metrics, options.log);
    this.#options = options;
    this.exports = options.exports;
    this.tls = options.tls;
    this.limits = options.limits;
    this.requestBytesMax = options.requestBytesMax;
    this.metrics = options.metrics;
  }

  protected get intake(): Intake {
    return this.#transmission ?? this.#handshake!;
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
    return this.#handle?.info.name ?? this.#moved?.volume;
  }

  get volumes(): readonly string[] {
    return this.volume === undefined ? [] : [this.volume];
  }

  get heldBytes(): number {
    return this.#transmission?.heldBytes ?? 0;
  }

  protected get waitsForClient(): boolean {
    return this.#transmission?.waitsForClient ?? false;
  }

  /** Greets the client. The wire delivers nothing before its `resume`. */
  start(wire: Wire): void {
    this.setWire(wire);
    const handshake = this.#handshake!;
    this.#awaitChoice(handshake);
    handshake.start().catch((error) => this.fail(error));
  }

  #awaitChoice(handshake: Handshake): void {
    this.patience = patience(this.limits.handshakeMs, () => {
      if (handshake.opens) this.#awaitChoice(handshake);
      else this.fail(new ErrnoError(Errno.ETIMEDOUT, `no export chosen within ${this.limits.handshakeMs} ms`));
    });
  }

  ended(): void {
    if (this.#transmission === undefined || !this.#transmission.atBoundary) {
      this.trace('client ended early');
    }
    this.finish();
  }

  override closed(error: Error | undefined): void {
    super.closed(error);
    this.#handshake?.close();
    if (this.#transmission === undefined || this.ending) this.#release();
    else this.#transmission.close(); // comes back in `drained`
  }

  // --- HandshakeHost and TransmissionHost: what the phases ask for ---

  async startTls(): Promise<void> {
    // Bytes sent before our reply would be taken for part of the protected conversation (CVE-2021-3716 in nbdkit).
    if (this.stashed) throw new ProtocolError('data between STARTTLS and its reply');
    this.wire.pause();
    const secured = await this.#options.startTls(this.wire, this);
    if (this.finishing) {
      secured.destroy();
      throw new ErrnoError(Errno.ECONNRESET, 'TLS handshake');
    }
    this.setWire(secured);
  }

  transmit(negotiation: Negotiation): void {
    this.patience?.end();
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
      this.log.info({ volume: handle.info.name, peer: this.wire.peer, reason }, 'nbd export gone');
      this.finish();
    });
    this.trace('transmission', { volume: handle.info.name, style: negotiation.style });
    this.#handle = handle;
    if (this.limits.idleMs > 0) this.#watchIdle();
    this.resume();
  }

  /** Begins with the transmission phase: the handshake was made in another process. The wire delivers nothing yet. */
  continue(wire: Wire, negotiation: Negotiation, received: Uint8Array): void {
    this.setWire(wire, received);
    this.transmit(negotiation);
  }

  /** To the process that has the volume. What is left here counts the connection, until the client is gone. */
  #moveOn({ handle, ...agreed }: Negotiation): void {
    const { peer } = this.wire;
    const { socket, received } = this.handOver();
    const volume = handle.info.name;
    this.trace('moves to its engine', { volume, style: agreed.style });
    const handover: Handover = { ...agreed, peer, listener: this.#options.listener, limits: this.limits, received };
    const client = handle.adopt!(socket, handover);
    this.#moved = { client, volume, socket };
    client.gone
      .catch((error: unknown) => this.trace('its engine is gone', { error: String(error) }))
      .finally(() => {
        socket.destroy();
        this.#done = true;
        this.#options.onClosed(this);
      });
  }

  /** As `finish`, and what the client wrote is made durable before its volume is closed. */
  shutDown(): void {
    this.#flushes = true;
    if (this.#moved !== undefined) this.#moved.client.dismiss();
    else this.finish();
  }

  /** What is left here of a client that has moved goes at once; its engine may be stopped, or wait for its pool. */
  override fail(error: unknown): void {
    this.#moved?.client.cut();
    this.#moved?.socket.destroy();
    super.fail(error);
  }

  /** No more input; what is in flight is answered, then the wire ends. */
  finish(): void {
    if (this.finishing) return;
    this.stop();
    this.wire.pause();
    if (this.#transmission !== undefined) {
      this.#transmission.finish();
      return;
    }
    this.#handshake?.close();
    this.end();
  }

  drained(): void {
    if (this.wireClosed) this.#release();
    else this.end();
  }

  #watchIdle(): void {
    this.patience = patience(this.limits.idleMs, () => {
      const { progress } = this.wire;
      if (this.#transmission!.inFlight === 0 && progress === this.#idleProgress) {
        this.trace('idle');
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
      .catch((error) => this.log.error({ err: error, peer: this.wire.peer }, 'nbd: closing a volume failed'))
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
