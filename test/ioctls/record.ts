import { appendFileSync, globSync, mkdirSync, readFileSync } from 'node:fs';
import { join, relative } from 'node:path';
import { fileURLToPath } from 'node:url';

/**
 * What became of the ioctls that reached a core, by the test file that caused them. A host is watched by its own trace,
 * ZOW_TRACE=ioctl; table.ts makes docs/ioctls.md of the records.
 */
export const root = join(import.meta.dirname, '../..');
export const recordFolder = join(root, 'build/ioctls');

/** How often each number (`0x5a05`) ended with each errno (`errno 0`, `ENOENT`). */
export type Outcomes = Record<string, Record<string, number>>;

/** Outcomes by test file, relative to the project. */
export type IoctlRecords = ReadonlyMap<string, Outcomes>;

interface Trace {
  readonly msg: string;
  readonly request?: string;
  readonly errno?: string;
}

/** Reads the traces out of what a host prints. */
export class IoctlWatch {
  /** Environment of a host that is watched. */
  static readonly vars = { ZOW_TRACE: 'ioctl' };
  readonly #file: string;
  #outcomes: Outcomes = {};
  #rest = '';
  #sessions = 0;

  /** `file`: ava's `test.meta.file`. */
  constructor(file: string) {
    this.#file = relative(root, fileURLToPath(file));
  }

  /** The last line, as far as it was printed. */
  get rest(): string {
    return this.#rest;
  }

  /** Opens of /dev/zfs that have not ended. */
  get sessions(): number {
    return this.#sessions;
  }

  /** Takes what the host, process `pid`, has printed; returns its whole lines without the traces. Its engines' are not counted. */
  filter(printed: string, pid: number): string {
    const lines = (this.#rest + printed).split('\n');
    this.#rest = lines.pop()!;
    const others = lines.filter((line) => !this.#take(line, pid));
    return others.map((line) => `${line}\n`).join('');
  }

  /** Adds what was seen since the last time to the records. */
  save(): void {
    mkdirSync(recordFolder, { recursive: true });
    const line = JSON.stringify({ file: this.#file, outcomes: this.#outcomes });
    appendFileSync(join(recordFolder, `${process.pid}.jsonl`), `${line}\n`);
    this.#outcomes = {};
  }

  /** Whether a line is a trace of an ioctl. */
  #take(line: string, host: number): boolean {
    if (!line.includes('"trace":"ioctl"')) return false;
    // The first of them: that of a session's client has the same name.
    if (!line.includes(`,"pid":${host},"trace"`)) return true;
    const { msg, request, errno } = JSON.parse(line) as Trace;
    if (msg === 'session opened') this.#sessions++;
    if (msg === 'session closed') this.#sessions--;
    if (request !== undefined && errno !== undefined) {
      this.#outcomes[request] ??= {};
      const counts = this.#outcomes[request];
      counts[errno] = (counts[errno] ?? 0) + 1;
    }
    return true;
  }
}

/** All records since the folder was last removed. */
export function readRecords(): IoctlRecords {
  const records = new Map<string, Outcomes>();
  for (const name of globSync('*.jsonl', { cwd: recordFolder })) {
    for (const line of readFileSync(join(recordFolder, name), 'utf8').trim().split('\n')) {
      const { file, outcomes } = JSON.parse(line) as { file: string; outcomes: Outcomes };
      const sum = records.get(file) ?? {};
      records.set(file, sum);
      for (const [request, counts] of Object.entries(outcomes)) {
        sum[request] ??= {};
        for (const [errno, count] of Object.entries(counts)) {
          sum[request][errno] = (sum[request][errno] ?? 0) + count;
        }
      }
    }
  }
  return records;
}
