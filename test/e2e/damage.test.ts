import { closeSync, openSync, renameSync, rmSync, writeFileSync, writeSync } from 'node:fs';
import { join } from 'node:path';
import test, { type ExecutionContext } from 'ava';
import { Cmd } from '../../host/protocols/nbd.ts';
import { dice, Lab, MiB, noise, until } from './host.ts';

/** Disks that lose or change what was written on them, under a running host. */
const diskBytes = 128 * MiB;
/** Of each end of a disk: the labels and the boot block, left alone here. */
const labelBytes = 4 * MiB;

/** Overwrites `count` random sectors of a disk between the labels. */
function damage(path: string, count: number, seed: number): void {
  const roll = dice(seed);
  const fd = openSync(path, 'r+');
  for (let i = 0; i < count; i++) {
    const sector = roll((diskBytes - 2 * labelBytes) / 4096);
    writeSync(fd, noise(4096, seed + i), 0, 4096, labelBytes + sector * 4096);
  }
  closeSync(fd);
}

async function filled(t: ExecutionContext<unknown>, ...vdevs: string[]): Promise<[Lab, Buffer, string[]]> {
  const lab = await Lab.open(t);
  const disks = lab.manyDisks(3, diskBytes);
  await lab.start();
  await lab.zpool('create', '-o', 'ashift=12', 'tank', ...vdevs, ...disks.slice(0, vdevs[0] === 'mirror' ? 2 : 3));
  await lab.zfs('create', '-V', '48M', 'tank/v');
  const data = noise(40 * MiB, 11);
  const client = await lab.open('tank/v');
  for (let at = 0; at < data.length; at += MiB) await client.writeAt(at, data.subarray(at, at + MiB));
  client.destroy();
  return [lab, data, disks];
}

async function readAll(lab: Lab, length: number): Promise<Buffer> {
  const client = await lab.open('tank/v');
  const parts: Buffer[] = [];
  for (let at = 0; at < length; at += 4 * MiB) parts.push(await client.readAt(at, 4 * MiB));
  client.destroy();
  return Buffer.concat(parts);
}

/** Export and import: nothing is in the cache any more. */
async function reimport(lab: Lab): Promise<void> {
  await lab.zpool('export', 'tank');
  await lab.zpool('import', '-d', lab.disks, 'tank');
}

for (const layout of ['mirror', 'raidz1']) {
  test(`damaged sectors of one disk of a ${layout}: right data, counted errors, scrub repairs, clear clears`, async (t) => {
    const [lab, data, disks] = await filled(t, layout);
    await lab.zpool('export', 'tank');
    damage(disks[0]!, 3000, 21);
    await lab.zpool('import', '-d', lab.disks, 'tank');
    t.true((await readAll(lab, data.length)).equals(data));
    await lab.zpool('scrub', '-w', 'tank');
    const status = await lab.zpool('status', '-v', 'tank');
    t.regex(status, /One or more devices has experienced an unrecoverable error/);
    const [, damaged] = /d0\s+\w+\s+0\s+0\s+(\S+)/.exec(status) ?? [];
    t.not(damaged, '0', status);
    t.regex(status, /d1\s+ONLINE\s+0\s+0\s+0/);
    t.regex(status, /scrub repaired [1-9]\S* in \S+ with 0 errors/);
    t.regex(status, /errors: No known data errors/);
    await lab.zpool('clear', 'tank');
    t.regex(await lab.zpool('status', 'tank'), /d0\s+ONLINE\s+0\s+0\s+0/);
    await lab.zpool('scrub', '-w', 'tank');
    t.regex(await lab.zpool('status', 'tank'), /scrub repaired 0B in \S+ with 0 errors/);
    await lab.finish('tank');
  });
}

