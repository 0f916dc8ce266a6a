import type { Inspector } from '../core/dev-zfs.ts';
import { Errno, ErrnoError } from '../errno.ts';
import { matchesGlob } from '../glob.ts';
import { decodeNativeNvlist } from '../nvlist/native.ts';
import { DataType, exactNumber, type Json, NvList, NvlistError, type NvPair, nvToJson } from '../nvlist/nvlist.ts';
import { InspectError } from './inspect-error.ts';

/** A statistic: its name, its value, and the number that a kernel shows as its type (KSTAT_DATA_*). */
export interface Statistic {
  readonly name: string;
  readonly type: number;
  /** bigint for 64 bits, number for 32. */
  readonly value: bigint | number | string;
}

/** What all kstats have. */
interface KstatBase {
  /** Its path below a kernel's /proc/spl/kstat: `zfs/arcstats`, `zfs/tank/txgs`. */
  readonly path: string;
}

/** The head of a kstat_t, as a kernel's first line of the file has it. */
interface KstatHeader {
  readonly class: string;
  readonly instance: number;
  readonly flags: number;
  readonly kid: number;
  readonly ndata: number;
  readonly size: number;
  /** Nanoseconds of the host's monotonic clock. */
  readonly crtime: bigint;
  readonly snaptime: bigint;
}

export type Kstat = KstatBase &
  (
    | ({ readonly type: 'named'; readonly statistics: readonly Statistic[] } & KstatHeader)
    /** One or more records of the same layout. */
    | ({ readonly type: 'io' | 'intr' | 'timer'; readonly records: readonly (readonly Statistic[])[] } & KstatHeader)
    /** Text of upstream's making; or bytes that only upstream understands. */
    | ({
        readonly type: 'raw';
        readonly text: string;
        readonly bytes: readonly number[];
        readonly truncated: boolean;
      } & KstatHeader)
    /** A list with a header line: `txgs`, `reads`, `multihost`, `dbgmsg`. Oldest first. */
    | { readonly type: 'list'; readonly text: string; readonly truncated: boolean }
  );

/** Reading it measures all checksums, for a second: nobody does so who has not asked for it. */
const benchmark = 'zfs/chksum_bench';

const types = ['raw', 'named', 'intr', 'io', 'timer'] as const;
/** KSTAT_FLAG_NO_HEADERS. */
const flagNoHeaders = 0x80;

/** KSTAT_DATA_* by data_type_t. */
const dataTypes = new Map<number, number>([
  [DataType.INT32, 1],
  [DataType.UINT32, 2],
  [DataType.INT64, 3],
  [DataType.UINT64, 4],
  [DataType.STRING, 9],
]);

/** What a pattern selects: `zfs/arcstats`, `zfs/tank`, `zfs/*\/io*`, `zfs/arcstats:*hits`. */
export interface KstatPattern {
  /** Whether the kstat at `path` is meant. */
  matches(path: string): boolean;
  /** Whether a statistic of it is meant; undefined: all are, and the rest of it. */
  readonly statistic: ((name: string) => boolean) | undefined;
}

/**
 * `PATH[:STATISTIC]`, each part of the path and the statistic a shell's pattern. A path of fewer parts means everything
 * below it; nothing means everything, except `zfs/chksum_bench`, which has to be named.
 */
export function parseKstatPattern(text: string): KstatPattern {
  const slash = text.lastIndexOf('/');
  const colon = text.lastIndexOf(':');
  const path = colon > slash ? text.slice(0, colon) : text;
  const statistic = colon > slash ? text.slice(colon + 1) : undefined;
  const parts = path.split('/').filter((part) => part !== '');
  return {
    matches: (candidate) => {
      const components = candidate.split('/');
      if (candidate === benchmark && parts.join('/') !== benchmark) return false;
      return parts.length <= components.length && parts.every((part, i) => matchesGlob(components[i]!, part));
    },
    statistic: statistic === undefined ? undefined : (name) => matchesGlob(name, statistic),
  };
}

