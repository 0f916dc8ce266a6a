import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import test from 'ava';
import { until } from '../e2e/host.ts';
import { Manual, natively } from './manual.ts';

/** zfs(8): its examples; the subcommands that need a mounted file system; and the small pages. */

test('the examples of zfs(8)', async (t) => {
  const m = await Manual.open(t, 'pool', 'poolB');
  // 1 to 9: creating, snapshots, compression, quota, rollback, clone.
  await m.each(
    'create pool/home',
    'set mountpoint=/export/home pool/home',
    'create pool/home/bob',
    'create pool/home/anne',
    'snapshot pool/home/bob@yesterday',
    'destroy pool/home/bob@yesterday',
    'snapshot -r pool/home@yesterday',
    'destroy -r pool/home@yesterday',
    'set compression=off pool/home',
    'set compression=on pool/home/anne',
    'snapshot -r pool/home@yesterday',
    'snapshot pool/home/anne@today',
    'set quota=50G pool/home/bob',
  );
  t.regex(await m.zfs('list'), /^NAME +USED +AVAIL +REFER +MOUNTPOINT\npool .*\/pool\npool\/home .*\/export\/home\n/);
  const all = await m.zfs('get all pool/home/bob');
  t.regex(all, /pool\/home\/bob +quota +50G +local\n/);
  t.regex(all, /pool\/home\/bob +mountpoint +\/export\/home\/bob +inherited from pool\/home\n/);
  t.regex(await m.zfs('get -r -s local -o name,property,value all pool/home/bob'), /pool\/home\/bob +quota +50G\n/);
  await m.each('rollback -r pool/home/anne@yesterday', 'clone pool/home/bob@yesterday pool/clone');
  // 10: testing out changes.
  await m.each(
    'create -p pool/project/production',
    'snapshot pool/project/production@today',
    'clone pool/project/production@today pool/project/beta',
    'promote pool/project/beta',
    'rename pool/project/production pool/project/legacy',
    'rename pool/project/beta pool/project/production',
    'destroy pool/project/legacy',
  );
  t.is(await m.below('pool/project'), ' /production@today /production');
  // 11 to 14: inheriting, sending, receiving with -d, user properties.
  await m.each('inherit checksum pool/home/bob pool/home/anne', 'create poolB/received');
  await m.shell('zfs send pool/home/bob@yesterday | zfs receive poolB/received/fs');
  await m.zfs('snapshot pool/home/bob@b');
  await m.shell('zfs send -i yesterday pool/home/bob@b | zfs receive poolB/received/fs');
  await m.shell('zfs send pool/project/production@today | zfs receive -d poolB/received');
  t.is(
    await m.below('poolB/received'),
    ' /fs /fs@yesterday /fs@b /project /project/production /project/production@today',
  );
  await m.zfs('set com.example:department=12345 pool/home');
  // 15: a week's worth of snapshots.
  await m.zfs('create pool/users');
  for (const day of ['7daysago', '6daysago', '5daysago', 'yesterday', 'today'])
    await m.zfs(`snapshot -r pool/users@${day}`);
  await m.each(
    'destroy -r pool/users@7daysago',
    'rename -r pool/users@6daysago @7daysago',
    'rename -r pool/users@5daysago @6daysago',
    'rename -r pool/users@yesterday @2daysago',
    'rename -r pool/users@today @yesterday',
    'snapshot -r pool/users@today',
  );
  t.is(await m.below('pool/users'), ' @7daysago @6daysago @2daysago @yesterday @today');
  // 16 to 21: sharing's property (upstream's root= is not for Linux), delegation.
  await m.each(
    'set sharenfs=rw=@123.123.0.0/16:[::1] pool/home',
    'allow root create,destroy,mount,snapshot pool/clone',
  );
  t.is(
    await m.zfs('allow pool/clone'),
    '---- Permissions on pool/clone ---------------------------------------\n' +
      'Local+Descendent permissions:\n\tuser root create,destroy,mount,snapshot\n',
  );
  await m.each(
    'allow -g daemon create,mount pool/users',
    'allow -c destroy pool/users',
    'allow -s @pset create,destroy,snapshot,mount pool/users',
    'allow -g daemon @pset pool/users',
    'allow -l root quota,reservation pool/users',
    'allow -d -e hold pool/users',
    'unallow -g daemon create pool/users',
  );
  t.is(
    await m.zfs('allow pool/users'),
    '---- Permissions on pool/users ---------------------------------------\n' +
      'Permission sets:\n\t@pset create,destroy,mount,snapshot\nCreate time permissions:\n\tdestroy\n' +
      'Local permissions:\n\tuser root quota,reservation\nDescendent permissions:\n\teveryone hold\n' +
      'Local+Descendent permissions:\n\tgroup daemon @pset,mount\n',
  );
  await m.each(
    'unallow -s @pset pool/users',
    'unallow -c pool/users',
    'unallow -r root pool/users',
    'unallow -e pool/users',
    'unallow -g daemon pool/users',
  );
  t.is(await m.zfs('allow pool/users'), '');
  await m.refuses('allow root nonsense pool/users', /invalid permission 'nonsense'|permission/);
  // 22 and 23: differences need a mount; bookmarks.
  await m.refuses('diff -F pool/home/bob@yesterday', /Cannot diff an unmounted snapshot/);
  await m.zfs('bookmark pool/home/bob@yesterday pool/home/bob#bookmark');
});

