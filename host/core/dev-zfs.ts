/**
 * What the ioctl server needs of the core: a kernel's `/dev/zfs`. `host/core` implements it on the WebAssembly module;
 * the server's own tests implement it with a table.
 */

import type { Device, MaybePromise } from '../devices/device.ts';

/** Who opened the device. Sessions of one process know each other's file descriptors (`zc_cleanup_fd`, send progress). */
export interface IoctlClient {
  /** Random identity the client chose at start, hex: the same for all its opens. */
  readonly process: string;
  /** The client's number of the descriptor it opened. */
  readonly fd: number;
  readonly pid: number;
  /**
   * The mark of its standard input and output (pipe.ts), where the process is known to be on this machine: its pipes may
   * then be opened. Absent or 0: they may not.
   */
  readonly stdio?: number;
  /** Program name, for logs. */
  readonly program: string;
}

/** The client's file descriptors that an ioctl reads or writes: `zfs send`, `receive`, `diff`. */
export interface StreamChannel {
  /**
   * Reads once from the client's descriptor into `buffer`, as read(2): at least one byte, 0 at end of file.
   * Rejects with ErrnoError.
   */
  read(fd: number, buffer: Uint8Array): MaybePromise<number>;
  /**
   * Reads what follows in a send stream: `left` bytes of a record, then as many records, headers whole, as the buffer has
   * room for, and nothing behind the last. It may come with less, but with whole headers, of which only the end of the
   * file cuts one; 0 is the end. Rejects with ErrnoError.
   */
  readRecords(fd: number, buffer: Uint8Array, left: number): MaybePromise<number>;
  /**
   * Writes the whole buffer to the client's descriptor. Resolves when the buffer may be reused, which can be before
   * the client wrote it: an error of an earlier write is reported by a later one. Rejects with ErrnoError.
   */
  write(fd: number, buffer: Uint8Array): MaybePromise<void>;
  /**
   * Copies a small write, which goes out with the next one, and soon without; its errors are reported as those of
   * `write`. False: not that small, or not now, use `write`.
   */
  gather(fd: number, buffer: Uint8Array): boolean;
  /** Waits until the client has written everything. Rejects with the first error not yet reported. */
  drain(): Promise<void>;
}

export interface IoctlRequest {
  /** The ioctl's number, `ZFS_IOC_FIRST + n` (0x5a00 …), not yet checked. */
  readonly request: number;
  /** `zfs_cmd_t`, exactly `cmdSize` bytes. Its pointers are the client's and mean nothing here. */
  readonly cmd: Uint8Array;
  /** `zc_nvlist_src`. */
  readonly src: Uint8Array;
  /** `zc_nvlist_conf`. */
  readonly conf: Uint8Array;
  /**
   * The string at `zc_history` with its NUL, for the ioctls that log it (upstream's `history_str_get`). Empty: the
   * pointer is NULL, or `zc_history` is room for output.
   */
  readonly history: Uint8Array;
  /** Room in bytes at `zc_nvlist_dst`, up to 128 MiB: a permission to answer so much, not a reason to allocate it. */
  readonly dstRoom: number;
  /** Room in bytes at `zc_history` (ZFS_IOC_POOL_GET_HISTORY), else 0. */
  readonly historyRoom: number;
  readonly streams: StreamChannel;
  /** Aborted when the client got a signal: the ioctl fails with EINTR where upstream waits interruptibly. */
  readonly signal?: AbortSignal | undefined;
}

/** The buffers are the server's from here on: the core does not write to them again. */
export interface IoctlResult {
  /** Linux errno, 0 for success. */
  readonly errno: number;
  /** `zfs_cmd_t` as the handler left it, with the client's own pointers put back by the client. */
  readonly cmd: Uint8Array;
  /** What was written at `zc_nvlist_dst`, at most `dstRoom` bytes. */
  readonly dst: Uint8Array;
  /** What was written at `zc_history`. */
  readonly history: Uint8Array;
}

/** One open of `/dev/zfs`. */
export interface IoctlSession {
  /** The minor number, > 0. */
  readonly minor: number;
  /** Runs one ioctl; many may run at once. Rejects only when the session or the core is gone. */
  ioctl(request: IoctlRequest): Promise<IoctlResult>;
  /** Interrupts what is running (it fails with EINTR where upstream waits interruptibly), waits for it, then runs the `zfs_onexit` callbacks. */
  close(): Promise<void>;
}

/** kstats and tunables; what is packed is an nvlist in native encoding (wasm/core/services/inspect.h). Rejects with ErrnoError. */
export interface Inspector {
  /** Paths of all kstats, as below a kernel's /proc/spl/kstat. */
  kstatPaths(): Promise<readonly string[]>;
  /** Reads a kstat. ENOENT. */
  kstat(path: string): Promise<Uint8Array>;
  /** Clears a kstat, as writing to its file does in a kernel. ENOENT; EACCES: it has nothing to clear. */
  clearKstat(path: string): Promise<void>;
  tunables(): Promise<Uint8Array>;
  /** ENOENT; EACCES: it is read only; else what upstream says of the value. */
  setTunable(name: string, value: string): Promise<void>;
  /** The remote disks that programs may look at, by their paths; absent: there are none. ENOENT, ENXIO. */
  openRemote?: ((path: string) => MaybePromise<Device>) | undefined;
  /** The host's status in JSON; absent where there is no supervisor. */
  status?: (() => Promise<string>) | undefined;
  /** What `zow top` shows, in JSON (metrics/live.ts); absent where nobody serves volumes. */
  live?: (() => Promise<string>) | undefined;
  /** What reading the configuration from that file would change, in JSON: `report` (a ReloadReport), or `errors`, why it would be refused; absent where there is no configuration. */
  difference?: ((file: string) => Promise<string>) | undefined;
  /** A volume, and where NBD clients get it, in JSON (nbd/locate.ts); absent where nobody serves volumes. ENOENT. */
  locate?: ((volume: string) => Promise<string>) | undefined;
}

export interface IoctlCore {
  readonly inspector: Inspector;
  /** `2.4.3`. */
  readonly release: string;
  /** sizeof (zfs_cmd_t). */
  readonly cmdSize: number;
  /** The hostid that labels and multihost checks use; the programs compare pools with the same. 0: none. */
  readonly hostid: number;
  open(client: IoctlClient): Promise<IoctlSession>;
}
