import test from 'ava';
import { MiB, noise } from '../e2e/host.ts';
import { Manual } from './manual.ts';

/** zfs-snapshot(8), zfs-destroy(8), zfs-hold(8), zfs-bookmark(8), zfs-clone(8), zfs-promote(8), zfs-rename(8), zfs-rollback(8). */

test('snapshot, bookmark, hold and destroy', async (t) => {
  const m = await Manual.open(t, 'tank');
  await m.each('create -p tank/a/b', 'create -V 8M tank/a/v');

  await m.each('snapshot -r -o org.example:why=test tank/a@s', 'snap tank/a@x tank/a/b@x');
  t.is((await m.lines('get -rHo value -t snapshot org.example:why tank/a')).join(), 'test,-,test,-,test');
  await m.refuses('snapshot tank/a/v@new tank/a@x', /cannot create snapshot 'tank\/a@x': dataset already exists/);
  await m.refuses('list tank/a/v@new', /does not exist/);
  await m.refuses('snapshot -o compression=on tank/a@y', /readonly|cannot create|does not apply/);
  await m.refuses('snapshot tank/a@', /invalid character|empty component|invalid/);
  await m.refuses('snapshot tank/no@s', /cannot open 'tank\/no': dataset does not exist/, 2);
  await m.refuses('snapshot tank/a@b@c', /multiple '@'|invalid/);
  await m.refuses(`snapshot tank/a@${'n'.repeat(256)}`, /name is too long|too long/);

  await m.each('bookmark tank/a@s tank/a#s', 'bookmark tank/a#s #copy', 'bookmark tank/a@x #x');
  t.is(await m.lab.get('tank/a#copy', 'guid'), await m.lab.get('tank/a@s', 'guid'));
  t.deepEqual(await m.lines('list -Ho name -t bookmark -r tank'), ['tank/a#copy', 'tank/a#s', 'tank/a#x']);
  await m.refuses('bookmark tank/a@s tank/a#x', /cannot create bookmark 'tank\/a#x': bookmark exists/);
  await m.refuses('bookmark tank/a@s tank/a/b#s', /bookmark/);
  await m.refuses('bookmark tank/a#none tank/a#y', /no such pool or dataset/, 2);
  await m.each('destroy tank/a#x');
  await m.refuses('destroy tank/a#x', /bookmark 'tank\/a#x' does not exist/);

  await m.each('hold -r keep tank/a@s', 'hold other tank/a@s');
  const holds = await m.lines('holds -rH tank/a@s');
  t.deepEqual(holds.map((line) => line.split('\t').slice(0, 2).join(' ')).sort(), [
    'tank/a/b@s keep',
    'tank/a/v@s keep',
    'tank/a@s keep',
    'tank/a@s other',
  ]);
  t.regex((await m.lines('holds -Hp tank/a@s'))[0]!, /^tank\/a@s\t(keep|other)\t\d{10}$/);
  t.regex(await m.zfs('holds tank/a@s'), /^NAME +TAG +TIMESTAMP *\n/);
  t.is(await m.lab.get('tank/a@s', 'userrefs'), '2');
  await m.refuses('hold keep tank/a@s', /cannot hold snapshot 'tank\/a@s': tag already exists on this dataset/);
  await m.refuses('destroy tank/a@s', /cannot destroy snapshot tank\/a@s: it's being held/);
  await m.refuses('release none tank/a@s', /no such tag on this dataset/);
  await m.each('destroy -d tank/a/b@s');
  t.is(await m.lab.get('tank/a/b@s', 'defer_destroy'), 'on');
  await m.each('release -r keep tank/a@s');
  await m.refuses('list tank/a/b@s', /does not exist/);
  await m.each('release other tank/a@s');

  for (let i = 1; i <= 9; i++) await m.zfs(`snapshot tank/a@${i}`);
  const dry = await m.zfs('destroy -nvp tank/a@2%4');
  t.regex(dry, /^destroy\ttank\/a@2\ndestroy\ttank\/a@3\ndestroy\ttank\/a@4\nreclaim\t\d+\n$/);
  t.regex(
    await m.zfs('destroy -nv tank/a@8%'),
    /^would destroy tank\/a@8\nwould destroy tank\/a@9\nwould reclaim \d+B?\n$/,
  );
  await m.each('destroy tank/a@2%4', 'destroy tank/a@6,8%,no', 'destroy tank/a@%x');
  t.deepEqual((await m.below('tank/a')).trim().split(' ').sort(), [
    '#copy',
    '#s',
    '/b',
    '/b@x',
    '/v',
    '/v@s',
    '@1',
    '@5',
    '@7',
  ]);
  await m.refuses('destroy tank/a@none', /could not find any snapshots to destroy/);
  await m.refuses('destroy tank/a@7%1', /range .*|could not find|not/);
  await m.refuses('destroy tank/a', /has children\nuse '-r' to destroy the following datasets:/);
  await m.each('clone tank/a/v@s tank/c', 'snapshot tank/c@c');
  await m.refuses(
    'destroy -r tank/a',
    /dependent clones\nuse '-R' to destroy the following datasets:\ntank\/c@c\ntank\/c/,
  );
  await m.each('destroy -d tank/a/v@s');
  t.is(await m.lab.get('tank/a/v@s', 'defer_destroy'), 'on', 'a clone needs it');
  t.regex(await m.zfs('destroy -nvR tank/a'), /would destroy tank\/c\n/);
  t.is(await m.zfs('destroy -n tank/a@1'), '');
  t.regex(await m.zfs('destroy -vR tank/a'), /^will destroy [\s\S]*will destroy tank\/a\n/);
  t.is(await m.below('tank'), '');
  await m.refuses(
    'destroy tank',
    /operation does not apply to pools\nuse 'zfs destroy -r tank' to destroy all datasets in the pool\nuse 'zpool destroy tank' to destroy the pool itself/,
  );
  await m.refuses('destroy', /missing dataset argument\nusage:/, 2);
  await m.lab.finish('tank');
});

test('clone, promote, rename and rollback', async (t) => {
  const m = await Manual.open(t, 'tank', 'back');
  await m.each('set snapdev=visible tank', 'create -V 16M tank/v');
  const first = noise(MiB, 1);
  const second = noise(MiB, 2);
  await m.write('tank/v', 0, first);
  await m.zfs('snapshot tank/v@1');
  await m.write('tank/v', 0, second);
  await m.each('snapshot tank/v@2', 'snapshot tank/v@3');

  await m.each('clone -p -o compression=gzip -o org.example:a=b tank/v@1 tank/deep/er/c');
  t.is(await m.lab.get('tank/deep/er/c', 'origin'), 'tank/v@1');
  t.is((await m.lines('get -Ho value compression,org.example:a tank/deep/er/c')).join(), 'gzip,b');
  t.is(await m.lab.get('tank/v@1', 'clones'), 'tank/deep/er/c');
  t.true((await m.read('tank/deep/er/c', MiB)).equals(first));
  await m.refuses('clone tank/v@1 back/c', /source and target pools differ/);
  await m.refuses('clone tank/v@1 tank/v', /dataset already exists/);
  await m.refuses('clone tank/v@1 tank/no/parent', /parent does not exist/);
  await m.refuses('clone tank/v tank/x', /missing '@' delimiter|snapshot/);
  await m.each('create -u tank/fs', 'snapshot tank/fs@s', 'clone -u tank/fs@s tank/fsclone', 'destroy -R tank/fs@s');

  // Who promotes takes the snapshots, and their exports follow.
  const exported = async () =>
    (await m.shell(`nbdinfo --list '${m.lab.uri('')}' | sed -n 's/^export="\\(.*\\)":$/\\1/p'`))
      .trim()
      .split('\n')
      .join(' ');
  t.is(await exported(), 'tank/deep/er/c tank/v tank/v@1 tank/v@2 tank/v@3');
  await m.each('clone tank/v@2 tank/c2', 'snapshot tank/c2@1');
  await m.refuses(
    'promote tank/c2',
    /cannot promote 'tank\/c2': snapshot name '1' from origin\s+conflicts with 'tank\/c2@1'|conflict/,
  );
  await m.each('rename tank/c2@1 @own', 'promote tank/c2');
  t.is(await exported(), 'tank/c2 tank/c2@1 tank/c2@2 tank/c2@own tank/deep/er/c tank/v tank/v@3');
  t.true((await m.read('tank/c2@1', MiB)).equals(first), 'an export that follows is the same snapshot');
  t.is(await m.lab.get('tank/deep/er/c', 'origin'), 'tank/c2@1');
  t.is(await m.lab.get('tank/v', 'origin'), 'tank/c2@2');
  const held = await m.lab.open('tank/c2@2');
  await m.refuses('promote tank/v', /cannot promote 'tank\/v': dataset is busy/);
  held.destroy();
  const script = 'zfs.sync.promote((...).argv[1])';
  await m.shell(`echo '${script}' > promote.lua && zfs program tank promote.lua tank/v`);
  await m.lab.zpool('sync', 'tank');
  t.is(
    await exported(),
    'tank/c2 tank/c2@own tank/deep/er/c tank/v tank/v@1 tank/v@2 tank/v@3',
    'a channel program as well',
  );
  await m.refuses('promote tank/v', /not a cloned filesystem/);
  await m.each('destroy -r tank/c2', 'destroy -r tank/deep');
  await m.each('destroy tank/v@1');
  t.is(await exported(), 'tank/v tank/v@2 tank/v@3');

  await m.each(
    'rename -p tank/v tank/new/parents/v',
    'rename -f tank/new/parents/v tank/w',
    'rename -u tank/fs tank/gs',
  );
  t.is(await exported(), 'tank/w tank/w@2 tank/w@3');
  await m.each('snapshot -r tank@day', 'rename -r tank@day @yesterday');
  t.is((await m.lines('list -Ho name -t snapshot -r tank')).filter((name) => name.endsWith('@yesterday')).length, 5);
  await m.refuses('rename tank/w back/w', /datasets must be within same pool/);
  await m.refuses('rename tank/w@2 tank/gs@2', /snapshots must be part of same dataset/);
  await m.refuses('rename tank/w@2 @3', /dataset already exists/);
  await m.refuses('rename tank/new tank/new/sub', /New dataset name cannot be a descendant|descendant/);
  await m.refuses('rename tank/w tank/gs', /dataset already exists/);
  await m.refuses('rename tank/w tank/no/w', /parent does not exist/);
  await m.refuses('rename -r tank/w tank/x', /source dataset must be a snapshot|snapshot/, 2);

  await m.write('tank/w', 0, first);
  await m.refuses(
    'rollback tank/w@2',
    /more recent snapshots or bookmarks exist\nuse '-r' to force deletion of the following snapshots and bookmarks:\ntank\/w@(3|yesterday)/,
  );
  await m.zfs('rollback tank/w@yesterday');
  t.true((await m.read('tank/w', MiB)).equals(second));
  await m.each('bookmark tank/w@3 tank/w#3', 'clone tank/w@3 tank/later');
  await m.refuses(
    'rollback -r tank/w@2',
    /clones of previous snapshots exist\nuse '-R' to force deletion of the following clones and dependents:\ntank\/later/,
  );
  await m.zfs('rollback -R -f tank/w@2');
  t.is(await m.below('tank/w'), ' @2');
  await m.refuses('list tank/later', /does not exist/);
  await m.refuses('rollback tank/w', /snapshot delimiter '@'|missing '@'/);
  await m.lab.finish('tank', 'back');
});
