import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import type { ExecutionContext } from 'ava';
import { pino } from 'pino';
import type { NbdLimits } from '../../../host/nbd/limits.ts';
import type { NbdListenerOptions } from '../../../host/nbd/listener-options.ts';
import { NbdServer } from '../../../host/nbd/server.ts';
import type { ListenerAddress } from '../../../host/net/listener.ts';
import { MemoryProvider, type MemoryProviderOptions } from '../volumes/memory.ts';

export const quiet = pino({ level: 'silent' });

export interface Fixture {
  readonly directory: string;
  readonly provider: MemoryProvider;
  readonly server: NbdServer;
  /** Of the unix listener, and of the TCP one. */
  readonly unix: ListenerAddress;
  readonly tcp: ListenerAddress;
  /** URI of an export over the unix socket. */
  uri(name: string): string;
}

export interface FixtureOptions {
  readonly provider?: MemoryProviderOptions;
  readonly limits?: Partial<NbdLimits>;
  /** Added to both listeners. */
  readonly listener?: Omit<NbdListenerOptions, 'unix' | 'tcp'>;
}

/** A server with `tank/vm0` of 64 MiB on a unix socket and on TCP; afterwards it must have nothing left. */
export async function serve(t: ExecutionContext, options: FixtureOptions = {}): Promise<Fixture> {
  const directory = await mkdtemp(path.join(tmpdir(), 'zow-nbd-'));
  const provider = new MemoryProvider(options.provider);
  provider.add('tank/vm0', 64 << 20);
  const socket = path.join(directory, 'nbd.sock');
  const server = new NbdServer({
    provider,
    listeners: [
      { unix: socket, ...options.listener },
      { tcp: '127.0.0.1:0', ...options.listener },
    ],
    // A loaded machine takes its time for a handshake.
    limits: { shutdownMs: 2000, handshakeMs: 60_000, ...options.limits },
    log: quiet,
  });
  await server.start();
  t.teardown(async () => {
    await server.close();
    await rm(directory, { recursive: true, force: true });
    provider.buffers.trim();
    // ava's assertions are over when teardowns run; a throw still fails the test
    assert.deepEqual(
      {
        connections: server.connections,
        open: server.metrics.connections.open,
        inFlight: server.metrics.inFlight,
        leases: provider.buffers.leases,
        waiting: provider.buffers.waiting,
        allocations: provider.allocator.live,
        handles: provider.handles,
      },
      { connections: 0, open: 0, inFlight: 0, leases: 0, waiting: 0, allocations: 0, handles: 0 },
      'something was left behind',
    );
  });
  const [unix, tcp] = server.addresses();
  return {
    directory,
    provider,
    server,
    unix: unix!,
    tcp: tcp!,
    uri: (name) => `nbd+unix:///${name}?socket=${socket}`,
  };
}

/** Runs a program; rejects with its stderr unless it exits with 0. */
export function run(program: string, args: readonly string[], timeoutMs = 60_000): Promise<string> {
  return new Promise((resolve, reject) => {
    execFile(program, args, { timeout: timeoutMs, maxBuffer: 64 << 20 }, (error, stdout, stderr) => {
      if (error === null) resolve(stdout);
      else reject(new Error(`${program} ${args.join(' ')}: ${error.message}\n${stderr}`));
    });
  });
}

/** Resolves when the condition holds; fails the test after `timeoutMs`. */
export async function until(condition: () => boolean, what: string, timeoutMs = 30_000): Promise<void> {
  const end = performance.now() + timeoutMs;
  while (!condition()) {
    if (performance.now() > end) throw new Error(`not within ${timeoutMs} ms: ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
}

/** Bytes that are not zero and differ everywhere: `seed` makes them another set. */
export function pattern(length: number, seed = 1): Buffer {
  const bytes = Buffer.allocUnsafe(length);
  let state = seed * 2654435761;
  for (let i = 0; i < length; i++) {
    state = (Math.imul(state, 1664525) + 1013904223) | 0;
    bytes[i] = (state >>> 24) | 1;
  }
  return bytes;
}
