import { type ChildProcess, fork, type SendHandle } from 'node:child_process';
import { once } from 'node:events';
import { rmSync } from 'node:fs';
import type net from 'node:net';
import { join } from 'node:path';
import { TLSSocket } from 'node:tls';
import { engineEntry } from '../assets.ts';
import type { Core, CorePanic, TunableRefusal } from '../core/api.ts';
import type { Inspector, IoctlClient, IoctlSession } from '../core/dev-zfs.ts';
import { Errno, ErrnoError, errnoOf } from '../errno.ts';
import { dial } from '../ioctl/client-lane.ts';
import { RemoteCore } from '../ioctl/remote.ts';
import type { SessionHandover } from '../iscsi/handover.ts';
import type { EngineSample } from '../metrics/sample.ts';
import type { Handover } from '../nbd/handover.ts';
import type { Handled } from '../net/onread.ts';
import type {
  AdoptedClient,
  BufferPool,
  VolumeHandle,
  VolumeInfo,
  VolumeProcess,
  VolumeProvider,
  VolumeWatcher,
} from '../volumes/volume.ts';
import { CallerEnd } from './channel.ts';
import type { Borrower, Lender } from './lender.ts';
import type { EngineEvent, EngineOptions, EngineReady } from './messages.ts';
import { RELAY_HEADER_BYTES } from './relay.ts';

/** How long an engine that was told to finish may take before it is killed. */
const FINISH_MS = 10_000;

/**
 * A core in a process of its own (main.ts): the supervisor's half. Ioctls go over the engine's own socket; an NBD client,
 * or an iSCSI session, goes there as a whole, its socket with it.
 */
export class EngineProcess implements Core {
  readonly pid: number;
  readonly release: string;
  readonly cmdSize: number;
  readonly hostid: number;
  readonly inspector: Inspector;
  readonly volumes: RemoteVolumes;
  readonly refusedTunables: readonly TunableRefusal[];
  readonly lost: Promise<CorePanic>;
  readonly #child: ChildProcess;
  readonly #calls: CallerEnd;
  readonly #remote: RemoteCore;
  readonly #end: End;

  private constructor(
    child: ChildProcess,
    calls: CallerEnd,
    remote: RemoteCore,
    end: End,
    ready: EngineReady,
    volumes: RemoteVolumes,
  ) {
    this.#child = child;
    this.#calls = calls;
    this.#remote = remote;
    this.#end = end;
    this.pid = child.pid!;
    this.release = remote.release;
    this.cmdSize = remote.cmdSize;
    this.hostid = remote.hostid;
    this.inspector = inspectorOf(calls);
    this.volumes = volumes;
    this.refusedTunables = ready.refusedTunables;
    this.lost = end.lost;
  }

  /** Starts one whose sockets are in `folder`, and whose remote disks are `lender`'s. Rejects when it ends before it is ready. */
  static async start(
    folder: string,
    name: string,
    options: Omit<EngineOptions, 'socket'>,
    lender: Lender,
  ): Promise<EngineProcess> {
    const socket = join(folder, name);
    const child = fork(engineEntry(), [], {
      serialization: 'advanced',
      // Ctrl-C at the host's terminal is the supervisor's.
      detached: true,
      stdio: ['ignore', 2, 2, 'ipc'],
    });
    const end = new End(child);
    let volumes: RemoteVolumes | undefined;
    const early: EngineEvent[] = [];
    const calls = new CallerEnd(child, (event) => {
      if (event.kind === 'lost') end.told(event.panic);
      else if (event.kind === 'disk-wanted') void lend(lender, event.path, borrower, calls);
      else if (event.kind === 'disk-returned') lender.returned(event.path, borrower, event.loss);
      else if (volumes === undefined) early.push(event);
      else volumes.heard(event);
    });
    const borrower = borrowerOf(calls);
    child.on('exit', () => lender.ended(borrower));
    void end.lost.then(({ message }) => {
      calls.fail(new ErrnoError(Errno.EIO, message));
      volumes?.abandon();
      for (const path of [socket, `${socket}.relay`]) rmSync(path, { force: true });
    });
    const ready = await calls.call('start', { ...options, socket });
    volumes = new RemoteVolumes(calls, `${socket}.relay`, ready);
    for (const event of early) volumes.heard(event);
    return new EngineProcess(child, calls, await RemoteCore.connect(socket), end, ready, volumes);
  }

