import { Errno } from './errno.ts';
import { linuxFfi } from './ffi.ts';

/** What the service manager's protocols need of Linux and Node lacks. Undefined without FFI (host/ffi.ts). */
export interface SocketCalls {
  /** Sends one datagram to a unix socket: a path, or a name in the abstract namespace that begins with `@`. 0 or an errno; never waits. */
  sendTo(address: string, text: string): number;
  /** The address that a socket is bound to, as getsockname(2) gives it; undefined of what is no socket. */
  nameOf(fd: number): Uint8Array | undefined;
  /** Another descriptor of the same, closed when a program is executed. Minus an errno when it fails. */
  duplicate(fd: number): number;
}

const AF_UNIX = 1;
const SOCK_DGRAM = 2;
const SOCK_CLOEXEC = 0o2000000;
const MSG_DONTWAIT = 0x40;
const MSG_NOSIGNAL = 0x4000;
const F_DUPFD_CLOEXEC = 1030;
/** sizeof (sockaddr_storage). */
const ADDRESS_BYTES_MAX = 128;

/** The address of a unix socket, struct sockaddr_un. */
function unixAddress(name: string): Uint8Array {
  const path = Buffer.from(name);
  // An abstract name begins with NUL, and has none at its end.
  if (path[0] === 0x40) path[0] = 0;
  const end = path[0] === 0 ? [] : [0];
  return Uint8Array.from([AF_UNIX, 0, ...path, ...end]);
}

export function socketCalls(): SocketCalls | undefined {
  const ffi = linuxFfi();
  if (ffi === undefined) return undefined;
  const { functions: libc } = ffi.dlopen(null, {
    socket: { arguments: ['i32', 'i32', 'i32'], return: 'i32' },
    sendto: { arguments: ['i32', 'buffer', 'u64', 'i32', 'buffer', 'u32'], return: 'i64' },
    getsockname: { arguments: ['i32', 'buffer', 'buffer'], return: 'i32' },
    fcntl: { arguments: ['i32', 'i32', 'i32'], return: 'i32' },
    close: { arguments: ['i32'], return: 'i32' },
    __errno_location: { arguments: [], return: 'pointer' },
  });
  const errnoAt = libc.__errno_location();
  const errno = () => ffi.getInt32(errnoAt) || Errno.EIO;
  return {
    sendTo(address, text) {
      const to = unixAddress(address);
      const bytes = Buffer.from(text);
      const fd = libc.socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
      if (fd < 0) return errno();
      const sent = libc.sendto(fd, bytes, BigInt(bytes.length), MSG_DONTWAIT | MSG_NOSIGNAL, to, to.length);
      const result = sent < 0n ? errno() : 0;
      libc.close(fd);
      return result;
    },
    nameOf(fd) {
      const name = new Uint8Array(ADDRESS_BYTES_MAX);
      const length = Uint32Array.of(name.length);
      return libc.getsockname(fd, name, length) === 0 ? name.subarray(0, length[0]) : undefined;
    },
    duplicate(fd) {
      const copy = libc.fcntl(fd, F_DUPFD_CLOEXEC, 3);
      return copy < 0 ? -errno() : copy;
    },
  };
}
