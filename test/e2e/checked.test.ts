import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import test from 'ava';
import { Errno } from '../../host/errno.ts';
import { compileNative } from '../native.ts';
import { Lab, MiB, must } from './host.ts';

/**
 * What upstream finds out in syncing context, where it can only panic, and take all pools of the host with it: each is
 * refused before, with an errno (wasm/core/mended/checked.c, docs/upstream.md). sync-context.c makes the requests that no
 * program makes.
 */

const E2BIG = 7;
const scratch = mkdtempSync(join(tmpdir(), 'zow-checked-'));
const program = join(scratch, 'sync-context');

test.before(() => {
  compileNative('test/e2e/sync-context.c', program, 'libzfs_core', 'libnvpair', 'libspl', 'libspl_assert');
});
test.after.always(() => rmSync(scratch, { recursive: true, force: true }));

/** The errno of a request. */
async function request(lab: Lab, ...args: string[]): Promise<number> {
  // Not synchronously: the host's log has to be read meanwhile.
  return Number(await must(program, args, { vars: { ZOW_SOCKET: lab.socket } }));
}

test('names, types and lengths in nvlists are checked before syncing context', async (t) => {
  const lab = await Lab.withPool(t);
  await lab.zfs('create', '-s', '-V', '1M', 'tank/v');
  await lab.zfs('snapshot', 'tank/v@1');
  const guid = (await lab.zpool('get', '-Hpo', 'value', 'guid', 'tank', 'all-vdevs')).trim().split('\n').at(-1)!;
  t.is(await request(lab, 'fsacl', 'tank', 'long'), Errno.ENAMETOOLONG);
  t.is(await request(lab, 'fsacl', 'tank', 'type'), Errno.EINVAL);
  t.is(await request(lab, 'pool', 'tank', 'user'), Errno.EINVAL);
  t.is(await request(lab, 'pool', 'tank', 'compatibility'), Errno.EINVAL);
  t.is(await request(lab, 'pool', 'tank', 'long'), E2BIG);
  t.is(await request(lab, 'vdev', 'tank', guid, 'name'), Errno.ENAMETOOLONG);
  t.is(await request(lab, 'vdev', 'tank', guid, 'value'), E2BIG);
  t.is(await request(lab, 'vdev', 'tank', guid, 'type'), Errno.EINVAL);
  t.is(await request(lab, 'vdev', 'tank', guid, 'index'), Errno.EINVAL);
  t.is(await request(lab, 'hold', 'tank/v@1', '256'), E2BIG);
  t.is(await request(lab, 'hold', 'tank/v@1', '255'), 0);
  await lab.zfs('release', 't'.repeat(255), 'tank/v@1');
  await lab.finish('tank');
});

test('the programs: a long property of a vdev, a long property that is inherited', async (t) => {
  const lab = await Lab.withPool(t);
  const disk = join(lab.disks, 'a');
  await lab.fails('zpool', 'set', `zow:${'n'.repeat(300)}=1`, 'tank', disk);
  await lab.zpool('set', `zow:${'n'.repeat(200)}=1`, 'tank', disk);
  await lab.zfs('create', 'tank/a');
  await lab.zfs('set', 'zow:sent=1', 'tank/a');
  await lab.zfs('snapshot', 'tank/a@1');
  const sent = await lab.shell('zfs send -p tank/a@1 | zfs receive tank/b');
  t.is(sent.code, 0, sent.stderr);
  const long = `zow:${'n'.repeat(246)}`;
  await lab.zfs('set', `${long}=1`, 'tank/b');
  await lab.zfs('inherit', long, 'tank/b');
  t.is((await lab.zfs('get', '-Ho', 'value', long, 'tank/b')).trim(), '-');
  await lab.finish('tank');
});

test('a log device cannot be set to allocate nothing; others can', async (t) => {
  const lab = await Lab.open(t);
  await lab.start({ config: { zed: false } });
  const [a, b, log] = lab.manyDisks(3, 64 * MiB) as [string, string, string];
  await lab.zpool('create', 'tank', a, b, 'log', log);
  t.regex(
    await lab.fails('zpool', 'set', 'allocating=off', 'tank', log),
    /operation not supported on this type of vdev/,
  );
  t.is((await lab.zpool('get', '-Ho', 'value', 'allocating', 'tank', log)).trim(), 'on');
  await lab.zpool('set', 'allocating=off', 'tank', b);
  t.is((await lab.zpool('get', '-Ho', 'value', 'allocating', 'tank', b)).trim(), 'off');
  await lab.zpool('remove', 'tank', log);
  await lab.finish('tank');
});

test('a clone is not promoted over a bookmark of its own', async (t) => {
  const lab = await Lab.withPool(t);
  const file = join(lab.directory, 'promote.zcp');
  writeFileSync(file, 'local errno = zfs.sync.promote("tank/clone"); return errno');
  await lab.zfs('create', 'tank/fs');
  for (const name of ['0', '1']) await lab.zfs('snapshot', `tank/fs@${name}`);
  await lab.zfs('clone', 'tank/fs@1', 'tank/clone');
  await lab.zfs('snapshot', 'tank/clone@2');
  await lab.zfs('bookmark', 'tank/fs@0', 'tank/fs#moves');
  await lab.zfs('bookmark', 'tank/fs@1', 'tank/fs#same');
  await lab.zfs('bookmark', 'tank/clone@2', 'tank/clone#same');
  t.regex(await lab.fails('zfs', 'promote', 'tank/clone'), /conflicting snapshot 'same' from parent 'tank\/fs@1'/);
  t.regex(await lab.zfs('program', 'tank', file), /return: 17/);
  await lab.zfs('destroy', 'tank/clone#same');
  await lab.zfs('promote', 'tank/clone');
  t.is(await lab.zfs('list', '-Ho', 'name', '-t', 'bookmark', '-r', 'tank'), 'tank/clone#moves\ntank/clone#same\n');
  await lab.finish('tank');
});

