import type { MaybePromise } from '../devices/device.ts';
import { Errno, ErrnoError, errnoOf } from '../errno.ts';
import type { WasmModule } from '../runtime/module.ts';
import { type CoreExports, ioPending, type Seam } from '../runtime/seam.ts';
import type { IoctlClient, IoctlRequest, IoctlResult, IoctlSession } from './dev-zfs.ts';
import { Requests } from './requests.ts';
import { Retry } from './retry.ts';

/** Requests up to this size wait until the core has memory for them; larger ones fail, and keep nobody waiting. */
const patientBytesMax = 256 * 1024;

interface Running {
  readonly request: IoctlRequest;
  readonly resolve: (result: IoctlResult) => void;
  readonly reject: (error: Error) => void;
}

interface SessionWaiter {
  readonly resolve: (session: { address: number; minor: number }) => void;
  readonly reject: (error: Error) => void;
}

/** The host's half of zfs_ioctl_os.c: opens of /dev/zfs and the ioctls on them. */
export class CoreSessions {
  readonly #module: WasmModule<CoreExports>;
  readonly #ioctls: Requests<Running>;
  readonly #waiters: Requests<SessionWaiter>;
  /** The core's numbers of the clients' processes. */
  readonly #processes = new Map<string, { readonly id: number; sessions: number }>();
  #lastProcess = 0;
  #hasEnded = false;

  constructor(module: WasmModule<CoreExports>) {
    this.#module = module;
    const kick = () => module.scheduler.kick();
    const starved = new Retry();
    this.#ioctls = new Requests(kick, starved);
    this.#waiters = new Requests(kick, starved);
  }

  get imports(): Omit<Seam['session-events'], 'ready'> & Seam['streams'] {
    const { memory } = this.#module;
    return {
      'ioctl-done': (id, errno, cmd, dst, dstLength, history, historyLength) => {
        const { request, resolve } = this.#ioctls.take(id);
        resolve({
          errno,
          cmd: memory.copy(cmd, request.cmd.length),
          dst: memory.copy(dst, dstLength),
          history: memory.copy(history, historyLength),
        });
      },
      'session-done': (id, address, minor) => {
        const { resolve, reject } = this.#waiters.take(id);
        if (minor < 0) reject(new ErrnoError(-minor, 'open of /dev/zfs'));
        else resolve({ address, minor });
      },
      'stream-read': (fiber, id, fd, buffer, length) =>
        this.#stream(fiber, id, (streams) => streams.read(fd, memory.view(buffer, length))),
      'stream-records': (fiber, id, fd, buffer, length, left) =>
        this.#stream(fiber, id, (streams) => streams.readRecords(fd, memory.view(buffer, length), left)),
      'stream-write': (fiber, id, fd, buffer, length) =>
        this.#stream(fiber, id, (streams) => {
          const bytes = memory.view(buffer, length);
          return streams.gather(fd, bytes) ? 0 : (streams.write(fd, bytes)?.then(() => 0) ?? 0);
        }),
    };
  }

  async open(client: IoctlClient): Promise<IoctlSession> {
    const process = this.#hold(client.process);
    try {
      const { address, minor } = await this.#session((id) =>
        this.#module.exports['session-open'](id, process, client.fd),
      );
      let closed: Promise<void> | undefined;
      return {
        minor,
        ioctl: (request) =>
          closed === undefined
            ? this.#ioctl(address, request)
            : Promise.reject(new ErrnoError(Errno.EBADF, 'the session is closed')),
        close: () => {
          closed ??= this.#close(address, client.process);
          return closed;
        },
      };
    } catch (error) {
      this.#release(client.process);
      throw error;
    }
  }

  /** The core is gone: what runs fails, and whatever comes; its sessions are closed. */
  end(error: Error): void {
    this.#hasEnded = true;
    this.#ioctls.end(error);
    this.#waiters.end(error);
  }

  async #close(address: number, process: string): Promise<void> {
    try {
      await this.#session((id) => this.#module.exports['session-close'](id, address));
    } catch (error) {
      if (!this.#hasEnded) throw error;
    }
    this.#release(process);
  }

  /** Opens or closes a session. Both wait for memory: a close that failed would leave the session open for ever. */
  #session(start: (id: number) => number): Promise<{ address: number; minor: number }> {
    return new Promise((resolve, reject) => {
      this.#waiters.submit({ request: { resolve, reject }, what: 'open of /dev/zfs', start, isPatient: true });
    });
  }

  #ioctl(session: number, request: IoctlRequest): Promise<IoctlResult> {
    const bytes = [request.cmd, request.src, request.conf, request.history].reduce((sum, part) => sum + part.length, 0);
    return new Promise((resolve, reject) => {
      this.#ioctls.submit({
        request: { request, resolve, reject },
        what: 'ioctl',
        start: (id) => {
          const error = this.#submit(id, session, request, bytes);
          if (error === 0) this.#heed(id, request.signal);
          return error;
        },
        isPatient: bytes <= patientBytesMax,
      });
    });
  }

  /** Hands an ioctl to the core. Returns 0 or -errno, ENOMEM when there is no memory for it now. */
  #submit(id: number, session: number, request: IoctlRequest, bytes: number): number {
    const { exports, memory } = this.#module;
    const { cmd, src, conf, history, dstRoom, historyRoom } = request;
    const address = exports.alloc(bytes);
    if (address === 0) return -Errno.ENOMEM;
    const room = memory.view(address, bytes);
    let at = 0;
    for (const part of [cmd, src, conf, history]) {
      room.set(part, at);
      at += part.length;
    }
    const lengths = [src.length, conf.length, history.length, dstRoom, historyRoom] as const;
    return exports['ioctl-submit'](id, session, request.request, address, ...lengths);
  }

  #heed(id: number, signal: AbortSignal | undefined): void {
    const interrupt = (): void => {
      if (this.#hasEnded) return;
      this.#module.exports['ioctl-interrupt'](id);
      this.#module.scheduler.kick();
    };
    if (signal?.aborted === true) interrupt();
    else signal?.addEventListener('abort', interrupt, { once: true });
  }

  #stream(fiber: number, id: number, run: (streams: IoctlRequest['streams']) => MaybePromise<number>): number {
    const running = this.#ioctls.get(id);
    if (running === undefined) return -Errno.EBADF;
    const done = run(running.request.streams);
    if (typeof done === 'number') return done;
    done.then(
      (value) => this.#module.scheduler.complete(fiber, value),
      (error: unknown) => this.#module.scheduler.complete(fiber, -errnoOf(error)),
    );
    return ioPending;
  }

  #hold(process: string): number {
    let entry = this.#processes.get(process);
    if (entry === undefined) {
      this.#lastProcess = (this.#lastProcess + 1) & 0x3fffffff || 1;
      entry = { id: this.#lastProcess, sessions: 0 };
      this.#processes.set(process, entry);
    }
    entry.sessions++;
    return entry.id;
  }

  #release(process: string): void {
    const entry = this.#processes.get(process);
    if (entry !== undefined && --entry.sessions === 0) this.#processes.delete(process);
  }
}
