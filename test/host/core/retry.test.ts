import test from 'ava';
import { Retry } from '../../../host/core/retry.ts';
import { until } from '../nbd/fixture.ts';

test('who finds no memory is tried again, in turn; who comes later waits behind', async (t) => {
  const retry = new Retry();
  const done: string[] = [];
  let memory = 0;
  const take = (name: string) => () => {
    if (memory === 0) return false;
    memory--;
    done.push(name);
    return true;
  };
  retry.run(take('a'));
  retry.run(take('b'));
  memory = 1;
  retry.run(take('c'));
  t.deepEqual(done, [], 'nobody overtakes');
  await until(() => done.length === 1, 'one has it');
  memory = 5;
  await until(() => done.length === 3, 'all have it');
  t.deepEqual(done, ['a', 'b', 'c']);
  retry.run(take('d'));
  t.is(done.at(-1), 'd', 'at once when nobody waits');
});

test('the forgotten are not tried again', async (t) => {
  const retry = new Retry();
  let tries = 0;
  retry.run(() => {
    tries++;
    return false;
  });
  await until(() => tries > 2, 'tried again');
  retry.clear();
  const before = tries;
  await new Promise((resolve) => setTimeout(resolve, 50));
  t.is(tries, before);
});
