import { DEVICE_BYTES_MIN, type PoolConfig } from '../config/config.ts';
import { formatSize } from '../config/size.ts';
import { capacityBound } from '../config/vdevs.ts';
import type { VdevLabel } from './label.ts';
import type { Finding, PoolSurvey } from './survey.ts';

/** What serving a pool takes. */
export type PoolPlan =
  /** It is imported already: only what is in it is looked at. */
  | { readonly action: 'keep'; readonly pool: PoolConfig }
  | {
      readonly action: 'import';
      readonly pool: PoolConfig;
      readonly guid: bigint;
      /** Devices to look for the pool on. */
      readonly devices: readonly string[];
    }
  | {
      readonly action: 'create';
      readonly pool: PoolConfig;
      /** Files to create sparse before. */
      readonly files: readonly { readonly path: string; readonly sizeBytes: number }[];
    };

export interface Plan {
  /** In the order of the configuration; as far as there are no errors. */
  readonly pools: readonly PoolPlan[];
  /** Why nothing can be started. Empty: the plan can be carried out. */
  readonly errors: readonly string[];
  readonly warnings: readonly string[];
}

/**
 * Decides what to do with each pool, from what its devices were found to be. Converges, never destroys: a pool that is
 * there is imported, one that is not is created only with `create` and only on what is missing or blank.
 */
export function planPools(surveys: readonly PoolSurvey[]): Plan {
  const pools: PoolPlan[] = [];
  const errors: string[] = [];
  const warnings: string[] = [];
  for (const survey of surveys) {
    const found = classify(survey, errors);
    if (found === undefined) continue;
    if (found.length === 0) planCreate(survey, pools, errors);
    else planImport(survey, found, pools, errors, warnings);
  }
  checkShared(surveys, errors);
  return { pools, errors, warnings };
}

interface Member {
  readonly path: string;
  readonly label: VdevLabel;
  readonly guid: bigint;
}

/** The devices that hold the pool; undefined when one makes the whole pool an error, which is then noted. */
function classify({ pool, findings }: PoolSurvey, errors: string[]): readonly Member[] | undefined {
  const members: Member[] = [];
  const before = errors.length;
  for (const [path, finding] of findings) {
    if (finding.kind === 'unusable') errors.push(`pool '${pool.name}': ${finding.message}`);
    if (finding.kind !== 'labelled') continue;
    const { label } = finding;
    if (label.state === 'destroyed') errors.push(destroyed(path, label));
    else if (label.pool === undefined) continue;
    else if (label.pool.name === pool.name) members.push({ path, label, guid: label.pool.guid });
    else
      errors.push(`${path} holds pool '${label.pool.name}'${on(label)}, the configuration wants '${pool.name}' there`);
  }
  const [first] = members;
  const other = members.find((member) => member.guid !== first?.guid);
  if (first !== undefined && other !== undefined) {
    errors.push(
      `${first.path} and ${other.path} hold two different pools named '${pool.name}', guid ${first.guid} and ${other.guid}`,
    );
  }
  return errors.length > before ? undefined : members;
}

function destroyed(path: string, label: VdevLabel): string {
  const name = label.pool === undefined ? 'a pool' : `pool '${label.pool.name}'`;
  return `${path} holds ${name}, destroyed but still there: zpool import -D brings it back, zpool labelclear -f gives the device free`;
}

function on(label: VdevLabel): string {
  return label.hostname === undefined || label.hostname === '' ? '' : ` of host ${label.hostname}`;
}

function planImport(
  { pool, findings, siblings }: PoolSurvey,
  members: readonly Member[],
  pools: PoolPlan[],
  errors: string[],
  warnings: string[],
): void {
  const wanted = Number(pool.properties.get('ashift') ?? 0);
  for (const { path, label } of members) {
    if (wanted !== 0 && label.ashift !== 0 && label.ashift !== wanted) {
      errors.push(
        `pool '${pool.name}': ${path} has ashift ${label.ashift}, the configuration ${wanted}; it cannot be changed`,
      );
      return;
    }
  }
  for (const [path, finding] of findings) {
    const what = absence(finding);
    if (what !== undefined) warnings.push(`pool '${pool.name}': ${path} ${what}; the pool is imported without it`);
  }
  const labelled = [...findings].filter(([, finding]) => finding.kind === 'labelled').map(([path]) => path);
  pools.push({ action: 'import', pool, guid: members[0]!.guid, devices: [...labelled, ...siblings] });
}

