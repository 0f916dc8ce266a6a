import { mkdtempSync, rmSync, statSync } from 'node:fs';
import net from 'node:net';
import { hostname, tmpdir } from 'node:os';
import path from 'node:path';
import test, { type ExecutionContext } from 'ava';
import type { HttpLimits } from '../../../host/http/limits.ts';
import { HttpServer, type HttpServerOptions, text } from '../../../host/http/server.ts';
import { quiet } from '../nbd/fixture.ts';

type Options = Partial<HttpServerOptions> & { readonly limits?: Partial<HttpLimits> };

async function serve(t: ExecutionContext, options: Options = {}): Promise<{ server: HttpServer; port: number }> {
  const routes = new Map([['/ok', () => text(200, 'fine')]]);
  const server = new HttpServer({ listener: { tcp: '127.0.0.1:0' }, routes, log: quiet, ...options });
  await server.start();
  t.teardown(() => server.close());
  return { server, port: server.address!.port! };
}

/** Sends bytes on a connection of its own; all that comes until the server closes it. */
function talk(to: net.NetConnectOpts, ...parts: (string | Buffer)[]): Promise<{ answer: string }> {
  return new Promise((resolve) => {
    const socket = net.connect({ allowHalfOpen: true, ...to } as net.NetConnectOpts);
    let answer = '';
    socket.setEncoding('latin1').on('data', (chunk: string) => {
      answer += chunk;
    });
    const over = () => resolve({ answer });
    socket.on('end', () => socket.destroy()).on('error', over);
    socket.on('close', over);
    for (const part of parts) socket.write(part);
  });
}

function get(port: number, host: string, line = 'GET /ok HTTP/1.1'): Promise<{ answer: string }> {
  return talk({ port }, `${line}\r\nHost: ${host}\r\nConnection: close\r\n\r\n`);
}

const statusOf = ({ answer }: { answer: string }): number => Number(/^HTTP\/1\.1 (\d{3}) /.exec(answer)?.[1]);

test.serial('GET and HEAD of a path; headers that keep the answer from others', async (t) => {
  const { port, server } = await serve(t);
  const { answer } = await get(port, `127.0.0.1:${port}`);
  t.regex(answer, /^HTTP\/1\.1 200 OK\r\n/);
  t.true(answer.endsWith('\r\n\r\nfine\n'));
  for (const header of ['Cache-Control: no-store', "Content-Security-Policy: default-src 'none'"])
    t.true(answer.includes(`${header}\r\n`));
  t.false(/Access-Control/i.test(answer));
  const head = await get(port, 'localhost', 'HEAD /ok?x=1 HTTP/1.1');
  t.true(head.answer.includes('Content-Length: 5\r\n') && head.answer.endsWith('\r\n\r\n'));
  t.is(server.metrics.requests.get(200), 2);
  t.deepEqual({ ...server.metrics.connections, open: 0 }, { open: 0, total: 2, refused: 0 });
});

test.serial('other methods, paths and bodies are refused, and the connection ends', async (t) => {
  const { port } = await serve(t);
  for (const method of ['POST', 'PUT', 'DELETE', 'OPTIONS', 'PATCH', 'TRACE']) {
    const { answer } = await talk({ port }, `${method} /ok HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n\r\n`);
    t.regex(answer, /^HTTP\/1\.1 405 [\s\S]*Allow: GET, HEAD\r\n/, method);
  }
  for (const target of ['/', '/ok/', '/../ok', 'http://localhost/ok', '*', '/ok%00'])
    t.is(statusOf(await talk({ port }, `GET ${target} HTTP/1.1\r\nHost: localhost\r\n\r\n`)), 404, target);
  for (const body of ['Content-Length: 1000000000', 'Transfer-Encoding: chunked'])
    t.is(statusOf(await talk({ port }, `GET /ok HTTP/1.1\r\nHost: localhost\r\n${body}\r\n\r\n`)), 413, body);
});

test.serial('a name that somebody else can resolve to this machine is refused', async (t) => {
  const { port } = await serve(t, { hosts: ['store1'] });
  for (const host of ['localhost', '127.0.0.1', '[::1]', '192.0.2.7', 'Store1', hostname()])
    for (const suffix of ['', `:${port}`]) t.is(statusOf(await get(port, host + suffix)), 200, host + suffix);
  for (const host of [
    'evil.example',
    '127.0.0.1.evil.example',
    'localhost.evil.example',
    'store1.',
    '',
    '127.0.0.1@evil',
    '[evil]',
    '[::1',
    '2130706433',
  ])
    t.is(statusOf(await get(port, host)), 421, host);
  t.is(statusOf(await talk({ port }, 'GET /ok HTTP/1.0\r\n\r\n')), 421);
  t.is(statusOf(await talk({ port }, 'GET /ok HTTP/1.1\r\n\r\n')), 400);
});

test.serial('what is no HTTP is refused, and the others are served', async (t) => {
  const { port } = await serve(t);
  const garbage = [
    '\0\0\0\0garbage\r\n\r\n',
    'NBDMAGICIHAVEOPT',
    'GET /ok\r\n\r\n',
    'GET /ok HTTP/9.9\r\nHost: localhost\r\n\r\n',
    'GET /ok HTTP/1.1\r\nHost: localhost\r\nContent-Length: -1\r\n\r\n',
    'GET /ok HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n',
    'GET /ok HTTP/1.1\r\nHost: a\r\nHost: localhost\r\n\r\n',
    'GET /ok HTTP/1.1\r\nHo st: localhost\r\n\r\n',
    Buffer.from([0x16, 3, 1, 2, 0, 1, 0, 1, 0xfc, 3, 3]),
  ];
  for (const bytes of garbage) {
    const status = statusOf(await talk({ port }, bytes));
    t.true(status >= 400 && status < 500, `${status} for ${String(bytes)}`);
  }
  const long = await talk({ port }, `GET /ok HTTP/1.1\r\nHost: localhost\r\nX: ${'x'.repeat(20_000)}\r\n\r\n`);
  t.is(statusOf(long), 431);
  t.is(statusOf(await get(port, 'localhost')), 200);
});

