import { hostname } from 'node:os';
import type { IoctlCore } from '../core/dev-zfs.ts';
import type { EventStream } from '../http/event-stream.ts';
import { type Asked, type Route, text } from '../http/server.ts';
import { type Logger, log as rootLog } from '../log.ts';
import type { HostSample } from '../metrics/host-sample.ts';
import { within } from '../metrics/within.ts';
import type { RunProgram } from '../serve/programs.ts';
import { ActionError, type Command, commandLine, commandOf } from './actions.ts';
import { Advisor } from './advice.ts';
import { assetRoutes } from './assets.ts';
import { EventFeed } from './event-feed.ts';
import { Space } from './space.ts';
import { type PageState, pageStateOf } from './state.ts';
import type { Token } from './token.ts';

/** Who may change something: nobody, who knows the token, whoever reaches the listener. */
export type Access = 'nobody' | 'token' | 'everybody';

export interface PageOptions {
  readonly core: IoctlCore;
  readonly sample: () => Promise<HostSample>;
  readonly troubles: () => Promise<readonly string[]>;
  /** Runs zpool and zfs on this host. */
  readonly run: RunProgram;
  /** Why nothing can be changed now; undefined: it can. */
  readonly notServing: () => string | undefined;
  /** Present: who may change something has it. */
  readonly token: Token | undefined;
  /** Without a token: whether whoever reaches the listener may change something. */
  readonly trusted: boolean;
  readonly log?: Logger;
}

/** How often the page is told how things are. */
const TICK_MS = 1_000;
/** How long an event waits for others that come with it. */
const EVENTS_MS = 100;
/** Who looks at a time. */
const VIEWERS_MAX = 16;
/** Commands at a time, and how long one may take. */
const COMMANDS_MAX = 4;
const COMMAND_MS = 60_000;
const BODY_BYTES_MAX = 4096;
/** Of what a command prints. */
const OUTPUT_MAX = 16 * 1024;
const CLOSE_MS = 500;

/** Someone who looks: what was sent last of what is sent only when it is new. */
interface Viewer {
  readonly stream: EventStream;
  space: number;
  advice: number;
  events: number;
}

/**
 * The live page: its files, the stream of what it shows, and what it can do. While nobody looks it asks nobody.
 *
 *   every second:  sample of the host ─► state ─► all who are not behind
 *   beside that:   events, datasets, what zpool status says ─► each when it is new
 */
export class LivePage {
  readonly routes: readonly (readonly [path: string, route: Route])[];
  readonly #options: PageOptions;
  #token: Token | undefined;
  readonly #log: Logger;
  readonly #viewers = new Set<Viewer>();
  readonly #events: EventFeed;
  readonly #space: Space;
  readonly #advisor: Advisor;
  #adviceVersion = 1;
  #last: PageState | undefined;
  /** It, as it is sent. */
  #state: string | undefined;
  #timer: NodeJS.Timeout | undefined;
  #eventsTimer: NodeJS.Timeout | undefined;
  #ticking = false;
  #closed = false;
  #commands = 0;

