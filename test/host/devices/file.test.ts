import { execFileSync, spawn } from 'node:child_process';
import fs from 'node:fs';
import net from 'node:net';
import path from 'node:path';
import test from 'ava';
import { isPending } from '../../../host/devices/device.ts';
import { openFile } from '../../../host/devices/file.ts';
import { openDevice } from '../../../host/devices/open.ts';
import { createSparse } from '../../../host/devices/sparse.ts';
import { ioModeFromEnvironment, StallGuard } from '../../../host/devices/stall.ts';
import { sleep, until } from '../../e2e/process.ts';
import { skip, unless } from '../../skip.ts';
import { fails, pattern, readAll, same, writeAll } from './conformance.ts';
import { canLoop, loopDevice, noLoop, scratch } from './disks.ts';

const MiB = 1024 * 1024;

/** A folder that is gone after the test, and a sparse disk in it. */
function withDisk(bytes: number, body: (disk: string, folder: string) => Promise<void>): Promise<void> {
  const folder = scratch();
  const disk = path.join(folder, 'disk.img');
  createSparse(disk, bytes);
  return body(disk, folder).finally(() => fs.rmSync(folder, { recursive: true }));
}

test('what cannot be a disk is refused in words', async (t) => {
  await withDisk(MiB, async (disk, folder) => {
    const directory = await fails(t, 'EISDIR', () => openDevice(folder));
    t.is(directory.message, `${folder} is a directory; a disk is a regular file or a block device: EISDIR`);
    const missing = await fails(t, 'ENOENT', () => openDevice(path.join(folder, 'none')));
    t.regex(missing.message, /^cannot open .*none: there is no such file or device: ENOENT$/);
    await fails(t, 'ENOTDIR', () => openDevice(path.join(disk, 'x')));
    const device = await fails(t, 'EINVAL', () => openDevice('/dev/null'));
    t.regex(device.message, /is a character device/);

    const fifo = path.join(folder, 'fifo');
    execFileSync('mkfifo', [fifo]);
    t.regex((await fails(t, 'EINVAL', () => openDevice(fifo))).message, /is a fifo/);

    const socket = path.join(folder, 'sock');
    const server = net.createServer().listen(socket);
    await new Promise((resolve) => server.once('listening', resolve));
    t.regex((await fails(t, 'EINVAL', () => openDevice(socket))).message, /is a socket/);
    server.close();
  });
});

test.serial('a file this user may not write is refused with the user', async (t) => {
  await withDisk(MiB, async (disk, folder) => {
    if (process.geteuid?.() !== 0) {
      fs.chmodSync(disk, 0o400);
      const error = await fails(t, 'EACCES', () => openDevice(disk));
      t.regex(error.message, /user \d+ may not open it for reading and writing/);
      return;
    }
    // Root may do everything, so somebody else tries.
    fs.chmodSync(folder, 0o755);
    process.seteuid?.(65534);
    try {
      const error = await fails(t, 'EACCES', () => openDevice(disk));
      t.regex(error.message, /user 65534 may not open it for reading and writing/);
    } finally {
      process.seteuid?.(0);
    }
  });
});

test('createSparse makes a private, sparse file, and never touches another', async (t) => {
  await withDisk(64 * MiB, async (disk, folder) => {
    const stat = fs.statSync(disk);
    t.is(stat.size, 64 * MiB);
    t.is(stat.mode & 0o777, 0o600);
    t.true(stat.blocks * 512 < MiB);
    fs.writeFileSync(disk, 'precious');
    await fails(t, 'EEXIST', () => createSparse(disk, MiB));
    t.is(fs.readFileSync(disk, 'utf8'), 'precious');
    await fails(t, 'ENOENT', () => createSparse(path.join(folder, 'no', 'disk.img'), MiB));
    await fails(t, 'EFBIG', () => createSparse(path.join(folder, 'huge.img'), Number.MAX_SAFE_INTEGER));
    t.deepEqual(fs.readdirSync(folder), ['disk.img'], 'a failure leaves nothing');
  });
});

