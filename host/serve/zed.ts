import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import type { Logger } from '../log.ts';

export interface EventDaemonOptions {
  /** Node's arguments that run zed. */
  readonly nodeArgs: readonly string[];
  /** The ioctl socket it talks to. */
  readonly socket: string;
  /** For its state, which outlives it and lets the next one go on with the event after the last. */
  readonly folder: string;
  readonly log: Logger;
}

/** Whoever waits for the host goes first. */
const START_DELAY_MS = 1000;
const BACKOFF_MS_MIN = 1000;
const BACKOFF_MS_MAX = 60_000;

/**
 * Upstream's event daemon, zed(8), as a child process: it diagnoses devices from their errors, marks them FAULTED or
 * DEGRADED, and lets hot spares take over. It is started again whenever it ends; what it prints is logged.
 */
export class EventDaemon {
  readonly #options: EventDaemonOptions;
  #child: ChildProcess | undefined;
  #timer: NodeJS.Timeout | undefined;
  #backoffMs = BACKOFF_MS_MIN;
  #stopped = false;

  constructor(options: EventDaemonOptions) {
    this.#options = options;
    this.#startIn(START_DELAY_MS);
  }

  /** Ends it for good, and resolves when it is gone. It has nothing to save that anybody would read again. */
  async stop(): Promise<void> {
    this.#stopped = true;
    clearTimeout(this.#timer);
    const child = this.#child;
    if (child === undefined) return;
    const closed = once(child, 'close');
    child.kill('SIGKILL');
    await closed;
  }

  #startIn(delayMs: number): void {
    this.#timer = setTimeout(() => this.#start(), delayMs).unref();
  }

  #start(): void {
    const { nodeArgs, socket, folder, log } = this.#options;
    const zedlets = join(folder, 'zedlets');
    mkdirSync(zedlets, { recursive: true });
    const verbose = log.isLevelEnabled('debug');
    const files = ['-d', zedlets, '-p', join(folder, 'zed.pid'), '-s', join(folder, 'zed.state')];
    const child = spawn(process.execPath, [...nodeArgs, '-F', ...(verbose ? ['-v'] : []), ...files], {
      env: { ...process.env, ZOW_SOCKET: socket },
      stdio: ['ignore', 'ignore', 'pipe'],
      // Ctrl-C at the host's terminal is the host's.
      detached: true,
    });
    this.#child = child;
    const startedMs = performance.now();
    createInterface({ input: child.stderr }).on('line', (line) => {
      if (line.trim() !== '') log[verbose ? 'debug' : 'info']({ program: 'zed' }, line);
    });
    child.on('error', (error) => log.error({ err: error }, 'zed cannot be started'));
    child.on('close', (code, signal) => {
      this.#child = undefined;
      if (this.#stopped) return;
      if (performance.now() - startedMs > BACKOFF_MS_MAX) this.#backoffMs = BACKOFF_MS_MIN;
      log.warn({ code, signal, againInMs: this.#backoffMs }, 'zed ended');
      this.#startIn(this.#backoffMs);
      this.#backoffMs = Math.min(2 * this.#backoffMs, BACKOFF_MS_MAX);
    });
  }
}
