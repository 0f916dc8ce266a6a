import type { LiveCount, LiveEngine, LiveIo, LivePool, LiveSample, LiveVolume } from '../../host/metrics/live.ts';
import { DEVICE_BOUNDS } from '../../host/metrics/pool-config.ts';

export type Order = 'operations' | 'bytes' | 'latency' | 'name';

/** What the key sorts by. */
export function orderOf(key: string): Order | undefined {
  return (['operations', 'bytes', 'latency', 'name'] as const).find((order) => order.startsWith(key));
}

export interface Screen {
  readonly order: Order;
  readonly rows: number;
  readonly columns: number;
}

/** What `zow top` shows of the time between two samples; on a screen it is no larger than that. */
export function topText(before: LiveSample, now: LiveSample, screen?: Screen): string {
  const seconds = Math.max(now.at - before.at, 1e-3);
  const head = headLine(before, now, seconds, screen);
  const pools = now.pools.map((pool) => poolRow(find(before.pools, pool), pool, seconds));
  const volumes = sorted(
    now.volumes.map((volume) => volumeRow(find(before.volumes, volume), volume, seconds)),
    screen?.order ?? 'operations',
  );
  const clients = clientRows(before, now, seconds);
  const room = screen === undefined ? [Infinity, Infinity, Infinity] : rooms(screen.rows, pools, volumes, clients);
  const tables = [
    table(POOL_HEAD, pools, room[0]!),
    table(
      VOLUME_HEAD,
      volumes.map(({ cells }) => cells),
      room[1]!,
    ),
    table(CLIENT_HEAD, clients, room[2]!),
  ].filter((text) => text.length > 0);
  const lines = [head, ...tables.flatMap((text) => ['', ...text])];
  if (screen === undefined) return `${lines.join('\n')}\n`;
  return `${lines
    .slice(0, screen.rows)
    .map((line) => line.slice(0, screen.columns))
    .join('\n')}\n`;
}

const POOL_HEAD = ['POOL', 'STATE', 'SIZE', 'ALLOC', 'READ/s', 'WRITE/s', 'READ', 'WRITE', 'R 99%', 'W 99%', 'SCAN'];
const VOLUME_HEAD = [
  ...['VOLUME', 'SIZE', 'READ/s', 'WRITE/s', 'FLUSH/s', 'OTHER/s'],
  ...['READ', 'WRITE', 'R ms', 'W ms', 'F ms', 'ERRORS'],
];
const CLIENT_HEAD = ['CLIENT', 'PROTOCOL', 'BYTES/s', 'VOLUMES'];
/** Columns of text, which begin where the head does. */
const TEXT: readonly string[] = ['POOL', 'STATE', 'VOLUME', 'CLIENT', 'PROTOCOL', 'VOLUMES', 'SCAN'];

function find<T extends { readonly name: string }>(all: readonly T[], { name }: T): T | undefined {
  return all.find((each) => each.name === name);
}

/** By how much a counter has grown; one that began anew has all it says. */
function growth(before: number | undefined, now: number): number {
  return before === undefined || now < before ? now : now - before;
}

function headLine(before: LiveSample, now: LiveSample, seconds: number, screen: Screen | undefined): string {
  const sum = (of: (engine: LiveEngine) => number): number => now.engines.reduce((total, each) => total + of(each), 0);
  const grown = (of: (engine: LiveEngine) => number): number =>
    now.engines.reduce((total, each) => {
      const old = before.engines.find(({ index }) => index === each.index);
      return total + growth(old === undefined ? undefined : of(old), of(each));
    }, 0);
  const hits = grown(({ arc }) => arc.hits);
  const asked = hits + grown(({ arc }) => arc.misses);
  const late = Math.max(0, ...now.engines.map(({ lateSeconds }) => lateSeconds));
  return [
    `zow, OpenZFS ${now.release}`,
    // First: a narrow screen has it, too.
    ...(screen === undefined ? [] : [`by ${screen.order} (o b l n), q quits`]),
    `${Math.round((100 * grown(({ cpuSeconds }) => cpuSeconds)) / seconds)}% of a processor`,
    `${nice(sum(({ residentBytes }) => residentBytes))} resident`,
    `late by ${milliseconds(late)} ms at most`,
    `ARC ${nice(sum(({ arc }) => arc.size))} of ${nice(sum(({ arc }) => arc.max))}${
      asked > 0 ? `, ${((100 * hits) / asked).toFixed(1)}% found` : ''
    }`,
  ].join('  ');
}

