import { spawn } from 'node:child_process';
import { existsSync, mkdtempSync, rmSync, statSync, writeFileSync } from 'node:fs';
import net from 'node:net';
import { tmpdir } from 'node:os';
import path from 'node:path';
import test, { type ExecutionContext } from 'ava';
import type { NbdListenerOptions } from '../../../host/nbd/listener-options.ts';
import { NbdServer } from '../../../host/nbd/server.ts';
import { checkListener, isLoopback, parseTcp } from '../../../host/net/listener.ts';
import { skip } from '../../skip.ts';
import { Client } from '../nbd/client.ts';
import { quiet } from '../nbd/fixture.ts';
import { MemoryProvider } from '../volumes/memory.ts';

function directoryOf(t: ExecutionContext): string {
  const directory = mkdtempSync(path.join(tmpdir(), 'zow-nbd-'));
  t.teardown(() => rmSync(directory, { recursive: true, force: true }));
  return directory;
}

function server(...listeners: NbdListenerOptions[]): NbdServer {
  const provider = new MemoryProvider({ poolBytes: 1 << 20 });
  provider.add('tank/vm0', 1 << 20);
  return new NbdServer({ provider, listeners, log: quiet });
}

test('a unix socket has mode 0600 and is removed at the end', async (t) => {
  const socket = path.join(directoryOf(t), 'nbd.sock');
  const mask = process.umask();
  const first = server({ unix: socket });
  await first.start();
  t.is(statSync(socket).mode & 0o777, 0o600);
  t.is(process.umask(), mask);
  t.deepEqual(first.addresses(), [{ unix: socket }]);
  await first.close();
  t.false(existsSync(socket));
});

test('a stale socket is replaced', async (t) => {
  const socket = path.join(directoryOf(t), 'nbd.sock');
  const script = `require('net').createServer().listen(${JSON.stringify(socket)}, () => process.kill(process.pid, 'SIGKILL'))`;
  await new Promise((resolve) => spawn(process.execPath, ['-e', script]).on('exit', resolve));
  t.true(existsSync(socket));
  const second = server({ unix: socket });
  await second.start();
  const client = await Client.open({ unix: socket }, 'tank/vm0');
  client.destroy();
  await second.close();
});

test('a socket that answers is not replaced', async (t) => {
  const socket = path.join(directoryOf(t), 'nbd.sock');
  const first = server({ unix: socket });
  await first.start();
  const second = server({ unix: socket });
  await t.throwsAsync(second.start(), { code: 'EADDRINUSE', message: /nbd\.sock/ });
  const client = await Client.open({ unix: socket }, 'tank/vm0');
  client.destroy();
  await first.close();
});

test('what is not a socket is not replaced', async (t) => {
  const file = path.join(directoryOf(t), 'precious');
  writeFileSync(file, 'data');
  await t.throwsAsync(server({ unix: file }).start(), { code: 'EADDRINUSE', message: /not a socket/ });
  t.true(existsSync(file));
});

test('when one listener fails, none stays open', async (t) => {
  const directory = directoryOf(t);
  const taken = net.createServer().listen(0, '127.0.0.1');
  await new Promise((resolve) => taken.once('listening', resolve));
  const { port } = taken.address() as net.AddressInfo;
  const socket = path.join(directory, 'nbd.sock');
  await t.throwsAsync(server({ unix: socket }, { tcp: `127.0.0.1:${port}` }).start(), {
    code: 'EADDRINUSE',
    message: new RegExp(`${port}`),
  });
  t.false(existsSync(socket));
  taken.close();
});

test('a directory that is not there is named', async (t) => {
  const socket = path.join(directoryOf(t), 'none', 'nbd.sock');
  await t.throwsAsync(server({ unix: socket }).start(), { message: /none\/nbd\.sock/ });
});

test('IPv6 loopback', async (t) => {
  const six = server({ tcp: '[::1]:0' });
  try {
    await six.start();
  } catch {
    return skip(t, 'no IPv6 here');
  }
  t.regex(six.addresses()[0]!.tcp!, /^\[::1\]:\d+$/);
  await six.close();
});

test('only the loopback is open to everybody', (t) => {
  const certificate = { mode: 'required', certificate: 'c', key: 'k' } as const;
  for (const tcp of ['127.0.0.1:1', '127.9.9.9:1', 'localhost:1', '[::1]:1', '[0:0:0:0:0:0:0:1]:1']) {
    t.notThrows(() => checkListener('nbd', { tcp }), tcp);
  }
  for (const tcp of ['0.0.0.0:1', '10.0.0.1:1', '[::]:1', '[fe80::1]:1', 'example.org:1', 'localhost.example.org:1']) {
    t.throws(() => checkListener('nbd', { tcp }), { code: 'EPERM', message: /allowPlaintextFromNetwork/ }, tcp);
    t.throws(() => checkListener('nbd', { tcp, tls: { ...certificate, mode: 'optional' } }), { code: 'EPERM' }, tcp);
    t.notThrows(() => checkListener('nbd', { tcp, tls: certificate }), tcp);
    t.notThrows(() => checkListener('nbd', { tcp, allowPlaintextFromNetwork: true }), tcp);
  }
  t.false(isLoopback('127.0.0.1.example.org'));
});

test('addresses that are none', (t) => {
  for (const text of ['', '1', ':1', 'a:b', 'a:65536', '::1:80', '[::1]', 'a:1:2', 'host:']) {
    t.throws(() => parseTcp('nbd', text), { code: 'EINVAL' }, text);
  }
  t.deepEqual(parseTcp('nbd', '[::1]:80'), { host: '::1', port: 80 });
  t.throws(() => checkListener('nbd', {}), { code: 'EINVAL' });
  t.throws(() => checkListener('nbd', { unix: 'a', tcp: '127.0.0.1:1' }), { code: 'EINVAL' });
});
