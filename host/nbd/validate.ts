import { Cmd, CmdFlag, NbdErrno } from '../protocols/nbd.ts';
import type { Request } from './request.ts';

/** Why a request is not carried out: its error on the wire, and a sentence for clients that can read one. */
export interface Refusal {
  readonly errno: number;
  readonly message: string;
}

/** What a connection negotiated, as far as it decides which requests are valid. */
export interface Negotiated {
  /** Bytes, now. */
  readonly size: number;
  readonly readOnly: boolean;
  readonly structured: boolean;
  readonly extended: boolean;
  /** `base:allocation` was selected. */
  readonly allocation: boolean;
  /** Largest READ and WRITE in bytes. */
  readonly requestBytesMax: number;
}

/** Payload of a BLOCK_STATUS that names our one context: effect length (64 bits), context id (32 bits). */
export const STATUS_FILTER_BYTES = 12;

const refuse = (errno: number, message: string): Refusal => ({ errno, message });

const unknownCommand = refuse(NbdErrno.EINVAL, 'unknown command');
const unknownFlag = refuse(NbdErrno.EINVAL, 'flag not valid for this command');
const dfWithoutStructured = refuse(NbdErrno.EINVAL, 'DF without structured replies');
const noContext = refuse(NbdErrno.EINVAL, 'BLOCK_STATUS without a negotiated metadata context');
export const badPayload = refuse(NbdErrno.EINVAL, 'unexpected payload');
const emptyRange = refuse(NbdErrno.EINVAL, 'length is zero');
const flushRange = refuse(NbdErrno.EINVAL, 'FLUSH has neither offset nor length');
/** Of what needs no space there, and of what does. */
const pastEnd = refuse(NbdErrno.EINVAL, 'range exceeds the export');
const writePastEnd = refuse(NbdErrno.ENOSPC, 'range exceeds the export');
const readOnly = refuse(NbdErrno.EPERM, 'export is read-only');
const tooLarge = refuse(NbdErrno.EINVAL, 'larger than the maximum block size');
const dfTooLarge = refuse(NbdErrno.EOVERFLOW, 'larger than the maximum block size');
const fastAllocate = refuse(NbdErrno.ENOTSUP, 'zeroes with allocated space are not fast');

/** Flags each command may carry; a command that is missing here does not exist (DISC has no reply and is not asked). */
const commandFlags = new Map<number, number>([
  [Cmd.READ, CmdFlag.DF | CmdFlag.FUA],
  [Cmd.WRITE, CmdFlag.FUA],
  [Cmd.FLUSH, CmdFlag.FUA],
  [Cmd.TRIM, CmdFlag.FUA],
  [Cmd.CACHE, CmdFlag.FUA],
  [Cmd.WRITE_ZEROES, CmdFlag.FUA | CmdFlag.NO_HOLE | CmdFlag.FAST_ZERO],
  [Cmd.BLOCK_STATUS, CmdFlag.FUA | CmdFlag.REQ_ONE],
]);

/** Whether the command changes the volume. */
function modifies(type: number): boolean {
  return type === Cmd.WRITE || type === Cmd.TRIM || type === Cmd.WRITE_ZEROES;
}

/**
 * Everything that can be wrong with a request, before anything is done for it: what passes here, the handlers carry out
 * without checking again. Undefined: valid. (nbdkit, server/protocol.c, validate_request(); FUA on commands that
 * change nothing is allowed and means nothing, as the protocol asks.)
 */
export function validateRequest(request: Request, to: Negotiated): Refusal | undefined {
  const { type, flags } = request;
  const known = commandFlags.get(type);
  if (known === undefined) return unknownCommand;
  const payloadFlag = to.extended && (type === Cmd.WRITE || type === Cmd.BLOCK_STATUS) ? CmdFlag.PAYLOAD_LEN : 0;
  if ((flags & ~(known | payloadFlag)) !== 0) return unknownFlag;
  if (type === Cmd.FLUSH) return request.offset === 0 && request.length === 0 ? undefined : flushRange;
  if (modifies(type) && to.readOnly) return readOnly;
  if ((flags & CmdFlag.DF) !== 0 && !to.structured) return dfWithoutStructured;
  if ((flags & CmdFlag.FAST_ZERO) !== 0 && (flags & CmdFlag.NO_HOLE) !== 0) return fastAllocate;
  if (type === Cmd.BLOCK_STATUS) {
    if (!to.allocation) return noContext;
    // The length in the header is the payload's then; the range is checked when the payload has told it.
    if (request.payloadLength > 0) return request.payloadLength === STATUS_FILTER_BYTES ? undefined : badPayload;
  }
  if ((type === Cmd.READ || type === Cmd.WRITE) && request.length > to.requestBytesMax) {
    return (flags & CmdFlag.DF) !== 0 ? dfTooLarge : tooLarge;
  }
  return validateRange(request, to);
}

/** The part of validateRequest that is about the range. */
export function validateRange(request: Request, to: Negotiated): Refusal | undefined {
  if (request.length === 0) return emptyRange;
  if (request.offset + request.length <= to.size) return undefined;
  return request.type === Cmd.WRITE || request.type === Cmd.WRITE_ZEROES ? writePastEnd : pastEnd;
}
