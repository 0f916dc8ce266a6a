import test from 'ava';
import { exposition } from '../../../host/metrics/exposition.ts';
import { familiesOf, HISTOGRAMS_MAX } from '../../../host/metrics/families.ts';
import type { Family } from '../../../host/metrics/family.ts';
import { sampleHost } from '../../../host/metrics/host-sample.ts';
import { Sampler } from '../../../host/metrics/sampler.ts';
import { TestCore, type TestSession } from '../core/fixture.ts';

/** The sampler on OpenZFS's core, in this process, with disks in memory. */

const OPENMETRICS = 'application/openmetrics-text';
const MiB = 1024 ** 2;

async function createVolumes(session: TestSession, count: number): Promise<void> {
  const create = async (i: number): Promise<void> => {
    const src = { type: 3, props: { volsize: BigInt(MiB), volblocksize: 16384n } };
    await session.must('CREATE', { cmd: { name: `tank/v${String(i).padStart(4, '0')}` }, src, dstRoom: 4096 });
  };
  // So many share a transaction group.
  for (let i = 0; i < count; i += 100)
    await Promise.all(Array.from({ length: Math.min(100, count - i) }, (_, j) => create(i + j)));
}

function hostOf(sampler: Sampler) {
  const http = {
    listener: '127.0.0.1:9134',
    connections: { open: 0, total: 0, refused: 0 },
    requests: new Map<number, number>(),
  };
  const engines = [{ index: 0, pools: [], sample: sampler.sample, look: sampler.look }];
  return { release: 'x', engines, lostPools: [], engineLosses: 0, http };
}

async function families(sampler: Sampler): Promise<ReadonlyMap<string, Family>> {
  return new Map(familiesOf(await sampleHost(hostOf(sampler))).map((family) => [family.name, family]));
}

/** The value of the one sample with these labels. */
function value(
  all: ReadonlyMap<string, Family>,
  name: string,
  labels: Record<string, string> = {},
): number | undefined {
  const found = all
    .get(name)
    ?.samples.filter((sample) => Object.entries(labels).every(([key, each]) => sample.sharedLabels[key] === each));
  return found?.length === 1 ? found[0]!.value : undefined;
}

test('what clients do with a volume is counted, and nothing of those that do nothing', async (t) => {
  const lab = await TestCore.load();
  t.teardown(() => lab.core.close());
  const session = await lab.open();
  await lab.createPool(session, 'tank', 64 * MiB);
  await createVolumes(session, 2);
  const { volumes } = lab.core;
  const sampler = new Sampler(lab.core, () => ({ waiting: 0 }));
  const handle = await volumes.open('tank/v0000', { readOnly: false });
  const buffer = await volumes.buffers.acquire(65536);
  buffer.bytes.fill(7);
  for (let i = 0; i < 3; i++) await handle.write(i * 65536, buffer, { fua: false });
  await handle.read(0, buffer);
  await handle.flush();
  await t.throwsAsync(handle.read(MiB, buffer));
  buffer.release();
  const all = await families(sampler);
  const of = (op: string) => ({ volume: 'tank/v0000', op });
  t.is(value(all, 'zow_volume_operations_total', of('write')), 3);
  t.is(value(all, 'zow_volume_bytes_total', of('write')), 3 * 65536);
  t.is(value(all, 'zow_volume_operations_total', of('read')), 2);
  t.is(value(all, 'zow_volume_bytes_total', of('read')), 65536);
  t.is(value(all, 'zow_volume_errors_total', of('read')), 1);
  t.is(value(all, 'zow_volume_operations_total', of('flush')), 1);
  t.is(value(all, 'zow_volume_bytes_total', of('flush')), undefined);
  t.is(value(all, 'zow_volume_operations_total', { volume: 'tank/v0001' }), undefined);
  t.is(value(all, 'zow_volume_size_bytes', { volume: 'tank/v0001' }), MiB);
  t.is(value(all, 'zow_zil_commits_total'), 1);
  const histogram = all.get('zow_volume_io_seconds')!.samples.filter(({ sharedLabels }) => sharedLabels.op === 'write');
  t.is(histogram.find(({ sharedLabels }) => sharedLabels.le === '+Inf')!.value, 3);
  t.is(histogram.find(({ metricName }) => metricName === 'zow_volume_io_seconds_count')!.value, 3);
  t.true(histogram.find(({ metricName }) => metricName === 'zow_volume_io_seconds_sum')!.value > 0);
  // By kind, the core's memory is all of it.
  const kinds = all.get('zow_core_memory_bytes')!.samples.reduce((sum, sample) => sum + sample.value, 0);
  t.is(kinds, 256 * MiB);
  await handle.close();
  await sampler.close();
});

