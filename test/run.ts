// Runs the lint checks and ava, checks docs/ioctls.md against what the tests did, and ends with one line that says how it went:
// `N passed, N failed`. With arguments, which are passed on to ava, only ava.
import { spawn } from 'node:child_process';
import { rmSync } from 'node:fs';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { recordFolder } from './ioctls/record.ts';
import { checkTable } from './ioctls/table.ts';
import { lint } from './lint.ts';

/** What the lines of a TAP stream add up to. */
interface Tally {
  passed: number;
  failed: number;
  skipped: number;
}

/** Counts one line of TAP; returns whether it, or the diagnostics around it, are worth showing. */
function count(line: string, tally: Tally): boolean {
  const point = /^(not )?ok \d+(.*)$/.exec(line);
  if (point === null) {
    // Indented lines are the details of a failure; the rest is the plan and the comments that name tests.
    return /^\s+\S|^\s*$/.test(line);
  }
  if (/# (SKIP|TODO)/.test(point[2]!)) {
    tally.skipped++;
    return true;
  }
  if (point[1] !== undefined) {
    tally.failed++;
    return true;
  }
  tally.passed++;
  return true;
}

const tally: Tally = { passed: 0, failed: 0, skipped: 0 };
const isWhole = process.argv.length === 2;
if (isWhole) {
  rmSync(recordFolder, { recursive: true, force: true });
  const checks = lint((text) => process.stdout.write(text));
  tally.passed += checks.passed.length;
  tally.failed += checks.failed.length;
}

const lintFailures = tally.failed;
const root = join(import.meta.dirname, '..');
const ava = join(root, 'node_modules', 'ava', 'entrypoints', 'cli.mjs');
const child = spawn(process.execPath, [ava, '--tap', ...process.argv.slice(2)], {
  cwd: root,
  stdio: ['ignore', 'pipe', 'inherit'],
});
const lines = createInterface({ input: child.stdout });
lines.on('line', (line) => {
  if (count(line, tally)) {
    process.stdout.write(`${line}\n`);
  }
});
const ended = new Promise<number>((resolve) => child.on('close', (status) => resolve(status ?? 1)));
const status = await ended;
// A crash outside any test, or no test at all, is a failure too.
if (status !== 0 && tally.failed === lintFailures) {
  tally.failed++;
}
if (isWhole) {
  const problems = checkTable();
  process.stdout.write(problems.map((problem) => `${problem}\n`).join(''));
  if (problems.length === 0) tally.passed++;
  else tally.failed++;
}
if (tally.skipped > 0) {
  process.stdout.write(`${tally.skipped} skipped\n`);
}
process.stdout.write(`${tally.passed} passed, ${tally.failed} failed\n`);
process.exitCode = tally.failed === 0 && tally.passed > 0 ? 0 : 1;
