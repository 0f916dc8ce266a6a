import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, lstatSync, mkdirSync, readdirSync, readFileSync, readlinkSync, symlinkSync } from 'node:fs';
import { join } from 'node:path';
import test, { type ExecutionContext } from 'ava';
import { fuse } from '../../host/attach/ways/fuse.ts';
import { kernel } from '../../host/attach/ways/kernel.ts';
import { loop } from '../../host/attach/ways/loop.ts';
import { skip, unless } from '../skip.ts';
import { execute, Lab, MiB, must, type Result, root, until } from './host.ts';

/** `zow attach` with nbdfuse and loop devices of this machine, under ext4, with hosts and keepers that are killed. */

const config = {
  pools: {
    tank: { vdevs: ['disks/a'], create: { size: '512M' }, volumes: { vm0: { size: '64M' }, vm1: { size: '16M' } } },
  },
};

/**
 * Writes 1 MiB past all caches of the kernel, says `written`, at a line of its input calls fsync() and says what that says,
 * and keeps the file open.
 */
const WRITER = `
import mmap, os, sys
fd = os.open(sys.argv[1], os.O_RDWR | os.O_CREAT | os.O_DIRECT)
m = mmap.mmap(-1, 1 << 20)
m.write(bytes([int(sys.argv[2])]) * (1 << 20))
assert os.pwritev(fd, [m], 0) == 1 << 20
print('written', flush=True)
sys.stdin.readline()
try:
    os.fsync(fd)
    print('synced', flush=True)
except OSError as e:
    print(os.strerror(e.errno), flush=True)
sys.stdin.readline()
`;

class Writer {
  readonly #child: ChildProcess;
  #said = '';

