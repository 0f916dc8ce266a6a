import type { Command } from './cdb.ts';
import { Asc } from './constants.ts';
import type { Geometry } from './geometry.ts';
import { illegal, invalidCdb, invalidParameter, SenseError } from './sense.ts';

/** What MODE SELECT can change, for all initiators of a logical unit. */
export interface ModeSettings {
  /** WCE: writes are durable only after SYNCHRONIZE CACHE. Without it each write is made durable. */
  writeCache: boolean;
  /** D_SENSE: sense data are in descriptor format. */
  descriptorSense: boolean;
  /** SWP: nothing can be written. */
  writeProtect: boolean;
}

const ALL_PAGES = 0x3f;
const ALL_SUBPAGES = 0xff;

/** PC, page control (SPC-4, table 161). */
const Control = { CURRENT: 0, CHANGEABLE: 1, DEFAULT: 2, SAVED: 3 } as const;

/** One mode page: its bytes for settings, and what MODE SELECT of it changes. */
interface ModePage {
  readonly code: number;
  readonly encode: (settings: ModeSettings) => Buffer;
  readonly decode: (page: Uint8Array, settings: ModeSettings) => void;
}

/** Settings in which every bit is set that can be changed, and in which none is: their pages differ in what is changeable. */
const allSet: ModeSettings = { writeCache: true, descriptorSense: true, writeProtect: true };
const noneSet: ModeSettings = { writeCache: false, descriptorSense: false, writeProtect: false };

/** SPC-4 7.5.11, SBC-3 6.4.5, SPC-4 7.5.8 and 7.5.15. */
const pages: readonly ModePage[] = [
  {
    code: 0x01, // read-write error recovery: AWRE, ARRE; nothing is retried that ZFS has not retried
    encode: () => Buffer.from([0x01, 0x0a, 0xc0, 0, 0, 0, 0, 0, 0, 0, 0, 0]),
    decode: () => {},
  },
  {
    code: 0x08, // caching
    encode: ({ writeCache }) =>
      Buffer.from([0x08, 0x12, writeCache ? 0x04 : 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]),
    decode: (page, settings) => {
      settings.writeCache = (page[2]! & 0x04) !== 0;
    },
  },
  {
    code: 0x0a, // control: unrestricted reordering, busy time-out unlimited
    encode: ({ descriptorSense, writeProtect }) =>
      Buffer.from([0x0a, 0x0a, descriptorSense ? 0x04 : 0, 0x10, writeProtect ? 0x08 : 0, 0, 0, 0, 0xff, 0xff, 0, 0]),
    decode: (page, settings) => {
      settings.descriptorSense = (page[2]! & 0x04) !== 0;
      settings.writeProtect = (page[4]! & 0x08) !== 0;
    },
  },
  {
    code: 0x1c, // informational exceptions: none are reported
    encode: () => Buffer.from([0x1c, 0x0a, 0x08, 0, 0, 0, 0, 0, 0, 0, 0, 0]),
    decode: () => {},
  },
];

/** What MODE SENSE needs to know. */
export interface ModeState {
  readonly current: ModeSettings;
  readonly default: ModeSettings;
  /** Nothing can be written by who asks. */
  readonly readOnly: boolean;
  readonly geometry: Geometry;
}

/** Parameter data of MODE SENSE (SPC-4, 6.13). @throws SenseError */
export function modeSense(command: Command, state: ModeState): Buffer {
  const { cdb } = command;
  const long = command.spec.usage.length === 10;
  const control = cdb[2]! >> 6;
  const code = cdb[2]! & 0x3f;
  const subpage = cdb[3]!;
  if (control === Control.SAVED) throw new SenseError(illegal(Asc.SAVING_PARAMETERS_NOT_SUPPORTED));
  if (subpage !== 0 && subpage !== ALL_SUBPAGES) throw new SenseError(invalidCdb(3));
  const wanted = pages.filter((page) => code === ALL_PAGES || page.code === code);
  if (wanted.length === 0) throw new SenseError(invalidCdb(2, 5));
  const body = Buffer.concat(wanted.map((page) => encodePage(page, control, state)));
  const descriptor = (cdb[1]! & 0x08) !== 0 ? Buffer.alloc(0) : blockDescriptor(state.geometry, (cdb[1]! & 0x10) !== 0);
  const deviceSpecific = (state.readOnly ? 0x80 : 0) | 0x10; // WP, DPOFUA
  const header = Buffer.alloc(long ? 8 : 4);
  if (long) {
    header.writeUInt16BE(header.length - 2 + descriptor.length + body.length, 0);
    header[3] = deviceSpecific;
    header[4] = (cdb[1]! & 0x10) !== 0 && descriptor.length > 0 ? 1 : 0; // LONGLBA
    header.writeUInt16BE(descriptor.length, 6);
  } else {
    header[0] = header.length - 1 + descriptor.length + body.length;
    header[2] = deviceSpecific;
    header[3] = descriptor.length;
  }
  return Buffer.concat([header, descriptor, body]);
}