  open(client: IoctlClient): Promise<IoctlSession> {
    return this.#remote.open(client);
  }

  /** Resolves when what the engine told before, of volumes for one, was heard. */
  async settle(): Promise<void> {
    await this.#calls.call('settle', undefined);
  }

  /** As Frontend.dismissAll, for the clients that are in the engine. */
  async dismissClients(): Promise<void> {
    await this.#calls.call('dismissClients', undefined);
  }

  /** What metrics tell of it; with `look`, what one sees who looks at it live. */
  sample(what: 'sample' | 'look' = 'sample'): Promise<EngineSample> {
    return this.#calls.call(what, undefined);
  }

  async close(): Promise<void> {
    const exited = this.#child.exitCode !== null || this.#child.signalCode !== null;
    if (exited) return;
    this.#end.expected = true;
    const exit = once(this.#child, 'exit');
    const late = setTimeout(() => this.kill(), FINISH_MS);
    await this.#calls.call('finish', undefined).catch(() => this.kill());
    await exit;
    clearTimeout(late);
  }

  /** Ends it as a crash would. */
  kill(): void {
    this.#child.kill('SIGKILL');
  }
}

/** How a process ended, as a panic: by what it said itself, else by its exit. */
class End {
  readonly lost: Promise<CorePanic>;
  /** It was told to finish: its exit is no loss. */
  expected = false;
  readonly #child: ChildProcess;
  #said: CorePanic | undefined;

  constructor(child: ChildProcess) {
    this.#child = child;
    this.lost = new Promise((resolve) => {
      child.on('error', (error) => resolve({ message: `an engine cannot be started: ${error.message}` }));
      child.on('exit', (code, signal) => {
        if (this.expected && code === 0) return;
        resolve(this.#said ?? { message: `its engine ended: ${signal ?? `exit code ${code}`}` });
      });
    });
  }

  /** A core that is lost is of no use to anybody: its process goes, and with it its devices and clients. */
  told(panic: CorePanic): void {
    this.#said ??= panic;
    this.#child.kill('SIGKILL');
  }
}

function borrowerOf(calls: CallerEnd): Borrower {
  return {
    giveUp: (path) => calls.call('giveUpDisk', path),
    read: (path, offset, length) => calls.call('readDisk', { path, offset, length }),
  };
}

/** Answers `disk-wanted`. Never rejects: an engine that is gone needs no answer. */
async function lend(lender: Lender, path: string, borrower: Borrower, calls: CallerEnd): Promise<void> {
  const grant = await lender.lend(path, borrower).catch((error: unknown) => ({
    ...{ errno: errnoOf(error), message: (error as Error).message },
  }));
  await calls.call('lendDisk', { path, grant }).catch(() => undefined);
}

function inspectorOf(calls: CallerEnd): Inspector {
  return {
    kstatPaths: () => calls.call('kstatPaths', undefined),
    kstat: (path) => calls.call('kstat', path),
    clearKstat: (path) => calls.call('clearKstat', path),
    tunables: () => calls.call('tunables', undefined),
    setTunable: (name, value) => calls.call('setTunable', { name, value }),
  };
}

/** The volumes of an engine, as far as they are known here: who opens one goes there. */
export class RemoteVolumes implements VolumeProvider, VolumeProcess {
  readonly buffers: BufferPool;
  readonly #calls: CallerEnd;
  readonly #relay: string;
  readonly #volumes = new Map<string, VolumeInfo>();
  #lastClient = 0;
  #watcher: VolumeWatcher | undefined;

  constructor(calls: CallerEnd, relay: string, { maxBytes, limitBytes }: EngineReady) {
    this.#calls = calls;
    this.#relay = relay;
    this.buffers = { maxBytes, limitBytes, tryAcquire: () => undefined, acquire: () => Promise.reject(elsewhere()) };
  }

  heard(event: EngineEvent): void {
    if (event.kind === 'volume') {
      this.#volumes.set(event.info.name, event.info);
      this.#watcher?.set(event.info);
    } else if (event.kind === 'volume-gone') {
      this.#volumes.delete(event.name);
      this.#watcher?.remove(event.name);
    }
  }

