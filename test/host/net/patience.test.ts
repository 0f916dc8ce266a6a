import { setTimeout as delay } from 'node:timers/promises';
import { Worker } from 'node:worker_threads';
import test from 'ava';
import { patience } from '../../../host/net/patience.ts';

test.serial('a time that is over is over, and one that was ended never is', async (t) => {
  const over: string[] = [];
  const since = performance.now();
  patience(100, () => over.push('waited'));
  patience(50, () => over.push('ended')).end();
  await delay(1000);
  t.deepEqual(over, ['waited']);
  t.true(performance.now() - since >= 100);
});

test.serial('a process that stood still longer than the time hears first what has come meanwhile', async (t) => {
  // A thread of its own answers while this one stands still.
  const peer = new Worker(
    `require('node:worker_threads').parentPort.on('message', (port) => port.postMessage('here'))`,
    {
      eval: true,
    },
  );
  const { port1, port2 } = new MessageChannel();
  let state = 'waits';
  const answer = new Promise<void>((resolve) => {
    port1.onmessage = () => {
      if (state === 'waits') state = 'heard';
      wait.end();
      resolve();
    };
  });
  const wait = patience(200, () => {
    if (state === 'waits') state = 'over';
  });
  peer.postMessage(port2, [port2 as never]);
  Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 1500);
  await answer;
  t.is(state, 'heard');
  await peer.terminate();
});

test.serial('a time may end in what comes in its last turn', async (t) => {
  let over = false;
  const wait = patience(20, () => {
    over = true;
  });
  await delay(5);
  setImmediate(() => wait.end());
  await delay(200);
  t.false(over);
});
