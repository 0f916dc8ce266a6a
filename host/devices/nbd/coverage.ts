/** Pieces that may lie apart at one time; servers send a read in order, or in a few parts. */
const PIECES_MAX = 4096;

/** Which bytes of a read have come: each of them once, in any order. */
export class Coverage {
  readonly #length: number;
  /** Starts and ends of what is there, sorted, never adjacent. */
  readonly #edges: number[] = [];

  constructor(length: number) {
    this.#length = length;
  }

  get isComplete(): boolean {
    return this.#length === 0 || (this.#edges.length === 2 && this.#edges[0] === 0 && this.#edges[1] === this.#length);
  }

  /** False when it is empty, past the end, there already, or one piece too many. */
  add(from: number, to: number): boolean {
    if (from < 0 || to <= from || to > this.#length) return false;
    const edges = this.#edges;
    // Behind how many edges it begins; in order that is all of them.
    let at = edges.length;
    while (at > 0 && edges[at - 1]! > from) at -= 1;
    // An odd number: within a piece that is there, or at its start.
    if (at % 2 === 1) return false;
    if (at < edges.length && edges[at]! < to) return false;
    const joinsLast = at > 0 && edges[at - 1] === from;
    const joinsNext = at < edges.length && edges[at] === to;
    if (joinsLast && joinsNext) edges.splice(at - 1, 2);
    else if (joinsLast) edges[at - 1] = to;
    else if (joinsNext) edges[at] = from;
    else edges.splice(at, 0, from, to);
    return edges.length <= 2 * PIECES_MAX;
  }
}