test('damage without redundancy: the reader gets an error, the file is named, the rest is served', async (t) => {
  const lab = await Lab.open(t);
  const disk = lab.disk('a', diskBytes);
  await lab.start();
  await lab.zpool('create', '-o', 'ashift=12', 'tank', disk);
  await lab.zfs('create', '-V', '48M', 'tank/v');
  const client = await lab.open('tank/v');
  const data = noise(40 * MiB, 12);
  for (let at = 0; at < data.length; at += MiB) await client.writeAt(at, data.subarray(at, at + MiB));
  client.destroy();
  await lab.zpool('export', 'tank');
  damage(disk, 1500, 22);
  await lab.zpool('import', '-d', lab.disks, 'tank');
  const reader = await lab.open('tank/v');
  let failed = 0;
  let good = 0;
  for (let at = 0; at < data.length; at += 65536) {
    try {
      if ((await reader.readAt(at, 65536)).equals(data.subarray(at, at + 65536))) good++;
      else t.fail(`wrong data at ${at}`);
    } catch (error) {
      t.regex(String(error), /read: 5$/);
      failed++;
    }
  }
  t.true(failed > 0 && good > 0, `${failed} failed, ${good} good`);
  t.is((await reader.writeAt(0, noise(4096))).errno, 0);
  reader.destroy();
  t.regex(await lab.zpool('status', '-v', 'tank'), /Permanent errors have been detected[\s\S]*tank\/v:<0x1>/);
  await lab.zpool('export', 'tank');
  await lab.stop();
});

for (const layout of ['mirror', 'raidz1']) {
  test(`writes that one disk of a ${layout} refuses are missing there: zpool clear, or the next import, resilvers them`, async (t) => {
    const lab = await Lab.open(t);
    const disks = lab.manyDisks(layout === 'mirror' ? 2 : 3, diskBytes);
    const refusing = join(lab.directory, 'refusing');
    const vars = { ZOW_FAULTS: `disks/d1:error(op=write,p=0.2,seed=5,errno=EIO,while=${refusing})` };
    await lab.start({ vars });
    await lab.zpool('create', '-o', 'ashift=12', 'tank', layout, ...disks);
    await lab.zfs('create', '-V', '48M', 'tank/v');
    for (const heal of ['clear', 'import']) {
      const client = await lab.open('tank/v');
      writeFileSync(refusing, '');
      for (let at = 0; at < 8; at++) t.is((await client.writeAt(at * MiB, noise(MiB, at + heal.length))).errno, 0);
      t.is((await client.request({ type: Cmd.FLUSH })).errno, 0);
      await lab.zpool('sync', 'tank');
      rmSync(refusing);
      client.destroy();
      if (heal === 'clear') await lab.zpool('clear', 'tank');
      else await reimport(lab);
      await until('it is resilvered', async () =>
        /resilvered [1-9]\S* in .* with 0 errors/.test(await lab.zpool('status', 'tank')),
      );
      await lab.zpool('scrub', '-w', 'tank');
      t.regex(await lab.zpool('status', 'tank'), /scrub repaired 0B in \S+ with 0 errors/);
    }
    await lab.finish('tank');
  });
}

for (const layout of ['mirror', 'raidz1'] as const) {
  test(`what cannot be read while a disk of a ${layout} is resilvered is missing there still, and comes with the next one`, async (t) => {
    const lab = await Lab.open(t);
    const disks = lab.manyDisks(layout === 'mirror' ? 2 : 3, diskBytes);
    const [refusing, unreadable] = [join(lab.directory, 'refusing'), join(lab.directory, 'unreadable')];
    const faults = [
      `disks/d1:error(op=write,p=0.2,seed=5,errno=EIO,while=${refusing})`,
      `disks/d0:error(op=read,p=0.5,seed=7,errno=EIO,from=${4 * MiB},to=${100 * MiB},while=${unreadable})`,
    ];
    await lab.start({ vars: { ZOW_FAULTS: faults.join(';') }, config: { zed: false } });
    await lab.zpool('create', '-o', 'ashift=12', 'tank', layout, ...disks);
    await lab.zfs('create', '-V', '48M', 'tank/v');
    const client = await lab.open('tank/v');
    writeFileSync(refusing, '');
    for (let at = 0; at < 8; at++) t.is((await client.writeAt(at * MiB, noise(MiB, at))).errno, 0);
    t.is((await client.request({ type: Cmd.FLUSH })).errno, 0);
    await lab.zpool('sync', 'tank');
    rmSync(refusing);
    client.destroy();
    writeFileSync(unreadable, '');
    await lab.zpool('clear', 'tank');
    await until('it is resilvered, as far as it can be', async () =>
      /resilvered .* with [1-9]\d* errors/.test(await lab.zpool('status', 'tank')),
    );
    rmSync(unreadable);
    await lab.zpool('clear', 'tank');
    await until('it is resilvered', async () =>
      /resilvered [1-9]\S* in .* with 0 errors/.test(await lab.zpool('status', 'tank')),
    );
    await lab.zpool('scrub', '-w', 'tank');
    t.regex(await lab.zpool('status', 'tank'), /scrub repaired 0B in \S+ with 0 errors/);
    await lab.finish('tank');
  });
}

