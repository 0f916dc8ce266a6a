import http from 'node:http';
import type { Socket } from 'node:net';
import { type Logger, log as rootLog } from '../log.ts';
import { checkListener, type ListenerAddress, type ListenerOptions, listen } from '../net/listener.ts';
import { EventStream } from './event-stream.ts';
import { isCrossSite, isOurs } from './host-header.ts';
import { defaultLimits, type HttpLimits } from './limits.ts';

/** What a path answers. */
export interface Answer {
  readonly status: number;
  readonly type: string;
  readonly body: string | Uint8Array;
  /** Beside, or in the place of, those that every answer has. */
  readonly headers?: Readonly<Record<string, string>>;
}

/** A request, as far as a route asks. */
export interface Asked {
  readonly headers: http.IncomingHttpHeaders;
  /** As in logs. */
  readonly peer: string;
}

/** Answers GET and HEAD of one path. */
export type GetRoute = (asked: Asked) => Promise<Answer> | Answer;

/** Answers POST of one path, with a body of JSON. Pages of other sites cannot send any (isCrossSite). */
export interface PostRoute {
  readonly bodyBytes: number;
  /** How long the answer may take, milliseconds. */
  readonly answerMs: number;
  readonly post: (asked: Asked, body: string) => Promise<Answer>;
}

/** Gives who asks for the path by GET a stream of events, which lasts; so many at a time. */
export interface StreamRoute {
  readonly streams: number;
  readonly open: (stream: EventStream, asked: Asked) => void;
}

export type Route = GetRoute | PostRoute | StreamRoute;

export interface HttpServerOptions {
  readonly listener: ListenerOptions;
  /** Names of this host in requests, beside localhost, its own name and IP addresses; in lower case. */
  readonly hosts?: readonly string[];
  readonly routes: ReadonlyMap<string, Route>;
  readonly limits?: Partial<HttpLimits>;
  readonly log?: Logger;
}

/** Counters since start, plain numbers that whoever exports metrics reads. */
export interface HttpMetrics {
  readonly connections: { open: number; total: number; refused: number };
  /** By the status of their answers. */
  readonly requests: Map<number, number>;
}

const plain = 'text/plain; charset=utf-8';
/** One line about a client that is refused, at most so often. */
const COMPLAINT_MS = 1_000;
/** Nothing of ours is for another site's page, nor for caches. */
const HEADERS = {
  'Cache-Control': 'no-store',
  'Content-Security-Policy': "default-src 'none'",
  'Cross-Origin-Resource-Policy': 'same-origin',
  'X-Content-Type-Options': 'nosniff',
};

/**
 * A small HTTP/1.1 server: it answers GET, HEAD and POST of a few paths, to requests that are for this host (isOurs). What
 * a client can have of it is bounded (limits.ts).
 *
 *   const server = new HttpServer({ listener: { tcp: '127.0.0.1:9134' }, routes });
 *   await server.start();  …  await server.close();
 */
export class HttpServer {
  readonly metrics: HttpMetrics = { connections: { open: 0, total: 0, refused: 0 }, requests: new Map() };
  readonly #options: HttpServerOptions;
  readonly #limits: HttpLimits;
  readonly #log: Logger;
  readonly #server: http.Server;
  /** Answers under way, by connection; the oldest connection first. */
  readonly #connections = new Map<Socket, number>();
  readonly #streams = new Map<StreamRoute, Set<EventStream>>();
  #address: ListenerAddress | undefined;
  #complainedAt = Number.NEGATIVE_INFINITY;
  #uncomplained = 0;
  #closing: Promise<void> | undefined;

