import { type ChildProcess, execFileSync, spawn } from 'node:child_process';
import { closeSync, existsSync, ftruncateSync, mkdirSync, mkdtempSync, openSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import test, { type ExecutionContext } from 'ava';
import { stringify } from 'yaml';
import type { ReplyStyle } from '../../host/nbd/reply.ts';
import type { ListenerAddress } from '../../host/net/listener.ts';
import releases from '../../zfs-src/releases.json' with { type: 'json' };
import { Client } from '../host/nbd/client.ts';
import { IoctlWatch } from '../ioctls/record.ts';
import { describe, execute, must, noise, output, type Result, type RunOptions, until } from './process.ts';

export { dice, execute, must, noise, type Result, type RunOptions, sleep, until } from './process.ts';

/**
 * The harness of the end-to-end tests: a real `zow serve` process on files in a directory of its own, the real programs
 * against its socket, and a natively built zdb as the judge. Everything ends and disappears with the test.
 *
 * ZOW_TEST_PROGRAMS=native takes zpool, zfs, … of cli/native/bin instead of the WebAssembly ones of cli/bin.
 */
export const root = join(import.meta.dirname, '../..');
export const MiB = 1024 ** 2;
/** ZOW_LONG=1: the long forms, for a machine with time. */
export const long = process.env.ZOW_LONG === '1';

const native = process.env.ZOW_TEST_PROGRAMS === 'native';
const nativeBin = join(root, 'cli/native/bin');
const programFolder = native ? nativeBin : join(root, 'cli/bin');
const zowCommand = join(root, 'cli/bin/zow');
/** Whether the test file is about the programs, of which those in WebAssembly are ours. */
const aboutPrograms = /\/test\/(man|cli)\//.test(test.meta.file);
/** Why no host can be tested here; undefined when one can. That fails tests: skipped ones would look like passed ones. */
function missing(): string | undefined {
  const needed = [join(nativeBin, 'zdb'), ...(native ? [] : [join(root, 'dist/bin/zow.mjs')])];
  const absent = needed.filter((file) => !existsSync(file));
  return absent.length === 0 ? undefined : `missing: ${absent.join(', ')}; run make`;
}

// The test runner was killed: so is this file's process, which would go on without it.
process.once('disconnect', () => process.exit());

/** A command that is killed when this process ends, however that ends: a host would go on for ever. */
function endingWithUs(...command: string[]): [string, ...string[]] {
  return ['setpriv', '--pdeathsig', 'KILL', ...command];
}

/** Hosts of one test file that work at the same time; ava runs two files at once. */
class Slots {
  #free = 2;
  readonly #waiting: (() => void)[] = [];

  async take(): Promise<void> {
    if (this.#free === 0) await new Promise<void>((resolve) => this.#waiting.push(resolve));
    else this.#free--;
  }

  give(): void {
    const next = this.#waiting.shift();
    if (next === undefined) this.#free++;
    else next();
  }
}

const slots = new Slots();

export interface HostOptions {
  /** Parts of the configuration beside the sockets. */
  readonly config?: object;
  readonly vars?: NodeJS.ProcessEnv;
  /** Another release of OpenZFS than the default: the host, and the programs from then on, run from the checkout. */
  readonly release?: string;
}

/** Directory, disks and host of one test. */
export class Lab {
  readonly directory: string;
  readonly disks: string;
  readonly socket: string;
  readonly nbdSocket: string;
  #host: ChildProcess | undefined;
  #hostLog = '';
  #release: string | undefined;
  readonly #ioctls = new IoctlWatch(test.meta.file);
  #ended: Promise<number | null> | undefined;
  readonly #clients: Client[] = [];
  readonly #children: ChildProcess[] = [];
  #isAtWork = true;

  /** Made for a test, at whose end everything is ended and removed. Waits while too many others are at work. */
  static async open(t: ExecutionContext<unknown>): Promise<Lab> {
    const reason = missing();
    if (reason !== undefined) throw new Error(reason);
    await slots.take();
    return new Lab(t);
  }

  private constructor(t: ExecutionContext<unknown>) {
    this.directory = mkdtempSync(join(tmpdir(), 'zow-e2e-'));
    this.disks = join(this.directory, 'disks');
    mkdirSync(this.disks);
    this.socket = join(this.directory, 'run/zow.sock');
    this.nbdSocket = join(this.directory, 'run/nbd.sock');
    t.teardown(async () => {
      if (!t.passed) t.log(this.hostLog.slice(-6000));
      for (const client of this.#clients) client.destroy();
      for (const child of this.#children) child.kill('SIGKILL');
      await this.kill();
      this.#ioctls.save();
      this.#leaveSlot();
      rmSync(this.directory, { recursive: true, force: true });
    });
  }

  /** A host with the pool `tank` on one disk; `options` are those of zpool create. */
  static async withPool(t: ExecutionContext<unknown>, sizeBytes?: number, ...options: string[]): Promise<Lab> {
    const lab = await Lab.open(t);
    const disk = lab.disk('a', sizeBytes);
    await lab.start();
    await lab.zpool('create', ...options, 'tank', disk);
    return lab;
  }

  /** Creates a sparse file in the disks' directory; its path. */
  disk(name: string, sizeBytes = 256 * MiB): string {
    const path = join(this.disks, name);
    mkdirSync(dirname(path), { recursive: true });
    const fd = openSync(path, 'w');
    ftruncateSync(fd, sizeBytes);
    closeSync(fd);
    return path;
  }

  manyDisks(count: number, sizeBytes?: number, prefix = 'd'): string[] {
    return Array.from({ length: count }, (_, i) => this.disk(`${prefix}${i}`, sizeBytes));
  }

  /** What `nbdinfo --list` shows, sorted. */
  async exports(): Promise<string[]> {
    const json = JSON.parse(await must('nbdinfo', ['--list', '--json', this.uri('')]));
    return json.exports.map((entry: Record<string, unknown>) => entry['export-name']).sort();
  }

  get hostLog(): string {
    return this.#hostLog + this.#ioctls.rest;
  }

  get pid(): number {
    return this.#host!.pid!;
  }

  /** Starts a host and waits until it serves. Rejects with its output when it ends instead. */
  async start(options: HostOptions = {}): Promise<void> {
    const ended = this.launch(options);
    let code: number | null | undefined;
    void ended.then((status) => {
      code = status;
    });
    await until('the host is ready', () => code !== undefined || this.#hostLog.includes('"msg":"ready"'));
    if (code !== undefined) throw new Error(`the host ended with ${code}\n${this.#hostLog}`);
  }

  /** Starts a host and resolves with its exit code. */
  launch({ config = {}, vars = {}, release }: HostOptions = {}): Promise<number | null> {
    this.#release = release === releases.default ? undefined : release;
    const file = join(this.directory, 'pool.yaml');
    const whole = { socket: 'run/zow.sock', memory: '512M', pools: {}, nbd: [{ unix: 'run/nbd.sock' }], ...config };
    writeFileSync(file, stringify(whole));
    return this.serve(file, vars);
  }

  /** Starts `zow serve FILE` and resolves with its exit code. */
  serve(file: string, vars: NodeJS.ProcessEnv = {}): Promise<number | null> {
    const [command, ...args] = endingWithUs(...this.#serveCommand, file);
    const child = spawn(command, args, {
      cwd: this.directory,
      env: { ...process.env, TMPDIR: this.directory, ...IoctlWatch.vars, ...this.#releaseVars, ...vars },
      stdio: ['ignore', 'pipe', 'pipe'],
    });
    this.#host = child;
    this.#hostLog = '';
    child.stdout.setEncoding('utf8').on('data', (text: string) => {
      this.#hostLog += text;
    });
    // The traces of the record are kept out of what tests read, unless they asked for traces.
    const keep = vars.ZOW_TRACE !== undefined;
    child.stderr.setEncoding('utf8').on('data', (text: string) => {
      const others = this.#ioctls.filter(text, child.pid!);
      this.#hostLog += keep ? text : others;
    });
    this.#ended = new Promise((resolve) => child.on('close', resolve));
    return this.#ended;
  }

  get #serveCommand(): string[] {
    if (this.#release !== undefined) return [process.execPath, join(root, 'cli/main.ts'), 'serve', '--no-hints'];
    if (native) return [process.execPath, join(import.meta.dirname, 'serve-native.ts')];
    return [zowCommand, 'serve', '--no-hints'];
  }

  /** Chooses the release, where the checkout's sources run. */
  get #releaseVars(): NodeJS.ProcessEnv {
    return this.#release === undefined ? {} : { ZOW_RELEASE: this.#release };
  }

  /** The command of one of the programs. */
  #program(program: string): [string, ...string[]] {
    if (this.#release !== undefined) return [process.execPath, join(root, 'cli/program.ts'), program];
    return [join(programFolder, program)];
  }

  /** Ends the host as an operator does. Rejects unless it exits with 0 and leaves no socket behind. */
  async stop(): Promise<void> {
    this.#host!.kill('SIGTERM');
    const code = await this.ended();
    if (code !== 0) throw new Error(`the host ended with ${code}\n${this.#hostLog}`);
    for (const path of [this.socket, this.nbdSocket]) {
      if (existsSync(path)) throw new Error(`${path} was left behind`);
    }
  }

  /** SIGKILL: a crash. */
  async kill(): Promise<void> {
    if (this.#host === undefined) return;
    this.#host.kill('SIGKILL');
    await this.#ended;
    this.#host = undefined;
  }

  /** The host's exit code, when it ends by itself. */
  async ended(timeoutMs = 30_000): Promise<number | null> {
    let timer: NodeJS.Timeout | undefined;
    const late = new Promise<never>((_, reject) => {
      timer = setTimeout(() => reject(new Error(`the host has not ended\n${this.#hostLog}`)), timeoutMs);
    });
    try {
      return await Promise.race([this.#ended!, late]);
    } finally {
      clearTimeout(timer);
    }
  }

  /** Opens of /dev/zfs that clients of the host have. */
  get sessions(): number {
    return this.#ioctls.sessions;
  }

  /** Resident memory of the host, in bytes. */
  residentBytes(pid = this.pid): number {
    return 1024 * Number(execFileSync('ps', ['-o', 'rss=', '-p', String(pid)]).toString());
  }

  /** Runs one of the programs against the host, whatever its exit code. */
  run(program: string, args: readonly string[], options: RunOptions = {}): Promise<Result> {
    const vars = { ZOW_SOCKET: this.socket, ...this.#releaseVars, ...options.vars };
    const [command, ...first] = this.#program(program);
    return execute(command, [...first, ...args], { ...options, vars });
  }

  /**
   * Runs a program that must exit with 0; its stdout. The native one, but where the programs are what is tested: it is the
   * same sources, and takes a tenth of the processor time to start.
   */
  #must(program: string, args: readonly string[]): Promise<string> {
    const isNative = this.#release === undefined && !aboutPrograms;
    const [command, ...first] = isNative ? [join(nativeBin, program)] : this.#program(program);
    return must(command, [...first, ...args], { vars: { ZOW_SOCKET: this.socket, ...this.#releaseVars } });
  }

  zpool(...args: string[]): Promise<string> {
    return this.#must('zpool', args);
  }

  zfs(...args: string[]): Promise<string> {
    return this.#must('zfs', args);
  }

  zinject(...args: string[]): Promise<string> {
    return this.#must('zinject', args);
  }

  /** Runs a program that must fail. Its stderr. */
  async fails(program: string, ...args: string[]): Promise<string> {
    const result = await this.run(program, args);
    if (result.code === 0) throw new Error(`${describe(program, args)} succeeded\n${output(result)}`);
    return result.stderr;
  }

  /** Runs a shell script with the programs on its PATH. */
  shell(script: string, options: RunOptions = {}): Promise<Result> {
    const vars = { ZOW_SOCKET: this.socket, PATH: `${programFolder}:${process.env.PATH}` };
    return execute('/bin/bash', ['-c', `set -o pipefail; ${script}`], { cwd: this.directory, ...options, vars });
  }

  /** Runs a command of ours, `zow kstat` for one, against the host, whatever its exit code. */
  zow(...args: string[]): Promise<Result> {
    return execute(zowCommand, args, { vars: { ZOW_SOCKET: this.socket } });
  }

  /** As spawn, of a command of ours. */
  spawnZow(args: readonly string[]): ChildProcess {
    return this.#spawn(zowCommand, args);
  }

  /** Starts a program of the host's that runs on; it ends with the test at the latest. */
  spawn(program: string, args: readonly string[]): ChildProcess {
    return this.#spawn(join(programFolder, program), args);
  }

  #spawn(...line: [string, readonly string[]]): ChildProcess {
    const [command, ...args] = endingWithUs(line[0], ...line[1]);
    const child = spawn(command, args, {
      env: { ...process.env, ZOW_SOCKET: this.socket },
      stdio: ['ignore', 'pipe', 'pipe'],
    });
    this.#children.push(child);
    return child;
  }

  /** Value of a dataset's property, as a number where it is one. */
  async get(dataset: string, property: string): Promise<string> {
    return (await this.zfs('get', '-Hp', '-o', 'value', property, dataset)).trim();
  }

  /** Makes a raw key at `key` in the directory. */
  key(): void {
    writeFileSync(join(this.directory, 'key'), noise(32, 99));
  }

  uri(name: string): string {
    return `nbd+unix:///${name}?socket=${this.nbdSocket}`;
  }

  /** Where iSCSI initiators connect to: the first listener of the configuration. */
  get iscsiAddress(): string {
    const address = /"iscsi":\["([^"]+)"/.exec(this.#hostLog)?.[1];
    if (address === undefined) throw new Error(`no iSCSI listener\n${this.#hostLog}`);
    return address;
  }

  /** Where the host's state is asked for over HTTP: a port of 127.0.0.1. */
  get httpAddress(): string {
    const address = /"http":"([^"]+)"/.exec(this.#hostLog)?.[1];
    if (address === undefined) throw new Error(`no HTTP listener\n${this.#hostLog}`);
    return address;
  }

  get address(): ListenerAddress {
    return { unix: this.nbdSocket } as ListenerAddress;
  }

  /** Opens an export with the tests' own client. */
  async open(name: string, style?: ReplyStyle): Promise<Client> {
    const client = await Client.open(this.address, name, style);
    this.#clients.push(client);
    return client;
  }

  /** Lets the native zdb verify every block and the space maps of an exported pool. Rejects unless all is well. */
  async zdb(pool: string, ...directories: string[]): Promise<void> {
    const where = (directories.length > 0 ? directories : [this.disks]).flatMap((directory) => ['-p', directory]);
    const result = await execute(join(nativeBin, 'zdb'), ['-bcc', '-e', ...where, pool], { timeoutMs: 120_000 });
    const clean =
      result.code === 0 &&
      /No leaks \(block sum matches space maps exactly\)/.test(result.stdout) &&
      !/leaked space|error|checksum/i.test(result.stdout.replace(/^Traversing all blocks.*$/m, ''));
    if (!clean) throw new Error(`zdb of ${pool} -> ${result.code}\n${output(result)}`);
  }

  /** Exports a pool, checks it, and ends the host: the end of most scenarios. */
  async finish(...pools: string[]): Promise<void> {
    for (const pool of pools) await this.zpool('export', pool);
    await this.stop();
    // Its test may go on with another.
    this.#leaveSlot();
    for (const pool of pools) await this.zdb(pool);
  }

  #leaveSlot(): void {
    if (this.#isAtWork) slots.give();
    this.#isAtWork = false;
  }
}
