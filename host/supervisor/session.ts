import { setImmediate as immediately } from 'node:timers/promises';
import type { IoctlClient, IoctlRequest, IoctlResult, IoctlSession } from '../core/dev-zfs.ts';
import { ZfsCmd } from '../core/zfs-cmd.ts';
import { Errno, ErrnoError } from '../errno.ts';
import { Lifetime } from '../lifetime.ts';
import { decodeNativeNvlist } from '../nvlist/native.ts';
import { copyOf, give, refuse } from './answers.ts';
import type { EventCursor } from './events.ts';
import { LostError, type Member, RetiredError } from './member.ts';
import { canBeGivenUp, changesDevices, Ioc, isReader, poolOf, routeOf } from './routes.ts';
import type { Supervisor } from './supervisor.ts';

/** Injected faults are numbered by their engine; this many to each. */
const FAULTS_PER_ENGINE = 1n << 20n;

/**
 * One open of /dev/zfs over all engines: in each that it uses it is an open of its own, of the same process and
 * descriptor, so that what an engine looks up by them it finds.
 */
export class RoutedSession implements IoctlSession {
  readonly minor: number;
  readonly client: IoctlClient;
  readonly cursor: EventCursor;
  readonly #supervisor: Supervisor;
  readonly #isOwn: boolean;
  readonly #opens = new Map<Member, Promise<IoctlSession>>();
  readonly #life = new Lifetime();
  /** The engine in which something was changed last. */
  #changed: Member | undefined;
  #closed: Promise<void> | undefined;

  /** `isOwn`: of a program of the host's own, for which lost pools are not there. */
  constructor(supervisor: Supervisor, minor: number, client: IoctlClient, isOwn: boolean) {
    this.#supervisor = supervisor;
    this.#isOwn = isOwn;
    this.minor = minor;
    this.client = client;
    this.cursor = supervisor.events.newCursor();
  }

  ioctl(request: IoctlRequest): Promise<IoctlResult> {
    if (this.#closed !== undefined) return Promise.reject(new ErrnoError(Errno.EBADF, 'the session is closed'));
    return this.#life.unlessOver(this.#answer(request));
  }

  close(): Promise<void> {
    this.#closed ??= this.#close();
    return this.#closed;
  }

  /** The engine is gone, or has no pool any more. */
  forget(member: Member): void {
    const open = this.#opens.get(member);
    this.#opens.delete(member);
    if (this.#changed === member) this.#changed = undefined;
    void open?.then((session) => session.close()).catch(() => undefined);
  }

  async #close(): Promise<void> {
    this.#supervisor.sessions.delete(this);
    this.#life.end(new ErrnoError(Errno.EINTR, 'the session is closed'));
    const opens = [...this.#opens.values()];
    this.#opens.clear();
    await Promise.allSettled(opens.map(async (open) => (await open).close()));
  }

  async #answer(request: IoctlRequest): Promise<IoctlResult> {
    for (;;) {
      try {
        return await this.#route(request);
      } catch (error) {
        if (error instanceof LostError) throw new LostPoolError(poolOf(request.cmd), error.message);
        if (!(error instanceof RetiredError)) throw error;
        // Whatever the next one is: others have their turn.
        await immediately();
      }
    }
  }

  async #route(request: IoctlRequest): Promise<IoctlResult> {
    const supervisor = this.#supervisor;
    const pool = poolOf(request.cmd);
    switch (routeOf(request.request)) {
      case 'new':
        return this.#arrive(arrivingOf(pool, request), request);
      case 'leave':
        return this.#leave(pool, request);
      case 'none':
        if (supervisor.hasGuid(guidOf(request))) return refuse(request, Errno.EEXIST);
        return this.#forward(await supervisor.withoutPool(), request);
      case 'configs':
        return supervisor.configs(request, !this.#isOwn);
      case 'stats':
        return this.#stats(pool, request);
      case 'props':
        return this.#props(pool, request);
      case 'history':
        return this.#history(request);
      case 'inject':
        return this.#inject(await this.#home(pool), request);
      case 'injected-next':
        return this.#injectedNext(request);
      case 'injected-clear':
        return this.#injectedClear(request);
      case 'events-next':
        return this.#withCursor(request, (cursor) => supervisor.events.next(request, cursor, this.#life));
      case 'events-clear':
        return supervisor.events.clear(request);
      case 'events-seek':
        return this.#withCursor(request, (cursor) => supervisor.events.seek(request, cursor));
      case 'pool':
        return this.#inPool(pool, request);
    }
  }

  async #inPool(pool: string, request: IoctlRequest): Promise<IoctlResult> {
    const member = await this.#home(pool);
    const answer = this.#forward(member, request);
    // What reads goes on to the next pool.
    if (canBeGivenUp(request.request)) {
      return (await member.ifItAnswers(answer).catch(unlessLost)) ?? refuse(request, Errno.EIO);
    }
    const result = await answer;
    if (isReader(request.request)) return result;
    this.#changed = member;
    // What is known of its devices is what it is looked for on when the engine is lost.
    if (changesDevices(request.request)) await member.refreshSoon();
    await member.settle().catch(() => undefined);
    return result;
  }