function absence(finding: Finding): string | undefined {
  if (finding.kind === 'missing') return finding.why === undefined ? 'is missing' : `is missing: ${finding.why}`;
  if (finding.kind === 'blank') return 'is blank';
  return finding.kind === 'foreign' ? `holds ${finding.what}` : undefined;
}

function planCreate({ pool, findings }: PoolSurvey, pools: PoolPlan[], errors: string[]): void {
  const before = errors.length;
  const { create } = pool;
  const files: { path: string; sizeBytes: number }[] = [];
  const sizes = new Map<string, number>();
  for (const [path, finding] of findings) {
    const size = create === undefined ? undefined : sizeForCreate(pool.name, path, finding, create.sizeBytes, errors);
    if (size === undefined) continue;
    sizes.set(path, size);
    if (finding.kind === 'missing') files.push({ path, sizeBytes: size });
  }
  if (create === undefined) errors.push(notThere(pool, findings));
  if (errors.length > before) return;
  checkCapacity(pool, sizes, errors);
  pools.push({ action: 'create', pool, files });
}

/** The size of a device of a new pool in bytes; undefined, and an error noted, when it cannot be one. */
function sizeForCreate(
  pool: string,
  path: string,
  finding: Finding,
  sizeBytes: number | undefined,
  errors: string[],
): number | undefined {
  const refuse = (reason: string) => {
    errors.push(`pool '${pool}' does not exist and cannot be created: ${path} ${reason}`);
    return undefined;
  };
  switch (finding.kind) {
    case 'missing':
      if (finding.why !== undefined) return refuse(`is missing: ${finding.why}`);
      if (path.startsWith('/dev/')) return refuse('is missing, and zow creates no files in /dev');
      return sizeBytes ?? refuse('is missing; create: { size: … } would create it as a sparse file');
    case 'blank':
      if (sizeBytes !== undefined && finding.sizeBytes !== sizeBytes && !path.startsWith('/dev/')) {
        return refuse(
          `has ${formatSize(finding.sizeBytes)}, the configuration says create size ${formatSize(sizeBytes)}`,
        );
      }
      if (finding.sizeBytes < DEVICE_BYTES_MIN) {
        return refuse(`has ${formatSize(finding.sizeBytes)}; a device has at least ${formatSize(DEVICE_BYTES_MIN)}`);
      }
      return finding.sizeBytes;
    case 'foreign':
      return refuse(`holds ${finding.what}; only what is blank is used (wipefs, or another device)`);
    case 'labelled':
      return refuse(`is a ${finding.label.state} device of another pool (zpool labelclear gives it free)`);
    case 'unusable':
      return undefined;
  }
}

function notThere(pool: PoolConfig, findings: PoolSurvey['findings']): string {
  const states = [...findings].map(([path, finding]) => `${path} ${absence(finding) ?? 'holds none'}`);
  const shown = states.slice(0, 4).join(', ') + (states.length > 4 ? ', …' : '');
  return `pool '${pool.name}' does not exist (${shown}); create: { size: 4G } in the configuration allows it to be created`;
}

/** Refuses a volume that can never fit before the pool is made for it. */
function checkCapacity(pool: PoolConfig, sizes: ReadonlyMap<string, number>, errors: string[]): void {
  const bound = capacityBound(pool.vdevs, (path) => sizes.get(path) ?? 0);
  const wanted = pool.volumes.filter((volume) => !volume.sparse).reduce((sum, volume) => sum + volume.sizeBytes, 0);
  if (wanted < bound) return;
  errors.push(
    `pool '${pool.name}': its volumes need ${formatSize(wanted)}, its devices hold less than ${formatSize(bound)}; ` +
      `sparse: true makes a volume that reserves nothing`,
  );
}

/** Two names of one disk: a symbolic or hard link. */
function checkShared(surveys: readonly PoolSurvey[], errors: string[]): void {
  const seen = new Map<string, string>();
  for (const { findings } of surveys) {
    for (const [path, finding] of findings) {
      if (!('identity' in finding)) continue;
      const other = seen.get(finding.identity);
      if (other !== undefined) errors.push(`${other} and ${path} are the same disk`);
      seen.set(finding.identity, path);
    }
  }
}
