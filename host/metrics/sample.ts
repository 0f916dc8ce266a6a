import type { IscsiMetrics } from '../iscsi/metrics.ts';
import type { NbdMetrics } from '../nbd/metrics.ts';
import type { ClientSummary } from '../volumes/client-connection.ts';
import type { VolumeStatistics } from '../volumes/statistics.ts';

/**
 * What one core and its frontends tell for metrics: plain data that survives a structured clone, for the core can be in
 * another process. Sizes are bytes, times seconds.
 */
export interface EngineSample {
  readonly pools: readonly PoolSample[];
  /** Kstats of the core as a whole, by name: numbers only. */
  readonly arc: Readonly<Record<string, number>>;
  readonly zil: Readonly<Record<string, number>>;
  readonly transactions: Readonly<Record<string, number>>;
  readonly volumes: readonly VolumeSample[];
  readonly heap: { readonly size: number; readonly used: number };
  readonly fibers: number;
  /** Of the buffers of clients' requests. */
  readonly buffers: { readonly limit: number; readonly waiting: number };
  readonly process: ProcessSample;
  /** By listener. */
  readonly nbd: ReadonlyMap<string, NbdMetrics> | undefined;
  readonly iscsi: ReadonlyMap<string, IscsiMetrics> | undefined;
  readonly clients: readonly ClientSummary[];
}

export interface ProcessSample {
  readonly pid: number;
  readonly cpuSeconds: number;
  readonly residentBytes: number;
  /** Unix time. */
  readonly startedAt: number;
  /** By how much a turn of the event loop came late, since the sample before. */
  readonly delay: { readonly mean: number; readonly p99: number; readonly max: number };
}

export interface VolumeSample {
  readonly name: string;
  readonly size: number;
  readonly io: VolumeStatistics | undefined;
}

export interface PoolSample {
  readonly name: string;
  /** As `zpool list` says it; told even by a pool that answers nothing else. */
  readonly state: string;
  /** Absent: the pool did not answer in time. */
  readonly details?: PoolDetails;
  /** Absent: they are not known, or what was known is too old. */
  readonly datasets?: DatasetsSample;
}

export interface PoolDetails {
  /** Numbers of `zpool get`, by property: size, allocated, free, fragmentation, … */
  readonly properties: Readonly<Record<string, number>>;
  /** Blocks with errors that could not be mended. */
  readonly dataErrors: number;
  readonly scan: ScanSample | undefined;
  /** What is under way beside the scan. */
  readonly works: readonly WorkSample[];
  readonly vdevs: readonly VdevSample[];
  /** Of devices beyond the bound of what is told. */
  readonly vdevsLeftOut: number;
  readonly txg: TxgSample | undefined;
}

export interface ScanSample {
  readonly kind: 'scrub' | 'resilver' | 'errorscrub';
  readonly state: 'scanning' | 'finished' | 'canceled';
  readonly paused: boolean;
  readonly startedAt: number;
  /** 0: not yet. */
  readonly endedAt: number;
  /** Bytes that are to be read, and that were. */
  readonly total: number;
  readonly issued: number;
  readonly errors: number;
  /** Bytes a second of this pass, as `zpool status` counts it; undefined: it does not run. */
  readonly rate: number | undefined;
  /** At that rate; undefined: not known. */
  readonly secondsLeft: number | undefined;
}

/** Work of a pool's own, or of a part of it, that is under way. */
export interface WorkSample {
  readonly kind: 'rebuild' | 'trim' | 'initialize' | 'removal' | 'expansion';
  /** What it is done to. */
  readonly vdev: string;
  readonly paused: boolean;
  /** Bytes that are to be done, and that were. */
  readonly total: number;
  readonly done: number;
  readonly rate: number | undefined;
  readonly secondsLeft: number | undefined;
}

export interface VdevSample {
  /** The path of a device; of others `mirror-0`, `mirror-0/replacing-1`. */
  readonly name: string;
  readonly kind: 'data' | 'log' | 'special' | 'dedup' | 'cache' | 'spare';
  /** In the tree: 0 at the top. What a group has follows it. */
  readonly depth: number;
  readonly state: string;
  /** What `zpool status` says behind it: `too many errors`, `resilvering`. */
  readonly note?: string;
  readonly allocated: number;
  readonly size: number;
  readonly operations: { readonly read: number; readonly write: number };
  readonly bytes: { readonly read: number; readonly write: number };
  readonly errors: { readonly read: number; readonly write: number; readonly checksum: number };
  readonly slow: number;
  /** Of devices: how long its I/O took, each bucket only its own, by DEVICE_BOUNDS. */
  readonly latency?: { readonly read: readonly number[]; readonly write: readonly number[] };
}

/** The transaction group that was written last. */
export interface TxgSample {
  readonly number: number;
  readonly dirtyBytes: number;
  readonly writtenBytes: number;
  /** How long it was open, quiesced, waited for its sync, and was synced. */
  readonly open: number;
  readonly quiesce: number;
  readonly wait: number;
  readonly sync: number;
}

export interface DatasetsSample {
  /** When the last of them was asked, Unix time. */
  readonly at: number;
  readonly datasets: readonly DatasetSample[];
  /** Of those that are told; empty where they are not asked for. */
  readonly snapshots: readonly SnapshotSample[];
  /** There are more datasets, or snapshots, than are told. */
  readonly leftOut: boolean;
}

export interface SnapshotSample {
  /** With its dataset's: `tank/v@first`. */
  readonly name: string;
  /** What only it has. */
  readonly used: number;
  readonly referenced: number;
  /** Unix time. */
  readonly createdAt: number;
}

export interface DatasetSample {
  readonly name: string;
  readonly isVolume: boolean;
  readonly used: number;
  readonly referenced: number;
  readonly compressratio: number;
}
