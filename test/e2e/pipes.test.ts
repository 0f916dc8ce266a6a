import { execFileSync } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, readdirSync, readFileSync, readlinkSync, writeFileSync } from 'node:fs';
import { connect, createServer } from 'node:net';
import { join } from 'node:path';
import test, { type ExecutionContext } from 'ava';
import { Lab, MiB, noise, root, until } from './host.ts';

/** Streams through pipes, which the host reads and writes itself where it can; both kinds of programs. */

const native = join(root, 'cli/native/bin');
const size = 12 * MiB;
/** What a shell says of a program that SIGPIPE or SIGKILL ended. */
const brokenPipe = 128 + 13;
const killed = 128 + 9;

/** Two pools and a volume with a snapshot `s`, whose stream is in the file `stream`, and a smaller one `t` after it. */
async function open(t: ExecutionContext<unknown>): Promise<{ lab: Lab; data: Buffer }> {
  const lab = await Lab.open(t);
  const [a, b] = lab.manyDisks(2, 384 * MiB) as [string, string];
  await lab.start({ vars: { ZOW_TRACE: 'ioctl' } });
  await lab.zpool('create', '-O', 'snapdev=visible', 'tank', a);
  await lab.zpool('create', '-O', 'snapdev=visible', 'back', b);
  await lab.zfs('create', '-V', '16M', '-o', 'volblocksize=128K', 'tank/v');
  const data = noise(size, 7);
  await write(lab, 'tank/v', data);
  await lab.zfs('snapshot', 'tank/v@s');
  data.fill(1, 0, MiB);
  await write(lab, 'tank/v', data.subarray(0, MiB));
  await lab.zfs('snapshot', 'tank/v@t');
  await succeeds(lab, 'zfs send tank/v@s > stream');
  return { lab, data };
}

async function write(lab: Lab, volume: string, data: Buffer): Promise<void> {
  const client = await lab.open(volume);
  for (let at = 0; at < data.length; at += MiB) await client.writeAt(at, data.subarray(at, at + MiB));
  await client.request({ type: 3 });
  client.destroy();
}

async function isThere(lab: Lab, name: string, data: Buffer): Promise<boolean> {
  const client = await lab.open(name);
  const found = await client.readAt(0, data.length);
  client.destroy();
  return found.equals(data);
}

async function succeeds(lab: Lab, script: string): Promise<string> {
  const { code, stdout, stderr } = await lab.shell(script);
  if (code !== 0) throw new Error(`${script} -> ${code}\n${stderr}`);
  return stdout;
}

/** Pipes that the host has opened so far: `0 read`. */
function pipes(lab: Lab): string[] {
  const opened = lab.hostLog.split('\n').filter((line) => line.includes('pipe of the client opened'));
  return opened.map((line) => JSON.parse(line)).map(({ fd, mode }) => `${fd} ${mode}`);
}

/** The pipe that a script's program has, which the host has too: `pipe:[4711]`. */
async function pipeOf(lab: Lab, program: string, fd: number): Promise<string> {
  const pipe = (await succeeds(lab, `readlink /proc/$(cat ${program}.pid)/fd/${fd}`)).trim();
  if (!descriptors(lab).includes(pipe)) throw new Error(`the host has no ${pipe}`);
  return pipe;
}

/** What the host's processes, its engines among them, have open. */
function descriptors(lab: Lab): string[] {
  const children = execFileSync('sh', ['-c', `pgrep -P ${lab.pid} || true`])
    .toString()
    .split('\n')
    .filter(Boolean);
  return [String(lab.pid), ...children].flatMap((pid) => {
    try {
      return readdirSync(`/proc/${pid}/fd`).map((fd) => linkOf(`/proc/${pid}/fd/${fd}`));
    } catch {
      return [];
    }
  });
}

function linkOf(path: string): string {
  try {
    return readlinkSync(path);
  } catch {
    return '';
  }
}

/** Waits until the host has closed its copy of a pipe, `pipe:[4711]`. */
function closed(lab: Lab, pipe: string): Promise<void> {
  return until('the host has closed the pipe', () => !descriptors(lab).includes(pipe));
}

/** Those it opens for a script that succeeds. */
async function pipesOf(lab: Lab, script: string): Promise<string> {
  const before = pipes(lab).length;
  await succeeds(lab, script);
  // What the host prints comes by a pipe of its own.
  await lab.zfs('list', '-H', '-o', 'name', 'tank/v');
  return pipes(lab).slice(before).sort().join();
}

