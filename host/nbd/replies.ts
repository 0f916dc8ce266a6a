import { assert } from '../assert.ts';
import type { Wire } from '../net/wire.ts';
import type { IoBuffer } from '../volumes/volume.ts';
import { REPLY_HEADER_BYTES_MAX } from './reply.ts';
import type { Request } from './request.ts';

/**
 * Replies of one connection, in completion order. Headers are encoded one behind the other in a slab; what stands
 * between two payloads is one piece, so that a burst of acknowledged writes is a single small buffer. One batch is on
 * the wire while the next one gathers in the other slab:
 *
 *   slab   [hdr hdr hdr][hdr]      [hdr hdr]
 *   pieces  ───────────►     data ►          (end of batch)
 *
 * A slab cannot overflow: it has room for one reply of every request a connection may have in flight.
 */
export class ReplyQueue {
  /** Encode the next header here, at `at`, then call `commit`. */
  slab: Buffer;
  at = 0;
  readonly #wire: Wire;
  readonly #finished: (request: Request) => void;
  #otherSlab: Buffer;
  #runStart = 0;
  #pieces: Uint8Array[] = [];
  #requests: Request[] = [];
  #writing: Request[] = [];
  #busy = false;
  #scheduled = false;
  #closed = false;
  readonly #flush = () => this.#write();
  readonly #done = () => this.#written();

  /** `finished` is called when the reply of a request is on its way and its buffer may be reused. */
  constructor(wire: Wire, requestsMax: number, finished: (request: Request) => void) {
    this.#wire = wire;
    this.#finished = finished;
    this.slab = Buffer.allocUnsafe(requestsMax * REPLY_HEADER_BYTES_MAX);
    this.#otherSlab = Buffer.allocUnsafe(requestsMax * REPLY_HEADER_BYTES_MAX);
  }

  /** A batch is on its way to the client. */
  get busy(): boolean {
    return this.#busy;
  }

  /** The reply of `request`: `headerLength` bytes at `at` of the slab, then the payload. */
  commit(request: Request, headerLength: number, payload?: Uint8Array): void {
    assert(headerLength <= REPLY_HEADER_BYTES_MAX && this.at + headerLength <= this.slab.length, 'a slab overflows');
    this.at += headerLength;
    this.#requests.push(request);
    if (payload !== undefined) {
      this.#pieces.push(this.slab.subarray(this.#runStart, this.at), payload);
      this.#runStart = this.at;
    }
    if (this.#busy || this.#scheduled) return;
    this.#scheduled = true;
    process.nextTick(this.#flush); // what else completes in this turn goes along
  }

  /** As `commit`, with the data of a READ, which the wire borrows until the reply is written or never will be. */
  commitData(request: Request, headerLength: number, data: IoBuffer): void {
    assert(request.sending === undefined, 'a request is answered twice');
    data.lend();
    request.sending = data;
    this.commit(request, headerLength, data.bytes);
  }

  /** The wire is closed: replies that wait, and all that come, are finished unsent. */
  close(): void {
    this.#closed = true;
    if (!this.#busy && !this.#scheduled) this.#write();
  }

  #write(): void {
    this.#scheduled = false;
    if (this.#requests.length === 0) return;
    if (this.at > this.#runStart) this.#pieces.push(this.slab.subarray(this.#runStart, this.at));
    const pieces = this.#pieces;
    const idle = this.#writing;
    this.#writing = this.#requests;
    this.#requests = idle;
    this.#pieces = [];
    const slab = this.slab;
    this.slab = this.#otherSlab;
    this.#otherSlab = slab;
    this.at = 0;
    this.#runStart = 0;
    this.#busy = true;
    if (this.#closed) this.#written();
    else this.#wire.write(pieces, this.#done);
  }

  #written(): void {
    assert(this.#busy, 'a batch of replies is written twice');
    const requests = this.#writing;
    for (let i = 0; i < requests.length; i++) {
      const request = requests[i]!;
      request.sending?.giveBack();
      request.sending = undefined;
      this.#finished(request);
    }
    requests.length = 0;
    this.#busy = false;
    if (this.#requests.length > 0 && !this.#scheduled) this.#write();
  }
}
