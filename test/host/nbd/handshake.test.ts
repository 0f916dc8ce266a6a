import test from 'ava';
import { BASE_ALLOCATION, Cmd, HandshakeFlag, Magic, Opt, Rep, TransmissionFlag } from '../../../host/protocols/nbd.ts';
import { Client, infoData, metaData, u32 } from './client.ts';
import { serve, until } from './fixture.ts';

test('greeting is fixed newstyle', async (t) => {
  const { unix } = await serve(t);
  const client = await Client.connect(unix);
  const greeting = await client.greet();
  t.is(greeting.toString('latin1', 0, 16), 'NBDMAGICIHAVEOPT');
  t.is(greeting.readUInt16BE(16), HandshakeFlag.FIXED_NEWSTYLE | HandshakeFlag.NO_ZEROES);
  client.destroy();
});

test('LIST names every volume and snapshot, sorted', async (t) => {
  const { unix, provider } = await serve(t);
  provider.snapshot('tank/vm0@monday');
  provider.add('data/b', 1 << 20);
  const client = await Client.connect(unix);
  await client.greet();
  const replies = await client.option(Opt.LIST);
  t.deepEqual(
    replies.slice(0, -1).map(({ data }) => data.toString('utf8', 4)),
    ['data/b', 'tank/vm0', 'tank/vm0@monday'],
  );
  t.true(
    replies.slice(0, -1).every(({ type, data }) => type === Rep.SERVER && data.readUInt32BE(0) === data.length - 4),
  );
  t.is(replies.at(-1)!.type, Rep.ACK);
  client.destroy();
});

test('LIST of ten thousand volumes', async (t) => {
  const { tcp, provider } = await serve(t);
  for (let i = 0; i < 10_000; i++) provider.add(`tank/many/volume-${i}`, 4096, 512);
  const client = await Client.connect(tcp);
  await client.greet();
  t.is((await client.option(Opt.LIST)).length, 10_002);
  client.destroy();
});

test('LIST with data is invalid, and the handshake goes on', async (t) => {
  const { unix } = await serve(t);
  const client = await Client.connect(unix);
  await client.greet();
  t.is((await client.option(Opt.LIST, Buffer.alloc(3))).at(-1)!.type, Rep.ERR_INVALID);
  t.is((await client.option(Opt.LIST)).at(-1)!.type, Rep.ACK);
  client.destroy();
});

test('INFO tells what GO would; only GO opens', async (t) => {
  const { unix, provider } = await serve(t);
  const client = await Client.connect(unix);
  await client.greet();
  await client.go('tank/vm0', [1, 2, 3], Opt.INFO);
  t.is(client.size, 64 << 20);
  t.deepEqual(client.blockSizes, { minimum: 1, preferred: 16384, maximum: 32 << 20 });
  t.is(client.info.get(1)!.toString(), 'tank/vm0');
  t.regex(client.info.get(2)!.toString(), /ZFS volume/);
  t.is(provider.opens, 0);
  const all = TransmissionFlag;
  t.is(
    client.flags,
    all.HAS_FLAGS |
      all.SEND_FLUSH |
      all.SEND_FUA |
      all.SEND_TRIM |
      all.SEND_WRITE_ZEROES |
      all.CAN_MULTI_CONN |
      all.SEND_CACHE |
      all.SEND_FAST_ZERO,
  );
  await client.negotiate('structured');
  await client.go('tank/vm0', []);
  t.is(provider.opens, 1);
  t.true((client.flags & TransmissionFlag.SEND_DF) !== 0);
  t.is((await client.readAt(0, 512)).length, 512);
  client.destroy();
});

test('only what was asked for is told', async (t) => {
  const { unix } = await serve(t);
  const client = await Client.connect(unix);
  await client.greet();
  t.deepEqual(
    (await client.go('tank/vm0', [])).map(({ type }) => type),
    [Rep.INFO, Rep.ACK],
  );
  t.deepEqual([...client.info.keys()], [0]);
  client.destroy();
});

