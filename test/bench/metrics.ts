/**
 * What a scrape of /metrics costs: `node test/bench/metrics.ts [SCRAPES]`. OpenZFS's core in this process, on a disk in
 * memory; processor time of collecting and writing, in milliseconds, by the number of volumes, idle and after each was
 * read and written. The first ten scrapes are not counted: the code is compiled, and the datasets are asked for.
 */
import { setTimeout as delay } from 'node:timers/promises';
import { exposition } from '../../host/metrics/exposition.ts';
import { familiesOf } from '../../host/metrics/families.ts';
import { LabelSets } from '../../host/metrics/family.ts';
import { type HostSource, sampleHost } from '../../host/metrics/host-sample.ts';
import { Sampler } from '../../host/metrics/sampler.ts';
import { TestCore } from '../host/core/fixture.ts';

const MiB = 1024 ** 2;
const WARM_UP = 10;
const scrapes = Number(process.argv[2] ?? 30);

async function measure(count: number, inUse: boolean): Promise<void> {
  const lab = await TestCore.load({ memoryBytes: 1024 * MiB });
  const session = await lab.open();
  await lab.createPool(session, 'tank', 512 * MiB);
  const create = (i: number) =>
    session.must('CREATE', {
      cmd: { name: `tank/v${i}` },
      src: { type: 3, props: { volsize: BigInt(MiB), volblocksize: 16384n } },
      dstRoom: 4096,
    });
  for (let i = 0; i < count; i += 100)
    await Promise.all(Array.from({ length: Math.min(100, count - i) }, (_, j) => create(i + j)));
  if (inUse) await useAll(lab);
  const sampler = new Sampler(lab.core, () => ({ waiting: 0 }));
  const http = {
    listener: '127.0.0.1:9134',
    connections: { open: 0, total: 0, refused: 0 },
    requests: new Map<number, number>(),
  };
  const engines = [{ index: 0, pools: [], sample: sampler.sample, look: sampler.look }];
  const host: HostSource = { release: lab.core.release, engines, lostPools: [], engineLosses: 0, http };
  const sets = new LabelSets();
  const costs: number[] = [];
  let lines = 0;
  for (let i = 0; i < WARM_UP + scrapes; i++) {
    const before = process.cpuUsage();
    const families = familiesOf(await sampleHost(host), sets);
    const { text } = await exposition(families, 'application/openmetrics-text');
    const { user, system } = process.cpuUsage(before);
    lines = text.split('\n').length;
    if (i >= WARM_UP) costs.push((user + system) / 1000);
    await delay(700);
  }
  costs.sort((a, b) => a - b);
  const at = (part: number): string => costs[Math.floor((costs.length - 1) * part)]!.toFixed(1);
  const what = `${count} volumes, ${inUse ? 'in use' : 'idle'}, ${lines} lines`;
  process.stdout.write(`${what.padEnd(40)} least ${at(0)}  median ${at(0.5)}  most ${at(1)}\n`);
  await sampler.close();
  await session.close();
  await lab.core.close();
}

async function useAll({ core: { volumes } }: TestCore): Promise<void> {
  const buffer = await volumes.buffers.acquire(16384);
  for (const { name } of volumes.list()) {
    const handle = await volumes.open(name, { readOnly: false });
    await handle.write(0, buffer, { fua: false });
    await handle.read(0, buffer);
    await handle.close();
  }
  buffer.release();
}

await measure(10, false);
await measure(1000, false);
await measure(1000, true);
