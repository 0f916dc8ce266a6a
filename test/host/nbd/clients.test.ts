import { existsSync } from 'node:fs';
import { readFile, writeFile } from 'node:fs/promises';
import path from 'node:path';
import test from 'ava';
import { skip } from '../../skip.ts';
import { pattern, run, serve, until } from './fixture.ts';

/** Programs of other people against the server, over its unix socket. */
const MiB = 1 << 20;

test('nbdinfo --json: sizes and flags', async (t) => {
  const { uri, provider } = await serve(t);
  provider.snapshot('tank/vm0@monday');
  const json = JSON.parse(await run('nbdinfo', ['--json', uri('tank/vm0')]));
  t.like(json.exports[0], {
    'export-name': 'tank/vm0',
    'export-size': 64 * MiB,
    is_read_only: false,
    can_cache: true,
    can_df: true,
    can_fast_zero: true,
    can_flush: true,
    can_fua: true,
    can_multi_conn: true,
    can_trim: true,
    can_zero: true,
    'block-size': undefined,
    block_size_minimum: 1,
    block_size_preferred: 16384,
    block_size_maximum: 32 * MiB,
    contexts: ['base:allocation'],
  });
  const snapshot = JSON.parse(await run('nbdinfo', ['--json', uri('tank/vm0@monday')]));
  t.like(snapshot.exports[0], { is_read_only: true, can_trim: false, can_zero: false, can_multi_conn: true });
  const list = JSON.parse(await run('nbdinfo', ['--list', '--json', uri('')]));
  t.deepEqual(
    list.exports.map((entry: Record<string, unknown>) => entry['export-name']),
    ['tank/vm0', 'tank/vm0@monday'],
  );
});

test('nbdcopy, several connections, both ways: the data and the holes', async (t) => {
  const { uri, directory, provider } = await serve(t);
  const image = path.join(directory, 'image');
  const back = path.join(directory, 'back');
  const data = Buffer.alloc(64 * MiB);
  pattern(20 * MiB).copy(data, 0);
  pattern(3 * MiB, 2).copy(data, 40 * MiB);
  await writeFile(image, data);
  await run('nbdcopy', ['--flush', image, uri('tank/vm0')]);
  const volume = provider.volumes.get('tank/vm0')!;
  t.true(volume.calls.flush > 0);
  t.true(Buffer.from(volume.data.buffer).equals(data));
  await run('nbdcopy', ['--connections=4', '--requests=64', uri('tank/vm0'), back]);
  t.true((await readFile(back)).equals(data));
  const map = await run('nbdinfo', ['--map', uri('tank/vm0')]);
  t.deepEqual(
    map
      .trim()
      .split('\n')
      .map((line) => line.trim().split(/\s+/).slice(1, 3).map(Number)),
    [
      [20 * MiB, 0],
      [20 * MiB, 3],
      [3 * MiB, 0],
      [21 * MiB, 3],
    ],
  );
});

test('nbdcopy with requests of 32 MiB', async (t) => {
  const { uri, directory } = await serve(t);
  const image = path.join(directory, 'image');
  const back = path.join(directory, 'back');
  await writeFile(image, pattern(64 * MiB, 3));
  const size = ['--request-size=33554432', '--requests=4'];
  await run('nbdcopy', [...size, image, uri('tank/vm0')]);
  await run('nbdcopy', [...size, uri('tank/vm0'), back]);
  await run('cmp', [image, back]);
  t.pass();
});

