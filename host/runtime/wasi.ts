import crypto from 'node:crypto';
import fs from 'node:fs';
import path from 'node:path';
import type { Memory } from './memory.ts';

/** WASI preview 1 errno (wasi_snapshot_preview1.witx), of the codes that Node reports. */
const wasiErrno: Record<string, number> = {
  E2BIG: 1,
  EACCES: 2,
  EADDRINUSE: 3,
  EAGAIN: 6,
  EBADF: 8,
  EBUSY: 10,
  ECONNREFUSED: 14,
  ECONNRESET: 15,
  EEXIST: 20,
  EFBIG: 22,
  EINTR: 27,
  EINVAL: 28,
  EIO: 29,
  EISDIR: 31,
  ELOOP: 32,
  EMFILE: 33,
  ENAMETOOLONG: 37,
  ENFILE: 41,
  ENODEV: 43,
  ENOENT: 44,
  ENOMEM: 48,
  ENOSPC: 51,
  ENOSYS: 52,
  ENOTDIR: 54,
  ENOTEMPTY: 55,
  ENOTSUP: 58,
  EOPNOTSUPP: 58,
  ENXIO: 60,
  EPERM: 63,
  EPIPE: 64,
  EROFS: 69,
  ESPIPE: 70,
  EXDEV: 75,
};
const success = 0;
const ebadf = 8;
const einval = 28;
const enotdir = 54;

const rootFd = 3;
const clockRealtime = 0;

const oflagsCreat = 1;
const oflagsDirectory = 2;
const oflagsExcl = 4;
const oflagsTrunc = 8;
const fdflagsAppend = 1;
const rightsFdRead = 1n << 1n;
const rightsFdWrite = 1n << 6n;
const lookupSymlinkFollow = 1;

interface OpenFile {
  readonly fd: number;
  /** Byte position of read, write and seek; -1: the operating system's own (pipes, terminals). */
  position: number;
  readonly append: boolean;
  readonly path: string;
  entries: fs.Dirent[] | undefined;
}

/** Folders of this machine by the names that a module has for them, asked for when it first looks there. */
export type Folders = Readonly<Record<string, () => string>>;

export interface WasiOptions {
  readonly memory: Memory;
  readonly args: readonly string[];
  readonly env: Readonly<Record<string, string>>;
  /** The module ended itself. Must not return. */
  readonly exit: (code: number) => never;
  /** What a write on a broken pipe does; returns when the module shall see EPIPE. */
  readonly onBrokenPipe?: (fd: number) => void;
  /** Folders that are not where the module looks for them: `{ '/usr/share/zfs': () => '…/share' }`. */
  readonly folders?: Folders | undefined;
  /** Is told of every call. */
  readonly trace?: Trace | undefined;
}

/** As host/log.ts has it, which programs do not load. */
export type Trace = (fields: object, message: string) => void;

/**
 * WASI preview 1 on Node's fs, as far as wasm/libc/wasi.h declares it: files below the root directory, which is
 * descriptor 3, standard streams, clocks, randomness. Calls are synchronous: disks go through host/devices instead.
 */
export class Wasi {
  readonly #options: WasiOptions;
  readonly #memory: Memory;
  readonly #files = new Map<number, OpenFile>();

  constructor(options: WasiOptions) {
    this.#options = options;
    this.#memory = options.memory;
    for (const fd of [0, 1, 2]) this.#files.set(fd, { fd, position: -1, append: false, path: '', entries: undefined });
  }

