import { reasonIn } from './skip.ts';

/** What the lines of a TAP stream add up to. */
export interface Tally {
  passed: number;
  failed: number;
  /** The tests, each with the reason. */
  skipped: string[];
  /** The test that passed with the line before: comments that follow are its log. */
  last: string | undefined;
  /** The test of the line before has failed: comments that follow are its log. */
  failing: boolean;
}

/** Counts one line of TAP; returns whether it, or the diagnostics around it, are worth showing. */
export function count(line: string, tally: Tally): boolean {
  const point = /^(not )?ok \d+(.*)$/.exec(line);
  if (point === null) {
    const reason = reasonIn(line);
    if (reason !== undefined && tally.last !== undefined) {
      tally.passed--;
      tally.skipped.push(`${tally.last}: ${reason}`);
      tally.last = undefined;
      return true;
    }
    // Indented lines are the details of a failure; the rest is the plan, and comments that name tests or are of those that passed.
    return /^\s+\S|^\s*$/.test(line) || (tally.failing && /^# {3}/.test(line));
  }
  tally.last = undefined;
  tally.failing = point[1] !== undefined;
  if (/# (SKIP|TODO)/.test(point[2]!)) {
    tally.skipped.push(point[2]!.replace(/^ - /, ''));
    return true;
  }
  if (point[1] !== undefined) {
    tally.failed++;
    return true;
  }
  tally.passed++;
  tally.last = point[2]!.replace(/^ - /, '');
  return true;
}
