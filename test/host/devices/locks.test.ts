import { type ChildProcess, spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import fs from 'node:fs';
import path from 'node:path';
import test, { type ExecutionContext } from 'ava';
import { openDevice } from '../../../host/devices/open.ts';
import { createSparse } from '../../../host/devices/sparse.ts';
import { unless } from '../../skip.ts';
import { fails } from './conformance.ts';
import { canLoop, loopDevice, noLoop, scratch } from './disks.ts';

const opener = `
  import { openDevice } from ${JSON.stringify(new URL('../../../host/devices/open.ts', import.meta.url).href)};
  try {
    await openDevice(process.argv[1], { exclusive: true });
    process.stdout.write('held\\n');
    setInterval(() => {}, 1000);
  } catch (error) {
    process.stdout.write(error.message + '\\n');
  }
`;

/** Another process that opens the disk exclusively, and what it said then. */
async function open(t: ExecutionContext, disk: string): Promise<{ child: ChildProcess; said: string }> {
  const child = spawn(process.execPath, ['--input-type=module', '-e', opener, disk], {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  // A test that fails leaves no holder behind.
  t.teardown(() => kill(child));
  const [chunk] = await once(child.stdout!, 'data');
  return { child, said: String(chunk).trim() };
}

async function kill(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return;
  child.kill('SIGKILL');
  await once(child, 'exit');
}

test('a second process is refused with the pid of the first, and takes over when that is killed', async (t) => {
  const folder = scratch();
  const disk = path.join(folder, 'a.img');
  createSparse(disk, 1024 * 1024);
  const first = await open(t, disk);
  t.is(first.said, 'held');
  const error = await fails(t, 'EBUSY', () => openDevice(disk, { exclusive: true }));
  t.regex(error.message, new RegExp(`^${disk} is in use: process ${first.child.pid} has it open \\(.+\\): EBUSY$`));
  const readOnly = await fails(t, 'EBUSY', () => openDevice(disk, { exclusive: true, readOnly: true }));
  t.true(readOnly.message.includes(String(first.child.pid)));
  await (await openDevice(disk)).close();
  await kill(first.child);
  const second = await open(t, disk);
  t.is(second.said, 'held');
  await kill(second.child);
  t.deepEqual(fs.readdirSync(folder), ['a.img'], 'nothing is left beside the disk');
  fs.rmSync(folder, { recursive: true });
});

test('a file is the same disk by whatever name', async (t) => {
  const folder = scratch();
  const disk = path.join(folder, 'a.img');
  createSparse(disk, 1024 * 1024);
  fs.linkSync(disk, path.join(folder, 'hard'));
  fs.symlinkSync('a.img', path.join(folder, 'soft'));
  const device = await openDevice(disk, { exclusive: true });
  for (const name of ['hard', 'soft']) {
    const { child, said } = await open(t, path.join(folder, name));
    t.true(said.includes(`process ${process.pid} has it open`), said);
    await kill(child);
  }
  await device.close();
  fs.rmSync(folder, { recursive: true });
});

test('the lock is the process’s: it ends with the last close', async (t) => {
  const folder = scratch();
  const disk = path.join(folder, 'a.img');
  createSparse(disk, 1024 * 1024);
  const reader = await openDevice(disk, { exclusive: true, readOnly: true });
  const writer = await openDevice(disk, { exclusive: true });
  await reader.close();
  const refused = await open(t, disk);
  t.true(refused.said.includes('EBUSY'), refused.said);
  await writer.close();
  const holder = await open(t, disk);
  t.is(holder.said, 'held');
  await Promise.all([kill(refused.child), kill(holder.child)]);
  fs.rmSync(folder, { recursive: true });
});

test('of many that come at once, one wins', async (t) => {
  const folder = scratch();
  const disk = path.join(folder, 'a.img');
  createSparse(disk, 1024 * 1024);
  const all = await Promise.all(Array.from({ length: 6 }, () => open(t, disk)));
  const winners = all.filter(({ said }) => said === 'held');
  t.is(winners.length, 1);
  for (const { said } of all) t.true(said === 'held' || said.includes(`process ${winners[0]!.child.pid} `), said);
  await Promise.all(all.map(({ child }) => kill(child)));
  fs.rmSync(folder, { recursive: true });
});

unless(canLoop() ? undefined : noLoop, test)(
  'a block device: refused with the pid, taken over, and never taken from a mount',
  async (t) => {
    const folder = scratch();
    const file = path.join(folder, 'disk.img');
    createSparse(file, 8 * 1024 * 1024);
    const loop = loopDevice(file)!;
    const first = await open(t, loop.path);
    t.is(first.said, 'held');
    const error = await fails(t, 'EBUSY', () => openDevice(loop.path, { exclusive: true }));
    t.true(error.message.includes(`process ${first.child.pid} has it open`), error.message);
    await kill(first.child);
    await (await openDevice(loop.path, { exclusive: true })).close();

    const made = spawnSync('mkfs.ext4', ['-q', loop.path]).status === 0;
    const mountpoint = path.join(folder, 'mnt');
    fs.mkdirSync(mountpoint);
    if (made && spawnSync('mount', [loop.path, mountpoint]).status === 0) {
      const mounted = await fails(t, 'EBUSY', () => openDevice(loop.path, { exclusive: true }));
      t.true(mounted.message.includes('mounted'), mounted.message);
      t.is(spawnSync('umount', [mountpoint]).status, 0);
    }
    loop.detach();
    fs.rmSync(folder, { recursive: true });
  },
);
