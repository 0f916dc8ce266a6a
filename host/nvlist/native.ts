import { DataType, depthMax, NvList, NvlistError, type NvPair, type NvValue } from './nvlist.ts';

const headerBytes = 4;
const encodingNative = 0;
const littleEndian = 1;
const versionAndFlagsBytes = 8;
const pairBytes = 16;
/** sizeof (nvlist_t) and of a pointer to one, as they are in every packed list. */
const embeddedBytes = 24;
const pointerBytes = 8;

interface Numeric {
  readonly bytes: number;
  readonly read: (view: DataView, at: number) => number | bigint;
}

const u8: Numeric = { bytes: 1, read: (view, at) => view.getUint8(at) };
const i8: Numeric = { bytes: 1, read: (view, at) => view.getInt8(at) };
const i16: Numeric = { bytes: 2, read: (view, at) => view.getInt16(at, true) };
const u16: Numeric = { bytes: 2, read: (view, at) => view.getUint16(at, true) };
const i32: Numeric = { bytes: 4, read: (view, at) => view.getInt32(at, true) };
const u32: Numeric = { bytes: 4, read: (view, at) => view.getUint32(at, true) };
const i64: Numeric = { bytes: 8, read: (view, at) => view.getBigInt64(at, true) };
const u64: Numeric = { bytes: 8, read: (view, at) => view.getBigUint64(at, true) };
const f64: Numeric = { bytes: 8, read: (view, at) => view.getFloat64(at, true) };

/** By data_type_t: what one value is, and what the elements of an array are. */
const scalars = new Map<number, Numeric>([
  [DataType.BYTE, u8],
  [DataType.INT16, i16],
  [DataType.UINT16, u16],
  [DataType.INT32, i32],
  [DataType.UINT32, u32],
  [DataType.INT64, i64],
  [DataType.UINT64, u64],
  [DataType.HRTIME, i64],
  [DataType.INT8, i8],
  [DataType.UINT8, u8],
  [DataType.DOUBLE, f64],
]);
const arrays = new Map<number, Numeric>([
  [DataType.BYTE_ARRAY, u8],
  [DataType.INT16_ARRAY, i16],
  [DataType.UINT16_ARRAY, u16],
  [DataType.INT32_ARRAY, i32],
  [DataType.UINT32_ARRAY, u32],
  [DataType.INT64_ARRAY, i64],
  [DataType.UINT64_ARRAY, u64],
  [DataType.INT8_ARRAY, i8],
  [DataType.UINT8_ARRAY, u8],
]);

/**
 * Decodes an nvlist in native encoding, little-endian, as ioctls answer with: nvs_native() in module/nvpair/nvpair.c.
 * Reads only; throws NvlistError on anything that is not one, whatever the bytes are.
 */
export function decodeNativeNvlist(bytes: Uint8Array): NvList {
  if (bytes.length < headerBytes) throw new NvlistError('shorter than its header');
  if (bytes[0] !== encodingNative || bytes[1] !== littleEndian) {
    throw new NvlistError('not in native encoding, little-endian');
  }
  return new Decoder(bytes).list(0);
}

class Decoder {
  readonly #bytes: Buffer;
  readonly #view: DataView;
  #at = headerBytes;

  constructor(bytes: Uint8Array) {
    this.#bytes = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    this.#view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  }

  /** Of the outermost list its version and flags; then pairs up to one of size 0. What is embedded follows its pair. */
  list(depth: number): NvList {
    if (depth > depthMax) throw new NvlistError('nested too deeply');
    if (depth === 0) this.#at += versionAndFlagsBytes;
    const pairs: NvPair[] = [];
    for (;;) {
      this.#need(this.#at, 4, this.#bytes.length);
      const size = this.#view.getInt32(this.#at, true);
      if (size === 0) {
        this.#at += 4;
        return new NvList(pairs);
      }
      const start = this.#at;
      if (size < pairBytes) throw new NvlistError('a pair of wrong size');
      this.#need(start, size, this.#bytes.length);
      this.#at = start + size;
      pairs.push(this.#pair(start, start + size, depth));
    }
  }

  /** size, size of the name, reserved, number of elements, type, name; the value is aligned to 8. */
  #pair(start: number, end: number, depth: number): NvPair {
    const nameBytes = this.#view.getInt16(start + 4, true);
    const count = this.#view.getInt32(start + 8, true);
    const type = this.#view.getInt32(start + 12, true);
    if (nameBytes <= 0 || count < 0) throw new NvlistError('a pair of wrong size');
    const name = this.#string(start + pairBytes, Math.min(start + pairBytes + nameBytes, end)).text;
    const at = start + align8(pairBytes + nameBytes);
    return { name, type, value: this.#value(type, count, at, end, depth) };
  }

  #value(type: number, count: number, at: number, end: number, depth: number): NvValue {
    const scalar = scalars.get(type);
    if (scalar !== undefined) {
      this.#need(at, scalar.bytes, end);
      return scalar.read(this.#view, at);
    }
    const element = arrays.get(type);
    if (element !== undefined) {
      this.#need(at, count * element.bytes, end);
      return Array.from({ length: count }, (_, i) => element.read(this.#view, at + i * element.bytes));
    }
    switch (type) {
      case DataType.BOOLEAN:
        return true;
      case DataType.BOOLEAN_VALUE:
        this.#need(at, 4, end);
        return this.#view.getInt32(at, true) !== 0;
      case DataType.BOOLEAN_ARRAY:
        this.#need(at, count * 4, end);
        return Array.from({ length: count }, (_, i) => this.#view.getInt32(at + i * 4, true) !== 0);
      case DataType.STRING:
        return this.#string(at, end).text;
      case DataType.STRING_ARRAY:
        return this.#strings(count, at, end);
      case DataType.NVLIST:
        return this.list(depth + 1);
      case DataType.NVLIST_ARRAY:
        this.#need(at, count * (pointerBytes + embeddedBytes), end);
        return Array.from({ length: count }, () => this.list(depth + 1));
      default:
        throw new NvlistError(`a pair of type ${type}`);
    }
  }

  /** Room for as many pointers, then one string behind the other. */
  #strings(count: number, at: number, end: number): string[] {
    this.#need(at, count * pointerBytes, end);
    let next = at + count * pointerBytes;
    return Array.from({ length: count }, () => {
      const { text, after } = this.#string(next, end);
      next = after;
      return text;
    });
  }

  #string(at: number, end: number): { text: string; after: number } {
    const nul = this.#bytes.indexOf(0, at);
    if (nul === -1 || nul >= end) throw new NvlistError('a string without an end');
    return { text: this.#bytes.toString('utf8', at, nul), after: nul + 1 };
  }

  #need(at: number, bytes: number, end: number): void {
    if (at + bytes > end) throw new NvlistError('ends too early');
  }
}

function align8(bytes: number): number {
  return (bytes + 7) & ~7;
}
