import { byteCheck, type Command, isZeroes } from './cdb.ts';
import { changesMedium } from './commands.ts';
import { Asc } from './constants.ts';
import type { Geometry, TransferLimits } from './geometry.ts';
import { illegal, invalidCdb, lbaOutOfRange, type Sense, writeProtected } from './sense.ts';

/** What decides which commands are valid. */
export interface Validation {
  readonly geometry: Geometry;
  readonly limits: TransferLimits;
  /** Nothing can be written by who asks. */
  readonly readOnly: boolean;
}

/** Parameter lists up to this length are read; nothing here has a longer one. */
export const PARAMETER_BYTES_MAX = 16 << 10;

/** Piece in which VERIFY without data, PRE-FETCH and WRITE SAME work, bytes. */
export const PIECE_BYTES = 1 << 20;

/** What carrying out a command takes. */
export interface Sizes {
  /** Bytes that come from the initiator. */
  readonly dataOut: number;
  /** Bytes of the medium that go to it. */
  readonly dataIn: number;
  /** Bytes of buffer, while it runs; the data from the initiator are at its start. */
  readonly buffer: number;
}

const nothing: Sizes = { dataOut: 0, dataIn: 0, buffer: 0 };

/**
 * Everything that can be wrong with a command that its CDB tells, before anything is done for it: what passes here is
 * carried out without checking again, except that the volume may become smaller meanwhile, which its handle finds out.
 */
export function validate(command: Command, to: Validation): Sense | undefined {
  const { spec, lba, blocks } = command;
  if (changesMedium(spec.verb) && to.readOnly) return writeProtected;
  if (spec.parameters !== undefined) return validateParameters(command);
  if (spec.lba === undefined) return undefined;
  if (lba >= to.geometry.blocks || lba + blocks > to.geometry.blocks) return lbaOutOfRange;
  if (spec.blocks === undefined) return undefined;
  const countAt = spec.blocks[0];
  const bytes = blocks * to.geometry.blockBytes;
  switch (spec.verb) {
    case 'read':
    case 'write':
    case 'orWrite':
      return bytes > to.limits.transferBytes ? invalidCdb(countAt) : undefined;
    case 'compareWrite':
      return blocks > to.limits.compareBlocks ? invalidCdb(countAt) : undefined;
    case 'writeVerify':
    case 'verify': {
      const check = byteCheck(command);
      if (check === 2 || (check === 3 && spec.verb === 'writeVerify')) return invalidCdb(1, 2);
      const moves = spec.verb === 'writeVerify' || check === 1;
      return moves && bytes > to.limits.transferBytes ? invalidCdb(countAt) : undefined;
    }
    case 'writeSame':
      return blocks === 0 || bytes > to.limits.sameBytes ? invalidCdb(countAt) : undefined;
    default:
      return undefined;
  }
}

function validateParameters({ spec, parameters }: Command): Sense | undefined {
  if (parameters > PARAMETER_BYTES_MAX) return illegal(Asc.PARAMETER_LIST_LENGTH_ERROR);
  if (spec.verb === 'persistentOut' && parameters < 24) return illegal(Asc.PARAMETER_LIST_LENGTH_ERROR);
  return undefined;
}

/** Of a valid command. */
export function sizesOf(command: Command, geometry: Geometry): Sizes {
  const { spec, blocks, parameters } = command;
  const { blockBytes } = geometry;
  const bytes = blocks * blockBytes;
  switch (spec.verb) {
    case 'read':
      return { dataOut: 0, dataIn: bytes, buffer: bytes };
    case 'write':
    case 'orWrite':
      return { dataOut: bytes, dataIn: 0, buffer: bytes };
    case 'compareWrite':
      return { dataOut: 2 * bytes, dataIn: 0, buffer: 2 * bytes };
    case 'writeVerify':
      return { dataOut: bytes, dataIn: 0, buffer: bytes };
    case 'verify': {
      const check = byteCheck(command);
      if (blocks === 0) return nothing;
      if (check === 1) return { dataOut: bytes, dataIn: 0, buffer: bytes };
      const piece = Math.min(PIECE_BYTES, bytes);
      return check === 3
        ? { dataOut: blockBytes, dataIn: 0, buffer: blockBytes + piece }
        : { dataOut: 0, dataIn: 0, buffer: piece };
    }
    case 'writeSame':
      if (isZeroes(command)) return nothing;
      return { dataOut: blockBytes, dataIn: 0, buffer: Math.min(PIECE_BYTES, bytes) };
    case 'prefetch':
      return { dataOut: 0, dataIn: 0, buffer: Math.min(PIECE_BYTES, (blocks || geometry.blocks) * blockBytes) };
    default:
      return parameters === 0 ? nothing : { dataOut: parameters, dataIn: 0, buffer: parameters };
  }
}