  /** The engine is gone, and all volumes with it. */
  abandon(): void {
    for (const name of this.#volumes.keys()) this.#watcher?.remove(name);
    this.#volumes.clear();
  }

  watch(watcher: VolumeWatcher): void {
    this.#watcher = watcher;
    for (const volume of this.#volumes.values()) watcher.set(volume);
  }

  list(): readonly VolumeInfo[] {
    return [...this.#volumes.values()].sort((a, b) => (a.name < b.name ? -1 : 1));
  }

  find(name: string): VolumeInfo | undefined {
    return this.#volumes.get(name);
  }

  reveal(name: string): Promise<VolumeInfo> {
    return this.#calls.call('revealVolume', name);
  }

  async open(name: string, { readOnly }: { readonly readOnly: boolean }): Promise<VolumeHandle> {
    const client = ++this.#lastClient;
    const info = await this.#calls.call('openVolume', { client, name, readOnly });
    return new RemoteHandle(this.#calls, this.#relay, client, info);
  }

  processOf(): VolumeProcess {
    return this;
  }

  async settle(): Promise<void> {
    await this.#calls.call('settle', undefined);
  }

  /** An iSCSI session. */
  adopt(socket: net.Socket, agreed: object): AdoptedClient {
    const client = ++this.#lastClient;
    const argument = { client, handover: agreed as SessionHandover };
    const given = give(socket, (native) => this.#calls.call('adoptSession', argument, native));
    return adopted(this.#calls, client, given);
  }
}

/** A client on its way to the engine, and there. */
function adopted(calls: CallerEnd, client: number, given: Promise<unknown>): AdoptedClient {
  const end = (how: 'dismiss' | 'cut'): void => {
    // Where it fails, the engine is gone, and the client with it.
    calls.call('endClient', { client, how }).catch(() => undefined);
  };
  return {
    gone: given.then(() => calls.call('clientGone', client)),
    dismiss: () => end('dismiss'),
    cut: () => end('cut'),
  };
}

/** Sends the descriptor of a socket by `send`; here it is closed then. */
async function give(socket: net.Socket, send: (native: SendHandle) => Promise<void>): Promise<void> {
  const native = (socket as Handled)._handle;
  try {
    // Not closed before the engine has its own: a descriptor can be lost on its way, and is sent again then.
    await send(native as unknown as SendHandle);
  } finally {
    (socket as Handled)._handle = null;
    native?.close();
  }
}

function elsewhere(): ErrnoError {
  return new ErrnoError(Errno.EOPNOTSUPP, 'the volume is in another process');
}

class RemoteHandle implements VolumeHandle {
  readonly info: VolumeInfo;
  readonly #calls: CallerEnd;
  readonly #relay: string;
  readonly #client: number;
  #closed: Promise<void> | undefined;

  constructor(calls: CallerEnd, relay: string, client: number, info: VolumeInfo) {
    this.#calls = calls;
    this.#relay = relay;
    this.#client = client;
    this.info = info;
  }

  read = (): Promise<never> => Promise.reject(elsewhere());
  write = this.read;
  flush = this.read;
  trim = this.read;
  zero = this.read;
  compare = this.read;
  compareWrite = this.read;
  orWrite = this.read;

  close(): Promise<void> {
    this.#closed ??= this.#calls.call('closeVolume', this.#client);
    return this.#closed;
  }

  onGone(): void {}

  onResize(): void {}

  /** An NBD client. */
  adopt(socket: net.Socket, agreed: object): AdoptedClient {
    const argument = { client: this.#client, handover: agreed as Handover };
    const given =
      socket instanceof TLSSocket
        ? Promise.all([this.#calls.call('adoptNbd', argument), this.#relayTo(socket)])
        : give(socket, (native) => this.#calls.call('adoptNbd', argument, native));
    return adopted(this.#calls, this.#client, given);
  }

  async #relayTo(socket: net.Socket): Promise<void> {
    const relay = await dial(this.#relay);
    const header = Buffer.alloc(RELAY_HEADER_BYTES);
    header.writeUInt32LE(this.#client);
    relay.write(header);
    await once(relay, 'readable');
    relay.read(1);
    relay.on('error', () => socket.destroy());
    socket.on('error', () => relay.destroy());
    socket.on('close', () => relay.destroy());
    relay.on('close', () => socket.destroy());
    socket.pipe(relay);
    relay.pipe(socket);
  }
}
