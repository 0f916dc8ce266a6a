import type { StreamChannel } from '../core/dev-zfs.ts';
import type { MaybePromise } from '../devices/device.ts';
import { Errno, ErrnoError, errnoOf } from '../errno.ts';
import { Lendable } from '../lendable.ts';
import type { Pipe } from './pipe.ts';
import { encodeStreamRead, encodeStreamRecords, encodeStreamWriteHead, limits, ProtocolError } from './protocol.ts';
import { RecordWalk } from './records.ts';

/** Hands parts to the socket as they are, without copying; resolves when all of them left. */
export type SendParts = (parts: Uint8Array[]) => Promise<void>;

/** Opens a descriptor of the client; undefined: the client has to read and write it. */
export type OpenPipe = (fd: number, mode: 'read' | 'write') => Pipe | undefined;

/** Writes up to this size are gathered: the header of a record costs the client as much as its data. */
const gatherBytesMax = 4096;
const nothing = Buffer.alloc(0);

/**
 * A question to the client, and the core's memory that the answer goes to. The core has that back when it learns the
 * outcome, which is not before the socket that reads into it has given it back.
 */
class PendingRead extends Lendable {
  readonly kind = 'read';
  readonly buffer: Uint8Array;
  readonly outcome: Promise<number>;
  readonly #settle: PromiseWithResolvers<number>;
  #result: number | Error = 0;

  constructor(buffer: Uint8Array) {
    super();
    this.buffer = buffer;
    this.#settle = Promise.withResolvers();
    this.outcome = this.#settle.promise;
  }

  /** Bytes that came, or why none did. Once. */
  answer(result: number | Error): void {
    this.#result = result;
    this.end();
  }

  protected free(): void {
    if (this.#result instanceof Error) this.#settle.reject(this.#result);
    else this.#settle.resolve(this.#result);
  }
}

/** Where the data of an answer belong. */
export interface Room {
  readonly bytes: Uint8Array;
  /** Lends it. */
  readonly of: Pick<Lendable, 'lend' | 'giveBack'>;
}

interface PendingWrite {
  readonly kind: 'write';
  readonly bytes: number;
}

/**
 * The stream channel of one ioctl. Pipes are read and written here, where the host can open them (pipe.ts). For other
 * descriptors, and after an error of a pipe, the client is asked to. It answers in the order it was asked, so a queue of
 * what was asked is all the bookkeeping:
 *
 *   core ── read ──▶ STREAM_READ ──▶ ┌──────────────┐ ◀── STREAM_DATA ────── client
 *        ── write ─▶ STREAM_WRITE ─▶ │ pending (≤17)│ ◀── STREAM_WRITTEN ───
 *                                    └──────────────┘
 *
 * Writes run ahead of their answers by at most the window, so that a client that stalls holds its own pipe's worth of
 * memory and its own fiber.
 */
export class LaneStreams implements StreamChannel {
  readonly #send: SendParts;
  readonly #openPipe: OpenPipe;
  /** By descriptor and mode: `1 write`. Undefined: the client's own affair, until the ioctl is over. */
  readonly #pipes = new Map<string, Pipe | undefined>();
  readonly #pending: (PendingRead | PendingWrite)[] = [];
  #windowBytes = 0;
  /** Errno of a write that the core has not been told of yet. */
  #unreported = 0;
  #ended = false;
  /** Reads one after the other, and writes too: a buffer larger than a frame must not be interleaved with another. */
  #readTurn: Promise<unknown> = Promise.resolve();
  #writeTurn: Promise<unknown> = Promise.resolve();
  #readers = 0;
  #writers = 0;
  #wake: (() => void) | undefined;
  /** Small writes to one descriptor that go out with what follows, at the latest when the event loop has its turn. */
  #gathered: { readonly fd: number; bytes: Buffer } | undefined;

  constructor(send: SendParts, openPipe: OpenPipe) {
    this.#send = send;
    this.#openPipe = openPipe;
  }