test('dnodes of what is being destroyed that cannot be read for a while: all is freed in the end', async (t) => {
  const [lab] = await filled(t, 'mirror');
  // Nothing of it is in the cache when it is destroyed.
  await lab.zfs('set', 'primarycache=none', 'tank/v');
  await lab.zpool('sync', 'tank');
  // The first block of dnodes of a destroyed objset.
  await lab.zinject('-a', '-e', 'io', '-b', 'ffffffffffffffff:0:0:0', 'tank');
  await lab.zfs('destroy', 'tank/v');
  await lab.zpool('sync', 'tank');
  const freeing = async () => Number(await lab.zpool('get', '-Hpo', 'value', 'freeing', 'tank'));
  t.true((await freeing()) > 8 * MiB);
  t.regex(await lab.zinject(), /tank .* [1-9]\d*\n/);
  await lab.zinject('-c', 'all');
  await until('all is freed', async () => {
    await lab.zpool('sync', 'tank');
    return (await freeing()) === 0;
  });
  await lab.finish('tank');
});

test('a disk that fails under a running mirror: degraded, I/O goes on; back again: online resilvers', async (t) => {
  const lab = await Lab.open(t);
  const [a, b] = lab.manyDisks(2, diskBytes) as [string, string];
  const broken = join(lab.directory, 'broken');
  const errors = `disks/d1:error(op=read|write|flush|trim,errno=ENXIO,while=${broken})`;
  await lab.start({ vars: { ZOW_FAULTS: errors } });
  await lab.zpool('create', '-o', 'ashift=12', 'tank', 'mirror', a, b);
  await lab.zfs('create', '-V', '48M', 'tank/v');
  const client = await lab.open('tank/v');
  const first = noise(8 * MiB, 13);
  const second = noise(8 * MiB, 14);
  t.is((await client.writeAt(0, first)).errno, 0);
  writeFileSync(broken, '');
  t.is((await client.writeAt(16 * MiB, second)).errno, 0);
  t.is((await client.request({ type: 3 })).errno, 0, 'a flush');
  // Its parents are told by zed(8) where there is one; the probe alone faults the disk.
  await until('the disk is given up', async () => {
    await client.writeAt(40 * MiB, noise(65536));
    await lab.zpool('sync', 'tank');
    return /d1\s+(FAULTED|UNAVAIL|REMOVED)/.test(await lab.zpool('status', 'tank'));
  });
  t.true((await client.readAt(16 * MiB, second.length)).equals(second));
  t.is((await client.writeAt(24 * MiB, first)).errno, 0);
  rmSync(broken);
  await lab.zpool('clear', 'tank', b);
  await lab.zpool('online', 'tank', b);
  await lab.zpool('wait', '-t', 'resilver', 'tank');
  t.regex(await lab.zpool('status', 'tank'), /state: ONLINE[\s\S]*resilvered/);
  t.true((await client.readAt(24 * MiB, first.length)).equals(first));
  client.destroy();
  await lab.zpool('scrub', '-w', 'tank');
  t.regex(await lab.zpool('status', 'tank'), /with 0 errors/);
  await lab.finish('tank');
});

test('a file that is moved away: the pool opens degraded without it, and resilvers when it is back', async (t) => {
  const [lab, data, disks] = await filled(t, 'mirror');
  await lab.zpool('export', 'tank');
  const away = join(lab.directory, 'away');
  renameSync(disks[1]!, away);
  await lab.zpool('import', '-d', lab.disks, 'tank');
  t.regex(await lab.zpool('status', 'tank'), /state: DEGRADED/);
  const client = await lab.open('tank/v');
  t.true((await client.readAt(0, MiB)).equals(data.subarray(0, MiB)));
  const more = noise(2 * MiB, 15);
  await client.writeAt(44 * MiB, more);
  renameSync(away, disks[1]!);
  await lab.zpool('online', 'tank', disks[1]!);
  await lab.zpool('wait', '-t', 'resilver', 'tank');
  t.regex(await lab.zpool('status', 'tank'), /state: ONLINE[\s\S]*resilvered \S+ in \S+ with 0 errors/);
  t.true((await client.readAt(44 * MiB, more.length)).equals(more));
  client.destroy();
  await reimport(lab);
  t.true((await readAll(lab, data.length)).equals(data));
  await lab.finish('tank');
});
