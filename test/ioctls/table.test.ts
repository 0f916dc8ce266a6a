import test from 'ava';
import { readIoctls } from '../../zfs-src/ioctls.ts';
import { bringSources } from '../zfs-src/project.ts';
import type { Outcomes } from './record.ts';
import { format, problems, rows } from './table.ts';

const create = { name: 'ZFS_IOC_POOL_CREATE', request: 0x5a00, aliases: [] };
const jail = { name: 'ZFS_IOC_JAIL', request: 0x5a85, aliases: ['ZFS_IOC_USERNS_ATTACH'] };

function recorded(files: Record<string, Outcomes>): Map<string, Outcomes> {
  return new Map(Object.entries(files));
}

for (const release of ['2.4.3', '2.3.2']) {
  test(`the ioctls of ${release} are those of its header`, async (t) => {
    const ioctls = readIoctls(await bringSources(release));
    t.deepEqual(ioctls[0], create);
    t.deepEqual(
      ioctls.find(({ request }) => request === 0x5a85),
      jail,
    );
    t.is(ioctls.at(-1)!.name, 'ZFS_IOC_GET_BOOTENV');
    t.is(ioctls.at(-1)!.request, 0x5a88);
    t.is(ioctls.length, 98);
  });
}

test('an ioctl that has only failed has no test; one that cannot succeed has to fail as it is said to', (t) => {
  const failed = { '0x5a00': { EINVAL: 3 }, '0x5a85': { 'errno 0': 1 } };
  const table = rows([create, jail], recorded({ 'a.test.ts': failed }));
  t.deepEqual(problems(table, format('2.4.3', table, ''), '2.4.3'), [
    'ZFS_IOC_POOL_CREATE: no test has made it succeed',
    'ZFS_IOC_JAIL: no test has made it fail with EOPNOTSUPP: lets the processes of a user namespace mount a filesystem; nothing is mounted here',
  ]);
});

test('the document keeps the test it names while that exercises the ioctl, and is stale when it does not', (t) => {
  const works = { '0x5a00': { 'errno 0': 1 } };
  const often = { '0x5a00': { 'errno 0': 9 } };
  const first = rows([create], recorded({ 'a.test.ts': works }));
  const written = format('2.4.3', first, '');
  t.regex(written, /^\| 0x5a00 \| `ZFS_IOC_POOL_CREATE` \| works \| a\.test\.ts \|$/m);
  const both = rows([create], recorded({ 'a.test.ts': works, 'b.test.ts': often }));
  t.deepEqual(problems(both, written, '2.4.3'), []);
  t.regex(format('2.4.3', both, ''), /\| b\.test\.ts \|/);
  const other = rows([create], recorded({ 'b.test.ts': often }));
  t.deepEqual(problems(other, written, '2.4.3'), [
    'docs/ioctls.md is not what the tests have recorded; node test/ioctls/table.ts writes it',
  ]);
});
