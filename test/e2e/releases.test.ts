import { existsSync } from 'node:fs';
import { join } from 'node:path';
import test, { type ExecutionContext } from 'ava';
import releases from '../../zfs-src/releases.json' with { type: 'json' };
import { unless } from '../skip.ts';
import { Lab, long, MiB, noise, root } from './host.ts';

/** Pools go from one release of OpenZFS to another and back, as far as their features let them. */

const older = '2.3.2';
const isBuilt = existsSync(join(root, `build/${older}/wasm/zow.wasm`));
if (long && !isBuilt) throw new Error(`OpenZFS ${older} is not built; run ./build.sh --release ${older} wasm`);
// Skipped where the older release is not built: the short form of the tests only compiles its core, which takes a minute less.
const scenario = unless(
  isBuilt ? undefined : `OpenZFS ${older} is not built: ./build.sh --release ${older} wasm`,
  test,
);

const data = noise(4 * MiB, 23);

async function fill(lab: Lab, volume: string, blockSize = '16K'): Promise<void> {
  await lab.zfs('create', '-V', '16M', '-b', blockSize, '-o', 'compression=zstd', volume);
  const client = await lab.open(volume);
  await client.writeAt(0, data);
  client.destroy();
}

async function holds(t: ExecutionContext<unknown>, lab: Lab, volume: string): Promise<void> {
  const client = await lab.open(volume);
  t.true((await client.readAt(0, data.length)).equals(data), volume);
  client.destroy();
}

/** Ends the host, and starts one of another release. */
async function change(lab: Lab, release: string): Promise<void> {
  await lab.stop();
  await lab.start({ release });
}

async function features(lab: Lab, pool: string, state: string): Promise<string[]> {
  const all = await lab.zpool('get', '-Ho', 'property,value', 'all', pool);
  return [...all.matchAll(/^feature@(\S+)\t(\S+)$/gm)]
    .filter(([, , value]) => value === state)
    .map(([, name]) => name!);
}

scenario(`a pool of ${older} is imported by ${releases.default}, keeps its data, and is upgraded`, async (t) => {
  const lab = await Lab.open(t);
  const disks = lab.manyDisks(3, 128 * MiB);
  await lab.start({ release: older });
  t.regex(await lab.zpool('version'), new RegExp(`zfs-${older}`));
  await lab.zpool('create', 'tank', 'raidz', ...disks);
  lab.key();
  const key = ['-o', 'keyformat=raw', '-o', `keylocation=file://${lab.directory}/key`];
  await fill(lab, 'tank/v');
  await lab.zfs('create', '-o', 'encryption=on', ...key, 'tank/secret');
  await fill(lab, 'tank/secret/v');
  await lab.zfs('snapshot', '-r', 'tank@one');
  await lab.zpool('export', 'tank');

  await change(lab, releases.default);
  await lab.zpool('import', '-l', '-d', lab.disks, 'tank');
  await holds(t, lab, 'tank/v@one');
  await holds(t, lab, 'tank/secret/v');
  t.regex(await lab.zpool('status', 'tank'), /Some supported and requested features are not enabled on the pool/);
  t.regex(await lab.zpool('upgrade'), /^tank\n(?: {6}\S+\n)* {6}block_cloning_endian/m);
  const before = await features(lab, 'tank', 'disabled');
  t.regex(await lab.zpool('upgrade', 'tank'), /Enabled the following features on 'tank':\n(?: {2}\S+\n)*/);
  const after = await features(lab, 'tank', 'disabled');
  t.true(before.length > after.length, `${before} ${after}`);
  await lab.zpool('scrub', '-w', 'tank');
  t.regex(await lab.zpool('status', 'tank'), /repaired 0B in \S+ with 0 errors/);
  await holds(t, lab, 'tank/v');
  await lab.finish('tank');
});

scenario(
  `a pool of ${releases.default} is imported by ${older} unless it uses what only newer releases know`,
  async (t) => {
    const lab = await Lab.open(t);
    const [a, b, c] = lab.manyDisks(3, 128 * MiB) as [string, string, string];
    await lab.start();
    await lab.zpool('create', '-o', 'compatibility=openzfs-2.3', 'alike', a);
    await fill(lab, 'alike/v');
    await lab.zpool('create', 'enabled', b);
    await fill(lab, 'enabled/v');
    // In use as soon as a block of a disk of large sectors is in pieces.
    await lab.zpool('create', '-o', 'ashift=12', '-o', 'feature@dynamic_gang_header=enabled', 'active', c);
    const pieces = await lab.zow('tunable', 'metaslab_force_ganging=8192', 'metaslab_force_ganging_pct=60');
    t.is(pieces.code, 0, pieces.stderr);
    await fill(lab, 'active/v', '128K');
    await lab.zpool('sync', 'active');
    t.true((await features(lab, 'active', 'active')).includes('dynamic_gang_header'));
    await lab.zpool('export', '-a');

    await change(lab, older);
    const listed = await lab.zpool('import', '-d', lab.disks);
    t.regex(
      listed,
      /pool: active\n[\s\S]*status: The pool uses the following feature\(s\) not supported on this system:\n\s*com.klarasystems:dynamic_gang_header/,
    );
    for (const options of [[], ['-o', 'readonly=on']]) {
      const { code, stdout, stderr } = await lab.run('zpool', ['import', ...options, '-d', lab.disks, 'active']);
      t.is(code, 1);
      t.regex(stdout + stderr, /dynamic_gang_header/);
      t.regex(stdout + stderr, /cannot import 'active': unsupported version or feature/);
    }
    for (const pool of ['alike', 'enabled']) {
      await lab.zpool('import', '-d', lab.disks, pool);
      await holds(t, lab, `${pool}/v`);
    }
    t.notRegex(await lab.zpool('status', 'alike'), /status:/);
    t.is(await lab.zpool('status', '-x'), 'all pools are healthy\n');
    await lab.finish('alike', 'enabled');
  },
);
