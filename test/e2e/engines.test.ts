import {
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmdirSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import test, { type ExecutionContext } from 'ava';
import type { IoctlSession } from '../../host/core/dev-zfs.ts';
import { ZfsCmd } from '../../host/core/zfs-cmd.ts';
import { Errno } from '../../host/errno.ts';
import { RemoteCore } from '../../host/ioctl/remote.ts';
import { noStreams } from '../../host/ioctl/streams.ts';
import { AsyncEvent, Flag, Opcode, RESERVED_TAG } from '../../host/iscsi/constants.ts';
import { decodeNativeNvlist } from '../../host/nvlist/native.ts';
import { Cmd } from '../../host/protocols/nbd.ts';
import { Op } from '../../host/scsi/constants.ts';
import type { HostStatus } from '../../host/supervisor/status.ts';
import { cdb10, cdb16, Initiator, type LoginOptions } from '../host/iscsi/client.ts';
import { outcome } from '../host/iscsi/fixture.ts';
import { encodeRequest } from '../host/nbd/client.ts';
import { skip } from '../skip.ts';
import { execute, Lab, MiB, must, noise, sleep, until } from './host.ts';

/** An engine for each pool, in a process of its own: what happens to one pool happens to no other. */

const vars = { ZOW_ENGINES: 'processes' };

/** A host with the pools tank and calm, each with a volume v. */
async function twoPools(
  t: ExecutionContext<unknown>,
  more: object = {},
  whole: object = {},
  faults: Readonly<Record<string, string>> = {},
): Promise<Lab> {
  const lab = await Lab.open(t);
  const pool = (disk: string) => ({
    vdevs: [join(lab.disks, disk)],
    create: { size: '256M' },
    volumes: { v: { size: '64M', volblocksize: '16K' } },
  });
  const pools = { tank: { ...pool('tank.img'), ...more }, calm: pool('calm.img') };
  await lab.start({ vars: { ...vars, ...faults }, config: { memory: '256M', pools, ...whole } });
  return lab;
}

const none = new Uint8Array(0);
const prefix = 'iqn.2026-11.io.zow';
const other = { initiator: 'iqn.2026-11.io.zow.test:two' };
const TEST_UNIT_READY = Buffer.alloc(6);

/** As twoPools, with iSCSI. */
async function twoTargets(t: ExecutionContext<unknown>, more: object = {}): Promise<Lab> {
  return twoPools(t, {}, { iscsi: [{ listen: '127.0.0.1:0' }], ...more });
}

/** A session whose first unit attention is over. */
async function session(lab: Lab, pool: string, options?: LoginOptions): Promise<Initiator> {
  const initiator = await Initiator.open(lab.iscsiAddress, `${prefix}:${pool}:v`, options);
  await initiator.settle();
  return initiator;
}

/** The status of a login. */
async function login(lab: Lab, pool: string, options?: LoginOptions): Promise<number> {
  const initiator = await Initiator.connect(lab.iscsiAddress, options?.initiator);
  const code = await initiator.login({ ...options, target: `${prefix}:${pool}:v` });
  initiator.destroy();
  return code;
}

async function status(lab: Lab): Promise<HostStatus> {
  return JSON.parse((await lab.zow('status', '--json')).stdout) as HostStatus;
}

async function engineOf(lab: Lab, pool: string): Promise<number> {
  const { engines } = await status(lab);
  const engine = engines.find(({ pools }) => pools.includes(pool));
  if (engine === undefined) throw new Error(`${pool} has no engine`);
  return engine.pid;
}

type Client = Pick<Awaited<ReturnType<Lab['open']>>, 'writeAt' | 'readAt'>;

/** An initiator as a client. */
function clientOf(initiator: Initiator): Client {
  return {
    writeAt: async (offset, data) => {
      const write = await initiator.command(cdb10(Op.WRITE_10, offset / 512, data.length / 512), { write: data });
      return { errno: write.status } as Awaited<ReturnType<Client['writeAt']>>;
    },
    readAt: async (offset, length) =>
      (await initiator.command(cdb10(Op.READ_10, offset / 512, length / 512), { read: length })).data,
  };
}

/** A client that writes and reads on, and keeps every error. */
class Watched {
  errors: unknown[] = [];
  rounds = 0;
  #going = true;
  readonly #done: Promise<void>;

  constructor(client: Client) {
    this.#done = this.#run(client);
  }

  async #run(client: Client): Promise<void> {
    try {
      for (let i = 0; this.#going; i++) {
        const data = noise(16384, i);
        const { errno } = await client.writeAt((i % 64) * 16384, data);
        if (errno !== 0) throw new Error(`write: errno ${errno}`);
        if (!(await client.readAt((i % 64) * 16384, data.length)).equals(data)) throw new Error('other data');
        this.rounds++;
        await sleep(5);
      }
    } catch (error) {
      this.errors.push(error);
    }
  }

  async stop(): Promise<void> {
    this.#going = false;
    await this.#done;
  }
}

