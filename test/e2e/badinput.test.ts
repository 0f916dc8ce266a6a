import { mkdirSync, readdirSync, writeFileSync } from 'node:fs';
import net from 'node:net';
import { join } from 'node:path';
import test, { type ExecutionContext } from 'ava';
import { Errno } from '../../host/errno.ts';
import { version } from '../../host/ioctl/protocol.ts';
import { hello, LaneClient } from '../host/ioctl/client.ts';
import { Client } from '../host/nbd/client.ts';
import { skip } from '../skip.ts';
import { execute, Lab, MiB, must, noise, sleep, until } from './host.ts';

/** Wrong configurations and hostile clients: a clear error for them, and a host that goes on serving the others. */

/** Starts a host that must refuse, and returns what it says and its exit code. */
async function refused(lab: Lab, config: object | string): Promise<[code: number | null, said: string]> {
  const code =
    typeof config === 'string'
      ? await (() => {
          const file = join(lab.directory, 'pool.yaml');
          writeFileSync(file, config);
          return lab.serve(file);
        })()
      : await lab.launch({ config });
  return [code, lab.hostLog];
}

async function refuses(
  t: ExecutionContext<unknown>,
  lab: Lab,
  config: object | string,
  code: number,
  ...says: RegExp[]
): Promise<void> {
  const [actual, said] = await refused(lab, config);
  t.is(actual, code, said);
  for (const pattern of says) t.regex(said, pattern);
  t.notRegex(said, /\n\s+at .*\.(ts|mjs):\d+/, 'no stack trace');
}

test('a wrong configuration: the line, the key and what is allowed', async (t) => {
  const lab = await Lab.open(t);
  await refuses(t, lab, 'socket: [run/zow.sock\n', 1, /pool\.yaml:\d+/);
  await refuses(t, lab, 'socket: run/s\npools:\n  tank:\n    vdev: [a]\n', 1, /pool\.yaml:4/, /vdev/, /vdevs/);
  await refuses(t, lab, 'memory: lots\n', 1, /pool\.yaml:1/, /memory/);
  await refuses(t, lab, { pools: { 'mirror-1': { vdevs: ['a'] } } }, 1, /mirror/);
});

test('devices that cannot be used are named, and nothing is changed', async (t) => {
  const lab = await Lab.open(t);
  const pool = (...vdevs: string[]) => ({ pools: { tank: { vdevs, create: { size: '128M' } } } });
  await refuses(t, lab, pool('disks'), 2, /disks/, /director/);
  lab.disk('tiny', MiB);
  await refuses(t, lab, pool('disks/tiny'), 2, /tiny/);
  lab.disk('foreign');
  await lab.start();
  await lab.zpool('create', 'other', join(lab.disks, 'foreign'));
  await lab.finish('other');
  await refuses(t, lab, pool('disks/foreign'), 2, /foreign/, /'other'/, /'tank'/);
  await lab.zdb('other');
  await refuses(t, lab, { pools: { tank: { vdevs: ['disks/missing'] } } }, 2, /missing/);
});

test('no space for create: said so, and the files are gone again', async (t) => {
  const lab = await Lab.open(t);
  const small = join(lab.directory, 'small');
  mkdirSync(small);
  const mounted = await execute('mount', ['-t', 'tmpfs', '-o', 'size=1M', 'none', small]);
  if (mounted.code !== 0) {
    return skip(t, `no mount here: ${mounted.stderr}`);
  }
  try {
    const config = { pools: { tank: { vdevs: ['small/a', 'small/b'], create: { size: '128M' } } } };
    await refuses(t, lab, config, 2, /tank/, /cannot be created/);
    t.deepEqual(readdirSync(small), []);
  } finally {
    await must('umount', [small]);
  }
});

test('a second host on the same socket, or the same disks, is refused with the pid of the first', async (t) => {
  const lab = await Lab.open(t);
  const config = { pools: { tank: { vdevs: ['disks/a'], create: { size: '128M' }, volumes: { v: { size: '16M' } } } } };
  await lab.start({ config });
  const second = await Lab.open(t);
  await refuses(t, second, { ...config, socket: lab.socket }, 2, new RegExp(`\\b${lab.pid}\\b`));
  const vdevs = [join(lab.disks, 'a')];
  await refuses(t, second, { pools: { tank: { vdevs } } }, 2, /disks\/a is in use: process \d+ has it open/);
  const client = await lab.open('tank/v');
  t.is((await client.writeAt(0, noise(4096))).errno, 0);
  client.destroy();
  await lab.stop();
  await lab.zdb('tank');
});

