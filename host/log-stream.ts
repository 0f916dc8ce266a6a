import { linuxFfi } from './ffi.ts';
import { print } from './print.ts';

/** What a pipe takes at once, if it takes anything (PIPE_BUF). */
const PIECE_BYTES = 4096;
/** What is kept for a reader that is slow, bytes; what comes beyond is dropped. */
const KEPT_BYTES = 1024 * 1024;
const RETRY_MS = 50;
/** How long the reader has at the end of the process for each piece, milliseconds. */
const LAST_MS = 100;
const POLLOUT = 4;

/**
 * Lines to a file descriptor, each before write() returns where that needs no waiting: a line that is written before a crash is there
 * after it. A pipe that nobody reads, or a terminal that was stopped, keeps its lines waiting, and nobody else; those that are too many
 * are dropped, and counted.
 */
export class LogStream {
  readonly #fd: 1 | 2;
  readonly #dropped: (lines: number) => void;
  readonly #kept: Buffer[] = [];
  #keptBytes = 0;
  #lost = 0;
  #timer: NodeJS.Timeout | undefined;
  #isWritable: ((waitMs: number) => boolean) | undefined;

  /** `dropped` is told how many lines were, when the reader reads again. */
  constructor(fd: 1 | 2, dropped: (lines: number) => void) {
    this.#fd = fd;
    this.#dropped = dropped;
  }

  write(line: string): void {
    if (this.#keptBytes === 0 && line.length <= PIECE_BYTES / 4 && this.#mayWrite(0)) {
      print(this.#fd, line);
      return;
    }
    const bytes = Buffer.from(line);
    if (this.#keptBytes + bytes.length > KEPT_BYTES) {
      this.#lost++;
      return;
    }
    this.#kept.push(bytes);
    this.#keptBytes += bytes.length;
    this.#flush(0);
  }

  #mayWrite(waitMs: number): boolean {
    if (this.#isWritable === undefined) {
      this.#isWritable = pollOf(this.#fd);
      process.once('exit', () => this.#flush(LAST_MS));
    }
    return this.#isWritable(waitMs);
  }

  #flush(waitMs: number): void {
    while (this.#keptBytes > 0 && this.#mayWrite(waitMs)) {
      const [first] = this.#kept as [Buffer];
      const piece = first.subarray(0, PIECE_BYTES);
      // A reader that has gone will read nothing any more.
      print(this.#fd, piece);
      this.#keptBytes -= piece.length;
      if (piece.length === first.length) this.#kept.shift();
      else this.#kept[0] = first.subarray(piece.length);
    }
    if (this.#keptBytes > 0) {
      this.#timer ??= setTimeout(() => {
        this.#timer = undefined;
        this.#flush(0);
      }, RETRY_MS).unref();
    } else if (this.#lost > 0) {
      const lines = this.#lost;
      this.#lost = 0;
      this.#dropped(lines);
    }
  }
}

/** poll(2) for writing. Where it is not to be had, writing waits, as it does everywhere else. */
function pollOf(fd: number): (waitMs: number) => boolean {
  const ffi = linuxFfi();
  if (ffi === undefined) return () => true;
  const { functions: libc } = ffi.dlopen(null, { poll: { arguments: ['pointer', 'u64', 'i32'], return: 'i32' } });
  // struct pollfd: the descriptor, and 16 bits each of what is asked for and what there is.
  const pollfd = new Int32Array([fd, POLLOUT]);
  const at = ffi.getRawPointer(pollfd.buffer);
  return (waitMs) => {
    pollfd[1] = POLLOUT;
    // Also an error, or a hangup: then writing does not wait, and says it.
    return libc.poll(at, 1n, waitMs) !== 0;
  };
}
