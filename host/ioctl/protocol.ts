/**
 * The ioctl protocol's bytes: every layout and every limit, and nothing that acts on them. docs/protocol.md has the
 * pictures. All integers are little-endian.
 */
import { isUtf8 } from 'node:buffer';

export const magic = Buffer.from('ZOWIOCTL', 'latin1');
export const version = 3;
/** A hello of this version asks who is there: the reply has the release and the pid, and the server closes. */
export const versionProbe = 0;

export const helloBytes = 112;
export const helloReplyBytes = 192;
export const frameHeaderBytes = 8;
export const ioctlHeadBytes = 24;
export const resultHeadBytes = 16;
export const queryHeadBytes = 4;

/** What a peer may ask of memory. Lengths beyond these end the connection before anything is allocated. */
export const limits = {
  /** `zc_nvlist_src` and `zc_nvlist_conf`, each. Upstream's own limit is a quarter of memory, 128 MiB at most. */
  payloadBytes: 64 * 1024 * 1024,
  /** `zc_nvlist_dst`: a channel program may return `zfs_lua_max_memlimit`, 100 MiB, and what the nvlist adds. */
  dstRoomBytes: 128 * 1024 * 1024,
  /** `zc_history` as output. `zpool history` starts with 128 KiB. */
  historyRoomBytes: 64 * 1024 * 1024,
  /** `zc_history` as input: HIS_MAX_RECORD_LEN, `2 * MAXPATHLEN + 1`. */
  historyBytes: 8193,
  /** Data in one stream frame. */
  streamBytes: 1024 * 1024,
  /** Stream writes a client has not confirmed yet, in frames and in bytes. */
  windowFrames: 16,
  windowBytes: 4 * 1024 * 1024,
  /** The text of a FAILED frame. */
  messageBytes: 1024,
  /** The text of a QUERY frame. */
  queryBytes: 8192,
} as const;

export const FrameType = {
  ioctl: 1,
  result: 2,
  streamRead: 3,
  streamData: 4,
  streamWrite: 5,
  streamWritten: 6,
  failed: 7,
  streamRecords: 8,
  query: 9,
  item: 10,
  done: 11,
  interrupt: 12,
} as const;

/** What a QUERY frame asks for. */
export const QueryKind = {
  /** Kstats that a pattern selects, an ITEM each. */
  kstats: 1,
  /** To clear them. */
  kstatClear: 2,
  /** All tunables, in one ITEM. */
  tunables: 3,
  /** To set one: `name=value`. */
  tunableSet: 4,
  /** The host's engines and lost pools: one ITEM with the string `json`. */
  status: 5,
  /** A remote disk, by its name: its size, and then what is at its ends. */
  disk: 6,
  /** What goes on now: one ITEM with the string `json`. */
  live: 7,
  /** What another configuration would change, by the absolute path of its file: one ITEM with the string `json`. */
  difference: 8,
  /** What a volume is, and where NBD clients get it: one ITEM with the string `json`. */
  volume: 9,
} as const;

/** The peer sent what the protocol does not allow; its connection ends. */
export class ProtocolError extends Error {
  constructor(message: string) {
    super(message);
    this.name = 'ProtocolError';
  }
}

export interface Hello {
  readonly version: number;
  /** sizeof (zfs_cmd_t) of the client. */
  readonly cmdSize: number;
  /** `2.4.3`. */
  readonly release: string;
  /** 16 random bytes, hex: the same in every open of one process. */
  readonly process: string;
  readonly pid: number;
  /** The client's number of this descriptor. */
  readonly fd: number;
  /** 0: a new session; else one more lane of that session. */
  readonly attachMinor: number;
  /** By which the client's standard input and output are known again (pipe.ts); 0: not said. */
  readonly stdio: number;
  readonly program: string;
}

export interface HelloReply {
  readonly version: number;
  readonly cmdSize: number;
  readonly release: string;
  /** Linux errno, 0: welcome. */
  readonly status: number;
  readonly minor: number;
  readonly payloadBytesMax: number;
  readonly pid: number;
  readonly hostid: number;
  /** Why not, for a person. */
  readonly message: string;
}

export interface FrameHeader {
  readonly type: number;
  /** Bytes that follow the header. */
  readonly length: number;
}

export interface IoctlHead {
  readonly request: number;
  readonly srcBytes: number;
  readonly confBytes: number;
  readonly historyBytes: number;
  readonly dstRoom: number;
  readonly historyRoom: number;
}

export interface Query {
  /** One of QueryKind, not yet checked. */
  readonly kind: number;
  readonly text: string;
}

export interface ResultHead {
  readonly errno: number;
  readonly dstBytes: number;
  readonly historyBytes: number;
}

