/** What a client of the HTTP listener can have. Times are in milliseconds. */
export interface HttpLimits {
  /** At a time; who comes then is cut. */
  readonly connections: number;
  /** Of a request's line and headers together. */
  readonly headerBytes: number;
  /** From the connection's start, or the request's first byte, to the end of its headers. */
  readonly headerMs: number;
  /** Between two requests of a connection. */
  readonly idleMs: number;
  /** For the answer: to be made, and taken by the client. */
  readonly answerMs: number;
  /** At the end, for answers that are under way. */
  readonly shutdownMs: number;
}

export const defaultLimits: HttpLimits = {
  connections: 64,
  headerBytes: 8 << 10,
  headerMs: 5_000,
  idleMs: 5_000,
  answerMs: 10_000,
  shutdownMs: 1_000,
};
