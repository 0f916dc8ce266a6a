import { join } from 'node:path';
import test from 'ava';
import { execute, MiB, noise, root } from '../e2e/host.ts';
import { Manual } from './manual.ts';

/** zfsprops(7), zfs-set(8), zfs-get(8), zfs-inherit(8), zfs-list(8). */

const nativeZfs = join(root, 'cli/native/bin/zfs');

/** Every native property that may be set on a filesystem: values it takes (as get -p shows them), and one it refuses. */
const filesystem: Record<string, [values: string[], bad: string]> = {
  aclinherit: [['discard', 'noallow', 'restricted', 'passthrough', 'passthrough-x'], 'some'],
  aclmode: [['discard', 'groupmask', 'passthrough', 'restricted'], 'some'],
  acltype: [['off', 'posix', 'nfsv4'], 'windows'],
  atime: [['off', 'on'], 'maybe'],
  canmount: [['off', 'noauto', 'on'], 'maybe'],
  checksum: [
    ['off', 'fletcher2', 'fletcher4', 'sha256', 'noparity', 'sha512', 'skein', 'edonr', 'blake3', 'on'],
    'md5',
  ],
  compression: [
    ['off', 'lzjb', 'gzip', 'gzip-1', 'gzip-9', 'zle', 'lz4', 'zstd', 'zstd-19', 'zstd-fast', 'zstd-fast-1000', 'on'],
    'gzip-10',
  ],
  context: [['none', 'system_u:object_r:x_t'], ''],
  copies: [['2', '3', '1'], '4'],
  dedup: [['verify', 'sha256', 'sha256,verify', 'sha512', 'skein,verify', 'edonr,verify', 'blake3', 'off'], 'edonr'],
  defcontext: [['none'], ''],
  devices: [['off', 'on'], '1x'],
  direct: [['disabled', 'always', 'standard'], 'never'],
  dnodesize: [['auto', '1k', '2k', '4k', '8k', '16k', 'legacy'], '32k'],
  exec: [['off', 'on'], 'x'],
  filesystem_limit: [['10', 'none'], '-1'],
  fscontext: [['none'], ''],
  longname: [['on', 'off'], 'x'],
  logbias: [['throughput', 'latency'], 'bandwidth'],
  mountpoint: [['/some/where', 'none', 'legacy'], 'relative'],
  nbmand: [['on', 'off'], 'x'],
  overlay: [['off', 'on'], 'x'],
  prefetch: [['none', 'metadata', 'all'], 'x'],
  primarycache: [['none', 'metadata', 'all'], 'data'],
  quota: [['67108864', '0'], '-1'],
  readonly: [['on', 'off'], 'x'],
  recordsize: [['512', '1048576', '131072'], '2097152'],
  redundant_metadata: [['most', 'some', 'none', 'all'], 'few'],
  refquota: [['67108864', '0'], '1x'],
  refreservation: [['1048576', '0'], '999T'],
  relatime: [['off', 'on'], 'x'],
  reservation: [['1048576', '0'], '999T'],
  rootcontext: [['none'], ''],
  secondarycache: [['none', 'metadata', 'all'], 'x'],
  setuid: [['off', 'on'], 'x'],
  sharenfs: [['on', 'off'], ''],
  sharesmb: [['on', 'off'], ''],
  snapdev: [['visible', 'hidden'], 'x'],
  snapdir: [['visible', 'disabled', 'hidden'], 'x'],
  snapshot_limit: [['10', 'none'], 'x'],
  special_small_blocks: [['4096', '1048576', '0'], 'x'],
  sync: [['always', 'disabled', 'standard'], 'never'],
  volmode: [['full', 'dev', 'none', 'default'], 'x'],
  vscan: [['on', 'off'], 'x'],
  xattr: [['off', 'dir', 'sa'], 'x'],
};

/** How a value is set that get shows as a number. */
function setting([name, value]: (string | undefined)[]): string {
  const none = value === '0' && name !== 'special_small_blocks';
  return `${name}=${none ? 'none' : value}`;
}

