import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import net from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import test, { type ExecutionContext } from 'ava';
import { probeSocket } from '../../../host/ioctl/socket-path.ts';
import { freePort } from '../../e2e/process.ts';

/** `zow serve` below a service manager that speaks systemd's protocols, on real sockets; the core is a fake. */

const manager = fileURLToPath(new URL('service-manager.py', import.meta.url));
const fake = fileURLToPath(new URL('serve-fake.ts', import.meta.url));

interface Service {
  readonly child: ChildProcess;
  readonly folder: string;
  /** The next notice that has such a variable; those before it are passed over. */
  readonly told: (variable: string) => Promise<Record<string, unknown>>;
  readonly errors: () => string;
  readonly ended: Promise<number>;
}

function start(t: ExecutionContext, config: string, sockets: (folder: string) => string[], notify?: string): Service {
  const folder = mkdtempSync(join(tmpdir(), 'zow-service-'));
  const file = join(folder, 'pool.yaml');
  writeFileSync(file, config);
  const args = [
    manager,
    notify ?? join(folder, 'notify'),
    ...sockets(folder),
    '--',
    process.execPath,
    fake,
    folder,
    file,
  ];
  const child = spawn('python3', args, { env: { ...process.env, ZOW_LOG: '' }, stdio: ['ignore', 'pipe', 'pipe'] });
  const ended = once(child, 'close').then(([code]) => code as number);
  t.teardown(async () => {
    child.kill('SIGTERM');
    await ended;
    rmSync(folder, { recursive: true, force: true });
  });
  let errors = '';
  child.stderr.setEncoding('utf8').on('data', (text: string) => {
    errors += text;
  });
  const lines = createInterface({ input: child.stdout })[Symbol.asyncIterator]();
  const told = async (variable: string) => {
    for (;;) {
      const { value, done } = await lines.next();
      if (done === true) throw new Error(`ended without ${variable}: ${errors}`);
      const notice = JSON.parse(value) as Record<string, unknown>;
      if (variable in notice) return notice;
    }
  };
  return { child, folder, told, errors: () => errors, ended };
}

/** The first bytes that a server says by itself. */
async function greeting(path: string): Promise<string> {
  const socket = net.connect(path);
  const [bytes] = (await once(socket, 'data')) as [Buffer];
  socket.destroy();
  return bytes.toString('latin1');
}

test('it says when it is ready, reloads, stops and lives; sockets that were opened for it are used', async (t) => {
  const port = await freePort();
  const service = start(
    t,
    `socket: zow.sock\nlog: { format: text }\nnbd: [{ unix: nbd.sock }]\nhttp: { listen: '127.0.0.1:${port}' }\n`,
    (folder) => [
      `zow=${folder}/zow.sock:0600`,
      `nbd=${folder}/nbd.sock:0660`,
      `http=127.0.0.1:${port}`,
      `other=${folder}/other.sock:0600`,
    ],
    `@zow-service-${process.pid}`,
  );
  t.deepEqual(await service.told('READY'), {
    fromMain: true,
    READY: '1',
    STATUS: 'serves; no pool is in the configuration',
  });
  t.true((await service.told('WATCHDOG')).fromMain);
  t.regex((await probeSocket(join(service.folder, 'zow.sock')))?.release ?? '', /^\d/);
  t.is((await greeting(join(service.folder, 'nbd.sock'))).slice(0, 8), 'NBDMAGIC');
  t.is(await (await fetch(`http://127.0.0.1:${port}/healthz`)).text(), 'ok\n');

  // The same socket again, with another policy: the manager's stays open meanwhile.
  writeFileSync(
    join(service.folder, 'pool.yaml'),
    'socket: zow.sock\nlog: { format: text }\nnbd: [{ unix: nbd.sock, read_only: true }]\n',
  );
  service.child.kill('SIGHUP');
  t.regex(String((await service.told('RELOADING')).MONOTONIC_USEC), /^\d{6,}$/);
  t.is((await service.told('READY')).READY, '1');
  t.is((await greeting(join(service.folder, 'nbd.sock'))).slice(0, 8), 'NBDMAGIC');
  t.regex(service.errors(), /^\d\d:\d\d:\d\d info {2}configuration change="nbd .*nbd.sock: opened"$/m);
  t.regex(service.errors(), /^\d\d:\d\d:\d\d warn {2}a socket of the service manager is in no section .*name=other/m);
  t.notRegex(service.errors(), /zow-\d+-\w+\/sock/, 'its own sockets are not for people');

  service.child.kill('SIGTERM');
  t.is((await service.told('STOPPING')).STOPPING, '1');
  t.is(await service.ended, 0);
  t.true(existsSync(join(service.folder, 'zow.sock')), 'it is the manager who removes its sockets');
});

for (const [what, socket, reason] of [
  ['one that everybody may connect to', 'zow=FOLDER/zow.sock:0666', /everybody may connect .*SocketMode=0600/],
  ['one for something else', 'nbd=FOLDER/zow.sock:0600', /zow: the service manager's socket on .* is named 'nbd'/],
] as const) {
  test(`a socket of the service manager is refused: ${what}`, async (t) => {
    const service = start(t, 'socket: zow.sock\n', (folder) => [socket.replace('FOLDER', folder)]);
    t.is(await service.ended, 2);
    t.regex(service.errors(), reason);
  });
}