test('a disk that has grown says so', async (t) => {
  await withDisk(MiB, async (disk) => {
    const device = await openDevice(disk);
    fs.truncateSync(disk, 2 * MiB);
    t.is(await device.size(), 2 * MiB);
    await writeAll(device, pattern(4096, 1), MiB);
    t.deepEqual(await readAll(device, MiB, 4096), pattern(4096, 1));
    await device.close();
  });
});

test('trim gives the space back', async (t) => {
  await withDisk(16 * MiB, async (disk) => {
    const device = await openDevice(disk);
    if (!device.capabilities.trim) {
      return skip(t, 'this file system punches no holes');
    }
    await writeAll(device, pattern(8 * MiB, 1), 0);
    await device.flush();
    const before = fs.statSync(disk).blocks * 512;
    await device.trim(0, 4 * MiB);
    await device.writeZeroes(4 * MiB, 2 * MiB);
    t.true(fs.statSync(disk).blocks * 512 <= before - 6 * MiB + 65536);
    t.is(fs.statSync(disk).size, 16 * MiB);
    t.true(same(await readAll(device, 6 * MiB, 2 * MiB), pattern(8 * MiB, 1).subarray(6 * MiB)));
    await device.close();
  });
});

test('cached reads and small writes are answered at once, forced modes obey', async (t) => {
  await withDisk(MiB, async (disk) => {
    const buffer = pattern(4096, 1);
    const plain = await openFile(disk, { ioMode: 'adaptive' });
    await plain.write(buffer, 0);
    const attempts = Array.from({ length: 20 }, () => plain.read(buffer, 0));
    t.true(attempts.some((result) => !isPending(result)));
    await Promise.all(attempts);
    const sync = await openFile(disk, { ioMode: 'sync' });
    t.is(sync.read(buffer, 0), 4096);
    t.is(sync.write(buffer, 0), 4096);
    const async = await openFile(disk, { ioMode: 'async' });
    const pending = [async.read(buffer, 0), async.write(buffer, 0)];
    t.true(pending.every(isPending));
    await Promise.all(pending);
    for (const device of [plain, sync, async]) await device.close();
  });
});

test('the stall guard closes the way in proportion to the stall, within bounds', (t) => {
  const guard = new StallGuard();
  t.true(guard.allows(0));
  guard.ran(0, 0.05, 4096);
  t.true(guard.allows(0.06), 'a cached call is no stall');
  guard.ran(10, 15, 4096);
  t.false(guard.allows(16));
  t.false(guard.allows(114));
  t.true(guard.allows(116));
  guard.ran(1000, 9000, 4096);
  t.false(guard.allows(9999));
  t.true(guard.allows(10001), 'one second at most');
  guard.ran(20000, 20008, 32 * MiB);
  t.true(guard.allows(20009), 'a long transfer may take long');
});

test('ZOW_DEVICE_IO is checked', (t) => {
  t.is(ioModeFromEnvironment(''), 'adaptive');
  t.is(ioModeFromEnvironment('async'), 'async');
  t.throws(() => ioModeFromEnvironment('fast'), { message: /adaptive, sync, async/ });
});

type FakeSync = (fd: number, done: (error: Error | null) => void) => void;

/** Runs `body` with fs.fdatasync replaced. */
async function withSync(replacement: FakeSync, body: () => Promise<void>): Promise<void> {
  const original = fs.fdatasync;
  fs.fdatasync = replacement as typeof fs.fdatasync;
  try {
    await body();
  } finally {
    fs.fdatasync = original;
  }
}

