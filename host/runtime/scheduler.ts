import { performance } from 'node:perf_hooks';
import { assert } from '../assert.ts';
import type { LibcExports, LibcImports } from './seam.ts';

export interface SchedulerOptions {
  /**
   * A fiber ended by a trap, or the module's half did when the host called it (0): the module's state is undefined from
   * here on.
   */
  readonly onTrap: (fiber: number, error: unknown) => void;
  /** How a fiber is called. Default: by its number. */
  readonly nameOf?: (fiber: number) => string;
  /** How long fibers run before the event loop gets a turn, in microseconds. */
  readonly sliceMicroseconds?: number;
}

/** How long fibers ran without the event loop having its turn, by the clock, and which of them ran last. */
export interface Turn {
  readonly ms: number;
  /** Its name; empty: none ran yet. */
  readonly fiber: string;
}

/** Thrown through a fiber's frames by `fiber-unwind`: the fiber ended itself. */
class FiberExit {}
const fiberExit = new FiberExit();

/** At most so many switches between two looks at the clock: a look costs a tenth of a switch. */
const switchesPerLookMax = 8;
/** The part of a slice that may pass between two looks. */
const looksPerSlice = 4;
/** The longest timer Node takes, and a bound on being wrong about the clock. */
const sleepMsMax = 60_000;

/**
 * JavaScript's half of the fibers (wasm/libc/fiber.h): run queue, timers and wait queues live in C, JavaScript only
 * switches. A blocked fiber is an import that returned a promise; switching to it is resolving that promise, and V8
 * resumes it in the next microtask. Exactly one fiber is runnable at any time:
 *
 *           switch(self, next)                    timer, completion → kick()
 *   fiber ─────────────────────→ resume(next)            │
 *     │     next = 0: nothing is ready → idle ←──────────┘ → resume(fiber-next())
 *     └── the slice is over → setImmediate → resume(next)
 */
