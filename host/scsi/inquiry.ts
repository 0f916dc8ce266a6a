import { createHash } from 'node:crypto';
import type { VolumeInfo } from '../volumes/volume.ts';
import type { Command } from './cdb.ts';
import type { Geometry, TransferLimits } from './geometry.ts';
import { invalidCdb, SenseError } from './sense.ts';

/** What INQUIRY needs to know. */
export interface Identity {
  readonly info: VolumeInfo;
  readonly geometry: Geometry;
  readonly limits: TransferLimits;
  /** iSCSI name of the target that was asked. */
  readonly target: string;
  /** Four characters. */
  readonly revision: string;
}

const VENDOR = 'ZoW     ';
const PRODUCT = 'ZFS volume      ';

/** Peripheral qualifier and type of a LUN that is not there (SPC-4, table 142). */
const NO_UNIT = 0x7f;

/** Parameter data of INQUIRY (SPC-4, 6.6); without an identity, of a LUN that is not there. @throws SenseError */
export function inquiry(command: Command, identity: Identity | undefined): Buffer {
  const page = command.cdb[2]!;
  if ((command.cdb[1]! & 1) === 0) {
    if (page !== 0) throw new SenseError(invalidCdb(2, 7));
    return standard(identity);
  }
  if (identity === undefined) throw new SenseError(invalidCdb(2, 7));
  const encode = vitalPages.get(page);
  if (encode === undefined) throw new SenseError(invalidCdb(2, 7));
  const body = encode(identity);
  const header = Buffer.from([0, page, 0, 0]);
  header.writeUInt16BE(body.length, 2);
  return Buffer.concat([header, body]);
}

/** SPC-4 6.6.2. */
function standard(identity: Identity | undefined): Buffer {
  const bytes = Buffer.alloc(96);
  bytes[0] = identity === undefined ? NO_UNIT : 0;
  bytes[2] = 0x06; // SPC-4
  bytes[3] = 0x12; // HISUP, response data format 2
  bytes[4] = bytes.length - 5;
  bytes[7] = 0x02; // CMDQUE
  bytes.write(VENDOR, 8, 'latin1');
  bytes.write(PRODUCT, 16, 'latin1');
  bytes.write((identity?.revision ?? '').padEnd(4).slice(0, 4), 32, 'latin1');
  // SAM-5, SPC-4, SBC-3, iSCSI: none in particular of their versions.
  for (const [i, version] of [0x00a0, 0x0460, 0x04c0, 0x0960].entries()) bytes.writeUInt16BE(version, 58 + 2 * i);
  return bytes;
}

/** Pages of vital product data, by their number; SPC-4 7.8 and SBC-3 6.5. */
const vitalPages: ReadonlyMap<number, (identity: Identity) => Buffer> = new Map([
  [0x00, () => Buffer.from([...vitalPages.keys()])],
  [0x80, ({ info }) => Buffer.from(serialOf(info), 'latin1')],
  [0x83, identification],
  [0x86, extended],
  [0xb0, blockLimits],
  [0xb1, characteristics],
  [0xb2, provisioning],
]);

/** The same for a volume whatever its name is, and wherever its pool is: of both guids. */
export function serialOf({ poolGuid, guid }: VolumeInfo): string {
  return [poolGuid, guid].map((part) => part.toString(16).padStart(16, '0')).join('');
}

/** SPC-4 7.8.5: the logical unit by T10 vendor identification, NAA and UUID; its target and target port by name. */
function identification({ info, target }: Identity): Buffer {
  const serial = serialOf(info);
  const digest = createHash('sha256').update(`zow volume ${serial}`).digest();
  const naa = Buffer.from(digest.subarray(0, 8));
  naa[0] = 0x30 | (naa[0]! & 0x0f); // 3h: locally assigned, for there is no IEEE company id
  const uuid = Buffer.from(digest.subarray(8, 24));
  uuid[6] = 0x80 | (uuid[6]! & 0x0f); // version 8: of a hash of our own (RFC 9562)
  uuid[8] = 0x80 | (uuid[8]! & 0x3f);
  return Buffer.concat([
    designator({ codeSet: 2, type: 1, association: 0 }, Buffer.from(VENDOR + serial, 'latin1')),
    designator({ codeSet: 1, type: 3, association: 0 }, naa),
    designator({ codeSet: 1, type: 0xa, association: 0 }, Buffer.concat([Buffer.from([0x10, 0]), uuid])),
    designator({ codeSet: 1, type: 4, association: 1 }, Buffer.from([0, 0, 0, 1])),
    designator({ codeSet: 3, type: 8, association: 1 }, nameString(`${target},t,0x0001`)),
    designator({ codeSet: 3, type: 8, association: 2 }, nameString(target)),
  ]);
}

function designator(kind: { codeSet: number; type: number; association: number }, value: Buffer): Buffer {
  // PROTOCOL IDENTIFIER 5, iSCSI, is valid (PIV) where the port or the device is meant.
  const protocol = kind.association === 0 ? 0 : 0x50;
  const second = (kind.association === 0 ? 0 : 0x80) | (kind.association << 4) | kind.type;
  return Buffer.concat([Buffer.from([protocol | kind.codeSet, second, 0, value.length]), value]);
}

/** UTF-8 with its NUL, padded to a multiple of four. */
function nameString(text: string): Buffer {
  const bytes = Buffer.from(`${text}\0`);
  return Buffer.concat([bytes, Buffer.alloc((4 - (bytes.length % 4)) % 4)]);
}

/** SPC-4 7.8.7. */
function extended(): Buffer {
  const bytes = Buffer.alloc(60);
  bytes[1] = 0x07; // HEADSUP, ORDSUP, SIMPSUP
  bytes[2] = 0x01; // V_SUP: there is a volatile cache
  bytes[3] = 0x01; // LUICLR
  return bytes;
}

/** SBC-3 6.5.3. */
function blockLimits({ info, geometry, limits }: Identity): Buffer {
  const bytes = Buffer.alloc(60);
  const blocks = (length: number) => Math.floor(length / geometry.blockBytes);
  const volumeBlocks = Math.max(1, blocks(info.blockSize));
  bytes[0] = 0x01; // WSNZ: WRITE SAME of no blocks is refused
  bytes[1] = limits.compareBlocks;
  bytes.writeUInt16BE(Math.min(volumeBlocks, 0xffff), 2);
  bytes.writeUInt32BE(blocks(limits.transferBytes), 4);
  bytes.writeUInt32BE(Math.min(volumeBlocks, blocks(limits.transferBytes)), 8);
  bytes.writeUInt32BE(0, 12); // prefetch of any length
  bytes.writeUInt32BE(Math.min(blocks(limits.unmapBytes), 0xffff_ffff), 16);
  bytes.writeUInt32BE(limits.unmapDescriptors, 20);
  bytes.writeUInt32BE(volumeBlocks, 24);
  bytes.writeUInt32BE(0x8000_0000, 28); // UGAVALID, aligned to 0
  bytes.writeBigUInt64BE(BigInt(blocks(limits.sameBytes)), 32);
  return bytes;
}

/** SBC-3 6.5.2. */
function characteristics(): Buffer {
  const bytes = Buffer.alloc(60);
  bytes.writeUInt16BE(1, 0); // non-rotating
  return bytes;
}

/** SBC-3 6.5.4: LBPU, LBPWS, LBPWS10, LBPRZ; thin. */
function provisioning(): Buffer {
  return Buffer.from([0, 0xe4, 0x02, 0]);
}
