import fs from 'node:fs';
import { Socket, type SocketConstructorOpts } from 'node:net';
import { Errno, ErrnoError } from '../errno.ts';
import { linuxFfi } from '../ffi.ts';
import type { Handled } from '../net/onread.ts';

/**
 * The client's standard input and output, where they are pipes of this machine: the host opens them itself, so that a
 * stream needs neither round trips to the program nor copies in it. docs/security.md says what is looked at before.
 */

/** A unix socket's peer, as the kernel knows it, is the process that said hello. */
export interface Peer {
  readonly pid: number;
  /** What the client says of its standard input and output: `stdioMark`. */
  readonly stdio: number;
}

/** As upstream's libzfs enlarges them; a user's limit may forbid it. */
const pipeBytes = 1024 * 1024;

const SOL_SOCKET = 1;
const SO_PEERCRED = 17;
const F_SETPIPE_SZ = 1031;
const F_GETPIPE_SZ = 1032;

const libc = load();

function load() {
  const ffi = linuxFfi();
  if (ffi === undefined) return undefined;
  const { functions } = ffi.dlopen(null, {
    getsockopt: { arguments: ['i32', 'i32', 'i32', 'buffer', 'buffer'], return: 'i32' },
    fcntl: { arguments: ['i32', 'i32', 'i32'], return: 'i32' },
    read: { arguments: ['i32', 'pointer', 'u64'], return: 'i64' },
    writev: { arguments: ['i32', 'pointer', 'i32'], return: 'i64' },
  });
  return { ...functions, address: ffi.getRawPointer };
}

/** Process that connected a unix socket to us; 0 when it is not on this machine, or not to be known. */
export function peerPid(socket: Socket): number {
  const fd = (socket as Handled)._handle?.fd;
  if (libc === undefined || fd === undefined || fd < 0) return 0;
  const ucred = new Int32Array(3);
  const known = libc.getsockopt(fd, SOL_SOCKET, SO_PEERCRED, ucred, new Uint32Array([ucred.byteLength])) === 0;
  return known ? ucred[0]! : 0;
}

/** What zow_socket.c sends of the inodes of its standard input and output. */
function stdioMark(pid: number): number {
  const inode = (fd: number) =>
    fs.statSync(`/proc/${pid}/fd/${fd}`, { bigint: true, throwIfNoEntry: false })?.ino ?? 0n;
  return Number(BigInt.asUintN(32, inode(0) * 31n + inode(1)));
}

/** How /proc tells what a descriptor is: `flags:\t0100001\nmnt_id:\t14\nino:\t4711\n`. */
function describe(process: number | 'self', fd: number): { accessMode: number; file: string } {
  const text = fs.readFileSync(`/proc/${process}/fdinfo/${fd}`, 'latin1');
  const field = (name: string) => new RegExp(`^${name}:\\s*(\\d+)$`, 'm').exec(text)?.[1] ?? '';
  const ino = field('ino');
  if (ino === '') throw new Error('a kernel before 5.14');
  return { accessMode: Number.parseInt(field('flags'), 8) & 3, file: `${field('mnt_id')}:${ino}` };
}

/**
 * Opens descriptor `fd` of the peer, 0 or 1, again; undefined where it is no pipe, or cannot be had: then the client has
 * to do it. The open file is the host's own: that it does not block is nobody else's affair.
 */
export function openPipe(peer: Peer, fd: number, mode: 'read' | 'write'): Pipe | undefined {
  if (libc === undefined || (fd !== 0 && fd !== 1)) return undefined;
  const accessMode = mode === 'read' ? fs.constants.O_RDONLY : fs.constants.O_WRONLY;
  const path = `/proc/${peer.pid}/fd/${fd}`;
  let own: number | undefined;
  try {
    // Opening can have effects; of a pipe it has none.
    if (!fs.statSync(path).isFIFO() || stdioMark(peer.pid) !== peer.stdio) return undefined;
    own = fs.openSync(path, accessMode | fs.constants.O_NONBLOCK | fs.constants.O_NOCTTY);
    const theirs = describe(peer.pid, fd);
    const isTheirs = describe('self', own).file === theirs.file && fs.fstatSync(own).isFIFO();
    // The host may be allowed more than the client is.
    const mayUse = theirs.accessMode === accessMode || theirs.accessMode === fs.constants.O_RDWR;
    if (isTheirs && mayUse) {
      if (libc.fcntl(own, F_GETPIPE_SZ, 0) < pipeBytes) libc.fcntl(own, F_SETPIPE_SZ, pipeBytes);
      const pipe = new Pipe(own, mode);
      own = undefined;
      return pipe;
    }
  } catch {
    // No /proc, another user's process, nobody at the other end: whatever it is, the client will meet it too.
  } finally {
    if (own !== undefined) fs.closeSync(own);
  }
  return undefined;
}

