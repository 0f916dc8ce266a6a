/**
 * What the writers of a recording were told, on the clock of the Recorder, and what follows from it for a power cut at a
 * moment.
 */

/** A request from when it was sent until it was acknowledged; for good in flight when `acked` is undefined. */
export interface Request {
  readonly issued: number;
  acked?: number;
}

/** New content of `count` blocks from `first` on: version 0 is zeroes. */
export interface Write extends Request {
  readonly first: number;
  readonly count: number;
  readonly version: number;
  /** Its acknowledgement is a promise of durability: FUA, sync=always. */
  readonly durable: boolean;
}

export interface VolumePromises {
  readonly name: string;
  readonly blocks: number;
  readonly writes: Write[];
  readonly flushes: Request[];
}

/** A dataset or snapshot that came, and perhaps went, while it was recorded. */
export interface Existence {
  readonly name: string;
  readonly created: Request;
  destroyed?: Request;
  /** Of a snapshot: the volume it is of. */
  readonly of?: string;
}

export interface Promises {
  readonly volumes: VolumePromises[];
  readonly datasets: Existence[];
  /** `zpool sync`: a flush of every volume. */
  readonly syncs: Request[];
  /** When the pool had gone back to what was flushed: what was written before, and not durable, may be gone. */
  readonly goneBack: number[];
}

/** What must and may be in a volume. */
export class Expectation {
  readonly #writes: readonly Write[][];

  private constructor(writes: readonly Write[][]) {
    this.#writes = writes;
  }

  /** After a power cut at `moment`. */
  static at(moment: number, volume: VolumePromises, { syncs, goneBack }: Promises): Expectation {
    const flushes = [...volume.flushes, ...syncs].filter(({ acked }) => acked !== undefined && acked < moment);
    const covered = (acked: number) =>
      flushes.some(({ issued }) => acked < issued && !goneBack.some((back) => acked < back && back < issued));
    return Expectation.#of(
      volume,
      ({ issued }) => issued < moment,
      ({ acked, durable }) => acked !== undefined && ((durable && acked < moment) || covered(acked)),
    );
  }

  /** In a snapshot: everything that was acknowledged before it was asked for, and nothing issued after it was there. */
  static in(
    { issued, acked = Number.POSITIVE_INFINITY }: Request,
    volume: VolumePromises,
    { goneBack }: Promises,
  ): Expectation {
    const gone = (write: number) => goneBack.some((back) => write < back && back < issued);
    return Expectation.#of(
      volume,
      (write) => write.issued < acked,
      (write) => write.acked !== undefined && write.acked < issued && (write.durable || !gone(write.acked)),
    );
  }

  static #of(volume: VolumePromises, possible: (write: Write) => boolean, kept: (write: Write) => boolean) {
    const none: Write = { first: 0, count: volume.blocks, version: 0, durable: true, issued: -2, acked: -1 };
    const allowed = Array.from({ length: volume.blocks }, () => [none]);
    for (const write of volume.writes) {
      if (!possible(write)) continue;
      for (let block = write.first; block < write.first + write.count; block++) allowed[block]!.push(write);
    }
    const expected = allowed.map((writes) => {
      // Older than one that must be there: over before that one was begun.
      const newestKept = Math.max(...writes.filter(kept).map(({ issued }) => issued));
      return writes.filter(({ acked }) => acked === undefined || acked > newestKept);
    });
    return new Expectation(expected);
  }

  /** Why a block must not have this version; undefined when it may. */
  contradiction(block: number, version: number | undefined): string | undefined {
    if (version === undefined) return 'is torn or foreign';
    const allowed = this.#writes[block]!;
    if (allowed.some((write) => write.version === version)) return undefined;
    return `has version ${version}, must be one of ${allowed.map((write) => write.version).join(', ')}`;
  }
}
