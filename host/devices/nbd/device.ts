import { assert } from '../../assert.ts';
import { Errno, ErrnoError } from '../../errno.ts';
import { Cmd, CmdFlag } from '../../protocols/nbd.ts';
import type { Device, DeviceCapabilities, DeviceOpenOptions } from '../device.ts';
import { checkOffset, checkWithin, closedError, readOnlyError, roomForWrite, unsupportedError } from '../range.ts';
import type { NbdConnection } from './connection.ts';

/** Of one trim or write of zeroes. A multiple of all block sizes; the request's length has 32 bits. */
const RANGE_BYTES_MAX = 1 << 30;

/**
 * An export of an NBD server as a disk, for as long as one connection lives: when that is lost, so is all that was not
 * flushed, and whoever goes on must open anew. Requests then end with ENXIO.
 *
 * A server that has a minimum block size takes no others: EINVAL.
 */
export class NbdDevice implements Device {
  readonly name: string;
  readonly identity: string;
  readonly capabilities: DeviceCapabilities;
  readonly logicalSectorBytes: number;
  readonly physicalSectorBytes: number;
  readonly #connection: NbdConnection;
  readonly #sizeBytes: number;
  readonly #writeFlags: number;
  #inFlight = 0;
  #idle: (() => void) | undefined;
  #isClosed = false;
  #flushFailure: ErrnoError | undefined;

  /** EROFS where the server lets nobody write and `options` ask for it. */
  constructor(name: string, identity: string, connection: NbdConnection, options: DeviceOpenOptions) {
    this.name = name;
    this.identity = identity;
    this.#connection = connection;
    const { sizeBytes, blockBytesMin, blockBytesPreferred } = connection.nbdExport;
    this.#sizeBytes = sizeBytes;
    const readOnly = options.readOnly ?? false;
    if (connection.has('READ_ONLY') && !readOnly) {
      throw new ErrnoError(Errno.EROFS, `${name}: the server exports it for reading only`);
    }
    const flushes = connection.has('SEND_FLUSH');
    // A server without flushes may have FUA: then no write is ever without it.
    this.#writeFlags = !flushes && connection.has('SEND_FUA') ? CmdFlag.FUA : 0;
    this.capabilities = {
      readOnly,
      trim: !readOnly && connection.has('SEND_TRIM'),
      writeZeroes: !readOnly && connection.has('SEND_WRITE_ZEROES'),
      durable: flushes || this.#writeFlags !== 0,
      nonRotational: true,
    };
    this.logicalSectorBytes = Math.max(512, blockBytesMin);
    this.physicalSectorBytes = Math.max(this.logicalSectorBytes, Math.min(blockBytesPreferred, 4096));
  }

  get isOpen(): boolean {
    return !this.#isClosed;
  }

  isPresent(): boolean {
    return this.#connection.lost === undefined;
  }

  /** That of the connection's beginning. It stays when the connection is lost: what is then wrong, an I/O says. */
  size(): number {
    if (this.#isClosed) throw closedError(this.name);
    return this.#sizeBytes;
  }

  read(buffer: Uint8Array, offset: number): number | Promise<number> {
    this.#check();
    checkOffset(this.name, offset, buffer.byteLength);
    const length = this.#transfer(Math.min(buffer.byteLength, Math.max(0, this.#sizeBytes - offset)));
    if (length === 0) return 0;
    return this.#send(Cmd.READ, 0, offset, length, buffer.subarray(0, length));
  }

  write(buffer: Uint8Array, offset: number): number | Promise<number> {
    this.#writable();
    checkOffset(this.name, offset, buffer.byteLength);
    const length = this.#transfer(roomForWrite(this.name, offset, buffer.byteLength, this.#sizeBytes));
    if (length === 0) return 0;
    return this.#send(Cmd.WRITE, this.#writeFlags, offset, length, buffer.subarray(0, length));
  }

  flush(): void | Promise<void> {
    this.#check();
    if (this.#flushFailure !== undefined) throw this.#flushFailure;
    if (!this.#connection.has('SEND_FLUSH')) {
      // Where writes are durable by themselves one that is lost has failed; a disk that is gone says so here too.
      if (this.#connection.lost !== undefined) throw this.#connection.lost;
      return;
    }
    return this.#flush();
  }

  async #flush(): Promise<void> {
    try {
      await this.#send(Cmd.FLUSH, 0, 0, 0);
    } catch (error) {
      this.#flushFailure ??= error as ErrnoError;
      throw error;
    }
  }

  trim(offset: number, length: number): Promise<void> | void {
    return this.#range('trim', Cmd.TRIM, offset, length);
  }

  writeZeroes(offset: number, length: number): Promise<void> | void {
    return this.#range('writeZeroes', Cmd.WRITE_ZEROES, offset, length);
  }

  #range(what: 'trim' | 'writeZeroes', command: number, offset: number, length: number): Promise<void> | void {
    this.#writable();
    if (!this.capabilities[what]) throw unsupportedError(this.name, what);
    checkWithin(this.name, offset, length, this.#sizeBytes);
    if (length > 0) return this.#parts(command, offset, length);
  }

  async #parts(command: number, offset: number, length: number): Promise<void> {
    for (let done = 0; done < length; ) {
      const part = Math.min(length - done, RANGE_BYTES_MAX);
      await this.#send(command, command === Cmd.WRITE_ZEROES ? this.#writeFlags : 0, offset + done, part);
      done += part;
    }
  }

  /** The connection stays: others may use it, or the next to open. */
  async close(): Promise<void> {
    this.#isClosed = true;
    if (this.#inFlight === 0) return;
    const { promise, resolve } = Promise.withResolvers<void>();
    const before = this.#idle;
    this.#idle = () => {
      before?.();
      resolve();
    };
    await promise;
  }

  #check(): void {
    if (this.#isClosed) throw closedError(this.name);
  }

  #writable(): void {
    this.#check();
    if (this.capabilities.readOnly) throw readOnlyError(this.name);
    if (this.#flushFailure !== undefined) throw this.#flushFailure;
  }

  /** What one request takes of so many bytes. */
  #transfer(length: number): number {
    return Math.min(length, this.#connection.nbdExport.transferBytesMax);
  }

  async #send(command: number, flags: number, offset: number, length: number, data?: Uint8Array): Promise<number> {
    const unit = this.#connection.nbdExport.blockBytesMin;
    if (offset % unit !== 0 || length % unit !== 0) {
      throw new ErrnoError(
        Errno.EINVAL,
        `${this.name}: ${length} bytes at ${offset}, and the server has blocks of ${unit}`,
      );
    }
    this.#inFlight += 1;
    try {
      await this.#connection.request(command, flags, offset, length, data);
    } finally {
      this.#inFlight -= 1;
      assert(this.#inFlight >= 0, 'a remote disk ends more requests than it made');
      if (this.#inFlight === 0) this.#idle?.();
    }
    return length;
  }
}
