import type { Wire } from '../net/wire.ts';
import { BHS_BYTES, DIGEST_BYTES } from './constants.ts';
import { crc32c } from './crc32c.ts';
import { padding } from './pdu.ts';

/** Headers and small data of one batch; more than fits gets memory of its own. */
const SLAB_BYTES = 32 << 10;
/** Data up to this length are copied behind their header: one piece less for the socket. */
const COPY_BYTES_MAX = 512;
/** PDUs, and bytes of memory that only they hold, that wait before no more input is taken. */
const BACKLOG_PDUS_MAX = 1024;
const BACKLOG_BYTES_MAX = 512 << 10;

/**
 * What a connection sends, in order. Headers are encoded one behind the other in a slab; what stands between two data
 * segments is one piece, so that a burst of acknowledged writes is a single small buffer. One batch is on the wire while the
 * next one gathers:
 *
 *   slab   [bhs bhs bhs][bhs]       [bhs bhs]
 *   pieces  ───────────►      data ►          (end of batch)
 */
export class Output {
  headerDigest = false;
  dataDigest = false;
  /** Encode the next header here, at `begin`'s result. */
  slab: Buffer = Buffer.allocUnsafe(SLAB_BYTES);
  #spare: Buffer | undefined = Buffer.allocUnsafe(SLAB_BYTES);
  #at = 0;
  #runStart = 0;
  readonly #wire: () => Wire;
  readonly #drained: () => void;
  #pieces: Uint8Array[] = [];
  #after: (() => void)[] = [];
  #writing: (() => void)[] = [];
  /** Slabs of the batch that is on the wire. */
  #written: Buffer | undefined;
  #pdus = 0;
  #bytes = 0;
  #busy = false;
  #scheduled = false;
  #closed = false;
  readonly #flush = () => this.#write();
  readonly #done = () => this.#finish();

  /** `drained` is called whenever all of it is written. */
  constructor(wire: () => Wire, drained: () => void) {
    this.#wire = wire;
    this.#drained = drained;
  }

  /** Something is on its way, or waits for it. */
  get busy(): boolean {
    return this.#busy || this.#pdus > 0;
  }

  /** The peer does not read: what it asks next shall wait. */
  get congested(): boolean {
    return this.#busy && (this.#pdus >= BACKLOG_PDUS_MAX || this.#bytes >= BACKLOG_BYTES_MAX);
  }

  /** Room for a header in `slab`, zeroed; where it begins. `send` must follow before the next one. */
  begin(): number {
    if (this.#at + BHS_BYTES + 2 * DIGEST_BYTES + COPY_BYTES_MAX + 4 > this.slab.length) this.#renew();
    this.slab.fill(0, this.#at, this.#at + BHS_BYTES);
    return this.#at;
  }

  /** Sends the header, then `data`, which must stay as they are until `after` is called, once, when they are sent or never will be. */
  send(data?: Uint8Array, after?: () => void): void {
    const start = this.#at;
    this.#at += BHS_BYTES;
    if (this.headerDigest) this.#digest(crc32c(this.slab.subarray(start, this.#at)));
    if (data !== undefined && data.length > 0) this.#data(data);
    this.#pdus++;
    this.#bytes += this.#at - start;
    if (after !== undefined) this.#after.push(after);
    if (this.#busy || this.#scheduled) return;
    this.#scheduled = true;
    process.nextTick(this.#flush); // what else is sent in this turn goes along
  }

  /** The PDU that is sent next has so many bytes of data in memory of nobody's but its own. */
  hold(bytes: number): void {
    this.#bytes += bytes;
  }

  /** The wire is closed: what waits, and all that comes, is done with unsent. */
  close(): void {
    this.#closed = true;
    if (!this.#busy && !this.#scheduled) this.#write();
  }

  #data(data: Uint8Array): void {
    if (data.length <= COPY_BYTES_MAX) {
      this.slab.set(data, this.#at);
      this.#at += data.length;
    } else {
      this.#pieces.push(this.slab.subarray(this.#runStart, this.#at), data);
      this.#runStart = this.#at;
    }
    const pad = padding(data.length);
    this.slab.fill(0, this.#at, this.#at + pad);
    this.#at += pad;
    if (!this.dataDigest) return;
    this.#digest(crc32c(this.slab.subarray(this.#at - pad, this.#at), crc32c(data)));
  }

  /** A digest goes over the wire with its lowest byte first (RFC 3720, appendix B.4's examples). */
  #digest(crc: number): void {
    this.slab.writeUInt32LE(crc, this.#at);
    this.#at += DIGEST_BYTES;
  }

  #renew(): void {
    if (this.#at > this.#runStart) this.#pieces.push(this.slab.subarray(this.#runStart, this.#at));
    this.slab = Buffer.allocUnsafe(SLAB_BYTES);
    this.#at = 0;
    this.#runStart = 0;
  }

  #write(): void {
    this.#scheduled = false;
    if (this.#pdus === 0) return;
    if (this.#at > this.#runStart) this.#pieces.push(this.slab.subarray(this.#runStart, this.#at));
    const pieces = this.#pieces;
    const idle = this.#writing;
    this.#writing = this.#after;
    this.#after = idle;
    this.#pieces = [];
    this.#written = this.slab;
    this.slab = this.#spare ?? Buffer.allocUnsafe(SLAB_BYTES);
    this.#spare = undefined;
    this.#at = 0;
    this.#runStart = 0;
    this.#pdus = 0;
    this.#bytes = 0;
    this.#busy = true;
    if (this.#closed) this.#finish();
    else this.#wire().write(pieces, this.#done);
  }

  #finish(): void {
    const after = this.#writing;
    for (let i = 0; i < after.length; i++) after[i]!();
    after.length = 0;
    this.#spare = this.#written;
    this.#busy = false;
    if (this.#pdus > 0 && !this.#scheduled) this.#write();
    else if (this.#pdus === 0) this.#drained();
  }
}
