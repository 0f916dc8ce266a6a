import type { ClientLimits } from '../volumes/limits.ts';

export type NbdLimits = ClientLimits;

/**
 * 128 requests: the Linux client's default queue depth per connection. 32 MiB: what every NBD client may send
 * (qemu's NBD_MAX_BUFFER_SIZE).
 */
export const defaultLimits: NbdLimits = {
  connections: 1024,
  requestsPerConnection: 128,
  bytesPerConnection: 16 << 20,
  startBytes: 1 << 20,
  requestBytes: 32 << 20,
  handshakeMs: 10_000,
  idleMs: 0,
  stallMs: 30_000,
  lingerMs: 2_000,
  shutdownMs: 5_000,
};
