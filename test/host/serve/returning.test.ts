import test from 'ava';
import { devicesAway } from '../../../host/serve/returning.ts';

const status = (vdevs: object, state = 'DEGRADED') =>
  JSON.stringify({ pools: { tank: { name: 'tank', state, vdevs } } });
const leaf = (state: string, more: object = {}) => ({
  vdev_type: 'file',
  guid: '5',
  path: '/dev/zow/r',
  state,
  ...more,
});

test('finds what is not there, wherever it is in a pool, and leaves alone what somebody took out', (t) => {
  const inMirror = (vdev: object) =>
    status({ tank: { state: 'DEGRADED', vdevs: { 'mirror-0': { vdevs: { r: vdev } } } } });
  for (const state of ['REMOVED', 'UNAVAIL']) {
    t.deepEqual(devicesAway(inMirror(leaf(state)), '/dev/zow/r'), [{ pool: 'tank', guid: '5', isSuspended: false }]);
  }
  t.deepEqual(devicesAway(inMirror(leaf('UNAVAIL', { path: undefined, was: '/dev/zow/r' })), '/dev/zow/r'), [
    { pool: 'tank', guid: '5', isSuspended: false },
  ]);
  t.deepEqual(devicesAway(status({ r: leaf('REMOVED') }, 'SUSPENDED'), '/dev/zow/r'), [
    { pool: 'tank', guid: '5', isSuspended: true },
  ]);
  for (const state of ['ONLINE', 'OFFLINE', 'FAULTED'])
    t.deepEqual(devicesAway(inMirror(leaf(state)), '/dev/zow/r'), []);
  t.deepEqual(devicesAway(inMirror(leaf('REMOVED')), '/dev/zow/other'), []);
  t.deepEqual(
    devicesAway(JSON.stringify({ pools: { tank: { logs: { r: leaf('REMOVED') } } } }), '/dev/zow/r').length,
    1,
  );
  t.deepEqual(devicesAway('{}', '/dev/zow/r'), []);
});
