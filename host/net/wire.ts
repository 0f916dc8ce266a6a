import type net from 'node:net';
import type { Window } from './onread.ts';

/**
 * What a connection needs of a transport. `socket.ts` makes one of a net.Socket, tests make one of nothing.
 */
export interface Wire {
  /** For logs. */
  readonly peer: string;
  /** Bytes moved in either direction so far: who looks twice sees whether a client is alive. */
  readonly progress: number;
  /**
   * Writes all pieces, in order; one call at a time. `done` is called exactly once, when nothing reads the pieces any
   * more: they are written, or the wire is closed.
   */
  write(pieces: readonly Uint8Array[], done: () => void): void;
  /** Delivers nothing from now on, and asks for another window: the last one is given back. */
  pause(): void;
  /** Goes on delivering, after `pause` or after the sink said false. */
  resume(): void;
  /** Sends what was written, then closes; what the client still sends is dropped. */
  end(): void;
  /** Closes at once. */
  destroy(): void;
  /**
   * Gives its socket away, which delivers nothing; the wire is of no use then, and calls nobody any more. Absent: there is
   * no socket.
   */
  take?(): net.Socket;
}

/** What a transport delivers to. */
export interface WireSink {
  /**
   * Where the transport shall put the next bytes, if it can choose: never empty. It borrows the window for as long as it
   * may write there: until it has asked for another, or is closed.
   */
  window(): Window;
  /**
   * `length` bytes stand at the start of `bytes`: the window, or memory of the transport's own.
   * False: deliver nothing more before `resume`.
   */
  received(bytes: Buffer, length: number): boolean;
  /** The client will send no more. */
  ended(): void;
  /** The wire is closed, and every `done` was called. Exactly once. */
  closed(error: Error | undefined): void;
}
