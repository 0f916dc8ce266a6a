import { randomBytes } from 'node:crypto';
import type { IoctlCore, IoctlRequest, IoctlResult, IoctlSession } from '../core/dev-zfs.ts';
import { ZfsCmd } from '../core/zfs-cmd.ts';
import { Errno, ErrnoError } from '../errno.ts';
import { noStreams } from '../ioctl/streams.ts';
import type { Lifetime } from '../lifetime.ts';
import { findUint64, stringOf } from '../nvlist/packed.ts';
import { Ioc } from './routes.ts';

/** zfs_zevent_len_max's default: how many are kept. */
const KEPT = 512;
const ROOM_BYTES = 64 * 1024;
const ROOM_BYTES_MAX = 16 * 1024 * 1024;
/** ZEVENT_NONBLOCK, ZEVENT_SEEK_START and _END (sys/zfs_ioctl.h). */
const NONBLOCK = 1n;
const SEEK_START = 0n;
const SEEK_END = 0xffff_ffff_ffff_ffffn;
/** How long an engine that does not answer keeps a reader from the events of the others, milliseconds. */
const CATCH_UP_MS = 250;
/** Of ESC_ZFS_CONFIG_SYNC (sys/sysevent/eventdefs.h), as fm_zevent has it. */
const CONFIG_SYNC = 'sysevent.fs.zfs.config_sync';
const none = new Uint8Array(0);

interface Event {
  readonly eid: number;
  /** Packed, with `eid` as its number here. */
  readonly packed: Uint8Array;
}

/** Where a reader is: behind the event of this number. */
export interface EventCursor {
  after: number;
}

/** The events of all engines, in the order in which they came, numbered anew: what fm.c keeps in a kernel. */
export class EventLog {
  readonly #events: Event[] = [];
  readonly #pumps = new Set<Pump>();
  #last = 0;
  #keep = KEPT;
  #wake = Promise.withResolvers<void>();

