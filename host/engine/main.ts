import net from 'node:net';
import { type Core, logClosed } from '../core/api.ts';
import { loadCore } from '../core/load.ts';
import { openDevice } from '../devices/open.ts';
import { makeThreads } from '../devices/threads.ts';
import { Errno, ErrnoError } from '../errno.ts';
import { IoctlServer } from '../ioctl/server.ts';
import { DatasetStore } from '../iscsi/dataset-store.ts';
import type { SessionHandover } from '../iscsi/handover.ts';
import { IscsiServer } from '../iscsi/server.ts';
import { log } from '../log.ts';
import { Sampler } from '../metrics/sampler.ts';
import type { Handover } from '../nbd/handover.ts';
import { NbdServer } from '../nbd/server.ts';
import { Shares } from '../volumes/shares.ts';
import type { AdoptedClient, VolumeHandle, VolumeInfo } from '../volumes/volume.ts';
import { BorrowedDisks } from './borrowed-disks.ts';
import { answerCalls } from './channel.ts';
import { endWithParent } from './dead-parent.ts';
import type { EngineEvent, EngineOptions, EngineReady } from './messages.ts';
import { RelayListener } from './relay.ts';

/**
 * An engine: one pool's core, its devices, and its volumes' clients after their handshake or login, in a process of its
 * own that the supervisor starts (process.ts). The first call is `start`, the last `finish`.
 */
class Engine {
  readonly #core: Core;
  readonly #disks: BorrowedDisks;
  readonly #ioctls: IoctlServer;
  readonly #nbd: NbdServer;
  readonly #iscsi: IscsiServer;
  readonly #store: DatasetStore;
  readonly #relay: RelayListener;
  readonly sampler: Sampler;
  /** Volumes that are open for NBD clients to come. */
  readonly #opened = new Map<number, VolumeHandle>();
  readonly #clients = new Map<number, AdoptedClient>();

