import test from 'ava';
import { Errno } from '../../../host/errno.ts';
import { decodeNativeNvlist } from '../../../host/nvlist/native.ts';
import { type NvPairs, Typed } from '../nvlist/pack.ts';
import { TestCore } from './fixture.ts';

/** What a client says of its buffers, and what it sent. */

const ECHRNG = 44;

const huge = [0xf000_0000n, 0x1_0000_0000n, 0x1_0000_0010n, 0xffff_ffff_ffff_fff0n, 0x8000_0000_0000_0010n];

test('sizes that are not those of what was sent are refused, and nothing is allocated by them', async (t) => {
  const core = await TestCore.load();
  const session = await core.open();
  await core.createPool(session);
  const before = (await session.must('POOL_STATS', { cmd: { name: 'tank' }, dstRoom: 65536 })).dst.length;
  const conf = Buffer.alloc(64);
  for (const size of [...huge, 65n]) {
    const whole = { name: 'tank' };
    const refused = [Errno.EINVAL, Errno.EFAULT];
    for (const [ioctl, call] of [
      ['POOL_GET_HISTORY', { cmd: { ...whole, historyLength: size }, historyRoom: 64 }],
      ['POOL_TRYIMPORT', { cmd: { ...whole, confSize: size }, conf, dstRoom: 4096 }],
      ['VDEV_ADD', { cmd: { ...whole, confSize: size }, conf }],
      ['SET_PROP', { cmd: { ...whole, srcSize: size }, src: conf }],
      ['POOL_CREATE', { cmd: { name: 'other', srcSize: size }, src: conf, conf }],
      ['SNAPSHOT', { cmd: { ...whole, srcSize: size }, src: conf }],
    ] as const) {
      const { errno } = await session.ioctl(ioctl, call);
      t.true((refused as number[]).includes(errno), `${ioctl}, ${size}: errno ${errno}`);
    }
    // Answers: as much as there is room for, whatever is said of that.
    const { errno, dst } = await session.ioctl('POOL_STATS', { cmd: { ...whole, dstSize: size }, dstRoom: 16 });
    t.true(errno === Errno.EFAULT || errno === Errno.ENOMEM, `errno ${errno}`);
    t.is(dst.length, 0);
    t.is((await session.ioctl('ERROR_LOG', { cmd: { ...whole, dstSize: size }, dstRoom: 64 })).errno, 0);
  }
  t.is((await session.must('POOL_STATS', { cmd: { name: 'tank' }, dstRoom: 65536 })).dst.length, before);
  await core.core.close();
});

test('a history is read in pieces of any size', async (t) => {
  const core = await TestCore.load();
  const session = await core.open();
  await core.createPool(session);
  const call = { cmd: { name: 'tank', historyLength: 1n << 20n }, historyRoom: 1 << 20 };
  const { history } = await session.must('POOL_GET_HISTORY', call);
  t.true(history.length > 100);
  const { errno, history: part } = await session.ioctl('POOL_GET_HISTORY', {
    cmd: { name: 'tank', historyLength: 64 },
    historyRoom: 64,
  });
  t.is(errno, 0);
  t.true(Buffer.from(history).subarray(0, 64).equals(Buffer.from(part)));
  await core.core.close();
});

test('more than a sixteenth of memory in an nvlist is refused', async (t) => {
  const core = await TestCore.load();
  const session = await core.open();
  await core.createPool(session);
  const bytes = { snaps: { 'tank@s': true }, more: new Uint8Array(5 << 20) } as const;
  t.is((await session.ioctl('SNAPSHOT', { cmd: { name: 'tank' }, src: bytes, dstRoom: 4096 })).errno, Errno.EINVAL);
  await core.core.close();
});

function nested(levels: number): NvPairs {
  let list: NvPairs = { leaf: 'x' };
  for (let i = 0; i < levels; i++) list = { key: list };
  return list;
}

test('lists in lists go into a channel program and back, and into the history, or are refused', async (t) => {
  const core = await TestCore.load();
  const session = await core.open();
  await core.createPool(session);
  const run = async (program: string, levels: number) => {
    const src = { program, arg: nested(levels), instrlimit: 10_000_000n, memlimit: 10_485_760n };
    return session.ioctl('CHANNEL_PROGRAM', { cmd: { name: 'tank' }, src, dstRoom: 1 << 20 });
  };
  const names = (dst: Uint8Array) => decodeNativeNvlist(Buffer.from(dst)).pairs.map(({ name }) => name);
  const synced = () =>
    session.must('POOL_SYNC', { cmd: { name: 'tank' }, src: { force: new Typed(21, 1) }, dstRoom: 4096 });
  const [SAME, DEEPER] = ['arg = ...; return arg', 'arg = ...; return {output = arg}'];
  // The list of arguments, and of results, is one more; and the history's is one around that.
  for (let levels = 1; levels <= 18; levels++) {
    const { errno, dst } = await run(SAME, levels);
    t.deepEqual([errno, names(dst)], [0, ['return']], `${levels} levels`);
    const deeper = await run(DEEPER, levels);
    const outcome = levels < 18 ? [0, ['return']] : [ECHRNG, ['error']];
    t.deepEqual([deeper.errno, names(deeper.dst)], outcome, `${levels} levels, and one more`);
    await synced();
  }
  for (const levels of [19, 20, 21, 30, 50, 80, 98, 99, 100, 1000]) {
    const result = await run(SAME, levels);
    t.not(result.errno, 0, `${levels} levels`);
    t.is((await run(SAME, 10)).errno, 0);
  }
  for (const levels of [16, 17, 18, 19, 20, 21, 22, 200]) {
    const made = `local t = {} for i = 1, ${levels} do t = {t} end return t`;
    t.is((await run(made, 1)).errno, levels <= 18 ? 0 : ECHRNG, `${levels} levels that a program made`);
    t.is((await run(`error(${JSON.stringify(made)})`, 1)).errno, ECHRNG);
    await synced();
  }
  await core.core.close();
});

test('lists in lists of other ioctls, as deep as one may be packed, go into the history or are refused', async (t) => {
  const core = await TestCore.load();
  const session = await core.open();
  await core.createPool(session);
  for (let levels = 15; levels <= 21; levels++) {
    const snaps = { [`tank@${levels}`]: nested(levels) };
    const { errno } = await session.ioctl('SNAPSHOT', { cmd: { name: 'tank' }, src: { snaps }, dstRoom: 4096 });
    const refused = levels < 19 ? Errno.EINVAL : Errno.EFAULT; // by upstream itself, from there on
    t.is(errno, levels < 18 ? 0 : refused, `${levels} levels`);
    const env = { version: 1n, env: nested(levels) };
    await session.ioctl('SET_BOOTENV', { cmd: { name: 'tank' }, src: env, dstRoom: 4096 });
    await session.ioctl('GET_BOOTENV', { cmd: { name: 'tank' }, dstRoom: 65536 });
    await session.must('POOL_SYNC', { cmd: { name: 'tank' }, src: { force: new Typed(21, 1) }, dstRoom: 4096 });
  }
  await core.core.close();
});
