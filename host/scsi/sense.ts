import { Errno, errnoOf } from '../errno.ts';
import { Asc, SenseKey, Status } from './constants.ts';

/** Why a command is not carried out, or failed: sense data before they have a format. */
export interface Sense {
  readonly key: number;
  /** As in Asc. */
  readonly asc: number;
  /** Of ILLEGAL REQUEST: which byte is wrong, and of what. */
  readonly field?: { readonly in: 'cdb' | 'data'; readonly byte: number; readonly bit?: number } | undefined;
  /** INFORMATION: of a MISCOMPARE, the first byte that differs. */
  readonly information?: number | undefined;
}

/** Ends a command with CHECK CONDITION. */
export class SenseError extends Error {
  override readonly name = 'SenseError';
  readonly sense: Sense;

  constructor(sense: Sense) {
    super(`sense ${sense.key.toString(16)}/${sense.asc.toString(16).padStart(4, '0')}`);
    this.sense = sense;
  }
}

export const illegal = (asc: number, field?: Sense['field']): Sense => ({ key: SenseKey.ILLEGAL_REQUEST, asc, field });

/** The byte of the CDB that is wrong, and its leftmost wrong bit. */
export const invalidCdb = (byte: number, bit?: number): Sense =>
  illegal(Asc.INVALID_FIELD_IN_CDB, { in: 'cdb', byte, ...(bit === undefined ? {} : { bit }) });

/** The byte of the parameter list that is wrong. */
export const invalidParameter = (byte: number): Sense =>
  illegal(Asc.INVALID_FIELD_IN_PARAMETER_LIST, { in: 'data', byte });

export const unitAttention = (asc: number): Sense => ({ key: SenseKey.UNIT_ATTENTION, asc });

export const noSense: Sense = { key: SenseKey.NO_SENSE, asc: Asc.NONE };
export const notSupported = illegal(Asc.LOGICAL_UNIT_NOT_SUPPORTED);
export const lbaOutOfRange = illegal(Asc.LBA_OUT_OF_RANGE);
export const writeProtected: Sense = { key: SenseKey.DATA_PROTECT, asc: Asc.WRITE_PROTECTED };

/** How a command ended. */
export interface Outcome {
  readonly status: number;
  readonly sense?: Sense;
}

export const good: Outcome = { status: Status.GOOD };
export const reservationConflict: Outcome = { status: Status.RESERVATION_CONFLICT };

export function check(sense: Sense): Outcome {
  return { status: Status.CHECK_CONDITION, sense };
}

/** What any failure of a volume operation is in SCSI; `writes`: the command changes the medium. */
export function senseOf(error: unknown, writes: boolean): Sense {
  if (error instanceof SenseError) return error.sense;
  switch (errnoOf(error)) {
    case Errno.ENOSPC:
    case Errno.EDQUOT:
      // A volume that was made smaller answers writes beyond its end so, too.
      return { key: SenseKey.DATA_PROTECT, asc: Asc.SPACE_ALLOCATION_FAILED };
    case Errno.EROFS:
    case Errno.EPERM:
    case Errno.EACCES:
      return writeProtected;
    case Errno.EINVAL:
      return lbaOutOfRange;
    case Errno.ENOMEM:
      return { key: SenseKey.ABORTED_COMMAND, asc: Asc.INSUFFICIENT_RESOURCES };
    case Errno.EOPNOTSUPP:
      return illegal(Asc.INVALID_OPERATION_CODE);
    case Errno.ENOENT:
    case Errno.ENXIO:
    case Errno.ESHUTDOWN:
      return notSupported;
    case Errno.EBUSY:
      return { key: SenseKey.NOT_READY, asc: Asc.LOGICAL_UNIT_NOT_READY };
    case Errno.EIO:
    case Errno.EBADMSG:
      return {
        key: SenseKey.MEDIUM_ERROR,
        asc: writes ? Asc.WRITE_ERROR : Asc.UNRECOVERED_READ_ERROR,
      };
    default:
      return { key: SenseKey.HARDWARE_ERROR, asc: Asc.INTERNAL_TARGET_FAILURE };
  }
}

/** Sense data in fixed (SPC-4, 4.5.3) or descriptor format (4.5.2). */
export function encodeSense(sense: Sense, descriptor: boolean): Buffer {
  return descriptor ? descriptorSense(sense) : fixedSense(sense);
}

function fixedSense(sense: Sense): Buffer {
  const bytes = Buffer.alloc(18);
  bytes[0] = 0x70;
  bytes[2] = sense.key;
  bytes[7] = bytes.length - 8;
  bytes.writeUInt16BE(sense.asc, 12);
  if (sense.information !== undefined) {
    bytes[0] |= 0x80;
    bytes.writeUInt32BE(sense.information, 3);
  }
  if (sense.field !== undefined) fieldPointer(sense.field).copy(bytes, 15);
  return bytes;
}

function descriptorSense(sense: Sense): Buffer {
  const descriptors: Buffer[] = [];
  if (sense.information !== undefined) {
    const information = Buffer.from([0x00, 0x0a, 0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
    information.writeUInt32BE(sense.information, 8);
    descriptors.push(information);
  }
  if (sense.field !== undefined) {
    descriptors.push(Buffer.concat([Buffer.from([0x02, 0x06, 0, 0]), fieldPointer(sense.field), Buffer.alloc(1)]));
  }
  const rest = Buffer.concat(descriptors);
  const header = Buffer.from([0x72, sense.key, sense.asc >> 8, sense.asc & 0xff, 0, 0, 0, rest.length]);
  return Buffer.concat([header, rest]);
}

/** Sense key specific data, SPC-4 4.5.2.4.2. */
function fieldPointer(field: NonNullable<Sense['field']>): Buffer {
  const bytes = Buffer.alloc(3);
  bytes[0] = 0x80 | (field.in === 'cdb' ? 0x40 : 0) | (field.bit === undefined ? 0 : 0x08 | field.bit);
  bytes.writeUInt16BE(Math.min(field.byte, 0xffff), 1);
  return bytes;
}
