import { type ChildProcess, spawn } from 'node:child_process';
import { createHash } from 'node:crypto';
import { once } from 'node:events';
import { chmodSync, chownSync, existsSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Readable } from 'node:stream';
import { buffer, text } from 'node:stream/consumers';
import { setTimeout as sleep } from 'node:timers/promises';
import test, { type ExecutionContext } from 'ava';
import { Errno } from '../../host/errno.ts';
import { encodeHelloReply } from '../../host/ioctl/protocol.ts';
import { IoctlServer } from '../../host/ioctl/server.ts';
import { FakeCore, type FakeHandler } from '../host/ioctl/fake-core.ts';
import { packNvlist } from '../host/nvlist/pack.ts';
import { compileNative } from '../native.ts';
import { unless } from '../skip.ts';

// The client in C, as the natively built programs have it, against the server with a table for a core.

const root = join(import.meta.dirname, '..', '..');
const release = '2.4.3';
const scratch = mkdtempSync(join(tmpdir(), 'zow-client-'));
const driver = join(scratch, 'driver');
const zpool = join(root, 'cli', 'native', 'bin', 'zpool');
const zfs = join(root, 'cli', 'native', 'bin', 'zfs');

/** Offsets in zfs_cmd_t of zc_name, zc_guid, zc_cookie and zc_objset_stats.dds_type. */
const nameAt = 0;
const guidAt = 4096 + 32 + 8 + 8 + 8192 + 256;
const cookieAt = guidAt + 24;
const objsetTypeAt = 12728;
const filesystem = 2;

const ioc = {
  poolDestroy: 0x5a01,
  poolConfigs: 0x5a04,
  poolStats: 0x5a05,
  poolGetHistory: 0x5a0a,
  objsetStats: 0x5a12,
  datasetListNext: 0x5a14,
  snapshotListNext: 0x5a15,
  create: 0x5a17,
  recv: 0x5a1b,
  send: 0x5a1c,
  errorLog: 0x5a20,
  poolGetProps: 0x5a27,
  echo: 0x5a70,
  together: 0x5a71,
  wait: 0x5a72,
  eventsNext: 0x5a81,
} as const;

const emptyNvlist = packNvlist({});

function view(cmd: Uint8Array): Buffer {
  return Buffer.from(cmd.buffer, cmd.byteOffset, cmd.byteLength);
}

/** 20 MB that a seed decides. */
function* pattern(): Generator<Buffer> {
  for (let i = 0; i < 200; i++) yield Buffer.alloc(100_000, `${i} ${i * i} `);
}

const patternSum = [...pattern()].reduce((sum, piece) => sum.update(piece), createHash('sha256')).digest('hex');

/** `together` answers when `parties` of its calls wait. */
function table(parties: number): Record<number, FakeHandler> {
  let log = Buffer.alloc(0);
  let arrived = 0;
  const all = Promise.withResolvers<void>();
  const wait: FakeHandler = ({ interrupted }) => interrupted;
  return {
    [ioc.poolConfigs]: async () => ({ dst: emptyNvlist }),
    [ioc.echo]: async ({ cmd, src }) => {
      view(cmd).fill(0xff, 4096, 4096 + 32);
      view(cmd).write('echo\0', nameAt);
      return { cmd, dst: src };
    },
    [ioc.poolDestroy]: async ({ history, historyRoom, dstRoom }) => {
      log = Buffer.from(history);
      return historyRoom === 0 && dstRoom === 0 ? {} : { errno: Errno.EINVAL };
    },
    [ioc.poolGetHistory]: async ({ history, historyRoom }) =>
      history.length === 0 && historyRoom === 64 ? { history: log } : { errno: Errno.EINVAL },
    [ioc.errorLog]: async ({ dstRoom }) => {
      const dst = Buffer.alloc(dstRoom);
      // zb_blkid of the tenth.
      dst.writeUInt32LE(77, 9 * 32 + 24);
      return { dst };
    },
    [ioc.together]: async ({ cmd, session }) => {
      if (++arrived >= parties) all.resolve();
      await all.promise;
      view(cmd).writeUInt32LE(view(cmd).readUInt32LE(guidAt) * 1000 + session.minor, guidAt);
      return { cmd };
    },
    [ioc.wait]: wait,
    [ioc.eventsNext]: wait,
    [ioc.send]: async ({ cmd, streams }) => {
      const fd = view(cmd).readUInt32LE(cookieAt);
      for (const piece of pattern()) await streams.write(fd, piece);
      await streams.drain();
      return {};
    },
    [ioc.recv]: async ({ cmd, streams }) => {
      const fd = view(cmd).readUInt32LE(cookieAt);
      const sum = createHash('sha256');
      const piece = new Uint8Array(300_000);
      for (;;) {
        const count = await streams.read(fd, piece);
        if (count === 0) return { errno: sum.digest('hex') === patternSum ? 0 : Errno.EIO };
        sum.update(piece.subarray(0, count));
      }
    },
  };
}

