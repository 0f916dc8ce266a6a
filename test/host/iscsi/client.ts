import net from 'node:net';
import { BHS_BYTES, Flag, Opcode, RESERVED_TAG, Stage } from '../../../host/iscsi/constants.ts';
import { crc32c } from '../../../host/iscsi/crc32c.ts';
import { encodeLun } from '../../../host/iscsi/names.ts';
import { padding } from '../../../host/iscsi/pdu.ts';
import { encodePairs, parsePairs } from '../../../host/iscsi/text.ts';

/** A PDU of the target. */
export interface Answer {
  readonly opcode: number;
  readonly flags: number;
  readonly bhs: Buffer;
  readonly data: Buffer;
}

/** How a SCSI command ended. */
export interface Ended {
  readonly status: number;
  readonly data: Buffer;
  /** Sense data, without their length. */
  readonly sense: Buffer;
  /** Sense key, and additional sense code with its qualifier, of fixed format. */
  readonly key: number;
  readonly asc: number;
  readonly flags: number;
  readonly residual: number;
}

export interface LoginOptions {
  readonly initiator?: string;
  readonly target?: string;
  readonly isid?: string;
  readonly tsih?: number;
  readonly keys?: Readonly<Record<string, string>>;
}

export interface CommandOptions {
  readonly lun?: number;
  readonly write?: Uint8Array;
  /** Expected data transfer length of a read, bytes. */
  readonly read?: number;
  /** Sends so much of the data with the command; default: all that the session allows. */
  readonly immediate?: number;
  readonly expected?: number;
  readonly attribute?: number;
  readonly itt?: number;
}

/** A pdu's bytes; `digests` as negotiated. */
export function encodePdu(
  bhs: Buffer,
  data: Uint8Array = Buffer.alloc(0),
  digests: { readonly header?: boolean; readonly data?: boolean } = {},
): Buffer {
  bhs.writeUIntBE(data.length, 5, 3);
  const pad = Buffer.alloc(padding(data.length));
  const parts: Uint8Array[] = [bhs];
  if (digests.header === true) parts.push(u32le(crc32c(bhs)));
  parts.push(data, pad);
  if (digests.data === true && data.length > 0) parts.push(u32le(crc32c(pad, crc32c(data))));
  return Buffer.concat(parts);
}

function u32le(value: number): Buffer {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32LE(value);
  return bytes;
}

/** A CDB of ten or sixteen bytes: operation code, flags, LBA, blocks. */
export function cdb10(op: number, lba: number, blocks: number, flags = 0): Buffer {
  const cdb = Buffer.alloc(10);
  cdb[0] = op;
  cdb[1] = flags;
  cdb.writeUInt32BE(lba, 2);
  cdb.writeUInt16BE(blocks, 7);
  return cdb;
}

export function cdb16(op: number, lba: number, blocks: number, flags = 0): Buffer {
  const cdb = Buffer.alloc(16);
  cdb[0] = op;
  cdb[1] = flags;
  cdb.writeBigUInt64BE(BigInt(lba), 2);
  cdb.writeUInt32BE(blocks, 10);
  return cdb;
}

/** A small iSCSI initiator that also does what none should. */
export class Initiator {
  readonly socket: net.Socket;
  readonly name: string;
  headerDigest = false;
  dataDigest = false;
  immediateBytes = 65_536;
  cmdSn = 1;
  expStatSn = 0;
  maxCmdSn = 1;
  tsih = 0;
  /** What the target has agreed to. */
  agreed = new Map<string, string>();
  #input = Buffer.alloc(0);
  #closed = false;
  #waiting: (() => void)[] = [];
  #itt = 0;
  readonly #stray: Answer[] = [];
  /** Data of the commands that `finish` is not yet called for. */
  readonly #writes = new Map<number, Uint8Array>();

  private constructor(socket: net.Socket, name: string) {
    this.socket = socket;
    this.name = name;
    socket.on('data', (chunk: Buffer) => {
      this.#input = Buffer.concat([this.#input, chunk]);
      this.#wake();
    });
    socket.on('close', () => {
      this.#closed = true;
      this.#wake();
    });
    socket.on('error', () => {});
  }

  static async connect(address: string, name = 'iqn.2026-11.io.zow.test:one'): Promise<Initiator> {
    const at = address.lastIndexOf(':');
    const socket = net.connect({ host: address.slice(0, at), port: Number(address.slice(at + 1)), noDelay: true });
    await new Promise((resolve, reject) => socket.once('connect', resolve).once('error', reject));
    return new Initiator(socket, name);
  }

  /** A session of its own, logged in to `target`. */
  static async open(address: string, target: string, options: LoginOptions = {}): Promise<Initiator> {
    const initiator = await Initiator.connect(address, options.initiator);
    const status = await initiator.login({ ...options, target });
    if (status !== 0) throw new Error(`login: 0x${status.toString(16).padStart(4, '0')}`);
    return initiator;
  }

  #wake(): void {
    for (const wake of this.#waiting.splice(0)) wake();
  }

  get closed(): boolean {
    return this.#closed;
  }

