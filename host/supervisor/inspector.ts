import type { Core } from '../core/api.ts';
import type { Inspector } from '../core/dev-zfs.ts';
import { Errno, ErrnoError, errnoOf } from '../errno.ts';
import { stringOf, sumEmbedded, withString } from '../nvlist/packed.ts';

/** Kstats and tunables of all engines. */
export class MergedInspector implements Inspector {
  readonly #cores: (path?: string) => Promise<readonly Core[]>;
  readonly #set: (name: string, value: string) => Promise<void>;

  /** Set by the host. */
  status: (() => Promise<string>) | undefined;
  live: (() => Promise<string>) | undefined;
  difference: ((file: string) => Promise<string>) | undefined;
  openRemote: Inspector['openRemote'];
  locate: ((volume: string) => Promise<string>) | undefined;

  /** `cores`: those that are asked for what is at a kstat's path. */
  constructor(cores: (path?: string) => Promise<readonly Core[]>, set: (name: string, value: string) => Promise<void>) {
    this.#cores = cores;
    this.#set = set;
  }

  async kstatPaths(): Promise<readonly string[]> {
    const all = await Promise.all((await this.#cores()).map(({ inspector }) => inspector.kstatPaths()));
    return [...new Set(all.flat())].sort();
  }

  /** Of a pool, its engine's. What each engine has: the numbers added up, the lines of a list one engine after the other. */
  async kstat(path: string): Promise<Uint8Array> {
    const all = await this.#havers((inspector) => inspector.kstat(path), path);
    if (all.length === 1) return all[0]!;
    const isList = stringOf(all[0]!, 'class') === undefined;
    if (!isList) return sumEmbedded(all, 'named');
    const texts = all.map((packed) => stringOf(packed, 'text') ?? '');
    const [header = ''] = texts[0]!.split('\n', 1);
    const lines = texts.map((text) => text.slice(text.indexOf('\n') + 1));
    return withString(all[0]!, 'text', [header, '\n', ...lines].join(''));
  }

  async clearKstat(path: string): Promise<void> {
    const cleared = await Promise.allSettled(
      (await this.#cores(path)).map(({ inspector }) => inspector.clearKstat(path)),
    );
    if (cleared.some(({ status }) => status === 'fulfilled')) return;
    throw (cleared[0] as PromiseRejectedResult | undefined)?.reason ?? new ErrnoError(Errno.ENOENT, path);
  }

  async tunables(): Promise<Uint8Array> {
    const [core] = await this.#cores();
    if (core === undefined) throw new ErrnoError(Errno.EIO, 'no engine answers');
    return core.inspector.tunables();
  }

  setTunable(name: string, value: string): Promise<void> {
    return this.#set(name, value);
  }

  /** What those have that have it. Rejects with ENOENT when none has. */
  async #havers<T>(ask: (inspector: Inspector) => Promise<T>, path: string): Promise<T[]> {
    const answers = await Promise.allSettled((await this.#cores(path)).map(({ inspector }) => ask(inspector)));
    const found: T[] = [];
    for (const answer of answers) {
      if (answer.status === 'fulfilled') found.push(answer.value);
      else if (errnoOf(answer.reason) !== Errno.ENOENT) throw answer.reason;
    }
    if (found.length === 0) throw new ErrnoError(Errno.ENOENT, path);
    return found;
  }
}
