import { Errno, ErrnoError } from '../errno.ts';

/** EINVAL unless `offset` and `length` are whole, not negative, and their sum still exact. */
export function checkOffset(name: string, offset: number, length: number): void {
  if (Number.isSafeInteger(offset) && offset >= 0 && length >= 0 && Number.isSafeInteger(offset + length)) return;
  throw new ErrnoError(Errno.EINVAL, `${name}: no such range: ${length} bytes at ${offset}`);
}

/** EINVAL unless the range lies within a device of `size` bytes. */
export function checkWithin(name: string, offset: number, length: number, size: number): void {
  checkOffset(name, offset, length);
  if (offset + length <= size) return;
  throw new ErrnoError(Errno.EINVAL, `${name}: ${length} bytes at ${offset} go past the end at ${size}`);
}

/** How many bytes of a write fit in a device of `size` bytes: ENOSPC at or past its end. */
export function roomForWrite(name: string, offset: number, length: number, size: number): number {
  if (length === 0) return 0;
  if (offset >= size) throw new ErrnoError(Errno.ENOSPC, `${name}: write at ${offset}, past the end at ${size}`);
  return Math.min(length, size - offset);
}

export function readOnlyError(name: string): ErrnoError {
  return new ErrnoError(Errno.EROFS, `${name} is open for reading only`);
}

export function closedError(name: string): ErrnoError {
  return new ErrnoError(Errno.EBADF, `${name} is closed`);
}

export function unsupportedError(name: string, operation: string): ErrnoError {
  return new ErrnoError(Errno.EOPNOTSUPP, `${name} has no ${operation}`);
}
