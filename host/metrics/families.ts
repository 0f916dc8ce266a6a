import { LATENCY_BOUNDS, type VolumeStatistics } from '../volumes/statistics.ts';
import { clientFamilies } from './client-families.ts';
import { Families, type Family, LabelSets, type Labels } from './family.ts';
import type { HostSample } from './host-sample.ts';
import { DEVICE_BOUNDS } from './pool-config.ts';
import type {
  DatasetsSample,
  EngineSample,
  PoolDetails,
  PoolSample,
  ProcessSample,
  ScanSample,
  VdevSample,
} from './sample.ts';

/** States that a pool can have (zpool_state_to_name, spa_state_to_name). */
const POOL_STATES = ['ONLINE', 'DEGRADED', 'FAULTED', 'OFFLINE', 'REMOVED', 'UNAVAIL', 'SUSPENDED'];
/** Volumes of an engine whose latencies are told as histograms: those that were used first. */
export const HISTOGRAMS_MAX = 100;

/** Everything that is told of a host, in Prometheus' conventions: base units, `_total`. docs/observability.md lists it. */
export function familiesOf(host: HostSample, sets = new LabelSets()): readonly Family[] {
  const f = new Families(sets);
  f.gauge('zow_build_info', 'The release of OpenZFS and of Node.', 1, {
    release: host.release,
    node: process.versions.node,
  });
  f.counter('zow_engine_losses_total', 'Cores that ended without being told to.', host.engineLosses);
  // One that is on its way back is told by its new engine.
  const told = new Set(host.engines.flatMap(({ pools, sample }) => sample?.pools.map(({ name }) => name) ?? pools));
  for (const pool of host.lostPools) if (!told.has(pool)) poolDown(f, pool);
  for (const { index, pools, sample } of host.engines) {
    const engine = String(index);
    f.gauge(
      'zow_engine_up',
      'Whether the core answered in time; if not, nothing of it is told.',
      sample === undefined ? 0 : 1,
      { engine },
    );
    if (sample === undefined) for (const pool of pools) poolDown(f, pool);
    else engineFamilies(f, sample, engine, host.supervisor === undefined ? 'host' : `engine-${engine}`);
  }
  if (host.supervisor !== undefined) processFamilies(f, host.supervisor.process, 'supervisor');
  clientFamilies(f, host);
  f.gauge('zow_scrape_collect_seconds', 'How long the cores took to answer this scrape.', host.seconds);
  return f.all;
}

function engineFamilies(f: Families, sample: EngineSample, engine: string, process: string): void {
  for (const pool of sample.pools) poolFamilies(f, pool);
  volumeFamilies(f, sample);
  arcFamilies(f, sample, engine);
  for (const [kind, value] of Object.entries(memoryByKind(sample)))
    f.gauge('zow_core_memory_bytes', "The core's memory, by what it is used for.", value, { engine, kind });
  f.gauge('zow_core_memory_size_bytes', "Size of the core's memory.", sample.heap.size, { engine });
  f.gauge('zow_core_fibers', "Fibers, which are the kernel's threads.", sample.fibers, { engine });
  f.gauge('zow_core_buffers_limit_bytes', "What the buffers of clients' requests can have.", sample.buffers.limit, {
    engine,
  });
  f.gauge('zow_core_buffers_waiting', 'Requests of clients that wait for a buffer.', sample.buffers.waiting, {
    engine,
  });
  logFamilies(f, sample, engine);
  processFamilies(f, sample.process, process);
}

function poolDown(f: Families, pool: string): void {
  f.gauge('zow_pool_up', 'Whether the pool answered in time; if not, only its state is told.', 0, { pool });
}

function poolFamilies(f: Families, { name: pool, state, details, datasets }: PoolSample): void {
  f.gauge(
    'zow_pool_up',
    'Whether the pool answered in time; if not, only its state is told.',
    details === undefined ? 0 : 1,
    { pool },
  );
  for (const each of new Set([...POOL_STATES, state]))
    f.gauge('zow_pool_state', 'The state of the pool has the value 1.', each === state ? 1 : 0, { pool, state: each });
  if (details !== undefined) detailFamilies(f, pool, details);
  if (datasets !== undefined) datasetFamilies(f, pool, datasets);
}