test('pipes are the host’s affair, everything else the program’s', async (t) => {
  const { lab, data } = await open(t);
  const both = '0 read,1 write';
  t.is(await pipesOf(lab, 'zfs send tank/v@t | zfs receive back/both'), both);
  t.true(await isThere(lab, 'back/both@t', data));
  t.is(await pipesOf(lab, `${native}/zfs send tank/v@t | ${native}/zfs receive back/natively`), both);
  t.true(await isThere(lab, 'back/natively@t', data));
  t.is(await pipesOf(lab, 'mkfifo fifo; zfs send tank/v@t > fifo & zfs receive back/fifo < fifo; wait'), both);
  t.true(await isThere(lab, 'back/fifo@t', data));
  t.is(await pipesOf(lab, 'cat stream | zfs receive back/cat'), '0 read');
  t.is(await pipesOf(lab, 'zfs send tank/v@s | cmp - stream'), '1 write');
  t.is(await pipesOf(lab, 'zfs send tank/v@s > again; cmp again stream; zfs receive back/file < stream'), '');
  const odd = 'zfs send tank/v@t | dd bs=999 status=none | zfs receive back/odd';
  t.is(await pipesOf(lab, odd), both, 'a middle that is slow, and cuts where it likes');
  t.true(await isThere(lab, 'back/odd@t', data));
  const several = '(zfs send tank/v@s; zfs send -i @s tank/v@t) | (zfs receive back/two; zfs receive back/two)';
  t.is(await pipesOf(lab, several), '0 read,0 read,1 write,1 write');
  t.true(await isThere(lab, 'back/two@t', data));
  t.is(await pipesOf(lab, 'zfs send -R tank/v@t | zfs receive back/all'), '0 read,0 read,1 write,1 write');
  t.true(await isThere(lab, 'back/all@t', data));
  // The host could write to this pipe; the program, which has its end for reading, may not.
  const before = pipes(lab).length;
  const wrongEnd = await lab.shell('sleep 1 | zfs send tank/v@s 1<&0');
  t.not(wrongEnd.code, 0);
  t.is(pipes(lab).length, before);
  await lab.finish('tank', 'back');
});

test('nothing behind a stream is read, whatever kind its records are', async (t) => {
  const { lab } = await open(t);
  lab.key();
  const encrypted = `-o encryption=on -o keyformat=raw -o keylocation=file://${lab.directory}/key`;
  await succeeds(lab, `zfs create -V 16M -o compression=zstd ${encrypted} tank/e`);
  const text = Buffer.alloc(2 * MiB, 'Records of many kinds. ');
  await write(lab, 'tank/e', Buffer.concat([text, Buffer.alloc(MiB), noise(MiB, 3)]));
  await succeeds(lab, 'zfs create -V 16M -o compression=lz4 -o volblocksize=4K tank/c; zfs create tank/fs');
  // Blocks that are nearly nothing are embedded in their pointers.
  await write(lab, 'tank/c', Buffer.concat([text, Buffer.alloc(MiB, 0).fill(1, 0, 3), noise(MiB, 4)]));
  await lab.zfs('snapshot', '-r', 'tank@k');
  const kinds = ['tank/c@k', '-c tank/c@k', '-ce tank/c@k', '-Lce tank/v@k', '-w tank/e@k', 'tank/e@k', '-R tank/fs@k'];
  for (const [i, kind] of kinds.entries()) {
    const said = await succeeds(lab, `(zfs send ${kind}; echo behind) | (zfs receive -u back/k${i}; cat)`);
    t.is(said, 'behind\n', kind);
  }
  await lab.finish('tank', 'back');
});

