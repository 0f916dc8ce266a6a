import test from 'ava';
import { Errno } from '../../../host/errno.ts';
import { decodeNativeNvlist } from '../../../host/nvlist/native.ts';
import { DataType } from '../../../host/nvlist/nvlist.ts';
import { type NvPairs, Typed } from '../nvlist/pack.ts';
import { TestCore, type TestSession } from './fixture.ts';

/** Pools of devices that no program describes, and faults that none injects (wasm/core/mended/vdev_tree.c, checked.c). */

const disk = (path: string, more: NvPairs = {}): NvPairs => ({ type: 'file', path, ashift: 12n, is_log: 0n, ...more });
const group = (type: string, ...children: NvPairs[]): NvPairs => ({ type, nparity: 1n, children });
const root = (...children: NvPairs[]): NvPairs => group('root', ...children);

async function withPool(): Promise<{ core: TestCore; session: TestSession; a: string; b: string; guid: bigint }> {
  const core = await TestCore.load();
  const session = await core.open();
  await core.createPool(session);
  const bytes = Buffer.from((await session.must('POOL_STATS', { cmd: { name: 'tank' }, dstRoom: 65536 })).dst);
  // The last guid of the list is the disk's.
  const at = (bytes.lastIndexOf('guid\0') + 5 + 7) & ~7;
  return { core, session, a: core.disk('a'), b: core.disk('b'), guid: bytes.readBigUInt64LE(at) };
}

test('trees of devices that no pool can be made of are refused', async (t) => {
  const { core, session, a, b, guid } = await withPool();
  const bad: readonly (readonly [what: string, tree: NvPairs, errno: number])[] = [
    ['no tree', { type: 'file', path: a }, Errno.EINVAL],
    ['what only a pool itself makes', root(group('indirect', disk(a))), Errno.EINVAL],
    ['a hole', root(disk(a, { type: 'hole' })), Errno.EINVAL],
    ['a missing disk', root(group('mirror', disk(a), disk(b, { type: 'missing' }))), Errno.EINVAL],
    ['a mirror of mirrors', root(group('mirror', group('mirror', disk(a), disk(b)))), Errno.EINVAL],
    ['a group whose second disk is none', root(disk(a), group('spare', disk(b), { type: 'nonsense' })), Errno.EINVAL],
    ['a mirror whose second disk is none', root(disk(a), group('mirror', disk(b), { type: 'nonsense' })), Errno.EINVAL],
    ['a sector that no disk has', root(disk(a, { ashift: 65536n })), Errno.EINVAL],
    ['a log in a mirror', root(group('mirror', disk(a), disk(b, { is_log: 1n }))), Errno.EINVAL],
    ['a disk twice', root(group('mirror', disk(a), disk(a))), Errno.EBUSY],
  ];
  for (const [what, conf, errno] of bad) {
    t.is((await session.ioctl('POOL_CREATE', { cmd: { name: 'other' }, conf, dstRoom: 65536 })).errno, errno, what);
    t.is((await session.ioctl('VDEV_ADD', { cmd: { name: 'tank' }, conf })).errno, errno, what);
    t.is((await session.ioctl('VDEV_ATTACH', { cmd: { name: 'tank', guid }, conf })).errno, errno, what);
  }
  const log = root(disk(a, { is_log: 1n }));
  t.is((await session.ioctl('VDEV_ATTACH', { cmd: { name: 'tank', guid }, conf: log })).errno, Errno.EINVAL);
  await session.must('VDEV_ADD', { cmd: { name: 'tank' }, conf: root(group('mirror', disk(a), disk(b))) });
  await session.must('VDEV_ATTACH', { cmd: { name: 'tank', guid }, conf: root(disk(core.disk('c'))) });
  await core.core.close();
});

test('a pool is not imported by a configuration with a sector that no disk has', async (t) => {
  const { core, session } = await withPool();
  t.teardown(() => core.core.close());
  const { dst } = await session.must('POOL_STATS', { cmd: { name: 'tank' }, dstRoom: 65536 });
  const guid = decodeNativeNvlist(Buffer.from(dst)).get('pool_guid') as bigint;
  await session.must('POOL_EXPORT', { cmd: { name: 'tank' } });
  const ask = async (ioctl: string, ashift: bigint) => {
    const conf = Buffer.from(dst);
    const at = conf.indexOf('ashift\0') + 8;
    t.is(conf.readBigUInt64LE(at), 12n);
    conf.writeBigUInt64LE(ashift, at);
    return (await session.ioctl(ioctl, { cmd: { name: 'tank', guid }, conf, dstRoom: 1 << 17 })).errno;
  };
  for (const ashift of [8n, 17n, 64n, 65536n]) {
    t.is(await ask('POOL_TRYIMPORT', ashift), Errno.EINVAL);
    t.is(await ask('POOL_IMPORT', ashift), Errno.EINVAL);
  }
  t.is(await ask('POOL_TRYIMPORT', 12n), 0);
  t.is(await ask('POOL_IMPORT', 12n), 0);
});

