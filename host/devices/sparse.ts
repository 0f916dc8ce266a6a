import fs from 'node:fs';
import path from 'node:path';
import { Errno, ErrnoError, errnoOf } from '../errno.ts';
import { log } from '../log.ts';

/** SPA_MINDEVSIZE: the smallest disk ZFS takes, and with it the least space a new one needs. */
const FREE_BYTES_MIN = 64 * 1024 * 1024;

/**
 * Creates a sparse file of `bytes` for a disk, mode 0600, durable with its directory entry when this returns.
 * EEXIST: there is something already, which stays as it is. ENOSPC: not even the smallest pool would fit on the file
 * system; that all of `bytes` will fit is only advice (a sparse file may be larger than what is free) and logged.
 */
export function createSparse(file: string, bytes: number): void {
  const folder = path.dirname(file);
  checkSpace(file, folder, bytes);
  let fd: number;
  try {
    fd = fs.openSync(file, fs.constants.O_RDWR | fs.constants.O_CREAT | fs.constants.O_EXCL, 0o600);
  } catch (error) {
    throw createError(file, error);
  }
  try {
    fs.ftruncateSync(fd, bytes);
    fs.fsyncSync(fd);
    fsyncFolder(folder);
  } catch (error) {
    fs.rmSync(file, { force: true });
    throw createError(file, error);
  } finally {
    fs.closeSync(fd);
  }
}

function checkSpace(file: string, folder: string, bytes: number): void {
  let free: number;
  try {
    const stat = fs.statfsSync(folder);
    free = stat.bavail * stat.bsize;
  } catch (error) {
    throw createError(file, error);
  }
  if (free < Math.min(bytes, FREE_BYTES_MIN)) {
    throw new ErrnoError(Errno.ENOSPC, `cannot create ${file}: its file system has only ${free} bytes free`);
  }
  if (free < bytes) log.warn({ file, bytes, free }, 'disk file is larger than the free space of its file system');
}

function fsyncFolder(folder: string): void {
  const fd = fs.openSync(folder, fs.constants.O_RDONLY);
  try {
    fs.fsyncSync(fd);
  } finally {
    fs.closeSync(fd);
  }
}

function createError(file: string, cause: unknown): ErrnoError {
  return new ErrnoError(errnoOf(cause), `cannot create ${file}: ${(cause as Error).message}`, { cause });
}
