import type { ConnectionMetrics } from '../volumes/client-connection.ts';

/** Counters since start, plain numbers that whoever exports metrics reads. */
export interface IscsiMetrics {
  connections: ConnectionMetrics;
  logins: { succeeded: number; failed: number };
  /** Commands by what they do; `refused` ended before they ran. */
  commands: { read: number; write: number; flush: number; unmap: number; other: number; refused: number };
  taskManagement: number;
  /** Commands now between arrival and answer. */
  inFlight: number;
  /** Data, without headers. */
  bytesRead: number;
  bytesWritten: number;
  /** Commands that ended with anything but GOOD. */
  errors: number;
}

export function newMetrics(): IscsiMetrics {
  return {
    connections: { open: 0, total: 0, refused: 0, protocolErrors: 0, stalled: 0 },
    logins: { succeeded: 0, failed: 0 },
    commands: { read: 0, write: 0, flush: 0, unmap: 0, other: 0, refused: 0 },
    taskManagement: 0,
    inFlight: 0,
    bytesRead: 0,
    bytesWritten: 0,
    errors: 0,
  };
}
