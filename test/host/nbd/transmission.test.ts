import test from 'ava';
import { Errno, ErrnoError } from '../../../host/errno.ts';
import type { ReplyStyle } from '../../../host/nbd/reply.ts';
import { Cmd, CmdFlag, NbdErrno, ReplyType } from '../../../host/protocols/nbd.ts';
import { Client, encodeRequest } from './client.ts';
import { pattern, serve, until } from './fixture.ts';

const MiB = 1 << 20;
const styles: ReplyStyle[] = ['simple', 'structured', 'extended'];

for (const style of styles) {
  test(`${style}: write, read back, flush, trim, zeroes, cache`, async (t) => {
    const { unix, provider } = await serve(t);
    const volume = provider.volumes.get('tank/vm0')!;
    const client = await Client.open(unix, 'tank/vm0', style);
    const data = pattern(300_000);
    t.is((await client.writeAt(12_345, data)).errno, 0);
    t.deepEqual(await client.readAt(12_345, data.length), data);
    t.is((await client.request({ type: Cmd.FLUSH })).errno, 0);
    t.is(volume.calls.flush, 1);
    t.is(volume.calls.fua, 0);
    t.is((await client.writeAt(0, data.subarray(0, 10), CmdFlag.FUA)).errno, 0);
    t.is(volume.calls.fua, 1);
    t.is((await client.request({ type: Cmd.TRIM, offset: 32768, length: 65536, flags: CmdFlag.FUA })).errno, 0);
    t.is(volume.calls.fua, 2);
    t.deepEqual(await client.readAt(32768, 65536), Buffer.alloc(65536));
    t.is((await client.request({ type: Cmd.WRITE_ZEROES, offset: 20_000, length: 100 })).errno, 0);
    t.is(volume.calls.allocate, 0);
    const noHole = CmdFlag.NO_HOLE | CmdFlag.FUA;
    t.is((await client.request({ type: Cmd.WRITE_ZEROES, offset: 20_000, length: 100, flags: noHole })).errno, 0);
    t.is(volume.calls.allocate, 1);
    t.is(volume.calls.fua, 3);
    t.deepEqual(await client.readAt(20_000, 100), Buffer.alloc(100));
    t.deepEqual(await client.readAt(20_100, 8), data.subarray(20_100 - 12_345, 20_108 - 12_345));
    const reads = volume.calls.read;
    t.is((await client.request({ type: Cmd.CACHE, offset: 1, length: 3 * MiB })).errno, 0);
    t.is(volume.calls.read, reads + 3, 'without prefetch: read in pieces');
    client.destroy();
  });

  test(`${style}: 32 MiB both ways, through a socket that splits as it likes`, async (t) => {
    const { tcp } = await serve(t);
    const client = await Client.open(tcp, 'tank/vm0', style);
    const data = pattern(32 * MiB);
    t.is((await client.writeAt(MiB + 1, data)).errno, 0);
    t.true((await client.readAt(MiB + 1, 32 * MiB)).equals(data));
    client.destroy();
  });

  test(`${style}: every invalid request has its error, and the connection goes on`, async (t) => {
    const { unix, provider } = await serve(t);
    provider.snapshot('tank/vm0@s');
    const size = 64 * MiB;
    const client = await Client.open(unix, 'tank/vm0', style);
    const reader = await Client.open(unix, 'tank/vm0@s', style);
    const { EINVAL, ENOSPC, EPERM, ENOTSUP, EOVERFLOW } = NbdErrno;
    const payload = Buffer.alloc(512);
    const w = style === 'extended' ? CmdFlag.PAYLOAD_LEN : 0;
    const cases: [string, Client, Parameters<Client['sendRequest']>[0], number][] = [
      ['unknown command', client, { type: 99, length: 10 }, EINVAL],
      ['unknown flag', client, { type: Cmd.READ, flags: 0x8000, length: 10 }, EINVAL],
      ['NO_HOLE on READ', client, { type: Cmd.READ, flags: CmdFlag.NO_HOLE, length: 10 }, EINVAL],
      ['DF on WRITE', client, { type: Cmd.WRITE, flags: CmdFlag.DF | w, length: 512, payload }, EINVAL],
      ['REQ_ONE on TRIM', client, { type: Cmd.TRIM, flags: CmdFlag.REQ_ONE, length: 512 }, EINVAL],
      ['FAST_ZERO on TRIM', client, { type: Cmd.TRIM, flags: CmdFlag.FAST_ZERO, length: 512 }, EINVAL],
      ['READ of nothing', client, { type: Cmd.READ }, EINVAL],
      ['WRITE of nothing', client, { type: Cmd.WRITE, flags: w }, EINVAL],
      ['TRIM of nothing', client, { type: Cmd.TRIM }, EINVAL],
      ['READ over the end', client, { type: Cmd.READ, offset: size - 1, length: 2 }, EINVAL],
      ['READ far out', client, { type: Cmd.READ, offset: 2 ** 53 - 1, length: 2 }, EINVAL],
      ['CACHE over the end', client, { type: Cmd.CACHE, offset: size - 1, length: 2 }, EINVAL],
      ['WRITE over the end', client, { type: Cmd.WRITE, flags: w, offset: size - 1, length: 512, payload }, ENOSPC],
      ['TRIM over the end', client, { type: Cmd.TRIM, offset: size, length: 1 }, EINVAL],
      ['ZEROES over the end', client, { type: Cmd.WRITE_ZEROES, offset: 0, length: size + 1 }, ENOSPC],
      ['FLUSH with a range', client, { type: Cmd.FLUSH, offset: 1 }, EINVAL],
      ['READ too large', client, { type: Cmd.READ, length: 32 * MiB + 1 }, EINVAL],
      [
        'WRITE too large',
        client,
        { type: Cmd.WRITE, flags: w, length: 32 * MiB + 1, payload: Buffer.alloc(32 * MiB + 1) },
        EINVAL,
      ],
      [
        'fast zeroes that allocate',
        client,
        { type: Cmd.WRITE_ZEROES, flags: CmdFlag.FAST_ZERO | CmdFlag.NO_HOLE, length: 512 },
        ENOTSUP,
      ],
      ['BLOCK_STATUS without context', client, { type: Cmd.BLOCK_STATUS, length: 512 }, EINVAL],
      ['WRITE to a snapshot', reader, { type: Cmd.WRITE, flags: w, length: 512, payload }, EPERM],
      ['TRIM of a snapshot', reader, { type: Cmd.TRIM, length: 512 }, EPERM],
      ['ZEROES to a snapshot', reader, { type: Cmd.WRITE_ZEROES, length: 512 }, EPERM],
      [
        'DF too large',
        client,
        { type: Cmd.READ, flags: CmdFlag.DF, length: 32 * MiB + 1 },
        style === 'simple' ? EINVAL : EOVERFLOW,
      ],
    ];
    if (style === 'simple') cases.push(['DF', client, { type: Cmd.READ, flags: CmdFlag.DF, length: 512 }, EINVAL]);
    if (style === 'extended') {
      cases.push(['payload of TRIM', client, { type: Cmd.TRIM, flags: w, length: 512, payload }, EINVAL]);
      cases.push(['READ beyond 2^53', client, { type: Cmd.READ, offset: 5, length: (1n << 64n) - 1n }, EINVAL]);
    } else {
      cases.push(['PAYLOAD_LEN', client, { type: Cmd.READ, flags: CmdFlag.PAYLOAD_LEN, length: 512 }, EINVAL]);
    }
    for (const [what, by, request, errno] of cases) {
      const reply = await by.request(request);
      t.is(reply.errno, errno, what);
      if (style !== 'simple') t.true(reply.message.length > 5, what);
    }
    t.is((await client.readAt(size - 10, 10)).length, 10);
    t.is((await reader.readAt(size - 10, 10)).length, 10);
    t.is((await client.request({ type: Cmd.WRITE_ZEROES, flags: CmdFlag.FAST_ZERO, length: 512 })).errno, 0);
    client.destroy();
    reader.destroy();
  });

  test(`${style}: errors of the volume`, async (t) => {
    const { unix, provider } = await serve(t);
    const volume = provider.volumes.get('tank/vm0')!;
    const client = await Client.open(unix, 'tank/vm0', style);
    const expected: [number, number][] = [
      [Errno.EIO, NbdErrno.EIO],
      [Errno.ENOSPC, NbdErrno.ENOSPC],
      [Errno.EDQUOT, NbdErrno.ENOSPC],
      [Errno.EROFS, NbdErrno.EPERM],
      [Errno.EACCES, NbdErrno.EPERM],
      [Errno.ENOMEM, NbdErrno.ENOMEM],
      [Errno.EOPNOTSUPP, NbdErrno.ENOTSUP],
      [Errno.ESHUTDOWN, NbdErrno.ESHUTDOWN],
      [Errno.EOVERFLOW, NbdErrno.EOVERFLOW],
      [Errno.EINVAL, NbdErrno.EINVAL],
      [Errno.ENXIO, NbdErrno.EIO],
    ];
    for (const [errno, wire] of expected) {
      volume.hook = () => {
        throw new ErrnoError(errno, 'injected');
      };
      t.is((await client.request({ type: Cmd.READ, length: 4096 })).errno, wire);
      t.is((await client.writeAt(0, Buffer.alloc(4096))).errno, wire);
      t.is((await client.request({ type: Cmd.FLUSH })).errno, wire);
      t.is((await client.request({ type: Cmd.TRIM, length: 4096 })).errno, wire);
      t.is((await client.request({ type: Cmd.WRITE_ZEROES, length: 4096 })).errno, wire);
      t.is((await client.request({ type: Cmd.CACHE, length: 4096 })).errno, wire);
    }
    volume.hook = undefined;
    t.is((await client.readAt(0, 512)).length, 512);
    client.destroy();
  });
}

