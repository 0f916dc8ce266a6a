import { setTimeout as sleep } from 'node:timers/promises';
import test from 'ava';
import { DelayDevice, ErrorDevice, FaultTrigger } from '../../../host/devices/faulty/faults.ts';
import { Errno } from '../../../host/errno.ts';
import { DataType } from '../../../host/nvlist/nvlist.ts';
import { Typed } from '../nvlist/pack.ts';
import { TestCore } from './fixture.ts';

/** Who waits for one pool holds up nobody who looks for another (wasm/core/mended/namespace.c). */

test('a change of devices that waits for the configuration of a pool that is suspended meanwhile', async (t) => {
  const [slow, broken] = [new FaultTrigger({ operations: ['write'] }), new FaultTrigger({ operations: ['write'] })];
  slow.enabled = broken.enabled = false;
  const core = await TestCore.load({
    wrap: (device) =>
      device.name.endsWith('tank') ? new DelayDevice(new ErrorDevice(device, broken, Errno.EIO), slow, 500) : device,
  });
  t.teardown(() => core.core.close());
  const session = await core.open();
  for (const pool of ['tank', 'calm']) await core.createPool(session, pool);
  slow.enabled = true;
  const src = { force: new Typed(DataType.BOOLEAN_VALUE, 1) };
  const synced = session.ioctl('POOL_SYNC', { cmd: { name: 'tank' }, src });
  // The transaction group is being written, and has the configuration.
  await sleep(100);
  const more = { type: 'file', path: core.disk('more'), ashift: 12n, is_log: 0n };
  const added = session.ioctl('VDEV_ADD', { cmd: { name: 'tank' }, conf: { type: 'root', children: [more] } });
  broken.enabled = true;
  await sleep(1000);
  for (const name of ['calm', 'tank']) {
    const stats = session.ioctl('POOL_STATS', { cmd: { name }, dstRoom: 1 << 17 });
    t.is((await Promise.race([stats, sleep(10_000)]))?.errno, 0, name);
  }
  slow.enabled = broken.enabled = false;
  await session.must('CLEAR', { cmd: { name: 'tank', cookie: 1 } });
  t.is((await added).errno, 0);
  t.is((await synced).errno, 0);
});
