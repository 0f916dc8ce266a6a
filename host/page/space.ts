import type { IoctlCore } from '../core/dev-zfs.ts';
import { Datasets } from '../metrics/datasets.ts';
import { Queries } from '../metrics/queries.ts';
import type { DatasetsSample } from '../metrics/sample.ts';

/** After an event of a pool its datasets are asked again, so often at most, milliseconds. */
const AGAIN_MS = 2_000;

/** Datasets and snapshots of the pools, with their use, asked beside whoever looks. */
export class Space {
  readonly #queries: Queries;
  readonly #pools = new Map<string, { readonly datasets: Datasets; changed: boolean; askedAt: number }>();
  #last = '';
  /** Goes up when `all` is something else than before. */
  version = 0;
  all: Readonly<Record<string, DatasetsSample>> = {};

  constructor(core: IoctlCore) {
    this.#queries = new Queries(core);
  }

  /** These pools are there, and of these those that have to be asked nothing now: they do not answer. */
  look(names: readonly string[], silent: ReadonlySet<string>): void {
    for (const [name, { datasets }] of this.#pools) {
      if (names.includes(name)) continue;
      datasets.end();
      this.#pools.delete(name);
    }
    const all: Record<string, DatasetsSample> = {};
    const now = performance.now();
    for (const name of names) {
      let pool = this.#pools.get(name);
      if (pool === undefined) {
        pool = { datasets: new Datasets(name, this.#queries, true), changed: false, askedAt: now };
        this.#pools.set(name, pool);
      }
      if (pool.changed && now - pool.askedAt > AGAIN_MS) {
        pool.changed = false;
        pool.askedAt = now;
        pool.datasets.forget();
      }
      const found = silent.has(name) ? this.all[name] : pool.datasets.get();
      if (found !== undefined) all[name] = found;
    }
    const key = Object.entries(all)
      .map(([name, { at }]) => `${name} ${at}`)
      .join();
    if (key === this.#last) return;
    this.#last = key;
    this.all = all;
    this.version++;
  }

  /** Something has happened to the pool. */
  changed(name: string): void {
    const pool = this.#pools.get(name);
    if (pool !== undefined) pool.changed = true;
  }

  async close(): Promise<void> {
    for (const { datasets } of this.#pools.values()) datasets.end();
    await this.#queries.close();
  }
}
