import { rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import test, { type ExecutionContext } from 'ava';
import { Cmd, CmdFlag } from '../../host/protocols/nbd.ts';
import { dice, execute, Lab, long, MiB, must, noise, root, sleep, until } from './host.ts';
import { Writer, type WriterOptions } from './writer.ts';

/**
 * kill -9 of the host in the middle of writes, at random moments. A crash of the process alone leaves what the operating
 * system has in its cache; volatile() of ZOW_FAULTS makes it a power cut, in which every disk loses what was not flushed.
 */
const kills = long ? 20 : 3;
const powerCuts = long ? 20 : 3;
/** Of a second frontend: what is below it is the same. */
const otherFront = long ? 20 : 2;

interface Scenario {
  readonly vdevs: readonly string[];
  readonly promise?: WriterOptions['promise'];
  readonly properties?: object;
  readonly faults?: string;
  readonly rounds: number;
  readonly seed: number;
  readonly encrypted?: boolean;
  readonly front?: WriterOptions['front'];
}

const volatile = (lies: 'yes' | 'no') =>
  ['a', 'b', 'c', 'd', 'log'].map((disk) => `disks/${disk}:volatile(lies=${lies})`).join(';');

/** Starts, writes, kills, again and again. Returns what was lost, of how many promises. */
async function crashes(t: ExecutionContext<unknown>, lab: Lab, scenario: Scenario): Promise<string[]> {
  const roll = dice(scenario.seed);
  const volume = scenario.encrypted === true ? 'tank/enc/v' : 'tank/v';
  const vars = scenario.faults === undefined ? {} : { ZOW_FAULTS: scenario.faults };
  const config = { pools: { tank: { vdevs: scenario.vdevs } }, iscsi: [{ listen: '127.0.0.1:0' }] };
  await create(lab, scenario, volume);
  const writer = new Writer({
    lab,
    volume,
    blocks: 512,
    seed: scenario.seed,
    promise: scenario.promise ?? 'flush',
    front: scenario.front ?? 'nbd',
  });
  const lost: string[] = [];
  for (let round = 0; ; round++) {
    await lab.start({ config, vars });
    lost.push(...(await writer.check()));
    // What a lying disk did to the pool is not worth going on with.
    if (round === scenario.rounds || lost.length > 0) break;
    const before = writer.promises;
    const writing = writer.run();
    await until('something is promised', () => writer.promises > before);
    await sleep(roll(400));
    await lab.kill();
    await writing;
  }
  t.log(`${writer.written} writes, ${writer.promises} promises`);
  await lab.kill();
  return lost;
}

async function create(lab: Lab, scenario: Scenario, ...volumes: string[]): Promise<void> {
  for (const vdev of scenario.vdevs) if (vdev.includes('/')) lab.disk(vdev.split('/').at(-1)!, 192 * MiB);
  await lab.start();
  const vdevs = scenario.vdevs.map((vdev) => (vdev.includes('/') ? `${lab.directory}/${vdev}` : vdev));
  await lab.zpool('create', '-o', 'ashift=12', 'tank', ...vdevs);
  if (scenario.encrypted === true) {
    lab.key();
    await lab.zfs(
      'create',
      '-o',
      'encryption=on',
      '-o',
      'keyformat=raw',
      '-o',
      `keylocation=file://${lab.directory}/key`,
      'tank/enc',
    );
  }
  const properties = Object.entries(scenario.properties ?? {}).flatMap(([name, value]) => ['-o', `${name}=${value}`]);
  for (const volume of volumes) await lab.zfs('create', '-V', '16M', ...properties, volume);
  await lab.stop();
}

/** Imports once more, checks the content a last time, and lets zdb judge the pool. */
async function sound(lab: Lab, scenario: Scenario): Promise<void> {
  const config = { pools: { tank: { vdevs: scenario.vdevs } } };
  await lab.start({ config });
  await lab.zpool('scrub', '-w', 'tank');
  const status = await lab.zpool('status', '-v', 'tank');
  if (!/repaired 0B .* with 0 errors/.test(status)) throw new Error(status);
  await lab.finish('tank');
}

const processKills: Record<string, Omit<Scenario, 'rounds' | 'seed'>> = {
  'flushes on a mirror': { vdevs: ['mirror', 'disks/a', 'disks/b'] },
  'FUA on raidz1': { vdevs: ['raidz1', 'disks/a', 'disks/b', 'disks/c'], promise: 'fua' },
  'sync=always with a log device': {
    vdevs: ['disks/a', 'log', 'disks/log'],
    promise: 'none',
    properties: { sync: 'always' },
  },
  'flushes of an encrypted volume': { vdevs: ['disks/a'], encrypted: true },
  'FUA over iSCSI': { vdevs: ['disks/a'], promise: 'fua', front: 'iscsi' },
};

for (const [i, [name, layout]] of Object.entries(processKills).entries()) {
  test(`kill -9 loses nothing that was promised: ${name}`, async (t) => {
    const lab = await Lab.open(t);
    const scenario = { ...layout, rounds: layout.front === undefined ? kills : otherFront, seed: 100 + i };
    t.deepEqual(await crashes(t, lab, scenario), []);
    await sound(lab, scenario);
  });
}

const powerFailures: Record<string, Omit<Scenario, 'rounds' | 'seed' | 'faults'>> = {
  'flushes on one disk': { vdevs: ['disks/a'] },
  'flushes on a mirror, with a log device': { vdevs: ['mirror', 'disks/a', 'disks/b', 'log', 'disks/log'] },
  'FUA on raidz1': { vdevs: ['raidz1', 'disks/a', 'disks/b', 'disks/c'], promise: 'fua' },
  'flushes of an encrypted volume': { vdevs: ['disks/a'], encrypted: true },
  'SYNCHRONIZE CACHE over iSCSI': { vdevs: ['disks/a'], front: 'iscsi' },
};

for (const [i, [name, layout]] of Object.entries(powerFailures).entries()) {
  test(`a power cut loses nothing that was promised: ${name}`, async (t) => {
    const lab = await Lab.open(t);
    const scenario = {
      ...layout,
      faults: volatile('no'),
      rounds: layout.front === undefined ? powerCuts : otherFront,
      seed: 200 + i,
    };
    t.deepEqual(await crashes(t, lab, scenario), []);
    await sound(lab, scenario);
  });
}

/** fio's arguments for a run with `seed` over one of the two halves of a volume. */
function fioArgs(lab: Lab, volume: string, seed: number): string[] {
  return [
    `--name=soak${seed}`,
    '--ioengine=nbd',
    `--uri=${lab.uri(volume)}`,
    `--aux-path=${lab.directory}`,
    '--rw=randwrite',
    '--bsrange=4k-64k',
    '--blockalign=4k',
    '--iodepth=8',
    `--offset=${(seed % 2) * 8}M`,
    '--size=8M',
    `--randseed=${seed}`,
    // A checksum would find the block of an older run as good as this one's.
    '--verify=pattern',
    `--verify_pattern=0x5a${seed.toString(16).padStart(6, '0')}%o`,
    '--verify_state_save=0',
    '--end_fsync=1',
  ];
}

/**
 * fio fills one half of a volume and flushes; it is at work on the other half, and the Writer on a second volume, when the
 * host is killed. ZOW_KILLS=200 for as many times.
 */
test('kill -9 loses nothing that fio has flushed', async (t) => {
  const rounds = Number(process.env.ZOW_KILLS ?? (long ? 20 : 3));
  if (rounds > 20) t.timeout(rounds * 60_000);
  const lab = await Lab.open(t);
  const scenario: Scenario = { vdevs: ['mirror', 'disks/a', 'disks/b'], rounds, seed: 400 };
  await create(lab, scenario, 'tank/v', 'tank/w');
  const writer = new Writer({ lab, volume: 'tank/w', blocks: 512, seed: scenario.seed, promise: 'flush' });
  const roll = dice(scenario.seed);
  for (let round = 0; round < rounds; round++) {
    await lab.start({ config: { pools: { tank: { vdevs: scenario.vdevs } } } });
    t.deepEqual(await writer.check(), []);
    if (round > 0) await must('fio', [...fioArgs(lab, 'tank/v', round - 1), '--verify_only']);
    await must('fio', [...fioArgs(lab, 'tank/v', round), '--do_verify=0']);
    const before = writer.promises;
    const writing = writer.run();
    const interrupted = execute('fio', [...fioArgs(lab, 'tank/v', round + 1), '--do_verify=0']);
    await until('something is promised', () => writer.promises > before);
    await sleep(roll(400));
    await lab.kill();
    await Promise.all([writing, interrupted]);
  }
  t.log(`${rounds} kills, ${writer.written} writes, ${writer.promises} promises`);
  await sound(lab, scenario);
});

// Upstream cuts a record at any eight bytes where a log block is full, and replays the first part without the second.
for (const logBlock of [128 << 10, 16 << 10, 4 << 10]) {
  test(`every record of an intent log with blocks of ${logBlock >> 10} KiB ends where a sector ends`, async (t) => {
    const lab = await Lab.open(t);
    const disks = [lab.disk('a', 192 * MiB), lab.disk('log', 192 * MiB)] as const;
    await lab.start({ config: { tunables: { zil_maxblocksize: logBlock } } });
    await lab.zpool('create', '-o', 'ashift=12', 'tank', disks[0], 'log', disks[1]);
    await lab.zfs('create', '-V', '16M', 'tank/v');
    const client = await lab.open('tank/v');
    for (let i = 0; i < 3; i++) {
      // So much that the log takes its largest blocks, and fills them.
      for (let k = 0; k < 50; k++) {
        const payload = noise(24576 + 4096 * (k % 3), i + k);
        await client.request({ type: Cmd.WRITE, offset: (50 * i + k) * 65536, length: payload.length, payload });
      }
      await client.request({ type: Cmd.FLUSH });
    }
    await lab.kill();
    const log = await must(join(root, 'cli/native/bin/zdb'), ['-iiii', '-e', '-p', lab.disks, 'tank/v']);
    const records = [...log.matchAll(/foid \d+, offset ([0-9a-f]+), length ([0-9a-f]+)/g)];
    t.true(records.length > 0, log);
    const ends = records.flatMap(([, offset = '', length = '']) => [
      parseInt(offset, 16),
      parseInt(offset, 16) + parseInt(length, 16),
    ]);
    t.deepEqual(
      ends.filter((end) => end % (logBlock > 4096 ? 4096 : 512) !== 0),
      [],
    );
    await lab.start({ config: { pools: { tank: { vdevs: ['disks/a', 'log', 'disks/log'] } } } });
    const reader = await lab.open('tank/v');
    for (let i = 0; i < 3; i++) {
      for (let k = 0; k < 50; k++) {
        const payload = noise(24576 + 4096 * (k % 3), i + k);
        t.true((await reader.readAt((50 * i + k) * 65536, payload.length)).equals(payload), `write ${k} of ${i}`);
      }
    }
  });
}

// A large write is in the log as a pointer to its block, which is there once for all writes to it.
for (const suspends of [false, true]) {
  test(`what is written over in a block that the log points to has its newest content after a crash${suspends ? ' and a suspension' : ''}`, async (t) => {
    const lab = await Lab.open(t);
    // All of it in one transaction group, which the crash keeps from its end.
    const config = { tunables: { zfs_txg_timeout: 600 }, pools: { tank: { vdevs: ['disks/a'] } } };
    const [KiB, blocks] = [1024, 10];
    await create(lab, { vdevs: ['disks/a'], properties: { volblocksize: '128K' }, rounds: 1, seed: 1 }, 'tank/v');
    const broken = join(lab.directory, 'broken');
    await lab.start({ config, vars: { ZOW_FAULTS: `disks/a:error(op=write|flush,errno=EIO,while=${broken})` } });
    const client = await lab.open('tank/v');
    const write = async (offset: number, length: number, seed: number, flags = 0) => {
      const payload = noise(length, seed);
      t.is((await client.request({ type: Cmd.WRITE, flags, offset, length, payload })).errno, 0);
    };
    const between: ((at: number) => Promise<unknown>)[] = [
      // Copied into the log: 16 KiB, what is left over when it is small, zeroes.
      (at) => write(at + 8 * KiB, 16 * KiB, 2),
      (at) => write(at + 4 * KiB, 4 * KiB, 2),
      (at) => client.request({ type: Cmd.WRITE_ZEROES, flags: CmdFlag.NO_HOLE, offset: at, length: 20 * KiB }),
      // Freed.
      (at) => client.request({ type: Cmd.TRIM, offset: at, length: 128 * KiB }),
      (at) => client.request({ type: Cmd.WRITE_ZEROES, offset: at, length: 128 * KiB }),
    ];
    // The first flush of all ends a transaction group.
    await write(15 * MiB, 4 * KiB, 4, CmdFlag.FUA);
    for (let block = 0; block < blocks; block++) {
      const at = block * 128 * KiB;
      await write(at, 64 * KiB, 1);
      await between[block % between.length]!(at);
      // With the whole block the log points to it once more when it is as it was, with half of it too.
      await write(at, block % 2 === 0 ? 128 * KiB : 64 * KiB, 3);
    }
    if (suspends) writeFileSync(broken, '');
    const flushed = client.request({ type: Cmd.FLUSH });
    if (suspends) {
      await until('the pool is suspended', async () =>
        /SUSPENDED/.test(await lab.zpool('list', '-Ho', 'health', 'tank')),
      );
      rmSync(broken);
      await lab.zpool('clear', 'tank');
    }
    t.is((await flushed).errno, 0);
    await lab.kill();
    await lab.start({ config });
    const reader = await lab.open('tank/v');
    for (let block = 0; block < blocks; block++) {
      const length = block % 2 === 0 ? 128 * KiB : 64 * KiB;
      const content = await reader.readAt(block * 128 * KiB, length);
      t.true(content.equals(noise(length, 3)), `block ${block}`);
    }
    reader.destroy();
    await lab.finish('tank');
  });
}

// It ends with the first loss; on a busy machine a round may promise too little to lose.
test('the test can fail: disks that lie about flushes lose what was promised', async (t) => {
  const lab = await Lab.open(t);
  const scenario = { vdevs: ['disks/a'], faults: volatile('yes'), rounds: 25, seed: 300 };
  let lost: string[];
  try {
    lost = await crashes(t, lab, scenario);
  } catch (error) {
    // Or so much that the pool cannot be imported any more.
    t.regex(String(error), /cannot be imported/);
    return;
  }
  t.true(lost.length > 0);
  t.true(
    lost.every((line) => /was durable/.test(line)),
    lost.join('\n'),
  );
});
