import { chmodSync, existsSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import test, { type ExecutionContext } from 'ava';
import { skip } from '../skip.ts';
import { execute, Lab, long, MiB, must, noise, until } from './host.ts';
import { CannotMount, ext4, type FileSystem, VolumeFile, xfs } from './mounts.ts';

/** Other people's clients on volumes of a real host: what they write is there, what they ask for is told. */

async function withVolume(t: ExecutionContext<unknown>, size: string, ...options: string[]): Promise<Lab> {
  const lab = await Lab.open(t);
  const disk = lab.disk('a', 1024 * MiB);
  await lab.start();
  await lab.zpool('create', '-o', 'ashift=12', 'tank', disk);
  await lab.zfs('create', '-s', '-V', size, ...options, 'tank/v');
  return lab;
}

/** nbdsh of the distribution: the module belongs to its Python, whichever comes first in PATH. */
const nbdsh = (script: string) => must('/usr/bin/python3', ['-m', 'nbd', '-c', script]);

test('nbdsh: flags, errors and extents of a volume, over two connections', async (t) => {
  const lab = await withVolume(t, '64M', '-o', 'volblocksize=16K');
  await nbdsh(`
import nbd, errno
def connect(allocation):
    c = nbd.NBD()
    c.set_strict_mode(0)
    if allocation:
        c.add_meta_context(nbd.CONTEXT_BASE_ALLOCATION)
    c.connect_uri("${lab.uri('tank/v')}")
    return c
a = connect(True)
b = connect(False)
assert a.can_multi_conn() and a.can_df() and a.can_cache() and a.can_fast_zero()
block = 16384
# One block in two, so that each is an extent of its own.
for i in range(0, 200, 2):
    a.pwrite(bytes([1 + i % 255]) * block, i * block, nbd.CMD_FLAG_FUA if i == 0 else 0)
b.flush()
for i in range(0, 200, 2):
    assert b.pread(block, i * block, nbd.CMD_FLAG_DF) == bytes([1 + i % 255]) * block
def extents(c, length, offset, flags=0):
    found = []
    c.block_status(length, offset, lambda name, at, entries, err: found.extend(entries), flags)
    return found
one = extents(a, 200 * block, 0, nbd.CMD_FLAG_REQ_ONE)
assert one == [block, 0], one
# It may stop early: ask on from there.
at, all = 0, []
while at < 200 * block:
    part = extents(a, 200 * block - at, at)
    all += part
    at += sum(part[0::2])
assert all == [block, 0, block, 3] * 100, all[:12]
a.zero(block, 0, nbd.CMD_FLAG_FAST_ZERO)
a.zero(2 * block, 10 * block, nbd.CMD_FLAG_NO_HOLE)
a.trim(block, 2 * block)
a.cache(block, 4 * block)
assert a.pread(3 * block, 0) == bytearray(3 * block)
a.flush()
assert extents(a, 4 * block, 0) == [4 * block, 3]
# Unaligned, across blocks, and a single byte.
a.pwrite(b"x" * 40001, 511)
assert b.pread(40003, 510) == b"\\0" + b"x" * 40001 + b"\\0"
def fails(code, f, *args):
    try:
        f(*args)
    except nbd.Error as e:
        assert e.errnum == code, (e.errnum, str(e))
        return
    assert False, "no error"
size = a.get_size()
fails(errno.EINVAL, a.pread, 512, size)
fails(errno.ENOSPC, a.pwrite, b"x", size)
fails(errno.EINVAL, a.pwrite, b"x" * (32 * 1024 * 1024 + 1), 0)
a.shutdown()
b.shutdown()
`);
  await until('the clients are gone', async () => (await lab.run('zpool', ['export', 'tank'])).code === 0);
  await lab.zpool('import', '-d', lab.disks, 'tank');
  await lab.finish('tank');
  t.pass();
});

test('qemu-io and qemu-img: patterns, discard, zeroes, bench, dd, map', async (t) => {
  const lab = await withVolume(t, '64M');
  const uri = lab.uri('tank/v');
  const commands = [
    'write -P 0xab 0 1M',
    'write -P 0x11 123 4567',
    'read -P 0x11 123 4567',
    'read -P 0xab 4690 100',
    'write -z 64k 128k',
    'discard 256k 256k',
    'write -f -P 0x77 1M 64k',
    'aio_write -P 0x55 2M 30M',
    'aio_flush',
    'flush',
  ];
  const io = (list: readonly string[]) =>
    must('qemu-io', ['-f', 'raw', ...list.flatMap((command) => ['-c', command]), uri]);
  t.notRegex(await io(commands), /failed|error/i);
  const checks = [
    'read -P 0xab 0 100',
    'read -P 0 64k 128k',
    'read -P 0 256k 256k',
    'read -P 0x77 1M 64k',
    'read -P 0x55 2M 30M',
  ];
  t.notRegex(await io(checks), /failed|error/i);
  await lab.zpool('sync');
  const map = JSON.parse(await must('qemu-img', ['map', '--output=json', '-f', 'raw', uri]));
  t.true(map.at(-1).zero);
  t.is(map.at(-1).start + map.at(-1).length, 64 * MiB);
  const copy = join(lab.directory, 'copy');
  await must('qemu-img', ['dd', '-f', 'raw', '-O', 'raw', 'bs=1M', `if=${uri}`, `of=${copy}`]);
  t.regex(await must('qemu-img', ['compare', '-f', 'raw', '-F', 'raw', copy, uri]), /identical/);
  const bench = ['bench', '-f', 'raw', '-c', '500', '-d', '32', '-s', '4096'];
  await must('qemu-img', [...bench, '-w', '--flush-interval=50', uri]);
  await must('qemu-img', [...bench, uri]);
  await lab.finish('tank');
});

test('fio: eight jobs of depth 64, sizes from 512 bytes to 1 MiB, verified', async (t) => {
  const lab = await withVolume(t, '256M');
  const size = long ? 32 : 4;
  const job = [
    '--name=m',
    '--ioengine=nbd',
    `--uri=${lab.uri('tank/v')}`,
    `--aux-path=${lab.directory}`,
    '--numjobs=8',
    '--iodepth=64',
    `--size=${size}m`,
    `--offset_increment=${size}m`,
    '--bssplit=512/10:4k/40:16k/30:128k/15:1m/5',
    '--rw=randwrite',
    '--verify=crc32c',
    '--verify_fatal=1',
    '--do_verify=1',
    '--randseed=5',
    '--group_reporting',
  ];
  const { code, stdout, stderr } = await execute('fio', job, { cwd: lab.directory, timeoutMs: 240_000 });
  t.is(code, 0, stdout + stderr);
  await lab.finish('tank');
});

async function fileSystem(t: ExecutionContext<unknown>, { mkfs, check }: FileSystem): Promise<void> {
  const lab = await withVolume(t, '400M');
  const source = join(import.meta.dirname, '../../host');
  let missing: string | undefined;
  try {
    const volume = await VolumeFile.open(lab, 'tank/v');
    try {
      await volume.run(mkfs);
      await volume.mount();
      try {
        await must('cp', ['-r', source, volume.folder]);
        await must('diff', ['-r', source, join(volume.folder, 'host')]);
      } finally {
        await volume.unmount();
      }
      await volume.run(check);
    } finally {
      await volume.leave();
    }
  } catch (error) {
    if (!(error instanceof CannotMount)) throw error;
    missing = error.message;
  }
  await until('nbdfuse has gone', async () => (await lab.run('zpool', ['export', 'tank'])).code === 0);
  await lab.zpool('import', '-d', lab.disks, 'tank');
  await lab.finish('tank');
  if (missing !== undefined) return skip(t, missing);
  t.pass();
}

test('ext4 on a volume, through nbdfuse and a loop mount: fsck is clean afterwards', (t) => fileSystem(t, ext4));
test('xfs on a volume, through nbdfuse and a loop mount: xfs_repair is clean afterwards', (t) => fileSystem(t, xfs));

/** Debian's PostgreSQL, run as its own user, with its data in a folder. */
class Database {
  readonly #bin: string;
  readonly #data: string;
  readonly #sockets: string;

  constructor(data: string, sockets: string) {
    const versions = readdirSync('/usr/lib/postgresql');
    this.#bin = join('/usr/lib/postgresql', versions.at(-1)!, 'bin');
    this.#data = data;
    this.#sockets = sockets;
  }

  run(program: string, ...args: string[]) {
    const command = ['-u', 'postgres', '--', join(this.#bin, program), ...args];
    return execute('runuser', command, { cwd: this.#sockets, timeoutMs: 120_000, stdio: ['ignore', 'pipe', 'pipe'] });
  }

  async must(program: string, ...args: string[]): Promise<string> {
    const { code, stdout, stderr } = await this.run(program, ...args);
    if (code !== 0) throw new Error(`${program} -> ${code}\n${stdout}${stderr}`);
    return stdout;
  }

  create(): Promise<string> {
    return this.must('initdb', '-D', this.#data, '-A', 'trust');
  }

  start(): Promise<string> {
    const options = `-c listen_addresses='' -c unix_socket_directories='${this.#sockets}'`;
    const logFile = join(this.#sockets, 'log');
    return this.must('pg_ctl', '-D', this.#data, '-w', '-l', logFile, '-o', options, 'start').catch((error) => {
      throw new Error(readFileSync(logFile, 'utf8').slice(-3000), { cause: error });
    });
  }

  async stop(mode: 'fast' | 'immediate'): Promise<void> {
    await this.run('pg_ctl', '-D', this.#data, '-w', '-m', mode, 'stop');
  }

  async query(sql: string): Promise<string> {
    return (await this.must('psql', '-h', this.#sockets, '-Atc', sql, 'postgres')).trim();
  }

  bench(...args: string[]) {
    return this.run('pgbench', '-h', this.#sockets, ...args, 'postgres');
  }
}

if (long) {
  test('PostgreSQL on ext4 on a volume: the host is killed under load, the database recovers what it committed', async (t) => {
    t.timeout(600_000);
    const lab = await Lab.open(t);
    const volume = { size: '512M', volblocksize: '8K' };
    const config = { pools: { tank: { vdevs: ['disks/a'], create: { size: '1G' }, volumes: { v: volume } } } };
    await lab.start({ config });
    chmodSync(lab.directory, 0o755);
    const sockets = join(lab.directory, 'sockets');
    await must('install', ['-d', '-o', 'postgres', sockets]);
    let disk = await VolumeFile.open(lab, 'tank/v');
    await disk.run(ext4.mkfs);
    await disk.mount();
    const data = join(disk.folder, 'data');
    await must('install', ['-d', '-o', 'postgres', '-m', '700', data]);
    const database = new Database(data, sockets);
    await database.create();
    await database.start();
    const pid = parseInt(readFileSync(join(data, 'postmaster.pid'), 'utf8'), 10);
    t.is((await database.bench('-i', '-q', '-s', '3')).code, 0);
    // Each line of its log is a transaction that the server said is committed.
    const bench = database.bench('-c', '4', '-T', '60', '-l', '--log-prefix=committed');
    await until(
      'it has committed something',
      async () => Number(await database.query('select count(*) from pgbench_history')) > 200,
    );
    await lab.kill();
    await bench;
    await database.stop('immediate');
    // Its lock file survives it, and counts as long as there is a process of that number.
    await until('its process is gone', () => !existsSync(`/proc/${pid}`));
    await disk.abandon();
    const logs = readdirSync(sockets).filter((name) => name.startsWith('committed'));
    const committed = logs.flatMap((name) => readFileSync(join(sockets, name), 'utf8').split('\n').slice(0, -1)).length;

    await lab.start({ config });
    disk = await VolumeFile.open(lab, 'tank/v');
    await disk.mount();
    await database.start();
    const sums = await database.query(
      'select (select sum(abalance) from pgbench_accounts), (select sum(bbalance) from pgbench_branches), ' +
        '(select sum(tbalance) from pgbench_tellers), (select sum(delta) from pgbench_history)',
    );
    t.is(new Set(sums.split('|')).size, 1, sums);
    const found = Number(await database.query('select count(*) from pgbench_history'));
    t.true(found >= committed && committed > 0, `${found} transactions of ${committed}`);
    t.log(`${committed} transactions were committed when the host was killed, ${found} are there`);
    await database.stop('fast');
    await disk.unmount();
    await disk.run(ext4.check);
    await disk.leave();
    await until('nbdfuse has gone', async () => (await lab.run('zpool', ['export', 'tank'])).code === 0);
    await lab.stop();
    await lab.zdb('tank');
  });
}

for (const engines of ['one', 'processes']) {
  test(`a listener with TLS, one that is read-only, one that shows little: qemu-img and nbdinfo (engines: ${engines})`, async (t) => {
    const lab = await Lab.open(t);
    const pki = lab.directory;
    const openssl = (...args: string[]) => must('openssl', args, { cwd: pki });
    const key = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes'];
    const authority = ['-keyout', 'ca-key.pem', '-out', 'ca-cert.pem', '-subj', '/CN=ca', '-days', '30'];
    await openssl('req', '-x509', ...key, ...authority);
    const names = ['-subj', '/CN=server', '-addext', 'subjectAltName=DNS:localhost,IP:127.0.0.1'];
    await openssl('req', ...key, '-keyout', 'server-key.pem', '-out', 'server.csr', ...names);
    const signer = ['-CA', 'ca-cert.pem', '-CAkey', 'ca-key.pem', '-CAcreateserial', '-days', '30'];
    const request = ['-req', '-in', 'server.csr', '-copy_extensions', 'copy', '-out', 'server-cert.pem'];
    await openssl('x509', ...request, ...signer);
    const secret = '0123456789abcdef'.repeat(4);
    writeFileSync(join(pki, 'keys.psk'), `alice:${secret}\n`, { mode: 0o600 });
    const disk = lab.disk('a');
    const certificate = { certificate: 'server-cert.pem', key: 'server-key.pem' };
    await lab.start({
      vars: { ZOW_ENGINES: engines },
      config: {
        nbd: [
          { unix: 'run/nbd.sock' },
          { tcp: '127.0.0.1:0', tls: { mode: 'required', ...certificate } },
          { tcp: '127.0.0.1:0', tls: { mode: 'required', psk: 'keys.psk' } },
          { unix: 'run/ro.sock', read_only: true, exports: ['tank/shown', 'tank/*@*'] },
        ],
      },
    });
    const ready = lab.hostLog.split('\n').find((line) => line.includes('"msg":"ready"'))!;
    const [, certified, shared] = (JSON.parse(ready).nbd as string[]).map((address) => address.split(':').at(-1));
    await lab.zpool('create', '-o', 'ashift=12', 'tank', disk);
    for (const name of ['shown', 'hidden']) await lab.zfs('create', '-s', '-V', '16M', `tank/${name}`);
    const raw = join(lab.directory, 'raw');
    writeFileSync(raw, noise(16 * MiB, 4));

    const image = (port: string) =>
      `driver=nbd,host=127.0.0.1,port=${port},export=tank/shown,tls-creds=tls0,tls-hostname=localhost`;
    const x509 = `tls-creds-x509,id=tls0,endpoint=client,dir=${pki}`;
    await must('qemu-img', [
      'convert',
      '-n',
      '--object',
      x509,
      '--target-image-opts',
      '-f',
      'raw',
      raw,
      image(certified!),
    ]);
    const tls = `nbds://localhost:${certified}/tank/shown?tls-certificates=${pki}`;
    t.like(JSON.parse(await must('nbdinfo', ['--json', tls])), { TLS: true });
    const psk = `nbds://alice@localhost:${shared}/tank/shown?tls-psk-file=${pki}/keys.psk`;
    t.like(JSON.parse(await must('nbdinfo', ['--json', psk])), { TLS: true });
    const back = join(lab.directory, 'back');
    await must('nbdcopy', ['--connections=4', psk, back]);
    await must('cmp', [raw, back]);
    for (const port of [certified, shared]) {
      t.not((await execute('nbdinfo', ['--size', `nbd://localhost:${port}/tank/shown`])).code, 0, 'not without TLS');
    }

    await lab.zfs('snapshot', 'tank/shown@s');
    const readOnly = (name: string) => `nbd+unix:///${name}?socket=${lab.directory}/run/ro.sock`;
    const list = JSON.parse(await must('nbdinfo', ['--list', '--json', readOnly('')]));
    t.deepEqual(
      list.exports.map((entry: Record<string, unknown>) => entry['export-name']),
      ['tank/shown'],
    );
    t.like(JSON.parse(await must('nbdinfo', ['--json', readOnly('tank/shown')])).exports[0], {
      is_read_only: true,
      can_trim: false,
      can_zero: false,
    });
    t.is(Number(await must('nbdinfo', ['--size', readOnly('tank/shown@s')])), 16 * MiB);
    t.not((await execute('nbdinfo', ['--size', readOnly('tank/hidden')])).code, 0);
    t.not((await execute('qemu-io', ['-f', 'raw', '-c', 'write 0 4k', readOnly('tank/shown')])).code, 0);
    await lab.finish('tank');
  });
}
