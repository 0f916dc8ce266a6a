import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import test from 'ava';
import { pino } from 'pino';
import { ZfsCmd } from '../../host/core/zfs-cmd.ts';
import { Cmd } from '../../host/protocols/nbd.ts';
import { CoreLostError, ZowHost } from '../../host/zow.ts';
import { Client, encodeRequest } from '../host/nbd/client.ts';

/** After the core is lost, and after it is closed, everything that waits settles, and whatever is asked is refused. */

const MiB = 1 << 20;
const none = new Uint8Array(0);

/** ZFS_IOC_EVENTS_NEXT and _SEEK, and ZEVENT_SEEK_END. */
const eventsNext = 0x5a81;
const eventsSeek = 0x5a83;
const seekEnd = 2n ** 64n - 1n;

const pending = 'is still pending';

/** How it settles, or that it does not; far longer than it may take, for a loaded machine. */
function settled(promise: Promise<unknown>): Promise<string> {
  const { promise: late, resolve } = Promise.withResolvers<string>();
  const timer = setTimeout(resolve, 60_000, pending);
  const outcome = promise.then(
    () => 'resolves',
    (error: Error) => `${error.name}: ${error.message}`,
  );
  return Promise.race([outcome, late]).finally(() => clearTimeout(timer));
}

/** A host with a pool that is lost, with the core, when a file `broken` appears. */
async function start(t: { teardown(f: () => void): void }): Promise<{ host: ZowHost; folder: string }> {
  const folder = mkdtempSync(join(tmpdir(), 'zow-ended-'));
  process.env.ZOW_FAULTS = `disk:error(op=read|write|flush,errno=EIO,while=${join(folder, 'broken')})`;
  t.teardown(() => rmSync(folder, { recursive: true, force: true }));
  const tank = {
    vdevs: ['disk'],
    create: { size: '128M' },
    properties: { failmode: 'panic' },
    volumes: { vm0: { size: '32M', volblocksize: '16K' } },
  };
  const config = { socket: 'zow.sock', memory: '256M', pools: { tank }, nbd: [{ unix: 'nbd.sock' }] };
  return { host: await ZowHost.open(config, { directory: folder, log: pino({ level: 'silent' }) }), folder };
}

async function all(items: AsyncIterable<unknown>): Promise<void> {
  for await (const _ of items);
}

function ioctl(cmdSize: number, number: number, guid = 0n) {
  const cmd = new Uint8Array(cmdSize);
  new DataView(cmd.buffer).setBigUint64(ZfsCmd.guid, guid, true);
  const request = { cmd, src: none, conf: none, history: none, dstRoom: 1 << 16, historyRoom: 0 };
  return { ...request, request: number, streams: {} as never };
}

test.serial('a core that is lost: what waits settles, what is asked is refused, and the host closes', async (t) => {
  const { host, folder } = await start(t);
  const { cmdSize } = host.core;
  const volume = await host.openVolume('tank/vm0');
  const session = await host.ioctl({ fd: 0 });
  t.is((await session.ioctl(ioctl(cmdSize, eventsSeek, seekEnd))).errno, 0);
  const [{ unix }] = host.nbdAddresses as [{ unix: string }];
  const client = await Client.open({ unix }, 'tank/vm0');
  client.send(encodeRequest({ type: Cmd.WRITE, cookie: 1n, offset: 0, length: MiB, style: 'simple' }));
  client.send(new Uint8Array(MiB / 2));
  const waiting = {
    events: all(host.events({ follow: true })),
    ioctl: session.ioctl(ioctl(cmdSize, eventsNext)), // which may come just before the end
    program: host.run('zpool', ['events', '-f']),
    client: client.closed(),
  };
  for (const promise of Object.values(waiting)) promise.catch(() => undefined);
  await new Promise((resolve) => setTimeout(resolve, 500));

  writeFileSync(join(folder, 'broken'), '');
  await volume.write(0, new Uint8Array(MiB).fill(1)).catch(() => undefined);
  const flush = volume.flush();
  flush.catch(() => undefined);
  t.is(await settled(host.lost), 'resolves', 'host.lost');

  const lost = /^ErrnoError: .*the core ended.*: EIO$/;
  t.regex(await settled(flush), /^ErrnoError: /);
  t.regex(await settled(waiting.events), lost);
  t.not(await settled(waiting.ioctl), pending);
  t.is(await settled(waiting.program), 'resolves', 'waiting.program');
  t.not((await waiting.program).code, 0);
  t.is(await settled(waiting.client), 'resolves', 'waiting.client');

  t.regex(await settled(volume.read(0, 512)), /the core ended/);
  t.is(await settled(volume.close()), 'resolves', 'volume.close()');
  t.regex(await settled(host.openVolume('tank/vm0')), lost);
  t.regex(await settled(host.ioctl()), lost);
  t.regex(await settled(session.ioctl(ioctl(cmdSize, 0x5a04))), lost);
  t.is(await settled(session.close()), 'resolves', 'session.close()');
  t.regex(await settled(session.ioctl(ioctl(cmdSize, 0x5a04))), /closed: EBADF/);
  t.regex(await settled(all(host.kstats())), lost);
  t.regex(await settled(host.clearKstats('zfs/arcstats')), lost);
  t.regex(await settled(host.tunables()), lost);
  t.regex(await settled(host.tunable('zfs_txg_timeout', 7)), lost);
  t.regex(await settled(all(host.events())), lost);
  await t.throwsAsync(host.run('zpool', ['list']), { instanceOf: CoreLostError });
  await t.throwsAsync(Client.connect({ unix }));

  t.is(await settled(host.close()), 'resolves', 'host.close()');
  t.is(await settled(host.core.close()), 'resolves', 'host.core.close()');
});

