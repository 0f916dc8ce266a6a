import test from 'ava';
import { Lab, MiB, noise, until } from '../e2e/host.ts';
import { natively, promises } from './manual.ts';

/** zinject(8): every kind of fault, listed, at work, and cancelled. */

test('zinject: faults of data, devices, labels, delays, and what they do', async (t) => {
  const lab = await Lab.open(t);
  const [a, b] = lab.manyDisks(2, 128 * MiB) as [string, string];
  await lab.start();
  t.regex(await lab.zinject(), /^No handlers registered/);
  await lab.zpool('create', '-o', 'ashift=12', 'tank', 'mirror', a, b);
  await lab.zfs('create', '-V', '16M', '-o', 'primarycache=metadata', '-o', 'compression=off', 'tank/v');
  const client = await lab.open('tank/v');
  await client.writeAt(0, noise(MiB));
  await lab.zpool('sync');
  const objset = Number(await lab.get('tank/v', 'objsetid')).toString(16);

  await promises(t, lab, 'zinject', [
    [['-h'], 0, /usage:/],
    [['-x'], 2, /invalid option 'x'/],
    [['-c', '999'], 1, /failed to remove handler 999: No such file or directory/],
    [['-c', 'x'], 1, /invalid handle id 'x': must be an integer or 'all'/],
    [['-c', '1', 'tank'], 2, /extraneous argument to '-c'/],
    [['-d', a], 2, /requires a single pool name/],
    [['-d', '/nowhere', 'tank'], 1, /not a valid device|cannot find/],
    [['-d', a, '-e', 'nosuch', 'tank'], 1, /invalid error type 'nosuch'/],
    [['-d', a, '-T', 'nosuch', 'tank'], 1, /invalid I\/O type 'nosuch'/],
    [['-d', a, '-A', 'nosuch', 'tank'], 1, /must be 'degrade' or 'fault'/],
    [['-d', a, '-D', '0:1', 'tank'], 1, /invalid i\/o delay value: '0:1'/],
    [['-d', a, '-f', '101', 'tank'], 1, /out of range: frequency value must be in the range \[0.0001, 100.0\]/],
    [['-d', a, '-e', 'corrupt', 'tank'], 1, /corrupt errors require io type read and a frequency/],
    [['-b', '1:2', 'tank'], 1, /bad raw spec '1:2'/],
    [['-b', '1:2:0:0', 'nopool'], 1, /failed to add handler: (No such file|no such pool)/i],
    [['-t', 'nosuch', 'tank'], 1, /invalid type 'nosuch'/],
    [['-t', 'mos', '-C', '3', 'tank'], 1, /invalid DVA list '3'/],
    [['-t', 'data', '/tank/file'], 1, /cannot find mountpoint for '\/tank\/file'/],
    [['-t', 'dnode', '/tank/file'], 1, /cannot find mountpoint for '\/tank\/file'/],
    [['-I', '-s', '1', '-g', '1', 'tank'], 2, /choose a duration either in seconds \(-s\) or a number of txgs/],
    [['-P', 'import', '-s', '1', 'tank'], 1, /failed to add handler: pool already imported/],
  ]);

  // One of each that changes nothing yet; the natively built program lists the same.
  for (const args of [
    ['-d', a, '-e', 'io', '-T', 'claim', '-F', '-f', '0.5', 'tank'],
    ['-d', b, '-L', 'pad1', '-e', 'nxio', '-T', 'read', 'tank'],
    ['-d', b, '-D', '5:2', '-T', 'write', 'tank'],
    ['-b', `${objset}:1:0:ff`, 'tank'],
    ['-t', 'errlog', '-e', 'checksum', '-C', '0,2', '-l', '1', '-f', '1', '-am', 'tank'],
    ['-P', 'export', '-s', '1', 'tank'],
    ['-p', 'no_such_function', 'tank'],
  ]) {
    t.regex(
      await lab.zinject(...args),
      /^Added handler \d+ with the following properties:\n {2}pool: tank\n/,
      args.join(' '),
    );
  }
  t.regex(await lab.zinject('-q', '-t', 'config', 'tank'), /^\d+\n$/);
  const listed = await lab.run('zinject', []);
  t.regex(listed.stdout, / {2}tank +[0-9a-f]+ {2}claim {2}io +0\.5000% /);
  t.regex(listed.stdout, / {2}tank +[0-9a-f]+ +5 +2 +100\.0000%/);
  t.regex(listed.stdout, / errlog +0 +0x05 /);
  t.regex(listed.stdout, / tank +1 +export\n/);
  t.regex(listed.stdout, / tank +no_such_function\n/);
  t.deepEqual(listed, await natively(lab, 'zinject', []));
  const first = / (\d+) {2}tank/.exec(listed.stdout)![1]!;
  t.is(await lab.zinject('-c', first), `removed handler ${first}\n`);
  t.is(await lab.zinject('-c', 'all'), 'removed all registered handlers\n');
  t.regex(await lab.zinject(), /^No handlers registered/);

  // A block that cannot be read, of a volume: found by a scrub, named, and well again without the fault.
  await lab.zinject('-b', `${objset}:1:0:2`, '-e', 'checksum', 'tank');
  t.not((await client.request({ type: 0, offset: 32768, length: 4096 })).errno, 0);
  await lab.zpool('scrub', '-w', 'tank');
  t.regex(await lab.zpool('status', '-v', 'tank'), /Permanent errors have been detected[\s\S]*tank\/v:<0x1>/);
  t.regex(await lab.zinject(), / {2}1 +- +0 +0x00 {2}\[2, 2\] +[1-9]\d* +[1-9]/, 'matches are counted');
  await lab.zinject('-c', 'all');
  t.true((await client.readAt(0, MiB)).equals(noise(MiB)));
  await lab.zpool('scrub', '-e', '-w', 'tank');
  await lab.zpool('clear', 'tank');

  // Devices: errors, and a state.
  await lab.zinject('-d', a, '-e', 'io', '-T', 'read', 'tank');
  t.true((await client.readAt(0, MiB)).equals(noise(MiB)), 'the other side has it');
  t.regex(await lab.zpool('status', 'tank'), /d0 +\w+ +[1-9]/);
  await lab.zinject('-c', 'all');
  await lab.zpool('clear', 'tank');
  await lab.zinject('-d', a, '-A', 'degrade', 'tank');
  t.regex(await lab.zpool('status', 'tank'), /d0 +DEGRADED .* too many errors/);
  await lab.zinject('-d', a, '-A', 'fault', 'tank');
  t.regex(await lab.zpool('status', 'tank'), /d0 +FAULTED .* too many errors/);
  await lab.zpool('clear', 'tank');
  await until('it is well', async () => /state: ONLINE/.test(await lab.zpool('status', 'tank')));
  await lab.zpool('wait', '-t', 'resilver', 'tank');

  // The cache is emptied, the pool closed and opened again, an export and an import are delayed.
  await lab.zinject('-a');
  await lab.zinject('-P', 'export', '-s', '1', 'tank');
  client.destroy();
  await lab.zpool('export', 'tank');
  await lab.zinject('-P', 'import', '-s', '1', 'tank');
  await lab.zpool('import', '-d', lab.disks, 'tank');
  await lab.zinject('-u', 'tank');
  t.regex(await lab.zpool('status', 'tank'), /state: ONLINE/);
  await lab.finish('tank');
});

test('zinject -p panics a host of one core where it is told; -I ends it when its transactions are over', async (t) => {
  const lab = await Lab.open(t);
  const [a, b] = lab.manyDisks(2, 128 * MiB) as [string, string];
  await lab.start({ vars: { ZOW_ENGINES: 'one' } });
  await lab.zpool('create', 'tank', a);
  await lab.zinject('-p', 'spa_vdev_exit', 'tank');
  await lab.fails('zpool', 'add', '-f', 'tank', b);
  t.is(await lab.ended(), 70);
  t.regex(lab.hostLog, /spa_vdev_exit/);

  await lab.start({ vars: { ZOW_ENGINES: 'one' } });
  await lab.zpool('import', '-d', lab.disks, 'tank');
  await lab.zfs('create', '-V', '1M', 'tank/before');
  await lab.zpool('sync', 'tank');
  await lab.zinject('-I', '-g', '3', 'tank');
  for (let i = 0; i < 10; i++) await lab.run('zfs', ['create', '-s', '-V', '1M', `tank/lost${i}`]);
  await lab.run('zpool', ['sync', 'tank']);
  t.is(await lab.ended(), 70, 'at the end of it, the machine panics');
});
