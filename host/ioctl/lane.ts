import type { Socket } from 'node:net';
import type { IoctlRequest, IoctlResult } from '../core/dev-zfs.ts';
import { Errno, ErrnoError, errnoName, errnoOf } from '../errno.ts';
import { log, tracer } from '../log.ts';
import { type Inlet, readInto, type Window } from '../net/onread.ts';
import { type Patience, patience } from '../net/patience.ts';
import { openPipe, type Peer, type Pipe, peerPid } from './pipe.ts';
import {
  decodeFrameHeader,
  decodeHello,
  decodeIoctlHead,
  decodeQuery,
  encodeDone,
  encodeFailed,
  encodeFrameHeader,
  encodeHelloReply,
  encodeResultHead,
  FrameType,
  frameHeaderBytes,
  type Hello,
  type HelloReply,
  helloBytes,
  type IoctlHead,
  ioctlFrameBytesMax,
  ioctlHeadBytes,
  limits,
  ProtocolError,
  type Query,
  queryHeadBytes,
  resultHeadBytes,
} from './protocol.ts';
import { LaneStreams } from './streams.ts';

const trace = tracer('ioctl');

/** How long a peer may take to say hello. */
const helloMs = 10_000;
/** How long a socket that we close may hold our last words. */
const lingerMs = 1000;

/** Where bytes go that are not worth a read of their own. One for all lanes: it is empty whenever nobody reads. */
const scratch: Window = { bytes: Buffer.allocUnsafeSlow(64 * 1024) };
/** From this size on the rest of a buffer is read into as it is. */
const directBytesMin = 4096;
/** Header and errno, of which every answer to a stream read has both. */
const streamDataHeadBytes = frameHeaderBytes + 4;

/** Requests up to this size are not counted. An ordinary ioctl has less than 16 KiB. */
const smallRequestBytes = 256 * 1024;

/** What a lane belongs to once its hello was accepted. */
export interface LaneSession {
  readonly minor: number;
  ioctl(request: IoctlRequest): Promise<IoctlResult>;
  /** The items of a query. */
  query(query: Query): AsyncIterable<Uint8Array>;
}

/** What a lane needs of the server. */
export interface LaneOwner {
  readonly cmdSize: number;
  /** A process whose word is taken for who its clients are. */
  readonly trustedPid: number | undefined;
  /** The reply to a hello but for its verdict. */
  greeting(): HelloReply;
  /** Decides on a hello. Rejects with HelloRefused. */
  admit(lane: Lane, hello: Hello): Promise<LaneSession>;
  /** Counts buffers that clients make the host hold; false: not now. Pairs with release. */
  reserve(bytes: number): boolean;
  release(bytes: number): void;
  /** The socket is gone. `clean` when nothing was under way on it. */
  laneClosed(lane: Lane, clean: boolean): void;
}

/** A hello that is understood and declined. */
export class HelloRefused extends Error {
  readonly errno: number;

  constructor(errno: number, message: string) {
    super(message);
    this.name = 'HelloRefused';
    this.errno = errno;
  }
}

/**
 *   hello ──▶ opening ──▶ idle ──▶ request ──▶ running ──▶ replying ──▶ idle …
 *
 * hello     the greeting has not arrived completely
 * opening   the core opens the device; the peer has nothing to say
 * idle      between ioctls: a frame header is awaited
 * request   an IOCTL or QUERY frame arrives
 * running   the core works; the peer may only answer stream frames
 * replying  the result is on its way out; the next request waits in the socket until it left
 */
type LaneState = 'hello' | 'opening' | 'idle' | 'request' | 'running' | 'replying' | 'closed';

const transitions: Record<LaneState, readonly LaneState[]> = {
  hello: ['opening', 'closed'],
  opening: ['idle', 'closed'],
  idle: ['request', 'closed'],
  request: ['running', 'closed'],
  running: ['replying', 'closed'],
  replying: ['idle', 'closed'],
  closed: [],
};

/**
 * One socket of a session. Bytes go into the buffer that awaits them (`#expect`), large ones straight from the socket;
 * when it is full, its continuation says which buffer is next. No buffer is larger than the limits of protocol.ts, and
 * at any time the peer can make the lane hold one request, one result and one window of stream data.
 */
