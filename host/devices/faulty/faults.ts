import fs from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import { ErrnoError } from '../../errno.ts';
import type { Device, MaybePromise } from '../device.ts';
import { closedError } from '../range.ts';
import { type Call, DeviceWrapper, type Operation } from '../wrapper.ts';
import { InFlight } from './inflight.ts';

/**
 * Faulty disks, as wrappers around any disk; they stack. Each states its fault model. `volatile.ts` has the one that
 * loses power, `faultspec.ts` puts them into a real host.
 */

/** When a fault strikes: every condition given must hold. Bytes and offsets refer to the operation's range. */
export interface FaultCondition {
  /** Default: all. */
  readonly operations?: readonly Operation[];
  /** 0 to 1, from a generator of its own with `seed`, so that a run can be repeated. Default: always. */
  readonly probability?: number;
  readonly seed?: number;
  /** Only the n-th operation that meets the other conditions, from 1. */
  readonly nth?: number;
  /** At most so many times. */
  readonly times?: number;
  /** Ranges that touch [from, to). A flush has no range and is not limited by these. */
  readonly from?: number;
  readonly to?: number;
  /** Only while a file of this path exists: a switch for tests of another process. */
  readonly whileExists?: string;
}

/** Decides; `enabled` is the switch at run time, `strikes` counts. */
export class FaultTrigger {
  enabled = true;
  /** How often it struck. */
  strikes = 0;
  readonly #condition: FaultCondition;
  readonly #random: () => number;
  #candidates = 0;

  constructor(condition: FaultCondition = {}) {
    this.#condition = condition;
    this.#random = seededRandom(condition.seed ?? 1);
  }

  /** Asked once for each operation. */
  hits(call: Call): boolean {
    const { probability = 1, nth, times = Number.POSITIVE_INFINITY } = this.#condition;
    if (!this.enabled || !this.#matches(call)) return false;
    this.#candidates += 1;
    if (nth !== undefined && this.#candidates !== nth) return false;
    if (this.strikes >= times || this.#random() >= probability) return false;
    this.strikes += 1;
    return true;
  }

  #matches({ operation, offset, length }: Call): boolean {
    const { operations, from = 0, to = Number.POSITIVE_INFINITY, whileExists } = this.#condition;
    if (operations !== undefined && !operations.includes(operation)) return false;
    if (operation !== 'flush' && (offset >= to || offset + length <= from)) return false;
    return whileExists === undefined || fs.existsSync(whileExists);
  }
}

/** Mulberry32: numbers in [0, 1) that only depend on the seed. */
export function seededRandom(seed: number): () => number {
  let state = seed | 0;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
}

/**
 * Model: a struck operation fails with `errno` before anything was transferred. After a failed flush every later flush
 * and write fails too, as of the contract.
 */
export class ErrorDevice extends DeviceWrapper {
  readonly trigger: FaultTrigger;
  readonly #errno: number;
  #flushFailed = false;

  constructor(inner: Device, trigger: FaultTrigger, errno: number) {
    super(inner);
    this.trigger = trigger;
    this.#errno = errno;
  }

  protected override around<T>(call: Call, run: () => MaybePromise<T>): MaybePromise<T> {
    const flush = call.operation === 'flush';
    const doomed = this.#flushFailed && (flush || call.operation === 'write');
    if (!this.trigger.hits(call) && !doomed) return run();
    this.#flushFailed ||= flush;
    const { operation, offset, length } = call;
    throw new ErrnoError(this.#errno, `${this.name}: injected fault: ${operation} of ${length} bytes at ${offset}`);
  }
}

/** Model: a struck operation takes effect after a wait, then is acknowledged; others overtake it. */
export class DelayDevice extends DeviceWrapper {
  readonly trigger: FaultTrigger;
  readonly #wait: () => Promise<void>;
  readonly #delayed = new InFlight();
  #closed = false;

  /** `wait`: milliseconds, or what resolves when the wait is over. */
  constructor(inner: Device, trigger: FaultTrigger, wait: number | (() => Promise<void>)) {
    super(inner);
    this.trigger = trigger;
    this.#wait = typeof wait === 'function' ? wait : () => sleep(wait);
  }

  protected override around<T>(call: Call, run: () => MaybePromise<T>): MaybePromise<T> {
    if (this.#closed) throw closedError(this.name);
    if (!this.trigger.hits(call)) return run();
    return this.#delayed.track(this.#wait().then(run));
  }

  override async close(): Promise<void> {
    this.#closed = true;
    await this.#delayed.settled();
    await this.inner.close();
  }
}

/**
 * Model: a struck read or write of more than `alignBytes` transfers only a beginning of it, of a random length of whole
 * `alignBytes`, at least one. It reports that length, and the rest is untouched.
 */
export class ShortDevice extends DeviceWrapper {
  readonly trigger: FaultTrigger;
  readonly #alignBytes: number;
  readonly #random: () => number;

  constructor(inner: Device, trigger: FaultTrigger, alignBytes = 1, seed = 1) {
    super(inner);
    this.trigger = trigger;
    this.#alignBytes = alignBytes;
    this.#random = seededRandom(seed);
  }

  override read(buffer: Uint8Array, offset: number): MaybePromise<number> {
    return this.inner.read(this.#cut('read', buffer, offset), offset);
  }

  override write(buffer: Uint8Array, offset: number): MaybePromise<number> {
    return this.inner.write(this.#cut('write', buffer, offset), offset);
  }

  #cut(operation: Operation, buffer: Uint8Array, offset: number): Uint8Array {
    const units = Math.ceil(buffer.byteLength / this.#alignBytes);
    if (units < 2 || !this.trigger.hits({ operation, offset, length: buffer.byteLength })) return buffer;
    const kept = 1 + Math.floor(this.#random() * (units - 1));
    return buffer.subarray(0, kept * this.#alignBytes);
  }
}