test('EXPORT_NAME, with and without the zeroes', async (t) => {
  const { unix } = await serve(t);
  for (const flags of [HandshakeFlag.FIXED_NEWSTYLE, HandshakeFlag.FIXED_NEWSTYLE | HandshakeFlag.NO_ZEROES, 0]) {
    const client = await Client.connect(unix);
    await client.greet(flags);
    client.sendOption(Opt.EXPORT_NAME, Buffer.from('tank/vm0'));
    const reply = await client.read((flags & HandshakeFlag.NO_ZEROES) !== 0 ? 10 : 134);
    t.is(Number(reply.readBigUInt64BE(0)), 64 << 20);
    t.true(reply.subarray(10).every((byte) => byte === 0));
    t.is((await client.readAt(4096, 512)).length, 512);
    client.destroy();
  }
});

test('EXPORT_NAME of what is not there closes the connection', async (t) => {
  const { unix } = await serve(t);
  const client = await Client.connect(unix);
  await client.greet();
  client.sendOption(Opt.EXPORT_NAME, Buffer.from('tank/none'));
  t.is((await client.closed()).length, 0);
});

test('unknown export, default export', async (t) => {
  const { unix, provider } = await serve(t);
  provider.snapshot('tank/vm0@monday');
  const client = await Client.connect(unix);
  await client.greet();
  t.is((await client.go('tank/none', [], Opt.INFO)).at(-1)!.type, Rep.ERR_UNKNOWN);
  t.is((await client.go('', [1], Opt.INFO)).at(-1)!.type, Rep.ACK, 'the only volume; its snapshot does not count');
  t.is(client.info.get(1)!.toString(), 'tank/vm0');
  provider.add('tank/vm1', 4096, 512);
  const replies = await client.go('', [], Opt.INFO);
  t.is(replies.at(-1)!.type, Rep.ERR_UNKNOWN);
  t.regex(replies.at(-1)!.data.toString(), /default export/);
  client.destroy();
});

test('a listener shows what its policy says', async (t) => {
  const { unix, provider } = await serve(t, {
    listener: { exports: ['tank/*', 'data/a.b'], defaultExport: 'tank/vm1', readOnly: true },
  });
  provider.add('tank/vm1', 4096, 512);
  provider.add('data/a.b', 4096, 512);
  provider.add('data/aXb', 4096, 512);
  const client = await Client.connect(unix);
  await client.greet();
  const names = (await client.option(Opt.LIST)).slice(0, -1).map(({ data }) => data.toString('utf8', 4));
  t.deepEqual(names, ['data/a.b', 'tank/vm0', 'tank/vm1']);
  t.is((await client.go('data/aXb', [], Opt.INFO)).at(-1)!.type, Rep.ERR_UNKNOWN);
  await client.go('', [1]);
  t.is(client.info.get(1)!.toString(), 'tank/vm1');
  t.true((client.flags & TransmissionFlag.READ_ONLY) !== 0);
  t.false((client.flags & TransmissionFlag.SEND_TRIM) !== 0);
  t.is((await client.writeAt(0, Buffer.alloc(512))).errno, 1);
  client.destroy();
});

test('a name that almost matches a pattern, in a great many ways', async (t) => {
  const { unix } = await serve(t, { listener: { exports: ['*a*a*a*a*a*b'] } });
  const client = await Client.connect(unix);
  await client.greet();
  t.is((await client.go('a'.repeat(4000), [], Opt.INFO)).at(-1)!.type, Rep.ERR_UNKNOWN);
  client.destroy();
});

