import { assert } from '../assert.ts';
import { Cmd, CmdFlag } from '../protocols/nbd.ts';
import type { IoBuffer } from '../volumes/volume.ts';

/** A change that the host has acknowledged, as it was sent. */
export interface Change {
  /** WRITE, TRIM or WRITE_ZEROES. */
  readonly command: number;
  /** Those of the protocol; durability is not kept, since a flush follows whatever is made anew. */
  readonly flags: number;
  readonly offset: number;
  readonly length: number;
  /** What a write writes, and the buffer that it is in: lent until it is forgotten. */
  readonly data: Uint8Array | undefined;
  readonly buffer: IoBuffer | undefined;
}

/** What a change costs beside its data. */
const ENTRY_BYTES = 256;

/**
 * What the host has acknowledged and may lose when it crashes: all changes since the last flush that succeeded, in the
 * order of their acknowledgements. An NBD client has to make them anew on the next connection; durable ones (FUA), too,
 * for an older one of the same place that is made anew would undo them.
 */
export class Unflushed {
  readonly #changes: Change[] = [];
  /** Changes that were ever forgotten. */
  #forgotten = 0;
  #bytes = 0;

  /** Of data, and what they cost. */
  get bytes(): number {
    return this.#bytes;
  }

  get count(): number {
    return this.#changes.length;
  }

  /** For `forget`: after all that is there now. */
  get mark(): number {
    return this.#forgotten + this.#changes.length;
  }

  /** The host has acknowledged it. The buffer is lent already, and given back when it is forgotten. */
  add(change: Change): void {
    this.#changes.push({ ...change, flags: change.flags & ~CmdFlag.FUA });
    this.#bytes += costOf(change);
  }

  /** A flush that was sent at `mark` has succeeded. */
  forget(mark: number): void {
    if (mark <= this.#forgotten) return;
    const changes = this.#changes.splice(0, mark - this.#forgotten);
    this.#forgotten += changes.length;
    for (const change of changes) {
      this.#bytes -= costOf(change);
      change.buffer?.giveBack();
    }
    assert(this.#bytes >= 0, 'more was forgotten than was there');
  }

  /**
   * Makes them anew, up to `atOnce` at a time; one that overlaps those under way waits for them. Rejects with what the
   * first that fails rejects with; nothing is forgotten.
   */
  async repeat(send: (change: Change) => Promise<void>, atOnce: number): Promise<void> {
    let underWay: { readonly change: Change; readonly done: Promise<void> }[] = [];
    for (const change of this.#changes) {
      if (underWay.length >= atOnce || underWay.some((other) => overlap(other.change, change))) {
        await Promise.all(underWay.map(({ done }) => done));
        underWay = [];
      }
      underWay.push({ change, done: send(change) });
    }
    await Promise.all(underWay.map(({ done }) => done));
  }
}

function costOf({ command, length }: Change): number {
  return ENTRY_BYTES + (command === Cmd.WRITE ? length : 0);
}

function overlap(a: Change, b: Change): boolean {
  return a.offset < b.offset + b.length && b.offset < a.offset + a.length;
}