function detailFamilies(f: Families, pool: string, details: PoolDetails): void {
  const { properties, scan, txg } = details;
  f.gauge('zow_pool_size_bytes', 'As zpool list shows it.', properties.size, { pool });
  f.gauge('zow_pool_allocated_bytes', 'As zpool list shows it.', properties.allocated, { pool });
  f.gauge('zow_pool_free_bytes', 'As zpool list shows it.', properties.free, { pool });
  f.gauge('zow_pool_freeing_bytes', 'What is freed in the background.', properties.freeing, { pool });
  f.gauge('zow_pool_leaked_bytes', 'What could not be freed.', properties.leaked, { pool });
  // UINT64_MAX: not known.
  const { fragmentation } = properties;
  if (fragmentation !== undefined && fragmentation <= 100)
    f.gauge('zow_pool_fragmentation_ratio', 'Of the free space, 0 to 1.', fragmentation / 100, { pool });
  f.gauge('zow_pool_data_errors', 'Errors that could not be mended, as zpool status counts them.', details.dataErrors, {
    pool,
  });
  f.gauge('zow_pool_vdevs_left_out', 'Vdevs beyond the bound of what is told.', details.vdevsLeftOut, { pool });
  if (scan !== undefined) scanFamilies(f, pool, scan);
  for (const vdev of details.vdevs) vdevFamilies(f, pool, vdev);
  if (txg === undefined) return;
  f.gauge('zow_pool_txg', 'The transaction group that was written last.', txg.number, { pool });
  f.gauge('zow_pool_txg_dirty_bytes', 'Dirty data that it had.', txg.dirtyBytes, { pool });
  f.gauge('zow_pool_txg_written_bytes', 'What was written for it.', txg.writtenBytes, { pool });
  for (const phase of ['open', 'quiesce', 'wait', 'sync'] as const)
    f.gauge('zow_pool_txg_phase_seconds', 'How long it was in each phase.', txg[phase], { pool, phase });
}

function scanFamilies(f: Families, pool: string, scan: ScanSample): void {
  const labels = { pool, kind: scan.kind };
  f.gauge(
    'zow_pool_scan_running',
    'Whether a scrub or resilver is under way, or paused.',
    scan.state === 'scanning' ? 1 : 0,
    labels,
  );
  f.gauge('zow_pool_scan_paused', 'Whether it is paused.', scan.paused ? 1 : 0, labels);
  f.gauge('zow_pool_scan_size_bytes', 'What it has to read.', scan.total, labels);
  f.gauge('zow_pool_scan_issued_bytes', 'What it has read.', scan.issued, labels);
  f.gauge('zow_pool_scan_errors', 'Errors that it found.', scan.errors, labels);
  f.gauge('zow_pool_scan_start_timestamp_seconds', 'When it began.', scan.startedAt, labels);
  if (scan.endedAt !== 0) f.gauge('zow_pool_scan_end_timestamp_seconds', 'When it ended.', scan.endedAt, labels);
  f.gauge('zow_pool_scan_remaining_seconds', 'How long it still takes, at its rate so far.', scan.secondsLeft, labels);
}

function vdevFamilies(f: Families, pool: string, vdev: VdevSample): void {
  const labels = f.labels('pool', pool, 'vdev', vdev.name);
  const { kind, state } = vdev;
  f.gauge('zow_vdev_state', 'Its state is a label; the value is 1.', 1, { ...labels, kind, state });
  // One that is in use is among the data as well, and counted there.
  if (kind === 'spare') return;
  if (vdev.size > 0) {
    f.gauge('zow_vdev_size_bytes', 'Of devices and groups at the top: their capacity.', vdev.size, labels);
    f.gauge('zow_vdev_allocated_bytes', 'Of devices and groups at the top: what is in use.', vdev.allocated, labels);
  }
  for (const op of ['read', 'write'] as const) {
    f.counter(
      'zow_vdev_operations_total',
      'I/O since the pool was imported.',
      vdev.operations[op],
      f.with(labels, 'op', op),
    );
    f.counter('zow_vdev_bytes_total', 'Bytes since the pool was imported.', vdev.bytes[op], f.with(labels, 'op', op));
  }
  for (const type of ['read', 'write', 'checksum'] as const)
    f.counter('zow_vdev_errors_total', 'Errors since the import or the last zpool clear.', vdev.errors[type], {
      ...labels,
      type,
    });
  f.counter('zow_vdev_slow_operations_total', 'I/O of more than zio_slow_io_ms.', vdev.slow, labels);
  for (const op of ['read', 'write'] as const) {
    const buckets = vdev.latency?.[op];
    if (buckets === undefined || buckets.every((bucket) => bucket === 0)) continue;
    f.histogram(
      'zow_device_io_seconds',
      'How long I/O of a device took.',
      { bounds: DEVICE_BOUNDS, buckets },
      f.with(labels, 'op', op),
    );
  }
}

function datasetFamilies(f: Families, pool: string, { at, datasets, leftOut }: DatasetsSample): void {
  f.gauge('zow_pool_datasets_timestamp_seconds', 'When the space of the datasets was last asked for.', at, { pool });
  f.gauge('zow_pool_datasets_left_out', 'Whether there are more than are told.', leftOut ? 1 : 0, { pool });
  for (const { name, isVolume, used, referenced, compressratio } of datasets) {
    const labels = f.labels('pool', pool, 'dataset', name, 'type', isVolume ? 'volume' : 'filesystem');
    f.gauge('zow_dataset_used_bytes', 'As zfs get shows it.', used, labels);
    f.gauge('zow_dataset_referenced_bytes', 'As zfs get shows it.', referenced, labels);

    f.gauge('zow_dataset_compression_ratio', 'As zfs get shows it.', compressratio, labels);
  }
}

