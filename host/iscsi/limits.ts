/** What one server, and one initiator of it, can make the host hold. */
export interface IscsiLimits {
  /** Connections per listener; further ones are closed at once. */
  readonly connections: number;
  /** Of those, how many may be before the end of their login; one more ends the oldest. */
  readonly logins: number;
  /** From accept to the full feature phase, milliseconds. */
  readonly loginMs: number;
  /** Commands of one session between their arrival and their answer: the largest command window. */
  readonly commandsPerSession: number;
  /** Data bytes those commands may hold. A larger command runs alone. */
  readonly bytesPerSession: number;
  /**
   * What a session starts with of `bytesPerSession`. Each byte of a command whose answer the initiator took adds one; the
   * command window grows with it.
   */
  readonly startBytes: number;
  /** Largest data of one command in bytes, a power of two; the buffer pool's largest buffer may lower it. */
  readonly transferBytes: number;
  /** Without a byte in either direction: then the initiator is asked (NOP-In), milliseconds. Without an answer for as long again it is cut. */
  readonly pingMs: number;
  /**
   * A connection that holds buffers and moves no byte for this long is closed, milliseconds, but only while somebody else
   * waits for memory.
   */
  readonly stallMs: number;
  /** How much longer an ended connection may send before it is cut, milliseconds. */
  readonly lingerMs: number;
  /** What `close()` grants commands under way, milliseconds. */
  readonly shutdownMs: number;
}

export const defaultLimits: IscsiLimits = {
  connections: 1024,
  logins: 256,
  loginMs: 10_000,
  commandsPerSession: 128,
  bytesPerSession: 16 << 20,
  startBytes: 1 << 20,
  transferBytes: 32 << 20,
  pingMs: 30_000,
  stallMs: 30_000,
  lingerMs: 2_000,
  shutdownMs: 5_000,
};

/** WRITE SAME, bytes: it writes so much in one command, a piece at a time. */
export const SAME_BYTES_MAX = 2 ** 30;
/** UNMAP: all its descriptors together, in bytes, and how many. */
export const UNMAP_BYTES_MAX = 2 ** 29;
export const UNMAP_DESCRIPTORS_MAX = 256;
/** COMPARE AND WRITE, blocks: its field has one byte. */
export const COMPARE_BLOCKS_MAX = 255;
/** Text of one login or text request, over all its PDUs. */
export const TEXT_BYTES_MAX = 64 << 10;
/** Requests of one login; none that is known takes a tenth. */
export const LOGIN_REQUESTS_MAX = 64;
/** Task management functions of one session under way; their answers wait for what they abort. */
export const TASK_FUNCTIONS_MAX = 64;
/** Logical units of one target: what peripheral device addressing can name. */
export const LUNS_MAX = 256;
