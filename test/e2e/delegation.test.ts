import { chmodSync } from 'node:fs';
import { join } from 'node:path';
import test from 'ava';
import { skip } from '../skip.ts';
import { execute, Lab, root } from './host.ts';

/** Who may do what: the socket's owner everything, others nothing; `zfs allow` is kept and shown as zfs-allow(8) does. */
const nobody = 65534;

/** A user and a group of every Debian, for the manual's cindys and staff. */
const user = 'games';
const group = 'staff';

const cindys = `---- Permissions on tank/cindys --------------------------------------
Local+Descendent permissions:
	user ${user} create,destroy,mount,snapshot
`;

const line = '---- Permissions on tank/users ---------------------------------------\n';

test("the manual's examples: permissions are shown as it prints them, after a restart too", async (t) => {
  const lab = await Lab.withPool(t);
  await lab.zfs('create', 'tank/cindys');
  await lab.zfs('create', 'tank/users');
  const users = () => lab.zfs('allow', 'tank/users');

  await lab.zfs('allow', user, 'create,destroy,mount,snapshot', 'tank/cindys');
  t.is(await lab.zfs('allow', 'tank/cindys'), cindys);

  await lab.zfs('allow', group, 'create,mount', 'tank/users');
  await lab.zfs('allow', '-c', 'destroy', 'tank/users');
  t.is(
    await users(),
    `${line}Create time permissions:\n\tdestroy\nLocal+Descendent permissions:\n\tgroup ${group} create,mount\n`,
  );

  await lab.zfs('unallow', group, 'create,mount', 'tank/users');
  await lab.zfs('unallow', '-c', 'destroy', 'tank/users');
  await lab.zfs('allow', '-s', '@pset', 'create,destroy,snapshot,mount', 'tank/users');
  await lab.zfs('allow', group, '@pset', 'tank/users');
  const set = `${line}Permission sets:\n\t@pset create,destroy,mount,snapshot\nLocal+Descendent permissions:\n\tgroup ${group} @pset\n`;
  t.is(await users(), set);

  await lab.zpool('export', 'tank');
  await lab.stop();
  await lab.start();
  await lab.zpool('import', '-d', lab.disks, 'tank');
  t.is(await users(), set);
  t.is(await lab.zfs('allow', 'tank/cindys'), cindys);

  await lab.zfs('allow', user, 'quota,reservation', 'tank/users');
  await lab.zfs('allow', '-l', '-e', 'hold', 'tank/users');
  await lab.zfs('unallow', '-r', user, 'tank/users');
  await lab.zfs('unallow', '-s', '@pset', 'tank/users');
  t.is(
    await users(),
    `${line}Local permissions:\n\teveryone hold\nLocal+Descendent permissions:\n\tgroup ${group} @pset\n`,
  );
  const [uid] = (await execute('id', ['-u', user])).stdout.trim().split('\n');
  t.regex(
    await lab.zpool('history', '-i', 'tank'),
    new RegExp(`permission update tank/cindys \\(\\d+\\) ul\\$${uid} create`),
  );
  await lab.finish('tank');
});

test('who may not connect is told so, and permissions do not open the socket', async (t) => {
  if (process.getuid!() !== 0) {
    return skip(t, 'only root can be somebody else');
  }
  const lab = await Lab.withPool(t);
  await lab.zfs('create', 'tank/fs');
  await lab.zfs('allow', '-e', 'create,destroy,mount,snapshot', 'tank/fs');
  for (const folder of [lab.directory, join(lab.socket, '..')]) chmodSync(folder, 0o755);
  const vars = { ZOW_SOCKET: lab.socket };
  const zfs = join(root, 'cli/native/bin/zfs');
  const { code, stderr } = await execute(zfs, ['snapshot', 'tank/fs@mine'], { vars, uid: nobody });
  t.is(code, 1);
  t.regex(stderr, /zow\.sock: Permission denied/);
  t.is(await lab.zfs('list', '-Ht', 'snapshot'), '');
  await lab.finish('tank');
});

test('everything is done as root: so says the history, and files belong to it', async (t) => {
  const lab = await Lab.withPool(t);
  await lab.zfs('create', 'tank/fs');
  t.regex(await lab.zpool('history', '-l', 'tank'), /zfs create tank\/fs \[user 0 \(root\) on .+:zow\]/);
  t.regex(await lab.zfs('userspace', '-Hp', 'tank/fs'), /^POSIX User\troot\t/);
  await lab.finish('tank');
});
