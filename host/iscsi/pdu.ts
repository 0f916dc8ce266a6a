import { BHS_BYTES, Flag } from './constants.ts';

/** The header of a PDU that has arrived: 48 bytes, and what follows them in additional header segments. */
export class Pdu {
  readonly #bhs: Buffer;
  /** Additional header segments, as they came. */
  readonly ahs: Buffer | undefined;
  /** Data segment of what is no SCSI data: those go where they belong, and this is empty. */
  data: Buffer = nothing;

  constructor(bhs: Buffer, ahs: Buffer | undefined) {
    this.#bhs = bhs;
    this.ahs = ahs;
  }

  get bytes(): Buffer {
    return this.#bhs;
  }

  /** Byte 0, bits 0 to 5: 11.2.1.2. */
  get opcode(): number {
    return this.#bhs[0]! & 0x3f;
  }

  /** Byte 0, bit 6: 11.2.1.1. It takes no place in the order of commands. */
  get immediate(): boolean {
    return (this.#bhs[0]! & 0x40) !== 0;
  }

  /** Byte 1. */
  get flags(): number {
    return this.#bhs[1]!;
  }

  get final(): boolean {
    return (this.#bhs[1]! & Flag.FINAL) !== 0;
  }

  /** Bytes 5 to 7: 11.2.1.6, without padding. */
  get dataLength(): number {
    return this.#bhs.readUIntBE(5, 3);
  }

  /** Bytes 8 to 15: 11.2.1.7. */
  get lun(): Buffer {
    return this.#bhs.subarray(8, 16);
  }

  /** Bytes 16 to 19: initiator task tag, 11.2.1.8. */
  get itt(): number {
    return this.#bhs.readUInt32BE(16);
  }

  /** Bytes 20 to 23: of Data-Out, NOP-Out and text, 11.7.4; of task management the referenced task tag. */
  get ttt(): number {
    return this.#bhs.readUInt32BE(20);
  }

  /** Bytes 20 to 23 of SCSI Command: expected data transfer length, 11.3.4. */
  get expectedLength(): number {
    return this.#bhs.readUInt32BE(20);
  }

  /** Bytes 24 to 27. */
  get cmdSn(): number {
    return this.#bhs.readUInt32BE(24);
  }

  /** Bytes 28 to 31. */
  get expStatSn(): number {
    return this.#bhs.readUInt32BE(28);
  }

  /** Bytes 32 to 47 of SCSI Command: 11.3.5. Longer CDBs go on in an additional header segment. */
  get cdb(): Buffer {
    return this.#bhs.subarray(32, 48);
  }

  /** Bits 0 to 2 of byte 1 of SCSI Command: 11.3.1. */
  get attribute(): number {
    return this.#bhs[1]! & 7;
  }

  /** Bits 0 to 6 of byte 1 of task management and logout: 11.5.1, 11.14.1. */
  get function(): number {
    return this.#bhs[1]! & 0x7f;
  }

  /** Bytes 20 to 21 of login and logout: connection id, 11.12.7, 11.14.2. */
  get cid(): number {
    return this.#bhs.readUInt16BE(20);
  }

  /** Bytes 8 to 13 of login: 11.12.5. */
  get isid(): string {
    return this.#bhs.toString('hex', 8, 14);
  }

  /** Bytes 14 to 15 of login: target session identifying handle, 11.12.6. */
  get tsih(): number {
    return this.#bhs.readUInt16BE(14);
  }

  /** Byte 3 of login: Version-min, 11.12.4. */
  get versionMin(): number {
    return this.#bhs[3]!;
  }

  /** Bytes 36 to 39 of Data-Out: 11.7.5. */
  get dataSn(): number {
    return this.#bhs.readUInt32BE(36);
  }

  /** Bytes 40 to 43 of Data-Out: 11.7.6. */
  get bufferOffset(): number {
    return this.#bhs.readUInt32BE(40);
  }
}

const nothing = Buffer.alloc(0);

/** Of a header whose 48 bytes are at `at`: bytes of its additional segments, byte 4 in words. */
export function ahsBytes(bytes: Buffer, at: number): number {
  return bytes[at + 4]! * 4;
}

/** Bytes that make a segment's length a multiple of four. */
export function padding(length: number): number {
  return -length & 3;
}

/** Sequence numbers count modulo 2^32 (RFC 1982): whether `a` comes before `b`. */
export function isBefore(a: number, b: number): boolean {
  return ((a - b) | 0) < 0;
}

/** The number after it. */
export function next(serial: number, by = 1): number {
  return (serial + by) >>> 0;
}

/** A header that is to be filled: opcode, byte 1, data length, initiator task tag and the sequence numbers are there. */
export function header(
  opcode: number,
  flags: number,
  dataLength: number,
  itt: number,
  serials: { readonly statSn: number; readonly expCmdSn: number; readonly maxCmdSn: number },
  into: Buffer = Buffer.alloc(BHS_BYTES),
): Buffer {
  into.fill(0);
  into[0] = opcode;
  into[1] = flags;
  into.writeUIntBE(dataLength, 5, 3);
  into.writeUInt32BE(itt, 16);
  into.writeUInt32BE(serials.statSn, 24);
  into.writeUInt32BE(serials.expCmdSn, 28);
  into.writeUInt32BE(serials.maxCmdSn, 32);
  return into;
}
