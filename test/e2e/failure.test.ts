import { type ChildProcess, spawn } from 'node:child_process';
import { existsSync, mkdirSync, readdirSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import test, { type ExecutionContext } from 'ava';
import { Cmd, CmdFlag } from '../../host/protocols/nbd.ts';
import { skip, unless } from '../skip.ts';
import { execute, Lab, MiB, must, noise, sleep, until } from './host.ts';

/** Full pools, pools without disks, and a core that panics: who notices, and who does not. */
const ENOSPC = 28;

test('out of space: the writer learns it, others do not, and freeing heals', async (t) => {
  const lab = await Lab.open(t);
  const small = lab.disk('small', 96 * MiB);
  const other = lab.disk('other', 96 * MiB);
  await lab.start();
  await lab.zpool('create', '-o', 'ashift=12', 'tank', small);
  await lab.zpool('create', '-o', 'ashift=12', 'calm', other);
  await lab.zfs('create', '-s', '-V', '1G', 'tank/greedy');
  await lab.zfs('create', '-V', '8M', 'tank/reserved');
  await lab.zfs('create', '-V', '16M', 'calm/v');
  const greedy = await lab.open('tank/greedy');
  const reserved = await lab.open('tank/reserved');
  const calm = await lab.open('calm/v');
  let errno = 0;
  let at = 0;
  for (; at < 1024 && errno === 0; at++) ({ errno } = await greedy.writeAt(at * MiB, noise(MiB, at)));
  t.is(errno, ENOSPC);
  t.true(at > 20, `${at} MiB written`);
  t.is((await calm.writeAt(0, noise(MiB))).errno, 0);
  t.is((await reserved.writeAt(0, noise(65536, 5))).errno, 0, 'a reservation holds');
  t.true((await greedy.readAt(0, MiB)).equals(noise(MiB, 0)));
  // Freeing is possible in a full pool: a trim, then there is room again.
  await lab.zpool('sync');
  t.is((await greedy.request({ type: 4, offset: 0, length: 16 * MiB })).errno, 0);
  await until('there is room again', async () => {
    await lab.zpool('sync');
    return (await greedy.writeAt(0, noise(MiB, 7))).errno === 0;
  });
  for (const client of [greedy, reserved, calm]) client.destroy();
  await lab.finish('tank', 'calm');
});

test('a pool that one core has no memory for is refused, and nobody else notices', async (t) => {
  const lab = await Lab.open(t);
  await lab.start({ vars: { ZOW_ENGINES: 'one' }, config: { memory: '256M', zed: false } });
  await lab.zpool('create', 'tank', lab.disk('a', 256 * MiB));
  await lab.zfs('create', '-s', '-V', '128M', 'tank/v');
  const client = await lab.open('tank/v');
  // Memory that has been in use by many sizes finds room for less.
  for (let i = 0; i < 600; i++) await client.writeAt((i * 7919) % (96 * MiB), noise(4096 * (1 + (i % 16)), i));
  let refused: Awaited<ReturnType<typeof lab.run>> | undefined;
  let pools = 0;
  for (; pools < 40 && refused === undefined; pools++) {
    const result = await lab.run('zpool', ['create', `p${pools}`, lab.disk(`d${pools}`, 64 * MiB)]);
    if (result.code !== 0) refused = result;
  }
  t.is(refused?.code, 1);
  t.regex(refused!.stderr, /^the ZoW host on \S+ has no memory left for that: give it more, by 'memory' in its/);
  t.true(pools > 3, `${pools} pools`);
  t.is((await client.writeAt(0, noise(MiB, 1))).errno, 0);
  t.is((await client.request({ type: Cmd.FLUSH })).errno, 0);
  t.true((await client.readAt(0, MiB)).equals(noise(MiB, 1)));
  client.destroy();
  // Nor is one imported; when others have gone there is room again.
  for (const pool of ['p0', 'p1', 'p2']) await lab.zpool('export', pool);
  await lab.zpool('import', '-d', lab.disks, 'p0');
  await lab.zpool('scrub', '-w', 'tank');
  await lab.stop();
  await lab.zdb('tank');
});

test('a quota stops the volume under it and no other', async (t) => {
  const lab = await Lab.open(t);
  const disk = lab.disk('a');
  await lab.start();
  await lab.zpool('create', '-o', 'ashift=12', 'tank', disk);
  await lab.zfs('create', '-o', 'quota=16M', 'tank/limited');
  await lab.zfs('create', '-s', '-V', '64M', 'tank/limited/v');
  await lab.zfs('create', '-V', '64M', 'tank/free');
  const limited = await lab.open('tank/limited/v');
  const free = await lab.open('tank/free');
  let errno = 0;
  for (let at = 0; at < 64 && errno === 0; at++) {
    ({ errno } = await limited.writeAt(at * MiB, noise(MiB, at)));
    await lab.zpool('sync');
  }
  t.true([ENOSPC, 122].includes(errno), `${errno}`);
  t.is((await free.writeAt(0, noise(MiB))).errno, 0);
  await lab.zfs('set', 'quota=none', 'tank/limited');
  t.is((await limited.writeAt(40 * MiB, noise(MiB))).errno, 0);
  limited.destroy();
  free.destroy();
  await lab.finish('tank');
});

const withFuse = unless(existsSync('/dev/fuse') ? undefined : 'no FUSE here', test);

/** A process that lives as long as the test. */
function beside(t: ExecutionContext<unknown>, command: string, ...args: string[]): ChildProcess {
  const child = spawn('setpriv', ['--pdeathsig', 'KILL', command, ...args], { stdio: 'ignore' });
  t.teardown(() => child.kill('SIGKILL'));
  return child;
}

withFuse('a disk that does not answer keeps its own pool waiting, and nobody else', async (t) => {
  const lab = await Lab.open(t);
  const disk = join(lab.disks, 'slow');
  const socket = join(lab.directory, 'slow.sock');
  lab.disk('../backing', 128 * MiB);
  writeFileSync(disk, '');
  const server = beside(t, 'nbdkit', '-f', '-U', socket, 'file', join(lab.directory, 'backing'));
  await until('nbdkit serves', () => existsSync(socket));
  beside(t, 'nbdfuse', disk, `nbd+unix:///?socket=${socket}`);
  t.teardown(() => execute('fusermount3', ['-u', '-z', disk]));
  await until('nbdfuse serves', () => statSync(disk).size === 128 * MiB);
  await lab.start();
  await lab.zpool('create', '-o', 'ashift=12', 'tank', disk);
  await lab.zpool('create', '-o', 'ashift=12', 'calm', lab.disk('good', 128 * MiB));
  for (const pool of ['tank', 'calm']) await lab.zfs('create', '-V', '32M', `${pool}/v`);
  const [client, calm] = [await lab.open('tank/v'), await lab.open('calm/v')];
  await client.writeAt(0, noise(MiB, 1));
  server.kill('SIGSTOP');
  // More at a time than libuv has threads by default: writes of the intent log, then of a transaction group.
  const writes = Promise.all(
    Array.from({ length: 16 }, async (_, i) => {
      const other = await lab.open('tank/v');
      await other.writeAt(i * MiB, noise(MiB, i), CmdFlag.FUA);
      other.destroy();
    }),
  );
  let goesOn = false;
  const others = (async () => {
    for (let i = 0; i < 2; i++) {
      t.is((await calm.writeAt(i * MiB, noise(MiB, i))).errno, 0);
      t.is((await calm.request({ type: Cmd.FLUSH })).errno, 0);
      t.true((await calm.readAt(i * MiB, MiB)).equals(noise(MiB, i)));
      await lab.zpool('sync', 'calm');
      t.regex(await lab.zpool('list', '-H'), /calm.*ONLINE/);
    }
    goesOn = true;
  })();
  await Promise.race([others, sleep(80_000)]);
  t.true(goesOn, 'the other pool goes on while the disk is stopped');
  server.kill('SIGCONT');
  await writes;
  t.true((await client.readAt(15 * MiB, MiB)).equals(noise(MiB, 15)));
  for (const open of [client, calm]) open.destroy();
  await until('it can be exported', async () => (await lab.run('zpool', ['export', 'tank'])).code === 0);
  await lab.finish('calm');
});

/** A host with a pool on disks that do not read or write while a file exists, and another pool. flush.test.ts has the flushes. */
async function fragile(t: ExecutionContext<unknown>, failmode: string, more = {}): Promise<[Lab, string]> {
  const lab = await Lab.open(t);
  const bad = lab.disk('bad', 128 * MiB);
  const good = lab.disk('good', 128 * MiB);
  const broken = join(lab.directory, 'broken');
  await lab.start({ vars: { ...more, ZOW_FAULTS: `disks/bad:error(op=read|write,errno=EIO,while=${broken})` } });
  await lab.zpool('create', '-o', 'ashift=12', '-o', `failmode=${failmode}`, 'tank', bad);
  await lab.zpool('create', '-o', 'ashift=12', 'calm', good);
  await lab.zfs('create', '-V', '32M', 'tank/v');
  await lab.zfs('create', '-V', '32M', 'calm/v');
  return [lab, broken];
}

test('failmode=wait: writers wait, the rest of the host goes on, zpool clear lets them finish', async (t) => {
  const [lab, broken] = await fragile(t, 'wait');
  const client = await lab.open('tank/v');
  const calm = await lab.open('calm/v');
  const data = noise(MiB, 3);
  await client.writeAt(0, data);
  writeFileSync(broken, '');
  let done = false;
  const write = (async () => {
    await client.writeAt(4 * MiB, data);
    const { errno } = await client.request({ type: 3 });
    done = true;
    return errno;
  })();
  await until('the pool is suspended', async () => /SUSPENDED/.test(await lab.zpool('list', '-H', 'tank')));
  t.is((await calm.writeAt(0, data)).errno, 0);
  t.is((await calm.request({ type: 3 })).errno, 0);
  t.regex(await lab.zpool('status', 'calm'), /state: ONLINE/);
  await lab.zfs('create', '-V', '8M', 'calm/new');
  t.regex(await lab.zpool('status', 'tank'), /zpool clear/);
  await sleep(500);
  t.false(done);
  rmSync(broken);
  await lab.zpool('clear', 'tank');
  t.is(await write, 0);
  t.true((await client.readAt(4 * MiB, data.length)).equals(data));
  t.regex(await lab.zpool('status', 'tank'), /state: ONLINE/);
  client.destroy();
  calm.destroy();
  await lab.finish('tank', 'calm');
});

test('a pool that is suspended in the middle of a task that holds its configuration is shown, and zpool clear lets it go on', async (t) => {
  const [lab, broken] = await fragile(t, 'wait');
  const key = join(lab.directory, 'key');
  writeFileSync(key, noise(32, 1));
  await lab.zpool('sync', 'tank');
  writeFileSync(broken, '');
  // The first block that its transaction group writes is written by the task itself.
  const created = lab.run(
    'zfs',
    ['create', '-o', 'encryption=on', '-o', 'keyformat=raw', '-o', `keylocation=file://${key}`, 'tank/secret'],
    { timeoutMs: 120_000 },
  );
  await until('the pool is suspended', () => /Pool 'tank' has encountered an uncorrectable/.test(lab.hostLog));
  t.regex(await lab.zpool('status', '-v'), /pool: calm[\s\S]*pool: tank\s+state: SUSPENDED[\s\S]*zpool clear/);
  t.regex(await lab.zpool('list', '-H'), /^calm\t.*\tONLINE\t.*\ntank\t112M\t.*\tSUSPENDED\t/);
  t.is(await lab.zpool('get', '-H', '-o', 'value', 'health', 'tank'), 'SUSPENDED\n');
  // More of them than there are fibers for it, had each of them to wait.
  await Promise.all(Array.from({ length: 100 }, () => lab.zpool('list', 'tank')));
  await lab.zfs('create', 'calm/more');
  rmSync(broken);
  await lab.zpool('clear', 'tank');
  t.is((await created).code, 0);
  t.is(await lab.get('tank/secret', 'keystatus'), 'available');
  await lab.finish('tank', 'calm');
});

test('more requests than a suspended pool has fibers for keep neither zpool clear nor other pools waiting', async (t) => {
  const [lab, broken] = await fragile(t, 'wait');
  const calm = await lab.open('calm/v');
  const uri = `--uri=${lab.uri('tank/v')}`;
  const size = ['--size=2M', '--offset_increment=2M', '--bs=4k', '--time_based', '--runtime=8'];
  const load = [
    '--name=b',
    '--ioengine=nbd',
    uri,
    `--aux-path=${lab.directory}`,
    '--rw=randwrite',
    '--fsync=16',
    ...size,
  ];
  // Ten connections with 128 requests each.
  const fio = must('fio', [...load, '--iodepth=128', '--numjobs=10', '--thread', '--group_reporting'], {
    cwd: lab.directory,
  });
  await sleep(2000);
  writeFileSync(broken, '');
  await until('the pool is suspended', async () => /SUSPENDED/.test(await lab.zpool('list', '-H', 'tank')));
  await sleep(1000);
  t.is((await calm.writeAt(0, noise(MiB))).errno, 0);
  t.is((await calm.request({ type: 3 })).errno, 0);
  rmSync(broken);
  await lab.zpool('clear', 'tank');
  await fio;
  calm.destroy();
  await lab.finish('tank', 'calm');
});

/** A pool that is suspended with a flush under way, and its client. */
async function suspended(lab: Lab, broken: string) {
  const client = await lab.open('tank/v');
  const data = noise(MiB, 3);
  await client.writeAt(0, data);
  await client.request({ type: 3 });
  writeFileSync(broken, '');
  await client.writeAt(4 * MiB, data);
  const flush = client.request({ type: 3 }).catch(() => undefined);
  await until('the pool is suspended', async () => /SUSPENDED/.test(await lab.zpool('list', '-H', 'tank')));
  return { client, data, flush };
}

test('a suspended pool is not exported or destroyed, and says why at once', async (t) => {
  const [lab, broken] = await fragile(t, 'wait');
  const { client, flush } = await suspended(lab, broken);
  for (const verb of ['export', 'destroy']) {
    t.regex(await lab.fails('zpool', verb, 'tank'), /suspended/);
    t.regex(await lab.zpool('list', '-H', '-o', 'health', 'calm'), /ONLINE/);
  }
  rmSync(broken);
  await lab.zpool('clear', 'tank');
  await flush;
  client.destroy();
  await lab.finish('tank', 'calm');
});

/** While one pool waits a volume of another is made, written, flushed and destroyed, and pools are listed. */
async function calmIsServed(t: ExecutionContext<unknown>, lab: Lab): Promise<void> {
  await lab.zfs('create', '-V', '8M', 'calm/new');
  const calm = await lab.open('calm/new');
  t.is((await calm.writeAt(0, noise(MiB))).errno, 0);
  t.is((await calm.request({ type: 3 })).errno, 0);
  calm.destroy();
  await until('it can be destroyed', async () => (await lab.run('zfs', ['destroy', 'calm/new'])).code === 0);
  await lab.zpool('list');
}

test('a client that leaves a suspended pool, or comes to it, keeps nobody else waiting', async (t) => {
  const [lab, broken] = await fragile(t, 'wait');
  const { client } = await suspended(lab, broken);
  client.destroy();
  // It waits until the pool is back, or is turned away; what counts are the others.
  const late = lab.open('tank/v').catch(() => undefined);
  await sleep(500);
  await calmIsServed(t, lab);
  rmSync(broken);
  await lab.zpool('clear', 'tank');
  (await late)?.destroy();
  await lab.finish('tank', 'calm');
});

test('a client whose last close waits for a suspended pool keeps nobody else waiting', async (t) => {
  const [lab, broken] = await fragile(t, 'wait');
  await lab.zfs('create', '-V', '8M', 'tank/w');
  const [client, other] = [await lab.open('tank/v'), await lab.open('tank/w')];
  await client.writeAt(0, noise(MiB));
  await client.request({ type: 3 });
  await lab.zpool('sync', 'tank');
  // The one that leaves has nothing of its own to wait for, but for the transaction group that another has written to.
  await other.writeAt(0, noise(MiB));
  writeFileSync(broken, '');
  client.destroy();
  await until('the pool is suspended', async () => /SUSPENDED/.test(await lab.zpool('list', '-H', 'tank')));
  const late = lab.open('tank/v').catch(() => undefined);
  await sleep(1000);
  await calmIsServed(t, lab);
  rmSync(broken);
  await lab.zpool('clear', 'tank');
  (await late)?.destroy();
  other.destroy();
  await lab.finish('tank', 'calm');
});

test('a rollback that meets a suspension, under a client, keeps nobody else waiting', async (t) => {
  const [lab, broken] = await fragile(t, 'wait');
  const client = await lab.open('tank/v');
  const data = noise(MiB, 4);
  await client.writeAt(0, data);
  await client.request({ type: 3 });
  await lab.zfs('snapshot', 'tank/v@s');
  await client.writeAt(0, noise(MiB, 5));
  writeFileSync(broken, '');
  const rollback = lab.run('zfs', ['rollback', 'tank/v@s']);
  await until('the pool is suspended', async () => /SUSPENDED/.test(await lab.zpool('list', '-H', 'tank')));
  const late = lab.open('tank/v').catch(() => undefined);
  await sleep(1000);
  await calmIsServed(t, lab);
  rmSync(broken);
  await lab.zpool('clear', 'tank');
  t.is((await rollback).code, 0);
  t.true((await client.readAt(0, MiB)).equals(data));
  (await late)?.destroy();
  client.destroy();
  await lab.finish('tank', 'calm');
});

test('a signal ends a host with a suspended pool: the others are exported, what was flushed is there', async (t) => {
  const [lab, broken] = await fragile(t, 'wait');
  const { data } = await suspended(lab, broken);
  const calm = await lab.open('calm/v');
  await calm.writeAt(0, data);
  const blocked = lab.run('zfs', ['create', '-V', '8M', 'tank/never']);
  await sleep(500);
  process.kill(lab.pid, 'SIGTERM');
  t.is(await lab.ended(60_000), 2);
  t.regex(lab.hostLog, /zow: .*cannot export 'tank'.*suspended/s);
  t.notRegex(lab.hostLog, /cannot export 'calm'/);
  t.not((await blocked).code, 0);
  const privateFolders = () => readdirSync(lab.directory).filter((name) => /^zow-\d/.test(name));
  t.deepEqual(privateFolders(), []);
  rmSync(broken);
  await lab.start();
  await lab.kill();
  await lab.kill();
  const left = privateFolders();
  t.not(left.length, 0);
  await lab.start();
  for (const folder of left) t.false(privateFolders().includes(folder), 'a host removes what one that was killed left');
  t.regex(await lab.zpool('import', '-d', lab.disks), /pool: calm/);
  await lab.zpool('import', '-d', lab.disks, 'calm');
  await lab.zpool('import', '-d', lab.disks, 'tank');
  for (const name of ['calm/v', 'tank/v']) {
    const again = await lab.open(name);
    t.true((await again.readAt(0, data.length)).equals(data), name);
    again.destroy();
  }
  await lab.finish('tank', 'calm');
});

test('failmode=continue: new writes fail, the rest of the host goes on, zpool clear heals', async (t) => {
  const [lab, broken] = await fragile(t, 'continue');
  const client = await lab.open('tank/v');
  const calm = await lab.open('calm/v');
  const data = noise(MiB, 3);
  await client.writeAt(0, data);
  writeFileSync(broken, '');
  // It is under way when the disk fails, so it may wait for the pool; what comes after the suspension may not.
  const early = client.request({ type: 3 });
  await until('the pool is suspended', async () => /SUSPENDED/.test(await lab.zpool('list', '-H', 'tank')));
  const late = await lab.open('tank/v');
  t.not((await late.writeAt(8 * MiB, data)).errno, 0);
  t.is((await calm.writeAt(0, data)).errno, 0);
  rmSync(broken);
  await lab.zpool('clear', 'tank');
  await early;
  await until('it takes writes again', async () => (await late.writeAt(8 * MiB, data)).errno === 0);
  t.true((await client.readAt(0, data.length)).equals(data));
  for (const open of [client, late, calm]) open.destroy();
  await lab.finish('tank', 'calm');
});

test('failmode=continue: flushes that a suspension meets fail at once, and the intent log survives it', async (t) => {
  const lab = await Lab.open(t);
  const broken = join(lab.directory, 'broken');
  const bad = lab.disk('bad', 256 * MiB);
  await lab.start({ vars: { ZOW_FAULTS: `disks/bad:error(op=read|write,errno=EIO,while=${broken})` } });
  await lab.zpool('create', '-o', 'ashift=12', '-o', 'failmode=continue', 'tank', bad);
  // Records with their data, records that point to it, and blocks of the log that more than one writer fills.
  await lab.zfs('create', '-s', '-V', '64M', 'tank/v');
  await lab.zfs('create', '-s', '-V', '64M', '-o', 'logbias=throughput', '-o', 'volblocksize=128K', 'tank/large');
  const writers = await Promise.all(
    Array.from({ length: 8 }, async (_, i) => {
      const client = await lab.open(i < 5 ? 'tank/v' : 'tank/large');
      return { client, at: i * 8 * MiB, length: i % 2 === 0 ? 16384 : 300 * 1024, acked: -1, written: -1 };
    }),
  );
  for (let round = 0; round < 6; round++) {
    const before = round * 10_000;
    const working = writers.map(async (writer) => {
      for (let i = before; ; i++) {
        const { errno } = await writer.client.writeAt(writer.at, noise(writer.length, i), CmdFlag.FUA);
        writer.written = i;
        if (errno !== 0) return;
        writer.acked = i;
      }
    });
    await sleep(200);
    writeFileSync(broken, '');
    await Promise.all(working);
    rmSync(broken);
    await until('it takes writes again', async () => {
      // Once more when zed, which is late, has faulted the disk.
      await lab.zpool('clear', 'tank');
      const results = await Promise.all(
        writers.map(
          async ({ client, at }) => (await client.writeAt(at + 4 * MiB, noise(4096, round), CmdFlag.FUA)).errno,
        ),
      );
      return results.every((errno) => errno === 0);
    });
    for (const { client, at, length, acked, written } of writers) {
      const found = await client.readAt(at, length);
      const possible = [acked, written].filter((i) => i >= before);
      if (possible.length > 0)
        t.true(
          possible.some((i) => found.equals(noise(length, i))),
          `round ${round}`,
        );
    }
  }
  for (const { client } of writers) client.destroy();
  await lab.zpool('scrub', '-w', 'tank');
  t.regex(await lab.zpool('status', 'tank'), /repaired 0B in \S+ with 0 errors[\s\S]*No known data errors/);
  await lab.finish('tank');
});

test('failmode=panic: a host of one core ends with 70, clients get an error and do not hang', async (t) => {
  const [lab, broken] = await fragile(t, 'panic', { ZOW_ENGINES: 'one' });
  const calm = await lab.open('calm/v');
  const client = await lab.open('tank/v');
  const waiting = lab.run('zpool', ['events', '-f']);
  await client.writeAt(0, noise(MiB));
  writeFileSync(broken, '');
  const flush = client.request({ type: 3 }).then(
    ({ errno }) => errno,
    () => -1,
  );
  t.is(await lab.ended(), 70);
  t.not(await flush, 0);
  await t.throwsAsync(() => calm.writeAt(0, noise(4096)));
  t.not((await waiting).code, 0);
  t.regex(lab.hostLog, /tank/);
  t.regex(await lab.fails('zpool', 'list'), /no ZoW host/);
  // What was promised is there.
  rmSync(broken);
  await lab.start();
  await lab.zpool('import', '-d', lab.disks, 'calm');
  await lab.zpool('import', '-d', lab.disks, 'tank');
  await lab.finish('tank', 'calm');
});

for (const end of ['zpool clear', 'kill -9']) {
  test(`the file system below a disk is full: the pool waits, and what was flushed is there after room and ${end}`, async (t) => {
    const lab = await Lab.open(t);
    const below = join(lab.directory, 'below');
    mkdirSync(below);
    const mounted = await execute('mount', ['-t', 'tmpfs', '-o', 'size=96M', 'none', below]);
    if (mounted.code !== 0) {
      return skip(t, `no mount here: ${mounted.stderr}`);
    }
    try {
      const config = { pools: { tank: { vdevs: ['below/disk'], create: { size: '512M' } } } };
      await lab.start({ config });
      await lab.zfs('create', '-s', '-V', '256M', 'tank/v');
      const client = await lab.open('tank/v');
      const data = (i: number) => noise(MiB, 900 + i);
      let flushed = 0;
      const writing = (async () => {
        for (let i = 0; i < 200; i++) {
          const written = await client.writeAt(i * MiB, data(i));
          const { errno } = await client.request({ type: Cmd.FLUSH });
          if (written.errno !== 0 || errno !== 0) throw new Error(`errors ${written.errno} and ${errno} at ${i}`);
          flushed = i + 1;
        }
      })();
      writing.catch(() => undefined);
      await until('the pool is suspended', async () =>
        (await lab.zpool('status', 'tank')).includes('state: SUSPENDED'),
      );
      t.true(flushed > 0);
      const promised = flushed;
      await sleep(500);
      t.is(flushed, promised, 'nothing is acknowledged that is on no disk');
      if (end === 'kill -9') await lab.kill();
      await must('mount', ['-o', 'remount,size=640M', below]);
      if (end === 'kill -9') await lab.start({ config });
      else await lab.zpool('clear', 'tank');
      if (end === 'kill -9') await t.throwsAsync(writing, { message: /connection ended/ });
      else await writing;
      const reader = await lab.open('tank/v');
      for (let i = 0; i < flushed; i++) t.true((await reader.readAt(i * MiB, MiB)).equals(data(i)), `block ${i}`);
      reader.destroy();
      client.destroy();
      await lab.zpool('scrub', '-w', 'tank');
      // Its state may be DEGRADED: zed can come to count what failed after `zpool clear`.
      t.regex(
        await lab.zpool('status', 'tank'),
        /repaired 0B in \S+ with 0 errors[\s\S]*disk +\S+ +0 +0 +0[\s\S]*No known data errors/,
      );
      await lab.stop();
    } finally {
      await lab.kill().catch(() => undefined);
      await must('umount', [below]);
    }
  });
}
