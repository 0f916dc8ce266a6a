import { DataType, depthMax, NvList, NvlistError, type NvPair, type NvValue } from './nvlist.ts';

const ENCODING_XDR = 1;
const VERSION = 0;
/** One pair is at least 20 bytes, and a label has 112 KiB. */
const PAIRS_MAX = 8192;

/**
 * Decodes a packed nvlist in XDR encoding, as on the labels of a vdev: nvs_xdr() in module/nvpair/nvpair.c.
 * Pairs of types that nobody here asks for are left out; of several of one name the last counts.
 * Reads only; throws NvlistError on anything that is not one, whatever the bytes are.
 */
export function decodeXdrNvlist(bytes: Uint8Array): NvList {
  if (bytes.length < 4) throw new NvlistError('shorter than its header');
  if (bytes[0] !== ENCODING_XDR) throw new NvlistError(`encoding ${bytes[0]} is not XDR`);
  return new Decoder(bytes).list(4, bytes.length, 0).value;
}

interface Decoded<T> {
  readonly value: T;
  readonly end: number;
}

class Decoder {
  readonly #bytes: Uint8Array;
  readonly #view: DataView;
  #pairs = 0;

  constructor(bytes: Uint8Array) {
    this.#bytes = bytes;
    this.#view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  }

  #u32(at: number, limit: number): number {
    if (at + 4 > limit) throw new NvlistError('ends too early');
    return this.#view.getUint32(at);
  }

  /** version, flags, then pairs up to one whose sizes are zero. */
  list(start: number, limit: number, depth: number): Decoded<NvList> {
    if (depth > depthMax) throw new NvlistError('nested too deeply');
    if (this.#u32(start, limit) !== VERSION) throw new NvlistError('unknown version');
    const pairs = new Map<string, NvPair>();
    let at = start + 8;
    for (;;) {
      const encodedSize = this.#u32(at, limit);
      const decodedSize = this.#u32(at + 4, limit);
      if (encodedSize === 0 && decodedSize === 0) return { value: new NvList([...pairs.values()]), end: at + 8 };
      if (encodedSize < 20 || encodedSize % 4 !== 0 || at + encodedSize > limit)
        throw new NvlistError('a pair of wrong size');
      this.#pairs += 1;
      if (this.#pairs > PAIRS_MAX) throw new NvlistError('too many pairs');
      this.#pair(at + 8, at + encodedSize, depth, pairs);
      at += encodedSize;
    }
  }

  /** name, type, number of elements, value. */
  #pair(start: number, limit: number, depth: number, into: Map<string, NvPair>): void {
    const name = this.#string(start, limit);
    const type = this.#u32(name.end, limit);
    const count = this.#u32(name.end + 4, limit);
    const at = name.end + 8;
    const add = (value: NvValue) => into.set(name.value, { name: name.value, type, value });
    switch (type) {
      case DataType.BOOLEAN:
        add(true);
        return;
      case DataType.UINT64:
        if (at + 8 > limit) throw new NvlistError('ends too early');
        add(this.#view.getBigUint64(at));
        return;
      case DataType.STRING:
        add(this.#string(at, limit).value);
        return;
      case DataType.NVLIST:
        add(this.list(at, limit, depth + 1).value);
        return;
      case DataType.NVLIST_ARRAY: {
        if (count > PAIRS_MAX) throw new NvlistError('too many elements');
        const lists: NvList[] = [];
        let next = at;
        for (let i = 0; i < count; i++) {
          const list = this.list(next, limit, depth + 1);
          lists.push(list.value);
          next = list.end;
        }
        add(lists);
        return;
      }
      default:
        return;
    }
  }

  /** A length and the bytes, padded to four. */
  #string(at: number, limit: number): Decoded<string> {
    const length = this.#u32(at, limit);
    const end = at + 4 + Math.ceil(length / 4) * 4;
    if (end > limit) throw new NvlistError('a string of wrong length');
    const value = Buffer.from(this.#bytes.buffer, this.#bytes.byteOffset + at + 4, length).toString('utf8');
    return { value, end };
  }
}
