import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import test from 'ava';
import { HostClient } from '../../host/ioctl/client.ts';
import { QueryKind } from '../../host/ioctl/protocol.ts';
import { decodeKstat, kstatText } from '../../host/observe/kstats.ts';
import { Lab, MiB, noise, root } from './host.ts';

/** What a host tells of itself: `zow kstat` and `zow tunable`, for people and for programs. */

/** What a command that must succeed prints. */
async function says(lab: Lab, ...args: string[]): Promise<string> {
  const { code, stdout, stderr } = await lab.zow(...args);
  if (code !== 0) throw new Error(`zow ${args.join(' ')} -> ${code}\n${stderr}`);
  return stdout;
}

/** What it says of a command that must fail. */
async function refuses(lab: Lab, ...args: string[]): Promise<string> {
  const { code, stderr } = await lab.zow(...args);
  if (code !== 1) throw new Error(`zow ${args.join(' ')} -> ${code}`);
  return stderr;
}

interface KstatJson {
  readonly module: string;
  readonly name: string;
  readonly type: string;
  readonly data: Readonly<Record<string, number | string>>;
  readonly rows: readonly Readonly<Record<string, number | string>>[];
}

/** The one kstat at a path, as programs see it. */
async function kstat(lab: Lab, path: string): Promise<KstatJson> {
  const all = JSON.parse(await says(lab, 'kstat', '-j', path)) as KstatJson[];
  if (all.length !== 1) throw new Error(`${all.length} kstats at ${path}`);
  return all[0]!;
}

test('kstats of a volume, its pool and the ARC move as it is written and read', async (t) => {
  const lab = await Lab.open(t);
  await lab.start();
  await lab.zpool('create', 'tank', 'mirror', ...lab.manyDisks(2));
  await lab.zfs('create', '-s', '-V', '64M', 'tank/v');
  const objset = (await says(lab, 'kstat', 'zfs/tank/objset-*:dataset_name')).trim();
  t.regex(objset, /^zfs\/tank\/objset-0x[0-9a-f]+:dataset_name\ttank\/v$/);
  const path = objset.slice(0, objset.indexOf(':'));
  const before = { volume: await kstat(lab, path), arc: await kstat(lab, 'zfs/arcstats') };
  const zil = (await kstat(lab, 'zfs/zil')).data.zil_commit_count as number;

  const client = await lab.open('tank/v');
  await client.writeAt(0, noise(4 * MiB));
  t.is((await client.request({ type: 3 })).errno, 0);
  await client.readAt(0, 4 * MiB);
  await client.readAt(0, 4 * MiB);
  await lab.zpool('sync', 'tank');

  const { data } = await kstat(lab, path);
  t.is(data.nwritten, 4 * MiB);
  t.is(data.nread, 8 * MiB);
  t.true((data.writes as number) > 0 && (data.reads as number) > 1);
  t.is(before.volume.data.nwritten, 0);
  t.true((data.zil_commit_count as number) > 0, "the volume's intent log");
  t.true(((await kstat(lab, 'zfs/zil')).data.zil_commit_count as number) > zil, 'and that of all');
  const arc = await kstat(lab, 'zfs/arcstats');
  t.true((arc.data.hits as number) > (before.arc.data.hits as number));

  const { rows } = await kstat(lab, 'zfs/tank/txgs');
  t.true(rows.some(({ state, nwritten }) => state === 'C' && (nwritten as number) >= 4 * MiB));
  t.deepEqual(Object.keys(rows[0]!).slice(0, 4), ['txg', 'birth', 'state', 'ndirty']);
  const text = await says(lab, 'kstat', 'zfs/tank/txgs');
  t.regex(text, /^txg +birth +state ndirty .*\n(\d+ +\d+ +[OQWSC] .*\n)+$/);
  t.is(await says(lab, 'kstat', 'zfs/tank/state'), 'ONLINE\n');
  const messages = await says(lab, 'kstat', 'zfs/dbgmsg');
  t.regex(messages, /^timestamp +message *\n/);
  t.regex(messages, /^\d+ +0x[0-9a-f]+ spa_history\.c:\d+:\w+\(\): command: zpool create tank mirror /m);
  t.regex(await says(lab, 'kstat', 'zfs/dbufs'), /^pool +objset +object .*\ntank /m);

  client.destroy();
  await lab.zpool('destroy', 'tank');
  t.is(await refuses(lab, 'kstat', 'zfs/tank'), `zow: no kstat matches 'zfs/tank'\n`);
  await lab.stop();
});

