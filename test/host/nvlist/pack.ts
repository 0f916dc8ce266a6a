import { DataType } from '../../../host/nvlist/nvlist.ts';

/**
 * What tests put into nvlists: uint64 as bigint, int32 as number, string, an array of uint8 or uint64, nvlist, arrays of strings
 * or nvlists; `true` for a boolean that is there and has no value.
 */
export interface NvPairs {
  readonly [name: string]: NvValue;
}

/** A value of a type that its own does not tell: a boolean value, a byte array, or what no list should have. */
export class Typed {
  readonly type: number;
  readonly value: number | bigint | Uint8Array;
  readonly elements: number;

  constructor(
    type: number,
    value: number | bigint | Uint8Array,
    elements = value instanceof Uint8Array ? value.length : 1,
  ) {
    this.type = type;
    this.value = value;
    this.elements = elements;
  }
}

export type NvValue =
  | Typed
  | true
  | bigint
  | number
  | string
  | Uint8Array
  | BigUint64Array
  | readonly string[]
  | readonly NvPairs[]
  | NvPairs;

/** Packs an nvlist in XDR encoding: nvs_xdr() in module/nvpair/nvpair.c. */
export function packNvlist(pairs: NvPairs): Buffer {
  return Buffer.concat([Buffer.from([1, 1, 0, 0]), body(pairs)]);
}

function body(pairs: NvPairs): Buffer {
  const version = 0;
  const uniqueName = 1;
  return Buffer.concat([words(version, uniqueName), ...Object.entries(pairs).map(pair), words(0, 0)]);
}

function pair([name, value]: [string, NvValue]): Buffer {
  const { type, elements, data, decodedBytes } = encode(value);
  const rest = Buffer.concat([text(name), words(type, elements), data]);
  // sizeof (nvpair_t), the name with its NUL, the value: each aligned to 8 (NVP_SIZE_CALC).
  const decoded = align8(16 + Buffer.byteLength(name) + 1) + align8(decodedBytes);
  return Buffer.concat([words(8 + rest.length, decoded), rest]);
}

interface Encoded {
  readonly type: number;
  readonly elements: number;
  readonly data: Buffer;
  readonly decodedBytes: number;
}

function encode(value: NvValue): Encoded {
  if (value instanceof Typed) return encodeTyped(value);
  if (value === true) return { type: DataType.BOOLEAN, elements: 0, data: Buffer.alloc(0), decodedBytes: 0 };
  if (typeof value === 'number') return { type: DataType.INT32, elements: 1, data: words(value), decodedBytes: 4 };
  if (typeof value === 'string')
    return { type: DataType.STRING, elements: 1, data: text(value), decodedBytes: Buffer.byteLength(value) + 1 };
  if (typeof value === 'bigint') return { type: DataType.UINT64, elements: 1, data: quads(value), decodedBytes: 8 };
  // An XDR array: its length, then each element.
  if (value instanceof Uint8Array) {
    const data = Buffer.alloc(4 + 4 * value.length);
    data.writeUInt32BE(value.length, 0);
    for (let i = 0; i < value.length; i++) data[4 + 4 * i + 3] = value[i]!;
    return { type: DataType.UINT8_ARRAY, elements: value.length, data, decodedBytes: value.length };
  }
  if (value instanceof BigUint64Array) {
    const data = Buffer.concat([words(value.length), quads(...value)]);
    return { type: DataType.UINT64_ARRAY, elements: value.length, data, decodedBytes: 8 * value.length };
  }
  if (Array.isArray(value)) return encodeArray(value as readonly string[] | readonly NvPairs[]);
  return { type: DataType.NVLIST, elements: 1, data: body(value as NvPairs), decodedBytes: 24 };
}

/** Opaque bytes, or a number of the size of its kind. */
function encodeTyped({ type, value, elements }: Typed): Encoded {
  if (typeof value === 'bigint') return { type, elements, data: quads(value), decodedBytes: 8 };
  if (typeof value === 'number') return { type, elements, data: words(value), decodedBytes: 4 };
  const data = Buffer.concat([value, Buffer.alloc(-value.length & 3)]);
  return { type, elements, data, decodedBytes: value.length };
}

/** Decoded, pointers come before the elements. */
function encodeArray(values: readonly string[] | readonly NvPairs[]): Encoded {
  const elements = values.length;
  if (values.every((value) => typeof value === 'string')) {
    const bytes = values.reduce((sum, value) => sum + 8 + Buffer.byteLength(value) + 1, 0);
    return { type: DataType.STRING_ARRAY, elements, data: Buffer.concat(values.map(text)), decodedBytes: bytes };
  }
  const data = Buffer.concat((values as readonly NvPairs[]).map(body));
  return { type: DataType.NVLIST_ARRAY, elements, data, decodedBytes: 32 * elements };
}

function quads(...values: bigint[]): Buffer {
  const bytes = Buffer.alloc(8 * values.length);
  for (const [i, value] of values.entries()) bytes.writeBigUInt64BE(BigInt.asUintN(64, value), 8 * i);
  return bytes;
}

function text(value: string): Buffer {
  const bytes = Buffer.from(value);
  return Buffer.concat([words(bytes.length), bytes, Buffer.alloc(-bytes.length & 3)]);
}

function words(...values: number[]): Buffer {
  const bytes = Buffer.alloc(4 * values.length);
  for (const [i, value] of values.entries()) bytes.writeUInt32BE(value >>> 0, 4 * i);
  return bytes;
}

function align8(bytes: number): number {
  return (bytes + 7) & ~7;
}
