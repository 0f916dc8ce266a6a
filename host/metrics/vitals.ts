import type { Inspector } from '../core/dev-zfs.ts';
import { Errno, errnoOf } from '../errno.ts';
import { decodeKstat, statistics } from '../observe/kstats.ts';

/** What a core knows of itself without waiting for any disk. */
export interface Vitals {
  /** By pool: `ONLINE`, `DEGRADED`, `SUSPENDED`, … (spa_state_to_name). */
  readonly states: ReadonlyMap<string, string>;
  /** The core's heap, bytes. */
  readonly memory: { readonly all: number; readonly free: number };
}

/** `zfs/tank/state`. */
const STATE = /^zfs\/([^/]+)\/state$/;

/** Asks for kstats that are made without a lock of any pool: one that is suspended answers as well. Rejects with ErrnoError. */
export async function vitalsOf(inspector: Inspector): Promise<Vitals> {
  const pools = (await inspector.kstatPaths())
    .map((path) => STATE.exec(path)?.[1])
    .filter((pool) => pool !== undefined);
  const [memory, ...states] = await Promise.all([
    memoryOf(inspector),
    ...pools.map((pool) => stateOf(inspector, pool)),
  ]);
  return { states: new Map(states.filter((entry) => entry !== undefined)), memory };
}

async function memoryOf(inspector: Inspector): Promise<Vitals['memory']> {
  const arc = new Map(
    statistics(decodeKstat(await inspector.kstat('zfs/arcstats'))).map(({ name, value }) => [name, value]),
  );
  return { all: Number(arc.get('memory_all_bytes')), free: Number(arc.get('memory_free_bytes')) };
}

/** Undefined: it was exported meanwhile. */
async function stateOf(inspector: Inspector, pool: string): Promise<[string, string] | undefined> {
  try {
    const kstat = decodeKstat(await inspector.kstat(`zfs/${pool}/state`));
    return [pool, 'text' in kstat ? kstat.text.trim() : ''];
  } catch (error) {
    if (errnoOf(error) === Errno.ENOENT) return undefined;
    throw error;
  }
}
