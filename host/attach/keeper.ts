import { mkdirSync, rmSync } from 'node:fs';
import type net from 'node:net';
import { Errno, ErrnoError } from '../errno.ts';
import type { Logger } from '../log.ts';
import type { LocatedVolume } from '../nbd/locate.ts';
import { NbdServer } from '../nbd/server.ts';
import { parseTcp } from '../net/listener.ts';
import { type ControlAnswer, type ControlRequest, serveControl } from './control.ts';
import { KeptVolume } from './kept-volume.ts';
import { linkFileOf, makeLinkFile, removeLinkFile } from './link-file.ts';
import { type AttachmentRecord, bootId, controlSocket, nbdSocket, writeRecord } from './record.ts';
import type { Front, WayName } from './ways/way.ts';
import { chooseWay, takeDown } from './ways/ways.ts';

export interface KeeperOptions {
  /** Of this attachment (folderOf), without symbolic links; made by the keeper, which is how others know that it is taken. */
  readonly folder: string;
  /** The host's ioctl socket. */
  readonly socket: string;
  readonly volume: string;
  readonly readOnly: boolean;
  readonly way: WayName | undefined;
  /** Where to put a link; undefined: nowhere. */
  readonly links: string | undefined;
  /** How long reads and writes wait for a host that is away, milliseconds; Infinity: for ever. */
  readonly waitMs: number;
  /** Asks the host for the volume. */
  readonly locate: () => Promise<LocatedVolume>;
  /** The attachment's own log, in its folder. */
  readonly openLog: () => Logger;
}

/** Largest data of one connection's requests under way, bytes: four of them stay within the volume's buffers. */
const CONNECTION_BYTES = 8 << 20;
/** A timer has 31 bits; nobody is cut, since nothing else would come in the place of the kernel. */
const NEVER_MS = 2 ** 31 - 1;

/**
 * The process of one attachment: between the host, which may go away and come back, and what the kernel or nbdfuse made
 * of the volume, whose connection stays. It ends when the volume is detached.
 */
export class Keeper {
  readonly #options: KeeperOptions;
  readonly #log: Logger;
  #control: net.Server | undefined;
  #volume: KeptVolume | undefined;
  #server: NbdServer | undefined;
  #front: Front | undefined;
  #record: AttachmentRecord | undefined;
  readonly #attached = Promise.withResolvers<AttachmentRecord>();
  readonly #ended = Promise.withResolvers<string | undefined>();
  #detaching: Promise<void> | undefined;

  private constructor(options: KeeperOptions) {
    this.#options = options;
    this.#log = options.openLog();
    // Whoever asks hears of it; perhaps nobody does.
    this.#attached.promise.catch(() => undefined);
  }