/** Text up to the first NUL; control characters become `?`, for it goes into logs and messages. */
function readText(bytes: Buffer, start: number, end: number): string {
  const nul = bytes.indexOf(0, start);
  const text = bytes.toString('utf8', start, nul === -1 || nul > end ? end : nul);
  return text.replace(/[\p{Cc}\u2028\u2029]/gu, '?');
}

/** NUL-terminated UTF-8 in a field of fixed size, cut between characters. */
function writeText(bytes: Buffer, text: string, start: number, end: number): void {
  bytes.fill(0, start, end);
  bytes.write(text, start, end - start - 1, 'utf8');
}

export function encodeHello(hello: Hello): Buffer {
  const bytes = Buffer.alloc(helloBytes);
  magic.copy(bytes, 0);
  bytes.writeUInt32LE(hello.version, 8);
  bytes.writeUInt32LE(hello.cmdSize, 12);
  writeText(bytes, hello.release, 16, 48);
  bytes.write(hello.process, 48, 16, 'hex');
  bytes.writeUInt32LE(hello.pid, 64);
  bytes.writeInt32LE(hello.fd, 68);
  bytes.writeUInt32LE(hello.attachMinor, 72);
  bytes.writeUInt32LE(hello.stdio, 76);
  writeText(bytes, hello.program, 80, 112);
  return bytes;
}

/** @throws ProtocolError when the peer does not speak this protocol at all. */
export function decodeHello(bytes: Buffer): Hello {
  if (!bytes.subarray(0, 8).equals(magic)) throw new ProtocolError('not a ZoW ioctl client: wrong magic');
  return {
    version: bytes.readUInt32LE(8),
    cmdSize: bytes.readUInt32LE(12),
    release: readText(bytes, 16, 48),
    process: bytes.toString('hex', 48, 64),
    pid: bytes.readUInt32LE(64),
    fd: bytes.readInt32LE(68),
    attachMinor: bytes.readUInt32LE(72),
    stdio: bytes.readUInt32LE(76),
    program: readText(bytes, 80, 112),
  };
}

export function encodeHelloReply(reply: HelloReply): Buffer {
  const bytes = Buffer.alloc(helloReplyBytes);
  magic.copy(bytes, 0);
  bytes.writeUInt32LE(reply.version, 8);
  bytes.writeUInt32LE(reply.cmdSize, 12);
  writeText(bytes, reply.release, 16, 48);
  bytes.writeUInt32LE(reply.status, 48);
  bytes.writeUInt32LE(reply.minor, 52);
  bytes.writeUInt32LE(reply.payloadBytesMax, 56);
  bytes.writeUInt32LE(reply.pid, 60);
  bytes.writeUInt32LE(reply.hostid, 64);
  writeText(bytes, reply.message, 72, 192);
  return bytes;
}

/** @throws ProtocolError when the peer is not a ZoW host. */
export function decodeHelloReply(bytes: Buffer): HelloReply {
  if (!bytes.subarray(0, 8).equals(magic)) throw new ProtocolError('not a ZoW host: wrong magic');
  return {
    version: bytes.readUInt32LE(8),
    cmdSize: bytes.readUInt32LE(12),
    release: readText(bytes, 16, 48),
    status: bytes.readUInt32LE(48),
    minor: bytes.readUInt32LE(52),
    payloadBytesMax: bytes.readUInt32LE(56),
    pid: bytes.readUInt32LE(60),
    hostid: bytes.readUInt32LE(64),
    message: readText(bytes, 72, 192),
  };
}

export function encodeFrameHeader(type: number, length: number): Buffer {
  const bytes = Buffer.allocUnsafe(frameHeaderBytes);
  bytes.writeUInt32LE(type, 0);
  bytes.writeUInt32LE(length, 4);
  return bytes;
}

export function decodeFrameHeader(bytes: Buffer): FrameHeader {
  return { type: bytes.readUInt32LE(0), length: bytes.readUInt32LE(4) };
}

export function encodeIoctlHead(head: IoctlHead): Buffer {
  const bytes = Buffer.allocUnsafe(ioctlHeadBytes);
  bytes.writeUInt32LE(head.request, 0);
  bytes.writeUInt32LE(head.srcBytes, 4);
  bytes.writeUInt32LE(head.confBytes, 8);
  bytes.writeUInt32LE(head.historyBytes, 12);
  bytes.writeUInt32LE(head.dstRoom, 16);
  bytes.writeUInt32LE(head.historyRoom, 20);
  return bytes;
}

/**
 * Decodes and validates: behind this every length is within its limit and together they are the frame's.
 * @throws ProtocolError
 */