  /** The import object; every call is traced. */
  get imports(): Record<string, (...args: never[]) => number> {
    const { trace } = this.#options;
    const calls: Record<string, (...args: never[]) => number> = {};
    for (const [name, call] of Object.entries(this.#calls())) {
      calls[name] = (...args: never[]) => {
        let result: number;
        try {
          result = (call as (...args: never[]) => number)(...args);
        } catch (error) {
          const code = (error as NodeJS.ErrnoException).code;
          if (code === undefined) throw error;
          result = wasiErrno[code] ?? wasiErrno.EIO!;
        }
        trace?.({ args: args.map(String), result }, name);
        return result;
      };
    }
    return calls;
  }

  /** Node's descriptor behind one of the module's. */
  nodeFd(fd: number): number | undefined {
    return this.#files.get(fd)?.fd;
  }

  /** A free number for a descriptor that is not a file (sockets). */
  freeFd(taken: (fd: number) => boolean): number {
    let fd = rootFd + 1;
    while (this.#files.has(fd) || taken(fd)) fd++;
    return fd;
  }

  /** Set by whoever else hands out numbers, so that files do not get them. */
  taken: (fd: number) => boolean = () => false;

  #calls() {
    const memory = this.#memory;
    const { args, env } = this.#options;
    const environ = Object.entries(env).map(([name, value]) => `${name}=${value}`);
    return {
      args_get: (list: number, buffer: number) => this.#strings(args, list, buffer),
      args_sizes_get: (count: number, size: number) => this.#stringSizes(args, count, size),
      environ_get: (list: number, buffer: number) => this.#strings(environ, list, buffer),
      environ_sizes_get: (count: number, size: number) => this.#stringSizes(environ, count, size),
      clock_time_get: (clock: number, _precision: bigint, result: number) => {
        const ns = clock === clockRealtime ? this.#realtime() : process.hrtime.bigint();
        memory.setU64(result, ns);
        return success;
      },
      fd_close: (fd: number) => {
        const file = this.#files.get(fd);
        if (file === undefined) return ebadf;
        this.#files.delete(fd);
        if (file.fd > 2) fs.closeSync(file.fd);
        return success;
      },
      fd_datasync: (fd: number) => this.#with(fd, (file) => fs.fdatasyncSync(file.fd)),
      fd_sync: (fd: number) => this.#with(fd, (file) => fs.fsyncSync(file.fd)),
      fd_fdstat_get: (fd: number, result: number) =>
        this.#with(fd, (file) => {
          memory.view(result, 24).fill(0);
          memory.setU8(result, filetype(fs.fstatSync(file.fd)));
        }),
      fd_filestat_get: (fd: number, result: number) =>
        this.#with(fd, (file) => this.#filestat(fs.fstatSync(file.fd, { bigint: true }), result)),
      fd_filestat_set_size: (fd: number, size: bigint) =>
        this.#with(fd, (file) => fs.ftruncateSync(file.fd, Number(size))),
      fd_pread: (fd: number, iovs: number, count: number, offset: bigint, result: number) =>
        this.#transfer(fd, iovs, count, result, fs.readSync, Number(offset)),
      fd_pwrite: (fd: number, iovs: number, count: number, offset: bigint, result: number) =>
        this.#transfer(fd, iovs, count, result, fs.writeSync, Number(offset)),
      fd_read: (fd: number, iovs: number, count: number, result: number) =>
        this.#transfer(fd, iovs, count, result, readBlocking),
      fd_write: (fd: number, iovs: number, count: number, result: number) => {
        try {
          return this.#transfer(fd, iovs, count, result, writeBlocking);
        } catch (error) {
          if ((error as NodeJS.ErrnoException).code === 'EPIPE') this.#options.onBrokenPipe?.(fd);
          throw error;
        }
      },
      fd_readdir: (fd: number, buffer: number, size: number, cookie: bigint, used: number) =>
        this.#readdir(fd, buffer, size, Number(cookie), used),
      fd_seek: (fd: number, offset: bigint, whence: number, result: number) =>
        this.#with(fd, (file) => {
          if (file.position < 0) throw Object.assign(new Error('not seekable'), { code: 'ESPIPE' });
          const base = [0, file.position, this.#size(file.fd)][whence];
          if (base === undefined || base + Number(offset) < 0)
            throw Object.assign(new Error('bad offset'), { code: 'EINVAL' });
          file.position = base + Number(offset);
          memory.setU64(result, BigInt(file.position));
        }),
      fd_prestat_get: () => ebadf,
      path_create_directory: (_fd: number, name: number, length: number) =>
        this.#path(name, length, (file) => fs.mkdirSync(file)),
      path_filestat_get: (_fd: number, flags: number, name: number, length: number, result: number) =>
        this.#path(name, length, (file) => {
          const stat = flags & lookupSymlinkFollow ? fs.statSync : fs.lstatSync;
          this.#filestat(stat(file, { bigint: true }), result);
        }),
      path_open: (
        _fd: number,
        _dirflags: number,
        name: number,
        length: number,
        oflags: number,
        rights: bigint,
        _inheriting: bigint,
        fdflags: number,
        result: number,
      ) => this.#path(name, length, (file) => memory.setU32(result, this.#open(file, oflags, rights, fdflags))),
      path_readlink: (_fd: number, name: number, length: number, buffer: number, size: number, used: number) =>
        this.#path(name, length, (file) => {
          const target = Buffer.from(fs.readlinkSync(file)).subarray(0, size);
          memory.view(buffer, target.length).set(target);
          memory.setU32(used, target.length);
        }),
      path_remove_directory: (_fd: number, name: number, length: number) =>
        this.#path(name, length, (file) => fs.rmdirSync(file)),
      path_rename: (_fd: number, from: number, fromLength: number, _to: number, to: number, toLength: number) =>
        this.#path(from, fromLength, (file) => fs.renameSync(file, path.resolve('/', memory.text(to, toLength)))),
      path_unlink_file: (_fd: number, name: number, length: number) =>
        this.#path(name, length, (file) => fs.unlinkSync(file)),
      random_get: (buffer: number, length: number) => {
        crypto.randomFillSync(memory.view(buffer, length));
        return success;
      },
      proc_exit: (code: number) => this.#options.exit(code),
    };
  }

  #realtime(): bigint {
    return BigInt(Math.round((performance.timeOrigin + performance.now()) * 1000)) * 1000n;
  }

  #strings(strings: readonly string[], list: number, buffer: number): number {
    let at = buffer;
    strings.forEach((text, index) => {
      const bytes = Buffer.from(`${text}\0`);
      this.#memory.setU32(list + 4 * index, at);
      this.#memory.view(at, bytes.length).set(bytes);
      at += bytes.length;
    });
    return success;
  }

  #stringSizes(strings: readonly string[], count: number, size: number): number {
    this.#memory.setU32(count, strings.length);
    this.#memory.setU32(
      size,
      strings.reduce((sum, text) => sum + Buffer.byteLength(text) + 1, 0),
    );
    return success;
  }

  #with(fd: number, use: (file: OpenFile) => void): number {
    const file = this.#files.get(fd);
    if (file === undefined) return ebadf;
    use(file);
    return success;
  }

  #path(address: number, length: number, use: (file: string) => void): number {
    const text = this.#memory.text(address, length);
    if (text.includes('\0')) return einval;
    use(this.#elsewhere(path.resolve('/', text)));
    return success;
  }

  #elsewhere(file: string): string {
    for (const [folder, real] of Object.entries(this.#options.folders ?? {})) {
      if (file === folder || file.startsWith(`${folder}/`)) return `${real()}${file.slice(folder.length)}`;
    }
    return file;
  }

  #open(file: string, oflags: number, rights: bigint, fdflags: number): number {
    const { constants } = fs;
    const read = (rights & rightsFdRead) !== 0n;
    const write = (rights & rightsFdWrite) !== 0n;
    const directory = (oflags & oflagsDirectory) !== 0;
    let flags = read && write ? constants.O_RDWR : write ? constants.O_WRONLY : constants.O_RDONLY;
    if (oflags & oflagsCreat) flags |= constants.O_CREAT;
    if (oflags & oflagsExcl) flags |= constants.O_EXCL;
    if (oflags & oflagsTrunc) flags |= constants.O_TRUNC;
    if (fdflags & fdflagsAppend) flags |= constants.O_APPEND;
    if (directory) flags |= constants.O_DIRECTORY;
    const fd = fs.openSync(file, flags, 0o644);
    const number = this.freeFd(this.taken);
    const seekable = !directory && fs.fstatSync(fd).isFIFO() === false;
    this.#files.set(number, {
      fd,
      position: seekable ? 0 : -1,
      append: (fdflags & fdflagsAppend) !== 0,
      path: file,
      entries: undefined,
    });
    return number;
  }

  #transfer(
    fd: number,
    iovs: number,
    count: number,
    result: number,
    io: (fd: number, buffer: Uint8Array, offset: number, length: number, position: number | null) => number,
    offset?: number,
  ): number {
    const file = this.#files.get(fd);
    if (file === undefined) return ebadf;
    let total = 0;
    for (let i = 0; i < count; i++) {
      const length = this.#memory.u32(iovs + 8 * i + 4);
      if (length === 0) continue;
      const view = this.#memory.view(this.#memory.u32(iovs + 8 * i), length);
      const at = offset ?? (file.position < 0 || file.append ? undefined : file.position);
      const done = io(file.fd, view, 0, length, at === undefined ? null : at + (offset === undefined ? 0 : total));
      total += done;
      if (offset === undefined && file.position >= 0)
        file.position = file.append && io === writeBlocking ? this.#size(file.fd) : file.position + done;
      if (done < length) break;
    }
    this.#memory.setU32(result, total);
    return success;
  }

  #readdir(fd: number, buffer: number, size: number, cookie: number, used: number): number {
    const file = this.#files.get(fd);
    if (file === undefined) return ebadf;
    if (!fs.fstatSync(file.fd).isDirectory()) return enotdir;
    if (cookie === 0 || file.entries === undefined) file.entries = fs.readdirSync(file.path, { withFileTypes: true });
    let at = 0;
    for (let i = cookie; i < file.entries.length; i++) {
      const entry = file.entries[i]!;
      const name = Buffer.from(entry.name);
      if (at + 24 + name.length > size) break;
      const address = buffer + at;
      this.#memory.setU64(address, BigInt(i + 1));
      this.#memory.setU64(address + 8, BigInt(i + 1));
      this.#memory.setU32(address + 16, name.length);
      this.#memory.setU8(address + 20, filetype(entry));
      this.#memory.view(address + 24, name.length).set(name);
      at += 24 + name.length;
    }
    this.#memory.setU32(used, at);
    return success;
  }

  #filestat(stat: fs.BigIntStats, result: number): void {
    const block = stat.isBlockDevice();
    this.#memory.view(result, 64).fill(0);
    this.#memory.setU64(result, block ? stat.rdev : stat.dev);
    this.#memory.setU64(result + 8, stat.ino);
    this.#memory.setU8(result + 16, filetype(stat));
    // Ours (wasm/libc/wasi.h): preview 1 has padding here, and no permissions.
    this.#memory.setU32(result + 20, Number(stat.mode & 0o7777n));
    this.#memory.setU64(result + 24, stat.nlink);
    this.#memory.setU64(result + 32, block ? BigInt(blockSize(stat.rdev)) : stat.size);
    this.#memory.setU64(result + 40, stat.atimeNs);
    this.#memory.setU64(result + 48, stat.mtimeNs);
    this.#memory.setU64(result + 56, stat.ctimeNs);
  }

  #size(fd: number): number {
    const stat = fs.fstatSync(fd, { bigint: true });
    return stat.isBlockDevice() ? blockSize(stat.rdev) : Number(stat.size);
  }
}

