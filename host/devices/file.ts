import fs from 'node:fs';
import { Errno, ErrnoError, errnoOf } from '../errno.ts';
import { type Descriptor, DescriptorDevice } from './descriptor.ts';
import type { DeviceOpenOptions } from './device.ts';
import { type DeviceLock, lockDevice } from './lock.ts';
import { type IoMode, ioModeFromEnvironment } from './stall.ts';
import { Calls, type RangeCall } from './syscalls.ts';
import { onThread } from './threads.ts';

export interface DescriptorOpenOptions extends DeviceOpenOptions {
  /** Default: ZOW_DEVICE_IO, else adaptive on this machine's own file systems and async on others. */
  readonly ioMode?: IoMode;
}

/**
 * Opens a regular file as a disk. It never grows, shrinks or creates it.
 * ENOENT, EACCES, EROFS with the reason; EBUSY when `exclusive` and another process has the lock.
 */
export async function openFile(path: string, options: DescriptorOpenOptions = {}): Promise<DescriptorDevice> {
  const readOnly = options.readOnly ?? false;
  const { type } = await fs.promises.statfs(path).catch((error: unknown) => {
    throw openError(path, readOnly, error);
  });
  const ioMode = options.ioMode ?? ioModeFromEnvironment(undefined, isLocalFileSystem(type) ? 'adaptive' : 'async');
  return openDescriptor(path, { ...options, ioMode }, 'regular file', async (fd, stat, calls) => ({
    identity: `file:${stat.dev}:${stat.ino}`,
    // Seeks are the file system's and the disk's below it: upstream's vdev_file says non-rotational as well.
    nonRotational: true,
    logicalSectorBytes: 512,
    physicalSectorBytes: fileBlockBytes(Number(stat.blksize)),
    ...(await holeCalls(fd, Number(stat.size), readOnly, calls)),
    measure: async () => (await onThread<fs.Stats>((done) => fs.fstat(fd, done))).size,
    isSame: ({ dev, ino }) => dev === stat.dev && ino === stat.ino,
    exists: () => true,
    writeErrorsAreLate: lateErrors(type),
  }));
}

/**
 * File systems whose writes go to the page cache and no further (f_type: linux/magic.h and statfs(2)). All others may ask
 * another process (FUSE) or another machine (NFS, SMB, Ceph, 9p) for each call, and wait for it.
 */
const localFileSystems: ReadonlySet<number> = new Set([
  0xef53, // ext2, ext3, ext4
  0x58465342, // xfs
  0x9123683e, // btrfs
  0xf2f52010, // f2fs
  0xca451a4e, // bcachefs
  0x2fc12fc1, // zfs
  0x01021994, // tmpfs
  0x858458f6, // ramfs
  0x794c7630, // overlayfs
  0x4d44, // vfat
  0x2011bab0, // exfat
]);

function isLocalFileSystem(type: number): boolean {
  return localFileSystems.has(type >>> 0);
}

/** NFS_SUPER_MAGIC, statfs(2). */
const NFS_MAGIC = 0x6969;

function lateErrors(type: number): (errno: number) => boolean {
  const network = type === NFS_MAGIC;
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
async function holeCalls(
  fd: number,
  size: number,
  readOnly: boolean,
  calls: Calls,
): Promise<Pick<Descriptor, 'trimCall' | 'zeroCall'>> {
  const past = Math.ceil(size / 4096) * 4096;
  const can = !readOnly && (await calls.punches(fd, past, 4096));
  const call: RangeCall | undefined = can ? 'punch' : undefined;
  return { trimCall: call, zeroCall: call };
}

type Kind = 'regular file' | 'block device';

/** What only the kind of the disk decides. */
type Traits = Omit<Descriptor, 'name' | 'fd' | 'lock' | 'ioMode' | 'readOnly' | 'sizeBytes' | 'calls'>;

/**
 * What opening a file and a block device have in common. `traits` looks at the open descriptor. Nothing here waits on this
 * thread: a disk that does not answer would stop all the others.
 */
export async function openDescriptor(
  path: string,
  options: DescriptorOpenOptions,
  kind: Kind,
  traits: (fd: number, stat: fs.BigIntStats, calls: Calls) => Promise<Traits> | Traits,
): Promise<DescriptorDevice> {
  const readOnly = options.readOnly ?? false;
  const ioMode = options.ioMode ?? ioModeFromEnvironment();
  const calls = new Calls(ioMode === 'async');
  const fd = await open(path, readOnly);
  let lock: DeviceLock | undefined;
  try {
    const stat = await onThread<fs.BigIntStats>((done) => fs.fstat(fd, { bigint: true }, done));
    const found = stat.isFile() ? 'regular file' : stat.isBlockDevice() ? 'block device' : 'neither';
    if (found !== kind) throw new ErrnoError(Errno.EINVAL, `${path} is not a ${kind}`);
    const known = await traits(fd, stat, calls);
    if (options.exclusive ?? false) lock = await lockDevice(path, known.identity, fd, readOnly, calls);
    const sizeBytes = await known.measure();
    return new DescriptorDevice({ ...known, name: path, fd, lock, ioMode, readOnly, sizeBytes, calls });
  } catch (error) {
    await lock?.release();
    await onThread<void>((done) => fs.close(fd, done)).catch(() => undefined);
    calls.end();
    if (error instanceof ErrnoError) throw error;
    throw new ErrnoError(errnoOf(error), `cannot open ${path}`, { cause: error });
  }
}

/** O_NONBLOCK, so that a path that has become a fifo since it was looked at cannot hang a thread. */
async function open(path: string, readOnly: boolean): Promise<number> {
  const access = readOnly ? fs.constants.O_RDONLY : fs.constants.O_RDWR;
  try {
    return await onThread<number>((done) => fs.open(path, access | fs.constants.O_NONBLOCK, done));
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
