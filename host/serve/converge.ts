import { rmSync } from 'node:fs';
import { availableParallelism } from 'node:os';
import { dirname } from 'node:path';
import type { PoolConfig, VolumeConfig } from '../config/config.ts';
import { formatSize } from '../config/size.ts';
import { createSparse } from '../devices/sparse.ts';
import { makeFolders } from '../folder.ts';
import type { Logger } from '../log.ts';
import { StartError } from './errors.ts';
import type { Plan, PoolPlan } from './plan.ts';
import type { ProgramResult, RunProgram } from './programs.ts';
import { judgePoolProperty, judgeVolumeProperty } from './properties.ts';

/** Disks make one wait while another computes; more at once only take each other's processors and memory. */
const importsAtOnce = availableParallelism() + 1;

type Properties = ReadonlyMap<string, string>;
type Command = readonly [program: string, ...args: string[]];

/** What is asked of every dataset, beside the properties that the configuration names. */
const volumeFields = ['type', 'volsize', 'keystatus', 'encryptionroot', 'keylocation'];

/**
 * Brings the core to what the configuration says, with upstream's own programs: imports the pools that exist, compares
 * them with the configuration, and only when nothing contradicts creates what is missing and sets what differs.
 * Rejects with StartError; what was imported is then exported again, and nothing that holds data was changed.
 */
export async function converge(plan: Plan, run: RunProgram, log: Logger): Promise<void> {
  if (plan.errors.length > 0) throw new StartError(plan.errors);
  for (const warning of plan.warnings) log.warn(warning);
  const imported: string[] = [];
  try {
    const there = plan.pools.filter((pool) => pool.action === 'import');
    await each(there, importsAtOnce, async (pool) => {
      await importPool(pool, run);
      imported.push(pool.pool.name);
      log.info({ pool: pool.pool.name }, 'pool imported');
    });
    const { commands: changes, contradictions } = await compare(
      plan.pools.filter(({ action }) => action !== 'create').map(({ pool }) => pool),
      run,
      (datasets) => loadKeys(datasets, new Set(there.map(({ pool }) => pool.name)), run, log),
    );
    if (contradictions.length > 0) throw new StartError(contradictions);
    for (const pool of plan.pools) {
      if (pool.action !== 'create') continue;
      await createPool(pool, run);
      imported.push(pool.pool.name);
      log.info({ pool: pool.pool.name, vdevs: pool.pool.vdevs.summary }, 'pool created');
    }
    for (const command of [...changes, ...newVolumes(plan.pools)]) {
      must(await run(command[0], command.slice(1)), command);
      log.info({ command: command.join(' '), detail: true }, 'converged');
    }
  } catch (error) {
    for (const name of imported.reverse()) {
      const result = await run('zpool', ['export', name]);
      if (result.code !== 0) log.error({ pool: name, reason: messageOf(result) }, 'pool cannot be exported');
    }
    throw error;
  }
}

async function importPool(plan: PoolPlan & { action: 'import' }, run: RunProgram): Promise<void> {
  const where = plan.devices.flatMap((device) => ['-d', device]);
  // By guid: a copy of the pool under another name cannot be meant. Nothing can be mounted here.
  const args = ['import', '-N', ...where, String(plan.guid)];
  const result = await run('zpool', args);
  if (result.code === 0) return;
  const output = messageOf(result);
  throw new StartError([`pool '${plan.pool.name}' cannot be imported:`, ...indent(output), ...importHint(output)]);
}

/** What helps where `zpool import` refuses because of another host, by what it says (zpool_import() of libzfs_pool.c). */
function importHint(output: string): readonly string[] {
  const without = 'serve a configuration without this pool, and';
  if (/imported on host '<unknown>' \(hostid=0\)/.test(output)) {
    return [
      'multihost is on, and too few of its disks can be written for other hosts to see that this one takes it; zpool import -f',
      'does not help. Bring the missing disks back. If they are lost, and no other host uses the pool:',
      `${without} by hand zow tunable zow_multihost_reclaim=1, zpool import -f it, zpool offline each missing disk, and the`,
      'tunable to 0 again (docs/limits.md)',
    ];
  }
  if (/hostid is not set/.test(output))
    return ['multihost is on: give this host a hostid of its own, with ZFS_HOSTID or zgenhostid'];
  if (/imported on /.test(output)) return ['another host uses it: export it there'];
  return /\bpreviously in use from another system|hostid|-f\b/.test(output)
    ? [`if no other host uses it: ${without} zpool import -f it by hand once`]
    : [];
}

