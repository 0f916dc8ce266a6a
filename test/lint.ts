// Types, format and style of everything that is ours: tsc and biome for TypeScript, upstream's own cstyle.pl for C.
import { spawnSync } from 'node:child_process';
import { globSync } from 'node:fs';
import { join } from 'node:path';
import { readReleases } from '../zfs-src/releases.ts';

const root = join(import.meta.dirname, '..');
const cstyle = `zfs-src/upstream/${readReleases().default}/scripts/cstyle.pl`;
const sources = globSync('{wasm,cli,test}/**/*.{c,h}', { cwd: root }).sort();

const checks: readonly (readonly [string, string, ...string[]])[] = [
  ['tsc', 'node_modules/.bin/tsc', '-p', '.'],
  ['tsc of the page', 'node_modules/.bin/tsc', '-p', 'host/page/client'],
  ['biome', 'node_modules/.bin/biome', 'ci', '--colors=off', '--reporter=summary', '--error-on-warnings', '.'],
  ['cstyle', 'perl', cstyle, '-cpP', ...sources],
];

/** Runs the checks; what a failed one printed is passed to `print`. Returns the names of those that failed. */
export function lint(print: (text: string) => void): { passed: string[]; failed: string[] } {
  const verdict: { passed: string[]; failed: string[] } = { passed: [], failed: [] };
  for (const [name, command, ...args] of checks) {
    const result = spawnSync(command, args, { cwd: root, encoding: 'utf8' });
    const isClean = result.status === 0;
    print(isClean ? `${name}: clean\n` : `${result.stdout}${result.stderr}\n${name}: failed\n`);
    (isClean ? verdict.passed : verdict.failed).push(name);
  }
  return verdict;
}

if (import.meta.main) {
  const { failed } = lint((text) => process.stdout.write(text));
  process.exitCode = failed.length === 0 ? 0 : 1;
}