test('each end of a pipe notices when the other is gone', async (t) => {
  const { lab } = await open(t);
  for (const folder of ['', `${native}/`]) {
    const cut = await lab.shell(`${folder}zfs send tank/v@s | head -c 1000 > /dev/null; echo \${PIPESTATUS[0]}`);
    t.is(cut.stdout, `${brokenPipe}\n`, cut.stderr);
    // A sender whose reader stalls waits, alone; SIGINT and SIGKILL end it, and so does the end of its reader.
    for (const [signal, whom, code] of [
      ['KILL', 'sender', killed],
      ['INT', 'sender', 128 + 2],
      ['KILL', 'reader', brokenPipe],
    ] as const) {
      const before = pipes(lab).length;
      const stalled = lab.shell(
        `set +o pipefail; rm -f *.pid; { bash -c 'echo $$ > sender.pid; exec ${folder}zfs send tank/v@s'; echo $? > code; } |
        bash -c 'echo $$ > reader.pid; head -c 1000000 > /dev/null; exec sleep 60'`,
      );
      await until('the sender has begun', () => pipes(lab).length > before);
      await lab.zfs('list', 'tank/v');
      const pipe = await pipeOf(lab, 'sender', 1);
      await lab.shell(`kill -${signal} $(cat ${whom}.pid); sleep 0.2`);
      await until('the sender has ended', () => existsSync(join(lab.directory, 'code')));
      t.is(readFileSync(join(lab.directory, 'code'), 'utf8'), `${code}\n`, `${folder}: ${signal} of the ${whom}`);
      await closed(lab, pipe);
      await lab.shell('rm code; kill -9 $(cat reader.pid)');
      await stalled;
    }
  }
  await lab.finish('tank', 'back');
});

test('a receive whose sender, program or host ends goes on from its token', async (t) => {
  const { lab, data } = await open(t);
  await succeeds(lab, 'zfs send tank/v@t > whole');
  const file = (name: string) => join(lab.directory, name);
  /** A receive that gets 5 MB of the stream and then nothing, until the file `go` is there. Resolves when it has ended. */
  const receiving = async (): Promise<Promise<unknown>[]> => {
    const before = pipes(lab).length;
    const ended = lab.shell(
      `rm -f *.pid go fed code said; (echo $BASHPID > feeder.pid; trap '' PIPE; head -c 5000000 whole
        until [ -e go ]; do sleep 0.1; done; printf x 2>/dev/null || echo broken > fed) |
        { bash -c 'echo $$ > receiver.pid; exec zfs receive -s back/v' 2> said; echo $? > code; }`,
    );
    await until('the receiver has begun', () => pipes(lab).length > before);
    await until('the data have come', async () => Number(await lab.get('back', 'used')) > 3 * MiB);
    return [ended];
  };
  const code = async () => {
    await until('the receiver has ended', () => existsSync(file('code')));
    return Number(readFileSync(file('code'), 'utf8'));
  };
  const goesOn = async () => {
    const token = await lab.get('back/v', 'receive_resume_token');
    t.true(token.length > 10, token);
    await succeeds(lab, `zfs send -t ${token} | zfs receive -s back/v`);
    t.true(await isThere(lab, 'back/v@t', data));
    await lab.zfs('destroy', '-r', 'back/v');
    await lab.zpool('sync', 'back');
  };

  const [killing] = await receiving();
  const pipe = await pipeOf(lab, 'receiver', 0);
  await lab.shell('kill -9 $(cat receiver.pid)');
  t.is(await code(), killed);
  await closed(lab, pipe);
  writeFileSync(file('go'), '');
  await killing;
  t.is(readFileSync(file('fed'), 'utf8'), 'broken\n', 'the pipe has no reader any more');
  await goesOn();

  const [ending] = await receiving();
  await lab.shell('kill -9 $(cat feeder.pid)');
  t.is(await code(), 1);
  t.regex(readFileSync(file('said'), 'utf8'), /incomplete stream/);
  await ending;
  await goesOn();

  // Nothing comes on its standard input, and it notices all the same.
  const [dying] = await receiving();
  await lab.zpool('sync', 'back');
  await lab.kill();
  t.is(await code(), 1);
  t.regex(readFileSync(file('said'), 'utf8'), /the ZoW host on .* went away/);
  writeFileSync(file('go'), '');
  await dying;
  await lab.start();
  await lab.zpool('import', '-a', '-d', lab.disks);
  await goesOn();
  await lab.finish('tank', 'back');
});

test('through a socket that somebody else forwards, the program does it all', async (t) => {
  const { lab, data } = await open(t);
  const path = join(lab.directory, 'forwarded');
  const server = createServer({ allowHalfOpen: true }, (near) => {
    const far = connect(lab.socket);
    near.pipe(far).pipe(near);
    for (const socket of [near, far]) socket.on('error', () => undefined);
  });
  server.listen(path);
  await once(server, 'listening');
  t.teardown(() => server.close());
  const none = await pipesOf(lab, `export ZOW_SOCKET=${path}; zfs send tank/v@t | zfs receive back/v`);
  t.is(none, '');
  t.true(await isThere(lab, 'back/v@t', data));
  await lab.finish('tank', 'back');
});
