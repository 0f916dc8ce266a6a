import test from 'ava';
import { fuzz } from './nbd.ts';

test('NBD state machines: thirty thousand inputs, each from its seed', async (t) => {
  const result = await fuzz(30_000, 20260101);
  t.is(result.inputs, 30_000);
  t.true(result.reachedTransmission > 8_000, 'most of the fuzzing would be of the handshake');
  t.true(result.protocolErrors > 5_000, 'too few inputs are wrong');
  t.true(result.replies > 100_000);
});

test('the same seed, the same inputs', async (t) => {
  const [a, b] = [await fuzz(500, 7), await fuzz(500, 7)];
  t.is(a.bytes, b.bytes);
});
