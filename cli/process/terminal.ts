import { spawnSync } from 'node:child_process';
import tty from 'node:tty';
import { Errno } from '../../host/errno.ts';
import { ioPending, type Seam } from '../../host/runtime/seam.ts';
import type { Process } from './process.ts';

interface Reader {
  readonly fiber: number;
  readonly address: number;
  readonly length: number;
}

/**
 * The imports of wasm/program/terminal.c. The operating system edits lines and echoes; Node puts the terminal back as it
 * was however the process ends.
 */
export class Terminal {
  readonly #process: Process;
  #input: tty.ReadStream | undefined;
  #arrived: Buffer = Buffer.alloc(0);
  #ended = false;
  #reader: Reader | undefined;

  constructor(process: Process) {
    this.#process = process;
  }

  get imports(): Seam['terminal'] {
    return {
      'terminal-size': (fd) => {
        const file = this.#process.wasi.nodeFd(fd);
        if (file === undefined || !tty.isatty(file)) return -Errno.ENOTTY;
        const { rows = 0, columns = 0 } = file === 1 ? process.stdout : file === 2 ? process.stderr : {};
        return rows * 65536 + columns;
      },
      'terminal-echo': (fd, on) => {
        const file = this.#process.wasi.nodeFd(fd);
        // Node has raw mode and nothing else; stty is wherever a terminal is.
        const { status } = spawnSync('stty', [on ? 'echo' : '-echo'], { stdio: [file, 'ignore', 'ignore'] });
        return status === 0 ? 0 : -Errno.ENOTTY;
      },
      'terminal-read': (fiber, _fd, address, length) => {
        const reader = { fiber, address, length };
        if (this.#arrived.length > 0) return this.#take(reader);
        if (this.#ended) return 0;
        this.#reader = reader;
        this.#listen().resume();
        return ioPending;
      },
    };
  }

  /** A signal was handled: a read that waits ends with EINTR. */
  interrupt(): void {
    this.#complete(() => -Errno.EINTR);
  }

  #listen(): tty.ReadStream {
    if (this.#input !== undefined) return this.#input;
    const input = new tty.ReadStream(0);
    this.#input = input;
    input.on('data', (bytes: Buffer) => {
      input.pause();
      this.#arrived = Buffer.concat([this.#arrived, bytes]);
      this.#complete((reader) => this.#take(reader));
    });
    const end = (): void => {
      this.#ended = true;
      this.#complete(() => 0);
    };
    input.on('end', end);
    input.on('error', end);
    return input;
  }

  #complete(result: (reader: Reader) => number): void {
    const reader = this.#reader;
    if (reader === undefined) return;
    this.#reader = undefined;
    this.#input?.pause();
    this.#process.scheduler.complete(reader.fiber, result(reader));
  }

  #take({ address, length }: Reader): number {
    const bytes = this.#arrived.subarray(0, length);
    this.#process.memory.view(address, bytes.length).set(bytes);
    this.#arrived = this.#arrived.subarray(bytes.length);
    return bytes.length;
  }
}
