/** What must hold does not: a fault of the host's own, never of a client's. */
export class AssertionError extends Error {
  override readonly name = 'AssertionError';
}

/** States what must hold where it stands. `what` says what does not. */
export function assert(condition: boolean, what: string): asserts condition {
  if (!condition) throw new AssertionError(what);
}
