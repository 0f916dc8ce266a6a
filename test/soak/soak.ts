/**
 * A soak: one host with a pool that is well and three whose disks fail, 32 programs, 16 NBD clients of the sick pools that
 * vanish as they like, and four of the well one that must never notice. Driven by a seed, as far as the machine lets it be.
 *
 *   node test/soak/soak.ts [MINUTES, default 120] [SEED, default 1] [WITHOUT, default none: steps and faults, with commas]
 *
 * SIGINT ends it before its time; so do many findings.
 *
 * docs/crash-safety.md says what is checked.
 */
import { type ChildProcess, fork } from 'node:child_process';
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { setPriority, tmpdir } from 'node:os';
import { join } from 'node:path';
import { print } from '../../host/print.ts';
import { dice, noise, sleep, until } from '../e2e/process.ts';
import { Client } from '../host/nbd/client.ts';
import { Chaos, sickPools } from './chaos.ts';
import type { ClientOptions } from './client.ts';
import { Disks } from './disks.ts';
import { root, SoakHost } from './host.ts';
import { ProgramWorker } from './programs.ts';
import { type Gap, type Holdings, type Outcome, ownPart, Probe, text } from './report.ts';
import type { Counts } from './tally.ts';
import { Findings, Trouble } from './trouble.ts';
import { excess, now, type Wait } from './waits.ts';
import type { Answer, Order } from './worker.ts';

export interface SoakOptions {
  readonly minutes: number;
  readonly seed: number;
  /** Programs at a time. */
  readonly programs?: number;
  /** Steps and faults that are left out. */
  readonly without?: readonly string[];
  /** What a client of the well pool may wait, beyond what the machine had no processor for; as the event loop. */
  readonly limitMs?: number;
  readonly say?: (line: string) => void;
  /** Ends it before its time, with all that is looked at in the end. */
  readonly signal?: AbortSignal;
  /** Where the host's log and the probe's are kept when something was found. Default: nowhere. */
  readonly keep?: string;
}

const MiB = 1024 ** 2;
const memoryBytes = 1024 * MiB;
const clientBlocks = 1024;
/** The sick pools' volumes, and how many clients each has. */
const volumes: Record<string, { clients: number; options: readonly string[]; encrypted?: boolean }> = {
  'sick/v': { clients: 3, options: [] },
  'sick/always': { clients: 1, options: ['-o', 'sync=always'] },
  'sick/enc/v': { clients: 2, options: [], encrypted: true },
  'frail/v': { clients: 3, options: [] },
  'frail/throughput': { clients: 2, options: ['-o', 'logbias=throughput'] },
  'ragged/v': { clients: 3, options: [] },
  'ragged/large': { clients: 2, options: ['-o', 'volblocksize=128K'] },
};
const wellVolumes = ['well/v0', 'well/v1', 'well/v2', 'well/v3'];
/** How long what was under way may take at the end, when all disks are well. */
const finishMs = 120_000;
/** So many end it. */
const findingsMax = 20;
/** By which what each of the host's processes holds may differ from the beginning, when everybody has gone. */
const descriptorsMore = 16;
const fibersMore = 80;

/** A process of clients, and the answers to what it is told. */
class Clients {
  readonly #process: ChildProcess;
  readonly #waiting = new Map<number, PromiseWithResolvers<Answer>>();
  #last = 0;

  constructor(niceness: number) {
    this.#process = fork(join(import.meta.dirname, 'worker.ts'));
    setPriority(this.#process.pid!, niceness);
    this.#process.on('message', ({ id, ...answer }: Answer & { id: number }) => {
      const waiting = this.#waiting.get(id);
      if (answer.problem !== undefined) waiting?.reject(new Error(answer.problem));
      else waiting?.resolve(answer);
    });
    this.#process.on('exit', (code) => {
      for (const { reject } of this.#waiting.values()) reject(new Error(`the clients' process ended with ${code}`));
    });
  }

  tell(order: Order, limitMs = 600_000): Promise<Answer> {
    const id = ++this.#last;
    const waiting = Promise.withResolvers<Answer>();
    this.#waiting.set(id, waiting);
    this.#process.send({ ...order, id });
    const timer = setTimeout(() => waiting.reject(new Error(`${order.do}: no answer in ${limitMs} ms`)), limitMs);
    return waiting.promise.finally(() => {
      clearTimeout(timer);
      this.#waiting.delete(id);
    });
  }

  end(): void {
    this.#process.kill('SIGKILL');
  }
}

