import type { IscsiLimits } from './limits.ts';
import type { Established } from './login.ts';

/** What a normal session takes along to the process that has its target's volumes: everything the full feature phase begins with. */
export interface SessionHandover {
  /** For logs. */
  readonly peer: string;
  /** That it came by, for counts. */
  readonly listener: string;
  /** IP address of the initiator, and where it connected to, `host:port`. */
  readonly address: string;
  readonly localAddress: string;
  readonly established: Established;
  readonly limits: IscsiLimits;
  /** What the initiator has sent behind its last login request. */
  readonly received: Uint8Array;
}
