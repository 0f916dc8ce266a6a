import { type Profiler, Session } from 'node:inspector';

/** V8's own block coverage of some of this process's modules, taken in steps: what guides a fuzzer. */
export class Coverage {
  /** Inputs that reached something new: whoever fuzzes keeps them here. */
  readonly corpus: Buffer[] = [];
  readonly #session = new Session();
  readonly #matches: RegExp;
  readonly #seen = new Set<string>();

  /** Of the modules whose URL matches. */
  constructor(matches: RegExp) {
    this.#matches = matches;
    this.#session.connect();
    this.#session.post('Profiler.enable');
    this.#session.post('Profiler.startPreciseCoverage', { callCount: true, detailed: true });
  }

  /** Blocks that ran since the last call, and never before. */
  take(): number {
    const before = this.#seen.size;
    for (const { url, functions } of this.#read()) {
      for (const { ranges } of functions) {
        for (const { startOffset, endOffset, count } of ranges) {
          if (count > 0) this.#seen.add(`${url}:${startOffset}:${endOffset}`);
        }
      }
    }
    return this.#seen.size - before;
  }

  /** Blocks seen so far. */
  get blocks(): number {
    return this.#seen.size;
  }

  close(): void {
    this.#session.disconnect();
  }

  #read(): Profiler.ScriptCoverage[] {
    let scripts: Profiler.ScriptCoverage[] = [];
    // A session on the own thread answers before `post` returns.
    this.#session.post('Profiler.takePreciseCoverage', (error, answer) => {
      if (error !== null) throw new Error(`coverage: ${error.message}`);
      scripts = answer.result.filter(({ url }) => this.#matches.test(url));
    });
    return scripts;
  }
}