test('the number of series is bounded: 200 volumes in use', async (t) => {
  const lab = await TestCore.load({ memoryBytes: 512 * MiB });
  t.teardown(() => lab.core.close());
  const session = await lab.open();
  await lab.createPool(session, 'tank', 512 * MiB);
  await createVolumes(session, 200);
  const sampler = new Sampler(lab.core, () => ({ waiting: 0 }));
  const { volumes } = lab.core;
  const buffer = await volumes.buffers.acquire(16384);
  for (const { name } of volumes.list()) {
    const handle = await volumes.open(name, { readOnly: false });
    await handle.write(0, buffer, { fua: false });
    await handle.read(0, buffer);
    await handle.close();
  }
  buffer.release();
  let all = await families(sampler);
  while (value(all, 'zow_dataset_used_bytes', { dataset: 'tank/v0199' }) === undefined) {
    await new Promise((resolve) => setTimeout(resolve, 100));
    all = await families(sampler);
  }
  t.is(all.get('zow_volume_size_bytes')!.samples.length, 200);
  t.is(all.get('zow_volume_operations_total')!.samples.length, 400);
  t.is(all.get('zow_dataset_used_bytes')!.samples.length, 201);
  const withHistogram = new Set(
    all.get('zow_volume_io_seconds')!.samples.map(({ sharedLabels }) => sharedLabels.volume),
  );
  t.is(withHistogram.size, HISTOGRAMS_MAX);
  const { text, type } = await exposition([...all.values()], OPENMETRICS);
  t.true(type.startsWith(OPENMETRICS));
  t.true(text.endsWith('# EOF\n'));
  const lines = text.split('\n').filter((line) => !line.startsWith('#'));
  t.true(lines.length < 6_000, `${lines.length} series`);
  await sampler.close();
});

test('a pool whose disk does not answer keeps no scrape waiting, and is told as such', async (t) => {
  let hang = false;
  const lab = await TestCore.load({
    wrap: (device) =>
      new Proxy(device, {
        get: (target, name) => {
          const member: unknown = Reflect.get(target, name, target);
          if (typeof member !== 'function') return member;
          if (hang && ['read', 'write', 'flush'].includes(String(name)))
            return () => new Promise<never>(() => undefined);
          return member.bind(target);
        },
      }),
  });
  t.teardown(() => lab.core.close());
  const session = await lab.open();
  await lab.createPool(session, 'tank', 128 * MiB);
  await createVolumes(session, 3);
  const sampler = new Sampler(lab.core, () => ({ waiting: 0 }));
  t.is(value(await families(sampler), 'zow_pool_up', { pool: 'tank' }), 1);
  const extra = { type: 'file', path: lab.disk('extra'), ashift: 12n, is_log: 0n };
  hang = true;
  // Waits for its transaction group, with the lock that who wants to know of any pool needs.
  const conf = { type: 'root', children: [extra] };
  session.ioctl('VDEV_ADD', { cmd: { name: 'tank' }, conf, dstRoom: 65536 }).catch(() => undefined);
  let ups: (number | undefined)[] = [];
  for (let i = 0; i < 50 && !ups.includes(0); i++) {
    const all = await families(sampler);
    ups = [...ups, value(all, 'zow_pool_up', { pool: 'tank' })];
    t.is(value(all, 'zow_pool_state', { pool: 'tank', state: 'ONLINE' }), 1);
    // Not a number of before is passed off as one of now.
    if (ups.at(-1) === 0) t.is(all.get('zow_pool_size_bytes') ?? all.get('zow_dataset_used_bytes'), undefined);
    await new Promise((resolve) => setTimeout(resolve, 100));
  }
  t.is(ups.at(-1), 0);
  await sampler.close();
});
