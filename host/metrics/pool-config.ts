import { NvList } from '../nvlist/nvlist.ts';
import { RebuildStat, RemovalStat, ScanStat, VdevStat } from './pool-stats.ts';
import type { PoolDetails, ScanSample, VdevSample, WorkSample } from './sample.ts';
import { vdevNote } from './vdev-note.ts';

const ZIO_READ = 1;
const ZIO_WRITE = 2;

/** dsl_scan_state_t, and the states of a trim, of an initialization and of a rebuild: 1 is what is under way. */
const ACTIVE = 1;
const SUSPENDED = 3;
const scanKinds = [undefined, 'scrub', 'resilver', 'errorscrub'] as const;
const scanStates = [undefined, 'scanning', 'finished', 'canceled'] as const;

/** vdev_state_t, and vdev_aux_t where that decides, as zpool_state_to_name() does. */
const CANT_OPEN = 4;
const stateNames = ['UNKNOWN', 'OFFLINE', 'OFFLINE', 'REMOVED', 'UNAVAIL', 'FAULTED', 'DEGRADED', 'ONLINE'];
const auxCorruptData = 2;
const auxBadLog = 13;
const auxSplitPool = 15;

/** Devices and groups of them that are told of one pool; and those whose latencies are. */
export const VDEVS_MAX = 256;
export const LATENCIES_MAX = 64;

/** Buckets of vsx_disk_histo are powers of two of nanoseconds: upper bounds of those that are told, as exponents. */
const deviceExponents = [17, 19, 21, 23, 25, 27, 29, 31, 33];
export const DEVICE_BOUNDS: readonly number[] = deviceExponents.map((exponent) => 2 ** exponent / 1e9);

type Config = Pick<PoolDetails, 'dataErrors' | 'scan' | 'works' | 'vdevs' | 'vdevsLeftOut'>;

/** What ZFS_IOC_POOL_STATS answers. `now`: Unix time in seconds. */
export function poolConfig(config: NvList, now: number): Config {
  const root = config.get('vdev_tree');
  const scan = root instanceof NvList ? scanOf(numbers(root.get('scan_stats')), now) : undefined;
  const works: WorkSample[] = root instanceof NvList ? poolWorks(root, now) : [];
  const vdevs: VdevSample[] = [];
  let leftOut = 0;
  let latencies = 0;
  const visit = (
    vdev: NvList,
    kind: VdevSample['kind'],
    depth = 0,
    parent = '',
    rebuild: readonly number[] = [],
  ): void => {
    const name = nameOf(vdev, parent);
    const stats = numbers(vdev.get('vdev_stats'));
    const children = childrenOf(vdev, 'children');
    const isLeaf = children.length === 0;
    if (vdevs.length < VDEVS_MAX) {
      const note = vdevNote({
        stats,
        isLeaf,
        isSpare: kind === 'spare',
        scan,
        rebuilds: rebuild[RebuildStat.state] === ACTIVE,
      });
      const latency = isLeaf && latencies++ < LATENCIES_MAX ? latencyOf(vdev) : undefined;
      vdevs.push({ name, kind, depth, ...counts(stats), ...(note !== '' && { note }), ...(latency && { latency }) });
      works.push(...vdevWorks(name, vdev, stats, now));
    } else leftOut++;
    const below = depth === 0 ? numbers(vdev.get('org.openzfs:rebuild_stats')) : rebuild;
    for (const child of children) visit(child, kind, depth + 1, name, below);
  };
  if (root instanceof NvList) {
    for (const child of childrenOf(root, 'children')) if (isThere(child)) visit(child, kindOf(child));
    for (const child of childrenOf(root, 'l2cache')) visit(child, 'cache');
    for (const child of childrenOf(root, 'spares')) visit(child, 'spare');
  }
  return { dataErrors: Number(bigint(config.get('error_count'))), scan, works, vdevs, vdevsLeftOut: leftOut };
}

function childrenOf(vdev: NvList, name: string): NvList[] {
  const children = vdev.get(name);
  return Array.isArray(children) ? children.filter((child) => child instanceof NvList) : [];
}

/** A hole is where a device was that is removed. */
function isThere(vdev: NvList): boolean {
  return !['hole', 'indirect', 'missing'].includes(String(vdev.get('type')));
}

function kindOf(vdev: NvList): VdevSample['kind'] {
  const bias = vdev.get('alloc_bias');
  if (vdev.get('is_log') === 1n) return 'log';
  return bias === 'special' || bias === 'dedup' ? bias : 'data';
}

/** Groups are numbered anew in each group: the name of the outer one tells them apart. */
function nameOf(vdev: NvList, parent: string): string {
  const path = vdev.get('path');
  if (typeof path === 'string') return path;
  return `${parent}${parent === '' ? '' : '/'}${String(vdev.get('type'))}-${bigint(vdev.get('id'))}`;
}

type Counts = Omit<VdevSample, 'name' | 'kind' | 'depth' | 'note' | 'latency'>;

function counts(stats: readonly number[]): Counts {
  const at = (index: number): number => stats[index] ?? 0;
  return {
    state: stateName(at(VdevStat.state), at(VdevStat.aux)),
    allocated: at(VdevStat.allocated),
    size: at(VdevStat.space),
    operations: { read: at(VdevStat.operations + ZIO_READ), write: at(VdevStat.operations + ZIO_WRITE) },
    bytes: { read: at(VdevStat.bytes + ZIO_READ), write: at(VdevStat.bytes + ZIO_WRITE) },
    errors: {
      read: at(VdevStat.readErrors),
      write: at(VdevStat.writeErrors),
      checksum: at(VdevStat.checksumErrors),
    },
    slow: at(VdevStat.slow),
  };
}

