import type { RemoteDisk, RemoteDisks } from '../devices/remote.ts';
import type { Logger } from '../log.ts';
import type { ProgramResult, RunProgram } from './programs.ts';

/**
 * How long after a connection is ready, and after each look, pools are looked at again, milliseconds: the core may not know
 * yet that the connection before was lost. Where no pool has the disk it is left alone after the last.
 */
const LOOKS_MS: readonly number[] = [200, 1000, 2000, 4000, 8000, 15_000, 30_000, 60_000, 60_000];
/** States of a device that is not there. What was taken offline, or faulted for its errors, stays so. */
const AWAY: readonly string[] = ['REMOVED', 'UNAVAIL', 'CANT_OPEN'];

/** A device that is not there, of an imported pool. */
interface Away {
  readonly pool: string;
  readonly guid: string;
  /** Only `zpool clear` brings it back. */
  readonly isSuspended: boolean;
}

/** Brings the devices of pools online whose remote disks are connected again; ZFS resilvers what they missed. */
export class Returning {
  readonly #remote: RemoteDisks;
  readonly #run: RunProgram;
  readonly #log: Logger;
  readonly #watched = new Set<RemoteDisk>();
  readonly #timers = new Map<RemoteDisk, NodeJS.Timeout>();
  #hasEnded = false;
  /** One program at a time: they answer the same questions. */
  #work: Promise<void> = Promise.resolve();

  constructor(remote: RemoteDisks, run: RunProgram, log: Logger) {
    this.#remote = remote;
    this.#run = run;
    this.#log = log;
  }

  /** Also for those that became ready while the pools were imported. Again when there are more disks. */
  begin(): void {
    for (const disk of this.#remote.disks) {
      if (this.#watched.has(disk)) continue;
      this.#watched.add(disk);
      disk.onReady = () => this.#look(disk, 0);
      if (disk.status.isReady) this.#look(disk, 0);
    }
  }

  end(): void {
    this.#hasEnded = true;
    for (const timer of this.#timers.values()) clearTimeout(timer);
    this.#timers.clear();
  }

  #look(disk: RemoteDisk, look: number): void {
    clearTimeout(this.#timers.get(disk));
    const waitMs = LOOKS_MS[look];
    if (this.#hasEnded || waitMs === undefined) return;
    const timer = setTimeout(() => {
      this.#work = this.#work.then(async () => {
        if (!this.#isWanted(disk) || (await this.#bringBack(disk.name))) return;
        // A connection that came meanwhile has begun anew.
        if (this.#timers.get(disk) === timer && this.#isWanted(disk)) this.#look(disk, look + 1);
      });
    }, waitMs).unref();
    this.#timers.set(disk, timer);
  }

  /** It is there, and no pool writes to it. */
  #isWanted(disk: RemoteDisk): boolean {
    return !this.#hasEnded && disk.status.isReady && !disk.isWritten;
  }

  /** Whether there was a device to bring back, and it is. Never rejects. */
  async #bringBack(path: string): Promise<boolean> {
    try {
      const away = devicesAway(await this.#must('status', '-jP'), path);
      for (const { pool, guid, isSuspended } of away) {
        if (isSuspended) {
          // It may go back by what was not flushed: whoever uses it decides when.
          this.#log.warn({ pool, device: path }, `remote disk is back, and its pool is suspended: zpool clear ${pool}`);
          continue;
        }
        await this.#must('online', pool, guid);
        this.#log.info({ pool, device: path }, 'remote disk is back in its pool');
      }
      return away.length > 0;
    } catch (error) {
      if (!this.#hasEnded)
        this.#log.warn({ device: path, reason: (error as Error).message }, 'cannot bring a disk back');
      return false;
    }
  }

  async #must(...args: string[]): Promise<string> {
    const { code, stdout, stderr }: ProgramResult = await this.#run('zpool', args);
    if (code !== 0) throw new Error(stderr.trim() || `zpool ${args[0]}: exit code ${code}`);
    return stdout;
  }
}

/** The devices at a path that are not there, from what `zpool status -jP` prints. Exported for its test. */
export function devicesAway(json: string, path: string): Away[] {
  const away: Away[] = [];
  const { pools = {} } = JSON.parse(json) as { pools?: Record<string, unknown> };
  const visit = (pool: string, isSuspended: boolean, node: unknown): void => {
    if (typeof node !== 'object' || node === null) return;
    const vdev = node as Record<string, unknown>;
    // `was`: it has not been there since the pool was imported.
    const isHere = (vdev.path === path || vdev.was === path) && typeof vdev.guid === 'string';
    if (isHere && AWAY.includes(String(vdev.state))) away.push({ pool, guid: String(vdev.guid), isSuspended });
    else for (const child of Object.values(vdev)) visit(pool, isSuspended, child);
  };
  for (const [name, pool] of Object.entries(pools)) {
    visit(name, (pool as { state?: unknown } | null)?.state === 'SUSPENDED', pool);
  }
  return away;
}