test('kill -9 of one engine: its pool comes back with what was flushed, clients of the other see nothing', async (t) => {
  const lab = await twoPools(t);
  const calm = new Watched(await lab.open('calm/v'));
  const client = await lab.open('tank/v');
  const data = noise(MiB, 7);
  t.is((await client.writeAt(0, data)).errno, 0);
  t.is((await client.request({ type: 3 })).errno, 0);

  for (let round = 0; round < 2; round++) {
    const before = await engineOf(lab, 'tank');
    process.kill(before, 'SIGKILL');
    await until('the pool is there again', async () =>
      (await status(lab)).engines.some(({ pools }) => pools.includes('tank')),
    );
    t.not(await engineOf(lab, 'tank'), before);
    const again = await lab.open('tank/v');
    t.true((await again.readAt(0, data.length)).equals(data));
    again.destroy();
  }
  // Who was connected has to connect anew.
  await t.throwsAsync(client.readAt(0, 4096));
  await calm.stop();
  t.deepEqual(calm.errors, []);
  t.true(calm.rounds > 0);
  t.regex(await lab.zpool('status', '-x'), /all pools are healthy/);
  await lab.stop();
  await lab.zdb('tank');
  await lab.zdb('calm');
});

test('a panic in one pool is told with its place; commands about it wait for its return', async (t) => {
  const lab = await twoPools(t);
  const calm = new Watched(await lab.open('calm/v'));
  await lab.zinject('-p', 'spa_vdev_exit', 'tank');
  await lab.fails('zpool', 'add', '-f', 'tank', lab.disk('more', 128 * MiB));
  t.regex(await lab.zfs('list', '-H', '-o', 'name', 'tank/v'), /^tank\/v$/m);
  t.regex(lab.hostLog, /spa_vdev_exit/);
  await calm.stop();
  t.deepEqual(calm.errors, []);
  await lab.stop();
  await lab.zdb('tank');
});

test('send | receive from pool to pool, events, injected faults and kstats of all engines', async (t) => {
  const lab = await twoPools(t);
  const client = await lab.open('tank/v');
  const data = noise(4 * MiB, 3);
  await client.writeAt(0, data);
  client.destroy();
  await lab.zfs('snapshot', 'tank/v@s');
  t.is((await lab.shell('zfs send tank/v@s | zfs receive calm/copy')).code, 0);
  const file = join(lab.directory, 'stream');
  t.is((await lab.shell(`zfs send tank/v@s > ${file} && zfs receive calm/again < ${file}`)).code, 0);
  for (const name of ['calm/copy', 'calm/again']) {
    const copy = await lab.open(name);
    t.true((await copy.readAt(0, data.length)).equals(data), name);
    copy.destroy();
  }
  const events = await lab.zpool('events', '-v');
  const eids = [...events.matchAll(/eid = 0x([0-9a-f]+)/g)].map(([, eid]) => Number.parseInt(eid!, 16));
  t.deepEqual(
    eids,
    eids.toSorted((a, b) => a - b),
  );
  t.is(new Set(eids).size, eids.length);
  t.regex(events, /pool = "tank"/);
  t.regex(events, /pool = "calm"/);

  await lab.zinject('-d', join(lab.disks, 'tank.img'), '-e', 'io', '-T', 'probe', 'tank');
  await lab.zinject('-d', join(lab.disks, 'calm.img'), '-e', 'io', '-T', 'probe', 'calm');
  const injected = await lab.zinject();
  t.regex(injected, /tank/);
  t.regex(injected, /calm/);
  await lab.zinject('-c', 'all');
  t.notRegex(await lab.zinject(), /tank|calm/);

  const kstats = (await lab.zow('kstat', 'zfs/*/state')).stdout;
  t.regex(kstats, /zfs\/tank\/state/);
  t.regex(kstats, /zfs\/calm\/state/);
  const hits = Number((await lab.zow('kstat', 'zfs/arcstats:hits')).stdout.split('\t')[1]);
  t.true(hits > 0);
  await lab.zow('tunable', 'zfs_txg_timeout=7');
  t.is((await lab.zow('tunable', 'zfs_txg_timeout')).stdout, 'zfs_txg_timeout=7\n');
  await lab.stop();
  await lab.zdb('calm');
});