  read(fd: number, buffer: Uint8Array): MaybePromise<number> {
    const now = this.#readers === 0 ? this.#pipe(fd, 'read')?.readNow(buffer) : undefined;
    if (now !== undefined && now >= 0) return now;
    return this.#readInTurn(async () => {
      const pipe = this.#pipe(fd, 'read');
      const ask = () => this.#read(buffer, (max) => encodeStreamRead(fd, max));
      return pipe === undefined ? ask() : this.#orElse(pipe.readLater(buffer), fd, 'read', ask);
    });
  }

  readRecords(fd: number, buffer: Uint8Array, left: number): MaybePromise<number> {
    const walk = new RecordWalk(buffer, left);
    if (this.#readers === 0) {
      const pipe = this.#pipe(fd, 'read');
      if (pipe !== undefined && (readNow(pipe, walk) || walk.isWhole)) return walk.bytes;
    }
    return this.#readInTurn(async () => {
      const pipe = this.#pipe(fd, 'read');
      const ask = async () => {
        // What the pipe gave is gone from it, and the client would go on behind it.
        if (walk.bytes > 0) throw new ErrnoError(Errno.EIO, 'read of the pipe');
        return this.#read(buffer, (max) => encodeStreamRecords(fd, max, left));
      };
      return pipe === undefined ? ask() : this.#orElse(readLater(pipe, walk), fd, 'read', ask);
    });
  }

  /** The pipe of a descriptor, opened when it is used first. */
  #pipe(fd: number, mode: 'read' | 'write'): Pipe | undefined {
    if (this.#ended) return undefined;
    const key = `${fd} ${mode}`;
    if (!this.#pipes.has(key)) this.#pipes.set(key, this.#openPipe(fd, mode));
    return this.#pipes.get(key);
  }

  /** After an error of a pipe its client does the same, and everything after it: it gets the error, and the signal. */
  async #orElse<T>(operation: Promise<T>, fd: number, mode: 'read' | 'write', ask: () => Promise<T>): Promise<T> {
    try {
      return await operation;
    } catch {
      this.#pipes.get(`${fd} ${mode}`)?.close();
      this.#pipes.set(`${fd} ${mode}`, undefined);
    }
    return ask();
  }

  #readInTurn(read: () => Promise<number>): Promise<number> {
    this.#readers++;
    const turn = this.#readTurn.then(read);
    this.#readTurn = turn.catch(() => undefined).then(() => this.#readers--);
    return turn;
  }

  #read(buffer: Uint8Array, ask: (max: number) => Buffer): Promise<number> {
    if (this.#ended) return Promise.reject(interrupted());
    if (buffer.length === 0) return Promise.resolve(0);
    const room = buffer.subarray(0, limits.streamBytes);
    const read = new PendingRead(room);
    this.#pending.push(read);
    this.#send([ask(room.length)]).catch(() => undefined);
    return read.outcome;
  }

  gather(fd: number, buffer: Uint8Array): boolean {
    const gathered = this.#gathered;
    if (this.#ended || this.#unreported !== 0 || buffer.length > gatherBytesMax) return false;
    if (gathered === undefined) {
      this.#gathered = { fd, bytes: Buffer.from(buffer) };
      setImmediate(() => this.#flush());
      return true;
    }
    if (gathered.fd !== fd || gathered.bytes.length + buffer.length > gatherBytesMax) return false;
    gathered.bytes = Buffer.concat([gathered.bytes, buffer]);
    return true;
  }

  #flush(): void {
    const gathered = this.#takeGathered();
    if (gathered === undefined) return;
    this.#writeInTurn(gathered.fd, [gathered.bytes])?.catch((error: unknown) => {
      if (!this.#ended && this.#unreported === 0) this.#unreported = errnoOf(error);
    });
  }

  #takeGathered(): { readonly fd: number; readonly bytes: Buffer } | undefined {
    const gathered = this.#gathered;
    this.#gathered = undefined;
    return gathered;
  }

  write(fd: number, buffer: Uint8Array): MaybePromise<void> {
    if (this.#gathered?.fd !== fd) this.#flush();
    const before = this.#takeGathered()?.bytes;
    return this.#writeInTurn(fd, before === undefined ? [buffer] : [before, buffer]);
  }

  #writeInTurn(fd: number, parts: readonly Uint8Array[]): MaybePromise<void> {
    const pipe = this.#writers === 0 ? this.#pipe(fd, 'write') : undefined;
    const rest = pipe === undefined ? parts : behind(parts, pipe.writeNow(parts));
    if (rest.length === 0) return undefined;
    this.#writers++;
    const turn = this.#writeTurn.then(() => this.#write(fd, rest));
    this.#writeTurn = turn.catch(() => undefined).then(() => this.#writers--);
    return turn;
  }

  async #write(fd: number, parts: readonly Uint8Array[]): Promise<void> {
    const pipe = this.#pipe(fd, 'write');
    const ask = () => this.#askToWrite(fd, parts);
    return pipe === undefined ? ask() : this.#orElse(pipe.writeLater(parts), fd, 'write', ask);
  }

  /** One or two parts, of which the first of two is small. */
  async #askToWrite(fd: number, written: readonly Uint8Array[]): Promise<void> {
    const buffer = written.at(-1)!;
    const before = written.length === 2 ? written[0]! : nothing;
    let room = limits.streamBytes - before.length;
    for (let offset = 0; offset < buffer.length; room = limits.streamBytes) {
      const part = buffer.subarray(offset, offset + room);
      const parts = offset === 0 && before.length > 0 ? [before, part] : [part];
      const bytes = parts.length === 2 ? before.length + part.length : part.length;
      offset += part.length;
      while (!this.#ended && this.#unreported === 0 && !this.#fits(bytes)) await this.#progress();
      this.#report();
      this.#windowBytes += bytes;
      this.#pending.push({ kind: 'write', bytes });
      await this.#send([encodeStreamWriteHead(fd, bytes), ...parts]);
    }
  }

  async drain(): Promise<void> {
    await this.settle();
    this.#report();
  }

  /** Waits until the client answered everything, and reports nothing. */
  async settle(): Promise<void> {
    this.#flush();
    await this.#writeTurn;
    while (!this.#ended && this.#pending.length > 0) await this.#progress();
  }

  /** The ioctl is over: its pipes are the client's alone again. */
  async finish(): Promise<void> {
    await this.settle();
    this.#closePipes();
  }

  #closePipes(): void {
    for (const pipe of this.#pipes.values()) pipe?.close();
    this.#pipes.clear();
  }

  /** The error of a write that nobody was told of, 0 if there is none; it counts as reported from here on. */
  takeUnreported(): number {
    const errno = this.#unreported;
    this.#unreported = 0;
    return errno;
  }

  /** The client is gone: whatever waits fails with EINTR, as a system call would. */
  end(): void {
    this.#ended = true;
    this.#closePipes();
    for (const pending of this.#pending.splice(0)) {
      if (pending.kind === 'read') pending.answer(interrupted());
    }
    this.#advance();
  }

  /** Whether the next frame of the client is an answer to a read. */
  get awaitsData(): boolean {
    return this.#pending[0]?.kind === 'read';
  }

  /**
   * Where the data of a STREAM_DATA frame belongs: the buffer of the oldest question.
   * @throws ProtocolError when nothing was asked, or not that much.
   */
  roomForData(bytes: number): Room {
    const head = this.#pending[0];
    if (head?.kind !== 'read') throw new ProtocolError('stream data that nobody asked for');
    if (bytes > head.buffer.length) {
      throw new ProtocolError(`${bytes} bytes of stream data where ${head.buffer.length} were asked for`);
    }
    return { bytes: head.buffer.subarray(0, bytes), of: head };
  }

  /** A STREAM_DATA frame is complete. */
  answerRead(errno: number, count: number): void {
    const head = this.#pending.shift();
    if (head?.kind !== 'read') throw new ProtocolError('stream data that nobody asked for');
    head.answer(errno === 0 ? count : new ErrnoError(errno, 'read of the client'));
    this.#advance();
  }

  /** A STREAM_WRITTEN frame is complete. */
  answerWrite(errno: number): void {
    const head = this.#pending.shift();
    if (head?.kind !== 'write') throw new ProtocolError('an answer to a stream write that was not made');
    this.#windowBytes -= head.bytes;
    if (errno !== 0 && this.#unreported === 0) this.#unreported = errno;
    this.#advance();
  }

  #fits(bytes: number): boolean {
    // A part is at most a quarter of the window, so an empty window always has room.
    return this.#pending.length < limits.windowFrames && this.#windowBytes + bytes <= limits.windowBytes;
  }

  #report(): void {
    if (this.#ended) throw interrupted();
    const errno = this.takeUnreported();
    if (errno !== 0) throw new ErrnoError(errno, 'write of the client');
  }

  /** Resolves at the next answer. One writer and one drain at most wait at a time, in turn. */
  #progress(): Promise<void> {
    const before = this.#wake;
    return new Promise((resolve) => {
      this.#wake = () => {
        before?.();
        resolve();
      };
    });
  }

  #advance(): void {
    const wake = this.#wake;
    this.#wake = undefined;
    wake?.();
  }
}

