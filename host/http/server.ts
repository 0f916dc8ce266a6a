import http from 'node:http';
import type { Socket } from 'node:net';
import { type Logger, log as rootLog } from '../log.ts';
import { checkListener, type ListenerAddress, type ListenerOptions, listen } from '../net/listener.ts';
import { isOurs } from './host-header.ts';
import { defaultLimits, type HttpLimits } from './limits.ts';

/** What a path answers. */
export interface Answer {
  readonly status: number;
  readonly type: string;
  readonly body: string;
}

/** Answers GET and HEAD of one path; `accept` is the header of that name. */
export type Route = (accept: string) => Promise<Answer> | Answer;

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
 * A small HTTP/1.1 server: it answers GET and HEAD of a few paths, to requests without a body that are for this host
 * (isOurs). What a client can have of it is bounded (limits.ts).
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
    const { headerBytes, headerMs, idleMs, connections } = this.#limits;
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
    this.#server.maxConnections = connections;
    this.#server.on('connection', (socket) => this.#connected(socket));
    this.#server.on('drop', () => {
      this.metrics.connections.refused++;
      this.#complain('too many connections', undefined);
    });
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
    this.#server.closeIdleConnections();
    const late = setTimeout(() => this.#server.closeAllConnections(), this.#limits.shutdownMs);
    await closed;
    clearTimeout(late);
  }

  #connected(socket: Socket): void {
    const { connections } = this.metrics;
    connections.open++;
    connections.total++;
    socket.on('close', () => {
      connections.open--;
    });
  }

  async #answer(request: http.IncomingMessage, response: http.ServerResponse): Promise<void> {
    const { answerMs } = this.#limits;
    // Who does not take its answer is cut.
    const late = setTimeout(() => request.socket.destroy(), answerMs);
    response.on('close', () => clearTimeout(late));
    const { status, type, body } = await this.#answerOf(request).catch((error: unknown) => {
      this.#log.error({ err: error, path: request.url }, 'internal error of an http answer');
      return text(500, 'internal error');
    });
    if (response.destroyed) return;
    this.metrics.requests.set(status, (this.metrics.requests.get(status) ?? 0) + 1);
    // After a refusal nothing that follows on the connection is believed.
    if (status >= 400 && status < 500) response.setHeader('Connection', 'close');
    response.writeHead(status, {
      ...HEADERS,
      ...(status === 405 && { Allow: 'GET, HEAD' }),
      'Content-Type': type,
      'Content-Length': Buffer.byteLength(body),
    });
    response.end(request.method === 'HEAD' ? undefined : body);
  }

  async #answerOf(request: http.IncomingMessage): Promise<Answer> {
    const { method, headers, url = '' } = request;
    const { listener, hosts = [], routes } = this.#options;
    // A browser cannot connect to a unix socket.
    if (listener.tcp !== undefined && !isOurs(headers.host, hosts)) {
      this.#complain('a request for another host', request.socket);
      return text(421, 'this host is not known by that name; add it to http.hosts');
    }
    if (method !== 'GET' && method !== 'HEAD') return text(405, 'only GET and HEAD');
    if (headers['transfer-encoding'] !== undefined || Number(headers['content-length'] ?? 0) !== 0)
      return text(413, 'a request here has no body');
    const route = routes.get(url.split('?', 1)[0]!);
    if (route === undefined) return text(404, `there is ${[...routes.keys()].join(', ')}`);
    return route(headers.accept ?? '');
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
    this.metrics.requests.set(status, (this.metrics.requests.get(status) ?? 0) + 1);
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
    const peer = socket?.remoteAddress === undefined ? {} : { peer: `${socket.remoteAddress}:${socket.remotePort}` };
    this.#log.info({ ...peer, reason, ...others }, 'http client refused');
  }
}

/** One line of text as an answer. */
export function text(status: number, line: string): Answer {
  return { status, type: plain, body: `${line}\n` };
}
