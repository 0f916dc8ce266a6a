import { join } from 'node:path';
import { release } from '../../../host/assets.ts';
import type { Core, TunableSetting } from '../../../host/core/api.ts';
import type { IoctlResult, IoctlSession, StreamChannel } from '../../../host/core/dev-zfs.ts';
import { loadCore } from '../../../host/core/load.ts';
import { zfsCmdBytes } from '../../../host/core/zfs-cmd.ts';
import type { Device, DeviceOpenOptions } from '../../../host/devices/device.ts';
import { MemoryDevice } from '../../../host/devices/memory.ts';
import { Errno, ErrnoError } from '../../../host/errno.ts';
import { readIoctls } from '../../../zfs-src/ioctls.ts';
import { type NvPairs, packNvlist } from '../nvlist/pack.ts';

/** OpenZFS's core in this process, on disks in memory, and its ioctls without a socket. */

const MiB = 1024 ** 2;

/** ZFS_IOC_ names without that, to numbers. */
export const ioctlNumbers: ReadonlyMap<string, number> = new Map(
  readIoctls(join(import.meta.dirname, '../../../zfs-src/upstream', release)).flatMap(({ name, aliases, request }) =>
    [name, ...aliases].map((each): [string, number] => [each.replace('ZFS_IOC_', ''), request]),
  ),
);

/** Members of zfs_cmd_t, include/sys/zfs_ioctl.h: where they are, and their bytes; 0: a string of the size behind it. */
export const cmdFields = {
  name: [0, 4096],
  srcSize: [4104, 8],
  dstSize: [4120, 8],
  value: [4144, 8192],
  string: [12336, 256],
  guid: [12592, 8],
  confSize: [12608, 8],
  cookie: [12616, 8],
  objsetType: [12624, 8],
  permAction: [12632, 8],
  historyLength: [12640, 8],
  historyOffset: [12648, 8],
  obj: [12656, 8],
  share: [12672, 32],
  objsetStats: [12704, 288],
  beginRecord: [12992, 304],
  injectRecord: [13296, 368],
  deferDestroy: [13648, 4],
  flags: [13652, 4],
  actionHandle: [13656, 8],
  cleanupFd: [13664, 4],
  simple: [13668, 1],
  sendobj: [13672, 8],
  fromobj: [13680, 8],
  createtxg: [13688, 8],
  zoneid: [13736, 8],
} as const satisfies Record<string, readonly [at: number, bytes: number]>;

export type CmdFields = { readonly [name in keyof typeof cmdFields]?: string | number | bigint | Uint8Array };

export function packCmd(fields: CmdFields): Buffer {
  const cmd = Buffer.alloc(zfsCmdBytes);
  for (const [name, value] of Object.entries(fields)) {
    const [at, bytes] = cmdFields[name as keyof typeof cmdFields];
    if (typeof value === 'string') cmd.write(value, at, bytes);
    else if (value instanceof Uint8Array) cmd.set(value.subarray(0, bytes), at);
    else if (bytes === 8) cmd.writeBigUInt64LE(BigInt.asUintN(64, BigInt(value)), at);
    else if (bytes === 4) cmd.writeInt32LE(Number(value), at);
    else cmd[at] = Number(value);
  }
  return cmd;
}

/** What an ioctl of a test has beside its fields. The sizes in the fields are those of what is sent, unless they are given. */
export interface Call {
  readonly cmd?: CmdFields;
  readonly src?: NvPairs | Uint8Array;
  readonly conf?: NvPairs | Uint8Array;
  readonly history?: string;
  readonly dstRoom?: number;
  readonly historyRoom?: number;
  readonly streams?: StreamChannel;
  readonly signal?: AbortSignal;
}

/** No descriptors. */
const noStreams: StreamChannel = {
  read: () => Promise.reject(new ErrnoError(Errno.EBADF, 'no descriptor')),
  readRecords: () => Promise.reject(new ErrnoError(Errno.EBADF, 'no descriptor')),
  write: () => Promise.reject(new ErrnoError(Errno.EBADF, 'no descriptor')),
  gather: () => false,
  drain: () => Promise.resolve(),
};

export interface TestCoreOptions {
  readonly memoryBytes?: number;
  readonly tunables?: readonly TunableSetting[];
  /** Puts something around each disk. */
  readonly wrap?: (device: Device) => Device;
}

export class TestCore {
  readonly core: Core;
  readonly #disks: Map<string, Uint8Array>;

  private constructor(core: Core, disks: Map<string, Uint8Array>) {
    this.core = core;
    this.#disks = disks;
  }

  static async load({ memoryBytes = 256 * MiB, tunables = [], wrap = (device) => device }: TestCoreOptions = {}) {
    const disks = new Map<string, Uint8Array>();
    const openDevice = async (path: string, options: DeviceOpenOptions = {}): Promise<Device> => {
      const content = disks.get(path);
      if (content === undefined) throw new ErrnoError(Errno.ENOENT, path);
      return wrap(new MemoryDevice(path, content, options));
    };
    return new TestCore(await loadCore({ memoryBytes, tunables, openDevice }), disks);
  }

  /** A disk, which the core finds by the path that is returned. */
  disk(name: string, bytes = 64 * MiB): string {
    const path = `/disks/${name}`;
    this.#disks.set(path, new Uint8Array(bytes));
    return path;
  }

  async open(process = 'aa'.repeat(16), fd = 3): Promise<TestSession> {
    return new TestSession(await this.core.open({ process, fd, pid: 1, program: 'test' }));
  }

  /** As `zpool create`, of one disk. Rejects with the errno. */
  async createPool(session: TestSession, name = 'tank', bytes?: number): Promise<void> {
    const path = this.disk(name, bytes);
    const disk = { type: 'file', path, ashift: 12n, is_log: 0n };
    const { errno } = await session.ioctl('POOL_CREATE', {
      cmd: { name },
      conf: { type: 'root', children: [disk] },
      dstRoom: 65536,
    });
    if (errno !== 0) throw new ErrnoError(errno, `zpool create ${name}`);
  }
}

export class TestSession {
  readonly session: IoctlSession;

  constructor(session: IoctlSession) {
    this.session = session;
  }

  /** Starts an ioctl by its name without ZFS_IOC_, or its number. */
  ioctl(name: string | number, call: Call = {}): Promise<IoctlResult> {
    const request = typeof name === 'number' ? name : ioctlNumbers.get(name)!;
    const src = pack(call.src);
    const conf = pack(call.conf);
    const history = call.history === undefined ? Buffer.alloc(0) : Buffer.from(`${call.history}\0`);
    const { dstRoom = 0, historyRoom = 0, streams = noStreams, signal } = call;
    const cmd = packCmd({ srcSize: src.length, confSize: conf.length, dstSize: dstRoom, ...call.cmd });
    return this.session.ioctl({ request, cmd, src, conf, history, dstRoom, historyRoom, streams, signal });
  }

  /** As ioctl(), of one that has to succeed. */
  async must(name: string, call: Call = {}): Promise<IoctlResult> {
    const result = await this.ioctl(name, call);
    if (result.errno !== 0) throw new ErrnoError(result.errno, name);
    return result;
  }

  close(): Promise<void> {
    return this.session.close();
  }
}

function pack(value: NvPairs | Uint8Array | undefined): Uint8Array {
  if (value === undefined) return Buffer.alloc(0);
  return value instanceof Uint8Array ? value : packNvlist(value);
}
