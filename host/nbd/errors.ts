import { Errno, errnoOf } from '../errno.ts';
import { NbdErrno } from '../protocols/nbd.ts';

/**
 * NBD error number of anything a volume operation threw. The protocol has eight; what has no number of its own is EIO,
 * as in nbdkit's `nbd_errno()`.
 */
export function nbdErrnoOf(error: unknown): number {
  switch (errnoOf(error)) {
    case Errno.EPERM:
    case Errno.EACCES:
    case Errno.EROFS:
      return NbdErrno.EPERM;
    case Errno.ENOMEM:
      return NbdErrno.ENOMEM;
    case Errno.EINVAL:
      return NbdErrno.EINVAL;
    case Errno.ENOSPC:
    case Errno.EDQUOT:
    case Errno.EFBIG:
      return NbdErrno.ENOSPC;
    case Errno.EOVERFLOW:
      return NbdErrno.EOVERFLOW;
    case Errno.EOPNOTSUPP:
      return NbdErrno.ENOTSUP;
    case Errno.ESHUTDOWN:
      return NbdErrno.ESHUTDOWN;
    default:
      return NbdErrno.EIO;
  }
}