/** Reads what is there. True: the buffer is as full as it gets, or the stream is at its end. */
function readNow(pipe: Pipe, walk: RecordWalk): boolean {
  for (let window = walk.window(); window !== undefined; window = walk.window()) {
    const count = pipe.readNow(window);
    if (count < 0) return false;
    if (count === 0) return true;
    walk.took(count);
  }
  return true;
}

/** Waits until there is something to hand on. */
async function readLater(pipe: Pipe, walk: RecordWalk): Promise<number> {
  do {
    const count = await pipe.readLater(walk.window()!);
    if (count === 0) break;
    walk.took(count);
  } while (!readNow(pipe, walk) && !walk.isWhole);
  return walk.bytes;
}

/** What is left of the parts behind the first `count` bytes. */
function behind(parts: readonly Uint8Array[], count: number): readonly Uint8Array[] {
  const rest: Uint8Array[] = [];
  for (const part of parts) {
    if (count < part.byteLength) rest.push(part.subarray(count));
    count = Math.max(0, count - part.byteLength);
  }
  return rest;
}

function interrupted(): ErrnoError {
  return new ErrnoError(Errno.EINTR, 'the client is gone');
}

/** Of ioctls that use no descriptors. */
export const noStreams: StreamChannel = {
  read: () => Promise.reject(new ErrnoError(Errno.EBADF)),
  readRecords: () => Promise.reject(new ErrnoError(Errno.EBADF)),
  gather: () => false,
  write: () => Promise.reject(new ErrnoError(Errno.EBADF)),
  drain: () => Promise.resolve(),
};