test('what is not listed is asked for, where the listener shows it, and the reason why it is no export is told', async (t) => {
  const { unix, provider } = await serve(t, { listener: { exports: ['tank/*'] } });
  const { Errno, ErrnoError } = await import('../../../host/errno.ts');
  const asked: string[] = [];
  Object.assign(provider, {
    reveal: async (name: string) => {
      asked.push(name);
      if (name === 'tank/vm0@s') return provider.add(name, 4096, 512).info;
      if (name === 'tank/locked') throw new ErrnoError(Errno.EACCES, 'the key of tank/locked is not loaded');
      throw new ErrnoError(Errno.ENOENT, `there is no volume ${name}`);
    },
  });
  const client = await Client.connect(unix);
  await client.greet();
  for (const option of [Opt.INFO, Opt.GO]) {
    const unknown = (await client.go('tank/none', [], option)).at(-1)!;
    t.is(unknown.type, Rep.ERR_UNKNOWN);
    t.is(String(unknown.data), 'there is no volume tank/none: ENOENT');
    const locked = (await client.go('tank/locked', [], option)).at(-1)!;
    t.is(locked.type, Rep.ERR_POLICY);
    t.is(String(locked.data), 'the key of tank/locked is not loaded: EACCES');
    t.is((await client.go('other/locked', [], option)).at(-1)!.type, Rep.ERR_UNKNOWN);
  }
  t.deepEqual(asked, ['tank/none', 'tank/locked', 'tank/none', 'tank/locked']);
  t.is((await client.go('tank/vm0@s', [], Opt.INFO)).at(-1)!.type, Rep.ACK);
  // Of a pool that is being imported nobody knows yet what it has.
  Object.assign(provider, { awaits: (name: string) => name.startsWith('tank/') });
  const later = (await client.go('tank/none', [], Opt.GO)).at(-1)!;
  t.is(later.type, Rep.ERR_SHUTDOWN);
  t.is(String(later.data), 'the pool of tank/none is on its way: try again: ESHUTDOWN');
  t.is((await client.go('other/locked', [], Opt.GO)).at(-1)!.type, Rep.ERR_UNKNOWN);
  client.destroy();
});

test('a volume that cannot be opened: the reason reaches the client', async (t) => {
  const { unix, provider } = await serve(t);
  const { Errno, ErrnoError } = await import('../../../host/errno.ts');
  const expected: [number, number][] = [
    [Errno.ENOENT, Rep.ERR_UNKNOWN],
    [Errno.EBUSY, Rep.ERR_POLICY],
    [Errno.EACCES, Rep.ERR_POLICY],
    [Errno.EROFS, Rep.ERR_POLICY],
    [Errno.ESHUTDOWN, Rep.ERR_SHUTDOWN],
    [Errno.ENXIO, Rep.ERR_PLATFORM],
  ];
  const client = await Client.connect(unix);
  await client.greet();
  for (const [errno, reply] of expected) {
    provider.refuse.set('tank/vm0', new ErrnoError(errno, 'tank/vm0 is special'));
    const [answer] = await client.go('tank/vm0');
    t.is(answer!.type, reply);
    t.regex(answer!.data.toString(), /tank\/vm0 is special/);
  }
  provider.refuse.clear();
  t.is((await client.go('tank/vm0')).at(-1)!.type, Rep.ACK, 'the handshake went on');
  client.destroy();
});

test('metadata contexts', async (t) => {
  const { unix } = await serve(t);
  const client = await Client.connect(unix);
  await client.greet();
  const types = async (option: number, ...queries: string[]) =>
    (await client.option(option, metaData('tank/vm0', ...queries))).map(({ type }) => type);
  t.deepEqual(await types(Opt.LIST_META_CONTEXT), [Rep.ERR_INVALID], 'structured replies come first');
  await client.negotiate('structured');
  t.deepEqual(await types(Opt.LIST_META_CONTEXT), [Rep.META_CONTEXT, Rep.ACK]);
  t.deepEqual(await types(Opt.LIST_META_CONTEXT, 'base:'), [Rep.META_CONTEXT, Rep.ACK]);
  t.deepEqual(await types(Opt.LIST_META_CONTEXT, 'qemu:dirty'), [Rep.ACK]);
  t.deepEqual(await types(Opt.SET_META_CONTEXT, 'base:'), [Rep.ACK]);
  t.deepEqual(await types(Opt.SET_META_CONTEXT), [Rep.ACK]);
  t.deepEqual(await types(Opt.SET_META_CONTEXT, 'x:y', BASE_ALLOCATION), [Rep.META_CONTEXT, Rep.ACK]);
  t.is((await client.option(Opt.SET_META_CONTEXT, metaData('none', BASE_ALLOCATION)))[0]!.type, Rep.ERR_UNKNOWN);
  t.is((await client.option(Opt.SET_META_CONTEXT, Buffer.alloc(5))).at(-1)!.type, Rep.ERR_INVALID);
  await client.go('tank/vm0');
  const status = await client.request({ type: Cmd.BLOCK_STATUS, length: 4096 });
  t.is(status.errno, 22, 'the last SET failed: nothing is selected');
  client.destroy();
});