test('qemu-img: convert, compare, map, info, bench, dd', async (t) => {
  const { uri, directory } = await serve(t);
  const image = path.join(directory, 'image.qcow2');
  const raw = path.join(directory, 'image.raw');
  await writeFile(raw, Buffer.concat([pattern(10 * MiB), Buffer.alloc(22 * MiB), pattern(32 * MiB, 9)]));
  await run('qemu-img', ['convert', '-f', 'raw', '-O', 'qcow2', raw, image]);
  await run('qemu-img', ['convert', '-n', '-f', 'qcow2', '-O', 'raw', image, uri('tank/vm0')]);
  t.regex(await run('qemu-img', ['compare', '-f', 'qcow2', '-F', 'raw', image, uri('tank/vm0')]), /identical/);
  const info = JSON.parse(await run('qemu-img', ['info', '--output=json', '-f', 'raw', uri('tank/vm0')]));
  t.is(info['virtual-size'], 64 * MiB);
  const map = JSON.parse(await run('qemu-img', ['map', '--output=json', '-f', 'raw', uri('tank/vm0')]));
  t.deepEqual(
    map.map((entry: { length: number; zero: boolean }) => [entry.length, entry.zero]),
    [
      [10 * MiB, false],
      [22 * MiB, true],
      [32 * MiB, false],
    ],
  );
  const bench = ['bench', '-f', 'raw', '-c', '2000', '-d', '32', '-s', '4096'];
  await run('qemu-img', [...bench, '-w', '--flush-interval=100', uri('tank/vm0')]);
  await run('qemu-img', [...bench, uri('tank/vm0')]);
  const copy = path.join(directory, 'copy');
  await run('qemu-img', ['dd', '-f', 'raw', '-O', 'raw', 'bs=1M', `if=${uri('tank/vm0')}`, `of=${copy}`]);
  t.is((await readFile(copy)).length, 64 * MiB);
});

test('qemu-io: patterns, discard, zeroes, flush, unaligned', async (t) => {
  const { uri, provider } = await serve(t);
  const commands = [
    'write -P 0xab 0 1M',
    'read -P 0xab 0 1M',
    'write -P 0x11 123 4567',
    'read -P 0x11 123 4567',
    'read -P 0xab 4690 100',
    'write -z 64k 128k',
    'read -P 0 64k 128k',
    'discard 256k 256k',
    'read -P 0 256k 256k',
    'write -f -P 0x77 1M 64k',
    'flush',
    'read -P 0x77 1M 64k',
    'aio_write -P 0x55 2M 30M',
    'aio_flush',
    'read -P 0x55 2M 30M',
  ];
  const out = await run('qemu-io', ['-f', 'raw', ...commands.flatMap((command) => ['-c', command]), uri('tank/vm0')]);
  t.notRegex(out, /failed|error/i);
  t.true(provider.volumes.get('tank/vm0')!.calls.flush > 0);
});

/** nbdsh of the distribution: the module belongs to its Python, whichever comes first in PATH. */
const nbdsh = (script: string) => run('/usr/bin/python3', ['-m', 'nbd', '-c', script]);

test('nbdsh: FUA, flags, errors, block status', async (t) => {
  const { uri } = await serve(t);
  const script = `
import nbd, errno
h.set_strict_mode(0)
h.add_meta_context(nbd.CONTEXT_BASE_ALLOCATION)
h.connect_uri("${uri('tank/vm0')}")
h.pwrite(b"x" * 512, 511, nbd.CMD_FLAG_FUA)
assert h.pread(512, 511) == b"x" * 512
assert h.pread(512, 511, nbd.CMD_FLAG_DF) == b"x" * 512
h.zero(512, 511, nbd.CMD_FLAG_FAST_ZERO)
h.zero(512, 511, nbd.CMD_FLAG_NO_HOLE)
h.trim(1024 * 1024, 0)
h.cache(1024 * 1024, 0)
h.flush()
def fails(code, f, *args):
    try:
        f(*args)
    except nbd.Error as e:
        assert e.errnum == code, (e.errnum, code, str(e))
        return
    assert False, "no error"
size = h.get_size()
fails(errno.EINVAL, h.pread, 512, size)
fails(errno.ENOSPC, h.pwrite, b"x" * 512, size - 1)
fails(errno.ENOSPC, h.zero, 512, size)
fails(errno.EOPNOTSUPP, h.zero, 512, 0, nbd.CMD_FLAG_FAST_ZERO | nbd.CMD_FLAG_NO_HOLE)
fails(errno.EINVAL, h.pwrite, b"x" * (32 * 1024 * 1024 + 1), 0)
h.zero(size, 0)
h.pwrite(b"y" * 16384, 16384)
entries = []
h.block_status(size, 0, lambda name, offset, e, err: entries.extend(e))
assert entries == [16384, 3, 16384, 0, size - 32768, 3], entries
assert h.aio_is_ready()
h.shutdown()
`;
  await nbdsh(script);
  t.pass();
});

