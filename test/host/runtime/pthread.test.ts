import test from 'ava';
import { compile, load, run } from './module.ts';

const file = compile('pthread.c');

// Each scenario checks itself; here stands what it is about, and in which order things happen.
for (const [title, scenario] of [
  ['a mutex is held by one, who may block', 'exclusion'],
  ['recursive and error-checking mutexes', 'kinds'],
  ['producers and consumers meet at a condition', 'buffer'],
  ['a timed wait ends at its deadline with the mutex held', 'deadlines'],
  ['a signal wakes one, a broadcast all, and nobody who comes later', 'wakeups'],
  ['a writer gets its turn among readers that never cease', 'no-starvation'],
  ['a semaphore lets as many in as it says', 'semaphores'],
  ['a lock held by readers may be left by another fiber', 'stranger-reader'],
  ['threads have results, names, errno and data of their own, and leave nothing behind', 'threads'],
] as const)
  test(title, async (t) => {
    await t.notThrowsAsync(run(file, scenario));
  });

test('a read-write lock is granted in the order of arrival, to readers in a row together', async (t) => {
  const lines = await run(file, 'fairness');
  // The first two come in beside the readers that have it; then each waits behind who came before.
  t.deepEqual(lines, ['r0', 'r1', 'waits', 'w2', 'r3', 'r4', 'w5', 'w6', 'r7']);
});

test('a thread that locks a mutex twice is a panic, not a hang', async (t) => {
  const { module, ended } = load(file, ['deadlock']);
  module.start();
  t.deepEqual(await ended, { panic: 'fiber locks a mutex that it holds [fiber main]' });
});

test('who is passed over once has the mutex the next time, whoever comes again at once', async (t) => {
  const [rounds] = await run(file, 'greedy');
  t.true(Number(rounds) <= 4, `${rounds} rounds`);
  const [taken] = await run(file, 'greedy-semaphore');
  t.true(Number(taken) <= 2, `${taken} rounds`);
});

for (const [scenario, panic] of [
  ['stranger-mutex', /^mutex 0x[0-9a-f]+ is unlocked by a fiber that does not hold it: main does \[fiber stranger\]$/],
  [
    'stranger-writer',
    /^rwlock 0x[0-9a-f]+ is unlocked by a fiber that does not hold it: main does, as writer \[fiber stranger\]$/,
  ],
  [
    'stranger-free',
    /^rwlock 0x[0-9a-f]+ is unlocked by a fiber that does not hold it: nobody does \[fiber stranger\]$/,
  ],
] as const)
  test(`a lock that is unlocked by who does not hold it is a panic that names both: ${scenario}`, async (t) => {
    const { module, ended } = load(file, [scenario]);
    module.start();
    t.regex((await ended).panic ?? 'no panic', panic);
  });
