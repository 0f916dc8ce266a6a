/** Bytes of a block: a request of one is several sectors, so that a torn one shows. */
export const blockBytes = 8192;

/** What a block may hold: a version that was written, or zeroes. */
interface Candidate {
  readonly version: number;
  readonly zero: boolean;
}

/**
 * What a client may find in its blocks. It has one request at a time on a block, so that writes to it have an order; what a
 * connection left behind that ended in the middle has none, and may be found until the end.
 */
export class Ledger {
  readonly blocks: number;
  readonly #first: number;
  /** By block, oldest first: what was durable, and what was sent since. */
  readonly #sent: Candidate[][];
  readonly #acknowledged: Uint32Array;
  readonly #stray = new Map<number, Candidate[]>();
  /** Never sent as a whole: no write of them may be there. */
  readonly #cut = new Set<number>();
  #version = 0;

  /** Of the blocks from `first` on, which are zeroes. */
  constructor(first: number, blocks: number) {
    this.#first = first;
    this.blocks = blocks;
    this.#sent = Array.from({ length: blocks }, () => [{ version: 0, zero: true }]);
    this.#acknowledged = new Uint32Array(blocks);
  }

  offset(block: number): number {
    return (this.#first + block) * blockBytes;
  }

  /** A write of `count` blocks is about to be sent; its version, and what to send unless it is of zeroes. */
  send(block: number, count: number, zero = false): { version: number; payload: Buffer } {
    const version = ++this.#version;
    for (let i = 0; i < count; i++) this.#sent[block + i]!.push({ version, zero });
    if (zero) return { version, payload: Buffer.alloc(0) };
    const parts = Array.from({ length: count }, (_, i) => content(this.#first + block + i, version));
    return { version, payload: Buffer.concat(parts) };
  }

  /** The write is over, well or not: with an error it may be there or not. `durable`: it was one with FUA. */
  done(block: number, count: number, version: number, good: boolean, durable: boolean): void {
    if (!good) return;
    for (let i = block; i < block + count; i++) {
      this.#acknowledged[i] = version;
      if (durable) this.#forget(i, version);
    }
  }

  /** The connection is another one: the pool may have gone back in between, and what was not flushed with it. */
  unsure(): void {
    this.#acknowledged.fill(0);
  }

  /** What a flush that begins now covers; `durable` with it when it has succeeded. */
  acknowledged(): Uint32Array {
    return this.#acknowledged.slice();
  }

  durable(acknowledged: Uint32Array): void {
    for (let i = 0; i < this.blocks; i++) this.#forget(i, acknowledged[i]!);
  }

  /** The connection ended before the reply; `whole`: the request had been sent completely. */
  lost(block: number, count: number, version: number, whole: boolean): void {
    if (!whole) this.#cut.add(version);
    for (let i = block; i < block + count; i++) {
      const list = this.#sent[i]!;
      const at = list.findIndex((candidate) => candidate.version === version);
      if (at < 0) continue;
      const [candidate] = list.splice(at, 1);
      if (!whole) continue;
      const stray = this.#stray.get(i);
      if (stray === undefined) this.#stray.set(i, [candidate!]);
      else stray.push(candidate!);
    }
  }

  /** Why this cannot be what the block holds; undefined when it can. `exact`: it has to be what was acknowledged last. */
  wrong(block: number, found: Buffer, exact = false): string | undefined {
    const index = this.#first + block;
    const version = versionOf(found, index);
    if (version === undefined) return `block ${index} is torn or foreign: ${found.subarray(0, 16).toString('hex')}`;
    const fits = ({ version: sent, zero }: Candidate) => (version === 0 ? zero : sent === version && !zero);
    const may = exact ? this.#sent[block]!.slice(-1) : this.#sent[block]!;
    if (may.some(fits) || this.#stray.get(block)?.some(fits) === true) return undefined;
    const expected = may.map((candidate) => (candidate.zero ? 'zeroes' : candidate.version)).join(', ');
    const how = this.#cut.has(version) ? ', of which only a part was ever sent' : '';
    return `block ${index} has version ${version}${how}; expected ${expected}`;
  }

  /** Everything older than `version` is over for this block. */
  #forget(block: number, version: number): void {
    const list = this.#sent[block]!;
    const at = list.findIndex((candidate) => candidate.version === version);
    if (at > 0) list.splice(0, at);
  }
}

function content(index: number, version: number): Buffer {
  const words = new Uint32Array(blockBytes / 4);
  for (let i = 0; i < words.length; i += 2) {
    words[i] = index;
    words[i + 1] = version;
  }
  return Buffer.from(words.buffer);
}

/** The version that the whole block has, 0 for zeroes; undefined when it is anything else. */
function versionOf(found: Buffer, index: number): number | undefined {
  const version = found.readUInt32LE(4);
  const expected = version === 0 ? Buffer.alloc(blockBytes) : content(index, version);
  return found.equals(expected) ? version : undefined;
}
