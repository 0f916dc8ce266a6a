import test from 'ava';
import { count, type Tally } from './tally.ts';

/** Of ava's TAP: a test that was skipped as it was declared, two that passed, of which one says why it could not run, one that failed. */
const TAP = `TAP version 13
ok 1 - c # SKIP
ok 2 - nbd › a file system of its own
#   skipped: no mount here: permission denied
ok 3 - b
#   hello
#   not skipped: it ran
not ok 4 - d
#   skipped: what fails is not
  ---
    message: Test failed via \`t.fail()\`
  ...
1..4
# tests 4
# skip 1`;

test('a test that could not run counts as skipped, with the reason, and not as passed', (t) => {
  const tally: Tally = { passed: 0, failed: 0, skipped: [], last: undefined, failing: false };
  for (const line of TAP.split('\n')) count(line, tally);
  t.like(tally, {
    passed: 1,
    failed: 1,
    skipped: ['c # SKIP', 'nbd › a file system of its own: no mount here: permission denied'],
  });
});

test('what a test that failed has logged is shown, and of the others only that they passed', (t) => {
  const tally: Tally = { passed: 0, failed: 0, skipped: [], last: undefined, failing: false };
  const shown = TAP.split('\n').filter((line) => count(line, tally));
  t.true(shown.includes('#   skipped: what fails is not'));
  t.false(shown.includes('#   hello'));
  t.false(shown.includes('# tests 4'));
});
