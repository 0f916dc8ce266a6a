import type { Socket } from 'node:net';
import { Errno, ErrnoError } from '../../errno.ts';
import { Cmd, Magic, NbdErrno, REQUEST_BYTES, TransmissionFlag } from '../../protocols/nbd.ts';
import { Coverage } from './coverage.ts';
import type { NbdExport } from './negotiate.ts';
import { type Pending, Replies } from './replies.ts';
import { type SlowLimit, Slowness } from './slowness.ts';

interface Request extends Pending {
  /** On the clock of the connection, milliseconds. */
  readonly startMs: number;
  resolve(): void;
  reject(error: Error): void;
}

export interface ConnectionOptions {
  /** For messages. */
  readonly name: string;
  readonly ioTimeoutMs: number;
  /** A server that is slower ends it too. */
  readonly slow?: SlowLimit | undefined;
  /** It is of no use any more, and every request of it has failed. Once, also after `close`. */
  onLost(reason: string, how: Loss): void;
}

/** `slow`: it works, and whoever uses it is better off without. */
export type Loss = 'slow' | 'gone';

/** Each of them can be slow alone: a server has what is read in memory, and what is flushed not on its disk. */
const SLOW_KINDS = {
  reads: [Cmd.READ],
  writes: [Cmd.WRITE, Cmd.TRIM, Cmd.WRITE_ZEROES],
  flushes: [Cmd.FLUSH],
} as const;

/** How often it is looked at the oldest request. */
const LOOK_MS = 50;
/** How long a server has to close, after it was told to. */
const LINGER_MS = 1000;

/**
 * The transmission phase. A request ends with what the server answers, or with ENXIO when the connection is lost: closed
 * by the server, cut because of a request without an answer or of an answer that makes no sense, or told to be shut down.
 * Nothing is sent anew: of writes that were not flushed nobody knows then whether they are there.
 */
export class NbdConnection {
  readonly nbdExport: NbdExport;
  readonly #options: ConnectionOptions;
  readonly #socket: Socket;
  readonly #requests = new Map<bigint, Request>();
  readonly #replies: Replies<Request>;
  readonly #looks: NodeJS.Timeout;
  /** By the requests' command. */
  readonly #slowness = new Map<number, Slowness>();
  #lastCookie = 0n;
  #isCorked = false;
  #lost: ErrnoError | undefined;
  #lookedMs = performance.now();
  /**
   * Time in which this process listened: a stop of it, however long, counts for two looks, for a server's answer may wait
   * in the socket.
   */
  #clockMs = 0;

  /** `socket` is paused, and has been negotiated on. */
  constructor(socket: Socket, nbdExport: NbdExport, options: ConnectionOptions) {
    this.nbdExport = nbdExport;
    this.#options = options;
    this.#socket = socket;
    if (options.slow !== undefined) {
      for (const commands of Object.values(SLOW_KINDS)) {
        const slowness = new Slowness(options.slow);
        for (const command of commands) this.#slowness.set(command, slowness);
      }
    }
    this.#replies = new Replies<Request>(
      { find: (cookie) => this.#requests.get(cookie), finished: (cookie, request) => this.#finished(cookie, request) },
      nbdExport.isStructured,
    );
    socket.on('data', (chunk: Buffer) => this.#received(chunk));
    socket.on('error', (error) => this.lose(error.message));
    socket.on('end', () => this.lose('the server closed the connection'));
    socket.on('close', () => this.lose('the connection is closed'));
    this.#looks = setInterval(() => this.#look(), LOOK_MS).unref();
    if (socket.destroyed) setImmediate(() => this.lose('the server closed the connection'));
    else socket.resume();
  }

  has(flag: keyof typeof TransmissionFlag): boolean {
    return (this.nbdExport.flags & TransmissionFlag[flag]) !== 0;
  }

  /** Why it is of no use any more. */
  get lost(): ErrnoError | undefined {
    return this.#lost;
  }

  /**
   * Sends a request; `data` is what a write sends, or where a read goes, and the server's until the promise is settled.
   * Rejects with the server's error, or ENXIO.
   */
  async request(command: number, flags: number, offset: number, length: number, data?: Uint8Array): Promise<void> {
    if (this.#lost !== undefined) throw this.#lost;
    const { promise, resolve, reject } = Promise.withResolvers<void>();
    const isRead = command === Cmd.READ;
    this.#lastCookie += 1n;
    const cookie = this.#lastCookie;
    this.#requests.set(cookie, {
      command,
      offset,
      length,
      buffer: isRead ? data : undefined,
      coverage: isRead ? new Coverage(length) : undefined,
      failure: 0,
      startMs: this.#now(),
      resolve,
      reject,
    });
    this.#cork();
    this.#socket.write(header(command, flags, cookie, offset, length));
    if (!isRead && data !== undefined) this.#socket.write(data);
    return promise;
  }

