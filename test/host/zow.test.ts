import { existsSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { connect } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import test, { type ExecutionContext } from 'ava';
import { pino } from 'pino';
import { CoreLostError, ErrnoError, StartError, ZowHost, type ZowHostOptions } from '../../host/zow.ts';
import { type FakeHost, fakeHost } from './serve/fake-host.ts';
import { sparseFile } from './serve/labels.ts';

const MIB = 1024 ** 2;
const quiet = pino({ level: 'silent' });

const CONFIG = {
  socket: 'run/zow.sock',
  pools: {
    tank: {
      vdevs: ['mirror', 'disks/a', 'disks/b'],
      create: { size: '64M' },
      properties: { ashift: 12, autotrim: 'on' },
      volumes: {
        vm0: { size: '4M', volblocksize: '16K', compression: 'lz4' },
        'vms/web': { size: '1M', sparse: true },
      },
    },
  },
  nbd: [{ unix: 'run/nbd.sock' }, { tcp: '127.0.0.1:0' }],
};

function scratch(t: ExecutionContext): string {
  const folder = mkdtempSync(join(tmpdir(), 'zow-host-'));
  t.teardown(() => rmSync(folder, { recursive: true }));
  return folder;
}

function options(folder: string, { loadCore, programs }: FakeHost): ZowHostOptions {
  return { directory: folder, loadCore, programs, log: quiet };
}

/** CONFIG with parts of its pool replaced. */
function withPool(changes: object): object {
  return { ...CONFIG, pools: { tank: { ...CONFIG.pools.tank, ...changes } } };
}

async function started(folder: string, config: object = CONFIG): Promise<FakeHost> {
  const fake = fakeHost(folder);
  const host = await ZowHost.open(config, options(folder, fake));
  await host.close();
  return fake;
}

async function refused(t: ExecutionContext, folder: string, config: object): Promise<[StartError, FakeHost]> {
  const fake = fakeHost(folder);
  const error = await t.throwsAsync(() => ZowHost.open(config, options(folder, fake)), { instanceOf: StartError });
  return [error, fake];
}

test('a pool is created once, then imported, and nothing is repeated', async (t) => {
  const folder = scratch(t);
  const first = await started(folder);
  t.deepEqual(first.pools.commands, [
    `zpool create -o ashift=12 -o autotrim=on tank mirror ${folder}/disks/a ${folder}/disks/b`,
    'zfs create -V 4194304 -o volblocksize=16384 -o compression=lz4 tank/vm0',
    'zfs create -p -s -V 1048576 tank/vms/web',
    'zpool export -a',
  ]);
  t.true(first.core.ended);
  t.deepEqual(readdirSync(join(folder, 'run')), [], 'no socket stays behind');

  const before = first.pools.commands.length;
  const second = await started(folder);
  const commands = second.pools.commands.slice(before);
  t.is(commands[0], `zpool import -N -d ${folder}/disks/a -d ${folder}/disks/b 100`);
  t.deepEqual(
    commands.map((command) => command.split(' ').slice(0, 2).join(' ')),
    ['zpool import', 'zpool get', 'zfs get', 'zpool export'],
  );
});

test('what differs and can be set is set; what is not in the file is left alone', async (t) => {
  const folder = scratch(t);
  const { pools } = await started(folder);
  const before = pools.commands.length;
  const changed = withPool({
    properties: { autotrim: 'off' },
    volumes: { vm0: { size: '4M', compression: 'zstd', sync: 'always' }, new: { size: '1M' } },
  });
  const { pools: after } = await started(folder, changed);
  t.deepEqual(after.commands.slice(before + 3), [
    'zpool set autotrim=off tank',
    'zfs set compression=zstd tank/vm0',
    'zfs set sync=always tank/vm0',
    'zfs create -V 1048576 tank/new',
    'zpool export -a',
  ]);
  t.not(after.dataset('tank/vms/web'), undefined);
});

test('contradictions are all named, and nothing is changed', async (t) => {
  const folder = scratch(t);
  const before = (await started(folder)).pools.commands.length;
  const contrary = withPool({
    properties: { autotrim: 'off' },
    volumes: {
      vm0: { size: '2M', volblocksize: '8K', compression: 'zstd' },
      extra: { size: '1M' },
      vms: { size: '1M' },
    },
  });
  const [error, { pools, core }] = await refused(t, folder, contrary);
  t.deepEqual(error.reasons, [
    'volume tank/vm0 has size 4M on disk, 2M in the configuration; zow makes no volume smaller: correct the configuration, or cut it while it is served without this entry (zfs set volsize=2M tank/vm0)',
    'volume tank/vm0 has volblocksize 16K on disk, 8K in the configuration; it cannot be changed',
  ]);
  t.deepEqual(
    pools.commands.slice(before).filter((command) => /^\w+ (set|create|destroy)/.test(command)),
    [],
  );
  t.is(pools.dataset('tank/extra'), undefined);
  t.is(pools.dataset('tank/vm0')?.properties.compression, 'lz4');
  t.deepEqual(pools.imported, [], 'exported again');
  t.true(core.ended);
});

test('a pool of another name stays untouched, and the core is not even started', async (t) => {
  const folder = scratch(t);
  await started(folder);
  const { tank } = CONFIG.pools;
  const [error] = await refused(t, folder, { ...CONFIG, pools: { other: tank } });
  t.deepEqual(error.reasons, [
    `${folder}/disks/a holds pool 'tank' of host elsewhere, the configuration wants 'other' there`,
    `${folder}/disks/b holds pool 'tank' of host elsewhere, the configuration wants 'other' there`,
  ]);
});

test('a failed create takes its files away again, and only its own', async (t) => {
  const folder = scratch(t);
  const own = sparseFile(join(folder, 'own'), 64 * MIB);
  const fake = fakeHost(folder);
  fake.pools.failures.set('zpool create', "cannot create 'tank': out of luck");
  const config = withPool({ vdevs: ['own', 'disks/new'] });
  const error = await t.throwsAsync(() => ZowHost.open(config, options(folder, fake)), { instanceOf: StartError });
  t.deepEqual(error.reasons, ["pool 'tank' cannot be created:", "  cannot create 'tank': out of luck"]);
  t.false(existsSync(join(folder, 'disks/new')));
  t.true(existsSync(own));
});

test('an import that upstream refuses is explained', async (t) => {
  const folder = scratch(t);
  await started(folder);
  const fake = fakeHost(folder);
  fake.pools.failures.set('zpool import', "cannot import 'tank': pool was previously in use from another system.");
  const error = await t.throwsAsync(() => ZowHost.open(CONFIG, options(folder, fake)), { instanceOf: StartError });
  t.is(error.reasons.length, 3);
  t.regex(error.message, /another system[\s\S]*zpool import -f it by hand/);
});

test.serial('a second host on the socket is refused with the pid of the first', async (t) => {
  const folder = scratch(t);
  const fake = fakeHost(folder);
  await using host = await ZowHost.open(CONFIG, options(folder, fake));
  const [error] = await refused(t, folder, { ...CONFIG, pools: {} });
  t.deepEqual(error.reasons, [`${host.socket}: the ZoW host with pid ${process.pid} serves this socket`]);
});

test('when one pool of several cannot be imported, none stays imported', async (t) => {
  const folder = scratch(t);
  const names = ['first', 'second', 'third', 'fourth', 'fifth', 'sixth'];
  const pool = (name: string) => ({ vdevs: ['mirror', `disks/${name}1`, `disks/${name}2`], create: { size: '64M' } });
  const several = { ...CONFIG, pools: Object.fromEntries(names.map((name) => [name, pool(name)])) };
  await started(folder, several);
  const fake = fakeHost(folder);
  fake.pools.failures.set(`zpool import -N -d ${folder}/disks/third1`, "cannot import 'third': out of luck");
  const error = await t.throwsAsync(() => ZowHost.open(several, options(folder, fake)), { instanceOf: StartError });
  t.deepEqual(error.reasons, ["pool 'third' cannot be imported:", "  cannot import 'third': out of luck"]);
  t.deepEqual(fake.pools.imported, []);
});

test('folders that cannot be made end it, at once and with the reason', async (t) => {
  const folder = scratch(t);
  writeFileSync(join(folder, 'file'), '');
  const cases: readonly (readonly [object, RegExp])[] = [
    [{ socket: 'file' }, /file: exists and is not a socket/],
    [{ socket: 'file/zow.sock' }, /ENOTDIR/],
    [{ socket: '/proc/zow/zow.sock' }, /ENOENT/],
    [{ socket: 'zow.sock', nbd: [{ unix: '/proc/zow/nbd.sock' }] }, /^nbd: ENOENT/],
  ];
  for (const [config, message] of cases) t.regex((await refused(t, folder, config))[0].message, message);
});

test('a listener that cannot be opened ends it all', async (t) => {
  const folder = scratch(t);
  const { tank } = CONFIG.pools;
  await using other = await ZowHost.open(
    { socket: 'other.sock', nbd: [{ tcp: '127.0.0.1:0' }] },
    options(folder, fakeHost(folder)),
  );
  const [{ tcp = '' } = {}] = other.nbdAddresses;
  const [error, { pools, core }] = await refused(t, folder, { ...CONFIG, pools: { tank }, nbd: [{ tcp }] });
  t.regex(error.message, /^nbd: .*EADDRINUSE/);
  t.deepEqual(pools.imported, []);
  t.true(core.ended);
  t.false(existsSync(join(folder, 'run/zow.sock')));
});

test('the library reads and writes volumes of any size at any place', async (t) => {
  const folder = scratch(t);
  await using host = await ZowHost.open(CONFIG, options(folder, fakeHost(folder)));
  await using volume = await host.openVolume('tank/vm0');
  const data = Uint8Array.from({ length: 3 * MIB }, (_, i) => (i * 7) % 251);
  await volume.write(12_345, data);
  await volume.flush();
  t.true(Buffer.from(await volume.read(12_345, data.length)).equals(data));
  t.deepEqual(await volume.read(4 * MIB, 0), new Uint8Array(0));
  await t.throwsAsync(() => volume.read(4 * MIB - 1, 2), { instanceOf: ErrnoError, message: /not within tank\/vm0/ });
  await t.throwsAsync(() => volume.write(-1, data), { instanceOf: ErrnoError });
  await t.throwsAsync(() => host.openVolume('tank/none'), { instanceOf: ErrnoError, message: /ENOENT/ });
});

test('a panic reaches every client, and close does not wait for the lost core', async (t) => {
  const folder = scratch(t);
  const fake = fakeHost(folder);
  const host = await ZowHost.open(CONFIG, options(folder, fake));
  const client = connect(host.socket).resume();
  const closed = new Promise((resolve) => client.on('error', resolve).on('close', resolve));
  await new Promise((resolve) => client.on('connect', resolve));
  fake.core.panic({ message: 'VERIFY(0) failed' });
  t.deepEqual(await host.lost, { message: 'VERIFY(0) failed' });
  await closed;
  await host.close();
  t.false(fake.pools.commands.includes('zpool export -a'));
});

test('a panic while it starts is told as one', async (t) => {
  const folder = scratch(t);
  const fake = fakeHost(folder);
  const programs = () => () => {
    fake.core.panic({ message: 'VERIFY(0) failed', pool: 'tank' });
    return new Promise<never>(() => {});
  };
  const error = await t.throwsAsync(() => ZowHost.open(CONFIG, { ...options(folder, fake), programs }), {
    instanceOf: CoreLostError,
  });
  t.is(error.message, 'panic in pool tank: VERIFY(0) failed');
});

test('keys that are in files are loaded; one that is not there locks only its own', async (t) => {
  const folder = scratch(t);
  const { pools } = await started(folder);
  const properties = pools.dataset('tank/vm0')!.properties;
  Object.assign(properties, { keystatus: 'unavailable', encryptionroot: 'tank/vm0', keylocation: 'file:///key' });
  await pools.run('zfs', ['set', 'nothing=1', 'tank/vm0']);
  const fake = fakeHost(folder);
  fake.pools.failures.set('zfs load-key', 'Key load error: no such file');
  await using host = await ZowHost.open(CONFIG, options(folder, fake));
  t.true(fake.pools.commands.includes('zfs load-key tank/vm0'));
  t.not(host.core.volumes.find('tank/vms/web'), undefined);
});

test('a device that is in use names the process', async (t) => {
  const folder = scratch(t);
  const a = sparseFile(join(folder, 'a'), 64 * MIB);
  writeFileSync(
    join(folder, 'hold.py'),
    'import fcntl,sys,time\nf=open(sys.argv[1],"r+")\nfcntl.flock(f,fcntl.LOCK_EX)\nprint("held",flush=True)\ntime.sleep(60)\n',
  );
  const { spawn } = await import('node:child_process');
  const holder = spawn('python3', [join(folder, 'hold.py'), a]);
  t.teardown(() => holder.kill());
  await new Promise((resolve) => holder.stdout.once('data', resolve));
  const [error] = await refused(t, folder, withPool({ vdevs: ['a'] }));
  t.regex(error.message, new RegExp(`a is in use: process ${holder.pid} has it open`));
});
