import { closeSync, fstatSync, openSync, readSync } from 'node:fs';
import { dirname, resolve } from 'node:path';
import type { Config } from './config.ts';
import { ConfigError, formatKeyPath, type KeyPath, type Problem } from './problem.ts';
import { schemaProblems } from './schema.ts';
import { interpret } from './semantics.ts';
import { objectSource, parseSource, SOURCE_BYTES_MAX, type Source } from './source.ts';

export interface LoadOptions {
  /** The ioctl socket of a configuration that names none. */
  readonly defaultSocket?: string | undefined;
}

/** Reads and validates a configuration file. Throws ConfigError with everything that is wrong with it; opens nothing else. */
export function loadConfig(file: string, options: LoadOptions = {}): Config {
  const bytes = readConfigFile(file);
  return parseConfig(file, bytes, options);
}

/** As loadConfig, of text that is already read; relative paths are relative to `file`'s directory. */
export function parseConfig(file: string, bytes: Uint8Array, options: LoadOptions = {}): Config {
  const config = validate(file, parseSource(file, bytes), dirname(resolve(file)), options);
  return { ...config, file };
}

/** Validates a configuration given as an object, for the library; relative paths are relative to `directory`. */
export function configFromObject(value: unknown, directory: string, options: LoadOptions = {}): Config {
  return validate('config', objectSource(value), directory, options);
}

function validate(file: string, source: Source, directory: string, options: LoadOptions): Config {
  const problems: Problem[] = [];
  const seen = new Set<string>();
  const report = (path: KeyPath, at: 'key' | 'value', message: string) => {
    const key = formatKeyPath(path);
    // What the schema has said about a key is not said again in other words.
    if (seen.has(`${at} ${key}`)) return;
    problems.push({ ...source.locate(path, at), key, message });
  };
  const value = source.value ?? {};
  for (const problem of schemaProblems(value)) {
    report(problem.path, problem.at, problem.message);
    if (problem.at === 'value') seen.add(`value ${formatKeyPath(problem.path)}`);
  }
  const config = interpret(value, {
    directory,
    defaultSocket: options.defaultSocket,
    report,
    place: (path) => ({ ...source.locate(path, 'value'), key: formatKeyPath(path) }),
  });
  if (problems.length > 0) throw new ConfigError(file, problems);
  return config;
}

function readConfigFile(file: string): Uint8Array {
  const fail = (message: string, cause?: unknown) =>
    new ConfigError(file, [{ line: 1, column: 1, key: '', message }], { cause });
  let fd: number;
  try {
    fd = openSync(file, 'r');
  } catch (error) {
    throw fail(`cannot be read: ${systemMessage(error)}`, error);
  }
  try {
    const stat = fstatSync(fd);
    if (stat.isDirectory()) throw fail('is a directory; a configuration is a file, such as pool.yaml');
    if (stat.isBlockDevice()) throw fail('is a block device; a configuration is a file, such as pool.yaml');
    const bytes = readUpTo(fd, SOURCE_BYTES_MAX + 1);
    if (bytes.length > SOURCE_BYTES_MAX)
      throw fail(`is larger than ${SOURCE_BYTES_MAX / 1024} KiB; this cannot be a configuration`);
    return bytes;
  } catch (error) {
    throw error instanceof ConfigError ? error : fail(`cannot be read: ${systemMessage(error)}`, error);
  } finally {
    closeSync(fd);
  }
}

/** Pipes and devices do not say how much there is. */
function readUpTo(fd: number, bytesMax: number): Uint8Array {
  const bytes = Buffer.alloc(bytesMax);
  let length = 0;
  for (let n = -1; n !== 0 && length < bytesMax; length += n) n = readSync(fd, bytes, length, bytesMax - length, null);
  return bytes.subarray(0, length);
}

/** `no such file or directory` of Node's `ENOENT: no such file or directory, open '…'`. */
function systemMessage(error: unknown): string {
  const text = error instanceof Error ? error.message : String(error);
  return /^[A-Z0-9]+: ([^,]+)/.exec(text)?.[1] ?? text;
}
