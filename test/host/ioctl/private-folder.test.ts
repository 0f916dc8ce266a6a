import { execFileSync } from 'node:child_process';
import { existsSync, mkdirSync, mkdtempSync, readdirSync, rmSync, statSync, symlinkSync, writeFileSync } from 'node:fs';
import { createServer, type Server } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import test, { type ExecutionContext } from 'ava';
import { makePrivateFolder } from '../../../host/ioctl/private-folder.ts';

function parentFolder(t: ExecutionContext): string {
  const parent = mkdtempSync(join(tmpdir(), 'zow-folders-'));
  t.teardown(() => rmSync(parent, { recursive: true, force: true }));
  return parent;
}

/** The pid of a process that has ended. */
const deadPid = Number(execFileSync('/bin/sh', ['-c', 'echo $$']).toString());

/** What a host that was killed leaves: a folder, and a socket in it that nobody listens on. */
function abandoned(parent: string, name: string, pid = deadPid): string {
  const folder = join(parent, `zow-${pid}-${name}`);
  mkdirSync(folder, { mode: 0o700 });
  const bind = `import socket; socket.socket(socket.AF_UNIX).bind(${JSON.stringify(join(folder, 'sock'))})`;
  execFileSync('python3', ['-c', bind]);
  return folder;
}

async function listening(path: string): Promise<Server> {
  const server = createServer((socket) => socket.destroy());
  await new Promise<void>((resolve) => server.listen(path, resolve));
  return server;
}

test('the folders of hosts that were killed are removed, and only those', async (t) => {
  const parent = parentFolder(t);
  const gone = abandoned(parent, 'aaaaaa');
  const empty = join(parent, `zow-${deadPid}-bbbbbb`);
  mkdirSync(empty, { mode: 0o700 });
  const alive = abandoned(parent, 'cccccc', process.pid);
  // Another container's host: its pid means nothing here, but it answers.
  const elsewhere = join(parent, `zow-${deadPid}-dddddd`);
  mkdirSync(elsewhere, { mode: 0o700 });
  const server = await listening(join(elsewhere, 'sock'));
  t.teardown(() => server.close());
  const open = abandoned(parent, 'eeeeee');
  execFileSync('chmod', ['777', open]);
  const daemon = abandoned(parent, 'ffffff');
  writeFileSync(join(daemon, 'zed.state'), '');
  const other = join(parent, 'zow-something');
  mkdirSync(other);

  const { folder, socket } = await makePrivateFolder(parent);
  t.is(statSync(folder).mode & 0o777, 0o700);
  t.is(socket, join(folder, 'sock'));
  for (const path of [gone, empty, daemon]) t.false(existsSync(path), path);
  for (const path of [alive, join(elsewhere, 'sock'), open, other]) t.true(existsSync(path), path);
});

test('a link with the name of such a folder is left alone, and what it points to', async (t) => {
  const parent = parentFolder(t);
  const target = join(parent, 'precious');
  mkdirSync(target, { mode: 0o700 });
  writeFileSync(join(target, 'sock'), 'data');
  symlinkSync(target, join(parent, `zow-${deadPid}-aaaaaa`));
  const inside = join(parent, `zow-${deadPid}-bbbbbb`);
  mkdirSync(inside, { mode: 0o700 });
  symlinkSync(join(target, 'sock'), join(inside, 'sock'));
  await makePrivateFolder(parent);
  t.deepEqual(readdirSync(target), ['sock']);
  t.is(statSync(join(target, 'sock')).size, 4);
});
