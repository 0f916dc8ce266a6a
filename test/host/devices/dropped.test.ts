import test from 'ava';
import { DroppedPools } from '../../../host/devices/dropped.ts';
import { MemoryDevice } from '../../../host/devices/memory.ts';

test('a disk that is opened anew has what it was told since its pool was dropped, until that is forgotten', async (t) => {
  const disk = new MemoryDevice('disk', new Uint8Array(8192));
  const pools = new DroppedPools();
  const read = async (pool: number) => {
    const buffer = Buffer.alloc(8);
    await pools.drop(disk, pool).read(buffer, 4096);
    return buffer.toString('latin1').replaceAll('\0', '-');
  };
  const first = pools.drop(disk, 1);
  first.write(Buffer.from('abcd'), 4098);
  t.is(await read(1), '--abcd--');
  pools.drop(disk, 1).write(Buffer.from('XY'), 4096);
  t.is(await read(1), 'XYabcd--');
  t.is(await read(2), '--------', 'of another pool');
  pools.forget(1);
  t.is(await read(1), '--------');
  t.is(pools.drop(first, 1), first, 'once is enough');
});
