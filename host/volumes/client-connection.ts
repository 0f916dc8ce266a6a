import type { Socket } from 'node:net';
import { Errno, ErrnoError } from '../errno.ts';
import { type Logger, tracer } from '../log.ts';
import { ProtocolError } from '../net/errors.ts';
import type { Window } from '../net/onread.ts';
import type { Patience } from '../net/patience.ts';
import type { Wire, WireSink } from '../net/wire.ts';
import type { Share } from './share.ts';
import type { ShareUser } from './shares.ts';

export type Protocol = 'nbd' | 'iscsi';

/** Plain numbers that whoever exports metrics reads. */
export interface ConnectionMetrics {
  open: number;
  total: number;
  refused: number;
  protocolErrors: number;
  stalled: number;
}

/** A client that is served now. */
export interface ClientSummary {
  readonly protocol: Protocol;
  /** As in logs. */
  readonly peer: string;
  /** Names of the volumes it has open. */
  readonly volumes: readonly string[];
  /** That went by its connection so far, either way. */
  readonly bytes: number;
}

/** What takes the input of a connection: the phase it is in, or what cuts it into messages. It throws ProtocolError. */
export interface Intake {
  /** No input is taken: `feed` consumes nothing. */
  readonly blocked: boolean;
  /** Takes bytes from `start` to `end`; returns where it stopped: before `end` only when it is blocked. */
  feed(bytes: Buffer, start: number, end: number): number;
  /** Where the next bytes should land when the transport can choose. */
  direct?(): Window | undefined;
  /** `length` bytes came into what `direct` returned. */
  filled?(length: number): void;
}

/** Read buffer of all connections: what is read into it is consumed, or copied aside, before anybody else reads. */
const scratch: Window = { bytes: Buffer.allocUnsafeSlow(64 << 10) };
const nothing = Buffer.alloc(0);
const traces = { nbd: tracer('nbd'), iscsi: tracer('iscsi') };

/**
 * A client's connection between its wire and its protocol: input goes to the `intake`, and waits where that is blocked;
 * what ends it ends it once.
 *
 *   open ─► finishing (no more input; answers go out) ─► `end`: wire ended ─► closed
 *     └──────────┴──── fail ──► wire destroyed ─────────────────────────────┘
 */
export abstract class ClientConnection implements WireSink, ShareUser {
  /** Of the listener that it came by. */
  readonly counts: ConnectionMetrics;
  protected readonly log: Logger;
  /** What the client has a time for now. */
  protected patience: Patience | undefined;
  readonly #protocol: Protocol;
  #wire: Wire | undefined;
  #direct: Window | undefined;
  /** Bytes that came while nothing could be taken. */
  #stash: Buffer | undefined;
  #finishing = false;
  #ending = false;
  #wireClosed = false;
  #progress = -1;
  #stalls = 0;

  constructor(protocol: Protocol, metrics: { readonly connections: ConnectionMetrics }, log: Logger) {
    this.#protocol = protocol;
    this.counts = metrics.connections;
    this.log = log;
  }

  /** Where input goes now. */
  protected abstract get intake(): Intake;

  /** Names of the volumes it has open. */
  abstract get volumes(): readonly string[];

  /** Where its requests get their buffers; undefined before it chose a volume. */
  abstract get share(): Share | undefined;

  /** Bytes of the buffer pool it keeps from others. */
  abstract get heldBytes(): number;

  /** The client is to act next: to read answers, or to send the rest of what it began. */
  protected abstract get waitsForClient(): boolean;

  /** As an end of input, and what the client wrote is made durable before its volumes are closed. */
  abstract shutDown(): void;

  get wire(): Wire {
    return this.#wire!;
  }

