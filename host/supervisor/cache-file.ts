import { type FSWatcher, readdirSync, readFileSync, renameSync, rmSync, statSync, watch, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { Logger } from '../log.ts';
import { NvlistError } from '../nvlist/nvlist.ts';
import { mergePacked, namesOf, onlyPair } from '../nvlist/packed.ts';

/** What an engine's cache file is called; what comes before is the engine's name. */
const SUFFIX = '.cache';
/** An engine writes its file in several steps. */
const SETTLE_MS = 20;

/**
 * The cache file of all imported pools, by which zdb finds them: each engine has one of its own, and they are put
 * together whenever one of them changes. That of an engine that was lost counts until its pools are in another.
 */
export class CacheFile {
  readonly #folder: string;
  readonly #path: string;
  readonly #log: Logger;
  readonly #watcher: FSWatcher;
  #timer: NodeJS.Timeout | undefined;

  /** `folder`: of the engines' files; `path`: of the one for all. */
  constructor(folder: string, path: string, log: Logger) {
    this.#folder = folder;
    this.#path = path;
    this.#log = log;
    this.#watcher = watch(folder, { persistent: false }, (_event, name) => {
      if (name?.endsWith(SUFFIX) === true) this.#timer ??= setTimeout(() => this.#put(), SETTLE_MS).unref();
    });
  }

  /** Where the engine of that name is to have its own. */
  of(engine: string): string {
    return join(this.#folder, `${engine}${SUFFIX}`);
  }

  /** When all engines have ended. */
  close(): void {
    this.#watcher.close();
    this.#put();
  }

  #put(): void {
    clearTimeout(this.#timer);
    this.#timer = undefined;
    try {
      const lists = this.#collect();
      const whole = `${this.#path}.new`;
      if (lists.length === 0) {
        rmSync(this.#path, { force: true });
        return;
      }
      writeFileSync(whole, mergePacked(lists), { mode: 0o600 });
      renameSync(whole, this.#path);
    } catch (error) {
      // One that is being written: its next change comes.
      if (error instanceof RangeError || error instanceof NvlistError) return;
      this.#log.warn({ err: error, file: this.#path }, 'the cache file cannot be written');
    }
  }

  /** Each pool once, as its newest file has it. */
  #collect(): Uint8Array[] {
    const files = readdirSync(this.#folder)
      .filter((name) => name.endsWith(SUFFIX))
      .map((name) => join(this.#folder, name))
      .map((path) => ({ path, at: statSync(path).mtimeMs, packed: readFileSync(path) }))
      .sort((a, b) => b.at - a.at);
    const pools = new Map<string, Uint8Array>();
    for (const { path, packed } of files) {
      const names = namesOf(packed);
      if (names.every((name) => pools.has(name))) rmSync(path, { force: true });
      for (const name of names) if (!pools.has(name)) pools.set(name, onlyPair(packed, name)!);
    }
    return [...pools.values()];
  }
}
