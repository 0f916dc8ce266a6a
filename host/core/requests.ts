import { Errno, ErrnoError } from '../errno.ts';
import { Retry } from './retry.ts';

/** A request that the core carries out, and whoever waits for it. */
interface Waiter {
  readonly reject: (error: Error) => void;
}

export interface SubmitOptions<T> {
  readonly request: T;
  /** For the error: what was asked. */
  readonly what: string;
  /** Hands it to the core under this number: 0 or -errno. */
  readonly start: (id: number) => number;
  /** The core may have no memory for it now: then it waits, behind those who wait already. */
  readonly isPatient: boolean;
}

/** Requests under way in the core, by the number it knows them by. After the core's end each is rejected at once. */
export class Requests<T extends Waiter> {
  readonly #open = new Map<number, T>();
  readonly #kick: () => void;
  readonly #starved: Retry;
  #last = 0;
  #ended: Error | undefined;

  /** `kick` lets the core run. Requests of several kinds that wait for memory in turn share a `Retry`. */
  constructor(kick: () => void, starved = new Retry()) {
    this.#kick = kick;
    this.#starved = starved;
  }

  /** Registers a request, and starts it. */
  submit({ request, what, start, isPatient }: SubmitOptions<T>): void {
    if (this.#ended !== undefined) {
      request.reject(this.#ended);
      return;
    }
    const id = this.#add(request);
    const attempt = (): boolean => {
      let error: number;
      try {
        error = -start(id);
      } catch (thrown) {
        this.#fail(id, thrown as Error);
        return true;
      }
      if (error === Errno.ENOMEM && isPatient) return false;
      if (error !== 0) this.#fail(id, new ErrnoError(error, what));
      this.#kick();
      return true;
    };
    if (isPatient) this.#starved.run(attempt);
    else attempt();
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

  /** The core is gone: all fail, and all that come. */
  end(error: Error): void {
    this.#ended ??= error;
    this.#starved.clear();
    const all = [...this.#open.values()];
    this.#open.clear();
    for (const request of all) request.reject(error);
  }

  /** A number that no other request has, > 0. */
  #add(request: T): number {
    do {
      this.#last = (this.#last + 1) & 0x3fffffff || 1;
    } while (this.#open.has(this.#last));
    this.#open.set(this.#last, request);
    return this.#last;
  }

  /** It may have been rejected already, by the end. */
  #fail(id: number, error: Error): void {
    const request = this.#open.get(id);
    this.#open.delete(id);
    request?.reject(error);
  }
}
