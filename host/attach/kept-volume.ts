import type { NbdConnection } from '../devices/nbd/connection.ts';
import { Errno, ErrnoError, errnoOf } from '../errno.ts';
import type { Logger } from '../log.ts';
import { Cmd, CmdFlag } from '../protocols/nbd.ts';
import type { BufferPool, IoBuffer, VolumeHandle, VolumeInfo, VolumeProvider } from '../volumes/volume.ts';
import { HeapBuffers } from './buffers.ts';
import { Link, type LinkOptions, type LinkStatus } from './link.ts';
import { type Change, Unflushed } from './unflushed.ts';

/** Largest read and write: every host takes it, whatever its memory. */
const REQUEST_BYTES_MAX = 16 << 20;
/** What may be acknowledged and not flushed; then it is flushed before more is written. */
const UNFLUSHED_BYTES_MAX = 32 << 20;
/**
 * As much may be under way and be acknowledged after that (keeper.ts), and a server gives the volumes of one pool half of
 * its buffers, and those who hold some three quarters of that: a request finds room however long the host is away.
 */
const BUFFER_BYTES = 8 * UNFLUSHED_BYTES_MAX;
/** A TRIM or WRITE_ZEROES; the protocol's lengths have 32 bits. */
const RANGE_BYTES_MAX = 1 << 30;
/** Changes that are made anew at a time. */
const REPEAT_AT_ONCE = 32;

export type KeptVolumeOptions = Omit<LinkOptions, 'prepare'> & { readonly info: VolumeInfo; readonly log: Logger };

/**
 * One volume of a host, as a provider: requests wait while the host is away, and go on with what it becomes. What the
 * host had acknowledged and not flushed is kept here, and made anew when it is back, before anything else: to whoever
 * uses the volume the host never was away. Nothing of it is lost but with this process, and then the volume is gone, too.
 */
export class KeptVolume implements VolumeProvider {
  readonly info: VolumeInfo;
  readonly buffers: BufferPool = new HeapBuffers(BUFFER_BYTES, REQUEST_BYTES_MAX);
  readonly #unflushed = new Unflushed();
  readonly #log: Logger;
  #link: Link | undefined;
  /** The flush of ours that is under way. */
  #flushing: Promise<void> | undefined;

  private constructor({ info, log }: KeptVolumeOptions) {
    this.info = info;
    this.#log = log;
  }

  /** Connects. Rejects with what is in the way. */
  static async open(options: KeptVolumeOptions): Promise<KeptVolume> {
    const volume = new KeptVolume(options);
    volume.#link = await Link.open({ ...options, prepare: (connection) => volume.#restore(connection) });
    return volume;
  }

  get status(): LinkStatus & { readonly unflushedBytes: number } {
    return { ...this.#link!.status, unflushedBytes: this.#unflushed.bytes };
  }

  /** Requests fail until the host is back. */
  stopWaiting(): void {
    this.#link!.stopWaiting();
  }

  list(): readonly VolumeInfo[] {
    return [this.info];
  }

  find(name: string): VolumeInfo | undefined {
    return name === this.info.name ? this.info : undefined;
  }

  async open(_name: string, { readOnly }: { readonly readOnly: boolean }): Promise<VolumeHandle> {
    return new Handle(this, { ...this.info, readOnly });
  }

  close(): void {
    this.#link!.close();
  }

  /** @internal */
  async read(offset: number, buffer: IoBuffer): Promise<void> {
    const { bytes } = buffer;
    buffer.lend();
    try {
      await this.#ask((connection) => connection.request(Cmd.READ, 0, offset, bytes.length, bytes));
    } finally {
      buffer.giveBack();
    }
  }

  /** @internal Changes the volume, and keeps the change until it is flushed. */
  async change(command: number, flags: number, offset: number, length: number, buffer?: IoBuffer): Promise<void> {
    while (this.#unflushed.bytes >= UNFLUSHED_BYTES_MAX) await this.#makeRoom();
    const change: Change = { command, flags, offset, length, data: buffer?.bytes, buffer };
    buffer?.lend();
    try {
      await this.#ask((connection) => send(connection, change));
    } catch (error) {
      buffer?.giveBack();
      throw error;
    }
    this.#unflushed.add(change);
    // Early: who has no memory for the next write does not come here. One that fails is tried again by the next write.
    if (this.#unflushed.bytes >= UNFLUSHED_BYTES_MAX) this.#makeRoom().catch(() => undefined);
  }

  /** What was acknowledged before is durable when it resolves. */
  async flush(): Promise<void> {
    let mark = 0;
    await this.#ask(async (connection) => {
      mark = this.#unflushed.mark;
      try {
        await connection.request(Cmd.FLUSH, 0, 0, 0);
      } catch (error) {
        // A pool that could not flush may go back to what it had flushed: then it has to have all of this again.
        if (errnoOf(error) !== Errno.ENXIO) connection.lose(`a flush failed: ${(error as Error).message}`);
        throw error;
      }
    });
    this.#unflushed.forget(mark);
  }

  /** One flush for all who wait for room. */
  #makeRoom(): Promise<void> {
    this.#flushing ??= this.flush().finally(() => {
      this.#flushing = undefined;
    });
    return this.#flushing;
  }

  /** Asks the host, and the next one when it is lost meanwhile. Rejects with what it answers, or EIO when it stays away. */
  async #ask(request: (connection: NbdConnection) => Promise<void>): Promise<void> {
    for (;;) {
      const connection = await this.#link!.ready();
      try {
        await request(connection);
        return;
      } catch (error) {
        // No server says ENXIO: it means that nobody knows what became of the request.
        if (errnoOf(error) !== Errno.ENXIO) throw error;
      }
    }
  }

  /**
   * Makes anew what the host before may have lost. Requests that were under way with it come after: if it had carried
   * them out, or still does, that was before theirs, for a host takes overlapping requests in turn.
   */
  async #restore(connection: NbdConnection): Promise<void> {
    const { count, bytes, mark } = this.#unflushed;
    if (count === 0) return;
    await this.#unflushed.repeat((change) => send(connection, change), REPEAT_AT_ONCE);
    await connection.request(Cmd.FLUSH, 0, 0, 0);
    this.#unflushed.forget(mark);
    this.#log.info({ volume: this.info.name, changes: count, bytes }, 'what was not flushed was written again');
  }
}

