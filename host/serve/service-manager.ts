import { Errno, errnoName } from '../errno.ts';
import { socketCalls } from '../libc.ts';
import type { Logger } from '../log.ts';

/** A manager that is busy has this long to read what is for it. */
const TRIES = 20;
const RETRY_MS = 50;

/** Sends one datagram to the manager: 0 or an errno. */
type Send = (text: string) => number;

/**
 * What a service manager is told of the host, by sd_notify(3)'s protocol: NOTIFY_SOCKET of the environment is where, WATCHDOG_USEC how
 * soon it takes silence for death. Without them nothing is told to nobody. The variables are removed: they are not for children.
 */
export class ServiceManager {
  readonly #send: Send | undefined;
  readonly #log: Logger;
  readonly #watchdogMs: number | undefined;
  #watchdog: NodeJS.Timeout | undefined;
  #hasFailed = false;

  constructor(log: Logger, env: NodeJS.ProcessEnv = process.env) {
    this.#log = log;
    const { NOTIFY_SOCKET = '', WATCHDOG_USEC, WATCHDOG_PID } = env;
    for (const name of ['NOTIFY_SOCKET', 'WATCHDOG_USEC', 'WATCHDOG_PID']) delete env[name];
    if (!/^[/@]./.test(NOTIFY_SOCKET)) return;
    const calls = socketCalls();
    if (calls === undefined) {
      log.warn('the service manager cannot be told anything: this Node has no node:ffi');
      return;
    }
    this.#send = (text) => calls.sendTo(NOTIFY_SOCKET, text);
    const isForUs = WATCHDOG_PID === undefined || Number(WATCHDOG_PID) === process.pid;
    const watchdogUs = Number(WATCHDOG_USEC);
    if (isForUs && watchdogUs > 0) this.#watchdogMs = watchdogUs / 1000;
  }

  /** One line for who asks for the service's state. */
  status(text: string): void {
    this.#tell({ STATUS: text });
  }

  /** The host serves, or has done with a reload. From the first on the watchdog is fed, by a timer: whoever keeps the event loop keeps it from that too. */
  ready(status: string): void {
    this.#tell({ READY: '1', STATUS: status });
    if (this.#watchdogMs === undefined || this.#watchdog !== undefined) return;
    this.#watchdog = setInterval(() => this.#tell({ WATCHDOG: '1' }), Math.max(1, this.#watchdogMs / 3));
    this.#watchdog.unref();
  }

  /** A reload begins; `ready` ends it. */
  reloading(): void {
    this.#tell({
      RELOADING: '1',
      MONOTONIC_USEC: String(process.hrtime.bigint() / 1000n),
      STATUS: 'reads its configuration again',
    });
  }

  /** The host begins to end. */
  stopping(): void {
    this.#tell({ STOPPING: '1', STATUS: 'exports its pools' });
  }

  #tell(variables: Readonly<Record<string, string>>, triesLeft = TRIES): void {
    if (this.#send === undefined) return;
    const lines = Object.entries(variables).map(([name, value]) => `${name}=${value.replaceAll(/\s+/g, ' ')}`);
    const errno = this.#send(lines.join('\n'));
    if (errno === 0) {
      this.#hasFailed = false;
      return;
    }
    if (errno === Errno.EAGAIN && triesLeft > 0) {
      setTimeout(() => this.#tell(variables, triesLeft - 1), RETRY_MS).unref();
      return;
    }
    if (!this.#hasFailed) this.#log.warn({ reason: errnoName(errno) }, 'the service manager cannot be told anything');
    this.#hasFailed = true;
  }
}
