import type { Command } from './cdb.ts';
import { type CommandSpec, commands, commandsByOp, hasServiceActions } from './commands.ts';
import { invalidCdb, SenseError } from './sense.ts';

/** Command timeouts descriptor that names no time (SPC-4, 6.35.4). */
const NO_TIMEOUTS = Buffer.from([0, 0x0a, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);

/** Parameter data of REPORT SUPPORTED OPERATION CODES (SPC-4, 6.35). @throws SenseError */
export function reportOpcodes(command: Command): Buffer {
  const { cdb } = command;
  const timeouts = (cdb[2]! & 0x80) !== 0;
  const action = cdb[4]! * 256 + cdb[5]!;
  switch (cdb[2]! & 7) {
    case 0:
      return allCommands(timeouts);
    case 1:
      if (hasServiceActions(cdb[3]!)) throw new SenseError(invalidCdb(2, 2));
      return oneCommand(commandsByOp.get(cdb[3]!)?.[0], timeouts);
    case 2:
      if (commandsByOp.has(cdb[3]!) && !hasServiceActions(cdb[3]!)) throw new SenseError(invalidCdb(2, 2));
      return oneCommand(find(cdb[3]!, action), timeouts);
    case 3:
      return oneCommand(hasServiceActions(cdb[3]!) ? find(cdb[3]!, action) : commandsByOp.get(cdb[3]!)?.[0], timeouts);
    default:
      throw new SenseError(invalidCdb(2, 2));
  }
}

function find(op: number, action: number): CommandSpec | undefined {
  return commandsByOp.get(op)?.find(({ serviceAction }) => serviceAction === action);
}

function allCommands(timeouts: boolean): Buffer {
  const parts = commands.map((spec) => {
    const bytes = Buffer.alloc(8);
    bytes[0] = spec.op;
    bytes.writeUInt16BE(spec.serviceAction ?? 0, 2);
    bytes[5] = (timeouts ? 2 : 0) | (spec.serviceAction === undefined ? 0 : 1);
    bytes.writeUInt16BE(spec.usage.length, 6);
    return timeouts ? Buffer.concat([bytes, NO_TIMEOUTS]) : bytes;
  });
  const body = Buffer.concat(parts);
  const header = Buffer.alloc(4);
  header.writeUInt32BE(body.length, 0);
  return Buffer.concat([header, body]);
}

function oneCommand(spec: CommandSpec | undefined, timeouts: boolean): Buffer {
  if (spec === undefined) return Buffer.from([0, 0x01, 0, 0]); // not supported
  const header = Buffer.from([0, 0x03 | (timeouts ? 0x80 : 0), 0, spec.usage.length]);
  return Buffer.concat([header, spec.usage, ...(timeouts ? [NO_TIMEOUTS] : [])]);
}

/** Parameter data of REPORT SUPPORTED TASK MANAGEMENT FUNCTIONS (SPC-4, 6.36): those of iSCSI's session. */
export function reportTaskFunctions(command: Command): Buffer {
  const long = (command.cdb[2]! & 0x80) !== 0; // REPD
  const bytes = Buffer.alloc(long ? 16 : 4);
  // ABORT TASK, ABORT TASK SET, CLEAR TASK SET, LOGICAL UNIT RESET, TARGET RESET; neither CLEAR ACA nor queries.
  bytes[0] = 0x80 | 0x40 | 0x10 | 0x08 | 0x02;
  bytes[3] = bytes.length - 4;
  return bytes;
}