function volumeFamilies(f: Families, { volumes }: EngineSample): void {
  let histograms = 0;
  for (const { name, size, io } of volumes) {
    const labels = f.labels('pool', name.split('/', 1)[0]!, 'volume', name);
    f.gauge('zow_volume_size_bytes', 'Its volsize.', size, labels);
    if (io === undefined) continue;
    ioFamilies(f, io, labels, histograms < HISTOGRAMS_MAX);
    if (Object.keys(io).length > 0) histograms++;
  }
}

function ioFamilies(f: Families, io: VolumeStatistics, volume: Labels, withHistogram: boolean): void {
  for (const [op, { operations, errors, bytes, seconds, buckets }] of Object.entries(io)) {
    const labels = f.with(volume, 'op', op);
    f.counter('zow_volume_operations_total', 'Requests of clients.', operations, labels);
    f.counter('zow_volume_errors_total', 'Those that failed.', errors, labels);
    if (op !== 'flush') f.counter('zow_volume_bytes_total', 'Bytes of those that did not fail.', bytes, labels);
    const histogram = { bounds: LATENCY_BOUNDS, buckets, sum: seconds };
    if (withHistogram) f.histogram('zow_volume_io_seconds', 'How long requests took in the core.', histogram, labels);
  }
}

function arcFamilies(f: Families, { arc }: EngineSample, engine: string): void {
  f.gauge('zow_arc_size_bytes', 'Size of the ARC.', arc.size, { engine });
  f.gauge('zow_arc_target_bytes', 'Size that the ARC wants to have.', arc.c, { engine });
  f.gauge('zow_arc_max_bytes', 'Size that the ARC can have.', arc.c_max, { engine });
  for (const type of ['demand_data', 'demand_metadata', 'prefetch_data', 'prefetch_metadata']) {
    f.counter('zow_arc_hits_total', 'Blocks that were in the ARC.', arc[`${type}_hits`], { engine, type });
    f.counter('zow_arc_misses_total', 'Blocks that were not.', arc[`${type}_misses`], { engine, type });
  }
  f.counter(
    'zow_arc_memory_throttles_total',
    'Writes that were slowed down for want of memory.',
    arc.memory_throttle_count,
    { engine },
  );
}

/** The parts of the ARC as it counts them, what else is in use, and what is free: together the whole. */
export function memoryByKind({ arc, heap }: Pick<EngineSample, 'arc' | 'heap'>): Record<string, number> {
  const part = (...names: string[]): number => names.reduce((sum, name) => sum + (arc[name] ?? 0), 0);
  const kinds = {
    arc_data: part('data_size'),
    arc_metadata: part('metadata_size'),
    arc_headers: part('hdr_size', 'l2_hdr_size'),
    dbufs: part('dbuf_size'),
    dnodes: part('dnode_size', 'bonus_size'),
  };
  const known = Object.values(kinds).reduce((sum, size) => sum + size, 0);
  return { ...kinds, other: Math.max(0, heap.used - known), free: Math.max(0, heap.size - heap.used) };
}

function logFamilies(f: Families, { zil, transactions }: EngineSample, engine: string): void {
  f.counter('zow_zil_commits_total', 'Commits of the intent log.', zil.zil_commit_count, { engine });
  f.counter('zow_zil_stalls_total', 'Commits that had to wait for a transaction group.', zil.zil_commit_stall_count, {
    engine,
  });
  f.counter('zow_zil_records_total', 'Records of the intent log.', zil.zil_itx_count, { engine });
  for (const kind of ['indirect', 'copied', 'needcopy'])
    f.counter(
      'zow_zil_record_bytes_total',
      'Data of its records, by how they have them.',
      zil[`zil_itx_${kind}_bytes`],
      { engine, kind },
    );
  f.counter('zow_transactions_total', 'Transactions that were assigned to a group.', transactions.dmu_tx_assigned, {
    engine,
  });
  for (const reason of [
    'memory_reserve',
    'dirty_throttle',
    'dirty_delay',
    'dirty_over_max',
    'wrlog_delay',
    'quota',
    'suspended',
  ])
    f.counter(
      'zow_transactions_held_total',
      'Transactions that were slowed down or refused, by why.',
      transactions[`dmu_tx_${reason}`],
      { engine, reason },
    );
}

function processFamilies(f: Families, sample: ProcessSample, process: string): void {
  f.counter('zow_process_cpu_seconds_total', 'Processor time.', sample.cpuSeconds, { process });
  f.gauge('zow_process_resident_memory_bytes', 'Resident memory.', sample.residentBytes, { process });
  f.gauge('zow_process_start_time_seconds', 'When it was started.', sample.startedAt, { process });
  for (const [stat, value] of Object.entries(sample.delay))
    f.gauge(
      'zow_process_event_loop_delay_seconds',
      'By how much the event loop came late since the scrape before.',
      value,
      { process, stat },
    );
}
