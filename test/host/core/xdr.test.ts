import test from 'ava';
import { Errno } from '../../../host/errno.ts';
import { DataType } from '../../../host/nvlist/nvlist.ts';
import { TestCore } from './fixture.ts';

/** Packed nvlists in XDR, as labels and streams have them, whose pairs say that they are smaller than they are. */

function u32(...values: number[]): Buffer {
  const bytes = Buffer.alloc(4 * values.length);
  for (const [i, value] of values.entries()) bytes.writeUInt32BE(value, 4 * i);
  return bytes;
}

function text(value: string): Buffer {
  return Buffer.concat([u32(value.length), Buffer.from(value.padEnd((value.length + 3) & ~3, '\0'))]);
}

/** `bytes`: what the pair takes in memory, as the stream says. */
function pair(name: string, bytes: number, type: number, nelem: number, ...value: Buffer[]): Buffer {
  const body = Buffer.concat([text(name), u32(type, nelem), ...value]);
  return Buffer.concat([u32(8 + body.length, bytes), body]);
}

function list(...pairs: Buffer[]): Buffer {
  return Buffer.concat([u32(0, 1), ...pairs, u32(0, 0)]);
}

function packed(...pairs: Buffer[]): Buffer {
  return Buffer.concat([Buffer.from([1, 1, 0, 0]), list(...pairs)]);
}

const filling = Buffer.alloc(4096, 0x5a);

test('an nvlist is written into no more memory than its pairs have', async (t) => {
  const core = await TestCore.load();
  const session = await core.open();
  await core.createPool(session);
  const lies = {
    'a list of bytes': pair('name', 32, DataType.BYTE_ARRAY, 4096, filling),
    'a list of nvlists': pair('name', 64, DataType.NVLIST_ARRAY, 0x7c0001, list()),
    'a list of strings': pair('name', 64, DataType.STRING_ARRAY, 1 << 20, text('a')),
    'an nvlist': pair('name', 25, DataType.NVLIST, 1, list()),
    'a number': pair('name', 25, DataType.UINT64, 1, u32(0, 1)),
    'one in another': pair('in', 48, DataType.NVLIST, 1, list(pair('name', 32, DataType.BYTE_ARRAY, 4096, filling))),
  };
  for (const [what, lie] of Object.entries(lies)) {
    for (const ioctl of ['POOL_CREATE', 'POOL_TRYIMPORT', 'VDEV_ADD'] as const) {
      const { errno } = await session.ioctl(ioctl, {
        cmd: { name: 'tank' },
        conf: packed(lie, pair('fill', 4200, DataType.BYTE_ARRAY, 4096, filling)),
      });
      t.is(errno, Errno.EFAULT, `${what}, ${ioctl}`);
    }
  }
  // What is as large as it says is taken, for whatever it is.
  const honest = [
    pair('name', 32, DataType.BYTE_ARRAY, 8, u32(0, 1)),
    pair('n', 32, DataType.UINT64, 1, u32(0, 1)),
    pair('many', 40, DataType.UINT64_ARRAY, 2, u32(2, 0, 1, 0, 2)),
    pair('words', 48, DataType.STRING_ARRAY, 2, text('a'), text('b')),
    pair('in', 48, DataType.NVLIST, 1, list()),
    pair('all', 88, DataType.NVLIST_ARRAY, 2, list(), list()),
  ];
  const { errno } = await session.ioctl('POOL_TRYIMPORT', {
    cmd: { name: 'tank' },
    conf: packed(...honest),
    dstRoom: 65536,
  });
  t.not(errno, Errno.EFAULT);
  t.is((await session.ioctl('POOL_STATS', { cmd: { name: 'tank' }, dstRoom: 65536 })).errno, 0);
  await core.core.close();
});

test('an nvlist whose flags no nvlist has is none', async (t) => {
  const core = await TestCore.load();
  t.teardown(() => core.core.close());
  const session = await core.open();
  await core.createPool(session);
  const strange = Buffer.concat([u32(0, 0x80), pair('n', 32, DataType.UINT64, 1, u32(0, 1)), u32(0, 0)]);
  const call = { cmd: { name: 'tank' }, dstRoom: 65536 };
  for (const conf of [
    Buffer.concat([Buffer.from([1, 1, 0, 0]), strange]),
    packed(pair('in', 48, DataType.NVLIST, 1, strange)),
  ])
    t.is((await session.ioctl('POOL_TRYIMPORT', { ...call, conf })).errno, Errno.EFAULT);
});

test('names are looked for in an nvlist that does not say that they are unique', async (t) => {
  const core = await TestCore.load();
  t.teardown(() => core.core.close());
  const session = await core.open();
  await core.createPool(session);
  const holds = Buffer.concat([u32(0, 0), u32(0, 0)]);
  const pairs = [pair('holds', 48, DataType.NVLIST, 1, holds), u32(0, 0)];
  const src = Buffer.concat([Buffer.from([1, 1, 0, 0]), u32(0, 0), ...pairs]);
  t.is((await session.ioctl('HOLD', { cmd: { name: 'tank' }, src, dstRoom: 65536 })).errno, 0);
});
