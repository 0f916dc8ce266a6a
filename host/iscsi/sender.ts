import { tracer } from '../log.ts';
import { Status } from '../scsi/constants.ts';
import { encodeSense, type Sense } from '../scsi/sense.ts';
import type { Result } from '../scsi/unit.ts';
import { BHS_BYTES, Flag, Opcode, RESERVED_TAG } from './constants.ts';
import { encodeLun } from './names.ts';
import type { Parameters } from './negotiate.ts';
import type { Output } from './output.ts';
import type { Pdu } from './pdu.ts';
import type { Serials } from './serials.ts';
import type { CommandTask } from './task.ts';

const trace = tracer('iscsi');

/** What a session sends: how each PDU looks (sections of RFC 7143), and its numbers. */
export class Sender {
  readonly #output: Output;
  readonly #parameters: Parameters;
  readonly #serials: Serials;
  #lastTag = 0;

  constructor(output: Output, parameters: Parameters, serials: Serials) {
    this.#output = output;
    this.#parameters = parameters;
    this.#serials = serials;
  }

  /** A target transfer tag. */
  #newTag(): number {
    this.#lastTag = this.#lastTag >= RESERVED_TAG - 1 ? 1 : this.#lastTag + 1;
    return this.#lastTag;
  }

  /** Begins a PDU in the output's slab; where. Its StatSN is the next one, which it does not use up. */
  #begin(opcode: number, flags: number, dataLength: number, itt: number): number {
    const at = this.#output.begin();
    const { slab } = this.#output;
    this.#serials.openWindow();
    slab[at] = opcode;
    slab[at + 1] = flags;
    slab.writeUIntBE(dataLength, at + 5, 3);
    slab.writeUInt32BE(itt, at + 16);
    slab.writeUInt32BE(this.#serials.statSn, at + 24);
    slab.writeUInt32BE(this.#serials.expCmdSn, at + 28);
    slab.writeUInt32BE(this.#serials.maxCmdSn, at + 32);
    return at;
  }

  /** As #begin, of a PDU that has a status. */
  #beginStatus(opcode: number, flags: number, dataLength: number, itt: number): number {
    const at = this.#begin(opcode, flags, dataLength, itt);
    this.#serials.useStatSn();
    return at;
  }

  /**
   * The end of a command: its data to the initiator, if any, then its status. `after` is called, once, when the data may
   * change again.
   */
  answer(task: CommandTask, result: Result, data: Uint8Array | undefined, after: () => void): void {
    const reads = (task.pdu.flags & Flag.READ) !== 0;
    const moved = bytesMoved(task, result, data);
    const residual = Math.abs(task.expected - moved);
    const flag = moved > task.expected ? Flag.OVERFLOW : moved < task.expected ? Flag.UNDERFLOW : 0;
    const sent = data === undefined || !reads ? 0 : Math.min(data.length, task.expected);
    if (sent > 0 && result.status === Status.GOOD) this.#dataIn(task, data!.subarray(0, sent), flag, residual, after);
    else this.#response(task, result, flag, residual, after);
  }

  /** 11.7: in segments as large as the initiator takes, the last with the status. */
  #dataIn(task: CommandTask, data: Uint8Array, residualFlag: number, residual: number, after: () => void): void {
    const { sendBytes, maxBurstBytes } = this.#parameters;
    if (task.buffer === undefined) this.#output.hold(data.length); // else it is of the pool, and bounded there
    let dataSn = 0;
    for (let offset = 0; offset < data.length; ) {
      const burstEnd = Math.min(data.length, (Math.floor(offset / maxBurstBytes) + 1) * maxBurstBytes);
      const end = Math.min(offset + sendBytes, burstEnd);
      const last = end === data.length;
      const flags = (end === burstEnd ? Flag.FINAL : 0) | (last ? Flag.STATUS | residualFlag : 0);
      const at = last
        ? this.#beginStatus(Opcode.DATA_IN, flags, end - offset, task.itt)
        : this.#begin(Opcode.DATA_IN, flags, end - offset, task.itt);
      const { slab } = this.#output;
      if (!last) slab.writeUInt32BE(0, at + 24);
      slab.writeUInt32BE(RESERVED_TAG, at + 20);
      slab.writeUInt32BE(dataSn++, at + 36);
      slab.writeUInt32BE(offset, at + 40);
      if (last) slab.writeUInt32BE(residual, at + 44);
      this.#output.send(data.subarray(offset, end), last ? after : undefined);
      offset = end;
    }
  }

  /** 11.4. */
  #response(task: CommandTask, result: Result, residualFlag: number, residual: number, after: () => void): void {
    const sense = result.sense === undefined ? undefined : senseData(task, result.sense);
    const at = this.#beginStatus(Opcode.SCSI_RESPONSE, Flag.FINAL | residualFlag, sense?.length ?? 0, task.itt);
    const { slab } = this.#output;
    slab[at + 3] = result.status;
    slab.writeUInt32BE(task.r2tSn, at + 36);
    slab.writeUInt32BE(residual, at + 44);
    trace?.({ itt: task.itt, status: result.status, sense: result.sense }, 'response');
    this.#output.send(sense, after);
  }

  /** 11.8: asks for `length` bytes of a command's data; the tag that they come with. */
  readyToTransfer(task: CommandTask, offset: number, length: number): number {
    const ttt = this.#newTag();
    const at = this.#begin(Opcode.R2T, Flag.FINAL, 0, task.itt);
    const { slab } = this.#output;
    task.pdu.lun.copy(slab, at + 8);
    slab.writeUInt32BE(ttt, at + 20);
    slab.writeUInt32BE(task.r2tSn++, at + 36);
    slab.writeUInt32BE(offset, at + 40);
    slab.writeUInt32BE(length, at + 44);
    this.#output.send();
    return ttt;
  }

  /** 11.19: asks whether the initiator is there; the tag of its answer. */
  ping(): number {
    const ttt = this.#newTag();
    const at = this.#begin(Opcode.NOP_IN, Flag.FINAL, 0, RESERVED_TAG);
    this.#output.slab.writeUInt32BE(ttt, at + 20);
    this.#output.send();
    return ttt;
  }

  /** 11.19: the answer to a NOP-Out, with its data. */
  echo(pdu: Pdu, data: Uint8Array): void {
    const echo = data.subarray(0, this.#parameters.sendBytes);
    const at = this.#beginStatus(Opcode.NOP_IN, Flag.FINAL, echo.length, pdu.itt);
    const { slab } = this.#output;
    pdu.lun.copy(slab, at + 8);
    slab.writeUInt32BE(RESERVED_TAG, at + 20);
    this.#output.hold(data.length);
    this.#output.send(echo);
  }

  /** 11.6. */
  taskResponse(pdu: Pdu, response: number): void {
    this.#short(Opcode.TASK_MANAGEMENT_RESPONSE, pdu, response);
  }

  /** 11.15. */
  logoutResponse(pdu: Pdu, response: number): void {
    this.#short(Opcode.LOGOUT_RESPONSE, pdu, response);
  }

  #short(opcode: number, pdu: Pdu, response: number): void {
    const at = this.#beginStatus(opcode, Flag.FINAL, 0, pdu.itt);
    this.#output.slab[at + 2] = response;
    this.#output.send();
  }

  /**
   * 11.11: a piece of text. 'last': all is said; 'more': more is to come, for whoever asks with the tag that is returned;
   * 'go on': the initiator's text is not whole yet.
   */
  text(pdu: Pdu, piece: Buffer, kind: 'last' | 'more' | 'go on'): number {
    const flags = { last: Flag.FINAL, more: Flag.CONTINUE, 'go on': 0 }[kind];
    const at = this.#beginStatus(Opcode.TEXT_RESPONSE, flags, piece.length, pdu.itt);
    const ttt = kind === 'last' ? RESERVED_TAG : this.#newTag();
    this.#output.slab.writeUInt32BE(ttt, at + 20);
    this.#output.hold(piece.length);
    this.#output.send(piece);
    return ttt;
  }

  /** 11.17: the header that is rejected goes back. */
  reject(pdu: Pdu, reason: number): void {
    trace?.({ opcode: pdu.opcode, reason }, 'reject');
    const at = this.#beginStatus(Opcode.REJECT, Flag.FINAL, BHS_BYTES, RESERVED_TAG);
    this.#output.slab[at + 2] = reason;
    this.#output.send(Buffer.from(pdu.bytes));
  }

  /** 11.9. Time2Wait and Time2Retain are 0: come back at once, and nothing is kept. `sense`: of a SCSI event. */
  asyncMessage(event: number, lun = 0, sense?: Buffer): void {
    const data = sense === undefined ? undefined : withLength(sense);
    const at = this.#beginStatus(Opcode.ASYNC_MESSAGE, Flag.FINAL, data?.length ?? 0, RESERVED_TAG);
    const { slab } = this.#output;
    encodeLun(lun).copy(slab, at + 8);
    slab[at + 36] = event;
    this.#output.send(data);
  }
}

/** Bytes that the command would have moved, had the initiator had room for them, or had them. */
function bytesMoved(task: CommandTask, result: Result, data: Uint8Array | undefined): number {
  if (task.plan !== undefined && task.plan.dataOut > 0) return task.plan.dataOut;
  const refusedOut = (result as { readonly dataOut?: number }).dataOut;
  if (refusedOut !== undefined) return refusedOut;
  return result.status === Status.GOOD ? (data?.length ?? 0) : 0;
}

function senseData(task: CommandTask, sense: Sense): Buffer {
  return withLength(task.unit?.sense(sense) ?? encodeSense(sense, false));
}

/** 11.4.7 and 11.9.4: their length, then the sense data. */
function withLength(sense: Buffer): Buffer {
  const data = Buffer.alloc(2 + sense.length);
  data.writeUInt16BE(sense.length, 0);
  sense.copy(data, 2);
  return data;
}
