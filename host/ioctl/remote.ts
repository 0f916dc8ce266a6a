import type { IoctlClient, IoctlCore, IoctlRequest, IoctlResult, IoctlSession } from '../core/dev-zfs.ts';
import { Errno, ErrnoError } from '../errno.ts';
import { ClientLane, dial } from './client-lane.ts';
import { type Hello, type HelloReply, version, versionProbe } from './protocol.ts';

/** Lanes that wait for a next ioctl; more are closed when theirs is over. */
const IDLE_LANES_MAX = 4;

/** `/dev/zfs` of a core in another process, behind an IoctlServer that trusts this one with its clients' names. */
export class RemoteCore implements Omit<IoctlCore, 'inspector'> {
  readonly release: string;
  readonly cmdSize: number;
  readonly hostid: number;
  readonly #path: string;

  private constructor(path: string, greeting: HelloReply) {
    this.#path = path;
    this.release = greeting.release;
    this.cmdSize = greeting.cmdSize;
    this.hostid = greeting.hostid;
  }

  /** Asks the server at `path` what it is. */
  static async connect(path: string): Promise<RemoteCore> {
    const nobody = { version: versionProbe, cmdSize: 0, release: '', process: '00'.repeat(16) };
    const hello = { ...nobody, pid: process.pid, fd: -1, attachMinor: 0, stdio: 0, program: 'zow' };
    using lane = await ClientLane.open(await dial(path), hello);
    return new RemoteCore(path, lane.greeting);
  }

  async open(client: IoctlClient): Promise<IoctlSession> {
    const { release, cmdSize } = this;
    const hello = { version, cmdSize, release, attachMinor: 0, ...client, stdio: client.stdio ?? 0 };
    return new RemoteSession(this.#path, hello, await openLane(this.#path, hello));
  }
}

/** Rejects with what the server says in its refusal. */
async function openLane(path: string, hello: Hello): Promise<ClientLane> {
  const lane = await ClientLane.open(await dial(path), hello);
  const { status, message } = lane.greeting;
  if (status === 0) return lane;
  lane[Symbol.dispose]();
  throw new ErrnoError(status, message);
}

/** One open of the device. Each ioctl under way has a lane of its own; the session ends with the first. */
class RemoteSession implements IoctlSession {
  readonly minor: number;
  readonly #path: string;
  readonly #hello: Hello;
  readonly #first: ClientLane;
  readonly #lanes: Set<ClientLane>;
  readonly #idle: ClientLane[];
  #closed = false;

  constructor(path: string, hello: Hello, first: ClientLane) {
    this.#path = path;
    this.#hello = hello;
    this.#first = first;
    this.minor = first.greeting.minor;
    this.#lanes = new Set([first]);
    this.#idle = [first];
  }

  async ioctl(request: IoctlRequest): Promise<IoctlResult> {
    const lane = await this.#lane();
    try {
      const result = await lane.ioctl(request);
      this.#done(lane);
      return result;
    } catch (error) {
      this.#drop(lane);
      throw error;
    }
  }

  /** The server ends the session by itself: its onexit callbacks run without anybody waiting, as a kernel's do at a close. */
  async close(): Promise<void> {
    this.#closed = true;
    for (const lane of this.#lanes) lane[Symbol.dispose]();
  }

  async #lane(): Promise<ClientLane> {
    if (this.#closed) throw new ErrnoError(Errno.EBADF, 'the session is closed');
    const idle = this.#idle.pop();
    if (idle !== undefined) return idle;
    const lane = await openLane(this.#path, { ...this.#hello, attachMinor: this.minor });
    this.#lanes.add(lane);
    if (this.#closed) {
      this.#drop(lane);
      throw new ErrnoError(Errno.EINTR, 'the session is closed');
    }
    return lane;
  }

  #done(lane: ClientLane): void {
    if (lane === this.#first || this.#idle.length < IDLE_LANES_MAX) this.#idle.push(lane);
    else this.#drop(lane);
  }

  #drop(lane: ClientLane): void {
    this.#lanes.delete(lane);
    lane[Symbol.dispose]();
  }
}
