import type { ChildProcess } from 'node:child_process';
import { renameSync } from 'node:fs';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import test from 'ava';
import { Lab, noise, root, sleep, until } from './host.ts';

/** zpool events and zow events: what happened, as it happens, and errors as ereports. */

test('events are listed, followed and cleared', async (t) => {
  const lab = await Lab.open(t);
  const disk = lab.disk('a');
  await lab.start();
  await lab.zpool('create', 'tank', disk);
  const listed = await lab.zpool('events', '-v');
  t.regex(listed, /sysevent\.fs\.zfs\.config_sync/);
  t.regex(listed, /pool = "tank"/);
  const follower = lab.spawn('zpool', ['events', '-f', '-H']);
  let seen = '';
  follower.stdout!.on('data', (chunk: Buffer) => {
    seen += chunk;
  });
  await until('what was there is shown', () => seen.includes('config_sync'));
  const before = seen.length;
  await lab.zpool('scrub', '-w', 'tank');
  await until('the scrub is seen', () => /scrub_start[\s\S]*scrub_finish/.test(seen.slice(before)));
  follower.kill('SIGINT');
  await new Promise((resolve) => follower.on('close', resolve));
  t.regex(await lab.zpool('events', '-c'), /cleared \d+ events/);
  t.notRegex(await lab.zpool('events', '-H'), /scrub/);
  await lab.finish('tank');
});

test('injected checksum and device errors make ereports', async (t) => {
  const lab = await Lab.open(t);
  const [a, b] = lab.manyDisks(2) as [string, string];
  await lab.start();
  await lab.zpool('create', '-o', 'ashift=12', 'tank', 'mirror', a, b);
  await lab.zfs('create', '-V', '32M', '-o', 'primarycache=metadata', 'tank/v');
  const client = await lab.open('tank/v');
  await client.writeAt(0, noise(1 << 20));
  await lab.zpool('sync');
  await lab.zpool('events', '-c');
  await lab.zinject('-d', b, '-e', 'corrupt', '-T', 'read', '-f', '100', 'tank');
  await lab.zpool('scrub', '-w', 'tank');
  const checksum = await lab.zpool('events', '-v');
  t.regex(checksum, /ereport\.fs\.zfs\.checksum/);
  t.regex(checksum, /vdev_path = ".*d1"/);
  await lab.zinject('-c', 'all');
  await lab.zinject('-d', b, '-e', 'io', '-T', 'read', '-f', '100', 'tank');
  await lab.zpool('scrub', '-w', 'tank');
  t.regex(await lab.zpool('events', '-H'), /ereport\.fs\.zfs\.io/);
  await lab.zinject('-c', 'all');
  t.true((await client.readAt(0, 1 << 20)).equals(noise(1 << 20)));
  client.destroy();
  await lab.zpool('clear', 'tank');
  await lab.zpool('scrub', '-w', 'tank');
  await lab.finish('tank');
});

/** Follows `zow events` with options; `lines` grows. */
function follow(lab: Lab, ...args: string[]): Follower {
  const child = lab.spawnZow(['events', '-f', ...args]);
  const ended = new Promise<number | null>((resolve) => child.on('close', resolve));
  const lines: EventJson[] = [];
  createInterface({ input: child.stdout! }).on('line', (line) => lines.push(JSON.parse(line) as EventJson));
  return { lines, child, ended };
}

interface EventJson {
  readonly class: string;
  readonly eid: number;
  readonly time: readonly [number, number];
  readonly [member: string]: unknown;
}

interface Follower {
  readonly lines: EventJson[];
  readonly child: ChildProcess;
  readonly ended: Promise<number | null>;
}

test('zow events follows as JSON lines, and a reader that comes back goes on where it was', async (t) => {
  const lab = await Lab.open(t);
  await lab.start();
  const first = follow(lab);
  await lab.zpool('create', 'tank', lab.disk('a'));
  await lab.zfs('create', '-V', '16M', 'tank/v');
  const has = (lines: EventJson[], name: string) => lines.some((event) => event.history_internal_name === name);
  await until('the history of the volume', () => has(first.lines, 'create'));
  first.child.kill('SIGTERM');
  await first.ended;
  const last = first.lines.at(-1)!;
  t.like(last, { class: 'sysevent.fs.zfs.history_event', pool: 'tank' });
  t.deepEqual(
    first.lines.map(({ eid }) => eid),
    first.lines.map((_, i) => i + 1),
  );
  t.regex(String(last.pool_guid), /^\d{10,20}$/, 'exact');
  t.is(last.pool_guid, String(BigInt((await lab.zpool('get', '-Hp', '-o', 'value', 'guid', 'tank')).trim())));
  t.is(last.time.length, 2);

  await lab.zfs('snapshot', 'tank/v@s');
  const second = follow(lab, '--after', String(last.eid));
  await until('the snapshot', () => has(second.lines, 'snapshot'));
  t.is(second.lines[0]!.eid, last.eid + 1, 'nothing twice, nothing left out');
  const listed = await lab.zow('events');
  t.is(listed.code, 0);
  t.true(listed.stdout.trimEnd().split('\n').length >= second.lines.at(-1)!.eid);

  await lab.zpool('events', '-c');
  const third = follow(lab, '--after', String(last.eid));
  await lab.zpool('export', 'tank');
  await until('what came after what was cleared', () => third.lines.some((e) => e.class.endsWith('pool_export')));

  // The host goes: both say so and end.
  await lab.stop();
  t.deepEqual(await Promise.all([second.ended, third.ended]), [1, 1]);
  await lab.zdb('tank');
});

