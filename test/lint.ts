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
  ['biome', 'node_modules/.bin/biome', 'ci', '--colors=off', '--reporter=summary', '--error-on-warnings', '.'],
  ['cstyle', 'perl', cstyle, '-cpP', ...sources],
];

let failed = 0;
for (const [name, command, ...args] of checks) {
  const result = spawnSync(command, args, { cwd: root, encoding: 'utf8' });
  const isClean = result.status === 0;
  process.stdout.write(isClean ? `${name}: clean\n` : `${result.stdout}${result.stderr}${name}: failed\n`);
  failed += isClean ? 0 : 1;
}
process.exitCode = failed === 0 ? 0 : 1;
