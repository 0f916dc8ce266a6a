import test from 'ava';
import { Errno } from '../../../host/errno.ts';
import { decodeNativeNvlist } from '../../../host/nvlist/native.ts';
import type { NvPairs } from '../nvlist/pack.ts';
import { TestCore } from './fixture.ts';

/** What a client says of its buffers, and what it sent. */

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

test('lists in lists go as deep as in a kernel, 20 levels, into a channel program and back', async (t) => {
  const core = await TestCore.load();
  const session = await core.open();
  await core.createPool(session);
  const run = async (levels: number) => {
    const src = {
      program: 'arg = ...; return arg',
      arg: nested(levels),
      instrlimit: 10_000_000n,
      memlimit: 10_485_760n,
    };
    return session.ioctl('CHANNEL_PROGRAM', { cmd: { name: 'tank' }, src, dstRoom: 1 << 20 });
  };
  const { errno, dst } = await run(15);
  t.is(errno, 0);
  t.deepEqual(
    decodeNativeNvlist(Buffer.from(dst)).pairs.map(({ name }) => name),
    ['return'],
  );
  for (const levels of [20, 21, 30, 50, 80, 98, 99, 100, 1000]) {
    const result = await run(levels);
    t.not(result.errno, 0, `${levels} levels`);
    t.is((await run(10)).errno, 0);
  }
  await core.core.close();
});
