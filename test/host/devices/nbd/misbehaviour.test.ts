import fs from 'node:fs';
import net from 'node:net';
import path from 'node:path';
import test, { type ExecutionContext } from 'ava';
import type { NbdDisk, NbdDiskOptions } from '../../../../host/devices/nbd/disk.ts';
import { Info, Magic, Opt, Rep, ReplyType } from '../../../../host/protocols/nbd.ts';
import { until } from '../../nbd/fixture.ts';
import { fails, pattern, readAll, same, writeAll } from '../conformance.ts';
import { scratch } from '../disks.ts';
import { connected, nbdkit, type Server, serveFile } from './servers.ts';

/** Servers that die, hang, lie, or refuse. */

const MiB = 1 << 20;
/** Short waits between tries, so that tests do not wait. */
const eager = { retryMs: [20], flapMs: [0], steadyMs: 1000 };

async function served(
  t: ExecutionContext,
  options: Partial<NbdDiskOptions> = {},
  command = nbdkit(),
): Promise<{ server: Server; disk: NbdDisk }> {
  const server = await serveFile(command, 20 * MiB);
  const disk = await connected(server.address, { backoff: eager, ...options });
  t.teardown(async () => {
    await disk.close();
    await server.remove();
  });
  return { server, disk };
}

const isReady = (disk: NbdDisk, ready = true) =>
  until(() => disk.status.isReady === ready, `the disk is ${ready ? '' : 'not '}ready`);

test('a server that is killed: ENXIO for what is open, and the next open has a connection of its own', async (t) => {
  const { server, disk } = await served(t);
  const device = disk.open();
  await writeAll(device, pattern(MiB, 1), 0);
  await device.flush();
  t.true(device.isPresent());
  await server.kill('SIGKILL');
  await until(() => !device.isPresent(), 'it is gone');
  await fails(t, 'ENXIO', () => device.read(new Uint8Array(512), 0));
  await fails(t, 'ENXIO', () => device.write(new Uint8Array(512), 0));
  await fails(t, 'ENXIO', () => device.flush());
  const error = await fails(t, 'ENXIO', () => disk.open());
  t.regex(error.message, /^\/dev\/zow\/test \(nbd\+unix:.*\) is not there: /);
  await server.start();
  await isReady(disk);
  t.false(device.isPresent(), 'what was written without a flush may be gone: it is not the same disk');
  await fails(t, 'ENXIO', () => device.write(new Uint8Array(512), 0));
  await device.close();
  const again = disk.open();
  t.true(same(await readAll(again, 0, MiB), pattern(MiB, 1)));
  await again.close();
});

test('a server that comes and goes is left alone for longer', async (t) => {
  const { server, disk } = await served(t, { backoff: { retryMs: [20], flapMs: [0, 1500], steadyMs: 600_000 } });
  const again = async () => {
    await server.kill('SIGKILL');
    await isReady(disk, false);
    const start = performance.now();
    await server.start();
    await isReady(disk);
    return performance.now() - start;
  };
  await again();
  const waitedMs = await again();
  t.true(waitedMs >= 1400, `${waitedMs} ms`);
});

test('a server that stops: requests end in time, all of them, with ENXIO', async (t) => {
  const { server, disk } = await served(t, { ioTimeoutMs: 500 });
  const device = disk.open();
  await server.kill('SIGSTOP');
  t.teardown(() => server.kill('SIGCONT'));
  const start = performance.now();
  const requests = await Promise.allSettled([
    device.read(new Uint8Array(4096), 0),
    ...[1, 2, 3].map((index) => device.write(pattern(MiB, index), index * MiB)),
    device.flush(),
  ]);
  const tookMs = performance.now() - start;
  t.true(tookMs >= 500 && tookMs < 5000, `${tookMs} ms`);
  for (const request of requests) {
    t.like(request, { status: 'rejected', reason: { code: 'ENXIO' } });
  }
  await device.close();
});

test('a process that did not listen does not take that for the server', async (t) => {
  const { disk } = await served(t, { ioTimeoutMs: 500 });
  const device = disk.open();
  const read = device.read(new Uint8Array(4096), 0) as Promise<number>;
  await new Promise(setImmediate);
  Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 1500);
  t.is(await read, 4096);
  await device.close();
});

