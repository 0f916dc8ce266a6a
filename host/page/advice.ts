import type { RunProgram } from '../serve/programs.ts';
import type { PagePool } from './state.ts';

/** What `zpool status` says of a pool. */
export interface Advice {
  readonly status: string;
  readonly action: string;
  /** An address. */
  readonly see: string;
  readonly errors: string;
  /** All of it. */
  readonly text: string;
}

/**
 * After so long the program is run for a pool again, milliseconds: where its state is another, where it has more errors than
 * before, and where nothing seems to have changed.
 */
const STATE_MS = 1_000;
const ERRORS_MS = 10_000;
const AGAIN_MS = 60_000;
const ANSWER_MS = 10_000;
const TEXT_MAX = 32 * 1024;

interface Known {
  /** What the pool was like when it was asked last. */
  readonly state: string;
  readonly errors: string;
  readonly askedAt: number;
  advice: Advice | undefined;
}

/**
 * What upstream's own `zpool status` says of the pools. It is run when a pool looks different from before, one pool after
 * the other, beside whoever asks.
 */
export class Advisor {
  readonly #run: RunProgram;
  readonly #changed: () => void;
  readonly #known = new Map<string, Known>();
  #running = false;

  constructor(run: RunProgram, changed: () => void) {
    this.#run = run;
    this.#changed = changed;
  }

  /** By pool; of one that was never asked successfully nothing. */
  get all(): Readonly<Record<string, Advice>> {
    return Object.fromEntries(
      [...this.#known].flatMap(([pool, { advice }]) => (advice === undefined ? [] : [[pool, advice]])),
    );
  }

  /** The pools are like this now. */
  look(pools: readonly PagePool[]): void {
    for (const name of this.#known.keys()) if (!pools.some((pool) => pool.name === name)) this.#known.delete(name);
    if (this.#running) return;
    const now = performance.now();
    const next = pools.find((pool) => pool.state !== 'LOST' && isDue(pool, this.#known.get(pool.name), now));
    if (next === undefined) return;
    this.#running = true;
    void this.#ask(next, now).finally(() => {
      this.#running = false;
    });
  }

  async #ask(pool: PagePool, now: number): Promise<void> {
    const known = { advice: this.#known.get(pool.name)?.advice, ...likenessOf(pool), askedAt: now };
    this.#known.set(pool.name, known);
    const { code, stdout } = await this.#run('zpool', ['status', '-v', pool.name], { timeoutMs: ANSWER_MS }).catch(
      () => ({ code: 1, stdout: '' }),
    );
    const advice = code === 0 ? adviceOf(stdout) : undefined;
    if (JSON.stringify(advice) === JSON.stringify(known.advice)) return;
    known.advice = advice;
    this.#changed();
  }
}

function isDue(pool: PagePool, known: Known | undefined, now: number): boolean {
  if (known === undefined) return true;
  const { state, errors } = likenessOf(pool);
  return now - known.askedAt > (state !== known.state ? STATE_MS : errors !== known.errors ? ERRORS_MS : AGAIN_MS);
}

/** What makes zpool status say something else. */
function likenessOf({ state, details }: PagePool): Pick<Known, 'state' | 'errors'> {
  if (details === undefined) return { state, errors: '' };
  const { scan, works, vdevs, dataErrors } = details;
  return {
    state: JSON.stringify([
      state,
      scan && [scan.kind, scan.state, scan.paused, scan.startedAt],
      works.map(({ kind, vdev, paused }) => [kind, vdev, paused]),
      vdevs.map((vdev) => [vdev.name, vdev.state, vdev.note]),
    ]),
    errors: JSON.stringify([dataErrors, vdevs.map(({ errors }) => Object.values(errors))]),
  };
}

/** Parts of what the program prints: each begins with its name, and goes on in lines that begin with a tab. */
export function adviceOf(text: string): Advice {
  const part = (name: string): string => {
    const found = new RegExp(`^ *${name}: (.*(?:\\n(?:\\t| {8}).*)*)`, 'm').exec(text)?.[1] ?? '';
    return found.replaceAll(/\s+/g, ' ').trim();
  };
  const cut = text.length > TEXT_MAX ? `${text.slice(0, TEXT_MAX)}…\n` : text;
  return { status: part('status'), action: part('action'), see: part('see'), errors: part('errors'), text: cut };
}
