import { Cmd, CmdFlag } from '../../host/protocols/nbd.ts';
import { dice, sleep } from '../e2e/process.ts';
import { Client, encodeRequest } from '../host/nbd/client.ts';
import { blockBytes, Ledger } from './ledger.ts';
import type { Tally } from './tally.ts';
import { now } from './waits.ts';

/** What one NBD client does, and where. */
export interface ClientOptions {
  readonly id: string;
  readonly volume: string;
  readonly first: number;
  readonly blocks: number;
  readonly seed: number;
  /** Of a pool that is well: nothing may fail, and a read has what was written last. It never vanishes. */
  readonly well: boolean;
}

interface Pending {
  readonly kind: 'read' | 'write' | 'zero' | 'trim' | 'flush';
  readonly block: number;
  readonly count: number;
  readonly version: number;
  readonly fua: boolean;
  readonly since: number;
  readonly acknowledged?: Uint32Array;
}

/** How long a client that may vanish waits for a reply before it thinks about it. */
const patienceMs = 2500;

class Vanished extends Error {}

/** A client of its own blocks of a volume, at work until it is told to finish. Others may share the volume. */
export class SoakClient {
  readonly #options: ClientOptions;
  readonly #socket: string;
  readonly #tally: Tally;
  readonly #ledger: Ledger;
  readonly #roll: (n: number) => number;
  readonly #pending = new Map<bigint, Pending>();
  #client: Client | undefined;
  #finishing = false;

  constructor(options: ClientOptions, socket: string, tally: Tally) {
    this.#options = options;
    this.#socket = socket;
    this.#tally = tally;
    this.#ledger = new Ledger(options.first, options.blocks);
    this.#roll = dice(options.seed);
  }

  finish(): void {
    this.#finishing = true;
  }

