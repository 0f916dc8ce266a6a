import { dice, sleep } from '../e2e/process.ts';
import type { Disks, Fault } from './disks.ts';
import type { SoakHost } from './host.ts';
import type { Findings, Trouble } from './trouble.ts';
import { now } from './waits.ts';

/** A pool, and what happens to its disks. */
export interface SickPool {
  readonly name: string;
  /** In the grammar of `zpool create`, disks by name. */
  readonly vdevs: readonly string[];
  readonly failmode: 'wait' | 'continue';
  /** Which faults, on which of its disks at a time. */
  readonly faults: readonly { readonly fault: Fault; readonly on: readonly string[] }[];
}

const each = (fault: Fault, ...disks: string[]) => disks.map((disk) => ({ fault, on: [disk] }));

export const sickPools: readonly SickPool[] = [
  {
    name: 'sick',
    vdevs: ['s0', 's1'],
    failmode: 'wait',
    faults: [
      ...each('flush', 's0', 's1'),
      ...each('stop', 's0', 's1'),
      ...each('io', 's0'),
      ...each('slow', 's1'),
      { fault: 'dead', on: ['s0', 's1'] },
      { fault: 'stop', on: ['s0', 's1'] },
      { fault: 'flush', on: ['s0', 's1'] },
    ],
  },
  {
    name: 'frail',
    vdevs: ['mirror', 'm0', 'm1'],
    failmode: 'wait',
    faults: [
      ...each('flush', 'm0', 'm1'),
      ...each('stop', 'm0'),
      ...each('io', 'm0', 'm1'),
      ...each('dead', 'm0', 'm1'),
      ...each('short', 'm1'),
      { fault: 'flush', on: ['m0', 'm1'] },
    ],
  },
  {
    name: 'ragged',
    vdevs: ['raidz1', 'r0', 'r1', 'r2'],
    failmode: 'continue',
    faults: [
      ...each('rare', 'r0', 'r1', 'r2'),
      ...each('stop', 'r0'),
      ...each('flush', 'r1'),
      ...each('dead', 'r2'),
      ...each('short', 'r1'),
      { fault: 'slow', on: ['r0', 'r1', 'r2'] },
      { fault: 'dead', on: ['r0', 'r1', 'r2'] },
    ],
  },
];

/** How long a pool may take to be well again after its disks are. */
const recoveryMs = 180_000;
const clearLimitMs = 60_000;
/** Of a device, or of the pool: one that is suspended can have devices that are all well. */
const wellStates = /^(?:\t\s*(\S+)\s+| state: )(DEGRADED|FAULTED|UNAVAIL|SUSPENDED|REMOVED|OFFLINE)\b/m;

export interface ChaosOptions {
  readonly host: SoakHost;
  readonly disks: Disks;
  readonly trouble: Trouble;
  readonly findings: Findings;
  readonly seed: number;
  readonly without: ReadonlySet<string>;
  readonly say: (line: string) => void;
}

/** Makes the disks of one pool fail, one way after another, and brings the pool back each time. */
export class Chaos {
  readonly pool: SickPool;
  readonly #options: ChaosOptions;
  readonly #roll: (n: number) => number;
  recoveryLongestMs = 0;

  constructor(pool: SickPool, options: ChaosOptions) {
    this.pool = pool;
    this.#options = options;
    this.#roll = dice(options.seed);
  }

  async run(isOver: () => boolean): Promise<void> {
    const { host, without } = this.#options;
    const faults = this.pool.faults.filter(({ fault }) => !without.has(fault));
    while (!isOver() && !host.isDead) {
      await sleep(3000 + this.#roll(12_000));
      const { fault, on } = faults[this.#roll(faults.length)]!;
      const lengthMs = 500 + this.#roll(this.#roll(4) === 0 ? 20_000 : 5000);
      if (isOver()) break;
      await this.#strike(fault, on, lengthMs);
    }
  }

  /** The fault, for a time; then the pool has to come back. */
  async #strike(fault: Fault, on: readonly string[], lengthMs: number): Promise<void> {
    const { disks, trouble, say } = this.#options;
    const what = `${fault} of ${on.join(' and ')}`;
    say(`${this.pool.name}: ${what} for ${lengthMs} ms`);
    trouble.begin(this.pool.name, `${this.pool.name}: ${what}`);
    for (const disk of on) disks.on(disk, fault);
    await sleep(lengthMs);
    for (const disk of on) disks.off(disk, fault);
    await this.recover(what);
    trouble.end(this.pool.name);
  }

  /** As an administrator does whose disks are well again. */
  async recover(after: string): Promise<void> {
    const { host, findings, say } = this.#options;
    const { name } = this.pool;
    const began = now();
    let status = '';
    while (now() - began < recoveryMs) {
      if (host.isDead) return;
      const { code, stdout, stderr, tookMs } = await host.run('zpool', ['status', name], { limitMs: 60_000 });
      status = stdout + stderr;
      if (code === null) await this.#late('zpool status', after, tookMs);
      const bad = wellStates.exec(stdout);
      const resilvers = /(resilver|scrub) in progress|resilvering/.test(stdout);
      if (code === 0 && bad === null && !resilvers) {
        const tookMs = now() - began;
        this.recoveryLongestMs = Math.max(this.recoveryLongestMs, tookMs);
        // One that went back has no keys.
        await host.run('zfs', ['load-key', '-r', name], { limitMs: 60_000 });
        say(`${name}: well again after ${Math.round(tookMs)} ms`);
        return;
      }
      if (bad !== null) await this.#clear(after, bad);
      await new Promise((resolve) => setTimeout(resolve, 500));
    }
    findings.add('a pool does not come back', `${name} after ${after}:\n${status}`);
  }

  /**
   * A channel program in syncing context has its pool's configuration for as long as it takes: 100,000,000 instructions,
   * here under more programs than there are processors. Who waits for anything else hangs.
   */
  async #late(command: string, after: string, tookMs: number): Promise<void> {
    const { host, findings, say } = this.#options;
    const { name } = this.pool;
    const line = `${name} after ${after}: ${Math.round(tookMs)} ms`;
    const computes = (host.channelPrograms.get(name) ?? 0) > 0 && /zcp_eval_sync/.test(await host.fibers());
    if (computes) say(`${command} waits for a channel program: ${line}`);
    else findings.add(`${command} hangs`, line);
  }

  async #clear(after: string, [, device = '', state]: RegExpExecArray): Promise<void> {
    const { host } = this.#options;
    const { name } = this.pool;
    const { code, stderr, tookMs } = await host.run('zpool', ['clear', name], { limitMs: clearLimitMs });
    if (code === null) await this.#late('zpool clear', after, tookMs);
    else if (code !== 0) this.#options.say(`${name}: zpool clear -> ${code}: ${stderr.trim()}`);
    if (state === 'REMOVED' || state === 'OFFLINE') {
      await host.run('zpool', ['online', name, device.includes('/') ? device : this.#options.disks.disk(device).path]);
    }
  }
}
