import type { Core } from '../../host/core/api.ts';
import type { IoctlSession } from '../../host/core/dev-zfs.ts';
import { Errno, ErrnoError } from '../../host/errno.ts';
import { type NvPairs, packNvlist } from '../host/nvlist/pack.ts';

/** ZFS_IOC_*, include/sys/fs/zfs.h. */
const Ioc = {
  poolImport: 0x5a02,
  poolStats: 0x5a05,
  poolScan: 0x5a07,
  objsetStats: 0x5a12,
  loadKey: 0x5a49,
  wait: 0x5a53,
};
const scanScrub = 1n;
const waitResilver = 5;
const waitScrub = 6;
/** A resilver that an import begins comes before a scrub, or in its place. */
const scrubTriesMax = 20;

/** Offsets in zfs_cmd_t, include/sys/zfs_ioctl.h. */
const at = { srcBytes: 4104, dstBytes: 4120, guid: 12592, confBytes: 12608, cookie: 12616 };
const dstBytesMax = 256 * 1024;

interface Fields {
  readonly guid?: bigint;
  readonly cookie?: bigint;
  readonly src?: NvPairs;
  readonly conf?: Uint8Array;
}

const nothing = new Uint8Array(0);
const noStreams = {
  read: () => Promise.reject(new ErrnoError(Errno.EBADF)),
  readRecords: () => Promise.reject(new ErrnoError(Errno.EBADF)),
  gather: () => false,
  write: () => Promise.reject(new ErrnoError(Errno.EBADF)),
  drain: () => Promise.resolve(),
};

/** How a scrub ended and what the pool's disks have counted since the import. */
export interface Health {
  /** What the scrub could not read. */
  readonly errors: number;
  /** Data errors that the pool knows of. */
  readonly known: number;
  readonly repairedBytes: number;
  /** Read, write and checksum errors of all vdevs. */
  readonly vdevErrors: number;
}

/** The few ioctls that bring a pool up and have it verified, without the time that a program takes to start. */
export class Admin {
  readonly #core: Core;
  readonly #session: IoctlSession;

  private constructor(core: Core, session: IoctlSession) {
    this.#core = core;
    this.#session = session;
  }

  static async open(core: Core): Promise<Admin> {
    const client = { process: '00'.repeat(16), fd: -1, pid: process.pid, program: 'explore' };
    return new Admin(core, await core.open(client));
  }

  /** The pool's configuration as the core packs it, which `import` takes. */
  async config(pool: string): Promise<Uint8Array> {
    return (await this.#run(Ioc.poolStats, pool)).dst;
  }

  async import(pool: string, config: Uint8Array, { readOnly = false } = {}): Promise<void> {
    const [guid] = numbers(config, 'pool_guid');
    if (guid === undefined) throw new Error('no pool_guid in the configuration');
    const src = readOnly ? { readonly: 1n } : undefined;
    await this.#run(Ioc.poolImport, pool, { guid: guid[0]!, conf: config, ...(src === undefined ? {} : { src }) });
  }

  async loadKey(dataset: string, key: Uint8Array): Promise<void> {
    await this.#run(Ioc.loadKey, dataset, { src: { hidden_args: { wkeydata: key } } });
  }

  /** Whether a dataset or snapshot exists. */
  async exists(name: string): Promise<boolean> {
    try {
      await this.#run(Ioc.objsetStats, name);
      return true;
    } catch (error) {
      if (error instanceof ErrnoError && error.errno === Errno.ENOENT) return false;
      throw error;
    }
  }

  /** Reads every block that is in use, every copy of it, when what is missing somewhere has been resilvered. */
  async scrub(pool: string): Promise<Health> {
    for (let tries = 0; tries < scrubTriesMax; tries++) {
      await this.#run(Ioc.wait, pool, { src: { wait_activity: waitResilver } });
      try {
        await this.#run(Ioc.poolScan, pool, { cookie: scanScrub });
      } catch (error) {
        if (error instanceof ErrnoError && error.errno === Errno.EBUSY) continue;
        throw error;
      }
      await this.#run(Ioc.wait, pool, { src: { wait_activity: waitScrub } });
      const stats = await this.config(pool);
      const [scan] = numbers(stats, 'scan_stats');
      const vdevs = numbers(stats, 'vdev_stats');
      // pool_scan_stat_t and vdev_stat_t: a scrub is 1, finished 2; the counters of errors come after eight values and two
      // tables of six.
      if (scan?.[0] !== scanScrub || scan?.[1] !== 2n || vdevs.length === 0) continue;
      const [known] = numbers(stats, 'error_count');
      // Failed writes of a log device are among them. They are forgotten a moment after a scrub that has not found them.
      if (scan[8] === 0n && (known?.[0] ?? 0n) > 0n && tries < scrubTriesMax - 1) continue;
      const vdevErrors = vdevs.flatMap((vdev) => vdev.slice(20, 23)).reduce((sum, count) => sum + count, 0n);
      return {
        errors: Number(scan[8]!),
        known: Number(known?.[0] ?? 0n),
        repairedBytes: Number(scan[7]!),
        vdevErrors: Number(vdevErrors),
      };
    }
    throw new Error('the scrub has not finished');
  }

  async #run(request: number, name: string, { guid, cookie, src, conf = nothing }: Fields = {}) {
    const cmd = Buffer.alloc(this.#core.cmdSize);
    cmd.write(name);
    const packed = src === undefined ? nothing : packNvlist(src);
    cmd.writeBigUInt64LE(BigInt(packed.length), at.srcBytes);
    cmd.writeBigUInt64LE(BigInt(dstBytesMax), at.dstBytes);
    cmd.writeBigUInt64LE(BigInt(conf.length), at.confBytes);
    cmd.writeBigUInt64LE(guid ?? 0n, at.guid);
    cmd.writeBigUInt64LE(cookie ?? 0n, at.cookie);
    const result = await this.#session.ioctl({
      request,
      cmd,
      src: packed,
      conf,
      history: nothing,
      dstRoom: dstBytesMax,
      historyRoom: 0,
      streams: noStreams,
    });
    if (result.errno !== 0) throw new ErrnoError(result.errno, `ioctl ${request.toString(16)} of ${name}`);
    return result;
  }
}

/**
 * The uint64 values of every pair called `name` in an nvlist of native encoding: an nvpair_t (size, size of the name,
 * number of elements, type), the name padded to 8, the values (include/sys/nvpair_impl.h).
 */
function numbers(packed: Uint8Array, name: string): bigint[][] {
  const bytes = Buffer.from(packed.buffer, packed.byteOffset, packed.byteLength);
  const found: bigint[][] = [];
  for (let from = bytes.indexOf(`${name}\0`); from >= 0; from = bytes.indexOf(`${name}\0`, from + 1)) {
    const header = from - 16;
    const nameBytes = name.length + 1;
    if (header < 0 || bytes.readInt16LE(header + 4) !== nameBytes) continue;
    const count = bytes.readInt32LE(header + 8);
    const values = header + ((16 + nameBytes + 7) & ~7);
    found.push(Array.from({ length: count }, (_, i) => bytes.readBigUInt64LE(values + 8 * i)));
  }
  return found;
}
