import { NvList } from '../nvlist/nvlist.ts';
import type { PoolDetails, ScanSample, VdevSample } from './sample.ts';

/** Indexes of vdev_stat_t (include/sys/fs/zfs.h); operations and bytes are by zio_type_t. */
export const VdevStat = {
  state: 1,
  aux: 2,
  allocated: 3,
  space: 4,
  operations: 8,
  bytes: 14,
  readErrors: 20,
  writeErrors: 21,
  checksumErrors: 22,
  slow: 34,
} as const;
const ZIO_READ = 1;
const ZIO_WRITE = 2;

/** Indexes of pool_scan_stat_t. */
export const ScanStat = {
  function: 0,
  state: 1,
  startTime: 2,
  endTime: 3,
  toExamine: 4,
  skipped: 6,
  errors: 8,
  passStart: 10,
  passPause: 11,
  passSpentPaused: 12,
  passIssued: 13,
  issued: 14,
} as const;
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

type Config = Pick<PoolDetails, 'dataErrors' | 'scan' | 'vdevs' | 'vdevsLeftOut'>;

/** What ZFS_IOC_POOL_STATS answers. `now`: Unix time in seconds. */
export function poolConfig(config: NvList, now: number): Config {
  const root = config.get('vdev_tree');
  const vdevs: VdevSample[] = [];
  let leftOut = 0;
  let latencies = 0;
  const visit = (vdev: NvList, kind: VdevSample['kind'], parent = ''): void => {
    const name = nameOf(vdev, parent);
    const isLeaf = childrenOf(vdev, 'children').length === 0;
    if (vdevs.length < VDEVS_MAX) vdevs.push(vdevOf(vdev, name, kind, isLeaf && latencies++ < LATENCIES_MAX));
    else leftOut++;
    for (const child of childrenOf(vdev, 'children')) visit(child, kind, name);
  };
  if (root instanceof NvList) {
    for (const child of childrenOf(root, 'children')) if (isThere(child)) visit(child, kindOf(child));
    for (const child of childrenOf(root, 'l2cache')) visit(child, 'cache');
    for (const child of childrenOf(root, 'spares')) visit(child, 'spare');
  }
  return {
    dataErrors: Number(bigint(config.get('error_count'))),
    scan: root instanceof NvList ? scanOf(numbers(root.get('scan_stats')), now) : undefined,
    vdevs,
    vdevsLeftOut: leftOut,
  };
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

function vdevOf(vdev: NvList, name: string, kind: VdevSample['kind'], withLatency: boolean): VdevSample {
  const stats = numbers(vdev.get('vdev_stats'));
  const at = (index: number): number => stats[index] ?? 0;
  const extended = vdev.get('vdev_stats_ex');
  return {
    name,
    kind,
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
    ...(withLatency &&
      extended instanceof NvList && {
        latency: {
          read: buckets(numbers(extended.get('vdev_disk_r_lat_histo'))),
          write: buckets(numbers(extended.get('vdev_disk_w_lat_histo'))),
        },
      }),
  };
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
    secondsLeft: isKnown ? Math.max(0, total - issued) / rate : undefined,
  };
}

function bigint(value: unknown): bigint {
  return typeof value === 'bigint' ? value : 0n;
}

function numbers(value: unknown): number[] {
  return Array.isArray(value) ? value.map(Number) : [];
}
