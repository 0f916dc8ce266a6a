import { assert } from '../assert.ts';
import { ProtocolError } from '../net/errors.ts';
import type { Window } from '../net/onread.ts';
import { BHS_BYTES, DIGEST_BYTES } from './constants.ts';
import { crc32c } from './crc32c.ts';
import { ahsBytes, Pdu, padding } from './pdu.ts';

/** Who takes the PDUs of a connection. */
export interface PduSink {
  /** Data segments up to this length are taken. */
  readonly receiveBytes: number;
  /** No further PDU shall begin for now. */
  readonly congested: boolean;
  /**
   * A header has come. Where its data go: memory of exactly `dataLength` bytes, which is lent until they are there, or
   * undefined to have them dropped. 'wait': it is told later, by `place`.
   */
  begin(pdu: Pdu): Window | undefined | 'wait';
  /** All of it is there. `data`: what `begin` or `place` gave. */
  complete(pdu: Pdu, data: Uint8Array | undefined): void;
}

/**
 * From this length on, data go from the socket straight to where they belong (see `direct`), as in NBD's transmission, where
 * it was measured.
 */
const DIRECT_BYTES_MIN = 32 << 10;

/**
 *   ┌──► header ──► rest (additional segments, digest) ──► begin ──► waiting ──┐
 *   │                                                        └──────► data ◄───┘
 *   └──────────────────── complete ◄── trailer (padding, digest) ◄────┘
 */
type State = 'header' | 'rest' | 'waiting' | 'data' | 'trailer';

/** Cuts a stream of bytes into PDUs, and checks their digests. What is no PDU is thrown as ProtocolError. */
export class Receiver {
  headerDigest = false;
  dataDigest = false;
  readonly #sink: PduSink;
  #state: State = 'header';
  /** What of the header, or of what follows it, has come. */
  readonly #bhs = Buffer.alloc(BHS_BYTES);
  #rest = Buffer.alloc(0);
  readonly #trailer = Buffer.alloc(3 + DIGEST_BYTES);
  #gathered = 0;
  #pdu: Pdu | undefined;
  #target: Window | undefined;
  #filled = 0;
  #length = 0;
  #trailerBytes = 0;
  #crc = 0;
  #expectLarge = false;

  constructor(sink: PduSink) {
    this.#sink = sink;
  }

  /** No input is taken: `feed` consumes nothing. */
  get blocked(): boolean {
    return this.#state === 'waiting' || (this.atBoundary && this.#sink.congested);
  }

  /** Between two PDUs. */
  get atBoundary(): boolean {
    return this.#state === 'header' && this.#gathered === 0;
  }

  /** In the middle of a data segment: the peer is to send more. */
  get expectsData(): boolean {
    return this.#state === 'data' || this.#state === 'trailer';
  }

