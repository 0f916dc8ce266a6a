import fs from 'node:fs';
import { Errno, ErrnoError, errnoOf } from '../errno.ts';
import { type Descriptor, DescriptorDevice } from './descriptor.ts';
import type { DeviceOpenOptions } from './device.ts';
import { type DeviceLock, lockDevice } from './lock.ts';
import { type IoMode, ioModeFromEnvironment } from './stall.ts';
import { PUNCH_HOLE, type RangeCall, syscalls } from './syscalls.ts';

export interface DescriptorOpenOptions extends DeviceOpenOptions {
  /** Default: ZOW_DEVICE_IO, else adaptive; openDevice knows better of file systems that are not this machine's own. */
  readonly ioMode?: IoMode;
}

/**
 * Opens a regular file as a disk. It never grows, shrinks or creates it.
 * ENOENT, EACCES, EROFS with the reason; EBUSY when `exclusive` and another process has the lock.
 */
export function openFile(path: string, options: DescriptorOpenOptions = {}): DescriptorDevice {
  const readOnly = options.readOnly ?? false;
  return openDescriptor(path, options, 'regular file', (fd, stat) => ({
    identity: `file:${stat.dev}:${stat.ino}`,
    // Seeks are the file system's and the disk's below it: upstream's vdev_file says non-rotational as well.
    nonRotational: true,
    logicalSectorBytes: 512,
    physicalSectorBytes: fileBlockBytes(Number(stat.blksize)),
    ...holeCalls(fd, Number(stat.size), readOnly),
    measure: () => fs.fstatSync(fd).size,
    isSame: ({ dev, ino }) => dev === stat.dev && ino === stat.ino,
    exists: () => true,
    writeErrorsAreLate: lateErrors(path),
  }));
}

/** NFS_SUPER_MAGIC, statfs(2). */
const NFS_MAGIC = 0x6969;

function lateErrors(path: string): (errno: number) => boolean {
  const network = fs.statfsSync(path).type === NFS_MAGIC;
  const late: readonly number[] = network ? [Errno.EIO, Errno.ENOSPC, Errno.EDQUOT, Errno.EFBIG] : [Errno.EIO];
  return (errno) => late.includes(errno);
}

/** The file system's block, where it is one that a disk could have; network file systems name transfer sizes here. */
function fileBlockBytes(blksize: number): number {
  const powerOfTwo = blksize > 0 && (blksize & (blksize - 1)) === 0;
  return powerOfTwo && blksize >= 512 && blksize <= 16384 ? blksize : 4096;
}

/**
 * A punched hole gives its space back and reads as zeroes, so it serves both calls. Whether the file system has it is
 * found out by punching just past the end, where there is nothing.
 */
function holeCalls(fd: number, size: number, readOnly: boolean): Pick<Descriptor, 'trimCall' | 'zeroCall'> {
  const past = Math.ceil(size / 4096) * 4096;
  const can = !readOnly && syscalls?.fallocate(fd, PUNCH_HOLE, past, 4096) === 0;
  const call: RangeCall | undefined = can ? 'punch' : undefined;
  return { trimCall: call, zeroCall: call };
}

type Kind = 'regular file' | 'block device';

/** What only the kind of the disk decides. */
type Traits = Omit<Descriptor, 'name' | 'fd' | 'lock' | 'ioMode' | 'readOnly'>;

/** What opening a file and a block device have in common. `traits` looks at the open descriptor. */
export function openDescriptor(
  path: string,
  options: DescriptorOpenOptions,
  kind: Kind,
  traits: (fd: number, stat: fs.BigIntStats) => Traits,
): DescriptorDevice {
  const readOnly = options.readOnly ?? false;
  const fd = open(path, readOnly);
  let lock: DeviceLock | undefined;
  try {
    const stat = fs.fstatSync(fd, { bigint: true });
    const found = stat.isFile() ? 'regular file' : stat.isBlockDevice() ? 'block device' : 'neither';
    if (found !== kind) throw new ErrnoError(Errno.EINVAL, `${path} is not a ${kind}`);
    const known = traits(fd, stat);
    if (options.exclusive ?? false) lock = lockDevice(path, known.identity, fd, readOnly);
    const ioMode = options.ioMode ?? ioModeFromEnvironment();
    return new DescriptorDevice({ ...known, name: path, fd, lock, ioMode, readOnly });
  } catch (error) {
    lock?.release();
    fs.closeSync(fd);
    if (error instanceof ErrnoError) throw error;
    throw new ErrnoError(errnoOf(error), `cannot open ${path}`, { cause: error });
  }
}

/** O_NONBLOCK, so that a path that has become a fifo since it was looked at cannot hang the host. */
function open(path: string, readOnly: boolean): number {
  const access = readOnly ? fs.constants.O_RDONLY : fs.constants.O_RDWR;
  try {
    return fs.openSync(path, access | fs.constants.O_NONBLOCK);
  } catch (error) {
    throw openError(path, readOnly, error);
  }
}

/** The sentence for a failed open(2) or stat(2) of a disk. */
export function openError(path: string, readOnly: boolean, cause: unknown): ErrnoError {
  const errno = errnoOf(cause);
  const way = readOnly ? 'reading' : 'reading and writing';
  const reasons: Record<number, string> = {
    [Errno.ENOENT]: 'there is no such file or device',
    [Errno.ENOTDIR]: 'a part of the path is not a directory',
    [Errno.EACCES]: `user ${process.geteuid?.() ?? 'of this process'} may not open it for ${way}`,
    [Errno.EPERM]: `user ${process.geteuid?.() ?? 'of this process'} may not open it for ${way}`,
    [Errno.EROFS]: 'its file system is mounted read-only',
    [Errno.EMFILE]: 'this process has too many open files (ulimit -n)',
    [Errno.ENXIO]: 'no device answers there',
  };
  const reason = reasons[errno] ?? (cause as Error).message;
  return new ErrnoError(errno, `cannot open ${path}: ${reason}`, { cause });
}
