/** What clients ask of a volume, as far as it is counted apart. */
export const IO_KINDS = ['read', 'write', 'flush', 'trim', 'zero'] as const;
export type IoKind = (typeof IO_KINDS)[number];

/** Upper bounds of the buckets of latencies, seconds; one more bucket has the rest. */
export const LATENCY_BOUNDS = [0.0001, 0.0003, 0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1, 10] as const;

/** Plain numbers since the volume was first used. */
export interface IoCounts {
  /** Requests that are over, failed ones included. */
  operations: number;
  errors: number;
  /** Of those that did not fail. A flush has none. */
  bytes: number;
  /** From the request to its end, all together. */
  seconds: number;
  /** By LATENCY_BOUNDS; each has only its own. */
  readonly buckets: number[];
}

/** By what is asked; what never was is absent. */
export type VolumeStatistics = Partial<Record<IoKind, IoCounts>>;

/** Counts a request that is over. */
export function count(
  statistics: VolumeStatistics,
  kind: IoKind,
  bytes: number,
  seconds: number,
  failed: boolean,
): void {
  statistics[kind] ??= {
    operations: 0,
    errors: 0,
    bytes: 0,
    seconds: 0,
    buckets: new Array<number>(LATENCY_BOUNDS.length + 1).fill(0),
  };
  const counts = statistics[kind];
  counts.operations++;
  counts.seconds += seconds;
  if (failed) counts.errors++;
  else counts.bytes += bytes;
  let bucket = 0;
  while (bucket < LATENCY_BOUNDS.length && seconds > LATENCY_BOUNDS[bucket]!) bucket++;
  counts.buckets[bucket]!++;
}
