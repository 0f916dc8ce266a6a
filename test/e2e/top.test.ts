import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { join } from 'node:path';
import { text } from 'node:stream/consumers';
import test from 'ava';
import type { LiveSample } from '../../host/metrics/live.ts';
import { Lab, MiB, noise, root, sleep } from './host.ts';

/** `zow top`, of hosts that work. */

async function busy(lab: Lab): Promise<() => Promise<void>> {
  const client = await lab.open('tank/v');
  let isOver = false;
  const work = (async () => {
    for (let i = 0; !isOver; i++) {
      await client.writeAt((i % 16) * MiB, noise(64 * 1024, i));
      await client.request({ type: 3 });
      await client.readAt(0, 4096);
      await sleep(5);
    }
  })();
  return async () => {
    isOver = true;
    await work;
    client.destroy();
  };
}

for (const engines of [undefined, 'processes']) {
  test(`pools, volumes and clients, ${engines === undefined ? 'of one core' : 'each pool with an engine'}`, async (t) => {
    const lab = await Lab.open(t);
    await lab.start(engines === undefined ? {} : { vars: { ZOW_ENGINES: engines } });
    await lab.zpool('create', 'tank', lab.disk('a'));
    await lab.zfs('create', '-V', '32M', 'tank/v');
    const idle = await lab.zow('top', '0.2', '1');
    t.is(idle.code, 0, idle.stderr);
    t.regex(
      idle.stdout,
      /^zow, OpenZFS 2\.\d+\.\d+ {2}.*\n\nPOOL .*\ntank +ONLINE .*\n\nVOLUME .*\ntank\/v +32\.0M +0 +0 +0 +0 /,
    );
    t.notRegex(idle.stdout, /^CLIENT/m);
    const finish = await busy(lab);
    const { stdout } = await lab.zow('top', '1', '2');
    t.is(stdout.match(/^zow, OpenZFS/gm)!.length, 2);
    const last = stdout.slice(stdout.lastIndexOf('zow, OpenZFS'));
    t.regex(
      last,
      /^tank\/v +32\.0M +[1-9]\S* +[1-9]\S* +[1-9]\S* +0 +\S+K +\S+[KM] +\S*[1-9]\S* +\S*[1-9]\S* +\S*[1-9]\S* +0$/m,
    );
    t.regex(last, /^CLIENT .*\n\S.* nbd +\S+[KM] +tank\/v$/m);
    const lines = (await lab.zow('top', '-j', '0.1', '3')).stdout.trimEnd().split('\n');
    const samples = lines.map((line) => JSON.parse(line) as LiveSample);
    t.is(samples.length, 3);
    t.true(samples[2]!.at > samples[0]!.at);
    t.true(samples[2]!.volumes[0]!.io.write!.operations >= samples[0]!.volumes[0]!.io.write!.operations);
    t.like(samples[2]!.clients, [{ protocol: 'nbd', volumes: ['tank/v'] }]);
    await finish();
    await lab.finish('tank');
  });
}

test('on a terminal it has a screen of its own, takes keys, and leaves everything as it was', async (t) => {
  const lab = await Lab.withPool(t);
  await lab.zfs('create', '-V', '32M', 'tank/v');
  const finish = await busy(lab);
  const script = [
    ['VOLUME', 'n'],
    ['by name', 'b'],
    ['by bytes', 'q'],
  ];
  const command = [process.execPath, join(root, 'cli/main.ts'), '--socket', lab.socket, 'top', '0.5'];
  const terminal = spawn('python3', [join(root, 'test/cli/terminal.py'), JSON.stringify(script), ...command], {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  const result = JSON.parse(await text(terminal.stdout)) as { code: number; shown: string; echoAfter: boolean };
  t.is(result.code, 0, result.shown);
  t.true(result.shown.startsWith('\x1b[?1049h\x1b[?25l'));
  t.true(result.shown.endsWith('\x1b[?25h\x1b[?1049l'));
  t.true(result.echoAfter);
  t.regex(result.shown, /tank\/v/);
  await finish();
  await lab.finish('tank');
});

test('what cannot be: no host, no number, a host that ends', async (t) => {
  const lab = await Lab.withPool(t);
  for (const [args, message] of [
    [['0'], /interval '0' is not 0\.1 to 86400 seconds/],
    [['x'], /interval 'x'/],
    [['1', '0'], /count '0' is not a positive number/],
    [['1', '1.5'], /count '1\.5'/],
    [['1', '1', '1'], /too many arguments/],
  ] as const) {
    const { code, stderr } = await lab.zow('top', ...args);
    t.is(code, 1);
    t.regex(stderr, message);
  }
  const running = lab.spawnZow(['top', '-b', '0.2']);
  const ended = once(running, 'exit');
  const said = text(running.stderr!);
  await once(running.stdout!, 'data');
  await lab.kill();
  t.deepEqual(await ended, [1, null]);
  t.regex(await said, /^zow: the ZoW host .* has gone\n$/);
  const none = await lab.zow('top', '1', '1');
  t.is(none.code, 1);
  t.regex(none.stderr, /^zow: no ZoW host listens on /);
});
