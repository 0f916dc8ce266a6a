import { mkdtempSync, rmSync, statSync } from 'node:fs';
import net from 'node:net';
import { hostname, tmpdir } from 'node:os';
import path from 'node:path';
import test, { type ExecutionContext } from 'ava';
import type { EventStream } from '../../../host/http/event-stream.ts';
import type { HttpLimits } from '../../../host/http/limits.ts';
import { HttpServer, type HttpServerOptions, type Route, text } from '../../../host/http/server.ts';
import { quiet } from '../nbd/fixture.ts';

type Options = Partial<HttpServerOptions> & { readonly limits?: Partial<HttpLimits> };

async function serve(t: ExecutionContext, options: Options = {}): Promise<{ server: HttpServer; port: number }> {
  const routes = new Map<string, Route>([['/ok', () => text(200, 'fine')]]);
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

test.serial(
  'connections have a bound: who has asked for nothing makes room, who waits for an answer does not',
  async (t) => {
    const { promise: over, resolve: finish } = Promise.withResolvers<void>();
    const slow = () => over.then(() => text(200, 'late'));
    const routes = new Map<string, Route>([
      ['/slow', slow],
      ['/ok', () => text(200, 'fine')],
    ]);
    const { port, server } = await serve(t, { routes, limits: { connections: 2, headerMs: 60_000 } });
    const waiting = get(port, 'localhost', 'GET /slow HTTP/1.1');
    const idle = talk({ port });
    while (server.metrics.connections.open < 2) await new Promise((resolve) => setTimeout(resolve, 10));
    t.is(statusOf(await get(port, 'localhost')), 200);
    t.is((await idle).answer, '');
    t.is(server.metrics.connections.refused, 1);
    const waitingToo = get(port, 'localhost', 'GET /slow HTTP/1.1');
    while (server.metrics.connections.open < 2) await new Promise((resolve) => setTimeout(resolve, 10));
    await new Promise((resolve) => setTimeout(resolve, 100));
    t.is((await get(port, 'localhost')).answer, '');
    finish();
    t.deepEqual([statusOf(await waiting), statusOf(await waitingToo)], [200, 200]);
  },
);

test.serial('connections by the thousand that ask for nothing keep nobody out', async (t) => {
  const { port, server } = await serve(t, { limits: { headerMs: 60_000 } });
  const held: net.Socket[] = [];
  t.teardown(() => {
    for (const socket of held) socket.destroy();
  });
  let most = 0;
  for (let round = 0; round < 20; round++) {
    const more = Array.from({ length: 100 }, () => net.connect({ port }).on('error', () => undefined));
    held.push(...more);
    await Promise.all(more.map((socket) => new Promise((resolve) => socket.once('connect', resolve))));
    most = Math.max(most, server.metrics.connections.open);
    t.is(statusOf(await get(port, 'localhost')), 200);
  }
  t.true(most <= 64, `${most} connections`);
});

const asked = (path: string, ...headers: string[]): string =>
  `${[`POST ${path} HTTP/1.1`, 'Connection: close', ...headers].join('\r\n')}\r\n\r\n`;
const json = 'Content-Type: application/json';

test.serial('what changes something is taken from this site only, as JSON, and of a bounded length', async (t) => {
  const bodies: string[] = [];
  const post = async (_: unknown, body: string) => {
    bodies.push(body);
    return text(200, 'done');
  };
  const routes = new Map<string, Route>([['/act', { bodyBytes: 20, answerMs: 1_000, post }]]);
  const { port } = await serve(t, { routes });
  const host = `Host: localhost:${port}`;
  const send = async (...headers: string[]) =>
    statusOf(await talk({ port }, asked('/act', 'Content-Length: 2', ...headers), '{}'));
  t.is(await send(host, json), 200);
  t.is(await send(host, json, `Origin: http://localhost:${port}`, 'Sec-Fetch-Site: same-origin'), 200);
  t.is(await send(host, 'Content-Type: application/json; charset=utf-8', `Origin: https://localhost:${port}`), 200);
  t.deepEqual(bodies, ['{}', '{}', '{}']);
  // Pages of other sites: by what the browser says of them, and by their names for this machine.
  for (const origin of [
    'http://evil.example',
    'null',
    `http://localhost:${port + 1}`,
    `http://localhost:${port}.evil.example`,
  ])
    t.is(await send(host, json, `Origin: ${origin}`), 403, origin);
  for (const site of ['cross-site', 'same-site']) t.is(await send(host, json, `Sec-Fetch-Site: ${site}`), 403, site);
  t.is(await send(`Host: evil.example:${port}`, json, `Origin: http://evil.example:${port}`), 421);
  // What a form, or a page without asking first, can send.
  for (const type of ['text/plain', 'application/x-www-form-urlencoded', 'multipart/form-data', 'application/jsonp'])
    t.is(await send(host, `Content-Type: ${type}`), 415, type);
  t.is(await send(host), 415);
  for (const length of ['Content-Length: 21', 'Content-Length: 99999999999', 'Transfer-Encoding: chunked'])
    t.is(statusOf(await talk({ port }, asked('/act', host, json, length))), 413, length);
  const preflight = await talk({ port }, `OPTIONS /act HTTP/1.1\r\n${host}\r\nOrigin: http://evil.example\r\n\r\n`);
  t.regex(preflight.answer, /^HTTP\/1\.1 405 /);
  t.false(/Access-Control/i.test(preflight.answer));
  t.regex((await get(port, 'localhost', 'GET /act HTTP/1.1')).answer, /^HTTP\/1\.1 405 [\s\S]*Allow: POST\r\n/);
  t.is(bodies.length, 3);
});

test.serial('secrets that are tried by the thousand are a line in the log now and then', async (t) => {
  let lines = 0;
  const count = () => {
    lines++;
  };
  const log = { ...quiet, info: count } as typeof quiet;
  const routes = new Map<string, Route>([['/secret', () => text(401, 'no')]]);
  const { port } = await serve(t, { routes, log });
  const before = lines;
  const started = performance.now();
  for (let i = 0; i < 200; i++) t.is(statusOf(await get(port, 'localhost', 'GET /secret HTTP/1.1')), 401);
  const seconds = (performance.now() - started) / 1000;
  t.true(lines > before && lines - before <= seconds + 1, `${lines - before} lines in ${seconds} s`);
});

test.serial('who begins a body and does not go on is cut', async (t) => {
  const post = async () => text(200, 'done');
  const routes = new Map<string, Route>([['/act', { bodyBytes: 20, answerMs: 60_000, post }]]);
  const { port } = await serve(t, { routes, limits: { headerMs: 300 } });
  const { answer } = await talk({ port }, asked('/act', 'Host: localhost', json, 'Content-Length: 20'), '{');
  t.regex(answer, /^HTTP\/1\.1 4/);
});

/** A route whose streams are kept in `open`. */
function streaming(streams: number, open: EventStream[]): Map<string, Route> {
  return new Map<string, Route>([
    ['/ok', () => text(200, 'fine')],
    ['/live', { streams, open: (stream) => open.push(stream) }],
  ]);
}

test.serial('a stream of events; so many at a time; its end is the end of the host', async (t) => {
  const open: EventStream[] = [];
  const { port, server } = await serve(t, { routes: streaming(2, open) });
  const isOpen = async (count: number) => {
    while (open.length < count) await new Promise((resolve) => setTimeout(resolve, 10));
  };
  const first = get(port, 'localhost', 'GET /live HTTP/1.1');
  await isOpen(1);
  const second = get(port, 'localhost', 'GET /live HTTP/1.1');
  await isOpen(2);
  t.is(statusOf(await get(port, 'localhost', 'GET /live HTTP/1.1')), 503);
  const site = 'GET /live HTTP/1.1\r\nHost: localhost\r\nSec-Fetch-Site: cross-site\r\n\r\n';
  t.is(statusOf(await talk({ port }, site)), 403);
  open[0]!.send('news', '{"a":1}', '7');
  open[0]!.end();
  const { answer } = await first;
  t.regex(answer, /^HTTP\/1\.1 200 [\s\S]*Content-Type: text\/event-stream\r\n/);
  t.true(answer.includes('event: news\nid: 7\ndata: {"a":1}\n\n'));
  t.is(statusOf(await get(port, 'localhost')), 200);
  await server.close();
  t.is(statusOf(await second), 200);
});

test.serial('who does not read a stream is cut, and little is kept for it', async (t) => {
  const open: EventStream[] = [];
  const { port, server } = await serve(t, { routes: streaming(2, open), limits: { answerMs: 500 } });
  const socket = net.connect({ port }).on('error', () => undefined);
  t.teardown(() => socket.destroy());
  socket.write('GET /live HTTP/1.1\r\nHost: localhost\r\n\r\n');
  while (open.length === 0) await new Promise((resolve) => setTimeout(resolve, 10));
  const [stream] = open;
  let ended = false;
  stream!.onEnd(() => {
    ended = true;
  });
  const line = 'x'.repeat(1 << 20);
  let sent = 0;
  for (let i = 0; i < 400 && !ended; i++) {
    if (!stream!.behind) {
      stream!.send('news', line);
      sent++;
    }
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
  t.true(ended);
  t.true(sent < 20, `${sent} MiB were sent to who reads nothing`);
  t.is(server.metrics.connections.open, 0);
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

test.serial(
  'a unix socket is for its owner; a port may be forwarded to it, so the name is looked at, too',
  async (t) => {
    const folder = mkdtempSync(path.join(tmpdir(), 'zow-http-'));
    t.teardown(() => rmSync(folder, { recursive: true, force: true }));
    const socket = path.join(folder, 'http.sock');
    const routes = new Map([['/ok', () => text(200, 'fine')]]);
    const server = new HttpServer({ listener: { unix: socket }, routes, log: quiet });
    await server.start();
    t.is(statSync(socket).mode & 0o777, 0o600);
    const ask = (host: string) =>
      talk({ path: socket }, `GET /ok HTTP/1.1\r\nHost: ${host}\r\nConnection: close\r\n\r\n`);
    t.is(statusOf(await ask('localhost')), 200);
    t.is(statusOf(await ask('evil.example')), 421);
    await server.close();
    t.throws(() => statSync(socket));
  },
);

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
