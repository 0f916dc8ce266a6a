import { readFileSync, truncateSync, writeFileSync } from 'node:fs';
import net from 'node:net';
import { join } from 'node:path';
import test, { type ExecutionContext } from 'ava';
import { stringify } from 'yaml';
import { addressText } from '../../host/devices/nbd/address.ts';
import type { HostStatus } from '../../host/supervisor/status.ts';
import { nbdkit, qemuNbd, type Server, serveFile } from '../host/devices/nbd/servers.ts';
import type { Client } from '../host/nbd/client.ts';
import { Lab, MiB, noise, until } from './host.ts';

/** Pools on a local file and a disk that nbdkit or qemu-nbd exports: /dev/zow/r. */

const REMOTE = '/dev/zow/r';

async function serve(t: ExecutionContext, command = nbdkit(), bytes = 256 * MiB): Promise<Server> {
  const server = await serveFile(command, bytes);
  t.teardown(() => server.remove());
  return server;
}

function devices(server: Pick<Server, 'address'>, options: object = {}) {
  return { devices: { r: { nbd: addressText(server.address), ...options } } };
}

async function stateOf(lab: Lab): Promise<string | undefined> {
  // Of one that was never there since its pool was imported, the guid is shown in the place of its path.
  const status = await lab.zpool('status', '-P', 'tank');
  const line = status.split('\n').find((text) => new RegExp(`^\\s+(${REMOTE}|\\d+)\\s`).test(text));
  return /^\s+\S+\s+([A-Z]+)/.exec(line ?? '')?.[1];
}

function becomes(lab: Lab, state: string): Promise<void> {
  return until(`${REMOTE} is ${state}`, async () => (await stateOf(lab)) === state);
}

/** It is there, and has what it missed. */
async function isWhole(lab: Lab): Promise<void> {
  await becomes(lab, 'ONLINE');
  await until('it is resilvered', async () => {
    const status = await lab.zpool('status', 'tank');
    return /resilvered .* with 0 errors/.test(status) && /state: ONLINE/.test(status);
  });
}

/** What a scrub says that has looked at everything. */
async function scrub(lab: Lab): Promise<string> {
  await lab.zpool('scrub', '-w', 'tank');
  return (
    /scan: (scrub repaired \S+) .* (with \d+ errors)/
      .exec(await lab.zpool('status', 'tank'))
      ?.slice(1)
      .join(' ') ?? ''
  );
}

async function mirror(lab: Lab): Promise<void> {
  await lab.zpool('create', '-o', 'ashift=12', '-O', 'primarycache=metadata', 'tank', 'mirror', lab.disk('a'), REMOTE);
  await lab.zfs('create', '-o', 'volblocksize=16K', '-V', '64M', 'tank/v');
}

/** Writes 64 KiB pieces, and flushes after each where it is told to; knows what was acknowledged, and the longest wait. */
class Load {
  longestMs = 0;
  readonly #acknowledged = new Map<number, Buffer>();
  readonly #client: Client;
  readonly #flushes: boolean;
  readonly #done: Promise<void>;
  #running = true;
  #count = 0;

  constructor(client: Client, flushes: boolean) {
    this.#client = client;
    this.#flushes = flushes;
    this.#done = this.#run();
    this.#done.catch(() => undefined);
  }

  async #run(): Promise<void> {
    for (let i = 0; this.#running; i++) {
      const at = (i % 1000) * 65536;
      const data = noise(65536, i + 1);
      const start = performance.now();
      const { errno } = await this.#client.writeAt(at, data);
      const flushed = this.#flushes ? await this.#client.request({ type: 3 }) : { errno: 0 };
      if (errno !== 0 || flushed.errno !== 0) throw new Error(`write ${i}: ${errno}, flush: ${flushed.errno}`);
      this.longestMs = Math.max(this.longestMs, performance.now() - start);
      this.#acknowledged.set(at, data);
      this.#count++;
    }
  }

  get count(): number {
    return this.#count;
  }

  /** Rejects when a request failed. */
  async stop(): Promise<void> {
    this.#running = false;
    await this.#done;
  }

  /** `client`: where the first one has gone. */
  async isAllThere(client = this.#client): Promise<boolean> {
    for (const [at, data] of this.#acknowledged) {
      if (!(await client.readAt(at, data.length)).equals(data)) return false;
    }
    client.destroy();
    return this.#acknowledged.size > 0;
  }
}