  /** Resolves when the target has closed the connection. */
  async ended(): Promise<void> {
    while (!this.#closed) await new Promise<void>((resolve) => this.#waiting.push(resolve));
  }

  destroy(): void {
    this.socket.destroy();
  }

  send(bhs: Buffer, data?: Uint8Array): void {
    this.socket.write(encodePdu(bhs, data, { header: this.headerDigest, data: this.dataDigest }));
  }

  /** The next PDU of the target; rejects when the connection ends. */
  async receive(): Promise<Answer> {
    const bhs = await this.#take(BHS_BYTES);
    if (this.headerDigest) {
      const digest = await this.#take(4);
      if (digest.readUInt32LE(0) !== crc32c(bhs)) throw new Error('wrong header digest');
    }
    const length = bhs.readUIntBE(5, 3);
    const padded = await this.#take(length + padding(length));
    if (this.dataDigest && length > 0) {
      const digest = await this.#take(4);
      if (digest.readUInt32LE(0) !== crc32c(padded)) throw new Error('wrong data digest');
    }
    this.maxCmdSn = bhs.readUInt32BE(32);
    return { opcode: bhs[0]!, flags: bhs[1]!, bhs, data: padded.subarray(0, length) };
  }

  async #take(length: number): Promise<Buffer> {
    while (this.#input.length < length) {
      if (this.#closed) throw new Error('the target closed the connection');
      await new Promise<void>((resolve) => this.#waiting.push(resolve));
    }
    const bytes = this.#input.subarray(0, length);
    this.#input = this.#input.subarray(length);
    return bytes;
  }

  /** A login request; the status, and the keys of the answer in `agreed`. */
  async loginRequest(
    flags: number,
    keys: Iterable<readonly [string, string]>,
    options: LoginOptions = {},
  ): Promise<Answer> {
    const bhs = Buffer.alloc(BHS_BYTES);
    bhs[0] = 0x40 | Opcode.LOGIN_REQUEST;
    bhs[1] = flags;
    Buffer.from(options.isid ?? '800000000001', 'hex').copy(bhs, 8);
    bhs.writeUInt16BE(options.tsih ?? 0, 14);
    bhs.writeUInt32BE(this.cmdSn, 24);
    this.send(bhs, encodePairs(keys));
    const answer = await this.receive();
    for (const [key, value] of parsePairs(answer.data)) this.agreed.set(key, value);
    this.tsih = answer.bhs.readUInt16BE(14);
    return answer;
  }

  identity({ target }: LoginOptions): [string, string][] {
    const session: [string, string][] =
      target === undefined
        ? [['SessionType', 'Discovery']]
        : [
            ['SessionType', 'Normal'],
            ['TargetName', target],
          ];
    return [['InitiatorName', this.name], ...session];
  }

  /** Straight to the full feature phase, without authentication. */
  async login(options: LoginOptions = {}): Promise<number> {
    const flags = Flag.TRANSIT | (Stage.OPERATIONAL << 2) | Stage.FULL_FEATURE;
    const keys = { InitialR2T: 'No', ImmediateData: 'Yes', MaxRecvDataSegmentLength: '262144', ...options.keys };
    const answer = await this.loginRequest(flags, [...this.identity(options), ...Object.entries(keys)], options);
    this.enter();
    return answer.bhs.readUInt16BE(36);
  }

  /** The login is over: what was agreed counts. */
  enter(): void {
    this.headerDigest = this.agreed.get('HeaderDigest') === 'CRC32C';
    this.dataDigest = this.agreed.get('DataDigest') === 'CRC32C';
    if (this.agreed.get('ImmediateData') === 'No') this.immediateBytes = 0;
    else this.immediateBytes = Number(this.agreed.get('FirstBurstLength') ?? 65_536);
  }

  bhs(opcode: number, flags: number, { immediate = false, itt = this.nextItt() } = {}): Buffer {
    const bhs = Buffer.alloc(BHS_BYTES);
    bhs[0] = opcode | (immediate ? 0x40 : 0);
    bhs[1] = flags;
    bhs.writeUInt32BE(itt, 16);
    bhs.writeUInt32BE(RESERVED_TAG, 20);
    bhs.writeUInt32BE(this.cmdSn, 24);
    if (!immediate) this.cmdSn = (this.cmdSn + 1) >>> 0;
    return bhs;
  }

  nextItt(): number {
    return ++this.#itt;
  }

  /** Sends a command with its immediate data; its tag. */
  sendCommand(cdb: Uint8Array, options: CommandOptions = {}): number {
    const { lun = 0, write, read = 0, attribute = 1 } = options;
    const immediate = Math.min(options.immediate ?? this.immediateBytes, write?.length ?? 0);
    const flags = Flag.FINAL | (write === undefined ? 0 : Flag.WRITE) | (read > 0 ? Flag.READ : 0) | attribute;
    const bhs = this.bhs(Opcode.SCSI_COMMAND, flags, { itt: options.itt ?? this.nextItt() });
    encodeLun(lun).copy(bhs, 8);
    bhs.writeUInt32BE(options.expected ?? write?.length ?? read, 20);
    bhs.set(cdb, 32);
    this.send(bhs, write?.subarray(0, immediate));
    const itt = bhs.readUInt32BE(16);
    if (write !== undefined) this.#writes.set(itt, write);
    return itt;
  }

  /** A SCSI command, to its end. */
  async command(cdb: Uint8Array, options: CommandOptions = {}): Promise<Ended> {
    const itt = this.sendCommand(cdb, options);
    return this.finish(itt, options.write);
  }

  /** Answers what the target asks for until the command `itt` has its status. */
  async finish(itt: number, write?: Uint8Array): Promise<Ended> {
    const pieces: Buffer[] = [];
    this.#writes.delete(itt);
    for (;;) {
      const answer = await this.answerFor(itt);
      const { opcode, flags, bhs, data } = answer;
      if (opcode === Opcode.R2T) this.#sendData(bhs, write!);
      else if (opcode === Opcode.DATA_IN) {
        pieces.push(data);
        if ((flags & Flag.STATUS) !== 0) return ended(bhs, Buffer.concat(pieces), Buffer.alloc(0));
      } else if (opcode === Opcode.SCSI_RESPONSE) return ended(bhs, Buffer.concat(pieces), data.subarray(2));
      else throw new Error(`PDU 0x${opcode.toString(16)} for a command`);
    }
  }

  /** The next PDU for a task; others are kept for who asks for them. */
  async answerFor(itt: number): Promise<Answer> {
    const kept = this.#stray.findIndex(({ bhs }) => bhs.readUInt32BE(16) === itt);
    if (kept !== -1) return this.#stray.splice(kept, 1)[0]!;
    for (;;) {
      const answer = await this.receive();
      const other = answer.bhs.readUInt32BE(16);
      if (other === itt) return answer;
      // An initiator gives what it is asked for, whatever it waits for itself.
      const write = this.#writes.get(other);
      if (answer.opcode === Opcode.R2T && write !== undefined) this.#sendData(answer.bhs, write);
      else this.#stray.push(answer);
    }
  }

  #sendData(r2t: Buffer, write: Uint8Array): void {
    const offset = r2t.readUInt32BE(40);
    const length = r2t.readUInt32BE(44);
    const step = Math.min(65_536, Number(this.agreed.get('MaxRecvDataSegmentLength') ?? 8192));
    for (let done = 0, dataSn = 0; done < length; done += step, dataSn++) {
      const n = Math.min(step, length - done);
      this.sendDataOut(
        r2t,
        { offset: offset + done, dataSn, final: done + n === length },
        write.subarray(offset + done, offset + done + n),
      );
    }
  }

  /** A Data-Out that answers an R2T. */
  sendDataOut(
    r2t: Buffer,
    { offset, dataSn, final }: { readonly offset: number; readonly dataSn: number; readonly final: boolean },
    data: Uint8Array,
  ): void {
    const bhs = Buffer.alloc(BHS_BYTES);
    bhs[0] = Opcode.DATA_OUT;
    bhs[1] = final ? Flag.FINAL : 0;
    r2t.copy(bhs, 8, 8, 24); // LUN, task tag, transfer tag
    bhs.writeUInt32BE(dataSn, 36);
    bhs.writeUInt32BE(offset, 40);
    this.send(bhs, data);
  }

  /** A request without SCSI, answered by one PDU. */
  async request(
    opcode: number,
    flags: number,
    fill: (bhs: Buffer) => void = () => {},
    data?: Uint8Array,
    immediate = false,
  ): Promise<Answer> {
    const bhs = this.bhs(opcode, flags, { immediate });
    fill(bhs);
    this.send(bhs, data);
    return this.answerFor(bhs.readUInt32BE(16));
  }

  /** A task management function; the response. */
  async manage(fn: number, { lun = 0, referenced = RESERVED_TAG } = {}): Promise<number> {
    const answer = await this.request(
      Opcode.TASK_MANAGEMENT_REQUEST,
      Flag.FINAL | fn,
      (bhs) => {
        encodeLun(lun).copy(bhs, 8);
        bhs.writeUInt32BE(referenced, 20);
      },
      undefined,
      true,
    );
    return answer.bhs[2]!;
  }

  async logout(): Promise<number> {
    const answer = await this.request(Opcode.LOGOUT_REQUEST, Flag.FINAL, (bhs) => bhs.writeUInt32BE(0, 20));
    return answer.bhs[2]!;
  }

  /** The unit attention of a new session, told and over. */
  async settle(lun = 0): Promise<void> {
    for (let i = 0; i < 20; i++) if ((await this.command(Buffer.alloc(6), { lun })).status === 0) return;
    throw new Error('the unit does not become ready');
  }
}

function ended(bhs: Buffer, data: Buffer, sense: Buffer): Ended {
  return {
    status: bhs[3]!,
    data,
    sense,
    key: sense.length > 2 ? sense[2]! & 0x0f : 0,
    asc: sense.length > 13 ? sense.readUInt16BE(12) : 0,
    flags: bhs[1]! & (Flag.OVERFLOW | Flag.UNDERFLOW),
    residual: bhs.readUInt32BE(44),
  };
}