test('a buffer of the ARC is one piece', async (t) => {
  const lab = await Lab.open(t);
  await lab.start();
  await lab.zpool('create', 'tank', lab.disk('a'));
  await lab.zfs('create', '-s', '-V', '64M', '-o', 'compression=lz4', 'tank/v');
  const client = await lab.open('tank/v');
  // Blocks that need 5 KiB: what is cut into pages wastes the rest of the last one.
  const data = Buffer.concat(Array.from({ length: 64 }, () => Buffer.concat([noise(4608), Buffer.alloc(11776)])));
  await client.writeAt(0, data);
  await lab.zpool('sync', 'tank');
  const { data: arc } = await kstat(lab, 'zfs/arcstats');
  t.true((arc.size as number) > 0);
  t.is(arc.abd_chunk_waste_size, 0);
  client.destroy();
  await lab.finish('tank');
});

test('histories are kept as long as their tunables say, and cleared', async (t) => {
  const lab = await Lab.open(t);
  await lab.start();
  await lab.zpool('create', 'tank', lab.disk('a'));
  await lab.zfs('create', '-s', '-V', '64M', '-o', 'primarycache=metadata', 'tank/v');
  await says(lab, 'tunable', 'zfs_read_history=5');
  const client = await lab.open('tank/v');
  await client.writeAt(0, noise(2 * MiB));
  await lab.zpool('sync', 'tank');
  for (let i = 0; i < 10; i++) await client.readAt(i * 128 * 1024, 4096);
  const { rows } = await kstat(lab, 'zfs/tank/reads');
  t.is(rows.length, 5);
  t.like(rows[0], { level: 0 });
  client.destroy();
  t.regex(await says(lab, 'kstat', 'zfs/tank/multihost'), /^id +txg +timestamp +error +duration /);

  const last = (await kstat(lab, 'zfs/tank/txgs')).rows.at(-1)!.txg as number;
  await says(lab, 'kstat', '--clear', 'zfs/tank/txgs');
  const left = (await kstat(lab, 'zfs/tank/txgs')).rows;
  t.true(
    left.every(({ txg }) => (txg as number) > last - 3),
    'older ones are gone',
  );
  t.is(await refuses(lab, 'kstat', '-c', 'zfs/arcstats'), 'zow: zfs/arcstats has nothing to clear\n');
  t.regex(await refuses(lab, 'kstat', '-c'), /^zow: --clear needs a pattern/);
  await lab.finish('tank');
});

test('everything can be read at once, while pools come and go', async (t) => {
  const lab = await Lab.open(t);
  await lab.start();
  const changes = (async () => {
    for (let i = 0; i < 4; i++) {
      await lab.zpool('create', '-f', 'tank', lab.disk('a', 64 * MiB));
      await lab.zpool('destroy', 'tank');
    }
  })();
  let done = false;
  void changes.finally(() => {
    done = true;
  });
  let reads = 0;
  do {
    const all = JSON.parse(await says(lab, 'kstat', '-j')) as KstatJson[];
    t.true(all.some(({ module, name }) => `${module}/${name}` === 'zfs/arcstats'));
    reads++;
  } while (!done);
  await changes;
  t.true(reads > 0);
  const [head, ...rest] = (await says(lab, 'kstat', 'zfs')).split('==> ').slice(1);
  t.regex(head!, /^zfs\/arcstats <==\n\d+ 1 0x01 \d+ \d+ \d+ \d+\nname +type data\nhits +4 +\d+\n/);
  t.true(rest.length > 10);
  const closed = await lab.shell(`${join(root, 'cli/bin/zow')} kstat | head -n 1`);
  t.deepEqual([closed.code, closed.stderr], [0, '']);
  await lab.stop();
});