for (const [title, command] of [
  ['nbdkit', nbdkit()],
  ['qemu-nbd', qemuNbd],
] as const) {
  test(`${title} is killed under load, and comes back by itself`, async (t) => {
    const server = await serve(t, command);
    const lab = await Lab.open(t);
    await lab.start({ config: devices(server) });
    await mirror(lab);
    const load = new Load(await lab.open('tank/v'), true);
    await until('something is written', () => load.longestMs > 0);
    await server.kill('SIGKILL');
    await becomes(lab, 'REMOVED');
    await server.start();
    await isWhole(lab);
    await load.stop();
    t.log(`longest wait ${Math.round(load.longestMs)} ms`);
    t.true(load.longestMs < 5000);
    t.is(await scrub(lab), 'scrub repaired 0B with 0 errors');
    t.true(await load.isAllThere());
    // Each leg alone has everything.
    await lab.zpool('offline', 'tank', join(lab.disks, 'a'));
    t.is(await scrub(lab), 'scrub repaired 0B with 0 errors');
    await lab.stop();
  });
}

test('a server that stops is out after io_timeout, and nobody waits longer', async (t) => {
  const server = await serve(t);
  const lab = await Lab.open(t);
  await lab.start({ config: devices(server, { io_timeout: '1s', connect_timeout: '300ms' }) });
  await mirror(lab);
  const load = new Load(await lab.open('tank/v'), true);
  await until('something is written', () => load.longestMs > 0);
  await server.kill('SIGSTOP');
  t.teardown(() => server.kill('SIGCONT'));
  await becomes(lab, 'REMOVED');
  await server.kill('SIGCONT');
  await isWhole(lab);
  await load.stop();
  t.log(`longest wait ${Math.round(load.longestMs)} ms`);
  t.true(load.longestMs >= 900 && load.longestMs < 4000, `${load.longestMs} ms`);
  t.is(await scrub(lab), 'scrub repaired 0B with 0 errors');
  t.true(await load.isAllThere());
  await lab.stop();
});

test('a disk that is too slow is out of its mirror, which is as fast as the other one then; it is tried again', async (t) => {
  // Reads are quick: writes alone are slow.
  const server = await serve(t, (image, socket) => {
    const [program, ...args] = nbdkit('--filter=delay')(image, socket);
    return [program, ...args, 'wdelay=300ms'];
  });
  const lab = await Lab.open(t);
  await lab.start({ config: devices(server, { slow: '200ms for 2s' }) });
  await lab.zpool('create', '-o', 'ashift=12', 'tank', lab.disk('a'));
  await lab.zfs('create', '-o', 'volblocksize=16K', '-V', '64M', 'tank/v');
  await lab.zpool('attach', 'tank', lab.disk('a'), REMOTE);
  const load = new Load(await lab.open('tank/v'), true);
  await until('it is lost', () => /all its writes took longer than 200 ms for 2 s/.test(lab.hostLog));
  await becomes(lab, 'REMOVED');
  t.regex(lab.hostLog, /"nextTryMs":30000/);
  const before = load.count;
  const start = performance.now();
  await until('writes go on', () => load.count >= before + 20);
  t.log(`20 writes in ${Math.round(performance.now() - start)} ms`);
  await load.stop();
  t.true(await load.isAllThere());
  await lab.stop();
});

test('a pool of one remote disk whose server is killed waits, and zpool clear goes back to what was flushed', async (t) => {
  const server = await serve(t);
  const lab = await Lab.open(t);
  await lab.start({ config: devices(server, { io_timeout: '2s' }) });
  await lab.zpool('create', 'tank', REMOTE);
  await lab.zfs('create', '-V', '64M', 'tank/v');
  const client = await lab.open('tank/v');
  for (let i = 0; i < 8; i++) {
    t.is((await client.writeAt(i * MiB, noise(MiB, i))).errno, 0);
    t.is((await client.request({ type: 3 })).errno, 0);
  }
  const write = client.writeAt(8 * MiB, noise(MiB, 8)).catch(() => undefined);
  await server.kill('SIGKILL');
  await write;
  void client.request({ type: 3 }).catch(() => undefined);
  await until('the pool is suspended', async () => /SUSPENDED/.test(await lab.zpool('list', '-H', 'tank')));
  t.regex(await lab.fails('zpool', 'clear', 'tank'), /I\/O error/);
  await server.start();
  await until('the host says what to do', () => /remote disk is back, and .*: zpool clear tank/.test(lab.hostLog));
  await lab.zpool('clear', 'tank');
  client.destroy();
  t.is(await stateOf(lab), 'ONLINE');
  t.regex(await lab.zpool('status', 'tank'), /state: ONLINE/);
  const again = await lab.open('tank/v');
  for (let i = 0; i < 8; i++) t.true((await again.readAt(i * MiB, MiB)).equals(noise(MiB, i)), `${i}`);
  t.is((await again.writeAt(9 * MiB, noise(MiB, 9))).errno, 0);
  t.is((await again.request({ type: 3 })).errno, 0);
  again.destroy();
  await lab.zpool('export', 'tank');
  await lab.zpool('import', '-d', REMOTE, 'tank');
  const last = await lab.open('tank/v');
  t.true((await last.readAt(9 * MiB, MiB)).equals(noise(MiB, 9)));
  last.destroy();
  t.is(await scrub(lab), 'scrub repaired 0B with 0 errors');
  await lab.stop();
});