  /** What it waits for. */
  get waitsFor(): string {
    const at = now();
    const list = [...this.#pending.values()].map(({ kind, since }) => `${kind} for ${Math.round(at - since)} ms`);
    return `${this.#options.id} of ${this.#options.volume}: ${list.join(', ') || 'a connection'}`;
  }

  /** Works until `finish`, then makes sure of what it has written. */
  async run(): Promise<void> {
    while (!this.#finishing) {
      try {
        await this.#connect();
        while (!this.#finishing) await this.#turn();
      } catch (error) {
        this.#disconnected(error);
        await sleep(50 + this.#roll(300));
      }
    }
    for (let tries = 0; tries < 5; tries++) {
      try {
        await this.#connect();
        this.#send('flush', 0, 0);
        await this.#replies();
        break;
      } catch (error) {
        this.#disconnected(error);
        await sleep(1000);
      }
    }
    this.#client?.destroy();
    this.#client = undefined;
  }

  /** Reads everything on a connection of its own; what contradicts the promises. */
  async verify(socket: string): Promise<string[]> {
    const { volume, blocks, id } = this.#options;
    const client = await Client.open({ unix: socket } as never, volume, 'structured');
    const wrong: string[] = [];
    const step = 64;
    for (let block = 0; block < blocks; block += step) {
      const count = Math.min(step, blocks - block);
      const offset = this.#ledger.offset(block);
      const reply = await client.request({ type: Cmd.READ, offset, length: count * blockBytes });
      if (reply.errno !== 0) wrong.push(`${volume} ${id}: blocks from ${block}: errno ${reply.errno}`);
      else wrong.push(...this.#compare(block, reply.data, false));
    }
    client.destroy();
    return wrong;
  }

  async #connect(): Promise<void> {
    if (this.#client !== undefined) return;
    const since = now();
    const opening = Client.open({ unix: this.#socket } as never, this.#options.volume, 'structured');
    this.#client = await opening;
    this.#ledger.unsure();
    this.#tally.wait(this.#options.id, 'connect', since);
  }

  #disconnected(error: unknown): void {
    for (const [, pending] of this.#pending) this.#lose(pending, true);
    this.#pending.clear();
    this.#client?.destroy();
    this.#client = undefined;
    if (error instanceof Vanished) this.#tally.count('vanished');
    else this.#tally.error(this.#options.id, `connection: ${(error as Error).message.replace(/\d+/g, 'N')}`);
  }

  #lose({ kind, block, count, version }: Pending, whole: boolean): void {
    if (kind === 'write' || kind === 'zero' || kind === 'trim') this.#ledger.lost(block, count, version, whole);
  }

  async #turn(): Promise<void> {
    const kind = this.#roll(100);
    const { well } = this.#options;
    if (kind < 40) await this.#writes();
    else if (kind < 55) await this.#flush();
    else if (kind < 85) await this.#reads();
    else if (well || kind < 88) await sleep(this.#roll(well ? 40 : 400));
    else if (kind < 93) await this.#slowReader();
    else if (kind < 98) await this.#vanish();
    else await this.#leave();
    if (well) await sleep(this.#roll(15));
  }

  async #flush(): Promise<void> {
    this.#send('flush', 0, 0);
    await this.#replies();
  }

  async #writes(): Promise<void> {
    for (const { block, count } of this.#places(this.#options.well ? 4 : 16, 8)) {
      const kind = this.#roll(10) === 0 ? (this.#roll(2) === 0 && !this.#options.well ? 'trim' : 'zero') : 'write';
      this.#send(kind, block, count, this.#roll(10) === 0);
    }
    await this.#replies();
  }

  async #reads(): Promise<void> {
    for (const { block, count } of this.#places(this.#options.well ? 2 : 8, 16)) this.#send('read', block, count);
    await this.#replies();
  }

  /** Asks for much and takes it late. */
  async #slowReader(): Promise<void> {
    for (const { block, count } of this.#places(16, 64)) this.#send('read', block, count);
    this.#client!.socket.pause();
    await sleep(this.#roll(2000));
    this.#client!.socket.resume();
    await this.#replies();
  }

  /** Goes in the middle of what it sends, or of what it is sent. */
  async #vanish(): Promise<void> {
    const roll = this.#roll(3);
    if (roll === 0) for (const { block, count } of this.#places(8, 64)) this.#send('read', block, count);
    else for (const { block, count } of this.#places(8, 8)) this.#send('write', block, count);
    if (roll === 2) {
      const [{ block, count }] = this.#places(1, 16) as [{ block: number; count: number }];
      const { version, payload } = this.#ledger.send(block, count);
      const [offset, length] = [this.#ledger.offset(block), count * blockBytes];
      this.#client!.send(encodeRequest({ type: Cmd.WRITE, cookie: 0n, offset, length, style: 'structured' }));
      this.#client!.send(payload.subarray(0, this.#roll(payload.length)));
      this.#ledger.lost(block, count, version, false);
    }
    await sleep(this.#roll(20));
    throw new Vanished();
  }

  /** As a client does that has nothing more to ask. */
  async #leave(): Promise<void> {
    this.#client!.sendRequest({ type: Cmd.DISC });
    await this.#client!.closed();
    this.#client!.destroy();
    this.#client = undefined;
    await this.#connect();
  }

  /** Up to `most` places of up to `length` blocks that do not overlap. */
  #places(most: number, length: number): { block: number; count: number }[] {
    const { blocks } = this.#options;
    const places = 1 + this.#roll(most);
    const part = Math.floor(blocks / places);
    return Array.from({ length: places }, (_, i) => {
      const count = 1 + this.#roll(Math.min(length, part));
      return { block: i * part + this.#roll(part - count + 1), count };
    });
  }

  #send(kind: Pending['kind'], block: number, count: number, fua = false): void {
    const since = now();
    const write = kind === 'write' || kind === 'zero' || kind === 'trim';
    const { version, payload } = write
      ? this.#ledger.send(block, count, kind !== 'write')
      : { version: 0, payload: undefined };
    const cookie = this.#client!.sendRequest({
      type: { read: Cmd.READ, write: Cmd.WRITE, zero: Cmd.WRITE_ZEROES, trim: Cmd.TRIM, flush: Cmd.FLUSH }[kind],
      flags: fua ? CmdFlag.FUA : 0,
      offset: kind === 'flush' ? 0 : this.#ledger.offset(block),
      length: count * blockBytes,
      ...(kind === 'write' ? { payload: payload! } : {}),
    });
    const acknowledged = kind === 'flush' ? { acknowledged: this.#ledger.acknowledged() } : {};
    this.#pending.set(cookie, { kind, block, count, version, fua, since, ...acknowledged });
  }

  /** Until everything that was sent is answered. @throws Vanished, now and then, when that takes long */
  async #replies(): Promise<void> {
    while (this.#pending.size > 0) {
      const reply = this.#client!.reply();
      const { cookie, errno, data } = await (this.#options.well ? reply : this.#orVanish(reply));
      const pending = this.#pending.get(cookie);
      if (pending === undefined) throw new Error('a reply to nothing');
      this.#pending.delete(cookie);
      this.#answered(pending, errno, data);
    }
  }

  async #orVanish<T>(reply: Promise<T>): Promise<T> {
    reply.catch(() => undefined);
    for (;;) {
      let timer: NodeJS.Timeout | undefined;
      const late = new Promise<undefined>((resolve) => {
        timer = setTimeout(resolve, patienceMs, undefined);
      });
      const answer = await Promise.race([reply, late]).finally(() => clearTimeout(timer));
      if (answer !== undefined) return answer;
      if (!this.#finishing && this.#roll(8) === 0) throw new Vanished();
    }
  }

  #answered(pending: Pending, errno: number, data: Buffer): void {
    const { kind, block, count, version, fua, since } = pending;
    const { id } = this.#options;
    this.#tally.wait(id, kind, since);
    if (errno !== 0) this.#tally.error(id, `${kind}: errno ${errno}`);
    const good = errno === 0;
    if (kind === 'flush' && good) this.#ledger.durable(pending.acknowledged!);
    // Parts of a volume block that are trimmed may stay as they were.
    else if (kind === 'write' || kind === 'zero') this.#ledger.done(block, count, version, good, fua);
    else if (kind === 'read' && good) this.#tally.wrong(this.#compare(block, data, this.#options.well));
  }

  #compare(block: number, data: Buffer, exact: boolean): string[] {
    const wrong: string[] = [];
    for (let i = 0; i * blockBytes < data.length; i++) {
      const problem = this.#ledger.wrong(block + i, data.subarray(i * blockBytes, (i + 1) * blockBytes), exact);
      if (problem !== undefined) wrong.push(`${this.#options.volume} ${this.#options.id}: ${problem}`);
    }
    return wrong;
  }
}
