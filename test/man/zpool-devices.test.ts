import { renameSync, truncateSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import test, { type ExecutionContext } from 'ava';
import { Lab, MiB, noise, until } from '../e2e/host.ts';
import { layout, natively, promises, typed } from './manual.ts';

/**
 * What an administrator does to the devices of a pool: zpool-add(8), zpool-attach(8), zpool-detach(8), zpool-remove(8),
 * zpool-replace(8), zpool-offline(8), zpool-reopen(8), zpool-clear(8) and zpool-split(8), option by option.
 */

type Disks = [string, string, string, string, string, string, string, string];

interface Admin {
  readonly lab: Lab;
  readonly disks: Disks;
  readonly zpool: (line: string) => Promise<string>;
}

/** A host without zed, which would act too, and eight disks d0 to d7. */
async function open(
  t: ExecutionContext<unknown>,
  sizeBytes = 128 * MiB,
  vars: Readonly<Record<string, string>> = {},
): Promise<Admin> {
  const lab = await Lab.open(t);
  const disks = lab.manyDisks(8, sizeBytes) as Disks;
  await lab.start({ config: { zed: false }, vars });
  return { lab, disks, zpool: typed(lab) };
}

/** Writes a volume full of noise. */
async function filled(lab: Lab, volume: string, sizeBytes = 8 * MiB): Promise<void> {
  await lab.zfs('create', '-s', '-V', '64M', volume);
  const client = await lab.open(volume);
  for (let at = 0; at < sizeBytes; at += MiB) await client.writeAt(at, noise(MiB, at + 1));
  await client.request({ type: 3 });
  client.destroy();
  await lab.zpool('sync');
}

/** Whether it has what filled() wrote. */
async function intact(lab: Lab, volume: string, sizeBytes = 8 * MiB): Promise<boolean> {
  const client = await lab.open(volume);
  const read = await client.readAt(0, sizeBytes);
  client.destroy();
  const parts = Array.from({ length: sizeBytes / MiB }, (_, i) => noise(MiB, i * MiB + 1));
  return read.equals(Buffer.concat(parts));
}

test('zpool add', async (t) => {
  // Pools with engines of their own share no spares (docs/limits.md).
  const { lab, disks, zpool } = await open(t, 128 * MiB, { ZOW_ENGINES: 'one' });
  const [a, b, c, d, e, f, g, h] = disks;
  await zpool(`create tank mirror ${a} ${b}`);
  await zpool(`create other ${h}`);
  const planned = await zpool(`add -nP tank mirror ${c} ${d} log ${e}`);
  t.is(
    planned,
    `would update 'tank' to the following configuration:\n\n\ttank\n\t  mirror-0\n\t    ${a}\n\t    ${b}\n\t  mirror\n\t    ${c}\n\t    ${d}\n\tlogs\n\t  ${e}`,
  );
  const guid = await zpool(`get -Ho value guid tank ${a}`);
  t.true((await zpool(`add -gn tank mirror ${c} ${d}`)).includes(`\n\t    ${guid}\n`));
  await promises(t, lab, 'zpool', [
    ['add', 2, /missing pool name argument/],
    ['add tank', 2, /missing vdev specification/],
    ['add -z tank x', 2, /invalid option 'z'/],
    [`add nopool ${c}`, 1, /cannot open 'nopool': no such pool/],
    [
      `add tank ${c}`,
      1,
      /use '-f' to override[\s\S]*mismatched replication level: pool uses mirror and new vdev is file/,
    ],
    [`add tank mirror ${c} ${d} ${e}`, 1, /pool uses 2-way mirror and new vdev uses 3-way mirror/],
    [
      `add tank raidz2 ${c} ${d} ${e}`,
      1,
      /pool and new vdev with different redundancy, raidz and mirror vdevs, 2 vs. 1/,
    ],
    [`add -o ashift=12 tank mirror ${c} ${d}`, 1, /devices with different physical sector sizes is not allowed/],
    [`add -o ashift=8 tank mirror ${c} ${d}`, 1, /'ashift=8' property: only values between 9 and 16 are allowed/],
    [`add -o comment=x tank mirror ${c} ${d}`, 2, /usage:\n\s*add/],
    [`add -f tank mirror ${c} ${a}`, 1, /d0 is part of active pool 'tank'/],
    [`add -f tank mirror ${c} ${h}`, 1, /d7 is part of active pool 'other'/],
    [`add tank log raidz1 ${c} ${d}`, 1, /raidz|log/],
    [`add tank spare mirror ${c} ${d}`, 1, /unsupported 'spare' device|spare/],
    [`add tank nodisk`, 1, /cannot open 'nodisk': no such device/],
  ]);
  t.is(await layout(lab, 'tank'), 'tank[mirror-0[d0 d1]]');
  await zpool(`add tank mirror ${c} ${d}`);
  await zpool(`add tank log ${e} cache ${f} spare ${g}`);
  t.is(await layout(lab, 'tank'), 'tank[mirror-0[d0 d1] mirror-1[d2 d3]] logs[d4] cache[d5] spares[d6]');
  // A spare may be several pools'.
  await zpool(`add other spare ${g}`);
  t.is(await layout(lab, 'other'), 'other[d7] spares[d6]');

  const [i, j, k, l, m] = lab.manyDisks(5, 128 * MiB, 'e') as [string, string, string, string, string];
  await zpool(`add --allow-ashift-mismatch -o ashift=12 tank mirror ${i} ${j}`);
  t.is(await zpool(`get -Ho value ashift tank mirror-0,mirror-3`.replace(',', ' ')), '9\n12');
  await zpool(`add --allow-replication-mismatch other special mirror ${k} ${l}`);
  t.is(await layout(lab, 'other'), 'other[d7] special[mirror-1[e2 e3]] spares[d6]');
  await zpool('export other');
  t.regex(await lab.fails('zpool', 'add', 'tank', 'log', h), /d7 is part of exported pool 'other'/);
  await zpool(`add --allow-in-use tank log ${h}`);
  await zpool(`add -f tank ${m}`);
  t.is(
    await layout(lab, 'tank'),
    'tank[mirror-0[d0 d1] mirror-1[d2 d3] mirror-3[e0 e1] e4] logs[d4 d7] cache[d5] spares[d6]',
  );
});

test('zpool attach, detach and replace', async (t) => {
  const { lab, disks, zpool } = await open(t);
  const [a, b, c, d, e, f, g, h] = disks;
  const small = lab.disk('small', 96 * MiB);
  await zpool(`create tank ${a} log ${f} spare ${g}`);
  await filled(lab, 'tank/v');
  await promises(t, lab, 'zpool', [
    ['attach', 2, /missing pool name argument/],
    ['attach tank', 2, /missing <device> specification/],
    [`attach tank ${a}`, 2, /missing <new_device> specification/],
    [`attach tank ${a} ${b} ${c}`, 2, /too many arguments/],
    [`attach nopool ${a} ${b}`, 1, /cannot open 'nopool': no such pool/],
    [`attach tank ${h} ${b}`, 255, /cannot attach \S+d1 to \S+d7: no such device in pool/],
    [`attach tank ${a} ${small}`, 255, /cannot attach \S+small to \S+d0: device is too small/],
    [`attach tank ${g} ${b}`, 255, /cannot attach \S+d1 to \S+d6: device is reserved as a hot spare/],
    [`attach -o comment=x tank ${a} ${b}`, 2, /usage:\n\s*attach/],
    ['detach', 2, /missing pool name argument/],
    ['detach tank', 2, /missing <device> specification/],
    [`detach tank ${a}`, 255, /cannot detach \S+d0: only applicable to mirror and replacing vdevs/],
    [`detach tank ${g}`, 255, /cannot detach \S+d6: device is reserved as a hot spare/],
    ['replace', 2, /missing pool name argument/],
    ['replace tank', 2, /missing <device> specification/],
    [`replace tank ${a} ${small}`, 255, /cannot replace \S+d0 with \S+small: device is too small/],
    [`replace tank ${h} ${b}`, 255, /cannot replace \S+d7 with \S+d1: no such device in pool/],
    [`replace tank ${g} ${b}`, 255, /cannot replace \S+d6 with \S+d1: device is reserved as a hot spare/],
    [`replace tank ${a} ${a}`, 1, /d0 is part of active pool 'tank'/],
    [`replace tank ${a} ${f}`, 1, /d5 is part of active pool 'tank'/],
    [`replace -o size=1 tank ${a} ${b}`, 2, /usage:\n\s*replace/],
  ]);
  t.is(await layout(lab, 'tank'), 'tank[d0] logs[d5] spares[d6]');

  await zpool(`attach -w tank ${a} ${b}`);
  t.is(await layout(lab, 'tank'), 'tank[mirror-0[d0 d1]] logs[d5] spares[d6]');
  t.regex(await zpool('status tank'), /scan: resilvered [1-9]\S* in \S+ with 0 errors/);
  // -s rebuilds in sequence, and verifies checksums with a scrub after it.
  // The manual has mirrors by their name too; upstream's code does not.
  t.regex(await lab.fails('zpool', 'attach', 'tank', 'mirror-0', c), /can only attach to mirrors and top-level disks/);
  await zpool(`attach -sw tank ${a} ${c}`);
  t.regex(await zpool('status tank'), /scan: (resilvered \(mirror-0\) [1-9]|scrub )/);
  await zpool('wait -t scrub,resilver tank');
  t.regex(await zpool('status tank'), /scan: scrub repaired 0B in \S+ with 0 errors/);
  await zpool(`attach -w tank ${f} ${e}`);
  t.is(await layout(lab, 'tank'), 'tank[mirror-0[d0 d1 d2]] logs[mirror-1[d5 d4]] spares[d6]');
  await zpool(`detach tank ${f}`);
  for (const gone of [a, b]) await zpool(`detach tank ${gone}`);
  t.is(await layout(lab, 'tank'), 'tank[d2] logs[d4] spares[d6]');
  t.true(await intact(lab, 'tank/v'));
  t.regex(await lab.fails('zpool', 'detach', 'tank', c), /only applicable to mirror and replacing vdevs/);

  await zpool(`replace -w tank ${c} ${d}`);
  await zpool(`replace -sw tank ${d} ${a}`);
  await zpool('wait tank');
  t.is(await layout(lab, 'tank'), 'tank[d0] logs[d4] spares[d6]');
  t.true(await intact(lab, 'tank/v'));

  // Without a new device: the old one's path has another disk now. It is no other's, so it needs no -f.
  await zpool(`attach -w tank ${a} ${b}`);
  await zpool(`offline tank ${a}`);
  lab.disk('d0', 128 * MiB);
  await zpool(`replace -w tank ${a}`);
  t.is(await layout(lab, 'tank'), 'tank[mirror-0[d0 d1]] logs[d4] spares[d6]');
  // The last one with the data is not taken away.
  await zpool(`offline tank ${a}`);
  t.regex(await lab.fails('zpool', 'offline', 'tank', b), /cannot offline \S+d1: no valid replicas/);
  t.regex(await lab.fails('zpool', 'detach', 'tank', b), /cannot detach \S+d1: no valid replicas/);
  // Example 12: a spare takes the place of a failed disk until that is replaced.
  await zpool(`replace -w tank ${a} ${g}`);
  t.is(
    await layout(lab, 'tank'),
    'tank:DEGRADED[mirror-0:DEGRADED[spare-0:DEGRADED[d0:OFFLINE d6] d1]] logs[d4] spares[d6:INUSE]',
  );
  t.regex(await lab.fails('zpool', 'remove', 'tank', g), /cannot remove \S+d6: Pool busy/);
  await zpool(`replace -w tank ${a} ${h}`);
  await until('the spare is free', async () => /spares\[d6\]$/.test(await layout(lab, 'tank')));
  await zpool(`remove tank ${g}`);
  t.is(await layout(lab, 'tank'), 'tank[mirror-0[d7 d1]] logs[d4]');
  t.true(await intact(lab, 'tank/v'));
  await lab.finish('tank');
});

test('zpool attach to a raidz; what raidz and draid cannot', async (t) => {
  const { lab, disks, zpool } = await open(t, 256 * MiB);
  const [a, b, c, d, e, f, g, h] = disks;
  await zpool(`create -o feature@raidz_expansion=disabled old raidz1 ${a} ${b}`);
  await zpool(`create tank raidz1 ${c} ${d} ${e}`);
  await filled(lab, 'tank/v');
  await promises(t, lab, 'zpool', [
    [`attach old raidz1-0 ${f}`, 255, /cannot attach \S+d5 to raidz1-0: .*raidz_expansion.* must be enabled/],
    [`attach tank raidz1-9 ${f}`, 255, /no such device in pool/],
    [`attach -s tank raidz1-0 ${f}`, 255, /cannot attach \S+d5 to raidz1-0: /],
    [`attach tank ${c} ${f}`, 255, /can only attach to mirrors and top-level disks|raidz/],
    [`replace -s tank ${c} ${f}`, 255, /cannot replace \S+d2 with \S+d5: .*(sequential|rebuild)/],
    [`detach tank ${c}`, 255, /cannot detach \S+d2: only applicable to mirror and replacing vdevs/],
    [`remove tank ${c}`, 1, /cannot remove \S+d2: .*/],
    ['remove tank raidz1-0', 1, /cannot remove raidz1-0: /],
    ['split tank half', 1, /Source pool must be composed only of mirrors/],
  ]);
  await zpool(`attach -w tank raidz1-0 ${f}`);
  t.is(await layout(lab, 'tank'), 'tank[raidz1-0[d2 d3 d4 d5]]');
  await zpool('destroy old');
  await zpool(`create -f dr draid1:2d:4c:1s ${a} ${b} ${g} ${h}`);
  t.regex(await lab.fails('zpool', 'attach', 'dr', 'draid1:2d:4c:1s-0', a), /cannot attach|part of active/);
  t.regex(await lab.fails('zpool', 'remove', 'dr', 'draid1-0-0'), /cannot remove draid1-0-0/);
  t.true(await intact(lab, 'tank/v'));
  await lab.finish('tank', 'dr');
});

test('zpool offline and online', async (t) => {
  const { lab, disks, zpool } = await open(t);
  const [a, b, c, d, spare] = disks;
  await zpool(`create tank mirror ${a} ${b} spare ${spare}`);
  await zpool(`create other mirror ${c} ${d}`);
  await filled(lab, 'tank/v');
  await promises(t, lab, 'zpool', [
    ['offline', 2, /missing pool name/],
    ['offline tank', 2, /missing device name/],
    [`offline nopool ${a}`, 1, /cannot open 'nopool': no such pool/],
    [`offline tank ${c}`, 1, /cannot offline \S+d2: no such device in pool/],
    [`offline tank ${spare}`, 1, /cannot offline \S+d4: device is reserved as a hot spare/],
    ['offline tank mirror-0', 1, /cannot offline mirror-0: .*/],
    [`offline -ft --power tank ${a}`, 2, /cannot be used|not compatible|with the -f or -t/],
    ['online', 2, /missing pool name/],
    ['online tank', 2, /missing device name/],
    [`online tank ${c}`, 1, /d2/],
    [`online tank ${spare}`, 1, /cannot online \S+d4: device is reserved as a hot spare/],
  ]);

  const again = async (pool: string) => {
    await zpool(`export ${pool}`);
    await zpool(`import -d ${lab.disks} ${pool}`);
  };
  // Offline outlives an import, a temporary one does not; so do faults.
  const degraded = (state: string) => `tank:DEGRADED[mirror-0:DEGRADED[d0 d1:${state}]] spares[d4]`;
  for (const [flags, state, persists] of [
    ['', 'OFFLINE', true],
    ['-t ', 'OFFLINE', false],
    ['-f ', 'FAULTED', true],
    ['-ft ', 'FAULTED', false],
  ] as const) {
    await zpool(`offline ${flags}tank ${b}`);
    t.is(await layout(lab, 'tank'), degraded(state), flags);
    await again('tank');
    const shown = persists ? degraded(state) : 'tank[mirror-0[d0 d1]] spares[d4]';
    t.is(await layout(lab, 'tank'), shown, `${flags}imported`);
    if (state === 'FAULTED' && persists) {
      t.regex(await zpool('status tank'), /d1\s+FAULTED\s+0\s+0\s+0\s+external device fault/);
      await zpool(`clear tank ${b}`);
    } else {
      await zpool(`online tank ${b}`);
    }
    await zpool('wait -t resilver tank');
    t.is(await layout(lab, 'tank'), 'tank[mirror-0[d0 d1]] spares[d4]', `${flags}back`);
  }
  t.true(await intact(lab, 'tank/v'));

  // -e: all of a mirror's devices have to grow before the pool can.
  const size = async () => Number(await zpool('get -Hpo value size other'));
  const before = await size();
  truncateSync(c, 256 * MiB);
  await zpool(`online -e other ${c}`);
  t.is(await size(), before);
  truncateSync(d, 256 * MiB);
  await zpool(`online -e other ${c} ${d}`);
  await until('it has grown', async () => (await size()) > before + 64 * MiB);
  await lab.finish('tank', 'other');
});

test('zpool reopen and zpool clear', async (t) => {
  const { lab, disks, zpool } = await open(t);
  const [a, b, c] = disks;
  await zpool(`create -O primarycache=metadata tank mirror ${a} ${b}`);
  await zpool(`create other ${c}`);
  await filled(lab, 'tank/v');
  await promises(t, lab, 'zpool', [
    ['reopen nopool', 1, /cannot open 'nopool': no such pool/],
    ['reopen -x', 2, /invalid option 'x'/],
    ['clear', 2, /missing pool name/],
    ['clear nopool', 1, /cannot open 'nopool': no such pool/],
    [`clear tank ${c}`, 1, /cannot clear errors for \S+d2: no such device in pool/],
    ['clear -x tank', 2, /invalid option 'x'/],
  ]);
  const errors = async () =>
    [...(await zpool('status -p tank')).matchAll(/\/d[01]\s+\S+\s+(\d+)\s+(\d+)\s+(\d+)/g)].map(([, ...counts]) =>
      counts.join(' '),
    );
  t.deepEqual(await errors(), ['0 0 0', '0 0 0']);
  for (const disk of [a, b]) await lab.zinject('-d', disk, '-e', 'corrupt', '-T', 'read', '-f', '25', 'tank');
  await zpool('scrub -w tank');
  await lab.zinject('-c', 'all');
  const [first, second] = await errors();
  for (const counts of [first, second]) t.regex(counts!, /^0 0 [1-9]/);
  await zpool(`clear tank ${a}`);
  t.deepEqual(await errors(), ['0 0 0', second]);
  await zpool('clear tank');
  t.deepEqual(await errors(), ['0 0 0', '0 0 0']);
  await zpool('scrub -w tank');
  t.regex(await zpool('status tank'), /repaired .* with 0 errors/);
  t.true(await intact(lab, 'tank/v'));

  // A file that is away is found missing, one that is back is resilvered.
  renameSync(b, `${b}.away`);
  await zpool('reopen -n tank');
  const missed = 'tank:DEGRADED[mirror-0:DEGRADED[d0 d1:REMOVED]]';
  await until('it is missed', async () => (await layout(lab, 'tank')) === missed);
  renameSync(`${b}.away`, b);
  await zpool('reopen');
  await zpool(`online tank ${b}`);
  await zpool('wait -t resilver tank');
  t.is(await layout(lab, 'tank'), 'tank[mirror-0[d0 d1]]');
  await zpool('reopen tank other');
  await lab.finish('tank', 'other');
});

test('zpool remove', async (t) => {
  const { lab, disks, zpool } = await open(t, 256 * MiB);
  const [a, b, c, d, e, f, g, h] = disks;
  // Example 15: a mirrored log device, then mirrored data.
  await zpool(`create tank mirror ${a} ${b} mirror ${c} ${d} log mirror ${e} ${f} cache ${g} spare ${h}`);
  await filled(lab, 'tank/v', 32 * MiB);
  await promises(t, lab, 'zpool', [
    ['remove', 2, /missing pool name argument/],
    ['remove tank', 2, /missing device/],
    ['remove -s tank mirror-1', 2, /too many arguments/],
    ['remove -s tank', 1, /cannot cancel removal: operation is not in progress/],
    ['remove -sn tank', 0, /stop request ignored/],
    [`remove nopool ${a}`, 1, /cannot open 'nopool': no such pool/],
    ['remove tank mirror-9', 1, /cannot remove mirror-9: no such device in pool/],
    [`remove tank ${a}`, 1, /cannot remove \S+d0: operation not supported on this type of pool|only/],
    [`remove -n tank ${g}`, 0, /Memory that will be used after removing \S+d6: 0\n/],
    ['remove -n tank mirror-1', 0, /Memory that will be used after removing mirror-1: \d/],
    ['remove -np tank mirror-1', 0, /^mirror-1 \d+\n/],
  ]);
  await zpool(`remove tank mirror-2 ${g} ${h}`);
  await zpool('wait -t remove tank');
  t.is(await layout(lab, 'tank'), 'tank[mirror-0[d0 d1] mirror-1[d2 d3]]');

  // -s stops what -w would wait for. A slow disk gives the time.
  await lab.zow('tunable', 'zfs_removal_suspend_progress=1');
  await zpool('remove tank mirror-1');
  t.regex(await zpool('status tank'), /remove: Evacuation of mirror in progress since/);
  t.is(await zpool('get -Ho value removing tank mirror-1'), 'on');
  for (const line of ['remove tank mirror-0', 'checkpoint tank']) {
    t.regex(await lab.fails('zpool', ...line.split(' ')), /cannot .*/, line);
  }
  await zpool('remove -s tank');
  t.regex(await zpool('status tank'), /remove: Removal of mirror canceled on/);
  t.is(await layout(lab, 'tank'), 'tank[mirror-0[d0 d1] mirror-1[d2 d3]]');
  await lab.zow('tunable', 'zfs_removal_suspend_progress=0');

  await zpool('remove -w tank mirror-1');
  t.is(await layout(lab, 'tank'), 'tank[mirror-0[d0 d1]]');
  t.regex(await zpool('status tank'), /remove: Removal of vdev 1 copied [1-9]\S* in .*, completed on/);
  t.regex(await lab.fails('zpool', 'remove', 'tank', 'mirror-0'), /cannot remove mirror-0: /);
  t.true(await intact(lab, 'tank/v', 32 * MiB));
  // What was removed is free for others.
  await zpool(`create other ${c} ${d}`);
  await lab.finish('tank', 'other');
});

test('zpool split', async (t) => {
  const { lab, disks, zpool } = await open(t);
  const [a, b, c, d, e, f, g] = disks;
  const key = join(lab.directory, 'key');
  writeFileSync(key, 'passphrase');
  await zpool(`create tank mirror ${a} ${b} ${g} mirror ${c} ${d} ${f} log ${e}`);
  const encrypted = ['-o', 'encryption=on', '-o', 'keyformat=passphrase', '-o', `keylocation=file://${key}`];
  await lab.zfs('create', '-u', ...encrypted, 'tank/secret');
  await filled(lab, 'tank/v');
  await promises(t, lab, 'zpool', [
    ['split', 2, /Missing pool name/],
    ['split tank', 2, /Missing new pool name/],
    ['split nopool half', 1, /cannot open 'nopool': no such pool/],
    ['split tank tank', 1, /Unable to split tank: pool already exists/],
    ['split tank 9half', 1, /Unable to split tank|name must begin with a letter/],
    [`split tank half ${a} ${b}`, 1, /Device list must include at most one disk from each mirror/],
    [`split tank half ${lab.disks}/nodisk`, 1, /cannot resolve path '\S+nodisk'/],
    ['split -l tank half', 2, /loading keys is only valid when importing the pool/],
    ['split -R relative tank half', 1, /bad alternate root 'relative'/],
    ['split -o bootfs=tank tank half', 1, /property 'bootfs' cannot be set at creation or import time/],
    ['split -o nosuch=1 tank half', 2, /property 'nosuch' is not a valid pool or vdev property/],
    ['split -n tank half', 0, /^would create 'half' with the following layout:\n\n\thalf\n\t {2}\S+d6\n\t {2}\S+d5\n/],
    [`split -nP tank half ${a}`, 0, /\thalf\n\t {2}\S+d0\n\t {2}\S+d5\n/],
  ]);
  const guid = await zpool(`get -Ho value guid tank ${a}`);
  t.true((await zpool(`split -gn tank half ${a}`)).includes(`\t  ${guid}\n`));

  // The devices named, and the last of each mirror where none is; it stays exported without -R.
  await zpool(`split -o comment=second tank half ${a}`);
  t.is(await layout(lab, 'tank'), 'tank[mirror-0[d1 d6] mirror-1[d2 d3]] logs[d4]');
  t.is(await zpool('list -Ho name'), 'tank');
  await zpool(`import -d ${lab.disks} half`);
  t.is(await layout(lab, 'half'), 'half[d0 d5]');
  t.is(await zpool('get -Ho value comment half'), 'second');
  t.true(await intact(lab, 'half/v'));

  await zpool('split -R /alt -l tank third');
  t.is(await layout(lab, 'third'), 'third[d6 d3]');
  t.is(await zpool('get -Ho value altroot third'), '/alt');
  t.is(await lab.get('third/secret', 'keystatus'), 'available');
  t.true(await intact(lab, 'third/v'));
  t.true(await intact(lab, 'tank/v'));
  t.is(await layout(lab, 'tank'), 'tank[d1 d2] logs[d4]');
  for (const pool of ['half', 'third']) await zpool(`scrub -w ${pool}`);

  await zpool('export half');
  const checked = await natively(lab, 'zdb', ['-l', a]);
  t.regex(checked.stdout, /name: 'half'/);
});
