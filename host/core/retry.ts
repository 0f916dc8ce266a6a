/** How often is looked whether there is memory again, milliseconds. */
const periodMs = 5;

/**
 * Who found the core without memory and tries again, in turn: it frees some as requests end and the ARC shrinks, which
 * nobody tells.
 */
export class Retry {
  readonly #waiting: (() => boolean)[] = [];
  #timer: NodeJS.Timeout | undefined;

  /** Runs `attempt` now, or behind those who wait; again and again until it returns true. */
  run(attempt: () => boolean): void {
    if (this.#waiting.length === 0 && attempt()) return;
    this.#waiting.push(attempt);
    this.#timer ??= setInterval(() => this.#serve(), periodMs);
  }

  /** Forgets everybody. */
  clear(): void {
    this.#waiting.length = 0;
    this.#serve();
  }

  #serve(): void {
    while (this.#waiting[0]?.() === true) this.#waiting.shift();
    if (this.#waiting.length > 0) return;
    clearInterval(this.#timer);
    this.#timer = undefined;
  }
}
