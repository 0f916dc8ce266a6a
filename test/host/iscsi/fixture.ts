import assert from 'node:assert/strict';
import type { ExecutionContext } from 'ava';
import type { IscsiLimits } from '../../../host/iscsi/limits.ts';
import { type IscsiListenerOptions, IscsiServer, type IscsiServerOptions } from '../../../host/iscsi/server.ts';
import { quiet } from '../nbd/fixture.ts';
import { MemoryProvider, type MemoryProviderOptions } from '../volumes/memory.ts';
import { type CommandOptions, Initiator, type LoginOptions } from './client.ts';
import { MemoryStore } from './store.ts';

export const vm0 = 'iqn.2026-11.io.zow:tank:vm0';

export interface Fixture {
  readonly provider: MemoryProvider;
  readonly store: MemoryStore;
  readonly server: IscsiServer;
  /** `127.0.0.1:port` */
  readonly address: string;
  /** A session with `tank/vm0`, whose first unit attention is over. */
  open(options?: LoginOptions): Promise<Initiator>;
}

export interface FixtureOptions {
  readonly provider?: MemoryProviderOptions;
  readonly limits?: Partial<IscsiLimits>;
  readonly listener?: Omit<IscsiListenerOptions, 'listen'>;
  readonly server?: Partial<Pick<IscsiServerOptions, 'targets' | 'blockBytes'>>;
  /** Keeps reservations from another server's run. */
  readonly store?: MemoryStore;
}

/** A server with `tank/vm0` of 64 MiB; afterwards it must have nothing left. */
export async function serve(t: ExecutionContext, options: FixtureOptions = {}): Promise<Fixture> {
  const provider = new MemoryProvider(options.provider);
  provider.add('tank/vm0', 64 << 20);
  const store = options.store ?? new MemoryStore();
  const server = new IscsiServer({
    provider,
    store,
    listeners: [{ listen: '127.0.0.1:0', ...options.listener }],
    limits: { shutdownMs: 2000, ...options.limits },
    log: quiet,
    ...options.server,
  });
  await server.start();
  const initiators: Initiator[] = [];
  t.teardown(async () => {
    for (const initiator of initiators) initiator.destroy();
    await server.close();
    provider.buffers.trim();
    // ava's assertions are over when teardowns run; a throw still fails the test
    assert.deepEqual(
      {
        connections: server.connections,
        open: server.metrics.connections.open,
        inFlight: server.metrics.inFlight,
        stashed: server.stashedBytes,
        leases: provider.buffers.leases,
        waiting: provider.buffers.waiting,
        allocations: provider.allocator.live,
        handles: provider.handles,
      },
      { connections: 0, open: 0, inFlight: 0, stashed: 0, leases: 0, waiting: 0, allocations: 0, handles: 0 },
      'something was left behind',
    );
  });
  const address = server.addresses()[0]!.tcp!;
  return {
    provider,
    store,
    server,
    address,
    open: async (login = {}) => {
      const initiator = await Initiator.open(address, login.target ?? vm0, login);
      initiators.push(initiator);
      await initiator.settle();
      return initiator;
    },
  };
}

/** Status, sense key and additional sense code of a command, as one line. */
export async function outcome(initiator: Initiator, cdb: Uint8Array, options?: CommandOptions): Promise<string> {
  const { status, key, asc } = await initiator.command(cdb, options);
  const sense = status === 2 ? ` ${key.toString(16)}/${asc.toString(16).padStart(4, '0')}` : '';
  return `${status.toString(16).padStart(2, '0')}${sense}`;
}