test('a server that is not there, or stops in the handshake, is tried again', async (t) => {
  const folder = scratch();
  const socket = path.join(folder, 'nbd.sock');
  const disk = await connected(
    { kind: 'unix', path: socket, exportName: 'disk' },
    { backoff: eager, connectTimeoutMs: 300 },
  );
  t.regex((await fails(t, 'ENXIO', () => disk.open())).message, /ENOENT/);
  const silent = net.createServer();
  await new Promise<void>((resolve) => silent.listen(socket, resolve));
  await until(() => disk.status.reason?.includes('no connection within 300 ms') === true, 'it says so');
  await disk.close();
  silent.close();
  fs.rmSync(folder, { recursive: true });
});

test('errors of the server keep their meaning, and the connection', async (t) => {
  for (const code of ['EPERM', 'EIO', 'ENOMEM', 'EINVAL', 'ENOSPC'] as const) {
    const { server, disk } = await served(t, {}, (image, socket) => {
      const [program, ...args] = nbdkit('--filter=error')(image, socket);
      return [program, ...args, `error-pwrite=${code}`, 'error-pwrite-rate=100%', `error-file=${image}.fails`];
    });
    const device = disk.open();
    fs.writeFileSync(`${server.image}.fails`, '');
    await fails(t, code, () => device.write(new Uint8Array(4096), 0));
    t.true(device.isPresent());
    fs.rmSync(`${server.image}.fails`);
    t.is(await device.write(new Uint8Array(4096), 0), 4096);
    await device.close();
  }
});

test('after a failed flush, writes and flushes fail until it is opened again', async (t) => {
  const { server, disk } = await served(t, {}, (image, socket) => [
    'nbdkit',
    ...['-f', '--exit-with-parent', '-U', socket, 'eval', `get_size=stat -c %s ${image}`, 'can_write=exit 0'],
    ...['pread=dd if=/dev/zero bs=$3 count=1 2>/dev/null', 'pwrite=cat >/dev/null', 'can_flush=exit 0'],
    `flush=if [ -e ${image}.fails ]; then echo EIO no >&2; exit 1; fi`,
  ]);
  const device = disk.open();
  await device.flush();
  fs.writeFileSync(`${server.image}.fails`, '');
  await fails(t, 'EIO', () => device.flush());
  fs.rmSync(`${server.image}.fails`);
  await fails(t, 'EIO', () => device.flush());
  await fails(t, 'EIO', () => device.write(new Uint8Array(4096), 0));
  t.is(await device.read(new Uint8Array(4096), 0), 4096);
  await device.close();
  const again = disk.open();
  t.is(await again.write(new Uint8Array(4096), 0), 4096);
  await again.flush();
  await again.close();
});

test('a read-only export is opened for reading only', async (t) => {
  const { disk } = await served(t, {}, nbdkit('-r'));
  t.regex((await fails(t, 'EROFS', () => disk.open())).message, /the server exports it for reading only/);
  const device = disk.open({ readOnly: true });
  t.is(await device.read(new Uint8Array(512), 0), 512);
  await device.close();
});

test('an export that shrank while it was used is not taken', async (t) => {
  const { server, disk } = await served(t);
  const device = disk.open();
  await server.kill('SIGKILL');
  fs.truncateSync(server.image, 10 * MiB);
  await server.start();
  await until(() => disk.status.reason?.includes('has 10485760 bytes, and had 20971520') === true, 'it says why');
  await fails(t, 'ENXIO', () => disk.open());
  await device.close();
  await server.kill('SIGKILL');
  fs.truncateSync(server.image, 30 * MiB);
  await server.start();
  await isReady(disk);
  const grown = disk.open();
  t.is(grown.size(), 30 * MiB);
  await grown.close();
});

