import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdirSync, mkdtempSync, rmSync, statSync, truncateSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { text } from 'node:stream/consumers';
import { setTimeout as sleep } from 'node:timers/promises';
import test from 'ava';
import type { Core } from '../../host/core/api.ts';
import { loadCore } from '../../host/core/load.ts';
import { IoctlServer } from '../../host/ioctl/server.ts';

// The natively built, 64-bit programs and the 32-bit core speak one ABI: each scenario ends with a clean zdb.

const root = join(import.meta.dirname, '..', '..');
const bin = join(root, 'cli', 'native', 'bin');
const directory = mkdtempSync(join(tmpdir(), 'zow-native-'));
const env: NodeJS.ProcessEnv = {
  ...process.env,
  ZOW_SOCKET: join(directory, 'zow.sock'),
  PATH: `${bin}:${process.env.PATH}`,
};

let core: Core;
let server: IoctlServer;

test.before(async () => {
  core = await loadCore({ memoryBytes: 512 * 1024 * 1024 });
  server = await IoctlServer.listen(core, env.ZOW_SOCKET!);
});

test.after.always(async () => {
  await server?.close('the test is over');
  await core?.close();
  rmSync(directory, { recursive: true });
});

/** A line of shell, for its pipes; resolves with what it wrote. */
async function sh(line: string): Promise<{ status: number | null; stdout: string; stderr: string }> {
  const child = spawn('bash', ['-o', 'pipefail', '-c', line], {
    env,
    cwd: directory,
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  const exit = once(child, 'exit');
  const [stdout, stderr] = await Promise.all([text(child.stdout), text(child.stderr)]);
  const [status] = (await exit) as [number | null];
  return { status, stdout, stderr };
}

/** As sh, but it has to succeed. */
async function ok(line: string): Promise<string> {
  const { status, stdout, stderr } = await sh(line);
  if (status !== 0) throw new Error(`${line}: exit ${status}: ${stderr}`);
  return stdout;
}

/** Sparse files of 256 MiB for one pool; returns their directory. */
function devices(pool: string, names: string): string {
  const at = join(directory, pool);
  mkdirSync(at);
  for (const name of names) {
    writeFileSync(join(at, name), '');
    truncateSync(join(at, name), 256 * 1024 * 1024);
  }
  return at;
}

/** Writes `bytes` of a pattern to a volume, as a frontend would. */
async function fill(name: string, bytes: number): Promise<void> {
  const volume = await core.volumes.open(name, { readOnly: false });
  for (let offset = 0; offset < bytes; offset += 1 << 20) {
    const buffer = await core.volumes.buffers.acquire(1 << 20);
    buffer.bytes.fill((offset >> 20) + 1);
    await volume.write(offset, buffer, { fua: false });
    buffer.release();
  }
  await volume.flush();
  await volume.close();
}

/** Exports the pool, has zdb verify every block of it, and imports it again. */
async function verify(pool: string): Promise<string> {
  await ok(`zpool export ${pool}`);
  const out = await ok(`zdb -e -p ${pool} -bcc ${pool} 2>&1`);
  await ok(`zpool import -d ${pool} ${pool}`);
  return out;
}

/** A program whose ioctl waits for a stream that does not come. */
function start(line: string): ChildProcess {
  return spawn('bash', ['-c', `exec ${line}`], { env, cwd: directory, stdio: ['pipe', 'ignore', 'ignore'] });
}

test.serial('a pool is created, described and found again', async (t) => {
  const at = devices('tank', 'abc');
  await ok(`zpool create -o ashift=12 tank mirror ${at}/a ${at}/b`);
  t.is(await ok('zpool list -H -o name,health'), 'tank\tONLINE\n');
  await ok('zfs create -V 64M -o volblocksize=16K tank/v');
  await ok('zfs create -s -V 1G tank/thin');
  t.is(await ok('zfs get -Hp -o value volsize,volblocksize tank/v'), '67108864\n16384\n');
  const fs = await sh('zfs create tank/fs');
  t.deepEqual(fs, {
    status: 0,
    stdout: '',
    stderr: 'filesystem successfully created, but not mounted: ZoW mounts no file systems\n',
  });
  await ok(`zpool attach -w tank ${at}/a ${at}/c`);
  t.regex(await ok('zpool status tank'), /resilvered .* with 0 errors/);
  await ok(`zpool detach tank ${at}/c`);
  await ok('zpool scrub -w tank');
  t.regex(await ok('zpool history tank'), /zpool create -o ashift=12 tank mirror .*\n.* zfs create -V 64M/);
  t.regex(await verify('tank'), /No leaks \(block sum matches space maps exactly\)/);
  t.is(await ok('zfs list -H -o name -r tank'), 'tank\ntank/fs\ntank/thin\ntank/v\n');
});

test.serial('streams go from pool to pool, and to and from files', async (t) => {
  const at = devices('back', 'a');
  await ok(`zpool create back ${at}/a`);
  await fill('tank/v', 16 << 20);
  await ok('zfs snapshot tank/v@one');
  await ok('zfs send tank/v@one > one.stream');
  t.true(statSync(join(directory, 'one.stream')).size > 100_000);
  await ok('zfs receive back/file < one.stream');
  await ok('zfs send tank/v@one | zfs receive back/pipe');
  await fill('tank/v', 4 << 20);
  await ok('zfs snapshot tank/v@two');
  await ok('zfs send -i @one tank/v@two | zfs receive back/pipe');
  await ok('zfs snapshot -r tank@all');
  await ok('zfs send -R tank@all | zfs receive -F back/tank');
  t.is(
    await ok('zfs list -H -t snapshot -o guid tank/v@two'),
    await ok('zfs list -H -t snapshot -o guid back/tank/v@two'),
  );
  t.regex((await sh('zfs receive back/bad < /dev/zero')).stderr, /bad magic number/);
  t.regex((await sh('head -c 100000 one.stream | zfs receive back/cut')).stderr, /incomplete stream/);
  t.not((await sh('zfs send tank/v@one > /dev/full')).status, 0);
  await verify('back');
});

test.serial('a receive that is killed leaves a host that serves, and nothing behind', async (t) => {
  const child = start('zfs receive back/killed');
  child.stdin!.write(Buffer.alloc(0));
  const head = spawn('head', ['-c', '60000', 'one.stream'], { cwd: directory, stdio: ['ignore', 'pipe', 'ignore'] });
  head.stdout.pipe(child.stdin!, { end: false });
  await once(head, 'exit');
  await sleep(300);
  child.kill('SIGINT');
  await once(child, 'exit');
  t.is(await ok('zpool list -H -o name tank'), 'tank\n');
  // The core destroys what it had received, some transactions later.
  for (let i = 0; i < 50 && (await sh('zfs list back/killed')).status === 0; i++) await sleep(100);
  t.not((await sh('zfs list back/killed')).status, 0);
  await ok('zfs receive back/killed < one.stream');
});

test.serial('a send whose reader goes away ends by SIGPIPE and holds nothing', async (t) => {
  // pipefail: the status is the last that is not 0, and 128 + SIGPIPE.
  t.deepEqual(await sh('zfs send tank/v@two | head -c 1000 | wc -c'), { status: 141, stdout: '1000\n', stderr: '' });
  await ok('zfs destroy tank/v@two');
});

test.serial('holds, channel programs, events and errors are what they are with a kernel', async (t) => {
  await ok('zfs hold keep tank/v@one');
  t.regex((await sh('zfs destroy tank/v@one')).stderr, /cannot destroy snapshot tank\/v@one: it's being held/);
  await ok('zfs release keep tank/v@one');
  writeFileSync(join(directory, 'list.lua'), 'for s in zfs.list.snapshots("tank/v") do return s end');
  t.regex(await ok('zfs program tank list.lua'), /tank\/v@(one|all)/); // They come in no order.
  t.regex(await ok('zpool events -H'), /sysevent\.fs\.zfs\.pool_create/);
  const missing = await sh('zfs list nowhere');
  t.deepEqual(missing, { status: 1, stdout: '', stderr: "cannot open 'nowhere': dataset does not exist\n" });
  t.regex((await sh('zfs mount tank/fs')).stderr, /^cannot mount 'tank\/fs': ZoW has no kernel file system to mount/);
});

test.serial('pools are destroyed, and the host has no session left', async (t) => {
  await ok('zpool destroy back');
  await ok('zpool destroy tank');
  t.is(await ok('zpool list'), 'no pools available\n');
  await sleep(100);
  t.is(server.sessions, 0);
});
