import type { ExecutionContext } from 'ava';

/** What the log of a test that could not run begins with; test/run.ts counts the test as skipped, and shows why. */
const mark = 'skipped: ';

/**
 * Ends a running test that this machine cannot run: it counts as skipped, for `reason`, and not as passed. To be returned before
 * anything else was asserted.
 */
export function skip(t: ExecutionContext<unknown>, reason: string): void {
  t.log(`${mark}${reason.trim().replaceAll(/\s+/g, ' ')}`);
  t.pass();
}

type Declare = (title: string, run: (t: ExecutionContext<unknown>) => void | Promise<void>) => void;

/** `test` for tests that need something of the machine. `reason` says what is missing, and skips them; undefined: nothing is. */
export function unless(reason: string | undefined, test: Declare): Declare {
  return reason === undefined ? test : (title) => test(title, (t) => skip(t, reason));
}

/** Why the test was skipped to which a comment line of ava's TAP belongs; undefined when the line says nothing of the kind. */
export function reasonIn(line: string): string | undefined {
  const [, reason] = /^#\s+skipped: (.*)$/.exec(line) ?? [];
  return reason;
}