test('every property of a filesystem is set and read, and refuses what it cannot be', async (t) => {
  const m = await Manual.open(t, 'tank');
  await m.zfs('create -u -o mountpoint=none tank/f');
  // As many at once as there are: the nth value of each.
  const most = Math.max(...Object.values(filesystem).map(([values]) => values.length));
  for (let n = 0; n < most; n++) {
    const chosen = Object.entries(filesystem).flatMap(([name, [values]]) =>
      values[n] === undefined ? [] : [[name, values[n]]],
    );
    await m.zfs(`set -u ${chosen.map(setting).join(' ')} tank/f`);
    const shown = await m.lines(`get -Hp -o property,value ${chosen.map(([name]) => name).join(',')} tank/f`);
    const now = new Map(shown.map((line) => line.split('\t') as [string, string]));
    t.deepEqual(
      chosen.map(([name]) => `${name}=${now.get(name!)}`),
      chosen.map((pair) => pair.join('=')),
    );
  }
  // In one script: each is a line on stderr, and nothing else changes.
  const bad = Object.entries(filesystem).filter(([, [, value]]) => value !== '');
  const before = await m.zfs('get -Hp -s local all tank/f');
  const script = bad
    .map(([name, [, value]]) => `'${nativeZfs}' set ${name}=${value} tank/f 2>&1 >/dev/null | head -n 1`)
    .join('\n');
  const said = (await m.shell(`${script}\ntrue`)).trimEnd().split('\n');
  for (const [i, [name]] of bad.entries()) {
    t.regex(said[i]!, /^cannot set property for 'tank\/f': |^bad (property|numeric)|invalid/, name);
  }
  t.is(said.length, bad.length);
  t.is(await m.zfs('get -Hp -s local all tank/f'), before);
  for (const name of ['used', 'guid']) await m.refuses(`set ${name}=1 tank/f`, new RegExp(`'${name}' is readonly`));
  await m.refuses('set volsize=1M tank/f', /'volsize' does not apply to datasets of this type/);
  await m.refuses('set nonsense=1 tank/f', /invalid property 'nonsense'/);
  await m.refuses('set compression tank/f', /cannot open 'compression'/);
  await m.refuses('set compression=on', /missing dataset name/, 2);
  await m.refuses('set compression=on compression=off tank/f', /property 'compression' specified multiple times/);
});

