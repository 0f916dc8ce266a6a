import test from 'ava';
import { text } from './report.ts';
import { soak } from './soak.ts';

/**
 * The short form of `make soak`. A busy machine makes everything late: who waits for whom is what counts here, and only what stands
 * still for good is too long.
 */
test('pools whose disks fail in every way keep nobody else waiting, and lose nothing that was promised', async (t) => {
  t.timeout(20 * 60_000);
  const outcome = await soak({ minutes: 0.75, seed: 2, programs: 8, limitMs: 20_000, say: (line) => t.log(line) });
  t.log(text(outcome));
  t.deepEqual(outcome.findings, []);
  t.true(Object.keys(outcome.troubles).length > 0 && (outcome.sick.done.vanished ?? 0) > 0);
});
