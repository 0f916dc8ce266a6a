import type { Core, CorePanic, TunableRefusal, TunableSetting } from '../core/api.ts';
import type { IoctlClient, IoctlCore, IoctlRequest, IoctlResult, IoctlSession } from '../core/dev-zfs.ts';
import { currentHostid } from '../core/load.ts';
import { ZfsCmd } from '../core/zfs-cmd.ts';
import { Errno, ErrnoError } from '../errno.ts';
import type { Logger } from '../log.ts';
import { decodeNativeNvlist } from '../nvlist/native.ts';
import { emptyPacked, mergePacked } from '../nvlist/packed.ts';
import { give } from './answers.ts';
import { EventLog } from './events.ts';
import { MergedInspector } from './inspector.ts';
import { Member } from './member.ts';
import { Ioc } from './routes.ts';
import { RoutedSession } from './session.ts';
import { MergedVolumes } from './volumes.ts';

/** What an engine is started with. */
export interface EngineWish {
  readonly memoryBytes: number;
  readonly tunables: readonly TunableSetting[];
}

/** Starts an engine: in this process (core/load.ts), or in one of its own (engine/process.ts). */
export type StartEngine = (wish: EngineWish) => Promise<Core>;

export interface SupervisorOptions {
  readonly start: StartEngine;
  /** Of the engine of a pool that is not named in the configuration, and of one without a pool. */
  readonly memoryBytes: number;
  /** Of the engine of a pool. */
  readonly memoryOf: (pool: string) => number;
  readonly tunables: readonly TunableSetting[];
  readonly log: Logger;
  /** All engines have ended. */
  readonly onClosed?: () => void;
  /** A pool's engine was lost; `again` is not called before this resolves. */
  readonly onLost?: (pools: readonly string[], panic: CorePanic) => void;
}

/** How long an engine without a pool is kept for the next one that needs it. */
const SPARE_MS = 30_000;
/** What an engine takes before it has a pool, and what that needs to be opened. */
const ENGINE_BYTES = 128 * 1024 ** 2;
/** How long who names a lost pool waits for it to come back. */
const REVIVAL_MS = 15_000;
const none = new Uint8Array(0);

/**
 * The cores of a host as one: one engine for each imported pool, and one without a pool while there is work for it.
 * What a client of /dev/zfs asks goes to the engine of the pool that it names (routes.ts); an engine that is lost takes
 * its pool with it, and nothing else.
 */
export class Supervisor implements Core {
  readonly release: string;
  readonly cmdSize: number;
  readonly #hostidAtStart: number;
  readonly inspector: MergedInspector;
  readonly volumes: MergedVolumes;
  readonly refusedTunables: readonly TunableRefusal[];
  /** Never: the supervisor has no core of its own. */
  readonly lost: Promise<CorePanic> = new Promise(() => undefined);
  readonly events = new EventLog();
  readonly #options: SupervisorOptions;
  readonly #members = new Set<Member>();
  /** By pool. */
  readonly #homes = new Map<string, Member>();
  /** Pools that come: who comes for the same name waits. */
  readonly #coming = new Map<string, Promise<unknown>>();
  /** Pools whose engine was lost, with the last that is known of them. */
  readonly #lostPools = new Map<string, LostPool>();
  /** By pool: how it was imported. */
  readonly #manners = new Map<string, ImportManner>();
  /** Tunables that were set while the host ran. */
  readonly #settings = new Map<string, string>();
  /** Engines that were lost, so far. */
  losses = 0;
  readonly sessions = new Set<RoutedSession>();
  readonly #reviving = new Map<string, Promise<void>>();
  /** The engine without a pool, for the next one that needs it. */
  #spare: Member | undefined;
  /** One on its way. */
  #spareStart: Promise<Member> | undefined;
  #spareTimer: NodeJS.Timeout | undefined;
  #generation = 0n;
  #lastState: string | undefined;
  #lastMinor = 0;
  #closing = false;

