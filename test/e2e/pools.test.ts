import test from 'ava';
import { Lab, MiB } from './host.ts';

/** Pools managed with zpool: every layout, and what an administrator does to one. */

const layouts: Record<string, { disks: number; vdev: string[]; shown: RegExp }> = {
  stripe: { disks: 2, vdev: [], shown: /d0\s+ONLINE\s+0\s+0\s+0\n\s+\S*d1\s+ONLINE/ },
  mirror: { disks: 2, vdev: ['mirror'], shown: /mirror-0\s+ONLINE/ },
  raidz1: { disks: 3, vdev: ['raidz1'], shown: /raidz1-0\s+ONLINE/ },
  raidz2: { disks: 4, vdev: ['raidz2'], shown: /raidz2-0\s+ONLINE/ },
  raidz3: { disks: 5, vdev: ['raidz3'], shown: /raidz3-0\s+ONLINE/ },
  draid: { disks: 5, vdev: ['draid1:2d:5c:1s'], shown: /draid1:2d:5c:1s-0\s+ONLINE[\s\S]*draid1-0-0\s+AVAIL/ },
};

for (const [layout, { disks, vdev, shown }] of Object.entries(layouts)) {
  test(`a pool on ${layout}: created, shown, scrubbed, exported, imported, sound`, async (t) => {
    const lab = await Lab.open(t);
    const paths = lab.manyDisks(disks);
    await lab.start();
    await lab.zpool('create', '-o', 'ashift=12', 'tank', ...vdev, ...paths);
    await lab.zfs('create', '-V', '48M', 'tank/v');
    const client = await lab.open('tank/v');
    const data = Buffer.alloc(8 * MiB, 'zow');
    t.is((await client.writeAt(0, data)).errno, 0);
    client.destroy();
    t.regex(await lab.zpool('status', 'tank'), shown);
    t.regex(await lab.zpool('status', 'tank'), /errors: No known data errors/);
    const listed = await lab.zpool('list', '-v', 'tank');
    for (const path of paths) t.true(listed.includes(path.split('/').at(-1)!));
    t.regex(await lab.zpool('get', 'all', 'tank'), /tank\s+ashift\s+12\s+local/);
    t.regex(await lab.zpool('iostat', '-v', 'tank'), /d0\s+/);
    await lab.zpool('scrub', '-w', 'tank');
    t.regex(await lab.zpool('status', 'tank'), /scan: scrub repaired 0B in \S+ with 0 errors/);
    const history = await lab.zpool('history', '-i', 'tank');
    t.regex(history, /zpool create -o ashift=12 tank/);
    t.regex(history, /\[txg:\d+\] create tank\/v/);
    await lab.zpool('export', 'tank');
    t.regex(await lab.zpool('import', '-d', lab.disks), /pool: tank[\s\S]*state: ONLINE/);
    await lab.zpool('import', '-d', lab.disks, 'tank');
    const again = await lab.open('tank/v');
    t.true((await again.readAt(0, data.length)).equals(data));
    again.destroy();
    await lab.finish('tank');
  });
}

test('offline, online, attach, replace and detach of a mirror keep the data', async (t) => {
  const lab = await Lab.open(t);
  const [a, b, c, d] = lab.manyDisks(4) as [string, string, string, string];
  await lab.start();
  await lab.zpool('create', 'tank', 'mirror', a, b);
  await lab.zfs('create', '-V', '64M', 'tank/v');
  const client = await lab.open('tank/v');
  const data = Buffer.alloc(4 * MiB, 'first');
  await client.writeAt(0, data);

  await lab.zpool('offline', 'tank', b);
  t.regex(await lab.zpool('status', 'tank'), /state: DEGRADED[\s\S]*d1\s+OFFLINE/);
  t.is((await client.writeAt(8 * MiB, data)).errno, 0);
  await lab.zpool('online', 'tank', b);
  await lab.zpool('wait', '-t', 'resilver', 'tank');
  t.regex(await lab.zpool('status', 'tank'), /state: ONLINE[\s\S]*resilvered/);

  await lab.zpool('attach', '-w', 'tank', a, c);
  t.regex(await lab.zpool('status', 'tank'), /d2\s+ONLINE/);
  await lab.zpool('replace', '-w', 'tank', b, d);
  const replaced = await lab.zpool('status', 'tank');
  t.regex(replaced, /d3\s+ONLINE/);
  t.notRegex(replaced, /d1\s/);
  await lab.zpool('detach', 'tank', a);
  t.true((await client.readAt(8 * MiB, data.length)).equals(data));
  t.true((await client.readAt(0, data.length)).equals(data));
  client.destroy();
  await lab.zpool('scrub', '-w', 'tank');
  t.regex(await lab.zpool('status', 'tank'), /repaired 0B .* with 0 errors/);
  await lab.finish('tank');
});