test('a context selected for one export does not count for another', async (t) => {
  const { unix, provider } = await serve(t);
  provider.add('tank/vm1', 1 << 20);
  const client = await Client.connect(unix);
  await client.greet();
  await client.negotiate('structured', 'tank/vm1');
  await client.go('tank/vm0');
  t.is((await client.request({ type: Cmd.BLOCK_STATUS, length: 4096 })).errno, 22);
  client.destroy();
});

test('structured replies and extended headers exclude each other in one direction', async (t) => {
  const { unix } = await serve(t);
  const client = await Client.connect(unix);
  await client.greet();
  t.is((await client.option(Opt.STRUCTURED_REPLY, u32(1)))[0]!.type, Rep.ERR_INVALID);
  t.is((await client.option(Opt.STRUCTURED_REPLY))[0]!.type, Rep.ACK);
  t.is((await client.option(Opt.EXTENDED_HEADERS))[0]!.type, Rep.ACK);
  t.is((await client.option(Opt.EXTENDED_HEADERS))[0]!.type, Rep.ERR_INVALID);
  t.is((await client.option(Opt.STRUCTURED_REPLY))[0]!.type, Rep.ERR_EXT_HEADER_REQD);
  client.sendOption(Opt.EXPORT_NAME, Buffer.from('tank/vm0'));
  t.is((await client.closed()).length, 0, 'EXPORT_NAME cannot follow extended headers');
});

test('unknown options, too long ones, broken ones: answered, and the handshake goes on', async (t) => {
  const { unix } = await serve(t);
  const client = await Client.connect(unix);
  await client.greet();
  t.is((await client.option(4)).at(-1)!.type, Rep.ERR_UNSUP);
  t.is((await client.option(0x7fffffff, Buffer.alloc(100))).at(-1)!.type, Rep.ERR_UNSUP);
  t.is((await client.option(Opt.STARTTLS)).at(-1)!.type, Rep.ERR_UNSUP);
  t.is((await client.option(Opt.GO, Buffer.alloc(200_000))).at(-1)!.type, Rep.ERR_TOO_BIG);
  t.is((await client.option(Opt.GO, u32(0xffffffff))).at(-1)!.type, Rep.ERR_INVALID);
  t.is((await client.option(Opt.GO, Buffer.concat([infoData('tank/vm0'), u32(0)]))).at(-1)!.type, Rep.ERR_INVALID);
  t.is((await client.option(Opt.GO, infoData('tank/vm0\0'))).at(-1)!.type, Rep.ERR_INVALID);
  t.is((await client.option(Opt.GO, infoData('x'.repeat(4097)))).at(-1)!.type, Rep.ERR_INVALID);
  t.is((await client.option(Opt.GO, infoData('x'.repeat(4096)))).at(-1)!.type, Rep.ERR_UNKNOWN);
  t.is((await client.go('tank/vm0')).at(-1)!.type, Rep.ACK);
  client.destroy();
});

test('ABORT is acknowledged, then the connection closed', async (t) => {
  const { unix, server } = await serve(t);
  const client = await Client.connect(unix);
  await client.greet();
  t.is((await client.option(Opt.ABORT)).at(-1)!.type, Rep.ACK);
  t.is((await client.closed()).length, 0);
  await until(() => server.connections === 0, 'connection gone');
  t.is(server.metrics.connections.protocolErrors, 0);
});

const option = (number: number, length: number) =>
  Buffer.concat([u32(Magic.OPTION_HI), u32(Magic.OPTION_LO), u32(number), u32(length)]);
