import type { Nexus } from '../scsi/nexus.ts';
import type { Task } from '../scsi/tasks.ts';
import type { LogicalUnit, Plan } from '../scsi/unit.ts';
import type { IoBuffer } from '../volumes/volume.ts';
import type { Pdu } from './pdu.ts';
import type { Stash } from './stash.ts';

/** Data that were asked for by one R2T. */
export interface Burst {
  readonly ttt: number;
  /** Offsets in the command's data, bytes. */
  readonly end: number;
}

/**
 *   arrived ──► waiting (memory) ──► receiving (data from the initiator) ──► running ──► done
 *      └── refused ──► discarding (data that were on their way) ───────────────────────────┘
 */
export type TaskState = 'waiting' | 'receiving' | 'running' | 'discarding' | 'done';

/** One SCSI command, from its header to its answer. */
export class CommandTask implements Task {
  readonly nexus: Nexus;
  readonly unit: LogicalUnit | undefined;
  readonly pdu: Pdu;
  readonly itt: number;
  readonly attribute: number;
  /** Expected data transfer length as it is for the direction of the command, bytes. */
  readonly expected: number;
  plan: Plan | undefined = undefined;
  state: TaskState = 'waiting';
  aborted = false;
  /** In the unit's task set. */
  queued = false;
  buffer: IoBuffer | undefined = undefined;
  /** Data that came before there was a buffer. */
  stash: Stash | undefined = undefined;
  /** What it counts in its session's budget, bytes. */
  heldBytes = 0;
  /** Data bytes of all that it moved: what the initiator is good for afterwards. */
  readonly dataOut: number;
  received = 0;
  /** Data of the command that were asked for so far, or come unasked. */
  requested = 0;
  /** Unsolicited data are still to come. */
  unsolicited = false;
  readonly bursts: Burst[] = [];
  dataSn = 0;
  r2tSn = 0;
  /** Its buffer must stay until the data segment has come that is being read into it. */
  receivesInto = false;
  readonly #onAbort: (task: CommandTask) => void;
  #controller: AbortController | undefined;

  constructor(options: {
    readonly nexus: Nexus;
    readonly unit: LogicalUnit | undefined;
    readonly pdu: Pdu;
    readonly plan: Plan | undefined;
    readonly expected: number;
    readonly onAbort: (task: CommandTask) => void;
  }) {
    const { pdu, plan } = options;
    this.nexus = options.nexus;
    this.unit = options.unit;
    this.pdu = pdu;
    this.itt = pdu.itt;
    this.attribute = pdu.attribute;
    this.expected = options.expected;
    this.plan = plan;
    this.dataOut = plan === undefined ? 0 : Math.min(plan.dataOut, options.expected);
    this.#onAbort = options.onAbort;
  }

  /** Data that are only sent when they are asked for are missing. */
  get needsSolicited(): boolean {
    return (this.state === 'waiting' || this.state === 'receiving') && this.received < this.dataOut;
  }

  get signal(): AbortSignal {
    this.#controller ??= new AbortController();
    if (this.aborted && !this.#controller.signal.aborted) this.#controller.abort();
    return this.#controller.signal;
  }

  dropStash(): void {
    this.stash?.giveBack();
    this.stash = undefined;
  }

  abort(): void {
    if (this.aborted) return;
    this.aborted = true;
    this.#controller?.abort();
    this.#onAbort(this);
  }
}