/**
 * By the log of nbdkit's filter: writes that were acknowledged before a flush that is under way and after the one before; 0 where
 * none is.
 */
function beingFlushed(log: string): number {
  const lines = readFileSync(log, 'utf8').split('\n');
  const begun = lines.findLastIndex((line) => line.includes(' Flush '));
  const over = lines.findLastIndex((line) => line.includes(' ...Flush '));
  if (begun < over) return 0;
  return lines.slice(over + 1, begun).filter((line) => line.includes(' ...Write ')).length;
}

test('what a killed server had acknowledged and not flushed is resilvered', async (t) => {
  // Its cache is written back by flushes alone, and slowly: a kill loses the rest, as a power cut does of a disk's.
  const server = await serve(t, (image, socket) => {
    const [program, ...args] = nbdkit('--filter=log', '--filter=cache', '--filter=delay')(image, socket);
    return [program, ...args, 'cache=writeback', 'wdelay=10ms', `logfile=${image}.log`];
  });
  const lab = await Lab.open(t);
  await lab.start({ config: devices(server, { io_timeout: '60s' }) });
  await mirror(lab);
  const load = new Load(await lab.open('tank/v'), false);
  let lost = 0;
  // All writes of a transaction group have succeeded by then, and only its flush can say that they are gone.
  await until('the server flushes many writes', async () => {
    if (beingFlushed(`${server.image}.log`) < 30) return false;
    await server.kill('SIGSTOP');
    lost = beingFlushed(`${server.image}.log`);
    if (lost < 30) await server.kill('SIGCONT');
    return lost >= 30;
  });
  await server.kill('SIGKILL');
  await becomes(lab, 'REMOVED');
  await load.stop();
  await server.start();
  await isWhole(lab);
  t.log(`of ${lost} writes some were lost`);
  t.is(await scrub(lab), 'scrub repaired 0B with 0 errors');
  t.true(await load.isAllThere());
  await lab.stop();
});

test('a pool of the configuration is made, imported, and imported without its remote disk', async (t) => {
  const server = await serve(t, qemuNbd);
  const lab = await Lab.open(t);
  const config = {
    ...devices(server, { connect_timeout: '500ms' }),
    pools: { tank: { vdevs: ['mirror', lab.disk('a'), REMOTE], create: {}, volumes: { v: { size: '32M' } } } },
  };
  await lab.start({ config });
  t.is(await stateOf(lab), 'ONLINE');
  await lab.stop();
  await lab.start({ config });
  t.is(await stateOf(lab), 'ONLINE');
  await lab.stop();
  await server.kill('SIGKILL');
  await lab.start({ config });
  t.regex(lab.hostLog, /\/dev\/zow\/r is missing: .*; the pool is imported without it/);
  t.is(await stateOf(lab), 'UNAVAIL');
  const client = await lab.open('tank/v');
  t.is((await client.writeAt(0, noise(MiB, 1))).errno, 0);
  client.destroy();
  await server.start();
  await isWhole(lab);
  t.is(await scrub(lab), 'scrub repaired 0B with 0 errors');
  await lab.stop();
});

test('attach, replace, add, export, import and zdb take it; labelclear says that it does not', async (t) => {
  const server = await serve(t);
  const lab = await Lab.open(t);
  await lab.start({ config: devices(server) });
  const [a, b] = [lab.disk('a'), lab.disk('b')];
  await lab.zpool('create', 'tank', a);
  await lab.zpool('attach', '-w', 'tank', a, REMOTE);
  t.is(await stateOf(lab), 'ONLINE');
  await lab.zpool('export', 'tank');
  t.regex(await lab.zpool('import', '-d', REMOTE, '-d', lab.disks), /\/dev\/zow\/r\s+ONLINE|r\s+ONLINE/);
  await lab.zpool('import', '-d', REMOTE, '-d', lab.disks, 'tank');
  await lab.zpool('detach', 'tank', REMOTE);
  await lab.zpool('replace', '-f', '-w', 'tank', a, REMOTE);
  t.is(await stateOf(lab), 'ONLINE');
  t.regex((await lab.run('zdb', ['-l', REMOTE])).stdout, /path: '\/dev\/zow\/r'/);
  t.regex(await lab.fails('zpool', 'create', 'other', REMOTE), /is part of active pool 'tank'|in use/);
  t.regex(await lab.fails('zpool', 'labelclear', '-f', REMOTE), /Read-only file system/);
  t.regex(await lab.fails('zpool', 'create', 'other', '/dev/zow/none'), /No such file or directory/);
  await lab.zpool('replace', '-w', 'tank', REMOTE, b);
  await lab.zpool('add', '-f', 'tank', REMOTE);
  t.is(await stateOf(lab), 'ONLINE');
  await lab.zpool('destroy', 'tank');
  await lab.stop();
});