test('a server with blocks of its own says no to others, and its blocks are sectors', async (t) => {
  const filter = ['--filter=blocksize-policy'];
  const { disk } = await served(t, {}, (image, socket) => {
    const [program, ...args] = nbdkit(...filter)(image, socket);
    return [program, ...args, 'blocksize-minimum=4096', 'blocksize-preferred=64K', 'blocksize-maximum=1M'];
  });
  const device = disk.open();
  t.is(device.logicalSectorBytes, 4096);
  t.is(device.physicalSectorBytes, 4096);
  await fails(t, 'EINVAL', () => device.write(new Uint8Array(512), 0));
  t.is(await device.write(pattern(2 * MiB, 1), 0), MiB, 'and more than its maximum is short');
  await device.close();
});

/** What a scripted server does: after the handshake it answers each request with these bytes; undefined: nothing. */
type Script = (request: { cookie: Buffer; offset: bigint; length: number }) => Buffer | undefined;

interface Handshake {
  readonly greeting?: Buffer;
  /** In the place of the reply to GO. */
  readonly go?: Buffer;
}

/** A server that does the handshake right (or as told), and then what the script says. */
async function scripted(t: ExecutionContext, script: Script, handshake: Handshake = {}): Promise<NbdDisk> {
  const folder = scratch();
  const socket = path.join(folder, 'nbd.sock');
  const server = net.createServer((peer) => {
    peer.on('error', () => undefined);
    peer.write(handshake.greeting ?? Buffer.from('NBDMAGICIHAVEOPT\0\x03', 'latin1'));
    let have = Buffer.alloc(0);
    let state: 'flags' | 'options' | 'requests' = 'flags';
    peer.on('data', (chunk) => {
      have = Buffer.concat([have, chunk as Buffer]);
      for (;;) {
        if (state === 'flags' && have.length >= 4) {
          have = have.subarray(4);
          state = 'options';
        } else if (state === 'options' && have.length >= 16 && have.length >= 16 + have.readUInt32BE(12)) {
          const option = have.readUInt32BE(8);
          have = have.subarray(16 + have.readUInt32BE(12));
          if (option === Opt.STRUCTURED_REPLY) peer.write(optionReply(option, Rep.ACK));
          else {
            peer.write(handshake.go ?? Buffer.concat([exportInfo(MiB), optionReply(Opt.GO, Rep.ACK)]));
            state = 'requests';
          }
        } else if (state === 'requests' && have.length >= 28) {
          const [offset, length] = [have.readBigUInt64BE(16), have.readUInt32BE(24)];
          const answer = script({ cookie: Buffer.from(have.subarray(8, 16)), offset, length });
          have = have.subarray(28);
          if (answer !== undefined) peer.write(answer);
        } else return;
      }
    });
  });
  await new Promise<void>((resolve) => server.listen(socket, resolve));
  const disk = await connected(
    { kind: 'unix', path: socket, exportName: 'disk' },
    { backoff: { retryMs: [60_000], flapMs: [60_000], steadyMs: 60_000 }, ioTimeoutMs: 1000 },
  );
  t.teardown(async () => {
    await disk.close();
    await new Promise((resolve) => server.close(resolve));
    fs.rmSync(folder, { recursive: true });
  });
  return disk;
}

function optionReply(option: number, type: number, data: Buffer = Buffer.alloc(0)): Buffer {
  const head = Buffer.alloc(20);
  head.writeUInt32BE(Magic.OPTION_REPLY_HI, 0);
  head.writeUInt32BE(Magic.OPTION_REPLY_LO, 4);
  head.writeUInt32BE(option, 8);
  head.writeUInt32BE(type, 12);
  head.writeUInt32BE(data.length, 16);
  return Buffer.concat([head, data]);
}

function exportInfo(bytes: number): Buffer {
  const info = Buffer.alloc(12);
  info.writeUInt16BE(Info.EXPORT, 0);
  info.writeBigUInt64BE(BigInt(bytes), 2);
  info.writeUInt16BE(1 | 4, 10);
  return optionReply(Opt.GO, Rep.INFO, info);
}

function chunk(cookie: Buffer, flags: number, type: number, data: Buffer = Buffer.alloc(0)): Buffer {
  const head = Buffer.alloc(20);
  head.writeUInt32BE(Magic.STRUCTURED_REPLY, 0);
  head.writeUInt16BE(flags, 4);
  head.writeUInt16BE(type, 6);
  cookie.copy(head, 8);
  head.writeUInt32BE(data.length, 16);
  return Buffer.concat([head, data]);
}

