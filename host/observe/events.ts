import type { IoctlRequest, IoctlResult } from '../core/dev-zfs.ts';
import { ZfsCmd, zfsCmdBytes } from '../core/zfs-cmd.ts';
import { Errno, ErrnoError } from '../errno.ts';
import { decodeNativeNvlist } from '../nvlist/native.ts';
import { type Json, type NvList, nvToJson } from '../nvlist/nvlist.ts';

/** ZFS_IOC_EVENTS_NEXT and _SEEK (include/sys/fs/zfs.h), and ZEVENT_NONBLOCK (sys/zfs_ioctl.h). */
const eventsNext = 0x5a81;
const eventsSeek = 0x5a83;
const nonBlocking = 1n;
/** ZEVENT_SEEK_START, in the place of an eid. */
const seekStart = 0;

/** Room for one event; upstream's largest, a checksum ereport with its histograms, has some 10 KiB. */
const eventRoomBytes = 64 * 1024;
const eventRoomBytesMax = 16 * 1024 * 1024;
const none = new Uint8Array(0);

/** An event of the pools: what `zpool events -v` shows. */
export interface PoolEvent {
  /** `sysevent.fs.zfs.config_sync`, `ereport.fs.zfs.checksum`. */
  readonly class: string;
  /** Counts from 1 since the host's start. */
  readonly eid: number;
  /** Events that were lost before this one: the host keeps the last `zfs_zevent_len_max`. */
  readonly dropped: number;
  /** All members, `class`, `eid` and `time` ([seconds, nanoseconds]) among them; 64-bit integers are bigints. */
  readonly members: NvList;
}

export interface EventOptions {
  /** Only events after the one with this eid; all, where the host does not have it (any more, or since its start). */
  readonly after?: number | undefined;
  /** The first part of that event's `time`. Where the event with this eid is of another time, it is another host's: all are shown. */
  readonly afterSeconds?: number | undefined;
  /** Waits for events to come, for ever; else ends after the last that is there. */
  readonly follow?: boolean | undefined;
}

/** One that runs ioctls: a session of the core, or a client of a host. */
export interface EventSource {
  /** What the source calls its own descriptor. */
  readonly fd: number;
  ioctl(request: Omit<IoctlRequest, 'streams'>): Promise<IoctlResult>;
}

/** The pools' events, oldest first. Ends by itself only without `follow`. Rejects when the source is gone. */
export async function* poolEvents(
  source: EventSource,
  { after = 0, afterSeconds, follow = false }: EventOptions = {},
): AsyncGenerator<PoolEvent> {
  // What the host does not have any more leaves the cursor before the oldest that it has: all of them are newer.
  if (after > 0 && (await isOf(source, after, afterSeconds))) await seek(source, after);
  for (;;) {
    const event = await next(source, follow);
    if (event === undefined) return;
    yield event;
  }
}

/** Whether event `eid`, if it is there, is of that time; the cursor is at the start. */
async function isOf(source: EventSource, eid: number, seconds: number | undefined): Promise<boolean> {
  if (seconds === undefined) return true;
  let event = await next(source, false);
  while (event !== undefined && event.eid < eid) event = await next(source, false);
  await seek(source, seekStart);
  const [time] = event?.eid === eid ? (event.members.get('time') as readonly bigint[]) : [];
  return time === undefined || Number(time) === seconds;
}

/** Moves the cursor behind event `eid`, if it is there. */
async function seek(source: EventSource, eid: number): Promise<void> {
  const { errno } = await source.ioctl(request(source, eventsSeek, BigInt(eid), 0));
  if (errno !== 0 && errno !== Errno.ENOENT) throw new ErrnoError(errno, 'events');
}

async function next(source: EventSource, wait: boolean): Promise<PoolEvent | undefined> {
  for (let room = eventRoomBytes; ; room *= 4) {
    const { errno, cmd, dst } = await source.ioctl(request(source, eventsNext, wait ? 0n : nonBlocking, room));
    if (errno === Errno.ENOENT && !wait) return undefined;
    if (errno === Errno.ENOMEM && room < eventRoomBytesMax) continue;
    if (errno !== 0) throw new ErrnoError(errno, 'events');
    const members = decodeNativeNvlist(dst);
    const dropped = Buffer.from(cmd.buffer, cmd.byteOffset, cmd.byteLength).readBigUInt64LE(ZfsCmd.cookie);
    return { class: String(members.get('class')), eid: Number(members.get('eid')), dropped: Number(dropped), members };
  }
}

function request(source: EventSource, number: number, guid: bigint, dstRoom: number): Omit<IoctlRequest, 'streams'> {
  const cmd = Buffer.alloc(zfsCmdBytes);
  cmd.writeBigUInt64LE(guid, ZfsCmd.guid);
  cmd.writeInt32LE(source.fd, ZfsCmd.cleanupFd);
  cmd.writeBigUInt64LE(BigInt(dstRoom), ZfsCmd.dstSize);
  return { request: number, cmd, src: none, conf: none, history: none, dstRoom, historyRoom: 0 };
}

/** One line of JSON without its newline: class, eid and time first, then all other members. */
export function eventLine({ members, dropped }: PoolEvent): string {
  const { class: name, eid, time, ...rest } = nvToJson(members) as Record<string, Json>;
  return JSON.stringify({ class: name, eid, time, ...(dropped > 0 ? { dropped } : {}), ...rest });
}
