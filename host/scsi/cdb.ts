import { type CommandSpec, commandsByOp } from './commands.ts';
import { Asc } from './constants.ts';
import { illegal, invalidCdb, type Sense } from './sense.ts';

/** Bytes of the longest CDB there is here; iSCSI always carries as many. */
export const CDB_BYTES = 16;

/** A CDB whose every bit is one that its command has. */
export interface Command {
  readonly spec: CommandSpec;
  readonly cdb: Uint8Array;
  /** Logical block; beyond 2^53 it is rounded, which only ever refuses what lies outside of every volume. */
  readonly lba: number;
  /** Logical blocks it is about. */
  readonly blocks: number;
  /** Bytes of data that the initiator takes at the most; 0 where the command has no such field. */
  readonly allocation: number;
  /** Bytes of its parameter list. */
  readonly parameters: number;
}

/** Flags of byte 1 of the block commands. */
const FUA = 0x08;
const UNMAP = 0x08;
const NDOB = 0x01;
const IMMEDIATE = 0x02;

/** FUA of READ and WRITE, which those of 6 bytes do not have. */
export function isFua(command: Command): boolean {
  return command.spec.usage.length > 6 && (command.cdb[1]! & FUA) !== 0;
}

/** UNMAP of WRITE SAME. */
export function isUnmap(command: Command): boolean {
  return (command.cdb[1]! & UNMAP) !== 0;
}

/** NDOB of WRITE SAME(16): no data come, zeroes are meant. */
export function isZeroes(command: Command): boolean {
  return command.spec.usage.length === 16 && (command.cdb[1]! & NDOB) !== 0;
}

/** IMMED of PRE-FETCH and SYNCHRONIZE CACHE. */
export function isImmediate(command: Command): boolean {
  return (command.cdb[1]! & IMMEDIATE) !== 0;
}

/** BYTCHK of VERIFY and WRITE AND VERIFY: 0 no data, 1 as many as the blocks, 3 one block. */
export function byteCheck(command: Command): number {
  return (command.cdb[1]! >> 1) & 3;
}

function unsigned(bytes: Uint8Array, at: number, length: number): number {
  let value = 0;
  for (let i = 0; i < length; i++) value = value * 256 + bytes[at + i]!;
  return value;
}

/** The command a CDB is, or what is wrong with it. `cdb` has at least CDB_BYTES bytes. */
export function decodeCdb(cdb: Uint8Array): Command | Sense {
  const specs = commandsByOp.get(cdb[0]!);
  if (specs === undefined) return illegal(Asc.INVALID_OPERATION_CODE);
  const action = cdb[1]! & 0x1f;
  const spec = specs.find(({ serviceAction }) => serviceAction === undefined || serviceAction === action);
  if (spec === undefined) return invalidCdb(1, 4);
  for (let i = 1; i < spec.usage.length; i++) {
    const wrong = cdb[i]! & ~spec.usage[i]!;
    if (wrong !== 0) return invalidCdb(i, 31 - Math.clz32(wrong));
  }
  const { lba, blocks, allocation, parameters } = spec;
  // READ(6) and WRITE(6): 21 bits of LBA, and 0 blocks are 256 (SBC-3, 5.7).
  const short = spec.usage.length === 6;
  const count = blocks === undefined ? 0 : unsigned(cdb, blocks[0], blocks[1]);
  return {
    spec,
    cdb,
    lba: lba === undefined ? 0 : unsigned(cdb, lba[0], lba[1]),
    blocks: short && blocks !== undefined && count === 0 ? 256 : count,
    allocation: allocation === undefined ? 0 : unsigned(cdb, allocation[0], allocation[1]),
    parameters: parameters === undefined ? 0 : unsigned(cdb, parameters[0], parameters[1]),
  };
}