/** The kstats that a pattern selects, packed, in the order of their paths. Rejects with ENOENT when there is none. */
export async function* packedKstats(inspector: Inspector, pattern: string): AsyncGenerator<Uint8Array> {
  for (const path of await matchingPaths(inspector, pattern)) {
    try {
      yield await inspector.kstat(path);
    } catch (error) {
      // A pool was exported meanwhile.
      if (!(error instanceof ErrnoError) || error.errno !== Errno.ENOENT) throw error;
    }
  }
}

/** Clears what a pattern selects, as writing to the files does in a kernel. Rejects with EACCES for what has nothing to clear. */
export async function clearKstats(inspector: Inspector, pattern: string): Promise<void> {
  for (const path of await matchingPaths(inspector, pattern)) {
    try {
      await inspector.clearKstat(path);
    } catch (error) {
      if (!(error instanceof ErrnoError) || error.errno !== Errno.EACCES) throw error;
      throw new InspectError(error.errno, `${path} has nothing to clear`);
    }
  }
}

async function matchingPaths(inspector: Inspector, pattern: string): Promise<string[]> {
  const { matches } = parseKstatPattern(pattern);
  const paths = (await inspector.kstatPaths()).filter(matches).sort();
  if (paths.length === 0) throw new InspectError(Errno.ENOENT, `no kstat matches '${pattern}'`);
  return paths;
}

/** @throws NvlistError when the bytes are no kstat (wasm/core/services/inspect.h). */
export function decodeKstat(packed: Uint8Array): Kstat {
  const list = decodeNativeNvlist(packed);
  const path = text(list, 'path');
  const type = list.get('type');
  const truncated = list.get('truncated') === true;
  if (type === undefined) return { path, type: 'list', text: text(list, 'text'), truncated };
  const header = {
    path,
    class: text(list, 'class'),
    instance: number(list, 'instance'),
    flags: number(list, 'flags'),
    kid: number(list, 'kid'),
    ndata: number(list, 'ndata'),
    size: number(list, 'size'),
    crtime: bigint(list, 'crtime'),
    snaptime: bigint(list, 'snaptime'),
  };
  const kind = types[type as number];
  const records = (list.get('records') ?? []) as readonly NvList[];
  switch (kind) {
    case 'named':
      return { ...header, type: kind, statistics: statisticsOf(list.get('named')) };
    case 'io':
    case 'intr':
    case 'timer':
      return { ...header, type: kind, records: records.map(statisticsOf) };
    case 'raw': {
      const bytes = (list.get('bytes') ?? []) as readonly number[];
      return { ...header, type: kind, text: (list.get('text') ?? '') as string, bytes, truncated };
    }
    default:
      throw new NvlistError(`a kstat of type ${String(type)}`);
  }
}

function statisticsOf(list: unknown): Statistic[] {
  if (!(list instanceof NvList)) throw new NvlistError('a kstat without its statistics');
  return list.pairs.map(({ name, type, value }: NvPair) => ({
    name,
    type: dataTypes.get(type) ?? -1,
    value: value as Statistic['value'],
  }));
}

function text(list: NvList, name: string): string {
  const value = list.get(name);
  if (typeof value !== 'string') throw new NvlistError(`a kstat without ${name}`);
  return value;
}

function number(list: NvList, name: string): number {
  const value = list.get(name);
  if (typeof value !== 'number') throw new NvlistError(`a kstat without ${name}`);
  return value;
}

function bigint(list: NvList, name: string): bigint {
  const value = list.get(name);
  if (typeof value !== 'bigint') throw new NvlistError(`a kstat without ${name}`);
  return value;
}

/** The named statistics, or those of all records. */
export function statistics(kstat: Kstat): readonly Statistic[] {
  if (kstat.type === 'named') return kstat.statistics;
  return 'records' in kstat ? kstat.records.flat() : [];
}