export class Lane {
  readonly #socket: Socket;
  readonly #inlet: Inlet | undefined;
  readonly #owner: LaneOwner;
  readonly #helloPatience: Patience;
  #state: LaneState = 'hello';
  #session: LaneSession | undefined;
  #streams: LaneStreams | undefined;
  /** Of the ioctl that runs. */
  #interrupt: AbortController | undefined;
  #reserved = 0;

  #target: Uint8Array | undefined;
  /** Whose memory `#target` is, if it is not the lane's own. */
  #targetOf: Window['of'];
  #filled = 0;
  #onFull: () => void = () => undefined;
  /** What arrived while the state had no use for it. */
  #held: Buffer | undefined;
  /** The window that the socket reads into is `#target` itself, from `#filled` on. */
  #direct = false;
  #who: { pid: number; program: string } | undefined;
  /** The process at the other end, when it is on this machine. */
  #peer: Peer | undefined;

  /** `accepted` is paused. */
  constructor(accepted: Socket, owner: LaneOwner) {
    this.#owner = owner;
    this.#helloPatience = patience(helloMs, () => this.#break('no hello within 10 s'));
    const hello = Buffer.allocUnsafe(helloBytes);
    this.#expect(hello, () => this.#hello(hello));
    this.#inlet = readInto(accepted, {
      window: () => this.#window(),
      received: (length, { bytes }) => this.#received(length, bytes),
    });
    const socket = this.#inlet?.socket ?? accepted;
    this.#socket = socket;
    if (this.#inlet === undefined) socket.on('data', (chunk: Buffer) => this.#received(chunk.length, chunk));
    // Half-closed is not a state of this protocol: a peer that will not answer has gone.
    socket.on('end', () => socket.destroy());
    socket.on('error', (error) => trace?.({ ...this.#who, error: error.message }, 'socket error'));
    socket.on('close', () => this.#closed());
    socket.resume();
  }

  /** The process at the other end, when it is known to be on this machine. */
  get peer(): Peer | undefined {
    return this.#peer;
  }

  /** Says why, and closes. For a host that stops and for a session whose core is gone. */
  fail(errno: number, message: string): void {
    if (this.#state === 'closed') return;
    if (this.#state === 'hello' || this.#state === 'opening') this.#refuse(errno, message);
    else this.#finish(encodeFailed(errno, message));
  }

  /** Closes at once. */
  destroy(): void {
    this.#socket.destroy();
    this.#closed();
  }

  #enter(state: LaneState): void {
    if (!transitions[this.#state].includes(state)) throw new Error(`ioctl lane: ${this.#state} → ${state}`);
    this.#state = state;
  }

  #expect(target: Uint8Array, onFull: () => void, of?: Window['of']): void {
    this.#target = target;
    this.#targetOf = of;
    this.#filled = 0;
    this.#onFull = onFull;
  }

  #expectHeader(): void {
    const header = Buffer.allocUnsafe(frameHeaderBytes);
    this.#expect(header, () => this.#header(header));
  }

  /** Where the socket shall read to next. */
  #window(): Window {
    const target = this.#target;
    this.#direct = false;
    if (target === undefined || this.#state === 'opening' || this.#state === 'replying') return scratch;
    const missing = target.length - this.#filled;
    if (missing >= directBytesMin) {
      this.#direct = true;
      return { bytes: this.#filled === 0 ? target : target.subarray(this.#filled), of: this.#targetOf };
    }
    // What follows the head of an answer shall go where it belongs.
    if (this.#streams?.awaitsData === true && target.length === frameHeaderBytes) {
      return { bytes: scratch.bytes.subarray(0, streamDataHeadBytes - this.#filled) };
    }
    return scratch;
  }

  /** False: the socket is to read no more before it is resumed. */
  #received(length: number, window: Uint8Array): boolean {
    if (this.#state === 'closed') {
      window.fill(0, 0, length); // as below
      return true;
    }
    this.#guard(() => {
      if (!this.#direct) {
        try {
          this.#feed(window.subarray(0, length));
        } finally {
          window.fill(0, 0, length); // there may be a key in it
        }
        return;
      }
      this.#filled += length;
      if (this.#filled === this.#target!.length) this.#full();
    });
    return this.#held === undefined;
  }

  #feed(chunk: Uint8Array): void {
    let offset = 0;
    while (offset < chunk.length) {
      if (this.#state === 'closed') return;
      if (this.#state === 'opening') throw new ProtocolError('bytes before the hello was answered');
      if (this.#state === 'replying') {
        this.#held = Buffer.from(chunk.subarray(offset));
        this.#socket.pause();
        return;
      }
      const target = this.#target!;
      const count = Math.min(target.length - this.#filled, chunk.length - offset);
      target.set(chunk.subarray(offset, offset + count), this.#filled);
      this.#filled += count;
      offset += count;
      if (this.#filled === target.length) this.#full();
    }
  }

  /** The awaited buffer is complete; so are, at once, empty ones that follow. */
  #full(): void {
    do {
      this.#onFull();
    } while (this.#state !== 'closed' && this.#state !== 'opening' && this.#target!.length === this.#filled);
  }

  #guard(step: () => void): void {
    try {
      step();
    } catch (error) {
      if (error instanceof ProtocolError) this.#break(error.message);
      else this.#crash(error);
    }
  }

  #hello(bytes: Buffer): void {
    this.#helloPatience.end();
    const hello = decodeHello(bytes);
    this.#who = { pid: hello.pid, program: hello.program };
    // Another process's socket that forwards, of another machine for one, has pids of its own.
    const pid = peerPid(this.#socket);
    if (pid !== 0 && (pid === hello.pid || pid === this.#owner.trustedPid)) this.#peer = hello;
    this.#enter('opening');
    this.#owner.admit(this, hello).then(
      (session) => this.#guard(() => this.#welcome(session)),
      (error: unknown) => {
        if (error instanceof HelloRefused) this.#refuse(error.errno, error.message);
        else this.#refuse(errnoOf(error), error instanceof Error ? error.message : String(error));
      },
    );
  }

  #welcome(session: LaneSession): void {
    if (this.#state === 'closed') return;
    this.#session = session;
    this.#socket.write(encodeHelloReply({ ...this.#owner.greeting(), minor: session.minor }));
    this.#enter('idle');
    this.#expectHeader();
  }

  #refuse(errno: number, message: string): void {
    if (this.#state === 'closed') return;
    trace?.({ ...this.#who, errno: errnoName(errno), message }, 'hello refused');
    this.#finish(encodeHelloReply({ ...this.#owner.greeting(), status: errno, message }));
  }

  /** Sends the last words. Whoever does not take them in time does not get them. */
  #finish(lastWords: Buffer): void {
    const socket = this.#socket;
    socket.end(lastWords);
    const timer = setTimeout(() => socket.destroy(), lingerMs).unref();
    socket.once('close', () => clearTimeout(timer));
    this.#closed();
  }

  #header(bytes: Buffer): void {
    const { type, length } = decodeFrameHeader(bytes);
    if (this.#state === 'idle' && type === FrameType.ioctl) this.#ioctlHeader(length);
    else if (this.#state === 'idle' && type === FrameType.query) this.#queryHeader(length);
    else if (this.#streams !== undefined && type === FrameType.streamData) this.#streamData(length);
    else if (this.#streams !== undefined && type === FrameType.streamWritten) this.#streamWritten(length);
    else if (type === FrameType.interrupt) this.#interrupted(length);
    else throw new ProtocolError(`frame of type ${type} in state ${this.#state}`);
  }

  /** The client got a signal. It may have come too late for the ioctl that it was about. */
  #interrupted(length: number): void {
    if (length !== 0 || (this.#state !== 'idle' && this.#interrupt === undefined)) {
      throw new ProtocolError(`an interrupt of ${length} bytes in state ${this.#state}`);
    }
    this.#interrupt?.abort();
    this.#expectHeader();
  }

  #ioctlHeader(length: number): void {
    const { cmdSize } = this.#owner;
    if (length < ioctlHeadBytes + cmdSize || length > ioctlFrameBytesMax(cmdSize)) {
      throw new ProtocolError(`an ioctl frame of ${length} bytes`);
    }
    this.#enter('request');
    const bytes = Buffer.allocUnsafe(ioctlHeadBytes);
    this.#expect(bytes, () => this.#ioctlHead(decodeIoctlHead(bytes, length, cmdSize), length));
  }

  #queryHeader(length: number): void {
    if (length < queryHeadBytes || length > queryHeadBytes + limits.queryBytes) {
      throw new ProtocolError(`a query frame of ${length} bytes`);
    }
    this.#enter('request');
    const payload = Buffer.allocUnsafe(length);
    this.#expect(payload, () => {
      const query = decodeQuery(payload);
      this.#enter('running');
      this.#expectHeader();
      trace?.({ ...this.#who, ...query }, 'query');
      this.#query(query).catch((error: unknown) => {
        this.fail(errnoOf(error), error instanceof Error ? error.message : String(error));
      });
    });
  }

  /** Each item waits until the one before has left: a client that stops reading holds one. */
  async #query(query: Query): Promise<void> {
    let verdict = encodeDone(0, '');
    try {
      for await (const item of this.#session!.query(query)) {
        await this.#send([encodeFrameHeader(FrameType.item, item.length), item]);
      }
    } catch (error) {
      if (!(error instanceof ErrnoError)) throw error;
      verdict = encodeDone(error.errno, error.message);
    }
    if (this.#state === 'closed') return;
    this.#enter('replying');
    await this.#send([verdict]);
    this.#guard(() => this.#replied());
  }

  #ioctlHead(head: IoctlHead, frameBytes: number): void {
    // Small ones always find room, or a few clients that stall with large ones would lock out all others.
    if (frameBytes > smallRequestBytes) {
      if (!this.#owner.reserve(frameBytes)) {
        this.fail(Errno.ENOMEM, 'the host has no room for more ioctl buffers');
        return;
      }
      this.#reserved = frameBytes;
    }
    // One allocation for the four parts; large ones are pages that are not touched before the bytes arrive.
    const payload = Buffer.allocUnsafeSlow(frameBytes - ioctlHeadBytes);
    this.#expect(payload, () => this.#start(head, payload));
  }

  #start(head: IoctlHead, payload: Buffer): void {
    const srcAt = this.#owner.cmdSize;
    const confAt = srcAt + head.srcBytes;
    const historyAt = confAt + head.confBytes;
    const cmd = payload.subarray(0, srcAt);
    const src = payload.subarray(srcAt, confAt);
    const conf = payload.subarray(confAt, historyAt);
    const history = payload.subarray(historyAt);
    this.#enter('running');
    this.#expectHeader();
    const streams = new LaneStreams(
      (parts) => this.#send(parts),
      (fd, mode) => this.#openPipe(fd, mode),
    );
    this.#streams = streams;
    this.#interrupt = new AbortController();
    const { signal } = this.#interrupt;
    const { request, dstRoom, historyRoom } = head;
    const began = performance.now();
    trace?.({ ...this.#who, request: hex(request), src: src.length, dstRoom }, 'ioctl');
    this.#session!.ioctl({ request, cmd, src, conf, history, dstRoom, historyRoom, streams, signal })
      .then(async (result) => {
        // Before it reads the result the client answers what it was asked, and its pipes are its own again.
        await streams.finish();
        const errno = result.errno === 0 ? streams.takeUnreported() : result.errno;
        trace?.({ request: hex(request), errno: errnoName(errno), ms: performance.now() - began }, 'ioctl done');
        this.#reply({ ...result, errno }, head);
      })
      .catch((error: unknown) => {
        trace?.({ request: hex(request), error: String(error) }, 'ioctl failed');
        this.fail(errnoOf(error), error instanceof Error ? error.message : String(error));
      })
      // Of zfs load-key there is a key in it, which shall be nowhere once it is unloaded.
      .finally(() => src.fill(0));
  }

  #openPipe(fd: number, mode: 'read' | 'write'): Pipe | undefined {
    const pipe = this.#peer && openPipe(this.#peer, fd, mode);
    if (pipe !== undefined) trace?.({ ...this.#who, fd, mode }, 'pipe of the client opened');
    return pipe;
  }

  #reply(result: IoctlResult, head: IoctlHead): void {
    if (this.#state === 'closed') return;
    const { errno, cmd, dst, history } = result;
    if (cmd.length !== this.#owner.cmdSize || dst.length > head.dstRoom || history.length > head.historyRoom) {
      throw new Error(`the core answered ioctl ${hex(head.request)} with more than the client has room for`);
    }
    this.#streams = undefined;
    this.#interrupt = undefined;
    this.#enter('replying');
    const length = resultHeadBytes + cmd.length + dst.length + history.length;
    const parts: Uint8Array[] = [
      encodeFrameHeader(FrameType.result, length),
      encodeResultHead({ errno, dstBytes: dst.length, historyBytes: history.length }),
      cmd,
    ];
    if (dst.length > 0) parts.push(dst);
    if (history.length > 0) parts.push(history);
    this.#send(parts).then(
      () => this.#guard(() => this.#replied()),
      () => undefined,
    );
  }

  #replied(): void {
    if (this.#state === 'closed') return;
    this.#releaseReserved();
    this.#enter('idle');
    const held = this.#held;
    this.#held = undefined;
    if (held !== undefined) {
      try {
        this.#feed(held);
      } finally {
        held.fill(0);
      }
    }
    if (this.#held !== undefined) return;
    this.#inlet?.choose();
    this.#socket.resume();
  }

  #streamData(length: number): void {
    const errnoBytes = Buffer.allocUnsafe(4);
    if (length < errnoBytes.length) throw new ProtocolError('stream data without an errno');
    // First of all: it bounds the length by what was asked for.
    const room = this.#streams!.roomForData(length - errnoBytes.length);
    this.#expect(errnoBytes, () => {
      const errno = errnoBytes.readUInt32LE(0);
      if (errno !== 0 && room.bytes.length > 0) throw new ProtocolError('stream data with an error');
      const answered = () => {
        this.#streams!.answerRead(errno, room.bytes.length);
        this.#expectHeader();
      };
      this.#expect(room.bytes, answered, room.of);
    });
  }

  #streamWritten(length: number): void {
    if (length !== 4) throw new ProtocolError(`an answer to a stream write of ${length} bytes`);
    const errnoBytes = Buffer.allocUnsafe(4);
    this.#expect(errnoBytes, () => {
      this.#streams!.answerWrite(errnoBytes.readUInt32LE(0));
      this.#expectHeader();
    });
  }

  /** Resolves when the last part left; the parts are views, not copies, and may be reused only then. */
  #send(parts: Uint8Array[]): Promise<void> {
    if (this.#state === 'closed') return Promise.reject(new Error('the client is gone'));
    if (this.#streams?.awaitsData === true) this.#inlet?.choose();
    return new Promise((resolve, reject) => {
      this.#socket.cork();
      const last = parts.length - 1;
      for (let i = 0; i < last; i++) this.#socket.write(parts[i]!);
      this.#socket.write(parts[last]!, (error) => (error ? reject(error) : resolve()));
      this.#socket.uncork();
    });
  }

  #break(reason: string): void {
    if (this.#state === 'closed') return;
    log.warn({ ...this.#who, reason }, 'ioctl client broke the protocol');
    if (this.#state === 'hello') this.destroy();
    else this.fail(Errno.EPROTO, reason);
  }

  #crash(error: unknown): void {
    log.error({ ...this.#who, err: error }, 'ioctl lane failed');
    this.destroy();
  }

  /** Once, whichever comes first: our decision or the socket's end. */
  #closed(): void {
    if (this.#state === 'closed') return;
    const clean = this.#state === 'idle' || this.#state === 'replying';
    this.#enter('closed');
    this.#helloPatience.end();
    // What has come of a request may have a key in it.
    if (this.#targetOf === undefined) this.#target?.fill(0, 0, this.#filled);
    this.#held?.fill(0);
    this.#target = undefined;
    this.#targetOf = undefined;
    this.#held = undefined;
    // Gives back the core's memory, if the socket reads into it.
    this.#inlet?.choose();
    this.#socket.resume();
    this.#streams?.end();
    this.#streams = undefined;
    this.#interrupt = undefined;
    this.#releaseReserved();
    this.#owner.laneClosed(this, clean);
  }

  #releaseReserved(): void {
    this.#owner.release(this.#reserved);
    this.#reserved = 0;
  }
}

function hex(request: number): string {
  return `0x${request.toString(16)}`;
}
