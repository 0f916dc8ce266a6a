import { type ChildProcess, spawn } from 'node:child_process';
import { closeSync, openSync, readFileSync, writeFileSync, writeSync } from 'node:fs';
import { join } from 'node:path';
import test from 'ava';
import { dice, long, MiB, noise, root, until } from '../e2e/host.ts';
import { Manual } from './manual.ts';

/** zfs-receive(8) and zfs-send(8): what an interruption leaves, wherever it comes, and how it goes on. */

const points = long ? 20 : 3;
const program = join(root, process.env.ZOW_TEST_PROGRAMS === 'native' ? 'cli/native/bin/zfs' : 'cli/bin/zfs');
const size = 24 * MiB;

/** A volume with a snapshot, and its stream in a file of the lab's. */
async function source(m: Manual): Promise<{ data: Buffer; stream: Buffer }> {
  const data = noise(size, 7);
  await m.zfs('create -V 32M tank/v');
  await m.write('tank/v', 0, data);
  await m.zfs('snapshot tank/v@s');
  await m.shell('zfs send tank/v@s > stream');
  return { data, stream: readFileSync(join(m.lab.directory, 'stream')) };
}

/** Starts a receive that gets the first bytes of a stream and then nothing, and waits until it has taken them all. */
async function receiving(m: Manual, flags: string[], stream: Buffer, count: number): Promise<ChildProcess> {
  const child = spawn(program, ['receive', ...flags, 'back/v'], {
    env: { ...process.env, ZOW_SOCKET: m.lab.socket },
    stdio: ['pipe', 'ignore', 'pipe'],
  });
  m.t.teardown(() => child.kill('SIGKILL'));
  child.stdin!.on('error', () => undefined);
  child.stdin!.write(stream.subarray(0, count));
  await until('the receiver has read', () => child.stdin!.writableLength === 0);
  return child;
}

function ended(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return Promise.resolve();
  return new Promise((resolve) => child.on('exit', () => resolve()));
}

/** The token that an interrupted receive has left; '' when it had not begun, and has left nothing at all. */
async function token(m: Manual): Promise<string> {
  const { code, stdout, stderr } = await m.lab.run('zfs', ['get', '-Hpo', 'value', 'receive_resume_token', 'back/v']);
  if (code !== 0) m.t.regex(stderr, /dataset does not exist/);
  return code === 0 && stdout.length > 10 ? stdout.trim() : '';
}

/** The rest of the stream after an interruption: from the token at once, or all of it. */
async function rest(m: Manual, stream: Buffer): Promise<Buffer> {
  const resume = await token(m);
  if (resume === '') return stream;
  await m.shell(`zfs send -t ${resume} > rest`);
  return readFileSync(join(m.lab.directory, 'rest'));
}

async function finish(m: Manual, left: Buffer, data: Buffer): Promise<void> {
  writeFileSync(join(m.lab.directory, 'rest'), left);
  await m.shell('zfs receive -s back/v < rest');
  m.t.true((await m.read('back/v@s', data.length)).equals(data), 'all of it is there');
  m.t.is(await m.lab.get('back/v', 'receive_resume_token'), '-');
}

test('a receiver that is killed or gets Ctrl-C, and a sender that ends, at random places', async (t) => {
  const m = await Manual.open(t, 'tank', 'back');
  const { data, stream } = await source(m);
  // A slow disk: what a killed receive still writes takes its time, and the token has to be the one after that.
  await m.lab.zinject('-d', join(m.lab.disks, 'back'), '-D', '20:1', 'back');
  const random = dice(Date.now());
  let left = stream;
  for (let i = 0; i < points; i++) {
    const piece = Math.floor(left.length / (points - i + 1));
    const count = piece + random(piece); // never all of it
    const child = await receiving(m, ['-s'], left, count);
    // A sender that is gone is the end of the stream; Ctrl-C; a crash of the program.
    if (i % 3 === 0) child.kill('SIGKILL');
    else if (i % 3 === 1) child.kill('SIGINT');
    else child.stdin!.destroy();
    await ended(child);
    const before = left.length;
    left = await rest(m, stream);
    t.true(left.length <= before, `${before} bytes were left at ${count}, now ${left.length}`);
  }
  t.true(left.length < stream.length * 0.8, 'most of it is not sent again');
  await m.lab.zinject('-c', 'all');
  await finish(m, left, data);
  await m.lab.finish('tank', 'back');
});