test('pools of one name, one guid, one device; the memory of a pool; what is unknown', async (t) => {
  const lab = await twoPools(t, { memory: '320M' });
  const { engines } = await status(lab);
  t.is(engines.find(({ pools }) => pools.includes('tank'))!.memory_bytes, 320 * MiB);
  t.is(engines.find(({ pools }) => pools.includes('calm'))!.memory_bytes, 256 * MiB);
  t.regex(await lab.fails('zpool', 'create', 'tank', lab.disk('x')), /pool already exists/);
  t.regex(
    await lab.fails('zpool', 'create', '-f', 'other', join(lab.disks, 'tank.img')),
    /busy|in use|part of active pool/,
  );
  t.regex(await lab.fails('zpool', 'list', 'nosuch'), /no such pool/);
  t.regex(await lab.fails('zfs', 'create', 'nosuch/x'), /no such pool|does not exist/);
  const all = await Promise.allSettled([1, 2, 3].map((i) => lab.zpool('create', 'race', lab.disk(`race${i}`))));
  t.is(all.filter(({ status: ended }) => ended === 'fulfilled').length, 1);
  await lab.zpool('destroy', 'race');
  await lab.zpool('export', 'tank');
  t.notRegex(await lab.zpool('list', '-H'), /tank/);
  await lab.zpool('import', '-d', lab.disks, 'tank', 'renamed');
  t.regex(await lab.zpool('status', 'renamed'), /state: ONLINE/);
  await lab.stop();
});

test('an engine that is stopped (SIGSTOP) keeps nobody waiting who asks for another pool, and lists go on', async (t) => {
  const lab = await twoPools(t);
  const calm = new Watched(await lab.open('calm/v'));
  const client = await lab.open('tank/v');
  const data = noise(MiB, 11);
  await client.writeAt(0, data);
  process.kill(await engineOf(lab, 'tank'), 'SIGSTOP');
  for (const [program, args] of [
    ['zpool', ['list', 'calm']],
    ['zpool', ['status', 'calm']],
    ['zpool', ['events']],
    ['zpool', ['history', 'calm']],
    ['zfs', ['list', '-r', 'calm']],
    ['zfs', ['set', 'compression=off', 'calm/v']],
    ['zinject', []],
  ] as const) {
    const { code, stdout, stderr } = await lab.run(program, args);
    t.is(code, 0, stderr);
    if (args.includes('calm' as never)) t.regex(stdout, /calm/);
  }
  t.is((await lab.zow('kstat', 'zfs/calm/state')).stdout, 'ONLINE\n');
  t.regex((await lab.zow('kstat', 'zfs/arcstats:hits')).stdout, /\t\d+/);
  t.is((await lab.zow('tunable', 'zfs_txg_timeout=7')).code, 0);
  // Of all: what is known of the silent one.
  t.deepEqual((await lab.zpool('list', '-H', '-o', 'name,health')).trim().split('\n'), [
    'calm\tONLINE',
    'tank\tFAULTED',
  ]);
  t.regex(await lab.zpool('status', 'tank'), /state: FAULTED/);
  t.deepEqual((await lab.zfs('list', '-H', '-o', 'name', '-r')).trim().split('\n'), ['calm', 'calm/v']);
  const { engines } = await status(lab);
  t.deepEqual(
    engines.map(({ pools, answers }) => [pools, answers]),
    [
      [['tank'], false],
      [['calm'], true],
    ],
  );
  process.kill(engines.find(({ pools }) => pools.includes('tank'))!.pid, 'SIGCONT');
  t.true((await client.readAt(0, data.length)).equals(data));
  t.regex(await lab.zpool('list', '-H', 'tank'), /ONLINE/);
  await calm.stop();
  t.deepEqual(calm.errors, []);
  await lab.stop();
  await lab.zdb('tank');
  await lab.zdb('calm');
});

test('a pool that cannot come back stands in the lists, and others are served', async (t) => {
  const lab = await twoPools(t);
  const disk = join(lab.disks, 'tank.img');
  renameSync(disk, `${disk}.away`);
  process.kill(await engineOf(lab, 'tank'), 'SIGKILL');
  await until('it is lost', async () => (await status(lab)).lost.some(({ pool }) => pool === 'tank'));
  // While it comes and goes again, too: each name is in a list once.
  for (let i = 0; i < 8; i++) {
    t.deepEqual((await lab.zpool('list', '-H', '-o', 'name,health')).trim().split('\n'), [
      'calm\tONLINE',
      'tank\tFAULTED',
    ]);
    t.regex(await lab.zpool('status'), /pool: tank\n state: FAULTED/);
  }
  renameSync(`${disk}.away`, disk);
  for (let state = ''; !state.includes('ONLINE'); ) {
    state = await lab.zpool('list', '-H', '-o', 'health', 'tank');
    await lab.zpool('status');
    if (!state.includes('ONLINE')) t.regex(state, /FAULTED/);
  }
  await lab.stop();
  await lab.zdb('tank');
});