test.serial('who sends nothing, or slowly, is cut', async (t) => {
  const { port } = await serve(t, { limits: { headerMs: 300, idleMs: 60_000, answerMs: 60_000 } });
  // Without the bound none of these would end.
  t.not(statusOf(await talk({ port })), 200);
  t.is(statusOf(await talk({ port }, 'GET /ok HTTP/1.1\r\nHost: localhost\r\nX: ')), 408);
  const again = await talk({ port }, 'GET /ok HTTP/1.1\r\nHost: localhost\r\n\r\nGET /o');
  t.is(statusOf(again), 200);
  t.true(again.answer.includes('HTTP/1.1 408 '));
});

test.serial('who rests between two requests is cut', async (t) => {
  const { port } = await serve(t, { limits: { headerMs: 60_000, idleMs: 300, answerMs: 60_000 } });
  const { answer } = await talk({ port }, 'GET /ok HTTP/1.1\r\nHost: localhost\r\n\r\n');
  t.true(answer.endsWith('fine\n'));
});

test.serial('who does not take the answer is cut', async (t) => {
  const routes = new Map([['/big', () => text(200, 'x'.repeat(16 << 20))]]);
  const { port, server } = await serve(t, { routes, limits: { answerMs: 300 } });
  const socket = net.connect({ port });
  socket.on('error', () => undefined);
  socket.write('GET /big HTTP/1.1\r\nHost: localhost\r\n\r\n');
  await new Promise((resolve) => socket.once('readable', resolve));
  const started = performance.now();
  while (server.metrics.connections.open > 0 && performance.now() - started < 5_000)
    await new Promise((resolve) => setTimeout(resolve, 20));
  t.is(server.metrics.connections.open, 0);
  socket.destroy();
});

test.serial('connections have a bound', async (t) => {
  const { port, server } = await serve(t, { limits: { connections: 2, headerMs: 60_000 } });
  const held = [net.connect({ port }), net.connect({ port })];
  await Promise.all(held.map((socket) => new Promise((resolve) => socket.once('connect', resolve))));
  t.is((await get(port, 'localhost')).answer, '');
  t.is(server.metrics.connections.refused, 1);
  for (const socket of held) socket.destroy();
  while (server.metrics.connections.open > 0) await new Promise((resolve) => setTimeout(resolve, 10));
  t.is(statusOf(await get(port, 'localhost')), 200);
});

test.serial('a mistake of ours is a 500 for the one, and not the end of the server', async (t) => {
  const routes = new Map([
    ['/bad', () => Promise.reject(new Error('a mistake'))],
    ['/ok', () => Promise.resolve(text(200, 'fine'))],
  ]);
  const { port } = await serve(t, { routes });
  const { answer } = await get(port, 'localhost', 'GET /bad HTTP/1.1');
  t.regex(answer, /^HTTP\/1\.1 500 /);
  t.false(answer.includes('a mistake'));
  t.is(statusOf(await get(port, 'localhost')), 200);
});

test.serial('a unix socket is for its owner, and any name does', async (t) => {
  const folder = mkdtempSync(path.join(tmpdir(), 'zow-http-'));
  t.teardown(() => rmSync(folder, { recursive: true, force: true }));
  const socket = path.join(folder, 'http.sock');
  const routes = new Map([['/ok', () => text(200, 'fine')]]);
  const server = new HttpServer({ listener: { unix: socket }, routes, log: quiet });
  await server.start();
  t.is(statSync(socket).mode & 0o777, 0o600);
  const answer = await talk({ path: socket }, 'GET /ok HTTP/1.1\r\nHost: whatever\r\nConnection: close\r\n\r\n');
  t.is(statusOf(answer), 200);
  await server.close();
  t.throws(() => statSync(socket));
});

test.serial('beyond loopback it has to be allowed', (t) => {
  const listener = { tcp: '0.0.0.0:9134' };
  t.throws(() => new HttpServer({ listener, routes: new Map() }), { code: 'EPERM' });
  t.notThrows(() => new HttpServer({ listener: { ...listener, allowPlaintextFromNetwork: true }, routes: new Map() }));
});

test.serial('the end waits for answers under way, and not for clients that rest', async (t) => {
  const { promise: begun, resolve: called } = Promise.withResolvers<void>();
  const routes = new Map([
    [
      '/slow',
      () => {
        called();
        return new Promise<ReturnType<typeof text>>((resolve) => setTimeout(resolve, 200, text(200, 'late')));
      },
    ],
  ]);
  const { port, server } = await serve(t, { routes, limits: { headerMs: 60_000, shutdownMs: 5_000 } });
  const resting = net.connect({ port });
  await new Promise((resolve) => resting.once('connect', resolve));
  const slow = get(port, 'localhost', 'GET /slow HTTP/1.1');
  await begun;
  await server.close();
  t.true((await slow).answer.endsWith('late\n'));
  resting.destroy();
});
