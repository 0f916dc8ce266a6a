import { statSync } from 'node:fs';
import net from 'node:net';
import { Errno, ErrnoError } from '../errno.ts';
import { type SocketCalls, socketCalls } from '../libc.ts';

/** A listening socket that the service manager opened, and keeps open as long as its unit is. */
export interface InheritedSocket {
  readonly fd: number;
  /** What its unit calls it (FileDescriptorName=); its unit's name without one. */
  readonly name: string;
  /** A path, or `address:port`, `[address]:port`. */
  readonly address: string;
}

/** SD_LISTEN_FDS_START. */
const FIRST_FD = 3;
/** More is a mistake. */
const SOCKETS_MAX = 256;
const AF_UNIX = 1;
const AF_INET = 2;
const AF_INET6 = 10;
/** Names that say what a socket is for; with any other its address alone does. */
const PROTOCOLS: readonly string[] = ['zow', 'nbd', 'iscsi', 'http'];

let sockets: readonly InheritedSocket[] = [];
let calls: SocketCalls | undefined;
const used = new Set<number>();

/**
 * Takes over the listening sockets that the service manager passed to this process (sd_listen_fds(3)), and forgets the variables
 * that say so: they are not for children. A listener of the configuration with the address of one then uses it.
 * @throws Error when it cannot be said what one is.
 */
export function inheritSockets(env: NodeJS.ProcessEnv = process.env): readonly InheritedSocket[] {
  const { LISTEN_PID, LISTEN_FDS, LISTEN_FDNAMES = '' } = env;
  for (const name of ['LISTEN_PID', 'LISTEN_FDS', 'LISTEN_FDNAMES', 'LISTEN_PIDFDID']) delete env[name];
  if (LISTEN_FDS === undefined || Number(LISTEN_PID) !== process.pid) return [];
  const count = Number(LISTEN_FDS);
  if (!Number.isInteger(count) || count < 0 || count > SOCKETS_MAX)
    throw new Error(`LISTEN_FDS is ${LISTEN_FDS}, not a number of sockets up to ${SOCKETS_MAX}`);
  if (count === 0) return [];
  calls = socketCalls();
  if (calls === undefined) throw new Error('sockets of the service manager cannot be used: this Node has no node:ffi');
  const names = LISTEN_FDNAMES.split(':');
  sockets = Array.from({ length: count }, (_, index) => {
    const fd = FIRST_FD + index;
    const bytes = calls!.nameOf(fd);
    const address = bytes && addressOf(bytes);
    const name = names[index] || 'unknown';
    if (address === undefined)
      throw new Error(`socket '${name}' of the service manager (descriptor ${fd}) is no TCP or unix socket`);
    return { fd, name, address };
  });
  return sockets;
}

/** Those that nothing of the configuration has taken. */
export function unusedSockets(): readonly InheritedSocket[] {
  return sockets.filter(({ fd }) => !used.has(fd));
}

/** Whether the service manager opened a socket at an address: nobody else serves it then. */
export function isInherited(address: string): boolean {
  return sockets.some((socket) => sameAddress(socket.address, address));
}

/**
 * A descriptor of the inherited socket at an address, to be closed by whoever listens on it; undefined: there is none.
 * @throws ErrnoError when its name says that it is for another protocol; of a unix socket, when everybody may connect to it.
 */
export function inherited(protocol: string, address: string): number | undefined {
  const socket = sockets.find((candidate) => sameAddress(candidate.address, address));
  if (socket === undefined) return undefined;
  const { fd, name } = socket;
  if (PROTOCOLS.includes(name) && name !== protocol)
    throw new ErrnoError(Errno.EINVAL, `${protocol}: the service manager's socket on ${address} is named '${name}'`);
  if (address.startsWith('/') && (statSync(address).mode & 0o007) !== 0) {
    throw new ErrnoError(
      Errno.EPERM,
      `${protocol}: everybody may connect to the service manager's socket ${address}; set SocketMode=0600 in its unit`,
    );
  }
  const copy = calls!.duplicate(fd);
  if (copy < 0) throw new ErrnoError(-copy, `${protocol}: the service manager's socket on ${address}`);
  used.add(fd);
  return copy;
}

function addressOf(bytes: Uint8Array): string | undefined {
  const view = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const port = () => view.readUInt16BE(2);
  switch (view.readUInt16LE(0)) {
    case AF_UNIX: {
      const path = view.toString('utf8', 2).replace(/\0.*$/s, '');
      return path === '' ? undefined : path;
    }
    case AF_INET:
      return `${[...view.subarray(4, 8)].join('.')}:${port()}`;
    case AF_INET6: {
      const groups = Array.from({ length: 8 }, (_, i) => view.readUInt16BE(8 + 2 * i).toString(16));
      return `[${new net.SocketAddress({ address: groups.join(':'), family: 'ipv6' }).address}]:${port()}`;
    }
    default:
      return undefined;
  }
}

function sameAddress(bound: string, wanted: string): boolean {
  if (bound === wanted) return true;
  const match = /^(?:\[(.+)\]|localhost):(\d+)$/.exec(wanted);
  if (match === null) return false;
  const [, v6, port] = match;
  if (v6 === undefined) return bound === `127.0.0.1:${port}` || bound === `[::1]:${port}`;
  if (!net.isIPv6(v6)) return false;
  return bound === `[${new net.SocketAddress({ address: v6, family: 'ipv6' }).address}]:${port}`;
}
