import type {
  Inspector,
  IoctlClient,
  IoctlCore,
  IoctlRequest,
  IoctlResult,
  IoctlSession,
} from '../../../host/core/dev-zfs.ts';
import { Errno, ErrnoError, errnoOf } from '../../../host/errno.ts';

/** What an entry of the table gets: the request, and a promise that is rejected when the session is interrupted. */
export interface FakeCall extends IoctlRequest {
  readonly interrupted: Promise<never>;
  readonly session: FakeSession;
}

/** Output of an ioctl; what is left out is empty, or as it came. */
export type FakeHandler = (call: FakeCall) => Promise<Partial<IoctlResult> | undefined>;

const empty = new Uint8Array(0);

/** A packed nvlist with nothing in it: native encoding, version 0, unique names, the end. */
const emptyNvlist = Buffer.from([0, 1, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0]);

/** kstats that are their paths, and a tunable `a` that takes everything but `bad`. */
export class FakeInspector implements Inspector {
  /** What was cleared and set. */
  readonly done: string[] = [];

  async kstatPaths(): Promise<readonly string[]> {
    return ['zfs/arcstats', 'zfs/tank/io', 'zfs/tank/txgs'];
  }

  async kstat(path: string): Promise<Uint8Array> {
    return Buffer.from(path);
  }

  async clearKstat(path: string): Promise<void> {
    if (path === 'zfs/arcstats') throw new ErrnoError(Errno.EACCES, path);
    this.done.push(`clear ${path}`);
  }

  async tunables(): Promise<Uint8Array> {
    return emptyNvlist;
  }

  async setTunable(name: string, value: string): Promise<void> {
    if (name !== 'a') throw new ErrnoError(Errno.ENOENT, name);
    this.done.push(`${name}=${value}`);
  }
}

/** A core that is a table from request numbers to functions; other numbers are ENOTTY. */
export class FakeCore implements IoctlCore {
  readonly release: string;
  readonly cmdSize: number;
  readonly hostid = 0x5a4f57;
  readonly inspector = new FakeInspector();
  readonly table: Map<number, FakeHandler>;
  readonly open_ = new Set<FakeSession>();
  opened = 0;
  closed = 0;
  /** Ioctls that ended. */
  answered = 0;

  constructor(
    table: Record<number, FakeHandler>,
    { release = '2.4.3', cmdSize = 13744 }: { release?: string; cmdSize?: number } = {},
  ) {
    this.table = new Map(Object.entries(table).map(([request, handler]) => [Number(request), handler]));
    this.release = release;
    this.cmdSize = cmdSize;
  }

  async open(client: IoctlClient): Promise<FakeSession> {
    this.opened++;
    const session = new FakeSession(this, this.opened, client);
    this.open_.add(session);
    return session;
  }
}

export class FakeSession implements IoctlSession {
  readonly minor: number;
  readonly client: IoctlClient;
  readonly #core: FakeCore;
  readonly #running = new Set<Promise<unknown>>();
  readonly #interrupt = Promise.withResolvers<never>();
  running = 0;

  constructor(core: FakeCore, minor: number, client: IoctlClient) {
    this.#core = core;
    this.minor = minor;
    this.client = client;
    this.#interrupt.promise.catch(() => undefined);
  }

  ioctl(request: IoctlRequest): Promise<IoctlResult> {
    const done = this.#run(request);
    this.#running.add(done);
    done.then(
      () => this.#running.delete(done),
      () => this.#running.delete(done),
    );
    return done;
  }

  async #run(request: IoctlRequest): Promise<IoctlResult> {
    const handler = this.#core.table.get(request.request);
    const base = { errno: 0, cmd: request.cmd, dst: empty, history: empty };
    if (handler === undefined) return { ...base, errno: Errno.ENOTTY };
    this.running++;
    try {
      return { ...base, ...(await handler({ ...request, interrupted: this.#interrupt.promise, session: this })) };
    } catch (error) {
      if (!(error instanceof ErrnoError)) throw error;
      return { ...base, errno: errnoOf(error) };
    } finally {
      this.running--;
      this.#core.answered++;
    }
  }

  async close(): Promise<void> {
    this.#interrupt.reject(new ErrnoError(Errno.EINTR));
    await Promise.allSettled(this.#running);
    this.#core.open_.delete(this);
    this.#core.closed++;
  }
}
