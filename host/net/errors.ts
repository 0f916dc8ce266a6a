/** The client broke the protocol: its connection is closed with this sentence in the log, and nothing else happens. */
export class ProtocolError extends Error {
  override readonly name = 'ProtocolError';
}