  /** @throws ErrnoError when the listener is not allowed as configured, see checkListener. */
  constructor(options: HttpServerOptions) {
    checkListener('http', options.listener);
    this.#options = options;
    this.#log = options.log ?? rootLog;
    this.#limits = { ...defaultLimits, ...options.limits };
    const { headerBytes, headerMs, idleMs } = this.#limits;
    this.#server = http.createServer(
      {
        maxHeaderSize: headerBytes,
        headersTimeout: headerMs,
        requestTimeout: headerMs,
        keepAliveTimeout: idleMs,
        connectionsCheckingInterval: Math.max(10, headerMs / 10),
        noDelay: true,
      },
      (request, response) => void this.#answer(request, response),
    );
    this.#server.on('connection', (socket) => this.#connected(socket));
    this.#server.on('clientError', (error, socket) => this.#refuse(error, socket as Socket));
  }

  async start(): Promise<void> {
    this.#address = await listen('http', this.#server, this.#options.listener);
    const listener = this.#address.unix ?? this.#address.tcp;
    this.#server.on('error', (error) => this.#log.error({ err: error, listener }, 'http listener failed'));
    this.#log.info({ listener }, 'http listening');
  }

  /** Where clients connect to; undefined before start(). */
  get address(): ListenerAddress | undefined {
    return this.#address;
  }

  /** Accepts nobody any more; answers that are under way have a moment to reach their clients. A second call waits for the first. */
  close(): Promise<void> {
    this.#closing ??= this.#close();
    return this.#closing;
  }

  async #close(): Promise<void> {
    if (!this.#server.listening) return;
    const closed = new Promise<void>((resolve) => this.#server.close(() => resolve()));
    for (const streams of this.#streams.values()) for (const stream of streams) stream.end();
    this.#server.closeIdleConnections();
    const late = setTimeout(() => this.#server.closeAllConnections(), this.#limits.shutdownMs);
    await closed;
    clearTimeout(late);
  }

  #connected(socket: Socket): void {
    const { connections } = this.metrics;
    connections.total++;
    if (this.#connections.size >= this.#limits.connections) {
      connections.refused++;
      this.#complain('too many connections', undefined);
      // Who has asked for nothing makes room: whoever opens connections by the thousand keeps nobody out.
      const [idle] = [...this.#connections].find(([, answers]) => answers === 0) ?? [];
      if (idle === undefined) {
        socket.destroy();
        return;
      }
      this.#connections.delete(idle);
      connections.open--;
      idle.destroy();
    }
    connections.open++;
    this.#connections.set(socket, 0);
    socket.on('close', () => {
      if (this.#connections.delete(socket)) connections.open--;
    });
  }

  #isBusy(socket: Socket, answers: 1 | -1): void {
    const before = this.#connections.get(socket);
    if (before !== undefined) this.#connections.set(socket, before + answers);
  }

  async #answer(request: http.IncomingMessage, response: http.ServerResponse): Promise<void> {
    const { socket } = request;
    this.#isBusy(socket, 1);
    // Who does not take its answer is cut.
    let late = setTimeout(() => socket.destroy(), this.#limits.answerMs);
    response.on('close', () => {
      clearTimeout(late);
      this.#isBusy(socket, -1);
    });
    const allow = (ms: number): void => {
      clearTimeout(late);
      late = setTimeout(() => socket.destroy(), ms);
    };
    const found = await this.#answerOf(request, allow).catch((error: unknown) => {
      this.#log.error({ err: error, path: request.url }, 'internal error of an http answer');
      return text(500, 'internal error');
    });
    if (response.destroyed) return;
    if ('open' in found) {
      clearTimeout(late);
      this.#count(200);
      this.#stream(found, request, response);
      return;
    }
    const { status, type, body, headers } = found;
    this.#count(status);
    if (status === 401) this.#complain('without the right secret', socket);
    // After a refusal nothing that follows on the connection is believed.
    if (status >= 400 && status < 500) response.setHeader('Connection', 'close');
    response.writeHead(status, {
      ...HEADERS,
      'Content-Type': type,
      'Content-Length': Buffer.byteLength(body),
      ...headers,
    });
    response.end(request.method === 'HEAD' ? undefined : body);
  }

  #stream(route: StreamRoute, request: http.IncomingMessage, response: http.ServerResponse): void {
    const streams = this.#streams.get(route) ?? new Set();
    this.#streams.set(route, streams);
    response.writeHead(200, { ...HEADERS, 'Content-Type': 'text/event-stream' });
    const stream = new EventStream(response, this.#limits.answerMs);
    streams.add(stream);
    stream.onEnd(() => streams.delete(stream));
    route.open(stream, askedOf(request));
  }

  async #answerOf(request: http.IncomingMessage, allow: (ms: number) => void): Promise<Answer | StreamRoute> {
    const { method = '', headers, url = '', socket } = request;
    const { hosts = [], routes } = this.#options;
    // Also on a unix socket: a port of this machine may be forwarded to it, and then a browser reaches it.
    if (!isOurs(headers.host, hosts)) {
      this.#complain('a request for another host', socket);
      return text(421, 'this host is not known by that name; add it to http.hosts');
    }
    const route = routes.get(url.split('?', 1)[0]!);
    const allowed =
      route === undefined || typeof route === 'function' ? ['GET', 'HEAD'] : 'post' in route ? ['POST'] : ['GET'];
    if (!allowed.includes(method))
      return { ...text(405, `only ${allowed.join(' and ')}`), headers: { Allow: allowed.join(', ') } };
    const length = headers['content-length'];
    const bodyBytes = route !== undefined && 'post' in route ? route.bodyBytes : 0;
    if (headers['transfer-encoding'] !== undefined || Number(length ?? 0) > bodyBytes)
      return text(
        413,
        bodyBytes === 0 ? 'a request here has no body' : `the body has a Content-Length, of at most ${bodyBytes} bytes`,
      );
    if (route === undefined) return text(404, `there is ${[...routes.keys()].join(', ')}`);
    if (typeof route === 'function') return route(askedOf(request));
    if (isCrossSite(headers)) {
      this.#complain('a request by a page of another site', socket);
      return text(403, 'pages of other sites may not ask for this');
    }
    if ('open' in route) {
      const isFull = (this.#streams.get(route)?.size ?? 0) >= route.streams;
      return isFull ? text(503, `${route.streams} others look already`) : route;
    }
    if (!/^application\/json *(;|$)/.test(headers['content-type'] ?? ''))
      return text(415, 'the body has to be application/json');
    const body = await bodyOf(request).catch(() => undefined);
    if (body === undefined) return text(400, 'the body has not come');
    allow(route.answerMs);
    return route.post(askedOf(request), body);
  }

  #count(status: number): void {
    this.metrics.requests.set(status, (this.metrics.requests.get(status) ?? 0) + 1);
  }

  /** What is no HTTP, or takes too long to be any. */
  #refuse(error: NodeJS.ErrnoException, socket: Socket): void {
    if (error.code === 'ECONNRESET' || !socket.writable) {
      socket.destroy();
      return;
    }
    const [status, phrase] =
      error.code === 'ERR_HTTP_REQUEST_TIMEOUT'
        ? [408, 'Request Timeout']
        : error.code === 'HPE_HEADER_OVERFLOW'
          ? [431, 'Request Header Fields Too Large']
          : [400, 'Bad Request'];
    this.#count(status);
    this.#complain(phrase, socket);
    // It may not read: nothing is waited for.
    socket.end(`HTTP/1.1 ${status} ${phrase}\r\nConnection: close\r\nContent-Length: 0\r\n\r\n`, () =>
      socket.destroy(),
    );
    setTimeout(() => socket.destroy(), this.#limits.shutdownMs).unref();
  }

  #complain(reason: string, socket: Socket | undefined): void {
    const now = performance.now();
    if (now - this.#complainedAt < COMPLAINT_MS) {
      this.#uncomplained++;
      return;
    }
    this.#complainedAt = now;
    const others = this.#uncomplained === 0 ? {} : { others: this.#uncomplained };
    this.#uncomplained = 0;
    const peer = socket === undefined ? {} : { peer: peerOf(socket) };
    this.#log.info({ ...peer, reason, ...others }, 'http client refused');
  }
}

/** One line of text as an answer. */
export function text(status: number, line: string): Answer {
  return { status, type: plain, body: `${line}\n` };
}

function askedOf({ headers, socket }: http.IncomingMessage): Asked {
  return { headers, peer: peerOf(socket) };
}

function peerOf({ remoteAddress, remotePort }: Socket): string {
  return remoteAddress === undefined ? 'unix' : `${remoteAddress}:${remotePort}`;
}

/** Of a request whose Content-Length is bounded. Rejects when the client goes away; one that is slow is cut by the server. */
async function bodyOf(request: http.IncomingMessage): Promise<string> {
  const parts: Buffer[] = [];
  for await (const part of request) parts.push(part as Buffer);
  return Buffer.concat(parts).toString();
}