test('what needs a kernel says so; userspace, upgrade, wait, version, help', async (t) => {
  const m = await Manual.open(t, 'tank');
  await m.each('create -u tank/fs', 'create -V 8M tank/v', 'snapshot tank/fs@s');
  const mount = /ZoW has no kernel file system to mount/;
  for (const line of ['mount tank/fs', 'mount -a', 'mount -R tank', 'mount -o ro -O -v tank/fs'])
    await m.refuses(line, mount);
  await m.zfs('share -a');
  await m.zfs('set sharenfs=on tank/fs');
  await m.refuses('share tank/fs', /cannot share 'tank\/fs': ZoW has no kernel file system/);
  await m.refuses('unmount tank/fs', /cannot unmount 'tank\/fs': not currently mounted/);
  // It would be a mount point of this machine's, which is not ours to unmount.
  for (const program of [m.lab.run('zfs', ['unmount', '/proc']), natively(m.lab, 'zfs', ['unmount', '/proc'])]) {
    const { code, stderr } = await program;
    t.is(code, 1);
    t.regex(stderr, /warning: \/proc not in\/proc\/self\/mounts\n\/proc: Invalid argument\n$/);
  }
  await m.refuses('unshare tank/fs', /cannot unshare 'tank\/fs': (not currently shared|legacy)/);
  t.is(await m.zfs('mount'), '');
  t.is(await m.zfs('unmount -a'), '');
  await m.refuses(
    'project -s -p 1 /tmp',
    /^cannot project: it works on the files of a mounted file system, and ZoW mounts none\n$/,
  );
  await m.refuses(
    'rewrite -r /tmp',
    /^cannot rewrite: it works on the files of a mounted file system, and ZoW mounts none\n$/,
  );
  await m.refuses(
    'zone /proc/self/ns/user tank/fs',
    /^cannot zone: ZoW has no kernel whose namespaces could own a dataset\n$/,
  );
  await m.refuses('unzone /proc/self/ns/user tank/fs', /^cannot unzone: ZoW has no kernel/);
  await m.refuses('jail 1 tank/fs', /unrecognized command 'jail'/, 2);
  await m.refuses('diff tank/fs@s tank/fs', /Cannot diff an unmounted snapshot/);

  // Quotas by name and by number, in every order and form.
  await m.zfs(
    'set userquota@root=1G userquota@4711=2G groupquota@0=3G userobjquota@4711=5 projectquota@7=4G projectobjquota@7=9 tank/fs',
  );
  t.is(await m.lab.get('tank/fs', 'userquota@0'), String(1024 ** 3));
  t.deepEqual(await m.lines('userspace -Hp -o name,quota,objquota -S quota tank/fs'), [
    '4711\t2147483648\t5',
    'root\t1073741824\t0',
  ]);
  t.deepEqual(await m.lines('userspace -Hnp -o type,name -s name tank/fs'), ['POSIX User\t0', 'POSIX User\t4711']);
  t.deepEqual(await m.lines('userspace -Hp -t posixgroup -o type,name,quota tank/fs'), [
    'POSIX Group\troot\t3221225472',
  ]);
  t.is((await m.lines('groupspace -H -o quota tank/fs')).join(), '3G');
  t.deepEqual(await m.lines('projectspace -Hp -o name,quota,objquota -s name tank/fs'), [
    '0\t0\t0',
    '7\t4294967296\t9',
  ]);
  t.is((await m.lines('userspace -Hi -o name tank/fs@s')).join(), 'root');
  await m.refuses('userspace tank/v', /operation not applicable to datasets of this type/);
  await m.refuses('userspace -o nonsense tank/fs', /invalid type 'nonsense' for -o option/);
  await m.refuses('set userquota@no-such-user=1G tank/fs', /unable to lookup|invalid|no such/i);

  t.regex(
    await m.zfs('upgrade -v'),
    /VER +DESCRIPTION\n[- ]+\n 1 +Initial ZFS filesystem version\n[\s\S]*\n 5 +System attributes\n/,
  );
  await m.each('create -u -o version=4 tank/old', 'create -u -o version=3 tank/old/below');
  t.regex(
    await m.zfs('upgrade'),
    /The following filesystems are out of date[\s\S]* 4 +tank\/old\n 3 +tank\/old\/below\n/,
  );
  t.regex(await m.zfs('upgrade -V 4 tank/old/below'), /1 filesystems upgraded/);
  t.regex(await m.zfs('upgrade -r tank/old'), /2 filesystems upgraded/);
  t.regex(await m.zfs('upgrade -a'), /0 filesystems upgraded\n4 filesystems already at this version/);
  await m.refuses('upgrade -V 9 -a', /invalid version 9/, 2);

  t.is(await m.zfs('wait tank/fs'), '');
  t.is(await m.zfs('wait -t deleteq tank/fs'), '');
  await m.refuses('wait -t nonsense tank/fs', /invalid activity 'nonsense'/, 2);
  await m.refuses('wait tank/v', /not applicable to datasets of this type/);
  t.regex(await m.zfs('version'), /^zfs-\d+\.\d+\.\d+-\d+\nzfs-kmod-\d+\.\d+\.\d+-\d+\n$/);
  t.is(await m.zfs('--version'), await m.zfs('version'));
  await m.refuses('nonsense', /unrecognized command 'nonsense'\nusage:/, 2);
});

