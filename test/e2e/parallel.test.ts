import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { join } from 'node:path';
import test from 'ava';
import { zfsCmdBytes } from '../../host/core/zfs-cmd.ts';
import type { HostStatus } from '../../host/supervisor/status.ts';
import { LaneClient } from '../host/ioctl/client.ts';
import { packNvlist } from '../host/nvlist/pack.ts';
import { dice, execute, Lab, long, MiB, noise, type Result, root, sleep, until } from './host.ts';

/** Many programs at once: none waits for ever, none fails that should not, and nothing of them stays in the host. */
const workers = 32;
/** The first of them have pools of their own. */
const poolWorkers = 4;
const roundMs = long ? 60_000 : 6_000;
/**
 * By which the resident memory of the host, and of the pool's engine, may grow from one round to the next, which is alike. The core's
 * part is bounded by its memory, which the load touches little by little; a leak there ends in programs that fail for want of it. Of
 * the rest some 40 MiB come and go with V8's collections.
 */
const growthBytesMax = 128 * MiB;

/** What `zpool scrub` says when another one was first; it guesses at a resilver when that began after it had looked. */
const scrubbing = /currently (scrubbing|resilvering)/;

/** One worker's commands, on names of its own. */
class Worker {
  readonly #lab: Lab;
  readonly #home: string;
  readonly #pool: { name: string; disk: string } | undefined;
  readonly #roll: (n: number) => number;
  readonly #bin: string;
  count = 0;

  constructor(lab: Lab, index: number) {
    this.#lab = lab;
    this.#home = `tank/w${index}`;
    this.#pool = index < poolWorkers ? { name: `p${index}`, disk: lab.disk(`p${index}`, 128 * MiB) } : undefined;
    this.#roll = dice(index + 1);
    // Native programs start within milliseconds and load the host most; a few workers use the product's own.
    this.#bin = join(root, index % 8 === 7 ? 'cli/bin' : 'cli/native/bin');
  }

  /** Commands in a random order until the time is over. Rejects at the first that does what it should not. */
  async work(until: number): Promise<void> {
    await this.#must('zfs', 'create', '-u', this.#home);
    while (Date.now() < until) {
      const steps = [this.#volume, this.#snapshots, this.#stream, this.#look, this.#scrub, this.#dies];
      await (this.#pool === undefined ? steps[this.#roll(steps.length)]! : this.#ownPool).call(this);
    }
    await this.#must('zfs', 'destroy', '-r', this.#home);
  }

  async #volume(): Promise<void> {
    const volume = `${this.#home}/v`;
    await this.#must('zfs', 'create', '-s', '-V', '16M', '-o', 'compression=zstd', volume);
    await this.#must('zfs', 'set', 'compression=lz4', 'org.example:note=here', volume);
    const { stdout } = await this.#must('zfs', 'get', '-Ho', 'value', 'compression,org.example:note', volume);
    if (stdout !== 'lz4\nhere\n') throw new Error(`properties of ${volume}: ${stdout}`);
    await this.#must('zfs', 'destroy', volume);
  }

  async #snapshots(): Promise<void> {
    const [home, name] = [this.#home, `s${this.count}`];
    await this.#must('zfs', 'snapshot', '-r', `${home}@${name}`);
    await this.#must('zfs', 'hold', 'keep', `${home}@${name}`);
    await this.#must('zfs', 'release', 'keep', `${home}@${name}`);
    await this.#must('zfs', 'clone', '-u', `${home}@${name}`, `${home}/clone`);
    await this.#must('zfs', 'rename', '-u', `${home}/clone`, `${home}/renamed`);
    await this.#must('zfs', 'bookmark', `${home}@${name}`, `${home}#${name}`);
    await this.#must('zfs', 'destroy', '-R', `${home}@${name}`);
    await this.#must('zfs', 'destroy', `${home}#${name}`);
  }

  async #stream(): Promise<void> {
    const copy = `${this.#home}/copy`;
    await this.#run('/bin/bash', '-c', `set -o pipefail; zfs send tank/seed@one | zfs receive ${copy}`);
    await this.#must('zfs', 'destroy', '-r', copy);
  }

