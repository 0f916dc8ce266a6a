import {
  type Document,
  isAlias,
  isMap,
  isPair,
  isScalar,
  isSeq,
  LineCounter,
  type Node,
  parseDocument,
  type YAMLError,
} from 'yaml';
import { ConfigError, type KeyPath, type Problem } from './problem.ts';

/** A configuration is written by hand; what is larger is something else. */
export const SOURCE_BYTES_MAX = 1024 * 1024;
const ALIASES_MAX = 100;
const SYNTAX_PROBLEMS_MAX = 20;

export interface Position {
  readonly line: number;
  readonly column: number;
}

/** A YAML document as plain values, which remembers where each of them stands. */
export interface Source {
  readonly value: unknown;
  /** Where the key or the value at a path stands; of its nearest ancestor that exists when it does not. */
  locate(path: KeyPath, at: 'key' | 'value'): Position;
}

/** Reads one YAML 1.2 document. Throws ConfigError with the place of each syntax error. */
export function parseSource(file: string, bytes: Uint8Array): Source {
  if (bytes.length > SOURCE_BYTES_MAX) {
    throw whole(file, `is larger than ${SOURCE_BYTES_MAX / 1024} KiB; this cannot be a configuration`);
  }
  const lines = new LineCounter();
  const position = (offset: number): Position => {
    const { line, col } = lines.linePos(offset);
    return { line: Math.max(line, 1), column: Math.max(col, 1) };
  };
  let document: Document.Parsed;
  let value: unknown;
  try {
    const text = decode(file, bytes);
    document = parseDocument(text, { lineCounter: lines, logLevel: 'error', prettyErrors: false, stringKeys: true });
    const syntax: Problem[] = [...document.errors, ...document.warnings].slice(0, SYNTAX_PROBLEMS_MAX).map((error) => ({
      ...position(error.pos[0]),
      key: '',
      message: `is not valid YAML: ${syntaxMessage(error)}`,
    }));
    if (syntax.length > 0) throw new ConfigError(file, syntax);
    value = document.toJS({ maxAliasCount: ALIASES_MAX });
  } catch (error) {
    if (error instanceof ConfigError) throw error;
    // The parser recurses by nesting, and toJS refuses documents that grow by aliases.
    const reason =
      error instanceof RangeError ? 'nested too deeply' : error instanceof Error ? error.message : String(error);
    throw whole(file, `is not usable YAML: ${reason.split('\n')[0]}`, error);
  }
  return {
    value,
    locate: (path, at) => {
      const offset = locate(document, path, at);
      return offset === undefined ? { line: 1, column: 1 } : position(offset);
    },
  };
}

function syntaxMessage(error: YAMLError): string {
  if (error.code === 'MULTIPLE_DOCS') return 'a configuration is one document, a second one begins here';
  return error.message.split('\n')[0]!;
}

/** The source of a configuration that was given as an object: everything is at 1:1. */
export function objectSource(value: unknown): Source {
  return { value, locate: () => ({ line: 1, column: 1 }) };
}

function whole(file: string, message: string, cause?: unknown): ConfigError {
  return new ConfigError(file, [{ line: 1, column: 1, key: '', message }], { cause });
}

function decode(file: string, bytes: Uint8Array): string {
  try {
    return new TextDecoder('utf-8', { fatal: true }).decode(bytes);
  } catch (error) {
    throw whole(file, 'is not UTF-8 text', error);
  }
}

/** Offset in the text, or undefined for an empty document. */
function locate(document: Document.Parsed, path: KeyPath, at: 'key' | 'value'): number | undefined {
  let node: unknown = document.contents;
  let found = start(node);
  for (const [depth, part] of path.entries()) {
    node = isAlias(node) ? node.resolve(document) : node;
    let key: unknown;
    if (isMap(node)) {
      const pair = node.items.find((item) => isPair(item) && keyText(item.key) === String(part));
      if (pair === undefined) return found;
      key = pair.key;
      node = pair.value;
    } else if (isSeq(node)) {
      node = node.items[Number(part)];
    } else {
      return found;
    }
    const last = depth === path.length - 1;
    found = (last && at === 'key' ? (start(key) ?? start(node)) : start(node)) ?? start(key) ?? found;
  }
  return found;
}

function keyText(key: unknown): string {
  return isScalar(key) ? String(key.value) : String(key);
}

function start(node: unknown): number | undefined {
  return (node as Node | null | undefined)?.range?.[0];
}