function dataAt(offset: bigint, bytes: number): Buffer {
  const data = Buffer.alloc(8 + bytes, 0x5a);
  data.writeBigUInt64BE(offset);
  return data;
}

function failure(number: number, message = ''): Buffer {
  const data = Buffer.alloc(6 + message.length);
  data.writeUInt32BE(number);
  data.writeUInt16BE(message.length, 4);
  data.write(message, 6);
  return data;
}

const { OFFSET_DATA, OFFSET_HOLE, NONE, ERROR, BLOCK_STATUS } = ReplyType;

/** Answers to a read of 4096 bytes at 8192, each of which ends the connection. */
const wrong: Readonly<Record<string, Script>> = {
  garbage: () => Buffer.from('HTTP/1.1 400 Bad Request\r\n\r\n'),
  'a cookie of nobody': ({ offset }) => chunk(Buffer.alloc(8, 7), 1, OFFSET_DATA, dataAt(offset, 4096)),
  'an answer twice': ({ cookie, offset }) =>
    Buffer.concat([chunk(cookie, 1, OFFSET_DATA, dataAt(offset, 4096)), chunk(cookie, 1, NONE)]),
  'a simple reply to a read': ({ cookie }) => {
    const reply = Buffer.alloc(16);
    reply.writeUInt32BE(Magic.SIMPLE_REPLY);
    cookie.copy(reply, 8);
    return Buffer.concat([reply, Buffer.alloc(4096)]);
  },
  'too little': ({ cookie, offset }) => chunk(cookie, 1, OFFSET_DATA, dataAt(offset, 4095)),
  'nothing at all': ({ cookie }) => chunk(cookie, 1, NONE),
  'too much': ({ cookie, offset }) => chunk(cookie, 1, OFFSET_DATA, dataAt(offset, 4097)),
  'before it': ({ cookie, offset }) => chunk(cookie, 1, OFFSET_DATA, dataAt(offset - 1n, 4096)),
  'far away': ({ cookie }) => chunk(cookie, 1, OFFSET_DATA, dataAt(2n ** 64n - 1n, 4096)),
  'the same bytes twice': ({ cookie, offset }) =>
    Buffer.concat([
      chunk(cookie, 0, OFFSET_DATA, dataAt(offset, 2048)),
      chunk(cookie, 1, OFFSET_DATA, dataAt(offset + 1024n, 2048)),
    ]),
  'a hole of 4 GiB': ({ cookie, offset }) => {
    const data = Buffer.alloc(12, 0xff);
    data.writeBigUInt64BE(offset);
    return chunk(cookie, 1, OFFSET_HOLE, data);
  },
  'a hole with too many bytes': ({ cookie }) => chunk(cookie, 1, OFFSET_HOLE, Buffer.alloc(13)),
  'block status': ({ cookie }) => chunk(cookie, 1, BLOCK_STATUS, Buffer.alloc(12)),
  'unknown flags': ({ cookie, offset }) => chunk(cookie, 3, OFFSET_DATA, dataAt(offset, 4096)),
  'an end that is none': ({ cookie }) => chunk(cookie, 0, NONE),
  'an error without a number': ({ cookie }) => chunk(cookie, 1, ERROR, failure(0)),
  'an error with a novel': ({ cookie }) => chunk(cookie, 1, ERROR, Buffer.alloc(100_000, 1)),
  'an error that is short': ({ cookie }) => chunk(cookie, 1, ERROR, Buffer.alloc(3)),
  silence: () => undefined,
  'half an answer': ({ cookie, offset }) => chunk(cookie, 1, OFFSET_DATA, dataAt(offset, 4096)).subarray(0, 3000),
  'it shuts down': ({ cookie }) => chunk(cookie, 1, ERROR, failure(108, 'bye')),
};

for (const [title, script] of Object.entries(wrong)) {
  test(`a read is answered with ${title}: the connection ends, with ENXIO`, async (t) => {
    const disk = await scripted(t, script);
    const device = disk.open();
    const memory = new Uint8Array(12288).fill(0xaa);
    const read = async () => device.read(memory.subarray(4096, 8192), 8192);
    if (title === 'an answer twice') t.is(await read(), 4096);
    else await fails(t, 'ENXIO', read);
    await isReady(disk, false);
    t.false(device.isPresent());
    t.true(memory.subarray(0, 4096).every((byte) => byte === 0xaa));
    t.true(memory.subarray(8192).every((byte) => byte === 0xaa));
    await device.close();
  });
}

