import type { IoctlCore, IoctlResult, IoctlSession } from '../core/dev-zfs.ts';
import { ZfsCmd } from '../core/zfs-cmd.ts';
import { Errno, ErrnoError } from '../errno.ts';
import { noStreams } from '../ioctl/streams.ts';
import { decodeNativeNvlist } from '../nvlist/native.ts';
import { NvList } from '../nvlist/nvlist.ts';
import { emptyPacked } from '../nvlist/packed.ts';
import type { DatasetSample, SnapshotSample } from './sample.ts';

/** By number, of zfs_ioc_t (include/sys/fs/zfs.h). */
const Ioc = {
  poolStats: 0x5a05,
  objsetStats: 0x5a12,
  datasetListNext: 0x5a14,
  snapshotListNext: 0x5a15,
  poolGetProps: 0x5a27,
} as const;

const ROOM_BYTES = 64 * 1024;
const ROOM_BYTES_MAX = 16 * 1024 * 1024;
const none = new Uint8Array(0);

/** What metrics ask of a core as a client of its /dev/zfs. Everything rejects with ErrnoError. */
export class Queries {
  readonly #core: IoctlCore;
  #session: Promise<IoctlSession> | undefined;

  constructor(core: IoctlCore) {
    this.#core = core;
  }

  /** ZFS_IOC_POOL_STATS: the configuration, with statistics. */
  async poolStats(pool: string): Promise<NvList> {
    return decodeNativeNvlist((await this.#ask(Ioc.poolStats, pool, none)).dst);
  }

  /** ZFS_IOC_POOL_GET_PROPS: those that are numbers. */
  async poolProperties(pool: string): Promise<Record<string, number>> {
    const { dst } = await this.#ask(Ioc.poolGetProps, pool, emptyPacked);
    const properties: Record<string, number> = {};
    for (const { name, value } of decodeNativeNvlist(dst).pairs) {
      const number = value instanceof NvList ? value.get('value') : undefined;
      if (typeof number === 'bigint') properties[name] = Number(number);
    }
    return properties;
  }

  /** ZFS_IOC_OBJSET_STATS. */
  async dataset(name: string): Promise<DatasetSample> {
    return datasetOf(name, (await this.#ask(Ioc.objsetStats, name, none)).dst);
  }

  /** ZFS_IOC_DATASET_LIST_NEXT: the child behind `cookie`, 0 for the first; undefined at the end. */
  async nextChild(parent: string, cookie: bigint): Promise<{ dataset: DatasetSample; cookie: bigint } | undefined> {
    const next = await this.#next(Ioc.datasetListNext, parent, cookie);
    return next && { dataset: datasetOf(next.name, next.dst), cookie: next.cookie };
  }

  /** ZFS_IOC_SNAPSHOT_LIST_NEXT: likewise, of the dataset's snapshots. */
  async nextSnapshot(
    dataset: string,
    cookie: bigint,
  ): Promise<{ snapshot: SnapshotSample; cookie: bigint } | undefined> {
    const next = await this.#next(Ioc.snapshotListNext, dataset, cookie);
    return next && { snapshot: snapshotOf(next.name, next.dst), cookie: next.cookie };
  }

  async #next(
    request: number,
    parent: string,
    before: bigint,
  ): Promise<{ name: string; dst: Uint8Array; cookie: bigint } | undefined> {
    try {
      const { cmd, dst } = await this.#ask(request, parent, none, before);
      const view = Buffer.from(cmd.buffer, cmd.byteOffset, cmd.byteLength);
      const name = view.toString('utf8', ZfsCmd.name, view.indexOf(0, ZfsCmd.name));
      return { name, dst, cookie: view.readBigUInt64LE(ZfsCmd.cookie) };
    } catch (error) {
      if (error instanceof ErrnoError && error.errno === Errno.ESRCH) return undefined;
      throw error;
    }
  }

  async close(): Promise<void> {
    await (await this.#session)?.close();
  }

  async #ask(request: number, name: string, src: Uint8Array, cookie = 0n): Promise<IoctlResult> {
    this.#session ??= this.#core.open({ process: '00'.repeat(16), fd: -1, pid: process.pid, program: 'zow' });
    const session = await this.#session;
    for (let room = ROOM_BYTES; ; room *= 4) {
      const cmd = Buffer.alloc(this.#core.cmdSize);
      cmd.write(name, ZfsCmd.name);
      cmd.writeBigUInt64LE(BigInt(room), ZfsCmd.dstSize);
      cmd.writeBigUInt64LE(BigInt(src.length), ZfsCmd.srcSize);
      cmd.writeBigUInt64LE(cookie, ZfsCmd.cookie);
      const parts = { src, conf: none, history: none };
      const result = await session.ioctl({ request, cmd, ...parts, dstRoom: room, historyRoom: 0, streams: noStreams });
      if (result.errno === Errno.ENOMEM && room < ROOM_BYTES_MAX) continue;
      // A pool that cannot be opened has its statistics all the same (zfs_ioc_pool_stats).
      if (result.errno !== 0) throw new ErrnoError(result.errno, name);
      return result;
    }
  }
}

function datasetOf(name: string, packed: Uint8Array): DatasetSample {
  const properties = propertiesOf(packed);
  return {
    name,
    isVolume: properties('volsize') !== undefined,
    used: properties('used') ?? 0,
    referenced: properties('referenced') ?? 0,
    compressratio: (properties('compressratio') ?? 0) / 100,
  };
}

function snapshotOf(name: string, packed: Uint8Array): SnapshotSample {
  const properties = propertiesOf(packed);
  return {
    name,
    used: properties('used') ?? 0,
    referenced: properties('referenced') ?? 0,
    createdAt: properties('creation') ?? 0,
  };
}

/** `$ORIGIN` and its kin have no properties. */
function propertiesOf(packed: Uint8Array): (property: string) => number | undefined {
  const properties = packed.length === 0 ? undefined : decodeNativeNvlist(packed);
  return (property) => {
    const entry = properties?.get(property);
    const value = entry instanceof NvList ? entry.get('value') : entry;
    return typeof value === 'bigint' ? Number(value) : undefined;
  };
}
