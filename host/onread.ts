import net from 'node:net';

/** The part of libuv's stream handle that Node keeps to itself. */
interface StreamHandle {
  readonly fd?: number;
  useUserBuffer?: (buffer: Uint8Array) => void;
  /** Bytes the kernel has not taken yet. */
  writeQueueSize?: number;
}

export type Handled = net.Socket & { _handle: StreamHandle | null };

export interface OnRead {
  /** Where the next bytes go; asked for once before each read. */
  window(): Uint8Array;
  /** `length` bytes have arrived at the start of the last window; false: read no more until `resume()`. */
  received(length: number, window: Uint8Array): boolean;
}

export interface Inlet {
  readonly socket: net.Socket;
  /** Asks for the window anew: the last one is nobody's any more. */
  choose(): void;
}

/**
 * An accepted socket that reads straight into its owner's windows. Node has this (`onread`) for sockets one creates, not
 * for accepted ones; the accepted socket's handle moves to a socket created with it, which begins paused, as `accepted`
 * must be. Undefined where a future Node hides the handle.
 */
export function readInto(accepted: net.Socket, { window, received }: OnRead): Inlet | undefined {
  const shell = accepted as Handled;
  const handle = shell._handle;
  if (typeof handle?.useUserBuffer !== 'function') return undefined;
  shell._handle = null;
  let current: Uint8Array;
  const options = {
    handle,
    allowHalfOpen: accepted.allowHalfOpen,
    pauseOnCreate: true,
    onread: {
      buffer: () => {
        current = window();
        return current;
      },
      callback: (length: number) => received(length, current),
    },
  };
  const socket = new net.Socket(options as unknown as net.SocketConstructorOpts);
  socket.once('close', () => accepted.destroy()); // the listener counts this one
  const choose = (): void => {
    current = window();
    (socket as Handled)._handle?.useUserBuffer?.(current);
  };
  return { socket, choose };
}
