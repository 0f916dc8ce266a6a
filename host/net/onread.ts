import net from 'node:net';
import { assert } from '../assert.ts';
import type { Lendable } from '../lendable.ts';

/** The part of libuv's stream handle that Node keeps to itself. */
interface StreamHandle {
  readonly fd?: number;
  useUserBuffer?: (buffer: Uint8Array) => void;
  /** Bytes the kernel has not taken yet. */
  writeQueueSize?: number;
  close(): void;
}

export type Handled = net.Socket & { _handle: StreamHandle | null };

/** The borrower's side of Lendable. */
type Loan = Pick<Lendable, 'lend' | 'giveBack'>;

/** Where a socket may read to. */
export interface Window {
  /** Never empty. */
  readonly bytes: Uint8Array;
  /** Whose memory it is, where others get it later: lent for as long as the socket can read into it. */
  readonly of?: Loan | undefined;
}

export interface OnRead {
  /** Where the next bytes go; asked for once before each read. */
  window(): Window;
  /** `length` bytes have arrived at the start of the last window; false: read no more until `resume()`. */
  received(length: number, window: Window): boolean;
}

export interface Inlet {
  readonly socket: net.Socket;
  /** Asks for the window anew: the socket reads into the last one no more. */
  choose(): void;
}

/** What libuv has for a window of a socket that is closed. */
const nowhere: Window = { bytes: new Uint8Array(0) };

/**
 * An accepted socket that reads straight into its owner's windows. Node has this (`onread`) for sockets one creates, not
 * for accepted ones; the accepted socket's handle moves to a socket created with it, which begins paused, as `accepted`
 * must be. Undefined where a future Node hides the handle.
 *
 * A pause is not enough to have a window back: the next read, after `resume`, goes to the same address. It is given back
 * where libuv is told another one, or has closed the descriptor.
 */
export function readInto(accepted: net.Socket, { window, received }: OnRead): Inlet | undefined {
  const shell = accepted as Handled;
  const handle = shell._handle;
  if (typeof handle?.useUserBuffer !== 'function') return undefined;
  shell._handle = null;
  let current = nowhere;
  const take = (next: Window): Uint8Array => {
    const last = current;
    next.of?.lend(); // first: it may be the same one
    current = next;
    last.of?.giveBack();
    return next.bytes;
  };
  const chosen = (): Uint8Array => {
    const next = window();
    assert(next.bytes.length > 0, 'a socket shall read into an empty window');
    return take(next);
  };
  const options = {
    handle,
    allowHalfOpen: accepted.allowHalfOpen,
    pauseOnCreate: true,
    onread: {
      buffer: chosen,
      callback: (length: number) => {
        assert(length <= current.bytes.length, 'a socket read more than its window holds');
        return received(length, current);
      },
    },
  };
  const socket = new net.Socket(options as unknown as net.SocketConstructorOpts);
  socket.once('close', () => {
    take(nowhere);
    accepted.destroy(); // the listener counts this one
  });
  const choose = (): void => {
    const open = (socket as Handled)._handle;
    // Without a handle the descriptor is closed already; 'close' is to come.
    if (open === null) take(nowhere);
    else open.useUserBuffer!(chosen());
  };
  return { socket, choose };
}
