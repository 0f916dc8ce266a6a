/** What one server of volumes, and one client of it, can make the host hold, whatever they speak. */
export interface ClientLimits {
  /** Connections per listener; further ones are closed at once. */
  readonly connections: number;
  /** Requests of one connection between their arrival and the last byte of their reply; then its socket is not read. */
  readonly requestsPerConnection: number;
  /** Data bytes those requests may hold. A larger request runs alone. */
  readonly bytesPerConnection: number;
  /**
   * What a connection starts with of `bytesPerConnection`. Each byte of a request whose reply the client took adds one: who
   * never reads its replies does not get far.
   */
  readonly startBytes: number;
  /** Largest read or write in bytes, a power of two; the buffer pool's largest buffer may lower it. */
  readonly requestBytes: number;
  /** From accept to the phase in which a volume is used, milliseconds. */
  readonly handshakeMs: number;
  /** Without a byte in either direction and no request in flight, milliseconds; 0: for ever. */
  readonly idleMs: number;
  /**
   * A connection that holds buffers and moves no byte for this long is closed, milliseconds, but only while somebody
   * else waits for memory: a paused guest keeps its disk until it is in the way.
   */
  readonly stallMs: number;
  /** How much longer an ended connection may send before it is cut, milliseconds. */
  readonly lingerMs: number;
  /** What `close()` grants requests in flight, milliseconds. */
  readonly shutdownMs: number;
}
