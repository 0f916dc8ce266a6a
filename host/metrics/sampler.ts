import { monitorEventLoopDelay } from 'node:perf_hooks';
import type { Core } from '../core/api.ts';
import { Errno, errnoOf } from '../errno.ts';
import type { IscsiMetrics } from '../iscsi/metrics.ts';
import type { NbdMetrics } from '../nbd/metrics.ts';
import { decodeKstat, statistics } from '../observe/kstats.ts';
import type { ClientSummary } from '../volumes/client-connection.ts';
import { Datasets } from './datasets.ts';
import { poolConfig } from './pool-config.ts';
import { Queries } from './queries.ts';
import type { EngineSample, PoolDetails, PoolSample, ProcessSample, TxgSample } from './sample.ts';
import { shared, within } from './within.ts';

/** How long a pool has to answer, milliseconds. */
const ANSWER_MS = 400;
/** The resolution of the event loop's delay, milliseconds. */
const DELAY_MS = 10;
/** Volumes of a core that are told. */
const VOLUMES_MAX = 2_000;
/** Clients of a core that are told. */
const CLIENTS_MAX = 1_000;

/** What a sampler asks beside the core. */
export interface Frontends {
  /** By listener. */
  readonly nbd?: ReadonlyMap<string, NbdMetrics> | undefined;
  readonly iscsi?: ReadonlyMap<string, IscsiMetrics> | undefined;
  /** Requests that wait for a buffer. */
  readonly waiting: number;
  readonly clients?: readonly ClientSummary[];
}

interface KnownPool {
  readonly datasets: Datasets;
  /** A question to the pool that is under way: while it is, no second is asked. */
  asked: Promise<PoolDetails> | undefined;
}

/** Asks one core of this process for what metrics tell of it. No pool keeps it waiting. */
export class Sampler {
  /** For metrics. Who asks while it is under way gets the same. */
  readonly sample: () => Promise<EngineSample>;
  /** For who looks at it live: without the datasets, and with a meter of its own. */
  readonly look: () => Promise<EngineSample>;
  readonly #core: Core;
  readonly #frontends: () => Frontends;
  readonly #queries: Queries;
  readonly #pools = new Map<string, KnownPool>();
  readonly #meter = new ProcessMeter();
  #lookMeter: ProcessMeter | undefined;

