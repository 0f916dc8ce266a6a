/**
 * What work depends on, and may end before it: a session, a core. Unlike Promise.race() with a promise of that end,
 * which keeps the result of every work until then, it keeps nothing of what is done.
 */
export class Lifetime {
  readonly #cut = new Set<(error: Error) => void>();
  #end: Error | undefined;

  /** As `work`, or rejects with the reason as soon as this ends. */
  unlessOver<T>(work: Promise<T>): Promise<T> {
    return new Promise<T>((resolve, reject) => {
      if (this.#end !== undefined) reject(this.#end);
      else this.#cut.add(reject);
      work.then(resolve, reject).finally(() => this.#cut.delete(reject));
    });
  }

  /** Ends it, once; all that waits rejects with `reason`. */
  end(reason: Error): void {
    this.#end ??= reason;
    for (const cut of this.#cut) cut(this.#end);
    this.#cut.clear();
  }
}