test('channel programs: zfs-program(8)', async (t) => {
  const m = await Manual.open(t, 'tank');
  const script = (name: string, text: string) => writeFileSync(join(m.lab.directory, name), text);
  const run = async (line: string) => {
    const { code, stdout, stderr } = await m.lab.run('zfs', ['program', ...line.split(' ')], { cwd: m.lab.directory });
    return { code, stdout, stderr };
  };
  await m.each(
    'create -V 8M tank/v',
    'create -u tank/fs',
    'snapshot -r tank@a',
    'clone tank/v@a tank/c',
    'bookmark tank/v@a tank/v#b',
    'hold tag tank/fs@a',
  );
  await m.zfs('set org.example:x=y tank/fs');
  script(
    'read.lua',
    `args = ...
    local function all(iterator) local names = {} for name in iterator do names[#names + 1] = name end table.sort(names) return names end
    return {
      argv = args.argv, exists = {zfs.exists("tank/v"), zfs.exists("tank/no")},
      children = all(zfs.list.children("tank")), snapshots = all(zfs.list.snapshots("tank/v")), clones = all(zfs.list.clones("tank/v@a")),
      bookmarks = all(zfs.list.bookmarks("tank/v")), holds = all(zfs.list.holds("tank/fs@a")), properties = all(zfs.list.properties("tank/fs")),
      origin = {zfs.get_prop("tank/c", "origin")}, volsize = {zfs.get_prop("tank/v", "volsize")},
      check = {zfs.check.destroy("tank/v"), zfs.check.snapshot("tank/v@new"), zfs.check.promote("tank/c"), zfs.check.rollback("tank/v")},
      text = string.format("%s-%d", string.upper("x"), 7) }`,
  );
  const read = await run('-nj tank read.lua one two');
  t.is(read.code, 0, read.stderr);
  const { return: got } = JSON.parse(read.stdout);
  t.deepEqual(Object.values(got.argv), ['one', 'two']);
  t.deepEqual(Object.values(got.exists), [true, false]);
  t.deepEqual(Object.values(got.children), ['tank/c', 'tank/fs', 'tank/v']);
  t.deepEqual(Object.values(got.snapshots), ['tank/v@a']);
  t.deepEqual(Object.values(got.clones), ['tank/c']);
  t.deepEqual(Object.values(got.bookmarks), ['tank/v#b']);
  t.deepEqual(Object.values(got.holds), ['tag']);
  t.deepEqual(Object.values(got.properties), ['org.example:x']);
  t.deepEqual(Object.values(got.origin), ['tank/v@a']);
  t.deepEqual(Object.values(got.volsize)[0], 8 * 1024 ** 2);
  t.deepEqual(Object.values(got.check), [16, 0, 0, 0], 'EBUSY: it has a snapshot');
  t.is(got.text, 'X-7');

  script(
    'write.lua',
    `return {zfs.sync.snapshot("tank/v@new"), zfs.sync.bookmark("tank/v@new", "tank/v#new"), zfs.sync.set_prop("tank/v", "org.example:by", "lua"),
      zfs.sync.inherit("tank/fs", "org.example:x"), zfs.sync.rename_snapshot("tank/v", "new", "newer"), zfs.sync.clone("tank/v@newer", "tank/lua"), zfs.sync.destroy("tank/lua"), zfs.sync.destroy{"tank/v@newer", defer=true}}`,
  );
  const written = await run('-j tank write.lua');
  t.is(written.code, 0, written.stderr);
  t.deepEqual(Object.values(JSON.parse(written.stdout).return), new Array(8).fill(0));
  t.is(await m.lab.get('tank/v', 'org.example:by'), 'lua');
  t.is(await m.lab.get('tank/fs', 'org.example:x'), '-');
  t.is(await m.below('tank/v'), ' #b @a #new');
  await until(
    'the volume of a channel program is gone',
    async () => (await m.lab.run('zfs', ['list', 'tank/lua'])).code !== 0,
  );

  script('forever.lua', 'while true do end');
  const slow = await run('-t 10000 tank forever.lua');
  t.is(slow.code, 1);
  t.regex(slow.stderr, /Channel program execution failed:\nChannel program timed out|Timed out|timed out/i);
  script('memory.lua', 'local s = "x" while true do s = s .. s end');
  t.regex((await run('-m 100000 tank memory.lua')).stderr, /Memory limit exhausted|not enough memory|memory/i);
  script('error.lua', 'error("said so")');
  t.regex((await run('tank error.lua')).stderr, /said so/);
  script('syntax.lua', 'this is not lua');
  t.regex((await run('tank syntax.lua')).stderr, /syntax error/);
  script('sync.lua', 'zfs.sync.destroy("tank/v")');
  t.not((await run('-n tank sync.lua')).code, 0, '-n runs no zfs.sync');
  // Not in the program that made a snapshot: that has to be of an earlier transaction group.
  script('rollback.lua', 'return zfs.sync.rollback("tank/v")');
  t.is(JSON.parse((await run('-j tank rollback.lua')).stdout).return, 17, 'EEXIST: a bookmark is more recent');
  t.regex((await run('-t 999999999999 tank error.lua')).stderr, /Invalid instruction or memory limit/);
  t.regex((await run('tank none.lua')).stderr, /cannot open 'none.lua'|No such file/);
  t.regex((await run('none read.lua')).stderr, /cannot open 'none': no such pool/);
});
