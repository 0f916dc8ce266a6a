import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { createInterface } from 'node:readline';
import { text } from 'node:stream/consumers';
import { setTimeout as sleep } from 'node:timers/promises';
import test from 'ava';

const writer = new URL('log-writer.ts', import.meta.url).pathname;

/** A process that logs so many lines of a kilobyte, then says so on stdout, and ends when it is told to. */
function write(lines: number) {
  const child = spawn(process.execPath, [writer, String(lines)], { stdio: ['pipe', 'pipe', 'pipe'] });
  const said = createInterface({ input: child.stdout });
  return { child, written: once(said, 'line'), end: () => child.stdin.end() };
}

test('a log that nobody reads keeps nobody waiting; who reads it later is told how much was dropped', async (t) => {
  const { child, written, end } = write(4000);
  await written;
  const log = text(child.stderr);
  // It takes what is kept in turns of the event loop.
  await sleep(500);
  end();
  t.deepEqual(await once(child, 'exit'), [0, null]);
  const lines = (await log)
    .trim()
    .split('\n')
    .map((line) => JSON.parse(line));
  const numbers = lines.map(({ number }) => number);
  const kept = numbers.indexOf(undefined);
  t.true(kept > 900 && kept < 1300, `${kept} lines`);
  t.deepEqual(
    numbers.slice(0, kept),
    Array.from({ length: kept }, (_, i) => i),
  );
  t.is(lines[kept].lines, 4000 - kept);
  t.is(lines.length, kept + 1);
});

test('what is kept for a slow reader comes when the process ends', async (t) => {
  const { child, written, end } = write(500);
  await written;
  end();
  t.is((await text(child.stderr)).trim().split('\n').length, 500);
});

test('a log that nobody reads does not hold up the end', async (t) => {
  const { child, written, end } = write(500);
  await written;
  end();
  t.deepEqual(await once(child, 'exit'), [0, null]);
  child.stderr.destroy();
});

test('neither does a pipe that is full, and open', async (t) => {
  // Node's own are sockets.
  const command = `f=$(mktemp -u) && mkfifo $f && exec 4<>$f && rm $f && timeout -s KILL 60 '${process.execPath}' '${writer}' 4000 2>&4 </dev/null`;
  const child = spawn('/bin/sh', ['-c', command], { stdio: 'ignore' });
  t.deepEqual(await once(child, 'exit'), [0, null]);
});

test('a log whose reader has gone ends nothing', async (t) => {
  const { child, written, end } = write(500);
  child.stderr.destroy();
  await written;
  end();
  t.deepEqual(await once(child, 'exit'), [0, null]);
});
