import test from 'ava';
import { matchesGlob } from '../../../host/glob.ts';
import { type Kstat, kstatJson, kstatText, parseKstatPattern } from '../../../host/observe/kstats.ts';

test('patterns are those of a shell, part by part', (t) => {
  const cases: [string, string, boolean][] = [
    ['zfs/arcstats', 'zfs/arcstats', true],
    ['zfs/arcstats', 'zfs', true],
    ['zfs/arcstats', '', true],
    ['zfs/arcstats', 'zfs/arc', false],
    ['zfs/tank/txgs', 'zfs/*', true],
    ['zfs/tank/txgs', 'zfs/*/txgs', true],
    ['zfs/arcstats', 'zfs/*/txgs', false],
    ['zfs/tank/txgs', 'zfs/t?nk/[st]xg*', true],
    ['zfs/tank/txgs', 'zfs/tank/[!t]*', false],
    ['zfs/a:b/txgs', 'zfs/a:b/txgs', true],
    ['zfs/chksum_bench', '', false],
    ['zfs/chksum_bench', 'zfs/*', false],
    ['zfs/chksum_bench', 'zfs/chksum_bench', true],
  ];
  for (const [path, pattern, expected] of cases)
    t.is(parseKstatPattern(pattern).matches(path), expected, `${path} ${pattern}`);
  const { matches, statistic } = parseKstatPattern('zfs/a:b/x:*hits');
  t.true(matches('zfs/a:b/x'));
  t.true(statistic!('demand_hits'));
  t.false(statistic!('misses'));
  t.is(parseKstatPattern('zfs/x').statistic, undefined);
});

test('a pattern of many stars ends soon, and an odd one matches itself', (t) => {
  t.false(matchesGlob('a'.repeat(250), `${'*a'.repeat(200)}b`));
  t.true(matchesGlob('a[b', 'a[b'));
  t.true(matchesGlob('a*b', 'a\\*b'));
  t.false(matchesGlob('axb', 'a\\*b'));
  t.true(matchesGlob('', '**'));
  t.true(matchesGlob('b-', '[a-c][x-]'));
});

const head = {
  path: 'm/n',
  class: 'misc',
  instance: 0,
  flags: 1,
  kid: 3,
  ndata: 1,
  size: 80,
  crtime: 5n,
  snaptime: 2n ** 60n,
};

test('texts are those of a kernel', (t) => {
  const named: Kstat = {
    ...head,
    type: 'named',
    statistics: [
      { name: 'hits', type: 4, value: 2n ** 63n },
      { name: 'who', type: 9, value: 'tank/v' },
    ],
  };
  t.is(
    kstatText(named),
    `3 1 0x01 1 80 5 1152921504606846976\nname                            type data\nhits                            4    9223372036854775808\nwho                             9    tank/v\n`,
  );
  t.deepEqual((kstatJson(named, (name) => name === 'hits') as { data: unknown }).data, { hits: '9223372036854775808' });
  const io: Kstat = {
    ...head,
    type: 'io',
    records: [
      [
        { name: 'nread', type: 4, value: 7n },
        { name: 'reads', type: 2, value: 1 },
      ],
    ],
  };
  t.is(kstatText(io), '3 3 0x01 1 80 5 1152921504606846976\nnread    reads   \n7        1       \n');
  t.deepEqual((kstatJson(io) as { records: unknown }).records, [{ nread: 7, reads: 1 }]);
  const bytes: Kstat = {
    ...head,
    type: 'raw',
    text: '',
    bytes: Array.from({ length: 17 }, (_, i) => i),
    truncated: false,
  };
  t.regex(kstatText(bytes), /\nraw data\n000: 00 01 .* 0f\n001: 10\n$/);
  t.is(kstatText({ ...head, flags: 0x80, type: 'raw', text: 'ONLINE\n', bytes: [], truncated: false }), 'ONLINE\n');
});

test('lists become rows, the last column with the rest of its line', (t) => {
  const list: Kstat = {
    path: 'zfs/dbgmsg',
    type: 'list',
    text: 'timestamp    message \n12   a  b c\n13 \n',
    truncated: true,
  };
  t.deepEqual(kstatJson(list), {
    module: 'zfs',
    name: 'dbgmsg',
    type: 'list',
    rows: [
      { timestamp: 12, message: 'a  b c' },
      { timestamp: 13, message: '' },
    ],
    truncated: true,
  });
});