function latencyOf(vdev: NvList): VdevSample['latency'] | undefined {
  const extended = vdev.get('vdev_stats_ex');
  if (!(extended instanceof NvList)) return undefined;
  return {
    read: buckets(numbers(extended.get('vdev_disk_r_lat_histo'))),
    write: buckets(numbers(extended.get('vdev_disk_w_lat_histo'))),
  };
}

/** Removal of a device, and expansion of a raidz. */
function poolWorks(root: NvList, now: number): WorkSample[] {
  const works: WorkSample[] = [];
  for (const [kind, name] of [
    ['removal', 'removal_stats'],
    ['expansion', 'raidz_expand_stats'],
  ] as const) {
    const stats = numbers(root.get(name));
    const at = (index: number): number => stats[index] ?? 0;
    if (at(RemovalStat.state) !== ACTIVE) continue;
    const vdev = childrenOf(root, 'children')[at(RemovalStat.vdev)];
    const [total, done] = [at(RemovalStat.total), at(RemovalStat.done)];
    const pace = paceOf(done, total - done, now - at(RemovalStat.startTime));
    works.push({ kind, vdev: vdev === undefined ? '' : nameOf(vdev, ''), paused: false, total, done, ...pace });
  }
  return works;
}

function vdevWorks(name: string, vdev: NvList, stats: readonly number[], now: number): WorkSample[] {
  const works: WorkSample[] = [];
  const add = (kind: WorkSample['kind'], state: number, done: number, total: number, seconds: number): void => {
    const paused = state === SUSPENDED;
    const pace = paused ? { rate: undefined, secondsLeft: undefined } : paceOf(done, total - done, seconds);
    works.push({ kind, vdev: name, paused, total, done, ...pace });
  };
  const at = (index: number): number => stats[index] ?? 0;
  for (const [kind, first] of [
    ['trim', VdevStat.trimDone],
    ['initialize', VdevStat.initializeDone],
  ] as const) {
    // Done, total, state and time stand one after the other.
    const [done, total, state, time] = [at(first), at(first + 1), at(first + 2), at(first + 3)];
    if (state === ACTIVE || state === SUSPENDED) add(kind, state, done, total, now - time);
  }
  const rebuild = numbers(vdev.get('org.openzfs:rebuild_stats'));
  if (rebuild[RebuildStat.state] === ACTIVE) {
    const [total, done] = [rebuild[RebuildStat.total]!, rebuild[RebuildStat.issued]!];
    const pace = paceOf(rebuild[RebuildStat.passIssued]!, total - done, rebuild[RebuildStat.passMs]! / 1000);
    works.push({ kind: 'rebuild', vdev: name, paused: false, total, done, ...pace });
  }
  return works;
}

function paceOf(done: number, left: number, seconds: number): Pick<WorkSample, 'rate' | 'secondsLeft'> {
  const rate = done / Math.max(1, seconds);
  return { rate, secondsLeft: rate > 0 ? Math.max(0, left) / rate : undefined };
}

function stateName(state: number, aux: number): string {
  if (state === CANT_OPEN) {
    if (aux === auxCorruptData || aux === auxBadLog) return 'FAULTED';
    if (aux === auxSplitPool) return 'SPLIT';
  }
  return stateNames[state] ?? 'UNKNOWN';
}

/** Of powers of two, those that DEVICE_BOUNDS has, and the rest. Bucket n has what took from 2^n to 2^(n+1)-1 ns (HISTO). */
export function buckets(powers: readonly number[]): number[] {
  const sums = new Array<number>(deviceExponents.length + 1).fill(0);
  for (const [power, value] of powers.entries()) {
    const found = deviceExponents.findIndex((exponent) => power < exponent);
    sums[found === -1 ? deviceExponents.length : found]! += value;
  }
  return sums;
}

/** print_scan_scrub_resilver_status() of zpool_main.c. */
function scanOf(stats: readonly number[], now: number): ScanSample | undefined {
  const at = (index: number): number => stats[index] ?? 0;
  const kind = scanKinds[at(ScanStat.function)];
  const state = scanStates[at(ScanStat.state)];
  if (kind === undefined || state === undefined) return undefined;
  const total = at(ScanStat.toExamine) - at(ScanStat.skipped);
  const issued = at(ScanStat.issued);
  const paused = state === 'scanning' && at(ScanStat.passPause) !== 0;
  const elapsed = now - at(ScanStat.passStart) - at(ScanStat.passSpentPaused);
  const rate = at(ScanStat.passIssued) / Math.max(1, elapsed);
  const isKnown = state === 'scanning' && !paused && rate > 0;
  return {
    kind,
    state,
    paused,
    startedAt: at(ScanStat.startTime),
    endedAt: state === 'scanning' ? 0 : at(ScanStat.endTime),
    total,
    issued,
    errors: at(ScanStat.errors),
    rate: state === 'scanning' && !paused ? rate : undefined,
    secondsLeft: isKnown ? Math.max(0, total - issued) / rate : undefined,
  };
}

function bigint(value: unknown): bigint {
  return typeof value === 'bigint' ? value : 0n;
}

function numbers(value: unknown): number[] {
  return Array.isArray(value) ? value.map(Number) : [];
}
