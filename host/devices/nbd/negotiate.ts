import type { Socket } from 'node:net';
import { Errno, ErrnoError } from '../../errno.ts';
import { ProtocolError } from '../../net/errors.ts';
import type { TlsClientUpgrade } from '../../net/tls.ts';
import {
  HandshakeFlag,
  Info,
  Magic,
  OPTION_HEADER_BYTES,
  Opt,
  Rep,
  STRING_BYTES_MAX,
  TransmissionFlag,
} from '../../protocols/nbd.ts';

/** What the handshake agreed on. */
export interface NbdExport {
  readonly sizeBytes: number;
  /** TransmissionFlag. */
  readonly flags: number;
  /** Every request is a multiple of it. */
  readonly blockBytesMin: number;
  readonly blockBytesPreferred: number;
  /** Of one read or write. */
  readonly transferBytesMax: number;
  /** Whether replies are structured. */
  readonly isStructured: boolean;
  /** What the server says of the export; empty where it says nothing. */
  readonly description: string;
}

export interface Negotiated {
  readonly socket: Socket;
  readonly nbdExport: NbdExport;
}

/** "NBDMAGIC", "IHAVEOPT", flags. */
const GREETING_BYTES = 18;
const OPTION_REPLY_BYTES = 20;
/** Strings and what stands beside them; no reply that we ask for has more. */
const OPTION_REPLY_DATA_MAX = STRING_BYTES_MAX + 64;
/** A server may tell more than it was asked for. */
const OPTION_REPLIES_MAX = 64;
/** What a client may send where the server names no maximum. */
const TRANSFER_BYTES_MAX = 32 << 20;
/** Sectors of disks; a server that insists on more is none. */
const BLOCK_BYTES_MIN_MAX = 64 << 10;

/**
 * The client's side of the fixed newstyle negotiation, up to transmission: TLS where `upgrade` is given (and nothing
 * without it then), structured replies where the server has them, GO, or EXPORT_NAME where it does not know that. The
 * returned socket is paused. How long it may take is the caller's to bound, by destroying the socket.
 *
 * Rejects with ProtocolError when it is no NBD server or breaks the protocol, with ErrnoError when it refuses.
 */
export async function negotiate(
  socket: Socket,
  exportName: string,
  upgrade: TlsClientUpgrade | undefined,
): Promise<Negotiated> {
  let handshake = new Handshake(socket);
  try {
    await handshake.greet();
    if (upgrade !== undefined) handshake = new Handshake(await handshake.secure(upgrade), handshake.isWithoutZeroes);
    const isStructured = (await handshake.option(Opt.STRUCTURED_REPLY)).at(-1)!.type === Rep.ACK;
    const nbdExport = await handshake.go(exportName, isStructured);
    return { socket: handshake.release(), nbdExport };
  } catch (error) {
    handshake.socket.destroy();
    throw error;
  }
}

interface OptionReply {
  readonly type: number;
  readonly data: Buffer;
}

