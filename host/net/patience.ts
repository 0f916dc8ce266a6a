/** Steps that a time is counted in. */
const STEPS = 10;

/** A time that a peer has for something. */
export interface Patience {
  /** The peer has done it, or is gone. */
  end(): void;
}

/**
 * Gives a peer `ms` milliseconds for something, then calls `over`, unless it is ended before. Only time counts in which
 * this process listens: a stop of it, however long (a long turn, a machine that is paused or has better to do), counts
 * for one step of ten, and before the last word what has arrived meanwhile is read. Keeps no process alive.
 */
export function patience(ms: number, over: () => void): Patience {
  let left = STEPS;
  let last: NodeJS.Immediate | undefined;
  const steps = setInterval(() => {
    if (--left > 0) return;
    clearInterval(steps);
    // In a turn of Node's loop the timers come first, then the sockets, then this.
    last = setImmediate(over);
  }, ms / STEPS).unref();
  return {
    end: () => {
      clearInterval(steps);
      clearImmediate(last);
    },
  };
}