test('block status: holes are holes', async (t) => {
  const { unix } = await serve(t);
  for (const style of ['structured', 'extended'] as const) {
    const client = await Client.open(unix, 'tank/vm0', style, true);
    await client.request({ type: Cmd.WRITE_ZEROES, length: 64 * MiB });
    await client.writeAt(32_768, Buffer.alloc(16_384, 1));
    await client.writeAt(MiB, Buffer.alloc(1));
    const extents = async (offset: number, length: number, flags = 0, payload?: Buffer) => {
      const reply = await client.request({
        type: Cmd.BLOCK_STATUS,
        offset,
        length,
        flags,
        ...(payload && { payload }),
      });
      t.is(reply.errno, 0);
      t.is(reply.data.readUInt32BE(0), 1, 'context id');
      const list: [number, number][] = [];
      if (style === 'structured') {
        t.is(reply.type, ReplyType.BLOCK_STATUS);
        for (let at = 4; at < reply.data.length; at += 8) {
          list.push([reply.data.readUInt32BE(at), reply.data.readUInt32BE(at + 4)]);
        }
      } else {
        t.is(reply.type, ReplyType.BLOCK_STATUS_EXT);
        t.is(reply.data.readUInt32BE(4), (reply.data.length - 8) / 16);
        for (let at = 8; at < reply.data.length; at += 16) {
          list.push([Number(reply.data.readBigUInt64BE(at)), Number(reply.data.readBigUInt64BE(at + 8))]);
        }
      }
      return list;
    };
    t.deepEqual(await extents(0, 64 * MiB), [
      [32_768, 3],
      [16_384, 0],
      [MiB - 49_152, 3],
      [16_384, 0],
      [63 * MiB - 16_384, 3],
    ]);
    t.deepEqual(await extents(32_000, 1000), [
      [768, 3],
      [232, 0],
    ]);
    t.deepEqual(await extents(32_000, 1000, CmdFlag.REQ_ONE), [[768, 3]]);
    if (style === 'extended') {
      const filter = Buffer.alloc(12);
      filter.writeBigUInt64BE(1000n, 0);
      filter.writeUInt32BE(1, 8);
      const flags = CmdFlag.PAYLOAD_LEN;
      t.deepEqual(await extents(32_000, 12, flags, filter), [
        [768, 3],
        [232, 0],
      ]);
      filter.writeUInt32BE(7, 8);
      const send = (payload: Buffer, offset = 0) =>
        client.request({ type: Cmd.BLOCK_STATUS, offset, length: payload.length, flags, payload });
      t.is((await send(filter)).errno, NbdErrno.EINVAL, 'a context that was not selected');
      filter.writeUInt32BE(1, 8);
      t.is((await send(filter, 64 * MiB)).errno, NbdErrno.EINVAL, 'out of range');
      t.is((await send(Buffer.alloc(20))).errno, NbdErrno.EINVAL, 'a payload of the wrong size');
    }
    client.destroy();
  }
});

