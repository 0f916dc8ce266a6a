import { readFileSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import test, { type ExecutionContext } from 'ava';
import { dice, Lab, MiB, noise, sleep, until } from './host.ts';

/** zfs send and zfs receive between two pools of one host. */

async function twoPools(t: ExecutionContext<unknown>): Promise<Lab> {
  const lab = await Lab.open(t);
  const [a, b] = lab.manyDisks(2, 384 * MiB) as [string, string];
  await lab.start();
  await lab.zpool('create', '-o', 'ashift=12', '-O', 'snapdev=visible', 'tank', a);
  await lab.zpool('create', '-o', 'ashift=12', '-O', 'snapdev=visible', 'back', b);
  return lab;
}

async function write(lab: Lab, volume: string, offset: number, data: Buffer): Promise<void> {
  const client = await lab.open(volume);
  for (let at = 0; at < data.length; at += MiB) await client.writeAt(offset + at, data.subarray(at, at + MiB));
  await client.request({ type: 3 });
  client.destroy();
}

async function content(lab: Lab, name: string, length: number): Promise<Buffer> {
  const client = await lab.open(name);
  const data = await client.readAt(0, length);
  client.destroy();
  return data;
}

async function pipe(lab: Lab, script: string): Promise<void> {
  const { code, stderr } = await lab.shell(script);
  if (code !== 0) throw new Error(`${script} -> ${code}\n${stderr}`);
}

test('full and incremental streams of a volume through a pipe, and what zstream dump says of one', async (t) => {
  const lab = await twoPools(t);
  await lab.zfs('create', '-V', '32M', 'tank/v');
  const first = noise(8 * MiB, 1);
  const second = noise(4 * MiB, 2);
  await write(lab, 'tank/v', 0, first);
  await lab.zfs('snapshot', 'tank/v@one');
  await pipe(lab, 'zfs send tank/v@one | zfs receive back/v');
  t.true((await content(lab, 'back/v', first.length)).equals(first));
  await write(lab, 'tank/v', 2 * MiB, second);
  await lab.zfs('snapshot', 'tank/v@two');
  await pipe(lab, 'zfs send -i @one tank/v@two > incremental && zfs receive back/v < incremental');
  const expected = Buffer.from(first);
  second.copy(expected, 2 * MiB);
  t.true((await content(lab, 'back/v', first.length)).equals(expected));
  t.true((await content(lab, 'back/v@one', first.length)).equals(first));
  t.true(statSync(join(lab.directory, 'incremental')).size < 6 * MiB);
  const dump = await lab.shell('zstream dump < incremental');
  t.is(dump.code, 0, dump.stderr);
  t.regex(dump.stdout, /BEGIN record[\s\S]*toname = tank\/v@two/);
  t.regex(dump.stdout, /Total DRR_WRITE records = \d+/);
  // Receiving reads ahead, but what is behind the stream is another program's.
  const behind = await lab.shell('(zfs send tank/v@one; echo behind) | (zfs receive back/w; cat)');
  t.is(behind.stdout, 'behind\n', behind.stderr);
  t.true((await content(lab, 'back/w', first.length)).equals(first));
  const verbose = await lab.shell('zfs send -nvP -i @one tank/v@two');
  t.regex(`${verbose.stdout}${verbose.stderr}`, /incremental\s+(tank\/v@)?one\s+tank\/v@two\s+\d+/);
  await lab.finish('tank', 'back');
});

test('-R and -I bring whole trees with their snapshots and properties; filesystems too', async (t) => {
  const lab = await twoPools(t);
  await lab.zfs('create', '-o', 'compression=zstd', '-o', 'zow:note=kept', 'tank/tree');
  await lab.zfs('create', '-V', '16M', 'tank/tree/v');
  await lab.zfs('create', 'tank/tree/fs');
  const data = noise(4 * MiB, 3);
  await write(lab, 'tank/tree/v', 0, data);
  for (const name of ['a', 'b', 'c']) {
    await lab.zfs('snapshot', '-r', `tank/tree@${name}`);
    await write(lab, 'tank/tree/v', 8 * MiB, noise(MiB, name.charCodeAt(0)));
  }
  await pipe(lab, 'zfs send -R tank/tree@a | zfs receive -u back/tree');
  await pipe(lab, 'zfs send -R -I @a tank/tree@c | zfs receive -u back/tree');
  const names = async (pool: string) =>
    (await lab.zfs('list', '-H', '-o', 'name', '-t', 'all', '-r', `${pool}/tree`)).replaceAll(`${pool}/`, '');
  t.is(await names('back'), await names('tank'));
  t.is(await lab.get('back/tree/v', 'compression'), 'zstd');
  t.is(await lab.get('back/tree', 'zow:note'), 'kept');
  t.true((await content(lab, 'back/tree/v@c', data.length)).equals(data));
  await lab.finish('tank', 'back');
});

test('a receive that is interrupted goes on from its token', async (t) => {
  const lab = await twoPools(t);
  await lab.zfs('create', '-V', '64M', 'tank/v');
  const data = noise(48 * MiB, 4);
  await write(lab, 'tank/v', 0, data);
  await lab.zfs('snapshot', 'tank/v@s');
  await pipe(lab, 'zfs send tank/v@s > stream');
  // Most of the stream comes, then nothing more: the receiver waits, and is killed.
  const receiving = lab.shell(
    '(head -c 30000000 stream; sleep 3) | { zfs receive -s back/v & echo $! > receiver; wait $!; }',
  );
  await until('data arrive', async () => {
    const used = await lab.run('zfs', ['get', '-Hp', '-o', 'value', 'used', 'back']);
    return Number(used.stdout) > 16 * MiB;
  });
  await sleep(200);
  await lab.shell('kill -9 $(cat receiver)');
  // The host learns of the kill a moment later; until then the token moves on, and an older one is refused.
  let rest = '';
  await until('the receive goes on', async () => {
    const token = (await lab.get('back/v', 'receive_resume_token')).trim();
    if (token.length < 10) return false;
    const { code, stderr } = await lab.shell(`zfs send -t ${token} > rest && zfs receive -s back/v < rest`);
    rest = stderr;
    return code === 0;
  }).catch((error) => t.fail(`${error}\n${rest}`));
  t.true(statSync(join(lab.directory, 'rest')).size < statSync(join(lab.directory, 'stream')).size);
  const client = await lab.open('back/v@s');
  for (let at = 0; at < data.length; at += 8 * MiB) {
    t.true((await client.readAt(at, 8 * MiB)).equals(data.subarray(at, at + 8 * MiB)), `at ${at}`);
  }
  client.destroy();
  t.is(await lab.get('back/v', 'receive_resume_token'), '-');
  await receiving;
  await lab.finish('tank', 'back');
});

test('a volume is hidden and shown while receives onto it end: nobody waits for good, of no pool', async (t) => {
  const lab = await twoPools(t);
  await lab.zfs('create', '-V', '16M', 'tank/v');
  await write(lab, 'tank/v', 0, noise(MiB, 21));
  await lab.zfs('snapshot', 'tank/v@0');
  await pipe(lab, 'zfs send tank/v@0 | zfs receive back/v');
  const rounds = 12;
  for (let i = 1; i <= rounds; i++) await lab.zfs('snapshot', `tank/v@${i}`);
  await pipe(lab, `for i in $(seq ${rounds}); do zfs send -i @$((i - 1)) tank/v@$i > inc$i; done`);
  let receives = true;
  const hiding = (async () => {
    while (receives) for (const mode of ['none', 'dev']) await lab.zfs('set', `volmode=${mode}`, 'back/v');
  })();
  await pipe(lab, `for i in $(seq ${rounds}); do zfs receive -F back/v < inc$i; done`);
  receives = false;
  await hiding;
  (await lab.open('tank/v')).destroy();
  await until('it is there', async () => (await content(lab, `back/v@${rounds}`, MiB).catch(() => [])).length > 0);
  t.true((await content(lab, `back/v@${rounds}`, MiB)).equals(noise(MiB, 21)));
  await lab.finish('tank', 'back');
});

/** Types of a send stream's records (dmu_replay_record_t). */
const [BEGIN, WRITE, END] = [0, 3, 5];

/** A volume's stream as a sender before 2.0 makes it, up to its `count`th block: all objects, then what is in them. */
function objectsFirst(stream: Buffer, count: number): Buffer {
  const [objects, blocks]: [Buffer[], Buffer[]] = [[], []];
  for (let at = 0, type = BEGIN; type !== END; type = stream.readUInt32LE(at)) {
    // A block is neither compressed nor raw here: its length is the payload's.
    const payload = type === BEGIN ? stream.readUInt32LE(at + 4) : type === WRITE ? stream.readUInt32LE(at + 32) : 0;
    const record = Buffer.from(stream.subarray(at, at + 312 + payload));
    // A checksum of 0 is not looked at.
    if (type !== BEGIN) record.fill(0, 280, 312);
    (type === WRITE ? blocks : objects).push(record);
    at += record.length;
  }
  return Buffer.concat([...objects, ...blocks.slice(0, count)]);
}

for (const [where, blocks] of [
  ['behind the objects', 0],
  ['in the blocks of the first', 200],
] as const) {
  test(`a receive of a stream as from a sender before 2.0 is interrupted ${where}, and goes on`, async (t) => {
    const lab = await twoPools(t);
    await lab.zfs('create', '-V', '16M', 'tank/v');
    const data = noise(8 * MiB, 14);
    await write(lab, 'tank/v', 0, data);
    await lab.zfs('snapshot', 'tank/v@s');
    await pipe(lab, 'zfs send tank/v@s > stream');
    const path = join(lab.directory, 'stream');
    writeFileSync(path, objectsFirst(readFileSync(path), blocks));
    const { stderr } = await lab.shell('zfs receive -s back/v < stream');
    t.regex(stderr, /resuming stream/);
    const token = (await lab.get('back/v', 'receive_resume_token')).trim();
    await pipe(lab, `zfs send -t ${token} | zfs receive -s back/v`);
    const client = await lab.open('back/v@s');
    t.true((await client.readAt(0, data.length)).equals(data));
    client.destroy();
    await lab.finish('tank', 'back');
  });
}

test('raw streams of an encrypted volume; broken and foreign streams are refused', async (t) => {
  const lab = await twoPools(t);
  lab.key();
  const key = `file://${lab.directory}/key`;
  await lab.zfs(
    'create',
    '-V',
    '16M',
    '-o',
    'encryption=on',
    '-o',
    'keyformat=raw',
    '-o',
    `keylocation=${key}`,
    'tank/e',
  );
  const data = noise(4 * MiB, 5);
  await write(lab, 'tank/e', 0, data);
  await lab.zfs('snapshot', 'tank/e@s');
  await pipe(lab, 'zfs send -w tank/e@s | zfs receive back/e');
  t.is(await lab.get('back/e', 'keystatus'), 'unavailable');
  await lab.zfs('load-key', '-L', key, 'back/e');
  await until('the volume is there', async () => (await content(lab, 'back/e', 4096).catch(() => '')) !== '');
  t.true((await content(lab, 'back/e', data.length)).equals(data));

  const zeroes = await lab.shell('head -c 1000000 /dev/zero | zfs receive back/bad');
  t.not(zeroes.code, 0);
  t.regex(zeroes.stderr, /cannot receive/);
  const cut = await lab.shell('zfs send -w tank/e@s | head -c 1500000 | zfs receive back/cut');
  t.not(cut.code, 0);
  t.regex(await lab.fails('zfs', 'list', 'back/cut'), /does not exist/);
  await lab.zfs('create', '-V', '16M', 'tank/p');
  await write(lab, 'tank/p', 0, data);
  await lab.zfs('snapshot', 'tank/p@s');
  const flipped = await lab.shell(
    'zfs send tank/p@s > plain; printf x | dd of=plain bs=1 seek=2000000 conv=notrunc status=none; zfs receive back/flip < plain',
  );
  t.not(flipped.code, 0);
  t.regex(flipped.stderr, /checksum mismatch|incomplete|corrupt/);
  await lab.finish('tank', 'back');
});

test('from one host to another, each killed in the middle: what was kept goes on', async (t) => {
  const [from, to] = [await Lab.open(t), await Lab.open(t)];
  await from.start();
  await to.start();
  await from.zpool('create', 'tank', from.disk('a'));
  await to.zpool('create', 'back', to.disk('b'));
  await from.zfs('create', '-V', '32M', 'tank/v');
  const data = noise(24 * MiB, 6);
  await write(from, 'tank/v', 0, data);
  await from.zfs('snapshot', 'tank/v@s');
  const arrived = async () => (await to.run('zfs', ['list', 'back/v@s'])).code === 0;
  const token = async () => {
    const { code, stdout } = await to.run('zfs', ['get', '-Ho', 'value', 'receive_resume_token', 'back/v']);
    return code === 0 && stdout.length > 10 ? stdout.trim() : '';
  };
  const stream = async () => {
    const resume = await token();
    return from.shell(
      `zfs send ${resume === '' ? 'tank/v@s' : `-t ${resume}`} | ZOW_SOCKET=${to.socket} zfs receive -s back/v; echo "\${PIPESTATUS[@]}"`,
    );
  };
  const random = dice(Date.now());
  for (const [victim, pool] of [
    [from, 'tank'],
    [to, 'back'],
    [from, 'tank'],
  ] as const) {
    // A slow disk, or all would have gone through before.
    await to.zinject('-d', join(to.disks, 'b'), '-D', '30:1', 'back');
    const going = stream();
    await until('data arrive', async () => (await arrived()) || Number(await to.get('back', 'used')) > MiB);
    await sleep(random(500));
    await victim.kill();
    const { stdout, stderr } = await going;
    await victim.start();
    await victim.zpool('import', '-d', victim.disks, pool);
    if (await arrived()) break;
    // A sender whose last bytes are on their way when the receiver's host goes has nothing to notice.
    t.regex(stdout, victim === to ? /^(0|1|141) 1\n$/ : /^(1|141) 1\n$/, `both programs notice\n${stderr}`);
  }
  await to.zinject('-c', 'all');
  if (!(await arrived())) t.is((await stream()).stdout, '0 0\n');
  await until('the copy can be opened', async () => (await to.exports()).includes('back/v'));
  const copy = await to.open('back/v');
  for (let at = 0; at < data.length; at += 8 * MiB)
    t.true((await copy.readAt(at, 8 * MiB)).equals(data.subarray(at, at + 8 * MiB)));
  copy.destroy();
  t.is(await token(), '');
  await from.stop();
  await to.finish('back');
});