function send(connection: NbdConnection, { command, flags, offset, length, data }: Change): Promise<void> {
  return connection.request(command, flags, offset, length, data);
}

/** One client's open of the volume. */
class Handle implements VolumeHandle {
  readonly info: VolumeInfo;
  readonly #volume: KeptVolume;

  constructor(volume: KeptVolume, info: VolumeInfo) {
    this.#volume = volume;
    this.info = info;
  }

  async read(offset: number, buffer: IoBuffer): Promise<void> {
    this.#within(offset, buffer.bytes.length, Errno.EINVAL);
    await this.#volume.read(offset, buffer);
  }

  async write(offset: number, buffer: IoBuffer, { fua }: { readonly fua: boolean }): Promise<void> {
    const { length } = buffer.bytes;
    this.#within(offset, length, Errno.ENOSPC);
    await this.#volume.change(Cmd.WRITE, fua ? CmdFlag.FUA : 0, offset, length, buffer);
  }

  flush(): Promise<void> {
    return this.#volume.flush();
  }

  async trim(offset: number, length: number, { fua }: { readonly fua: boolean }): Promise<void> {
    this.#within(offset, length, Errno.EINVAL);
    await this.#range(Cmd.TRIM, fua ? CmdFlag.FUA : 0, offset, length);
  }

  async zero(
    offset: number,
    length: number,
    { fua, allocate }: { readonly fua: boolean; readonly allocate: boolean },
  ): Promise<void> {
    this.#within(offset, length, Errno.ENOSPC);
    await this.#range(Cmd.WRITE_ZEROES, (fua ? CmdFlag.FUA : 0) | (allocate ? CmdFlag.NO_HOLE : 0), offset, length);
  }

  compare(): Promise<number | undefined> {
    return Promise.reject(new ErrnoError(Errno.EOPNOTSUPP, 'comparing'));
  }

  compareWrite(): Promise<number | undefined> {
    return this.compare();
  }

  orWrite(): Promise<void> {
    return Promise.reject(new ErrnoError(Errno.EOPNOTSUPP, 'writing bits'));
  }

  async close(): Promise<void> {}

  /** It never does: a host that is away is waited for. */
  onGone(): void {}

  /** Clients of NBD are not told. */
  onResize(): void {}

  async #range(command: number, flags: number, offset: number, length: number): Promise<void> {
    for (let done = 0; done < length; done += RANGE_BYTES_MAX) {
      await this.#volume.change(command, flags, offset + done, Math.min(RANGE_BYTES_MAX, length - done));
    }
  }

  #within(offset: number, length: number, errno: number): void {
    if (offset + length > this.info.size) throw new ErrnoError(errno, this.info.name);
  }
}