test('answers may come in pieces, out of order, with holes, and with errors that say more', async (t) => {
  const disk = await scripted(t, ({ cookie, offset, length }) => {
    if (length === 512) return chunk(cookie, 1, 0x8001, failure(28, 'full'));
    if (length === 1024) {
      return Buffer.concat([chunk(cookie, 0, 0x9999, failure(999, 'odd')), chunk(cookie, 1, NONE)]);
    }
    const hole = Buffer.alloc(12);
    hole.writeBigUInt64BE(offset);
    hole.writeUInt32BE(1000, 8);
    return Buffer.concat([
      chunk(cookie, 0, OFFSET_DATA, dataAt(offset + 2000n, 2096)),
      chunk(cookie, 0, OFFSET_DATA, dataAt(offset + 1000n, 1000)),
      chunk(cookie, 0, OFFSET_HOLE, hole),
      chunk(cookie, 1, NONE),
    ]);
  });
  const device = disk.open();
  const buffer = new Uint8Array(4096).fill(1);
  t.is(await device.read(buffer, 0), 4096);
  t.true(buffer.subarray(0, 1000).every((byte) => byte === 0));
  t.true(buffer.subarray(1000).every((byte) => byte === 0x5a));
  await fails(t, 'ENOSPC', () => device.read(new Uint8Array(512), 0));
  await fails(t, 'EIO', () => device.read(new Uint8Array(1024), 0));
  t.true(device.isPresent());
  await device.close();
});

const size = (bytes: bigint, flags: number) => {
  const info = Buffer.alloc(12);
  info.writeBigUInt64BE(bytes, 2);
  info.writeUInt16BE(flags, 10);
  return Buffer.concat([optionReply(Opt.GO, Rep.INFO, info), optionReply(Opt.GO, Rep.ACK)]);
};

const handshakes: Readonly<Record<string, readonly [Handshake, RegExp]>> = {
  'a web server': [{ greeting: Buffer.from('HTTP/1.1 400 Bad Request\r\n\r\n') }, /no NBD server/],
  'the oldstyle negotiation': [
    { greeting: Buffer.concat([Buffer.from('NBDMAGIC'), Buffer.from('00420281861253', 'hex'), Buffer.alloc(140)]) },
    /fixed newstyle/,
  ],
  'an export that it does not have': [
    { go: optionReply(Opt.GO, Rep.ERR_UNKNOWN, Buffer.from('no \x1b[31msuch')) },
    /refuses the export 'disk' \(there is none of that name: no +\[31msuch\)/,
  ],
  'TLS, which it insists on': [{ go: optionReply(Opt.GO, Rep.ERR_TLS_REQD) }, /it requires TLS/],
  'a reply of 4 GiB': [
    { go: Buffer.concat([optionReply(Opt.GO, Rep.INFO).subarray(0, 16), Buffer.alloc(4, 0xff)]) },
    /a reply to an option with 4294967295 bytes/,
  ],
  'another option': [{ go: optionReply(Opt.LIST, Rep.ACK) }, /a reply to option 3, not asked/],
  'no size': [{ go: optionReply(Opt.GO, Rep.ACK) }, /does not tell the size/],
  'a size that no number holds': [{ go: size(2n ** 63n, 1) }, /an export of 9223372036854775808 bytes/],
  'no flags': [{ go: size(1n, 0) }, /without flags/],
  'replies without an end': [
    { go: Buffer.concat(Array.from({ length: 100 }, () => exportInfo(1024))) },
    /replies to an option without an end/,
  ],
};

for (const [title, [handshake, message]] of Object.entries(handshakes)) {
  test(`the handshake with ${title}: a reason`, async (t) => {
    const disk = await scripted(t, () => undefined, handshake);
    t.regex((await fails(t, 'ENXIO', () => disk.open())).message, message);
  });
}
