import type { Queries } from './queries.ts';
import type { DatasetSample, DatasetsSample, SnapshotSample } from './sample.ts';

/** Datasets and volumes of one pool that are told. */
export const DATASETS_MAX = 2_000;
/** Their snapshots, where those are told, and those of one of them. */
const SNAPSHOTS_MAX = 2_000;
const OF_ONE_MAX = 200;
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
  readonly #withSnapshots: boolean;
  #ended = false;

  constructor(pool: string, queries: Queries, withSnapshots = false) {
    this.#pool = pool;
    this.#queries = queries;
    this.#withSnapshots = withSnapshots;
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

  /** What is known is asked again next time. */
  forget(): void {
    this.#foundAt = Math.min(this.#foundAt, performance.now() - AGAIN_MS - 1);
  }

  /** The pool is gone. */
  end(): void {
    this.#ended = true;
  }

  async #look(): Promise<void> {
    const started = performance.now();
    const datasets = [await this.#queries.dataset(this.#pool)];
    const snapshots: SnapshotSample[] = [];
    const rest = new Rest();
    let leftOut = await this.#takeSnapshots(this.#pool, snapshots, rest);
    // Depth first, with an explicit stack: names nest 50 deep.
    const open = [{ name: this.#pool, cookie: 0n }];
    for (
      let last = open.at(-1);
      last !== undefined && datasets.length < DATASETS_MAX && !this.#ended;
      last = open.at(-1)
    ) {
      const next = await this.#queries.nextChild(last.name, last.cookie);
      await rest.after();
      if (next === undefined) {
        open.pop();
        continue;
      }
      last.cookie = next.cookie;
      if (!this.#take(next.dataset, datasets, open)) continue;
      if (await this.#takeSnapshots(next.dataset.name, snapshots, rest)) leftOut = true;
    }
    this.#found = { at: Date.now() / 1000, datasets, snapshots, leftOut: leftOut || open.length > 0 };
    this.#foundAt = started;
  }

  /** Returns whether there are more. */
  async #takeSnapshots(dataset: string, snapshots: SnapshotSample[], rest: Rest): Promise<boolean> {
    if (!this.#withSnapshots) return false;
    let cookie = 0n;
    for (let i = 0; !this.#ended; i++) {
      const next = await this.#queries.nextSnapshot(dataset, cookie);
      await rest.after();
      if (next === undefined) return false;
      if (i === OF_ONE_MAX || snapshots.length === SNAPSHOTS_MAX) return true;
      cookie = next.cookie;
      snapshots.push(next.snapshot);
    }
    return true;
  }

  /** Returns whether it is one. */
  #take(dataset: DatasetSample, datasets: DatasetSample[], open: { name: string; cookie: bigint }[]): boolean {
    // `$ORIGIN` and its kin, and what a receive makes beside a dataset.
    if (/[$%]/.test(dataset.name)) return false;
    datasets.push(dataset);
    if (!dataset.isVolume) open.push({ name: dataset.name, cookie: 0n });
    return true;
  }
}

/** Leaves the core to others between batches of questions. */
class Rest {
  #asked = 0;
  #batchStart = performance.now();

  /** A question. */
  async after(): Promise<void> {
    if (++this.#asked < BATCH) return;
    this.#asked = 0;
    const restMs = Math.min(REST_MS_MAX, (performance.now() - this.#batchStart) * REST);
    await new Promise((resolve) => setTimeout(resolve, restMs));
    this.#batchStart = performance.now();
  }
}