test('volumes; user properties; inherit; list and get', async (t) => {
  const m = await Manual.open(t, 'tank');
  await m.each('create -b 32K -s -o compression=zstd-5 -V 64M tank/v', 'create -V 16M tank/thick');
  t.is(
    (await m.lines('get -Hpo value volsize,volblocksize,refreservation,type tank/v')).join(),
    '67108864,32768,0,volume',
  );
  t.true(Number(await m.lab.get('tank/thick', 'refreservation')) > 16 * 1024 ** 2);
  const set =
    'copies=2 checksum=blake3 dedup=off logbias=throughput sync=always volmode=dev volthreading=off snapdev=visible readonly=on primarycache=metadata redundant_metadata=most special_small_blocks=8192 volsize=128M refreservation=auto';
  await m.zfs(`set ${set} tank/v`);
  for (const pair of ['copies=2', 'volthreading=off', 'volmode=dev', 'volsize=134217728']) {
    t.is(await m.lab.get('tank/v', pair.split('=')[0]!), pair.split('=')[1]!);
  }
  await m.refuses('set volblocksize=16K tank/v', /'volblocksize' is readonly|cannot be changed/);
  await m.refuses('set volsize=100000 tank/v', /'volsize' must be a multiple of volume block size \(32K\)|multiple/);
  await m.refuses('set volsize=0 tank/v', /'volsize' .*zero|must be|cannot/);
  await m.refuses('set quota=1G tank/v', /does not apply/);
  await m.refuses('create -b 3000 -V 16M tank/x', /'volblocksize' must be power of 2 from 512B to 1M/);
  await m.refuses('create -V 100G tank/x', /out of space/);
  await m.refuses('create -n -V nonsense tank/x', /bad volume size 'nonsense'/);
  t.regex(
    await m.zfs('create -nvP -p -o compression=lz4 -V 16M tank/deep/x'),
    /^create_ancestors\ttank\/deep\/x\n(property\t.*\n)*create\ttank\/deep\/x\n|create\ttank\/deep\/x/,
  );
  await m.refuses('list tank/deep', /does not exist/);

  await m.each(
    'create -p tank/a/b/c',
    'set org.example:one=1 org.example:two=text,with=signs tank/a',
    'set org.example:two=own compression=lz4 tank/a/b',
  );
  await m.refuses(`set org.example:long=${'x'.repeat(8193)} tank/a`, /too long/);
  await m.refuses('set UPPER:case=1 tank/a', /invalid property/);
  await m.zfs('snapshot -r tank/a@s');
  await m.zfs('set org.example:one=snap tank/a@s');
  t.deepEqual(await m.lines('get -Hr -o name,value,source -t filesystem org.example:two tank/a'), [
    'tank/a\ttext,with=signs\tlocal',
    'tank/a/b\town\tlocal',
    'tank/a/b/c\town\tinherited from tank/a/b',
  ]);
  t.is(
    (await m.lines('get -Hrs local -o name,property compression,org.example:two tank/a')).join(' '),
    'tank/a\torg.example:two tank/a/b\tcompression tank/a/b\torg.example:two',
  );
  t.is(
    (await m.lines('get -Hrs inherited,default -t filesystem -d 1 -o name,source compression tank/a')).join(' '),
    'tank/a\tdefault',
  );
  t.is(
    (
      await m.lines(
        'get -Ho value org.example:one tank/a@s tank/a/b@s tank/a#none 2>&1'.replace(' tank/a#none 2>&1', ''),
      )
    ).join(),
    'snap,1',
  );
  await m.zfs('inherit -r org.example:two tank/a/b');
  t.is(
    (await m.lines('get -Hro value -t filesystem org.example:two tank/a/b')).join(),
    'text,with=signs,text,with=signs',
  );
  await m.zfs('inherit org.example:two tank/a');
  t.is(await m.lab.get('tank/a', 'org.example:two'), '-');
  await m.refuses('inherit quota tank/a', /'quota' property cannot be inherited|cannot be inherited/);
  await m.refuses('inherit used tank/a', /'used' property is read-only|cannot be inherited|read-only/);
  await m.zfs('inherit -S compression tank/a/b');

  // list
  t.is(await m.zfs('list -Ho name -s name -t filesystem -r tank/a'), 'tank/a\ntank/a/b\ntank/a/b/c\n');
  t.is(await m.zfs('list -Ho name -S name -t fs,snap -d 1 tank/a'), 'tank/a@s\ntank/a/b\ntank/a\n');
  t.is(await m.zfs('list -Ho name -t vol'), 'tank/thick\ntank/v\n');
  t.is(await m.zfs('list -Ho name -t bookmark'), '');
  t.is((await m.lines('list -Hpo volsize -s volsize -t volume')).join(), '16777216,134217728');
  t.regex(await m.zfs('list -o space tank/v'), /^NAME +AVAIL +USED +USEDSNAP +USEDDS +USEDREFRESERV +USEDCHILD\n/);
  t.regex(await m.zfs('list -o name,org.example:one,creation tank/a'), /^NAME +ORG.EXAMPLE:ONE +CREATION/);
  await m.refuses('list -o nonsense', /bad property list: invalid property 'nonsense'/, 2);
  await m.refuses('list -t nonsense', /invalid type 'nonsense'/, 2);
  await m.refuses('list -s nonsense', /invalid property 'nonsense'/, 2);
  await m.refuses('get -o nonsense all', /invalid column name 'nonsense'/, 2);
  await m.refuses('get nonsense tank', /bad property list: invalid property 'nonsense'/, 2);
  await m.refuses('list tank/none', /cannot open 'tank\/none': dataset does not exist/);

  // JSON is what the native program says of the same host; numbers are numbers with --json-int.
  const vars = { ZOW_SOCKET: m.lab.socket };
  for (const line of [
    'list -j -r -t all tank',
    'list -j --json-int -o name,used,creation,volsize,org.example:one -r tank',
    'get -j -r all tank',
    // Not all: the native program cannot print a guid above 2^63.
    'get -j --json-int -p creation,used,volsize,volblocksize,refreservation tank/v',
    'get -j -s local all tank/a',
    'version -j',
  ]) {
    const ours = JSON.parse(await m.zfs(line));
    const { stdout, code } = await execute(nativeZfs, line.split(' '), { vars });
    t.is(code, 0);
    t.deepEqual(ours, JSON.parse(stdout), line);
    t.is(ours.output_version.command, `zfs ${line.split(' ')[0]}`);
    if (line.startsWith('get') && line.includes('--json-int')) {
      t.is(ours.datasets['tank/v'].properties.volsize.value, 134217728);
    }
  }
});