  private constructor(core: Core, disks: BorrowedDisks, ioctls: IoctlServer, relay: RelayListener) {
    this.#core = core;
    this.#disks = disks;
    this.#ioctls = ioctls;
    this.#relay = relay;
    const shares = new Shares(core.volumes);
    const { volumes: provider } = core;
    this.#nbd = new NbdServer({ provider, listeners: [], shares });
    this.#store = new DatasetStore(core, log);
    this.#iscsi = new IscsiServer({ provider, store: this.#store, listeners: [], shares });
    this.sampler = new Sampler(core, () => ({
      nbd: this.#nbd.countsByListener,
      iscsi: this.#iscsi.countsByListener,
      waiting: shares.waiting,
      clients: [...this.#nbd.summaries(), ...this.#iscsi.summaries()],
    }));
  }

  static async start(
    { socket, memoryBytes, cacheFile, tunables }: EngineOptions,
    disks: BorrowedDisks,
    supervisor: number,
  ): Promise<Engine> {
    makeThreads();
    const core = await loadCore({
      ...{ memoryBytes, cacheFile, tunables },
      openDevice: (path, how) => openDevice(path, how, disks),
    });
    const ioctls = await IoctlServer.listen(core, socket, { trustedPid: supervisor });
    const relay = await RelayListener.listen(`${socket}.relay`);
    const engine = new Engine(core, disks, ioctls, relay);
    await engine.#nbd.start();
    await engine.#iscsi.start();
    return engine;
  }

  get core(): Core {
    return this.#core;
  }

  get ready(): EngineReady {
    const { volumes, refusedTunables } = this.#core;
    return { refusedTunables, maxBytes: volumes.buffers.maxBytes, limitBytes: volumes.buffers.limitBytes };
  }

  async openVolume(client: number, name: string, readOnly: boolean): Promise<VolumeInfo> {
    const handle = await this.#core.volumes.open(name, { readOnly });
    this.#opened.set(client, handle);
    // Nobody came for it: it must not keep its volume from going.
    handle.onGone(() => this.#opened.delete(client));
    return handle.info;
  }

  async closeVolume(client: number): Promise<void> {
    const handle = this.#opened.get(client);
    this.#opened.delete(client);
    await handle?.close();
  }

  /** Serves a client whose socket is here, and paused. */
  adoptNbd(client: number, socket: net.Socket, handover: Handover): void {
    const handle = this.#opened.get(client);
    if (handle === undefined) {
      socket.destroy();
      throw new ErrnoError(Errno.ENXIO, 'the volume is gone');
    }
    this.#opened.delete(client);
    this.#serve(client, this.#nbd.adopt(socket, handle, handover));
  }

  /** As adoptNbd, of an iSCSI session. */
  adoptSession(client: number, socket: net.Socket, handover: SessionHandover): void {
    this.#serve(client, this.#iscsi.adopt(socket, handover));
  }

  #serve(client: number, adopted: AdoptedClient): void {
    this.#clients.set(client, adopted);
    void adopted.gone.then(() => this.#clients.delete(client));
  }

  async clientGone(client: number): Promise<void> {
    await this.#clients.get(client)?.gone;
  }

  async endClient(client: number, how: 'dismiss' | 'cut'): Promise<void> {
    const adopted = this.#clients.get(client);
    if (adopted !== undefined) adopted[how]();
    // It has not come yet, and finds its volume gone.
    else await this.closeVolume(client);
  }

  relayed(client: number): Promise<net.Socket> {
    return this.#relay.take(client);
  }

  async dismissClients(): Promise<void> {
    await Promise.all([this.#nbd.dismissAll(), this.#iscsi.dismissAll()]);
  }

  async finish(): Promise<void> {
    this.#relay.close();
    await this.sampler.close();
    await this.#store.close();
    await this.#ioctls.close('the pool is exported');
    await this.#core.close();
    await this.#disks.close();
    logClosed(this.#core, log);
  }
}

/** Runs the engine of this process until it is told to finish, or its core is lost. */
export function main(): void {
  // For ps, and for who finds a disk in use.
  process.title = 'zow-engine';
  const supervisor = process.ppid;
  endWithParent(supervisor);
  // A terminal's Ctrl-C, and a service manager's SIGTERM to all: the supervisor's to answer.
  for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) process.on(signal, () => undefined);
  let running: Engine | undefined;
  const engine = (): Engine => {
    if (running === undefined) throw new ErrnoError(Errno.EINVAL, 'the engine is not started');
    return running;
  };
  const tell: (event: EngineEvent) => void = answerCalls(process, {
    start: async (options) => {
      running = await Engine.start(options, disks, supervisor);
      const { core, ready } = running;
      core.volumes.watch?.({
        set: (info) => tell({ kind: 'volume', info }),
        remove: (name) => tell({ kind: 'volume-gone', name }),
      });
      void core.lost.then((panic) => tell({ kind: 'lost', panic }));
      return ready;
    },
    openVolume: ({ client, name, readOnly }) => engine().openVolume(client, name, readOnly),
    revealVolume: (name) => engine().core.volumes.reveal!(name),
    closeVolume: (client) => engine().closeVolume(client),
    adoptNbd: ({ client, handover }, received) => {
      // Before anything is waited for: the socket must not begin to read into buffers of its own.
      const socket = received === undefined ? undefined : takeSocket(received);
      if (socket !== undefined) return engine().adoptNbd(client, socket, handover);
      return engine()
        .relayed(client)
        .then((relayed) => engine().adoptNbd(client, relayed, handover));
    },
    adoptSession: ({ client, handover }, received) => engine().adoptSession(client, takeSocket(received), handover),
    clientGone: (client) => engine().clientGone(client),
    endClient: ({ client, how }) => engine().endClient(client, how),
    settle: () => undefined,
    dismissClients: () => engine().dismissClients(),
    kstatPaths: () => engine().core.inspector.kstatPaths(),
    kstat: (path) => engine().core.inspector.kstat(path),
    clearKstat: (path) => engine().core.inspector.clearKstat(path),
    tunables: () => engine().core.inspector.tunables(),
    setTunable: ({ name, value }) => engine().core.inspector.setTunable(name, value),
    lendDisk: ({ path, grant }) => disks.granted(path, grant),
    giveUpDisk: (path) => disks.giveUp(path),
    readDisk: ({ path, offset, length }) => disks.read(path, offset, length),
    sample: () => engine().sampler.sample(),
    look: () => engine().sampler.look(),
    finish: async () => {
      await engine().finish();
      setImmediate(() => process.exit(0));
    },
  });
  const disks = new BorrowedDisks(tell);
  process.on('uncaughtException', (error) => {
    log.fatal({ err: error }, 'internal error of an engine');
    process.kill(process.pid, 'SIGKILL');
  });
}

/** The socket of a handle that came from the supervisor: paused, and half open as an accepted one. */
function takeSocket(handle: unknown): net.Socket {
  const options = { handle, allowHalfOpen: true, pauseOnCreate: true };
  return new net.Socket(options as unknown as net.SocketConstructorOpts);
}