interface Setup {
  readonly core: FakeCore;
  readonly server: IoctlServer;
  readonly env: NodeJS.ProcessEnv;
}

let sockets = 0;

async function setup(t: ExecutionContext, core = new FakeCore(table(1))): Promise<Setup> {
  const path = join(scratch, `${++sockets}.sock`);
  const server = await IoctlServer.listen(core, path);
  t.teardown(() => server.close('the test is over'));
  return { core, server, env: { ...process.env, ZOW_SOCKET: path } };
}

interface Outcome {
  readonly status: number | null;
  readonly signal: NodeJS.Signals | null;
  readonly stdout: string;
  readonly stderr: string;
}

function start(t: ExecutionContext, env: NodeJS.ProcessEnv, program: string, ...args: string[]): ChildProcess {
  const child = spawn(program, args, { env, stdio: ['pipe', 'pipe', 'pipe'] });
  t.teardown(() => child.kill('SIGKILL'));
  return child;
}

async function outcome(child: ChildProcess): Promise<Outcome> {
  const exit = once(child, 'exit');
  const [stdout, stderr] = await Promise.all([text(child.stdout!), text(child.stderr!)]);
  const [status, signal] = (await exit) as [number | null, NodeJS.Signals | null];
  return { status, signal, stdout, stderr };
}

function run(t: ExecutionContext, env: NodeJS.ProcessEnv, program: string, ...args: string[]): Promise<Outcome> {
  return outcome(start(t, env, program, ...args));
}

async function until(condition: () => boolean): Promise<void> {
  for (let i = 0; i < 500; i++) {
    if (condition()) return;
    await sleep(10);
  }
  throw new Error('it did not happen within 5 s');
}

test.before('the driver is compiled and linked as the programs are', (t) => {
  compileNative('test/cli/client-driver.c', driver);
  t.pass();
});

test.after.always(() => rmSync(scratch, { recursive: true }));

test('an ioctl carries its buffers, and the pointers stay the client’s', async (t) => {
  const { core, env } = await setup(t);
  t.like(await run(t, env, driver, 'echo', 'hello'), { status: 0, stdout: 'echo hello 1 1\n', stderr: '' });
  await until(() => core.closed === 1);
  t.is(core.opened, 1);
});

test('the history is a string on its way in and room on its way out', async (t) => {
  const { env } = await setup(t);
  t.like(await run(t, env, driver, 'history', 'zpool destroy tank'), { status: 0, stdout: 'zpool destroy tank\n' });
});

test('a command line that is too long is cut, not refused', async (t) => {
  const core = new FakeCore(table(1));
  let length = 0;
  core.table.set(ioc.poolDestroy, async ({ history }) => {
    length = history.length;
    return { errno: history.at(-1) === 0 ? Errno.EEXIST : Errno.EINVAL };
  });
  const { env } = await setup(t, core);
  t.is((await run(t, env, driver, 'history', 'x'.repeat(20_000))).status, Errno.EEXIST);
  t.is(length, 8193);
});

test('room for bookmarks is counted in bookmarks', async (t) => {
  const { env } = await setup(t);
  t.like(await run(t, env, driver, 'errlog'), { status: 0, stdout: '77\n' });
});