  constructor(path: string, byte: number) {
    this.#child = spawn('python3', ['-c', WRITER, path, String(byte)], { stdio: ['pipe', 'pipe', 'inherit'] });
    this.#child.stdout!.on('data', (chunk: Buffer) => {
      this.#said += chunk;
    });
  }

  async written(): Promise<void> {
    await until('it is written', () => this.#said.includes('written'));
  }

  /** Calls fsync(). */
  sync(): void {
    this.#child.stdin!.write('\n');
  }

  /** What fsync() said. */
  async synced(): Promise<string> {
    await until('fsync is over', () => this.#said.split('\n').length > 2);
    return this.#said.split('\n')[1]!;
  }

  /** Its file is closed when it resolves. */
  async end(): Promise<void> {
    const closed = once(this.#child, 'close');
    this.#child.kill('SIGKILL');
    await closed;
  }
}

interface Attached {
  readonly volume: string;
  readonly path: string;
  readonly state: string;
  readonly reason?: string;
  readonly pid: number;
  readonly unflushedBytes?: number;
  readonly readOnly: boolean;
}

const zowCommand = join(root, 'cli/bin/zow');

/** What a user does with the commands. */
class Attachments {
  readonly #lab: Lab;
  readonly root: string;

  constructor(t: ExecutionContext<unknown>, lab: Lab) {
    this.#lab = lab;
    // By a link, as /var/run often is.
    mkdirSync(join(lab.directory, 'att'));
    symlinkSync('att', join(lab.directory, 'run-att'));
    this.root = join(lab.directory, 'run-att');
    t.teardown(async () => {
      for (const { path } of await this.list()) {
        await execute('umount', ['-l', path]);
        await this.zow('detach', '--force', path);
      }
    });
  }

  zow(...args: string[]): Promise<Result> {
    return this.shell(`'${zowCommand}' ${args.map((arg) => `'${arg}'`).join(' ')}`);
  }

  /** As Lab.shell, with the folder of these attachments. */
  shell(script: string): Promise<Result> {
    return this.#lab.shell(`export ZOW_ATTACHMENTS='${this.root}'; ${script}`);
  }

  async must(...args: string[]): Promise<string> {
    const { code, stdout, stderr } = await this.zow(...args);
    if (code !== 0) throw new Error(`zow ${args.join(' ')} -> ${code}\n${stderr}`);
    return stdout.trimEnd();
  }

  /** What it says, which is one line, when it fails. */
  async fails(...args: string[]): Promise<string> {
    const { code, stdout, stderr } = await this.zow(...args);
    if (code !== 1 || stdout !== '' || !/^zow: .*\n$/.test(stderr)) {
      throw new Error(`zow ${args.join(' ')} -> ${code}\n${stdout}${stderr}`);
    }
    return stderr.slice('zow: '.length, -1);
  }

  async list(): Promise<Attached[]> {
    return JSON.parse(await this.must('attachments', '-j'));
  }

  async only(): Promise<Attached> {
    const all = await this.list();
    if (all.length !== 1) throw new Error(JSON.stringify(all));
    return all[0]!;
  }

  /** The logs of all keepers. */
  get log(): string {
    return readdirSync(this.root)
      .map((folder) => readFileSync(join(this.root, folder, 'log'), 'utf8'))
      .join('');
  }
}

/** Undefined: this machine does not let it, which its message says. */
async function attached(t: ExecutionContext<unknown>, attachments: Attachments, ...args: string[]) {
  const { code, stdout, stderr } = await attachments.zow('attach', ...args);
  if (code === 0) return stdout.trimEnd();
  if (!/not permitted|Permission denied|could not find any free loop device/i.test(stderr)) throw new Error(stderr);
  skip(t, stderr);
  return undefined;
}

const missing = loop.missing();
const looped = unless(missing === undefined ? undefined : `needs ${missing}`, test);

looped('ext4 on a loop device goes on over a host that is killed, and loses nothing', async (t) => {
  const lab = await Lab.open(t);
  await lab.start({ config });
  const attachments = new Attachments(t, lab);
  const links = join(lab.directory, 'links');
  const path = await attached(t, attachments, '--way', 'loop', '--links', links, 'tank/vm0');
  if (path === undefined) return;
  t.regex(path, /^\/dev\/loop\d+$/);
  t.is(readlinkSync(join(links, 'tank/vm0')), path);
  t.is(await attachments.must('attach', 'tank/vm0'), path, 'twice is once');
  t.regex(
    await attachments.fails('attach', '--read-only', 'tank/vm0'),
    /attached already, at \/dev\/loop\d+, and not read-only$/,
  );
  t.regex(await attachments.fails('attach', '--way', 'fuse', 'tank/vm0'), /, as loop$/);
  t.regex(await lab.fails('zfs', 'destroy', 'tank/vm0'), /dataset is busy/);

  const folder = join(lab.directory, 'mnt');
  mkdirSync(folder);
  t.teardown(() => execute('umount', ['-l', folder]));
  await must('mkfs.ext4', ['-q', '-E', 'lazy_itable_init=0,lazy_journal_init=0', path]);
  // No flush of the file system's own comes between.
  await must('mount', ['-o', 'commit=600', path, folder]);
  const file = join(folder, 'file');
  const first = new Writer(file, 1);
  await first.written();
  first.sync();
  t.is(await first.synced(), 'synced');
  t.is((await attachments.only()).unflushedBytes, 0, 'what was synced is flushed');
  const second = new Writer(file, 2);
  await second.written();
  await lab.kill();
  second.sync();
  t.is((await attachments.only()).state, 'away');
  t.regex(await attachments.must('attachments'), /\/dev\/loop\d+ +rw +loop +away for \d+ s: /);
  await lab.start({ config });
  t.is(await second.synced(), 'synced');
  const [, bytes] = /"bytes":(\d+),"msg":"what was not flushed was written again"/.exec(attachments.log) ?? [];
  t.true(Number(bytes) > MiB, 'the host had not all of it');
  t.is((await attachments.only()).unflushedBytes, 0);
  // From the device, not from a cache above it.
  const read = await must('bash', [
    '-c',
    `dd if='${file}' iflag=direct bs=1M count=1 status=none | tr -d '\\002' | wc -c`,
  ]);
  t.is(read.trim(), '0');

  const [one, two] = [attachments.fails('detach', path), attachments.fails('detach', 'tank/vm0')];
  for (const refused of [await one, await two]) t.is(refused, `${path} is in use: it is mounted on ${folder}`);
  await Promise.all([first.end(), second.end()]);
  await must('umount', [folder]);
  await must('e2fsck', ['-f', '-n', path]);
  await attachments.must('detach', join(links, 'tank/vm0'));
  t.deepEqual(await attachments.list(), []);
  t.deepEqual(readdirSync(links), []);
  t.false(existsSync(`/sys/block/${path.slice('/dev/'.length)}/loop`));
  t.is(await attachments.fails('detach', 'tank/vm0'), 'tank/vm0 is not attached; zow attachments lists what is');
  const image = await attachments.must('attach', '--way', 'fuse', '--read-only', 'tank/vm0');
  t.true(lstatSync(image).isFile());
  await must('e2fsck', ['-f', '-n', image]);
  await attachments.must('detach', image);
  await lab.finish('tank');
});

looped('what is lost is told by fsync; a device without its keeper is failed until it is detached', async (t) => {
  const lab = await Lab.open(t);
  await lab.start({ config });
  const attachments = new Attachments(t, lab);
  const path = await attached(t, attachments, '--way', 'loop', '--wait', '200ms', 'tank/vm1');
  if (path === undefined) return;
  // The host stays away for too long.
  const late = new Writer(path, 3);
  await late.written();
  await lab.kill();
  late.sync();
  t.is(await late.synced(), 'Input/output error');
  t.is((await attachments.only()).state, 'failing');
  await late.end();
  t.regex(
    await attachments.fails('detach', 'tank/vm1'),
    /^tank\/vm1 cannot be detached: the host is away \(.*\), .*--force gives that up$/,
  );
  // What was acknowledged is not lost all the same.
  await lab.start({ config });
  await until('it is back', async () => (await attachments.only()).state === 'connected');
  const reader = await lab.open('tank/vm1');
  t.true((await reader.readAt(0, MiB)).every((byte) => byte === 3));
  reader.destroy();

  const lost = new Writer(path, 4);
  await lost.written();
  const { pid } = await attachments.only();
  process.kill(pid, 'SIGKILL');
  lost.sync();
  t.is(await lost.synced(), 'Input/output error', 'nobody has what was not flushed');
  t.is((await attachments.only()).state, 'lost');
  t.regex(await attachments.fails('attach', 'tank/vm1'), /its keeper is gone: zow detach tank\/vm1 first$/);
  t.regex(await attachments.fails('detach', path), /is in use: process \d+ \(python3\) has it open$/);
  await lost.end();
  await attachments.must('detach', path);
  t.deepEqual(await attachments.list(), []);
  t.false(existsSync(`/sys/block/${path.slice('/dev/'.length)}/loop`));
  t.deepEqual(readdirSync(attachments.root), []);

  // A host that does not come back, and nothing that uses the device.
  await attachments.must('attach', '--way', 'loop', 'tank/vm1');
  await lab.kill();
  await until('it is away', async () => (await attachments.only()).state === 'away');
  t.regex(await attachments.fails('detach', 'tank/vm1'), /--force/);
  await attachments.must('detach', '--force', 'tank/vm1');
  t.deepEqual(readdirSync(attachments.root), []);
});

test('what cannot be attached says why in one line', async (t) => {
  const lab = await Lab.open(t);
  const attachments = new Attachments(t, lab);
  t.regex(
    await attachments.fails('attach', 'tank/vm0'),
    /^no ZoW host listens on .*: start one with 'zow serve <config>', or/,
  );
  t.is(await attachments.must('attachments'), '');
  t.deepEqual(await attachments.list(), []);
  await lab.start({ config });
  await lab.zfs('create', 'tank/fs');
  await lab.zfs('snapshot', 'tank/vm1@s');
  const missingKernel = kernel.missing();
  if (missingKernel === undefined) t.log(`not tried: a machine without the kernel's nbd`);
  else
    t.is(
      await attachments.fails('attach', '--way', 'nbd', 'tank/vm0'),
      `nothing here can attach a volume: nbd needs ${missingKernel}`,
    );
  const missingFuse = fuse.missing();
  if (missingFuse !== undefined) return skip(t, `needs ${missingFuse}`);
  t.regex(await attachments.fails('attach', 'tank/nothing'), /^there is no volume tank\/nothing$/);
  t.regex(await attachments.fails('attach', 'tank/fs'), /^tank\/fs is /);
  t.regex(
    await attachments.fails('attach', '--wait', '5', 'tank/vm0'),
    /^option '--wait <time>' argument '5' is invalid/,
  );
  // Nothing of them is left.
  t.deepEqual(readdirSync(attachments.root), []);
  const bare = await attachments.shell(
    `unshare -m bash -c "mount -t tmpfs none /dev && mknod /dev/null c 1 3 && exec '${zowCommand}' attach tank/vm0"`,
  );
  if (/unshare/.test(bare.stderr)) t.log(`not tried without FUSE: ${bare.stderr}`);
  else {
    t.is(bare.code, 1);
    t.regex(
      bare.stderr,
      /^zow: nothing here can attach a volume: loop needs \/dev\/fuse \(ENOENT\); .*; fuse needs \/dev\/fuse \(ENOENT\); .*\n$/,
    );
  }
  const path = await attached(t, attachments, '--way', 'fuse', 'tank/vm1@s');
  if (path === undefined) return;
  t.true((await attachments.only()).readOnly);
  t.not((await execute('dd', ['if=/dev/zero', `of=${path}`, 'count=1', 'conv=notrunc'])).code, 0);
  await must('cmp', ['-n', '4096', path, '/dev/zero']);
  await attachments.must('detach', 'tank/vm1@s');
  await lab.finish('tank');
});
