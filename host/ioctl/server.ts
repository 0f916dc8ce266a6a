import { chmodSync, lstatSync, unlinkSync } from 'node:fs';
import { createServer, type Server, type Socket } from 'node:net';
import { dirname } from 'node:path';
import type { IoctlCore } from '../core/dev-zfs.ts';
import { Errno } from '../errno.ts';
import { makeFolders } from '../folder.ts';
import { log } from '../log.ts';
import { HelloRefused, Lane, type LaneOwner } from './lane.ts';
import { type Hello, type HelloReply, limits, version, versionProbe } from './protocol.ts';
import { Session } from './session.ts';
import { checkSocketPath, publishSocket, SocketBusyError, temporaryBeside } from './socket-path.ts';

export interface IoctlServerOptions {
  /** Sockets at a time, in any state. */
  readonly connectionsMax?: number;
  /** Concurrent ioctls on one descriptor. */
  readonly lanesPerSessionMax?: number;
  /** Request buffers of all clients together, but for small requests. */
  readonly bufferBytesMax?: number;
  /** A process whose word is taken for who the client is: the supervisor, of an engine's socket. */
  readonly trustedPid?: number | undefined;
  /** A descriptor of a socket that already listens at the path: somebody else's, who removes it. */
  readonly fd?: number | undefined;
  /** For nobody but the host: who reads its log rarely wants to know. */
  readonly isPrivate?: boolean;
}

/** Connections the kernel holds until they are accepted. */
const BACKLOG = 511;

const defaults = {
  connectionsMax: 4096,
  lanesPerSessionMax: 64,
  bufferBytesMax: 512 * 1024 * 1024,
  trustedPid: undefined,
  fd: undefined,
  isPrivate: false,
} as const;

/**
 * `/dev/zfs` on a unix socket: accepts connections, groups them into sessions, and hands their ioctls to the core.
 * docs/protocol.md describes what goes over the socket.
 */
export class IoctlServer implements LaneOwner {
  readonly path: string;
  readonly #core: IoctlCore;
  readonly #options: Required<IoctlServerOptions>;
  readonly #server: Server;
  readonly #lanes = new Set<Lane>();
  /** By minor; a session leaves when it begins to end. */
  readonly #sessions = new Map<number, Session>();
  readonly #ofLane = new Map<Lane, Session>();
  /** Opens and ends under way in the core. */
  readonly #unsettled = new Set<Promise<undefined>>();
  #bufferBytes = 0;
  #inode = 0;
  #closing: Promise<void> | undefined;

  private constructor(core: IoctlCore, path: string, options: IoctlServerOptions) {
    this.#core = core;
    this.path = path;
    this.#options = { ...defaults, ...options };
    this.#server = createServer({ pauseOnConnect: true }, (socket) => this.#accept(socket));
  }

  /**
   * Listens on `path`, mode 0600; a missing directory is made with 0700, a socket nobody listens on is replaced.
   * @throws SocketBusyError when somebody serves it already, with the pid
   */
  static async listen(core: IoctlCore, path: string, options: IoctlServerOptions = {}): Promise<IoctlServer> {
    const server = new IoctlServer(core, path, options);
    await server.#listen();
    return server;
  }

  get sessions(): number {
    return this.#sessions.size;
  }

  get connections(): number {
    return this.#lanes.size;
  }

  get trustedPid(): number | undefined {
    return this.#options.trustedPid;
  }

  get cmdSize(): number {
    return this.#core.cmdSize;
  }

  /**
   * Stops: no new connections, the clients are told `reason`, running ioctls are interrupted, onexit callbacks run.
   * Resolves when every session has ended.
   */
  close(reason: string): Promise<void> {
    this.#closing ??= this.#close(Errno.ESHUTDOWN, reason);
    return this.#closing;
  }

  /** The core is gone: tells every client why, at once, and waits for nothing. */
  abandon(reason: string): void {
    void this.#stop(Errno.EIO, reason);
  }

  async #close(errno: number, reason: string): Promise<void> {
    const stopped = this.#stop(errno, reason);
    while (this.#unsettled.size > 0) await Promise.all(this.#unsettled);
    await stopped;
  }

