import { rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import test, { type ExecutionContext } from 'ava';
import { Cmd, CmdFlag } from '../../host/protocols/nbd.ts';
import { Client } from '../host/nbd/client.ts';
import { dice, execute, Lab, MiB, must, noise, sleep, until } from './host.ts';
import { errorsOf, load } from './load.ts';

/** Volumes: made and changed with zfs, read and written over NBD, by our own client and by those of others. */

/** A volume that a client has open, on a disk whose flushes take a second each while the file `slow` is there. */
async function slowDisk(t: ExecutionContext): Promise<{ lab: Lab; slow: string; client: Client }> {
  const lab = await Lab.open(t);
  const disk = lab.disk('a');
  const slow = join(lab.directory, 'slow');
  await lab.start({ vars: { ZOW_FAULTS: `disks/a:delay(op=flush,ms=1000,while=${slow})` } });
  await lab.zpool('create', '-o', 'ashift=12', 'tank', disk);
  await lab.zfs('create', '-V', '16M', 'tank/v');
  const client = await lab.open('tank/v');
  return { lab, slow, client };
}

test('snapshots, clones, promote, rollback: each is an export with the right content', async (t) => {
  const lab = await Lab.withPool(t, 512 * MiB, '-o', 'ashift=12');
  await lab.zfs('create', '-V', '32M', 'tank/v');
  await lab.zfs('create', '-s', '-V', '1T', 'tank/sparse');
  t.deepEqual(await lab.exports(), ['tank/sparse', 'tank/v']);
  const first = noise(4 * MiB, 1);
  const second = noise(4 * MiB, 2);
  await lab.zfs('set', 'snapdev=visible', 'tank');
  const v = await lab.open('tank/v');
  await v.writeAt(0, first);
  await lab.zfs('snapshot', '-r', 'tank@one');
  await v.writeAt(0, second);
  t.true((await v.readAt(0, second.length)).equals(second));

  const info = JSON.parse(await must('nbdinfo', ['--json', lab.uri('tank/v@one')])).exports[0];
  t.like(info, { is_read_only: true, 'export-size': 32 * MiB });
  const snapshot = await lab.open('tank/v@one');
  t.true((await snapshot.readAt(0, first.length)).equals(first));
  t.not((await snapshot.writeAt(0, Buffer.alloc(4096))).errno, 0, 'a snapshot refuses writes');
  snapshot.destroy();

  await lab.zfs('clone', 'tank/v@one', 'tank/c');
  const clone = await lab.open('tank/c');
  t.true((await clone.readAt(0, first.length)).equals(first));
  t.is((await clone.writeAt(8 * MiB, second)).errno, 0);
  t.true((await v.readAt(8 * MiB, 4096)).equals(Buffer.alloc(4096)), 'the origin does not change');
  clone.destroy();

  // The server closes a snapshot a moment after its client has gone.
  await until('it can be promoted', async () => (await lab.run('zfs', ['promote', 'tank/c'])).code === 0, 5000);
  t.is(await lab.get('tank/v', 'origin'), 'tank/c@one');
  t.regex(await lab.zfs('list', '-t', 'all'), /tank\/c@one/);
  await lab.zfs('promote', 'tank/v');

  await lab.zfs('snapshot', 'tank/v@two');
  await v.writeAt(0, noise(MiB, 3));
  await lab.zfs('rollback', 'tank/v@two');
  t.true((await v.readAt(0, second.length)).equals(second), 'a client that stays attached sees the old content');
  t.is((await v.writeAt(0, first)).errno, 0, 'and can go on writing');
  v.destroy();
  await lab.finish('tank');
});

test('a renamed volume goes on serving the client that has it', async (t) => {
  const lab = await Lab.withPool(t, 512 * MiB, '-o', 'ashift=12');
  await lab.zfs('create', '-V', '16M', 'tank/old');
  const client = await lab.open('tank/old');
  const data = noise(MiB, 4);
  await client.writeAt(0, data);
  await lab.zfs('rename', 'tank/old', 'tank/new');
  t.true((await client.readAt(0, data.length)).equals(data));
  t.is((await client.writeAt(MiB, data)).errno, 0);
  t.deepEqual(await lab.exports(), ['tank/new']);
  client.destroy();
  const again = await lab.open('tank/new');
  t.true((await again.readAt(MiB, data.length)).equals(data));
  again.destroy();
  await lab.finish('tank');
});

test('a volume in use is not destroyed, and is when its client has gone', async (t) => {
  const lab = await Lab.withPool(t, 512 * MiB, '-o', 'ashift=12');
  await lab.zfs('create', '-V', '16M', 'tank/v');
  await lab.zfs('snapshot', 'tank/v@s');
  const client = await lab.open('tank/v');
  t.regex(await lab.fails('zfs', 'destroy', '-r', 'tank/v'), /busy/);
  t.is((await client.writeAt(0, noise(4096))).errno, 0, 'the client has lost nothing');
  t.regex(await lab.fails('zpool', 'export', 'tank'), /busy/);
  t.is((await client.writeAt(0, noise(4096))).errno, 0);
  client.destroy();
  await until('the volume can be destroyed', async () => {
    return (await lab.run('zfs', ['destroy', '-r', 'tank/v'])).code === 0;
  });
  t.deepEqual(await lab.exports(), []);
  await t.throwsAsync(() => lab.open('tank/v'));
  await lab.finish('tank');
});

test('an export that something else than a client keeps from ending leaves the volumes where they are', async (t) => {
  const lab = await Lab.withPool(t, 512 * MiB, '-o', 'ashift=12');
  await lab.zfs('create', '-V', '16M', 'tank/v');
  const client = await lab.open('tank/v');
  await client.writeAt(0, noise(8 * MiB));
  client.destroy();
  await lab.zfs('snapshot', 'tank/v@s');
  // Nobody reads the stream: the send goes on for as long as the pool is tried to be exported.
  const send = lab.spawn('zfs', ['send', 'tank/v@s']);
  await new Promise((resolve) => send.stdout!.once('readable', resolve));
  t.regex(await lab.fails('zpool', 'export', 'tank'), /busy/);
  t.deepEqual(await lab.exports(), ['tank/v']);
  const again = await lab.open('tank/v');
  t.is((await again.writeAt(0, noise(4096))).errno, 0);
  again.destroy();
  send.kill('SIGKILL');
  await until('it can be exported', async () => (await lab.run('zpool', ['export', 'tank'])).code === 0);
  t.deepEqual(await lab.exports(), []);
});

test('a volume whose client leaves in the middle of an export does not outlive the pool', async (t) => {
  const { lab, slow, client } = await slowDisk(t);
  writeFileSync(slow, '');
  // The export waits a second for clients, and then for a transaction group, before it looks whether the pool is in use.
  const exporting = lab.run('zpool', ['export', 'tank']);
  await sleep(1500);
  client.destroy();
  const { code, stderr } = await exporting;
  if (code !== 0) t.regex(stderr, /busy/);
  rmSync(slow);
  if (code !== 0)
    await until('it can be exported', async () => (await lab.run('zpool', ['export', 'tank'])).code === 0);
  t.deepEqual(await lab.exports(), []);
});

test('an export waits for the close of a client that has left, however long that takes', async (t) => {
  const { lab, slow, client } = await slowDisk(t);
  const data = noise(MiB, 7);
  writeFileSync(slow, '');
  await client.writeAt(0, data);
  client.destroy();
  await lab.zpool('export', 'tank');
  t.deepEqual(await lab.exports(), []);
  rmSync(slow);
  await lab.zpool('import', '-d', lab.disks, 'tank');
  t.true((await (await lab.open('tank/v')).readAt(0, MiB)).equals(data));
});

test('volsize grows and shrinks, seen by whoever connects', async (t) => {
  const lab = await Lab.withPool(t, 512 * MiB, '-o', 'ashift=12');
  await lab.zfs('create', '-V', '16M', 'tank/v');
  const before = await lab.open('tank/v');
  const data = noise(MiB, 5);
  await before.writeAt(0, data);
  await lab.zfs('set', 'volsize=64M', 'tank/v');
  const after = await lab.open('tank/v');
  t.is(after.size, 64 * MiB);
  t.is((await after.writeAt(63 * MiB, data)).errno, 0);
  t.true((await after.readAt(0, data.length)).equals(data));
  t.true((await before.readAt(0, data.length)).equals(data), 'the client of before goes on');
  before.destroy();
  after.destroy();
  await lab.zfs('set', 'volsize=8M', 'tank/v');
  const small = await lab.open('tank/v');
  t.is(small.size, 8 * MiB);
  t.true((await small.readAt(0, data.length)).equals(data));
  small.destroy();
  await lab.finish('tank');
});

test('volsize shrinks under writers beyond the new end: they get ENOSPC or EINVAL, the pool leaks nothing', async (t) => {
  const lab = await Lab.withPool(t, 4096 * MiB);
  await lab.zfs('create', '-s', '-V', '512M', 'tank/v');
  const [writes, trims] = [new Set<number>(), new Set<number>()];
  let ends = false;
  const writers = Array.from({ length: 6 }, async (_, seed) => {
    const client = await lab.open('tank/v');
    const roll = dice(seed + 1);
    const data = noise(MiB, seed);
    while (!ends) {
      const offset = (8 + roll(500)) * MiB;
      if (roll(4) === 0) {
        trims.add((await client.request({ type: Cmd.TRIM, offset, length: MiB })).errno);
      } else {
        const flags = roll(8) === 0 ? CmdFlag.FUA : 0;
        writes.add((await client.writeAt(offset, data.subarray(0, 1 + roll(MiB)), flags)).errno);
      }
    }
    t.is((await client.writeAt(0, data)).errno, 0);
    client.destroy();
  });
  for (let i = 0; i < 40; i++) await lab.zfs('set', `volsize=${[8, 512, 64, 256][i % 4]}M`, 'tank/v');
  ends = true;
  await Promise.all(writers);
  t.deepEqual([...writes].sort(), [0, 28]);
  t.deepEqual([...trims].sort(), [0, 22]);
  await lab.finish('tank');
});

test('volumes beyond 1 TiB, up to what the host can count', async (t) => {
  const lab = await Lab.withPool(t, 512 * MiB, '-o', 'ashift=12');
  const size = 2 ** 53 - 16384;
  await lab.zfs('create', '-s', '-V', '1T', 'tank/v');
  await lab.zfs('set', 'volsize=3T', 'tank/v');
  await lab.zfs('set', `volsize=${size}`, 'tank/v');
  t.regex(await lab.fails('zfs', 'set', 'volsize=8P', 'tank/v'), /volume size exceeds limit/);
  t.regex(await lab.fails('zfs', 'create', '-s', '-V', '8P', 'tank/w'), /volume size exceeds limit/);
  const client = await lab.open('tank/v', 'extended');
  t.is(client.size, size);
  const data = noise(MiB, 6);
  const ends = [0, 2 ** 42 - 4096, size - data.length];
  for (const offset of ends) t.is((await client.writeAt(offset, data)).errno, 0);
  for (const offset of ends) t.true((await client.readAt(offset, data.length)).equals(data), `${offset}`);
  t.is((await client.request({ type: Cmd.READ, offset: size - 512, length: 1024 })).errno, 22);
  t.is((await client.request({ type: Cmd.TRIM, offset: 0, length: size })).errno, 0);
  t.true((await client.readAt(size - MiB, MiB)).equals(Buffer.alloc(MiB)));
  // Zeroes that keep their space are written, which takes for ever; the client's end stops it.
  client.sendRequest({ type: Cmd.WRITE_ZEROES, flags: CmdFlag.NO_HOLE, offset: 0, length: size });
  t.is((await client.writeAt(MiB, data)).errno, 0);
  client.destroy();
  await until('the volume is free', async () => (await lab.run('zfs', ['destroy', 'tank/v'])).code === 0);
  await lab.finish('tank');
});

test('a flush of a client that may only read covers what others wrote', async (t) => {
  const lab = await Lab.open(t);
  const disk = lab.disk('a');
  const options = {
    config: {
      tunables: { zfs_txg_timeout: 3600 },
      pools: { tank: { vdevs: [disk], create: {}, volumes: { v: { size: '16M' } } } },
      nbd: [{ unix: 'run/nbd.sock' }, { unix: 'run/ro.sock', read_only: true }],
    },
  };
  await lab.start(options);
  const writer = await lab.open('tank/v');
  const reader = await Client.open({ unix: join(lab.directory, 'run/ro.sock') }, 'tank/v');
  const data = noise(MiB, 7);
  t.is((await writer.writeAt(0, data)).errno, 0);
  t.is((await reader.request({ type: Cmd.FLUSH })).errno, 0);
  await lab.kill();
  reader.destroy();
  await lab.start(options);
  const again = await lab.open('tank/v');
  t.true((await again.readAt(0, data.length)).equals(data));
  again.destroy();
  await lab.finish('tank');
});

test('a readonly volume refuses writes, volmode=none hides it', async (t) => {
  const lab = await Lab.withPool(t, 512 * MiB, '-o', 'ashift=12');
  await lab.zfs('create', '-V', '16M', 'tank/v');
  await lab.zfs('set', 'readonly=on', 'tank/v');
  const info = JSON.parse(await must('nbdinfo', ['--json', lab.uri('tank/v')])).exports[0];
  t.true(info.is_read_only);
  await lab.zfs('set', 'readonly=off', 'tank/v');
  const client = await lab.open('tank/v');
  t.is((await client.writeAt(0, noise(4096))).errno, 0);
  client.destroy();
  await lab.zfs('create', '-V', '16M', '-o', 'volmode=none', 'tank/hidden');
  await t.throwsAsync(() => lab.open('tank/hidden'));
  await lab.finish('tank');
});

test('zeroes and trims give their space back', async (t) => {
  const lab = await Lab.withPool(t, 512 * MiB, '-o', 'ashift=12');
  await lab.zfs('create', '-s', '-V', '64M', '-o', 'volblocksize=16K', 'tank/v');
  const uri = lab.uri('tank/v');
  // nbdsh is for the distribution's Python, which need not be the first on the PATH.
  const script = (body: string) => must('nbdsh', ['-u', uri, '-c', body], { vars: { PATH: '/usr/bin:/bin' } });
  const used = async () => {
    await lab.zpool('sync');
    return Number(await lab.get('tank/v', 'referenced'));
  };
  await script('import os\nfor i in range(32): h.pwrite(os.urandom(1 << 20), i << 20)\nh.flush()');
  const full = await used();
  t.true(full > 30 * MiB, `${full} used by 32 MiB`);
  await script('h.trim(16 << 20, 0)\nh.flush()');
  const trimmed = await used();
  t.true(trimmed < full - 14 * MiB, `${trimmed} after a trim of the half`);
  await script('h.zero(16 << 20, 16 << 20)\nh.flush()');
  const zeroed = await used();
  t.true(zeroed < 2 * MiB, `${zeroed} after zeroing the rest`);
  await script('assert h.pread(32 << 20, 0) == bytearray(32 << 20)');
  await lab.finish('tank');
});

test('partial, unaligned and 512-byte requests agree with a model', async (t) => {
  const lab = await Lab.withPool(t, 512 * MiB, '-o', 'ashift=12');
  await lab.zfs('create', '-V', '8M', '-o', 'volblocksize=16K', 'tank/v');
  const client = await lab.open('tank/v');
  const model = Buffer.alloc(8 * MiB);
  const roll = dice(7);
  for (let i = 0; i < 400; i++) {
    const unit = [1, 512, 4096, 16384][roll(4)]!;
    const offset = roll(model.length / unit) * unit;
    const length = Math.min(model.length - offset, (1 + roll(40)) * unit);
    if (roll(3) === 0) {
      t.true((await client.readAt(offset, length)).equals(model.subarray(offset, offset + length)), `read ${i}`);
      continue;
    }
    const data = noise(length, i);
    data.copy(model, offset);
    t.is((await client.writeAt(offset, data, roll(10) === 0 ? CmdFlag.FUA : 0)).errno, 0);
  }
  t.true((await client.readAt(0, model.length)).equals(model));
  client.destroy();
  await lab.zpool('export', 'tank');
  await lab.zpool('import', '-d', lab.disks, 'tank');
  const again = await lab.open('tank/v');
  t.true((await again.readAt(0, model.length)).equals(model));
  again.destroy();
  await lab.finish('tank');
});

test('requests of 32 MiB', async (t) => {
  const lab = await Lab.withPool(t, 1024 * MiB, '-o', 'ashift=12');
  await lab.zfs('create', '-V', '128M', 'tank/v');
  const client = await lab.open('tank/v');
  const data = noise(32 * MiB, 8);
  t.is((await client.writeAt(0, data)).errno, 0);
  t.is((await client.writeAt(64 * MiB + 512, data)).errno, 0);
  t.true((await client.readAt(0, data.length)).equals(data));
  t.true((await client.readAt(64 * MiB + 512, data.length)).equals(data));
  client.destroy();
  await lab.finish('tank');
});

test('more clients and requests than a small host has memory for: they wait, none fails, none is forgotten', async (t) => {
  const lab = await Lab.open(t);
  const disk = lab.disk('a', 1024 * MiB);
  await lab.start({ config: { memory: '256M' } });
  await lab.zpool('create', '-o', 'ashift=12', 'tank', disk);
  await lab.zfs('create', '-s', '-V', '512M', 'tank/v');
  const tally = await load({
    address: lab.address,
    volume: 'tank/v',
    volumeBytes: 512 * MiB,
    connections: 64,
    depth: 32,
    sizes: [4096, 16384, 131072, MiB],
    seconds: 1,
  });
  t.is(errorsOf(tally), 'none');
  t.true(tally.requests >= 64 * 32);
  t.notRegex(lab.hostLog, /out of memory/);
  // The memory of the instance, and Node's own.
  const resident = lab.residentBytes();
  t.true(resident < 512 * MiB, `${resident / MiB} MiB resident`);
  await until('the clients are gone', async () => (await lab.run('zpool', ['export', 'tank'])).code === 0);
  await lab.zpool('import', '-d', lab.disks, 'tank');
  await lab.finish('tank');
});

test('a snapshot taken under a stream of writes is one moment of it', async (t) => {
  const lab = await Lab.withPool(t, 512 * MiB, '-o', 'ashift=12');
  await lab.zfs('create', '-V', '16M', '-o', 'volblocksize=4K', '-o', 'snapdev=visible', 'tank/v');
  const client = await lab.open('tank/v');
  let round = 0;
  let writing = true;
  // One block after the other gets the number of the round: a snapshot may show two numbers, in this order.
  const writer = (async () => {
    while (writing) {
      round++;
      for (let i = 0; i < 64 && writing; i++) await client.writeAt(i * 4096, numbered(round));
    }
  })();
  for (let i = 0; i < 4; i++) {
    await sleep(150);
    await lab.zfs('snapshot', `tank/v@s${i}`);
  }
  writing = false;
  await writer;
  for (let i = 0; i < 4; i++) {
    const snapshot = await lab.open(`tank/v@s${i}`);
    const content = await snapshot.readAt(0, 64 * 4096);
    snapshot.destroy();
    const rounds = Array.from({ length: 64 }, (_, block) => content.readUInt32LE(block * 4096));
    const drops = rounds.filter((value, block) => block > 0 && value !== rounds[block - 1]);
    t.true(drops.length <= 1, `snapshot ${i}: ${rounds}`);
    if (drops.length === 1) t.is(drops[0], rounds[0]! - 1);
  }
  client.destroy();
  await lab.finish('tank');
});

function numbered(value: number): Buffer {
  const block = Buffer.alloc(4096);
  for (let i = 0; i < block.length; i += 4) block.writeUInt32LE(value, i);
  return block;
}

test('nbdinfo: sizes and flags of a real volume', async (t) => {
  const lab = await Lab.withPool(t, 512 * MiB, '-o', 'ashift=12');
  await lab.zfs('create', '-V', '16M', '-o', 'volblocksize=8K', 'tank/v');
  const info = JSON.parse(await must('nbdinfo', ['--json', lab.uri('tank/v')])).exports[0];
  t.like(info, {
    'export-name': 'tank/v',
    'export-size': 16 * MiB,
    is_read_only: false,
    can_flush: true,
    can_fua: true,
    can_trim: true,
    can_zero: true,
    can_multi_conn: true,
    block_size_preferred: 8192,
    block_size_maximum: 32 * MiB,
  });
  await lab.finish('tank');
});

test('qemu-img convert of an image, and compare finds no difference', async (t) => {
  const lab = await Lab.withPool(t, 512 * MiB, '-o', 'ashift=12');
  const image = join(lab.directory, 'image.qcow2');
  const raw = join(lab.directory, 'image.raw');
  await must('truncate', ['-s', '64M', raw]);
  await must('mkfs.ext4', ['-q', '-F', '-d', join(import.meta.dirname, '..'), raw]);
  await must('qemu-img', ['convert', '-O', 'qcow2', '-c', raw, image]);
  await lab.zfs('create', '-s', '-V', '64M', 'tank/v');
  await must('qemu-img', ['convert', '-n', '-W', '-m', '8', '-O', 'raw', image, lab.uri('tank/v')]);
  t.regex(
    await must('qemu-img', ['compare', '-f', 'qcow2', '-F', 'raw', image, lab.uri('tank/v')]),
    /Images are identical/,
  );
  const map = JSON.parse(await must('qemu-img', ['map', '--output=json', '-f', 'raw', lab.uri('tank/v')]));
  t.true(
    map.some(({ zero }: { zero: boolean }) => zero),
    'holes are holes',
  );
  await lab.finish('tank');
});

test('nbdcopy both ways, several connections: equal checksums', async (t) => {
  const lab = await Lab.withPool(t, 512 * MiB, '-o', 'ashift=12');
  const image = join(lab.directory, 'image');
  const back = join(lab.directory, 'back');
  writeFileSync(image, Buffer.concat([noise(40 * MiB, 9), Buffer.alloc(8 * MiB), noise(16 * MiB, 10)]));
  await lab.zfs('create', '-V', '64M', 'tank/v');
  await must('nbdcopy', ['--flush', '--connections=4', '--requests=32', image, lab.uri('tank/v')]);
  await must('nbdcopy', ['--connections=4', lab.uri('tank/v'), back]);
  const sums = (await must('sha256sum', [image, back])).match(/[0-9a-f]{64}/g) as [string, string];
  t.is(sums[0], sums[1]);
  await lab.finish('tank');
});

test('fio: random writes at depth 32, verified, and verified again after a restart', async (t) => {
  const lab = await Lab.open(t);
  const config = {
    pools: {
      tank: { vdevs: ['mirror', 'disks/a', 'disks/b'], create: { size: '512M' }, volumes: { v: { size: '128M' } } },
    },
  };
  await lab.start({ config });
  const job = [
    '--name=w',
    '--ioengine=nbd',
    `--uri=${lab.uri('tank/v')}`,
    '--size=64M',
    '--bs=4k',
    '--rw=randwrite',
    '--iodepth=32',
    '--verify=crc32c',
    '--randseed=17',
  ];
  await must('fio', [...job, '--do_verify=1', '--verify_fatal=1'], { cwd: lab.directory });
  await lab.stop();
  await lab.zdb('tank');
  await lab.start({ config });
  const again = await execute('fio', [...job, '--verify_only=1', '--verify_fatal=1'], { cwd: lab.directory });
  t.is(again.code, 0, again.stdout + again.stderr);
  await lab.stop();
  await lab.zdb('tank');
});