export class Scheduler {
  #exports!: LibcExports;
  #start!: (id: number) => Promise<void>;
  /** What resumes each fiber that is not running: its first activation, or its pending switch. */
  readonly #resume: ((() => void) | undefined)[] = [];
  readonly #options: SchedulerOptions;
  readonly #sliceMs: number;
  #idle = true;
  #stopped = false;
  #kickQueued = false;
  #sliceEnd = 0;
  /** When the clock was last looked at, the switches since, and how many there shall be. */
  #lookedAt = 0;
  #switches = 0;
  #switchesPerLook = 1;
  #turnStart = 0;
  #longestTurn: Turn = { ms: 0, fiber: '' };
  #timer: NodeJS.Timeout | undefined;
  #timerAt = Number.POSITIVE_INFINITY;
  /** The resolver of the promise that was just made: `new Promise` calls its executor at once. */
  #resolver: (() => void) | undefined;
  readonly #executor = (resolve: () => void): void => {
    this.#resolver = resolve;
  };
  readonly #onImmediate = (): void => {
    if (this.#stopped) return;
    try {
      this.#startSlice();
      this.#exports['fiber-timers']();
      this.#go(this.#pending);
    } catch (error) {
      this.#options.onTrap(0, error);
    }
  };
  readonly #onTimer = (): void => {
    this.#timer = undefined;
    this.#timerAt = Number.POSITIVE_INFINITY;
    if (this.#idle) this.#wake();
  };
  readonly #onKick = (): void => {
    this.#kickQueued = false;
    if (this.#idle) this.#wake();
  };
  #pending = 0;

  constructor(options: SchedulerOptions) {
    this.#options = options;
    this.#sliceMs = (options.sliceMicroseconds ?? 500) / 1000;
  }

  /** The imports of fiber.c. */
  get imports(): Omit<LibcImports, 'panic' | 'random'> {
    return {
      'fiber-switch': new WebAssembly.Suspending((self: number, next: number) => {
        const promise = new Promise<void>(this.#executor);
        if (this.#resume[self] !== undefined) assert(false, `fiber ${self} waits twice`);
        this.#resume[self] = this.#resolver;
        this.#dispatch(self, next);
        return promise;
      }),
      'fiber-spawn': (id: number) => {
        this.#resume[id] = () => this.#activate(id);
      },
      'fiber-exiting': (self: number, next: number) => this.#dispatch(self, next),
      'fiber-unwind': () => {
        throw fiberExit;
      },
      now: () => performance.now() * 1e6,
    };
  }

  attach(exports: LibcExports): void {
    this.#exports = exports;
    this.#start = WebAssembly.promising(exports['fiber-start']);
  }

  /** Completes the I/O whose number an import got. Any other number ends the module. After that nothing happens. */
  complete(number: number, result: number): void {
    if (this.#stopped) return;
    try {
      this.#exports['fiber-complete'](number, result);
    } catch (error) {
      this.#options.onTrap(0, error);
      return;
    }
    this.kick();
  }

  /** Something outside made a fiber ready: let it run soon. */
  kick(): void {
    if (!this.#idle || this.#kickQueued || this.#stopped) return;
    this.#kickQueued = true;
    queueMicrotask(this.#onKick);
  }

  /** The longest since the start: what every socket and disk waited for at least once. */
  get longestTurn(): Turn {
    return this.#longestTurn;
  }

  /** No fiber runs from here on, and the module's half is not called. */
  stop(): void {
    this.#stopped = true;
    clearTimeout(this.#timer);
  }

  #activate(id: number): void {
    queueMicrotask(() => {
      this.#start(id).then(undefined, (error: unknown) => {
        if (error !== fiberExit) this.#options.onTrap(id, error);
        else if (!this.#stopped) this.#unwound(id);
      });
    });
  }

  #unwound(id: number): void {
    try {
      this.#exports['fiber-unwound'](id);
    } catch (error) {
      this.#options.onTrap(id, error);
    }
  }

  #go(id: number): void {
    if (this.#stopped) return;
    const resume = this.#resume[id];
    assert(resume !== undefined, `fiber ${id} is resumed that waits for nothing`);
    this.#resume[id] = undefined;
    resume();
  }

  #dispatch(self: number, next: number): void {
    if (next === 0) next = this.#idleOrNext();
    if (next === 0) {
      this.#endTurn(self, performance.now());
      return;
    }
    if (++this.#switches >= this.#switchesPerLook && this.#isSliceOver()) {
      this.#endTurn(self, this.#lookedAt);
      this.#pending = next;
      setImmediate(this.#onImmediate);
      return;
    }
    this.#go(next);
  }

  #endTurn(fiber: number, now: number): void {
    const ms = now - this.#turnStart;
    if (ms <= this.#longestTurn.ms) return;
    this.#longestTurn = { ms, fiber: this.#options.nameOf?.(fiber) ?? `${fiber}` };
  }

  #startSlice(): void {
    this.#lookedAt = performance.now();
    this.#turnStart = this.#lookedAt;
    this.#sliceEnd = this.#lookedAt + this.#sliceMs;
    this.#switches = 0;
  }

  /** Looks at the clock; the longer fibers compute between switches, the sooner again. */
  #isSliceOver(): boolean {
    const now = performance.now();
    const switchMs = (now - this.#lookedAt) / this.#switches;
    const affordable = Math.floor(this.#sliceMs / looksPerSlice / switchMs);
    this.#switchesPerLook = Math.max(1, Math.min(switchesPerLookMax, affordable));
    this.#lookedAt = now;
    this.#switches = 0;
    return now > this.#sliceEnd;
  }

  /** Nothing is ready: what the timers make ready, or 0 and idle until the next timer or completion. */
  #idleOrNext(): number {
    if (this.#stopped) return 0;
    const ns = this.#exports['fiber-timers']();
    const next = this.#exports['fiber-next']();
    this.#idle = next === 0;
    if (this.#idle && ns >= 0) this.#armTimer(ns);
    return next;
  }

  /** From idle, in a turn of the event loop. */
  #wake(): void {
    if (this.#stopped) return;
    try {
      const next = this.#idleOrNext();
      if (next === 0) return;
      this.#startSlice();
      this.#go(next);
    } catch (error) {
      this.#options.onTrap(0, error);
    }
  }

  #armTimer(ns: number): void {
    const delay = Math.min(sleepMsMax, Math.max(1, Math.ceil(ns / 1e6)));
    const at = performance.now() + delay;
    if (this.#timer !== undefined) {
      // A timer that fires a little early looks again; one too late would not do.
      if (this.#timerAt <= at + 0.5) return;
      clearTimeout(this.#timer);
    }
    this.#timerAt = at;
    this.#timer = setTimeout(this.#onTimer, delay);
  }
}
