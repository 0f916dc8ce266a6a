import { mkdtempSync, readdirSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import test, { type ExecutionContext } from 'ava';
import fc from 'fast-check';
import { Errno } from '../../../host/errno.ts';
import { HostClient } from '../../../host/ioctl/client.ts';
import {
  decodeHelloReply,
  encodeFrameHeader,
  encodeHello,
  encodeIoctlHead,
  encodeQuery,
  FrameType,
  helloReplyBytes,
  ioctlHeadBytes,
  QueryKind,
} from '../../../host/ioctl/protocol.ts';
import { IoctlServer, type IoctlServerOptions } from '../../../host/ioctl/server.ts';
import { defaultSocketPath, probeSocket, SocketBusyError } from '../../../host/ioctl/socket-path.ts';
import { InspectError } from '../../../host/observe/inspect-error.ts';
import { Closed, Failed, hello, LaneClient, RawClient } from './client.ts';
import * as script from './conversation.ts';
import { FakeCore, type FakeHandler } from './fake-core.ts';

const echo = 0x5a00;
const wait = 0x5a01;
const send = 0x5a02;
const receive = 0x5a03;
const large = 0x5a04;
const dies = 0x5a05;
const greedy = 0x5a06;
const heeds = 0x5a07;

const table: Record<number, FakeHandler> = {
  [echo]: async ({ src, conf, history, dstRoom }) => ({
    dst: Buffer.concat([src, conf]).subarray(0, dstRoom),
    history: history.length > 0 ? new Uint8Array(0) : history,
  }),
  [wait]: ({ interrupted }) => interrupted,
  /** Writes as many 300,000-byte records as the first word of src says to fd 1. */
  [send]: async ({ src, streams }) => {
    const record = new Uint8Array(new SharedArrayBuffer(300_000));
    for (let i = 0; i < src[0]!; i++) {
      record.fill(i);
      await streams.write(1, record);
    }
    await streams.drain();
    return {};
  },
  /** Reads fd 0 to its end in pieces of 5 bytes; dst is what came. */
  [receive]: async ({ streams }) => {
    const all: Buffer[] = [];
    const buffer = new Uint8Array(5);
    for (;;) {
      const count = await streams.read(0, buffer);
      if (count === 0) return { dst: Buffer.concat(all) };
      all.push(Buffer.from(buffer.subarray(0, count)));
    }
  },
  [large]: async ({ dstRoom }) => ({ dst: new Uint8Array(dstRoom) }),
  [dies]: async () => {
    throw new Error('the core stopped: VERIFY failed');
  },
  [heeds]: ({ signal }) =>
    new Promise((resolve) => signal?.addEventListener('abort', () => resolve({ errno: Errno.EINTR }))),
  [greedy]: async ({ dstRoom }) => ({ dst: new Uint8Array(dstRoom + 1) }),
};

interface Setup {
  readonly core: FakeCore;
  readonly server: IoctlServer;
  readonly path: string;
  readonly directory: string;
}

async function setup(t: ExecutionContext, options: IoctlServerOptions = {}): Promise<Setup> {
  const directory = mkdtempSync(join(tmpdir(), 'zow-ioctl-'));
  const path = join(directory, 'run', 'zow.sock');
  const core = new FakeCore(table);
  const server = await IoctlServer.listen(core, path, options);
  t.teardown(async () => {
    await server.close('the test is over');
    rmSync(directory, { recursive: true });
  });
  return { core, server, path, directory };
}

async function until(condition: () => boolean): Promise<void> {
  for (let i = 0; i < 500; i++) {
    if (condition()) return;
    await sleep(10);
  }
  throw new Error('it did not happen within 5 s');
}

test.serial('an ioctl carries its buffers both ways', async (t) => {
  const { core, path } = await setup(t);
  const client = await LaneClient.open(path);
  t.like(client.reply, { status: 0, minor: 1, release: '2.4.3', pid: process.pid, hostid: core.hostid });
  const src = Buffer.from('input nvlist');
  const answer = await client.ioctl(echo, {
    src,
    conf: Buffer.from('+conf'),
    history: Buffer.from('h\0'),
    dstRoom: 99,
  });
  t.is(answer.errno, 0);
  t.is(answer.dst.toString(), 'input nvlist+conf');
  const [session] = core.open_;
  t.like(session!.client, { process: hello.process, fd: 3, pid: 4242, program: 'test' });
  t.is((await client.ioctl(0x5aff)).errno, Errno.ENOTTY);
  client.close();
  await until(() => core.closed === 1);
});

test.serial('what a request brought is wiped when it is over: it may be a key', async (t) => {
  const { core, path } = await setup(t);
  const kept: Uint8Array[] = [];
  core.table.set(echo, async ({ src }) => {
    t.is(Buffer.from(src.subarray(0, 6)).toString(), 'secret');
    kept.push(src);
    return {};
  });
  core.table.set(wait, ({ src, interrupted }) => {
    kept.push(src);
    return interrupted;
  });
  const client = await LaneClient.open(path);
  // The one comes with others' bytes, the other is read where it stays.
  for (const length of [6, 100_000]) await client.ioctl(echo, { src: Buffer.alloc(length, 'secret') });
  client.request(wait, { src: Buffer.from('secret') });
  await until(() => kept.length === 3);
  client.close();
  await until(() => core.closed === 1);
  for (const src of kept) t.true(src.length >= 6 && src.every((byte) => byte === 0), `${src.length} bytes`);
});

test.serial('the socket is for its owner only, and is gone after close', async (t) => {
  const { path, server, directory } = await setup(t);
  t.is(statSync(path).mode & 0o777, 0o600);
  t.is(statSync(join(directory, 'run')).mode & 0o777, 0o700);
  t.deepEqual(readdirSync(join(directory, 'run')), ['zow.sock']);
  await server.close('over');
  t.deepEqual(readdirSync(join(directory, 'run')), []);
});

test.serial('concurrent ioctls on one descriptor use lanes', async (t) => {
  const { core, path } = await setup(t);
  const first = await LaneClient.open(path);
  const second = await LaneClient.open(path, { attachMinor: first.reply.minor });
  t.is(second.reply.minor, first.reply.minor);
  first.request(wait);
  t.is((await second.ioctl(echo, { src: Buffer.from('x'), dstRoom: 1 })).dst.toString(), 'x');
  second.close();
  const third = await LaneClient.open(path, { attachMinor: first.reply.minor });
  t.is((await third.ioctl(echo)).errno, 0);
  t.is(core.opened, 1);
  t.is(core.open_.size, 1, 'a lane that closes between ioctls does not end the session');
  first.close();
  await t.throwsAsync(third.raw.receive(1), { instanceOf: Closed });
  await until(() => core.closed === 1);
});

test.serial('lanes are refused to strangers and beyond the limit', async (t) => {
  const { path } = await setup(t, { lanesPerSessionMax: 2 });
  const first = await LaneClient.open(path);
  const stranger = await LaneClient.open(path, { attachMinor: first.reply.minor, process: 'ff'.repeat(16) });
  t.like(stranger.reply, { status: Errno.EINVAL, message: 'minor 1 is not an open of this process' });
  await LaneClient.open(path, { attachMinor: first.reply.minor });
  const third = await LaneClient.open(path, { attachMinor: first.reply.minor });
  t.is(third.reply.status, Errno.EMFILE);
  t.is((await first.ioctl(echo)).errno, 0);
});

test.serial('another version, release or structure is refused with both named', async (t) => {
  const { core, path } = await setup(t);
  const cases = [
    [{ version: 7 }, 'the host speaks version 3 of the ioctl protocol, the client version 7'],
    [{ release: '2.3.2' }, 'the host is OpenZFS 2.4.3, the client 2.3.2'],
    [{ cmdSize: 100 }, 'zfs_cmd_t has 13744 bytes in the host, 100 in the client'],
  ] as const;
  for (const [fields, message] of cases) {
    const client = await LaneClient.open(path, fields);
    t.like(client.reply, { status: Errno.EPROTO, message });
    await client.raw.closed();
  }
  t.is(core.opened, 0);
});

test.serial('a connection too many is refused', async (t) => {
  const { path } = await setup(t, { connectionsMax: 2 });
  await LaneClient.open(path);
  await LaneClient.open(path);
  const third = await RawClient.connect(path);
  t.like(decodeHelloReply(await third.receive(helloReplyBytes)), {
    status: Errno.EMFILE,
    message: 'the host has 2 connections, its limit',
  });
});

test.serial('garbage, truncation and absurd lengths end that connection and nothing else', async (t) => {
  const { core, server, path } = await setup(t);
  const witness = await LaneClient.open(path);
  const header = (type: number, length: number) => encodeFrameHeader(type, length);
  const head = (srcBytes: number) =>
    encodeIoctlHead({ request: echo, srcBytes, confBytes: 0, historyBytes: 0, dstRoom: 0, historyRoom: 0 });

  const garbage = await RawClient.connect(path);
  garbage.send(Buffer.alloc(500, 0x41));
  await garbage.closed();

  const cases: Buffer[][] = [
    [header(FrameType.ioctl, 0xffffffff)],
    [header(FrameType.ioctl, 3)],
    [header(FrameType.ioctl, ioctlHeadBytes + 13744), head(0xfffffff0)],
    [header(FrameType.ioctl, ioctlHeadBytes + 13744), head(16)],
    [header(99, 8)],
    [header(FrameType.streamData, 8)],
    [header(FrameType.streamWritten, 4)],
    [header(FrameType.query, 0xffffffff)],
    [header(FrameType.query, 3)],
    [header(FrameType.query, 4 + 8193)],
    [header(FrameType.query, 6), Buffer.from([1, 0, 0, 0, 0xff, 0xfe])],
    [header(FrameType.item, 4), Buffer.alloc(4)],
    [header(FrameType.done, 4), Buffer.alloc(4)],
  ];
  for (const [i, parts] of cases.entries()) {
    const client = await LaneClient.open(path);
    client.raw.send(...parts);
    await t.throwsAsync(client.answer(), { instanceOf: Failed }, `case ${i}`);
    await client.raw.closed();
  }
  const truncated = await LaneClient.open(path);
  truncated.raw.send(header(FrameType.ioctl, ioctlHeadBytes + 13744), head(0), Buffer.alloc(100));
  await truncated.ioctl(echo).catch(() => undefined);
  truncated.close();

  const early = await RawClient.connect(path);
  early.send(Buffer.concat([encodeHello(hello), header(FrameType.ioctl, 20)]));
  await early.closed();

  t.is((await witness.ioctl(echo)).errno, 0);
  await until(() => server.connections === 1);
  await until(() => core.open_.size === 1);
});

test.serial('queries are answered with items and an end, and errors are the end of the query only', async (t) => {
  const { core, path } = await setup(t);
  using client = await HostClient.connect(path, 'test');
  const ask = async (kind: number, text: string) => {
    const items: string[] = [];
    for await (const item of client.query({ kind, text })) items.push(item.toString('latin1'));
    return items;
  };
  t.deepEqual(await ask(QueryKind.kstats, 'zfs/*/txgs'), ['zfs/tank/txgs']);
  t.deepEqual(await ask(QueryKind.kstats, ''), ['zfs/arcstats', 'zfs/tank/io', 'zfs/tank/txgs']);
  t.deepEqual(await ask(QueryKind.kstatClear, 'zfs/tank'), []);
  t.is((await ask(QueryKind.tunables, '')).length, 1);
  t.deepEqual(await ask(QueryKind.tunableSet, 'a=b=c'), []);
  t.deepEqual(core.inspector.done, ['clear zfs/tank/io', 'clear zfs/tank/txgs', 'a=b=c']);
  const refused: [number, string, number, RegExp][] = [
    [QueryKind.kstats, 'zfs/nope', Errno.ENOENT, /^no kstat matches 'zfs\/nope'$/],
    [QueryKind.kstats, 'zfs/\0', Errno.EINVAL, /NUL/],
    [QueryKind.kstatClear, 'zfs/arcstats', Errno.EACCES, /^zfs\/arcstats has nothing to clear$/],
    [QueryKind.tunableSet, 'a', Errno.EINVAL, /name=value/],
    [QueryKind.tunableSet, 'z=1', Errno.ENOENT, /no tunable 'z'/],
    [0, '', Errno.ENOTTY, /no query 0/],
    [0xffffffff, '', Errno.ENOTTY, /no query 4294967295/],
    [QueryKind.kstats, 'x'.repeat(8193), Errno.EINVAL, /longer than 8192/],
  ];
  for (const [kind, text, errno, message] of refused) {
    const error = await t.throwsAsync(ask(kind, text), { instanceOf: InspectError, message });
    t.is(error.errno, errno);
  }
  t.deepEqual(await ask(QueryKind.kstats, 'zfs/tank/io'), ['zfs/tank/io'], 'the connection is as good as before');
  for await (const item of client.query({ kind: QueryKind.kstats, text: '' })) {
    t.is(item.toString('latin1'), 'zfs/arcstats');
    break;
  }
  t.deepEqual(await ask(QueryKind.kstats, 'zfs/tank/io'), ['zfs/tank/io'], 'what was left is not the next answer');
});

test.serial('a client that goes away in the middle of a query leaves nothing', async (t) => {
  const { core, server, path } = await setup(t);
  core.inspector.kstat = async () => Buffer.alloc(4 << 20);
  for (let i = 0; i < 5; i++) {
    const client = await LaneClient.open(path);
    client.raw.send(encodeQuery({ kind: QueryKind.kstats, text: '' }));
    await client.raw.receive(1000);
    client.close();
  }
  await until(() => server.connections === 0 && core.open_.size === 0);
  t.is(server.sessions, 0);
});

test.serial('a request while another runs on the lane is against the protocol', async (t) => {
  const { core, path } = await setup(t);
  const client = await LaneClient.open(path);
  client.request(wait);
  client.request(echo);
  await t.throwsAsync(client.answer(), { instanceOf: Failed, message: 'frame of type 1 in state running' });
  await until(() => core.closed === 1);
});

test.serial('an interrupt is for the ioctl that runs, and for nothing when it comes too late', async (t) => {
  const { path } = await setup(t);
  const interrupt = encodeFrameHeader(FrameType.interrupt, 0);
  const client = await LaneClient.open(path);
  client.raw.send(interrupt);
  client.request(heeds);
  client.raw.send(interrupt, interrupt);
  t.is((await client.answer()).errno, Errno.EINTR);
  client.raw.send(interrupt);
  t.is((await client.ioctl(echo)).errno, 0);
  client.close();
  const rude = await LaneClient.open(path, { process: 'bb'.repeat(16) });
  rude.raw.send(encodeFrameHeader(FrameType.interrupt, 4), Buffer.alloc(4));
  await t.throwsAsync(rude.answer(), { instanceOf: Failed });
});

test.serial('a client that vanishes interrupts its own ioctls only', async (t) => {
  const { core, path } = await setup(t);
  const other = await LaneClient.open(path, { process: 'aa'.repeat(16) });
  other.request(wait);
  const client = await LaneClient.open(path);
  const lane = await LaneClient.open(path, { attachMinor: client.reply.minor });
  client.request(wait);
  lane.request(wait);
  await until(() => [...core.open_].reduce((sum, session) => sum + session.running, 0) === 3);
  // The process died: all its sockets close, in any order.
  lane.close();
  client.close();
  await until(() => core.closed === 1);
  t.is([...core.open_][0]!.running, 1);
});

test.serial('1,000 connections opened and dropped leave nothing', async (t) => {
  const { core, server, path } = await setup(t);
  for (let batch = 0; batch < 10; batch++) {
    const clients = await Promise.all(Array.from({ length: 100 }, () => RawClient.connect(path)));
    for (const [i, client] of clients.entries()) {
      if (i % 3 === 0) client.send(encodeHello(hello));
      if (i % 3 === 1) client.send(encodeHello(hello).subarray(0, 50));
      client.close();
    }
  }
  const witness = await LaneClient.open(path);
  t.is((await witness.ioctl(echo)).errno, 0);
  await until(() => server.connections === 1 && core.open_.size === 1);
  t.is(server.sessions, 1);
});

test.serial('a client that stops reading holds up nobody, and its next request waits', async (t) => {
  const { core, path } = await setup(t);
  const stalled = await LaneClient.open(path);
  stalled.raw.socket.pause();
  stalled.request(large, { dstRoom: 16 * 1024 * 1024 });
  // Before the result is on its way another request would be against the protocol.
  await until(() => core.answered === 1);
  await sleep(20);
  stalled.request(large, { dstRoom: 16 * 1024 * 1024 });
  await sleep(50);
  const other = await LaneClient.open(path);
  t.is((await other.ioctl(echo)).errno, 0);
  t.is([...core.open_].length, 2);
  stalled.raw.socket.resume();
  t.is((await stalled.answer()).dst.length, 16 * 1024 * 1024);
  t.is((await stalled.answer()).dst.length, 16 * 1024 * 1024);
});

test.serial('a client that stops reading and is killed ends its session', async (t) => {
  const { core, path } = await setup(t);
  const stalled = await LaneClient.open(path);
  stalled.raw.socket.pause();
  stalled.request(large, { dstRoom: 16 * 1024 * 1024 });
  await sleep(50);
  stalled.close();
  await until(() => core.closed === 1);
  t.pass();
});

test.serial('large requests of all clients together are bounded, and do not lock out small ones', async (t) => {
  const { core, path } = await setup(t, { bufferBytesMax: 1_000_000 });
  const modest = await LaneClient.open(path);
  const stalled = await LaneClient.open(path);
  const bytes = 900_000;
  const length = ioctlHeadBytes + 13744 + bytes;
  const head = { request: echo, srcBytes: bytes, confBytes: 0, historyBytes: 0, dstRoom: 0, historyRoom: 0 };
  stalled.raw.send(encodeFrameHeader(FrameType.ioctl, length), encodeIoctlHead(head));
  await sleep(50);
  const other = await LaneClient.open(path);
  await t.throwsAsync(other.ioctl(echo, { src: Buffer.alloc(bytes) }), {
    instanceOf: Failed,
    message: 'the host has no room for more ioctl buffers',
  });
  t.is((await modest.ioctl(echo, { src: Buffer.alloc(200_000) })).errno, 0);
  stalled.close();
  await until(() => core.closed === 2);
  for (let i = 0; i < 5; i++) t.is((await modest.ioctl(echo, { src: Buffer.alloc(bytes) })).errno, 0);
});

test.serial('a stream of writes arrives whole and in order, within its window', async (t) => {
  const { path } = await setup(t);
  const client = await LaneClient.open(path);
  let received = 0;
  const records = 100;
  const answer = await client.ioctl(
    send,
    { src: Buffer.from([records]) },
    {
      write: (fd, data) => {
        t.is(fd, 1);
        for (let i = 0; i < data.length; i += 10_007) {
          if (data[i] !== Math.floor((received + i) / 300_000)) t.fail(`byte ${received + i} is ${data[i]}`);
        }
        received += data.length;
        return 0;
      },
    },
  );
  t.is(answer.errno, 0);
  t.is(received, records * 300_000);
});

test.serial('writes stop at the window when the client does not answer', async (t) => {
  const { core, path } = await setup(t);
  const client = await LaneClient.open(path);
  client.request(send, { src: Buffer.from([100]) });
  let frames = 0;
  let bytes = 0;
  const count = (async () => {
    for (;;) {
      const { payload } = await client.raw.frame();
      frames++;
      bytes += payload.length - 4;
    }
  })();
  let before = 0;
  await until(() => frames > 0);
  while (frames > before) {
    before = frames;
    await sleep(100);
  }
  t.true(frames > 4 && frames <= 16 && bytes <= 4 * 1024 * 1024, `${frames} frames, ${bytes} bytes`);
  client.close();
  await t.throwsAsync(count, { instanceOf: Closed });
  await until(() => core.closed === 1);
});

test.serial('small stream writes go out with the next, or alone, in order', async (t) => {
  const { core, path } = await setup(t);
  core.table.set(0x5a20, async ({ streams }) => {
    t.true(streams.gather(1, Buffer.from('a')));
    t.true(streams.gather(1, Buffer.from('b')));
    t.false(streams.gather(1, Buffer.alloc(5000)));
    await streams.write(1, Buffer.from('c'));
    t.true(streams.gather(1, Buffer.from('d')));
    t.false(streams.gather(2, Buffer.from('e')));
    await streams.write(2, Buffer.from('e'));
    t.true(streams.gather(1, Buffer.from('f')));
    return {};
  });
  const client = await LaneClient.open(path);
  const written: [number, string][] = [];
  const answer = await client.ioctl(
    0x5a20,
    {},
    {
      write: (fd, data) => {
        written.push([fd, data.toString()]);
        return written.length === 4 ? Errno.ENOSPC : 0;
      },
    },
  );
  t.deepEqual(written, [
    [1, 'abc'],
    [1, 'd'],
    [2, 'e'],
    [1, 'f'],
  ]);
  t.is(answer.errno, Errno.ENOSPC);
});

test.serial('an error of a stream write is reported by a later one', async (t) => {
  const { path } = await setup(t);
  const client = await LaneClient.open(path);
  let writes = 0;
  const answer = await client.ioctl(
    send,
    { src: Buffer.from([100]) },
    { write: () => (++writes === 5 ? Errno.ENOSPC : 0) },
  );
  t.is(answer.errno, Errno.ENOSPC);
  t.true(writes < 100);
  t.is((await client.ioctl(echo)).errno, 0);
});

test.serial('an error of the last stream write is reported too', async (t) => {
  const { path } = await setup(t);
  const client = await LaneClient.open(path);
  const answer = await client.ioctl(send, { src: Buffer.from([1]) }, { write: () => Errno.EPIPE });
  t.is(answer.errno, Errno.EPIPE);
});

test.serial('a core that forgets to drain does not turn a failed write into success', async (t) => {
  const { core, path } = await setup(t);
  core.table.set(0x5a20, async ({ streams }) => {
    await streams.write(1, new Uint8Array(10));
    return {};
  });
  const client = await LaneClient.open(path);
  t.is((await client.ioctl(0x5a20, {}, { write: () => Errno.ENOSPC })).errno, Errno.ENOSPC);
});

test.serial('stream reads are read(2): short, then nothing at the end', async (t) => {
  const { path } = await setup(t);
  const client = await LaneClient.open(path);
  const pieces = ['hello', ' ', 'worl', 'd', ''];
  const maxima = new Set<number>();
  const answer = await client.ioctl(
    receive,
    { dstRoom: 100 },
    {
      read: (_fd, max) => {
        maxima.add(max);
        return Buffer.from(pieces.shift()!);
      },
    },
  );
  t.is(answer.dst.toString(), 'hello world');
  t.deepEqual([...maxima], [5]);
});

test.serial('more stream data than was asked for is against the protocol', async (t) => {
  const { core, path } = await setup(t);
  const client = await LaneClient.open(path);
  await t.throwsAsync(client.ioctl(receive, {}, { read: () => Buffer.alloc(6) }), {
    message: '6 bytes of stream data where 5 were asked for',
  });
  await until(() => core.closed === 1);
});

test.serial('a client that vanishes in the middle of a stream leaves no fiber waiting', async (t) => {
  const { core, path } = await setup(t);
  const reader = await LaneClient.open(path);
  reader.request(receive);
  await reader.raw.frame();
  const writer = await LaneClient.open(path);
  writer.request(send, { src: Buffer.from([200]) });
  await writer.raw.frame();
  reader.close();
  writer.close();
  await until(() => core.closed === 2);
  t.is(core.open_.size, 0);
});

test.serial('stream data that come after the end of the ioctl do not reach its buffer', async (t) => {
  const { core, server, path } = await setup(t);
  const bytes = 128 * 1024;
  const buffer = new Uint8Array(new SharedArrayBuffer(bytes));
  core.table.set(0x5a20, async ({ streams }) => {
    try {
      await streams.read(0, buffer);
    } catch {
      buffer.fill(0);
    }
    return {};
  });
  const client = await LaneClient.open(path);
  client.request(0x5a20);
  await client.raw.frame();
  const half = Buffer.alloc(bytes / 2, 1);
  client.raw.send(encodeFrameHeader(FrameType.streamData, 4 + bytes), Buffer.alloc(4), half);
  await until(() => buffer[half.length - 1] === 1);
  const closed = server.close('the host is shutting down');
  client.raw.send(half);
  await closed;
  await client.raw.closed();
  t.true(buffer.every((byte) => byte === 0));
});

test.serial('a core that is gone tells the client why', async (t) => {
  const { path } = await setup(t);
  const client = await LaneClient.open(path);
  await t.throwsAsync(client.ioctl(dies), { instanceOf: Failed, message: 'the core stopped: VERIFY failed' });
  const second = await LaneClient.open(path);
  await t.throwsAsync(second.ioctl(greedy), { instanceOf: Failed, message: /more than the client has room for/ });
});

test.serial('closing tells clients, interrupts ioctls and waits for the sessions', async (t) => {
  const { core, server, path } = await setup(t);
  const busy = await LaneClient.open(path);
  const idle = await LaneClient.open(path);
  busy.request(wait);
  await until(() => [...core.open_].some((session) => session.running === 1));
  await server.close('the host is shutting down');
  t.is(core.closed, 2);
  for (const client of [busy, idle]) {
    await t.throwsAsync(client.answer(), { instanceOf: Failed, message: 'the host is shutting down' });
  }
});

test.serial('a second server on the same socket is refused with the pid of the first', async (t) => {
  const { core, path, directory } = await setup(t);
  const error = await t.throwsAsync(IoctlServer.listen(new FakeCore({}), path), { instanceOf: SocketBusyError });
  t.is((error as SocketBusyError).pid, process.pid);
  t.regex(error!.message, new RegExp(`pid ${process.pid} `));
  t.deepEqual(readdirSync(join(directory, 'run')), ['zow.sock']);
  t.is(core.opened, 0, 'asking who is there opens nothing');
  t.is((await (await LaneClient.open(path)).ioctl(echo)).errno, 0);
});

test.serial('of two servers that start together one succeeds', async (t) => {
  const directory = mkdtempSync(join(tmpdir(), 'zow-ioctl-'));
  const path = join(directory, 'zow.sock');
  const results = await Promise.allSettled(
    Array.from({ length: 5 }, () => IoctlServer.listen(new FakeCore(table), path)),
  );
  const winners = results.filter((result) => result.status === 'fulfilled');
  t.is(winners.length, 1);
  for (const result of results) {
    if (result.status === 'rejected') t.true(result.reason instanceof SocketBusyError);
  }
  t.is((await (await LaneClient.open(path)).ioctl(echo)).errno, 0);
  await winners[0]!.value.close('over');
  t.deepEqual(readdirSync(directory), []);
  rmSync(directory, { recursive: true });
});

test.serial('a stale socket is replaced, a foreign listener and a file are not', async (t) => {
  const directory = mkdtempSync(join(tmpdir(), 'zow-ioctl-'));
  t.teardown(() => rmSync(directory, { recursive: true }));
  const path = join(directory, 'zow.sock');

  // What a killed host leaves: a bound name and no listener. Node unlinks what it closes, so link it elsewhere first.
  const { linkSync } = await import('node:fs');
  const dead = createServer();
  await new Promise<void>((resolve) => dead.listen(join(directory, 'bound'), resolve));
  linkSync(join(directory, 'bound'), path);
  await new Promise((resolve) => dead.close(resolve));
  t.true(statSync(path).isSocket());
  t.is(await probeSocket(path), undefined);
  const server = await IoctlServer.listen(new FakeCore(table), path);
  t.is((await (await LaneClient.open(path)).ioctl(echo)).errno, 0);
  await server.close('over');

  const foreign = createServer((socket) => socket.resume().end('HTTP/1.1 400 Bad Request\r\n\r\n'));
  await new Promise<void>((resolve) => foreign.listen(path, resolve));
  const error = await t.throwsAsync(IoctlServer.listen(new FakeCore(table), path), { instanceOf: SocketBusyError });
  t.is((error as SocketBusyError).pid, undefined);
  await new Promise((resolve) => foreign.close(resolve));

  writeFileSync(path, 'data');
  await t.throwsAsync(IoctlServer.listen(new FakeCore(table), path), { message: /exists and is not a socket/ });
  const long = join(directory, 'x'.repeat(120));
  await t.throwsAsync(IoctlServer.listen(new FakeCore(table), long), { message: /at most 107 bytes/ });
  t.deepEqual(readdirSync(directory), ['zow.sock']);
});

test.serial('random bytes after a good hello never disturb another client', async (t) => {
  const { path, core } = await setup(t);
  const witness = await LaneClient.open(path);
  const frame = fc.tuple(fc.integer({ min: 0, max: 12 }), fc.oneof(fc.integer({ min: 0, max: 40 }), fc.nat()));
  await fc.assert(
    fc.asyncProperty(fc.array(fc.tuple(frame, fc.uint8Array({ maxLength: 64 })), { maxLength: 4 }), async (frames) => {
      const client = await LaneClient.open(path);
      for (const [[type, length], bytes] of frames) client.raw.send(encodeFrameHeader(type, length), bytes);
      client.raw.socket.end();
      await client.raw.closed();
      t.is((await witness.ioctl(echo)).errno, 0);
    }),
    { numRuns: 100 },
  );
  await until(() => core.open_.size === 1);
});

/** A server for `conversation`. */
async function conversational(t: ExecutionContext): Promise<{ core: FakeCore; path: string }> {
  const core = new FakeCore(script.handlers, { cmdSize: script.cmdSize });
  const directory = mkdtempSync(join(tmpdir(), 'zow-ioctl-'));
  const path = join(directory, 'zow.sock');
  const server = await IoctlServer.listen(core, path);
  t.teardown(async () => {
    await server.close('the test is over');
    rmSync(directory, { recursive: true });
  });
  return { core, path };
}

test.serial('frames mean the same wherever they are cut', async (t) => {
  const { path, core } = await conversational(t);
  const steps = script.conversation();
  // What the server says after each step: reply; result; a stream read; a stream write; result; two items and done; result.
  const answers = [
    helloReplyBytes,
    8 + 16 + 64 + 9,
    16,
    8 + 4 + 5,
    8 + 16 + 64 + 5,
    8 + 11 + 8 + 13 + 12,
    8 + 16 + 64 + 8,
  ];
  const whole = async (cuts: number[]) => {
    const client = await RawClient.connect(path);
    const heard: Buffer[] = [];
    for (const [i, step] of steps.entries()) {
      let offset = 0;
      for (const cut of cuts) {
        client.send(step.subarray(offset, offset + cut));
        offset += cut;
        await sleep(1);
        if (offset >= step.length) break;
      }
      if (offset < step.length) client.send(step.subarray(offset));
      heard.push(Buffer.from(await client.receive(answers[i]!)));
    }
    client.close();
    // The minor differs from session to session.
    heard[0]!.fill(0, 52, 56);
    return Buffer.concat(heard);
  };
  const expected = await whole([]);
  t.true(expected.includes('sourcecnf') && expected.includes('zfs/tank/txgs') && expected.includes('againcnf'));
  await fc.assert(
    fc.asyncProperty(fc.array(fc.integer({ min: 1, max: 30 }), { maxLength: 6 }), async (cuts) => {
      t.true((await whole(cuts)).equals(expected));
    }),
    { numRuns: 20 },
  );
  await until(() => core.open_.size === 0);
});

test.serial('a conversation with flipped, lost and doubled bytes harms nobody else', async (t) => {
  const { path, core } = await conversational(t);
  const bytes = Buffer.concat(script.conversation());
  // Of another process: a lane of its own session may break that session.
  const witness = await LaneClient.open(path, { cmdSize: script.cmdSize, process: 'ee'.repeat(16) });
  const edit = fc.tuple(fc.nat(bytes.length - 1), fc.integer({ min: 0, max: 255 }), fc.integer({ min: 0, max: 3 }));
  await fc.assert(
    fc.asyncProperty(fc.array(edit, { minLength: 1, maxLength: 5 }), async (edits) => {
      let mutated = Buffer.from(bytes);
      for (const [at, value, kind] of edits) {
        if (kind <= 1) mutated[at % mutated.length] = value;
        else if (kind === 2) mutated = Buffer.concat([mutated.subarray(0, at), mutated.subarray(at + (value % 9))]);
        else mutated = Buffer.concat([mutated.subarray(0, at), mutated.subarray(Math.max(0, at - value))]);
      }
      const client = await RawClient.connect(path);
      client.send(mutated.subarray(0, 112));
      client.send(mutated.subarray(112));
      client.socket.end();
      await client.closed();
      t.is((await witness.ioctl(script.echo)).errno, 0);
    }),
    { numRuns: 300 },
  );
  await until(() => core.open_.size === 1);
});

test.serial('the socket is found where the programs look', (t) => {
  t.is(defaultSocketPath({ ZOW_SOCKET: 'a/b.sock' }, 0), 'a/b.sock');
  t.is(defaultSocketPath({ XDG_RUNTIME_DIR: '/run/user/0' }, 0), '/run/zow/zow.sock');
  t.is(defaultSocketPath({ XDG_RUNTIME_DIR: '/run/user/7' }, 7), '/run/user/7/zow.sock');
  t.is(defaultSocketPath({ ZOW_SOCKET: '' }, 7), undefined);
});
