import net from 'node:net';
import { Errno, ErrnoError } from '../../errno.ts';
import type { TlsClientUpgrade } from '../../net/tls.ts';
import type { NbdAddress } from './address.ts';
import { type Negotiated, negotiate } from './negotiate.ts';

export interface DialOptions {
  /** How the connection is secured; undefined: not at all. */
  readonly tls?: TlsClientUpgrade | undefined;
  /** For the connection, with the handshakes of TLS and NBD. */
  readonly timeoutMs: number;
  /** Gives up. */
  readonly signal?: AbortSignal | undefined;
}

/** Connects to an export and negotiates up to transmission. Rejects with what is in the way; nothing is left open then. */
export async function dial(address: NbdAddress, { tls, timeoutMs, signal }: DialOptions): Promise<Negotiated> {
  signal?.throwIfAborted();
  const { socket, connected } = connect(address);
  const timer = setTimeout(
    () => socket.destroy(new ErrnoError(Errno.ETIMEDOUT, `no connection within ${timeoutMs} ms`)),
    timeoutMs,
  );
  const abort = () => socket.destroy();
  signal?.addEventListener('abort', abort);
  try {
    // A socket that is destroyed ends whatever the negotiation waits for.
    const failed = new Promise<never>((_, reject) => socket.once('error', reject));
    failed.catch(() => undefined);
    await connected;
    return await Promise.race([negotiate(socket, address.exportName, tls), failed]);
  } catch (error) {
    socket.destroy();
    throw error;
  } finally {
    clearTimeout(timer);
    signal?.removeEventListener('abort', abort);
  }
}

function connect(address: NbdAddress): { socket: net.Socket; connected: Promise<void> } {
  const socket = net.connect(
    address.kind === 'unix' ? { path: address.path } : { host: address.host, port: address.port, noDelay: true },
  );
  const connected = new Promise<void>((resolve, reject) => {
    socket.once('connect', resolve);
    socket.once('error', reject);
    socket.once('close', () => reject(new ErrnoError(Errno.ECONNABORTED, 'closed')));
  });
  // One that was destroyed says so to whoever waits; later ones are the connection's.
  socket.on('error', () => undefined);
  connected.catch(() => undefined);
  return { socket, connected };
}
