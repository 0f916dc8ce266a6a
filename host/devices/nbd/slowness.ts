/** What a disk may not be for long. */
export interface SlowLimit {
  /** Each request takes longer than this, milliseconds, */
  readonly overMs: number;
  /** for so long. */
  readonly forMs: number;
}

/** Whether requests of one kind have all been slow for a time. One that is not ends it; when none is made, so does the time. */
export class Slowness {
  readonly #limit: SlowLimit;
  /** Since when each is slow. */
  #sinceMs: number | undefined;
  /** When one was last. */
  #lastMs = 0;

  constructor(limit: SlowLimit) {
    this.#limit = limit;
  }

  /** A request has been answered. */
  answered(tookMs: number, nowMs: number): void {
    if (tookMs <= this.#limit.overMs) this.#sinceMs = undefined;
    else this.waits(tookMs, nowMs);
  }

  /** A request is not answered yet. */
  waits(tookMs: number, nowMs: number): void {
    const { overMs, forMs } = this.#limit;
    if (tookMs <= overMs) return;
    // Nobody asked in between.
    if (nowMs - this.#lastMs > forMs) this.#sinceMs = undefined;
    this.#sinceMs ??= nowMs - tookMs + overMs;
    this.#lastMs = nowMs;
  }

  /** Whether it is too slow now. */
  get isSlow(): boolean {
    return this.#sinceMs !== undefined && this.#lastMs - this.#sinceMs >= this.#limit.forMs;
  }
}
