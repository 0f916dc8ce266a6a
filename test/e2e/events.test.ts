import test from 'ava';
import { Lab, noise, until } from './host.ts';

/** zpool events: what happened, as it happens, and errors as ereports. */

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