test('checksums are measured for who asks, and others have their turn meanwhile', async (t) => {
  const lab = await Lab.open(t);
  await lab.start();
  const all = JSON.parse(await says(lab, 'kstat', '-j')) as KstatJson[];
  t.false(all.some(({ name }) => name === 'chksum_bench'));
  const client = () => HostClient.connect(lab.socket, 'test');
  using asking = await client();
  using other = await client();
  let measured = '';
  let answers = 0;
  const bench = (async () => {
    for await (const packed of asking.query({ kind: QueryKind.kstats, text: 'zfs/chksum_bench' })) {
      measured = kstatText(decodeKstat(packed));
    }
  })();
  while (measured === '') {
    for await (const _ of other.query({ kind: QueryKind.kstats, text: 'zfs/arcstats' })) answers++;
  }
  await bench;
  t.regex(measured, /\nimplementation +1k +4k [\s\S]*\nblake3-\S+( +[1-9]\d*){8}\n/);
  t.true(answers > 10, `${answers} answers`);
  await lab.stop();
});

test('tunables are listed, read and set with the names, types and bounds of upstream', async (t) => {
  const lab = await Lab.open(t);
  await lab.start();
  const list = await says(lab, 'tunable');
  t.true(list.split('\n').length > 300);
  for (const name of ['zfs_arc_max', 'zfs_vdev_async_write_max_active', 'zvol_threads', 'zfs_nocacheflush']) {
    t.regex(list, new RegExp(`^${name}=\\d+$`, 'm'));
  }
  const verbose = await says(lab, 'tunable', '-v', 'zfs_txg_timeout', 'dbuf_mutex_cache_shift');
  t.is(
    verbose,
    'zfs_txg_timeout=5\n    uint: Max seconds worth of delta per txg\n' +
      'dbuf_mutex_cache_shift=0\n    uint, read only: Set size of dbuf cache mutex array as log2 shift.\n',
  );

  t.is(await says(lab, 'tunable', 'zfs_txg_timeout=0x10', 'zfs_txg_timeout'), 'zfs_txg_timeout=16\n');
  await says(lab, 'tunable', 'zfs_arc_max=100663296');
  t.is((await kstat(lab, 'zfs/arcstats')).data.c_max, 100663296, 'its setter has told the ARC');
  t.deepEqual(JSON.parse(await says(lab, 'tunable', '-j', 'zfs_arc_max')), [
    { name: 'zfs_arc_max', value: 100663296, type: 'u64', writable: true, description: 'Maximum ARC size in bytes' },
  ]);
  await says(lab, 'tunable', 'zfs_dirty_data_max=18446744073709551615');
  t.regex(await says(lab, 'tunable', '-j', 'zfs_dirty_data_max'), /"value":"18446744073709551615"/);
  for (const setting of [
    'zfs_deadman_failmode=continue',
    'zfs_active_allocator=cursor',
    'zfs_fletcher_4_impl=scalar',
    'zfs_vdev_raidz_impl=original',
    'zfs_sha256_impl=generic',
    'spa_slop_shift=6',
    'zfs_vdev_min_auto_ashift=12',
    'zfs_multihost_interval=2000',
    'zstd_earlyabort_pass=0',
  ]) {
    await says(lab, 'tunable', setting);
    const [name, value] = setting.split('=');
    t.regex(await says(lab, 'tunable', name!), new RegExp(`=(.*\\[)?${value}\\]?`), setting);
  }

  const cases: [string, RegExp][] = [
    ['zfs_txg_tiemout', /^zow: there is no tunable 'zfs_txg_tiemout'; did you mean 'zfs_txg_timeout'\?$/],
    ['zfs_txg_tiemout=1', /did you mean 'zfs_txg_timeout'/],
    ['zfs_txg_timeout=soon', /^zow: zfs_txg_timeout must be a whole number from 0 to 4294967295, not 'soon'$/],
    ['zfs_txg_timeout=-1', /whole number/],
    ['zfs_txg_timeout=4294967296', /whole number/],
    ['zfs_txg_timeout=', /whole number/],
    ['zfs_txg_timeout=5 6', /whole number/],
    ['zfs_flags=4294967296000', /whole number/],
    ['zfs_arc_max=18446744073709551616', /from 0 to 18446744073709551615/],
    [
      'zfs_deadman_failmode=perhaps',
      /^zow: zfs_deadman_failmode .* does not take 'perhaps': EINVAL; it is 'continue'$/,
    ],
    ['zfs_fletcher_4_impl=fast', /does not take 'fast'/],
    ['spa_slop_shift=32', /does not take '32': EINVAL/],
    ['zfs_vdev_min_auto_ashift=8', /does not take '8'/],
    ['dbuf_mutex_cache_shift=3', /can only be set when the host starts, by 'tunables' of its configuration$/],
    ['=3', /^zow: a tunable is set with name=value$/],
    [`zfs_active_allocator=${'x'.repeat(9000)}`, /longer than 8192 bytes/],
  ];
  for (const [arg, message] of cases) t.regex((await refuses(lab, 'tunable', arg)).trimEnd(), message, arg);
  t.is(await says(lab, 'tunable', 'zfs_txg_timeout'), 'zfs_txg_timeout=16\n', 'what is refused changes nothing');
  await lab.stop();
});

