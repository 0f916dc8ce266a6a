import type { IoctlCore, IoctlSession } from '../core/dev-zfs.ts';
import { ZfsCmd, zfsCmdBytes } from '../core/zfs-cmd.ts';
import { Errno, ErrnoError } from '../errno.ts';
import { noStreams } from '../ioctl/streams.ts';
import type { Logger } from '../log.ts';
import { decodeNativeNvlist } from '../nvlist/native.ts';
import { NvList } from '../nvlist/nvlist.ts';
import { packStrings } from '../nvlist/pack.ts';
import { isReservation, REGISTRATIONS_MAX, type SavedReservations } from '../scsi/reservations.ts';
import type { UnitStore } from '../scsi/unit.ts';
import type { VolumeInfo } from '../volumes/volume.ts';
import { NAME_BYTES_MAX } from './constants.ts';

/** ZFS_IOC_OBJSET_STATS, _SET_PROP and _INHERIT_PROP (include/sys/fs/zfs.h). */
const objsetStats = 0x5a12;
const setProp = 0x5a16;
const inheritProp = 0x5a2b;

/** User property of a volume that has its reservations. */
export const RESERVATIONS_PROPERTY = 'io.zow:reservations';
/** ZAP_MAXVALUELEN without the NUL (module/zfs/zfs_ioctl.c refuses more). */
const VALUE_BYTES_MAX = 8191;
/** Room for all properties of a dataset; more is asked for where it is not enough. */
const STATS_BYTES = 64 << 10;
const STATS_BYTES_MAX = 16 << 20;

const none = new Uint8Array(0);
/** `sync` as dsl_prop has it (ZFS_SYNC_STANDARD and its like). */
const syncs = ['standard', 'always', 'disabled'] as const;

/** How reservations are written in the property. Targets are few, and their names long. */
interface Stored {
  /** Of the volume: where another one has this value, it came with `zfs send -p`, and means nothing. */
  readonly guid: string;
  readonly targets: readonly string[];
  /** Initiator, ISID, index of the target, key. */
  readonly registrations: readonly (readonly [string, string, number, string])[];
  /** Index of the holder (-1: all registrants), type. */
  readonly holder?: readonly [number, number];
}

/**
 * Keeps reservations in a user property of the volume's dataset: they are in the pool, go where it goes, and are durable with
 * the transaction group that `save` waits for.
 */
export class DatasetStore implements UnitStore {
  readonly #core: Pick<IoctlCore, 'open'>;
  readonly #log: Logger;
  #session: Promise<IoctlSession> | undefined;

  constructor(core: Pick<IoctlCore, 'open'>, log: Logger) {
    this.#core = core;
    this.#log = log;
  }

  async sync(volume: VolumeInfo): Promise<'standard' | 'always' | 'disabled'> {
    const value = await this.#property(volume, 'sync');
    return syncs[Number(value ?? 0)] ?? 'standard';
  }

  async load(volume: VolumeInfo): Promise<SavedReservations | undefined> {
    const text = await this.#property(volume, RESERVATIONS_PROPERTY);
    if (typeof text !== 'string' || text === '') return undefined;
    const saved = parse(text, volume.guid);
    if (saved === undefined) {
      this.#log.warn({ volume: volume.name }, `iscsi: ${RESERVATIONS_PROPERTY} is not of this volume, and not used`);
    }
    return saved;
  }

  async save(volume: VolumeInfo, reservations: SavedReservations | undefined): Promise<void> {
    try {
      if (reservations === undefined) {
        await this.#ioctl(inheritProp, command(volume.name, RESERVATIONS_PROPERTY), none, 0);
        return;
      }
      const text = format(reservations, volume.guid);
      if (Buffer.byteLength(text) > VALUE_BYTES_MAX) throw new ErrnoError(Errno.ENOSPC, 'names of initiators');
      await this.#ioctl(setProp, command(volume.name), packStrings({ [RESERVATIONS_PROPERTY]: text }), 4096);
    } catch (error) {
      this.#log.error({ volume: volume.name, reason: String(error) }, 'iscsi: reservations cannot be kept in the pool');
      throw error;
    }
  }

  /** Ends what it has open. */
  async close(): Promise<void> {
    await this.#session?.then((session) => session.close());
    this.#session = undefined;
  }

  /** Value of a property: a bigint of a native one, a string of a user's; undefined where it has its default. */
  async #property({ name }: VolumeInfo, property: string): Promise<unknown> {
    for (let room = STATS_BYTES; ; room *= 8) {
      const cmd = command(name);
      cmd.writeBigUInt64LE(BigInt(room), ZfsCmd.dstSize);
      try {
        const entry = decodeNativeNvlist(await this.#ioctl(objsetStats, cmd, none, room)).get(property);
        return entry instanceof NvList ? entry.get('value') : undefined;
      } catch (error) {
        if (!(error instanceof ErrnoError) || error.errno !== Errno.ENOMEM || room >= STATS_BYTES_MAX) throw error;
      }
    }
  }

  async #ioctl(request: number, cmd: Buffer, src: Uint8Array, dstRoom: number): Promise<Uint8Array> {
    this.#session ??= this.#core.open({ process: '00'.repeat(16), fd: -1, pid: process.pid, program: 'zow' });
    const session = await this.#session;
    cmd.writeBigUInt64LE(BigInt(src.length), ZfsCmd.srcSize);
    const nothing = { conf: none, history: none, historyRoom: 0, streams: noStreams };
    const { errno, dst } = await session.ioctl({ request, cmd, src, dstRoom, ...nothing });
    if (errno !== 0) throw new ErrnoError(errno, 'ioctl');
    return dst;
  }
}

/** A zfs_cmd_t for a dataset, with a property's name where that goes into zc_value. */
function command(dataset: string, property = ''): Buffer {
  const cmd = Buffer.alloc(zfsCmdBytes);
  cmd.write(dataset, ZfsCmd.name);
  cmd.write(property, ZfsCmd.value);
  return cmd;
}

function format({ registrations, holder }: SavedReservations, guid: bigint): string {
  const targets = [...new Set(registrations.map(({ port }) => port.target))];
  const stored: Stored = {
    guid: guid.toString(16),
    targets,
    registrations: registrations.map(({ port, key }) => [
      port.initiator,
      port.isid,
      targets.indexOf(port.target),
      key.toString(16),
    ]),
    ...(holder !== undefined && { holder: [holder.index, holder.type] }),
  };
  return JSON.stringify(stored);
}

/** Undefined: it is of another volume, or no such thing. */
function parse(text: string, guid: bigint): SavedReservations | undefined {
  try {
    const stored = JSON.parse(text) as Stored;
    if (stored.guid !== guid.toString(16)) return undefined;
    const registrations = stored.registrations.map(([initiator, isid, target, key]) => ({
      port: { initiator: name(initiator), isid: name(isid), target: name(stored.targets[target]) },
      key: BigInt.asUintN(64, BigInt(`0x${key}`)),
    }));
    if (registrations.length > REGISTRATIONS_MAX) return undefined;
    if (stored.holder === undefined) return { registrations };
    const [index, type] = stored.holder;
    if (!isReservation(index, type, registrations.length)) return undefined;
    return { registrations, holder: { index, type } };
  } catch {
    return undefined; // anybody can set a user property
  }
}

function name(value: unknown): string {
  if (typeof value !== 'string' || value.length > NAME_BYTES_MAX) throw new Error('no name');
  return value;
}
