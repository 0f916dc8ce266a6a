import { assert } from './assert.ts';

/**
 * Memory that somebody goes on using after the call that named it: a socket that reads into it or writes it, the core.
 * Its owner may be done with it at any time, for a client can vanish in the middle of anything; the memory is another's
 * only when every borrower has given it back. So neither of them has to know of the other.
 *
 *   lend ─► used by a borrower ─► giveBack     any number of them, until the owner ends it
 *   end  ─► no new loans; free, once, when the last one is back
 */
export abstract class Lendable {
  #loans = 0;
  #ended = false;

  /** Its owner is done with it: nobody may begin to use it. */
  get ended(): boolean {
    return this.#ended;
  }

  /** A borrower uses the memory until it calls `giveBack`. */
  lend(): void {
    assert(!this.#ended, 'memory is lent whose owner is done with it');
    this.#loans++;
  }

  /** As often as `lend`. */
  giveBack(): void {
    assert(this.#loans > 0, 'memory is given back that was not lent');
    this.#loans--;
    if (this.#loans === 0 && this.#ended) this.free();
  }

  /** For the owner, once. */
  protected end(): void {
    assert(!this.#ended, 'memory is released twice');
    this.#ended = true;
    if (this.#loans === 0) this.free();
  }

  /** Nobody uses the memory any more. Once. */
  protected abstract free(): void;
}