test.serial('a flush that already runs covers nothing that comes after; those that wait share the next', async (t) => {
  await withDisk(MiB, async (disk) => {
    const device = await openFile(disk);
    const running: (() => void)[] = [];
    const fake: FakeSync = (_fd, done) => running.push(() => done(null));
    await withSync(fake, async () => {
      const over: string[] = [];
      const follow = (name: string) => Promise.resolve(device.flush()).then(() => over.push(name));
      const first = follow('first');
      const second = follow('second');
      const third = follow('third');
      t.is(running.length, 1);
      running[0]!();
      await first;
      await new Promise(setImmediate);
      t.deepEqual(over, ['first']);
      t.is(running.length, 2);
      running[1]!();
      await Promise.all([second, third]);
      t.is(running.length, 2);
      const closing = follow('fourth');
      const closed = device.close();
      t.true(isPending(closed));
      running[2]!();
      await Promise.all([closing, closed]);
    });
  });
});

test.serial('there is never more than one fdatasync, and all who could have had its error get it', async (t) => {
  await withDisk(MiB, async (disk) => {
    const device = await openFile(disk);
    const ends: ((error?: Error) => void)[] = [];
    let running = 0;
    let most = 0;
    const fake: FakeSync = (_fd, done) => {
      most = Math.max(most, ++running);
      ends.push((error) => {
        running--;
        done(error ?? null);
      });
    };
    await withSync(fake, async () => {
      const said: string[] = [];
      const flush = (name: string) =>
        Promise.resolve(device.flush()).then(
          () => said.push(`${name}: durable`),
          (error: NodeJS.ErrnoException) => said.push(`${name}: ${error.code}`),
        );
      // One that is asked for in the very turn in which the first has ended and the second begins.
      const first = Promise.resolve(device.flush()).then(() => flush('third'));
      const second = flush('second');
      await new Promise(setImmediate);
      ends[0]!();
      await new Promise(setImmediate);
      t.is(ends.length, 2);
      // Linux tells it once: whoever waits for another call would be told that all is well.
      ends[1]!(Object.assign(new Error('EIO: i/o error, fdatasync'), { code: 'EIO' }));
      ends[2]?.();
      await Promise.all([first, second]);
      t.deepEqual(said.sort(), ['second: EIO', 'third: EIO']);
      t.is(most, 1);
    });
    await device.close();
  });
});

test.serial('a write that is under way when a flush fails, fails; so do zeroes that come after', async (t) => {
  await withDisk(MiB, async (disk) => {
    const device = await openFile(disk, { ioMode: 'async' });
    const eio = Object.assign(new Error('EIO: i/o error, fdatasync'), { code: 'EIO' });
    await withSync(
      (_fd, done) => done(eio),
      async () => {
        const write = device.write(pattern(512, 1), 0);
        const failed = fails(t, 'EIO', () => write);
        await fails(t, 'EIO', () => device.flush());
        await failed;
      },
    );
    if (device.capabilities.writeZeroes) await fails(t, 'EIO', () => device.writeZeroes(0, 4096));
    await device.close();
  });
});

test.serial('a write whose error may be that of earlier ones counts as a failed flush', async (t) => {
  await withDisk(MiB, async (disk) => {
    const device = await openFile(disk, { ioMode: 'sync' });
    const original = fs.writeSync;
    fs.writeSync = () => {
      throw Object.assign(new Error('EIO: i/o error, write'), { code: 'EIO' });
    };
    try {
      await fails(t, 'EIO', () => device.write(pattern(512, 1), 0));
    } finally {
      fs.writeSync = original;
    }
    await fails(t, 'EIO', () => device.flush());
    await fails(t, 'EIO', () => device.write(pattern(512, 1), 0));
    await device.close();
  });
});

