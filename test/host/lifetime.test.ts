import test from 'ava';
import { Lifetime } from '../../host/lifetime.ts';

test('work is done, fails, or ends with what it depends on, whichever is first', async (t) => {
  const life = new Lifetime();
  t.is(await life.unlessOver(Promise.resolve(1)), 1);
  await t.throwsAsync(life.unlessOver(Promise.reject(new Error('no'))), { message: 'no' });
  const waits = [life.unlessOver(new Promise(() => undefined)), life.unlessOver(new Promise(() => undefined))];
  life.end(new Error('over'));
  life.end(new Error('again'));
  for (const wait of waits) await t.throwsAsync(wait, { message: 'over' });
  await t.throwsAsync(life.unlessOver(Promise.resolve(2)), { message: 'over' });
});

test('nothing is kept of work that is done', async (t) => {
  const life = new Lifetime();
  const results: WeakRef<Uint8Array>[] = [];
  for (let i = 0; i < 20; i++) results.push(new WeakRef(await life.unlessOver(Promise.resolve(new Uint8Array(1000)))));
  // Of V8, as --expose-gc would give it.
  const { setFlagsFromString } = await import('node:v8');
  const { runInNewContext } = await import('node:vm');
  setFlagsFromString('--expose-gc');
  const collect = runInNewContext('gc') as () => void;
  await new Promise((resolve) => setTimeout(resolve, 10));
  collect();
  t.true(results.filter((result) => result.deref() !== undefined).length <= 1);
  life.end(new Error('over'));
});
