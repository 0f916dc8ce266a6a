import test from 'ava';
import { MiB, noise } from '../e2e/host.ts';
import { Manual, natively } from './manual.ts';

/** zfs-list(8), zfs-get(8), zfs-userspace(8), zfs-hold(8), and what every other page says of wrong words: as the native zfs. */

/** Commands that change nothing, by what they look at. */
const commands = [
  // Everything of everything, in every form.
  ...['list -o all -rt all', 'list -jrt all', 'list -jrt all --json-int', 'get -r all', 'get -jrp all tank'],
  ...['get all tank/fs@s', 'get all tank/fs#b', 'get -j all tank/fs#b tank/fs@s', 'get -Hpo all used tank'],
  'get -o name,value -s default,none -d 1 all tank',
  'get -rt bookmark,snapshot guid,createtxg tank',
  'list -Ho name,creation,used -s used -S name',
  ...['list -d 1 tank', 'list -d 0', 'list tank/fs@s tank/fs#b tank/v', 'list -o space -t volume'],
  'list -rt snapshot -o name,written,written@s,userrefs,defer_destroy',
  'get written@s,snapshots_changed,snapshot_count,filesystem_count,snapshot_limit tank/fs',
  'get userused@0,groupused@0,projectused@0,userobjused@0,groupobjused@0,projectobjused@0,projectquota@7 tank/fs',
  'get userquota@root,userquota@nosuch tank/fs',
  ...['userspace -Hpnt all tank/fs', 'userspace -o type,name,used,quota,objused,objquota tank/fs'],
  ...['groupspace tank/fs', 'projectspace -Hp tank/fs@s', 'holds -rH tank/fs@s', 'holds -p tank/fs@s', 'allow tank/fs'],
  ...['upgrade', 'upgrade -v', 'version -j', 'send -nvP tank/v@s', 'send -nvRP tank@s', 'destroy -nvr tank/fs'],
  ...['create -nvP -V 10M tank/new', 'create -nvpo compression=lz4 tank/new/x', 'destroy -nvp tank/v@s%'],
  // What is wrong.
  ...['', 'nosuch', 'help list', 'list -?', 'list nosuch', 'list nosuch/x@y', 'list tank/fs@no', 'list tank/fs#no'],
  ...['list -t nosuch', 'list -d -1', 'get', 'get nosuch', 'get -s nosuch all', 'get -d x all', 'list /', 'list .'],
  ...['userspace -t nosuch tank/fs', 'userspace tank/none', 'holds tank/fs', 'release x tank/fs@no', 'hold x', 'set a'],
  ...['set a:b=c nosuch', 'inherit nosuch tank/fs', 'inherit -S used tank/fs', 'rename tank', 'promote tank/fs'],
  ...['clone tank/fs@no tank/x', 'bookmark tank/fs@s', 'rollback tank/fs', 'diff tank/fs', 'send tank/fs@no'],
  ...[
    'send -t 1-xx',
    'send -S tank/fs',
    'receive -z',
    'receive -x used tank/x',
    'receive -A tank/fs',
    'wait -t x tank',
  ],
  ...[
    'load-key tank/fs',
    'change-key tank/fs',
    'create -V 1x tank/q',
    'create -o quota=1x tank/q',
    'create tank/a/b/c',
  ],
  ...['destroy tank/fs@a%b', 'snapshot tank/fs', 'snapshot -o nosuch=1 tank/fs@q', 'program tank', 'redact', 'unallow'],
];

test('what zfs shows, and what it says of wrong words, is what the natively built zfs does', async (t) => {
  const m = await Manual.open(t, 'tank');
  await m.each('create -u -o org.example:a=b tank/fs', 'create -u tank/fs/sub', 'create -V 16M tank/v');
  await m.write('tank/v', 0, noise(MiB));
  await m.each(
    'snapshot -r tank@s',
    'bookmark tank/fs@s tank/fs#b',
    'hold -r keep tank/fs@s',
    'allow daemon create,mount tank/fs',
    'set snapshot_limit=5 filesystem_limit=3 userquota@1000=1M groupquota@5=2M projectquota@7=3M tank/fs',
  );
  await m.lab.zpool('sync', 'tank');
  for (const line of commands) {
    const args = line === '' ? [] : line.split(' ');
    const both = () => Promise.all([m.lab.run('zfs', args), natively(m.lab, 'zfs', args)]);
    let [ours, theirs] = await both();
    // What a dataset uses changes by itself, a transaction group after it was changed.
    for (let i = 0; i < 5 && ours.stdout !== theirs.stdout; i++) [ours, theirs] = await both();
    t.deepEqual(ours, theirs, line);
  }
});
