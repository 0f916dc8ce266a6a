import { Errno, ErrnoError } from '../../host/errno.ts';
import type { Window } from '../../host/net/onread.ts';
import type { Wire, WireSink } from '../../host/net/wire.ts';
import type { MemoryProvider } from '../host/volumes/memory.ts';
import type { Random } from './random.ts';

/** How the client's side of the wire behaves. */
export type Manners = 'prompt' | 'slow' | 'deaf';

/**
 * A wire without a socket, to a client of good or bad manners, who takes at least `deafAfter` pieces. It reads into windows
 * as libuv does, or into memory of its own as TLS.
 */
export class FuzzWire implements Wire {
  readonly peer = 'fuzz';
  progress = 0;
  readonly output: Buffer[] = [];
  closed = false;
  readonly #random: Random;
  readonly #manners: Manners;
  readonly #deafAfter: number;
  readonly #sink: () => WireSink;
  /** As libuv with a buffer of the user's: the address of the next read, whatever happens until then. */
  #window: Window | undefined;
  /** As TLS: what is read is in memory of its own. */
  readonly #copies: boolean;
  #paused = true;
  #ending = false;
  #done: (() => void) | undefined;

  constructor(random: Random, manners: Manners, deafAfter: number, sink: () => WireSink) {
    this.#random = random;
    this.#manners = manners;
    this.#deafAfter = deafAfter;
    this.#sink = sink;
    this.#copies = random.once(4);
  }

  #choose(next: Window | undefined): void {
    const last = this.#window;
    if (next?.bytes.length === 0) throw new Error('an empty window');
    next?.of?.lend();
    this.#window = next;
    last?.of?.giveBack();
  }

  get ending(): boolean {
    return this.#ending;
  }

  get paused(): boolean {
    return this.#paused;
  }

  write(pieces: readonly Uint8Array[], done: () => void): void {
    if (this.#done !== undefined) throw new Error('two writes at once');
    if (this.#ending) throw new Error('write after end');
    this.#done = done;
    if (this.closed) {
      this.#finishWrite();
      return;
    }
    const finish = () => {
      if (this.#done !== done) return;
      for (const piece of pieces) {
        if (piece.length === 0) throw new Error('an empty piece: a buffer was given back while it was written');
        this.output.push(Buffer.from(piece));
        this.progress += piece.length;
      }
      this.#finishWrite();
    };
    if (this.#manners === 'deaf' && this.output.length >= this.#deafAfter) return;
    if (this.#manners === 'prompt') process.nextTick(finish);
    else later(this.#random.below(4), finish);
  }

  pause(): void {
    this.#paused = true;
    if (this.#window !== undefined) this.#choose(this.#sink().window());
  }

  resume(): void {
    this.#paused = false;
  }

  /** What the client still sends is read, and dropped. */
  end(): void {
    if (this.#ending) throw new Error('ended twice');
    this.#ending = true;
    this.#paused = false;
    later(this.#random.below(6), () => this.destroy());
  }

  destroy(): void {
    if (this.closed) return;
    this.closed = true;
    this.#paused = true;
    this.#finishWrite();
    later(1, () => {
      this.#choose(undefined);
      this.#sink().closed(undefined);
    });
  }

  /** Delivers up to `length` bytes as a socket would; returns how many were taken. */
  deliver(bytes: Buffer, at: number, length: number): number {
    const sink = this.#sink();
    let n = Math.min(length, bytes.length - at);
    if (this.#copies) {
      if (!sink.received(Buffer.from(bytes.subarray(at, at + n)), n)) this.#paused = true;
    } else {
      if (this.#window === undefined) this.#choose(sink.window());
      const window = this.#window!.bytes as Buffer;
      n = Math.min(n, window.length);
      bytes.copy(window, 0, at, at + n);
      if (!sink.received(window, n)) this.#paused = true;
      this.#choose(sink.window());
    }
    this.progress += n;
    return n;
  }

  #finishWrite(): void {
    const done = this.#done;
    this.#done = undefined;
    done?.();
  }
}

/** After `turns` turns of the event loop. */
export function later(turns: number, action: () => void): void {
  if (turns === 0) setImmediate(action);
  else setImmediate(() => later(turns - 1, action));
}

export const turn = () => new Promise<void>((resolve) => setImmediate(resolve));

/** What is done to the volumes takes some turns now and then, and fails now and then. */
export function trouble(provider: MemoryProvider, random: Random): void {
  for (const volume of provider.volumes.values()) {
    volume.hook = (operation) => {
      if (random.once(40)) throw new ErrnoError(random.pick([Errno.EIO, Errno.ENOSPC]), operation);
      if (!random.once(4)) return undefined;
      return new Promise((resolve) => later(random.below(3), resolve));
    };
  }
}

/** Throws where something is left between two rounds. */
export function nothingLeft(left: Readonly<Record<string, number>>): void {
  if (Object.values(left).some((count) => count !== 0)) throw new Error(`left behind: ${JSON.stringify(left)}`);
}

/** Rejects as `work` does, and with what is thrown or rejected meanwhile and nobody handles. */
export async function handled(work: () => Promise<void>): Promise<void> {
  let broken: unknown;
  const unhandled = (reason: unknown) => {
    broken ??= reason;
  };
  process.on('unhandledRejection', unhandled);
  process.on('uncaughtException', unhandled);
  try {
    await work();
    await turn();
  } finally {
    process.off('unhandledRejection', unhandled);
    process.off('uncaughtException', unhandled);
  }
  if (broken !== undefined) throw new Error('unhandled', { cause: broken });
}
