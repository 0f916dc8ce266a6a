import { connect, type Socket } from 'node:net';
import type { IoctlRequest, IoctlResult, StreamChannel } from '../core/dev-zfs.ts';
import { Errno, ErrnoError, errnoOf } from '../errno.ts';
import {
  decodeFrameHeader,
  decodeHelloReply,
  decodeResultHead,
  decodeVerdict,
  encodeFrameHeader,
  encodeHello,
  encodeIoctlHead,
  encodeQuery,
  FrameType,
  frameHeaderBytes,
  type Hello,
  type HelloReply,
  helloReplyBytes,
  ioctlHeadBytes,
  limits,
  ProtocolError,
  type Query,
  resultHeadBytes,
} from './protocol.ts';

/** A FAILED frame: why the host closes the lane, in its own words. */
export class LastWords extends ErrnoError {
  constructor(errno: number, message: string) {
    super(errno);
    this.message = message;
    this.name = 'LastWords';
  }
}

/** The largest frame a host sends: a result with all its room used. */
function frameBytesMax(cmdSize: number): number {
  return resultHeadBytes + cmdSize + limits.dstRoomBytes + limits.historyRoomBytes;
}

/**
 * The client's end of a lane (docs/protocol.md): one ioctl or query at a time. Everything rejects with ErrnoError once
 * the host has gone: its own last words where it said any, else ECONNRESET.
 */
export class ClientLane implements Disposable {
  /** What the host said of itself. */
  readonly greeting: HelloReply;
  readonly #inbox: Inbox;
  readonly #socket: Socket;

  private constructor(socket: Socket, inbox: Inbox, greeting: HelloReply) {
    this.#socket = socket;
    this.#inbox = inbox;
    this.greeting = greeting;
  }

  /** Says `hello` on a connected socket. The host's verdict is in `greeting.status`, and the host closes where it is not 0. */
  static async open(socket: Socket, hello: Hello): Promise<ClientLane> {
    const inbox = new Inbox(socket);
    try {
      socket.write(encodeHello(hello));
      return new ClientLane(socket, inbox, decodeHelloReply(await inbox.take(helloReplyBytes)));
    } catch (error) {
      socket.destroy();
      throw error;
    }
  }

  get isOpen(): boolean {
    return !this.#socket.destroyed && !this.#inbox.ended;
  }

  /** Runs an ioctl; the host reads and writes `streams` meanwhile. Its parts are the lane's until it settles. */
  async ioctl(request: IoctlRequest): Promise<IoctlResult> {
    const { cmd, src, conf, history, dstRoom, historyRoom, streams, signal } = request;
    const parts = [cmd, src, conf, history];
    const length = ioctlHeadBytes + parts.reduce((sum, part) => sum + part.length, 0);
    const sizes = { srcBytes: src.length, confBytes: conf.length, historyBytes: history.length };
    this.#write([
      encodeFrameHeader(FrameType.ioctl, length),
      encodeIoctlHead({ request: request.request, ...sizes, dstRoom, historyRoom }),
      ...parts.filter((part) => part.length > 0),
    ]);
    const answers = new Answers((frame) => this.#write(frame), streams);
    const interrupt = (): void => this.#write([encodeFrameHeader(FrameType.interrupt, 0)]);
    if (signal?.aborted === true) interrupt();
    else signal?.addEventListener('abort', interrupt, { once: true });
    try {
      for (;;) {
        const { type, length } = await this.#header(cmd.length);
        if (await answers.take(type, length, this.#inbox)) continue;
        if (type !== FrameType.result) throw unexpected(type);
        return this.#result(await this.#inbox.take(length), cmd.length);
      }
    } finally {
      signal?.removeEventListener('abort', interrupt);
    }
  }

  #result(payload: Buffer, cmdSize: number): IoctlResult {
    const head = decodeResultHead(payload);
    const dstAt = resultHeadBytes + cmdSize;
    const historyAt = dstAt + head.dstBytes;
    if (payload.length !== historyAt + head.historyBytes)
      throw new ProtocolError('a result whose parts are not its size');
    return {
      errno: head.errno,
      cmd: payload.subarray(resultHeadBytes, dstAt),
      dst: payload.subarray(dstAt, historyAt),
      history: payload.subarray(historyAt),
    };
  }

  /**
   * Asks, and gives each packed nvlist as it comes. A DONE that says why not is thrown as `refusal` makes it. What a reader
   * leaves is read to its end: the next answer comes behind it.
   */
  async *query(query: Query, refusal: (errno: number, message: string) => Error): AsyncGenerator<Buffer> {
    this.#write([encodeQuery(query)]);
    for (;;) {
      const item = await this.#item(refusal);
      if (item === undefined) return;
      let isLeft = true;
      try {
        yield item;
        isLeft = false;
      } finally {
        while (isLeft) isLeft = (await this.#item(refusal)) !== undefined;
      }
    }
  }

  /** The next one of an answer; undefined at its end. */
  async #item(refusal: (errno: number, message: string) => Error): Promise<Buffer | undefined> {
    const { type, length } = await this.#header(0);
    const payload = await this.#inbox.take(length);
    if (type === FrameType.item) return payload;
    if (type !== FrameType.done) throw unexpected(type);
    const { errno, message } = decodeVerdict(payload);
    if (errno !== 0) throw refusal(errno, message);
    return undefined;
  }

  /** Closes at once: what runs is interrupted, and of the first lane the session ends. */
  [Symbol.dispose](): void {
    this.#socket.destroy();
  }

  async #header(cmdSize: number): Promise<{ type: number; length: number }> {
    const header = decodeFrameHeader(await this.#inbox.take(frameHeaderBytes));
    if (header.length > frameBytesMax(cmdSize)) throw new ProtocolError(`a frame of ${header.length} bytes`);
    if (header.type !== FrameType.failed) return header;
    const { errno, message } = decodeVerdict(await this.#inbox.take(header.length));
    throw new LastWords(errno, message);
  }

  #write(parts: readonly Uint8Array[]): void {
    const socket = this.#socket;
    if (socket.destroyed) return; // whoever waits for an answer learns it from the inbox
    socket.cork();
    for (const part of parts) socket.write(part);
    socket.uncork();
  }
}

