/**
 * Explores what power cuts can leave of a pool: records what its disks were told while volumes are written, builds the
 * disks that a cut at any moment could leave, imports each in a core of its own, and compares with what was promised.
 *
 *   node test/crash/explore.ts [LAYOUT|all] [STATES, default 2000] [SEED, default 1]
 *   node test/crash/explore.ts again RECORDING MOMENT SURVIVAL SEED once|twice [FOLDER for the disks]
 */
import { type ChildProcess, fork } from 'node:child_process';
import { mkdirSync, mkdtempSync, rmSync } from 'node:fs';
import { availableParallelism, tmpdir } from 'node:os';
import { join } from 'node:path';
import { log } from '../../host/log.ts';
import { print } from '../../host/print.ts';
import { type State, type Survival, states } from './images.ts';
import { isLayoutName, type LayoutName, layouts } from './layouts.ts';
import { record, save } from './record.ts';
import type { Job, Verdict } from './worker.ts';
import type { Work } from './workload.ts';

export interface Exploration extends Partial<Pick<Job, 'lies' | 'withoutReplay' | 'zdbEvery'>> {
  readonly layout: LayoutName;
  readonly states: number;
  readonly seed: number;
  readonly work?: Work;
  /** Failed flushes are reported to nobody, as in upstream. */
  readonly silently?: boolean;
  /** Where the recording of states with losses is kept. Default: nowhere. */
  readonly keep?: string;
  readonly onVerdict?: (verdict: Verdict) => void;
}

export interface Report {
  readonly verdicts: readonly Verdict[];
  /** The recording, where it was kept. */
  readonly recordings: readonly string[];
}

// Hundreds of cores come and go.
if ((process.env.ZOW_LOG ?? '') === '') log.level = 'fatal';

/** Enough for some hundred flushes. */
const usualWork: Work = { requestsPerWriter: 25, changes: 4 };
/** Of one recording. So every end of a flush is among them. */
const statesPerRecording = 1000;
/** A core that was left in the middle is not given back before its process ends. */
const statesPerProcess = 25;

export async function explore(exploration: Exploration): Promise<Report> {
  const verdicts: Verdict[] = [];
  const recordings: string[] = [];
  for (let done = 0; done < exploration.states; done += statesPerRecording) {
    const count = Math.min(statesPerRecording, exploration.states - done);
    const seed = exploration.seed + done / statesPerRecording;
    const found = await exploreOne({ ...exploration, states: count, seed });
    verdicts.push(...found.verdicts);
    recordings.push(...found.recordings);
  }
  return { verdicts, recordings };
}

