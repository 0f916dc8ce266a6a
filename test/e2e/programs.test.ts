import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import test from 'ava';
import { Lab } from './host.ts';

/** Channel programs: their numbers have 64 bits, as those of a 64-bit kernel. */

test('numbers of channel programs have 64 bits everywhere', async (t) => {
  const lab = await Lab.withPool(t);
  const file = join(lab.directory, 'p.zcp');
  for (const [expression, value] of [
    [`string.format("%d", 4294967296)`, '4294967296'],
    [`string.format("%i", -3000000000)`, '-3000000000'],
    [`string.format("%u", 4294967296)`, '4294967296'],
    [`string.format("%x", 1099511627776)`, '10000000000'],
    [`string.format("%X", 0xffffffff)`, 'FFFFFFFF'],
    [`string.format("%o", 1099511627776)`, '20000000000000'],
    [`string.format("%x", -1)`, 'ffffffffffffffff'],
    [`string.format("%d", 9223372036854775807)`, '9223372036854775807'],
    [`string.format("%d", 9223372036854775807 + 1)`, '-9223372036854775808'],
    [`string.format("%20d|%-6d|%06d", 4294967296, 5, 7)`, '          4294967296|5     |000007'],
    [`tostring(1099511627776)`, '1099511627776'],
    [`tostring(tonumber("1099511627776") + 1)`, '1099511627777'],
    [`tostring(tonumber("10000000000", 16))`, '1099511627776'],
    [`string.sub("hello", 1, 4294967296)`, 'hello'],
    [`string.sub("hello", -4294967297, 2)`, 'he'],
    [`tostring(string.byte("A", 4294967297) == nil)`, 'true'],
    [`tostring(string.find("hello", "l", 4294967296) == nil)`, 'true'],
    [`string.gsub("aaa", "a", "b", 4294967296)`, 'bbb'],
  ] as const) {
    writeFileSync(file, `local value = ${expression}; return value`);
    const { stdout, stderr } = await lab.run('zfs', ['program', '-j', '-n', 'tank', file]);
    t.is(stderr, '', expression);
    t.is(JSON.parse(stdout).return, value, expression);
  }
  writeFileSync(file, 'return zfs.get_prop("tank", "guid") > 4294967296');
  t.regex(await lab.zfs('program', '-n', 'tank', file), /return: (true|false)/);
  await lab.finish('tank');
});

test('zfs program -m beyond the limit is an invalid limit, however large', async (t) => {
  const lab = await Lab.withPool(t);
  const file = join(lab.directory, 'p.zcp');
  writeFileSync(file, 'return 1');
  t.regex(await lab.zfs('program', '-m', '100000000', 'tank', file), /return: 1/);
  for (const limit of ['134217728', '200000000', '4294967297', '9223372036854775808']) {
    const result = await lab.run('zfs', ['program', '-m', limit, 'tank', file]);
    t.is(result.code, 1, result.stderr);
    t.regex(result.stderr, /Invalid instruction or memory limit/, limit);
  }
  await lab.finish('tank');
});

test('several promotions of one clone: one succeeds, the others say why not', async (t) => {
  const lab = await Lab.withPool(t);
  await lab.zfs('create', '-s', '-V', '16M', 'tank/v');
  await lab.zfs('snapshot', 'tank/v@1');
  for (let round = 0; round < 3; round++) {
    await lab.zfs('clone', 'tank/v@1', `tank/c${round}`);
    const results = await Promise.all([1, 2, 3, 4].map(() => lab.run('zfs', ['promote', `tank/c${round}`])));
    t.is(results.filter(({ code }) => code === 0).length, 1);
    for (const { code, stderr } of results) {
      if (code === 0) continue;
      t.is(code, 1, stderr);
      t.regex(stderr, /not a cloned filesystem|dataset is busy/);
    }
    await lab.zfs('promote', 'tank/v');
  }
  await lab.finish('tank');
});