test('an errno is the ioctl’s errno', async (t) => {
  const core = new FakeCore({ [ioc.echo]: async () => ({ errno: Errno.EDQUOT }) });
  const { env } = await setup(t, core);
  t.is((await run(t, env, driver, 'echo', 'x')).status, Errno.EDQUOT);
});

test('what no host takes is refused before it is sent', async (t) => {
  const { env } = await setup(t);
  t.is((await run(t, env, driver, 'toomuch')).status, 7);
});

test('threads on one descriptor have their ioctls run at once, in one session', async (t) => {
  const { core, env } = await setup(t, new FakeCore(table(20)));
  const expected = Array.from({ length: 20 }, (_, i) => (i + 1) * 1000 + 1).reduce((sum, value) => sum + value);
  t.like(await run(t, env, driver, 'together', '20'), { status: 0, stdout: `${expected}\n` });
  await until(() => core.closed === 1);
  t.is(core.opened, 1);
});

test('cancelling a thread does not cut its ioctl', async (t) => {
  const { env } = await setup(t, new FakeCore(table(2)));
  const { status, stdout } = await run(t, env, driver, 'cancel');
  t.is(status, 0);
  t.is(stdout, 'echo after 1 1\n'.repeat(3));
});

test('a stream goes to the client’s descriptor', async (t) => {
  const { env } = await setup(t);
  const child = start(t, env, driver, 'send');
  const [data, [status]] = await Promise.all([buffer(child.stdout!), once(child, 'exit')]);
  t.is(status, 0);
  t.is(createHash('sha256').update(data).digest('hex'), patternSum);
});

test('a stream comes from the client’s descriptor', async (t) => {
  const { env } = await setup(t);
  const child = start(t, env, driver, 'receive');
  Readable.from(pattern()).pipe(child.stdin!);
  t.is((await outcome(child)).status, 0);
});

test('an error of the client’s descriptor is the ioctl’s', async (t) => {
  const { env } = await setup(t);
  t.is((await run(t, env, driver, 'badfd')).status, Errno.EBADF);
});

test('a reader that goes away ends a send by SIGPIPE, and its session', async (t) => {
  const { core, env } = await setup(t);
  const child = start(t, env, driver, 'send');
  await once(child.stdout!, 'readable');
  child.stdout!.destroy();
  const [status, signal] = await once(child, 'exit');
  t.deepEqual([status, signal], [null, 'SIGPIPE']);
  await until(() => core.closed === 1);
});

test('Ctrl-C in the middle of an ioctl ends the program and interrupts the ioctl', async (t) => {
  const { core, env } = await setup(t);
  const child = start(t, env, driver, 'wait');
  await once(child.stdout!, 'data');
  await until(() => [...core.open_].some((session) => session.running === 1));
  child.kill('SIGINT');
  t.is((await once(child, 'exit'))[1], 'SIGINT');
  await until(() => core.closed === 1);
});

test('a host that stops in the middle of an ioctl ends the program with one line', async (t) => {
  const { core, server, env } = await setup(t);
  const child = start(t, env, driver, 'wait');
  await until(() => [...core.open_].some((session) => session.running === 1));
  const result = outcome(child);
  await server.close('the host is shutting down');
  t.like(await result, { status: 1, stderr: `the ZoW host on ${env.ZOW_SOCKET} failed: the host is shutting down\n` });
});

test('a host that dies without a word ends the program with one line', async (t) => {
  const path = join(scratch, 'dying.sock');
  const server = createServer((socket) => {
    socket.on('error', () => undefined);
    socket.once('data', () => {
      const reply = { version: 1, cmdSize: 13744, release, status: 0, minor: 1, payloadBytesMax: 0, pid: 1, hostid: 0 };
      socket.write(encodeHelloReply({ ...reply, message: '' }));
      socket.once('data', () => socket.destroy());
    });
  });
  server.listen(path);
  await once(server, 'listening');
  t.teardown(() => server.close());
  const { status, stderr } = await run(t, { ...process.env, ZOW_SOCKET: path }, driver, 'wait');
  t.is(status, 1);
  t.is(stderr, `the ZoW host on ${path} went away\n`);
});

test('/dev/zfs and the module seem to be there, and nothing is mounted', async (t) => {
  const { env } = await setup(t);
  t.like(await run(t, env, driver, 'surroundings'), { status: 0, stdout: '1 1 0 0 -1\n' });
});

