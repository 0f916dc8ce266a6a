import { rmSync } from 'node:fs';
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

type Properties = ReadonlyMap<string, string>;
type Command = readonly [program: string, ...args: string[]];

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
    for (const pool of plan.pools) {
      if (pool.action !== 'import') continue;
      await importPool(pool, run);
      imported.push(pool.pool.name);
      log.info({ pool: pool.pool.name }, 'pool imported');
    }
    const changes = await compare(plan.pools, run, log);
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
  const comparisons = await all(pools.flatMap((pool) => [comparePool(pool, run), compareVolumes(pool, run)]));
  return {
    commands: comparisons.flatMap(({ commands }) => commands.map((command) => command.join(' '))),
    contradictions: comparisons.flatMap(({ contradictions }) => contradictions),
  };
}

/** Compares imported pools with the configuration. Rejects with every contradiction, else gives the commands to run. */
async function compare(plans: readonly PoolPlan[], run: RunProgram, log: Logger): Promise<Command[]> {
  const there = plans.filter(({ action }) => action !== 'create');
  // A program takes a tenth of a second to start, and these wait for nothing of each other's.
  const comparisons = await all(
    there.flatMap(({ action, pool }) => [
      comparePool(pool, run),
      // Whoever unloaded a key while the host runs knows why.
      compareVolumes(pool, run, action === 'import' ? log : undefined),
    ]),
  );
  const contradictions = comparisons.flatMap((comparison) => comparison.contradictions);
  if (contradictions.length > 0) throw new StartError(contradictions);
  return comparisons.flatMap(({ commands }) => commands);
}

/** As Promise.all, but nothing runs on when it rejects. */
async function all<T>(promises: readonly Promise<T>[]): Promise<T[]> {
  await Promise.allSettled(promises);
  return Promise.all(promises);
}

/** What comparing with the configuration found. */
interface Comparison {
  readonly commands: Command[];
  readonly contradictions: string[];
}

async function comparePool(pool: PoolConfig, run: RunProgram): Promise<Comparison> {
  const commands: Command[] = [];
  const contradictions: string[] = [];
  if (pool.properties.size === 0) return { commands, contradictions };
  const names = [...pool.properties.keys()].join(',');
  const output = await query(run, ['zpool', 'get', '-Hp', '-o', 'property,value', names, pool.name]);
  const actual = new Map(output.map(([name = '', value = '']) => [name, value]));
  for (const [name, wanted] of pool.properties) {
    const verdict = judgePoolProperty(name, wanted, actual.get(name));
    if (verdict === 'set') commands.push(['zpool', 'set', `${name}=${wanted}`, pool.name]);
    if (verdict === 'contradicts')
      contradictions.push(contradiction(`pool '${pool.name}'`, name, actual.get(name), wanted));
  }
  return { commands, contradictions };
}

/** With a log, locked keys are loaded on the way. */
async function compareVolumes(pool: PoolConfig, run: RunProgram, log?: Logger): Promise<Comparison> {
  const names = new Set(['type', 'volsize', 'keystatus', 'encryptionroot', 'keylocation']);
  for (const volume of pool.volumes) for (const name of volume.properties.keys()) names.add(name);
  const fields = [...names].join(',');
  const output = await query(run, [
    'zfs',
    'get',
    '-Hp',
    '-r',
    '-t',
    'filesystem,volume',
    '-o',
    'name,property,value',
    fields,
    pool.name,
  ]);
  const datasets = new Map<string, Map<string, string>>();
  for (const [dataset = '', property = '', value = ''] of output) {
    const properties = datasets.get(dataset) ?? new Map<string, string>();
    datasets.set(dataset, properties.set(property, value));
  }
  if (log !== undefined) await loadKeys(datasets, run, log);
  const contradictions: string[] = [];
  const commands = pool.volumes.flatMap((volume) => compareVolume(volume, datasets.get(volume.name), contradictions));
  return { commands, contradictions };
}

function compareVolume(volume: VolumeConfig, actual: Properties | undefined, contradictions: string[]): Command[] {
  if (actual === undefined) return [createVolume(volume)];
  const commands: Command[] = [];
  if (actual.get('type') !== 'volume') {
    contradictions.push(`${volume.name} is a ${actual.get('type')} on disk, a volume in the configuration`);
    return [];
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
  return commands;
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
async function loadKeys(datasets: ReadonlyMap<string, Properties>, run: RunProgram, log: Logger): Promise<void> {
  for (const [name, properties] of datasets) {
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

/** The tab-separated lines a program prints. */
async function query(run: RunProgram, command: Command): Promise<string[][]> {
  const result = await run(command[0], command.slice(1));
  must(result, command);
  return result.stdout
    .split('\n')
    .filter((line) => line !== '')
    .map((line) => line.split('\t'));
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