  async #look(): Promise<void> {
    await this.#must('zfs', 'list', '-r', '-t', 'all', this.#home);
    await this.#must('zfs', 'list', '-j', 'tank');
    await this.#must('zfs', 'get', '-r', 'all', this.#home);
    await this.#must('zpool', 'iostat', '-v', 'tank');
    await this.#must('zpool', 'status', '-v');
    await this.#must('zpool', 'get', 'all', 'tank');
    await this.#must('zpool', 'events', '-H');
  }

  async #scrub(): Promise<void> {
    const { code, stderr } = await this.#try('zpool', 'scrub', 'tank');
    if (code !== 0 && !scrubbing.test(stderr)) throw new Error(`zpool scrub -> ${code}: ${stderr}`);
  }

  /** A program that is killed in the middle of an ioctl: it sends to nobody, or waits for events. */
  async #dies(): Promise<void> {
    this.count++;
    const [program, ...args] = this.#roll(2) === 0 ? ['zfs', 'send', 'tank/seed@one'] : ['zpool', 'events', '-f'];
    const child = spawn(join(this.#bin, program!), args, { env: this.#env, stdio: ['ignore', 'pipe', 'ignore'] });
    await once(child.stdout, 'readable');
    child.kill('SIGKILL');
    child.stdout.resume();
    await once(child, 'close');
  }

  async #ownPool(): Promise<void> {
    const { name, disk } = this.#pool!;
    await this.#must('zpool', 'create', '-f', name, disk);
    await this.#must('zfs', 'create', '-V', '16M', `${name}/v`);
    await this.#must('zpool', 'export', name);
    await this.#must('zpool', 'import', '-d', disk, name);
    await this.#must('zpool', 'scrub', '-w', name);
    await this.#must('zpool', 'destroy', name);
  }

  #must(program: string, ...args: string[]): Promise<Result> {
    return this.#run(join(this.#bin, program), ...args);
  }

  async #run(command: string, ...args: string[]): Promise<Result> {
    const result = await this.#try(command, ...args);
    if (result.code !== 0) throw new Error(`${command} ${args.join(' ')} -> ${result.code}\n${result.stderr}`);
    return result;
  }

  #try(command: string, ...args: string[]): Promise<Result> {
    this.count++;
    return execute(command.startsWith('/') ? command : join(this.#bin, command), args, { vars: this.#env });
  }

  get #env(): NodeJS.ProcessEnv {
    return { ...process.env, ZOW_SOCKET: this.#lab.socket, PATH: `${this.#bin}:${process.env.PATH}` };
  }
}

async function engineOf(lab: Lab, pool: string): Promise<number> {
  const { engines } = JSON.parse((await lab.zow('status', '--json')).stdout) as HostStatus;
  return engines.find(({ pools }) => pools.includes(pool))!.pid;
}

/** All workers for the time of a round. Resolves, when they have ended, with how many commands they ran. */
async function round(all: readonly Worker[]): Promise<number> {
  const end = Date.now() + roundMs;
  const before = all.reduce((sum, { count }) => sum + count, 0);
  const ended = await Promise.allSettled(all.map((worker) => worker.work(end)));
  const failed = ended.find((result) => result.status === 'rejected');
  if (failed !== undefined) throw failed.reason;
  return all.reduce((sum, { count }) => sum + count, 0) - before;
}

test('32 programs at a time: each ends as it should, and they leave neither sessions nor memory behind', async (t) => {
  t.timeout(10 * 60_000);
  const lab = await Lab.open(t);
  const disk = lab.disk('a', 2048 * MiB);
  await lab.start({ vars: { ZOW_ENGINES: 'processes' }, config: { memory: '256M', zed: false } });
  await lab.zpool('create', '-o', 'ashift=12', 'tank', disk);
  await lab.zfs('create', '-s', '-V', '512M', 'tank/seed');
  const client = await lab.open('tank/seed');
  await client.writeAt(0, noise(4 * MiB));
  await lab.zfs('snapshot', 'tank/seed@one');
  // As much as the cache may have: from here on it does not grow.
  for (let at = 4; at < 164; at += 4) await client.writeAt(at * MiB, noise(4 * MiB, at));
  client.destroy();
  await lab.zpool('sync');
  await until('nobody is connected', () => lab.sessions === 0);

  const all = Array.from({ length: workers }, (_, index) => new Worker(lab, index));
  const rounds: { commands: number; residentBytes: number }[] = [];
  for (let i = 0; i < 3; i++) {
    const commands = await round(all);
    await until('no session is left', () => lab.sessions === 0);
    await lab.zpool('sync');
    await sleep(500);
    rounds.push({ commands, residentBytes: lab.residentBytes() + lab.residentBytes(await engineOf(lab, 'tank')) });
  }
  const [, warm, last] = rounds;
  t.log(rounds.map(({ commands, residentBytes }) => `${commands} commands, ${residentBytes >> 20} MiB`).join('; '));
  t.true(last!.residentBytes < warm!.residentBytes + growthBytesMax, JSON.stringify(rounds));
  t.is((await lab.zfs('list', '-Ho', 'name')).trim(), 'tank\ntank/seed');
  await until('the scrub is over', async () => !/in progress/.test(await lab.zpool('status', 'tank')), 60_000);
  await lab.finish('tank');
});

