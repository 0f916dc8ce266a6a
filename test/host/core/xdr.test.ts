import test from 'ava';
import { Errno } from '../../../host/errno.ts';
import { TestCore } from './fixture.ts';

/** Packed nvlists in XDR, as labels and streams have them, whose pairs say that they are smaller than they are. */

/** data_type_t, include/sys/nvpair.h. */
const Type = { uint64: 8, byteArray: 10, uint64Array: 16, stringArray: 17, nvlist: 19, nvlistArray: 20 };

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
    'a list of bytes': pair('name', 32, Type.byteArray, 4096, filling),
    'a list of nvlists': pair('name', 64, Type.nvlistArray, 0x7c0001, list()),
    'a list of strings': pair('name', 64, Type.stringArray, 1 << 20, text('a')),
    'an nvlist': pair('name', 25, Type.nvlist, 1, list()),
    'a number': pair('name', 25, Type.uint64, 1, u32(0, 1)),
    'one in another': pair('in', 48, Type.nvlist, 1, list(pair('name', 32, Type.byteArray, 4096, filling))),
  };
  for (const [what, lie] of Object.entries(lies)) {
    for (const ioctl of ['POOL_CREATE', 'POOL_TRYIMPORT', 'VDEV_ADD'] as const) {
      const { errno } = await session.ioctl(ioctl, {
        cmd: { name: 'tank' },
        conf: packed(lie, pair('fill', 4200, Type.byteArray, 4096, filling)),
      });
      t.is(errno, Errno.EFAULT, `${what}, ${ioctl}`);
    }
  }
  // What is as large as it says is taken, for whatever it is.
  const honest = [
    pair('name', 32, Type.byteArray, 8, u32(0, 1)),
    pair('n', 32, Type.uint64, 1, u32(0, 1)),
    pair('many', 40, Type.uint64Array, 2, u32(2, 0, 1, 0, 2)),
    pair('words', 48, Type.stringArray, 2, text('a'), text('b')),
    pair('in', 48, Type.nvlist, 1, list()),
    pair('all', 88, Type.nvlistArray, 2, list(), list()),
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
