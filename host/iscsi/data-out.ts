import type { Window } from '../net/onread.ts';
import { Opcode, RESERVED_TAG } from './constants.ts';
import type { Parameters } from './negotiate.ts';
import type { Pdu } from './pdu.ts';
import type { Sender } from './sender.ts';
import type { CommandTask } from './task.ts';

/** What becomes of commands whose data come. */
export interface DataOutHost {
  /** All of its data are there, and it has its buffer. */
  ready(task: CommandTask): void;
  /** Its data are not as they were asked for. */
  broken(task: CommandTask): void;
  /** It is refused, and the last of its data is dropped. */
  discarded(task: CommandTask): void;
}

/**
 * Data from the initiator (RFC 7143, 11.7): where the segments of commands and of Data-Outs go, and asking for what is
 * missing (R2T). A command that has no buffer yet has its data in its stash.
 */
export class DataOut {
  readonly #sender: Sender;
  readonly #parameters: Parameters;
  readonly #host: DataOutHost;
  /** Whose data are coming. */
  #into: CommandTask | undefined;
  /** Data of which the command takes only a part. */
  #cut: Buffer | undefined;

  constructor(sender: Sender, parameters: Parameters, host: DataOutHost) {
    this.#sender = sender;
    this.#parameters = parameters;
    this.#host = host;
  }

  /** Another PDU begins. */
  reset(): void {
    this.#into = undefined;
    this.#cut = undefined;
  }

  /** Memory for a data segment: of what the command wants, at `offset` of its data. Undefined: they are dropped. */
  segment(task: CommandTask, pdu: Pdu, offset: number): Window | undefined {
    const { buffer, stash } = task;
    this.#into = task;
    task.receivesInto = true;
    const wanted = wantedBytes(task, pdu, offset);
    if (wanted === 0 || (buffer === undefined && stash === undefined)) return undefined;
    if (wanted < pdu.dataLength) {
      // More than the command takes: it is cut when it has come.
      this.#cut = Buffer.alloc(pdu.dataLength);
      return { bytes: this.#cut };
    }
    if (stash !== undefined) return { bytes: stash.bytes.subarray(offset, offset + wanted) };
    return { bytes: buffer!.bytes.subarray(offset, offset + wanted), of: buffer };
  }

  /** A Data-Out's header; where its data go. What belongs to no command is dropped, for that may have been aborted. */
  began(pdu: Pdu, task: CommandTask | undefined): Window | undefined {
    if (task === undefined || task.state === 'running' || task.state === 'done') return undefined;
    if (task.state === 'discarding') {
      this.#into = task;
      task.receivesInto = true;
      return undefined;
    }
    if (!this.#inOrder(task, pdu)) {
      this.#host.broken(task);
      return undefined;
    }
    task.dataSn++;
    return this.segment(task, pdu, pdu.bufferOffset);
  }

  /** DataPDUInOrder and DataSequenceInOrder are always agreed on. */
  #inOrder(task: CommandTask, pdu: Pdu): boolean {
    if (pdu.dataSn !== task.dataSn || pdu.bufferOffset !== task.received) return false;
    const end = pdu.bufferOffset + pdu.dataLength;
    if (task.unsolicited) {
      return pdu.ttt === RESERVED_TAG && end <= this.#parameters.firstBurstBytes && end <= task.pdu.expectedLength;
    }
    const burst = task.bursts[0];
    if (burst === undefined || pdu.ttt !== burst.ttt || end > burst.end) return false;
    return pdu.final === (end === burst.end);
  }

  /** A data segment is whole: of a command or of a Data-Out. */
  came(pdu: Pdu): void {
    const task = this.#into;
    this.#into = undefined;
    if (task === undefined) return;
    task.receivesInto = false;
    if (task.state === 'done') return; // aborted meanwhile
    const isDataOut = pdu.opcode === Opcode.DATA_OUT;
    if (task.state === 'discarding') {
      if (isDataOut && pdu.final) this.#host.discarded(task);
      return;
    }
    const offset = isDataOut ? pdu.bufferOffset : 0;
    this.#putAway(task, pdu, offset);
    task.received = offset + pdu.dataLength;
    if (isDataOut && pdu.final) {
      if (task.unsolicited) task.unsolicited = false;
      else task.bursts.shift();
      task.dataSn = 0;
    }
    if (task.state === 'receiving') this.proceed(task);
  }

  /** Brings a segment from where it came to where it belongs, where the two differ. */
  #putAway(task: CommandTask, pdu: Pdu, offset: number): void {
    const wanted = wantedBytes(task, pdu, offset);
    const { buffer, stash } = task;
    const cut = this.#cut;
    this.#cut = undefined;
    if (cut !== undefined && wanted > 0) (stash?.bytes ?? buffer!.bytes).set(cut.subarray(0, wanted), offset);
    if (stash === undefined || buffer === undefined) return;
    // It got its buffer while the segment came.
    buffer.bytes.set(stash.bytes.subarray(offset, offset + wanted), offset);
    task.dropStash();
  }

  /** The command has got its buffer: what came before is brought there. */
  adopt(task: CommandTask): void {
    const { buffer, stash } = task;
    if (stash === undefined) return;
    // What has come of the segment that is coming goes along: it is behind `received`, and copied again when it is whole.
    buffer!.bytes.set(stash.bytes.subarray(0, task.dataOut), 0);
    if (!task.receivesInto) task.dropStash();
  }

  /** Asks for what is missing of a command that has its buffer, or says that it is ready. */
  proceed(task: CommandTask): void {
    if (task.unsolicited || task.receivesInto) return;
    if (task.received >= task.dataOut) {
      if (task.bursts.length === 0) this.#host.ready(task);
      return;
    }
    const { maxBurstBytes, maxOutstandingR2t } = this.#parameters;
    task.requested = Math.max(task.requested, task.received);
    while (task.requested < task.dataOut && task.bursts.length < maxOutstandingR2t) {
      const length = Math.min(maxBurstBytes, task.dataOut - task.requested);
      const ttt = this.#sender.readyToTransfer(task, task.requested, length);
      task.requested += length;
      task.bursts.push({ ttt, end: task.requested });
    }
  }
}

/** Bytes of a segment at `offset` that are the command's. */
function wantedBytes(task: CommandTask, pdu: Pdu, offset: number): number {
  return Math.min(pdu.dataLength, Math.max(0, task.dataOut - offset));
}
