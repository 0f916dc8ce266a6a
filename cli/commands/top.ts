import { setTimeout as sleep } from 'node:timers/promises';
import type { HostClient } from '../../host/ioctl/client.ts';
import { QueryKind } from '../../host/ioctl/protocol.ts';
import type { LiveSample } from '../../host/metrics/live.ts';
import { decodeNativeNvlist } from '../../host/nvlist/native.ts';
import { show, withHost } from './host.ts';
import { type Order, orderOf, topText } from './top-text.ts';

export interface TopOptions {
  readonly batch?: boolean;
  readonly json?: boolean;
}

/** `zow top`: what goes on, `count` times, every `interval` seconds. */
export function topCommand(
  socket: string | undefined,
  interval: number,
  count: number,
  { batch = false, json = false }: TopOptions,
): Promise<number> {
  return withHost(socket, async (host) => {
    if (json) await lines(host, interval, count);
    else if (batch || !process.stdout.isTTY) await tables(host, interval, count);
    else await screen(host, interval, count);
  });
}

async function sampleOf(host: HostClient): Promise<LiveSample> {
  for await (const packed of host.query({ kind: QueryKind.live, text: '' }))
    return JSON.parse(String(decodeNativeNvlist(packed).get('json'))) as LiveSample;
  throw new Error('the host answers a query with nothing');
}

async function lines(host: HostClient, interval: number, count: number): Promise<void> {
  for (let i = 0; i < count; i++) {
    if (i > 0) await sleep(interval * 1000);
    show(`${JSON.stringify(await sampleOf(host))}\n`);
  }
}

async function tables(host: HostClient, interval: number, count: number): Promise<void> {
  let before = await sampleOf(host);
  for (let i = 0; i < count; i++) {
    await sleep(interval * 1000);
    const now = await sampleOf(host);
    show(`${i > 0 ? '\n' : ''}${topText(before, now)}`);
    before = now;
  }
}

/** What a terminal is told: another screen without a cursor, and back. */
const ENTER = '\x1b[?1049h\x1b[?25l';
const LEAVE = '\x1b[?25h\x1b[?1049l';
/** To the top left; the rest of the line, and of the screen, is empty. */
const HOME = '\x1b[H';
const LINE_END = '\x1b[K';
const SCREEN_END = '\x1b[J';

async function screen(host: HostClient, interval: number, count: number): Promise<void> {
  const { stdin, stdout } = process;
  const quit = new AbortController();
  let order: Order = 'operations';
  let before = await sampleOf(host);
  let now: LiveSample | undefined;
  const draw = (): void => {
    if (now === undefined) return;
    // A terminal may not know its size, and says 0.
    const text = topText(before, now, { order, rows: stdout.rows || 24, columns: stdout.columns || 80 });
    show(`${HOME}${text.trimEnd().replaceAll('\n', `${LINE_END}\n`)}${LINE_END}${SCREEN_END}`);
  };
  const onKey = (keys: Buffer): void => {
    for (const key of String(keys)) {
      // Also Ctrl-C and Ctrl-D, which are no signals here.
      if (key === 'q' || key === '\x03' || key === '\x04') quit.abort();
      order = orderOf(key) ?? order;
    }
    if (!quit.signal.aborted) draw();
  };
  const onSignal = (): void => quit.abort();
  if (stdin.isTTY) stdin.setRawMode(true);
  stdin.on('data', onKey);
  stdout.on('resize', draw);
  for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) process.once(signal, onSignal);
  try {
    show(ENTER);
    // The first rates come early.
    await sleep(Math.min(interval, 1) * 1000, undefined, quit);
    for (let i = 0; i < count; i++) {
      if (i > 0) await sleep(interval * 1000, undefined, quit);
      const next = await sampleOf(host);
      before = now ?? before;
      now = next;
      draw();
    }
  } catch (error) {
    if (!quit.signal.aborted) throw error;
  } finally {
    stdout.off('resize', draw);
    stdin.off('data', onKey);
    stdin.pause();
    if (stdin.isTTY) stdin.setRawMode(false);
    show(LEAVE);
  }
}