test('more extents than one reply holds: it stops early', async (t) => {
  const { unix, provider } = await serve(t);
  provider.add('tank/fine', 16 * MiB, 512);
  const volume = provider.volumes.get('tank/fine')!;
  for (let block = 0; block < volume.allocated.length; block += 2) volume.allocated[block] = 1;
  const client = await Client.open(unix, 'tank/fine', 'structured', true);
  const reply = await client.request({ type: Cmd.BLOCK_STATUS, length: 16 * MiB });
  t.is(reply.data.length, 4 + 8 * 4096);
  client.destroy();
});

test('a volume beyond 4 GiB: extents and ranges of 64 bits', async (t) => {
  const { unix, provider } = await serve(t);
  const volume = provider.add('tank/big', 4096);
  const size = 5 * 2 ** 40;
  volume.size = size; // only asked for its status
  const zeroed: [number, number][] = [];
  const open = provider.open.bind(provider);
  provider.open = async (name, options) =>
    Object.assign(await open(name, options), {
      blockStatus: async (_offset: number, length: number) => [{ length, hole: true }],
      zero: async (offset: number, length: number) => {
        zeroed.push([offset, length]);
      },
    });
  const old = await Client.open(unix, 'tank/big', 'structured', true);
  t.is(old.size, size);
  const short = await old.request({ type: Cmd.BLOCK_STATUS, offset: 2 ** 41, length: 0xffff_ffff });
  t.is(short.data.readUInt32BE(4), 0xffff_0000);
  const wide = await Client.open(unix, 'tank/big', 'extended', true);
  const long = await wide.request({ type: Cmd.BLOCK_STATUS, length: size });
  t.is(Number(long.data.readBigUInt64BE(8)), size);
  t.is((await wide.request({ type: Cmd.WRITE_ZEROES, offset: 512, length: size - 512 })).errno, 0);
  t.deepEqual(zeroed, [[512, size - 512]]);
  old.destroy();
  wide.destroy();
});

