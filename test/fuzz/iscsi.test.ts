import test from 'ava';
import { fuzz } from './iscsi.ts';

// From 6 there is a reset by another initiator while data come.
for (const seed of [20260101, 6]) {
  test(`iSCSI state machines: five thousand inputs from seed ${seed}`, async (t) => {
    const result = await fuzz(5000, seed);
    t.is(result.inputs, 5000);
    t.true(result.sessions > 2000, 'most of the fuzzing would be of the login');
    t.true(result.protocolErrors > 500, 'too few inputs are wrong');
    t.true(result.answers > 10_000);
  });
}

test('the same seed, the same inputs', async (t) => {
  const [a, b] = [await fuzz(300, 7), await fuzz(300, 7)];
  t.is(a.bytes, b.bytes);
});