export function decodeIoctlHead(bytes: Buffer, frameBytes: number, cmdSize: number): IoctlHead {
  const head = {
    request: bytes.readUInt32LE(0),
    srcBytes: bytes.readUInt32LE(4),
    confBytes: bytes.readUInt32LE(8),
    historyBytes: bytes.readUInt32LE(12),
    dstRoom: bytes.readUInt32LE(16),
    historyRoom: bytes.readUInt32LE(20),
  };
  atMost('source nvlist', head.srcBytes, limits.payloadBytes);
  atMost('config nvlist', head.confBytes, limits.payloadBytes);
  atMost('history string', head.historyBytes, limits.historyBytes);
  atMost('room for output', head.dstRoom, limits.dstRoomBytes);
  atMost('room for history', head.historyRoom, limits.historyRoomBytes);
  const sum = ioctlHeadBytes + cmdSize + head.srcBytes + head.confBytes + head.historyBytes;
  if (frameBytes !== sum) throw new ProtocolError(`an ioctl of ${frameBytes} bytes whose parts are ${sum}`);
  return head;
}

/** The largest IOCTL frame; its parts are checked by decodeIoctlHead. */
export function ioctlFrameBytesMax(cmdSize: number): number {
  return ioctlHeadBytes + cmdSize + 2 * limits.payloadBytes + limits.historyBytes;
}

export function encodeResultHead(head: ResultHead): Buffer {
  const bytes = Buffer.alloc(resultHeadBytes);
  bytes.writeUInt32LE(head.errno, 0);
  bytes.writeUInt32LE(head.dstBytes, 4);
  bytes.writeUInt32LE(head.historyBytes, 8);
  return bytes;
}

export function decodeResultHead(bytes: Buffer): ResultHead {
  return { errno: bytes.readUInt32LE(0), dstBytes: bytes.readUInt32LE(4), historyBytes: bytes.readUInt32LE(8) };
}

/** A whole STREAM_READ frame: the client reads once from `fd`, at most `max` bytes. */
export function encodeStreamRead(fd: number, max: number): Buffer {
  const bytes = Buffer.allocUnsafe(frameHeaderBytes + 8);
  bytes.writeUInt32LE(FrameType.streamRead, 0);
  bytes.writeUInt32LE(8, 4);
  bytes.writeInt32LE(fd, 8);
  bytes.writeUInt32LE(max, 12);
  return bytes;
}

/** A whole STREAM_RECORDS frame: `left` bytes of a record of a send stream, then whole ones, `max` bytes of all at most. */
export function encodeStreamRecords(fd: number, max: number, left: number): Buffer {
  const bytes = Buffer.allocUnsafe(frameHeaderBytes + 12);
  bytes.writeUInt32LE(FrameType.streamRecords, 0);
  bytes.writeUInt32LE(12, 4);
  bytes.writeInt32LE(fd, 8);
  bytes.writeUInt32LE(max, 12);
  bytes.writeUInt32LE(left, 16);
  return bytes;
}

/** A STREAM_WRITE frame without its data, which follows as it is. */
export function encodeStreamWriteHead(fd: number, dataBytes: number): Buffer {
  const bytes = Buffer.allocUnsafe(frameHeaderBytes + 4);
  bytes.writeUInt32LE(FrameType.streamWrite, 0);
  bytes.writeUInt32LE(4 + dataBytes, 4);
  bytes.writeInt32LE(fd, 8);
  return bytes;
}

/** A whole QUERY frame. */
export function encodeQuery({ kind, text }: Query): Buffer {
  return numberAndText(FrameType.query, kind, Buffer.from(text, 'utf8'));
}

/** The payload of a QUERY frame. @throws ProtocolError */
export function decodeQuery(payload: Buffer): Query {
  const text = payload.subarray(queryHeadBytes);
  if (!isUtf8(text)) throw new ProtocolError('the text of a query is not UTF-8');
  return { kind: payload.readUInt32LE(0), text: text.toString('utf8') };
}

/** A whole DONE frame: the end of a query, with errno 0 or why not. */
export function encodeDone(errno: number, message: string): Buffer {
  return numberAndText(FrameType.done, errno, cut(message));
}

/** A whole FAILED frame: the server's last words. */
export function encodeFailed(errno: number, message: string): Buffer {
  return numberAndText(FrameType.failed, errno, cut(message));
}

/** The payload of a DONE or FAILED frame. */
export function decodeVerdict(payload: Buffer): { errno: number; message: string } {
  return { errno: payload.readUInt32LE(0), message: readText(payload, 4, payload.length) };
}

function numberAndText(type: number, number: number, text: Buffer): Buffer {
  const bytes = Buffer.allocUnsafe(frameHeaderBytes + 4 + text.length);
  bytes.writeUInt32LE(type, 0);
  bytes.writeUInt32LE(4 + text.length, 4);
  bytes.writeUInt32LE(number, 8);
  text.copy(bytes, 12);
  return bytes;
}

function cut(message: string): Buffer {
  return Buffer.from(message, 'utf8').subarray(0, limits.messageBytes);
}

function atMost(what: string, value: number, max: number): void {
  if (value > max) throw new ProtocolError(`${what} of ${value} bytes, the limit is ${max}`);
}
