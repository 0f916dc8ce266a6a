import test from 'ava';
import { describe, explore } from './explore.ts';
import { isLayoutName, layouts } from './layouts.ts';

/** The short form of `make crash`: 110 power cuts in all. */
const statesPerLayout = 10;
const work = { requestsPerWriter: 12, changes: 3 };

for (const layout of Object.keys(layouts).filter(isLayoutName)) {
  test(`power cuts at any moment lose nothing that was promised: ${layout}`, async (t) => {
    const { verdicts } = await explore({ layout, states: statesPerLayout, seed: 1, work, zdbEvery: statesPerLayout });
    t.deepEqual(verdicts.filter(({ losses }) => losses.length > 0).map(describe), []);
    t.true(verdicts.some(({ zdb }) => zdb));
  });
}

test('the explorer can fail: disks that acknowledge flushes too early lose what was promised', async (t) => {
  const { verdicts } = await explore({ layout: 'single', states: 25, seed: 2, work, lies: true });
  const losses = verdicts.flatMap((verdict) => verdict.losses);
  t.true(
    losses.some((line) => /has version \d+, must be one of|cannot be imported/.test(line)),
    losses.join('\n'),
  );
});

test('the explorer can fail: without replay of the intent log what only the log had is lost', async (t) => {
  const { verdicts } = await explore({ layout: 'single', states: 25, seed: 3, work, withoutReplay: true });
  const losses = verdicts.flatMap((verdict) => verdict.losses);
  t.true(losses.some((line) => /has version \d+, must be one of/.test(line)));
});