test('a host that is killed in the middle of a receive, at random places', async (t) => {
  const m = await Manual.open(t, 'tank', 'back');
  const { data, stream } = await source(m);
  const random = dice(Date.now());
  let left = stream;
  for (let i = 0; i < points - 1; i++) {
    const piece = Math.floor(left.length / (points - i + 1));
    const child = await receiving(m, ['-s'], left, piece + random(piece));
    if (i % 2 === 0) await m.lab.zpool('sync', 'back');
    await m.lab.kill();
    // The program notices when it has more to hand over.
    child.stdin!.destroy();
    await ended(child);
    await m.lab.start();
    await m.lab.zpool('import', '-a', '-d', m.lab.disks);
    left = await rest(m, stream);
  }
  await finish(m, left, data);
  await m.lab.finish('tank', 'back');
});

test('without -s an interrupted receive leaves nothing; -A gives a saved state up; --saved sends it', async (t) => {
  const m = await Manual.open(t, 'tank', 'back');
  const { stream } = await source(m);
  const first = await receiving(m, [], stream, 9 * MiB);
  first.kill('SIGKILL');
  await ended(first);
  await m.refuses('list back/v', /dataset does not exist/);

  const child = await receiving(m, ['-s'], stream, 9 * MiB);
  await m.refuses('receive -A back/v', /cannot|busy|not/);
  // So sanoid and syncoid find one that is under way, and killall(1) those of a name.
  t.regex(await m.shell(`ps -o comm=,args= -p ${child.pid}`), /^zfs +(\S*\/)?zfs receive -s back\/v\n$/);
  child.kill('SIGKILL');
  await ended(child);
  await m.refuses('destroy tank/v@none', /could not find any snapshots/);
  const resume = await token(m);
  t.regex(await m.zfs(`send -nvP -t ${resume}`), /toname = tank\/v@s[\s\S]*full\ttank\/v@s\t\d+\n/);
  await m.refuses(`send -t ${resume.slice(0, -4)}beef`, /cannot resume send: resume token is corrupt/, 255);
  await m.shell('zfs send --saved back/v > saved');
  await m.each('receive -A back/v');
  await m.refuses('list back/v', /dataset does not exist/);
  await m.refuses('receive -A back/v', /dataset does not exist/, 2);
  await m.refuses('receive -A tank/v', /'tank\/v' does not have any resumable receive state to abort/);

  // An incremental keeps what was there before.
  await m.shell('zfs receive back/v < stream');
  await m.write('tank/v', 0, noise(6 * MiB, 8));
  await m.each('snapshot tank/v@t');
  await m.shell('zfs send -i @s tank/v@t > stream2');
  const second = readFileSync(join(m.lab.directory, 'stream2'));
  const incremental = await receiving(m, ['-s'], second, 4 * MiB);
  incremental.kill('SIGKILL');
  await ended(incremental);
  t.not(await token(m), '');
  const other = await m.lab.shell('zfs receive back/v < stream2');
  t.regex(other.stderr, /destination back\/v contains partially-complete state from "zfs receive -s"/);
  await m.zfs('receive -A back/v');
  await m.shell('zfs receive back/v < stream2');
  t.true((await m.read('back/v', 6 * MiB)).equals(noise(6 * MiB, 8)));
  await m.lab.finish('tank', 'back');
});

/** Overwrites, on a disk of the lab's, the block that has these bytes of a stream, or some a little behind them. */
function damage(m: Manual, disk: string, stream: Buffer, at: number): void {
  const path = join(m.lab.disks, disk);
  const image = readFileSync(path);
  // The bytes at `at` may be a record's header, which is on no disk.
  const places = [0, 4096, 8192].map((more) => image.indexOf(stream.subarray(at + more, at + more + 1024)));
  const place = places.find((found) => found !== -1);
  if (place === undefined) throw new Error(`no block of ${disk} has the stream's bytes at ${at}`);
  const fd = openSync(path, 'r+');
  writeSync(fd, Buffer.alloc(512, 0xee), 0, 512, place);
  closeSync(fd);
}

