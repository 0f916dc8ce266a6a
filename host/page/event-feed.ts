import { randomBytes } from 'node:crypto';
import type { IoctlCore, IoctlRequest, IoctlSession } from '../core/dev-zfs.ts';
import { noStreams } from '../ioctl/streams.ts';
import { nvToJson } from '../nvlist/nvlist.ts';
import { type PoolEvent, poolEvents } from '../observe/events.ts';

/** Events that are kept for who begins to look. */
const KEPT = 256;
/** Of what an event has, as text. */
const DETAILS_MAX = 2_000;

/** An event of a pool, as the page shows it. */
export interface FeedEvent {
  /** `EID@SECONDS`: an eid alone begins anew with the host. */
  readonly id: string;
  /** Unix time. */
  readonly time: number;
  readonly class: string;
  readonly pool: string;
  /** What it is about: a device, a command of the history. */
  readonly about: string;
  /** All that it has, as JSON, the beginning of it where that is long. */
  readonly details: string;
}

/** The pools' events as they come, the last of them kept, from when it is begun. */
export class EventFeed {
  readonly #core: IoctlCore;
  readonly #came: (event: FeedEvent) => void;
  readonly #kept: FeedEvent[] = [];
  /** Events so far. */
  #count = 0;
  #session: Promise<IoctlSession> | undefined;

  constructor(core: IoctlCore, came: (event: FeedEvent) => void) {
    this.#core = core;
    this.#came = came;
  }

  /** Reads on, from the oldest that the core has. Again and again: one that reads already does so. */
  begin(): void {
    if (this.#session !== undefined) return;
    const fd = 0;
    const client = { process: randomBytes(16).toString('hex'), fd, pid: process.pid, program: 'zow' };
    const opened = this.#core.open(client);
    this.#session = opened;
    void this.#read(opened, fd)
      .catch(() => undefined)
      .finally(() => {
        if (this.#session === opened) this.#session = undefined;
      });
  }

  async end(): Promise<void> {
    const session = this.#session;
    this.#session = undefined;
    this.#kept.length = 0;
    await (await session?.catch(() => undefined))?.close();
  }

  /** Those behind number `after`, and the number of the last. */
  since(after: number): { readonly events: readonly FeedEvent[]; readonly last: number } {
    const first = this.#count - this.#kept.length;
    return { events: this.#kept.slice(Math.max(0, after - first)), last: this.#count };
  }

  async #read(opened: Promise<IoctlSession>, fd: number): Promise<void> {
    const session = await opened;
    const source = {
      fd,
      ioctl: (request: object) => session.ioctl({ ...request, streams: noStreams } as IoctlRequest),
    };
    for await (const event of poolEvents(source, { follow: true })) {
      if (this.#session !== opened) return;
      const shown = feedEventOf(event);
      this.#count++;
      this.#kept.push(shown);
      if (this.#kept.length > KEPT) this.#kept.shift();
      this.#came(shown);
    }
  }
}

/** What an event is about, by the first of these that it has. */
const ABOUT = [
  'history_internal_str',
  'history_command',
  'vdev_path',
  'vdev_type',
  'history_dsname',
  'zvol_name',
  'vdev_state',
] as const;

export function feedEventOf({ class: name, eid, members }: PoolEvent): FeedEvent {
  const all = nvToJson(members) as Readonly<Record<string, unknown>>;
  const { class: _, eid: __, time, ...rest } = all;
  const [seconds = 0, nanoseconds = 0] = (time as number[] | undefined) ?? [];
  const text = (key: string): string => (rest[key] === undefined ? '' : String(rest[key]));
  const internal = text('history_internal_name');
  const dataset = internal === '' ? '' : text('history_dsname');
  const about = ABOUT.map(text).find((found) => found !== '') ?? '';
  const details = JSON.stringify(rest);
  return {
    id: `${eid}@${seconds}`,
    time: Number(seconds) + Number(nanoseconds) / 1e9,
    class: name,
    pool: text('pool') || text('pool_name') || text('history_dsname').split(/[/@]/)[0]!,
    about: [internal, dataset, about]
      .filter((part, i, parts) => part !== '' && parts.indexOf(part) === i)
      .join(' ')
      .slice(0, 300),
    details: details.length > DETAILS_MAX ? `${details.slice(0, DETAILS_MAX)}…` : details,
  };
}