test('zpool and zfs find the host and ask it', async (t) => {
  const { env } = await setup(t);
  t.like(await run(t, env, zpool, 'list'), { status: 0, stdout: 'no pools available\n', stderr: '' });
  t.like(await run(t, env, zfs, 'list'), { status: 0, stdout: '', stderr: 'no datasets available\n' });
  t.like(await run(t, env, zfs, 'mount'), { status: 0, stdout: '', stderr: '' });
  t.like(await run(t, env, zpool, 'version'), {
    status: 0,
    stdout: `zfs-${release}-1\nzfs-kmod-${release}-1\n`,
    stderr: '',
  });
});

test('every feature that upstream knows is supported, whatever this machine’s /sys says', async (t) => {
  const { env } = await setup(t);
  const { status, stdout } = await run(t, env, zpool, 'upgrade', '-v');
  t.is(status, 0);
  const features = stdout.match(/^[a-z]\w+ *(\(read-only compatible\))?$/gm) ?? [];
  const source = readFileSync(join(root, 'zfs-src/upstream', release, 'include/zfeature_common.h'), 'utf8');
  // All but those that are not for users: the list ends with SPA_FEATURES.
  const known = source.match(/^\tSPA_FEATURE_\w+,/gm)!.length;
  t.true(features.length >= known - 3, `${features.length} of ${known}`);
});

/** A pool named tank, as far as `zfs create` of a filesystem and `zfs mount` ask. */
function datasets(): Record<number, FakeHandler> {
  const config = { version: 5000n, name: 'tank', state: 0n, pool_guid: 5n, vdev_tree: { type: 'root', guid: 5n } };
  const existing = new Set(['tank']);
  const nameOf = (cmd: Uint8Array) => view(cmd).toString('utf8', nameAt, cmd.indexOf(0));
  const none: FakeHandler = async () => ({ errno: Errno.ENOENT });
  return {
    [ioc.poolConfigs]: async () => ({ dst: packNvlist({ tank: config }) }),
    [ioc.poolStats]: async () => ({ dst: packNvlist(config) }),
    [ioc.poolGetProps]: async () => ({ dst: emptyNvlist }),
    [ioc.datasetListNext]: none,
    [ioc.snapshotListNext]: none,
    [ioc.create]: async ({ cmd }) => {
      existing.add(nameOf(cmd));
      return {};
    },
    [ioc.objsetStats]: async ({ cmd, dstRoom }) => {
      const name = nameOf(cmd);
      if (!existing.has(name)) return { errno: Errno.ENOENT };
      cmd[objsetTypeAt] = filesystem;
      const value = name.startsWith('tank/unmounted') ? 'none' : `${scratch}/mnt/${name}`;
      return { cmd, dst: packNvlist({ mountpoint: { value, source: name } }).subarray(0, dstRoom) };
    },
  };
}

test('zfs create of a filesystem succeeds and says once that it is not mounted', async (t) => {
  const { env } = await setup(t, new FakeCore(datasets()));
  const note = 'filesystem successfully created, but not mounted: ZoW mounts no file systems\n';
  t.like(await run(t, env, zfs, 'create', 'tank/fs'), { status: 0, stdout: '', stderr: note });
  t.like(await run(t, env, zfs, 'create', '-p', 'tank/a/b/c'), { status: 0, stdout: '', stderr: note });
  t.like(await run(t, env, zfs, 'create', '-u', 'tank/quiet'), { status: 0, stdout: '', stderr: '' });
  t.like(await run(t, env, zfs, 'create', 'tank/unmounted'), { status: 0, stdout: '', stderr: '' });
  t.false(existsSync(join(scratch, 'mnt')), 'no mount point is made');
});