test('tunables of the configuration hold before a pool is opened, and wrong ones are named with their line', async (t) => {
  const lab = await Lab.open(t);
  const tunables = {
    zfs_txg_timeout: 9,
    dbuf_mutex_cache_shift: 4,
    zfs_arc_max: '100663296',
    zfs_vdev_raidz_impl: 'scalar',
  };
  await lab.start({ config: { tunables } });
  const names = Object.keys(tunables);
  const lines = Object.entries(tunables).map(([name, value]) => `${name}=${value}\n`);
  t.is(await says(lab, 'tunable', ...names), lines.join(''));
  t.is((await kstat(lab, 'zfs/arcstats')).data.c_max, 100663296);
  await lab.stop();

  const file = join(lab.directory, 'wrong.yaml');
  writeFileSync(
    file,
    'socket: run/zow.sock\ntunables:\n  zfs_txg_timeout: 10\n  zfs_txg_timeuot: 1\n  spa_slop_shift: 99\n  zfs_arc_max: true\n',
  );
  t.is(
    (await lab.zow('check', file)).stderr,
    `${file}:6:16: tunables.zfs_arc_max: must be a whole number or a text (one above 9007199254740991 in quotes), not true\n`,
  );
  writeFileSync(
    file,
    'socket: run/zow.sock\ntunables:\n  zfs_txg_timeout: 10\n  zfs_txg_timeuot: 1\n  spa_slop_shift: 99\n',
  );
  const problems =
    `${file}:4:20: tunables.zfs_txg_timeuot: there is no tunable 'zfs_txg_timeuot'; did you mean 'zfs_txg_timeout'?\n` +
    `${file}:5:19: tunables.spa_slop_shift: spa_slop_shift (Reserved free space in pool) does not take '99': EINVAL; it is '5'\n`;
  const checked = await lab.zow('check', file);
  t.deepEqual([checked.code, checked.stderr], [1, problems]);
  t.is(await lab.serve(file), 1);
  t.true(lab.hostLog.includes(problems));
});

test('without a host there is one line, and exit code 1', async (t) => {
  const lab = await Lab.open(t);
  for (const args of [['kstat'], ['tunable'], ['events', '-f']]) {
    t.is(
      await refuses(lab, ...args),
      `zow: no ZoW host listens on ${lab.socket}: start one with 'zow serve <config>', or say where it is with ZOW_SOCKET\n`,
    );
  }
});
