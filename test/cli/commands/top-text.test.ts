import test from 'ava';
import { nice, orderOf, topText } from '../../../cli/commands/top-text.ts';
import type { LiveIo, LiveSample } from '../../../host/metrics/live.ts';
import { DEVICE_BOUNDS } from '../../../host/metrics/pool-config.ts';

const MiB = 1024 ** 2;

const engine = (cpuSeconds: number) => ({
  index: 0,
  cpuSeconds,
  residentBytes: 300 * MiB,
  lateSeconds: 0.012,
  arc: { size: 10 * MiB, max: 256 * MiB, hits: 100 * cpuSeconds, misses: 100 * cpuSeconds },
});

const buckets = (...counts: number[]) => [
  ...counts,
  ...Array<number>(DEVICE_BOUNDS.length + 1 - counts.length).fill(0),
];

const pool = (times: number) => ({
  name: 'tank',
  state: 'ONLINE',
  io: {
    size: 1024 * MiB,
    allocated: 512 * MiB,
    read: { operations: 10 * times, bytes: MiB * times },
    write: { operations: 1000 * times, bytes: 0 },
    latency: { read: buckets(0, 10 * times), write: buckets(980 * times, 0, 20 * times) },
  },
});

const io = (operations: number, bytes: number, seconds: number, errors = 0): LiveIo => ({
  operations,
  bytes,
  seconds,
  errors,
});

const empty: LiveSample = { at: 10, release: '2.4.3', engines: [], pools: [], volumes: [], clients: [] };

/** The cells of the line that begins with a name. */
function line(text: string, name: string): string[] {
  return (text.split('\n').find((each) => each.startsWith(`${name} `)) ?? '').trim().split(/ {2,}/);
}

test('rates are those of the time between two samples', (t) => {
  const before: LiveSample = {
    ...empty,
    engines: [engine(1)],
    pools: [pool(1)],
    volumes: [{ name: 'tank/v', size: 64 * MiB, io: { read: io(100, MiB, 1), write: io(5, 5, 5, 1) } }],
    clients: [{ protocol: 'nbd', peer: '10.0.0.7:123', volumes: ['tank/v'], bytes: MiB }],
  };
  const now: LiveSample = {
    ...empty,
    at: 12,
    engines: [engine(2)],
    pools: [pool(3)],
    volumes: [
      {
        name: 'tank/v',
        size: 64 * MiB,
        io: { read: io(300, 3 * MiB, 1.4), write: io(5, 5, 5, 1), trim: io(8, 0, 0.1, 2) },
      },
    ],
    clients: [{ protocol: 'nbd', peer: '10.0.0.7:123', volumes: ['tank/v'], bytes: 5 * MiB }],
  };
  const text = topText(before, now);
  t.regex(
    text,
    /^zow, OpenZFS 2\.4\.3 {2}50% of a processor {2}300M resident {2}late by 12\.0 ms at most {2}ARC 10\.0M of 256M, 50\.0% found\n/,
  );
  t.deepEqual(
    line(text, 'tank'),
    ['tank', 'ONLINE', '1.00G', '512M', '10', '1000', '1.00M', '0', '0.52ms', '2.10ms'],
    'of 1000 writes 20 were slower than the first bucket: more than 1 of 100',
  );
  t.deepEqual(line(text, 'tank/v'), ['tank/v', '64.0M', '100', '0', '0', '4.0', '1.00M', '0', '2.00', '-', '-', '2.0']);
  t.deepEqual(line(text, '10.0.0.7:123'), ['10.0.0.7:123', 'nbd', '2.00M', 'tank/v']);
});

test('what is new, or has begun anew, is counted from its beginning', (t) => {
  const now: LiveSample = {
    ...empty,
    at: 11,
    engines: [engine(1)],
    pools: [pool(1)],
    volumes: [{ name: 'tank/v', size: MiB, io: { write: io(7, 70, 0.07) } }],
    clients: [{ protocol: 'iscsi', peer: 'unix', volumes: [], bytes: 2048 }],
  };
  const fresh = topText(empty, now);
  t.is(line(fresh, 'tank/v')[3], '7.0');
  t.deepEqual(line(fresh, 'unix'), ['unix', 'iscsi', '2.00K', '-']);
  const anew = topText(
    { ...now, at: 10, pools: [pool(50)], volumes: [{ ...now.volumes[0]!, io: { write: io(9, 0, 1) } }] },
    now,
  );
  t.is(line(anew, 'tank')[4], '10');
  t.is(line(anew, 'tank/v')[3], '7.0');
});

test('pools that do not answer have their state alone; scans say how far they are', (t) => {
  const scan = { kind: 'resilver', paused: false, done: 0.4567, secondsLeft: 3725 };
  const text = topText(empty, {
    ...empty,
    at: 11,
    pools: [
      { name: 'away', state: 'SUSPENDED' },
      { ...pool(1), io: { ...pool(1).io, scan } },
    ],
  });
  t.deepEqual(line(text, 'away').slice(0, 4), ['away', 'SUSPENDED', '-', '-']);
  t.is(line(text, 'tank').at(-1), 'resilver 45.7%, 1h2m5s left');
});

test('a screen has the pools and the busiest volumes, and is never too large', (t) => {
  const volumes = Array.from({ length: 200 }, (_, i) => ({
    name: `tank/v${i}`,
    size: MiB,
    io: { write: io(i, 1000 - i, i === 5 ? 100 : 0) },
  }));
  const clients = Array.from({ length: 300 }, (_, i) => ({
    ...{ protocol: 'nbd' as const, peer: `10.0.0.1:${i}`, volumes: [`tank/v${i}`], bytes: i },
  }));
  const now = { ...empty, at: 11, pools: [pool(1)], volumes, clients };
  for (const [rows, columns] of [
    [24, 80],
    [10, 40],
    [3, 10],
    [1, 1],
    [100, 200],
  ] as const) {
    const lines = topText(empty, now, { order: 'operations', rows, columns }).trimEnd().split('\n');
    t.true(lines.length <= rows, `${lines.length} of ${rows}`);
    t.true(lines.every((each) => each.length <= columns));
  }
  const first = (key: string) => {
    const lines = topText(empty, now, { order: orderOf(key)!, rows: 40, columns: 200 }).split('\n');
    return lines[lines.findIndex((each) => each.startsWith('VOLUME')) + 1]!.split(' ')[0];
  };
  t.deepEqual(['o', 'b', 'l', 'n'].map(first), ['tank/v199', 'tank/v0', 'tank/v5', 'tank/v0']);
  t.is(orderOf('x'), undefined);
  const screen = topText(empty, now, { order: 'operations', rows: 24, columns: 80 });
  t.regex(screen, /\nand \d+ more\n/);
  t.is(topText(empty, now).split('\n').length, 1 + 3 + 202 + 302 + 1, 'all of it where there is no screen');
});

test('sizes have three digits', (t) => {
  t.deepEqual([0, 1, 1023, 1024, 10 * 1024, 1536 * 1024, 300 * MiB, 2 ** 50].map(nice), [
    '0',
    '1',
    '1023',
    '1.00K',
    '10.0K',
    '1.50M',
    '300M',
    '1.00P',
  ]);
});
