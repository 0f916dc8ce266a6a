import type { CorePanic } from '../core/api.ts';
import type { Logger } from '../log.ts';
import { describePanic } from '../serve/errors.ts';
import type { RunProgram } from '../serve/programs.ts';
import type { LostPool, Supervisor } from './supervisor.ts';

/** The first pause before another try, after a pool was lost soon after it had come back; then each twice as long. */
const PAUSE_MS_MIN = 1_000;
const PAUSE_MS_MAX = 300_000;
/** A pool that is there for so long counts as well again. */
const WELL_MS = 60_000;

interface Record {
  /** How often it was lost, or did not come back, without being well in between. */
  failures: number;
  /** When it came back last. */
  since: number;
  /** When it is tried again, milliseconds since the epoch; undefined: it is being tried. */
  againAt: number | undefined;
  timer: NodeJS.Timeout | undefined;
}

/**
 * Brings back pools whose engine was lost: imports them in a new one, which replays their logs. One that is lost again
 * and again waits longer each time, as a crash left it.
 */
export class Recovery {
  readonly #log: Logger;
  readonly #records = new Map<string, Record>();
  #supervisor: Supervisor | undefined;
  #run: RunProgram | undefined;
  #ended = false;

  constructor(log: Logger) {
    this.#log = log;
  }

  begin(supervisor: Supervisor, run: RunProgram): void {
    this.#supervisor = supervisor;
    this.#run = run;
  }

  lost(pools: readonly string[], panic: CorePanic): void {
    this.#log.error({ panic, pools }, describePanic(panic));
    for (const pool of pools) this.#plan(pool);
  }

  /** When the pool is tried again, and how often it failed. */
  outlook(pool: string): Pick<Record, 'failures' | 'againAt'> | undefined {
    return this.#records.get(pool);
  }

  end(): void {
    this.#ended = true;
    for (const { timer } of this.#records.values()) clearTimeout(timer);
  }

  #plan(pool: string): void {
    if (this.#ended) return;
    const record = this.#records.get(pool) ?? { failures: 0, since: 0, againAt: undefined, timer: undefined };
    this.#records.set(pool, record);
    if (performance.now() - record.since > WELL_MS && record.since !== 0) record.failures = 0;
    const pauseMs = record.failures === 0 ? 0 : Math.min(PAUSE_MS_MIN * 2 ** (record.failures - 1), PAUSE_MS_MAX);
    record.failures++;
    if (pauseMs > 0)
      this.#log.warn({ pool, againInMs: pauseMs, failures: record.failures }, 'pool is left for a while');
    record.againAt = pauseMs === 0 ? undefined : Date.now() + pauseMs;
    const bring = (): void => {
      record.againAt = undefined;
      this.#supervisor?.revive(pool, this.#bringBack(pool, record));
    };
    if (pauseMs === 0) bring();
    else record.timer = setTimeout(bring, pauseMs).unref();
  }

  async #bringBack(pool: string, record: Record): Promise<void> {
    const lost = this.#supervisor?.lostPools.get(pool);
    if (lost === undefined || this.#ended) return;
    const began = performance.now();
    const { code, stderr } = await this.#run!('zpool', importArgs(pool, lost));
    if (this.#ended) return;
    if (code !== 0) {
      this.#log.error({ pool, reason: stderr.trim() }, 'pool cannot be imported again');
      if (this.#supervisor!.lostPools.has(pool)) this.#plan(pool);
      return;
    }
    record.since = performance.now();
    this.#log.info({ pool, ms: Math.round(record.since - began) }, 'pool imported again');
    await this.#loadKeys(pool);
  }

  /** As at the host's start: keys that are in files. */
  async #loadKeys(pool: string): Promise<void> {
    const { code, stdout } = await this.#run!('zfs', ['get', '-Hp', '-r', '-o', 'name,value', 'keylocation', pool]);
    if (code !== 0) return;
    for (const line of stdout.split('\n')) {
      const [name = '', location = ''] = line.split('\t');
      if (!/^(file|https?):/.test(location)) continue;
      const result = await this.#run!('zfs', ['load-key', name]);
      if (result.code !== 0) this.#log.warn({ dataset: name, reason: result.stderr.trim() }, 'key cannot be loaded');
    }
  }
}

/** As it was imported before. The pool's own name for it may be another (`zpool import -t`). */
function importArgs(pool: string, { devices, guid, manner }: LostPool): string[] {
  const where = devices.flatMap((device) => ['-d', device]);
  const how = [
    ...(manner.isReadOnly ? ['-o', 'readonly=on'] : []),
    ...(manner.altroot === undefined ? [] : ['-R', manner.altroot]),
    ...(manner.isTemporaryName ? ['-t'] : []),
  ];
  return ['import', '-N', ...how, ...where, String(guid), pool];
}
