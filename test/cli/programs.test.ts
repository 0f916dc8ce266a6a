import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { chmodSync, existsSync, mkdirSync, mkdtempSync, rmSync, truncateSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { text } from 'node:stream/consumers';
import { setTimeout as sleep } from 'node:timers/promises';
import test from 'ava';
import { PROGRAMS } from '../../cli/programs.ts';
import { wasmFile } from '../../host/assets.ts';
import { skip, unless } from '../skip.ts';

// The WebAssembly programs as processes, against a host process: what they print is compared with the natively built ones.

const root = join(import.meta.dirname, '..', '..');
const native = join(root, 'cli', 'native', 'bin');
const directory = mkdtempSync(join(tmpdir(), 'zow-programs-'));
const bin = join(directory, 'bin');
const MiB = 1024 * 1024;

const env: NodeJS.ProcessEnv = {
  ...process.env,
  PATH: `${bin}:${process.env.PATH}`,
  LC_ALL: 'C.UTF-8',
  ZOW_SOCKET: join(directory, 'zow.sock'),
  ZPOOL_SCRIPTS_AS_ROOT: '1',
  ZPOOL_SCRIPTS_PATH: join(directory, 'scripts'),
};

const missing = [
  ...['zow', ...Object.keys(PROGRAMS)].map(wasmFile),
  ...['zpool', 'zfs', 'zdb', 'zstream'].map((name) => join(native, name)),
].filter((file) => !existsSync(file));
const ready = unless(missing.length === 0 ? undefined : `not built: ${missing.join(', ')}`, test.serial);

let host: ChildProcess | undefined;

interface Result {
  readonly status: number | null;
  readonly stdout: string;
  readonly stderr: string;
}

/** A line of bash, for its pipes; resolves with what it wrote. */
async function sh(line: string, vars: NodeJS.ProcessEnv = {}): Promise<Result> {
  const child = spawn('bash', ['-o', 'pipefail', '-c', line], {
    env: { ...env, ...vars },
    cwd: directory,
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  const exit = once(child, 'exit');
  const [stdout, stderr] = await Promise.all([text(child.stdout), text(child.stderr)]);
  const [status] = (await exit) as [number | null];
  return { status, stdout, stderr };
}

/** As sh, but it has to succeed. */
async function ok(line: string, vars: NodeJS.ProcessEnv = {}): Promise<string> {
  const { status, stdout, stderr } = await sh(line, vars);
  if (status !== 0) throw new Error(`${line}: exit ${status}: ${stderr}`);
  return stdout;
}

/** The same line by the natively built programs. */
function natively(line: string, vars: NodeJS.ProcessEnv = {}): Promise<Result> {
  return sh(line, { ...vars, PATH: `${native}:${process.env.PATH}` });
}

interface Typed {
  readonly code: number;
  readonly shown: string;
  readonly echo: readonly boolean[];
  readonly echoAfter: boolean;
}

/** A program on a terminal: after each text it shows, what is typed. */
async function typed(script: readonly (readonly [string, string])[], ...command: string[]): Promise<Typed> {
  const child = spawn('python3', [join(import.meta.dirname, 'terminal.py'), JSON.stringify(script), ...command], {
    env,
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  return JSON.parse(await text(child.stdout)) as Typed;
}

test.before(async () => {
  if (missing.length > 0) return;
  mkdirSync(bin);
  for (const name of Object.keys(PROGRAMS)) {
    const file = join(bin, name);
    writeFileSync(file, `#!/bin/sh\nexec '${process.execPath}' '${join(root, 'cli/program.ts')}' ${name} "$@"\n`);
    chmodSync(file, 0o755);
  }
  mkdirSync(join(directory, 'disks'));
  mkdirSync(join(directory, 'scripts'));
  for (const name of ['a', 'b', 'c', 'd']) {
    const file = join(directory, 'disks', name);
    writeFileSync(file, '');
    truncateSync(file, 256 * MiB);
  }
  const config = join(directory, 'pool.yaml');
  writeFileSync(config, 'socket: zow.sock\nmemory: 512M\nnbd: [{ unix: nbd.sock }]\n');
  const child = spawn(process.execPath, [join(root, 'cli/main.ts'), 'serve', config], {
    env: { ...env, ZOW_LOG: 'error' },
    stdio: ['ignore', 'ignore', 'inherit'],
  });
  host = child;
  for (let tries = 0; (await sh('zpool list')).status !== 0; tries++) {
    if (tries > 50 || child.exitCode !== null) throw new Error('the host does not start');
  }
  await ok('zpool create tank mirror $PWD/disks/a $PWD/disks/b');
  await ok(
    'zfs create -V 32M tank/v && zfs snapshot tank/v@1 && zfs clone tank/v@1 tank/clone && zfs create -p tank/f',
  );
});

test.after.always(async () => {
  if (host !== undefined && host.exitCode === null) {
    const exit = once(host, 'exit');
    host.kill('SIGTERM');
    await exit;
  }
  rmSync(directory, { recursive: true });
});

const same = [
  'zpool status -j',
  'zpool status -v -P -s -t -i -D tank',
  'zpool list -v -j',
  'zpool list -o all -p',
  'zpool get all',
  'zpool get -j all tank',
  'zpool get all-vdevs',
  'zpool get all tank mirror-0',
  'zpool history -i',
  'zpool events -v',
  'zpool upgrade -v',
  'zpool version -j',
  'zpool import -d disks',
  'zpool status -c show tank',
  'zpool status -c',
  'zpool iostat -wH tank | cut -f 1',
  'zpool iostat -Hp nopool',
  'zpool wait -t scrub tank',
  'zfs list -j -t all -r tank',
  'zfs list -o all -t all',
  'zfs get all',
  'zfs get -j -p all tank/v',
  'zfs get -H -o value creation tank/v@1',
  'zfs send -nvP tank/v@1',
  'zfs holds -r tank/v@1',
  'zfs allow tank',
  'zfs mount tank',
  'zfs upgrade -v',
  'zpool',
  'zfs',
  'zpool status nopool',
  'zfs list no/where',
  'zfs destroy tank/v',
  'zfs create tank/no/parent',
  'zpool create tank $PWD/disks/c',
  'zpool create x $PWD/disks/a',
  'zpool create x raidz $PWD/disks/c',
  'zpool create x $PWD/scripts',
  'zpool set ashift=99 tank',
  'zpool import -d /nowhere',
  'zpool import nopool',
  'zfs set volsize=1 tank/v',
  'zfs set compression=fast tank',
  'zfs destroy tank',
  'zfs rename tank/v tank/f/no/parent',
  'zfs receive tank/empty < /dev/null',
  'zpool frobnicate',
  'zinject',
  'zdb -l disks/a',
];
ready('print and exit as the native ones do', async (t) => {
  const script = join(directory, 'scripts', 'show');
  writeFileSync(script, '#!/bin/sh\n[ "$1" = -h ] && echo "what it shows" && exit\necho "vdev=$VDEV_PATH"\n');
  chmodSync(script, 0o755);
  for (const line of same) {
    for (const TZ of line.includes('creation') ? ['America/New_York', 'UTC-3'] : ['UTC']) {
      // What the pool allocates changes by itself, as it frees what is over.
      let [ours, theirs] = [await sh(line, { TZ }), await natively(line, { TZ })];
      for (let i = 0; i < 5 && ours.stdout !== theirs.stdout; i++) {
        [ours, theirs] = [await sh(line, { TZ }), await natively(line, { TZ })];
      }
      t.deepEqual(ours, theirs, line);
    }
  }
});

ready('without a host one line says so', async (t) => {
  const { status, stdout, stderr } = await sh('zpool list', { ZOW_SOCKET: '/nowhere/zow.sock' });
  t.is(status, 1);
  t.is(stdout, '');
  t.regex(stderr, /^no ZoW host listens on \/nowhere\/zow\.sock: start one with 'zow serve <config>'.*\n$/);
});

ready('a reader that goes away ends them quietly', async (t) => {
  const { stdout, stderr, status } = await sh('zpool get all tank | head -n 1');
  t.is(stderr, '');
  t.true(status === 0 || status === 141, 'it may have written all before');
  t.regex(stdout, /^NAME/);
  const closed = await sh('{ sleep 1; zpool get all tank; echo "$?" >&2; } | true');
  t.is(closed.stderr, '141\n');
});

ready('streams go through pipes and files', async (t) => {
  await ok('zfs send tank/v@1 | zfs receive tank/copy');
  await ok('zfs snapshot tank/v@2 && zfs send -i @1 tank/v@2 > stream && zfs receive tank/copy < stream');
  t.is(await ok('zfs list -H -o name -t snapshot tank/copy'), 'tank/copy@1\ntank/copy@2\n');
  const dump = 'zstream dump -v < stream';
  t.deepEqual(await sh(dump), await natively(dump));
  const broken = await sh('head -c 400 stream | zfs receive tank/half');
  t.is(broken.status, 1);
  t.regex(broken.stderr, /cannot receive/);
  // The progress of a send comes from a thread of its own, and a timer.
  const { stderr } = await sh('zfs send -v tank/v@1 > /dev/null');
  t.regex(stderr, /full send of tank\/v@1 estimated size is/);
  await ok('zfs destroy -r tank/copy && zfs destroy tank/v@2');
});

ready('a pool is moved by relative paths, and zdb finds it whole', async (t) => {
  await ok('zpool create moved $PWD/disks/c && zfs create -V 8M -o compression=gzip moved/v && zpool export moved');
  t.regex(await ok('zpool import -d disks'), /pool: moved/);
  const own = await ok('zdb -bcc -e -p disks moved');
  t.regex(own, /No leaks/);
  const judge = await natively('zdb -bcc -e -p disks moved');
  t.is(judge.status, 0);
  await ok('cd disks && zpool import -d . moved && zpool destroy moved');
});

/** What `zpool import` says of the pool `block` alone: other tests have loop devices, too. Other texts stay as they are. */
function ofBlock(text: string): string {
  const parts = text.split(/^(?= *pool: )/m);
  return parts.length === 1
    ? text
    : parts
        .filter((part) => /^ *pool: block$/m.test(part))
        .join('')
        .trimEnd();
}

ready('block devices are looked at as by the native ones', async (t) => {
  await ok('truncate -s 100M filesystem && mkfs.ext4 -q -F filesystem');
  const loop = await sh('losetup -f --show filesystem');
  if (loop.status !== 0) {
    return skip(t, `no loop devices here: ${loop.stderr}`);
  }
  const device = loop.stdout.trim();
  try {
    const refused = await sh(`zpool create block ${device}`);
    t.regex(refused.stderr, /contains a filesystem of type 'ext4'/);
    t.deepEqual(refused, await natively(`zpool create block ${device}`));
    await ok(`zpool create -f block ${device} && zpool export block`);
    for (const line of [
      ...['zpool import', 'zpool import -s', 'zpool import -d /dev'],
      ...[`zpool import -d ${device}`, `zpool import -s -d ${device}`, `zdb -l ${device}`],
    ]) {
      const [found, wanted] = [await sh(line), await natively(line)];
      t.regex(found.stdout, /block/);
      t.deepEqual({ ...found, stdout: ofBlock(found.stdout) }, { ...wanted, stdout: ofBlock(wanted.stdout) }, line);
    }
  } finally {
    await sh(`zpool destroy block`);
    await ok(`losetup -d ${device}`);
  }
});

ready('a passphrase is asked for without echo', async (t) => {
  const create = ['zfs', 'create', '-V', '8M', '-o', 'encryption=on', '-o', 'keyformat=passphrase', 'tank/secret'];
  const passphrase = 'correct horse\n';
  const created = await typed(
    [
      ['Enter new passphrase:', passphrase],
      ['Re-enter new passphrase:', passphrase],
    ],
    ...create,
  );
  t.is(created.code, 0, created.shown);
  t.deepEqual(created.echo, [false, false]);
  t.false(created.shown.includes('horse'));
  t.true(created.echoAfter);
  t.is(await ok('zfs get -H -o value keystatus tank/secret'), 'available\n');
  t.is((await sh('echo wrong horse | zfs load-key -n tank/secret')).status, 255);
  t.is((await sh('echo correct horse | zfs load-key -n tank/secret')).status, 0);
  const interrupted = await typed([['Enter new passphrase:', '\x03']], ...create.slice(0, -1), 'tank/other');
  t.is(interrupted.code, -2, 'SIGINT');
  t.true(interrupted.echoAfter);
});

ready('a terminal gets colours, and Ctrl-C ends what repeats', async (t) => {
  const { code, shown } = await typed([['tank', '\x03']], 'env', 'ZFS_COLOR=1', 'zpool', 'iostat', '1');
  t.is(code, -2, 'SIGINT');
  // biome-ignore lint/suspicious/noControlCharactersInRegex: it is what a colour starts with
  t.regex(shown, /\x1b\[1m.*capacity/s);
});

ready('a program that waits ends by the signal it is sent', async (t) => {
  const { status } = await sh('timeout -s INT 3 zpool iostat 1 > /dev/null');
  t.is(status, 124, 'ended by timeout, not by itself');
});

ready('a host that goes away is told in one line', async (t) => {
  const config = join(directory, 'other.yaml');
  writeFileSync(config, 'socket: other.sock\nmemory: 256M\n');
  const other = spawn(process.execPath, [join(root, 'cli/main.ts'), 'serve', config], {
    env: { ...env, ZOW_LOG: 'silent' },
    stdio: 'ignore',
  });
  const vars = { ZOW_SOCKET: join(directory, 'other.sock') };
  for (let tries = 0; (await sh('zpool list', vars)).status !== 0; tries++) {
    if (tries > 50 || other.exitCode !== null) throw new Error('the host does not start');
  }
  const waiting = spawn('zpool', ['events', '-f'], { env: { ...env, ...vars }, stdio: ['ignore', 'pipe', 'pipe'] });
  const exit = once(waiting, 'exit');
  const stderr = text(waiting.stderr!);
  // Its heading comes before it asks for the first event.
  await once(waiting.stdout!, 'data');
  await sleep(200);
  other.kill('SIGKILL');
  t.deepEqual(await exit, [1, null]);
  t.regex(await stderr, /^the ZoW host on .*other\.sock went away\n$/);
});

ready('SIGUSR1 makes a send tell its progress', async (t) => {
  await ok('head -c 4M /dev/urandom > noise && nbdcopy noise "nbd+unix:///tank/v?socket=$PWD/nbd.sock"');
  await ok('zfs snapshot tank/v@full');
  const send = spawn('zfs', ['send', 'tank/v@full'], { env, stdio: ['ignore', 'pipe', 'pipe'] });
  const exit = once(send, 'exit');
  const told = text(send.stderr!);
  // Nobody reads the stream yet: the program waits in a write.
  await once(send.stdout!, 'readable');
  await sleep(200);
  send.kill('SIGUSR1');
  await sleep(100);
  send.stdout!.resume();
  t.deepEqual(await exit, [0, null]);
  t.regex(await told, /tank\/v@full/);
});

ready('a pool with damage is reported as one', async (t) => {
  await ok('zpool offline tank $PWD/disks/b');
  const { stdout, status } = await sh('zpool status -x');
  t.is(status, 0);
  t.regex(stdout, /DEGRADED/);
  await ok('zpool online tank $PWD/disks/b && zpool wait -t resilver tank');
  t.is(await ok('zpool status -x'), 'all pools are healthy\n');
});
