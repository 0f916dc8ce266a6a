/** One thing wrong with a configuration file, and where. */
export interface Problem {
  /** 1-based; of the key or the value that is wrong. */
  readonly line: number;
  readonly column: number;
  /** `pools.tank.vdevs[1]`; empty for the file as a whole. */
  readonly key: string;
  /** What was found, and what is allowed. One line. */
  readonly message: string;
}

/**
 * A configuration that cannot be used. `message` has one line a problem, `file:line:column: key: what is wrong`, in the
 * order of the file, as compilers print them.
 */
export class ConfigError extends Error {
  readonly file: string;
  readonly problems: readonly Problem[];

  constructor(file: string, problems: readonly Problem[], options?: ErrorOptions) {
    const sorted = [...problems].sort((a, b) => a.line - b.line || a.column - b.column);
    super(sorted.map((problem) => format(file, problem)).join('\n'), options);
    this.name = 'ConfigError';
    this.file = file;
    this.problems = sorted;
  }
}

function format(file: string, problem: Problem): string {
  const where = `${file}:${problem.line}:${problem.column}`;
  return problem.key === '' ? `${where}: ${problem.message}` : `${where}: ${problem.key}: ${problem.message}`;
}

/** A place in the document: mapping keys and sequence indexes from the root. */
export type KeyPath = readonly (string | number)[];

/** `pools.tank.vdevs[1]`; a key that would be ambiguous is quoted. */
export function formatKeyPath(path: KeyPath): string {
  let text = '';
  for (const part of path) {
    if (typeof part === 'number') text += `[${part}]`;
    else if (/^[\w@:/-]+$/.test(part)) text += text === '' ? part : `.${part}`;
    else text += `[${quote(part)}]`;
  }
  return text;
}

const QUOTED_MAX = 60;

/** A value as a user recognises it, on one line and never longer than some 60 characters. */
export function quote(value: unknown): string {
  if (value === null || value === undefined) return 'nothing';
  if (Array.isArray(value)) return 'a list';
  if (typeof value === 'object') return Object.keys(value).length === 0 ? 'an empty mapping' : 'a mapping';
  if (typeof value !== 'string') return String(value);
  const text = JSON.stringify(value).slice(1, -1).replaceAll('\\"', '"').replaceAll("'", "\\'");
  return text.length > QUOTED_MAX ? `'${text.slice(0, QUOTED_MAX)}…'` : `'${text}'`;
}
