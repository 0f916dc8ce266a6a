import { type Front, type FrontName, openFront } from './front.ts';
import { dice, type Lab } from './host.ts';

/** Bytes of a block: one request, several sectors, so that a torn one shows. */
const blockBytes = 8192;

export interface WriterOptions {
  readonly lab: Lab;
  readonly volume: string;
  readonly blocks: number;
  readonly seed: number;
  /** 'flush': some writes, then a flush; 'fua': each write by itself; 'none': an acknowledged write is all there is. */
  readonly promise: 'flush' | 'fua' | 'none';
  readonly depth?: number;
  /** How it reaches the volume. Default: nbd. */
  readonly front?: FrontName;
}

/**
 * Writes numbered blocks until the connection breaks, and remembers what the server has promised. Of every block it knows
 * the newest version that must have survived, and the newest that was ever sent: whatever is read later has to lie
 * between the two.
 */
export class Writer {
  readonly #options: WriterOptions;
  /** Newest version that was durable by the server's word; 0 is the zeroes of the beginning. */
  readonly #durable: Uint32Array;
  readonly #acknowledged: Uint32Array;
  readonly #sent: Uint32Array;
  #version = 0;
  #promises = 0;
  #blocks = 0;

  constructor(options: WriterOptions) {
    this.#options = options;
    this.#durable = new Uint32Array(options.blocks);
    this.#acknowledged = new Uint32Array(options.blocks);
    this.#sent = new Uint32Array(options.blocks);
  }

  /** Flushes (or writes that are flushes) that completed. */
  get promises(): number {
    return this.#promises;
  }

  /** Writes that were acknowledged. */
  get written(): number {
    return this.#blocks;
  }

  /** Writes in batches until the server has gone. Resolves then. */
  async run(): Promise<void> {
    const { blocks, seed, promise, depth = 16 } = this.#options;
    const front = await this.#open();
    const roll = dice(seed);
    try {
      for (;;) {
        const batch = new Set<number>();
        while (batch.size < depth) batch.add(roll(blocks));
        await this.#write(front, batch);
        if (promise === 'none') this.#promise(batch);
        if (promise !== 'flush' || roll(3) !== 0) continue;
        const before = this.#acknowledged.slice();
        await front.flush();
        this.#durable.set(before);
        this.#promises++;
      }
    } catch {
      // The server is gone: the end that every crash test waits for.
    } finally {
      front.destroy();
    }
  }

  #open(): Promise<Front> {
    const { lab, volume, front = 'nbd' } = this.#options;
    return openFront(lab, front, volume);
  }

  async #write(front: Front, batch: ReadonlySet<number>): Promise<void> {
    const fua = this.#options.promise === 'fua';
    const blocks = new Map<number, Buffer>();
    for (const index of batch) {
      const version = ++this.#version;
      this.#sent[index] = version;
      blocks.set(index * blockBytes, block(index, version));
    }
    await front.write(blocks, fua, (offset) => {
      const index = offset / blockBytes;
      this.#acknowledged[index] = this.#sent[index]!;
      this.#blocks++;
      if (!fua) return;
      this.#durable[index] = this.#sent[index]!;
      this.#promises++;
    });
  }

  #promise(batch: Iterable<number>): void {
    for (const index of batch) this.#durable[index] = this.#acknowledged[index]!;
    this.#promises++;
  }

  /** Reads all blocks; what contradicts the promises, one line a block. What was found is the truth from then on. */
  async check(): Promise<string[]> {
    const { blocks } = this.#options;
    const front = await this.#open();
    const wrong: string[] = [];
    const step = 256;
    for (let first = 0; first < blocks; first += step) {
      const count = Math.min(step, blocks - first);
      const content = await front.read(first * blockBytes, count * blockBytes);
      for (let i = 0; i < count; i++) {
        const index = first + i;
        const found = content.subarray(i * blockBytes, (i + 1) * blockBytes);
        const version = versionOf(found, index);
        if (version === undefined) wrong.push(`block ${index} is torn or foreign`);
        else if (version < this.#durable[index]!)
          wrong.push(`block ${index} has version ${version}, ${this.#durable[index]} was durable`);
        else if (version > this.#sent[index]!)
          wrong.push(`block ${index} has version ${version}, which was never written`);
        const truth = version ?? 0;
        this.#durable[index] = truth;
        this.#acknowledged[index] = truth;
        this.#sent[index] = truth;
      }
    }
    front.destroy();
    return wrong;
  }
}

function block(index: number, version: number): Buffer {
  const bytes = Buffer.allocUnsafe(blockBytes);
  for (let at = 0; at < blockBytes; at += 8) {
    bytes.writeUInt32LE(index, at);
    bytes.writeUInt32LE(version, at + 4);
  }
  return bytes;
}

/** The version that the whole block has, 0 for zeroes; undefined when it is anything else. */
function versionOf(content: Buffer, index: number): number | undefined {
  const version = content.readUInt32LE(4);
  const expected = version === 0 ? Buffer.alloc(blockBytes) : block(index, version);
  return content.equals(expected) ? version : undefined;
}
