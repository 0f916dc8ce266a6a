import test from 'ava';
import { fuzzCore } from './core.ts';
import { Inputs } from './core-input.ts';

test('ioctls of the real core: fifteen hundred inputs, each from its seed', async (t) => {
  t.timeout(300_000);
  const { inputs, ok, succeeded, lost } = await fuzzCore({ inputs: 1500, seed: 602 });
  t.is(lost, undefined);
  t.true(inputs > 500, `${inputs} inputs: the pool was suspended`);
  t.true(ok > inputs / 20, `only ${ok} of ${inputs} succeeded`);
  t.true(succeeded.size > 20, 'most of upstream is not reached');
});

test('the same seed and number, the same input', (t) => {
  const [a, b] = [new Inputs(7), new Inputs(7)];
  for (let i = 0; i < 300; i++) {
    const [one, other] = [a.make(i), b.make(i)];
    t.deepEqual([one.name, one.call.cmd, one.call.src], [other.name, other.call.cmd, other.call.src]);
  }
});