test('a wrong name, a smaller export, garbage: what is wrong is said', async (t) => {
  const server = await serve(t, qemuNbd);
  const garbage = net.createServer((peer) => peer.on('error', () => {}).end('HTTP/1.1 400 Bad Request\r\n\r\n'));
  await new Promise<void>((resolve) => garbage.listen(0, '127.0.0.1', resolve));
  t.teardown(() => garbage.close());
  const { port } = garbage.address() as net.AddressInfo;
  const lab = await Lab.open(t);
  const config = {
    devices: {
      r: { nbd: addressText(server.address) },
      wrong: { nbd: addressText({ ...server.address, exportName: 'wrong' }) },
      web: { nbd: `127.0.0.1:${port}/disk` },
    },
  };
  await lab.start({ config });
  const { stdout } = await lab.zow('check', join(lab.directory, 'pool.yaml'));
  t.regex(stdout, /device {2}\/dev\/zow\/r: .*: 256M/);
  t.regex(stdout, /\/dev\/zow\/wrong: .*the server refuses the export 'wrong'/);
  t.regex(stdout, /\/dev\/zow\/web: .*what answers there is no NBD server/);
  for (const name of ['wrong', 'web']) {
    t.regex(await lab.fails('zpool', 'create', 'x', `/dev/zow/${name}`), /No such device or address/);
  }
  await mirror(lab);
  await server.kill('SIGKILL');
  await becomes(lab, 'REMOVED');
  truncateSync(server.image, 128 * MiB);
  await server.start();
  await until('the host says why', () => /has 134217728 bytes, and had 268435456/.test(lab.hostLog));
  t.is(await stateOf(lab), 'REMOVED');
  const client = await lab.open('tank/v');
  t.is((await client.writeAt(0, noise(MiB, 1))).errno, 0);
  client.destroy();
  await lab.stop();
});

/** They take one client at a time: a second one waits, or is sent away. */
const oneClient = {
  'qemu-nbd': (image: string, socket: string) =>
    qemuNbd(image, socket).map((word) => (word === '--shared=16' ? '--shared=1' : word)) as [string, ...string[]],
  nbdkit: limitedNbdkit(),
};

function limitedNbdkit(...options: string[]) {
  return (image: string, socket: string): [string, ...string[]] => {
    const [program, ...args] = nbdkit(...options, '--filter=limit')(image, socket);
    return [program, ...args, 'limit=1'];
  };
}

for (const [title, command] of Object.entries(oneClient)) {
  test(`${title} for one client: all that looks at its disk, and uses it, does so over one connection`, async (t) => {
    const server = await serve(t, command);
    const lab = await Lab.open(t);
    const config = devices(server);
    await lab.start({ config });
    const a = lab.disk('a');
    await lab.zpool('create', 'tank', 'mirror', a, REMOTE);
    t.is(await stateOf(lab), 'ONLINE');
    t.regex((await lab.run('zdb', ['-l', REMOTE])).stdout, /path: '\/dev\/zow\/r'/, 'while it is in use');
    t.regex(await lab.fails('zpool', 'create', 'other', REMOTE), /is part of active pool 'tank'|in use/);
    t.regex(await lab.fails('zpool', 'create', '-f', 'other', REMOTE), /is part of active pool 'tank'|in use/);
    await lab.zpool('export', 'tank');
    t.regex((await lab.run('zdb', ['-l', REMOTE])).stdout, /path: '\/dev\/zow\/r'/, 'while nobody has it');
    await lab.zpool('import', '-d', REMOTE, '-d', lab.disks, 'tank');
    t.is(await stateOf(lab), 'ONLINE');
    await lab.zpool('reopen', 'tank');
    t.is(await stateOf(lab), 'ONLINE');
    await lab.zpool('offline', 'tank', REMOTE);
    await lab.zpool('online', 'tank', REMOTE);
    await isWhole(lab);
    // Another pool, and so another engine, has it at once.
    await lab.zpool('detach', 'tank', REMOTE);
    await lab.zpool('create', '-f', 'other', REMOTE);
    t.regex(await lab.zpool('status', 'other'), /r\s+ONLINE/);
    await lab.zpool('destroy', 'other');
    await lab.stop();
    await lab.start({ config: { ...config, pools: { tank: { vdevs: [a] } } } });
    await lab.zpool('attach', '-f', '-w', 'tank', a, REMOTE);
    t.is(await stateOf(lab), 'ONLINE');
    await lab.stop();
  });
}

