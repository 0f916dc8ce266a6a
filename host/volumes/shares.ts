import { Share } from './share.ts';
import type { BufferPool, VolumeProvider } from './volume.ts';

/** A client that a frontend serves, as far as it can be in the way of others. */
export interface ShareUser {
  /** Where its requests get their buffers; undefined before it chose a volume. */
  readonly share: Share | undefined;
  /** Called at regular intervals: how many times in a row it was found stalled. */
  checkStall(): number;
}

/** The shares of the volumes' buffers, one for each zpool. */
export class Shares {
  /** What the volumes of one zpool may have: when it is suspended, the others go on in the other half. */
  readonly limitBytes: number;
  readonly #provider: Pick<VolumeProvider, 'buffers' | 'buffersOf'>;
  /** By zpool; as many as there ever were, which are few. */
  readonly #shares = new Map<string, { readonly share: Share; readonly buffers: BufferPool }>();

  constructor(provider: Pick<VolumeProvider, 'buffers' | 'buffersOf'>) {
    this.#provider = provider;
    this.limitBytes = Math.floor(provider.buffers.limitBytes / 2);
  }

  /** The share that requests of a volume, or of a snapshot of one, use. */
  of(volume: string): Share {
    const zpool = volume.split(/[/@]/, 1)[0]!;
    const buffers = this.#provider.buffersOf?.(volume) ?? this.#provider.buffers;
    const known = this.#shares.get(zpool);
    // A pool that was imported again may have other memory.
    if (known?.buffers === buffers) return known.share;
    const share = new Share(buffers, this.limitBytes);
    this.#shares.set(zpool, { share, buffers });
    return share;
  }

  /** Requests that wait for memory now. */
  get waiting(): number {
    let sum = 0;
    for (const { share } of this.#shares.values()) sum += share.waiting + share.waitingInPool;
    return sum;
  }

  /** Those of `users` that stalled `checks` times in a row while somebody waits for what they hold. Called at regular intervals. */
  *stalled<User extends ShareUser>(users: Iterable<User>, checks: number): Generator<User> {
    let wanted = false;
    for (const { share } of this.#shares.values()) wanted ||= share.waitingInPool > 0;
    for (const user of users) {
      if (user.checkStall() < checks) continue;
      if (wanted || user.share!.waiting > 0) yield user;
    }
  }
}
