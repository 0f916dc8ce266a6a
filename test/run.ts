// Runs the lint checks and ava, checks docs/ioctls.md against what the tests did, and ends with one line that says how it went:
// `N passed, N failed`, and `, N skipped` where there are some; what was skipped, and why, stands above it. With arguments, which are
// passed on to ava, only ava.
import { spawn } from 'node:child_process';
import { rmSync } from 'node:fs';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { recordFolder } from './ioctls/record.ts';
import { checkTable } from './ioctls/table.ts';
import { lint } from './lint.ts';
import { count, type Tally } from './tally.ts';

const tally: Tally = { passed: 0, failed: 0, skipped: [], last: undefined, failing: false };
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
process.stdout.write(tally.skipped.map((test) => `skipped: ${test}\n`).join(''));
const skipped = tally.skipped.length > 0 ? `, ${tally.skipped.length} skipped` : '';
process.stdout.write(`${tally.passed} passed, ${tally.failed} failed${skipped}\n`);
process.exitCode = tally.failed === 0 && tally.passed > 0 ? 0 : 1;
