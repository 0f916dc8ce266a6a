/** Requests under way in the core, by the number it knows them by. */
export class Requests<T> {
  readonly #open = new Map<number, T>();
  #last = 0;

  /** Registers a request and returns its number, > 0. */
  add(request: T): number {
    do {
      this.#last = (this.#last + 1) & 0x3fffffff || 1;
    } while (this.#open.has(this.#last));
    this.#open.set(this.#last, request);
    return this.#last;
  }

  get(id: number): T | undefined {
    return this.#open.get(id);
  }

  /** The request, which is over. */
  take(id: number): T {
    const request = this.#open.get(id);
    if (request === undefined) throw new Error(`the core completes request ${id}, which is not open`);
    this.#open.delete(id);
    return request;
  }

  /** All of them, which are over. */
  drain(): T[] {
    const all = [...this.#open.values()];
    this.#open.clear();
    return all;
  }
}