async function createPool(plan: PoolPlan & { action: 'create' }, run: RunProgram): Promise<void> {
  const { pool } = plan;
  const created: string[] = [];
  try {
    for (const { path, sizeBytes } of plan.files) {
      makeFolders(dirname(path));
      createSparse(path, sizeBytes);
      created.push(path);
    }
    const result = await run('zpool', ['create', ...options(pool.properties), pool.name, ...pool.vdevs.args]);
    if (result.code !== 0)
      throw new StartError([`pool '${pool.name}' cannot be created:`, ...indent(messageOf(result))]);
  } catch (error) {
    // Ours and a moment old: nothing is lost with them.
    for (const path of created) rmSync(path, { force: true });
    throw error instanceof StartError
      ? error
      : new StartError([`pool '${pool.name}' cannot be created: ${text(error)}`]);
  }
}

function options(properties: Properties): string[] {
  return [...properties].flatMap(([name, value]) => ['-o', `${name}=${value}`]);
}

/**
 * What converge would run on pools that are imported, without doing it, and what contradicts the configuration.
 */
export async function compareKept(
  pools: readonly PoolConfig[],
  run: RunProgram,
): Promise<{ readonly commands: readonly string[]; readonly contradictions: readonly string[] }> {
  const { commands, contradictions } = await compare(pools, run);
  return { commands: commands.map((command) => command.join(' ')), contradictions };
}

/** Compares imported pools with the configuration: what is to be run, and what contradicts. `onDatasets` is given what is in them first. */
async function compare(
  pools: readonly PoolConfig[],
  run: RunProgram,
  onDatasets?: (datasets: ReadonlyMap<string, Properties>) => Promise<void>,
): Promise<Comparison> {
  const names = pools.map(({ name }) => name);
  if (names.length === 0) return { commands: [], contradictions: [] };
  const withProperties = pools.filter(({ properties }) => properties.size > 0);
  const poolFields = withProperties.flatMap(({ properties }) => [...properties.keys()]);
  const fields = pools.flatMap(({ volumes }) => volumes.flatMap(({ properties }) => [...properties.keys()]));
  // A program takes a tenth of a second to start: one for all pools of each, and neither waits for the other.
  const asked = [
    poolFields.length === 0
      ? new Map<string, Properties>()
      : query(
          run,
          ['zpool', 'get', '-Hp'],
          poolFields,
          withProperties.map(({ name }) => name),
        ),
    query(run, ['zfs', 'get', '-Hp', '-r', '-t', 'filesystem,volume'], [...volumeFields, ...fields], names),
  ] as const;
  await Promise.allSettled(asked);
  const [actualPools, datasets] = await Promise.all(asked);
  await onDatasets?.(datasets);
  const comparisons = pools.flatMap((pool) => [
    comparePool(pool, actualPools.get(pool.name)),
    ...pool.volumes.map((volume) => compareVolume(volume, datasets.get(volume.name))),
  ]);
  return {
    commands: comparisons.flatMap(({ commands }) => commands),
    contradictions: comparisons.flatMap(({ contradictions }) => contradictions),
  };
}

/** As Promise.all, but nothing runs on when it rejects. */
async function all<T>(promises: readonly Promise<T>[]): Promise<T[]> {
  await Promise.allSettled(promises);
  return Promise.all(promises);
}

/** Does `work` for each of the items, so many at once; when one of them rejects, no other is begun. Rejects when all have settled. */
async function each<T>(items: readonly T[], width: number, work: (item: T) => Promise<void>): Promise<void> {
  const rest = [...items];
  const lane = async (): Promise<void> => {
    for (let item = rest.shift(); item !== undefined; item = rest.shift()) {
      try {
        await work(item);
      } catch (error) {
        rest.length = 0;
        throw error;
      }
    }
  };
  await all(Array.from({ length: width }, lane));
}

/** What comparing with the configuration found. */
interface Comparison {
  readonly commands: Command[];
  readonly contradictions: string[];
}

function comparePool({ name: pool, properties }: PoolConfig, actual: Properties | undefined): Comparison {
  const commands: Command[] = [];
  const contradictions: string[] = [];
  for (const [name, wanted] of properties) {
    const verdict = judgePoolProperty(name, wanted, actual?.get(name));
    if (verdict === 'set') commands.push(['zpool', 'set', `${name}=${wanted}`, pool]);
    if (verdict === 'contradicts')
      contradictions.push(contradiction(`pool '${pool}'`, name, actual?.get(name), wanted));
  }
  return { commands, contradictions };
}

