import type { Core } from '../core/api.ts';
import type { IoctlSession } from '../core/dev-zfs.ts';
import { ZfsCmd } from '../core/zfs-cmd.ts';
import { Errno, ErrnoError } from '../errno.ts';
import { noStreams } from '../ioctl/streams.ts';
import { decodeNativeNvlist } from '../nvlist/native.ts';
import { NvList } from '../nvlist/nvlist.ts';
import { emptyPacked, onlyPair } from '../nvlist/packed.ts';
import { Ioc } from './routes.ts';

const ROOM_BYTES = 256 * 1024;
const ROOM_BYTES_MAX = 64 * 1024 * 1024;
/** How long an engine that does not answer keeps what is asked of all waiting; then it is left out, or what it said last is taken. */
const ANSWER_MS = 500;
/** How long who reads of one pool waits until it is asked whether its engine does. */
const PATIENCE_MS = 3000;
/** How long after its connections an engine's end is known. */
const LOSS_MS = 1000;
const none = new Uint8Array(0);

/** What an engine has told of one of its pools. */
export interface KnownPool {
  readonly guid: bigint;
  /** Paths of its devices. */
  readonly devices: readonly string[];
}

/** An engine among others: its core, and what is known of its pools. */
export class Member {
  /** The lowest that no other has; what it numbers itself is told apart by it. */
  readonly index: number;
  readonly core: Core;
  readonly memoryBytes: number;
  readonly startedAt = Date.now();
  pools: ReadonlyMap<string, KnownPool> = new Map();
  /** What ZFS_IOC_POOL_CONFIGS answered last. */
  packedConfigs: Uint8Array = emptyPacked;
  /** The engine's own count of changes to them (spa_config_generation). */
  generation = 0n;
  isLost = false;
  /** A pool is on its way into it. */
  isTaken = false;
  /** It is no engine of the host's any more, and ends when what it was asked is answered. */
  #isRetired = false;
  #busy = 0;
  readonly #idle = new Set<() => void>();
  /** By pool: what ZFS_IOC_POOL_STATS answered last. */
  readonly #stats = new Map<string, Uint8Array>();
  #session: Promise<IoctlSession> | undefined;
  #refreshing: Promise<void> | undefined;
  /** A question that it has not answered yet. */
  #ping: { readonly since: number; readonly done: Promise<unknown> } | undefined;

  constructor(index: number, core: Core, memoryBytes: number) {
    this.index = index;
    this.core = core;
    this.memoryBytes = memoryBytes;
  }

  /**
   * Runs `work` with it, which does not end meanwhile. @throws RetiredError when it is about to, and nothing was done;
   * LostError when it was lost.
   */
  async serve<T>(work: () => Promise<T>): Promise<T> {
    if (this.#isRetired) throw new RetiredError();
    this.#busy++;
    try {
      return await work();
    } catch (error) {
      // Its sockets are closed before its end is known.
      const panic = await Promise.race([this.core.lost, pause(LOSS_MS)]);
      throw panic === undefined ? error : new LostError(panic.message);
    } finally {
      this.#busy--;
      if (this.#busy === 0) for (const resolve of this.#idle) resolve();
    }
  }

  /** Resolves when it has answered all that it was asked; it takes no more. */
  async retire(): Promise<void> {
    this.#isRetired = true;
    if (this.#busy > 0) await new Promise<void>((resolve) => this.#idle.add(resolve));
  }

  /** Asks the engine which pools it has. */
  async refresh(): Promise<void> {
    // One that is under way may have been asked before what the caller waits for.
    await this.#refreshing;
    this.#refreshing ??= this.#refresh().finally(() => {
      this.#refreshing = undefined;
    });
    await this.#refreshing;
  }

  /** As refresh(), for half a second: a pool can be in the middle of something long. */
  async refreshSoon(): Promise<void> {
    await within(ANSWER_MS, this.refresh());
  }

  /** Whether its event loop does: `ms` are waited for it, at most. */
  answers(ms = ANSWER_MS): Promise<boolean> {
    this.#ping ??= {
      since: performance.now(),
      done: this.settle()
        .catch(() => undefined)
        .finally(() => {
          this.#ping = undefined;
        }),
    };
    const { since, done } = this.#ping;
    return within(since + ms - performance.now(), done);
  }

