// Reads upstream's Makefile.am files: which sources, libraries and flags each library and program of upstream has.
import { readFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { BuildError } from './releases.ts';

export interface AutomakeSettings {
  /** Top of upstream's tree, as it shall appear in flags. */
  readonly root: string;
  /** Files to read, relative to the root, in order. */
  readonly files: readonly string[];
  /** Automake conditionals that are decided here. */
  readonly conditions: Readonly<Record<string, boolean>>;
  /** Decides any other; without it one is an error. */
  readonly decide?: (condition: string) => boolean;
  /** `@name@` substitutions of configure. */
  readonly substitutions: Readonly<Record<string, string>>;
  /** Variables whose value is ours, whatever upstream assigns. */
  readonly variables: Readonly<Record<string, string>>;
}

/** A library or a program of upstream. */
export interface Target {
  readonly name: string;
  /** C and assembler sources, relative to the root, in upstream's order; headers are left out. */
  readonly sources: readonly string[];
  /** Upstream libraries it is linked with, by name without `.la`, direct ones only. */
  readonly libraries: readonly string[];
  /** Libraries of the system it is linked with, as `-lname`. */
  readonly systemLibraries: readonly string[];
  /** Its preprocessor and compiler flags, without warnings and libtool's own. */
  readonly flags: readonly string[];
}

const MAX_INCLUDE_DEPTH = 10;
const MAX_EXPANSION_DEPTH = 20;

/** Upstream's makefiles, evaluated for one set of conditions. */
export class Automake {
  readonly #settings: AutomakeSettings;
  readonly #values = new Map<string, string>();

  constructor(settings: AutomakeSettings) {
    this.#settings = settings;
    for (const [name, value] of Object.entries(settings.variables)) {
      this.#values.set(name, value);
    }
    for (const file of settings.files) {
      this.#read(file, 0);
    }
  }

  /** The words of a variable, with `$(references)` expanded; an unknown variable is empty, as in make. */
  words(variable: string): string[] {
    return this.#expand(this.#values.get(variable) ?? '', 0)
      .split(/\s+/)
      .filter((word) => word !== '');
  }

  /**
   * A library (`libzpool`) or program (`zdb`, or by its path where upstream's makefiles name it so). Throws a BuildError when upstream
   * has none of that name.
   */
  target(name: string): Target {
    const stem = canonical(name);
    const prefixes = ['', 'dist_', 'nodist_'];
    const hasSources = (candidate: string) =>
      prefixes.some((prefix) => this.#values.has(`${prefix}${candidate}_SOURCES`));
    const key = [`${stem}_la`, stem].find(hasSources) ?? (this.#values.has(`${stem}_LDADD`) ? stem : undefined);
    if (key === undefined) {
      throw new BuildError(`upstream's makefiles have no library or program ${name}`);
    }
    // A program without a list of sources has one of its own name (automake manual, 8.5).
    const sources = hasSources(key)
      ? prefixes.flatMap((prefix) => this.words(`${prefix}${key}_SOURCES`))
      : [`${name}.c`];
    const links = [...this.words(`${key}_LIBADD`), ...this.words(`${key}_LDADD`)];
    const own = (kind: string): string[] =>
      this.words(this.#values.has(`${key}_${kind}`) ? `${key}_${kind}` : `AM_${kind}`);
    return {
      name,
      sources: [...new Set(sources.filter((source) => /\.[cS]$/.test(source)))],
      libraries: links.filter((word) => word.endsWith('.la')).map((word) => word.slice(0, -'.la'.length)),
      systemLibraries: links.filter((word) => word.startsWith('-l')),
      // The words are meant for a shell: \" stands for a quote.
      flags: [...own('CPPFLAGS'), ...own('CFLAGS')]
        .filter((flag) => !/^-W|^-no-suppress$/.test(flag))
        .map((flag) => flag.replaceAll('\\"', '"')),
    };
  }

  /** Whether these makefiles have a library or program `name`. */
  has(name: string): boolean {
    const stem = canonical(name);
    const names = [`${stem}_la`, stem].flatMap((key) =>
      ['', 'dist_', 'nodist_'].map((prefix) => `${prefix}${key}_SOURCES`),
    );
    return [...names, `${stem}_LDADD`].some((variable) => this.#values.has(variable));
  }

  /** The upstream libraries that `names` need, themselves first, each once, in link order (users before what they use). */
  closure(names: readonly string[]): string[] {
    return closureOf(names, (name) => this.target(name));
  }

  #read(file: string, depth: number): void {
    if (depth > MAX_INCLUDE_DEPTH) {
      throw new BuildError(`${file}: included too deeply`);
    }
    let text: string;
    try {
      text = readFileSync(join(this.#settings.root, file), 'utf8');
    } catch {
      throw new BuildError(`${file}: not in the source tree of this release`);
    }
    // Each open `if`, innermost last: whether its current branch is taken.
    const branches: boolean[] = [];
    for (const { line, number } of logicalLines(text)) {
      const where = `${file}:${number}`;
      const conditional = /^(if|else|endif)\b\s*(!?)\s*(\w*)/.exec(line);
      if (conditional !== null) {
        this.#conditional(conditional, branches, where);
        continue;
      }
      if (branches.includes(false)) {
        continue;
      }
      const include = /^include\s+(\S+)/.exec(line)?.[1];
      if (include !== undefined) {
        this.#read(this.#localise(include, file).replace(/^\$\((top_)?srcdir\)\//, ''), depth + 1);
        continue;
      }
      const assignment = /^([\w.]+)\s*(\+?=)\s*(.*)$/.exec(this.#localise(line, file));
      if (assignment !== null) {
        this.#assign(assignment[1]!, assignment[2] === '+=', assignment[3]!);
      }
    }
    if (branches.length > 0) {
      throw new BuildError(`${file}: an "if" without "endif"`);
    }
  }

  #conditional(match: RegExpExecArray, branches: boolean[], where: string): void {
    const [, keyword, negation, name] = match;
    if (keyword === 'if') {
      const value = this.#settings.conditions[name!] ?? this.#settings.decide?.(name!);
      if (value === undefined) {
        throw new BuildError(`${where}: unknown condition ${name}`);
      }
      branches.push(value !== (negation === '!'));
      return;
    }
    const current = branches.pop();
    if (current === undefined) {
      throw new BuildError(`${where}: "${keyword}" without "if"`);
    }
    if (keyword === 'else') {
      branches.push(!current);
    }
  }

  #assign(name: string, append: boolean, value: string): void {
    if (Object.hasOwn(this.#settings.variables, name)) {
      return;
    }
    const before = append ? this.#values.get(name) : undefined;
    this.#values.set(name, before === undefined ? value : `${before} ${value}`);
  }

  /** Replaces `@name@`, and what depends on the file a line stands in: its directory `%D%`, `%C%` in names (automake manual, 8.1). */
  #localise(text: string, file: string): string {
    return text
      .replaceAll('%D%', dirname(file))
      .replaceAll('%C%', canonical(dirname(file)))
      .replaceAll(/@(\w+)@/g, (whole, name: string) => this.#settings.substitutions[name] ?? whole);
  }

  #expand(text: string, depth: number): string {
    if (depth > MAX_EXPANSION_DEPTH) {
      throw new BuildError(`a variable of upstream's makefiles refers to itself: ${text}`);
    }
    return text.replaceAll(/\$\((\w+)\)/g, (_, name: string) => this.#expand(this.#values.get(name) ?? '', depth + 1));
  }
}

/** What `names` need of what `find` finds, themselves first, each once, users before what they use. */
export function closureOf(names: readonly string[], find: (name: string) => Target): string[] {
  const order: string[] = [];
  const visit = (name: string, path: readonly string[]): void => {
    if (path.includes(name)) {
      throw new BuildError(`upstream's libraries depend on each other: ${[...path, name].join(' → ')}`);
    }
    if (order.includes(name)) {
      return;
    }
    for (const library of find(name).libraries) {
      visit(library, [...path, name]);
    }
    order.push(name);
  };
  for (const name of names) {
    visit(name, []);
  }
  return order.reverse();
}

/** A path as automake has it in names of variables. */
function canonical(path: string): string {
  return path.replaceAll(/[^A-Za-z0-9]/g, '_');
}

/** Lines with continuations joined and comments removed; recipe lines (those that start with a tab) are skipped. */
function* logicalLines(text: string): Generator<{ line: string; number: number }> {
  const lines = text.split('\n');
  for (let index = 0; index < lines.length; index++) {
    const number = index + 1;
    let line = lines[index]!;
    const isRecipe = line.startsWith('\t');
    while (line.endsWith('\\') && index + 1 < lines.length) {
      line = `${line.slice(0, -1)} ${lines[++index]!.trim()}`;
    }
    if (!isRecipe && !line.startsWith('#') && line.trim() !== '') {
      yield { line: line.trimEnd(), number };
    }
  }
}
