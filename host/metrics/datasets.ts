import type { Queries } from './queries.ts';
import type { DatasetSample, DatasetsSample } from './sample.ts';

/** Datasets and volumes of one pool that are told. */
export const DATASETS_MAX = 2_000;
/** After so long they are asked again, when somebody wants to know; after so long what was told is not told any more. */
const AGAIN_MS = 10_000;
const TOO_OLD_MS = 120_000;
/** So many are asked in a row; then nobody is, for so many times as long as that took, and so many milliseconds at most. */
const BATCH = 20;
const REST = 9;
const REST_MS_MAX = 100;

/**
 * Space and use of the datasets of a pool. The core has to be asked for each of them, so that is done beside whoever wants
 * to know, a few at a time; who asks gets what was found last, with its time.
 */
export class Datasets {
  readonly #pool: string;
  readonly #queries: Queries;
  #found: DatasetsSample | undefined;
  #foundAt = Number.NEGATIVE_INFINITY;
  #running: Promise<void> | undefined;
  #ended = false;

  constructor(pool: string, queries: Queries) {
    this.#pool = pool;
    this.#queries = queries;
  }

  /** What is known; undefined: nothing, or it is too old. Has it looked for again where it is time. */
  get(): DatasetsSample | undefined {
    const age = performance.now() - this.#foundAt;
    if (age > AGAIN_MS) this.look();
    return age > TOO_OLD_MS ? undefined : this.#found;
  }

  /** Resolves when those that are asked now are known, or could not be. */
  look(): Promise<void> {
    this.#running ??= this.#look()
      .catch(() => undefined)
      .finally(() => {
        this.#running = undefined;
      });
    return this.#running;
  }

  /** The pool is gone. */
  end(): void {
    this.#ended = true;
  }

  async #look(): Promise<void> {
    const started = performance.now();
    const datasets = [await this.#queries.dataset(this.#pool)];
    let batchStart = performance.now();
    // Depth first, with an explicit stack: names nest 50 deep.
    const open = [{ name: this.#pool, cookie: 0n }];
    for (
      let last = open.at(-1);
      last !== undefined && datasets.length < DATASETS_MAX && !this.#ended;
      last = open.at(-1)
    ) {
      const next = await this.#queries.nextChild(last.name, last.cookie);
      if (next === undefined) {
        open.pop();
        continue;
      }
      last.cookie = next.cookie;
      this.#take(next.dataset, datasets, open);
      if (datasets.length % BATCH !== 0) continue;
      const restMs = Math.min(REST_MS_MAX, (performance.now() - batchStart) * REST);
      await new Promise((resolve) => setTimeout(resolve, restMs));
      batchStart = performance.now();
    }
    this.#found = { at: Date.now() / 1000, datasets, leftOut: open.length > 0 };
    this.#foundAt = started;
  }

  #take(dataset: DatasetSample, datasets: DatasetSample[], open: { name: string; cookie: bigint }[]): void {
    // `$ORIGIN` and its kin, and what a receive makes beside a dataset.
    if (/[$%]/.test(dataset.name)) return;
    datasets.push(dataset);
    if (!dataset.isVolume) open.push({ name: dataset.name, cookie: 0n });
  }
}
