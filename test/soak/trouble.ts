import { now } from './waits.ts';

/** Slow ends count as trouble, too: what began under a fault may end a little after it. */
const afterMs = 3000;

/** When which pool was in trouble, so that errors can be told from faults of ours. */
export class Trouble {
  readonly #times = new Map<string, { from: number; to: number; what: string }[]>();
  /** How often each was brought about. */
  readonly counts: Record<string, number> = {};

  begin(pool: string, what: string): void {
    const times = this.#times.get(pool);
    const time = { from: now(), to: Number.POSITIVE_INFINITY, what };
    if (times === undefined) this.#times.set(pool, [time]);
    else times.push(time);
    this.counts[what] = (this.counts[what] ?? 0) + 1;
  }

  end(pool: string): void {
    const time = this.#times.get(pool)?.at(-1);
    if (time !== undefined) time.to = now() + afterMs;
  }

  /** Trouble of a pool, or of any, in a time. */
  during(pool: string | undefined, from: number, to: number): string | undefined {
    const lists = pool === undefined ? [...this.#times.values()] : [this.#times.get(pool) ?? []];
    const found = lists.flat().filter((time) => time.from < to && time.to > from);
    return found.length === 0 ? undefined : found.map(({ what }) => what).join(', ');
  }
}

/** What should not be, by what it is: each kind with how often, and the first few. */
export class Findings {
  readonly #kinds = new Map<string, string[]>();
  readonly #counts = new Map<string, number>();
  readonly #onFinding: (line: string) => void;

  constructor(onFinding: (line: string) => void) {
    this.#onFinding = onFinding;
  }

  add(kind: string, detail: string): void {
    const list = this.#kinds.get(kind) ?? [];
    this.#kinds.set(kind, list);
    this.#counts.set(kind, (this.#counts.get(kind) ?? 0) + 1);
    if (list.length >= 5) return;
    list.push(detail);
    this.#onFinding(`${kind}: ${detail}`);
  }

  get total(): number {
    return [...this.#counts.values()].reduce((sum, count) => sum + count, 0);
  }

  get lines(): string[] {
    return [...this.#kinds].map(
      ([kind, details]) => `${kind}, ${this.#counts.get(kind)} times:\n  ${details.join('\n  ')}`,
    );
  }
}