// Each needs memory before it begins; what waits for it has none yet, so many that wait are not in each other's way.
test('64 senders whose readers are slow to start take turns in a memory that has room for a few', async (t) => {
  const lab = await Lab.open(t);
  await lab.start({ config: { memory: '256M', zed: false } });
  await lab.zpool('create', 'tank', lab.disk('a', 256 * MiB));
  await lab.zfs('create', '-s', '-V', '64M', 'tank/v');
  const client = await lab.open('tank/v');
  await client.writeAt(0, noise(2 * MiB));
  client.destroy();
  await lab.zfs('snapshot', 'tank/v@one');
  const senders = Array.from({ length: 64 }, () =>
    spawn(join(root, 'cli/native/bin/zfs'), ['send', 'tank/v@one'], {
      env: { ...process.env, ZOW_SOCKET: lab.socket },
      stdio: ['ignore', 'pipe', 'inherit'],
    }),
  );
  await until('all have asked', () => lab.sessions >= senders.length);
  await sleep(1_000);
  const ends = await Promise.all(
    senders.map(async (child) => {
      child.stdout.resume();
      const [code] = await once(child, 'close');
      return code;
    }),
  );
  t.deepEqual(
    ends,
    senders.map(() => 0),
  );
  await lab.finish('tank');
});

// As zpool import -a, which has a thread for each pool. Upstream keeps the name of the last pool a thread changed.
test('threads of one program change several pools at once', async (t) => {
  const lab = await Lab.open(t);
  const pools = ['a', 'middling', 'a-pool-with-a-long-name'];
  await lab.start();
  for (const pool of pools) await lab.zpool('create', pool, lab.disk(pool, 64 * MiB));
  const setProperty = 0x5a16;
  const srcSizeOffset = 4104; // zc_nvlist_src_size
  const threads = Array.from({ length: 12 }, async (_, thread) => {
    const lane = await LaneClient.open(lab.socket);
    for (let i = 0; i < 25; i++) {
      const cmd = Buffer.alloc(zfsCmdBytes);
      const src = Buffer.from(packNvlist({ 'org.example:thread': `${thread}` }));
      cmd.write(pools[(thread + i) % pools.length]!);
      cmd.writeBigUInt64LE(BigInt(src.length), srcSizeOffset);
      lane.request(setProperty, { src }, cmd);
      t.is((await lane.answer()).errno, 0);
    }
    lane.close();
  });
  await Promise.all(threads);
  t.is((await lab.zpool('list', '-Ho', 'name')).trim().split('\n').sort().join(), [...pools].sort().join());
  await lab.stop();
});

test('every search lists every pool, and imports succeed, while others look at the same pools', async (t) => {
  const lab = await Lab.open(t);
  const pools = ['one', 'two', 'three'];
  await lab.start();
  for (const pool of pools) await lab.zpool('create', pool, lab.disk(pool, 64 * MiB));
  await lab.zpool('export', '-a');
  const zpool = (...args: string[]) =>
    execute(join(root, 'cli/native/bin/zpool'), args, { vars: { ZOW_SOCKET: lab.socket } });
  const searches = await Promise.all(Array.from({ length: 16 }, () => zpool('import', '-d', lab.disks)));
  const found = searches.map(({ stdout }) => [...stdout.matchAll(/pool: (\S+)/g)].map(([, name]) => name).sort());
  t.deepEqual(
    found,
    Array.from(searches, () => [...pools].sort()),
  );
  const [imports] = await Promise.all([
    Promise.all(pools.map((pool) => zpool('import', '-d', lab.disks, pool))),
    Promise.all(Array.from({ length: 8 }, () => zpool('import', '-d', lab.disks))),
  ]);
  t.deepEqual(
    imports.map(({ code, stderr }) => ({ code, stderr })),
    pools.map(() => ({ code: 0, stderr: '' })),
  );
  await lab.stop();
});
