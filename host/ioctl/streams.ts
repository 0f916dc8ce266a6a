import { Errno, ErrnoError, errnoOf } from '../errno.ts';
import type { StreamChannel } from './core.ts';
import { encodeStreamRead, encodeStreamRecords, encodeStreamWriteHead, limits, ProtocolError } from './protocol.ts';

/** Hands parts to the socket as they are, without copying; resolves when all of them left. */
export type SendParts = (parts: Uint8Array[]) => Promise<void>;

/** Writes up to this size are gathered: the header of a record costs the client as much as its data. */
const gatherBytesMax = 4096;
const nothing = Buffer.alloc(0);

interface PendingRead {
  readonly kind: 'read';
  readonly buffer: Uint8Array;
  readonly resolve: (count: number) => void;
  readonly reject: (error: Error) => void;
}

interface PendingWrite {
  readonly kind: 'write';
  readonly bytes: number;
}

/**
 * The stream channel of one ioctl. A client answers in the order it was asked, so a queue of what was asked is all the
 * bookkeeping:
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
  readonly #pending: (PendingRead | PendingWrite)[] = [];
  #windowBytes = 0;
  /** Errno of a write that the core has not been told of yet. */
  #unreported = 0;
  #ended = false;
  /** Reads one after the other, and writes too: a buffer larger than a frame must not be interleaved with another. */
  #readTurn: Promise<unknown> = Promise.resolve();
  #writeTurn: Promise<unknown> = Promise.resolve();
  #wake: (() => void) | undefined;
  /** Small writes to one descriptor that go out with what follows, at the latest when the event loop has its turn. */
  #gathered: { readonly fd: number; bytes: Buffer } | undefined;

  constructor(send: SendParts) {
    this.#send = send;
  }

  read(fd: number, buffer: Uint8Array): Promise<number> {
    return this.#inTurn(buffer, (max) => encodeStreamRead(fd, max));
  }

  readRecords(fd: number, buffer: Uint8Array, left: number): Promise<number> {
    return this.#inTurn(buffer, (max) => encodeStreamRecords(fd, max, left));
  }

  #inTurn(buffer: Uint8Array, ask: (max: number) => Buffer): Promise<number> {
    const turn = this.#readTurn.then(() => this.#read(buffer, ask));
    this.#readTurn = turn.catch(() => undefined);
    return turn;
  }

  #read(buffer: Uint8Array, ask: (max: number) => Buffer): Promise<number> {
    if (this.#ended) return Promise.reject(interrupted());
    if (buffer.length === 0) return Promise.resolve(0);
    const room = buffer.subarray(0, limits.streamBytes);
    return new Promise<number>((resolve, reject) => {
      this.#pending.push({ kind: 'read', buffer: room, resolve, reject });
      this.#send([ask(room.length)]).catch(() => undefined);
    });
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
    this.#writeInTurn(gathered.fd, gathered.bytes).catch((error: unknown) => {
      if (!this.#ended && this.#unreported === 0) this.#unreported = errnoOf(error);
    });
  }

  #takeGathered(): { readonly fd: number; readonly bytes: Buffer } | undefined {
    const gathered = this.#gathered;
    this.#gathered = undefined;
    return gathered;
  }

  write(fd: number, buffer: Uint8Array): Promise<void> {
    if (this.#gathered?.fd !== fd) this.#flush();
    return this.#writeInTurn(fd, buffer, this.#takeGathered()?.bytes);
  }

  #writeInTurn(fd: number, buffer: Uint8Array, before?: Buffer): Promise<void> {
    const turn = this.#writeTurn.then(() => this.#write(fd, buffer, before));
    this.#writeTurn = turn.catch(() => undefined);
    return turn;
  }

  async #write(fd: number, buffer: Uint8Array, before: Buffer = nothing): Promise<void> {
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

  /** The error of a write that nobody was told of, 0 if there is none; it counts as reported from here on. */
  takeUnreported(): number {
    const errno = this.#unreported;
    this.#unreported = 0;
    return errno;
  }

  /** The client is gone: whatever waits fails with EINTR, as a system call would. */
  end(): void {
    this.#ended = true;
    for (const pending of this.#pending.splice(0)) {
      if (pending.kind === 'read') pending.reject(interrupted());
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
  roomForData(bytes: number): Uint8Array {
    const head = this.#pending[0];
    if (head?.kind !== 'read') throw new ProtocolError('stream data that nobody asked for');
    if (bytes > head.buffer.length) {
      throw new ProtocolError(`${bytes} bytes of stream data where ${head.buffer.length} were asked for`);
    }
    return head.buffer.subarray(0, bytes);
  }

  /** A STREAM_DATA frame is complete. */
  answerRead(errno: number, count: number): void {
    const head = this.#pending.shift();
    if (head?.kind !== 'read') throw new ProtocolError('stream data that nobody asked for');
    if (errno === 0) head.resolve(count);
    else head.reject(new ErrnoError(errno, 'read of the client'));
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

function interrupted(): ErrnoError {
  return new ErrnoError(Errno.EINTR, 'the client is gone');
}