class Soak {
  readonly #options: SoakOptions;
  readonly #directory: string;
  readonly #host: SoakHost;
  readonly #disks: Disks;
  readonly #trouble = new Trouble();
  readonly #findings: Findings;
  readonly #say: (line: string) => void;
  readonly #without: ReadonlySet<string>;
  readonly #well = new Clients(0);
  readonly #sick = new Clients(5);
  readonly #echo: ChildProcess;
  readonly #echoSocket: string;
  readonly #resident: { at: number; bytes: number }[] = [];
  readonly #began = now();
  readonly #programs: ProgramWorker[] = [];
  #chaos: Chaos[] = [];
  /** The processes that may not stand still. */
  readonly #depended = new Set<number>();
  /** When clients are there to notice. */
  readonly #served = { from: Number.POSITIVE_INFINITY, to: Number.POSITIVE_INFINITY };

  constructor(options: SoakOptions) {
    this.#options = options;
    this.#without = new Set(options.without);
    // Memory, so that this machine's disk is not what is measured.
    this.#directory = mkdtempSync(join(existsSync('/dev/shm') ? '/dev/shm' : tmpdir(), 'zow-soak-'));
    this.#say = (line) => options.say?.(`${((now() - this.#began) / 1000).toFixed(1)} ${line}`);
    this.#findings = new Findings((line) => {
      this.#say(`FOUND ${line}`);
      if (/hangs|come back/.test(line)) void this.#diagnose();
    });
    this.#host = new SoakHost(this.#directory);
    this.#disks = new Disks(this.#directory);
    this.#echoSocket = join(this.#directory, 'echo.sock');
    this.#echo = fork(join(import.meta.dirname, 'echo.ts'), [this.#echoSocket]);
  }

  async run(): Promise<Outcome> {
    try {
      await this.#prepare();
      const before = await this.#holdings();
      for (const pid of [this.#host.pid, this.#servesWell]) this.#depended.add(pid);
      this.#served.from = now();
      await this.#clientsStart();
      await this.#mix();
      const [well, sick] = await this.#finish();
      this.#served.to = now();
      await this.#verify('while the host runs');
      const after = await this.#settle(before);
      await this.#end();
      const outcome = this.#outcome(well, sick, before, after);
      this.#save();
      return outcome;
    } finally {
      for (const clients of [this.#well, this.#sick]) clients.end();
      this.#echo.kill('SIGKILL');
      await this.#host.kill();
      await this.#disks.close();
      if (process.env.ZOW_SOAK_KEEP === undefined) rmSync(this.#directory, { recursive: true, force: true });
      else this.#say(`kept: ${this.#directory}`);
    }
  }

  async #prepare(): Promise<void> {
    const disks = this.#disks;
    for (const name of ['w0', 'w1']) await disks.make(name, 1024 * MiB, false);
    for (const name of ['s0', 's1', 'm0', 'r0']) await disks.make(name, 1024 * MiB, true);
    for (const name of ['m1', 'r1', 'r2']) await disks.make(name, 1024 * MiB, false);
    for (const name of ['x0', 'x1']) await disks.make(name, 128 * MiB, false);
    await this.#host.start({ memory: `${memoryBytes / MiB}M` }, disks.rules(this.#options.seed));
    const path = (word: string) => (/^[a-z]\d$/.test(word) ? disks.disk(word).path : word);
    await this.#must('zpool', 'create', '-o', 'ashift=12', 'well', 'mirror', path('w0'), path('w1'));
    for (const volume of wellVolumes) await this.#must('zfs', 'create', '-V', '64M', volume);
    for (const { name, vdevs, failmode } of sickPools) {
      const options = ['-o', 'ashift=12', '-o', `failmode=${failmode}`];
      await this.#must('zpool', 'create', ...options, name, ...vdevs.map(path));
      await this.#must('zfs', 'create', '-s', '-V', '64M', `${name}/seed`);
      await this.#fill(`${name}/seed`);
    }
    const key = join(this.#directory, 'key');
    writeFileSync(key, noise(32, 99));
    const raw = ['-o', 'encryption=on', '-o', 'keyformat=raw', '-o', `keylocation=file://${key}`];
    await this.#must('zfs', 'create', '-u', ...raw, 'sick/enc');
    for (const [name, { options }] of Object.entries(volumes)) {
      await this.#must('zfs', 'create', '-V', '64M', ...options, name);
    }
  }

  /** Two snapshots of some megabytes, for streams. */
  async #fill(volume: string): Promise<void> {
    const client = await Client.open({ unix: this.#host.nbdSocket } as never, volume);
    for (const snapshot of ['one', 'two']) {
      for (let at = 0; at < 4; at++) await client.writeAt(at * 4 * MiB, noise(MiB, at + snapshot.length));
      await this.#must('zfs', 'snapshot', `${volume}@${snapshot}`);
    }
    client.destroy();
  }

  async #clientsStart(): Promise<void> {
    const { seed } = this.#options;
    const { nbdSocket } = this.#host;
    const common = { nbdSocket, hostPid: this.#servesWell };
    const well: ClientOptions[] = wellVolumes.map((volume, i) => ({
      id: `well${i}`,
      volume,
      first: 0,
      blocks: clientBlocks,
      seed: seed * 1000 + i,
      well: true,
    }));
    const sick: ClientOptions[] = Object.entries(volumes).flatMap(([volume, { clients }]) =>
      Array.from({ length: clients }, (_, i) => ({
        id: `${volume.replaceAll('/', '-')}-${i}`,
        volume,
        first: i * clientBlocks,
        blocks: clientBlocks,
        seed: seed * 1000 + 100 + volume.length * 10 + i,
        well: false,
      })),
    );
    await until('the control listens', () => existsSync(this.#echoSocket));
    await this.#well.tell({ do: 'start', clients: well, ...common, echoSocket: this.#echoSocket });
    await this.#sick.tell({ do: 'start', clients: sick, ...common });
  }

  /** The process that the well pool's clients depend on. */
  get #servesWell(): number {
    return this.#host.engines.get('well') ?? this.#host.pid;
  }

  /** Everything at once, for the time that was asked for. */
  async #mix(): Promise<void> {
    const { minutes, seed, programs = 32, signal } = this.#options;
    const end = Date.now() + minutes * 60_000;
    // What comes after many findings is theirs.
    const isOver = () => Date.now() >= end || signal?.aborted === true || this.#findings.total >= findingsMax;
    const common = { host: this.#host, trouble: this.#trouble, findings: this.#findings, without: this.#without };
    this.#chaos = sickPools.map(
      (pool, i) => new Chaos(pool, { ...common, disks: this.#disks, seed: seed * 10 + i, say: this.#say }),
    );
    for (let index = 0; index < programs; index++) {
      const own = index < 2 ? { disk: this.#disks.disk(`x${index}`).path } : {};
      const pool = sickPools[index % sickPools.length]!.name;
      this.#programs.push(new ProgramWorker({ ...common, index, pool, seed: seed * 100 + index, ...own }));
    }
    const watch = setInterval(() => this.#watch(), 2000);
    const work = this.#programs.map(async (worker, i) => {
      // Not all of them at the same moment.
      await sleep(dice(seed + i)(3000));
      await worker.work(isOver);
    });
    try {
      await Promise.all([...this.#chaos.map((chaos) => chaos.run(isOver)), ...work]);
    } finally {
      clearInterval(watch);
    }
  }

  #watch(): void {
    if (!this.#host.isDead) this.#resident.push({ at: now() - this.#began, bytes: this.#host.residentBytes });
  }

  /** Lets everybody end, on disks that are well. */
  async #finish(): Promise<[Counts, Counts]> {
    this.#disks.allOff();
    if (this.#died('in the middle')) {
      // Or they would go on, with the next host.
      await Promise.all([this.#well, this.#sick].map((clients) => clients.tell({ do: 'finish' }, finishMs)));
      return this.#counts();
    }
    this.#say('finishing');
    for (const chaos of this.#chaos) await chaos.recover('the end');
    for (const [name, clients] of Object.entries({ well: this.#well, sick: this.#sick })) {
      const finished = clients.tell({ do: 'finish' }, finishMs);
      await finished.catch(async (error: Error) => {
        const { lines = [] } = await clients.tell({ do: 'waiting' });
        this.#findings.add('clients do not end', `${name}: ${error.message}\n${lines.join('\n')}`);
        await this.#diagnose();
      });
    }
    return this.#counts();
  }

  async #counts(): Promise<[Counts, Counts]> {
    const [well, sick] = await Promise.all([this.#well, this.#sick].map((clients) => clients.tell({ do: 'counts' })));
    return [well!.counts!, sick!.counts!];
  }

  #died(when: string): boolean {
    if (!this.#host.isDead) return false;
    const fatal = this.#host.log.split('\n').filter((line) => /"level":60/.test(line));
    this.#findings.add(
      'the host ended',
      `${when}, with ${this.#host.code}:\n${fatal.slice(-2).join('\n').slice(0, 1500)}`,
    );
    return true;
  }

  async #verify(when: string): Promise<void> {
    if (this.#host.isDead) return;
    for (const [clients, names] of [
      [this.#well, wellVolumes],
      [this.#sick, Object.keys(volumes)],
    ] as const) {
      const order = { do: 'verify', nbdSocket: this.#host.nbdSocket, volumes: names } as const;
      try {
        const { lines = [] } = await clients.tell(order);
        for (const line of lines) this.#findings.add('data lost or wrong', `${when}: ${line}`);
      } catch (error) {
        this.#findings.add('data cannot be read', `${when}: ${(error as Error).message}`);
      }
    }
  }

  async #holdings(): Promise<Holdings> {
    await this.#must('zpool', 'sync');
    const { stdout } = await this.#host.run('zow', ['kstat', '-j', 'zfs/arcstats']);
    const [kstat] = JSON.parse(stdout || '[]') as { data: Record<string, number> }[];
    const { memory_free_bytes: free = 0, size = 0 } = kstat?.data ?? {};
    await this.#host.lookForEngines();
    const { pids } = this.#host;
    // The probe's next look at each of them.
    const since = now();
    const probe = new Probe(this.#host.probeFile);
    const looks = () =>
      pids.map((pid) => probe.read().snapshots.findLast((look) => look.pid === pid && look.at > since));
    await until('the probe looks', () => looks().every((look) => look !== undefined), 120_000);
    const snapshots = looks().filter((look) => look !== undefined);
    const { descriptors, residentBytes } = this.#host;
    return {
      coreUsedBytes: memoryBytes - free - size,
      arcBytes: size,
      descriptors,
      residentBytes,
      fibers: snapshots.flatMap(({ fibers }) => fibers),
      heapBytes: snapshots.reduce((sum, { heapUsed }) => sum + heapUsed, 0),
    };
  }

  /** What the host holds when everybody has gone; gives it time to let go. */
  async #settle(before: Holdings): Promise<Holdings | undefined> {
    if (this.#host.isDead) return undefined;
    let after = await this.#holdings();
    const processes = this.#host.pids.length;
    const hasDescriptors = () => after.descriptors > before.descriptors + processes * descriptorsMore;
    const hasFibers = () => after.fibers.length > before.fibers.length + processes * fibersMore;
    const isMore = () => hasDescriptors() || hasFibers();
    for (let tries = 0; tries < 6 && isMore(); tries++) {
      await sleep(5000);
      after = await this.#holdings();
    }
    if (hasDescriptors()) {
      this.#findings.add('descriptors are left', `${before.descriptors} before, ${after.descriptors} after`);
    }
    if (hasFibers()) {
      const names = after.fibers.join(' ');
      this.#findings.add('fibers are left', `${before.fibers.length} before, ${after.fibers.length} after: ${names}`);
    }
    return after;
  }

  /** The host ends and comes back without faults; everything that was promised is there, and zdb finds nothing. */
  async #end(): Promise<void> {
    const { seed } = this.#options;
    const leavesSuspended = seed % 2 === 1 && !this.#host.isDead && !this.#without.has('suspended');
    if (leavesSuspended) await this.#suspend('sick');
    const code = this.#host.isDead ? this.#host.code : await this.#host.stop();
    const named = /cannot export '(\w+)'/.exec(this.#host.log)?.[1];
    const good = leavesSuspended ? code === 2 && named === 'sick' : code === 0;
    if (!good && code !== 70) {
      this.#findings.add('the host does not end well', `code ${code}, ${this.#host.log.slice(-1500)}`);
    }
    this.#disks.allOff();
    const path = (word: string) => (/^[a-z]\d$/.test(word) ? this.#disks.disk(word).path : word);
    const all = [{ name: 'well', vdevs: ['mirror', 'w0', 'w1'] }, ...sickPools];
    const pools = Object.fromEntries(all.map(({ name, vdevs }) => [name, { vdevs: vdevs.map(path) }]));
    this.#say('zdb');
    for (const { name } of all) if (code === 0 || (code === 2 && name !== named)) await this.#zdb(name, 'exported');
    try {
      await this.#host.start({ memory: `${memoryBytes / MiB}M`, pools }, '');
    } catch (error) {
      this.#findings.add('the host does not start again', (error as Error).message);
      return;
    }
    await this.#verify('after a restart');
    for (const { name } of all) {
      await this.#must('zpool', 'scrub', '-w', name);
      const status = await this.#must('zpool', 'status', '-v', name);
      // After a crash a disk may lack what it could not write at the end, and nothing says so yet.
      const good = code === 70 ? /with 0 errors/ : /repaired 0B .* with 0 errors/;
      if (!good.test(status)) this.#findings.add('a scrub finds something', status);
    }
    const last = await this.#host.stop();
    if (last !== 0) this.#findings.add('the host does not end well', `after the restart: ${last}`);
    for (const { name } of all) await this.#zdb(name, 'after the restart');
  }

  async #zdb(pool: string, when: string): Promise<void> {
    const problem = await this.#host.zdb(pool, this.#disks.folder);
    if (problem !== undefined) this.#findings.add('zdb finds something', `${when}: ${problem}`);
  }

  async #suspend(pool: string): Promise<void> {
    for (const disk of ['s0', 's1']) this.#disks.on(disk, 'dead');
    void this.#host.run('zfs', ['create', '-u', `${pool}/never`], { limitMs: 300_000 });
    await until(
      `${pool} is suspended`,
      async () => /SUSPENDED/.test((await this.#host.run('zpool', ['list', '-Ho', 'health', pool])).stdout),
      120_000,
    ).catch((error: Error) => this.#findings.add('a pool without disks is not suspended', error.message));
  }

  async #must(program: string, ...args: string[]): Promise<string> {
    if (this.#host.isDead) return '';
    const { code, stdout, stderr } = await this.#host.run(program, args, { limitMs: 300_000 });
    if (code !== 0) this.#findings.add('a program fails', `${program} ${args.join(' ')} -> ${code}: ${stderr}`);
    return stdout;
  }

  /** What the core says of itself, when something hangs. */
  async #diagnose(): Promise<void> {
    const { keep, seed } = this.#options;
    if (keep === undefined) return;
    mkdirSync(keep, { recursive: true });
    writeFileSync(join(keep, `${seed}.fibers`), await this.#host.fibers());
    const { stdout } = await this.#host.run('zow', ['kstat', 'zfs/dbgmsg']);
    const { stdout: events } = await this.#host.run('zow', ['events']);
    const { stdout: status } = await this.#host.run('zpool', ['status', '-v']);
    writeFileSync(join(keep, `${seed}.dbgmsg`), [status, events, stdout].join('\n'));
  }

  /** Keeps what was logged, where something was found. */
  #save(): void {
    const { keep, seed } = this.#options;
    if (keep === undefined || this.#findings.lines.length === 0) return;
    mkdirSync(keep, { recursive: true });
    writeFileSync(join(keep, `${seed}.log`), this.#host.log);
    writeFileSync(join(keep, `${seed}.probe`), readFileSync(this.#host.probeFile));
  }

  #outcome(counts: Counts, sick: Counts, before: Holdings, after: Holdings | undefined): Outcome {
    const { limitMs = 200 } = this.#options;
    const findings = this.#findings;
    const gaps = new Probe(this.#host.probeFile).read().gaps.filter(({ pid }) => this.#depended.has(pid));
    for (const panic of this.#host.panics) findings.add('an engine ended', panic);
    const waits = counts.waits.map((wait) => ({ ...wait, starved: starvedIn(gaps, wait) }));
    const well: Counts = { ...counts, waits };
    for (const line of well.wrong) findings.add('the well pool has wrong data', line);
    for (const line of sick.wrong) findings.add('data lost or wrong', `while it ran: ${line}`);
    const died = this.#host.isDead && this.#host.code === 70;
    if (!died)
      for (const { id, text: what } of well.errors) findings.add('an error on the well pool', `${id}: ${what}`);
    let unexpected = 0;
    for (const { at, id, text: what } of sick.errors) {
      if (this.#trouble.during(id.split('-')[0], at - 5000, at) !== undefined) continue;
      unexpected++;
      const when = ((at - this.#began) / 1000).toFixed(1);
      if (!died) findings.add('an error on a pool whose disks are well', `${when} ${id}: ${what}`);
    }
    if (unexpected > 0)
      for (const line of this.#host.log.split('\n').filter((text) => /nbd/.test(text))) this.#say(line);
    for (const wait of waits) {
      if (excess(wait) <= limitMs) continue;
      const { what, from, to, control, here, hostRan, hostWaited, starved } = wait;
      const figures = [to - from, control, here, hostRan, hostWaited, excess(wait), starved].map(Math.round);
      const cause = this.#trouble.during(undefined, from, to) ?? 'no fault';
      findings.add(
        'a client of the well pool waits',
        `${what} ${figures[0]} ms (control ${figures[1]}, here ${figures[2]}, the host ran ${figures[3]}, waited ${figures[4]}, its other threads ${figures[6]}): ${figures[5]} too many; during ${cause}`,
      );
    }
    for (const gap of gaps) {
      if (ownPart(gap) <= limitMs || gap.to < this.#served.from || gap.from > this.#served.to) continue;
      const { from, to, runMs, waitMs, starvedMs } = gap;
      const cause = this.#trouble.during(undefined, from, to) ?? 'no fault';
      const figures = [to - from, runMs, waitMs, starvedMs].map(Math.round);
      findings.add(
        'the event loop stands still',
        `${((from - this.#began) / 1000).toFixed(1)}: ${figures[0]} ms, of which it ran ${figures[1]} and waited for a processor ${figures[2]}, and its other threads ${figures[3]}; during ${cause}`,
      );
    }
    return {
      ...this.#options,
      isDebug: this.#host.isDebug,
      stoppable: this.#disks.disk('s0').server !== undefined,
      well,
      sick,
      unexpected,
      programs: this.#programs,
      troubles: this.#trouble.counts,
      recoveryLongestMs: Math.max(...this.#chaos.map((chaos) => chaos.recoveryLongestMs)),
      before,
      after,
      gaps,
      resident: this.#resident,
      findings: findings.lines,
    };
  }
}

function starvedIn(gaps: readonly Gap[], { from, to }: Wait): number {
  const within = gaps.filter((gap) => gap.from < to && gap.to > from);
  return within.reduce((sum, { starvedMs }) => sum + starvedMs, 0);
}

/** Resolves with what was done and found. */
export async function soak(options: SoakOptions): Promise<Outcome> {
  return new Soak(options).run();
}

if (import.meta.main) {
  const [minutes = '120', seed = '1', without = ''] = process.argv.slice(2);
  const interrupt = new AbortController();
  process.once('SIGINT', () => interrupt.abort());
  const outcome = await soak({
    minutes: Number(minutes),
    signal: interrupt.signal,
    seed: Number(seed),
    without: without.split(',').filter((word) => word !== ''),
    say: (line) => print(1, `${line}\n`),
    keep: join(root, 'build/soak'),
  });
  print(1, `${text(outcome)}\n`);
  process.exit(outcome.findings.length === 0 ? 0 : 1);
}