test('replies come in completion order, and many requests run at once', async (t) => {
  const { unix, provider } = await serve(t);
  const volume = provider.volumes.get('tank/vm0')!;
  const client = await Client.open(unix, 'tank/vm0');
  let release = () => {};
  const gate = new Promise<void>((resolve) => {
    release = resolve;
  });
  volume.hook = (_operation, offset) => (offset === 0 ? gate : undefined);
  const first = client.sendRequest({ type: Cmd.READ, offset: 0, length: 512 });
  const others: bigint[] = [];
  for (let i = 1; i < 50; i++) others.push(client.sendRequest({ type: Cmd.READ, offset: i * 512, length: 512 }));
  for (const cookie of others) t.is((await client.reply(512)).cookie, cookie);
  release();
  t.is((await client.reply(512)).cookie, first);
  client.destroy();
});

test('requests beyond the bound wait in the socket', async (t) => {
  const { unix, provider, server } = await serve(t, { limits: { requestsPerConnection: 8 } });
  const volume = provider.volumes.get('tank/vm0')!;
  const client = await Client.open(unix, 'tank/vm0');
  let waiting: (() => void)[] = [];
  volume.hook = () => new Promise((resolve) => waiting.push(resolve));
  for (let i = 0; i < 100; i++) client.sendRequest({ type: Cmd.READ, offset: i * 4096, length: 4096 });
  await until(() => waiting.length === 8, 'eight started');
  await new Promise((resolve) => setTimeout(resolve, 50));
  t.is(waiting.length, 8);
  t.is(server.metrics.inFlight, 8);
  for (let done = 0; done < 100; ) {
    const batch = waiting;
    waiting = [];
    for (const resolve of batch) resolve();
    done += batch.length;
    t.true(batch.length <= 8);
    await new Promise((resolve) => setImmediate(resolve));
  }
  volume.hook = undefined;
  for (let i = 0; i < 100; i++) t.is((await client.reply(4096)).errno, 0);
  client.destroy();
});

test('a client that does not read its replies holds its own budget and no more', async (t) => {
  const poolBytes = 32 * MiB;
  const { unix, provider, server } = await serve(t, {
    provider: { poolBytes },
    limits: { bytesPerConnection: 8 * MiB, startBytes: 8 * MiB },
  });
  const stuck = await Client.open(unix, 'tank/vm0');
  stuck.socket.pause();
  for (let i = 0; i < 1000; i++) stuck.sendRequest({ type: Cmd.READ, offset: (i % 32) * MiB, length: MiB });
  await until(() => provider.buffers.leasedBytes > 4 * MiB, 'budget filling');
  const before = process.memoryUsage();
  const other = await Client.open(unix, 'tank/vm0');
  for (let i = 0; i < 200; i++) {
    t.is((await other.readAt(i * 1000, 200_000)).length, 200_000);
    t.true(provider.buffers.leasedBytes <= 9 * MiB);
  }
  t.true(server.metrics.inFlight <= 9);
  const after = process.memoryUsage();
  t.true(after.external - before.external < 64 * MiB, 'nothing piles up outside of the pool');
  stuck.destroy();
  await until(() => provider.buffers.leasedBytes === 0, 'its buffers came back');
  other.destroy();
});

