import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { dice, sleep } from '../e2e/process.ts';
import type { ProgramResult, RunOptions, SoakHost } from './host.ts';
import type { Findings, Trouble } from './trouble.ts';
import { now } from './waits.ts';

/** What programs may say at any time, for others are at work on the same pools. */
const ordinary = [
  /currently (scrubbing|resilvering)|already in progress|cannot scrub/,
  /dataset (is busy|does not exist|already exists)|dataset is busy|snapshot has dependent clones|has children/,
  /most recent snapshot of .* does not match|destination .* (exists|has been modified)|no such snapshot/,
  /the loaded keys of this pool/,
];
/** What nothing may ever say. */
const never = /connection (was )?(lost|closed)|core (ended|is lost)|Assertion|VERIFY|panic|Segmentation|no ZoW host/i;

const limitMs = 120_000;

export interface ProgramOptions {
  readonly host: SoakHost;
  readonly trouble: Trouble;
  readonly findings: Findings;
  readonly seed: number;
  readonly index: number;
  readonly pool: string;
  /** A disk for pools of its own. */
  readonly disk?: string;
  readonly without: ReadonlySet<string>;
}

type Step = (this: ProgramWorker) => Promise<void>;

/** A pool in trouble, or a program that was interrupted: the rest of the step makes no sense. */
class GivesUp extends Error {}

/** One of many who run programs against the host, on names of their own. */
export class ProgramWorker {
  readonly #options: ProgramOptions;
  readonly #home: string;
  readonly #roll: (n: number) => number;
  readonly done: Record<string, number> = {};
  readonly longest: Record<string, number> = {};
  readonly errors: Record<string, number> = {};
  commands = 0;
  #step = '';

  constructor(options: ProgramOptions) {
    this.#options = options;
    this.#home = `${options.pool}/w${options.index}`;
    this.#roll = dice(options.seed);
  }

  async work(isOver: () => boolean): Promise<void> {
    const { host, disk, without } = this.#options;
    const known: Record<string, Step> = {
      volume: this.#volume,
      snapshots: this.#snapshots,
      stream: this.#stream,
      interrupted: this.#interrupted,
      look: this.#look,
      scrub: this.#scrub,
      dies: this.#dies,
      program: this.#program,
      nested: this.#nested,
      keys: this.#keys,
      foreign: this.#foreignKey,
      promote: this.#promote,
      observe: this.#observe,
    };
    const steps = disk === undefined ? Object.keys(known).filter((name) => !without.has(name)) : ['pool'];
    while (!isOver() && !host.isDead) {
      this.#step = steps[this.#roll(steps.length)]!;
      this.done[this.#step] = (this.done[this.#step] ?? 0) + 1;
      try {
        await (disk === undefined ? known[this.#step]!.call(this) : this.#ownPool(disk));
      } catch (error) {
        if (!(error instanceof GivesUp)) throw error;
      }
      await sleep(this.#roll(1500));
    }
  }

  /** A home without anything in it. */
  async #fresh(): Promise<string> {
    await this.#may('zfs', 'destroy', '-R', this.#home);
    await this.#must('zfs', 'create', '-u', this.#home);
    return this.#home;
  }

  async #volume(): Promise<void> {
    const volume = `${await this.#fresh()}/v`;
    await this.#must('zfs', 'create', '-s', '-V', '16M', '-o', 'compression=zstd', volume);
    await this.#must('zfs', 'set', 'compression=lz4', 'org.example:note=here', volume);
    const { stdout } = await this.#must('zfs', 'get', '-Ho', 'value', 'compression,org.example:note', volume);
    if (stdout !== 'lz4\nhere\n') this.#options.findings.add('wrong output', `properties of ${volume}: ${stdout}`);
    await this.#must('zfs', 'set', 'volsize=32M', volume);
    await this.#must('zfs', 'destroy', volume);
  }

  async #snapshots(): Promise<void> {
    const home = await this.#fresh();
    await this.#must('zfs', 'snapshot', '-r', `${home}@s`);
    await this.#must('zfs', 'hold', 'keep', `${home}@s`);
    await this.#must('zfs', 'release', 'keep', `${home}@s`);
    await this.#must('zfs', 'clone', '-u', `${home}@s`, `${home}/clone`);
    await this.#must('zfs', 'rename', '-u', `${home}/clone`, `${home}/renamed`);
    await this.#must('zfs', 'bookmark', `${home}@s`, `${home}#s`);
    await this.#must('zfs', 'rollback', '-R', `${home}@s`);
    await this.#must('zfs', 'destroy', '-R', `${home}@s`);
    await this.#must('zfs', 'destroy', `${home}#s`);
  }

  async #stream(): Promise<void> {
    const home = await this.#fresh();
    const { pool } = this.#options;
    await this.#shell(`zfs send ${pool}/seed@one | zfs receive -u ${home}/copy`);
    await this.#shell(`zfs send -i @one ${pool}/seed@two | zfs receive -u ${home}/copy`);
  }

