import { connect, type Socket } from 'node:net';
import { Errno, errnoOf } from '../../host/errno.ts';
import { ioPending, type Seam } from '../../host/runtime/seam.ts';
import type { Process } from './process.ts';

/** What is read ahead of the program, in bytes. */
const readAheadBytes = 256 * 1024;
/** Parts of a message below this, in bytes, are copied into one; beyond it a copy would cost more than a write. */
const gatherBytesMax = 32 * 1024;

interface Reader {
  readonly fiber: number;
  readonly address: number;
  readonly length: number;
}

interface OpenSocket {
  socket: Socket | undefined;
  /** What has arrived and was not read yet: a part of the socket's one buffer, which stays as it is until it is empty. */
  arrived: Uint8Array;
  reader: Reader | undefined;
  ended: boolean;
  error: number;
}

/**
 * The imports of wasm/program/socket.c: unix sockets. A fiber that has to wait is completed later; the result is a count
 * or -errno.
 *
 *   socket → one buffer → read() → the program's memory      writes go out of the program's memory
 */
export class Sockets {
  readonly #process: Process;
  readonly #open = new Map<number, OpenSocket>();

  constructor(process: Process) {
    this.#process = process;
    process.wasi.taken = (fd) => this.#open.has(fd);
  }

  get imports(): Seam['sockets'] {
    return {
      'socket-open': () => {
        const fd = this.#process.wasi.freeFd((number) => this.#open.has(number));
        this.#open.set(fd, { socket: undefined, arrived: new Uint8Array(), reader: undefined, ended: false, error: 0 });
        return fd;
      },
      'socket-connect': (fiber, fd, path, length) => {
        this.#connect(fiber, this.#get(fd), this.#process.memory.text(path, length));
        return ioPending;
      },
      'socket-read': (fiber, fd, address, length) => this.#read(this.#get(fd), { fiber, address, length }),
      'socket-write': (fiber, fd, iovs, count) => this.#write(fiber, this.#get(fd), iovs, count),
      'socket-shutdown': (fd) => {
        this.#get(fd).socket?.end();
        return 0;
      },
      'socket-close': (fd) => {
        this.#get(fd).socket?.destroy();
        this.#open.delete(fd);
        return 0;
      },
    };
  }

  /** A signal was handled: reads that wait end with EINTR. */
  interrupt(): void {
    for (const open of this.#open.values()) {
      const { reader } = open;
      if (reader === undefined) continue;
      open.reader = undefined;
      this.#process.scheduler.complete(reader.fiber, -Errno.EINTR);
    }
  }

  #get(fd: number): OpenSocket {
    const open = this.#open.get(fd);
    if (open === undefined) throw new Error(`descriptor ${fd} is not a socket`);
    return open;
  }

  #connect(fiber: number, open: OpenSocket, path: string): void {
    const { scheduler } = this.#process;
    let connecting = true;
    const onread = {
      buffer: new Uint8Array(readAheadBytes),
      callback: (length: number, buffer: Uint8Array): boolean => {
        open.arrived = buffer.subarray(0, length);
        this.#deliver(open);
        return open.arrived.length === 0;
      },
    };
    const socket = connect({ path, onread }, () => {
      connecting = false;
      scheduler.complete(fiber, 0);
    });
    open.socket = socket;
    socket.on('error', (error) => {
      open.error = errnoOf(error);
      if (!connecting) return;
      connecting = false;
      scheduler.complete(fiber, -open.error);
    });
    socket.on('end', () => this.#end(open));
    socket.on('close', () => this.#end(open));
  }

  #end(open: OpenSocket): void {
    open.ended = true;
    const { reader } = open;
    if (reader === undefined) return;
    open.reader = undefined;
    this.#process.scheduler.complete(reader.fiber, -open.error);
  }

  #read(open: OpenSocket, reader: Reader): number {
    if (open.arrived.length > 0) return this.#take(open, reader);
    if (open.ended) return -open.error;
    open.reader = reader;
    return ioPending;
  }

  /** Gives what has arrived to the fiber that waits for it. */
  #deliver(open: OpenSocket): void {
    const { reader } = open;
    if (reader === undefined) return;
    open.reader = undefined;
    this.#process.scheduler.complete(reader.fiber, this.#take(open, reader));
  }

  #take(open: OpenSocket, { address, length }: Reader): number {
    const bytes = open.arrived.subarray(0, length);
    this.#process.memory.view(address, bytes.length).set(bytes);
    open.arrived = open.arrived.subarray(bytes.length);
    if (open.arrived.length === 0) open.socket?.resume();
    return bytes.length;
  }

  #write(fiber: number, { socket }: OpenSocket, iovs: number, count: number): number {
    if (socket === undefined) return -Errno.ENOTCONN;
    const { memory, scheduler } = this.#process;
    const parts: Buffer[] = [];
    let length = 0;
    for (let i = 0; i < count; i++) {
      const part = memory.view(memory.u32(iovs + 8 * i), memory.u32(iovs + 8 * i + 4));
      if (part.length === 0) continue;
      length += part.length;
      parts.push(part);
    }
    const done = (error?: Error | null): void => scheduler.complete(fiber, error ? -errnoOf(error) : length);
    if (parts.length === 0) return 0;
    if (length <= gatherBytesMax) {
      socket.write(Buffer.concat(parts, length), done);
      return ioPending;
    }
    socket.cork();
    const last = parts.pop();
    for (const part of parts) socket.write(part);
    socket.write(last!, done);
    socket.uncork();
    return ioPending;
  }
}
