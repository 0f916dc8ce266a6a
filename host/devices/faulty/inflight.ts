/** The operations of a wrapper that are not over yet: what its close waits for. */
export class InFlight {
  readonly #promises = new Set<Promise<unknown>>();

  /** Returns the same promise, and remembers it until it settles. */
  track<T>(promise: Promise<T>): Promise<T> {
    this.#promises.add(promise);
    const forget = () => this.#promises.delete(promise);
    promise.then(forget, forget);
    return promise;
  }

  /** Resolves when all that is in flight now has settled, whichever way. */
  async settled(): Promise<void> {
    await Promise.allSettled(this.#promises);
  }
}