  constructor(core: Core, frontends: () => Frontends) {
    this.#core = core;
    this.#frontends = frontends;
    this.#queries = new Queries(core);
    this.sample = shared(() => this.#sample(this.#meter, true));
    this.look = shared(() => {
      this.#lookMeter ??= new ProcessMeter();
      return this.#sample(this.#lookMeter, false);
    });
  }

  /** Gives its session back. An answer that is waited for is waited for no more. */
  async close(): Promise<void> {
    this.#meter.end();
    this.#lookMeter?.end();
    for (const { datasets } of this.#pools.values()) datasets.end();
    await within(ANSWER_MS, this.#queries.close());
  }

  async #sample(meter: ProcessMeter, withDatasets: boolean): Promise<EngineSample> {
    const names = await this.#poolNames();
    for (const [name, { datasets }] of this.#pools) {
      if (names.includes(name)) continue;
      datasets.end();
      this.#pools.delete(name);
    }
    const [arc, zil, transactions, ...pools] = await Promise.all([
      this.#numbers('zfs/arcstats'),
      this.#numbers('zfs/zil'),
      this.#numbers('zfs/dmu_tx'),
      ...names.map((name) => this.#pool(name, withDatasets)),
    ]);
    const { volumes } = this.#core;
    const { heapBytes = 0, heapUsedBytes = 0, fibers = 0 } = this.#core.usage?.() ?? {};
    const { nbd, iscsi, waiting, clients = [] } = this.#frontends();
    return {
      pools: pools.filter((pool) => pool !== undefined),
      arc,
      zil,
      transactions,
      volumes: volumes
        .list()
        .slice(0, VOLUMES_MAX)
        .filter(({ name }) => !name.includes('@'))
        .map(({ name, size }) => ({ name, size, io: volumes.statistics?.(name) })),
      heap: { size: heapBytes, used: heapUsedBytes },
      fibers,
      buffers: { limit: volumes.buffers.limitBytes, waiting },
      process: meter.sample(),
      nbd,
      iscsi,
      clients: clients.slice(0, CLIENTS_MAX),
    };
  }

  /** By their kstats, which no lock of a pool is in the way of. */
  async #poolNames(): Promise<string[]> {
    const paths = await this.#core.inspector.kstatPaths();
    return paths.map((path) => /^zfs\/([^/]+)\/state$/.exec(path)?.[1]).filter((name) => name !== undefined);
  }

  async #numbers(path: string): Promise<Record<string, number>> {
    const numbers: Record<string, number> = {};
    for (const { name, value } of statistics(decodeKstat(await this.#core.inspector.kstat(path))))
      if (typeof value !== 'string') numbers[name] = Number(value);
    return numbers;
  }

  /** Undefined: it was exported meanwhile. */
  async #pool(name: string, withDatasets: boolean): Promise<PoolSample | undefined> {
    let known = this.#pools.get(name);
    if (known === undefined) {
      known = { datasets: new Datasets(name, this.#queries), asked: undefined };
      this.#pools.set(name, known);
      // The first time, those of a small pool are worth a moment.
      if (withDatasets) await within(ANSWER_MS, known.datasets.look());
    }
    const { datasets } = known;
    known.asked ??= this.#details(name).finally(() => {
      known.asked = undefined;
    });
    const details = await within(ANSWER_MS, known.asked);
    const state = await this.#text(`zfs/${name}/state`);
    if (state === undefined) return undefined;
    const found = details === undefined || !withDatasets ? undefined : datasets.get();
    return {
      name,
      state: state.trim(),
      ...(details !== undefined && { details }),
      ...(found !== undefined && { datasets: found }),
    };
  }

  async #details(name: string): Promise<PoolDetails> {
    const [config, properties, txgs] = await Promise.all([
      this.#queries.poolStats(name),
      this.#queries.poolProperties(name),
      this.#text(`zfs/${name}/txgs`),
    ]);
    return { ...poolConfig(config, Date.now() / 1000), properties, txg: lastTxg(txgs ?? '') };
  }

  async #text(path: string): Promise<string | undefined> {
    try {
      const kstat = decodeKstat(await this.#core.inspector.kstat(path));
      return 'text' in kstat ? kstat.text : undefined;
    } catch (error) {
      if (errnoOf(error) === Errno.ENOENT) return undefined;
      throw error;
    }
  }
}

/** Measures this process. */
export class ProcessMeter {
  readonly #delay = monitorEventLoopDelay({ resolution: DELAY_MS });

  constructor() {
    this.#delay.enable();
  }

  end(): void {
    this.#delay.disable();
  }

  sample(): ProcessSample {
    const { user, system } = process.cpuUsage();
    const late = (nanoseconds: number): number => Math.max(0, nanoseconds / 1e9 - DELAY_MS / 1000);
    // Without a single turn the mean is none.
    const mean = this.#delay.count === 0 ? 0 : late(this.#delay.mean);
    const delay = { mean, p99: late(this.#delay.percentile(99)), max: late(this.#delay.max) };
    this.#delay.reset();
    return {
      pid: process.pid,
      cpuSeconds: (user + system) / 1e6,
      residentBytes: process.memoryUsage.rss(),
      startedAt: performance.timeOrigin / 1000,
      delay,
    };
  }
}

/** The last that is written (state C) of `zfs/POOL/txgs`: txg, birth, state, ndirty, nread, nwritten, reads, writes, otime, qtime, wtime, stime. */
export function lastTxg(table: string): TxgSample | undefined {
  const line = table.split('\n').findLast((row) => /^\d+\s+\d+\s+C\s/.test(row));
  if (line === undefined) return undefined;
  const cells = line.trim().split(/\s+/).map(Number);
  const seconds = (index: number): number => cells[index]! / 1e9;
  return {
    number: cells[0]!,
    dirtyBytes: cells[3]!,
    writtenBytes: cells[5]!,
    open: seconds(8),
    quiesce: seconds(9),
    wait: seconds(10),
    sync: seconds(11),
  };
}
