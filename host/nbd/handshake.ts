import { Errno, ErrnoError, errnoOf } from '../errno.ts';
import { tracer } from '../log.ts';
import { ProtocolError } from '../net/errors.ts';
import {
  BASE_ALLOCATION,
  BASE_ALLOCATION_ID,
  HandshakeFlag,
  Info,
  Magic,
  OPTION_HEADER_BYTES,
  Opt,
  Rep,
  STRING_BYTES_MAX,
  TransmissionFlag,
} from '../protocols/nbd.ts';
import type { Exports } from '../volumes/exports.ts';
import type { VolumeHandle, VolumeInfo } from '../volumes/volume.ts';
import { OptionError, parseInfo, parseMetaContext, parseName, parseNothing } from './options.ts';
import type { ReplyStyle } from './reply.ts';
import type { Negotiation } from './transmission.ts';

/** What a handshake needs of its connection. */
export interface HandshakeHost {
  readonly exports: Exports;
  /** Bytes, see NbdLimits. */
  readonly requestBytesMax: number;
  /** `off`: STARTTLS is unknown. `required`: nothing else is, before it. */
  readonly tls: 'off' | 'optional' | 'required';
  /** Resolves when the bytes are on their way. Rejects when the client is gone. */
  send(bytes: Buffer): Promise<void>;
  /** Continues on TLS. Rejects when the TLS handshake fails. */
  startTls(): Promise<void>;
  /** Input can go on. */
  resume(): void;
  /** The transmission phase begins; `reply` is its announcement and is to be sent first. */
  transmit(negotiation: Negotiation): void;
  /** The client said goodbye. */
  finish(): void;
  fail(error: unknown): void;
}

/** Option data up to this length are read; nothing an option asks for is longer. */
const OPTION_BYTES_MAX = 16 << 10;
/** Longer option data up to this length are dropped and answered with ERR_TOO_BIG; beyond, the connection is. */
const OPTION_DISCARD_BYTES_MAX = 1 << 20;
/** More options than any client has use for: a bound on how long a handshake can keep the server busy. */
const OPTIONS_MAX = 4096;
/** LIST is sent in pieces of about this size. */
const LIST_PIECE_BYTES = 64 << 10;
/** Zeroes at the end of the reply to EXPORT_NAME, unless both sides agreed to leave them out. */
const EXPORT_NAME_ZEROES = 124;

const trace = tracer('nbd');

/**
 *   busy (greeting) ──► flags ──► option ──► data ──► busy ──┬──► option
 *                                    └──────► discard ──┘    └──► done (transmission, ABORT, failure)
 */
type State = 'flags' | 'option' | 'data' | 'discard' | 'busy' | 'done';

/** Fixed newstyle handshake of one connection. `start` sends the greeting; then `feed` takes what the client sends. */
export class Handshake {
  readonly #host: HandshakeHost;
  #state: State = 'busy';
  /** What is being gathered: client flags, an option's header, an option's data. */
  #gather = Buffer.alloc(4);
  #gathered = 0;
  #discard = 0;
  #option = 0;
  #options = 0;
  #fixed = false;
  #noZeroes = false;
  #secure = false;
  #style: ReplyStyle = 'simple';
  /** For which export `base:allocation` was selected. */
  #allocationFor: string | undefined;
  #closed = false;
  #opens = false;

  constructor(host: HandshakeHost) {
    this.#host = host;
  }

  get blocked(): boolean {
    return this.#state === 'busy' || this.#state === 'done';
  }

  /** The client waits for its volume, which takes what its pool takes. */
  get opens(): boolean {
    return this.#opens;
  }