test('a client gets more memory as it takes its replies', async (t) => {
  const { unix, provider } = await serve(t, { limits: { bytesPerConnection: 8 * MiB, startBytes: MiB } });
  const client = await Client.open(unix, 'tank/vm0');
  const { buffers } = provider;
  let most = 0;
  const volume = provider.volumes.get('tank/vm0')!;
  volume.hook = async () => {
    most = Math.max(most, buffers.leasedBytes);
  };
  const round = async () => {
    most = 0;
    for (let i = 0; i < 64; i++) client.sendRequest({ type: Cmd.READ, offset: i * 65_536, length: MiB / 4 });
    for (let i = 0; i < 64; i++) t.is((await client.reply(MiB / 4)).errno, 0);
  };
  client.socket.pause();
  for (let i = 0; i < 64; i++) client.sendRequest({ type: Cmd.READ, length: MiB / 4 });
  await until(() => volume.calls.read >= 4, 'first reads');
  await new Promise((resolve) => setTimeout(resolve, 50));
  // What its socket has taken it has earned.
  t.true(buffers.leasedBytes <= 2 * MiB, `${buffers.leasedBytes}`);
  client.socket.resume();
  for (let i = 0; i < 64; i++) t.is((await client.reply(MiB / 4)).errno, 0);
  await round();
  t.true(most > 4 * MiB, `${most}`);
  client.destroy();
});

test('clients that never read do not keep the others of their zpool waiting', async (t) => {
  const { unix, provider, server } = await serve(t, {
    provider: { poolBytes: 16 * MiB },
    limits: { bytesPerConnection: 4 * MiB, startBytes: 4 * MiB, stallMs: 600_000 },
  });
  const stuck = await Promise.all(Array.from({ length: 3 }, () => Client.open(unix, 'tank/vm0')));
  for (const client of stuck) {
    client.socket.pause();
    for (let i = 0; i < 100; i++) client.sendRequest({ type: Cmd.READ, offset: i * MiB, length: MiB / 2 });
  }
  await until(() => provider.buffers.leasedBytes >= 6 * MiB, 'they have three quarters of the share');
  await new Promise((resolve) => setTimeout(resolve, 50));
  t.true(provider.buffers.leasedBytes < 8 * MiB, 'and no more');
  const other = await Client.open(unix, 'tank/vm0');
  const cookies = Array.from({ length: 50 }, (_, i) => {
    return other.sendRequest({ type: Cmd.READ, offset: i * 65_536, length: MiB / 4 });
  });
  for (const cookie of cookies) t.is((await other.reply(MiB / 4)).cookie, cookie);
  t.is((await other.writeAt(MiB, pattern(MiB))).errno, 0);
  t.is(server.metrics.connections.stalled, 0);
  for (const client of [...stuck, other]) client.destroy();
});

test('a client that does not send the rest of its data is cut when others need the memory', async (t) => {
  const { unix, provider, server } = await serve(t, {
    provider: { poolBytes: 4 * MiB },
    limits: { stallMs: 200 },
  });
  const stuck = await Client.open(unix, 'tank/vm0');
  stuck.send(encodeRequest({ type: Cmd.WRITE, cookie: 1n, length: 2 * MiB, style: 'simple' }));
  stuck.send(Buffer.alloc(1000));
  await until(() => provider.buffers.leasedBytes === 2 * MiB, "all of the zpool's share taken");
  await new Promise((resolve) => setTimeout(resolve, 600));
  t.is(server.metrics.connections.stalled, 0, 'nobody needs it yet');
  const other = await Client.open(unix, 'tank/vm0');
  t.is((await other.readAt(0, 4096)).length, 4096);
  t.is(server.metrics.connections.stalled, 1);
  await stuck.closed();
  other.destroy();
});

