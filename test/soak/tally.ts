import { type Control, now, scheduleOf, type Wait } from './waits.ts';

/** What the clients of a process have done, had, and found. */
export interface Counts {
  /** By kind of operation. */
  readonly done: Record<string, number>;
  readonly longest: Record<string, number>;
  readonly errors: readonly { readonly at: number; readonly id: string; readonly text: string }[];
  readonly errorsMore: number;
  readonly wrong: readonly string[];
  /** Waits that were long, with what else was slow. */
  readonly waits: readonly Wait[];
  readonly pings: number;
  readonly controlLongest: number;
}

const longMs = 100;
const keptMax = 2000;

export class Tally {
  readonly #done: Record<string, number> = {};
  readonly #longest: Record<string, number> = {};
  readonly #errors: { at: number; id: string; text: string }[] = [];
  readonly #wrong: string[] = [];
  readonly #waits: Wait[] = [];
  readonly #control: Control | undefined;
  readonly #hostPid: number;
  #errorsMore = 0;
  /** What the host's thread had run and waited for, again and again. */
  readonly #schedules: { at: number; run: number; wait: number }[] = [];

  /** With a control, long waits are kept, and what explains them. */
  constructor(hostPid: number, control: Control | undefined) {
    this.#hostPid = hostPid;
    this.#control = control;
    if (control !== undefined) setInterval(() => this.#sample(), 10);
  }

  count(kind: string): void {
    this.#done[kind] = (this.#done[kind] ?? 0) + 1;
  }

  /** An operation that began at `since` is over. */
  wait(id: string, kind: string, since: number): void {
    const at = now();
    this.count(kind);
    this.#longest[kind] = Math.max(this.#longest[kind] ?? 0, at - since);
    if (this.#control === undefined || at - since < longMs || this.#waits.length > keptMax) return;
    this.#sample();
    const before = this.#schedules.findLast((schedule) => schedule.at <= since) ?? this.#schedules[0]!;
    const after = this.#schedules.at(-1)!;
    const { control, here } = this.#control.during(since, at);
    const hostRan = after.run - before.run;
    const hostWaited = after.wait - before.wait;
    this.#waits.push({ what: `${id} ${kind}`, from: since, to: at, control, here, hostRan, hostWaited });
  }

  error(id: string, text: string): void {
    this.count('error');
    if (this.#errors.length < 20_000) this.#errors.push({ at: now(), id, text });
    else this.#errorsMore++;
  }

  wrong(lines: readonly string[]): void {
    for (const line of lines) if (this.#wrong.length < 100) this.#wrong.push(line);
  }

  get counts(): Counts {
    return {
      done: this.#done,
      longest: this.#longest,
      errors: this.#errors,
      errorsMore: this.#errorsMore,
      wrong: this.#wrong,
      waits: this.#waits,
      pings: this.#control?.pings ?? 0,
      controlLongest: this.#control?.longest ?? 0,
    };
  }

  #sample(): void {
    const [run, wait] = scheduleOf(this.#hostPid);
    this.#schedules.push({ at: now(), run, wait });
    if (this.#schedules.length > 6000) this.#schedules.splice(0, 1000);
  }
}