test('a channel program that inherits a property of nothing', async (t) => {
  const lab = await Lab.withPool(t);
  const file = join(lab.directory, 'inherit.zcp');
  writeFileSync(file, 'args = ...; return zfs.sync.inherit(args.argv[1], args.argv[2])');
  for (const name of ['tank/none', 'none', '', 'tank@none', '/', 'tank/..']) {
    t.regex(await lab.fails('zfs', 'program', 'tank', file, name, 'zow:x'), /cannot inherit property 'zow:x'/);
  }
  await lab.zfs('set', 'zow:x=1', 'tank');
  t.regex(await lab.zfs('program', 'tank', file, 'tank', 'zow:x'), /return: 0/);
  t.is((await lab.zfs('get', '-Ho', 'value', 'zow:x', 'tank')).trim(), '-');
  await lab.finish('tank');
});

/** Calls of a channel program, of all that it may call, with names and values that are strange in every way. */
const FUZZ = `
args = ...
local seed = tonumber(args.argv[1])
local function dice(n) seed = (seed * 1103515245 + 12345) % 2147483648; return (seed / 65536) % n + 1 end
local names = {"tank", "tank/a", "tank/b", "tank/v", "tank/a/c", "tank/none", "tank/x", "tank/y", "none", "", "/", "tank/", "tank//a",
  "tank/../tank", "tank/a b", "tank/" .. string.rep("n", 249), "tank/" .. string.rep("n", 300), "tank/$x", "tank/%recv"}
local tails = {"@1", "@2", "@3", "@none", "@", "@a@b", "@" .. string.rep("s", 240), "@a/b", "#1", "#2", "#", "", "", ""}
local values = {"", "1", "zow:x", "zow:" .. string.rep("p", 251), "zow:" .. string.rep("p", 300), string.rep("v", 8191), string.rep("v", 8192),
  "compression", "mountpoint", "keylocation", "1", "2", "3", string.rep("s", 255), "@1", "a/b"}
local function name() return names[dice(#names)] .. tails[dice(#tails)] end
local function value() return values[dice(#values)] end
local calls = {
  function() return zfs.sync.destroy(name()) end,
  function() return zfs.sync.destroy(name(), {defer = true}) end,
  function() return zfs.sync.snapshot(name()) end,
  function() return zfs.sync.snapshot(names[dice(5)] .. tails[dice(3)]) end,
  function() return zfs.sync.clone(names[dice(5)] .. tails[dice(3)], name()) end,
  function() return zfs.sync.clone(names[dice(5)] .. tails[dice(3)], names[dice(8)]) end,
  function() return zfs.sync.promote(name()) end,
  function() return zfs.sync.rollback(name()) end,
  function() return zfs.sync.rename_snapshot(names[dice(5)], value(), value()) end,
  function() return zfs.sync.bookmark(name(), name()) end,
  function() return zfs.sync.bookmark(names[dice(5)] .. tails[dice(3)], names[dice(5)] .. "#" .. value()) end,
  function() return zfs.sync.set_prop(name(), value(), value()) end,
  function() return zfs.sync.inherit(name(), value()) end,
  function() return zfs.get_prop(name(), value()) end,
  function() local n = 0; for s in zfs.list.snapshots(name()) do n = n + 1 end; return n end,
  function() local n = 0; for s in zfs.list.clones(name()) do n = n + 1 end; return n end,
  function() local n = 0; for s in zfs.list.holds(name()) do n = n + 1 end; return n end,
  function() local n = 0; for s in zfs.list.bookmarks(name()) do n = n + 1 end; return n end,
}
local failed = 0
for i = 1, 60 do
  local call = calls[dice(#calls)]
  if call() ~= 0 then failed = failed + 1 end
end
return failed
`;

test('channel programs of random calls', async (t) => {
  const lab = await Lab.withPool(t);
  const file = join(lab.directory, 'fuzz.zcp');
  writeFileSync(file, FUZZ);
  let whole = 0;
  const rounds = Number(process.env.ZOW_ROUNDS ?? 12);
  for (let seed = 1; seed <= rounds; seed++) {
    for (const name of ['tank/a', 'tank/b', 'tank/a/c']) await lab.run('zfs', ['create', '-p', name]);
    await lab.run('zfs', ['create', '-s', '-V', '1M', 'tank/v']);
    const result = await lab.run('zfs', ['program', 'tank', file, String(seed)]);
    if (result.code === 0) whole++;
    if (seed % 5 === 0) await lab.run('zfs', ['destroy', '-R', 'tank/a']);
  }
  t.log(`${whole} of ${rounds} programs ran to their end`);
  t.regex(await lab.zpool('list', '-Ho', 'health', 'tank'), /ONLINE/);
  await lab.finish('tank');
});
