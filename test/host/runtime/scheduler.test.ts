import { performance } from 'node:perf_hooks';
import { setTimeout as sleep } from 'node:timers/promises';
import test from 'ava';
import { Memory } from '../../../host/runtime/memory.ts';
import type { LibcExports } from '../../../host/runtime/seam.ts';
import { compile, load, run } from './module.ts';

const file = compile('scheduler.c');

test.serial('fibers take turns', async (t) => {
  const lines = await run(file, 'pingpong', '3');
  t.deepEqual(lines.slice(0, -1), ['a0', 'b0', 'a1', 'b1', 'a2', 'b2']);
  t.log(`a switch: ${(await run(file, 'pingpong', '200000')).join('')}`);
});

test.serial('timers fire in the order of their deadlines, and never early', async (t) => {
  t.deepEqual(await run(file, 'timers'), ['0', '1', '10', '20', '40', '60', '80', '100']);
});

test.serial('a wait ends at its deadline or when it is woken, not twice', async (t) => {
  await t.notThrowsAsync(run(file, 'deadline'));
});

test.serial('2000 fibers run on 2000 stacks, and their ids are used again', async (t) => {
  const start = performance.now();
  await t.notThrowsAsync(run(file, 'many', '2000'));
  t.log(`2 x 2000 fibers, six activations each: ${Math.round(performance.now() - start)} ms`);
});

test.serial('when the fibers are all taken, creation fails and nothing else', async (t) => {
  t.deepEqual(await run(file, 'limit'), ['8191']);
});

test.serial('a stack that overflows is a panic that names the fiber', async (t) => {
  // 16 KiB hold some fifteen frames of 1 KiB.
  await t.notThrowsAsync(run(file, 'overflow', '8'));
  const { module, ended } = load(file, ['overflow', '16']);
  module.start();
  t.deepEqual(await ended, { panic: 'stack overflow (16384 bytes) [fiber hungry]' });
});

test.serial('a stack that overflows is one at the next switch, also when nobody else can run', async (t) => {
  t.deepEqual(await run(file, 'overflow-alone', '8'), ['it went on']);
  const { module, lines, ended } = load(file, ['overflow-alone', '16']);
  module.start();
  t.deepEqual(await ended, { panic: 'stack overflow (16384 bytes) [fiber lonely]' });
  t.deepEqual(lines, []);
});

test.serial('a fiber ends itself from any depth', async (t) => {
  t.deepEqual(await run(file, 'leaves'), []);
});

test.serial('a trap is reported with the name of its fiber', async (t) => {
  const { module, ended } = load(file, ['trap']);
  module.start();
  t.deepEqual(await ended, { trap: 'trapping' });
});

test.serial('completions arrive before, at and after the wait for them', async (t) => {
  t.deepEqual(await run(file, 'completions'), ['-1', '0', '10', '20', '30']);
});

for (const [what, number, name] of [
  ['of a fiber that does not exist', 77, 'no fiber'],
  ['of a fiber that has no I/O under way', 1, 'main'],
  ['of no fiber', 0, 'no fiber'],
  ['of an impossible number', -1, 'no fiber'],
] as const)
  test.serial(`a completion ${what} ends the module`, async (t) => {
    const { module, lines, ended } = load(file, ['forever']);
    module.start();
    while (lines.length === 0) await sleep(5);
    module.scheduler.complete(number, 0);
    t.regex((await ended).panic ?? '', new RegExp(`^the host completes an I/O that nobody waits for: .* of ${name} `));
    module.scheduler.complete(number, 0); // after the end nothing happens
  });

test.serial('a completion counts for one I/O of its fiber, and once', async (t) => {
  for (const again of ['twice', 'stale']) {
    const { module, lines, ended } = load(file, [again]);
    module.start();
    t.regex((await ended).panic ?? '', /^the host completes an I\/O that nobody waits for: \d+ of main /, `${lines}`);
  }
});

test.serial('a call from outside cannot block, and after the end each throws why', async (t) => {
  const { module, lines, ended } = load<LibcExports & { blocks(): void }>(file, ['forever']);
  module.start();
  while (lines.length === 0) await sleep(5);
  t.throws(() => module.exports.blocks());
  t.deepEqual(await ended, { panic: 'a call of the host blocks [fiber none]' });
  module.end(new Error('it is over'));
  t.throws(() => module.exports.alloc(16), { message: 'it is over' });
  t.is(module.fiberName(1), 'main');
});

test.serial('memory is named as it is: nothing is cut', (t) => {
  const memory = new Memory(1 << 20);
  t.is(memory.view(16, 4).length, 4);
  t.is(memory.view(0, 0).length, 0);
  t.is(memory.view((1 << 20) - 4, 4).length, 4);
  for (const [address, length] of [
    [(1 << 20) - 4, 5],
    [1 << 20, 1],
    [-16, 4],
    [16, -1],
    [0, 4],
  ] as const) {
    t.throws(() => memory.view(address, length), { message: /are not in the module's memory/ });
    t.throws(() => memory.text(address, length), { message: /are not in the module's memory/ });
    t.throws(() => memory.copy(address, length), { message: /are not in the module's memory/ });
  }
  memory.bytes.fill(1);
  t.throws(() => memory.string(16), { message: /does not end/ });
});

test.serial('what is known of fibers', async (t) => {
  const { module, lines } = load(file, ['forever']);
  module.start();
  await sleep(5);
  t.deepEqual(lines, ['waits']);
  t.is(module.exports['fiber-running'](), 0);
  t.is(module.exports['fiber-count'](), 1);
  t.is(module.fiberName(1), 'main');
  t.is(module.fiberName(77), 'unknown');
});

test.serial('interrupts end the waits that allow it', async (t) => {
  t.deepEqual(await run(file, 'interrupts'), ['not: timed out', 'interruptible: woken']);
});

/** Milliseconds of this thread's processor time between turns of the event loop while the scenario runs, longest first. */
async function gaps(...args: string[]): Promise<number[]> {
  const found: number[] = [];
  // Not the clock's time: the machine may have other work, for which the scheduler can do nothing.
  const used = (): number => {
    const { user, system } = process.threadCpuUsage();
    return (user + system) / 1000;
  };
  let last = used();
  let isRunning = true;
  const turn = (): void => {
    const now = used();
    found.push(now - last);
    last = now;
    if (isRunning) setImmediate(turn);
  };
  setImmediate(turn);
  await run(file, ...args);
  isRunning = false;
  return found.sort((a, b) => b - a);
}

// Fibers that compute for 1 µs, 100 µs and 2 ms between switches.
for (const [microseconds, gapMsMax] of [
  [1, 8],
  [100, 8],
  [2000, 12],
] as const)
  test.serial(`busy fibers leave the event loop its turns: ${microseconds} µs`, async (t) => {
    const found = await gaps('starve', String(microseconds));
    const gap = found[Math.floor(found.length / 10)]!;
    t.log(`${found.length} turns in 400 ms, 90th percentile ${gap.toFixed(2)} ms, longest ${found[0]!.toFixed(1)} ms`);
    t.true(gap < gapMsMax, `${gap} ms`);
  });

test.serial('a fiber that polls with nothing else to run lets time pass and I/O complete', async (t) => {
  await t.notThrowsAsync(run(file, 'poll'));
});

test.serial('nothing runs after stop()', async (t) => {
  const { module, lines } = load(file, ['tick', '5']);
  module.start();
  while (lines.length < 3) await sleep(5);
  module.scheduler.stop();
  const before = lines.length;
  await sleep(50);
  t.is(lines.length, before);
});
