import { type ChildProcess, spawn } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { existsSync, mkdtempSync, renameSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import test, { type ExecutionContext } from 'ava';
import { pino } from 'pino';
import { StartError, ZowHost } from '../../../host/zow.ts';
import { sparseFile } from './labels.ts';
import { nativePrograms, zdb } from './native.ts';

/** converge against OpenZFS itself: the core in this process, and the natively built programs. */

const MIB = 1024 ** 2;
const quiet = pino({ level: 'silent' });

function scratch(t: ExecutionContext): string {
  const folder = mkdtempSync(join(tmpdir(), 'zow-core-'));
  t.teardown(() => rmSync(folder, { recursive: true }));
  return folder;
}

const VOLUMES = { vm0: { size: '32M', volblocksize: '16K', compression: 'lz4' } };

function config(pool: object = {}): object {
  const tank = { vdevs: ['mirror', 'disks/a', 'disks/b'], create: { size: '128M' }, volumes: VOLUMES, ...pool };
  return { socket: 'zow.sock', memory: '256M', pools: { tank } };
}

function open(folder: string, content: object = config()): Promise<ZowHost> {
  return ZowHost.open(content, { directory: folder, programs: nativePrograms, log: quiet });
}

async function must(host: ZowHost, program: string, ...args: string[]): Promise<string> {
  const { code, stdout, stderr } = await host.run(program, args);
  if (code !== 0) throw new Error(`${program} ${args.join(' ')}: ${stderr}`);
  return stdout.trim();
}

async function refused(t: ExecutionContext, folder: string, content: object): Promise<readonly string[]> {
  const error = await t.throwsAsync(() => open(folder, content), { instanceOf: StartError });
  return error.reasons;
}

function verified(t: ExecutionContext, folder: string): void {
  const { code, stdout, stderr } = zdb(join(folder, 'disks'), 'tank');
  t.is(code, 0, stderr);
  t.regex(stdout, /No leaks \(block sum matches space maps exactly\)/);
}

test.serial('a pool is created, written, exported, found again, and native zdb finds nothing wrong', async (t) => {
  const folder = scratch(t);
  const data = randomBytes(5 * MIB);
  {
    await using host = await open(folder);
    await using volume = await host.openVolume('tank/vm0');
    await volume.write(12_345, data);
    await volume.flush();
  }
  verified(t, folder);
  {
    await using host = await open(folder);
    await using volume = await host.openVolume('tank/vm0', { readOnly: true });
    t.true(Buffer.from(await volume.read(12_345, data.length)).equals(data));
    t.is(await must(host, 'zpool', 'list', '-H', '-o', 'name,health'), 'tank\tONLINE');
  }
  verified(t, folder);
});

test.serial('a volume that is closed waits for what was asked of it', async (t) => {
  const folder = scratch(t);
  const host = await open(folder);
  const { volumes } = host.core;
  for (let round = 0; round < 20; round++) {
    const handle = await volumes.open('tank/vm0', { readOnly: false });
    const buffers = await Promise.all(Array.from({ length: 32 }, () => volumes.buffers.acquire(65536)));
    const requests = buffers.map(async (buffer, i) => {
      buffer.bytes.fill(i);
      await handle.write(i * 65536, buffer, { fua: i % 8 === 0 });
      buffer.release();
    });
    await Promise.all([...requests, handle.close()]);
    await t.throwsAsync(handle.flush(), { code: 'ESHUTDOWN' });
  }
  await host.close();
  verified(t, folder);
});

test.serial('properties that differ are set, and stay', async (t) => {
  const folder = scratch(t);
  await (await open(folder, config({ properties: { ashift: 12, autotrim: 'on', comment: 'hello' } }))).close();
  const changed = config({
    properties: { ashift: 12, autotrim: 'off', failmode: 'continue', 'com.example:owner': 'me' },
    volumes: {
      vm0: { ...VOLUMES.vm0, compression: 'zstd', sync: 'always', 'com.example:a': 'b' },
      'deep/er': { size: '1M', sparse: true },
    },
  });
  for (let start = 0; start < 2; start++) {
    await using host = await open(folder, changed);
    t.is(
      await must(host, 'zpool', 'get', '-Ho', 'value', 'autotrim,failmode,com.example:owner,comment', 'tank'),
      'off\ncontinue\nme\nhello',
    );
    t.is(
      await must(host, 'zfs', 'get', '-Ho', 'value', 'compression,sync,com.example:a', 'tank/vm0'),
      'zstd\nalways\nb',
    );
    t.is(await must(host, 'zfs', 'get', '-Ho', 'value', 'refreservation', 'tank/deep/er'), 'none');
  }
});

test.serial('contradictions are errors, and the pool is as before', async (t) => {
  const folder = scratch(t);
  await (await open(folder, config({ properties: { ashift: 12 } }))).close();
  const contrary = config({
    properties: { comment: 'changed' },
    volumes: { vm0: { size: '16M', volblocksize: '8K', compression: 'zstd' }, more: { size: '1M' } },
  });
  t.deepEqual(
    (await refused(t, folder, contrary)).map((reason) => reason.split(' in the configuration')[0]),
    ['volume tank/vm0 has size 32M on disk, 16M', 'volume tank/vm0 has volblocksize 16K on disk, 8K'],
  );
  t.regex(
    (await refused(t, folder, config({ properties: { ashift: 9 } }))).join(),
    /a has ashift 12, the configuration 9/,
  );
  t.regex(
    (await refused(t, folder, { ...config(), pools: { other: { vdevs: ['disks/a'] } } })).join(),
    /holds pool 'tank'/,
  );
  await using host = await open(folder);
  t.is(await must(host, 'zpool', 'get', '-Ho', 'value', 'comment', 'tank'), '-');
  t.is(await must(host, 'zfs', 'get', '-Ho', 'value', 'compression', 'tank/vm0'), 'lz4');
  t.is(await must(host, 'zfs', 'list', '-Ho', 'name', '-t', 'volume'), 'tank/vm0');
});

test.serial('devices added while it ran are found at the next start', async (t) => {
  const folder = scratch(t);
  {
    await using host = await open(folder);
    const [c, d] = ['c', 'd'].map((name) => sparseFile(join(folder, 'disks', name), 128 * MIB)) as [string, string];
    await must(host, 'zpool', 'add', 'tank', 'mirror', c, d);
  }
  await using host = await open(folder);
  t.regex(await must(host, 'zpool', 'status', 'tank'), /mirror-1\s+ONLINE/);
});

test.serial('a mirror with a missing side is imported, and the file is not made anew', async (t) => {
  const folder = scratch(t);
  await (await open(folder)).close();
  const b = join(folder, 'disks/b');
  renameSync(b, join(folder, 'aside'));
  {
    await using host = await open(folder);
    t.is(await must(host, 'zpool', 'list', '-H', '-o', 'health'), 'DEGRADED');
    t.false(existsSync(b));
  }
  renameSync(join(folder, 'aside'), b);
  await using host = await open(folder);
  t.is(await must(host, 'zpool', 'list', '-H', '-o', 'health'), 'ONLINE');
});

test.serial('a pool that was destroyed is not silently replaced', async (t) => {
  const folder = scratch(t);
  {
    await using host = await open(folder);
    await must(host, 'zpool', 'destroy', 'tank');
  }
  t.regex(
    (await refused(t, folder, config())).join('\n'),
    /a holds pool 'tank', destroyed but still there: zpool import -D/,
  );
});

test.serial('what zpool create refuses leaves no files', async (t) => {
  const folder = scratch(t);
  const reasons = await refused(
    t,
    folder,
    config({ vdevs: ['mirror', 'disks/a', 'disks/b', 'disks/c'], properties: { compatibility: 'no-such-file' } }),
  );
  t.is(reasons[0], "pool 'tank' cannot be created:");
  for (const name of ['a', 'b', 'c']) t.false(existsSync(join(folder, 'disks', name)));
});

test.serial('an encrypted volume is unlocked with the key in its file', async (t) => {
  const folder = scratch(t);
  const key = join(folder, 'key');
  writeFileSync(key, randomBytes(32));
  const secret = { size: '16M', encryption: 'aes-256-gcm', keyformat: 'raw', keylocation: `file://${key}` };
  const encrypted = config({ volumes: { ...VOLUMES, secret } });
  {
    await using host = await open(folder, encrypted);
    await using volume = await host.openVolume('tank/secret');
    await volume.write(0, Buffer.from('hidden'));
    await volume.flush();
  }
  {
    await using host = await open(folder, encrypted);
    await using volume = await host.openVolume('tank/secret');
    t.is(Buffer.from(await volume.read(0, 6)).toString(), 'hidden');
  }
  renameSync(key, `${key}.gone`);
  await using host = await open(folder, encrypted);
  t.is(await must(host, 'zfs', 'get', '-Ho', 'value', 'keystatus', 'tank/secret'), 'unavailable');
  t.not(host.core.volumes.find('tank/vm0'), undefined);
});

interface Served {
  readonly child: ChildProcess;
  readonly stderr: () => string;
  readonly ready: Promise<void>;
  readonly ended: Promise<number | null>;
}

function serve(t: ExecutionContext, file: string): Served {
  const script = fileURLToPath(new URL('../../cli/commands/serve-native.ts', import.meta.url));
  const child = spawn(process.execPath, [script, file], { stdio: ['ignore', 'ignore', 'pipe'] });
  let stderr = '';
  const ready = Promise.withResolvers<void>();
  child.stderr.setEncoding('utf8').on('data', (text: string) => {
    stderr += text;
    if (stderr.includes('"msg":"ready"')) ready.resolve();
  });
  const ended = once(child, 'close').then(([code]) => code as number | null);
  ended.then(() => ready.reject(new Error(`ended: ${stderr}`)));
  ready.promise.catch(() => {});
  t.teardown(async () => {
    child.kill('SIGKILL');
    await ended;
  });
  return { child, stderr: () => stderr, ready: ready.promise, ended };
}

test.serial('kill -9, another start, a second host on the same disks, and SIGTERM', async (t) => {
  const folder = scratch(t);
  const file = join(folder, 'pool.yaml');
  writeFileSync(file, JSON.stringify(config()));
  const first = serve(t, file);
  await first.ready;
  first.child.kill('SIGKILL');
  await first.ended;

  const began = performance.now();
  const second = serve(t, file);
  await second.ready;
  t.log(`from start to ready after a crash: ${Math.round(performance.now() - began)} ms`);
  const other = join(folder, 'other.yaml');
  writeFileSync(other, JSON.stringify({ ...config(), socket: 'other.sock' }));
  const refused = serve(t, other);
  t.is(await refused.ended, 2);
  t.regex(refused.stderr(), /disks\/a is in use: process \d+ has it open/);

  second.child.kill('SIGTERM');
  t.is(await second.ended, 0);
  t.false(existsSync(join(folder, 'zow.sock')));
  verified(t, folder);
  t.is(statSync(join(folder, 'disks/a')).mode & 0o777, 0o600);
});