  /** Tells the server that no more comes, and resolves when it has closed too. What is in flight is lost. */
  async close(): Promise<void> {
    if (this.#lost !== undefined) return;
    const closed = new Promise((resolve) => this.#socket.once('close', resolve));
    this.#socket.end(header(Cmd.DISC, 0, 0n, 0, 0));
    const timer = setTimeout(() => this.#socket.destroy(), LINGER_MS).unref();
    this.#lose('it was closed', 'gone', false);
    await closed;
    clearTimeout(timer);
  }

  /** Ends it; the reason is for people. */
  lose(reason: string): void {
    this.#lose(reason, 'gone', true);
  }

  #lose(reason: string, how: Loss, destroy: boolean): void {
    if (this.#lost !== undefined) return;
    const lost = new ErrnoError(Errno.ENXIO, `${this.#options.name}: ${reason}`);
    this.#lost = lost;
    clearInterval(this.#looks);
    // First: nothing reads the buffers of writes any more when their owner has them back.
    if (destroy) this.#socket.destroy();
    const requests = [...this.#requests.values()];
    this.#requests.clear();
    for (const request of requests) request.reject(lost);
    this.#options.onLost(reason, how);
  }

  /** What is written in one turn leaves together. */
  #cork(): void {
    if (this.#isCorked) return;
    this.#isCorked = true;
    this.#socket.cork();
    process.nextTick(() => {
      this.#isCorked = false;
      this.#socket.uncork();
    });
  }

  #received(chunk: Uint8Array): void {
    if (this.#lost !== undefined) return;
    try {
      this.#replies.received(chunk);
    } catch (error) {
      this.lose((error as Error).message);
    }
  }

  #finished(cookie: bigint, request: Request): void {
    this.#requests.delete(cookie);
    const slowness = this.#slowness.get(request.command);
    if (slowness !== undefined) {
      const now = this.#now();
      slowness.answered(now - request.startMs, now);
    }
    const { failure } = request;
    if (failure === 0) {
      request.resolve();
      return;
    }
    if (failure !== NbdErrno.ESHUTDOWN) {
      request.reject(new ErrnoError(errnoOfWire(failure), `${this.#options.name}: the server says error ${failure}`));
      return;
    }
    request.reject(new ErrnoError(Errno.ENXIO, `${this.#options.name}: the server is shutting down`));
    this.lose('the server is shutting down');
  }

  #now(): number {
    const now = performance.now();
    this.#clockMs += Math.min(now - this.#lookedMs, 2 * LOOK_MS);
    this.#lookedMs = now;
    return this.#clockMs;
  }

  /** The oldest decides: a server that answers others and not this one hangs too. */
  #look(): void {
    const now = this.#now();
    if (this.#slowness.size > 0) this.#lookForSlowness(now);
    const [oldest] = this.#requests.values();
    if (oldest === undefined || now - oldest.startMs < this.#options.ioTimeoutMs) return;
    // In a turn of Node's loop the timers come first, then the sockets, then this.
    setImmediate(() => {
      const [still] = this.#requests.values();
      if (still !== oldest) return;
      this.lose(`a request was not answered for ${Math.round(this.#now() - oldest.startMs)} ms`);
    });
  }

  #lookForSlowness(now: number): void {
    const seen = new Set<Slowness>();
    // The oldest of each kind is enough.
    for (const { command, startMs } of this.#requests.values()) {
      const slowness = this.#slowness.get(command);
      if (slowness === undefined || seen.has(slowness)) continue;
      seen.add(slowness);
      slowness.waits(now - startMs, now);
      if (seen.size === Object.keys(SLOW_KINDS).length) break;
    }
    for (const [kind, [command]] of Object.entries(SLOW_KINDS)) {
      if (this.#slowness.get(command)?.isSlow !== true) continue;
      const { overMs, forMs } = this.#options.slow!;
      this.#lose(`all its ${kind} took longer than ${overMs} ms for ${forMs / 1000} s`, 'slow', true);
      return;
    }
  }
}

function header(command: number, flags: number, cookie: bigint, offset: number, length: number): Buffer {
  const head = Buffer.allocUnsafe(REQUEST_BYTES);
  head.writeUInt32BE(Magic.REQUEST, 0);
  head.writeUInt16BE(flags, 4);
  head.writeUInt16BE(command, 6);
  head.writeBigUInt64BE(cookie, 8);
  head.writeBigUInt64BE(BigInt(offset), 16);
  head.writeUInt32BE(length, 24);
  return head;
}

/** The protocol's numbers are Linux's; others mean nothing in particular. */
function errnoOfWire(failure: number): number {
  const known: readonly number[] = Object.values(NbdErrno);
  return known.includes(failure) ? failure : Errno.EIO;
}