/** What the host asks of the client's descriptors, answered in the order in which it was asked. */
class Answers {
  readonly #write: (frame: readonly Uint8Array[]) => void;
  readonly #streams: StreamChannel;
  #turn: Promise<void> = Promise.resolve();

  constructor(write: (frame: readonly Uint8Array[]) => void, streams: StreamChannel) {
    this.#write = write;
    this.#streams = streams;
  }

  /** False: the frame is not about a stream. */
  async take(type: number, length: number, inbox: Inbox): Promise<boolean> {
    switch (type) {
      case FrameType.streamRead:
      case FrameType.streamRecords: {
        const ask = await inbox.take(length);
        const fd = ask.readInt32LE(0);
        const room = Math.min(ask.readUInt32LE(4), limits.streamBytes);
        const left = type === FrameType.streamRecords ? ask.readUInt32LE(8) : undefined;
        this.#inTurn(() => this.#read(fd, room, left));
        return true;
      }
      case FrameType.streamWrite: {
        const payload = await inbox.take(length);
        this.#inTurn(() => this.#written(payload.readInt32LE(0), payload.subarray(4)));
        return true;
      }
      default:
        return false;
    }
  }

  #inTurn(answer: () => Promise<void>): void {
    this.#turn = this.#turn.then(answer);
  }

  async #read(fd: number, room: number, left: number | undefined): Promise<void> {
    const buffer = Buffer.allocUnsafe(room);
    let errno = 0;
    let count = 0;
    try {
      count = await (left === undefined ? this.#streams.read(fd, buffer) : this.#streams.readRecords(fd, buffer, left));
    } catch (error) {
      errno = errnoOf(error);
    }
    this.#write([encodeAnswer(FrameType.streamData, errno, count), buffer.subarray(0, count)]);
  }

  async #written(fd: number, data: Uint8Array): Promise<void> {
    let errno = 0;
    try {
      await this.#streams.write(fd, data);
    } catch (error) {
      errno = errnoOf(error);
    }
    this.#write([encodeAnswer(FrameType.streamWritten, errno, 0)]);
  }
}

/** Header and errno of a STREAM_DATA or STREAM_WRITTEN frame with `dataBytes` of data behind them. */
function encodeAnswer(type: number, errno: number, dataBytes: number): Buffer {
  const bytes = Buffer.allocUnsafe(frameHeaderBytes + 4);
  bytes.writeUInt32LE(type, 0);
  bytes.writeUInt32LE(4 + dataBytes, 4);
  bytes.writeUInt32LE(errno, 8);
  return bytes;
}

/** What has arrived and is not taken yet. One taker at a time. */
class Inbox {
  readonly #socket: Socket;
  #chunks: Buffer[] = [];
  #bytes = 0;
  #wanted = 0;
  #ended = false;
  #wake: () => void = () => undefined;

  constructor(socket: Socket) {
    this.#socket = socket;
    socket.on('data', (chunk: Buffer) => {
      this.#chunks.push(chunk);
      this.#bytes += chunk.length;
      if (this.#bytes >= this.#wanted) this.#wake();
    });
    socket.on('error', () => undefined);
    socket.on('close', () => {
      this.#ended = true;
      this.#wake();
    });
  }

  get ended(): boolean {
    return this.#ended;
  }

  /** The next `bytes` bytes. Rejects with ECONNRESET when they will never come. */
  async take(bytes: number): Promise<Buffer> {
    this.#wanted = bytes;
    while (this.#bytes < bytes) {
      if (this.#ended || this.#socket.destroyed) throw new ErrnoError(Errno.ECONNRESET, 'the host has gone');
      await new Promise<void>((resolve) => {
        this.#wake = resolve;
      });
    }
    const all = this.#chunks.length === 1 ? this.#chunks[0]! : Buffer.concat(this.#chunks);
    this.#bytes -= bytes;
    this.#chunks = this.#bytes > 0 ? [all.subarray(bytes)] : [];
    return all.subarray(0, bytes);
  }
}

function unexpected(type: number): ProtocolError {
  return new ProtocolError(`the host sent a frame of type ${type}`);
}

/** Connects to a unix socket. Rejects with the error of connect(2). */
export function dial(path: string): Promise<Socket> {
  return new Promise((resolve, reject) => {
    const socket = connect(path);
    socket.once('connect', () => {
      socket.off('error', reject);
      resolve(socket);
    });
    socket.once('error', reject);
  });
}
