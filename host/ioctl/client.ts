import { randomBytes } from 'node:crypto';
import { connect, type Socket } from 'node:net';
import { release } from '../assets.ts';
import type { IoctlRequest, IoctlResult } from '../core/dev-zfs.ts';
import { zfsCmdBytes } from '../core/zfs-cmd.ts';
import { Errno } from '../errno.ts';
import { InspectError } from '../observe/inspect-error.ts';
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
  helloReplyBytes,
  ioctlHeadBytes,
  limits,
  ProtocolError,
  type Query,
  resultHeadBytes,
  version,
} from './protocol.ts';

/** The host cannot be reached, or the connection to it ended; `message` is for a person. */
export class HostUnreachableError extends Error {
  constructor(message: string, options?: ErrorOptions) {
    super(message, options);
    this.name = 'HostUnreachableError';
  }
}

/** The largest frame a host sends: a result with all its room used. */
const frameBytesMax = resultHeadBytes + zfsCmdBytes + limits.dstRoomBytes + limits.historyRoomBytes;

/** One ioctl or query at a time on a connection to a host: what the commands of `zow` use. */
export class HostClient implements Disposable {
  /** The descriptor that this client says its connection is; ioctls name it in `zc_cleanup_fd`. */
  readonly fd = 3;
  readonly #socket: Socket;
  readonly #path: string;
  #chunks: Buffer[] = [];
  #bytes = 0;
  #ended = false;
  #wake: () => void = () => undefined;

  private constructor(socket: Socket, path: string) {
    this.#socket = socket;
    this.#path = path;
    socket.on('data', (chunk: Buffer) => {
      this.#chunks.push(chunk);
      this.#bytes += chunk.length;
      this.#wake();
    });
    socket.on('error', () => undefined);
    socket.on('close', () => {
      this.#ended = true;
      this.#wake();
    });
  }

  /** Connects to the host at `path` and opens a session. Rejects with HostUnreachableError. */
  static async connect(path: string | undefined, program: string): Promise<HostClient> {
    const client = new HostClient(await dial(path), path!);
    client.#socket.write(
      encodeHello({
        version,
        cmdSize: zfsCmdBytes,
        release,
        process: randomBytes(16).toString('hex'),
        pid: process.pid,
        fd: client.fd,
        attachMinor: 0,
        stdio: 0,
        program,
      }),
    );
    const reply = decodeHelloReply(await client.#receive(helloReplyBytes));
    if (reply.status === 0) return client;
    client[Symbol.dispose]();
    throw new HostUnreachableError(`the ZoW host on ${path} refuses: ${reply.message}`);
  }

  /** Runs an ioctl that uses no streams. Rejects with HostUnreachableError. */
  async ioctl(request: Omit<IoctlRequest, 'streams'>): Promise<IoctlResult> {
    const { cmd, src, conf, history, dstRoom, historyRoom } = request;
    const parts = [cmd, src, conf, history];
    const length = ioctlHeadBytes + parts.reduce((sum, part) => sum + part.length, 0);
    const sizes = { srcBytes: src.length, confBytes: conf.length, historyBytes: history.length };
    this.#socket.write(encodeFrameHeader(FrameType.ioctl, length));
    this.#socket.write(encodeIoctlHead({ request: request.request, ...sizes, dstRoom, historyRoom }));
    for (const part of parts) if (part.length > 0) this.#socket.write(part);
    const payload = await this.#frame(FrameType.result);
    const head = decodeResultHead(payload);
    const dstAt = resultHeadBytes + zfsCmdBytes;
    const historyAt = dstAt + head.dstBytes;
    return {
      errno: head.errno,
      cmd: payload.subarray(resultHeadBytes, dstAt),
      dst: payload.subarray(dstAt, historyAt),
      history: payload.subarray(historyAt, historyAt + head.historyBytes),
    };
  }

  /** Asks, and gives each packed nvlist as it comes. Rejects with InspectError, whose message is the host's. */
  async *query(query: Query): AsyncGenerator<Buffer> {
    if (Buffer.byteLength(query.text) > limits.queryBytes) {
      throw new InspectError(Errno.EINVAL, `longer than ${limits.queryBytes} bytes`);
    }
    this.#socket.write(encodeQuery(query));
    for (;;) {
      const { type, payload } = await this.#anyFrame();
      if (type === FrameType.item) {
        yield payload;
        continue;
      }
      if (type !== FrameType.done) throw unexpected(type);
      const { errno, message } = decodeVerdict(payload);
      if (errno !== 0) throw new InspectError(errno, message);
      return;
    }
  }

  [Symbol.dispose](): void {
    this.#socket.destroy();
  }

  async #frame(wanted: number): Promise<Buffer> {
    const { type, payload } = await this.#anyFrame();
    if (type !== wanted) throw unexpected(type);
    return payload;
  }

  async #anyFrame(): Promise<{ type: number; payload: Buffer }> {
    const { type, length } = decodeFrameHeader(await this.#receive(frameHeaderBytes));
    if (length > frameBytesMax) throw new ProtocolError(`a frame of ${length} bytes`);
    const payload = await this.#receive(length);
    if (type === FrameType.failed) throw new HostUnreachableError(decodeVerdict(payload).message);
    return { type, payload };
  }

  async #receive(bytes: number): Promise<Buffer> {
    while (this.#bytes < bytes) {
      if (this.#ended) throw new HostUnreachableError(`the ZoW host on ${this.#path} has gone`);
      await new Promise<void>((resolve) => {
        this.#wake = resolve;
      });
    }
    const all = this.#chunks.length === 1 ? this.#chunks[0]! : Buffer.concat(this.#chunks);
    this.#chunks = [all.subarray(bytes)];
    this.#bytes -= bytes;
    return all.subarray(0, bytes);
  }
}

function unexpected(type: number): ProtocolError {
  return new ProtocolError(`the host sent a frame of type ${type}`);
}

/** As the programs do it, and with their words (cli/src/zow_socket.c). */
function dial(path: string | undefined): Promise<Socket> {
  const start = `start one with 'zow serve <config>'`;
  if (path === undefined) {
    const unset = `no ZoW host: neither ZOW_SOCKET nor XDG_RUNTIME_DIR is set; ${start}`;
    return Promise.reject(new HostUnreachableError(unset));
  }
  return new Promise((resolve, reject) => {
    const socket = connect(path);
    socket.once('connect', () => resolve(socket));
    socket.once('error', (error: NodeJS.ErrnoException) => {
      const message =
        error.code === 'ENOENT' || error.code === 'ECONNREFUSED'
          ? `no ZoW host listens on ${path}: ${start}, or say where it is with ZOW_SOCKET`
          : `cannot reach the ZoW host on ${path}: ${error.message}`;
      reject(new HostUnreachableError(message, { cause: error }));
    });
  });
}