  /** Attaches the volume. Rejects with a sentence when that cannot be done; nothing is left then. EEXIST: its folder is there. */
  static async start(options: KeeperOptions): Promise<Keeper> {
    const { folder } = options;
    mkdirSync(folder, { mode: 0o700 });
    const keeper = new Keeper(options);
    try {
      keeper.#control = await serveControl(controlSocket(folder), (request) => keeper.#answer(request));
      await keeper.#attach();
      return keeper;
    } catch (error) {
      keeper.#attached.reject(error as Error);
      // Those who asked are to read why.
      await new Promise((resolve) => setImmediate(resolve));
      if (keeper.#front !== undefined) await takeDown(keeper.#front.record, { writes: false });
      await keeper.#leave();
      throw error;
    }
  }

  get record(): AttachmentRecord {
    return this.#record!;
  }

  /** Resolves when it was detached; with a sentence when what was attached has ended by itself. */
  get ended(): Promise<string | undefined> {
    return this.#ended.promise;
  }

  /** Takes the attachment apart. Rejects with a sentence when that cannot be done: it stays. A second call joins the first. */
  detach({ force }: { readonly force: boolean }): Promise<void> {
    this.#detaching ??= this.#detach(force).finally(() => {
      this.#detaching = undefined;
    });
    return this.#detaching;
  }

  async #attach(): Promise<void> {
    const { folder, socket, volume, links, waitMs } = this.#options;
    const log = this.#log;
    const way = chooseWay(this.#options.way);
    const located = await this.#options.locate();
    const readOnly = this.#options.readOnly || located.readOnly;
    const link = links === undefined ? undefined : linkFileOf(links, volume);
    const { name, size, blockSize } = located;
    const { unix, tcp } = located.address;
    const info = { name, size, blockSize, readOnly, guid: BigInt(located.guid), poolGuid: BigInt(located.poolGuid) };
    const exportName = name;
    this.#volume = await KeptVolume.open({
      ...{ info, name, guid: located.guid, sizeBytes: size, readOnly, waitMs, log },
      address:
        unix === undefined
          ? { kind: 'tcp', ...parseTcp('nbd', tcp!), exportName }
          : { kind: 'unix', path: unix, exportName },
    });
    this.#server = new NbdServer({
      ...{ provider: this.#volume, log },
      listeners: [{ unix: nbdSocket(folder), readOnly, defaultExport: name }],
      limits: { bytesPerConnection: CONNECTION_BYTES, stallMs: NEVER_MS, connections: 16 },
    });
    await this.#server.start();
    this.#front = await way.open({ socket: nbdSocket(folder), folder, readOnly });
    const { record: front } = this.#front;
    if (link !== undefined) makeLinkFile(link, front.path);
    this.#record = {
      ...{ volume, socket, size, readOnly, readOnlyByWish: readOnly && !located.readOnly },
      ...{ waitMs: waitMs === Infinity ? null : waitMs, front, pid: process.pid, boot: bootId() },
      ...(link !== undefined && { link }),
    };
    writeRecord(folder, this.#record);
    void this.#front.ended.then((reason) => this.#fail(reason));
    log.info({ volume, path: front.path, way: way.name }, 'attached');
    this.#attached.resolve(this.#record);
  }

  async #answer(request: ControlRequest): Promise<ControlAnswer> {
    switch (request.ask) {
      case 'attached':
        return { record: await this.#attached.promise, status: this.#volume!.status };
      case 'status':
        if (this.#record === undefined) throw new ErrnoError(Errno.EAGAIN, 'it is being attached');
        return { record: this.#record, status: this.#volume!.status };
      case 'detach':
        await this.#attached.promise;
        await this.detach(request);
        // The answer leaves first.
        setImmediate(() => this.#ended.resolve(undefined));
        return { detached: true };
      default:
        throw new ErrnoError(Errno.EINVAL, 'a keeper is not asked that');
    }
  }

  async #detach(force: boolean): Promise<void> {
    const volume = this.#volume!;
    const { readOnly, volume: name } = this.#record!;
    const { isConnected, reason } = volume.status;
    const writes = !readOnly && !force;
    if (writes && !isConnected) {
      throw new ErrnoError(
        Errno.EBUSY,
        `${name} cannot be detached: the host is away (${reason}), and what was written may not be there; --force gives that up`,
      );
    }
    if (force) volume.stopWaiting();
    if (this.#front !== undefined) {
      await takeDown(this.#front.record, { writes });
      this.#front = undefined;
    }
    // The host may have gone just now: then it is still here, and the next try gets to this again.
    if (writes) await volume.flush();
    await this.#leave();
    this.#log.info({ volume: name }, 'detached');
  }

  /** Programs have errors now, as with a disk that was pulled; what is left is taken down by `zow detach`. */
  async #fail(reason: string): Promise<void> {
    if (this.#detaching !== undefined || this.#front === undefined) return;
    const { volume } = this.#options;
    const log = this.#log;
    log.error({ volume, reason }, 'the attachment ended');
    // Somebody may have unmounted it: what he wrote before is there.
    await this.#volume!.flush().catch((error: Error) => log.error({ volume, reason: error.message }, 'not flushed'));
    this.#volume!.close();
    this.#ended.resolve(reason);
  }

  /** Gives everything back that it has. */
  async #leave(): Promise<void> {
    const { folder } = this.#options;
    if (this.#record?.link !== undefined) removeLinkFile(this.#record.link, this.#record.front.path);
    await this.#server?.close();
    this.#volume?.close();
    this.#control?.close();
    rmSync(folder, { recursive: true, force: true });
  }
}