test('a pool smaller than the largest request lowers what is announced', async (t) => {
  const { unix } = await serve(t, { provider: { poolBytes: 10 * MiB } });
  const client = await Client.open(unix, 'tank/vm0');
  t.is(client.blockSizes!.maximum, 4 * MiB);
  t.is((await client.readAt(0, 4 * MiB)).length, 4 * MiB);
  t.is((await client.request({ type: Cmd.READ, length: 4 * MiB + 1 })).errno, NbdErrno.EINVAL);
  client.destroy();
});

test('a zpool that does not answer keeps no memory from others', async (t) => {
  const { unix, provider, server } = await serve(t, { provider: { poolBytes: 8 * MiB } });
  const suspended = provider.add('data/vol', 64 * MiB);
  const paused = await Client.open(unix, 'tank/vm0'); // a guest at rest, which must not be cut for what data does
  let release = () => {};
  const gate = new Promise<void>((resolve) => {
    release = resolve;
  });
  suspended.hook = () => gate;
  const stuck = await Promise.all(Array.from({ length: 8 }, () => Client.open(unix, 'data/vol')));
  for (const client of stuck) for (let i = 0; i < 10; i++) client.sendRequest({ type: Cmd.READ, length: MiB });
  await until(() => provider.buffers.leasedBytes === 4 * MiB, 'its share is taken');
  const other = await Client.open(unix, 'tank/vm0');
  for (let i = 0; i < 20; i++) t.is((await other.readAt(0, 3 * MiB)).length, 3 * MiB);
  release();
  for (const client of stuck) for (let i = 0; i < 10; i++) t.is((await client.reply(MiB)).errno, 0);
  t.is((await paused.readAt(0, 512)).length, 512);
  t.is(server.metrics.connections.stalled, 0);
  for (const client of [...stuck, other, paused]) client.destroy();
});

test('many clients share a small pool', async (t) => {
  const { unix, provider } = await serve(t, { provider: { poolBytes: 2 * MiB } });
  const data = pattern(MiB);
  await Promise.all(
    Array.from({ length: 16 }, async (_, i) => {
      const client = await Client.open(unix, 'tank/vm0', i % 2 === 0 ? 'simple' : 'structured');
      for (let round = 0; round < 8; round++) {
        const offset = i * 2 * MiB;
        const piece = data.subarray(round, round + 700_000);
        t.is((await client.writeAt(offset, piece)).errno, 0);
        t.true((await client.readAt(offset, piece.length)).equals(piece));
        t.true(provider.buffers.leasedBytes <= 2 * MiB);
      }
      client.destroy();
    }),
  );
});

test('DISC waits for what is in flight', async (t) => {
  const { unix, provider, server } = await serve(t);
  const volume = provider.volumes.get('tank/vm0')!;
  const client = await Client.open(unix, 'tank/vm0');
  volume.hook = () => new Promise((resolve) => setTimeout(resolve, 50));
  const cookie = client.sendRequest({ type: Cmd.WRITE, length: 512, payload: pattern(512) });
  client.sendRequest({ type: Cmd.DISC });
  client.sendRequest({ type: Cmd.WRITE, length: 512, offset: 4096, payload: pattern(512) });
  t.is((await client.reply()).cookie, cookie);
  t.is((await client.closed()).length, 0);
  t.is(volume.calls.write, 1, 'nothing after DISC');
  await until(() => server.connections === 0, 'connection gone');
});

test('a client that says goodbye is gone at once: its volume is free', async (t) => {
  const { unix, tcp, server, provider } = await serve(t, { limits: { lingerMs: 600_000 } });
  for (const address of [unix, tcp]) {
    const client = await Client.open(address, 'tank/vm0');
    await client.readAt(0, 512);
    client.sendRequest({ type: Cmd.DISC });
    client.socket.end();
    await until(() => server.connections === 0 && provider.handles === 0, 'handle closed', 60_000);
  }
  t.pass();
});

test('a client that shuts down its side gets its replies', async (t) => {
  const { tcp, provider } = await serve(t);
  const volume = provider.volumes.get('tank/vm0')!;
  const client = await Client.open(tcp, 'tank/vm0');
  volume.hook = () => new Promise((resolve) => setTimeout(resolve, 30));
  for (let i = 0; i < 10; i++) client.sendRequest({ type: Cmd.READ, length: 65536 });
  client.socket.end();
  for (let i = 0; i < 10; i++) t.is((await client.reply(65536)).data.length, 65536);
  t.is((await client.closed()).length, 0);
});

