import type { ConnectionMetrics } from '../volumes/client-connection.ts';

/** Counters since start, plain numbers that whoever exports metrics reads. */
export interface NbdMetrics {
  connections: ConnectionMetrics;
  requests: {
    read: number;
    write: number;
    flush: number;
    trim: number;
    cache: number;
    writeZeroes: number;
    blockStatus: number;
  };
  /** Requests now between arrival and the last byte of their reply. */
  inFlight: number;
  /** Data, without headers. */
  bytesRead: number;
  bytesWritten: number;
  /** Error replies. */
  errors: number;
}

export function newMetrics(): NbdMetrics {
  return {
    connections: { open: 0, total: 0, refused: 0, protocolErrors: 0, stalled: 0 },
    requests: { read: 0, write: 0, flush: 0, trim: 0, cache: 0, writeZeroes: 0, blockStatus: 0 },
    inFlight: 0,
    bytesRead: 0,
    bytesWritten: 0,
    errors: 0,
  };
}
