/** Memory for data that came before there was a buffer for them. */
export interface Stash {
  readonly bytes: Buffer;
  /** Once. */
  giveBack(): void;
}

/** Bytes of memory, of all sessions together, for data that nobody asked for. */
export class StashBudget {
  readonly limitBytes: number;
  #usedBytes = 0;

  constructor(limitBytes: number) {
    this.limitBytes = limitBytes;
  }

  get usedBytes(): number {
    return this.#usedBytes;
  }

  /** Undefined: there is no room. */
  take(bytes: number): Stash | undefined {
    if (this.#usedBytes + bytes > this.limitBytes) return undefined;
    this.#usedBytes += bytes;
    let taken = true;
    return {
      bytes: Buffer.allocUnsafeSlow(bytes),
      giveBack: () => {
        if (!taken) throw new Error('a stash is given back twice');
        taken = false;
        this.#usedBytes -= bytes;
      },
    };
  }
}
