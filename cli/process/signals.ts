import { constants } from 'node:os';
import { ioPending, type Seam } from '../../host/runtime/seam.ts';
import type { Process } from './process.ts';

/** disposition_t of wasm/program/signal.c. */
const signalDefault = 0;
const signalIgnore = 2;

const names = new Map(Object.entries(constants.signals).map(([name, number]) => [number, name as NodeJS.Signals]));

/** The imports of wasm/program/signal.c: signals that the program handles or ignores. Numbers are the platform's. */
export class Signals {
  readonly #process: Process;
  /** Called when the handler of a signal has run. */
  readonly #onHandled: (signal: NodeJS.Signals | undefined) => void;
  readonly #listeners = new Map<number, () => void>();
  readonly #ignored = new Set<number>();
  readonly #arrived: number[] = [];
  #waiting = 0;
  #handled: NodeJS.Signals | undefined;

  constructor(process: Process, onHandled: (signal: NodeJS.Signals | undefined) => void) {
    this.#process = process;
    this.#onHandled = onHandled;
  }

  get imports(): Seam['signals'] {
    return {
      'signal-handle': (signal, disposition) => {
        this.#handle(signal, disposition);
        return 0;
      },
      'signal-next': (fiber) => {
        const signal = this.#arrived.shift();
        if (signal !== undefined) return this.#deliver(signal);
        this.#waiting = fiber;
        return ioPending;
      },
      'signal-done': () => this.#onHandled(this.#handled),
      'signal-raise': (signal) => {
        process.kill(process.pid, signal);
        return 0;
      },
    };
  }

  isIgnored(name: NodeJS.Signals): boolean {
    return this.#ignored.has(constants.signals[name]);
  }

  #handle(signal: number, disposition: number): void {
    const name = names.get(signal);
    if (name === undefined) return;
    const listener = this.#listeners.get(signal);
    if (listener !== undefined) process.off(name, listener);
    this.#listeners.delete(signal);
    this.#ignored.delete(signal);
    if (disposition === signalDefault) return;
    if (disposition === signalIgnore) this.#ignored.add(signal);
    // Node ignores SIGPIPE by itself; some cannot be listened to, which are those of its own crashes.
    if (name === 'SIGPIPE' || name === 'SIGSEGV' || name === 'SIGABRT') return;
    const next = disposition === signalIgnore ? () => {} : () => this.#arrive(signal);
    this.#listeners.set(signal, next);
    process.on(name, next);
  }

  #arrive(signal: number): void {
    const fiber = this.#waiting;
    if (fiber === 0) {
      this.#arrived.push(signal);
      return;
    }
    this.#waiting = 0;
    this.#process.scheduler.complete(fiber, this.#deliver(signal));
  }

  #deliver(signal: number): number {
    this.#handled = names.get(signal);
    return signal;
  }
}