function encodePage(page: ModePage, control: number, state: ModeState): Buffer {
  if (control === Control.CURRENT) return page.encode(state.current);
  if (control === Control.DEFAULT) return page.encode(state.default);
  const mask = changeable(page);
  mask[0] = page.code;
  mask[1] = mask.length - 2;
  return mask;
}

/** The bits of a page that MODE SELECT may change. */
function changeable(page: ModePage): Buffer {
  const [all, none] = [page.encode(allSet), page.encode(noneSet)];
  return Buffer.from(all.map((byte, i) => byte ^ none[i]!));
}

/** SBC-3 6.4.2. */
function blockDescriptor(geometry: Geometry, long: boolean): Buffer {
  const bytes = Buffer.alloc(long ? 16 : 8);
  if (long) {
    bytes.writeBigUInt64BE(BigInt(geometry.blocks), 0);
    bytes.writeUInt32BE(geometry.blockBytes, 12);
  } else {
    bytes.writeUInt32BE(Math.min(geometry.blocks, 0xffff_ffff), 0);
    bytes.writeUInt32BE(geometry.blockBytes, 4); // the highest byte is reserved, and 0
  }
  return bytes;
}

/** Settings after MODE SELECT with the parameter list (SPC-4, 6.11). @throws SenseError */
export function modeSelect(command: Command, list: Uint8Array, state: ModeState): ModeSettings {
  if ((command.cdb[1]! & 0x10) === 0) throw new SenseError(invalidCdb(1, 4)); // PF: vendor's own pages
  const settings = { ...state.current };
  if (list.length === 0) return settings;
  const long = command.spec.usage.length === 10;
  const headerBytes = long ? 8 : 4;
  if (list.length < headerBytes) throw new SenseError(illegal(Asc.PARAMETER_LIST_LENGTH_ERROR));
  const descriptorBytes = long ? list[6]! * 256 + list[7]! : list[3]!;
  const longDescriptor = long && (list[4]! & 1) !== 0;
  let at = headerBytes + descriptorBytes;
  if (at > list.length) throw new SenseError(illegal(Asc.PARAMETER_LIST_LENGTH_ERROR));
  checkDescriptor(list.subarray(headerBytes, at), headerBytes, longDescriptor, long ? 6 : 3, state.geometry);
  while (at < list.length) {
    at += selectPage(list, at, settings, state);
  }
  return settings;
}

/** A block descriptor may be there, and changes nothing: a volume's size is its volsize. */
function checkDescriptor(bytes: Uint8Array, at: number, long: boolean, lengthAt: number, geometry: Geometry): void {
  if (bytes.length === 0) return;
  const expected = blockDescriptor(geometry, long);
  if (bytes.length !== expected.length) throw new SenseError(invalidParameter(lengthAt));
  const blocksEnd = long ? 8 : 4;
  const sameBlocks = expected.subarray(0, blocksEnd).equals(bytes.subarray(0, blocksEnd));
  if (!sameBlocks && bytes.subarray(0, blocksEnd).some((byte) => byte !== 0))
    throw new SenseError(invalidParameter(at));
  if (!expected.subarray(blocksEnd).equals(bytes.subarray(blocksEnd))) {
    throw new SenseError(invalidParameter(at + blocksEnd));
  }
}

/** Applies the page at `at`; the bytes it has. */
function selectPage(list: Uint8Array, at: number, settings: ModeSettings, state: ModeState): number {
  const page = pages.find(({ code }) => code === (list[at]! & 0x3f));
  if (page === undefined || (list[at]! & 0xc0) !== 0) throw new SenseError(invalidParameter(at));
  const current = page.encode(state.current);
  if (at + current.length > list.length) throw new SenseError(illegal(Asc.PARAMETER_LIST_LENGTH_ERROR));
  if (list[at + 1] !== current.length - 2) throw new SenseError(invalidParameter(at + 1));
  const mask = changeable(page);
  for (let i = 2; i < current.length; i++) {
    if (((list[at + i]! ^ current[i]!) & ~mask[i]!) !== 0) throw new SenseError(invalidParameter(at + i));
  }
  page.decode(list.subarray(at, at + current.length), settings);
  return current.length;
}
