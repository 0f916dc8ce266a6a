import type { ServerResponse } from 'node:http';

/** What a browser waits before it asks again, milliseconds. */
const RETRY_MS = 2_000;

/**
 * Server-sent events to one client (https://html.spec.whatwg.org/multipage/server-sent-events.html). Nothing is kept for a
 * slow one: who sends to it looks at `behind` first, and it is cut when it takes nothing for a while.
 */
export class EventStream {
  readonly #response: ServerResponse;
  readonly #patienceMs: number;
  #late: NodeJS.Timeout | undefined;
  #sentAt = 0;

  constructor(response: ServerResponse, patienceMs: number) {
    this.#response = response;
    this.#patienceMs = patienceMs;
    response.on('close', () => clearTimeout(this.#late));
    response.write(`retry: ${RETRY_MS}\n\n`);
  }

  /** The client has not taken yet what was sent to it. */
  get behind(): boolean {
    return this.#response.writableLength > 0 || (this.#response.socket?.writableLength ?? 0) > 0;
  }

  /** Sends an event; `data` is one line. Not while the client is behind: it would be kept. */
  send(event: string, data: string, id?: string): void {
    if (this.#response.destroyed || this.#response.writableEnded) return;
    const line = id === undefined ? '' : `id: ${id}\n`;
    this.#response.write(`event: ${event}\n${line}data: ${data}\n\n`);
    this.#sentAt = performance.now();
    this.#late ??= setTimeout(() => this.#check(), this.#patienceMs);
  }

  onEnd(ended: () => void): void {
    this.#response.once('close', ended);
  }

  end(): void {
    this.#response.end();
  }

  #check(): void {
    this.#late = undefined;
    if (!this.behind) return;
    // Nothing is sent to one that is behind: what it has not taken is as old as the last.
    const left = this.#patienceMs - (performance.now() - this.#sentAt);
    if (left <= 0) this.#response.destroy();
    else this.#late = setTimeout(() => this.#check(), left);
  }
}
