import { once } from 'node:events';
import { connect, type Socket } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import {
  decodeFrameHeader,
  decodeHelloReply,
  decodeResultHead,
  encodeFrameHeader,
  encodeHello,
  encodeIoctlHead,
  FrameType,
  frameHeaderBytes,
  type Hello,
  type HelloReply,
  helloReplyBytes,
  ioctlHeadBytes,
  resultHeadBytes,
} from '../../../host/ioctl/protocol.ts';

/** The peer closed before what was awaited came. */
export class Closed extends Error {}

/** A client of the protocol in its plainest form: sends bytes, awaits bytes. */
export class RawClient {
  readonly socket: Socket;
  #chunks: Buffer[] = [];
  #bytes = 0;
  #closed = false;
  #wake: () => void = () => undefined;

  private constructor(socket: Socket) {
    this.socket = socket;
    socket.on('data', (chunk: Buffer) => {
      this.#chunks.push(chunk);
      this.#bytes += chunk.length;
      this.#wake();
    });
    socket.on('error', () => undefined);
    socket.on('close', () => {
      this.#closed = true;
      this.#wake();
    });
  }

  /** Node's connect(2) does not block, so a full backlog is EAGAIN here, where another client would wait. */
  static async connect(path: string): Promise<RawClient> {
    for (let attempt = 0; ; attempt++) {
      const socket = connect(path);
      try {
        await once(socket, 'connect');
        return new RawClient(socket);
      } catch (error) {
        if ((error as NodeJS.ErrnoException).code !== 'EAGAIN' || attempt === 100) throw error;
        await sleep(10);
      }
    }
  }

  send(...parts: Uint8Array[]): void {
    for (const part of parts) this.socket.write(part);
  }

  async receive(bytes: number): Promise<Buffer> {
    while (this.#bytes < bytes) {
      if (this.#closed) throw new Closed(`closed after ${this.#bytes} of ${bytes} bytes`);
      await new Promise<void>((resolve) => {
        this.#wake = resolve;
      });
    }
    const all = this.#chunks.length === 1 ? this.#chunks[0]! : Buffer.concat(this.#chunks);
    this.#chunks = [all.subarray(bytes)];
    this.#bytes -= bytes;
    return all.subarray(0, bytes);
  }

  async frame(): Promise<{ type: number; payload: Buffer }> {
    const { type, length } = decodeFrameHeader(await this.receive(frameHeaderBytes));
    return { type, payload: await this.receive(length) };
  }

  /** Resolves when the server has closed; what it sent before stays unread. */
  async closed(): Promise<void> {
    while (!this.#closed) {
      await new Promise<void>((resolve) => {
        this.#wake = resolve;
      });
    }
  }

  close(): void {
    this.socket.destroy();
  }
}

export const hello: Hello = {
  version: 3,
  cmdSize: 13744,
  release: '2.4.3',
  process: '00112233445566778899aabbccddeeff',
  pid: 4242,
  fd: 3,
  attachMinor: 0,
  stdio: 0,
  program: 'test',
};

export interface Answer {
  readonly errno: number;
  readonly cmd: Buffer;
  readonly dst: Buffer;
  readonly history: Buffer;
}

/** What the client does with its descriptors. Undefined: an ioctl that uses them is a failure of the test. */
export interface Descriptors {
  read?(fd: number, max: number): Promise<Buffer> | Buffer;
  /** Returns an errno. */
  write?(fd: number, data: Buffer): Promise<number> | number;
}

/** The server's last words. */
export class Failed extends Error {
  readonly errno: number;

  constructor(errno: number, message: string) {
    super(message);
    this.errno = errno;
  }
}

/** One lane, after its hello. */
export class LaneClient {
  readonly raw: RawClient;
  readonly reply: HelloReply;
  readonly #cmdSize: number;

  private constructor(raw: RawClient, reply: HelloReply, cmdSize: number) {
    this.raw = raw;
    this.reply = reply;
    this.#cmdSize = cmdSize;
  }

  static async open(path: string, fields: Partial<Hello> = {}): Promise<LaneClient> {
    const raw = await RawClient.connect(path);
    const said = { ...hello, ...fields };
    raw.send(encodeHello(said));
    const reply = decodeHelloReply(await raw.receive(helloReplyBytes));
    return new LaneClient(raw, reply, said.cmdSize);
  }

  request(
    request: number,
    { src = Buffer.alloc(0), conf = Buffer.alloc(0), history = Buffer.alloc(0), dstRoom = 0, historyRoom = 0 } = {},
    cmd: Buffer = Buffer.alloc(this.#cmdSize),
  ): void {
    const length = ioctlHeadBytes + cmd.length + src.length + conf.length + history.length;
    const head = {
      request,
      srcBytes: src.length,
      confBytes: conf.length,
      historyBytes: history.length,
      dstRoom,
      historyRoom,
    };
    this.raw.send(encodeFrameHeader(FrameType.ioctl, length), encodeIoctlHead(head), cmd, src, conf, history);
  }

  async answer(descriptors: Descriptors = {}): Promise<Answer> {
    for (;;) {
      const { type, payload } = await this.raw.frame();
      if (type === FrameType.result) return this.#result(payload);
      if (type === FrameType.failed) throw new Failed(payload.readUInt32LE(0), payload.toString('utf8', 4));
      if (type === FrameType.streamRead) {
        const data = await descriptors.read!(payload.readInt32LE(0), payload.readUInt32LE(4));
        this.raw.send(encodeFrameHeader(FrameType.streamData, 4 + data.length), Buffer.alloc(4), data);
      } else if (type === FrameType.streamWrite) {
        const errno = Buffer.alloc(4);
        errno.writeUInt32LE(await descriptors.write!(payload.readInt32LE(0), payload.subarray(4)));
        this.raw.send(encodeFrameHeader(FrameType.streamWritten, 4), errno);
      } else {
        throw new Error(`frame of type ${type}`);
      }
    }
  }

  async ioctl(
    request: number,
    input: Parameters<LaneClient['request']>[1] = {},
    descriptors: Descriptors = {},
  ): Promise<Answer> {
    this.request(request, input);
    return this.answer(descriptors);
  }

  close(): void {
    this.raw.close();
  }

  #result(payload: Buffer): Answer {
    const head = decodeResultHead(payload);
    const dstAt = resultHeadBytes + this.#cmdSize;
    return {
      errno: head.errno,
      cmd: payload.subarray(resultHeadBytes, dstAt),
      dst: payload.subarray(dstAt, dstAt + head.dstBytes),
      history: payload.subarray(dstAt + head.dstBytes, dstAt + head.dstBytes + head.historyBytes),
    };
  }
}