/** Size in bytes of a block device, from sysfs. */
function blockSize(rdev: bigint): number {
  const number = Number(rdev);
  const major = ((number >> 8) & 0xfff) | 0;
  const minor = (number & 0xff) | ((number >> 12) & 0xfff00);
  try {
    return Number(fs.readFileSync(`/sys/dev/block/${major}:${minor}/size`, 'utf8')) * 512;
  } catch {
    return 0;
  }
}

function filetype(stat: {
  isFile(): boolean;
  isDirectory(): boolean;
  isBlockDevice(): boolean;
  isCharacterDevice(): boolean;
  isSymbolicLink(): boolean;
  isSocket(): boolean;
}): number {
  if (stat.isFile()) return 4;
  if (stat.isDirectory()) return 3;
  if (stat.isBlockDevice()) return 1;
  if (stat.isCharacterDevice()) return 2;
  if (stat.isSymbolicLink()) return 7;
  if (stat.isSocket()) return 6;
  return 0;
}

/** A word to sleep on: nobody ever wakes it. */
const never = new Int32Array(new SharedArrayBuffer(4));

/** Repeats an operation on a descriptor that somebody else made non-blocking. */
function blocking<T>(operation: () => T): T {
  for (;;) {
    try {
      return operation();
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'EAGAIN') throw error;
      Atomics.wait(never, 0, 0, 1);
    }
  }
}

function readBlocking(fd: number, buffer: Uint8Array, offset: number, length: number, position: number | null): number {
  return blocking(() => fs.readSync(fd, buffer, offset, length, position));
}

function writeBlocking(
  fd: number,
  buffer: Uint8Array,
  offset: number,
  length: number,
  position: number | null,
): number {
  return blocking(() => fs.writeSync(fd, buffer, offset, length, position));
}
