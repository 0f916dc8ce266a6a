import type { NbdLimits } from './limits.ts';
import type { ReplyStyle } from './reply.ts';

/** What a connection takes along to the process that has its volume: everything the transmission phase begins with. */
export interface Handover {
  /** For logs. */
  readonly peer: string;
  /** That it came by, for counts. */
  readonly listener: string;
  readonly readOnly: boolean;
  readonly style: ReplyStyle;
  readonly allocation: boolean;
  readonly requestBytesMax: number;
  readonly limits: NbdLimits;
  /** What the client has sent behind its choice of an export. */
  readonly received: Uint8Array;
}