test('a configuration whose devices are in each other deeper than a pool has them is refused', async (t) => {
  const core = await TestCore.load();
  t.teardown(() => core.core.close());
  const session = await core.open();
  const path = core.disk('a');
  const ask = async (levels: number) => {
    let vdev: NvPairs = disk(path, { id: 0n, guid: 1n });
    for (let i = 1; i < levels; i++) vdev = { type: 'mirror', id: 0n, guid: BigInt(i + 1), children: [vdev] };
    const tree = { type: 'root', id: 0n, guid: 99n, children: [vdev] };
    const conf = { name: 'deep', state: 0n, pool_guid: 99n, version: 5000n, txg: 4n, vdev_tree: tree };
    return (await session.ioctl('POOL_TRYIMPORT', { conf, dstRoom: 1 << 17 })).errno;
  };
  for (const levels of [2, 8]) t.is(await ask(levels), 0, `${levels}`);
  for (const levels of [9, 15]) t.is(await ask(levels), Errno.EINVAL, `${levels}`);
});

test('a pool is not imported by a configuration whose root is another pool’s', async (t) => {
  const { core, session } = await withPool();
  t.teardown(() => core.core.close());
  const { dst } = await session.must('POOL_STATS', { cmd: { name: 'tank' }, dstRoom: 65536 });
  const guid = decodeNativeNvlist(Buffer.from(dst)).get('pool_guid') as bigint;
  await session.must('POOL_EXPORT', { cmd: { name: 'tank' } });
  const conf = Buffer.from(dst);
  // It is there twice: of the pool, and of the root of its devices.
  const value = Buffer.alloc(8);
  value.writeBigUInt64LE(guid);
  const at = conf.lastIndexOf(value);
  t.not(at, conf.indexOf(value));
  conf.writeBigUInt64LE(guid ^ 1n, at);
  for (const ioctl of ['POOL_TRYIMPORT', 'POOL_IMPORT']) {
    const { errno } = await session.ioctl(ioctl, { cmd: { name: 'tank', guid }, conf, dstRoom: 1 << 17 });
    t.is(errno, Errno.EINVAL, ioctl);
  }
  t.is((await session.ioctl('POOL_IMPORT', { cmd: { name: 'tank', guid }, conf: dst, dstRoom: 1 << 17 })).errno, 0);
});

test('zinject -I: its time begins with the first write that is ignored, whatever a client says', async (t) => {
  const { core, session } = await withPool();
  /** ZINJECT_IGNORED_WRITES; zinject_record_t: 324 duration, 328 timer, 344 what. */
  const record = (duration: number, timer: bigint): Buffer => {
    const bytes = Buffer.alloc(368);
    bytes.writeInt32LE(duration, 324);
    bytes.writeBigUInt64LE(timer, 328);
    bytes.writeUInt32LE(4, 344);
    return bytes;
  };
  const inject = (duration: number, timer: bigint) =>
    session.ioctl('INJECT_FAULT', { cmd: { name: 'tank', injectRecord: record(duration, timer), flags: 0 } });
  t.is((await inject(0, 0n)).errno, Errno.EINVAL);
  for (const duration of [3600, -1000]) {
    const { errno, cmd } = await inject(duration, 1n);
    t.is(errno, 0);
    await session.must('POOL_SYNC', { cmd: { name: 'tank' }, src: { force: new Typed(DataType.BOOLEAN_VALUE, 1) } });
    await session.must('CLEAR_FAULT', { cmd: { guid: Buffer.from(cmd).readBigUInt64LE(12592) } });
  }
  await session.must('POOL_STATS', { cmd: { name: 'tank' }, dstRoom: 65536 });
  await core.core.close();
});

test('a boot environment of a version that is not known', async (t) => {
  const { core, session } = await withPool();
  t.is((await session.ioctl('SET_BOOTENV', { cmd: { name: 'tank' }, src: { version: 7n } })).errno, Errno.EINVAL);
  await session.must('SET_BOOTENV', { cmd: { name: 'tank' }, src: { version: 1n, text: 'x' } });
  await core.core.close();
});

test('zpool online of the pool itself, and not of a device', async (t) => {
  const { core, session, guid } = await withPool();
  const { dst } = await session.must('POOL_STATS', { cmd: { name: 'tank' }, dstRoom: 65536 });
  const pool = decodeNativeNvlist(dst).pairs.find(({ name }) => name === 'pool_guid')!.value as bigint;
  /** VDEV_STATE_ONLINE, which is VDEV_STATE_HEALTHY. */
  const online = (device: bigint) =>
    session.ioctl('VDEV_SET_STATE', { cmd: { name: 'tank', guid: device, cookie: 7 } });
  t.is((await online(pool)).errno, 95); // ENOTSUP
  t.is((await online(guid)).errno, 0);
  await core.core.close();
});