function poolRow(before: LivePool | undefined, { name, state, io }: LivePool, seconds: number): string[] {
  if (io === undefined) return [name, state, ...Array<string>(POOL_HEAD.length - 3).fill('-'), ''];
  const old = before?.io;
  const rates = (['read', 'write'] as const).map((op) => rate(old?.[op], io[op], seconds));
  const scan =
    io.scan === undefined
      ? ''
      : `${io.scan.kind} ${(100 * io.scan.done).toFixed(1)}%${io.scan.paused ? ', paused' : left(io.scan.secondsLeft)}`;
  return [
    ...[name, state, nice(io.size), nice(io.allocated)],
    ...rates.map(({ operations }) => amount(operations)),
    ...rates.map(({ bytes }) => nice(bytes)),
    ...(['read', 'write'] as const).map((op) => percentile(old?.latency[op], io.latency[op])),
    scan,
  ];
}

function left(seconds: number | null): string {
  if (seconds === null) return '';
  const minutes = Math.floor(seconds / 60);
  return `, ${minutes >= 60 ? `${Math.floor(minutes / 60)}h` : ''}${minutes % 60}m${Math.floor(seconds % 60)}s left`;
}

/** In how long 99 of 100 were done: the bound of the bucket that has the last of them. */
function percentile(before: readonly number[] | undefined, now: readonly number[]): string {
  const counts = now.map((count, i) => growth(before?.[i], count));
  const total = counts.reduce((sum, count) => sum + count, 0);
  if (total === 0) return '-';
  let seen = 0;
  const bucket = counts.findIndex((count) => {
    seen += count;
    return seen >= 0.99 * total;
  });
  const bound = DEVICE_BOUNDS[bucket];
  return bound === undefined ? `>${milliseconds(DEVICE_BOUNDS.at(-1)!)}ms` : `${milliseconds(bound)}ms`;
}

interface VolumeRow {
  readonly cells: readonly string[];
  readonly name: string;
  readonly operations: number;
  readonly bytes: number;
  readonly latency: number;
}

function volumeRow(before: LiveVolume | undefined, { name, size, io }: LiveVolume, seconds: number): VolumeRow {
  const all = Object.entries(io).map(([kind, now]) => ({ kind, ...rate(before?.io[kind], now, seconds) }));
  const none = { operations: 0, bytes: 0, mean: undefined };
  const of = (kind: string) => all.find((each) => each.kind === kind) ?? none;
  const others = all.filter(({ kind }) => !['read', 'write', 'flush'].includes(kind));
  const sum = (pick: (each: (typeof all)[number]) => number, from = all): number =>
    from.reduce((total, each) => total + pick(each), 0);
  const errors = Object.entries(io).reduce((total, [kind, now]) => {
    return total + growth(before?.io[kind]?.errors, now.errors);
  }, 0);
  const mean = (kind: string): string => {
    const value = of(kind).mean;
    return value === undefined ? '-' : milliseconds(value);
  };
  return {
    name,
    operations: sum(({ operations }) => operations),
    bytes: sum(({ bytes }) => bytes),
    latency: Math.max(0, ...all.map((each) => each.mean ?? 0)),
    cells: [
      ...[name, nice(size)],
      ...['read', 'write', 'flush'].map((kind) => amount(of(kind).operations)),
      amount(sum(({ operations }) => operations, others)),
      ...[nice(of('read').bytes), nice(of('write').bytes)],
      ...['read', 'write', 'flush'].map(mean),
      errors === 0 ? '0' : amount(errors),
    ],
  };
}

