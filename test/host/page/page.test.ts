import { chmodSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import test, { type ExecutionContext } from 'ava';
import type { IoctlCore } from '../../../host/core/dev-zfs.ts';
import { HttpServer } from '../../../host/http/server.ts';
import type { HostSample } from '../../../host/metrics/host-sample.ts';
import { adviceOf } from '../../../host/page/advice.ts';
import { LivePage, type PageOptions } from '../../../host/page/page.ts';
import { Token } from '../../../host/page/token.ts';
import { quiet } from '../nbd/fixture.ts';

/** The page over HTTP, on a core that never answers anything. */

const SECRET = 'a-secret-of-24-characters';
const silent = { open: () => new Promise(() => undefined) } as unknown as IoctlCore;
const http = {
  listener: '127.0.0.1:9134',
  connections: { open: 0, total: 0, refused: 0 },
  requests: new Map<number, number>(),
};
const nobody: HostSample = { release: 'x', engines: [], lostPools: ['tank'], engineLosses: 1, http, seconds: 0 };

interface Served {
  readonly address: string;
  readonly ran: string[][];
  readonly page: LivePage;
  act(what: object, headers?: Record<string, string>): Promise<{ status: number; text: string }>;
}

async function serve(t: ExecutionContext, options: Partial<PageOptions> = {}): Promise<Served> {
  const ran: string[][] = [];
  const page = new LivePage({
    core: silent,
    sample: async () => nobody,
    troubles: async () => [],
    run: async (program, args) => {
      ran.push([program, ...args]);
      return { code: 0, stdout: 'done\n', stderr: '' };
    },
    notServing: () => undefined,
    token: undefined,
    trusted: false,
    log: quiet,
    ...options,
  });
  const server = new HttpServer({ listener: { tcp: '127.0.0.1:0' }, routes: new Map(page.routes), log: quiet });
  await server.start();
  t.teardown(async () => {
    await page.close();
    await server.close();
  });
  const address = `http://${server.address!.tcp}`;
  const act = async (what: object, headers: Record<string, string> = {}) => {
    const response = await fetch(`${address}/act`, {
      method: 'POST',
      headers: { 'Content-Type': 'application/json', ...headers },
      body: JSON.stringify(what),
    });
    return { status: response.status, text: await response.text() };
  };
  return { address, ran, page, act };
}

function tokenFile(t: ExecutionContext, text: string, mode = 0o600): string {
  const folder = mkdtempSync(join(tmpdir(), 'zow-token-'));
  t.teardown(() => rmSync(folder, { recursive: true, force: true }));
  const path = join(folder, 'token');
  writeFileSync(path, text);
  chmodSync(path, mode);
  return path;
}

const scrub = { do: 'scrub', pool: 'tank', run: true };
const bearer = (secret: string) => ({ Authorization: `Bearer ${secret}` });

test('without a token nobody changes anything over TCP', async (t) => {
  const { act, ran } = await serve(t);
  t.is((await act(scrub)).status, 403);
  t.is((await act(scrub, bearer(SECRET))).status, 403);
  t.deepEqual(ran, []);
});

test('with a token who knows it does, and sees the command; what takes something away needs the name', async (t) => {
  const { act, ran } = await serve(t, { token: await Token.load(tokenFile(t, `${SECRET}\n`)) });
  for (const headers of [
    {},
    bearer(''),
    bearer('x'),
    bearer(`${SECRET}x`),
    { Authorization: SECRET },
    { Cookie: SECRET },
  ])
    t.is((await act(scrub, headers as Record<string, string>)).status, 401);
  t.deepEqual(ran, []);
  const right = bearer(SECRET);
  t.is((await act({ do: 'nothing' }, right)).status, 200);
  const seen = await act({ do: 'destroy', dataset: 'tank/v' }, right);
  t.deepEqual(JSON.parse(seen.text), { command: 'zfs destroy tank/v', confirm: 'tank/v' });
  t.deepEqual(ran, [], 'nothing runs before it is wished');
  t.deepEqual(JSON.parse((await act(scrub, right)).text), { command: 'zpool scrub tank', code: 0, output: 'done\n' });
  const destroy = { do: 'destroy', dataset: 'tank/v', run: true };
  for (const confirm of [undefined, '', 'tank', 'tank/V', true])
    t.deepEqual(await act({ ...destroy, confirm }, right), { status: 400, text: 'confirm: has to be tank/v\n' });
  t.is((await act({ ...destroy, confirm: 'tank/v' }, right)).status, 200);
  t.deepEqual(ran, [
    ['zpool', 'scrub', 'tank'],
    ['zfs', 'destroy', 'tank/v'],
  ]);
  for (const [what, message] of [
    [[], 'the body has to be an object\n'],
    [{ do: 'scrub', pool: '--help' }, "pool: '--help' cannot be\n"],
  ] as const)
    t.deepEqual(await act(what, right), { status: 400, text: message });
  const typing = await act({ do: 'snapshot', dataset: 'tank/v', name: '', run: false }, right);
  t.deepEqual([typing.status, JSON.parse(typing.text)], [200, { problem: 'name: is missing' }]);
});

test('over a unix socket whoever can connect does, not while the host starts, and so many at a time', async (t) => {
  let starts = true;
  const { promise: over, resolve: finish } = Promise.withResolvers<void>();
  let begun = 0;
  const run = async () => {
    begun++;
    await over;
    return { code: 1, stdout: '', stderr: 'no\n' };
  };
  const { act } = await serve(t, {
    trusted: true,
    run,
    notServing: () => (starts ? 'the host is starting' : undefined),
  });
  t.deepEqual(await act(scrub), { status: 503, text: 'the host is starting\n' });
  starts = false;
  const four = Array.from({ length: 4 }, () => act(scrub));
  while (begun < 4) await new Promise((resolve) => setTimeout(resolve, 10));
  t.is((await act(scrub)).status, 503);
  finish();
  for (const { status, text } of await Promise.all(four))
    t.deepEqual([status, JSON.parse(text)], [200, { command: 'zpool scrub tank', code: 1, output: 'no\n' }]);
});

test('the page and its files: nothing of elsewhere, and nobody else can frame or run it', async (t) => {
  const { address } = await serve(t);
  const response = await fetch(`${address}/`);
  const policy = response.headers.get('content-security-policy')!;
  for (const part of [
    "default-src 'none'",
    "script-src 'self'",
    "frame-ancestors 'none'",
    "base-uri 'none'",
    "form-action 'none'",
  ])
    t.true(policy.includes(part), part);
  t.false(policy.includes('unsafe'));
  const files = new Set(['index.html']);
  const texts: string[] = [];
  const queue = [await response.text()];
  for (let text = queue.pop(); text !== undefined; text = queue.pop()) {
    texts.push(text);
    for (const [, name] of text.matchAll(/(?:src|href|from) ?=? ?["'](?:\.\/)?([\w.]+)["']/g)) {
      if (files.has(name!)) continue;
      files.add(name!);
      const file = await fetch(`${address}/${name}`);
      t.is(file.status, 200, name);
      queue.push(await file.text());
    }
  }
  t.true(files.size >= 8, [...files].join());
  for (const text of texts) t.notRegex(text, /\binnerHTML|\bon\w+="|<script>|<style|url\(/);
  // Names of XML are no addresses.
  const addresses = texts.flatMap((text) => text.match(/https?:\/\/[^\s'"`)]+/g) ?? []);
  t.deepEqual(
    addresses.filter((found) => !found.startsWith('http://www.w3.org/')),
    [],
  );
});

test('a core that answers nothing keeps no page waiting', async (t) => {
  const { address, page } = await serve(t);
  const response = await fetch(`${address}/live`);
  let text = '';
  for await (const part of response.body!) {
    text += Buffer.from(part).toString();
    if (text.includes('event: state')) break;
  }
  const [, data = ''] = /event: state\ndata: (.*)\n/.exec(text)!;
  t.like(JSON.parse(data), { pools: [{ name: 'tank', state: 'LOST' }], troubles: [] });
  t.like(JSON.parse(/event: hello\ndata: (.*)\n/.exec(text)![1]!), { access: 'nobody' });
  await page.close();
});

test('a file with a token: its owner alone reads it, and it is no word to be guessed', async (t) => {
  await t.throwsAsync(Token.load(tokenFile(t, SECRET, 0o640)), { message: /must have mode 0600, not 0640/ });
  await t.throwsAsync(Token.load(tokenFile(t, 'short')), { message: /16 to 255 characters, not 5: / });
  await t.throwsAsync(Token.load(tokenFile(t, '')), { message: /16 to 255 characters, not 0: / });
  await t.throwsAsync(Token.load(tokenFile(t, 'two words of a secret')), { message: /one word/ });
  await t.throwsAsync(Token.load('/zow-no-such-file'), { code: 'ENOENT', message: /token: reading/ });
  const token = await Token.load(tokenFile(t, SECRET));
  t.true(token.isIn(`bearer ${SECRET}`));
  for (const header of [undefined, '', SECRET, `Basic ${SECRET}`, `Bearer ${SECRET} x`]) t.false(token.isIn(header));
});

test('what zpool status says, by its parts', (t) => {
  const { status, action, see, errors } = adviceOf(`  pool: tank
 state: DEGRADED
status: One or more devices could not be opened.  Sufficient replicas exist for
\tthe pool to continue functioning in a degraded state.
action: Attach the missing device and online it using 'zpool online'.
   see: https://openzfs.github.io/openzfs-docs/msg/ZFS-8000-2Q
  scan: none requested
config:

\tNAME        STATE     READ WRITE CKSUM
\ttank        DEGRADED     0     0     0

errors: No known data errors
`);
  t.is(
    status,
    'One or more devices could not be opened. Sufficient replicas exist for the pool to continue functioning in a degraded state.',
  );
  t.is(action, "Attach the missing device and online it using 'zpool online'.");
  t.is(see, 'https://openzfs.github.io/openzfs-docs/msg/ZFS-8000-2Q');
  t.is(errors, 'No known data errors');
  t.is(adviceOf('  pool: tank\n state: ONLINE\nerrors: No known data errors\n').status, '');
});
