import fs from 'node:fs';
import { Errno, ErrnoError } from '../errno.ts';
import { type Calls, syscalls } from './syscalls.ts';
import { onThread } from './threads.ts';

/**
 * The lock that keeps a second process off a disk: flock(2) on the disk itself. The kernel keeps it, so nothing lies
 * beside the user's files, it works between containers and users, and it ends with its process however that dies. Of a
 * block device the arbiter is O_EXCL, which mounts, RAID and LVM honour too; flock only tells others who we are
 * (udev takes it for moments, so its failure means nothing there).
 *
 * It is the process's, not the open's: the first open takes it, the last close gives it back.
 */
interface Held {
  fd: number;
  readOnly: boolean;
  opens: number;
}

export interface DeviceLock {
  /** The descriptor that holds it: the only one through which Linux lets a claimed block device discard and zero. */
  readonly fd: number;
  /** To be called once. */
  release(): Promise<void>;
}

const held = new Map<string, Held>();
/** The last who asked for a disk's lock, or gives it back: the next waits for that, since a disk may answer late. */
const turns = new Map<string, Promise<unknown>>();

function inTurn<T>(identity: string, task: () => Promise<T>): Promise<T> {
  const turn = (turns.get(identity) ?? Promise.resolve()).then(task);
  const ended = turn.then(
    () => undefined,
    () => undefined,
  );
  turns.set(identity, ended);
  void ended.then(() => {
    if (turns.get(identity) === ended) turns.delete(identity);
  });
  return turn;
}

/**
 * Locks what descriptor `fd` is open on, for this process.
 * EBUSY: another process has it, the message says which where /proc/locks does.
 */
export function lockDevice(
  name: string,
  identity: string,
  fd: number,
  readOnly: boolean,
  calls: Calls,
): Promise<DeviceLock> {
  return inTurn(identity, async () => {
    let lock = held.get(identity);
    if (lock === undefined) {
      lock = { fd: await take(name, fd, readOnly, calls), readOnly, opens: 0 };
      held.set(identity, lock);
    } else if (lock.readOnly && !readOnly) {
      // A claim cannot be converted: for an instant there is none, and another process may be quicker.
      held.delete(identity);
      await close(lock.fd);
      lock.fd = await take(name, fd, readOnly, calls);
      lock.readOnly = false;
      held.set(identity, lock);
    }
    lock.opens += 1;
    const own = lock;
    return { fd: own.fd, release: () => inTurn(identity, () => release(identity, own)) };
  });
}

async function release(identity: string, lock: Held): Promise<void> {
  lock.opens -= 1;
  // It may have been lost to another process, when its claim was to be converted.
  if (lock.opens > 0 || held.get(identity) !== lock) return;
  held.delete(identity);
  await close(lock.fd);
}

function close(fd: number): Promise<void> {
  return onThread<void>((done) => fs.close(fd, done)).catch(() => undefined);
}

/** A descriptor of its own holds the lock, opened through /proc so that it is the same file whatever its path is now. */
async function take(name: string, fd: number, readOnly: boolean, calls: Calls): Promise<number> {
  if (syscalls === undefined) {
    throw new ErrnoError(Errno.EOPNOTSUPP, `cannot lock ${name}: this Node has no node:ffi for Linux's flock`);
  }
  const stat = await onThread<fs.BigIntStats>((done) => fs.fstat(fd, { bigint: true }, done));
  const block = stat.isBlockDevice();
  const access = readOnly ? fs.constants.O_RDONLY : fs.constants.O_RDWR;
  let lockFd: number;
  try {
    const flags = block ? access | fs.constants.O_EXCL : access;
    lockFd = await onThread<number>((done) => fs.open(`/proc/self/fd/${fd}`, flags, done));
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'EBUSY') throw error;
    throw busy(name, stat, 'mounted, part of a RAID or LVM, or held in another container');
  }
  const errno = await calls.tryLock(lockFd);
  if (errno === 0 || block) return lockFd;
  await close(lockFd);
  if (errno === Errno.EAGAIN) throw busy(name, stat, 'locked by another process');
  throw new ErrnoError(errno, `cannot lock ${name}`);
}

function busy(name: string, stat: fs.BigIntStats, otherwise: string): ErrnoError {
  const pid = lockHolder(stat);
  const why = pid === undefined ? otherwise : `process ${pid} has it open${programOf(pid)}`;
  return new ErrnoError(Errno.EBUSY, `${name} is in use: ${why}`);
}

/**
 * The process that holds the flock of an inode, from /proc/locks (proc_locks(5)); undefined when it is in another pid
 * namespace. Some filesystems (btrfs, overlayfs) list another device number than stat(2), so the inode alone will do.
 */
function lockHolder(stat: fs.BigIntStats): number | undefined {
  const major = ((stat.dev >> 8n) & 0xfffn) | ((stat.dev >> 32n) & ~0xfffn);
  const minor = (stat.dev & 0xffn) | ((stat.dev >> 12n) & ~0xffn);
  const device = `${hex2(major)}:${hex2(minor)}`;
  const holders = fs
    .readFileSync('/proc/locks', 'utf8')
    .split('\n')
    .map((line) => /FLOCK\s+ADVISORY\s+\w+\s+(\d+)\s+(\w+:\w+):(\d+)/.exec(line))
    .filter((match) => match !== null && match[3] === String(stat.ino) && match[1] !== '0');
  const holder = holders.find((match) => match?.[2] === device) ?? holders[0];
  return holder === undefined ? undefined : Number(holder?.[1]);
}

function hex2(value: bigint): string {
  return value.toString(16).padStart(2, '0');
}

function programOf(pid: number): string {
  try {
    return ` (${fs.readFileSync(`/proc/${pid}/comm`, 'utf8').trim()})`;
  } catch {
    return '';
  }
}
