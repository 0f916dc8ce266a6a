import test, { type ExecutionContext } from 'ava';
import { RemoteDisks } from '../../../host/devices/remote.ts';
import { type Borrower, LendableDisk, Lender } from '../../../host/engine/lender.ts';
import { Errno } from '../../../host/errno.ts';
import { nbdkit, serveFile } from '../devices/nbd/servers.ts';

const NAME = '/dev/zow/test';

/** The disk of a server that takes one client, which connects at once; and who it is lent by. */
async function lendable(t: ExecutionContext) {
  const server = await serveFile((image, socket) => {
    const [program, ...args] = nbdkit('--filter=limit')(image, socket);
    return [program, ...args, 'limit=1'];
  }, 1 << 20);
  t.teardown(() => server.remove());
  const times = { ioTimeoutMs: 30_000, connectTimeoutMs: 30_000, slow: undefined };
  const device = { name: 'test', address: server.address, tls: undefined, ...times };
  const disk = new LendableDisk({ ...device, name: NAME }, device);
  await disk.start();
  t.teardown(() => disk.close());
  return { server, disk, lender: new Lender(new RemoteDisks([disk])) };
}

/** An engine that shows zeroes, and gives a disk up when it is not in use. */
function engine(lender: Lender) {
  const self: Borrower & { isUsing: boolean } = {
    isUsing: true,
    giveUp: async (path) => {
      if (!self.isUsing) lender.returned(path, self, undefined);
      return !self.isUsing;
    },
    read: async (_path, _offset, length) => new Uint8Array(length).fill(7),
  };
  return self;
}

async function firstByte(disk: LendableDisk): Promise<number> {
  const device = await disk.open({ readOnly: true });
  const buffer = new Uint8Array(512);
  await device.read(buffer, 0);
  await device.close();
  return buffer[0]!;
}

test('one engine has a disk, and it is looked at where it is', async (t) => {
  const { disk, lender } = await lendable(t);
  const [first, second] = [engine(lender), engine(lender)];
  t.is(await firstByte(disk), 0);
  t.like(await lender.lend(NAME, first), { sizeBytes: 1 << 20 });
  t.is(await firstByte(disk), 7);
  t.true(disk.isWritten && disk.status.isReady);
  await t.throwsAsync(lender.lend(NAME, second), { message: /is in use by another pool: EBUSY/ });
  first.isUsing = false;
  t.like(await lender.lend(NAME, second), { sizeBytes: 1 << 20 });
  t.is(await firstByte(disk), 7);
  lender.returned(NAME, first, undefined);
  t.true(disk.isWritten, 'another gives back what it does not have');
  lender.ended(second);
  t.false(disk.isWritten);
  t.is(await firstByte(disk), 0);
  await t.throwsAsync(lender.lend('/dev/zow/none', first), { message: /the configuration has no such device/ });
  await t.throwsAsync(disk.open({}), { message: /EROFS/ });
});

test('a disk that an engine lost is away until its server is back, which is told', async (t) => {
  const { server, disk, lender } = await lendable(t);
  const it = engine(lender);
  await lender.lend(NAME, it);
  await server.kill('SIGKILL');
  const back = new Promise<void>((resolve) => {
    disk.onReady = resolve;
  });
  lender.returned(NAME, it, { reason: 'the server closed the connection', how: 'gone' });
  const error = await t.throwsAsync(lender.lend(NAME, it));
  t.is((error as Error & { errno: number }).errno, Errno.ENXIO);
  t.regex(error.message, /is not there/);
  await server.start();
  await back;
  t.like(await lender.lend(NAME, it), { sizeBytes: 1 << 20 });
});

test('who looks is waited for, a while', async (t) => {
  const { disk, lender } = await lendable(t);
  const look = await disk.open({ readOnly: true });
  let isLent = false;
  const lent = lender.lend(NAME, engine(lender)).then(() => {
    isLent = true;
  });
  t.is(await look.read(new Uint8Array(512), 0), 512);
  t.false(isLent);
  await look.close();
  await lent;
  t.true(isLent);
});
