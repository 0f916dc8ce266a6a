import { type ChildProcess, spawn } from 'node:child_process';
import { existsSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { stringify } from 'yaml';
import type { HostStatus } from '../../host/supervisor/status.ts';
import releases from '../../zfs-src/releases.json' with { type: 'json' };
import { execute, type Result, sleep, until } from '../e2e/process.ts';

export const root = join(import.meta.dirname, '../..');
const native = join(root, 'cli/native/bin');
/** The core with its assertions, where it is built. */
const debugCore = join(root, 'build', releases.default, 'wasm-debug');

/** Of programs: they are to load the host, and not to take its processor. */
const niceness = 15;

export interface ProgramResult extends Result {
  readonly tookMs: number;
  /** What ended it, where nobody sent that. */
  readonly fault: NodeJS.Signals | undefined;
}

/** What a program dies of by itself. */
const faults: readonly (NodeJS.Signals | null)[] = ['SIGABRT', 'SIGBUS', 'SIGFPE', 'SIGILL', 'SIGSEGV'];

/** A real host process with the probe in it. */
export class SoakHost {
  readonly directory: string;
  readonly socket: string;
  readonly nbdSocket: string;
  readonly probeFile: string;
  readonly isDebug = existsSync(join(debugCore, 'zow.wasm'));
  /** Channel programs under way, by pool. */
  readonly channelPrograms = new Map<string, number>();
  log = '';
  #process: ChildProcess | undefined;
  #ended: Promise<number | null> | undefined;
  /** Its exit code, once it has ended. */
  code: number | null | undefined;
  /** What was said of engines that ended by themselves. */
  readonly panics: string[] = [];
  /** The process that serves a pool: an engine, or the host itself. */
  engines: ReadonlyMap<string, number> = new Map();

  constructor(directory: string) {
    this.directory = directory;
    this.socket = join(directory, 'run/zow.sock');
    this.nbdSocket = join(directory, 'run/nbd.sock');
    this.probeFile = join(directory, 'probe.jsonl');
  }

  get pid(): number {
    return this.#process!.pid!;
  }

  /** Whether it has ended, though nobody asked it to. */
  get isDead(): boolean {
    return this.code !== undefined;
  }

  async start(config: object, faults: string): Promise<void> {
    const file = join(this.directory, 'pool.yaml');
    writeFileSync(file, stringify({ socket: 'run/zow.sock', nbd: [{ unix: 'run/nbd.sock' }], ...config }));
    const probe = join(import.meta.dirname, 'probe.ts');
    const bundle = join(root, 'dist/bin/zow.mjs');
    const command = [process.execPath, '--import', probe, bundle, 'serve', '--no-hints', file];
    this.code = undefined;
    this.log = '';
    const child = spawn('setpriv', ['--pdeathsig', 'KILL', ...command], {
      cwd: this.directory,
      env: {
        ...process.env,
        TMPDIR: this.directory,
        ZOW_SOAK_PROBE: this.probeFile,
        ZOW_FAULTS: faults,
        ...(this.isDebug ? { ZOW_WASM: debugCore } : {}),
      },
      stdio: ['ignore', 'pipe', 'pipe'],
    });
    this.engines = new Map();
    const keep = (text: string) => {
      this.log += text;
      this.panics.push(...text.split('\n').filter((line) => line.includes('"msg":"panic')));
      if (this.log.length > 8e6) this.log = this.log.slice(0, 1e6) + this.log.slice(-6e6);
    };
    child.stdout.setEncoding('utf8').on('data', keep);
    child.stderr.setEncoding('utf8').on('data', keep);
    this.#process = child;
    this.#ended = new Promise((resolve) => {
      child.on('close', (code) => {
        this.code = code;
        resolve(code);
      });
    });
    await until('the host is ready', () => this.isDead || this.log.includes('"msg":"ready"'), 120_000);
    if (this.isDead) throw new Error(`the host ended with ${this.code}\n${this.log.slice(-4000)}`);
  }

  /** The host's processes that have a pool, and the host itself; not those of pools that come and go. */
  get pids(): readonly number[] {
    return [...new Set([this.pid, ...this.engines.values()])];
  }

  /** Finds out which process serves which pool now. */
  async lookForEngines(): Promise<void> {
    const { stdout } = await this.run('zow', ['status', '--json']);
    const { engines = [] } = JSON.parse(stdout || '{}') as Partial<HostStatus>;
    const staying = engines.flatMap(({ pools, pid }) => pools.map((pool) => [pool, pid] as const));
    this.engines = new Map(staying.filter(([pool]) => !pool.startsWith('own')));
  }

  /** Each fiber of the cores: its name, since when it waits, and where. */
  async fibers(): Promise<string> {
    for (const pid of this.pids) process.kill(pid, 'SIGUSR2');
    await sleep(1000);
    const files = this.pids.map((pid) => `${this.probeFile}.${pid}.fibers`).filter((file) => existsSync(file));
    return files.map((file) => readFileSync(file, 'utf8')).join('\n');
  }

  /** SIGTERM; its exit code, or undefined when it has none after two minutes and was killed. */
  async stop(): Promise<number | null | undefined> {
    this.#process!.kill('SIGTERM');
    let timer: NodeJS.Timeout | undefined;
    const late = new Promise<undefined>((resolve) => {
      timer = setTimeout(resolve, 120_000, undefined);
    });
    const code = await Promise.race([this.#ended!, late]).finally(() => clearTimeout(timer));
    if (code === undefined) await this.kill();
    return code;
  }

  async kill(): Promise<void> {
    this.#process?.kill('SIGKILL');
    await this.#ended;
  }

  /** Runs one of the programs, natively built unless `ours`. One that takes too long is killed; its code is then null. */
  async run(program: string, args: readonly string[], options: RunOptions = {}): Promise<ProgramResult> {
    const { ours = false, limitMs = 90_000, interruptMs } = options;
    const command = join(ours || program === 'zow' ? join(root, 'cli/bin') : native, program);
    const began = performance.now();
    const child = spawn('nice', ['-n', `${niceness}`, command, ...args], {
      env: this.env,
      stdio: ['ignore', 'pipe', 'pipe'],
    });
    let [stdout, stderr] = ['', ''];
    child.stdout.setEncoding('utf8').on('data', (text: string) => {
      if (stdout.length < 1e6) stdout += text;
    });
    child.stderr.setEncoding('utf8').on('data', (text: string) => {
      if (stderr.length < 1e6) stderr += text;
    });
    const timers = [setTimeout(() => child.kill('SIGKILL'), limitMs)];
    if (interruptMs !== undefined) timers.push(setTimeout(() => child.kill('SIGINT'), interruptMs));
    const [code, signal] = await new Promise<[number | null, NodeJS.Signals | null]>((resolve, reject) => {
      child.on('error', reject);
      child.on('close', (...ending) => resolve(ending));
    }).finally(() => {
      for (const timer of timers) clearTimeout(timer);
    });
    const fault = faults.includes(signal) ? signal! : undefined;
    return { code, stdout, stderr, fault, tookMs: performance.now() - began };
  }

  /** Runs a shell script with the native programs on its PATH. */
  shell(script: string, timeoutMs = 90_000): Promise<Result> {
    const line = ['-n', `${niceness}`, '/bin/bash', '-c', `set -o pipefail; ${script}`];
    return execute('nice', line, { cwd: this.directory, vars: this.env, timeoutMs });
  }

  /** The natively built zdb's verdict on a pool that is exported; undefined when nothing is wrong. */
  async zdb(pool: string, folder: string): Promise<string | undefined> {
    const { code, stdout, stderr } = await execute(join(native, 'zdb'), ['-bcc', '-e', '-p', folder, pool], {
      timeoutMs: 600_000,
    });
    const all = stdout.replace(/^Traversing all blocks.*$/gm, '');
    if (code === 0 && /No leaks/.test(all) && !/leaked space|error|checksum/i.test(all)) return undefined;
    return `zdb of ${pool} -> ${code}\n${stderr.slice(-2000)}${all.slice(0, 2000)}`;
  }

  get residentBytes(): number {
    return this.pids.reduce((sum, pid) => sum + residentBytes(pid), 0);
  }

  get descriptors(): number {
    return this.pids.reduce((sum, pid) => sum + readdirSync(`/proc/${pid}/fd`).length, 0);
  }

  get env(): NodeJS.ProcessEnv {
    return { ...process.env, ZOW_SOCKET: this.socket, PATH: `${native}:${process.env.PATH}` };
  }
}

export interface RunOptions {
  /** The program in WebAssembly. */
  readonly ours?: boolean;
  readonly limitMs?: number;
  /** When Ctrl-C is pressed. */
  readonly interruptMs?: number;
}

/** Of a process; 0 when it is gone. */
function residentBytes(pid: number): number {
  try {
    const [, kiB = '0'] = /VmRSS:\s+(\d+)/.exec(readFileSync(`/proc/${pid}/status`, 'utf8')) ?? [];
    return 1024 * Number(kiB);
  } catch {
    return 0;
  }
}