  get summary(): ClientSummary {
    const { peer, progress } = this.wire;
    return { protocol: this.#protocol, peer, volumes: this.volumes, bytes: progress };
  }

  /** Another one takes the place of the last. `received`: what has come by it already. */
  protected setWire(wire: Wire, received: Uint8Array = nothing): void {
    this.#wire = wire;
    if (received.length > 0) this.#stash = Buffer.from(received);
  }

  /** Bytes have come that are not taken yet. */
  protected get stashed(): boolean {
    return this.#stash !== undefined;
  }

  /** No more input is taken. */
  protected get finishing(): boolean {
    return this.#finishing;
  }

  /** The last answer is written, the wire told to end. */
  protected get ending(): boolean {
    return this.#ending;
  }

  protected get wireClosed(): boolean {
    return this.#wireClosed;
  }

  /** For the log: which client. */
  protected get who(): object {
    return { peer: this.wire.peer };
  }

  protected trace(message: string, fields?: object): void {
    traces[this.#protocol]?.({ ...this.who, ...fields }, message);
  }

  /** Called at regular intervals: how many times in a row it held buffers, waited for the client and moved no byte. */
  checkStall(): number {
    const { progress } = this.wire;
    const waits = this.heldBytes > 0 && this.waitsForClient && this.share !== undefined;
    this.#stalls = waits && progress === this.#progress ? this.#stalls + 1 : 0;
    this.#progress = progress;
    return this.#stalls;
  }

  // --- WireSink: what the transport delivers ---

  window(): Window {
    // What comes after the end is dropped, and shall land in no buffer.
    this.#direct = this.#finishing ? undefined : this.intake.direct?.();
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

  abstract ended(): void;

  closed(error: Error | undefined): void {
    if (error !== undefined) this.trace('socket error', { error: error.message });
    this.#wireClosed = true;
    this.stop();
  }

  // --- What the protocol asks for ---

  /** Resolves when the bytes are on their way. Rejects when the client is gone. */
  send(bytes: Buffer): Promise<void> {
    if (this.#finishing) return Promise.reject(new ErrnoError(Errno.ECONNRESET, 'sending'));
    return new Promise((resolve, reject) => {
      this.wire.write([bytes], () => {
        if (this.#wireClosed) reject(new ErrnoError(Errno.ECONNRESET, 'sending'));
        else resolve();
      });
    });
  }

  /** Input can go on, as far as the intake is not blocked. */
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
    if (!this.intake.blocked) this.wire.resume();
  }

  /** Gives the socket away, with what has come and is not taken: nothing is sent or cut here from now on. */
  protected handOver(): { readonly socket: Socket; readonly received: Uint8Array } {
    const received = this.#stash ?? nothing;
    this.stop();
    this.#wireClosed = true;
    return { socket: this.wire.take!(), received };
  }

  /** Takes no more input. */
  protected stop(): void {
    this.#finishing = true;
    this.#stash = undefined;
    this.patience?.end();
  }

  /** All is sent: the wire ends, which comes back in `closed`. */
  protected end(): void {
    this.stop();
    this.#ending = true;
    this.wire.end();
  }

  /** Cuts the connection. */
  fail(error: unknown): void {
    if (this.#wireClosed) return;
    const reason = error instanceof Error ? error.message : String(error);
    if (error instanceof ProtocolError) {
      this.counts.protocolErrors++;
      this.log.info({ ...this.who, reason }, `${this.#protocol} client broke the protocol`);
    } else {
      this.trace('connection cut', { reason });
    }
    this.#finishing = true;
    this.wire.destroy();
  }

  /** False when no more input can be taken for now. */
  #take(bytes: Buffer, length: number): boolean {
    if (bytes !== this.#direct?.bytes) return this.#feed(bytes, 0, length);
    const { intake } = this;
    intake.filled!(length);
    return !this.#finishing && !intake.blocked;
  }

  #feed(bytes: Buffer, start: number, end: number): boolean {
    let at = start;
    // Twice around at most: the last message of one intake may be followed by the first of the next.
    for (;;) {
      const { intake } = this;
      at = intake.feed(bytes, at, end);
      if (this.#finishing) return false;
      if (intake.blocked) break;
      if (at >= end) return true;
    }
    if (at < end) this.#stash = Buffer.from(bytes.subarray(at, end));
    return false;
  }
}
