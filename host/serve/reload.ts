import type { RemoteDisks } from '../devices/remote.ts';
import { compareKept } from './converge.ts';
import type { Difference } from './difference.ts';
import { StartError } from './errors.ts';
import { type Plan, type PoolPlan, planPools } from './plan.ts';
import type { RunProgram } from './programs.ts';
import { surveyPool } from './survey.ts';

/** What reading a configuration again changes, one line each. */
export interface ReloadReport {
  /** `pool tank: imported`, `zfs set volsize=… tank/vm0`, `nbd 127.0.0.1:10809: opened`. */
  readonly changes: readonly string[];
  /** What only a new start can change. */
  readonly fixed: readonly string[];
  /** What is not in the file any more, or waits, and is left as it is. */
  readonly left: readonly string[];
  /** What was to be done and could not: listeners that could not be opened. */
  readonly failed: readonly string[];
}

interface Surroundings {
  /** Those that are new among them. */
  readonly remote: RemoteDisks;
  /** Of the pools that are imported, by name. */
  readonly states: ReadonlyMap<string, string>;
  readonly run: RunProgram;
}

/**
 * Looks at what a changed configuration means for the disks and pools that are there, and changes nothing. Rejects with StartError
 * when something contradicts it.
 */
export async function planReload(
  difference: Difference,
  { remote, states, run }: Surroundings,
): Promise<{ readonly plan: Plan; readonly report: ReloadReport }> {
  const { config, fixed, devices, tunables, listeners, others } = difference;
  const left = [...difference.left];
  const surveys = [];
  const kept: PoolPlan[] = [];
  for (const pool of config.pools) {
    const state = states.get(pool.name);
    if (state === undefined) surveys.push(await surveyPool(pool, { exclusive: true, remote }));
    // Whoever asks it something waits for its disks.
    else if (state === 'SUSPENDED')
      left.push(`pool ${pool.name}: suspended; what the file says of it waits for the next reload`);
    else kept.push({ action: 'keep', pool });
  }
  const found = planPools(surveys);
  if (found.errors.length > 0) throw new StartError(found.errors);
  const { commands, contradictions } = await compareKept(
    kept.map(({ pool }) => pool),
    run,
  );
  if (contradictions.length > 0) throw new StartError(contradictions);
  const changes = [
    ...tunables.map(({ name, value }) => `tunable ${name}=${value}`),
    ...devices.map(({ name }) => `device ${name}: connected`),
    ...found.pools.flatMap(({ action, pool }) => [
      `pool ${pool.name}: ${action === 'create' ? 'created' : 'imported'}`,
      ...(action === 'create' ? pool.volumes.map(({ name }) => `volume ${name}: created`) : []),
    ]),
    ...commands,
    ...listeners.closed.map((line) => `${line}: closed, with its clients`),
    ...listeners.opened.map((line) => `${line}: opened`),
    ...others,
  ];
  const plan = { pools: [...found.pools, ...kept], errors: [], warnings: found.warnings };
  return { plan, report: { changes, fixed, left: [...left, ...found.warnings], failed: [] } };
}