test('kill -9 of the supervisor leaves no engine behind', async (t) => {
  const lab = await twoPools(t);
  const pids = (await status(lab)).engines.map(({ pid }) => pid);
  await lab.kill();
  await until('they are gone', () => pids.every((pid) => !lives(pid)));
  t.deepEqual(pids.filter(lives), []);
  await lab.start({ vars });
  await lab.zpool('import', '-d', lab.disks, 'tank');
  await lab.stop();
});

test('a client that does not send the rest of its data is cut in an engine, too, when others need the memory', async (t) => {
  t.timeout(120_000);
  const lab = await twoPools(t);
  const stuck = await lab.open('tank/v');
  stuck.send(encodeRequest({ type: Cmd.WRITE, cookie: 1n, length: 16 * MiB, style: 'simple' }));
  stuck.send(Buffer.alloc(1000));
  await sleep(500);
  const client = await lab.open('tank/v');
  t.is((await client.readAt(0, 16 * MiB)).length, 16 * MiB);
  await stuck.closed();
  await lab.stop();
});

test("iSCSI: kill -9 of one engine: the other pool's initiators see nothing, reservations and what was flushed are there again", async (t) => {
  const lab = await twoTargets(t, { http: { listen: '127.0.0.1:0' } });
  const calmSession = await session(lab, 'calm');
  const calm = new Watched(clientOf(calmSession));
  const data = noise(MiB, 7);
  const prOut = (action: number, type: number) => Buffer.from([0x5f, action, type, 0, 0, 0, 0, 0, 24, 0]);
  const list = (key: number, next: number) => {
    const bytes = Buffer.alloc(24);
    bytes[7] = key;
    bytes[15] = next;
    bytes[20] = 1; // APTPL
    return bytes;
  };
  const one = await session(lab, 'tank');
  t.is((await clientOf(one).writeAt(0, data)).errno, 0);
  t.is(await outcome(one, cdb10(Op.SYNCHRONIZE_CACHE_10, 0, 0)), '00');
  t.is(await outcome(one, prOut(0, 0), { write: list(0, 1) }), '00');
  t.is(await outcome(one, prOut(1, 5), { write: list(1, 0) }), '00');
  t.deepEqual(
    (await status(lab)).engines.map(({ clients }) => clients),
    [1, 1],
  );
  const top = (await lab.zow('top', '0.2', '1')).stdout;
  t.regex(top, /iscsi +\S+ +tank\/v$/m);
  t.regex(top, /iscsi +\S+ +calm\/v$/m);

  for (let round = 0; round < 2; round++) {
    process.kill(await engineOf(lab, 'tank'), 'SIGKILL');
    if (round === 0) await one.ended();
    // What an initiator is told meanwhile has it try again.
    await until('the target is there again', async () => {
      const code = await login(lab, 'tank');
      t.true(code === 0 || code === 0x0301, `0x${code.toString(16)}`);
      return code === 0;
    });
    const stranger = await Initiator.open(lab.iscsiAddress, `${prefix}:tank:v`, other);
    t.is(await outcome(stranger, TEST_UNIT_READY), '02 6/2900');
    t.is(await outcome(stranger, cdb10(Op.WRITE_10, 0, 1), { write: Buffer.alloc(512) }), '18');
    stranger.destroy();
    const again = await session(lab, 'tank');
    t.true((await clientOf(again).readAt(0, data.length)).equals(data));
    t.is((await clientOf(again).writeAt(0, data)).errno, 0);
    again.destroy();
  }
  const metrics = await (await fetch(`http://${lab.httpAddress}/metrics`)).text();
  const metric = (name: string) =>
    Number(new RegExp(`^${name.replace(/[{}]/g, '\\$&')} (.*)$`, 'm').exec(metrics)?.[1]);
  t.true(metric(`zow_iscsi_logins_total{listener="${lab.iscsiAddress}",result="succeeded"}`) >= 6);
  t.true(metric(`zow_client_connections{protocol="iscsi",listener="${lab.iscsiAddress}"}`) >= 1);
  t.true(metric(`zow_client_requests_total{protocol="iscsi",listener="${lab.iscsiAddress}",request="write"}`) > 0);
  t.true(metric(`zow_client_bytes_total{protocol="iscsi",listener="${lab.iscsiAddress}",direction="write"}`) > 0);
  await calm.stop();
  t.deepEqual(calm.errors, []);
  t.true(calm.rounds > 0);
  // Whoever is there at the end is told.
  const told = calmSession.answerFor(RESERVED_TAG);
  await lab.stop();
  t.is((await told).bhs[36], AsyncEvent.SESSION_DROPS);
  await lab.zdb('tank');
  await lab.zdb('calm');
});

