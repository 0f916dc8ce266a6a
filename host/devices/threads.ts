import fs from 'node:fs';

/**
 * libuv's threads, on which disks wait. It has four by default, and a disk that does not answer keeps those that it has:
 * nobody else's would ever be read again. So there are many, which cost nothing while they rest, and a disk has its share.
 */
const THREADS = 256;

/** Transfers of one disk that wait on threads at a time: as many as libuv has by default. */
export const THREADS_PER_DISK = 4;

/**
 * Makes them, to be called before anything uses them: libuv makes all at once, when the first is needed. That takes a hundred
 * milliseconds, for which nobody is to wait later. What the environment says of their number goes before.
 */
export function makeThreads(): void {
  process.env.UV_THREADPOOL_SIZE ??= `${THREADS}`;
  fs.stat('/', () => undefined);
}

/** A call of `node:fs` that waits on one of them: `start` is given its callback. */
export function onThread<T>(start: (done: (error: Error | null, value?: T) => void) => void): Promise<T> {
  return new Promise((resolve, reject) => {
    start((error, value) => (error === null || error === undefined ? resolve(value as T) : reject(error)));
  });
}

/** So many tasks at a time, the others in line, first come first served. */
export class Turns {
  readonly #line: (() => void)[] = [];
  #free: number;

  constructor(count: number) {
    this.#free = count;
  }

  /** Begins the task, now or in its turn; `end` is to be called once, when it is over. */
  take(begin: () => void): void {
    if (this.#free === 0) {
      this.#line.push(begin);
      return;
    }
    this.#free -= 1;
    begin();
  }

  end(): void {
    const next = this.#line.shift();
    if (next === undefined) this.#free += 1;
    else next();
  }
}