class Handshake {
  readonly socket: Socket;
  isWithoutZeroes: boolean;
  #chunks: Buffer = Buffer.alloc(0);
  #isClosed = false;
  #wake: (() => void) | undefined;
  readonly #onData = (chunk: Buffer) => {
    this.#chunks = this.#chunks.length === 0 ? chunk : Buffer.concat([this.#chunks, chunk]);
    // Nothing is asked for that a few chunks do not hold: who sends more waits.
    if (this.#chunks.length > 2 * OPTION_REPLY_DATA_MAX) this.socket.pause();
    this.#wake?.();
  };
  #failure: Error | undefined;
  /** Never taken off: an alert of TLS 1.3 may come when the handshake is over, and an error without a listener ends the process. */
  readonly #onError = (error: Error) => {
    this.#failure = error;
  };
  readonly #onClose = () => {
    this.#isClosed = true;
    this.#wake?.();
  };

  constructor(socket: Socket, isWithoutZeroes = false) {
    this.socket = socket;
    this.isWithoutZeroes = isWithoutZeroes;
    socket.on('data', this.#onData);
    socket.on('error', this.#onError);
    socket.on('end', this.#onClose);
    socket.on('close', this.#onClose);
    this.#isClosed = socket.destroyed;
  }

  /** The greeting of both sides. */
  async greet(): Promise<void> {
    const greeting = await this.#take(GREETING_BYTES);
    if (greeting.readUInt32BE(0) !== Magic.INIT_HI || greeting.readUInt32BE(4) !== Magic.INIT_LO) {
      throw new ProtocolError('what answers there is no NBD server');
    }
    const flags = greeting.readUInt16BE(16);
    const isNewstyle = greeting.readUInt32BE(8) === Magic.OPTION_HI && greeting.readUInt32BE(12) === Magic.OPTION_LO;
    if (!isNewstyle || (flags & HandshakeFlag.FIXED_NEWSTYLE) === 0) {
      throw new ProtocolError('the server does not speak the fixed newstyle negotiation');
    }
    this.isWithoutZeroes = (flags & HandshakeFlag.NO_ZEROES) !== 0;
    const answer = Buffer.alloc(4);
    answer.writeUInt32BE(flags & (HandshakeFlag.FIXED_NEWSTYLE | HandshakeFlag.NO_ZEROES));
    this.socket.write(answer);
  }

  /** STARTTLS and the TLS handshake. */
  async secure(upgrade: TlsClientUpgrade): Promise<Socket> {
    const reply = (await this.option(Opt.STARTTLS)).at(-1)!;
    if (reply.type !== Rep.ACK) throw new ErrnoError(Errno.EACCES, `the server has no TLS (${refusal(reply)})`);
    // Bytes from before the handshake could be anybody's.
    if (this.#chunks.length > 0) throw new ProtocolError('the server goes on in plain text after STARTTLS');
    return upgrade(this.release());
  }

  /** All replies to an option; the last one is an ACK or an error. */
  async option(option: number, data: Buffer = Buffer.alloc(0)): Promise<OptionReply[]> {
    this.#send(option, data);
    const replies: OptionReply[] = [];
    for (;;) {
      const head = await this.#take(OPTION_REPLY_BYTES);
      if (head.readUInt32BE(0) !== Magic.OPTION_REPLY_HI || head.readUInt32BE(4) !== Magic.OPTION_REPLY_LO) {
        throw new ProtocolError('a reply to an option with a wrong magic number');
      }
      if (head.readUInt32BE(8) !== option)
        throw new ProtocolError(`a reply to option ${head.readUInt32BE(8)}, not asked`);
      const type = head.readUInt32BE(12);
      const length = head.readUInt32BE(16);
      if (length > OPTION_REPLY_DATA_MAX) throw new ProtocolError(`a reply to an option with ${length} bytes`);
      const reply = { type, data: Buffer.from(await this.#take(length)) };
      replies.push(reply);
      if (type === Rep.ACK || type >= 0x80000000) return replies;
      if (replies.length >= OPTION_REPLIES_MAX) throw new ProtocolError('replies to an option without an end');
    }
  }

  async go(exportName: string, isStructured: boolean): Promise<NbdExport> {
    const name = Buffer.from(exportName);
    const data = Buffer.alloc(4 + name.length + 6);
    data.writeUInt32BE(name.length);
    name.copy(data, 4);
    data.writeUInt16BE(2, 4 + name.length);
    data.writeUInt16BE(Info.BLOCK_SIZE, 6 + name.length);
    data.writeUInt16BE(Info.DESCRIPTION, 8 + name.length);
    const replies = await this.option(Opt.GO, data);
    const last = replies.at(-1)!;
    if (last.type === Rep.ERR_UNSUP) return this.#exportName(name, isStructured);
    if (last.type !== Rep.ACK) {
      const errno = last.type === Rep.ERR_UNKNOWN ? Errno.ENOENT : Errno.EACCES;
      throw new ErrnoError(errno, `the server refuses the export '${exportName}' (${refusal(last)})`);
    }
    return exportOf(replies, isStructured);
  }

  /** The option of old servers: one that does not have the export closes the connection. */
  async #exportName(name: Buffer, isStructured: boolean): Promise<NbdExport> {
    this.#send(Opt.EXPORT_NAME, name);
    let answer: Buffer;
    try {
      answer = await this.#take(10);
    } catch (error) {
      throw new ErrnoError(Errno.ENOENT, `the server has no export '${name}'`, { cause: error });
    }
    const size = answer.readBigUInt64BE(0);
    const flags = answer.readUInt16BE(8);
    if (!this.isWithoutZeroes) await this.#take(124);
    return checked(size, flags, 1, 4096, TRANSFER_BYTES_MAX, isStructured, '');
  }

  /** The socket, paused, with what it delivered too early put back. */
  release(): Socket {
    const { socket } = this;
    socket.pause();
    socket.off('data', this.#onData);
    socket.off('end', this.#onClose);
    socket.off('close', this.#onClose);
    if (this.#chunks.length > 0) socket.unshift(this.#chunks);
    this.#chunks = Buffer.alloc(0);
    return socket;
  }

  #send(option: number, data: Buffer): void {
    const head = Buffer.alloc(OPTION_HEADER_BYTES);
    head.writeUInt32BE(Magic.OPTION_HI, 0);
    head.writeUInt32BE(Magic.OPTION_LO, 4);
    head.writeUInt32BE(option, 8);
    head.writeUInt32BE(data.length, 12);
    this.socket.write(Buffer.concat([head, data]));
  }

  async #take(length: number): Promise<Buffer> {
    while (this.#chunks.length < length) {
      if (this.#isClosed)
        throw this.#failure ?? new ProtocolError('the server closed the connection while negotiating');
      this.socket.resume();
      await new Promise<void>((resolve) => {
        this.#wake = resolve;
      });
      this.#wake = undefined;
    }
    const taken = this.#chunks.subarray(0, length);
    this.#chunks = this.#chunks.subarray(length);
    return taken;
  }
}

const refusals: ReadonlyMap<number, string> = new Map([
  [Rep.ERR_UNSUP, 'not supported'],
  [Rep.ERR_POLICY, 'forbidden by policy'],
  [Rep.ERR_INVALID, 'invalid'],
  [Rep.ERR_PLATFORM, 'not possible on its platform'],
  [Rep.ERR_TLS_REQD, 'it requires TLS'],
  [Rep.ERR_UNKNOWN, 'there is none of that name'],
  [Rep.ERR_SHUTDOWN, 'it is shutting down'],
  [Rep.ERR_BLOCK_SIZE_REQD, 'it requires block sizes'],
  [Rep.ERR_TOO_BIG, 'too big'],
]);

/** A refusal in words: what it means, and what the server says to it, without characters that move a cursor. */
function refusal({ type, data }: OptionReply): string {
  const meaning = refusals.get(type) ?? `error ${type.toString(16)}`;
  const said = data
    .toString('utf8', 0, 256)
    .replaceAll(/[^\P{C}]+/gu, ' ')
    .trim();
  return said === '' ? meaning : `${meaning}: ${said}`;
}

function exportOf(replies: readonly OptionReply[], isStructured: boolean): NbdExport {
  let size: bigint | undefined;
  let flags = 0;
  let [least, preferred, most] = [1, 4096, TRANSFER_BYTES_MAX];
  let description = '';
  for (const { type, data } of replies) {
    if (type !== Rep.INFO) continue;
    if (data.length < 2) throw new ProtocolError('information without a type');
    const kind = data.readUInt16BE(0);
    if (kind === Info.EXPORT) {
      if (data.length !== 12) throw new ProtocolError('information about the export of a wrong length');
      size = data.readBigUInt64BE(2);
      flags = data.readUInt16BE(10);
    } else if (kind === Info.BLOCK_SIZE) {
      if (data.length !== 14) throw new ProtocolError('information about block sizes of a wrong length');
      [least, preferred, most] = [data.readUInt32BE(2), data.readUInt32BE(6), data.readUInt32BE(10)];
    } else if (kind === Info.DESCRIPTION) description = data.toString('utf8', 2);
  }
  if (size === undefined) throw new ProtocolError('the server does not tell the size of the export');
  return checked(size, flags, least, preferred, most, isStructured, description);
}

function checked(
  size: bigint,
  flags: number,
  least: number,
  preferred: number,
  most: number,
  isStructured: boolean,
  description: string,
): NbdExport {
  if (size > BigInt(Number.MAX_SAFE_INTEGER)) throw new ProtocolError(`an export of ${size} bytes`);
  if ((flags & TransmissionFlag.HAS_FLAGS) === 0) throw new ProtocolError('an export without flags');
  const isPower = (bytes: number) => bytes > 0 && Number.isInteger(Math.log2(bytes));
  if (!isPower(least) || least > BLOCK_BYTES_MIN_MAX || !isPower(preferred) || preferred < least || most < preferred) {
    throw new ProtocolError(`block sizes of ${least}, ${preferred} and ${most} bytes`);
  }
  const limit = Math.min(most, TRANSFER_BYTES_MAX);
  return {
    sizeBytes: Number(size),
    flags,
    blockBytesMin: least,
    blockBytesPreferred: preferred,
    transferBytesMax: limit - (limit % least),
    ...{ isStructured, description },
  };
}