  /** The pool's engine. Rejects when it was lost; where no such pool is, one that says so. */
  async #home(pool: string): Promise<Member> {
    const home = this.#supervisor.home(pool);
    if (home !== undefined) return home;
    const { lostPools } = this.#supervisor;
    if (lostPools.has(pool) && !this.#isOwn) {
      await this.#supervisor.revived(pool);
      const back = this.#supervisor.home(pool);
      if (back !== undefined) return back;
      const lost = lostPools.get(pool);
      if (lost !== undefined) throw new LostPoolError(pool, lost.panic.message);
    }
    return this.#supervisor.stranger();
  }

  async #arrive(pool: string, request: IoctlRequest): Promise<IoctlResult> {
    const isImport = request.request === Ioc.poolImport;
    // With the configuration, as spa_import() would: who imports reads it in any case.
    if (isImport && this.#supervisor.hasGuid(guidOf(request))) {
      return { ...give(copyOf(request.cmd), request, copyOf(request.conf)), errno: Errno.EEXIST };
    }
    return this.#supervisor.settleIn(pool, request, (member) => {
      this.#changed = member;
      return this.#forward(member, request);
    });
  }

  async #leave(pool: string, request: IoctlRequest): Promise<IoctlResult> {
    const member = await this.#home(pool);
    const result = await this.#forward(member, request);
    this.#changed = member;
    await this.#supervisor.refresh(member);
    await member.settle().catch(() => undefined);
    this.#supervisor.retire(member);
    return result;
  }

  async #stats(pool: string, request: IoctlRequest): Promise<IoctlResult> {
    const lost = this.#supervisor.lostPools.get(pool);
    if (lost !== undefined && !this.#isOwn) return this.#supervisor.lastStats(request, lost);
    const member = await this.#home(pool);
    const result = await member.ifItAnswers(this.#forward(member, request)).catch(unlessLost);
    if (result === undefined) return this.#supervisor.lastStats(request, member.memory(pool));
    if (result.errno === 0) member.remember(pool, result.dst);
    return result;
  }

  async #props(pool: string, request: IoctlRequest): Promise<IoctlResult> {
    if (this.#supervisor.lostPools.has(pool) && !this.#isOwn) return this.#supervisor.noProps(request);
    const member = await this.#home(pool);
    const result = await member.ifItAnswers(this.#forward(member, request)).catch(unlessLost);
    return result ?? this.#supervisor.noProps(request);
  }

  /** A line about what its process has changed; there is none for who has changed nothing, as in a kernel. */
  async #history(request: IoctlRequest): Promise<IoctlResult> {
    const changed = this.#lastChanged();
    return changed === undefined ? refuse(request, Errno.EINVAL) : this.#forward(changed, request);
  }

  async #inject(member: Member, request: IoctlRequest): Promise<IoctlResult> {
    const result = await this.#forward(member, request);
    const cmd = copyOf(result.cmd);
    if (result.errno === 0)
      cmd.writeBigUInt64LE(BigInt(member.index) * FAULTS_PER_ENGINE + guidOfCmd(cmd), ZfsCmd.guid);
    return { ...result, cmd };
  }

  /** The fault after that of this number: of its engine, else of those that follow. */
  async #injectedNext(request: IoctlRequest): Promise<IoctlResult> {
    const after = guidOfCmd(request.cmd);
    const from = Number(after / FAULTS_PER_ENGINE);
    for (const member of await this.#supervisor.answering()) {
      if (member.index < from) continue;
      const cmd = copyOf(request.cmd);
      cmd.writeBigUInt64LE(member.index === from ? after % FAULTS_PER_ENGINE : 0n, ZfsCmd.guid);
      const result = await this.#forward(member, { ...request, cmd });
      if (result.errno === Errno.ENOENT) continue;
      const answer = copyOf(result.cmd);
      answer.writeBigUInt64LE(BigInt(member.index) * FAULTS_PER_ENGINE + guidOfCmd(answer), ZfsCmd.guid);
      return { ...result, cmd: answer };
    }
    return refuse(request, Errno.ENOENT);
  }

  async #injectedClear(request: IoctlRequest): Promise<IoctlResult> {
    const number = guidOfCmd(request.cmd);
    const member = this.#supervisor.members.find(({ index }) => index === Number(number / FAULTS_PER_ENGINE));
    if (member === undefined) return refuse(request, Errno.ENOENT);
    const cmd = copyOf(request.cmd);
    cmd.writeBigUInt64LE(number % FAULTS_PER_ENGINE, ZfsCmd.guid);
    return this.#forward(member, { ...request, cmd });
  }

  /** The cursor is that of the descriptor in zc_cleanup_fd, an open of the same process. */
  async #withCursor(
    request: IoctlRequest,
    work: (cursor: EventCursor) => IoctlResult | Promise<IoctlResult>,
  ): Promise<IoctlResult> {
    const fd = copyOf(request.cmd).readInt32LE(ZfsCmd.cleanupFd);
    const open = this.#ofProcess().find(({ client }) => client.fd === fd);
    return open === undefined ? refuse(request, Errno.EBADF) : work(open.cursor);
  }

  #ofProcess(): RoutedSession[] {
    return [...this.#supervisor.sessions].filter(({ client }) => client.process === this.client.process);
  }

  #lastChanged(): Member | undefined {
    for (const session of [this, ...this.#ofProcess()]) if (session.#changed !== undefined) return session.#changed;
    return undefined;
  }

  #forward(member: Member, request: IoctlRequest): Promise<IoctlResult> {
    return member.serve(async () => {
      // What the request names by descriptor is to be found there, too.
      await Promise.all(this.#ofProcess().map((session) => session.#openIn(member)));
      const open = await this.#openIn(member);
      return open.ioctl(request);
    });
  }

  #openIn(member: Member): Promise<IoctlSession> {
    // Of a client that has gone while its request waited for an engine: nobody would close it there.
    if (this.#closed !== undefined) return Promise.reject(new ErrnoError(Errno.EINTR, 'the session is closed'));
    let open = this.#opens.get(member);
    if (open === undefined) {
      open = member.core.open(this.client);
      this.#opens.set(member, open);
      open.catch(() => this.#opens.delete(member));
    }
    return open;
  }
}

/** The pool's engine was lost, and is not back yet. */
class LostPoolError extends ErrnoError {
  constructor(pool: string, reason: string) {
    super(Errno.EIO);
    const whose = pool === '' ? 'an engine' : `pool '${pool}': its engine`;
    this.message = `${whose} ended and is not back yet: ${reason}`;
  }
}

/** The name under which a pool comes: `zpool create -t` has another than that in zc_name. */
function arrivingOf(pool: string, request: IoctlRequest): string {
  if (request.request !== Ioc.poolCreate || request.src.length === 0) return pool;
  try {
    const temporary = decodeNativeNvlist(request.src).get('tname');
    return typeof temporary === 'string' ? temporary : pool;
  } catch {
    // Its engine refuses it.
    return pool;
  }
}

/** Of an engine that was lost while it was asked: nothing is known. */
function unlessLost(error: unknown): undefined {
  if (!(error instanceof LostError)) throw error;
}

function guidOf(request: IoctlRequest): bigint {
  return guidOfCmd(request.cmd);
}

function guidOfCmd(cmd: Uint8Array): bigint {
  return copyless(cmd).readBigUInt64LE(ZfsCmd.guid);
}

function copyless(bytes: Uint8Array): Buffer {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}
