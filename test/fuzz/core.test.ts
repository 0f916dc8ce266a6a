import test from 'ava';
import { fuzzCore, knownEnd } from './core.ts';
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

test('an end that is known is one where zinject was at work, and its function is on the stack', (t) => {
  const lost =
    'VERIFY0(dmu_object_info(os, smobj, &doi)) failed (5) at module/zfs/space_map.c:941 [t] tmp.space_map_free_obj < tmp.x';
  t.true(knownEnd({ lost, succeeded: [['INJECT_FAULT', 1]] })?.match.test(lost));
  t.is(knownEnd({ lost, succeeded: [] }), undefined);
  t.is(knownEnd({ lost: lost.replace('free_obj', 'open'), succeeded: [['INJECT_FAULT', 1]] }), undefined);
  t.is(knownEnd({ lost: 'it does not answer any more; tank is ONLINE', succeeded: [['INJECT_FAULT', 1]] }), undefined);
});
