import { existsSync, readFileSync } from 'node:fs';
import type { ProgramWorker } from './programs.ts';
import type { SoakOptions } from './soak.ts';
import type { Counts } from './tally.ts';
import { excess } from './waits.ts';

/**
 * A time in which the host's event loop had no turn; what its thread ran, and waited for a processor, in it, and for others
 * of its threads that had none.
 */
export interface Gap {
  /** Of the host's process. */
  readonly pid: number;
  readonly from: number;
  readonly to: number;
  readonly runMs: number;
  readonly waitMs: number;
  readonly starvedMs: number;
}

/** What is left of a gap when the machine's part is taken off. */
export function ownPart({ from, to, waitMs, starvedMs }: Gap): number {
  return to - from - waitMs - starvedMs;
}

export interface Snapshot {
  readonly pid: number;
  readonly at: number;
  readonly rss: number;
  readonly external: number;
  readonly heapUsed: number;
  readonly fibers: readonly string[];
  readonly resources: readonly string[];
}

/** What the host holds. */
export interface Holdings {
  /** Of the core's memory, without the ARC. */
  readonly coreUsedBytes: number;
  readonly arcBytes: number;
  readonly descriptors: number;
  readonly residentBytes: number;
  /** Of all processes. */
  readonly fibers: readonly string[];
  readonly heapBytes: number;
}

export interface Outcome extends Omit<SoakOptions, 'programs'> {
  readonly isDebug: boolean;
  readonly stoppable: boolean;
  readonly well: Counts;
  readonly sick: Counts;
  /** Errors of clients while their pool's disks were well. */
  readonly unexpected: number;
  readonly programs: readonly ProgramWorker[];
  readonly troubles: Record<string, number>;
  readonly recoveryLongestMs: number;
  readonly before: Holdings;
  readonly after: Holdings | undefined;
  readonly gaps: readonly Gap[];
  readonly resident: readonly { at: number; bytes: number }[];
  /** What should not be: none when all is well. */
  readonly findings: readonly string[];
}

/** What the probe has written. */
export class Probe {
  readonly #file: string;

  constructor(file: string) {
    this.#file = file;
  }

  read(): { gaps: Gap[]; snapshots: Snapshot[] } {
    const gaps: Gap[] = [];
    const snapshots: Snapshot[] = [];
    const content = existsSync(this.#file) ? readFileSync(this.#file, 'utf8') : '';
    for (const line of content.split('\n').slice(0, -1)) {
      const { kind, ...rest } = JSON.parse(line);
      if (kind === 'gap') gaps.push(rest);
      else snapshots.push(rest);
    }
    return { gaps, snapshots };
  }
}

/** The report. */
export function text(outcome: Outcome): string {
  const { minutes, seed, isDebug, stoppable, well, sick, programs, before, after, gaps, findings } = outcome;
  const commands = programs.reduce((sum, worker) => sum + worker.commands, 0);
  return [
    `soak of ${minutes} min, seed ${seed}; ${isDebug ? 'debug core' : 'NO DEBUG CORE'}; disks ${stoppable ? 'are' : 'ARE NOT'} stopped`,
    `well clients: ${counts(well.done)}`,
    `  longest, ms: ${counts(well.longest)}`,
    `  control: ${well.pings} answers, the longest after ${Math.round(well.controlLongest)} ms; longest wait beyond the machine's part ${Math.round(Math.max(0, ...well.waits.map(excess)))} ms of ${well.waits.length} over 100 ms`,
    `sick clients: ${counts(sick.done)}`,
    `  longest, ms: ${counts(sick.longest)}`,
    `  errors: ${counts(byText(sick))}; ${outcome.unexpected} while the disks were well`,
    `programs: ${commands} in steps ${counts(sum(programs.map(({ done }) => done)))}`,
    `  longest, ms: ${counts(most(programs.map(({ longest }) => longest)))}`,
    `  errors: ${counts(sum(programs.map(({ errors }) => errors)))}`,
    `faults: ${counts(outcome.troubles)}; longest until a pool was well again ${Math.round(outcome.recoveryLongestMs)} ms`,
    `event loop: ${gaps.length} gaps over 50 ms; the longest:`,
    ...[...gaps]
      .sort((a, b) => ownPart(b) - ownPart(a))
      .slice(0, 5)
      .map(
        ({ from, to, runMs, waitMs, starvedMs }) =>
          `  ${ms(to - from)} ms: ran ${ms(runMs)}, waited for a processor ${ms(waitMs)}, other threads did ${ms(starvedMs)}`,
      ),
    `resident: ${sample(outcome.resident)}`,
    ...(after === undefined
      ? []
      : [
          `descriptors ${before.descriptors} → ${after.descriptors}; fibers ${before.fibers.length} → ${after.fibers.length}; core without ARC ${mib(before.coreUsedBytes)} → ${mib(after.coreUsedBytes)}; heap ${mib(before.heapBytes)} → ${mib(after.heapBytes)}; resident ${mib(before.residentBytes)} → ${mib(after.residentBytes)}`,
        ]),
    findings.length === 0 ? 'nothing was found' : `found:\n${findings.join('\n')}`,
  ].join('\n');
}

function byText({ errors, errorsMore }: Counts): Record<string, number> {
  const all: Record<string, number> = errorsMore > 0 ? { more: errorsMore } : {};
  for (const error of errors) all[error.text] = (all[error.text] ?? 0) + 1;
  return all;
}

function counts(all: Record<string, number>): string {
  const list = Object.entries(all).sort(([, a], [, b]) => b - a);
  return list.map(([name, count]) => `${Math.round(count)} ${name}`).join(', ') || 'none';
}

function sum(all: readonly Record<string, number>[]): Record<string, number> {
  return merge(all, (a, b) => a + b);
}

function most(all: readonly Record<string, number>[]): Record<string, number> {
  return merge(all, Math.max);
}

function merge(all: readonly Record<string, number>[], both: (a: number, b: number) => number): Record<string, number> {
  const merged: Record<string, number> = {};
  for (const [name, value] of all.flatMap((one) => Object.entries(one))) merged[name] = both(merged[name] ?? 0, value);
  return merged;
}

function sample(resident: Outcome['resident']): string {
  const step = Math.max(1, Math.floor(resident.length / 10));
  return resident
    .filter((_, i) => i % step === 0)
    .map(({ at, bytes }) => `${mib(bytes)} at ${Math.round(at / 1000)} s`)
    .join(', ');
}

function ms(value: number): number {
  return Math.round(value);
}

function mib(bytes: number): string {
  return `${Math.round(bytes / 1024 ** 2)} MiB`;
}
