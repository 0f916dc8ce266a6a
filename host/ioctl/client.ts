import { randomBytes } from 'node:crypto';
import type { Socket } from 'node:net';
import { release } from '../assets.ts';
import type { IoctlRequest, IoctlResult } from '../core/dev-zfs.ts';
import { zfsCmdBytes } from '../core/zfs-cmd.ts';
import { Errno, ErrnoError } from '../errno.ts';
import { InspectError } from '../observe/inspect-error.ts';
import { ClientLane, dial, LastWords } from './client-lane.ts';
import { limits, type Query, version } from './protocol.ts';
import { noStreams } from './streams.ts';

/** The host cannot be reached, or the connection to it ended; `message` is for a person. */
export class HostUnreachableError extends Error {
  constructor(message: string, options?: ErrorOptions) {
    super(message, options);
    this.name = 'HostUnreachableError';
  }
}

/** One ioctl or query at a time on a connection to a host: what the commands of `zow` use. */
export class HostClient implements Disposable {
  /** The descriptor that this client says its connection is; ioctls name it in `zc_cleanup_fd`. */
  readonly fd = 3;
  readonly #lane: ClientLane;
  readonly #path: string;

  private constructor(lane: ClientLane, path: string) {
    this.#lane = lane;
    this.#path = path;
  }

  /** Connects to the host at `path` and opens a session. Rejects with HostUnreachableError. */
  static async connect(path: string | undefined, program: string): Promise<HostClient> {
    const socket = await reach(path);
    const lane = await ClientLane.open(socket, {
      version,
      cmdSize: zfsCmdBytes,
      release,
      process: randomBytes(16).toString('hex'),
      pid: process.pid,
      fd: 3,
      attachMinor: 0,
      stdio: 0,
      program,
    }).catch((error: unknown) => gone(error, path!));
    const { status, message } = lane.greeting;
    if (status === 0) return new HostClient(lane, path!);
    lane[Symbol.dispose]();
    throw new HostUnreachableError(`the ZoW host on ${path} refuses: ${message}`);
  }

  /** Runs an ioctl that uses no streams. Rejects with HostUnreachableError. */
  ioctl(request: Omit<IoctlRequest, 'streams'>): Promise<IoctlResult> {
    return this.#lane.ioctl({ ...request, streams: noStreams }).catch((error: unknown) => gone(error, this.#path));
  }

  /** Asks, and gives each packed nvlist as it comes. Rejects with InspectError, whose message is the host's. */
  async *query(query: Query): AsyncGenerator<Buffer> {
    if (Buffer.byteLength(query.text) > limits.queryBytes) {
      throw new InspectError(Errno.EINVAL, `longer than ${limits.queryBytes} bytes`);
    }
    try {
      yield* this.#lane.query(query, (errno, message) => new InspectError(errno, message));
    } catch (error) {
      if (error instanceof InspectError) throw error;
      gone(error, this.#path);
    }
  }

  [Symbol.dispose](): void {
    this.#lane[Symbol.dispose]();
  }
}

/** The host's last words, or that it said none. */
function gone(error: unknown, path: string): never {
  if (error instanceof LastWords) throw new HostUnreachableError(error.message, { cause: error });
  if (!(error instanceof ErrnoError)) throw error;
  throw new HostUnreachableError(`the ZoW host on ${path} has gone`, { cause: error });
}

/** As the programs do it, and with their words (cli/src/zow_socket.c). */
async function reach(path: string | undefined): Promise<Socket> {
  const start = `start one with 'zow serve <config>'`;
  if (path === undefined) {
    throw new HostUnreachableError(`no ZoW host: neither ZOW_SOCKET nor XDG_RUNTIME_DIR is set; ${start}`);
  }
  try {
    return await dial(path);
  } catch (error) {
    const { code, message } = error as NodeJS.ErrnoException;
    throw new HostUnreachableError(
      code === 'ENOENT' || code === 'ECONNREFUSED'
        ? `no ZoW host listens on ${path}: ${start}, or say where it is with ZOW_SOCKET`
        : `cannot reach the ZoW host on ${path}: ${message}`,
      { cause: error },
    );
  }
}