  #stop(errno: number, reason: string): Promise<void> {
    const stopped = new Promise<void>((resolve) => {
      this.#server.close(() => resolve());
    });
    this.#unlink();
    for (const lane of [...this.#lanes]) lane.fail(errno, reason);
    return stopped;
  }

  async #listen(): Promise<void> {
    checkSocketPath(this.path);
    makeFolders(dirname(this.path), 0o700);
    const server = this.#server;
    const { fd } = this.#options;
    const listening = new Promise<void>((resolve, reject) => {
      server.once('error', reject);
      server.once('listening', resolve);
    });
    if (fd === undefined) await this.#bind(listening);
    else {
      server.listen({ fd, backlog: BACKLOG });
      await listening;
    }
    server.on('error', (error) => log.error({ err: error }, 'ioctl server'));
    log.info({ socket: this.path, ...(this.#options.isPrivate && { detail: true }) }, 'ioctl server listens');
  }

  async #bind(listening: Promise<void>): Promise<void> {
    const server = this.#server;
    const temporary = temporaryBeside(this.path);
    // bind(2) happens inside listen(), so the socket never exists with wider permissions, not even under a name nobody knows.
    const umask = process.umask(0o177);
    try {
      server.listen({ path: temporary, backlog: BACKLOG });
    } finally {
      process.umask(umask);
    }
    await listening;
    chmodSync(temporary, 0o600);
    this.#inode = lstatSync(temporary).ino;
    try {
      await publishSocket(temporary, this.path);
    } catch (error) {
      server.close();
      if (!(error instanceof SocketBusyError)) throw new Error(`${this.path}: cannot listen`, { cause: error });
      throw error;
    }
  }

  /** Only our own (the service manager's is not): another host may have replaced it while we were unreachable. */
  #unlink(): void {
    if (lstatSync(this.path, { throwIfNoEntry: false })?.ino === this.#inode) unlinkSync(this.path);
  }

  #accept(socket: Socket): void {
    const lane = new Lane(socket, this);
    this.#lanes.add(lane);
    if (this.#lanes.size > this.#options.connectionsMax) {
      lane.fail(Errno.EMFILE, `the host has ${this.#options.connectionsMax} connections, its limit`);
    }
  }

  greeting(): HelloReply {
    return {
      version,
      cmdSize: this.#core.cmdSize,
      release: this.#core.release,
      status: 0,
      minor: 0,
      payloadBytesMax: limits.payloadBytes,
      pid: process.pid,
      hostid: this.#core.hostid,
      message: '',
    };
  }

  async admit(lane: Lane, hello: Hello): Promise<Session> {
    if (hello.version === versionProbe) throw new HelloRefused(0, '');
    this.#agree(hello);
    if (this.#closing !== undefined) throw new HelloRefused(Errno.ESHUTDOWN, 'the host is shutting down');
    if (hello.attachMinor !== 0) return this.#attach(lane, hello);
    return this.#track(this.#open(lane, hello));
  }

  async #open(lane: Lane, hello: Hello): Promise<Session> {
    const { process, fd, pid, program } = hello;
    const client = { process, fd, pid, program, stdio: lane.peer?.stdio ?? 0 };
    const session = new Session(await this.#core.open(client), this.#core.inspector, client, lane);
    if (!this.#lanes.has(lane)) {
      this.#end(session);
      throw new HelloRefused(Errno.EINTR, 'the client is gone');
    }
    this.#sessions.set(session.minor, session);
    this.#ofLane.set(lane, session);
    return session;
  }

  /** Both sides are the same version, release and structure, or nothing works: says which is which. */
  #agree(hello: Hello): void {
    const { release, cmdSize } = this.#core;
    if (hello.version !== version) {
      throw new HelloRefused(
        Errno.EPROTO,
        `the host speaks version ${version} of the ioctl protocol, the client version ${hello.version}`,
      );
    }
    if (hello.release !== release) {
      throw new HelloRefused(Errno.EPROTO, `the host is OpenZFS ${release}, the client ${hello.release || 'unnamed'}`);
    }
    if (hello.cmdSize !== cmdSize) {
      throw new HelloRefused(
        Errno.EPROTO,
        `zfs_cmd_t has ${cmdSize} bytes in the host, ${hello.cmdSize} in the client`,
      );
    }
  }

  #attach(lane: Lane, hello: Hello): Session {
    const session = this.#sessions.get(hello.attachMinor);
    if (session === undefined || session.client.process !== hello.process) {
      throw new HelloRefused(Errno.EINVAL, `minor ${hello.attachMinor} is not an open of this process`);
    }
    if (session.lanes.size >= this.#options.lanesPerSessionMax) {
      throw new HelloRefused(
        Errno.EMFILE,
        `${this.#options.lanesPerSessionMax} ioctls at a time on one descriptor is the limit`,
      );
    }
    session.lanes.add(lane);
    this.#ofLane.set(lane, session);
    return session;
  }

  reserve(bytes: number): boolean {
    if (this.#bufferBytes + bytes > this.#options.bufferBytesMax) return false;
    this.#bufferBytes += bytes;
    return true;
  }

  release(bytes: number): void {
    this.#bufferBytes -= bytes;
  }

  /**
   * A session ends with its first lane: that socket is the client's descriptor. A further lane that ends between
   * ioctls is just less concurrency; one that ends in the middle of an ioctl is a client that died.
   */
  laneClosed(lane: Lane, clean: boolean): void {
    this.#lanes.delete(lane);
    const session = this.#ofLane.get(lane);
    if (session === undefined) return;
    this.#ofLane.delete(lane);
    session.lanes.delete(lane);
    if (lane === session.first || !clean) this.#end(session);
  }

  #end(session: Session): void {
    if (this.#sessions.get(session.minor) === session) this.#sessions.delete(session.minor);
    void this.#track(session.end());
  }

  /** Close waits for this too. */
  #track<T>(work: Promise<T>): Promise<T> {
    const settled = work.then(
      () => undefined,
      () => undefined,
    );
    this.#unsettled.add(settled);
    void settled.then(() => this.#unsettled.delete(settled));
    return work;
  }
}
