import { readFileSync } from 'node:fs';
import { connect } from 'node:net';

/** Waits, and whose fault they are: the host's, or that of a machine that had no processor for it. Milliseconds. */
export interface Wait {
  readonly what: string;
  /** Of the machine's monotonic clock. */
  readonly from: number;
  readonly to: number;
  /** The longest that the control's clients waited meanwhile. */
  readonly control: number;
  /** The longest that this process stood still meanwhile. */
  readonly here: number;
  /** What the host's thread ran, and waited for a processor, meanwhile. */
  readonly hostRan: number;
  readonly hostWaited: number;
  /** For how long other threads of the host had no processor, for which its thread stood still meanwhile. */
  readonly starved?: number;
}

/** What is left of a wait when the machine's part is taken off. */
export function excess({ from, to, control, here, hostWaited, starved = 0 }: Wait): number {
  return Math.max(0, to - from - Math.max(control, here + hostWaited + starved));
}

export function now(): number {
  return Number(process.hrtime.bigint()) / 1e6;
}

/** What a process's main thread has run, and what it has waited for a processor. */
export function scheduleOf(pid: number): readonly [run: number, wait: number] {
  try {
    const [run = 0, wait = 0] = readFileSync(`/proc/${pid}/task/${pid}/schedstat`, 'utf8').split(' ').map(Number);
    return [run / 1e6, wait / 1e6];
  } catch {
    return [0, 0];
  }
}

const tickMs = 10;
/** Shorter ones explain nothing. */
const delayMs = 20;
const delaysMax = 1000;

interface Delay {
  readonly from: number;
  readonly to: number;
}

/** Looks after how the machine treats a process that does next to nothing: this one, and the echo server. */
export class Control {
  readonly #here: Delay[] = [];
  readonly #echo: Delay[] = [];
  #longest = 0;
  #pings = 0;

  /** `socket`: of echo.ts. */
  constructor(socket: string) {
    let last = now();
    setInterval(() => {
      const at = now();
      keep(this.#here, last, at);
      last = at;
    }, tickMs);
    const echo = connect(socket);
    let sent = 0;
    const ping = () => {
      sent = now();
      echo.write('x');
    };
    echo.on('data', () => {
      const at = now();
      keep(this.#echo, sent, at);
      this.#pings++;
      this.#longest = Math.max(this.#longest, at - sent);
      setTimeout(ping, tickMs);
    });
    echo.on('error', () => echo.destroy());
    echo.once('connect', ping);
  }

  /** Answers of the echo server, and the longest wait for one. */
  get pings(): number {
    return this.#pings;
  }

  get longest(): number {
    return this.#longest;
  }

  during(from: number, to: number): { control: number; here: number } {
    return { control: longest(this.#echo, from, to), here: longest(this.#here, from, to) };
  }
}

function keep(delays: Delay[], from: number, to: number): void {
  if (to - from < delayMs) return;
  delays.push({ from, to });
  if (delays.length > delaysMax) delays.shift();
}

function longest(delays: readonly Delay[], from: number, to: number): number {
  return delays.reduce((most, delay) => {
    const common = Math.min(to, delay.to) - Math.max(from, delay.from);
    return Math.max(most, common);
  }, 0);
}