  constructor(options: PageOptions) {
    this.#options = options;
    this.#token = options.token;
    this.#log = options.log ?? rootLog;
    this.#events = new EventFeed(options.core, ({ pool }) => {
      this.#space.changed(pool);
      this.#eventsTimer ??= setTimeout(() => this.#sendAllEvents(), EVENTS_MS);
    });
    this.#space = new Space(options.core);
    this.#advisor = new Advisor(options.run, () => {
      this.#adviceVersion++;
    });
    this.routes = [
      ...assetRoutes(),
      ['/live', { streams: VIEWERS_MAX, open: (stream) => this.#open(stream) }],
      [
        '/act',
        {
          bodyBytes: BODY_BYTES_MAX,
          answerMs: COMMAND_MS + 5_000,
          post: (asked, body) => this.#act(asked, body),
        },
      ],
    ];
  }

  /** From now on only who knows this one may act. */
  renew(token: Token): void {
    this.#token = token;
  }

  /** Asks nobody any more. */
  async close(): Promise<void> {
    this.#closed = true;
    clearTimeout(this.#timer);
    clearTimeout(this.#eventsTimer);
    for (const { stream } of this.#viewers) stream.end();
    await within(CLOSE_MS, Promise.all([this.#events.end(), this.#space.close()]));
  }

  get #access(): Access {
    if (this.#token !== undefined) return 'token';
    return this.#options.trusted ? 'everybody' : 'nobody';
  }

  #open(stream: EventStream): void {
    if (this.#closed) {
      stream.end();
      return;
    }
    const viewer: Viewer = { stream, space: 0, advice: 0, events: 0 };
    stream.onEnd(() => this.#viewers.delete(viewer));
    this.#viewers.add(viewer);
    stream.send('hello', JSON.stringify({ host: hostname(), access: this.#access }));
    if (this.#ticking && this.#state !== undefined) stream.send('state', this.#state);
    this.#events.begin();
    if (!this.#ticking) void this.#tick();
  }

  async #tick(): Promise<void> {
    this.#ticking = this.#viewers.size > 0 && !this.#closed;
    if (!this.#ticking) {
      this.#state = undefined;
      if (!this.#closed) await this.#events.end();
      return;
    }
    const started = performance.now();
    try {
      await this.#look();
    } catch (error) {
      this.#log.error({ err: error }, 'internal error of the page');
    }
    if (this.#closed) return;
    for (const viewer of this.#viewers) this.#send(viewer);
    const restMs = Math.max(TICK_MS / 10, TICK_MS - (performance.now() - started));
    this.#timer = setTimeout(() => void this.#tick(), restMs);
  }

  async #look(): Promise<void> {
    const { sample, troubles } = this.#options;
    const [host, reasons] = await Promise.all([sample(), troubles()]);
    const now = { at: performance.now() / 1000, time: Date.now() / 1000, troubles: reasons };
    const state = pageStateOf(host, now, this.#last);
    this.#last = state;
    this.#events.begin();
    const silent = state.pools.filter(({ details }) => details === undefined);
    this.#space.look(
      state.pools.map(({ name }) => name),
      new Set(silent.map(({ name }) => name)),
    );
    this.#advisor.look(state.pools);
    this.#state = JSON.stringify(state);
  }

  /** To one that is behind nothing is sent: next time it gets what is so then. */
  #send(viewer: Viewer): void {
    const { stream } = viewer;
    if (stream.behind || this.#state === undefined) return;
    stream.send('state', this.#state);
    if (viewer.space !== this.#space.version) {
      viewer.space = this.#space.version;
      stream.send('space', JSON.stringify(this.#space.all));
    }
    if (viewer.advice !== this.#adviceVersion) {
      viewer.advice = this.#adviceVersion;
      stream.send('advice', JSON.stringify(this.#advisor.all));
    }
    this.#sendEvents(viewer);
  }

  #sendAllEvents(): void {
    this.#eventsTimer = undefined;
    for (const viewer of this.#viewers) if (!viewer.stream.behind) this.#sendEvents(viewer);
  }

  #sendEvents(viewer: Viewer): void {
    const { events, last } = this.#events.since(viewer.events);
    viewer.events = last;
    if (events.length > 0) viewer.stream.send('events', JSON.stringify(events));
  }

  async #act({ headers, peer }: Asked, body: string) {
    if (this.#access === 'nobody')
      return text(403, 'nothing can be changed here: http.token of the configuration allows it');
    if (this.#access === 'token' && !this.#token!.isIn(headers.authorization))
      return text(401, 'the token is not right');
    let fields: Record<string, unknown> = {};
    let command: Command | undefined;
    try {
      fields = objectOf(body);
      // Whether the token is right.
      command = fields.do === 'nothing' ? undefined : commandOf(fields);
    } catch (error) {
      if (!(error instanceof ActionError)) throw error;
      // Who still types has made no mistake yet.
      return fields.run === false ? json({ problem: error.message }) : text(400, error.message);
    }
    if (command === undefined) return json({});
    const { confirm = null } = command;
    if (fields.run !== true) return json({ command: commandLine(command), confirm });
    if (confirm !== null && fields.confirm !== confirm) return text(400, `confirm: has to be ${confirm}`);
    return this.#run(command, peer);
  }

  async #run(command: Command, peer: string) {
    const reason = this.#options.notServing();
    if (reason !== undefined) return text(503, reason);
    if (this.#commands >= COMMANDS_MAX) return text(503, `${COMMANDS_MAX} commands run already`);
    const line = commandLine(command);
    this.#commands++;
    try {
      const options = { timeoutMs: COMMAND_MS };
      const { code, stdout, stderr } = await this.#options.run(command.program, command.args, options);
      this.#log.info({ peer, command: line, code }, 'command of the page');
      return json({ command: line, code, output: `${stdout}${stderr}`.slice(0, OUTPUT_MAX) });
    } finally {
      this.#commands--;
    }
  }
}

function objectOf(body: string): Record<string, unknown> {
  let value: unknown;
  try {
    value = JSON.parse(body);
  } catch {
    throw new ActionError('the body is no JSON');
  }
  if (typeof value !== 'object' || value === null || Array.isArray(value))
    throw new ActionError('the body has to be an object');
  return value as Record<string, unknown>;
}

function json(value: object) {
  return { status: 200, type: 'application/json', body: JSON.stringify(value) };
}