test('clients that do not read their answers are cut at the end of the host, and the pools exported', async (t) => {
  const lab = await twoTargets(t);
  const client = await lab.open('tank/v');
  client.socket.pause();
  for (let i = 0; i < 32; i++) client.sendRequest({ type: Cmd.READ, offset: i * MiB, length: MiB });
  const initiator = await session(lab, 'calm');
  initiator.socket.pause();
  for (let i = 0; i < 16; i++) initiator.sendCommand(cdb10(Op.READ_10, i * 2048, 2048), { read: MiB });
  await sleep(500);
  await lab.stop();
  t.regex(lab.hostLog, /pools exported/);
});

test('iSCSI: an engine that is stopped (SIGSTOP) keeps nobody waiting who wants another target', async (t) => {
  const lab = await twoTargets(t);
  const calm = new Watched(clientOf(await session(lab, 'calm')));
  const waiting = await session(lab, 'tank');
  const pid = await engineOf(lab, 'tank');
  process.kill(pid, 'SIGSTOP');
  let isOver = false;
  const silent = login(lab, 'tank', other).finally(() => {
    isOver = true;
  });
  const listed = await must('iscsi-ls', [`iscsi://${lab.iscsiAddress}`]);
  for (const pool of ['calm', 'tank']) t.true(listed.includes(`Target:${prefix}:${pool}:v `), listed);
  t.is(await login(lab, 'calm', other), 0);
  t.false(isOver, 'they did not wait for the silent one');
  t.is(await silent, 0x0301);
  const answer = outcome(waiting, TEST_UNIT_READY);
  process.kill(pid, 'SIGCONT');
  t.is(await answer, '00');
  t.is(await login(lab, 'tank', other), 0);
  await calm.stop();
  t.deepEqual(calm.errors, []);
  await lab.stop();
});

test('iSCSI: sessions of the same initiator port, of a pool that goes and comes, and LUNs beside NBD', async (t) => {
  const lab = await twoTargets(t, { targets: { two: { luns: { 0: 'tank/a', 3: 'tank/b' } } } });
  const first = await session(lab, 'tank');
  const second = await session(lab, 'tank');
  await first.ended();
  t.is(await outcome(second, TEST_UNIT_READY), '00');
  // A session that exists is named by its handle, by its initiator alone.
  t.is(await login(lab, 'tank', { tsih: second.tsih, ...other }), 0x020a);
  const { data } = await second.request(Opcode.TEXT_REQUEST, Flag.FINAL, () => {}, Buffer.from('SendTargets=All\0'));
  t.is(data.toString(), `TargetName=${prefix}:tank:v\0TargetAddress=${lab.iscsiAddress},1\0`);

  // Every word is incremented by both, each in its own way of being atomic: none is lost.
  const client = await lab.open('tank/v');
  await client.writeAt(0, Buffer.alloc(4096));
  let swaps = 0;
  for (let i = 0; swaps < 50 && i < 500; i++) {
    const before = await clientOf(second).readAt(0, 512);
    const after = Buffer.from(before);
    after.writeUInt32LE(before.readUInt32LE(0) + 1);
    const swap = second.command(compareAndWrite(0), { write: Buffer.concat([before, after]) });
    const [{ status: ended }] = await Promise.all([swap, client.writeAt(4, noise(4, i))]);
    if (ended === 0) swaps++;
  }
  t.is((await client.readAt(0, 4)).readUInt32LE(0), swaps);
  t.is(swaps, 50);
  client.destroy();

  // A pool is exported only while nobody has used its volumes; then its sessions end.
  t.regex(await lab.fails('zpool', 'export', 'tank'), /busy/);
  t.is(await second.logout(), 0);
  const unused = await Initiator.open(lab.iscsiAddress, `${prefix}:tank:v`, other);
  await until('it is exported', async () => (await lab.run('zpool', ['export', 'tank'])).code === 0);
  await unused.ended();
  t.is(await login(lab, 'tank'), 0x0203);
  await lab.zpool('import', '-d', lab.disks, 'tank');
  (await session(lab, 'tank')).destroy();

  await lab.zfs('create', '-V', '16M', 'tank/a');
  await lab.zfs('create', '-V', '32M', 'tank/b');
  for (const [lun, size] of [
    [0, 16],
    [3, 32],
  ] as const) {
    const { stdout } = await execute('iscsi-readcapacity16', [`iscsi://${lab.iscsiAddress}/${prefix}:two/${lun}`]);
    t.regex(stdout, new RegExp(`Total size:${size * MiB}\\b`));
  }
  await lab.stop();
});

