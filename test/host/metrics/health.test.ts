import test from 'ava';
import { Health, type Patient } from '../../../host/metrics/health.ts';
import type { Vitals } from '../../../host/metrics/vitals.ts';

function patient(states: Readonly<Record<string, string>>, changes: Partial<Patient> = {}, free = 500): Patient {
  const vitals: Vitals = { states: new Map(Object.entries(states)), memory: { all: 1000, free } };
  const engines = [{ pools: [], vitals: () => Promise.resolve(vitals) }];
  return { notServing: undefined, lost: undefined, engines, lostPools: new Map(), wanted: [], ...changes };
}

const unready = (of: Patient): Promise<readonly string[]> => new Health(of).unready();

test('ready: all pools serve, a degraded one too', async (t) => {
  t.deepEqual(await unready(patient({ tank: 'ONLINE', calm: 'DEGRADED' }, { wanted: ['tank', 'calm'] })), []);
});

test('not ready: suspended, faulted, missing and lost pools', async (t) => {
  const lostPools = new Map([['gone', 'its engine ended: SIGKILL']]);
  t.deepEqual(
    await unready(patient({ tank: 'SUSPENDED', calm: 'FAULTED' }, { lostPools, wanted: ['tank', 'gone', 'x'] })),
    [
      'pool gone: its engine ended: SIGKILL',
      'pool tank is SUSPENDED',
      'pool calm is FAULTED',
      'pool x is not imported',
    ],
  );
});

test('not ready: starting, shutting down, the core lost', async (t) => {
  t.deepEqual(await unready(patient({}, { notServing: 'the host is starting' })), ['the host is starting']);
  const lost = patient({}, { lost: 'panic in pool tank' });
  t.deepEqual(await unready(lost), ['panic in pool tank']);
  t.is(new Health(lost).dead, 'panic in pool tank');
  t.is(new Health(patient({ tank: 'SUSPENDED' })).dead, undefined, 'a new start mends no suspended pool');
});

test('not ready: memory is short', async (t) => {
  t.deepEqual(await unready(patient({}, {}, 32)), []);
  t.deepEqual(await unready(patient({}, {}, 31)), ['memory is short: 31 of 1000 bytes are free']);
});

test('a core that does not answer keeps nobody waiting', async (t) => {
  const engines = [
    { pools: ['tank'], vitals: () => new Promise<never>(() => undefined) },
    { pools: [], vitals: () => Promise.reject(new Error('its process is gone')) },
  ];
  const started = performance.now();
  t.deepEqual(await unready(patient({}, { engines, wanted: ['tank'] })), [
    'the core of tank does not answer',
    'a core does not answer',
  ]);
  t.true(performance.now() - started < 5_000);
  // What it has is not known: nothing is said to be missing.
  const silent = [{ pools: [], vitals: () => new Promise<never>(() => undefined) }];
  t.deepEqual(await unready(patient({}, { engines: silent, wanted: ['tank'] })), ['a core does not answer']);
});

test('who asks at the same time is one question', async (t) => {
  let asked = 0;
  const vitals = async (): Promise<Vitals> => {
    asked++;
    return { states: new Map(), memory: { all: 1, free: 1 } };
  };
  const health = new Health(patient({}, { engines: [{ pools: [], vitals }] }));
  await Promise.all(Array.from({ length: 100 }, () => health.unready()));
  t.is(asked, 1);
});