test('nbdsh: a flush on one connection covers another', async (t) => {
  const { uri, provider } = await serve(t);
  const script = `
h2 = nbd.NBD()
h.connect_uri("${uri('tank/vm0')}")
h2.connect_uri("${uri('tank/vm0')}")
assert h.can_multi_conn()
h.pwrite(b"1" * 4096, 0)
h2.flush()
assert h2.pread(4096, 0) == b"1" * 4096
`;
  await nbdsh(script);
  t.is(provider.volumes.get('tank/vm0')!.calls.flush, 1);
});

/** Runs fio with its nbd engine; its report of all jobs. It prints more than JSON on stdout, so the report goes to a file. */
async function fio(uri: string, directory: string, ...options: string[]) {
  const report = path.join(directory, 'fio.json');
  const engine = ['--name=t', '--ioengine=nbd', `--uri=${uri}`, `--aux-path=${directory}`];
  await run('fio', [...engine, '--output-format=json', `--output=${report}`, '--group_reporting', ...options]);
  const text = await readFile(report, 'utf8');
  return JSON.parse(text.slice(text.indexOf('{'))).jobs[0];
}

test('fio: random reads and writes at depth 32, verified', async (t) => {
  const { uri, directory } = await serve(t);
  const options = ['--rw=randrw', '--bs=4k', '--iodepth=32', '--size=16m', '--verify=crc32c', '--verify_fatal=1'];
  const job = await fio(uri('tank/vm0'), directory, ...options);
  t.is(job.error, 0);
  t.true(job.write.total_ios > 1000);
});

test('fio: mixed sizes, four jobs, verified', async (t) => {
  const { uri, directory, server } = await serve(t);
  const work = ['--rw=randwrite', '--bsrange=512-1m', '--bs_unaligned=0', '--iodepth=16', '--size=8m'];
  const jobs = ['--numjobs=4', '--offset_increment=8m', '--verify=crc32c', '--verify_fatal=1'];
  const job = await fio(uri('tank/vm0'), directory, ...work, ...jobs);
  t.is(job.error, 0);
  t.true(server.metrics.connections.total >= 4);
});

test('nbdfuse: the volume as a file', async (t) => {
  if (!existsSync('/dev/fuse')) {
    return skip(t, 'no /dev/fuse here');
  }
  const { uri, directory } = await serve(t);
  const file = path.join(directory, 'disk');
  await writeFile(file, '');
  const { spawn } = await import('node:child_process');
  const child = spawn('nbdfuse', [file, uri('tank/vm0')], { stdio: 'ignore' });
  const exited = new Promise((resolve) => child.once('exit', resolve));
  t.teardown(async () => {
    if (child.exitCode === null) child.kill('SIGKILL');
    await exited;
  });
  try {
    const { statSync } = await import('node:fs');
    await until(() => child.exitCode !== null || statSync(file).size === 64 * MiB, 'mounted');
    if (child.exitCode !== null) {
      return skip(t, 'nbdfuse cannot mount here');
    }
    const data = pattern(5 * MiB);
    await run('dd', ['if=/dev/zero', `of=${file}`, 'bs=1M', 'count=8', 'conv=notrunc,fsync']);
    const source = path.join(directory, 'source');
    await writeFile(source, data);
    await run('dd', [`if=${source}`, `of=${file}`, 'bs=1M', 'seek=1', 'conv=notrunc,fsync']);
    await run('cmp', ['-n', `${data.length}`, source, file, '0', `${MiB}`]);
  } finally {
    if (child.exitCode === null) await run('fusermount3', ['-u', file]).catch(() => run('umount', [file]));
  }
  await exited;
  t.pass();
});

test('a client that is killed in the middle of its work', async (t) => {
  const { uri, directory, server } = await serve(t);
  const { spawn } = await import('node:child_process');
  for (const signal of ['SIGKILL', 'SIGTERM'] as const) {
    const image = path.join(directory, signal);
    await writeFile(image, pattern(64 * MiB));
    const child = spawn('nbdcopy', [image, uri('tank/vm0')], { stdio: 'ignore' });
    const before = server.metrics.requests.write;
    await until(() => server.metrics.requests.write > before + 5, 'copying');
    child.kill(signal);
    await until(() => server.connections === 0, 'connections gone');
  }
  t.is(server.metrics.connections.protocolErrors, 0);
});
