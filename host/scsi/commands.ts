import { Op, PrIn, PrOut, ServiceAction } from './constants.ts';

/** What a command does, however many bytes its CDB has. */
export type Verb =
  | 'testUnitReady'
  | 'requestSense'
  | 'inquiry'
  | 'modeSelect'
  | 'modeSense'
  | 'reserve'
  | 'release'
  | 'startStop'
  | 'readCapacity10'
  | 'readCapacity16'
  | 'reportLuns'
  | 'reportOpcodes'
  | 'reportTaskFunctions'
  | 'persistentIn'
  | 'persistentOut'
  | 'read'
  | 'write'
  | 'writeVerify'
  | 'verify'
  | 'compareWrite'
  | 'orWrite'
  | 'writeSame'
  | 'prefetch'
  | 'synchronize'
  | 'unmap'
  | 'lbaStatus';

/** Where a number stands in a CDB: first byte and bytes. */
type Place = readonly [at: number, bytes: number];

/** One command. */
export interface CommandSpec {
  readonly op: number;
  /** In the low five bits of byte 1. */
  readonly serviceAction?: number;
  readonly verb: Verb;
  /**
   * The bits that a CDB may have, as REPORT SUPPORTED OPERATION CODES tells them (SPC-4, 6.35.3): others are refused. Also
   * says how long it is.
   */
  readonly usage: Uint8Array;
  /** What it is under somebody else's reservation (SPC-4, table 66, and SBC-3, table 13). */
  readonly access: 'free' | 'read' | 'write';
  readonly lba?: Place;
  /** TRANSFER LENGTH and the like, in blocks. */
  readonly blocks?: Place;
  /** Of data to the initiator, the most it takes, in bytes. */
  readonly allocation?: Place;
  /** Length of the parameter list from the initiator, in bytes. */
  readonly parameters?: Place;
}

/** `28 18 ffffffff 1f ffff 00` as bytes. */
function usage(hex: string): Uint8Array {
  return Uint8Array.from(Buffer.from(hex.replaceAll(' ', ''), 'hex'));
}

type Rest = Pick<CommandSpec, 'lba' | 'blocks' | 'allocation' | 'parameters'>;

function row(verb: Verb, access: CommandSpec['access'], hex: string, rest: Rest = {}): CommandSpec {
  const bytes = usage(hex);
  return { op: bytes[0]!, verb, usage: bytes, access, ...rest };
}

function action(verb: Verb, access: CommandSpec['access'], hex: string, rest: Rest = {}): CommandSpec {
  const spec = row(verb, access, hex, rest);
  return { ...spec, serviceAction: spec.usage[1]! & 0x1f };
}

const range6: Rest = { lba: [1, 3], blocks: [4, 1] };
const range10: Rest = { lba: [2, 4], blocks: [7, 2] };
const range12: Rest = { lba: [2, 4], blocks: [6, 4] };
const range16: Rest = { lba: [2, 8], blocks: [10, 4] };

const prIn = Object.values(PrIn).map((code) =>
  action('persistentIn', 'free', `5e 0${code} 00 00000000 ffff 00`, { allocation: [7, 2] }),
);
// What they mean under a reservation is in reservations.ts.
const prOut = Object.values(PrOut).map((code) =>
  action('persistentOut', 'free', `5f 0${code} ff 0000 ffffffff 00`, { parameters: [5, 4] }),
);