const garbage: Record<string, Buffer> = {
  'HTTP instead of flags': Buffer.from('GET / HTTP/1.1\r\nHost: example\r\n\r\n'),
  'unknown client flags': u32(0x40),
  'option without magic': Buffer.concat([u32(3), Buffer.alloc(64, 0xaa)]),
  'option data of 4 GiB': Buffer.concat([u32(3), option(Opt.GO, 0xffffffff)]),
  'export name of 2 MiB': Buffer.concat([u32(3), option(Opt.EXPORT_NAME, 2 << 20)]),
  'option other than EXPORT_NAME without fixed newstyle': Buffer.concat([u32(0), option(Opt.LIST, 0)]),
  'export name with NUL': Buffer.concat([u32(3), option(Opt.EXPORT_NAME, 3), Buffer.from('a\0b')]),
};
for (const [what, bytes] of Object.entries(garbage)) {
  test(`garbage: ${what}`, async (t) => {
    const { tcp, server } = await serve(t);
    const other = await Client.open(tcp, 'tank/vm0');
    const client = await Client.connect(tcp);
    await client.read(18);
    client.send(bytes);
    await client.closed();
    await until(() => server.metrics.connections.protocolErrors === 1, 'counted');
    t.is((await other.readAt(0, 512)).length, 512, 'others go on');
    other.destroy();
  });
}

test('truncated at every byte of a handshake', async (t) => {
  const { unix, server } = await serve(t);
  const whole = Buffer.concat([u32(3), option(Opt.STRUCTURED_REPLY, 0), option(Opt.GO, 14), infoData('tank/vm0')]);
  for (let length = 0; length <= whole.length; length++) {
    const client = await Client.connect(unix);
    client.send(whole.subarray(0, length));
    if (length % 2 === 0) client.socket.end();
    else client.destroy();
    if (length % 2 === 0) await client.closed();
  }
  await until(() => server.connections === 0, 'all connections gone');
  t.is(server.metrics.connections.total, whole.length + 1);
});

test('bytes one at a time', async (t) => {
  const { tcp } = await serve(t);
  const client = await Client.connect(tcp);
  client.socket.setNoDelay(true);
  await client.read(18);
  const bytes = Buffer.concat([u32(3), option(Opt.GO, 14), infoData('tank/vm0')]);
  for (const byte of bytes) {
    client.send(Buffer.from([byte]));
    await new Promise((resolve) => setImmediate(resolve));
  }
  t.is((await client.optionReply()).type, Rep.INFO);
  client.destroy();
});

test('a pipelined GO and read', async (t) => {
  const { unix } = await serve(t);
  const client = await Client.connect(unix);
  client.send(Buffer.concat([u32(3), option(Opt.GO, 14), infoData('tank/vm0')]));
  client.sendRequest({ type: Cmd.READ, length: 512 });
  await client.read(18);
  await client.optionReply();
  await client.optionReply();
  t.is((await client.reply(512)).data.length, 512);
  client.destroy();
});

test('who does not choose an export in time is disconnected', async (t) => {
  const { unix, server } = await serve(t, { limits: { handshakeMs: 1500 } });
  const silent = await Client.connect(unix);
  const slow = await Client.connect(unix);
  await slow.greet();
  const fast = await Client.open(unix, 'tank/vm0');
  await Promise.all([silent.closed(), slow.closed()]);
  await until(() => server.connections === 1, 'only the fast one is left');
  t.is((await fast.readAt(0, 16)).length, 16);
  fast.destroy();
});

test('the time that a volume takes to open is not the client’s', async (t) => {
  const { unix, provider } = await serve(t, { limits: { handshakeMs: 500 } });
  const open = provider.open.bind(provider);
  provider.open = async (name, options) => {
    await new Promise((resolve) => setTimeout(resolve, 2500));
    return open(name, options);
  };
  const client = await Client.open(unix, 'tank/vm0');
  t.is((await client.readAt(0, 16)).length, 16);
  client.destroy();
});

test('a client that is gone while its volume opens leaves no handle', async (t) => {
  const { unix, provider, server } = await serve(t);
  const open = provider.open.bind(provider);
  let release = () => {};
  provider.open = async (name, options) => {
    await new Promise<void>((resolve) => {
      release = resolve;
    });
    return open(name, options);
  };
  const client = await Client.connect(unix);
  await client.greet();
  client.sendOption(Opt.GO, infoData('tank/vm0'));
  await until(() => release.name !== 'release', 'open called');
  client.destroy();
  await new Promise((resolve) => setTimeout(resolve, 50));
  release();
  await until(() => server.connections === 0, 'connection gone');
  await until(() => provider.opens === 1 && provider.handles === 0, 'handle closed');
  t.pass();
});