function compareAndWrite(lba: number): Buffer {
  const cdb = cdb16(Op.COMPARE_AND_WRITE, lba, 0);
  cdb[13] = 1;
  return cdb;
}

function lives(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch {
    return false;
  }
}

test('zpool create -t: its name for now is the one that counts, also when its engine was lost', async (t) => {
  const lab = await twoPools(t);
  const [a, b] = lab.manyDisks(2, 64 * MiB, 'x') as [string, string];
  t.regex(await lab.fails('zpool', 'create', '-t', 'tank', 'own', a), /already exists/);
  await lab.zpool('create', '-t', 'now', 'own', b);
  process.kill(await engineOf(lab, 'now'), 'SIGKILL');
  await until('it is back', async () => (await status(lab)).engines.some(({ pools }) => pools.includes('now')));
  await lab.zpool('export', 'now');
  await lab.zpool('import', '-d', b, 'own');
  await lab.stop();
});

test('a TLS client is relayed to its engine, and ends with it', async (t) => {
  const lab = await Lab.open(t);
  const keys = join(lab.directory, 'keys.psk');
  writeFileSync(keys, `alice:${'0123456789abcdef'.repeat(4)}\n`, { mode: 0o600 });
  const secured = { tcp: '127.0.0.1:0', tls: { mode: 'required', psk: 'keys.psk' } };
  await lab.start({ vars, config: { memory: '256M', nbd: [{ unix: 'run/nbd.sock' }, secured] } });
  const ready = lab.hostLog.split('\n').find((line) => line.includes('"msg":"ready"'))!;
  const [, address = ''] = JSON.parse(ready).nbd as string[];
  await lab.zpool('create', '-o', 'ashift=12', 'tank', lab.disk('a'));
  await lab.zfs('create', '-V', '32M', 'tank/v');
  const uri = `nbds://alice@${address}/tank%2Fv?tls-psk-file=${keys}`;
  const [from, to] = [join(lab.directory, 'from'), join(lab.directory, 'to')];
  const data = noise(32 * MiB, 3);
  writeFileSync(from, data);
  await must('nbdcopy', ['--flush', from, uri]);
  await must('nbdcopy', [uri, to]);
  t.true(readFileSync(to).equals(data));
  const [host, port] = address.split(':');
  const credentials = `tls-creds-psk,id=tls0,endpoint=client,dir=${lab.directory},username=alice`;
  const image = `driver=nbd,host=${host},port=${port},export=tank/v,tls-creds=tls0`;
  const commands = ['read 0 512', 'sleep 20000', 'read 1M 512'].flatMap((command) => ['-c', command]);
  const idle = execute('qemu-io', ['--object', credentials, '--image-opts', image, ...commands]);
  await until('it is there', async () => (await status(lab)).engines.some(({ clients }) => clients === 1));
  process.kill(await engineOf(lab, 'tank'), 'SIGKILL');
  await until('it is gone', async () => (await status(lab)).engines.every(({ clients }) => clients === 0));
  // Whoever asks meanwhile is not told that there is no such export.
  await until('the volume is back', async () => {
    const { code, stderr } = await execute('nbdinfo', [uri]);
    if (code !== 0) t.notRegex(stderr, /UNKNOWN|no export|ENOENT/);
    return code === 0;
  });
  await must('nbdcopy', [uri, to]);
  t.true(readFileSync(to).equals(data));
  await lab.stop();
  t.not((await idle).code, 0);
});

/** A control group for what a process takes from now on, and what starts it. */
function limitMemory(t: ExecutionContext<unknown>, pid: number, bytes: number): string | undefined {
  const [root, limit, tasks] = existsSync('/sys/fs/cgroup/cgroup.controllers')
    ? ['/sys/fs/cgroup', 'memory.max', 'cgroup.procs']
    : ['/sys/fs/cgroup/memory', 'memory.limit_in_bytes', 'cgroup.procs'];
  const group = join(root!, `zow-test-${pid}`);
  try {
    mkdirSync(group);
    t.teardown(() => rmdirSync(group));
    writeFileSync(join(group, limit!), `${bytes}`);
    writeFileSync(join(group, tasks!), `${pid}`);
    return undefined;
  } catch (error) {
    return `no control group for memory: ${(error as Error).message}`;
  }
}

