import type { Vitals } from './vitals.ts';
import { shared, within } from './within.ts';

/** A core of the host's, in this process or in one of its own. */
export interface Engine {
  /** For people: the pools that it has. */
  readonly pools: readonly string[];
  readonly vitals: () => Promise<Vitals>;
}

/** A host, as far as its health goes. */
export interface Patient {
  /** Why it serves nothing yet, or nothing any more; undefined while it serves. */
  readonly notServing: string | undefined;
  /** Why nothing of it will ever work again: its only core is lost. */
  readonly lost: string | undefined;
  readonly engines: readonly Engine[];
  /** Pools whose engine is lost and that are not there again yet, and why. */
  readonly lostPools: ReadonlyMap<string, string>;
  /** Pools of the configuration. */
  readonly wanted: readonly string[];
}

/** How long an engine has to answer, milliseconds. */
const ANSWER_MS = 1_000;
/** Below this part of the heap new writes are refused room (arc_memory_throttle, wasm/core/platform/arc_os.c). */
const SHORT_OF = 1 / 32;
/** States of a pool that serves its volumes. */
const SERVING = new Set(['ONLINE', 'DEGRADED']);

/** What an orchestrator asks: whether the host is to be started anew, and whether it can be given work. */
export class Health {
  readonly #patient: Patient;
  /** Why the host should not be given work; empty: it can be. */
  readonly unready: () => Promise<readonly string[]>;

  constructor(patient: Patient) {
    this.#patient = patient;
    this.unready = shared(() => this.#unready());
  }

  /** Why only a new start helps; undefined: nothing is known against it. */
  get dead(): string | undefined {
    return this.#patient.lost;
  }

  async #unready(): Promise<string[]> {
    const { notServing, lost, lostPools, wanted, engines } = this.#patient;
    if (lost !== undefined) return [lost];
    if (notServing !== undefined) return [notServing];
    const reasons = [...lostPools].map(([pool, reason]) => `pool ${pool}: ${reason}`);
    const known = new Set(lostPools.keys());
    const answers = await Promise.all(engines.map(({ vitals }) => within(ANSWER_MS, vitals())));
    for (const [i, { pools }] of engines.entries()) {
      const answer = answers[i];
      if (answer !== undefined) reasons.push(...troublesOf(answer));
      else
        reasons.push(pools.length === 0 ? 'a core does not answer' : `the core of ${pools.join(', ')} does not answer`);
      for (const pool of [...pools, ...(answer?.states.keys() ?? [])]) known.add(pool);
    }
    // Nobody knows what a core has that does not answer and whose pools are not known.
    if (engines.some(({ pools }, i) => answers[i] === undefined && pools.length === 0)) return reasons;
    for (const pool of wanted) if (!known.has(pool)) reasons.push(`pool ${pool} is not imported`);
    return reasons;
  }
}

function troublesOf({ states, memory }: Vitals): string[] {
  const troubles = [...states]
    .filter(([, state]) => !SERVING.has(state))
    .map(([pool, state]) => `pool ${pool} is ${state}`);
  if (memory.free < memory.all * SHORT_OF)
    troubles.push(`memory is short: ${memory.free} of ${memory.all} bytes are free`);
  return troubles;
}