const writes = (length: number, announced = length) =>
  Buffer.concat([
    encodeRequest({ type: Cmd.WRITE, cookie: 7n, length: announced, style: 'simple' }),
    pattern(Math.max(1, length)).subarray(0, length),
  ]);
for (const [what, bytes] of Object.entries({
  'in a header': writes(0, 512).subarray(0, 13),
  'after a header': writes(0, 512),
  'in small data': writes(100, 512),
  'in large data': writes(MiB, 2 * MiB),
  'in discarded data': writes(1000, 40 * MiB),
})) {
  for (const how of ['end', 'reset', 'destroy'] as const) {
    test(`truncated ${what}: ${how}`, async (t) => {
      const { tcp, server, provider } = await serve(t);
      const client = await Client.open(tcp, 'tank/vm0');
      client.send(bytes);
      await new Promise((resolve) => setTimeout(resolve, 20));
      if (how === 'end') client.socket.end();
      else if (how === 'reset') client.socket.resetAndDestroy();
      else client.destroy();
      await until(() => server.connections === 0, 'connection gone');
      t.is(provider.volumes.get('tank/vm0')!.calls.write, 0);
    });
  }
}

for (const [what, bytes] of Object.entries({
  'wrong magic': Buffer.alloc(28, 0x55),
  'extended header without negotiation': encodeRequest({ type: Cmd.READ, cookie: 1n, length: 8, style: 'extended' }),
  'write of nearly 4 GiB': encodeRequest({ type: Cmd.WRITE, cookie: 1n, length: 0xffff_ffff, style: 'simple' }),
})) {
  test(`garbage: ${what}`, async (t) => {
    const { unix, server, provider } = await serve(t);
    const volume = provider.volumes.get('tank/vm0')!;
    const other = await Client.open(unix, 'tank/vm0');
    const client = await Client.open(unix, 'tank/vm0');
    volume.hook = (_operation, offset) =>
      offset === 4096 ? new Promise((resolve) => setTimeout(resolve, 50)) : undefined;
    client.sendRequest({ type: Cmd.READ, offset: 4096, length: 512 });
    client.send(bytes);
    await client.closed();
    await until(() => server.metrics.connections.protocolErrors === 1 && server.connections === 1, 'cut');
    t.is((await other.readAt(0, 512)).length, 512, 'others go on');
    other.destroy();
  });
}

test('a thousand connections opened and dropped leave nothing', async (t) => {
  const { unix, tcp, server } = await serve(t);
  for (let batch = 0; batch < 10; batch++) {
    await Promise.all(
      Array.from({ length: 100 }, async (_, i) => {
        const address = i % 2 === 0 ? unix : tcp;
        if (i % 5 === 4) {
          const client = await Client.open(address, 'tank/vm0');
          client.sendRequest({ type: Cmd.READ, length: MiB });
          if (i % 3 === 0) await client.reply(MiB);
          client.destroy();
          return;
        }
        const client = await Client.connect(address);
        if (i % 5 === 3 && address === tcp) client.socket.resetAndDestroy();
        else if (i % 5 === 2) client.socket.end();
        else client.destroy();
      }),
    );
  }
  await until(() => server.connections === 0, 'all gone');
  t.is(server.metrics.connections.total, 1000);
});

test('connections beyond the limit are refused, and are welcome later', async (t) => {
  const { unix, server } = await serve(t, { limits: { connections: 3 } });
  const clients = await Promise.all([1, 2, 3].map(() => Client.open(unix, 'tank/vm0')));
  const fourth = await Client.connect(unix);
  t.is((await fourth.closed()).length, 0);
  t.is(server.metrics.connections.refused, 1);
  clients[0]!.destroy();
  await until(() => server.connections === 2, 'one gone');
  const fifth = await Client.open(unix, 'tank/vm0');
  for (const client of [...clients, fifth]) client.destroy();
});

test('an idle connection is closed when the limit says so, a busy one is not', async (t) => {
  const { unix, provider } = await serve(t, { limits: { idleMs: 1500 } });
  const volume = provider.volumes.get('tank/vm0')!;
  const idle = await Client.open(unix, 'tank/vm0');
  const waiting = await Client.open(unix, 'tank/vm0');
  // Only the read: the flush at the server's end waits as long as it does for what is not answered.
  volume.hook = (operation) => (operation === 'read' ? new Promise((resolve) => setTimeout(resolve, 4000)) : undefined);
  waiting.sendRequest({ type: Cmd.READ, length: 512 });
  t.is((await idle.closed()).length, 0);
  t.is((await waiting.reply(512)).data.length, 512);
  waiting.destroy();
});

