/**
 * Linux errno numbers and names. The core, the ioctl protocol and every device speak these numbers, whatever the
 * platform's own are (Linux, include/uapi/asm-generic/errno-base.h and errno.h).
 */
export const Errno = {
  EPERM: 1,
  ENOENT: 2,
  ESRCH: 3,
  EINTR: 4,
  EIO: 5,
  ENXIO: 6,
  EBADF: 9,
  EAGAIN: 11,
  ENOMEM: 12,
  EACCES: 13,
  EFAULT: 14,
  EBUSY: 16,
  EEXIST: 17,
  EXDEV: 18,
  ENODEV: 19,
  ENOTDIR: 20,
  EISDIR: 21,
  EINVAL: 22,
  ENFILE: 23,
  EMFILE: 24,
  ENOTTY: 25,
  EFBIG: 27,
  ENOSPC: 28,
  ESPIPE: 29,
  EROFS: 30,
  EPIPE: 32,
  ERANGE: 34,
  ENAMETOOLONG: 36,
  ENOSYS: 38,
  ENOTEMPTY: 39,
  ELOOP: 40,
  ETIME: 62,
  EPROTO: 71,
  EBADMSG: 74,
  EOVERFLOW: 75,
  EOPNOTSUPP: 95,
  EADDRINUSE: 98,
  ENETUNREACH: 101,
  ECONNABORTED: 103,
  ECONNRESET: 104,
  ENOTCONN: 107,
  ESHUTDOWN: 108,
  ETIMEDOUT: 110,
  ECONNREFUSED: 111,
  EHOSTUNREACH: 113,
  ESTALE: 116,
  EDQUOT: 122,
  ECANCELED: 125,
} as const;

export type ErrnoName = keyof typeof Errno;

const names = new Map<number, ErrnoName>(Object.entries(Errno).map(([name, value]) => [value, name as ErrnoName]));

/** `EIO` for 5; `errno 999` for a number without a name here. */
export function errnoName(errno: number): string {
  return names.get(errno) ?? `errno ${errno}`;
}

/** A failed operation: a Linux errno, and what was being done to what. */
export class ErrnoError extends Error {
  /** Linux errno, positive. */
  readonly errno: number;
  readonly code: string;

  constructor(errno: number, message?: string, options?: ErrorOptions) {
    const name = errnoName(errno);
    super(message === undefined ? name : `${message}: ${name}`, options);
    this.name = 'ErrnoError';
    this.errno = errno;
    this.code = name;
  }
}

/** Linux errno of anything thrown: an ErrnoError's own, a Node system error's by its code, else EIO. */
export function errnoOf(error: unknown): number {
  if (error instanceof ErrnoError) return error.errno;
  const code = (error as NodeJS.ErrnoException | null)?.code;
  if (typeof code === 'string' && code in Errno) return Errno[code as ErrnoName];
  return Errno.EIO;
}