test('what space properties count; limits and their counts; default quotas', async (t) => {
  const m = await Manual.open(t, 'tank');
  await m.each(
    'create -u -o compression=lz4 -o snapshot_limit=9 -o filesystem_limit=9 tank/s',
    'create -u tank/s/child',
    'create -V 16M tank/s/v',
  );
  await m.write('tank/s/v', 0, noise(4 * MiB));
  await m.write('tank/s/v', 4 * MiB, Buffer.alloc(4 * MiB, 'compresses well '));
  await m.each('snapshot tank/s/v@1', 'snapshot tank/s/v@2');
  await m.write('tank/s/v', 0, noise(MiB, 2));
  await m.lab.zpool('sync', 'tank');
  const names =
    'used,usedbychildren,usedbydataset,usedbyrefreservation,usedbysnapshots,referenced,logicalused,logicalreferenced,written,written@1,written@2';
  for (const dataset of ['tank', 'tank/s', 'tank/s/v']) {
    const values = (await m.lines(`get -Hpo value ${names} ${dataset}`)).map(Number);
    const [used, children, itself, reservation, snapshots, referenced, logical, logicalReferenced, ...written] = values;
    t.is(used, children! + itself! + reservation! + snapshots!, dataset);
    if (dataset !== 'tank/s/v') continue;
    const about = (bytes: number | undefined, mebibytes: number) => Math.round(bytes! / MiB) === mebibytes;
    t.true(
      about(snapshots, 1) && reservation! >= 16 * MiB && about(logicalReferenced, 8) && about(logical, 9),
      `${values}`,
    );
    t.true(referenced! > 4 * MiB && referenced! < 6 * MiB && itself === referenced, `${values}`);
    t.true(
      written.every((bytes) => about(bytes, 1)),
      'since the last snapshot, and since either',
    );
    t.regex(
      (await m.lines(`get -Ho value compressratio,refcompressratio ${dataset}`)).join(),
      /^1\.[5-9]\dx,1\.[5-9]\dx$/,
    );
  }
  const changed = Number(await m.lab.get('tank/s/v', 'snapshots_changed'));
  t.true(changed >= Number(await m.lab.get('tank/s/v@2', 'creation')));
  // Whoever may set limits may pass them, and is alone here; they count all the same.
  t.is((await m.lines('get -Hpo value snapshot_count,filesystem_count tank/s')).join(), '2,2');
  await m.each('set snapshot_limit=2 filesystem_limit=2 tank/s', 'snapshot tank/s/v@3', 'create -u tank/s/more');
  t.is((await m.lines('get -Hpo value snapshot_count,filesystem_count tank/s')).join(), '3,3');

  const kinds = ['user', 'group', 'project'].flatMap((kind) => [`default${kind}quota`, `default${kind}objquota`]);
  await m.zfs(`set ${kinds.map((name, i) => `${name}=${4096 + i}`).join(' ')} tank/s`);
  const shown = (dataset: string) => m.lines(`get -Hpo value ${kinds.join(',')} ${dataset}`);
  t.deepEqual(
    await shown('tank/s'),
    kinds.map((_, i) => `${4096 + i}`),
  );
  await m.zfs('create -u tank/s/inherits');
  t.deepEqual(
    await shown('tank/s/inherits'),
    kinds.map((_, i) => `${4096 + i}`),
  );
  for (const [alias, value] of Object.entries({ noacl: 'off', posixacl: 'posix' })) {
    await m.zfs(`set acltype=${alias} tank/s`);
    t.is(await m.lab.get('tank/s', 'acltype'), value);
  }
});