test("a listener's own idle time replaces the server's", async (t) => {
  const { unix } = await serve(t, { limits: { idleMs: 600_000 }, listener: { idleMs: 100 } });
  const idle = await Client.open(unix, 'tank/vm0');
  t.is((await idle.closed()).length, 0);
});

test('a volume that goes away: what runs is answered, then the connection closed', async (t) => {
  const { unix, provider, server } = await serve(t);
  const volume = provider.volumes.get('tank/vm0')!;
  const busy = await Client.open(unix, 'tank/vm0');
  const idle = await Client.open(unix, 'tank/vm0');
  const half = await Client.open(unix, 'tank/vm0');
  half.send(writes(MiB, 2 * MiB));
  volume.hook = () => new Promise((resolve) => setTimeout(resolve, 50));
  busy.sendRequest({ type: Cmd.READ, length: 512 });
  await until(() => server.metrics.inFlight === 2, 'half a write and a read in flight');
  provider.destroy('tank/vm0');
  t.is((await idle.closed()).length, 0);
  t.is((await half.closed()).length, 0);
  t.is((await busy.reply(512)).errno, NbdErrno.ESHUTDOWN);
  t.is((await busy.closed()).length, 0);
  await until(() => volume.handles.size === 0, 'all handles closed');
});

test('a volume that grows and shrinks under its clients', async (t) => {
  const { unix, provider } = await serve(t);
  const client = await Client.open(unix, 'tank/vm0');
  const read = async (offset: number) => (await client.request({ type: Cmd.READ, offset, length: 512 })).errno;
  t.is(await read(64 * MiB), NbdErrno.EINVAL);
  provider.resize('tank/vm0', 80 * MiB);
  t.is(await read(64 * MiB), 0);
  const later = await Client.open(unix, 'tank/vm0');
  t.is(later.size, 80 * MiB);
  provider.resize('tank/vm0', 16 * MiB);
  t.is(await read(16 * MiB), NbdErrno.EINVAL);
  t.is((await client.writeAt(16 * MiB - 1, Buffer.alloc(2))).errno, NbdErrno.ENOSPC);
  t.is(await read(16 * MiB - 512), 0);
  client.destroy();
  later.destroy();
});

test('close() answers what is in flight, cuts who does not read, and is the end', async (t) => {
  const { unix, provider, server } = await serve(t, { limits: { shutdownMs: 3000 } });
  const volume = provider.volumes.get('tank/vm0')!;
  const deaf = await Client.open(unix, 'tank/vm0');
  deaf.socket.pause();
  for (let i = 0; i < 8; i++) deaf.sendRequest({ type: Cmd.READ, length: MiB });
  const busy = await Client.open(unix, 'tank/vm0');
  const choosing = await Client.connect(unix);
  await choosing.greet();
  let writing = false;
  volume.hook = (operation) => {
    writing ||= operation === 'write';
    return new Promise((resolve) => setTimeout(resolve, 50));
  };
  const cookie = busy.sendRequest({ type: Cmd.WRITE, length: 512, payload: pattern(512) });
  await until(() => writing, 'the write runs');
  const closing = server.close();
  t.is((await busy.reply()).cookie, cookie);
  t.is((await busy.closed()).length, 0);
  t.is((await choosing.closed()).length, 0);
  await closing;
  await t.throwsAsync(Client.connect(unix));
  deaf.destroy();
});

test('close() flushes what clients wrote', async (t) => {
  const { unix, provider, server } = await serve(t);
  const volume = provider.volumes.get('tank/vm0')!;
  const client = await Client.open(unix, 'tank/vm0');
  await client.writeAt(0, Buffer.alloc(512, 1));
  await server.close();
  t.true(volume.calls.flush >= 1);
});

test('metrics count', async (t) => {
  const { unix, server } = await serve(t);
  const client = await Client.open(unix, 'tank/vm0');
  await client.writeAt(0, Buffer.alloc(1000));
  await client.readAt(0, 300);
  await client.request({ type: Cmd.FLUSH });
  await client.request({ type: 77 });
  t.like(server.metrics, {
    bytesRead: 300,
    bytesWritten: 1000,
    errors: 1,
    requests: { read: 1, write: 1, flush: 1, trim: 0 },
    connections: { open: 1, total: 1 },
  });
  client.destroy();
});
