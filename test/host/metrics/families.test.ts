import test from 'ava';
import { familiesOf, memoryByKind } from '../../../host/metrics/families.ts';
import type { HostSample } from '../../../host/metrics/host-sample.ts';

const http = {
  listener: '127.0.0.1:9134',
  connections: { open: 0, total: 0, refused: 0 },
  requests: new Map<number, number>(),
};
const host: HostSample = { release: 'x', engines: [], lostPools: [], engineLosses: 0, http, seconds: 0 };

function samplesOf(name: string, changes: Partial<HostSample>): string[] {
  const family = familiesOf({ ...host, ...changes }).find((each) => each.name === name);
  return (family?.samples ?? []).map(({ sharedLabels, value }) => `${JSON.stringify(sharedLabels)} ${value}`);
}

test('pools of engines that are lost or silent are down, and nothing else is told of them', (t) => {
  const engines = [{ index: 3, pools: ['calm'], sample: undefined }];
  t.deepEqual(samplesOf('zow_pool_up', { engines, lostPools: ['tank'] }), ['{"pool":"tank"} 0', '{"pool":"calm"} 0']);
  t.deepEqual(samplesOf('zow_engine_up', { engines }), ['{"engine":"3"} 0']);
  t.deepEqual(samplesOf('zow_pool_state', { engines, lostPools: ['tank'] }), []);
  // Its new engine has it already: two samples of one name would be no answer.
  t.deepEqual(samplesOf('zow_pool_up', { engines, lostPools: ['calm'] }), ['{"pool":"calm"} 0']);
});

test("the kinds of the core's memory are together all of it", (t) => {
  const arc = {
    data_size: 10,
    metadata_size: 5,
    hdr_size: 1,
    l2_hdr_size: 1,
    dbuf_size: 2,
    dnode_size: 2,
    bonus_size: 1,
  };
  t.deepEqual(memoryByKind({ arc, heap: { size: 100, used: 40 } }), {
    ...{ arc_data: 10, arc_metadata: 5, arc_headers: 2, dbufs: 2, dnodes: 3, other: 18, free: 60 },
  });
});
