import test from 'ava';
import { Cmd } from '../../../host/protocols/nbd.ts';
import { Client, encodeRequest } from './client.ts';
import { type Fixture, pattern, serve, until } from './fixture.ts';

const MiB = 1 << 20;

/** A client in the middle of a WRITE of a MiB, whose data are read straight into their buffer. */
async function inTheMiddle({ unix, server, provider }: Fixture): Promise<Client> {
  const client = await Client.open(unix, 'tank/vm0');
  client.socket.allowHalfOpen = true; // it does not know yet that its connection has ended
  client.send(encodeRequest({ type: Cmd.WRITE, cookie: 1n, offset: 0, length: MiB, style: 'simple' }));
  client.send(Buffer.alloc(MiB / 4, 0xaa));
  await until(() => provider.buffers.leasedBytes === MiB && server.metrics.inFlight === 1, 'the WRITE has its buffer');
  await new Promise((resolve) => setTimeout(resolve, 50));
  return client;
}

/** How a connection can end without the client: it may go on sending. */
const ends: Record<string, (fixture: Fixture) => void> = {
  'its volume goes away': ({ provider }) => provider.destroy('tank/vm0'),
  'the server closes': ({ server }) => void server.close(),
};

for (const [end, doIt] of Object.entries(ends)) {
  test(`${end} in the middle of a WRITE: what its client goes on to send lands in nobody's memory`, async (t) => {
    const fixture = await serve(t);
    const { provider } = fixture;
    const client = await inTheMiddle(fixture);
    doIt(fixture);
    await until(() => provider.buffers.leases === 0, 'the buffer is given back');
    // Another request of that size gets the very same memory.
    const next = await provider.buffers.acquire(MiB);
    next.bytes.fill(0x55);
    client.send(Buffer.alloc(MiB / 2, 0xaa));
    await client.closed();
    t.is(next.bytes.indexOf(0xaa), -1);
    next.release();
    client.destroy();
  });
}

test('two clients, one of which goes on after its volume is gone: each volume has its own client’s bytes', async (t) => {
  const fixture = await serve(t);
  const other = fixture.provider.add('tank/vm1', MiB);
  const one = await inTheMiddle(fixture);
  const two = await Client.open(fixture.unix, 'tank/vm1');
  fixture.provider.destroy('tank/vm0');
  await until(() => fixture.provider.buffers.leases === 0, 'the buffer is given back');
  two.send(encodeRequest({ type: Cmd.WRITE, cookie: 2n, offset: 0, length: MiB, style: 'simple' }));
  two.send(Buffer.alloc(MiB - 1, 0x55));
  await until(() => fixture.provider.buffers.leases === 1, 'the second WRITE has a buffer');
  one.send(Buffer.alloc(MiB / 2, 0xaa));
  await one.closed();
  two.send(Buffer.alloc(1, 0x55));
  t.is((await two.reply()).errno, 0);
  t.is(other.data.indexOf(0xaa), -1);
  one.destroy();
  two.destroy();
});

test('a client that is cut while it reads gets its own data, as far as they go', async (t) => {
  const { unix, provider, server } = await serve(t);
  const volume = provider.volumes.get('tank/vm0')!;
  volume.data.set(pattern(8 * MiB));
  const client = await Client.open(unix, 'tank/vm0');
  client.socket.pause();
  for (let i = 0; i < 8; i++) client.sendRequest({ type: Cmd.READ, offset: i * MiB, length: MiB });
  await until(() => volume.calls.read > 0, 'a READ is answered');
  await new Promise((resolve) => setTimeout(resolve, 50));
  provider.destroy('tank/vm0');
  void server.close(); // cuts it, for it reads nothing
  await until(() => provider.buffers.leases === 0, 'the buffers are given back');
  const memory = Buffer.from(provider.allocator.memory as unknown as ArrayBuffer);
  memory.fill(0xee, 64); // others have them now
  client.socket.resume();
  const got = await client.closed();
  t.true(got.length > 0);
  t.is(got.indexOf(Buffer.alloc(64, 0xee)), -1);
});
