import { lstat, unlink } from 'node:fs/promises';
import net from 'node:net';
import { Errno, ErrnoError, errnoOf } from '../errno.ts';
import { inherited } from './inherited.ts';
import type { TlsConfig } from './tls.ts';

/** Where a server listens. */
export interface ListenerOptions {
  /** Path of a unix socket, mode 0600. */
  readonly unix?: string | undefined;
  /** `host:port`, `[::1]:port`; port 0 takes a free one. */
  readonly tcp?: string | undefined;
  readonly tls?: TlsConfig | undefined;
  /**
   * Must be true to listen on an address that others than this machine reach without `tls: { mode: required }`: whoever
   * reaches the port may then read and write the volumes.
   */
  readonly allowPlaintextFromNetwork?: boolean | undefined;
}

/** Where a listener can be reached. */
export interface ListenerAddress {
  readonly unix?: string;
  /** `host:port` as connected to. */
  readonly tcp?: string;
  readonly port?: number;
}

/** Connections the kernel holds until they are accepted. */
const BACKLOG = 1024;

/**
 * Checks a listener of `protocol`, which errors name, without opening it.
 * @throws ErrnoError EINVAL (neither or both addresses, bad port), EPERM (reachable from the network unprotected).
 */
export function checkListener(protocol: string, options: ListenerOptions): void {
  if ((options.unix === undefined) === (options.tcp === undefined)) {
    throw new ErrnoError(Errno.EINVAL, `${protocol}: a listener has either unix or tcp`);
  }
  if (options.tcp === undefined) return;
  const { host } = parseTcp(protocol, options.tcp);
  if (isLoopback(host) || options.tls?.mode === 'required' || options.allowPlaintextFromNetwork === true) return;
  throw new ErrnoError(
    Errno.EPERM,
    `${protocol}: ${options.tcp} can be reached from the network: set tls with mode required, or allowPlaintextFromNetwork`,
  );
}

/** Parts of `host:port`. */
export function parseTcp(protocol: string, text: string): { host: string; port: number } {
  const match = /^(?:\[([0-9a-f:.]+)\]|([^:[\]]+)):(\d{1,5})$/i.exec(text);
  const port = Number(match?.[3]);
  if (match === null || port > 65535) {
    throw new ErrnoError(Errno.EINVAL, `${protocol}: ${text} is not host:port or [address]:port`);
  }
  return { host: match[1] ?? match[2]!, port };
}

/** Names are not resolved: only `localhost` is known to stay here. */
export function isLoopback(host: string): boolean {
  if (host === 'localhost') return true;
  if (net.isIPv4(host)) return host.startsWith('127.');
  return net.isIPv6(host) && new net.SocketAddress({ address: host, family: 'ipv6' }).address === '::1';
}

/**
 * Opens a listener of `protocol`, which errors name; `server` is not listening yet. Where the service manager has opened one at that
 * address it is used. A stale unix socket is replaced, one that answers is not.
 */
export async function listen(protocol: string, server: net.Server, options: ListenerOptions): Promise<ListenerAddress> {
  const where = (options.tcp ?? options.unix)!;
  const fd = inherited(protocol, where);
  if (fd !== undefined) {
    await listening(protocol, server, { fd, backlog: BACKLOG }, where);
    if (options.unix !== undefined) return { unix: where };
    return { tcp: where, port: (server.address() as net.AddressInfo).port };
  }
  if (options.tcp !== undefined) {
    const { host, port } = parseTcp(protocol, options.tcp);
    await listening(protocol, server, { host, port, backlog: BACKLOG }, options.tcp);
    const address = server.address() as net.AddressInfo;
    const at = address.family === 'IPv6' ? `[${address.address}]` : address.address;
    return { tcp: `${at}:${address.port}`, port: address.port };
  }
  const path = options.unix!;
  try {
    await listenUnix(protocol, server, path);
  } catch (error) {
    if (errnoOf(error) !== Errno.EADDRINUSE) throw error;
    await removeStale(protocol, path, error);
    await listenUnix(protocol, server, path);
  }
  return { unix: path };
}

async function listenUnix(protocol: string, server: net.Server, path: string): Promise<void> {
  // The socket must never exist with another mode; bind happens before `listen` returns.
  const mask = process.umask(0o177);
  try {
    await listening(protocol, server, { path, backlog: BACKLOG }, path, () => process.umask(mask));
  } finally {
    process.umask(mask);
  }
}

function listening(
  protocol: string,
  server: net.Server,
  options: net.ListenOptions | { readonly fd: number; readonly backlog: number },
  name: string,
  bound?: () => void,
): Promise<void> {
  return new Promise((resolve, reject) => {
    const fail = (error: Error) => {
      server.off('listening', succeed);
      reject(new ErrnoError(errnoOf(error), `${protocol}: listening on ${name}`, { cause: error }));
    };
    const succeed = () => {
      server.off('error', fail);
      resolve();
    };
    server.once('error', fail);
    server.once('listening', succeed);
    server.listen(options);
    bound?.();
  });
}

/** Removes the socket at `path` when nobody answers there; otherwise throws `inUse`. */
async function removeStale(protocol: string, path: string, inUse: unknown): Promise<void> {
  const found = await lstat(path);
  if (!found.isSocket()) throw new ErrnoError(Errno.EADDRINUSE, `${protocol}: ${path} exists and is not a socket`);
  if (await answers(path)) throw inUse;
  const again = await lstat(path);
  if (again.ino !== found.ino || again.dev !== found.dev) throw inUse; // somebody was faster
  await unlink(path);
}

function answers(path: string): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = net.connect({ path });
    socket.once('connect', () => {
      socket.destroy();
      resolve(true);
    });
    socket.once('error', (error) => resolve(errnoOf(error) !== Errno.ECONNREFUSED));
  });
}
