import { ProtocolError } from '../../net/errors.ts';
import {
  Cmd,
  Magic,
  ReplyFlag,
  ReplyType,
  SIMPLE_REPLY_BYTES,
  STRING_BYTES_MAX,
  STRUCTURED_REPLY_BYTES,
} from '../../protocols/nbd.ts';
import type { Coverage } from './coverage.ts';

/** A request that is under way, as its replies see it. */
export interface Pending {
  /** Cmd. */
  readonly command: number;
  readonly offset: number;
  readonly length: number;
  /** Where a read goes. */
  readonly buffer: Uint8Array | undefined;
  /** What of a read has come. */
  readonly coverage: Coverage | undefined;
  /** Error number of the protocol that a chunk has told; 0: none. */
  failure: number;
}

export interface RepliesOwner<P extends Pending> {
  find(cookie: bigint): P | undefined;
  /** No more replies come to it. */
  finished(cookie: bigint, request: P): void;
}

/** Offset and length of the hole, or offset of the data, before the payload. */
const OFFSET_BYTES = 8;
const HOLE_BYTES = 12;
/** Error number and length of the message; then the message, and of ERROR_OFFSET an offset. */
const ERROR_BYTES = 6;
const ERROR_BYTES_MAX = ERROR_BYTES + STRING_BYTES_MAX + OFFSET_BYTES;
/** Chunks with an error have this bit. */
const ERROR_BIT = 0x8000;

/**
 * The replies of a server, cut out of its stream. Memory: one header and one error message. States: `magic` (4 bytes),
 * `simple` and `chunk` (the rest of a header), `fields` (what a chunk's type has before its payload), `data` (payload of
 * a read, into its buffer). `received` throws a ProtocolError for whatever the protocol does not allow, after which the
 * stream means nothing any more.
 */
export class Replies<P extends Pending> {
  readonly #owner: RepliesOwner<P>;
  readonly #isStructured: boolean;
  readonly #small = Buffer.alloc(STRUCTURED_REPLY_BYTES + ERROR_BYTES_MAX);
  #state: 'magic' | 'simple' | 'chunk' | 'fields' | 'data' = 'magic';
  #have = 0;
  #need = 4;
  #cookie = 0n;
  #request: P | undefined;
  #isLast = true;
  /** Where in the read's buffer the next byte goes, and how many come. */
  #at = 0;
  #left = 0;

  constructor(owner: RepliesOwner<P>, isStructured: boolean) {
    this.#owner = owner;
    this.#isStructured = isStructured;
  }

  received(chunk: Uint8Array): void {
    let at = 0;
    while (at < chunk.length) {
      if (this.#state === 'data') {
        const part = Math.min(this.#left, chunk.length - at);
        this.#request!.buffer!.set(chunk.subarray(at, at + part), this.#at);
        this.#at += part;
        this.#left -= part;
        at += part;
        if (this.#left === 0) this.#end();
        continue;
      }
      const part = Math.min(this.#need - this.#have, chunk.length - at);
      this.#small.set(chunk.subarray(at, at + part), this.#have);
      this.#have += part;
      at += part;
      if (this.#have === this.#need) this.#step();
    }
  }

  #step(): void {
    switch (this.#state) {
      case 'magic':
        this.#magic();
        break;
      case 'simple':
        this.#simple();
        break;
      case 'chunk':
        this.#chunk();
        break;
      default:
        this.#fields();
    }
  }

  #magic(): void {
    const magic = this.#small.readUInt32BE(0);
    if (magic === Magic.SIMPLE_REPLY) {
      this.#state = 'simple';
      this.#need = SIMPLE_REPLY_BYTES;
    } else if (magic === Magic.STRUCTURED_REPLY && this.#isStructured) {
      this.#state = 'chunk';
      this.#need = STRUCTURED_REPLY_BYTES;
    } else throw new ProtocolError(`a reply with the magic number ${magic.toString(16)}`);
  }

  #find(): P {
    this.#cookie = this.#small.readBigUInt64BE(8);
    const request = this.#owner.find(this.#cookie);
    if (request === undefined) throw new ProtocolError('a reply to a request that was never made, or is over');
    this.#request = request;
    return request;
  }

  #simple(): void {
    const request = this.#find();
    if (request.command === Cmd.READ && this.#isStructured) {
      throw new ProtocolError('a read is answered with a simple reply');
    }
    request.failure = this.#small.readUInt32BE(4);
    this.#isLast = true;
    if (request.command !== Cmd.READ || request.failure !== 0) this.#end();
    else this.#data(request, 0, request.length);
  }

