import type { ListenerAddress } from '../../host/net/listener.ts';
import { Cmd } from '../../host/protocols/nbd.ts';
import { Client } from '../host/nbd/client.ts';
import { pattern } from '../host/nbd/fixture.ts';

export interface LoadOptions {
  readonly address: ListenerAddress;
  readonly volume: string;
  readonly volumeBytes: number;
  readonly connections: number;
  /** Requests each connection keeps under way. */
  readonly depth: number;
  /** Bytes of a request: one of these. */
  readonly sizes: readonly number[];
  readonly seconds: number;
  /** Of a hundred requests, how many are writes. Default: 50. */
  readonly writes?: number;
}

/** What all clients together have done. */
export interface Tally {
  requests: number;
  bytes: number;
  /** How often each errno came. */
  readonly errors: Map<number, number>;
}

/** Many clients at once, each with many requests at random places. Resolves when every request has its reply. */
export async function load(options: LoadOptions): Promise<Tally> {
  const { address, volume, volumeBytes, connections, depth, sizes, seconds, writes = 50 } = options;
  const tally: Tally = { requests: 0, bytes: 0, errors: new Map() };
  const data = pattern(Math.max(...sizes));
  const open = () => Client.open(address, volume, 'structured');
  const clients = await Promise.all(Array.from({ length: connections }, open));
  const end = Date.now() + seconds * 1000;
  const run = async (client: Client, seed: number): Promise<void> => {
    let state = seed;
    const roll = (sides: number) => {
      state = (Math.imul(state, 1103515245) + 12345) >>> 0;
      return (state >>> 8) % sides;
    };
    const lengths = new Map<bigint, number>();
    const next = () => {
      const length = sizes[roll(sizes.length)]!;
      const write = roll(100) < writes;
      const cookie = client.sendRequest({
        type: write ? Cmd.WRITE : Cmd.READ,
        offset: roll(volumeBytes / length) * length,
        length,
        ...(write ? { payload: data.subarray(0, length) } : {}),
      });
      lengths.set(cookie, length);
    };
    for (let i = 0; i < depth; i++) next();
    while (lengths.size > 0) {
      const { cookie, errno } = await client.reply();
      tally.requests++;
      tally.bytes += lengths.get(cookie)!;
      if (errno !== 0) tally.errors.set(errno, (tally.errors.get(errno) ?? 0) + 1);
      lengths.delete(cookie);
      if (Date.now() < end) next();
    }
  };
  await Promise.all(clients.map((client, index) => run(client, index + 1)));
  for (const client of clients) client.destroy();
  return tally;
}

/** What a tally says of errors: `none`, or how many of which. */
export function errorsOf({ errors }: Tally): string {
  return [...errors].map(([errno, count]) => `${count} × errno ${errno}`).join(', ') || 'none';
}