async function exploreOne(exploration: Exploration): Promise<Report> {
  const { layout, seed, keep } = exploration;
  const folder = mkdtempSync(join(tmpdir(), 'zow-explore-'));
  const file = join(folder, `${layout}-${seed}.recording`);
  try {
    const { work = usualWork, silently = false } = exploration;
    const recording = await record(layout, seed, work, { silently });
    save(recording, file);
    const verdicts = await judgeAll(file, states(recording, exploration.states, seed * 1_000_000), exploration);
    if (keep === undefined || verdicts.every(({ losses }) => losses.length === 0)) return { verdicts, recordings: [] };
    mkdirSync(keep, { recursive: true });
    const kept = join(keep, `${layout}-${seed}.recording`);
    save(recording, kept);
    return { verdicts, recordings: [kept] };
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

async function judgeAll(file: string, all: readonly State[], exploration: Exploration): Promise<Verdict[]> {
  const { lies = false, withoutReplay = false, zdbEvery = 0, onVerdict } = exploration;
  const verdicts: Verdict[] = [];
  const jobs: State[][] = [];
  for (let i = 0; i < all.length; i += statesPerProcess) jobs.push(all.slice(i, i + statesPerProcess));
  await Promise.all(
    jobs.map((part) =>
      slots.run(() =>
        work({ file, states: part, lies, withoutReplay, zdbEvery }, (verdict) => {
          verdicts.push(verdict);
          onVerdict?.(verdict);
        }),
      ),
    ),
  );
  if (verdicts.length !== all.length) throw new Error(`${verdicts.length} verdicts for ${all.length} states`);
  return verdicts;
}

/** Runs a job in a process of its own. Rejects when that fails. */
function work(job: Job, onVerdict: (verdict: Verdict) => void): Promise<void> {
  return new Promise((resolve, reject) => {
    const child: ChildProcess = fork(join(import.meta.dirname, 'worker.ts'), {
      env: { ...process.env, ZOW_LOG: process.env.ZOW_LOG || 'fatal' },
    });
    child.on('message', onVerdict);
    child.on('error', reject);
    child.on('close', (code) => {
      if (code === 0) resolve();
      else reject(new Error(`a worker ended with ${code}`));
    });
    child.send(job);
  });
}

/** As many processes as the machine has for us, whoever asks. */
class Slots {
  #free = availableParallelism();
  readonly #waiting: (() => void)[] = [];

  async run<T>(task: () => Promise<T>): Promise<T> {
    if (this.#free === 0) await new Promise<void>((resolve) => this.#waiting.push(resolve));
    else this.#free--;
    try {
      return await task();
    } finally {
      const next = this.#waiting.shift();
      if (next === undefined) this.#free++;
      else next();
    }
  }
}

const slots = new Slots();

export function describe({ state, losses }: Verdict): string {
  const { moment, survival, seed, twice } = state;
  return [`${moment} ${survival} ${seed} ${twice ? 'twice' : 'once'}:`, ...losses.map((line) => `  ${line}`)].join(
    '\n',
  );
}

async function main(layout: LayoutName, count: number, seed: number): Promise<number> {
  const began = Date.now();
  let shown = 0;
  const { verdicts, recordings } = await explore({
    layout,
    states: count,
    seed,
    zdbEvery: 100,
    keep: 'build/crash',
    onVerdict: (verdict) => {
      if (verdict.losses.length > 0)
        print(
          1,
          `${describe(verdict)}
`,
        );
      if (++shown % 100 === 0) print(1, `${layout}: ${shown} of ${count}\n`);
    },
  });
  const lost = verdicts.filter(({ losses }) => losses.length > 0);
  const zdb = verdicts.filter((verdict) => verdict.zdb).length;
  const seconds = Math.round((Date.now() - began) / 1000);
  const kept = recordings.length === 0 ? '' : `; kept: ${recordings.join(', ')}`;
  print(
    1,
    `${layout}, seed ${seed}: ${verdicts.length} states, ${lost.length} with losses, ${zdb} also through zdb, ${seconds} s${kept}\n`,
  );
  return lost.length;
}

async function again(file: string, state: State, images: string | undefined): Promise<number> {
  let lost = 0;
  const job: Job = { file, states: [state], lies: false, withoutReplay: false, zdbEvery: 1 };
  await work({ ...job, ...(images === undefined ? {} : { images }) }, (verdict) => {
    print(
      1,
      `${describe(verdict)}
`,
    );
    lost += verdict.losses.length;
  });
  return lost;
}

if (import.meta.main) {
  const [what = 'all', ...rest] = process.argv.slice(2);
  let lost = 0;
  if (what === 'again') {
    const [file = '', moment, survival, seed, times, images] = rest;
    const state = {
      moment: Number(moment),
      survival: survival as Survival,
      seed: Number(seed),
      twice: times === 'twice',
    };
    lost = await again(file, state, images);
  } else {
    const names = what === 'all' ? Object.keys(layouts).filter(isLayoutName) : [what].filter(isLayoutName);
    if (names.length === 0) throw new Error(`${what} is none of ${Object.keys(layouts).join(', ')}`);
    for (const name of names) lost += await main(name, Number(rest[0] ?? 2000), Number(rest[1] ?? 1));
  }
  process.exitCode = lost === 0 ? 0 : 1;
}
