/** A process of NBD clients, forked by soak.ts: the well and the sick ones each have one, so that neither delays the other. */
import { type ClientOptions, SoakClient } from './client.ts';
import { type Counts, Tally } from './tally.ts';
import { Control } from './waits.ts';

export type Order =
  | {
      readonly do: 'start';
      readonly clients: readonly ClientOptions[];
      readonly nbdSocket: string;
      readonly hostPid: number;
      readonly echoSocket?: string;
    }
  | { readonly do: 'counts' | 'finish' | 'waiting' }
  | { readonly do: 'verify'; readonly nbdSocket: string; readonly volumes: readonly string[] };

export type Answer = { readonly counts?: Counts; readonly lines?: readonly string[]; readonly problem?: string };

let tally: Tally;
let all: { client: SoakClient; volume: string }[] = [];
let running: Promise<unknown> = Promise.resolve();

async function obey(order: Order): Promise<Answer> {
  switch (order.do) {
    case 'start': {
      const { clients, nbdSocket, hostPid, echoSocket } = order;
      tally = new Tally(hostPid, echoSocket === undefined ? undefined : new Control(echoSocket));
      all = clients.map((options) => ({
        client: new SoakClient(options, nbdSocket, tally),
        volume: options.volume,
      }));
      running = Promise.all(all.map(({ client }) => client.run()));
      return {};
    }
    case 'finish':
      for (const { client } of all) client.finish();
      await running;
      return { counts: tally.counts };
    case 'counts':
      return { counts: tally.counts };
    case 'waiting':
      return { lines: all.map(({ client }) => client.waitsFor) };
    case 'verify': {
      const mine = all.filter(({ volume }) => order.volumes.includes(volume));
      const lines: string[] = [];
      for (const { client } of mine) lines.push(...(await client.verify(order.nbdSocket)));
      return { lines };
    }
  }
}

process.on('message', (order: Order & { id: number }) => {
  obey(order).then(
    (answer) => process.send?.({ id: order.id, ...answer }),
    (error: Error) => process.send?.({ id: order.id, problem: error.stack ?? String(error) }),
  );
});
process.on('disconnect', () => process.exit());