  #chunk(): void {
    const request = this.#find();
    const flags = this.#small.readUInt16BE(4);
    const type = this.#small.readUInt16BE(6);
    const length = this.#small.readUInt32BE(16);
    if ((flags & ~ReplyFlag.DONE) !== 0) throw new ProtocolError(`a reply with flags ${flags}`);
    this.#isLast = (flags & ReplyFlag.DONE) !== 0;
    const isRead = request.command === Cmd.READ;
    if (type === ReplyType.NONE && length === 0 && this.#isLast) this.#end();
    else if (type === ReplyType.OFFSET_DATA && isRead && length > OFFSET_BYTES) this.#more(OFFSET_BYTES);
    else if (type === ReplyType.OFFSET_HOLE && isRead && length === HOLE_BYTES) this.#more(HOLE_BYTES);
    else if ((type & ERROR_BIT) !== 0 && length >= ERROR_BYTES && length <= ERROR_BYTES_MAX) this.#more(length);
    else throw new ProtocolError(`a reply of type ${type} with ${length} bytes, which this request has not`);
  }

  #more(bytes: number): void {
    this.#state = 'fields';
    this.#need = STRUCTURED_REPLY_BYTES + bytes;
  }

  #fields(): void {
    const request = this.#request!;
    const type = this.#small.readUInt16BE(6);
    const length = this.#small.readUInt32BE(16);
    if ((type & ERROR_BIT) !== 0) {
      const failure = this.#small.readUInt32BE(STRUCTURED_REPLY_BYTES);
      if (failure === 0) throw new ProtocolError('an error without a number');
      if (request.failure === 0) request.failure = failure;
      this.#end();
      return;
    }
    const from = this.#small.readBigUInt64BE(STRUCTURED_REPLY_BYTES) - BigInt(request.offset);
    const isHole = type === ReplyType.OFFSET_HOLE;
    const bytes = isHole ? this.#small.readUInt32BE(STRUCTURED_REPLY_BYTES + OFFSET_BYTES) : length - OFFSET_BYTES;
    if (from < 0n || from > BigInt(request.length)) throw new ProtocolError('data of another place than was asked for');
    if (!isHole) {
      this.#data(request, Number(from), bytes);
      return;
    }
    this.#cover(request, Number(from), bytes);
    request.buffer!.fill(0, Number(from), Number(from) + bytes);
    this.#end();
  }

  #data(request: P, from: number, bytes: number): void {
    this.#cover(request, from, bytes);
    this.#at = from;
    this.#left = bytes;
    this.#state = 'data';
  }

  #cover(request: P, from: number, bytes: number): void {
    if (!request.coverage!.add(from, from + bytes))
      throw new ProtocolError('data that were not asked for, or come twice');
  }

  /** A reply is over; the request is when it was the last. */
  #end(): void {
    const request = this.#request!;
    this.#state = 'magic';
    this.#have = 0;
    this.#need = 4;
    this.#request = undefined;
    if (!this.#isLast) return;
    if (request.command === Cmd.READ && request.failure === 0 && !request.coverage!.isComplete) {
      throw new ProtocolError('a read is over before all of its data came');
    }
    this.#owner.finished(this.#cookie, request);
  }
}
