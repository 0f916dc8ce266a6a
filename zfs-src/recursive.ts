// Upstream's makefiles as they were until 2.1: one of its own in each folder, run by its parent (SUBDIRS), with sources of other folders found by
// VPATH.
import { existsSync, globSync } from 'node:fs';
import { basename, dirname, join } from 'node:path';
import { Automake, type AutomakeSettings, closureOf, type Target } from './automake.ts';
import { BuildError } from './releases.ts';

/** A library's or program's makefile, and where it is. */
interface Place {
  readonly folder: string;
  readonly makefile: Automake;
}

/** The same questions as of `Automake`, answered from a makefile in each folder. */
export class RecursiveAutomake {
  readonly #settings: AutomakeSettings;
  readonly #tree: string;
  readonly #places: readonly Place[];

  /** Reads all makefiles below `folders`. `tree` is the top of the sources as it appears in flags. */
  constructor(settings: AutomakeSettings, tree: string, folders: readonly string[]) {
    this.#settings = settings;
    this.#tree = tree;
    this.#places = folders
      .flatMap((folder) => globSync(`${folder}/**/Makefile.am`, { cwd: settings.root }))
      .sort()
      .map((file) => ({ folder: dirname(file), makefile: this.#read(file) }));
  }

  #read(file: string): Automake {
    const folder = dirname(file);
    const variables = { ...this.#settings.variables, srcdir: `${this.#tree}/${folder}` };
    return new Automake({ ...this.#settings, files: [file], variables });
  }

  /** The words of a variable in the first makefile that has it. */
  words(variable: string): string[] {
    return this.#places.map(({ makefile }) => makefile.words(variable)).find((words) => words.length > 0) ?? [];
  }

  /** A library or program, by its name or its path; its sources are relative to the root, wherever they were found. */
  target(name: string): Target {
    const wanted = basename(name);
    for (const { folder, makefile } of this.#places) {
      if (!makefile.has(wanted)) continue;
      const target = makefile.target(wanted);
      return {
        ...target,
        name,
        sources: target.sources.map((source) => this.#find(source, folder, makefile)),
        libraries: target.libraries.map((library) => basename(library)),
        // Before the target's own, as automake calls the compiler.
        flags: [...makefile.words('DEFAULT_INCLUDES'), ...target.flags],
      };
    }
    throw new BuildError(`upstream's makefiles have no library or program ${name}`);
  }

  /** As of `Automake`. */
  closure(names: readonly string[]): string[] {
    return closureOf(names, (name) => this.target(name));
  }

  /** A source as make finds it: beside its makefile, else where VPATH leads to. */
  #find(source: string, folder: string, makefile: Automake): string {
    const top = `${this.#tree}/`;
    const paths = makefile.words('VPATH').map((path) => (path.startsWith(top) ? path.slice(top.length) : path));
    const places = [folder, ...paths].map((path) => join(path, source));
    const found = places.find((place) => existsSync(join(this.#settings.root, place)));
    if (found === undefined) {
      throw new BuildError(`${folder}/Makefile.am: no ${source} in any of ${places.map(dirname).join(', ')}`);
    }
    return found;
  }
}