  async start(): Promise<void> {
    const greeting = Buffer.alloc(18);
    greeting.writeUInt32BE(Magic.INIT_HI, 0);
    greeting.writeUInt32BE(Magic.INIT_LO, 4);
    greeting.writeUInt32BE(Magic.OPTION_HI, 8);
    greeting.writeUInt32BE(Magic.OPTION_LO, 12);
    greeting.writeUInt16BE(HandshakeFlag.FIXED_NEWSTYLE | HandshakeFlag.NO_ZEROES, 16);
    await this.#host.send(greeting);
    if (this.#closed) return;
    this.#state = 'flags';
    this.#host.resume();
  }

  /** Takes bytes from `start` to `end`; returns where it stopped: before `end` only when it is blocked. */
  feed(bytes: Buffer, start: number, end: number): number {
    let at = start;
    while (at < end && !this.blocked) {
      if (this.#state === 'discard') {
        const n = Math.min(this.#discard, end - at);
        this.#discard -= n;
        at += n;
        if (this.#discard === 0) this.#dispatch();
        continue;
      }
      const n = Math.min(this.#gather.length - this.#gathered, end - at);
      this.#gather.set(bytes.subarray(at, at + n), this.#gathered);
      this.#gathered += n;
      at += n;
      if (this.#gathered === this.#gather.length) this.#complete();
    }
    return at;
  }

  /** The client is gone: what is under way gives back what it gets. */
  close(): void {
    this.#closed = true;
    this.#state = 'done';
  }

  #expect(state: 'option' | 'data', length: number): void {
    this.#state = state;
    this.#gather = Buffer.alloc(length);
    this.#gathered = 0;
  }

  #complete(): void {
    const bytes = this.#gather;
    switch (this.#state) {
      case 'flags':
        this.#clientFlags(bytes.readUInt32BE(0));
        this.#expect('option', OPTION_HEADER_BYTES);
        return;
      case 'option':
        this.#optionHeader(bytes);
        return;
      default:
        this.#dispatch();
    }
  }

  #clientFlags(flags: number): void {
    if ((flags & ~(HandshakeFlag.FIXED_NEWSTYLE | HandshakeFlag.NO_ZEROES)) !== 0) {
      throw new ProtocolError(`unknown client flags 0x${flags.toString(16)}`);
    }
    this.#fixed = (flags & HandshakeFlag.FIXED_NEWSTYLE) !== 0;
    this.#noZeroes = (flags & HandshakeFlag.NO_ZEROES) !== 0;
  }

  #optionHeader(header: Buffer): void {
    if (header.readUInt32BE(0) !== Magic.OPTION_HI || header.readUInt32BE(4) !== Magic.OPTION_LO) {
      throw new ProtocolError('option without its magic');
    }
    this.#option = header.readUInt32BE(8);
    const length = header.readUInt32BE(12);
    trace?.({ option: this.#option, length }, 'option');
    if (++this.#options > OPTIONS_MAX) throw new ProtocolError(`more than ${OPTIONS_MAX} options`);
    if (!this.#fixed && this.#option !== Opt.EXPORT_NAME) {
      throw new ProtocolError(`option ${this.#option} without fixed newstyle`);
    }
    if (length <= OPTION_BYTES_MAX) {
      this.#expect('data', length);
      if (length === 0) this.#dispatch();
      return;
    }
    if (length > OPTION_DISCARD_BYTES_MAX || this.#option === Opt.EXPORT_NAME) {
      throw new ProtocolError(`option ${this.#option} with ${length} bytes`);
    }
    this.#state = 'discard';
    this.#discard = length;
  }

  /** Runs the option; input waits until it is answered. */
  #dispatch(): void {
    const tooBig = this.#state === 'discard';
    const data = this.#gather;
    this.#state = 'busy';
    const answer = tooBig ? this.#reject(Rep.ERR_TOO_BIG, 'option data too long') : this.#run(this.#option, data);
    answer.then(
      () => {
        if (this.#state !== 'busy') return;
        this.#expect('option', OPTION_HEADER_BYTES);
        this.#host.resume();
      },
      (error) => {
        if (!this.#closed) this.#host.fail(error);
      },
    );
  }

  async #run(option: number, data: Buffer): Promise<void> {
    if (option === Opt.ABORT) return this.#abort();
    if (this.#host.tls === 'required' && !this.#secure && option !== Opt.STARTTLS) {
      if (option === Opt.EXPORT_NAME) throw new ProtocolError('EXPORT_NAME before STARTTLS');
      return this.#reject(Rep.ERR_TLS_REQD, 'this server requires TLS');
    }
    try {
      switch (option) {
        case Opt.EXPORT_NAME:
          return await this.#exportName(parseName(data));
        case Opt.LIST:
          parseNothing(data);
          return await this.#list();
        case Opt.STARTTLS:
          parseNothing(data);
          return await this.#startTls();
        case Opt.INFO:
        case Opt.GO:
          return await this.#info(option === Opt.GO, parseInfo(data));
        case Opt.STRUCTURED_REPLY:
          parseNothing(data);
          return await this.#structuredReply();
        case Opt.EXTENDED_HEADERS:
          parseNothing(data);
          return await this.#extendedHeaders();
        case Opt.LIST_META_CONTEXT:
        case Opt.SET_META_CONTEXT:
          return await this.#metaContext(option === Opt.SET_META_CONTEXT, parseMetaContext(data));
        default:
          return await this.#reject(Rep.ERR_UNSUP, `option ${option} is not supported`);
      }
    } catch (error) {
      if (!(error instanceof OptionError)) throw error;
      if (option === Opt.EXPORT_NAME) throw new ProtocolError(error.message);
      return this.#reject(Rep.ERR_INVALID, error.message);
    }
  }

  async #abort(): Promise<void> {
    // The client may be gone before it reads this: that is how it says goodbye, and no error.
    await this.#reply(Rep.ACK).catch(() => {});
    this.#state = 'done';
    this.#host.finish();
  }

  async #list(): Promise<void> {
    let pieces: Buffer[] = [];
    let bytes = 0;
    for (const info of this.#host.exports.list()) {
      const name = Buffer.from(info.name);
      const length = Buffer.alloc(4);
      length.writeUInt32BE(name.length);
      pieces.push(this.#replyHeader(Rep.SERVER, 4 + name.length), length, name);
      bytes += name.length;
      if (bytes < LIST_PIECE_BYTES) continue;
      await this.#host.send(Buffer.concat(pieces));
      pieces = [];
      bytes = 0;
    }
    pieces.push(this.#replyHeader(Rep.ACK, 0));
    await this.#host.send(Buffer.concat(pieces));
  }

  async #startTls(): Promise<void> {
    if (this.#host.tls === 'off') return this.#reject(Rep.ERR_UNSUP, 'TLS is not configured');
    if (this.#secure) return this.#reject(Rep.ERR_INVALID, 'TLS is already in use');
    await this.#reply(Rep.ACK);
    await this.#host.startTls();
    this.#secure = true;
    // What was agreed in the clear may have been agreed with somebody in between.
    this.#style = 'simple';
    this.#allocationFor = undefined;
  }

  async #structuredReply(): Promise<void> {
    if (this.#style === 'extended') return this.#reject(Rep.ERR_EXT_HEADER_REQD, 'extended headers are in use');
    this.#style = 'structured';
    await this.#reply(Rep.ACK);
  }

  async #extendedHeaders(): Promise<void> {
    if (this.#style === 'extended') return this.#reject(Rep.ERR_INVALID, 'extended headers are already in use');
    this.#style = 'extended';
    await this.#reply(Rep.ACK);
  }

  async #metaContext(set: boolean, { name, queries }: ReturnType<typeof parseMetaContext>): Promise<void> {
    if (set) this.#allocationFor = undefined; // whatever comes of it, the last SET counts
    if (this.#style === 'simple') return this.#reject(Rep.ERR_INVALID, 'structured replies are not negotiated');
    let info: VolumeInfo;
    try {
      info = await this.#host.exports.find(name);
    } catch (error) {
      return this.#rejectExport(error);
    }
    // A query that ends with the colon lists its namespace, and selects nothing.
    const matches = queries.includes(BASE_ALLOCATION) || (!set && (queries.length === 0 || queries.includes('base:')));
    if (matches) {
      if (set) this.#allocationFor = info.name;
      const context = Buffer.alloc(4 + BASE_ALLOCATION.length);
      context.writeUInt32BE(set ? BASE_ALLOCATION_ID : 0, 0);
      context.write(BASE_ALLOCATION, 4);
      await this.#reply(Rep.META_CONTEXT, context);
    }
    await this.#reply(Rep.ACK);
  }

  async #info(go: boolean, { name, wanted }: ReturnType<typeof parseInfo>): Promise<void> {
    let info: VolumeInfo;
    let handle: VolumeHandle | undefined;
    try {
      info = await this.#host.exports.find(name);
      if (go) handle = await this.#open(info);
    } catch (error) {
      return this.#rejectExport(error);
    }
    try {
      await this.#host.send(this.#infoReplies(handle?.info ?? info, wanted));
      if (handle !== undefined) this.#transmit(handle);
    } catch (error) {
      await handle?.close();
      throw error;
    }
  }

  async #exportName(name: string): Promise<void> {
    if (this.#style === 'extended') throw new ProtocolError('EXPORT_NAME with extended headers');
    // There is no error reply to this option: the log has the reason.
    const handle = await this.#host.exports.find(name).then(
      (info) => this.#open(info),
      (error: Error) => {
        throw new ProtocolError(error.message, { cause: error });
      },
    );
    try {
      const reply = Buffer.alloc(10 + (this.#noZeroes ? 0 : EXPORT_NAME_ZEROES));
      reply.writeBigUInt64BE(BigInt(handle.info.size), 0);
      reply.writeUInt16BE(this.#transmissionFlags(handle.info), 8);
      await this.#host.send(reply);
      this.#transmit(handle);
    } catch (error) {
      await handle.close();
      throw error;
    }
  }

  async #open(info: VolumeInfo): Promise<VolumeHandle> {
    const { exports } = this.#host;
    this.#opens = true;
    const handle = await exports.provider.open(info.name, { readOnly: exports.readOnly(info) }).finally(() => {
      this.#opens = false;
    });
    if (!this.#closed) return handle;
    await handle.close();
    throw new ErrnoError(Errno.ECONNRESET, `opening ${info.name}`);
  }

  #transmit(handle: VolumeHandle): void {
    if (this.#closed) throw new ErrnoError(Errno.ECONNRESET, `opening ${handle.info.name}`);
    this.#state = 'done';
    this.#host.transmit({
      handle,
      readOnly: this.#host.exports.readOnly(handle.info),
      style: this.#style,
      allocation: this.#allocationFor === handle.info.name,
      requestBytesMax: this.#host.requestBytesMax,
    });
  }

  #infoReplies(info: VolumeInfo, wanted: ReadonlySet<number>): Buffer {
    const size = Buffer.alloc(12);
    size.writeUInt16BE(Info.EXPORT, 0);
    size.writeBigUInt64BE(BigInt(info.size), 2);
    size.writeUInt16BE(this.#transmissionFlags(info), 10);
    const payloads: Buffer[] = [size];
    if (wanted.has(Info.BLOCK_SIZE)) {
      const sizes = Buffer.alloc(14);
      sizes.writeUInt16BE(Info.BLOCK_SIZE, 0);
      sizes.writeUInt32BE(1, 2); // ZFS reads, modifies and writes what is not aligned
      sizes.writeUInt32BE(Math.max(512, Math.min(info.blockSize, this.#host.requestBytesMax)), 6);
      sizes.writeUInt32BE(this.#host.requestBytesMax, 10);
      payloads.push(sizes);
    }
    if (wanted.has(Info.NAME)) payloads.push(textInfo(Info.NAME, info.name));
    if (wanted.has(Info.DESCRIPTION)) {
      const what = info.name.includes('@') ? 'snapshot of a ZFS volume' : 'ZFS volume';
      payloads.push(textInfo(Info.DESCRIPTION, `${what}, volblocksize ${info.blockSize}, guid ${info.guid}`));
    }
    const pieces = payloads.flatMap((payload) => [this.#replyHeader(Rep.INFO, payload.length), payload]);
    pieces.push(this.#replyHeader(Rep.ACK, 0));
    return Buffer.concat(pieces);
  }

  /** MULTI_CONN is true: a flush covers every handle of the volume (VolumeHandle.flush), and nothing is cached here. */
  #transmissionFlags(info: VolumeInfo): number {
    let flags =
      TransmissionFlag.HAS_FLAGS |
      TransmissionFlag.SEND_FLUSH |
      TransmissionFlag.SEND_CACHE |
      TransmissionFlag.CAN_MULTI_CONN;
    if (this.#style !== 'simple') flags |= TransmissionFlag.SEND_DF;
    if (this.#style === 'extended') flags |= TransmissionFlag.BLOCK_STAT_PAYLOAD;
    if (this.#host.exports.readOnly(info)) return flags | TransmissionFlag.READ_ONLY;
    return (
      flags |
      TransmissionFlag.SEND_FUA |
      TransmissionFlag.SEND_TRIM |
      TransmissionFlag.SEND_WRITE_ZEROES |
      TransmissionFlag.SEND_FAST_ZERO
    );
  }

  #replyHeader(type: number, length: number): Buffer {
    const header = Buffer.alloc(20);
    header.writeUInt32BE(Magic.OPTION_REPLY_HI, 0);
    header.writeUInt32BE(Magic.OPTION_REPLY_LO, 4);
    header.writeUInt32BE(this.#option, 8);
    header.writeUInt32BE(type, 12);
    header.writeUInt32BE(length, 16);
    return header;
  }

  #reply(type: number, payload?: Buffer): Promise<void> {
    const header = this.#replyHeader(type, payload?.length ?? 0);
    return this.#host.send(payload === undefined ? header : Buffer.concat([header, payload]));
  }

  /** There is no such export, or it cannot be opened: why. */
  #rejectExport(error: unknown): Promise<void> {
    return this.#reject(openFailure(error), error instanceof Error ? error.message : String(error));
  }

  #reject(type: number, message: string): Promise<void> {
    trace?.({ option: this.#option, message }, 'option rejected');
    return this.#reply(type, Buffer.from(message).subarray(0, STRING_BYTES_MAX));
  }
}

function textInfo(type: number, text: string): Buffer {
  const bytes = Buffer.from(text);
  const payload = Buffer.alloc(2 + bytes.length);
  payload.writeUInt16BE(type, 0);
  bytes.copy(payload, 2);
  return payload;
}

/** Reply for a volume that exists and cannot be opened. */
function openFailure(error: unknown): number {
  switch (errnoOf(error)) {
    case Errno.ENOENT:
      return Rep.ERR_UNKNOWN;
    case Errno.ESHUTDOWN:
      return Rep.ERR_SHUTDOWN;
    case Errno.EBUSY:
    case Errno.EACCES:
    case Errno.EPERM:
    case Errno.EROFS:
      return Rep.ERR_POLICY;
    default:
      return Rep.ERR_PLATFORM;
  }
}