function compareVolume(volume: VolumeConfig, actual: Properties | undefined): Comparison {
  const commands: Command[] = [];
  const contradictions: string[] = [];
  if (actual === undefined) return { commands: [createVolume(volume)], contradictions };
  if (actual.get('type') !== 'volume') {
    contradictions.push(`${volume.name} is a ${actual.get('type')} on disk, a volume in the configuration`);
    return { commands, contradictions };
  }
  const size = Number(actual.get('volsize'));
  if (size < volume.sizeBytes) commands.push(['zfs', 'set', `volsize=${volume.sizeBytes}`, volume.name]);
  if (size > volume.sizeBytes) {
    const change = `zfs set volsize=${formatSize(volume.sizeBytes)} ${volume.name}`;
    contradictions.push(
      `volume ${volume.name} has size ${formatSize(size)} on disk, ${formatSize(volume.sizeBytes)} in the configuration; ` +
        `zow makes no volume smaller: correct the configuration, or cut it while it is served without this entry (${change})`,
    );
  }
  for (const [name, wanted] of volume.properties) {
    const verdict = judgeVolumeProperty(name, wanted, actual.get(name));
    if (verdict === 'set') commands.push(['zfs', 'set', `${name}=${wanted}`, volume.name]);
    if (verdict === 'contradicts')
      contradictions.push(contradiction(`volume ${volume.name}`, name, actual.get(name), wanted));
  }
  return { commands, contradictions };
}

function contradiction(what: string, property: string, actual: string | undefined, wanted: string): string {
  const show = (value: string) => (property === 'volblocksize' ? formatSize(Number(value)) : value);
  const found = actual === undefined ? 'unset' : show(actual);
  return `${what} has ${property} ${found} on disk, ${show(wanted)} in the configuration; it cannot be changed`;
}

function createVolume(volume: VolumeConfig): Command {
  const parents = volume.name.split('/').length > 2 ? ['-p'] : [];
  const sparse = volume.sparse ? ['-s'] : [];
  return [
    'zfs',
    'create',
    ...parents,
    ...sparse,
    '-V',
    String(volume.sizeBytes),
    ...options(volume.properties),
    volume.name,
  ];
}

function newVolumes(plans: readonly PoolPlan[]): Command[] {
  return plans.flatMap((plan) => (plan.action === 'create' ? plan.pool.volumes.map(createVolume) : []));
}

/** Keys that are in files. One that cannot be loaded locks its own datasets; the others are served all the same. */
async function loadKeys(
  datasets: ReadonlyMap<string, Properties>,
  pools: ReadonlySet<string>,
  run: RunProgram,
  log: Logger,
): Promise<void> {
  for (const [name, properties] of datasets) {
    // Whoever unloaded a key while the host runs knows why.
    if (!pools.has(name.split('/', 1)[0]!)) continue;
    const locked = properties.get('keystatus') === 'unavailable' && properties.get('encryptionroot') === name;
    if (!locked) continue;
    const location = properties.get('keylocation');
    if (location === 'prompt') {
      log.warn({ dataset: name }, 'encrypted with a key nobody is here to type: zfs load-key unlocks it');
      continue;
    }
    const result = await run('zfs', ['load-key', name]);
    if (result.code === 0) log.info({ dataset: name, keylocation: location }, 'key loaded');
    else log.warn({ dataset: name, keylocation: location, reason: messageOf(result) }, 'key cannot be loaded');
  }
}

/** Asks `zpool get` or `zfs get` for properties: the values by the names of what has them. */
async function query(
  run: RunProgram,
  get: Command,
  properties: readonly string[],
  pools: readonly string[],
): Promise<Map<string, Properties>> {
  const command: Command = [...get, '-o', 'name,property,value', [...new Set(properties)].join(','), ...pools];
  const result = await run(command[0], command.slice(1));
  must(result, command);
  const found = new Map<string, Map<string, string>>();
  for (const line of result.stdout.split('\n').filter((text) => text !== '')) {
    const [name = '', property = '', value = ''] = line.split('\t');
    const values = found.get(name) ?? new Map<string, string>();
    found.set(name, values.set(property, value));
  }
  return found;
}

function must(result: ProgramResult, command: Command): void {
  if (result.code === 0) return;
  throw new StartError([`${command.join(' ')} failed:`, ...indent(messageOf(result))]);
}

function messageOf({ code, stderr, stdout }: ProgramResult): string {
  return stderr.trim() || stdout.trim() || `exit code ${code}`;
}

function indent(output: string): string[] {
  return output.split('\n').map((line) => `  ${line}`);
}

function text(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