/** Every command there is. Protection information (RDPROTECT and its like) and NACA are not supported, and so in no mask. */
export const commands: readonly CommandSpec[] = [
  row('testUnitReady', 'free', '00 00 0000 00 00'),
  row('requestSense', 'free', '03 01 0000 ff 00', { allocation: [4, 1] }),
  row('read', 'read', '08 1f ffff ff 00', range6),
  row('write', 'write', '0a 1f ffff ff 00', range6),
  row('inquiry', 'free', '12 01 ff ffff 00', { allocation: [3, 2] }),
  row('modeSelect', 'write', '15 10 0000 ff 00', { parameters: [4, 1] }),
  row('reserve', 'free', '16 00 0000 00 00'),
  row('release', 'free', '17 00 0000 00 00'),
  row('modeSense', 'write', '1a 08 ffff ff 00', { allocation: [4, 1] }),
  row('startStop', 'write', '1b 01 000f f5 00'),
  row('readCapacity10', 'free', '25 00 00000000 0000 00 00'),
  row('read', 'read', '28 1a ffffffff 1f ffff 00', range10),
  row('write', 'write', '2a 1a ffffffff 1f ffff 00', range10),
  row('writeVerify', 'write', '2e 16 ffffffff 1f ffff 00', range10),
  row('verify', 'read', '2f 16 ffffffff 1f ffff 00', range10),
  row('prefetch', 'read', '34 02 ffffffff 1f ffff 00', range10),
  row('synchronize', 'write', '35 06 ffffffff 1f ffff 00', range10),
  row('writeSame', 'write', '41 08 ffffffff 1f ffff 00', range10),
  row('unmap', 'write', '42 00 00000000 1f ffff 00', { parameters: [7, 2] }),
  row('modeSelect', 'write', '55 10 0000 000000 ffff 00', { parameters: [7, 2] }),
  row('modeSense', 'write', '5a 18 ffff 000000 ffff 00', { allocation: [7, 2] }),
  ...prIn,
  ...prOut,
  row('read', 'read', '88 1a ffffffffffffffff ffffffff 1f 00', range16),
  row('compareWrite', 'write', '89 1a ffffffffffffffff 000000 ff 1f 00', { lba: [2, 8], blocks: [13, 1] }),
  row('write', 'write', '8a 1a ffffffffffffffff ffffffff 1f 00', range16),
  row('orWrite', 'write', '8b 1a ffffffffffffffff ffffffff 1f 00', range16),
  row('writeVerify', 'write', '8e 16 ffffffffffffffff ffffffff 1f 00', range16),
  row('verify', 'read', '8f 16 ffffffffffffffff ffffffff 1f 00', range16),
  row('prefetch', 'read', '90 02 ffffffffffffffff ffffffff 1f 00', range16),
  row('synchronize', 'write', '91 06 ffffffffffffffff ffffffff 1f 00', range16),
  row('writeSame', 'write', '93 09 ffffffffffffffff ffffffff 1f 00', range16),
  action('readCapacity16', 'free', '9e 10 0000000000000000 ffffffff 00 00', { allocation: [10, 4] }),
  action('lbaStatus', 'read', '9e 12 ffffffffffffffff ffffffff 00 00', { lba: [2, 8], allocation: [10, 4] }),
  row('reportLuns', 'free', 'a0 00 ff 000000 ffffffff 00 00', { allocation: [6, 4] }),
  action('reportOpcodes', 'write', 'a3 0c 87 ff ffff ffffffff 00 00', { allocation: [6, 4] }),
  action('reportTaskFunctions', 'write', 'a3 0d 80 00 0000 ffffffff 00 00', { allocation: [6, 4] }),
  row('read', 'read', 'a8 1a ffffffff ffffffff 1f 00', range12),
  row('write', 'write', 'aa 1a ffffffff ffffffff 1f 00', range12),
  row('writeVerify', 'write', 'ae 16 ffffffff ffffffff 1f 00', range12),
  row('verify', 'read', 'af 16 ffffffff ffffffff 1f 00', range12),
];

/** By operation code; one that has service actions has a row for each. */
export const commandsByOp: ReadonlyMap<number, readonly CommandSpec[]> = Map.groupBy(commands, ({ op }) => op);

/** Verbs that change the medium. */
const writers: ReadonlySet<Verb> = new Set(['write', 'writeVerify', 'compareWrite', 'orWrite', 'writeSame', 'unmap']);

export function changesMedium(verb: Verb): boolean {
  return writers.has(verb);
}

/** Whether an operation code has service actions. */
export function hasServiceActions(op: number): boolean {
  return (
    op === Op.SERVICE_ACTION_IN_16 ||
    op === Op.MAINTENANCE_IN ||
    op === Op.PERSISTENT_RESERVE_IN ||
    op === Op.PERSISTENT_RESERVE_OUT
  );
}

// The table and the names of its parts are two lists: they must agree.
for (const code of Object.values(ServiceAction)) {
  if (!commands.some(({ serviceAction }) => serviceAction === code))
    throw new Error(`no command has service action ${code}`);
}