  private constructor(options: SupervisorOptions, first: Member) {
    this.#options = options;
    const { core } = first;
    this.release = core.release;
    this.cmdSize = core.cmdSize;
    this.#hostidAtStart = core.hostid;
    this.refusedTunables = core.refusedTunables;
    this.volumes = new MergedVolumes(core.volumes.buffers, {
      home: (pool) => this.#homes.get(pool)?.core.volumes,
      awaits: (pool) => this.#lostPools.has(pool) || this.#coming.has(pool),
    });
    this.inspector = new MergedInspector(
      (path) => this.#cores(path),
      (name, value) => this.#setTunable(name, value),
    );
  }

  /** Starts with an engine that has no pool yet. */
  static async start(options: SupervisorOptions): Promise<Supervisor> {
    const { start, memoryBytes, tunables } = options;
    const first = new Member(0, await start({ memoryBytes, tunables }), memoryBytes);
    const supervisor = new Supervisor(options, first);
    await supervisor.#add(first);
    supervisor.#spare = first;
    return supervisor;
  }

  get hostid(): number {
    return currentHostid(this.#hostidAtStart);
  }

  open(client: IoctlClient): Promise<IoctlSession> {
    return this.#open(client, false);
  }

  /** As the host's own programs see it: pools whose engine was lost are not there, and can be imported. */
  get own(): IoctlCore {
    const { release, cmdSize, inspector } = this;
    const hostid = () => this.hostid;
    return {
      ...{ release, cmdSize, inspector },
      get hostid() {
        return hostid();
      },
      open: (client) => this.#open(client, true),
    };
  }

  async #open(client: IoctlClient, isOwn: boolean): Promise<IoctlSession> {
    if (this.#closing) throw new ErrnoError(Errno.ESHUTDOWN, 'the host is shutting down');
    const session = new RoutedSession(this, ++this.#lastMinor, client, isOwn);
    this.sessions.add(session);
    return session;
  }

  /** Who names the pool waits for `work`, a while: it brings back a lost one. */
  revive(pool: string, work: Promise<unknown>): void {
    const settled = work.then(
      () => undefined,
      () => undefined,
    );
    this.#reviving.set(pool, settled);
    void settled.then(() => {
      if (this.#reviving.get(pool) === settled) this.#reviving.delete(pool);
    });
  }

  /** Resolves when it is known whether a lost pool comes back, or after a while. */
  async revived(pool: string): Promise<void> {
    await Promise.race([this.#reviving.get(pool), pause(REVIVAL_MS)]);
  }

  /** The engines now: of each the pools it has, and what is known of it. */
  get members(): readonly Member[] {
    return [...this.#members].sort((a, b) => a.index - b.index);
  }

  get lostPools(): ReadonlyMap<string, LostPool> {
    return this.#lostPools;
  }

  /** Those that answer now. */
  async answering(): Promise<readonly Member[]> {
    const members = this.members;
    const answers = await Promise.all(members.map((member) => member.answers()));
    return members.filter((_, i) => answers[i]);
  }

  /** The engine of a pool. */
  home(pool: string): Member | undefined {
    return this.#homes.get(pool);
  }

  /** One without the pools that are there: what it answers about a name is what a kernel would that has no such pool. */
  async stranger(): Promise<Member> {
    await this.#spareStart?.catch(() => undefined);
    return this.#spare ?? (await this.answering())[0] ?? this.withoutPool();
  }

  /** One that has no pool. */
  async withoutPool(): Promise<Member> {
    let member = this.#spare;
    if (member === undefined) {
      this.#spareStart ??= this.#startMember(this.#options.memoryBytes).finally(() => {
        this.#spareStart = undefined;
      });
      member = await this.#spareStart;
      this.#becomeSpare(member);
    }
    this.#retireSpareLater();
    // Another may have become it meanwhile, and then this one has ended.
    return this.#spare ?? member;
  }

  /**
   * Runs `work` with the engine that has the pool, or, where nobody has it, with one that is to have it, and finds out
   * afterwards whether it does.
   */
  async settleIn(
    pool: string,
    request: IoctlRequest,
    work: (member: Member) => Promise<IoctlResult>,
  ): Promise<IoctlResult> {
    for (let other = this.#coming.get(pool); other !== undefined; other = this.#coming.get(pool)) await other;
    const home = this.#homes.get(pool);
    if (home !== undefined) return work(home);
    const arrival = this.#settle(pool, request, work);
    const settled = arrival.then(
      () => undefined,
      () => undefined,
    );
    this.#coming.set(pool, settled);
    void settled.then(() => this.#coming.delete(pool));
    return arrival;
  }

  async #settle(
    pool: string,
    request: IoctlRequest,
    work: (member: Member) => Promise<IoctlResult>,
  ): Promise<IoctlResult> {
    const member = await this.#takeWithoutPool(this.#options.memoryOf(pool));
    member.isTaken = true;
    try {
      const result = await work(member);
      if (result.errno === 0) this.#manners.set(pool, mannerOf(request));
      return result;
    } finally {
      await this.refresh(member);
      member.isTaken = false;
      if (member.pools.size === 0) this.#becomeSpare(member);
      else await member.settle();
    }
  }

  /** After what may have changed which pools a member has. */
  async refresh(member: Member): Promise<void> {
    if (member.isLost) return;
    await member.refresh().catch(() => undefined);
    for (const [pool, home] of this.#homes) if (home === member && !member.pools.has(pool)) this.#homes.delete(pool);
    for (const pool of member.pools.keys()) {
      this.#homes.set(pool, member);
      this.#lostPools.delete(pool);
    }
  }

  /** After a pool left: what clients the engine still has go, and without a pool it waits a while for another. */
  retire(member: Member): void {
    if (member.pools.size > 0 || member.isLost || member.isTaken) return;
    void member.core.dismissClients?.().catch(() => undefined);
    this.#becomeSpare(member);
  }

  /** Whether a pool of that guid is imported, in any engine. */
  hasGuid(guid: bigint): boolean {
    for (const member of this.#members) for (const known of member.pools.values()) if (known.guid === guid) return true;
    return false;
  }

  /** ZFS_IOC_POOL_CONFIGS: of all engines together. One that does not answer is in the list as it was. */
  async configs(request: IoctlRequest, withLost: boolean): Promise<IoctlResult> {
    const cmd = Buffer.from(request.cmd);
    await Promise.all(this.members.map((member) => member.refreshSoon()));
    const lists = this.members.filter(({ pools }) => pools.size > 0).map((member) => member.packedConfigs);
    // One that is on its way back is in the list of its new engine.
    const isThere = (pool: string): boolean => this.members.some(({ pools }) => pools.has(pool));
    for (const [pool, { packedConfigs }] of withLost ? this.#lostPools : []) {
      if (!isThere(pool)) lists.push(packedConfigs);
    }
    const merged = mergePacked(lists);
    // As a kernel counts: not what else of a configuration is another one. Programs walk through a list that they read anew then.
    const withPool = this.members.filter(({ pools }) => pools.size > 0);
    const state = [
      ...withPool.map(({ index, startedAt, generation }) => `${index} ${startedAt} ${generation}`),
      ...this.#lostPools.keys(),
    ].join();
    if (state !== this.#lastState) this.#generation++;
    this.#lastState = state;
    if (cmd.readBigUInt64LE(ZfsCmd.cookie) === this.#generation) {
      return { errno: Errno.EEXIST, cmd, dst: none, history: none };
    }
    cmd.writeBigUInt64LE(this.#generation, ZfsCmd.cookie);
    return give(cmd, request, merged);
  }

  /** ZFS_IOC_POOL_STATS of a pool whose engine is lost or silent: what was known, and that it cannot be reached. */
  lastStats(request: IoctlRequest, { packedStats }: Pick<LostPool, 'packedStats'>): IoctlResult {
    const cmd = Buffer.from(request.cmd);
    cmd.writeBigUInt64LE(BigInt(Errno.EIO), ZfsCmd.cookie);
    return give(cmd, request, packedStats);
  }

  /** ZFS_IOC_POOL_GET_PROPS of such a pool: none are known, and its programs show what the statistics have. */
  noProps(request: IoctlRequest): IoctlResult {
    return give(Buffer.from(request.cmd), request, emptyPacked);
  }

  async close(): Promise<void> {
    this.#closing = true;
    clearTimeout(this.#spareTimer);
    for (const session of [...this.sessions]) await session.close();
    await Promise.all(this.members.map((member) => member.core.close()));
    this.#members.clear();
    this.#options.onClosed?.();
  }

  /** Who is asked for a kstat, or for their names: the engine of its pool; of what each engine has, those that answer. */
  async #cores(path: string | undefined): Promise<readonly Core[]> {
    const [, pool = '', ...rest] = path?.split('/') ?? [];
    const home = rest.length === 0 ? undefined : this.#homes.get(pool);
    if (home !== undefined) return [home.core];
    const members = await this.answering();
    const withPool = members.filter(({ pools }) => pools.size > 0);
    return (withPool.length > 0 ? withPool : members).map(({ core }) => core);
  }

  async #setTunable(name: string, value: string): Promise<void> {
    // One refuses what all refuse; one that is silent has it when it goes on.
    const results = await Promise.allSettled(
      this.members.map((member) => member.ifItAnswers(member.core.inspector.setTunable(name, value))),
    );
    const failed = results.find((result) => result.status === 'rejected');
    if (failed !== undefined) throw failed.reason;
    this.#settings.set(name, value);
    if (name === 'zfs_zevent_len_max') this.events.length = Number(value);
  }

  async #takeWithoutPool(memoryBytes: number): Promise<Member> {
    await this.#spareStart?.catch(() => undefined);
    // Without a wait in between: two that come at once must not take the same one.
    const spare = this.#spare;
    if (spare === undefined || spare.memoryBytes !== memoryBytes) return this.#startMember(memoryBytes);
    this.#spare = undefined;
    clearTimeout(this.#spareTimer);
    return spare;
  }

  async #startMember(memoryBytes: number): Promise<Member> {
    const taken = new Set(this.members.map(({ index }) => index));
    let index = 0;
    while (taken.has(index) || this.#starting.has(index)) index++;
    this.#starting.add(index);
    try {
      checkAvailable(memoryBytes);
      const core = await this.#options.start({ memoryBytes, tunables: this.#options.tunables });
      if (this.#closing) {
        await core.close();
        throw new ErrnoError(Errno.ESHUTDOWN, 'the host is shutting down');
      }
      const member = new Member(index, core, memoryBytes);
      for (const [name, value] of this.#settings) await core.inspector.setTunable(name, value).catch(() => undefined);
      await this.#add(member);
      return member;
    } finally {
      this.#starting.delete(index);
    }
  }

  readonly #starting = new Set<number>();

  async #add(member: Member): Promise<void> {
    this.#members.add(member);
    this.volumes.add(member.core.volumes);
    void member.core.lost.then((panic) => this.#lose(member, panic));
    await this.events.follow(member.core, () => {
      // One that comes is known when it is there, with its volumes.
      if (member.pools.size > 0) void member.refresh().catch(() => undefined);
    });
  }

  #lose(member: Member, panic: CorePanic): void {
    member.isLost = true;
    if (!this.#closing) this.losses++;
    this.#members.delete(member);
    this.volumes.remove(member.core.volumes);
    for (const session of this.sessions) session.forget(member);
    if (this.#spare === member) this.#spare = undefined;
    const pools = [...member.pools.keys()];
    for (const pool of pools) {
      this.#homes.delete(pool);
      const manner = this.#manners.get(pool) ?? plainManner;
      if (!this.#closing) this.#lostPools.set(pool, { panic, manner, ...member.memory(pool) });
    }
    void member.core.close().catch(() => undefined);
    if (!this.#closing) this.#options.onLost?.(pools, panic);
  }

  /** Also of one that is the spare already, or has ended: who asks for what is not there gets its answer from such. */
  #becomeSpare(member: Member): void {
    if (this.#closing || member === this.#spare || !this.#members.has(member)) return;
    if (this.#spare === undefined && member.memoryBytes === this.#options.memoryBytes) {
      this.#spare = member;
      this.#retireSpareLater();
    } else {
      this.#end(member);
    }
  }

  /** With no pool at all one engine stays: it answers for all. */
  #retireSpareLater(): void {
    clearTimeout(this.#spareTimer);
    this.#spareTimer = setTimeout(() => {
      if (this.#homes.size === 0) return;
      const spare = this.#spare;
      this.#spare = undefined;
      if (spare !== undefined) this.#end(spare);
    }, SPARE_MS).unref();
  }

  #end(member: Member): void {
    if (!this.#members.delete(member)) return;
    this.volumes.remove(member.core.volumes);
    const ended = member.retire().then(() => {
      for (const session of this.sessions) session.forget(member);
      return member.core.close();
    });
    ended.catch((error: unknown) => this.#options.log.warn({ err: error }, 'an engine did not end'));
  }
}

/** What of an import is not in the pool itself. */
export interface ImportManner {
  readonly isReadOnly: boolean;
  readonly altroot: string | undefined;
  readonly isTemporaryName: boolean;
}

const plainManner: ImportManner = { isReadOnly: false, altroot: undefined, isTemporaryName: false };
/** ZFS_IMPORT_TEMP_NAME (sys/fs/zfs.h). */
const IMPORT_TEMP_NAME = 0x10n;

function mannerOf(request: IoctlRequest): ImportManner {
  try {
    const cmd = Buffer.from(request.cmd.buffer, request.cmd.byteOffset, request.cmd.byteLength);
    const props = request.src.length === 0 ? undefined : decodeNativeNvlist(request.src);
    const altroot = props?.get('altroot');
    return {
      isReadOnly: props?.get('readonly') === 1n,
      altroot: typeof altroot === 'string' ? altroot : undefined,
      isTemporaryName:
        props?.get('tname') !== undefined ||
        (request.request === Ioc.poolImport && (cmd.readBigUInt64LE(ZfsCmd.cookie) & IMPORT_TEMP_NAME) !== 0n),
    };
  } catch {
    return plainManner; // the engine refuses it
  }
}

/** What is known of a pool without its engine. */
export interface LostPool {
  readonly panic: CorePanic;
  readonly guid: bigint;
  readonly devices: readonly string[];
  readonly manner: ImportManner;
  /** As ZFS_IOC_POOL_CONFIGS and ZFS_IOC_POOL_STATS answered for it alone. */
  readonly packedConfigs: Uint8Array;
  readonly packedStats: Uint8Array;
}

/** The rest of it is taken when it is needed. @throws ErrnoError where the machine, or the control group, has no room for an engine. */
function checkAvailable(memoryBytes: number): void {
  const available = process.availableMemory();
  if (available >= ENGINE_BYTES) return;
  const [has, takes, upTo] = [available, ENGINE_BYTES, memoryBytes].map((bytes) => `${Math.round(bytes / 1024 ** 2)}M`);
  throw new ErrnoError(
    Errno.ENOMEM,
    `there is no memory for the engine of another pool: it takes ${takes} at once and up to ${upTo} (memory) beside, and ${has} are left`,
  );
}

function pause(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms).unref());
}