test('a reader that comes back to another host misses nothing', async (t) => {
  const lab = await Lab.open(t);
  await lab.start();
  await lab.zpool('create', 'tank', lab.disk('a'));
  const read = async (...args: string[]) => {
    const { code, stdout, stderr } = await lab.zow('events', ...args);
    t.is(code, 0, stderr);
    return stdout === ''
      ? []
      : stdout
          .trimEnd()
          .split('\n')
          .map((line) => JSON.parse(line) as EventJson);
  };
  const { eid, time } = (await read())[2]!;
  const here = `${eid}@${time[0]}`;
  t.is((await read('--after', here))[0]!.eid, eid + 1);
  await lab.zpool('export', 'tank');
  await lab.stop();
  await sleep(1000);
  await lab.start();
  await lab.zpool('import', '-d', lab.disks, 'tank');
  t.is((await read('--after', here))[0]!.eid, 1);
  t.is((await read('--after', `100000@${time[0]}`))[0]!.eid, 1);
  t.is((await read('--after', String(eid)))[0]!.eid, eid + 1, 'without the time it cannot know');
  await lab.finish('tank');
});

test('zow events ends quietly when its reader goes away', async (t) => {
  const lab = await Lab.open(t);
  await lab.start();
  await lab.zpool('create', 'tank', lab.disk('a'));
  const result = await lab.shell(`"${join(root, 'cli/bin/zow')}" events | head -n 1`);
  t.deepEqual([result.code, result.stderr], [0, '']);
  t.is((JSON.parse(result.stdout) as EventJson).eid, 1);
  for (const args of [
    ['--after', 'x'],
    ['--after', '-1'],
    ['--after', '1@'],
    ['-f', 'more'],
  ]) {
    const { code, stderr } = await lab.zow('events', ...args);
    t.is(code, 1);
    t.regex(stderr, /^zow: /);
  }
  await lab.finish('tank');
});

test('slow I/O, a failed probe and a missing device make events', async (t) => {
  const lab = await Lab.open(t);
  const [a, b] = lab.manyDisks(2) as [string, string];
  // zed would act on what is injected here.
  await lab.start({ config: { zed: false, tunables: { zio_slow_io_ms: 200 } } });
  await lab.zpool('create', '-o', 'autoreplace=on', 'tank', 'mirror', a, b);
  await lab.zfs('create', '-s', '-V', '32M', 'tank/v');
  const { lines } = follow(lab);
  const seen = (name: string) => until(name, () => lines.some((event) => event.class === name));
  const of = (name: string) => lines.find((event) => event.class === name)!;
  const client = await lab.open('tank/v');

  await lab.zinject('-d', b, '-D', '300:4', 'tank');
  await client.writeAt(0, noise(1 << 20));
  await lab.zpool('sync', 'tank');
  // In nanoseconds. On a loaded machine others may be slow as well.
  const slow = (event: EventJson) => event.vdev_path === b && (event.zio_delay as number) >= 300_000_000;
  await until('a slow I/O', () => lines.some((event) => event.class === 'ereport.fs.zfs.delay' && slow(event)));
  await lab.zinject('-c', 'all');

  // The probe that follows an error is injected apart from what it follows.
  await lab.zinject('-d', b, '-e', 'io', '-T', 'probe', 'tank');
  await lab.zinject('-d', b, '-e', 'io', '-T', 'write', 'tank');
  await client.writeAt(0, noise(1 << 20, 2));
  await lab.zpool('sync', 'tank');
  await seen('ereport.fs.zfs.probe_failure');
  await seen('resource.fs.zfs.statechange');
  t.like(of('resource.fs.zfs.statechange'), { vdev_path: b });
  await lab.zinject('-c', 'all');
  await lab.zpool('clear', 'tank');
  client.destroy();

  await lab.zpool('export', 'tank');
  const away = join(lab.directory, 'away');
  renameSync(b, away);
  await lab.zpool('import', '-d', lab.disks, 'tank');
  await seen('resource.fs.zfs.autoreplace');
  await lab.zpool('export', 'tank');
  renameSync(away, b);
  await lab.zpool('import', '-d', lab.disks, 'tank');
  await lab.zpool('scrub', '-w', 'tank');
  await lab.finish('tank');
});

test('zed ends by SIGTERM while it waits for an event, and the host starts it again', async (t) => {
  const lab = await Lab.open(t);
  await lab.start();
  const pids = () => [...lab.hostLog.matchAll(/ZFS Event Daemon \S+ \(PID (\d+)\)/g)].map(([, pid]) => Number(pid));
  await until('zed waits', () => lab.hostLog.includes('Processing events since'));
  await sleep(500);
  const [pid] = pids();
  process.kill(pid!, 'SIGTERM');
  await until('it has ended by itself', () => /"code":0,"signal":null[^\n]*zed ended/.test(lab.hostLog));
  await until('there is another', () => pids().length === 2);
  t.is(pids().length, 2);
  await lab.stop();
});