  /** Ctrl-C somewhere in a send -R, a receive, a recursive list. */
  async #interrupted(): Promise<void> {
    const { pool } = this.#options;
    const interruptMs = 20 + this.#roll(400);
    const commands = [
      ['zfs', 'send', '-R', `${pool}/seed@two`],
      ['zfs', 'list', '-r', '-t', 'all'],
      ['zpool', 'scrub', '-w', pool],
      ['zpool', 'wait', '-t', 'scrub', pool],
      ['zfs', 'get', '-r', 'all', pool],
    ];
    const [program = '', ...args] = commands[this.#roll(commands.length)]!;
    await this.#run(program, args, { interruptMs });
  }

  async #look(): Promise<void> {
    const { pool } = this.#options;
    await this.#must('zfs', 'list', '-r', '-t', 'all', pool);
    await this.#must('zfs', 'get', '-r', 'all', this.#home.replace(/w\d+$/, 'seed'));
    await this.#must('zpool', 'iostat', '-v', pool);
    await this.#must('zpool', 'status', '-v');
    await this.#must('zpool', 'get', 'all', pool);
    await this.#must('zpool', 'events', '-H');
    await this.#must('zpool', 'history', pool);
  }

  async #scrub(): Promise<void> {
    await this.#must('zpool', 'scrub', this.#options.pool);
    if (this.#roll(2) === 0) await this.#may('zpool', 'scrub', '-s', this.#options.pool);
  }

  /** A program that is killed in the middle. */
  async #dies(): Promise<void> {
    const { pool } = this.#options;
    const commands = [
      ['zfs', 'send', `${pool}/seed@two`],
      ['zpool', 'events', '-f'],
      ['zfs', 'snapshot', '-r', `${this.#home}@dies${this.commands}`],
      ['zfs', 'destroy', '-R', this.#home],
      ['zpool', 'sync', pool],
    ];
    const [program = '', ...args] = commands[this.#roll(commands.length)]!;
    await this.#run(program, args, { limitMs: 10 + this.#roll(500) });
  }

  async #program(): Promise<void> {
    const home = await this.#fresh();
    const { pool } = this.#options;
    const turns = 100 + this.#roll(this.#roll(4) === 0 ? 50_000 : 3000);
    const scripts = [
      `for i = 1, ${turns}, 1 do zfs.check.snapshot("${home}@s"); zfs.check.destroy("${pool}") end return "done"`,
      `for i = 1, ${Math.ceil(turns / 100)}, 1 do zfs.sync.snapshot("${home}@s" .. i) end
       for s in zfs.list.snapshots("${home}") do zfs.sync.destroy(s) end return "done"`,
      `local n = 0; for i = 1, ${turns}, 1 do n = n + zfs.get_prop("${pool}/seed", "used") end return n`,
      `local t = {}; for i = 1, ${turns}, 1 do t[i] = string.rep("x", 100) end return #t`,
    ];
    const args = ['program', '-t', '100000000', pool, this.#script(scripts[this.#roll(scripts.length)]!)];
    const interrupt = this.#roll(3) === 0 ? { interruptMs: 50 + this.#roll(1000) } : {};
    const { channelPrograms } = this.#options.host;
    const count = (more: number) => channelPrograms.set(pool, (channelPrograms.get(pool) ?? 0) + more);
    count(1);
    await this.#run('zfs', args, interrupt).finally(() => count(-1));
  }

  /** Results as deep as they can be, and deeper: refused, and nothing worse. */
  async #nested(): Promise<void> {
    const depth = 2 + this.#roll(100);
    const script = `local t = {"x"}; for i = 1, ${depth}, 1 do t = {t} end return t`;
    await this.#run('zfs', ['program', this.#options.pool, this.#script(script)]);
  }

  async #keys(): Promise<void> {
    const home = await this.#fresh();
    const [enc, a, b] = [`${home}/enc`, this.#key('a', 'passphraseA'), this.#key('b', 'passphraseB')];
    const iterations = ['-o', 'keyformat=passphrase', '-o', 'pbkdf2iters=100000'];
    await this.#must('zfs', 'create', '-u', '-o', 'encryption=on', ...iterations, '-o', `keylocation=${a}`, enc);
    await this.#must('zfs', 'create', '-V', '8M', '-s', `${enc}/v`);
    await this.#must('zfs', 'change-key', ...iterations, '-o', `keylocation=${b}`, enc);
    await this.#must('zfs', 'unload-key', '-r', enc);
    await this.#must('zfs', 'load-key', '-L', b, enc);
    await this.#must(
      'zfs',
      'create',
      '-u',
      '-o',
      'encryption=on',
      ...iterations,
      '-o',
      `keylocation=${a}`,
      `${enc}/own`,
    );
    await this.#must('zfs', 'change-key', '-i', `${enc}/own`);
    await this.#must('zfs', 'destroy', '-R', enc);
  }

  /** change-key above a data set whose key a raw receive has replaced. */
  async #foreignKey(): Promise<void> {
    const home = await this.#fresh();
    const [a, b] = [this.#key('fa', 'passphraseA'), this.#key('fb', 'passphraseB')];
    const create = ['create', '-u', '-o', 'encryption=on', '-o', 'keyformat=passphrase', '-o', 'pbkdf2iters=100000'];
    await this.#must('zfs', ...create, '-o', `keylocation=${a}`, `${home}/s`);
    await this.#must('zfs', 'create', '-s', '-V', '1M', `${home}/s/v`);
    await this.#must('zfs', 'snapshot', `${home}/s/v@1`);
    await this.#must('zfs', 'snapshot', `${home}/s/v@2`);
    await this.#must('zfs', ...create, '-o', `keylocation=${b}`, `${home}/d`);
    await this.#shell(`zfs send -w ${home}/s/v@1 | zfs receive -u ${home}/d/v`);
    await this.#must('zfs', 'load-key', '-L', a, `${home}/d/v`);
    await this.#must('zfs', 'change-key', '-i', `${home}/d/v`);
    await this.#shell(`zfs send -w -i @1 ${home}/s/v@2 | zfs receive -u ${home}/d/v`);
    await this.#may('zfs', 'change-key', '-o', `keylocation=${a}`, '-o', 'keyformat=passphrase', `${home}/d`);
  }

  async #promote(): Promise<void> {
    const home = await this.#fresh();
    await this.#must('zfs', 'create', '-s', '-V', '16M', `${home}/s`);
    await this.#must('zfs', 'snapshot', `${home}/s@1`);
    await this.#must('zfs', 'clone', `${home}/s@1`, `${home}/c`);
    await Promise.all([1, 2, 3].map(() => this.#may('zfs', 'promote', `${home}/c`)));
  }

  async #observe(): Promise<void> {
    await this.#must('zow', 'kstat', '-j', 'zfs/*');
    await this.#must('zow', 'tunable', 'zfs_txg_timeout');
    await this.#must('zow', 'events');
  }

  async #ownPool(disk: string): Promise<void> {
    const name = `own${this.#options.index}`;
    await this.#must('zpool', 'create', '-f', name, disk);
    await this.#must('zfs', 'create', '-V', '16M', `${name}/v`);
    await this.#must('zpool', 'export', name);
    await this.#must('zpool', 'import', '-d', disk, name);
    await this.#must('zpool', 'scrub', '-w', name);
    await this.#must('zpool', 'destroy', name);
  }

  #key(name: string, phrase: string): string {
    const file = join(this.#options.host.directory, `key${this.#options.index}${name}`);
    writeFileSync(file, `${phrase}\n`);
    return `file://${file}`;
  }

  #script(text: string): string {
    const file = join(this.#options.host.directory, `program${this.#options.index}.zcp`);
    writeFileSync(file, text);
    return file;
  }

  /** What may fail. */
  async #may(program: string, ...args: string[]): Promise<ProgramResult> {
    return this.#run(program, args);
  }

  async #must(program: string, ...args: string[]): Promise<ProgramResult> {
    const from = now();
    const result = await this.#run(program, args);
    if (result.code !== 0) this.#failed([program, ...args].join(' '), result, from);
    return result;
  }

  async #shell(script: string): Promise<void> {
    const from = now();
    this.commands++;
    const result = await this.#options.host.shell(script, limitMs).catch((error: Error) => ({
      code: null,
      stdout: '',
      stderr: error.message,
    }));
    this.#check(script, result, from);
    if (result.code !== 0) this.#failed(script, result, from);
  }

  async #run(program: string, args: readonly string[], options: RunOptions = {}): Promise<ProgramResult> {
    const { host, index } = this.#options;
    const from = now();
    this.commands++;
    const result = await host.run(program, args, { limitMs, ...options, ours: index % 8 === 7 });
    const name = `${program} ${args[0]}`;
    this.longest[name] = Math.max(this.longest[name] ?? 0, result.tookMs);
    if (options.limitMs === undefined) this.#check([program, ...args].join(' '), result, from);
    return result;
  }

  /** What no program may do, whatever its pool is in. */
  #check(line: string, result: Pick<ProgramResult, 'code' | 'stderr'> & Partial<ProgramResult>, from: number): void {
    const { host, findings } = this.#options;
    const { code, stderr, fault } = result;
    if (host.isDead) throw new GivesUp();
    // 255 is what zfs(8) ends with where a key does not fit; above 128 is a signal.
    if (never.test(stderr) || fault !== undefined || (code !== null && code > 128 && code !== 255)) {
      findings.add('a program fails as none may', `${line} -> ${fault ?? code}: ${stderr.trim().slice(-500)}`);
    }
    if (code === null && now() - from >= limitMs && this.#trouble(from) === undefined) {
      findings.add('a program hangs', `${line} (${this.#step}) took longer than ${Math.round(now() - from)} ms`);
    }
  }

  /** It was to succeed. */
  #failed(line: string, { code, stderr }: Pick<ProgramResult, 'code' | 'stderr'>, from: number): never {
    const text = stderr
      .trim()
      .split('\n')
      .at(-1)!
      .replace(/'[^']*'|\S*\/\S*/g, 'X')
      .replace(/\d+/g, 'N')
      .slice(0, 100);
    this.errors[text] = (this.errors[text] ?? 0) + 1;
    const expected = this.#trouble(from) !== undefined || ordinary.some((pattern) => pattern.test(stderr));
    if (!expected && !this.#options.host.isDead) {
      this.#options.findings.add('a program fails', `${line} (${this.#step}) -> ${code}: ${stderr.trim().slice(-500)}`);
    }
    throw new GivesUp();
  }

  /** The step may have begun in the trouble that this command meets the consequences of. */
  #trouble(from: number): string | undefined {
    const { trouble, pool, disk } = this.#options;
    return disk === undefined ? trouble.during(pool, from - 60_000, now()) : undefined;
  }
}