async function engineOf(lab: Lab, pool: string): Promise<number | undefined> {
  const { engines } = JSON.parse((await lab.zow('status', '--json')).stdout) as HostStatus;
  return engines.find(({ pools }) => pools.includes(pool))?.pid;
}

test('kill -9 of an engine: its pool comes back on its remote disk with all that was flushed, the other, over TLS, notices nothing', async (t) => {
  const server = await serve(t, oneClient['qemu-nbd']);
  const lab = await Lab.open(t);
  const psk = join(lab.directory, 'psk');
  writeFileSync(psk, `zow:${noise(32, 1).toString('hex')}\n`);
  const other = await serve(t, limitedNbdkit('--tls=require', `--tls-psk=${psk}`));
  const calm = { nbd: addressText(other.address), tls: { psk } };
  const config = { devices: { ...devices(server).devices, calm } };
  await lab.start({ config, vars: { ZOW_ENGINES: 'processes' } });
  await lab.zpool('create', 'tank', REMOTE);
  await lab.zpool('create', 'calm', '/dev/zow/calm');
  for (const pool of ['tank', 'calm']) await lab.zfs('create', '-o', 'volblocksize=16K', '-V', '64M', `${pool}/v`);
  const watched = new Load(await lab.open('calm/v'), true);
  for (let round = 0; round < 3; round++) {
    const load = new Load(await lab.open('tank/v'), true);
    await until('something is written', () => load.count > 20);
    const before = (await engineOf(lab, 'tank'))!;
    process.kill(before, 'SIGKILL');
    await load.stop().catch(() => undefined);
    await until('its successor has the pool', async () => ![undefined, before].includes(await engineOf(lab, 'tank')));
    t.is(await stateOf(lab), 'ONLINE');
    t.true(await load.isAllThere(await lab.open('tank/v')));
  }
  t.is(await scrub(lab), 'scrub repaired 0B with 0 errors');
  await watched.stop();
  t.log(`longest wait of the other: ${Math.round(watched.longestMs)} ms`);
  t.true(await watched.isAllThere());
  t.notRegex(lab.hostLog, /remote disk is lost/);
  await lab.stop();
});

/** Has the host read another configuration; what it says. */
async function reload(lab: Lab, config: object): Promise<string> {
  const whole = { socket: 'run/zow.sock', memory: '512M', nbd: [{ unix: 'run/nbd.sock' }], ...config };
  writeFileSync(join(lab.directory, 'pool.yaml'), stringify(whole));
  const from = lab.hostLog.length;
  process.kill(lab.pid, 'SIGHUP');
  await until('the reload is over', () => lab.hostLog.slice(from).includes('configuration read again'));
  return lab.hostLog.slice(from);
}

test('devices come and go with a reload, for engines too', async (t) => {
  const [server, more] = [await serve(t), await serve(t)];
  const lab = await Lab.open(t);
  const vars = { ZOW_ENGINES: 'processes' };
  await lab.start({ config: devices(server), vars });
  await mirror(lab);
  const config = { devices: { ...devices(server).devices, more: { nbd: addressText(more.address) } } };
  await reload(lab, config);
  await lab.zpool('add', '-f', 'tank', '/dev/zow/more');
  t.regex(await lab.zpool('status', '-P', 'tank'), /\/dev\/zow\/more\s+ONLINE/);
  await more.kill('SIGKILL');
  await until('the pool is suspended', async () => /SUSPENDED/.test(await lab.zpool('list', '-H', 'tank')));
  await more.start();
  await until('the host says what to do', () => /remote disk is back, and .*: zpool clear tank/.test(lab.hostLog));
  await lab.zpool('clear', 'tank');
  t.regex(await lab.zpool('status', '-P', 'tank'), /\/dev\/zow\/more\s+ONLINE/);
  t.regex(await reload(lab, devices(server)), /device more: not in the file any more/);
  await lab.zpool('sync', 'tank');
  await lab.stop();
});
