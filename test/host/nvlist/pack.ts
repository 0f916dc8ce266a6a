/** What tests put into nvlists: uint64 as bigint, int32 as number, a pair without a value as true. */
export interface NvPairs {
  readonly [name: string]: bigint | number | string | true | Uint8Array | NvPairs | readonly NvPairs[];
}

/** data_type_t, include/sys/nvpair.h. */
const typeBoolean = 1;
const typeInt32 = 5;
const typeUint64 = 8;
const typeString = 9;
const typeNvlist = 19;
const typeNvlistArray = 20;
const typeUint8Array = 26;

/** Packs an nvlist in XDR encoding: nvs_xdr() in module/nvpair/nvpair.c. */
export function packNvlist(pairs: NvPairs): Buffer {
  return Buffer.concat([Buffer.from([1, 1, 0, 0]), body(pairs)]);
}

function body(pairs: NvPairs): Buffer {
  const version = 0;
  const uniqueName = 1;
  return Buffer.concat([words(version, uniqueName), ...Object.entries(pairs).map(pair), words(0, 0)]);
}

function pair([name, value]: [string, NvPairs[string]]): Buffer {
  const [type, data, decodedBytes] = encode(value);
  const elements = value === true ? 0 : value instanceof Uint8Array || isLists(value) ? value.length : 1;
  const rest = Buffer.concat([text(name), words(type, elements), data]);
  // sizeof (nvpair_t), the name with its NUL, the value: each aligned to 8 (NVP_SIZE_CALC).
  const decoded = align8(16 + Buffer.byteLength(name) + 1) + align8(decodedBytes);
  return Buffer.concat([words(8 + rest.length, decoded), rest]);
}

function encode(value: NvPairs[string]): [number, Buffer, number] {
  if (value === true) return [typeBoolean, Buffer.alloc(0), 0];
  if (typeof value === 'number') return [typeInt32, words(value), 4];
  // An XDR array: its length, then a word for each element.
  if (value instanceof Uint8Array) return [typeUint8Array, words(value.length, ...value), value.length];
  if (typeof value === 'string') return [typeString, text(value), Buffer.byteLength(value) + 1];
  if (typeof value === 'bigint') {
    const data = Buffer.alloc(8);
    data.writeBigUInt64BE(value);
    return [typeUint64, data, 8];
  }
  // Of each list a pointer and the nvlist_t.
  if (isLists(value)) return [typeNvlistArray, Buffer.concat(value.map(body)), 32 * value.length];
  return [typeNvlist, body(value), 24];
}

function isLists(value: NvPairs[string]): value is readonly NvPairs[] {
  return Array.isArray(value);
}

function text(value: string): Buffer {
  const bytes = Buffer.from(value);
  return Buffer.concat([words(bytes.length), bytes, Buffer.alloc(-bytes.length & 3)]);
}

function words(...values: number[]): Buffer {
  const bytes = Buffer.alloc(4 * values.length);
  for (const [i, value] of values.entries()) bytes.writeUInt32BE(value, 4 * i);
  return bytes;
}

function align8(bytes: number): number {
  return (bytes + 7) & ~7;
}