test.serial(
  'what a client sends after its volume is gone reaches nobody else; a hidden snapshot opens; a closed host refuses',
  async (t) => {
    const { host } = await start(t);
    t.is((await host.run('zfs', ['create', '-s', '-V', '32M', 'tank/vm1'])).code, 0);
    t.is((await host.run('zfs', ['snapshot', 'tank/vm0@s'])).code, 0);
    await using snapshot = await host.openVolume('tank/vm0@s', { readOnly: true });
    t.deepEqual(await snapshot.read(0, 512), new Uint8Array(512));
    await snapshot.close();
    await t.throwsAsync(host.openVolume('tank/vm0@none', { readOnly: true }), { message: /no volume tank\/vm0@none/ });

    const [{ unix }] = host.nbdAddresses as [{ unix: string }];
    const [one, two] = [await Client.open({ unix }, 'tank/vm0'), await Client.open({ unix }, 'tank/vm1')];
    one.socket.allowHalfOpen = true; // it does not know yet that its connection has ended
    const header = (cookie: bigint) =>
      encodeRequest({ type: Cmd.WRITE, cookie, offset: 0, length: MiB, style: 'simple' });
    one.send(header(1n));
    one.send(new Uint8Array(MiB / 4).fill(0xaa));
    await new Promise((resolve) => setTimeout(resolve, 500));
    const gone = host.run('zfs', ['set', 'volmode=none', 'tank/vm0']);
    while (!one.socket.readableEnded) await new Promise((resolve) => setTimeout(resolve, 10));
    two.send(header(2n));
    two.send(new Uint8Array(MiB - 1).fill(0x55));
    await new Promise((resolve) => setTimeout(resolve, 500));
    one.send(new Uint8Array(MiB / 2).fill(0xaa));
    await one.closed();
    two.send(new Uint8Array(1).fill(0x55));
    t.is((await two.reply()).errno, 0);
    t.is((await two.readAt(0, MiB)).indexOf(0xaa), -1);
    t.is((await gone).code, 0);
    t.is((await host.run('zfs', ['set', 'volmode=default', 'tank/vm0'])).code, 0);
    for (const client of [one, two]) client.destroy();

    const volume = await host.openVolume('tank/vm0');
    const session = await host.ioctl({ fd: 0 });
    const events = all(host.events({ follow: true }));
    events.catch(() => undefined);
    await volume.close();
    t.is(await settled(host.close()), 'resolves', 'host.close()');
    const closed = /: ESHUTDOWN$/;
    t.regex(await settled(events), closed);
    t.regex(await settled(host.openVolume('tank/vm0')), closed);
    t.regex(await settled(host.ioctl()), closed);
    t.regex(await settled(all(host.kstats())), closed);
    t.regex(await settled(host.tunables()), closed);
    t.regex(await settled(host.run('zpool', ['list'])), closed);
    t.is(await settled(session.close()), 'resolves', 'session.close()');
    t.is(await settled(host.core.close()), 'resolves', 'host.core.close()');
    t.is(await settled(host.close()), 'resolves', 'host.close()');
  },
);
