import {
  BASE_ALLOCATION_ID,
  EXTENDED_REPLY_BYTES,
  Magic,
  ReplyFlag,
  ReplyType,
  SIMPLE_REPLY_BYTES,
  STRUCTURED_REPLY_BYTES,
  State,
} from '../protocols/nbd.ts';
import type { Extent } from '../volumes/volume.ts';
import type { Request } from './request.ts';

/** How a connection's replies look: the greatest that was negotiated. */
export type ReplyStyle = 'simple' | 'structured' | 'extended';

/** Room any header below takes at most, the offset of read data included. */
export const REPLY_HEADER_BYTES_MAX = EXTENDED_REPLY_BYTES + 8;

/** 32-bit extents end below 4 GiB, at a multiple of every block size. */
const EXTENT_BYTES_MAX_32 = 0xffff_0000;
/** Extents in one reply: 64 KiB in the long form. */
export const EXTENTS_MAX = 4096;

function cookie(into: Buffer, at: number, request: Request): void {
  into.writeUInt32BE(request.cookieHi, at);
  into.writeUInt32BE(request.cookieLo, at + 4);
}

/** Simple reply. All functions here write at `at` and return the bytes written. */
export function encodeSimple(into: Buffer, at: number, request: Request, errno: number): number {
  into.writeUInt32BE(Magic.SIMPLE_REPLY, at);
  into.writeUInt32BE(errno, at + 4);
  cookie(into, at + 8, request);
  return SIMPLE_REPLY_BYTES;
}

/** Header of the one and last chunk of a structured or extended reply whose payload has `length` bytes. */
export function encodeChunk(
  into: Buffer,
  at: number,
  request: Request,
  extended: boolean,
  type: number,
  length: number,
): number {
  into.writeUInt32BE(extended ? Magic.EXTENDED_REPLY : Magic.STRUCTURED_REPLY, at);
  into.writeUInt16BE(ReplyFlag.DONE, at + 4);
  into.writeUInt16BE(type, at + 6);
  cookie(into, at + 8, request);
  if (!extended) {
    into.writeUInt32BE(length, at + 16);
    return STRUCTURED_REPLY_BYTES;
  }
  into.writeUInt32BE(request.offsetHi, at + 16);
  into.writeUInt32BE(request.offsetLo, at + 20);
  into.writeUInt32BE(0, at + 24);
  into.writeUInt32BE(length, at + 28);
  return EXTENDED_REPLY_BYTES;
}

/** What stands before read data. */
export function encodeRead(into: Buffer, at: number, request: Request, style: ReplyStyle): number {
  if (style === 'simple') return encodeSimple(into, at, request, 0);
  const n = encodeChunk(into, at, request, style === 'extended', ReplyType.OFFSET_DATA, 8 + request.length);
  into.writeUInt32BE(request.offsetHi, at + n);
  into.writeUInt32BE(request.offsetLo, at + n + 4);
  return n + 8;
}

/** Success without data. */
export function encodeDone(into: Buffer, at: number, request: Request, style: ReplyStyle): number {
  // With structured replies a simple one stays allowed where there are no data, and is 4 bytes shorter.
  if (style !== 'extended') return encodeSimple(into, at, request, 0);
  return encodeChunk(into, at, request, true, ReplyType.NONE, 0);
}

/** Payload of an error chunk. */
export function errorPayload(errno: number, message: string): Buffer {
  const text = Buffer.from(message.slice(0, 1024));
  const payload = Buffer.alloc(6 + text.length);
  payload.writeUInt32BE(errno, 0);
  payload.writeUInt16BE(text.length, 4);
  text.copy(payload, 6);
  return payload;
}

/**
 * Payload of a BLOCK_STATUS chunk for the extents from the request's offset on: at least one, cut where the request
 * ends, neighbours of one kind joined, one only for REQ_ONE. The protocol allows to stop early.
 */
export function statusPayload(request: Request, extents: readonly Extent[], extended: boolean, one: boolean): Buffer {
  const lengthMax = extended ? Number.MAX_SAFE_INTEGER : EXTENT_BYTES_MAX_32;
  const joined: { length: number; hole: boolean }[] = [];
  let left = request.length;
  for (const extent of extents) {
    const length = Math.min(extent.length, left);
    if (length <= 0) break;
    const last = joined.at(-1);
    if (last !== undefined && last.hole === extent.hole && last.length + length <= lengthMax) {
      last.length += length;
    } else {
      if (joined.length === (one ? 1 : EXTENTS_MAX)) break;
      joined.push({ length: Math.min(length, lengthMax), hole: extent.hole });
      if (length > lengthMax) break; // what follows would not be adjacent
    }
    left -= length;
  }
  if (joined.length === 0) joined.push({ length: Math.min(request.length, lengthMax), hole: false });
  return extended ? extendedStatus(joined) : structuredStatus(joined);
}

function stateOf(extent: Extent): number {
  return extent.hole ? State.HOLE | State.ZERO : 0;
}

function structuredStatus(extents: readonly Extent[]): Buffer {
  const payload = Buffer.allocUnsafe(4 + 8 * extents.length);
  let at = payload.writeUInt32BE(BASE_ALLOCATION_ID, 0);
  for (const extent of extents) {
    at = payload.writeUInt32BE(extent.length, at);
    at = payload.writeUInt32BE(stateOf(extent), at);
  }
  return payload;
}

function extendedStatus(extents: readonly Extent[]): Buffer {
  const payload = Buffer.alloc(8 + 16 * extents.length);
  let at = payload.writeUInt32BE(BASE_ALLOCATION_ID, 0);
  at = payload.writeUInt32BE(extents.length, at);
  for (const extent of extents) {
    at = payload.writeBigUInt64BE(BigInt(extent.length), at);
    at = payload.writeUInt32BE(stateOf(extent), at + 4);
  }
  return payload;
}