/** The busiest first; of equals the one that comes first by name. */
function sorted(rows: VolumeRow[], order: Order): VolumeRow[] {
  const byName = rows.sort((a, b) => (a.name < b.name ? -1 : 1));
  return order === 'name' ? byName : byName.sort((a, b) => b[order] - a[order]);
}

/** A second; `mean`: how long one took, undefined where there was none. */
function rate(before: (LiveCount & Partial<LiveIo>) | undefined, now: LiveCount & Partial<LiveIo>, seconds: number) {
  const operations = growth(before?.operations, now.operations);
  const took = growth(before?.seconds, now.seconds ?? 0);
  return {
    operations: operations / seconds,
    bytes: growth(before?.bytes, now.bytes) / seconds,
    mean: operations === 0 ? undefined : took / operations,
  };
}

/** Clients have no name of their own: those of one peer and volume are taken together, when their number stays the same. */
function clientRows(before: LiveSample, now: LiveSample, seconds: number): string[][] {
  const groups = (sample: LiveSample) =>
    Map.groupBy(sample.clients, ({ protocol, peer, volumes }) => JSON.stringify([protocol, peer, volumes]));
  const old = groups(before);
  return [...groups(now)]
    .map(([key, clients]) => {
      const total = (all: typeof clients) => all.reduce((sum, { bytes }) => sum + bytes, 0);
      const were = old.get(key);
      const bytes = growth(
        were === undefined || were.length > clients.length ? undefined : total(were),
        total(clients),
      );
      return { clients, rate: bytes / seconds };
    })
    .sort((a, b) => b.rate - a.rate)
    .map(({ clients, rate: bytes }) => {
      const { protocol, peer, volumes } = clients[0]!;
      const times = clients.length > 1 ? ` (${clients.length})` : '';
      return [`${peer}${times}`, protocol, nice(bytes), volumes.join(' ') || '-'];
    });
}

/** Rows for each table, so that pools are seen first and all of it fits. */
function rooms(rows: number, ...tables: readonly (readonly unknown[])[]): number[] {
  // Of the head line, and of each table's gap and head.
  let free = rows - 1 - 2 * tables.filter((table) => table.length > 0).length;
  const [pools, volumes, clients] = tables.map(({ length }) => length) as [number, number, number];
  const forPools = Math.min(pools, Math.max(1, Math.floor(free / 3)));
  free -= forPools;
  const forClients = Math.min(clients, Math.max(1, Math.floor(free / 3), free - volumes));
  return [forPools, Math.max(1, free - forClients), forClients];
}

/** The lines of a table of at most `room` rows, the last of which says how many are missing. */
function table(head: readonly string[], rows: readonly (readonly string[])[], room: number): string[] {
  if (rows.length === 0) return [];
  const shown = rows.length <= room ? rows : rows.slice(0, Math.max(0, room - 1));
  const all = [head, ...shown];
  const widths = head.map((_, i) => Math.max(...all.map((row) => row[i]!.length)));
  const lines = all.map((row) =>
    row
      .map((cell, i) => (TEXT.includes(head[i]!) ? cell.padEnd(widths[i]!) : cell.padStart(widths[i]!)))
      .join('  ')
      .trimEnd(),
  );
  return shown.length === rows.length ? lines : [...lines, `and ${rows.length - shown.length} more`];
}

const UNITS = ['', 'K', 'M', 'G', 'T', 'P', 'E'];

/** Bytes in three digits and a unit, as zfs_nicenum() does it. */
export function nice(bytes: number): string {
  let value = bytes;
  let unit = 0;
  while (value >= 1024 && unit < UNITS.length - 1) {
    value /= 1024;
    unit++;
  }
  return `${digits(value, unit === 0)}${UNITS[unit]}`;
}

function digits(value: number, isWhole: boolean): string {
  if (isWhole || value >= 100) return String(Math.round(value));
  return value.toFixed(value >= 10 ? 1 : 2);
}

function amount(value: number): string {
  if (value === 0) return '0';
  return value < 10 ? value.toFixed(1) : String(Math.round(value));
}

function milliseconds(seconds: number): string {
  const value = seconds * 1000;
  return value === 0 ? '0' : digits(value, value >= 100);
}