test.serial('a failed flush is final until the disk is opened again', async (t) => {
  await withDisk(MiB, async (disk) => {
    const device = await openFile(disk);
    const eio = Object.assign(new Error('EIO: i/o error, fdatasync'), { code: 'EIO' });
    const fake: FakeSync = (_fd, done) => setImmediate(done, eio);
    await withSync(fake, async () => {
      const flushes = [device.flush(), device.flush(), device.flush()];
      for (const result of await Promise.allSettled(flushes)) t.is(result.status, 'rejected');
    });
    await fails(t, 'EIO', () => device.flush());
    await fails(t, 'EIO', () => device.write(pattern(512, 1), 0));
    await fails(t, 'EIO', () => device.flush());
    await device.close();
    const again = await openFile(disk);
    await again.flush();
    await again.close();
  });
});

unless(canLoop() ? undefined : noLoop, test.serial)(
  'a disk that really cannot write fails its flush, and goes on failing',
  async (t) => {
    // A loop device on a file system too small for its file: writes go to the cache, the flush finds no room.
    const folder = scratch();
    execFileSync('mount', ['-t', 'tmpfs', '-o', 'size=1m', 'none', folder]);
    const file = path.join(folder, 'disk.img');
    fs.writeFileSync(file, '');
    fs.truncateSync(file, 64 * MiB);
    const loop = loopDevice(file)!;
    try {
      const device = await openDevice(loop.path, { exclusive: true });
      await writeAll(device, pattern(8 * MiB, 1), 0);
      const error = await fails(t, 'EIO', () => device.flush());
      t.true(error.message.includes(`${loop.path}: flush failed`), error.message);
      // Here Linux would say that all is well.
      await fails(t, 'EIO', () => device.flush());
      await device.close();
    } finally {
      loop.detach();
      // Lazily: after a failure the disk may still be open.
      execFileSync('umount', ['--lazy', folder]);
      fs.rmdirSync(folder);
    }
  },
);

test('a file is present while its path leads to it, and works on when that is no more', async (t) => {
  await withDisk(MiB, async (disk) => {
    const device = await openDevice(disk);
    fs.renameSync(disk, `${disk}.away`);
    t.false(await device.isPresent());
    createSparse(disk, MiB);
    t.false(await device.isPresent(), 'another file');
    await writeAll(device, pattern(4096, 3), 0);
    t.deepEqual(await readAll(device, 0, 4096), pattern(4096, 3));
    fs.renameSync(`${disk}.away`, disk);
    t.true(await device.isPresent());
    await device.close();
  });
});

test('a disk whose file system does not answer keeps nobody else waiting: not its open, its size, nor its close', async (t) => {
  if (!fs.existsSync('/dev/fuse')) return skip(t, 'no /dev/fuse here');
  await withDisk(16 * MiB, async (backing, folder) => {
    const disk = path.join(folder, 'fuse');
    fs.writeFileSync(disk, '');
    const pidFile = path.join(folder, 'pid');
    const server = spawn('nbdfuse', ['-P', pidFile, disk, '--command', 'nbdkit', '-s', 'file', backing], {
      stdio: 'ignore',
    });
    try {
      await until('nbdfuse serves', () => fs.existsSync(pidFile) || server.exitCode !== null);
      if (server.exitCode !== null) return skip(t, 'nbdfuse cannot mount here');
      const first = await openDevice(disk, { exclusive: true });
      await first.write(pattern(4096, 1), 0);
      // What stat(2) says is known for a second; the rest has to be asked.
      fs.statSync(disk);
      server.kill('SIGSTOP');
      let turns = 0;
      const turning = setInterval(() => turns++, 5);
      const waiting = Promise.all([
        openDevice(disk).then((device) => device.close()),
        Promise.resolve(first.size()),
        Promise.resolve(first.close()),
      ]);
      const answered = await Promise.race([waiting, sleep(300).then(() => 'nobody')]);
      clearInterval(turning);
      t.is(answered, 'nobody', 'they wait for it');
      t.true(turns > 5, `${turns} turns of the event loop`);
      server.kill('SIGCONT');
      await waiting;
    } finally {
      server.kill('SIGCONT');
      execFileSync('fusermount3', ['-u', '-z', disk]);
      server.kill();
    }
  });
});