  /** Takes in what the core reports from now on, until it is gone; `onConfig` is called when a pool's devices are others. */
  async follow(core: IoctlCore, onConfig: () => void): Promise<void> {
    const pump = await Pump.start(core, (packed) => {
      this.#add(packed);
      if (stringOf(packed, 'class') === CONFIG_SYNC) onConfig();
    });
    this.#pumps.add(pump);
    void pump.ended.then(() => this.#pumps.delete(pump));
  }

  /** As zfs_zevent_len_max says. */
  set length(events: number) {
    this.#keep = Math.max(0, events);
    this.#trim();
  }

  newCursor(): EventCursor {
    return { after: 0 };
  }

  /** ZFS_IOC_EVENTS_NEXT, zfs_zevent_next() and _wait(). `life` is the reader's. */
  async next(request: IoctlRequest, cursor: EventCursor, life: Lifetime): Promise<IoctlResult> {
    const cmd = Buffer.from(request.cmd);
    const wait = (cmd.readBigUInt64LE(ZfsCmd.guid) & NONBLOCK) === 0n;
    for (;;) {
      const event = this.#after(cursor);
      if (event !== undefined) return this.#give(event, cmd, request, cursor);
      if (wait) {
        const isOver = await life.unlessOver(Promise.race([this.#wake.promise, aborted(request.signal)]));
        if (isOver === true) return { errno: Errno.EINTR, cmd, dst: none, history: none };
        continue;
      }
      const before = this.#last;
      await Promise.all([...this.#pumps].map((pump) => pump.catchUp()));
      if (this.#last === before) return { errno: Errno.ENOENT, cmd, dst: none, history: none };
    }
  }

  #give(event: Event, cmd: Buffer, request: IoctlRequest, cursor: EventCursor): IoctlResult {
    const { packed, eid } = event;
    const room = Math.min(request.dstRoom, Number(cmd.readBigUInt64LE(ZfsCmd.dstSize)));
    cmd.writeBigUInt64LE(BigInt(packed.length), ZfsCmd.dstSize);
    if (packed.length > room) return { errno: Errno.ENOMEM, cmd, dst: none, history: none };
    // Before the first that is kept some may have gone; a reader that has seen none was promised none.
    const dropped = cursor.after === 0 ? 0 : eid - cursor.after - 1;
    cmd.writeBigUInt64LE(BigInt(Math.max(0, dropped)), ZfsCmd.cookie);
    cmd.writeInt32LE(1, ZfsCmd.dstFilled);
    cursor.after = eid;
    return { errno: 0, cmd, dst: packed, history: none };
  }

  /** ZFS_IOC_EVENTS_CLEAR. */
  clear(request: IoctlRequest): IoctlResult {
    const cmd = Buffer.from(request.cmd);
    cmd.writeBigUInt64LE(BigInt(this.#events.length), ZfsCmd.cookie);
    this.#events.length = 0;
    return { errno: 0, cmd, dst: none, history: none };
  }

  /** ZFS_IOC_EVENTS_SEEK. */
  seek(request: IoctlRequest, cursor: EventCursor): IoctlResult {
    const cmd = Buffer.from(request.cmd);
    const eid = cmd.readBigUInt64LE(ZfsCmd.guid);
    let errno = 0;
    if (eid === SEEK_START) cursor.after = 0;
    else if (eid === SEEK_END) cursor.after = this.#last;
    else if (this.#events.some((event) => BigInt(event.eid) === eid)) cursor.after = Number(eid);
    else errno = Errno.ENOENT;
    return { errno, cmd, dst: none, history: none };
  }

  /** The oldest behind the cursor. */
  #after({ after }: EventCursor): Event | undefined {
    const first = this.#events[0];
    if (first === undefined) return undefined;
    return this.#events[Math.max(0, after + 1 - first.eid)];
  }

  #add(packed: Uint8Array): void {
    const eid = ++this.#last;
    const bytes = Buffer.from(packed);
    bytes.writeBigUInt64LE(BigInt(eid), findUint64(bytes, 'eid'));
    this.#events.push({ eid, packed: bytes });
    this.#trim();
    const { resolve } = this.#wake;
    this.#wake = Promise.withResolvers();
    resolve();
  }

  #trim(): void {
    if (this.#events.length > this.#keep) this.#events.splice(0, this.#events.length - this.#keep);
  }
}

/** Resolves with true when a signal is aborted. */
function aborted(signal: AbortSignal | undefined): Promise<true> {
  return new Promise((resolve) => {
    if (signal?.aborted === true) resolve(true);
    else signal?.addEventListener('abort', () => resolve(true), { once: true });
  });
}

/** Reads one core's events as they come. */
class Pump {
  readonly ended: Promise<void>;
  readonly #session: IoctlSession;
  /** A second reader, that tells how far the first should be. */
  readonly #scout: IoctlSession;
  readonly #cmdSize: number;
  #seen = 0n;
  #scouted = 0n;
  #moved = Promise.withResolvers<void>();
  #catching: Promise<void> | undefined;

  private constructor(core: IoctlCore, session: IoctlSession, scout: IoctlSession, add: (packed: Uint8Array) => void) {
    this.#cmdSize = core.cmdSize;
    this.#session = session;
    this.#scout = scout;
    this.ended = this.#run(add).catch(() => undefined);
  }

  static async start(core: IoctlCore, add: (packed: Uint8Array) => void): Promise<Pump> {
    const client = () => ({ process: randomBytes(16).toString('hex'), fd: 0, pid: process.pid, program: 'zow' });
    return new Pump(core, await core.open(client()), await core.open(client()), add);
  }

  /** Resolves when what the core had to report when this was called is in the log, or the core is gone or takes too long. */
  catchUp(): Promise<void> {
    this.#catching ??= this.#catchUp()
      .catch(() => undefined)
      .finally(() => {
        this.#catching = undefined;
      });
    const late = new Promise<void>((resolve) => setTimeout(resolve, CATCH_UP_MS).unref());
    return Promise.race([this.#catching, late]);
  }

  async #catchUp(): Promise<void> {
    for (;;) {
      const packed = await this.#read(this.#scout, NONBLOCK);
      if (packed === undefined) break;
      this.#scouted = eidOf(packed);
    }
    while (this.#seen < this.#scouted) await this.#moved.promise;
  }

  async #run(add: (packed: Uint8Array) => void): Promise<void> {
    for (;;) {
      const packed = await this.#read(this.#session, 0n);
      if (packed === undefined) continue;
      add(packed);
      this.#seen = eidOf(packed);
      this.#moved.resolve();
      this.#moved = Promise.withResolvers();
    }
  }

  async #read(session: IoctlSession, flags: bigint): Promise<Uint8Array | undefined> {
    for (let room = ROOM_BYTES; ; room *= 4) {
      const cmd = Buffer.alloc(this.#cmdSize);
      cmd.writeBigUInt64LE(flags, ZfsCmd.guid);
      cmd.writeInt32LE(0, ZfsCmd.cleanupFd);
      cmd.writeBigUInt64LE(BigInt(room), ZfsCmd.dstSize);
      const { errno, dst } = await session.ioctl({
        ...{ request: Ioc.eventsNext, cmd, src: none, conf: none, history: none, dstRoom: room, historyRoom: 0 },
        streams: noStreams,
      });
      if (errno === 0) return dst;
      if (errno === Errno.ENOENT) return undefined;
      if (errno !== Errno.ENOMEM || room >= ROOM_BYTES_MAX) throw new ErrnoError(errno, 'events of an engine');
    }
  }
}

function eidOf(packed: Uint8Array): bigint {
  return Buffer.from(packed.buffer, packed.byteOffset, packed.byteLength).readBigUInt64LE(findUint64(packed, 'eid'));
}