  /** Where the next bytes should land when the transport can choose. */
  direct(): Window | undefined {
    if (this.#state === 'data') {
      if (this.#target === undefined || this.#length - this.#filled < DIRECT_BYTES_MIN / 8) return undefined;
      return { bytes: this.#target.bytes.subarray(this.#filled), of: this.#target.of };
    }
    // After one large segment, only a header is asked for: the next one's data shall not come along and be copied.
    if (this.#state === 'header' && this.#expectLarge) return { bytes: this.#bhs.subarray(this.#gathered) };
    return undefined;
  }

  /** `length` bytes came into what `direct` returned. */
  filled(length: number): void {
    if (this.#state === 'data') {
      if (this.dataDigest) {
        this.#crc = crc32c(this.#target!.bytes.subarray(this.#filled, this.#filled + length), this.#crc);
      }
      this.#advance(length);
      return;
    }
    this.#gathered += length;
    if (this.#gathered === BHS_BYTES) this.#header(Buffer.from(this.#bhs));
  }

  /** Takes bytes from `start` to `end`; returns where it stopped: before `end` only when it is blocked. */
  feed(bytes: Buffer, start: number, end: number): number {
    let at = start;
    while (at < end && !this.blocked) {
      switch (this.#state) {
        case 'header': {
          const n = Math.min(BHS_BYTES - this.#gathered, end - at);
          this.#bhs.set(bytes.subarray(at, at + n), this.#gathered);
          this.#gathered += n;
          at += n;
          if (this.#gathered === BHS_BYTES) this.#header(Buffer.from(this.#bhs));
          break;
        }
        case 'rest': {
          const n = Math.min(this.#rest.length - this.#gathered, end - at);
          this.#rest.set(bytes.subarray(at, at + n), this.#gathered);
          this.#gathered += n;
          at += n;
          if (this.#gathered === this.#rest.length) this.#headerDone();
          break;
        }
        case 'data': {
          const n = Math.min(this.#length - this.#filled, end - at);
          const piece = bytes.subarray(at, at + n);
          this.#target?.bytes.set(piece, this.#filled);
          if (this.dataDigest) this.#crc = crc32c(piece, this.#crc);
          at += n;
          this.#advance(n);
          break;
        }
        case 'trailer': {
          const n = Math.min(this.#trailerBytes - this.#gathered, end - at);
          this.#trailer.set(bytes.subarray(at, at + n), this.#gathered);
          this.#gathered += n;
          at += n;
          if (this.#gathered === this.#trailerBytes) this.#complete();
          break;
        }
        case 'waiting':
          return at;
      }
    }
    return at;
  }

  /** The answer of a `begin` that said 'wait'. */
  place(target: Window | undefined): void {
    assert(this.#state === 'waiting', 'nothing waits for a place');
    this.#toData(target);
  }

  #header(bhs: Buffer): void {
    this.#gathered = 0;
    const extra = ahsBytes(bhs, 0) + (this.headerDigest ? DIGEST_BYTES : 0);
    this.#pdu = new Pdu(bhs, undefined);
    if (extra === 0) {
      this.#begin(this.#pdu);
      return;
    }
    this.#state = 'rest';
    this.#rest = Buffer.alloc(extra);
  }

  #headerDone(): void {
    const { bytes } = this.#pdu!;
    const ahs = this.#rest.subarray(0, ahsBytes(bytes, 0));
    if (this.headerDigest && crc32c(ahs, crc32c(bytes)) !== this.#rest.readUInt32LE(ahs.length)) {
      throw new ProtocolError('header digest error');
    }
    this.#gathered = 0;
    this.#pdu = new Pdu(bytes, ahs);
    this.#begin(this.#pdu);
  }

  #begin(pdu: Pdu): void {
    this.#length = pdu.dataLength;
    if (this.#length > this.#sink.receiveBytes) {
      throw new ProtocolError(`a data segment of ${this.#length} bytes, where ${this.#sink.receiveBytes} are allowed`);
    }
    this.#expectLarge = this.#length >= DIRECT_BYTES_MIN;
    this.#state = 'waiting'; // whatever happens in there, no byte is taken before it is known where to
    const target = this.#sink.begin(pdu);
    if (target !== 'wait') this.#toData(target);
  }

  #toData(target: Window | undefined): void {
    assert(target === undefined || target.bytes.length === this.#length, 'a data segment has a place of another size');
    target?.of?.lend();
    this.#target = target;
    this.#filled = 0;
    this.#crc = 0;
    this.#trailerBytes = padding(this.#length) + (this.dataDigest && this.#length > 0 ? DIGEST_BYTES : 0);
    this.#state = 'data';
    this.#advance(0);
  }

  #advance(length: number): void {
    this.#filled += length;
    if (this.#filled < this.#length) return;
    this.#state = 'trailer';
    if (this.#trailerBytes === 0) this.#complete();
  }

  #complete(): void {
    const pad = padding(this.#length);
    if (this.dataDigest && this.#length > 0) {
      const crc = crc32c(this.#trailer.subarray(0, pad), this.#crc);
      if (crc !== this.#trailer.readUInt32LE(pad)) throw new ProtocolError('data digest error');
    }
    const [pdu, target] = [this.#pdu!, this.#target];
    this.#state = 'header';
    this.#gathered = 0;
    this.#target = undefined;
    target?.of?.giveBack();
    this.#sink.complete(pdu, target?.bytes);
  }

  /** Nobody wants the data segment that is coming: gives back what it borrowed, and drops the rest. */
  drop(): void {
    this.#target?.of?.giveBack();
    this.#target = undefined;
  }

  /** No more input comes: gives back what it borrowed. */
  close(): void {
    this.drop();
    this.#state = 'waiting';
  }
}
