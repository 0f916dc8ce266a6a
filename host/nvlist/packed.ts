import { DataType, NvlistError } from './nvlist.ts';

/** Packed nvlists in native encoding, little-endian, put together without being taken apart (nvs_native, nvpair.c). */

/** Encoding and byte order; version 0 and NV_UNIQUE_NAME. */
const head = Buffer.from([0, 1, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0]);
const end = Buffer.alloc(4);
const pairBytes = 16;

/** A pair of the outermost list, by offsets. */
interface PackedPair {
  readonly name: string;
  readonly type: number;
  readonly start: number;
  readonly value: number;
  /** What is embedded follows the pair itself. */
  readonly embedded: number;
  readonly end: number;
}

export const emptyPacked: Uint8Array = Buffer.concat([head, end]);

/** The pairs of several lists in one. */
export function mergePacked(lists: readonly Uint8Array[]): Buffer {
  return Buffer.concat([head, ...lists.map((list) => list.subarray(head.length, list.length - end.length)), end]);
}

/** The list with that one pair; undefined when there is none. */
export function onlyPair(packed: Uint8Array, name: string): Buffer | undefined {
  const pair = pairsOf(packed).find((candidate) => candidate.name === name);
  return pair && Buffer.concat([head, packed.subarray(pair.start, pair.end), end]);
}

/** The names of the outermost list's pairs. @throws NvlistError */
export function namesOf(packed: Uint8Array): string[] {
  return pairsOf(packed).map(({ name }) => name);
}

/** Where the value of the uint64 `name` of the outermost list stands. @throws NvlistError when there is none. */
export function findUint64(packed: Uint8Array, name: string): number {
  const pair = pairsOf(packed).find((candidate) => candidate.type === DataType.UINT64 && candidate.name === name);
  if (pair === undefined) throw new NvlistError(`no ${name}`);
  return pair.value;
}

function pairsOf(packed: Uint8Array): PackedPair[] {
  const pairs: PackedPair[] = [];
  walk(new DataView(packed.buffer, packed.byteOffset, packed.byteLength), head.length, (pair) => pairs.push(pair));
  return pairs;
}

/** Visits the pairs of one list. Returns where it ends. */
function walk(view: DataView, start: number, visit: (pair: PackedPair) => void): number {
  let at = start;
  for (;;) {
    const size = view.getInt32(at, true);
    if (size === 0) return at + 4;
    if (size < pairBytes) throw new NvlistError('a pair of wrong size');
    const nameBytes = view.getInt16(at + 4, true);
    const count = view.getInt32(at + 8, true);
    const type = view.getInt32(at + 12, true);
    const name = Buffer.from(view.buffer, view.byteOffset + at + pairBytes, Math.max(0, nameBytes - 1)).toString();
    const value = at + ((pairBytes + nameBytes + 7) & ~7);
    const embedded = at + size;
    let after = embedded;
    const lists = type === DataType.NVLIST ? 1 : type === DataType.NVLIST_ARRAY ? count : 0;
    for (let i = 0; i < lists; i++) after = walk(view, after, () => undefined);
    visit({ name, type, start: at, value, embedded, end: after });
    at = after;
  }
}

/**
 * The first list with the numbers in its embedded list `name` increased by those of the others that have the same name
 * and type.
 */
export function sumEmbedded(lists: readonly Uint8Array[], name: string): Uint8Array {
  const sum = Buffer.from(lists[0]!);
  const into = embeddedOf(sum, name);
  for (const list of lists.slice(1)) {
    const from = new Map(embeddedOf(list, name).map((pair) => [pair.name, pair]));
    const view = Buffer.from(list.buffer, list.byteOffset, list.byteLength);
    for (const pair of into) {
      const other = from.get(pair.name);
      if (other?.type === pair.type) add(sum, pair, view, other.value);
    }
  }
  return sum;
}

function add(sum: Buffer, { type, value }: PackedPair, other: Buffer, at: number): void {
  if (type === DataType.UINT64 || type === DataType.INT64) {
    sum.writeBigUInt64LE(BigInt.asUintN(64, sum.readBigUInt64LE(value) + other.readBigUInt64LE(at)), value);
  } else if (type === DataType.UINT32 || type === DataType.INT32) {
    sum.writeUInt32LE((sum.readUInt32LE(value) + other.readUInt32LE(at)) >>> 0, value);
  }
}

function embeddedOf(packed: Uint8Array, name: string): PackedPair[] {
  const outer = pairsOf(packed).find((pair) => pair.type === DataType.NVLIST && pair.name === name);
  if (outer === undefined) return [];
  const pairs: PackedPair[] = [];
  const view = new DataView(packed.buffer, packed.byteOffset, packed.byteLength);
  walk(view, outer.embedded, (pair) => pairs.push(pair));
  return pairs;
}

/** The string `name` of the outermost list. */
export function stringOf(packed: Uint8Array, name: string): string | undefined {
  const pair = pairsOf(packed).find((candidate) => candidate.type === DataType.STRING && candidate.name === name);
  if (pair === undefined) return undefined;
  const bytes = Buffer.from(packed.buffer, packed.byteOffset, packed.byteLength);
  return bytes.toString('utf8', pair.value, bytes.indexOf(0, pair.value));
}

/** The list with another string `name`. */
export function withString(packed: Uint8Array, name: string, text: string): Uint8Array {
  const rest = pairsOf(packed).filter((pair) => pair.name !== name);
  const kept = rest.map((pair) => packed.subarray(pair.start, pair.end));
  const nameBytes = Buffer.byteLength(name) + 1;
  const textBytes = Buffer.byteLength(text) + 1;
  const value = (pairBytes + nameBytes + 7) & ~7;
  const pair = Buffer.alloc((value + textBytes + 7) & ~7);
  pair.writeInt32LE(pair.length, 0);
  pair.writeInt16LE(nameBytes, 4);
  pair.writeInt32LE(1, 8);
  pair.writeInt32LE(DataType.STRING, 12);
  pair.write(name, pairBytes);
  pair.write(text, value);
  return Buffer.concat([head, ...kept, pair, end]);
}
