/** ZAP objects as they are on disk (include/sys/zap_impl.h, zap_leaf.h), to be damaged. */

const chainEnd = 0xffff;
const blockTypes = { leaf: 1n << 63n, header: (1n << 63n) + 1n, micro: (1n << 63n) + 3n };
const chunkTypes = { free: 253, entry: 252, array: 251 };
const chunkBytes = 24;
const arrayBytes = 21;
const hashBits = 28n;
const salt = 0x1234_5678_9abc_def1n;

/** zfs_crc64_table. */
const crcTable = Array.from({ length: 256 }, (_, i) => {
  let word = BigInt(i);
  for (let bit = 0; bit < 8; bit++) word = (word >> 1n) ^ (word & 1n ? 0xc96c5795d7870f42n : 0n);
  return word;
});

/** What zap_hash() makes of a name that is not normalized. */
function hashOf(name: string): bigint {
  let hash = salt;
  for (const byte of Buffer.from(name)) hash = (hash >> 8n) ^ crcTable[Number((hash ^ BigInt(byte)) & 0xffn)]!;
  return (hash >> (64n - hashBits)) << (64n - hashBits);
}

/** An integer as the values of a fat ZAP have it. */
function bigEndian(value: bigint): Buffer {
  const bytes = Buffer.alloc(8);
  bytes.writeBigUInt64BE(value);
  return bytes;
}

/** A fat ZAP of a header and one leaf, whose values are an integer of 8 bytes, or what is given, in integers of so many bytes. */
export class FatZap {
  static readonly blockBytes = 4096;
  static readonly #hashEntries = FatZap.blockBytes / 32;
  static readonly #chunksAt = 48 + 2 * FatZap.#hashEntries;
  static readonly chunks = (FatZap.blockBytes - FatZap.#chunksAt) / chunkBytes;

  /** zap_phys_t. */
  readonly header = Buffer.alloc(FatZap.blockBytes);
  /** zap_leaf_phys_t. */
  readonly leaf = Buffer.alloc(FatZap.blockBytes);
  readonly #entries = new Map<string, number>();
  #next = 0;

  constructor(names: readonly string[], values: readonly Buffer[] = [], intBytes = 8) {
    const { header, leaf } = this;
    const words = [blockTypes.header, 0x2f52ab2abn, 0n, 0n, 8n, 0n, 0n, 2n, 1n, BigInt(names.length), salt];
    words.forEach((word, i) => {
      header.writeBigUInt64LE(word, 8 * i);
    });
    for (let i = FatZap.blockBytes / 2; i < FatZap.blockBytes; i += 8) header.writeBigUInt64LE(1n, i);
    leaf.writeBigUInt64LE(blockTypes.leaf, 0);
    leaf.writeUInt32LE(0x2ab1eaf, 24);
    leaf.fill(0xff, 48, FatZap.#chunksAt);
    for (const [i, name] of names.entries()) this.#add(name, values[i] ?? bigEndian(BigInt(100 + i)), intBytes);
    leaf.writeUInt16LE(FatZap.chunks - this.#next, 28);
    leaf.writeUInt16LE(names.length, 30);
    leaf.writeUInt16LE(this.#next, 34);
    for (let i = this.#next; i < FatZap.chunks; i++) {
      const chunk = this.chunk(i);
      chunk[0] = chunkTypes.free;
      chunk.writeUInt16LE(i + 1 < FatZap.chunks ? i + 1 : chainEnd, 22);
    }
  }

  get blocks(): Buffer[] {
    return [this.header, this.leaf];
  }

  /** zap_leaf_chunk_t. */
  chunk(i: number): Buffer {
    return this.leaf.subarray(FatZap.#chunksAt + i * chunkBytes, FatZap.#chunksAt + (i + 1) * chunkBytes);
  }

  /** The chunk of an entry. */
  entry(name: string): Buffer {
    return this.chunk(this.#entries.get(name)!);
  }

  number(name: string): number {
    return this.#entries.get(name)!;
  }

  /** Where the leaf's hash table has an entry. */
  bucketAt(name: string): number {
    return 48 + 2 * Number(hashOf(name) >> (64n - 7n));
  }

  #array(bytes: Buffer): number {
    const first = this.#next;
    for (let at = 0; at < bytes.length; at += arrayBytes) {
      const chunk = this.chunk(this.#next++);
      chunk[0] = chunkTypes.array;
      chunk.set(bytes.subarray(at, at + arrayBytes), 1);
      chunk.writeUInt16LE(at + arrayBytes < bytes.length ? this.#next : chainEnd, 22);
    }
    return first;
  }

  #add(name: string, value: Buffer, intBytes: number): void {
    const number = this.#next++;
    const entry = this.chunk(number);
    entry[0] = chunkTypes.entry;
    entry[1] = intBytes;
    entry.writeUInt16LE(this.leaf.readUInt16LE(this.bucketAt(name)), 2);
    entry.writeUInt16LE(this.#array(Buffer.from(`${name}\0`)), 4);
    entry.writeUInt16LE(Buffer.byteLength(name) + 1, 6);
    entry.writeUInt16LE(this.#array(value), 8);
    entry.writeUInt16LE(value.length / intBytes, 10);
    entry.writeBigUInt64LE(hashOf(name), 16);
    this.leaf.writeUInt16LE(number, this.bucketAt(name));
    this.#entries.set(name, number);
  }
}

/** A micro ZAP (mzap_phys_t): `entries` may have a name more than once. */
export function microZap(
  entries: readonly (readonly [name: string, value: bigint, cd?: number])[],
  bytes = 1024,
): Buffer {
  const block = Buffer.alloc(bytes);
  block.writeBigUInt64LE(blockTypes.micro, 0);
  block.writeBigUInt64LE(salt, 8);
  for (const [i, [name, value, cd = 0]] of entries.entries()) {
    const at = 64 * (i + 1);
    block.writeBigUInt64LE(value, at);
    block.writeUInt32LE(cd, at + 8);
    block.write(name, at + 14, 50);
  }
  return block;
}
