import { ProtocolError } from '../net/errors.ts';
import { Cmd, CmdFlag, EXTENDED_REQUEST_BYTES, Magic, REQUEST_BYTES } from '../protocols/nbd.ts';
import type { IoBuffer } from '../volumes/volume.ts';

/** One request, from its header to the last byte of its reply. 64-bit fields that are only echoed stay in halves. */
export class Request {
  readonly flags: number;
  readonly type: number;
  readonly cookieHi: number;
  readonly cookieLo: number;
  readonly offsetHi: number;
  readonly offsetLo: number;
  /** Bytes. Beyond 2^53 it is rounded, which only ever refuses what lies outside of every volume. */
  readonly offset: number;
  /** Bytes the command is about: of BLOCK_STATUS with a payload, known only after it. */
  length: number;
  /** Bytes that follow the header. */
  readonly payloadLength: number;
  /** Data of READ and WRITE, until the reply is written. */
  buffer: IoBuffer | undefined = undefined;
  /** Data of a READ that the wire may still read. */
  sending: IoBuffer | undefined = undefined;
  /** Data of READ and WRITE, in bytes; 0 when it is refused. */
  dataBytes = 0;
  /** What the request counts in its connection's budget: `dataBytes` while it has them. */
  heldBytes = 0;

  constructor(bytes: Buffer, at: number, extended: boolean) {
    this.flags = (bytes[at + 4]! << 8) | bytes[at + 5]!;
    this.type = (bytes[at + 6]! << 8) | bytes[at + 7]!;
    this.cookieHi = bytes.readUInt32BE(at + 8);
    this.cookieLo = bytes.readUInt32BE(at + 12);
    this.offsetHi = bytes.readUInt32BE(at + 16);
    this.offsetLo = bytes.readUInt32BE(at + 20);
    this.offset = this.offsetHi * 0x1_0000_0000 + this.offsetLo;
    this.length = bytes.readUInt32BE(at + 24);
    if (extended) this.length = this.length * 0x1_0000_0000 + bytes.readUInt32BE(at + 28);
    // A WRITE always has its data, even where an extended header lacks the flag (qemu and libnbd agree); of the other
    // commands only an extended header can announce a payload.
    const payload = this.type === Cmd.WRITE || (extended && (this.flags & CmdFlag.PAYLOAD_LEN) !== 0);
    this.payloadLength = payload ? this.length : 0;
  }
}

/** Bytes of a request's header. */
export function headerBytes(extended: boolean): number {
  return extended ? EXTENDED_REQUEST_BYTES : REQUEST_BYTES;
}

/**
 * Parses the header at `at`, of which all bytes are there.
 * @throws ProtocolError on a wrong magic: where the next request starts is unknown then.
 */
export function parseRequest(bytes: Buffer, at: number, extended: boolean): Request {
  const magic = bytes.readUInt32BE(at);
  if (magic !== (extended ? Magic.EXTENDED_REQUEST : Magic.REQUEST)) {
    throw new ProtocolError(`request with magic 0x${magic.toString(16).padStart(8, '0')}`);
  }
  return new Request(bytes, at, extended);
}
