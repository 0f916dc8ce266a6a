/** How reads and writes of a descriptor run: `adaptive` unless a test or a measurement forces one way. */
export type IoMode = 'adaptive' | 'sync' | 'async';

const modes: readonly string[] = ['adaptive', 'sync', 'async'] satisfies IoMode[];

/** The mode that ZOW_DEVICE_IO asks for, else `otherwise`. Throws on a word it does not know. */
export function ioModeFromEnvironment(value = process.env.ZOW_DEVICE_IO, otherwise: IoMode = 'adaptive'): IoMode {
  if (value === undefined || value === '') return otherwise;
  if (modes.includes(value)) return value as IoMode;
  throw new Error(`ZOW_DEVICE_IO is ${value}; it can be ${modes.join(', ')}`);
}

/** A call answered from the page cache costs microseconds and half a nanosecond a byte; slower ones waited for a disk. */
const STALL_MS = 0.2;
const STALL_MS_PER_BYTE = 0.5e-6;
/** After a stall of t, calls are asynchronous for 20 t: stalls take at most 5 % of the thread's time. */
const BACKOFF_FACTOR = 20;
const BACKOFF_MS_MAX = 1000;

/**
 * Guesses whether the next synchronous call will be answered from the cache, from how long earlier ones took. One for
 * each direction of a device: a disk that throttles writers still has its reads cached.
 */
export class StallGuard {
  #asyncUntilMs = 0;

  /** Whether a synchronous call may be tried now (milliseconds of `performance.now`). */
  allows(nowMs: number): boolean {
    return nowMs >= this.#asyncUntilMs;
  }

  /** Reports a synchronous call of `bytes`; a slow one closes the way for a time in proportion. */
  ran(startMs: number, endMs: number, bytes: number): void {
    const tookMs = endMs - startMs;
    if (tookMs <= STALL_MS + bytes * STALL_MS_PER_BYTE) return;
    this.#asyncUntilMs = endMs + Math.min(tookMs * BACKOFF_FACTOR, BACKOFF_MS_MAX);
  }
}