test('a client of another version, release or structure is told both sides, and closed; others are served', async (t) => {
  const lab = await Lab.open(t);
  await lab.start();
  const witness = await LaneClient.open(lab.socket);
  t.is(witness.reply.status, 0);
  for (const [fields, says] of [
    [{ version: version + 1 }, new RegExp(`host speaks version ${version} .* the client version ${version + 1}$`)],
    [{ version: version - 1 }, new RegExp(`host speaks version ${version} .* the client version ${version - 1}$`)],
    [{ version: 0xffffffff }, /the client version 4294967295$/],
    [{ release: '2.3.2' }, /^the host is OpenZFS 2\.4\.3, the client 2\.3\.2$/],
    [{ release: '' }, /^the host is OpenZFS 2\.4\.3, the client unnamed$/],
    [{ release: '2.4.3'.padEnd(32, '3') }, /^the host is OpenZFS 2\.4\.3, the client 2\.4\.3333/],
    [{ cmdSize: hello.cmdSize + 8 }, /^zfs_cmd_t has 13744 bytes in the host, 13752 in the client$/],
  ] as const) {
    const { raw, reply } = await LaneClient.open(lab.socket, fields);
    t.is(reply.status, Errno.EPROTO, reply.message);
    t.regex(reply.message, says);
    t.is(reply.release, '2.4.3');
    await raw.closed();
  }
  const eventsClear = 0x5a82;
  t.is((await witness.ioctl(eventsClear)).errno, 0);
  witness.close();
  t.is(await lab.zpool('list'), 'no pools available\n');
  await lab.stop();
});

/** Sends bytes to a socket and resolves when the other side has closed, or after a moment. */
async function poke(path: string, bytes: Uint8Array): Promise<void> {
  const socket = net.connect({ path });
  socket.on('error', () => {});
  socket.on('data', () => {});
  socket.write(bytes);
  await Promise.race([new Promise((resolve) => socket.on('close', resolve)), sleep(100)]);
  socket.destroy();
}

test('garbage on both sockets, cut frames, huge lengths: others are served all along', async (t) => {
  const lab = await Lab.open(t);
  const disk = lab.disk('a');
  await lab.start();
  await lab.zpool('create', '-o', 'ashift=12', 'tank', disk);
  await lab.zfs('create', '-V', '16M', 'tank/v');
  const witness = await lab.open('tank/v');
  const data = noise(65536, 2);
  await witness.writeAt(0, data);
  const huge = Buffer.alloc(64, 0xff);
  for (const path of [lab.socket, lab.nbdSocket]) {
    for (let i = 0; i < 10; i++) await poke(path, noise(1 + i * 333, i));
    await poke(path, huge);
    await poke(path, Buffer.alloc(0));
  }
  // Transmission: a wrong magic, and ranges that are not in the volume.
  const wrong = await lab.open('tank/v');
  wrong.send(noise(28, 3));
  await wrong.closed();
  const outside = await lab.open('tank/v');
  t.not((await outside.writeAt(16 * MiB - 512, noise(1024))).errno, 0);
  t.not((await outside.request({ type: 0, offset: 16 * MiB, length: 512 })).errno, 0);
  t.not((await outside.request({ type: 99, offset: 0, length: 512 })).errno, 0);
  t.true((await outside.readAt(0, data.length)).equals(data), 'the same connection goes on');
  outside.destroy();
  await t.throwsAsync(() => lab.open('tank/nothing'), { message: /there is no volume/ });
  t.true((await witness.readAt(0, data.length)).equals(data));
  t.regex(await lab.zpool('status', 'tank'), /No known data errors/);
  witness.destroy();
  await lab.finish('tank');
});

test('1,000 connections opened and dropped, and a client that does not read', async (t) => {
  const lab = await Lab.open(t);
  const disk = lab.disk('a');
  await lab.start();
  await lab.zpool('create', '-o', 'ashift=12', 'tank', disk);
  await lab.zfs('create', '-V', '64M', 'tank/v');
  const witness = await lab.open('tank/v');
  const data = noise(8 * MiB, 4);
  await witness.writeAt(0, data);
  const deaf = await lab.open('tank/v');
  deaf.socket.pause();
  for (let i = 0; i < 200; i++) deaf.sendRequest({ type: 0, offset: 0, length: 8 * MiB });
  for (let i = 0; i < 1000; i += 50) {
    const path = i % 100 === 0 ? lab.socket : lab.nbdSocket;
    const sockets = Array.from({ length: 50 }, () => net.connect({ path }).on('error', () => {}));
    await sleep(5);
    for (const socket of sockets) socket.destroy();
  }
  t.true((await witness.readAt(0, data.length)).equals(data));
  t.is((await witness.writeAt(0, data)).errno, 0);
  t.regex(await lab.zpool('status', 'tank'), /No known data errors/);
  const resident = lab.residentBytes();
  t.true(resident < 900 * MiB, `${resident} bytes resident`);
  deaf.destroy();
  witness.destroy();
  await until('connections can be made', async () => {
    const again = await Client.open(lab.address, 'tank/v').catch(() => undefined);
    again?.destroy();
    return again !== undefined;
  });
  await lab.finish('tank');
});
