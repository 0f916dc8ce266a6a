import { join } from 'node:path';
import test, { type ExecutionContext } from 'ava';
import { execute, Lab, MiB, root } from '../e2e/host.ts';
import { promises } from './manual.ts';

/** zpool-upgrade(8), on the pools of old versions that upstream keeps for its own tests. */

const samples = join(root, 'zfs-src/upstream/2.4.3/tests/zfs-tests/tests/functional/cli_root/zpool_upgrade/blockfiles');

async function unpack(t: ExecutionContext<unknown>, lab: Lab, pattern: string): Promise<void> {
  const script = 'for f in "$1"/$2; do bzip2 -dkc "$f" > "$3/$(basename "$f" .bz2)" || exit 1; done';
  const { code, stderr } = await execute('/bin/bash', ['-c', script, 'sh', samples, pattern, lab.disks]);
  t.is(code, 0, stderr);
}

test('pools of every old version are imported at once, listed by zpool upgrade, and upgraded', async (t) => {
  const lab = await Lab.open(t);
  await unpack(t, lab, 'zfs-pool-v[0-9].dat.bz2');
  await unpack(t, lab, 'zfs-pool-v1[0-5].dat.bz2');
  await unpack(t, lab, 'zfs-pool-v3raidz2?.dat.bz2');
  await unpack(t, lab, 'zfs-pool-v999.dat.bz2');
  await lab.start();
  const all = await lab.run('zpool', ['import', '-a', '-d', lab.disks]);
  t.is(all.code, 1);
  t.is(all.stderr, "cannot import 'v999-pool': pool is formatted using an unsupported ZFS version\n");
  const expected = Array.from({ length: 15 }, (_, i) => `v${i + 1}-pool\t${i + 1}\tONLINE`);
  const list = await lab.zpool('list', '-Ho', 'name,version,health');
  t.deepEqual(list.trimEnd().split('\n').sort(), [...expected, 'pool-v3raidz2\t3\tONLINE'].sort());

  t.regex(
    await lab.zpool('upgrade'),
    /formatted with legacy version numbers[\s\S]*\n 1 {3}v1-pool\n[\s\S]*15 {3}v15-pool/,
  );
  t.regex(await lab.zpool('upgrade', '-v'), /^ 28 {2}Multiple vdev replacements$/m);
  await promises(t, lab, 'zpool', [
    [['upgrade', '-V', '99', 'v5-pool'], 2, /invalid version '99'[\s\S]*usage:/],
    [['upgrade', '-V', '3', 'v5-pool'], 0, /already formatted using more current version '5'/],
    [['upgrade', 'nopool'], 1, /cannot open 'nopool': no such pool/],
    [['upgrade', '-a', 'v5-pool'], 2, /-a option should not be used along with a pool name/],
  ]);
  t.regex(
    await lab.zpool('upgrade', '-V', '10', 'v5-pool'),
    /Successfully upgraded 'v5-pool' from version 5 to version 10/,
  );
  t.is(await lab.zpool('get', '-Ho', 'value', 'version', 'v5-pool'), '10\n');
  await lab.zpool('set', 'version=12', 'v5-pool');
  // The list of pools changes all the while.
  await lab.zpool('create', 'other', lab.disk('other', 64 * MiB));
  // What is freed is overwritten, so that who reads it comes to grief (mallopt(3)).
  const vars = { ZOW_SOCKET: lab.socket, MALLOC_PERTURB_: '165' };
  const upgraded = execute(join(root, 'cli/native/bin/zpool'), ['upgrade', '-a'], { vars });
  let over = false;
  const changing = (async () => {
    for (let i = 0; !over; i++) await lab.zpool('set', `comment=${i}`, 'other');
  })();
  t.regex((await upgraded).stdout, /Successfully upgraded 'v15-pool' from version 15 to feature flags/);
  over = true;
  await changing;
  t.is(new Set((await lab.zpool('list', '-Ho', 'version')).trim().split('\n')).size, 1);
  await lab.zpool('sync');
  const left = (await lab.zpool('upgrade')).match(/^ {6}.*$/gm)!;
  t.deepEqual([...new Set(left)], ['      dynamic_gang_header(*)'], 'which is enabled by zpool set alone');
});