test('a pool whose engine there is no memory for is refused with figures; it comes when there is', async (t) => {
  const lab = await Lab.open(t);
  await lab.start({ vars, config: { memory: '256M' } });
  const missing = limitMemory(t, lab.pid, 120 * MiB);
  if (missing !== undefined) return skip(t, missing);
  // That of the engine that is there.
  await lab.zpool('create', 'tank', lab.disk('a', 64 * MiB));
  const refusal = await lab.fails('zpool', 'create', 'other', lab.disk('b', 64 * MiB));
  t.regex(
    refusal,
    /no memory for the engine of another pool: it takes 128M at once and up to 256M .*, and \d+M are left/,
  );
  await lab.zpool('export', 'tank');
  await lab.zpool('create', 'other', lab.disk('c', 64 * MiB));
  await lab.finish('other');
});

/** ZFS_IOC_POOL_CONFIGS, whatever was known before. */
async function poolsListed(session: IoctlSession, cmdSize: number): Promise<string[]> {
  const cmd = Buffer.alloc(cmdSize);
  const room = MiB;
  cmd.writeBigUInt64LE(BigInt(room), ZfsCmd.dstSize);
  const none = new Uint8Array(0);
  const request = { request: 0x5a04, cmd, src: none, conf: none, history: none, historyRoom: 0 };
  const { errno, dst } = await session.ioctl({ ...request, dstRoom: room, streams: noStreams });
  if (errno !== 0) throw new Error(`ZFS_IOC_POOL_CONFIGS: errno ${errno}`);
  return decodeNativeNvlist(dst).pairs.map(({ name }) => name);
}

for (const engines of ['one', 'processes']) {
  test(`a pool that is only looked at is in no list, and can be imported then; engines: ${engines}`, async (t) => {
    const lab = await Lab.open(t);
    const slow = join(lab.directory, 'slow');
    const faults = {
      ZOW_ENGINES: engines,
      ZOW_FAULTS: `d0:delay(op=read,ms=300,from=${4 * MiB},to=${60 * MiB},while=${slow})`,
    };
    const config = { memory: '256M' };
    await lab.start({ vars: faults, config });
    const disk = lab.disk('d0', 64 * MiB);
    await lab.zpool('create', 'tank', disk);
    await lab.zpool('export', 'tank');
    // An engine that has told nothing yet.
    await lab.stop();
    await lab.start({ vars: faults, config });
    const remote = await RemoteCore.connect(lab.socket);
    const session = await remote.open({ process: '01'.repeat(16), fd: 1, pid: process.pid, program: 'test' });
    writeFileSync(slow, '');
    const looked = lab.zpool('import', '-d', lab.disks);
    let isOver = false;
    void looked.finally(() => {
      isOver = true;
    });
    const names = new Set<string>();
    while (!isOver) for (const name of await poolsListed(session, remote.cmdSize)) names.add(name);
    t.regex(await looked, /pool: tank/);
    rmSync(slow);
    t.deepEqual([...names], []);
    await session.close();
    await lab.zpool('import', '-d', lab.disks, 'tank');
    await lab.stop();
  });
}

test('who asks about another pool notices nothing of engines that come and go', async (t) => {
  const lab = await twoPools(t);
  const [a, b] = lab.manyDisks(2, 64 * MiB, 'x') as [string, string];
  let isOver = false;
  const looking = async (...args: string[]) => {
    while (!isOver) await lab.zpool(...args);
  };
  const looks = [looking('status'), looking('list', '-H'), looking('get', 'all', 'calm')];
  const cycles = async (pool: string, disk: string) => {
    for (let i = 0; i < 5; i++) {
      await lab.zpool('create', '-f', pool, disk);
      await lab.zpool('export', pool);
      await lab.zpool('import', '-d', disk, pool);
      await lab.zpool('destroy', pool);
    }
  };
  await Promise.all([cycles('one', a), cycles('two', b)]);
  isOver = true;
  await t.notThrowsAsync(Promise.all(looks));
  await lab.stop();
});