test('receive -c heals what is damaged on the disk, and nothing else; -M', async (t) => {
  const m = await Manual.open(t, 'tank');
  m.lab.key();
  const key = `-o encryption=on -o keyformat=raw -o keylocation=file://${m.lab.directory}/key`;
  await m.each('create -o compression=off -V 8M tank/v', `create -o compression=off ${key} -V 8M tank/e`);
  const data = noise(4 * MiB, 9);
  for (const volume of ['tank/v', 'tank/e']) await m.write(volume, 0, data);
  await m.zfs('snapshot -r tank@s');
  await m.shell('zfs send tank/v@s > v; zfs send -w tank/e@s > e');
  const [plain, raw] = ['v', 'e'].map((name) => readFileSync(join(m.lab.directory, name))) as [Buffer, Buffer];
  await m.lab.zpool('export', 'tank');
  for (const at of [MiB, 2 * MiB, 3 * MiB]) for (const stream of [plain, raw]) damage(m, 'tank', stream, at);
  await m.lab.zpool('import', '-d', m.lab.disks, '-l', 'tank');
  for (const volume of ['tank/v', 'tank/e']) await t.throwsAsync(m.read(volume, data.length), undefined, volume);
  t.regex(await m.lab.zpool('status', '-v', 'tank'), /Permanent errors have been detected[\s\S]*tank\/v:<0x1>/);

  const wrong = await m.lab.shell('zfs receive -c tank/v@s < e');
  t.not(wrong.code, 0, 'the stream of another snapshot');
  await t.throwsAsync(m.read('tank/v', data.length));
  const forced = await m.lab.shell('zfs receive -cF tank/v@s < v');
  t.regex(forced.stderr, /corrective recv can not be used when combined with this flag/);
  const none = await m.lab.shell('zfs receive -c tank/v@none < v');
  t.regex(none.stderr, /corrective recv must specify an existing snapshot to heal/);
  await m.shell('zfs receive -c tank/v@s < v; zfs receive -c tank/e@s < e');
  for (const volume of ['tank/v', 'tank/e']) t.true((await m.read(volume, data.length)).equals(data), volume);
  // What a scrub finds is forgotten when the next one does not.
  for (let i = 0; i < 2; i++) await m.lab.zpool('scrub', '-w', 'tank');
  t.regex(await m.lab.zpool('status', '-v', 'tank'), /with 0 errors[\s\S]*errors: No known data errors/);

  // Nothing is mounted here: -M has nothing to unmount, and receives as without it.
  await m.shell('zfs receive -M tank/m < v; zfs receive -M -F tank/m < v && exit 1; true');
  t.true((await m.read('tank/m', data.length)).equals(data));
  await m.lab.finish('tank');
});

test('receive -F makes a copy of a tree alike: what was destroyed, renamed, promoted; inherit -S', async (t) => {
  const m = await Manual.open(t, 'tank', 'back');
  await m.each(
    'create -u -o org.example:a=1 -o compression=gzip tank/t',
    'create -u tank/t/goes',
    'create -u tank/t/two',
    'create -V 8M tank/t/v',
  );
  for (const name of ['a', 'b']) await m.zfs(`snapshot -r tank/t@${name}`);
  const send = (what: string, flags = '') => m.shell(`zfs send -R ${what} | zfs receive -u ${flags} back/t`);
  const origins = async (tree: string) =>
    (await m.zfs(`list -Hro name,origin -t all ${tree}`)).replaceAll(tree.split('/')[0]!, '');
  await send('tank/t@b');
  const values = () => m.lines('get -Ho value,source,received compression,org.example:a back/t');
  t.deepEqual(await values(), ['gzip\treceived\tgzip', '1\treceived\t1']);
  await m.each('set compression=lz4 back/t', 'inherit org.example:a back/t');
  t.deepEqual(await values(), ['lz4\tlocal\tgzip', '-\t-\t1']);
  await m.each('inherit -S compression back/t', 'inherit -S org.example:a back/t');
  t.deepEqual(await values(), ['gzip\treceived\tgzip', '1\treceived\t1']);

  await m.each('destroy tank/t@a', 'destroy -r tank/t/goes', 'rename -u tank/t/two tank/t/2', 'snapshot -r tank/t@c');
  await send('-I @b tank/t@c', '-F');
  await m.each('clone tank/t/v@b tank/t/clone', 'snapshot -r tank/t@d');
  await send('-I @c tank/t@d', '-F');
  await m.each('promote tank/t/clone', 'snapshot -r tank/t@e');
  await send('-I @d tank/t@e', '-F');
  t.is(await origins('back/t'), await origins('tank/t'));
  await m.lab.finish('tank', 'back');
});