test('add, remove, checkpoint and split', async (t) => {
  const lab = await Lab.open(t);
  const [a, b, c, log] = lab.manyDisks(4) as [string, string, string, string];
  await lab.start();
  await lab.zpool('create', 'tank', a);
  await lab.zfs('create', '-V', '64M', 'tank/v');
  await lab.zpool('add', 'tank', b);
  const client = await lab.open('tank/v');
  const data = Buffer.alloc(16 * MiB, 'second');
  await client.writeAt(0, data);
  await lab.zpool('sync');
  await lab.zpool('remove', '-w', 'tank', b);
  t.regex(await lab.zpool('status', 'tank'), /Removal of vdev 1 .* completed/);
  await lab.zpool('add', 'tank', 'log', log);
  await lab.zpool('remove', 'tank', log);
  await lab.zpool('checkpoint', 'tank');
  t.regex(await lab.zpool('status', 'tank'), /checkpoint: created/);
  await lab.zpool('checkpoint', '-d', '-w', 'tank');
  t.true((await client.readAt(0, data.length)).equals(data));
  client.destroy();
  await lab.zpool('attach', '-w', 'tank', a, c).then(
    () => t.pass(),
    (error: Error) => t.regex(error.message, /indirect|removed/, 'upstream refuses some layouts after a removal'),
  );
  await lab.finish('tank');
});

test('a destroyed pool is gone, can be imported with -D, and then is whole', async (t) => {
  const lab = await Lab.open(t);
  const [a] = lab.manyDisks(1) as [string];
  await lab.start();
  await lab.zpool('create', 'tank', a);
  await lab.zfs('create', '-V', '16M', 'tank/v');
  await lab.zpool('destroy', 'tank');
  t.regex(await lab.zpool('list'), /no pools available/);
  t.regex(await lab.fails('zpool', 'status', 'tank'), /no such pool/);
  t.regex((await lab.run('zpool', ['import', '-d', lab.disks])).stderr, /no pools available to import/);
  await lab.zpool('import', '-D', '-d', lab.disks, 'tank');
  t.regex(await lab.zfs('list', '-t', 'volume'), /tank\/v/);
  await lab.finish('tank');
});

test('a pool of a configuration is created at the first start and imported at the next', async (t) => {
  const lab = await Lab.open(t);
  const config = {
    pools: {
      tank: {
        vdevs: ['mirror', 'disks/a', 'disks/b'],
        create: { size: '256M' },
        properties: { ashift: 12 },
        volumes: { vm0: { size: '32M', volblocksize: '16K', compression: 'lz4' } },
      },
    },
  };
  await lab.start({ config });
  const client = await lab.open('tank/vm0');
  t.is(client.size, 32 * MiB);
  const data = Buffer.alloc(MiB, 'kept');
  await client.writeAt(5 * MiB, data);
  client.destroy();
  await lab.stop();
  await lab.zdb('tank');
  await lab.start({ config });
  const again = await lab.open('tank/vm0');
  t.true((await again.readAt(5 * MiB, data.length)).equals(data));
  t.is(await lab.get('tank/vm0', 'compression'), 'lz4');
  again.destroy();
  await lab.stop();
  await lab.zdb('tank');
});
