import type { ClientSummary } from '../volumes/client-connection.ts';
import type { HostSample } from './host-sample.ts';
import type { EngineSample, PoolSample, VdevSample } from './sample.ts';

/**
 * What goes on in a host, for who looks at it every few seconds (`zow top`): counters since some beginning, of which two
 * samples make rates. Sizes are bytes, times seconds. Plain data, as it is in JSON.
 */
export interface LiveSample {
  /** On a clock of the host's that only goes forward. */
  readonly at: number;
  readonly release: string;
  readonly engines: readonly LiveEngine[];
  readonly pools: readonly LivePool[];
  readonly volumes: readonly LiveVolume[];
  readonly clients: readonly ClientSummary[];
}

export interface LiveEngine {
  readonly index: number;
  readonly cpuSeconds: number;
  readonly residentBytes: number;
  /** By how much its event loop came late at most, since the sample before. */
  readonly lateSeconds: number;
  readonly arc: { readonly size: number; readonly max: number; readonly hits: number; readonly misses: number };
}

export interface LivePool {
  readonly name: string;
  /** `LOST`: its engine has ended. */
  readonly state: string;
  /** Absent: it does not answer. */
  readonly io?: LivePoolIo;
}

export interface LivePoolIo {
  readonly size: number;
  readonly allocated: number;
  readonly read: LiveCount;
  readonly write: LiveCount;
  /** Of its devices, by DEVICE_BOUNDS, each bucket only its own. */
  readonly latency: { readonly read: readonly number[]; readonly write: readonly number[] };
  readonly scan?: {
    readonly kind: string;
    readonly paused: boolean;
    /** 0 to 1. */
    readonly done: number;
    readonly secondsLeft: number | null;
  };
}

export interface LiveCount {
  readonly operations: number;
  readonly bytes: number;
}

export interface LiveVolume {
  readonly name: string;
  readonly size: number;
  /** By what clients ask for; what they never did is absent. */
  readonly io: Readonly<Record<string, LiveIo>>;
}

export interface LiveIo extends LiveCount {
  readonly errors: number;
  /** Of all together. */
  readonly seconds: number;
}

/** `at`: seconds of a clock that only goes forward. */
export function liveOf(host: HostSample, at: number): LiveSample {
  const samples = host.engines.flatMap(({ sample }) => (sample === undefined ? [] : [sample]));
  const silent = host.engines.flatMap(({ sample, pools }) => (sample === undefined ? pools : []));
  const told = samples.flatMap(({ pools }) => pools.map(livePool));
  const missing = (state: string, names: readonly string[]) =>
    names.filter((name) => !told.some((pool) => pool.name === name)).map((name) => ({ name, state }));
  return {
    at,
    release: host.release,
    engines: host.engines.flatMap(({ index, sample }) => (sample === undefined ? [] : [liveEngine(index, sample)])),
    pools: [...told, ...missing('SILENT', silent), ...missing('LOST', host.lostPools)],
    volumes: samples.flatMap(({ volumes }) => volumes.map(liveVolume)),
    clients: samples.flatMap(({ clients }) => clients),
  };
}

function liveEngine(index: number, { process, arc }: EngineSample): LiveEngine {
  const { cpuSeconds, residentBytes, delay } = process;
  const { size = 0, c_max: max = 0, hits = 0, misses = 0 } = arc;
  return { index, cpuSeconds, residentBytes, lateSeconds: delay.max, arc: { size, max, hits, misses } };
}

function livePool({ name, state, details }: PoolSample): LivePool {
  if (details === undefined) return { name, state };
  const { properties, vdevs, scan } = details;
  // A group counts what its devices do, too; the one at the top has a size.
  const top = vdevs.filter(({ kind, size }) => kind !== 'spare' && kind !== 'cache' && size > 0);
  const sum = (of: (vdev: VdevSample) => number): number => top.reduce((total, vdev) => total + of(vdev), 0);
  const io: LivePoolIo = {
    size: properties.size ?? 0,
    allocated: properties.allocated ?? 0,
    read: { operations: sum((vdev) => vdev.operations.read), bytes: sum((vdev) => vdev.bytes.read) },
    write: { operations: sum((vdev) => vdev.operations.write), bytes: sum((vdev) => vdev.bytes.write) },
    latency: { read: buckets(vdevs, 'read'), write: buckets(vdevs, 'write') },
  };
  if (scan?.state !== 'scanning') return { name, state, io };
  const done = scan.total === 0 ? 0 : Math.min(1, scan.issued / scan.total);
  const { kind, paused, secondsLeft = null } = scan;
  return { name, state, io: { ...io, scan: { kind, paused, done, secondsLeft } } };
}

function buckets(vdevs: readonly VdevSample[], op: 'read' | 'write'): number[] {
  const total: number[] = [];
  for (const { latency } of vdevs)
    for (const [i, count] of (latency?.[op] ?? []).entries()) total[i] = (total[i] ?? 0) + count;
  return total;
}

function liveVolume({ name, size, io = {} }: EngineSample['volumes'][number]): LiveVolume {
  const kinds = Object.entries(io).map(([kind, { operations, bytes, errors, seconds }]) => [
    kind,
    { operations, bytes, errors, seconds },
  ]);
  return { name, size, io: Object.fromEntries(kinds) as Record<string, LiveIo> };
}