  /** Resolves with `answer`, however long its pool takes; with undefined when the engine itself is silent for some seconds. */
  async ifItAnswers<T>(answer: Promise<T>): Promise<T | undefined> {
    do {
      if (await within(PATIENCE_MS, answer)) return answer;
    } while (await this.answers(PATIENCE_MS));
    return undefined;
  }

  async #refresh(): Promise<void> {
    for (let room = ROOM_BYTES; ; room *= 4) {
      const cmd = Buffer.alloc(this.core.cmdSize);
      // Always all of it: a pool that was on its way in, and did not come, has changed no generation.
      const { errno, cmd: answer, dst } = await this.#ioctl(Ioc.poolConfigs, cmd, room);
      if (errno === Errno.ENOMEM && room < ROOM_BYTES_MAX) continue;
      if (errno !== 0) throw new ErrnoError(errno, 'the pools of an engine');
      this.generation = Buffer.from(answer.buffer, answer.byteOffset).readBigUInt64LE(ZfsCmd.cookie);
      // Asked for by everybody who lists pools: what follows is for what has changed.
      if (Buffer.compare(dst, this.packedConfigs) === 0) return;
      this.packedConfigs = dst;
      this.pools = new Map(decodeNativeNvlist(dst).pairs.map(({ name, value }) => [name, known(value as NvList)]));
      void this.#rememberAll().catch(() => undefined);
      return;
    }
  }

  /** What the engine told before, of volumes for one, was heard. */
  async settle(): Promise<void> {
    await this.core.settle?.();
  }

  /** Of a pool, for the time when the engine cannot be asked. */
  memory(pool: string): { packedConfigs: Uint8Array; packedStats: Uint8Array } & KnownPool {
    return {
      packedConfigs: onlyPair(this.packedConfigs, pool) ?? emptyPacked,
      packedStats: this.#stats.get(pool) ?? emptyPacked,
      ...(this.pools.get(pool) ?? { guid: 0n, devices: [] }),
    };
  }

  /** What the engine told of a pool with all its statistics. */
  remember(pool: string, packedStats: Uint8Array): void {
    if (this.pools.has(pool)) this.#stats.set(pool, packedStats);
  }

  async #rememberAll(): Promise<void> {
    for (const pool of this.#stats.keys()) if (!this.pools.has(pool)) this.#stats.delete(pool);
    for (const pool of this.pools.keys()) {
      const cmd = Buffer.alloc(this.core.cmdSize);
      cmd.write(pool, ZfsCmd.name);
      const { errno, dst } = await this.#ioctl(Ioc.poolStats, cmd, ROOM_BYTES);
      if (errno === 0) this.remember(pool, dst);
    }
  }

  async #ioctl(request: number, cmd: Buffer, dstRoom: number) {
    cmd.writeBigUInt64LE(BigInt(dstRoom), ZfsCmd.dstSize);
    this.#session ??= this.core.open({ process: '00'.repeat(16), fd: -1, pid: process.pid, program: 'zow' });
    const session = await this.#session;
    const parts = { src: none, conf: none, history: none };
    return session.ioctl({ request, cmd, ...parts, dstRoom, historyRoom: 0, streams: noStreams });
  }
}

/** An engine that was asked to end; another is to be asked. */
export class RetiredError extends Error {}

/** An engine was lost while it was asked; the message says of what. */
export class LostError extends Error {}

function pause(ms: number): Promise<undefined> {
  return new Promise((resolve) => setTimeout(resolve, ms, undefined).unref());
}

function known(config: NvList): KnownPool {
  const devices: string[] = [];
  const tree = config.get('vdev_tree');
  if (tree instanceof NvList) collect(tree, devices);
  return { guid: (config.get('pool_guid') as bigint | undefined) ?? 0n, devices };
}

function collect(vdev: NvList, into: string[]): void {
  const path = vdev.get('path');
  if (typeof path === 'string') into.push(path);
  for (const kind of ['children', 'spares', 'l2cache']) {
    const children = vdev.get(kind);
    if (Array.isArray(children)) for (const child of children) if (child instanceof NvList) collect(child, into);
  }
}

/** Whether it settles within `ms`. */
function within(ms: number, promise: Promise<unknown>): Promise<boolean> {
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<boolean>((resolve) => {
    timer = setTimeout(resolve, Math.max(0, ms), false);
  });
  const settled = promise.then(
    () => true,
    () => true,
  );
  return Promise.race([settled, late]).finally(() => clearTimeout(timer));
}