test('zfs mount says why not, zfs unmount that it is not mounted', async (t) => {
  const { env } = await setup(t, new FakeCore(datasets()));
  const why = "cannot mount 'tank': ZoW has no kernel file system to mount; it serves volumes, see 'zfs create -V'\n";
  t.like(await run(t, env, zfs, 'mount', 'tank'), { status: 1, stdout: '', stderr: why });
  t.like(await run(t, env, zfs, 'mount', '-a'), { status: 1, stdout: '', stderr: why });
  t.like(await run(t, env, zfs, 'unmount', 'tank'), {
    status: 1,
    stderr: "cannot unmount 'tank': not currently mounted\n",
  });
  t.like(await run(t, env, zfs, 'unmount', '-a'), { status: 0, stdout: '', stderr: '' });
  t.false(existsSync(join(scratch, 'mnt')), 'no mount point is made');
});

test('zpool events -f waits in the host until Ctrl-C', async (t) => {
  const { core, env } = await setup(t);
  const child = start(t, env, zpool, 'events', '-f');
  await until(() => [...core.open_].some((session) => session.running === 1));
  t.is(core.open_.size, 3, 'libzfs, libzfs_core and the events have a session each');
  child.kill('SIGINT');
  t.is((await once(child, 'exit'))[1], 'SIGINT');
  await until(() => core.open_.size === 0);
});

test('without a host there is one line that says so, and how to start one', async (t) => {
  const path = join(scratch, 'nobody.sock');
  const line = `no ZoW host listens on ${path}: start one with 'zow serve <config>', or say where it is with ZOW_SOCKET\n`;
  const env = { ...process.env, ZOW_SOCKET: path };
  for (const args of [
    [zpool, 'list'],
    [zfs, 'list'],
    [zpool, 'import'],
    [zfs, 'mount', '-a'],
  ]) {
    t.like(await run(t, env, args[0]!, ...args.slice(1)), { status: 1, stdout: '', stderr: line });
  }
  t.like(await run(t, env, zpool, '--version'), { status: 1, stdout: `zfs-${release}-1\n`, stderr: line });
  const long = await run(t, { ...process.env, ZOW_SOCKET: `/${'x'.repeat(107)}` }, zpool, 'list');
  t.is(long.status, 1);
  t.regex(long.stderr, /^\/x+: too long for a unix socket's path, which has at most 107 bytes\n$/);
});

const asRoot = unless(
  process.geteuid!() === 0 ? undefined : 'only root can be somebody else, and give files away',
  test,
);
const nobody = 65534;

asRoot('a socket that is not the user’s is named, one that is lets zpool import look for pools', async (t) => {
  const { core, env } = await setup(t);
  chmodSync(scratch, 0o755);
  const devices = mkdtempSync(join(scratch, 'devices-'));
  chownSync(devices, nobody, nobody);
  const runAsNobody = (...args: string[]) => {
    const child = spawn(zpool, args, { env, uid: nobody, gid: nobody, stdio: ['pipe', 'pipe', 'pipe'] });
    t.teardown(() => child.kill('SIGKILL'));
    return outcome(child);
  };
  t.like(await runAsNobody('list'), {
    status: 1,
    stderr: `cannot reach the ZoW host on ${env.ZOW_SOCKET}: Permission denied\n`,
  });
  t.is(core.opened, 0);
  chownSync(env.ZOW_SOCKET!, nobody, nobody);
  t.like(await runAsNobody('import', '-d', devices), { status: 0, stderr: 'no pools available to import\n' });
});

test('a host of another release is named with both releases', async (t) => {
  const { core, env } = await setup(t, new FakeCore({}, { release: '2.3.2' }));
  const { status, stderr } = await run(t, env, zpool, 'list');
  t.is(status, 1);
  t.is(stderr, `the ZoW host on ${env.ZOW_SOCKET} refuses: the host is OpenZFS 2.3.2, the client ${release}\n`);
  t.is(core.opened, 0);
});

test('what is not a ZoW host is called that', async (t) => {
  const path = join(scratch, 'foreign.sock');
  const server = createServer((socket) => {
    socket.on('error', () => undefined);
    socket.resume().end('x'.repeat(500));
  });
  server.listen(path);
  await once(server, 'listening');
  t.teardown(() => server.close());
  const { status, stderr } = await run(t, { ...process.env, ZOW_SOCKET: path }, zpool, 'list');
  t.is(status, 1);
  t.is(stderr, `what listens on ${path} is not a ZoW host\n`);
});
