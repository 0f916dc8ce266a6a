import net from 'node:net';
import type { ReplyStyle } from '../../../host/nbd/reply.ts';
import type { ListenerAddress } from '../../../host/net/listener.ts';
import {
  BASE_ALLOCATION,
  Cmd,
  CmdFlag,
  HandshakeFlag,
  Magic,
  Opt,
  Rep,
  ReplyType,
} from '../../../host/protocols/nbd.ts';

/**
 * An NBD client that does one step at a time and checks nothing the test did not ask for, so that tests can be wrong on
 * purpose. It also speaks what the packaged clients do not yet: extended headers.
 */
export class Client {
  readonly socket: net.Socket;
  style: ReplyStyle = 'simple';
  /** Export as GO described it. */
  size = 0;
  flags = 0;
  blockSizes: { minimum: number; preferred: number; maximum: number } | undefined;
  info = new Map<number, Buffer>();
  #chunks: Buffer[] = [];
  #buffered = 0;
  #ended = false;
  #wake: (() => void) | undefined;
  #cookie = 1n;

  constructor(socket: net.Socket) {
    this.socket = socket;
    socket.on('data', (chunk: Buffer) => {
      this.#chunks.push(chunk);
      this.#buffered += chunk.length;
      this.#wake?.();
    });
    const end = () => {
      this.#ended = true;
      this.#wake?.();
    };
    socket.on('end', end);
    socket.on('close', end);
    socket.on('error', end);
  }

  static async connect(address: ListenerAddress): Promise<Client> {
    const socket =
      address.unix === undefined ? net.connect(address.port!, '127.0.0.1') : net.connect({ path: address.unix });
    await new Promise<void>((resolve, reject) => {
      socket.once('connect', resolve);
      socket.once('error', reject);
    });
    return new Client(socket);
  }

  /** Connects and goes to the transmission phase of an export. */
  static async open(
    address: ListenerAddress,
    name: string,
    style: ReplyStyle = 'simple',
    allocation = false,
  ): Promise<Client> {
    const client = await Client.connect(address);
    await client.greet();
    await client.negotiate(style, allocation ? name : undefined);
    const replies = await client.go(name);
    if (replies.at(-1)!.type !== Rep.ACK) throw new Error(`GO ${name}: ${replies.at(-1)!.data}`);
    return client;
  }

