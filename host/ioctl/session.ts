import type { Inspector, IoctlClient, IoctlRequest, IoctlResult, IoctlSession } from '../core/dev-zfs.ts';
import { log, tracer } from '../log.ts';
import type { Lane, LaneSession } from './lane.ts';
import type { Query } from './protocol.ts';
import { answer } from './queries.ts';

const trace = tracer('ioctl');

/** One open of `/dev/zfs`: its minor in the core, and the sockets over which its ioctls come. */
export class Session implements LaneSession {
  readonly client: IoctlClient;
  /** The socket whose number the client knows as its descriptor. */
  readonly first: Lane;
  readonly lanes: Set<Lane>;
  readonly #core: IoctlSession;
  readonly #inspector: Inspector;
  #ended: Promise<void> | undefined;

  constructor(core: IoctlSession, inspector: Inspector, client: IoctlClient, first: Lane) {
    this.#core = core;
    this.#inspector = inspector;
    this.client = client;
    this.first = first;
    this.lanes = new Set([first]);
    trace?.({ minor: this.minor, ...client }, 'session opened');
  }

  get minor(): number {
    return this.#core.minor;
  }

  ioctl(request: IoctlRequest): Promise<IoctlResult> {
    return this.#core.ioctl(request);
  }

  query(query: Query): AsyncIterable<Uint8Array> {
    return answer(this.#inspector, query);
  }

  /** Drops the lanes, interrupts what runs and waits for the core's onexit callbacks. Never rejects; once only. */
  end(): Promise<void> {
    // Not at once: dropping the lanes comes back here.
    this.#ended ??= Promise.resolve().then(() => this.#end());
    return this.#ended;
  }

  async #end(): Promise<void> {
    for (const lane of [...this.lanes]) lane.destroy();
    try {
      await this.#core.close();
      trace?.({ minor: this.minor }, 'session closed');
    } catch (error) {
      log.error({ err: error, minor: this.minor, ...this.client }, 'closing an ioctl session failed');
    }
  }
}