interface Reader {
  readonly buffer: Uint8Array;
  readonly resolve: (count: number) => void;
  readonly reject: (error: Error) => void;
}

/**
 * One end of a pipe. What can be done at once is done at once, on this thread; else libuv waits. One operation at a
 * time. An error closes the descriptor, and so does the end of file.
 */
export class Pipe {
  readonly #fd: number;
  readonly #socket: Socket;
  readonly #iovecs = new BigUint64Array(4);
  #reader: Reader | undefined;
  #ended = false;

  constructor(fd: number, mode: 'read' | 'write') {
    this.#fd = fd;
    const byte = new Uint8Array(1);
    const onread = { buffer: byte, callback: () => this.#arrived(byte) };
    const options = mode === 'read' ? { fd, writable: false, pauseOnCreate: true, onread } : { fd, readable: false };
    this.#socket = new Socket(options as SocketConstructorOpts);
    this.#socket.on('end', () => this.#end());
    this.#socket.on('error', (error) => this.#fail(error));
    this.#socket.on('close', () => this.#fail(new ErrnoError(Errno.EBADF, 'the pipe is closed')));
  }

  /** As read(2): bytes, 0 at the end; -1: not now, use `readLater`. */
  readNow(buffer: Uint8Array): number {
    if (this.#ended) return 0;
    if (this.#socket.destroyed) return -1;
    return Number(libc!.read(this.#fd, libc!.address(buffer), BigInt(buffer.byteLength)));
  }

  /** As read(2) that waits, of at least a byte. Rejects with its error; EBADF once closed. */
  readLater(buffer: Uint8Array): Promise<number> {
    if (this.#socket.destroyed) return Promise.reject(new ErrnoError(Errno.EBADF, 'the pipe is closed'));
    return new Promise((resolve, reject) => {
      this.#reader = { buffer, resolve, reject };
      this.#socket.resume();
    });
  }

  /** libuv waits for one byte, so that it never reads more than it shall; the others are there with it. */
  #arrived(byte: Uint8Array): boolean {
    const { buffer, resolve } = this.#takeReader()!;
    buffer[0] = byte[0]!;
    resolve(buffer.byteLength === 1 ? 1 : 1 + Math.max(0, this.readNow(buffer.subarray(1))));
    return false;
  }

  #end(): void {
    this.#ended = true;
    this.#takeReader()?.resolve(0);
  }

  #fail(error: Error): void {
    this.#takeReader()?.reject(error);
  }

  #takeReader(): Reader | undefined {
    const reader = this.#reader;
    this.#reader = undefined;
    return reader;
  }

  /** Writes what there is room for, of one or two parts. Bytes written; an error counts as no room, `writeLater` meets it. */
  writeNow(parts: readonly Uint8Array[]): number {
    if (this.#socket.destroyed) return 0;
    parts.forEach((part, i) => {
      this.#iovecs[2 * i] = libc!.address(part);
      this.#iovecs[2 * i + 1] = BigInt(part.byteLength);
    });
    return Math.max(0, Number(libc!.writev(this.#fd, libc!.address(this.#iovecs.buffer), parts.length)));
  }

  /** Writes all of it; the buffers may be used again then. Rejects with an error of write(2). */
  writeLater(parts: readonly Uint8Array[]): Promise<void> {
    return new Promise((resolve, reject) => {
      const last = parts.length - 1;
      this.#socket.cork();
      for (let i = 0; i < last; i++) this.#socket.write(parts[i]!);
      this.#socket.write(parts[last]!, (error) => (error ? reject(error) : resolve()));
      this.#socket.uncork();
    });
  }

  /** Closes the descriptor, at once: the pipe's other end sees what it would see of the client's. What waits fails. */
  close(): void {
    this.#socket.destroy();
  }
}
