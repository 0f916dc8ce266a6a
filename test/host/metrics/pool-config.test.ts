import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import test from 'ava';
import { release } from '../../../host/assets.ts';
import { exposition } from '../../../host/metrics/exposition.ts';
import { Families, LabelSets } from '../../../host/metrics/family.ts';
import { buckets, DEVICE_BOUNDS, poolConfig } from '../../../host/metrics/pool-config.ts';
import { RebuildStat, RemovalStat, ScanStat, VdevStat } from '../../../host/metrics/pool-stats.ts';
import { lastTxg } from '../../../host/metrics/sampler.ts';
import { DataType, NvList, type NvValue } from '../../../host/nvlist/nvlist.ts';
import { count, type VolumeStatistics } from '../../../host/volumes/statistics.ts';

const upstream = join(import.meta.dirname, '../../../zfs-src/upstream', release);

/** Where each member of a structure of uint64_t stands, from upstream's header. */
function layout(structure: string): Map<string, number> {
  const header = readFileSync(join(upstream, 'include/sys/fs/zfs.h'), 'utf8');
  const body = new RegExp(`typedef struct ${structure} \\{([\\s\\S]*?)\\n\\}`).exec(header)![1]!;
  const types = Number(/#define\s+VS_ZIO_TYPES\s+(\d+)/.exec(header)![1]);
  const places = new Map<string, number>();
  let at = 0;
  for (const [, name, array] of body.matchAll(/^\s*(?:uint64_t|hrtime_t)\s+(\w+)(\[VS_ZIO_TYPES\])?;/gm)) {
    places.set(name!, at);
    at += array === undefined ? 1 : types;
  }
  return places;
}

test('indexes are those of the structures in upstream', (t) => {
  const vdev = layout('vdev_stat');
  const names = {
    ...{ state: 'vs_state', aux: 'vs_aux', allocated: 'vs_alloc', space: 'vs_space', operations: 'vs_ops' },
    ...{ bytes: 'vs_bytes', readErrors: 'vs_read_errors', writeErrors: 'vs_write_errors' },
    ...{ checksumErrors: 'vs_checksum_errors', slow: 'vs_slow_ios', removing: 'vs_scan_removing' },
    ...{ scanProcessed: 'vs_scan_processed', resilverDeferred: 'vs_resilver_deferred' },
    ...{ initializeDone: 'vs_initialize_bytes_done', initializeTotal: 'vs_initialize_bytes_est' },
    ...{ initializeState: 'vs_initialize_state', initializeTime: 'vs_initialize_action_time' },
    ...{ trimDone: 'vs_trim_bytes_done', trimTotal: 'vs_trim_bytes_est', trimState: 'vs_trim_state' },
    ...{ trimTime: 'vs_trim_action_time', rebuildProcessed: 'vs_rebuild_processed' },
  };
  t.is(Object.keys(names).length, Object.keys(VdevStat).length);
  for (const [ours, theirs] of Object.entries(names))
    t.is(VdevStat[ours as keyof typeof VdevStat], vdev.get(theirs) as never, theirs);
  const scan = layout('pool_scan_stat');
  const scanNames = {
    ...{ function: 'pss_func', state: 'pss_state', startTime: 'pss_start_time', endTime: 'pss_end_time' },
    ...{ toExamine: 'pss_to_examine', skipped: 'pss_skipped', errors: 'pss_errors', passStart: 'pss_pass_start' },
    ...{ passPause: 'pss_pass_scrub_pause', passSpentPaused: 'pss_pass_scrub_spent_paused' },
    ...{ passIssued: 'pss_pass_issued', issued: 'pss_issued' },
  };
  for (const [ours, theirs] of Object.entries(scanNames))
    t.is(ScanStat[ours as keyof typeof ScanStat], scan.get(theirs) as never, theirs);
  const works: [Readonly<Record<string, number>>, string, Readonly<Record<string, string>>][] = [
    [
      RebuildStat,
      'vdev_rebuild_stat',
      {
        ...{ state: 'vrs_state', issued: 'vrs_bytes_issued', total: 'vrs_bytes_est' },
        ...{ passMs: 'vrs_pass_time_ms', passIssued: 'vrs_pass_bytes_issued' },
      },
    ],
    [
      RemovalStat,
      'pool_removal_stat',
      {
        ...{ state: 'prs_state', vdev: 'prs_removing_vdev', startTime: 'prs_start_time' },
        ...{ total: 'prs_to_copy', done: 'prs_copied' },
      },
    ],
    [
      RemovalStat,
      'pool_raidz_expand_stat',
      {
        ...{ state: 'pres_state', vdev: 'pres_expanding_vdev', startTime: 'pres_start_time' },
        ...{ total: 'pres_to_reflow', done: 'pres_reflowed' },
      },
    ],
  ];
  for (const [indexes, structure, members] of works)
    for (const [ours, theirs] of Object.entries(members)) t.is(indexes[ours], layout(structure).get(theirs), theirs);
});

test('powers of two of nanoseconds are put together under the next bound', (t) => {
  const powers = new Array<number>(37).fill(1);
  const sums = buckets(powers);
  t.is(sums.length, DEVICE_BOUNDS.length + 1);
  // Bucket 16 has what took less than 2^17 ns, which is the first bound.
  t.deepEqual(sums, [17, 2, 2, 2, 2, 2, 2, 2, 2, 4]);
  t.is(DEVICE_BOUNDS[0], 131072e-9);
});

test('the last transaction group that is written', (t) => {
  const table = `txg      birth            state ndirty       nread        nwritten     reads    writes   otime        qtime        wtime        stime
5        2096524492       C     1024         0            186368       0        146      1000000000   5881         14227        500000000
6        2521963784       S     0            0            0            0        0        0            0            0            0
`;
  t.deepEqual(lastTxg(table), {
    ...{ number: 5, dirtyBytes: 1024, writtenBytes: 186368 },
    ...{ open: 1, quiesce: 5881e-9, wait: 14227e-9, sync: 0.5 },
  });
  t.is(lastTxg(''), undefined);
});

test('latencies are counted in the bucket whose bound they do not exceed', (t) => {
  const statistics: VolumeStatistics = {};
  for (const seconds of [0, 0.0001, 0.00011, 10, 11]) count(statistics, 'read', 512, seconds, seconds === 11);
  t.deepEqual(statistics.read!.buckets, [2, 1, 0, 0, 0, 0, 0, 0, 0, 1, 1]);
  t.deepEqual([statistics.read!.operations, statistics.read!.errors, statistics.read!.bytes], [5, 1, 4 * 512]);
});

test('both formats; what a name can contain is escaped, and what is not known is left out', async (t) => {
  const f = new Families(new LabelSets());
  f.counter('zow_x_total', 'An x.', 3, { name: 'a"b\\c\nd' });
  f.gauge('zow_y', 'A y.', undefined);
  f.gauge('zow_y', 'A y.', Number.NaN);
  f.histogram('zow_z_seconds', 'A z.', { bounds: [0.5], buckets: [1, 2] }, f.labels('v', '1'));
  const open = await exposition(f.all, 'application/openmetrics-text;version=1.0.0;q=0.5,text/plain;q=0.3');
  t.is(open.type, 'application/openmetrics-text; version=1.0.0; charset=utf-8');
  t.is(
    open.text,
    `# HELP zow_x An x.
# TYPE zow_x counter
zow_x_total{name="a\\"b\\\\c\\nd"} 3
# HELP zow_z_seconds A z.
# TYPE zow_z_seconds histogram
zow_z_seconds_bucket{v="1",le="0.5"} 1
zow_z_seconds_bucket{v="1",le="+Inf"} 3
zow_z_seconds_count{v="1"} 3
# EOF
`,
  );
  const plain = await exposition(f.all, '*/*');
  t.is(plain.type, 'text/plain; version=0.0.4; charset=utf-8');
  t.true(plain.text.includes('# TYPE zow_x_total counter\nzow_x_total{'));
});

test('label sets are the same objects from scrape to scrape, and not for ever', (t) => {
  const sets = new LabelSets();
  const first = new Families(sets).labels('pool', 'tank', 'volume', 'v');
  t.deepEqual(first, { pool: 'tank', volume: 'v' });
  t.is(new Families(sets).labels('pool', 'tank', 'volume', 'v'), first);
  for (let i = 0; i < 100; i++) new Families(sets);
  t.not(new Families(sets).labels('pool', 'tank', 'volume', 'v'), first);
});

function list(values: Readonly<Record<string, NvValue>>): NvList {
  return new NvList(Object.entries(values).map(([name, value]) => ({ name, type: DataType.UINT64, value })));
}

const leaf = (path: string, more: Readonly<Record<string, NvValue>> = {}): NvList =>
  list({ type: 'file', path, ...more });

function group(type: string, id: bigint, ...children: NvList[]): NvList {
  return list({ type, id, children });
}

test('no two vdevs have the same name and kind, and a hole is none', (t) => {
  const mirrors = [0n, 1n].map((i) =>
    group('mirror', i, group('replacing', 0n, leaf(`/d/a${i}`), leaf(`/d/b${i}`)), leaf(`/d/c${i}`)),
  );
  const root = list({
    type: 'root',
    children: [
      ...mirrors,
      list({ type: 'hole', id: 2n }),
      leaf('/d/log', { is_log: 1n }),
      leaf('/d/s', { alloc_bias: 'special' }),
    ],
    spares: [leaf('/d/b0')],
    l2cache: [leaf('/d/cache')],
  });
  const { vdevs } = poolConfig(list({ vdev_tree: root }), 0);
  t.deepEqual(
    vdevs.map(({ name, kind }) => `${name} ${kind}`),
    [
      ...['mirror-0 data', 'mirror-0/replacing-0 data', '/d/a0 data', '/d/b0 data', '/d/c0 data'],
      ...['mirror-1 data', 'mirror-1/replacing-0 data', '/d/a1 data', '/d/b1 data', '/d/c1 data'],
      ...['/d/log log', '/d/s special', '/d/cache cache', '/d/b0 spare'],
    ],
  );
});

test('where a device is in the tree, what is said behind it, and what is under way', (t) => {
  const stats = (values: Partial<Record<keyof typeof VdevStat, number>>): bigint[] => {
    const numbers = new Array<bigint>(45).fill(0n);
    for (const [name, value] of Object.entries({ state: 7, ...values }))
      numbers[VdevStat[name as keyof typeof VdevStat]] = BigInt(value);
    return numbers;
  };
  const trimming = stats({ trimState: 1, trimDone: 100, trimTotal: 400, trimTime: 90 });
  const mirror = list({
    type: 'mirror',
    id: 0n,
    vdev_stats: stats({ state: 6 }),
    'org.openzfs:rebuild_stats': [1n, 0n, 0n, 0n, 0n, 50n, 0n, 150n, 0n, 5000n, 0n, 50n, 0n],
    children: [
      leaf('/d/a', { vdev_stats: trimming }),
      leaf('/d/b', { vdev_stats: stats({ state: 5, aux: 11 }) }),
      leaf('/d/c', { vdev_stats: stats({ rebuildProcessed: 1 }) }),
    ],
  });
  const spares = [leaf('/d/s', { vdev_stats: stats({ state: 4, aux: 10 }) })];
  const removal = [1n, 0n, 95n, 0n, 1000n, 250n, 0n];
  const root = list({ type: 'root', children: [mirror], spares, removal_stats: removal });
  const { vdevs, works } = poolConfig(list({ vdev_tree: root }), 100);
  t.deepEqual(
    vdevs.map(({ name, depth, state, note }) => [name, depth, state, note]),
    [
      ['mirror-0', 0, 'DEGRADED', undefined],
      ['/d/a', 1, 'ONLINE', 'trimming'],
      ['/d/b', 1, 'FAULTED', 'too many errors'],
      ['/d/c', 1, 'ONLINE', 'resilvering'],
      ['/d/s', 0, 'UNAVAIL', 'in use'],
    ],
  );
  const work = { paused: false };
  t.deepEqual(works, [
    { kind: 'removal', vdev: 'mirror-0', ...work, total: 1000, done: 250, rate: 50, secondsLeft: 15 },
    { kind: 'rebuild', vdev: 'mirror-0', ...work, total: 150, done: 50, rate: 10, secondsLeft: 10 },
    { kind: 'trim', vdev: '/d/a', ...work, total: 400, done: 100, rate: 10, secondsLeft: 30 },
  ]);
});

test('a pool of more vdevs than are told says so', (t) => {
  const children = Array.from({ length: 300 }, (_, i) => leaf(`/d/${i}`));
  const { vdevs, vdevsLeftOut } = poolConfig(list({ vdev_tree: list({ type: 'root', children }) }), 0);
  t.deepEqual([vdevs.length, vdevsLeftOut], [256, 44]);
});

test('how long a scrub still takes, as zpool status counts it', (t) => {
  const stats = new Array<bigint>(15).fill(0n);
  const set = (index: number, value: bigint) => {
    stats[index] = value;
  };
  for (const [name, value] of Object.entries({
    function: 1n,
    state: 1n,
    startTime: 100n,
    toExamine: 1000n,
    skipped: 100n,
  }))
    set(ScanStat[name as keyof typeof ScanStat], value);
  for (const [name, value] of Object.entries({ passStart: 100n, passIssued: 300n, issued: 300n }))
    set(ScanStat[name as keyof typeof ScanStat], value);
  const scan = () => poolConfig(list({ vdev_tree: list({ type: 'root', scan_stats: stats }) }), 130).scan!;
  // 300 bytes in 30 s; 600 are left.
  t.is(scan().secondsLeft, 60);
  set(ScanStat.passPause, 120n);
  t.is(scan().secondsLeft, undefined);
  t.true(scan().paused);
  set(ScanStat.state, 2n);
  set(ScanStat.endTime, 140n);
  t.deepEqual([scan().state, scan().endedAt, scan().paused], ['finished', 140, false]);
});