/** The text of the file in a kernel's /proc/spl/kstat (module/os/linux/spl/spl-kstat.c). */
export function kstatText(kstat: Kstat): string {
  if (kstat.type === 'list') return kstat.text;
  const { kid, type, flags, ndata, size, crtime, snaptime } = kstat;
  const hex = `0x${flags.toString(16).padStart(2, '0')}`;
  const head =
    (flags & flagNoHeaders) === 0
      ? `${kid} ${types.indexOf(type)} ${hex} ${ndata} ${size} ${crtime} ${snaptime}\n`
      : '';
  const titles = head !== '';
  switch (kstat.type) {
    case 'named':
      return `${head}${titles ? `${row(['name', 31], ['type', 4])} data\n` : ''}${kstat.statistics.map(namedRow).join('')}`;
    case 'raw':
      return `${head}${titles && kstat.bytes.length > 0 ? 'raw data\n' : ''}${kstat.text}${hexDump(kstat.bytes)}`;
    default: {
      const width = ({ name }: Statistic): number => (name === 'name' ? 31 : 8);
      const lines = kstat.records.map((record) =>
        row(...record.map((s): [string, number] => [String(s.value), width(s)])),
      );
      const names = kstat.records[0]?.map((s): [string, number] => [s.name, width(s)]) ?? [];
      return head + [...(titles ? [row(...names)] : []), ...lines].map((line) => `${line}\n`).join('');
    }
  }
}

function namedRow({ name, type, value }: Statistic): string {
  return `${row([name, 31], [String(type), 4])} ${value}\n`;
}

function row(...cells: readonly (readonly [string, number])[]): string {
  return cells.map(([cell, width]) => cell.padEnd(width)).join(' ');
}

function hexDump(bytes: readonly number[]): string {
  let out = '';
  for (let i = 0; i < bytes.length; i += 16) {
    const line = bytes.slice(i, i + 16).map((byte) => ` ${byte.toString(16).padStart(2, '0')}`);
    out += `${(i / 16).toString(16).padStart(3, '0')}:${line.join('')}\n`;
  }
  return out;
}

/** For programs; `keep` selects statistics. 64-bit integers that are no exact number of JavaScript's are strings. */
export function kstatJson(kstat: Kstat, keep: (name: string) => boolean = () => true): Json {
  const slash = kstat.path.lastIndexOf('/');
  const base = { module: kstat.path.slice(0, slash), name: kstat.path.slice(slash + 1), type: kstat.type };
  const cut = 'truncated' in kstat && kstat.truncated ? { truncated: true } : {};
  if (kstat.type === 'list') return { ...base, rows: tableRows(kstat.text), ...cut };
  const { instance, crtime, snaptime } = kstat;
  const head = {
    ...base,
    instance,
    class: kstat.class,
    crtime: exactNumber(crtime),
    snaptime: exactNumber(snaptime),
  };
  const object = (list: readonly Statistic[]): Json =>
    Object.fromEntries(list.filter(({ name }) => keep(name)).map(({ name, value }) => [name, nvToJson(value)]));
  if (kstat.type === 'named') return { ...head, data: object(kstat.statistics) };
  if (kstat.type === 'raw') {
    if (kstat.bytes.length > 0) return { ...head, bytes: kstat.bytes };
    return { ...head, lines: linesOf(kstat.text), ...cut };
  }
  return { ...head, records: kstat.records.map(object) };
}

function linesOf(content: string): string[] {
  return content.split('\n').filter((line) => line !== '');
}

/** Rows of a table under its header line; the last column has the rest of its line. */
function tableRows(content: string): Json[] {
  const [header = '', ...rows] = linesOf(content);
  const names = header.trim().split(/\s+/);
  return rows.map((line) => {
    const cells: string[] = [];
    let rest = line.trim();
    for (let i = 1; i < names.length; i++) {
      const end = rest.search(/\s/);
      cells.push(end === -1 ? rest : rest.slice(0, end));
      rest = end === -1 ? '' : rest.slice(end).trimStart();
    }
    cells.push(rest);
    return Object.fromEntries(names.map((name, i) => [name, cellOf(cells[i]!)]));
  });
}

function cellOf(cell: string): number | string {
  return /^-?\d{1,20}$/.test(cell) ? exactNumber(BigInt(cell)) : cell;
}
