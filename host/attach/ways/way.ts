/**
 * How a program of this machine gets at a volume. The keeper serves it over NBD on a unix socket of its own, and a way
 * makes a block device or a file of that.
 */
export interface Way {
  readonly name: WayName;
  /** What it needs and does not find here, a sentence; undefined: nothing. */
  missing(): string | undefined;
  /** Rejects with an error whose message is a sentence; nothing is left then. */
  open(options: WayOptions): Promise<Front>;
}

export const WAY_NAMES = ['loop', 'fuse', 'nbd'] as const;
export type WayName = (typeof WAY_NAMES)[number];

export interface WayOptions {
  /** The keeper's unix socket; the volume is its default export. */
  readonly socket: string;
  /** Of this attachment alone, empty but for the socket. */
  readonly folder: string;
  readonly readOnly: boolean;
}

/** What a way made, as it can be written down: whoever reads it can take it apart. */
export interface FrontRecord {
  readonly way: WayName;
  /** What programs open. */
  readonly path: string;
  /** Where nbdfuse is mounted. */
  readonly mountpoint?: string;
}

export interface Front {
  readonly record: FrontRecord;
  /** Resolves with the reason when it ends by itself; programs have errors from then on. */
  readonly ended: Promise<string>;
}