  /** Exactly `length` bytes. Rejects when the server closes before. */
  async read(length: number): Promise<Buffer> {
    while (this.#buffered < length) {
      if (this.#ended) throw new Error(`connection ended after ${this.#buffered} of ${length} bytes`);
      await new Promise<void>((resolve) => {
        this.#wake = resolve;
      });
    }
    const all = this.#chunks.length === 1 ? this.#chunks[0]! : Buffer.concat(this.#chunks);
    const rest = all.subarray(length);
    this.#chunks = rest.length > 0 ? [rest] : [];
    this.#buffered = rest.length;
    return all.subarray(0, length);
  }

  /** Resolves when the server has closed; what it still sent is returned. */
  async closed(): Promise<Buffer> {
    while (!this.#ended) {
      await new Promise<void>((resolve) => {
        this.#wake = resolve;
      });
    }
    return Buffer.concat(this.#chunks);
  }

  send(bytes: Uint8Array): void {
    this.socket.write(bytes);
  }

  /** Bytes received and not read yet. */
  get buffered(): number {
    return this.#buffered;
  }

  destroy(): void {
    this.socket.destroy();
  }

  /** Reads the greeting and sends client flags. */
  async greet(flags: number = HandshakeFlag.FIXED_NEWSTYLE | HandshakeFlag.NO_ZEROES): Promise<Buffer> {
    const greeting = await this.read(18);
    this.send(u32(flags));
    return greeting;
  }

  sendOption(option: number, data: Uint8Array = Buffer.alloc(0)): void {
    this.send(Buffer.concat([u32(Magic.OPTION_HI), u32(Magic.OPTION_LO), u32(option), u32(data.length), data]));
  }

  async optionReply(): Promise<{ option: number; type: number; data: Buffer }> {
    const header = await this.read(20);
    if (header.readUInt32BE(0) !== Magic.OPTION_REPLY_HI || header.readUInt32BE(4) !== Magic.OPTION_REPLY_LO) {
      throw new Error('option reply without its magic');
    }
    const data = await this.read(header.readUInt32BE(16));
    return { option: header.readUInt32BE(8), type: header.readUInt32BE(12), data };
  }

  /** Sends an option and returns its replies, the final one last. */
  async option(option: number, data?: Uint8Array): Promise<{ option: number; type: number; data: Buffer }[]> {
    this.sendOption(option, data);
    const replies = [];
    for (;;) {
      const reply = await this.optionReply();
      replies.push(reply);
      if (reply.type === Rep.ACK || reply.type >= Rep.ERR_UNSUP) return replies;
    }
  }

  async negotiate(style: ReplyStyle, allocationFor?: string): Promise<void> {
    if (style === 'structured') await this.#must(Opt.STRUCTURED_REPLY);
    if (style === 'extended') await this.#must(Opt.EXTENDED_HEADERS);
    this.style = style;
    if (allocationFor !== undefined) await this.#must(Opt.SET_META_CONTEXT, metaData(allocationFor, BASE_ALLOCATION));
  }

  async go(name: string, wanted: number[] = [1, 2, 3], option: number = Opt.GO): ReturnType<Client['option']> {
    const replies = await this.option(option, infoData(name, wanted));
    for (const { type, data } of replies) {
      if (type !== Rep.INFO) continue;
      const kind = data.readUInt16BE(0);
      this.info.set(kind, data.subarray(2));
      if (kind === 0) {
        this.size = Number(data.readBigUInt64BE(2));
        this.flags = data.readUInt16BE(10);
      }
      if (kind === 3) {
        this.blockSizes = {
          minimum: data.readUInt32BE(2),
          preferred: data.readUInt32BE(6),
          maximum: data.readUInt32BE(10),
        };
      }
    }
    return replies;
  }

  /** Sends a request and returns its cookie. A payload implies the extended header's flag, as the protocol asks. */
  sendRequest(request: {
    type: number;
    flags?: number;
    offset?: number;
    length?: number | bigint;
    payload?: Uint8Array;
  }): bigint {
    const cookie = this.#cookie++;
    this.send(
      Buffer.concat([encodeRequest({ ...request, cookie, style: this.style }), request.payload ?? Buffer.alloc(0)]),
    );
    return cookie;
  }

  /** The next reply: `readLength` is what a simple reply cannot tell. Chunks of one structured reply are one reply. */
  async reply(readLength = 0): Promise<Reply> {
    const magic = (await this.read(4)).readUInt32BE(0);
    if (magic === Magic.SIMPLE_REPLY) {
      if (this.style === 'extended') throw new Error('simple reply among extended ones');
      const rest = await this.read(12);
      const errno = rest.readUInt32BE(0);
      const data = errno === 0 && readLength > 0 ? Buffer.from(await this.read(readLength)) : Buffer.alloc(0);
      return { cookie: rest.readBigUInt64BE(4), errno, message: '', data, type: -1 };
    }
    const extended = magic === Magic.EXTENDED_REPLY;
    if (!extended && magic !== Magic.STRUCTURED_REPLY) throw new Error(`reply magic ${magic.toString(16)}`);
    if (extended !== (this.style === 'extended')) throw new Error('reply of the wrong style');
    const rest = await this.read(extended ? 28 : 16);
    const flags = rest.readUInt16BE(0);
    if (flags !== 1) throw new Error('more than one chunk');
    const type = rest.readUInt16BE(2);
    const cookie = rest.readBigUInt64BE(4);
    const length = extended ? Number(rest.readBigUInt64BE(20)) : rest.readUInt32BE(12);
    const payload = Buffer.from(await this.read(length));
    const reply = { cookie, errno: 0, message: '', data: payload, type };
    if (type === ReplyType.ERROR) {
      reply.errno = payload.readUInt32BE(0);
      reply.message = payload.subarray(6).toString();
      if (payload.readUInt16BE(4) !== payload.length - 6) throw new Error('error message of the wrong length');
    }
    if (type === ReplyType.OFFSET_DATA) reply.data = payload.subarray(8);
    return reply;
  }

  async request(request: Parameters<Client['sendRequest']>[0]): Promise<Reply> {
    const cookie = this.sendRequest(request);
    const reply = await this.reply(request.type === Cmd.READ ? Number(request.length) : 0);
    if (reply.cookie !== cookie) throw new Error('reply to another request');
    return reply;
  }

  async readAt(offset: number, length: number): Promise<Buffer> {
    const reply = await this.request({ type: Cmd.READ, offset, length });
    if (reply.errno !== 0) throw new Error(`read: ${reply.errno}`);
    return reply.data;
  }

  writeAt(offset: number, payload: Uint8Array, flags = 0): Promise<Reply> {
    const flag = this.style === 'extended' ? CmdFlag.PAYLOAD_LEN : 0;
    return this.request({ type: Cmd.WRITE, flags: flags | flag, offset, length: payload.length, payload });
  }

  async #must(option: number, data?: Uint8Array): Promise<void> {
    const replies = await this.option(option, data);
    if (replies.at(-1)!.type !== Rep.ACK) throw new Error(`option ${option}: ${replies.at(-1)!.data}`);
  }
}

export interface Reply {
  readonly cookie: bigint;
  readonly errno: number;
  readonly message: string;
  readonly data: Buffer;
  /** Of a chunk; -1 for a simple reply. */
  readonly type: number;
}

export function u32(value: number): Buffer {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32BE(value >>> 0);
  return bytes;
}

export function infoData(name: string, wanted: readonly number[] = []): Buffer {
  const text = Buffer.from(name);
  const tail = Buffer.alloc(2 + 2 * wanted.length);
  tail.writeUInt16BE(wanted.length, 0);
  for (const [i, kind] of wanted.entries()) tail.writeUInt16BE(kind, 2 + 2 * i);
  return Buffer.concat([u32(text.length), text, tail]);
}

export function metaData(name: string, ...queries: string[]): Buffer {
  const parts = [u32(Buffer.byteLength(name)), Buffer.from(name), u32(queries.length)];
  for (const query of queries) parts.push(u32(Buffer.byteLength(query)), Buffer.from(query));
  return Buffer.concat(parts);
}

export function encodeRequest(request: {
  type: number;
  flags?: number;
  cookie: bigint;
  offset?: number | bigint;
  length?: number | bigint;
  style: ReplyStyle;
}): Buffer {
  const extended = request.style === 'extended';
  const header = Buffer.alloc(extended ? 32 : 28);
  header.writeUInt32BE(extended ? Magic.EXTENDED_REQUEST : Magic.REQUEST, 0);
  header.writeUInt16BE(request.flags ?? 0, 4);
  header.writeUInt16BE(request.type, 6);
  header.writeBigUInt64BE(request.cookie, 8);
  header.writeBigUInt64BE(BigInt(request.offset ?? 0), 16);
  if (extended) header.writeBigUInt64BE(BigInt(request.length ?? 0), 24);
  else header.writeUInt32BE(Number(request.length ?? 0), 24);
  return header;
}