// The second of two programs that destroy a pool finds none: an engine without a pool says so, and stays what it is.
test('a pool that is not there can be destroyed and exported in vain, while others come', async (t) => {
  const lab = await twoPools(t);
  const remote = await RemoteCore.connect(lab.socket);
  const sessions = await Promise.all(
    Array.from({ length: 4 }, (_, fd) =>
      remote.open({ process: '02'.repeat(16), fd, pid: process.pid, program: 'test' }),
    ),
  );
  const [destroy, doExport] = [0x5a01, 0x5a03]; // ZFS_IOC_POOL_DESTROY, ZFS_IOC_POOL_EXPORT
  const disks = lab.manyDisks(3, 64 * MiB, 'x');
  let isOver = false;
  const inVain = sessions.map(async (session, i) => {
    const errnos = new Set<number>();
    while (!isOver) {
      const cmd = Buffer.alloc(remote.cmdSize);
      cmd.write('nosuch', ZfsCmd.name);
      const parts = { src: none, conf: none, history: none, dstRoom: 0, historyRoom: 0, streams: noStreams };
      errnos.add((await session.ioctl({ request: i % 2 === 0 ? destroy : doExport, cmd, ...parts })).errno);
    }
    return [...errnos];
  });
  for (let i = 0; i < 5; i++) {
    await Promise.all(disks.map((disk, n) => lab.zpool('create', '-f', `x${n}`, disk)));
    t.is((await lab.zpool('list', '-Ho', 'name')).trim(), 'calm\ntank\nx0\nx1\nx2'.split('\n').sort().join('\n'));
    const { engines } = await status(lab);
    t.true(
      engines.every(({ pools }) => pools.length <= 1),
      JSON.stringify(engines),
    );
    await Promise.all(disks.map((_, n) => lab.zpool('destroy', `x${n}`)));
  }
  isOver = true;
  t.deepEqual(
    await Promise.all(inVain),
    sessions.map(() => [Errno.ENOENT]),
  );
  for (const session of sessions) await session.close();
  await lab.stop();
});

test('clients that go while their requests wait for an engine leave nothing in it', async (t) => {
  const lab = await twoPools(t, {}, {}, { ZOW_FAULTS: 'disks/x0:delay(op=write,ms=100)' });
  const remote = await RemoteCore.connect(lab.socket);
  const [disk] = lab.manyDisks(1, 64 * MiB, 'x') as [string];
  const created = lab.zpool('create', '-f', 'x', disk);
  await sleep(300);
  const waiting = await Promise.all(
    Array.from({ length: 20 }, async (_, fd) => {
      const session = await remote.open({ process: '03'.repeat(16), fd, pid: process.pid, program: 'test' });
      const cmd = Buffer.alloc(remote.cmdSize);
      cmd.write('x', ZfsCmd.name);
      const parts = { src: none, conf: none, history: none, dstRoom: 0, historyRoom: 0, streams: noStreams };
      const answer = session.ioctl({ request: 0x5a00, cmd, ...parts }); // ZFS_IOC_POOL_CREATE
      answer.catch(() => undefined);
      return { session, answer };
    }),
  );
  await sleep(100);
  for (const { session } of waiting) await session.close();
  for (const { answer } of waiting) await t.throwsAsync(answer);
  await created;
  const descriptors = (pid: number): number => readdirSync(`/proc/${pid}/fd`).length;
  const [calm, x] = [await engineOf(lab, 'calm'), await engineOf(lab, 'x')];
  await until('nothing of them is there', () => descriptors(x) < descriptors(calm) + 10);
  await lab.stop();
});

test('what reads of a pool whose engine is killed at that moment goes on to the next pool', async (t) => {
  const lab = await twoPools(t);
  let isOver = false;
  const looking = async (...args: string[]) => {
    while (!isOver) await lab.zpool(...args);
  };
  const looks = [looking('list', '-H'), looking('status'), looking('list', '-v')];
  for (let i = 0; i < 3; i++) {
    await sleep(500);
    process.kill(await engineOf(lab, 'tank'), 'SIGKILL');
    await until('it is back', async () => (await status(lab)).engines.some(({ pools }) => pools.includes('tank')));
  }
  isOver = true;
  await t.notThrowsAsync(Promise.all(looks));
  await lab.stop();
});

test('a pool comes back on the devices that it has, whatever was done to them while the host ran', async (t) => {
  const lab = await Lab.open(t);
  const [a, b, c, spare] = ['a', 'b', 'c', 'spare'].map((name) => lab.disk(`folder-${name}/${name}`)) as [
    string,
    string,
    string,
    string,
  ];
  await lab.start({ vars });
  await lab.zpool('create', 'tank', a);
  const first = await engineOf(lab, 'tank');
  await lab.zpool('add', 'tank', b);
  await lab.zpool('add', 'tank', 'spare', spare);
  await lab.zpool('replace', '-w', 'tank', a, c);
  process.kill(first, 'SIGKILL');
  await until('the pool is there again', async () => {
    const engine = (await status(lab)).engines.find(({ pools }) => pools.includes('tank'));
    return engine !== undefined && engine.pid !== first;
  });
  const pool = await lab.zpool('status', 'tank');
  for (const device of ['b', 'c']) t.regex(pool, new RegExp(`/${device}\\s+ONLINE`));
  t.regex(pool, /spare\s+AVAIL/);
  await lab.stop();
});
