import { randomBytes } from 'node:crypto';
import { rmSync, statSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { programArgs } from './assets.ts';
import type { Config, HttpConfig, IscsiListenerConfig, NbdListenerConfig } from './config/config.ts';
import { configFromObject, loadConfig } from './config/load.ts';
import { ConfigError } from './config/problem.ts';
import { type Core, type CorePanic, type LoadCore, logClosed } from './core/api.ts';
import type { IoctlClient, IoctlCore, IoctlSession } from './core/dev-zfs.ts';
import { CACHE_FILE_TUNABLE, loadCore } from './core/load.ts';
import { openDevice } from './devices/open.ts';
import { RemoteDisks } from './devices/remote.ts';
import { makeThreads } from './devices/threads.ts';
import { LendableDisk, Lender } from './engine/lender.ts';
import { EngineProcess } from './engine/process.ts';
import { Errno, ErrnoError } from './errno.ts';
import { makeFolders } from './folder.ts';
import { healthRoutes, metricsRoute } from './http/routes.ts';
import { HttpServer, type Route } from './http/server.ts';
import { makePrivateFolder } from './ioctl/private-folder.ts';
import { IoctlServer } from './ioctl/server.ts';
import { checkSocketPath, defaultSocketPath, probeSocket, SocketBusyError } from './ioctl/socket-path.ts';
import { noStreams } from './ioctl/streams.ts';
import type { ChapSecrets } from './iscsi/chap.ts';
import { loadChap } from './iscsi/chap-file.ts';
import { DatasetStore } from './iscsi/dataset-store.ts';
import { type IscsiListenerOptions, IscsiServer } from './iscsi/server.ts';
import { type Logger, log as rootLog } from './log.ts';
import { Health, type Patient } from './metrics/health.ts';
import { type HostSource, sampleHost } from './metrics/host-sample.ts';
import { liveOf } from './metrics/live.ts';
import { ProcessMeter, Sampler } from './metrics/sampler.ts';
import { vitalsOf } from './metrics/vitals.ts';
import type { NbdListenerOptions } from './nbd/listener-options.ts';
import { type LocatedVolume, locateVolume } from './nbd/locate.ts';
import { NbdServer } from './nbd/server.ts';
import { inherited, isInherited } from './net/inherited.ts';
import type { ListenerAddress, ListenerOptions } from './net/listener.ts';
import { loadTls } from './net/tls.ts';
import { type EventOptions, type PoolEvent, poolEvents } from './observe/events.ts';
import { clearKstats, decodeKstat, type Kstat, packedKstats } from './observe/kstats.ts';
import { decodeTunables, findTunable, setTunable, type Tunable } from './observe/tunables.ts';
import { LivePage } from './page/page.ts';
import { Token } from './page/token.ts';
import { converge } from './serve/converge.ts';
import { compareConfigs, type Difference, keyOf } from './serve/difference.ts';
import { type Engines, engineProblems } from './serve/engines.ts';
import { CoreLostError, describePanic, StartError } from './serve/errors.ts';
import { planPools } from './serve/plan.ts';
import { childPrograms, type ProgramOptions, type ProgramResult, type RunProgram } from './serve/programs.ts';
import { planReload, type ReloadReport } from './serve/reload.ts';
import { ownDisk, startRemoteDisks } from './serve/remote.ts';
import { Returning } from './serve/returning.ts';
import { surveyPool } from './serve/survey.ts';
import { checkTunables, tunableProblems } from './serve/tunables.ts';
import { EventDaemon } from './serve/zed.ts';
import { CacheFile } from './supervisor/cache-file.ts';
import { Recovery } from './supervisor/recovery.ts';
import { type HostStatus, statusOf } from './supervisor/status.ts';
import { Supervisor } from './supervisor/supervisor.ts';
import { Volume } from './volumes/open-volume.ts';
import { Shares } from './volumes/shares.ts';

export type { Config } from './config/config.ts';
export { ConfigError, type Problem } from './config/problem.ts';
export type { CorePanic } from './core/api.ts';
export type { IoctlClient, IoctlRequest, IoctlResult, IoctlSession } from './core/dev-zfs.ts';
export { ErrnoError } from './errno.ts';
export { NvList, type NvPair, type NvScalar, type NvValue } from './nvlist/nvlist.ts';
export { type EventOptions, eventLine, type PoolEvent } from './observe/events.ts';
export { InspectError } from './observe/inspect-error.ts';
export { type Kstat, kstatJson, kstatText, type Statistic } from './observe/kstats.ts';
export type { Tunable } from './observe/tunables.ts';
export { CoreLostError, StartError } from './serve/errors.ts';
export type { ProgramOptions, ProgramResult } from './serve/programs.ts';
export type { ReloadReport } from './serve/reload.ts';
export type { EngineStatus, HostStatus, LostStatus } from './supervisor/status.ts';
export { Volume } from './volumes/open-volume.ts';
export type { VolumeHandle, VolumeInfo, VolumeProvider } from './volumes/volume.ts';

export interface ZowHostOptions {
  /** What relative paths of a configuration given as an object are relative to. Default: the current directory. */
  readonly directory?: string;
  readonly log?: Logger;
  /** Serves on this ioctl socket instead of the configuration's. */
  readonly socket?: string | undefined;
  /** Default: `one`. With `processes` `openVolume` cannot be used. */
  readonly engines?: Engines | undefined;
  /** Replaces the core; for tests. */
  readonly loadCore?: LoadCore;
  /** Replaces how programs are run against a socket; for tests. */
  readonly programs?: (socket: string) => RunProgram;
}

/** How long ioctls that were interrupted are waited for at the end, milliseconds. */
const IOCTLS_MS = 5_000;
/** How long a pool may be suspended before its export is given up, milliseconds, and how often it is looked. */
const SUSPENDED_MS = 10_000;
const SUSPENDED_LOOK_MS = 500;
/** What a host without that listener counts of it. */
const noHttp: HostSource['http'] = {
  listener: '',
  connections: { open: 0, total: 0, refused: 0 },
  requests: new Map(),
};

/**
 * A running host: the core, its pools, and the sockets they are reached by. What `zow serve` serves.
 *
 *   await using host = await ZowHost.open('pool.yaml');
 *   const { stdout } = await host.run('zfs', ['list', '-t', 'volume']);
 *   await using volume = await host.openVolume('tank/vm0');
 *   await volume.write(0, data); await volume.flush();
 */
export class ZowHost implements AsyncDisposable {
  readonly core: Core;
  /** Resolves when the core is lost to a panic, with what is known of it; the host is then of no use any more. */
  readonly lost: Promise<CorePanic>;
  readonly #log: Logger;
  readonly #options: ZowHostOptions;
  readonly #remote: RemoteDisks;
  #config: Config;
  readonly #run: RunProgram;
  /** The host's own way in: programs work on it before the public socket is there and after it is gone. */
  readonly #private: PrivateSocket;
  #public: IoctlServer | undefined;
  #zed: { readonly daemon: EventDaemon; readonly entrance: PrivateSocket } | undefined;
  #nbd: NbdServer | undefined;
  #recovery: Recovery | undefined;
  #returning: Returning | undefined;
  #iscsi: { readonly server: IscsiServer; readonly store: DatasetStore } | undefined;
  #http: HttpServer | undefined;
  #page: LivePage | undefined;
  /** From when somebody asks. */
  #measured: HostSource | undefined;
  #endMeters: (() => Promise<void>) | undefined;
  #shares: Shares | undefined;
  /** Listeners that are open, by what the configuration says of them (keyOf). */
  readonly #nbdListeners = new Map<string, NbdListenerOptions>();
  readonly #iscsiListeners = new Map<string, IscsiListenerOptions>();
  /** The last reload, over or not; one at a time. */
  #reloading: Promise<unknown> = Promise.resolve();
  #isReady = false;
  #panic: CorePanic | undefined;
  #closing: Promise<void> | undefined;

  private constructor(
    config: Config,
    core: Core,
    remote: RemoteDisks,
    entrance: PrivateSocket,
    run: RunProgram,
    options: ZowHostOptions,
  ) {
    this.#config = config;
    this.#options = options;
    this.core = core;
    this.#remote = remote;
    this.lost = core.lost;
    this.#private = entrance;
    this.#run = run;
    this.#log = options.log ?? rootLog;
    void core.lost.then((panic) => this.#abandon(panic));
  }

  /**
   * Starts what a configuration (a file's name, or its content as an object) describes. Rejects with ConfigError or
   * StartError, and nothing is left running then.
   */
  static async open(config: string | object, options: ZowHostOptions = {}): Promise<ZowHost> {
    return ZowHost.start(readConfig(config, options), options);
  }

  /** As open, of a configuration that is already validated. */
  static async start(config: Config, options: ZowHostOptions = {}): Promise<ZowHost> {
    makeThreads();
    const log = options.log ?? rootLog;
    await refuseSecondHost(config.socket);
    const remote = await startDisks(config.devices, options.engines);
    try {
      return await ZowHost.#start(config, remote, log, options);
    } catch (error) {
      await remote.close();
      throw error;
    }
  }

  static async #start(config: Config, remote: RemoteDisks, log: Logger, options: ZowHostOptions): Promise<ZowHost> {
    const surveys = [];
    for (const pool of config.pools) surveys.push(await surveyPool(pool, { exclusive: true, remote }));
    const plan = planPools(surveys);
    // Before the core is started: most mistakes end here, in milliseconds.
    if (plan.errors.length > 0) throw new StartError(plan.errors);

    const { memoryBytes, socket, tunables } = config;
    try {
      makeFolders(dirname(socket), 0o700);
    } catch (error) {
      throw new StartError([reasonOf(error)], { cause: error });
    }
    checkEngines(config, options.engines);
    const recovery = new Recovery(log);
    let host: ZowHost | undefined;
    const core = await (options.engines === 'processes'
      ? startSupervisor(() => host?.config ?? config, remote, recovery, log)
      : (options.loadCore ?? loadCore)({
          ...{ memoryBytes, tunables, cacheFile: `${socket}.cache` },
          openDevice: (path, how) => openDevice(path, how, remote),
        })
    ).catch(coreFailed);
    try {
      const refused = await tunableProblems(config, core);
      if (refused !== undefined) throw refused;
      const entrance = await PrivateSocket.open(core instanceof Supervisor ? core.own : core);
      const run = (options.programs ?? programsOf)(entrance.path);
      const served = new ZowHost(config, core, remote, entrance, run, options);
      host = served;
      if (core instanceof Supervisor) {
        recovery.begin(core, run);
        host.#recovery = recovery;
        core.inspector.status = async () => JSON.stringify(await served.status());
      }
      core.inspector.openRemote = (path) => remote.open(path, { readOnly: true });
      core.inspector.live = async () =>
        JSON.stringify(liveOf(await sampleHost(served.#source, 'look'), performance.now() / 1000));
      core.inspector.difference = (file) =>
        served.difference(file).then(
          (report) => JSON.stringify({ report }),
          (error: Error) => JSON.stringify({ errors: error instanceof StartError ? error.reasons : [error.message] }),
        );
      core.inspector.locate = async (name) => JSON.stringify(await served.#locate(name));
      // Early: who asks whether it is ready is to be told that it is not.
      await host.#listenHttp();
      await host.#unlessLost(converge(plan, run, log));
      await host.#unlessLost(host.#listen());
      host.#returning = new Returning(remote, run, log);
      host.#returning.begin();
      if (config.zed && options.programs === undefined) await host.#startZed();
      host.#isReady = true;
      return host;
    } catch (error) {
      await (host?.close() ?? core.close()).catch((cause: unknown) =>
        log.error({ err: cause }, 'after a failed start'),
      );
      throw error instanceof SocketBusyError ? new StartError([error.message], { cause: error }) : error;
    }
  }

  /** What is in force: what was started with, or read last, and of that what could not change as it was. */
  get config(): Config {
    return this.#config;
  }

  /** Path of the ioctl socket. */
  get socket(): string {
    return this.config.socket;
  }

  /** Where NBD clients connect to, in the order of the configuration. */
  get nbdAddresses(): readonly ListenerAddress[] {
    return this.#nbd?.addresses() ?? [];
  }

  /** Where iSCSI initiators connect to, in the order of the configuration. */
  get iscsiAddresses(): readonly ListenerAddress[] {
    return this.#iscsi?.server.addresses() ?? [];
  }

  /** Where the page, metrics and health are asked for; undefined where the configuration has no `http`. */
  get httpAddress(): ListenerAddress | undefined {
    return this.#http?.address;
  }

  /**
   * Runs `zpool`, `zfs`, `zdb`, … on this host and collects what it prints. Whatever its exit code, it resolves. Rejects
   * when the core is lost (CoreLostError), or the host closed.
   */
  async run(program: string, args: readonly string[], options?: ProgramOptions): Promise<ProgramResult> {
    const panic = await settled(this.lost);
    if (panic !== undefined) throw new CoreLostError(panic);
    if (this.#closing !== undefined) throw new ErrnoError(Errno.ESHUTDOWN, 'the host is closed');
    return this.#run(program, args, options);
  }

  /** Opens the core as a client opens /dev/zfs. */
  ioctl(client: Partial<IoctlClient> = {}): Promise<IoctlSession> {
    return this.core.open({ process: '00'.repeat(16), fd: -1, pid: process.pid, program: 'zow', ...client });
  }

  /**
   * Reads kstats: all, or those that `pattern` selects, such as `zfs/arcstats` or `zfs/tank/*` (docs/observability.md).
   * Rejects with InspectError, ENOENT, when there is none.
   */
  async *kstats(pattern = ''): AsyncGenerator<Kstat> {
    for await (const packed of packedKstats(this.core.inspector, pattern)) yield decodeKstat(packed);
  }

  /** Clears kstats, as writing to their files does in a kernel. Rejects with InspectError: ENOENT; EACCES, nothing to clear. */
  clearKstats(pattern: string): Promise<void> {
    return clearKstats(this.core.inspector, pattern);
  }

  /** OpenZFS's module parameters, by name. */
  async tunables(): Promise<Tunable[]> {
    return decodeTunables(await this.core.inspector.tunables());
  }

  /** One module parameter, after setting it where `value` is given. Rejects with InspectError. */
  async tunable(name: string, value?: string | number | bigint): Promise<Tunable> {
    if (value !== undefined) await setTunable(this.core.inspector, name, String(value));
    return findTunable(await this.tunables(), name);
  }

  /**
   * The pools' events, oldest first: those that are there, or with `follow` also those to come, until the loop is left or
   * the host closes, when it rejects.
   */
  async *events(options: EventOptions = {}): AsyncGenerator<PoolEvent> {
    const fd = 0;
    const session = await this.ioctl({ process: randomBytes(16).toString('hex'), fd });
    try {
      yield* poolEvents({ fd, ioctl: (request) => session.ioctl({ ...request, streams: noStreams }) }, options);
    } finally {
      await session.close();
    }
  }

  /** The engines and their pools, and pools whose engine was lost. */
  async status(): Promise<HostStatus> {
    if (!(this.core instanceof Supervisor)) throw new Error('a host of one core has no status');
    const frontends = [this.#nbd, this.#iscsi?.server];
    return statusOf(this.core, this.#recovery!, (pool) =>
      frontends.reduce((sum, frontend) => sum + (frontend?.clientsOf(pool) ?? 0), 0),
    );
  }

  /** Opens a volume, or a snapshot of one, by its dataset name. Rejects with ErrnoError, as opening a zvol does. */
  async openVolume(name: string, { readOnly = false }: { readOnly?: boolean } = {}): Promise<Volume> {
    const { volumes } = this.core;
    const handle = await volumes.open(name, { readOnly });
    return new Volume(handle, volumes.buffersOf?.(name) ?? volumes.buffers);
  }

  /**
   * Brings the host, which goes on serving, to another configuration: its own file as it is now, or what is given. Pools and volumes that
   * are missing are imported or created, volumes grow, listeners are opened and closed, tunables set, keys and certificates read again.
   * What only a new start can change, and what is not in it any more, is left as it is. Rejects with ConfigError or StartError: when the
   * configuration is wrong or contradicts what is there, nothing has changed; when ZFS refuses something of it, what was done before stays.
   */
  reload(config?: string | object): Promise<ReloadReport> {
    return this.#inTurn(() => this.#reload(this.#read(config), true));
  }

  /** What reload would do; it changes nothing. */
  difference(config?: string | object): Promise<ReloadReport> {
    return this.#inTurn(() => this.#reload(this.#read(config), false));
  }

  #read(config: string | object | undefined): Config {
    const from = config ?? this.#config.file;
    if (from === undefined) throw new StartError(['the configuration came from no file, and none is given']);
    // A pipe, that is: whoever opens it waits for somebody who writes, and with this process everybody.
    if (typeof from === 'string' && statSync(from, { throwIfNoEntry: false })?.isFile() === false)
      throw new StartError([`${from} is no file that can be read again`]);
    return readConfig(from, this.#options);
  }

  #inTurn<T>(work: () => Promise<T>): Promise<T> {
    const turn = this.#reloading.then(async () => {
      if (this.#closing !== undefined) throw new ErrnoError(Errno.ESHUTDOWN, 'the host is shutting down');
      return this.#unlessLost(work());
    });
    this.#reloading = turn.catch(() => undefined);
    return turn;
  }

  async #reload(next: Config, isWanted: boolean): Promise<ReloadReport> {
    const difference = compareConfigs(this.#config, next);
    const { config } = difference;
    checkEngines(config, this.#options.engines);
    const added = await startDisks(difference.devices, this.#options.engines);
    let isTaken = false;
    try {
      const found = await planReload(difference, {
        remote: new RemoteDisks([...this.#remote.disks, ...added.disks]),
        states: new Map(await this.#poolStates()),
        run: this.#run,
      });
      const renew = await this.#readSecrets(config);
      checkTunables(decodeTunables(await this.core.inspector.tunables()), difference.tunables, config.file);
      if (!isWanted) return found.report;
      this.#remote.add(added.disks);
      try {
        await this.#setTunables(difference.tunables, config.file, () => converge(found.plan, this.#run, this.#log));
      } catch (error) {
        this.#remote.remove(added.disks);
        throw error;
      }
      isTaken = true;
      if (this.#closing !== undefined) throw new ErrnoError(Errno.ESHUTDOWN, 'the host is shutting down');
      this.#config = config;
      this.#returning?.begin();
      renew();
      const failed = await this.#relisten(difference);
      await this.#switchZed();
      return { ...found.report, failed };
    } finally {
      if (!isTaken) await added.close();
    }
  }

  /** Sets tunables and does what is to be done with them; when either fails they are as before. */
  async #setTunables(tunables: Config['tunables'], file: string | undefined, work: () => Promise<void>): Promise<void> {
    const { inspector } = this.core;
    const before = decodeTunables(await inspector.tunables());
    const done: Config['tunables'][number][] = [];
    try {
      for (const tunable of tunables) {
        await setTunable(inspector, tunable.name, tunable.value).catch((error: Error) => {
          throw new ConfigError(file ?? 'config', [{ ...tunable.place, message: error.message }]);
        });
        done.push(tunable);
      }
      await work();
    } catch (error) {
      for (const { name } of done.reverse()) {
        await setTunable(inspector, name, findTunable(before, name).value).catch((cause: unknown) =>
          this.#log.warn({ err: cause, tunable: name }, 'after a failed reload'),
        );
      }
      throw error;
    }
  }

  /** Reads keys, certificates and secrets of listeners, those to come among them. What it resolves with makes the others use them. */
  async #readSecrets({ nbd, iscsi, http }: Config): Promise<() => void> {
    try {
      for (const { policy } of nbd) if (policy?.tls !== undefined) await loadTls(policy.tls);
      const renewNbd = await this.#nbd?.renew();
      const chap = new Map<string, ChapSecrets>();
      for (const listener of iscsi) {
        if (listener.chap !== undefined) chap.set(keyOf(listener), await loadChap(listener.chap));
      }
      const token = http?.token === undefined ? undefined : await Token.load(http.token);
      const page = keyOf(http) === keyOf(this.#config.http) ? this.#page : undefined;
      return () => {
        renewNbd?.();
        if (token !== undefined) page?.renew(token);
        for (const [key, secrets] of chap) {
          const listener = this.#iscsiListeners.get(key);
          if (listener !== undefined) this.#iscsi?.server.renew(listener, secrets);
        }
      };
    } catch (error) {
      throw new StartError([reasonOf(error)], { cause: error });
    }
  }

  /** Opens and closes listeners. What cannot be opened is told in the answer, one line each, and tried again by the next reload. */
  async #relisten({ listeners }: Difference): Promise<string[]> {
    const failed: string[] = [];
    const attempt = async (work: Promise<readonly string[]>) => {
      try {
        failed.push(...(await work));
      } catch (error) {
        failed.push(...(error instanceof StartError ? error.reasons : [reasonOf(error)]));
      }
    };
    await attempt(this.#relistenNbd());
    await attempt(this.#relistenIscsi(listeners.isIscsiRestarted));
    if (listeners.isHttpChanged) {
      await this.#page?.close();
      this.#page = undefined;
      await this.#http?.close();
      this.#http = undefined;
      await attempt(this.#listenHttp().then(() => []));
    }
    const config = this.#config;
    // What is not open is not in force.
    this.#config = {
      ...config,
      nbd: config.nbd.filter((listener) => this.#nbdListeners.has(keyOf(listener))),
      iscsi: config.iscsi.filter((listener) => this.#iscsiListeners.has(keyOf(listener))),
      http: this.#http === undefined ? undefined : config.http,
    };
    return failed;
  }

  async #relistenNbd(): Promise<string[]> {
    const { nbd } = this.#config;
    if (this.#nbd === undefined) {
      await this.#listenNbd(this.#shares!);
      return [];
    }
    for (const listener of nbd) if (listener.kind === 'unix') makeFolders(dirname(listener.path), 0o700);
    const keys = nbd.map(keyOf);
    const options = nbd.map((listener, index) => this.#nbdListeners.get(keys[index]!) ?? nbdListener(listener));
    return opened('nbd', this.#nbdListeners, keys, options, await this.#nbd.change(options));
  }

  async #relistenIscsi(isRestarted: boolean): Promise<string[]> {
    const { iscsi } = this.#config;
    if (this.#iscsi !== undefined && (isRestarted || iscsi.length === 0)) {
      const { server, store } = this.#iscsi;
      this.#iscsi = undefined;
      this.#iscsiListeners.clear();
      await server.close();
      await this.#waitForIoctls(store.close());
    }
    if (this.#iscsi === undefined) {
      await this.#listenIscsi(this.#shares!);
      return [];
    }
    const keys = iscsi.map(keyOf);
    const options: IscsiListenerOptions[] = [];
    for (const [index, listener] of iscsi.entries())
      options.push(this.#iscsiListeners.get(keys[index]!) ?? (await iscsiListener(listener)));
    return opened('iscsi', this.#iscsiListeners, keys, options, await this.#iscsi.server.change(options));
  }

  async #switchZed(): Promise<void> {
    const { zed } = this.#config;
    if (zed && this.#zed === undefined && this.#options.programs === undefined) await this.#startZed();
    if (!zed && this.#zed !== undefined) {
      await this.#stopZed();
      this.#zed = undefined;
    }
  }

  /**
   * Stops serving, exports every pool and ends the core. Rejects with StartError when a pool cannot be exported, because
   * it is suspended; the others are, and the core is then left as it is. A second call waits for the first.
   */
  close(): Promise<void> {
    this.#closing ??= this.#close();
    return this.#closing;
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }

  async #listen(): Promise<void> {
    // A pool's volumes have one share of the buffers, whatever reaches them.
    const shares = new Shares(this.core.volumes);
    this.#shares = shares;
    await this.#listenNbd(shares);
    await this.#listenIscsi(shares);
    // Last: who sees the socket finds everything ready.
    try {
      const { socket } = this.config;
      this.#public = await IoctlServer.listen(this.core, socket, { fd: inherited('zow', socket) });
    } catch (error) {
      throw new StartError([reasonOf(error)], { cause: error });
    }
  }

  async #listenNbd(shares: Shares): Promise<void> {
    const { nbd } = this.config;
    if (nbd.length === 0) return;
    const listeners = nbd.map(nbdListener);
    const server = new NbdServer({ provider: this.core.volumes, listeners, shares, log: this.#log });
    try {
      for (const listener of nbd) if (listener.kind === 'unix') makeFolders(dirname(listener.path), 0o700);
      await server.start();
    } catch (error) {
      throw new StartError([`nbd: ${reasonOf(error)}`], { cause: error });
    }
    this.#nbd = server;
    for (const [index, listener] of nbd.entries()) this.#nbdListeners.set(keyOf(listener), listeners[index]!);
  }

  async #listenHttp(): Promise<void> {
    const { http } = this.config;
    if (http === undefined) return;
    const patient = this.#patient();
    const health = new Health(patient);
    const { hosts } = http;
    try {
      if (http.kind === 'unix') makeFolders(dirname(http.path), 0o700);
      const page = new LivePage({
        core: this.core,
        sample: () => sampleHost(this.#source, 'look'),
        troubles: health.unready,
        run: (...command) => this.run(...command),
        notServing: () => patient.lost ?? patient.notServing,
        token: http.token === undefined ? undefined : await Token.load(http.token),
        // Whoever can connect to it is the user that runs the host.
        trusted: http.kind === 'unix',
        log: this.#log,
      });
      const routes = new Map<string, Route>([...page.routes, ...healthRoutes(health), metricsRoute(this.#source)]);
      const server = new HttpServer({ listener: httpListener(http), hosts, routes, log: this.#log });
      await server.start();
      this.#page = page;
      this.#http = server;
    } catch (error) {
      throw new StartError([`http: ${reasonOf(error)}`], { cause: error });
    }
  }

  #patient(): Patient {
    const host = this;
    const { core } = this;
    const supervisor = core instanceof Supervisor ? core : undefined;
    return {
      get notServing() {
        if (host.#closing !== undefined) return 'the host is shutting down';
        return host.#isReady ? undefined : 'the host is starting';
      },
      get lost() {
        return host.#panic === undefined ? undefined : describePanic(host.#panic);
      },
      get engines() {
        if (supervisor === undefined) return [{ pools: [], vitals: () => vitalsOf(core.inspector) }];
        return supervisor.members.map((member) => ({
          pools: [...member.pools.keys()],
          vitals: () => vitalsOf(member.core.inspector),
        }));
      },
      get lostPools() {
        return new Map([...(supervisor?.lostPools ?? [])].map(([pool, { panic }]) => [pool, panic.message]));
      },
      get wanted() {
        return host.config.pools.map(({ name }) => name);
      },
    };
  }

  get #source(): HostSource {
    this.#measured ??= this.#measure();
    return this.#measured;
  }

  /** What is measured. A core in this process is asked here, others where they are. */
  #measure(): HostSource {
    const host = this;
    const { core } = this;
    const { release } = core;
    if (!(core instanceof Supervisor)) {
      const sampler = new Sampler(core, () => ({
        nbd: this.#nbd?.countsByListener,
        iscsi: this.#iscsi?.server.countsByListener,
        waiting: this.#shares?.waiting ?? 0,
        clients: [...(this.#nbd?.summaries() ?? []), ...(this.#iscsi?.server.summaries() ?? [])],
      }));
      this.#endMeters = () => sampler.close();
      return {
        ...{
          release,
          engines: [{ index: 0, pools: [], sample: sampler.sample, look: sampler.look }],
          lostPools: [],
          engineLosses: 0,
        },
        get http() {
          return countsOfHttp(host.#http);
        },
      };
    }
    const meter = new ProcessMeter();
    this.#endMeters = async () => meter.end();
    return {
      release,
      get http() {
        return countsOfHttp(host.#http);
      },
      get engines() {
        return core.members.map(({ index, pools, core: engine }) => ({
          index,
          pools: [...pools.keys()],
          sample: () => (engine as EngineProcess).sample(),
          look: () => (engine as EngineProcess).sample('look'),
        }));
      },
      get lostPools() {
        return [...core.lostPools.keys()];
      },
      get engineLosses() {
        return core.losses;
      },
      supervisor: () => ({
        process: meter.sample(),
        nbd: host.#nbd?.countsByListener,
        iscsi: host.#iscsi?.server.countsByListener,
      }),
    };
  }

  #locate(name: string): Promise<LocatedVolume> {
    const listeners = this.nbdAddresses.map((address, i) => ({ options: nbdListener(this.config.nbd[i]!), address }));
    return locateVolume(this.core.volumes, listeners, name);
  }

  async #listenIscsi(shares: Shares): Promise<void> {
    const { iscsi, targets } = this.config;
    if (iscsi.length === 0) return;
    const store = new DatasetStore(this.core, this.#log);
    try {
      const listeners = await Promise.all(iscsi.map(iscsiListener));
      const server = new IscsiServer({
        provider: this.core.volumes,
        store,
        listeners,
        targets,
        blockBytes: iscsi[0]!.blockBytes,
        shares,
        log: this.#log,
      });
      await server.start();
      this.#iscsi = { server, store };
      for (const [index, listener] of iscsi.entries()) this.#iscsiListeners.set(keyOf(listener), listeners[index]!);
    } catch (error) {
      throw new StartError([`iscsi: ${reasonOf(error)}`], { cause: error });
    }
  }

  /** It has a socket of its own: when that is closed, what the daemon began is over. */
  async #startZed(): Promise<void> {
    const entrance = await PrivateSocket.open(this.core);
    const { path: socket, folder } = entrance;
    const daemon = new EventDaemon({ nodeArgs: programArgs('zed'), socket, folder, log: this.#log });
    this.#zed = { daemon, entrance };
  }

  async #stopZed(): Promise<void> {
    await this.#zed?.daemon.stop();
    await this.#waitForIoctls(this.#zed?.entrance.close());
  }

  /** One on a suspended pool does not end. */
  async #waitForIoctls(closed: Promise<void> | undefined): Promise<void> {
    await Promise.race([closed, delay(IOCTLS_MS, undefined, { ref: false })]);
  }

  async #close(): Promise<void> {
    const panic = await settled(this.lost);
    await this.#waitForIoctls(this.#reloading.then(() => undefined));
    // First: the others going away is nothing they should mend.
    this.#recovery?.end();
    this.#returning?.end();
    await this.#page?.close();
    await this.#endMeters?.();
    await this.#stopZed();
    await Promise.all([this.#nbd?.close(), this.#iscsi?.server.close()]);
    await this.#waitForIoctls(this.#iscsi?.store.close());
    await this.#waitForIoctls(this.#public?.close('the host is shutting down'));
    try {
      if (panic === undefined) await this.#exportPools();
    } catch (error) {
      this.#private.abandon('the host is shutting down');
      await this.#http?.close();
      throw error;
    }
    await this.#private.close();
    await this.core.close();
    await this.#remote.close();
    await this.#http?.close();
    logClosed(this.core, this.#log);
  }

  async #exportPools(): Promise<void> {
    const slow = setTimeout(
      () => this.#log.warn('still exporting pools; a second signal ends the host at once'),
      10_000,
    );
    try {
      const exported = this.#run('zpool', ['export', '-a']);
      const over = exported.then(() => true);
      const { code, stderr } = await this.#unlessLost(Promise.race([exported, this.#allSuspended(over)]));
      if (code !== 0) throw new StartError([`pools cannot be exported: ${stderr.trim()}`]);
      this.#log.info('pools exported');
    } finally {
      clearTimeout(slow);
    }
  }

  /**
   * Fails when all pools that are left have been suspended for some time: a pool that is suspended in the middle of its
   * export has no end. What was flushed is on its disks, and an import finds it, as after a crash.
   */
  async #allSuspended(over: Promise<boolean>): Promise<Pick<ProgramResult, 'code' | 'stderr'>> {
    const pools = new Map<string, string>();
    for (let since = performance.now(); performance.now() - since < SUSPENDED_MS; ) {
      const wait = delay(SUSPENDED_LOOK_MS, false, { ref: false });
      if (await Promise.race([over, wait])) break;
      pools.clear();
      for (const [name, state] of await this.#poolStates()) pools.set(name, state);
      if (pools.size === 0 || [...pools.values()].some((state) => state !== 'SUSPENDED')) since = performance.now();
    }
    const stderr = [...pools.keys()]
      .map(
        (name) =>
          `cannot export '${name}': it was suspended meanwhile; it is left as by a crash, with all that was flushed`,
      )
      .join('; ');
    return { code: 1, stderr };
  }

  async #poolStates(): Promise<[name: string, state: string][]> {
    const states: [string, string][] = [];
    try {
      for await (const kstat of this.kstats('zfs/*/state'))
        if (kstat.type === 'raw') states.push([kstat.path.split('/')[1]!, kstat.text.trim()]);
    } catch {
      // There is none.
    }
    return states;
  }

  /** Waits for `work`, but not for a core that will never answer. */
  async #unlessLost<T>(work: Promise<T>): Promise<T> {
    const panic = this.lost.then((lost) => {
      throw new CoreLostError(lost);
    });
    return Promise.race([work, panic]);
  }

  /** Every client learns that the core is gone; nobody waits. */
  #abandon(panic: CorePanic): void {
    const reason = describePanic(panic);
    this.#panic = panic;
    this.#log.fatal({ panic }, reason);
    this.#public?.abandon(reason);
    void this.#nbd?.close();
    void this.#iscsi?.server.close();
    void this.#zed?.daemon.stop();
    this.#zed?.entrance.abandon(reason);
    this.#private.abandon(reason);
    this.#returning?.end();
  }
}

/** The remote disks of a configuration, each tried once; those of engines can be lent to them. */
function startDisks(devices: Config['devices'], engines: ZowHostOptions['engines']): Promise<RemoteDisks> {
  if (engines !== 'processes') return startRemoteDisks(devices, ownDisk);
  return startRemoteDisks(devices, (options, device) => new LendableDisk(options, device));
}

/** One engine for each pool; the folder of their sockets goes with this process. */
async function startSupervisor(
  config: () => Config,
  remote: RemoteDisks,
  recovery: Recovery,
  log: Logger,
): Promise<Supervisor> {
  const { memoryBytes, socket } = config();
  // There is one for all pools, wherever it is to be.
  const chosen = config().tunables.find(({ name }) => name === CACHE_FILE_TUNABLE)?.value;
  const tunables = config().tunables.filter(({ name }) => name !== CACHE_FILE_TUNABLE);
  const { folder } = await makePrivateFolder(tmpdir());
  process.once('exit', () => rmSync(folder, { recursive: true, force: true }));
  const cacheFile = new CacheFile(folder, chosen ?? `${socket}.cache`, log);
  const lender = new Lender(remote as RemoteDisks<LendableDisk>);
  let started = 0;
  return Supervisor.start({
    ...{ memoryBytes, tunables, log },
    start: (wish) => {
      const name = `engine-${++started}`;
      return EngineProcess.start(folder, name, { ...wish, cacheFile: cacheFile.of(name) }, lender);
    },
    onClosed: () => cacheFile.close(),
    memoryOf: (pool) => config().pools.find(({ name }) => name === pool)?.memoryBytes ?? memoryBytes,
    onLost: (pools, panic) => recovery.lost(pools, panic),
  });
}

function readConfig(config: string | object, options: ZowHostOptions): Config {
  const { socket, directory = process.cwd() } = options;
  const defaults = { defaultSocket: socket ?? defaultSocketPath() };
  const parsed =
    typeof config === 'string' ? loadConfig(config, defaults) : configFromObject(config, directory, defaults);
  return socket === undefined ? parsed : { ...parsed, socket };
}

/** @throws StartError */
function checkEngines(config: Config, engines: Engines = 'one'): void {
  const problems = engineProblems(config, engines);
  if (problems.length > 0) throw new StartError(problems);
}

function coreFailed(error: unknown): never {
  if (error instanceof StartError) throw error;
  throw new StartError([`the core cannot be started: ${reasonOf(error)}`], { cause: error });
}

/** Before anything is started: the socket's name has to be free, or left by a host that is gone. */
async function refuseSecondHost(socket: string): Promise<void> {
  try {
    checkSocketPath(socket);
  } catch (error) {
    throw new StartError([reasonOf(error)], { cause: error });
  }
  if (isInherited(socket)) return;
  const holder = await probeSocket(socket).catch(() => undefined);
  if (holder !== undefined) throw new StartError([new SocketBusyError(socket, holder.pid).message]);
}

/** The value of a promise that has one already, else undefined. */
function settled<T>(promise: Promise<T>): Promise<T | undefined> {
  return Promise.race([promise, new Promise<undefined>((resolve) => setImmediate(resolve, undefined))]);
}

/** What an error says, and what the one behind it says. */
function reasonOf(error: unknown): string {
  if (!(error instanceof Error)) return String(error);
  return error.cause instanceof Error ? `${error.message}: ${error.cause.message}` : error.message;
}

/** Notes which listeners are open by their keys, and says what became of the others. */
function opened<Listener>(
  protocol: string,
  listeners: Map<string, Listener>,
  keys: readonly string[],
  options: readonly Listener[],
  failed: ReadonlyMap<Listener, Error>,
): string[] {
  listeners.clear();
  for (const [index, key] of keys.entries()) if (!failed.has(options[index]!)) listeners.set(key, options[index]!);
  return [...failed.values()].map((error) => `${protocol}: ${reasonOf(error)}`);
}

function nbdListener(listener: NbdListenerConfig) {
  if (listener.kind === 'unix') return { unix: listener.path, ...listener.policy };
  return { tcp: listener.address, allowPlaintextFromNetwork: listener.allowRemote, ...listener.policy };
}

async function iscsiListener(listener: IscsiListenerConfig): Promise<IscsiListenerOptions> {
  const { address, allowRemote, chap, prefix, policy } = listener;
  const secrets = chap === undefined ? undefined : await loadChap(chap);
  return { listen: address, allowRemote, chap: secrets, prefix, ...policy };
}

function httpListener(http: HttpConfig): ListenerOptions {
  if (http.kind === 'unix') return { unix: http.path };
  return { tcp: http.address, allowPlaintextFromNetwork: http.allowRemote };
}

function programsOf(socket: string): RunProgram {
  return childPrograms({ nodeArgs: programArgs, socket });
}

/** An ioctl server that only this host knows of. */
class PrivateSocket {
  readonly path: string;
  /** Where it is; for nobody else. */
  readonly folder: string;
  readonly #server: IoctlServer;

  private constructor(folder: string, path: string, server: IoctlServer) {
    this.folder = folder;
    this.path = path;
    this.#server = server;
  }

  static async open(core: IoctlCore): Promise<PrivateSocket> {
    const { folder, socket } = await makePrivateFolder(tmpdir());
    try {
      return new PrivateSocket(folder, socket, await IoctlServer.listen(core, socket, { isPrivate: true }));
    } catch (error) {
      rmSync(folder, { recursive: true, force: true });
      throw error;
    }
  }

  async close(): Promise<void> {
    await this.#server.close('the host is shutting down');
    rmSync(this.folder, { recursive: true, force: true });
  }

  abandon(reason: string): void {
    this.#server.abandon(reason);
    rmSync(this.folder, { recursive: true, force: true });
  }
}

function countsOfHttp(server: HttpServer | undefined): HostSource['http'] {
  if (server === undefined) return noHttp;
  const { unix, tcp } = server.address!;
  return { ...server.metrics, listener: (unix ?? tcp)! };
}
