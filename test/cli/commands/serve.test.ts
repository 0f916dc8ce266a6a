import { type ChildProcess, execFileSync, spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import test, { type ExecutionContext } from 'ava';
import { fakeHost } from '../../host/serve/fake-host.ts';

const script = fileURLToPath(new URL('serve-fake.ts', import.meta.url));

const CONFIG = `socket: zow.sock
pools:
  tank:
    vdevs: [a.img]
    create: { size: 64M }
    volumes: { vm0: { size: 1M } }
nbd:
  - unix: nbd.sock
`;

interface Served {
  readonly child: ChildProcess;
  readonly folder: string;
  readonly output: () => string;
  readonly errors: () => string;
  /** Resolves when the text is on stdout or stderr. */
  readonly says: (text: string) => Promise<void>;
  readonly ended: Promise<number | null>;
}

function serve(
  t: ExecutionContext,
  config: string,
  how = '',
  folder = mkdtempSync(join(tmpdir(), 'zow-serve-')),
): Served {
  const file = join(folder, 'pool.yaml');
  if (config !== '') writeFileSync(file, config);
  const child = spawn(process.execPath, [script, folder, file, how], { env: { ...process.env, ZOW_LOG: '' } });
  const chunks = { stdout: '', stderr: '' };
  for (const name of ['stdout', 'stderr'] as const) {
    child[name].setEncoding('utf8').on('data', (text: string) => {
      chunks[name] += text;
      child.emit('said');
    });
  }
  t.teardown(async () => {
    if (child.exitCode === null && child.signalCode === null) {
      child.kill('SIGKILL');
      await once(child, 'close');
    }
    rmSync(folder, { recursive: true, force: true });
  });
  const ended = once(child, 'close').then(([code]) => code as number | null);
  const says = async (text: string) => {
    const closed = ended.then(() => true);
    while (!(chunks.stdout + chunks.stderr).includes(text)) {
      const end = await Promise.race([once(child, 'said').then(() => false), closed]);
      if (end && !(chunks.stdout + chunks.stderr).includes(text))
        throw new Error(`ended without '${text}': ${chunks.stderr}`);
    }
  };
  return { child, folder, output: () => chunks.stdout, errors: () => chunks.stderr, says, ended };
}

for (const signal of ['SIGTERM', 'SIGINT'] as const) {
  test(`${signal} exports the pools and ends with 0`, async (t) => {
    const served = serve(t, CONFIG);
    await served.says('"msg":"ready"');
    const ready = served
      .errors()
      .split('\n')
      .map((line) => (line === '' ? {} : JSON.parse(line)))
      .find(({ msg }) => msg === 'ready');
    t.like(ready, { socket: join(served.folder, 'zow.sock'), pools: ['tank'], nbd: [join(served.folder, 'nbd.sock')] });
    t.true(existsSync(join(served.folder, 'nbd.sock')));
    served.child.kill(signal);
    t.is(await served.ended, 0);
    t.is(fakeHost(served.folder).pools.commands.at(-1), 'zpool export -a');
    t.false(existsSync(join(served.folder, 'zow.sock')));
    t.false(existsSync(join(served.folder, 'nbd.sock')));
    t.is(served.output(), '', 'without --hints nothing is on stdout');
  });
}

test('a terminal has lines for people, and its end exports the pools and ends it with 0', (t) => {
  const folder = mkdtempSync(join(tmpdir(), 'zow-serve-'));
  t.teardown(() => rmSync(folder, { recursive: true }));
  const file = join(folder, 'pool.yaml');
  writeFileSync(file, CONFIG);
  // Closes the terminal as soon as the host is ready.
  const terminal = `import os, pty, sys
pid, fd = pty.fork()
if pid == 0: os.execv(sys.argv[1], sys.argv[1:])
out = b''
while b' ready ' not in out: out += os.read(fd, 4096)
sys.stdout.write(out.decode())
os.close(fd)
sys.exit(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) & 255)`;
  const { status, stdout } = spawnSync('python3', ['-c', terminal, process.execPath, script, folder, file], {
    encoding: 'utf8',
    env: { ...process.env, ZOW_LOG: '', NO_COLOR: '1' },
  });
  t.regex(stdout, /^\d\d:\d\d:\d\d info {2}pool created pool=tank vdevs="1 device"\r$/m);
  t.notRegex(stdout, /zow-\d+-\w+\/sock|zfs create/, 'private sockets and steps are details');
  t.is(status, 0);
  t.is(fakeHost(folder).pools.commands.at(-1), 'zpool export -a');
});

test('a signal ends it while nobody writes the pipe that is its configuration', async (t) => {
  const folder = mkdtempSync(join(tmpdir(), 'zow-serve-'));
  execFileSync('mkfifo', [join(folder, 'pool.yaml')]);
  const { child, ended } = serve(t, '', '', folder);
  const waits = () => /^(wait_for_partner|fifo_open)/.test(readFileSync(`/proc/${child.pid}/wchan`, 'latin1'));
  while (!waits()) await new Promise((resolve) => setTimeout(resolve, 20));
  child.kill('SIGINT');
  await ended;
  t.is(child.signalCode, 'SIGINT');
});

test('a second signal ends it at once, with a code of its own', async (t) => {
  const served = serve(t, CONFIG, 'slow');
  await served.says('"msg":"ready"');
  served.child.kill('SIGTERM');
  await served.says('shutting down');
  const again = setInterval(() => served.child.kill('SIGTERM'), 200);
  t.is(await served.ended, 130);
  clearInterval(again);
});

test('a signal that comes twice, as from timeout(1), is one', async (t) => {
  const served = serve(t, CONFIG);
  await served.says('"msg":"ready"');
  served.child.kill('SIGTERM');
  served.child.kill('SIGINT');
  t.is(await served.ended, 0);
  t.is(fakeHost(served.folder).pools.commands.at(-1), 'zpool export -a');
});

test('after kill -9 the next start takes the socket over and imports the pool', async (t) => {
  const served = serve(t, CONFIG);
  await served.says('"msg":"ready"');
  served.child.kill('SIGKILL');
  await served.ended;
  t.true(existsSync(join(served.folder, 'zow.sock')));
  const again = serve(t, '', '', served.folder);
  await again.says('"msg":"ready"');
  t.regex(again.errors(), /pool imported/);
  again.child.kill('SIGTERM');
  t.is(await again.ended, 0);
});

test('a second serve is refused with the pid of the first', async (t) => {
  const served = serve(t, CONFIG);
  await served.says('"msg":"ready"');
  const second = serve(t, '', '', served.folder);
  t.is(await second.ended, 2);
  t.is(
    second.errors(),
    `zow: ${served.folder}/zow.sock: the ZoW host with pid ${served.child.pid} serves this socket\n`,
  );
});

test('a panic ends it with 70 and says where', async (t) => {
  const served = serve(t, CONFIG, 'panic');
  await served.says('"msg":"ready"');
  served.child.kill('SIGUSR2');
  t.is(await served.ended, 70);
  t.regex(served.errors(), /panic in pool tank, fiber z_wr_iss: VERIFY\(0\) failed, dbuf\.c:7/);
});

test('a bad configuration ends it with 1, before anything is started', async (t) => {
  const served = serve(t, 'pool: {}\n');
  t.is(await served.ended, 1);
  t.is(
    served.errors(),
    `${served.folder}/pool.yaml:1:1: pool: unknown key; did you mean 'pools'? Allowed are socket, memory, log, zed, tunables, devices, pools, nbd, iscsi, targets, http\n`,
  );
  t.false(existsSync(join(served.folder, 'commands.log')));
});

test('a device that is a folder ends it with 2, and nothing is created', async (t) => {
  const served = serve(t, CONFIG.replace('[a.img]', '[b.img, /tmp]'));
  t.is(await served.ended, 2);
  t.is(served.errors(), `zow: pool 'tank': /tmp is a directory; a disk is a regular file or a block device: EISDIR\n`);
  t.false(existsSync(join(served.folder, 'b.img')));
});

test('hints are commands to paste', async (t) => {
  const served = serve(t, CONFIG, 'hints');
  await served.says('Ctrl-C');
  const lines = served
    .output()
    .split('\n')
    .filter((line) => line.startsWith('  '));
  t.is(lines[0], `  export ZOW_SOCKET=${served.folder}/zow.sock`);
  t.regex(lines[1] ?? '', /zpool status$/);
  t.true(lines.some((line) => line.includes(`nbdinfo 'nbd+unix:///tank/vm0?socket=${served.folder}/nbd.sock'`)));
  served.child.kill('SIGTERM');
  t.is(await served.ended, 0);
});
