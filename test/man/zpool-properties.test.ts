import test from 'ava';
import { Lab, noise } from '../e2e/host.ts';
import { layout, type Promised, promises, typed } from './manual.ts';

/**
 * zpool-set(8) and zpool-get(8) with zpoolprops(7) and vdevprops(7): what can be set is set and read back. And the pages
 * about a pool as a whole: zpool-scrub(8), zpool-checkpoint(8), zpool-ddtprune(8), zpool-prefetch(8), zpool-reguid(8),
 * zpool-sync(8), zpool-initialize(8), zpool-trim(8).
 */

test('every property of a pool and of its devices that can be set is read back; bad values are refused', async (t) => {
  const lab = await Lab.open(t);
  const [a, b, c, spare] = lab.manyDisks(4, 128 * 1024 ** 2) as [string, string, string, string];
  await lab.start({ config: { zed: false } });
  const zpool = typed(lab);
  await zpool(`create tank raidz1 ${a} ${b} ${c} spare ${spare}`);

  // Each set by one name, shown as value and source under the other.
  const settable: readonly (readonly [target: string, set: string, property: string, shown: string])[] = [
    ['', 'ashift=12', 'ashift', '12\tlocal'],
    ['', 'ashift=0', 'ashift', '0\tdefault'],
    ['', 'expand=on', 'autoexpand', 'on\tlocal'],
    ['', 'replace=on', 'autoreplace', 'on\tlocal'],
    ['', 'autotrim=on', 'autotrim', 'on\tlocal'],
    ['', 'bootfs=tank', 'bootfs', 'tank\tlocal'],
    ['', 'bootfs=', 'bootfs', '-\tdefault'],
    ['', 'cachefile=none', 'cachefile', 'none\tlocal'],
    ['', 'comment=hi', 'comment', 'hi\tlocal'],
    ['', 'dedup_table_quota=1M', 'dedup_table_quota', '1M\tlocal'],
    ['', 'dedup_table_quota=none', 'dedup_table_quota', 'none\tlocal'],
    ['', 'dedup_table_quota=auto', 'dedup_table_quota', 'auto\tdefault'],
    ['', 'delegation=off', 'delegation', 'off\tlocal'],
    ['', 'failmode=continue', 'failmode', 'continue\tlocal'],
    ['', 'failmode=panic', 'failmode', 'panic\tlocal'],
    ['', 'failmode=wait', 'failmode', 'wait\tdefault'],
    ['', 'listsnaps=on', 'listsnapshots', 'on\tlocal'],
    ['', 'org.x:y=1', 'org.x:y', '1\tlocal'],
    ['', 'org.x:y=', 'org.x:y', '-\tdefault'],
    [a, 'checksum_n=5', 'checksum_n', '5\tlocal'],
    [a, 'checksum_n=none', 'checksum_n', '-\tdefault'],
    [a, 'checksum_t=5000000000', 'checksum_t', '5000000000\tlocal'],
    [a, 'io_n=0', 'io_n', '0\tlocal'],
    [a, 'io_t=1K', 'io_t', '1024\tlocal'],
    [a, 'slow_io_n=20', 'slow_io_n', '20\tlocal'],
    [a, 'slow_io_t=3', 'slow_io_t', '3\tlocal'],
    [a, 'slow_io_events=off', 'slow_io_events', 'off\tlocal'],
    [a, 'comment=left', 'comment', 'left\tlocal'],
    [a, 'failfast=off', 'failfast', 'off\tlocal'],
    [a, 'sit_out=on', 'sit_out', 'on\t-'],
    [a, 'sit_out=off', 'sit_out', 'off\t-'],
    ['raidz1-0', 'checksum_n=7', 'checksum_n', '7\tlocal'],
    ['raidz1-0', 'autosit=on', 'autosit', 'on\tlocal'],
    ['root', 'comment=top', 'comment', 'top\tlocal'],
  ];
  for (const [target, set, property, shown] of settable) {
    const where = target === '' ? 'tank' : `tank ${target}`;
    await zpool(`set ${set} ${where}`);
    t.is(await zpool(`get -Ho value,source ${property} ${where}`), shown, `${set} ${where}`);
  }
  const bad: readonly Promised[] = [
    ['set ashift=8 tank', 1, /only values between 9 and 16 are allowed/],
    ['set ashift=x tank', 1, /bad numeric value 'x'/],
    ['set autoexpand=yes tank', 1, /'autoexpand' must be one of 'on \| off'/],
    ['set bootfs=nope tank', 1, /'nope' is an invalid name/],
    ['set cachefile=rel tank', 1, /'cachefile' must be empty, an absolute path, or 'none'/],
    ['set cachefile=/nowhere/c tank', 1, /'\/nowhere' is not a valid directory/],
    [['set', 'comment=a\nb', 'tank'], 1, /comment may only have printable characters/],
    ['set dedup_table_quota=-1 tank', 1, /bad numeric value '-1'/],
    ['set failmode=x tank', 1, /'failmode' must be one of 'wait \| continue \| panic'/],
    ['set version=28 tank', 1, /property 'version' number 28 is invalid/],
    ['set readonly=on tank', 1, /'readonly' can only be set at import time/],
    ['set altroot=/x tank', 1, /'altroot' can only be set during pool creation or import/],
    ['set size=1 tank', 1, /'size' is readonly/],
    ['set feature@blake3=disabled tank', 1, /can only be set to 'disabled' at creation time/],
    ['set feature@nosuch=enabled tank', 1, /feature 'nosuch' unsupported/],
    ['set nocolon=1 tank', 1, /invalid property 'nocolon'/],
    ['set ORG:x=1 tank', 1, /invalid property 'ORG:x'/],
    [`set a:b=${'x'.repeat(8192)} tank`, 1, /property value 'x+/],
    ['set failmode=wait', 2, /missing pool name/],
    ['set failmode tank', 2, /missing value in property=value argument/],
    [`set checksum_n=x tank ${a}`, 1, /bad numeric value 'x'/],
    [`set allocating=off tank ${a}`, 1, /not supported on this type of vdev/],
    ['set allocating=off tank raidz1-0', 1, /cannot set property allocating for raidz1-0/],
    [`set autosit=on tank ${a}`, 1, /property not supported for this vdev/],
    [`set bootsize=1M tank ${a}`, 1, /'bootsize' is readonly/],
    [`set comment=x tank ${spare}`, 1, /cannot set property comment for \S+d3/],
  ];
  await promises(t, lab, 'zpool', bad);
  t.is(await zpool('get -Ho value ashift,failmode,comment tank'), '0\nwait\nhi');
});

test('checkpoint, ddtprune, prefetch, reguid, sync, scrub, initialize and trim', async (t) => {
  const lab = await Lab.open(t);
  const [a, b, c, log, cache, spare] = lab.manyDisks(6, 128 * 1024 ** 2) as [
    string,
    string,
    string,
    string,
    string,
    string,
  ];
  await lab.start({ config: { zed: false } });
  const zpool = typed(lab);
  await zpool(`create tank mirror ${a} ${b} log ${log} cache ${cache} spare ${spare}`);
  await lab.zfs('create', '-s', '-o', 'dedup=on', '-V', '32M', 'tank/v');
  const client = await lab.open('tank/v');
  await client.writeAt(0, noise(4 * 1024 ** 2));
  await client.request({ type: 3 });
  client.destroy();
  await zpool('sync tank');
  await promises(t, lab, 'zpool', [
    ['ddtprune tank', 2, /missing amount option/],
    ['ddtprune -d 1 -p 10 tank', 2, /-p cannot be combined with -d option/],
    ['ddtprune -p 101 tank', 2, /invalid percentage value/],
    ['ddtprune -d 0 tank', 2, /invalid days value/],
    ['ddtprune -p 50 tank', 0, /^$/],
    ['prefetch tank', 0, /^$/],
    ['prefetch -t brt tank', 0, /^$/],
    ['prefetch -t x tank', 2, /unsupported prefetch type/],
    ['prefetch nopool', 1, /cannot open 'nopool': no such pool/],
    ['reguid -g x tank', 2, /invalid GUID: x/],
    ['reguid -g 18446744073709551616 tank', 2, /invalid GUID/],
    ['sync tank nopool', 1, /cannot open 'nopool': no such pool/],
    ['checkpoint -d tank', 1, /checkpoint does not exist/],
    ['checkpoint -w tank', 2, /--wait only valid when --discard also specified/],
    ['scrub -es tank', 1, /there is no active scrub/],
    ['scrub -ps tank', 2, /-s and -p are mutually exclusive/],
    ['scrub -e -C tank', 2, /-e and -C are mutually exclusive/],
    ['scrub -ws tank', 2, /-w cannot be used with -p or -s/],
    ['scrub -S yesterday tank', 2, /Failed to parse the date/],
    ['scrub -S 2026-11-01 -E 2025-02-01 tank', 2, /end date has to be later than start date/],
    ['initialize -cs tank', 2, /cannot be combined with other options/],
    ['initialize -c tank', 255, /there is no active initialization/],
    [`initialize tank ${cache}`, 255, /device is in use as a cache/],
    [`trim tank ${spare}`, 255, /device is reserved as a hot spare/],
    ['trim -s tank', 255, /there is no active trim/],
    ['trim -d tank', 255, /trim operations are not supported by this device/],
    ['trim -r 10Q tank', 2, /invalid numeric suffix 'Q'/],
    ['trim -cw tank', 2, /-w cannot be used with -c or -s options/],
  ]);
  await zpool('reguid tank');
  await zpool('reguid -g 18446744073709551615 tank');
  t.is(await zpool('get -Ho value guid tank'), '18446744073709551615');
  t.regex(await lab.fails('zpool', 'reguid', '-g', '18446744073709551615', 'tank'), /pool already exists/);

  await zpool('checkpoint tank');
  t.regex(await zpool('status tank'), /^checkpoint: created .*, consumes \d/m);
  for (const line of [
    'checkpoint tank',
    `remove tank ${b}`,
    `attach tank ${a} ${c}`,
    `detach tank ${b}`,
    'split tank half',
    'reguid tank',
  ]) {
    t.regex(await lab.fails('zpool', ...line.split(' ')), /checkpoint exists/, line);
  }
  await zpool('checkpoint -dw tank');
  t.notRegex(await zpool('status tank'), /checkpoint/);

  const examined = async () =>
    JSON.parse(await zpool('status -j --json-int tank')).pools.tank.scan_stats.examined as number;
  await zpool('scrub -w tank');
  const all = await examined();
  t.true(all > 4 * 1024 ** 2);
  t.true(Number(await zpool('get -Ho value last_scrubbed_txg tank')) > 0);
  await zpool('scrub -wC tank');
  t.true((await examined()) < all / 2, 'what is new since the last one');
  await zpool('scrub -w -E 2001-01-01 tank');
  t.is(await examined(), 0, 'before the pool was');

  await zpool(`initialize -w tank ${a}`);
  t.regex(await zpool('status -i tank'), /d0 .*\(100% initialized[\s\S]*d1 .*\(uninitialized\)/);
  await zpool(`initialize -u tank ${a}`);
  t.regex(await zpool('status -i tank'), /d0 .*\(uninitialized\)/);
  await zpool(`trim -w -r 1G tank ${a}`);
  t.regex(await zpool('status -t tank'), /d0 .*\(100% trimmed[\s\S]*d1 .*\(untrimmed\)/);
  t.is(await layout(lab, 'tank'), 'tank[mirror-0[d0 d1]] logs[d3] cache[d4] spares[d5]');
  await lab.finish('tank');
});
