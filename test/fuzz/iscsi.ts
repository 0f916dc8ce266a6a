/**
 * Fuzzing of the iSCSI server's state machines, in this process and without sockets: sessions of login requests, commands
 * with arbitrary CDBs and other PDUs are generated, mutated, cut into pieces and delivered as a socket might, to initiators
 * that read promptly, slowly or not at all. Everything follows from the seed.
 *
 *   node test/fuzz/iscsi.ts [inputs, default 1000000] [seed, default 1]
 *
 * An input is the byte stream of one connection. What must hold for each:
 *   - nothing throws or rejects unhandled, and the connection closes exactly once;
 *   - no buffer, stash, unit or task is left;
 *   - what reaches a volume lies within it, and changes none that is read-only;
 *   - every byte of output belongs to a PDU, whose lengths are right.
 */
import { Connection } from '../../host/iscsi/connection.ts';
import { BHS_BYTES, Flag, Opcode, RESERVED_TAG, Stage } from '../../host/iscsi/constants.ts';
import { defaultLimits, type IscsiLimits } from '../../host/iscsi/limits.ts';
import { newMetrics } from '../../host/iscsi/metrics.ts';
import { encodeLun, PREFIX_DEFAULT } from '../../host/iscsi/names.ts';
import { padding } from '../../host/iscsi/pdu.ts';
import { StashBudget } from '../../host/iscsi/stash.ts';
import { Targets } from '../../host/iscsi/targets.ts';
import { encodePairs } from '../../host/iscsi/text.ts';
import { commands } from '../../host/scsi/commands.ts';
import { Units } from '../../host/scsi/units.ts';
import { Shares } from '../../host/volumes/shares.ts';
import type { IoBuffer } from '../../host/volumes/volume.ts';
import { encodePdu } from '../host/iscsi/client.ts';
import { MemoryStore } from '../host/iscsi/store.ts';
import { quiet } from '../host/nbd/fixture.ts';
import { MemoryProvider } from '../host/volumes/memory.ts';
import { mutate, Random } from './random.ts';
import { FuzzWire, handled, type Manners, nothingLeft, trouble, turn } from './wire.ts';

const VOLUME_BYTES = 1 << 20;
const POOL_BYTES = 512 << 10;
const limits: IscsiLimits = {
  ...defaultLimits,
  commandsPerSession: 8,
  bytesPerSession: 64 << 10,
  startBytes: 64 << 10,
};
/** Connections alive at once: they share the buffer pool, which is too small for all of them. */
const PARALLEL = 16;
/** Turns of the event loop after which a session must be over. */
const TURNS_MAX = 4000;

// --- Generation ---

function loginPdu(random: Random, target: string, isid: number): Buffer {
  const bhs = Buffer.alloc(BHS_BYTES);
  bhs[0] = 0x40 | Opcode.LOGIN_REQUEST;
  bhs[1] = Flag.TRANSIT | (Stage.OPERATIONAL << 2) | Stage.FULL_FEATURE;
  bhs[8] = 0x80;
  bhs.writeUInt32BE(isid, 10);
  bhs.writeUInt32BE(1, 24);
  const keys: [string, string][] = [
    ['InitiatorName', 'iqn.2026-11.io.zow.test:fuzz'],
    ['TargetName', target],
    ['InitialR2T', random.once(2) ? 'No' : 'Yes'],
    ['ImmediateData', random.once(3) ? 'No' : 'Yes'],
    ['MaxRecvDataSegmentLength', random.pick(['512', '4096', '262144'])],
    ['FirstBurstLength', random.pick(['512', '8192', '65536'])],
    ['MaxBurstLength', random.pick(['4096', '262144'])],
    ['MaxOutstandingR2T', random.pick(['1', '4'])],
  ];
  return encodePdu(bhs, encodePairs(keys));
}

/** A CDB of a command there is, with numbers that are mostly right; or any bytes. */
function someCdb(random: Random): Buffer {
  const cdb = Buffer.alloc(16);
  if (random.once(20)) {
    for (let i = 0; i < 16; i++) cdb[i] = random.below(256);
    return cdb;
  }
  const spec = random.pick(commands);
  cdb[0] = spec.op;
  for (let i = 1; i < spec.usage.length; i++) if (random.once(4)) cdb[i] = random.below(256) & spec.usage[i]!;
  if (spec.serviceAction !== undefined) cdb[1] = (cdb[1]! & 0xe0) | spec.serviceAction;
  if (spec.lba !== undefined && !random.once(10)) {
    cdb.fill(0, spec.lba[0], spec.lba[0] + spec.lba[1]);
    cdb.writeUInt16BE(random.below(1900), spec.lba[0] + spec.lba[1] - 2);
  }
  for (const place of [spec.blocks, spec.allocation, spec.parameters]) {
    if (place === undefined || random.once(10)) continue;
    cdb.fill(0, place[0], place[0] + place[1]);
    cdb[place[0] + place[1] - 1] = random.below(40);
  }
  return cdb;
}

function somePdu(random: Random, cmdSn: number, itt: number): Buffer {
  const bhs = Buffer.alloc(BHS_BYTES);
  bhs.writeUInt32BE(itt, 16);
  bhs.writeUInt32BE(RESERVED_TAG, 20);
  bhs.writeUInt32BE(cmdSn, 24);
  encodeLun(random.once(20) ? 3 : 0).copy(bhs, 8);
  const kind = random.below(20);
  if (kind < 12) {
    bhs[0] = Opcode.SCSI_COMMAND;
    const direction = random.pick([0, Flag.READ, Flag.READ, Flag.WRITE, Flag.WRITE, Flag.WRITE]);
    const length = direction === 0 ? 0 : random.pick([0, 24, 252, 512, 1024, 4096, 512 * random.below(40)]);
    const immediate = direction === Flag.WRITE && !random.once(3) ? Math.min(length, random.pick([512, 8192])) : 0;
    bhs[1] = (random.once(8) ? 0 : Flag.FINAL) | direction | random.pick([1, 1, 1, 1, 0, 2, 3, 4]);
    bhs.writeUInt32BE(length, 20);
    bhs.set(someCdb(random), 32);
    return encodePdu(bhs, Buffer.alloc(immediate, random.below(256)));
  }
  if (kind < 15) {
    // Data that answer an R2T, whose tags count from 1; or data that nobody asked for.
    bhs[0] = Opcode.DATA_OUT;
    bhs[1] = random.once(3) ? 0 : Flag.FINAL;
    bhs.writeUInt32BE(1 + random.below(itt), 16);
    bhs.writeUInt32BE(random.once(3) ? RESERVED_TAG : 1 + random.below(8), 20);
    bhs.writeUInt32BE(random.below(2), 36);
    bhs.writeUInt32BE(random.pick([0, 512, 4096]), 40);
    return encodePdu(bhs, Buffer.alloc(random.pick([0, 512, 4096, 8192])));
  }
  const fn = random.below(10);
  if (kind < 17) {
    bhs[0] = 0x40 | Opcode.TASK_MANAGEMENT_REQUEST;
    bhs[1] = Flag.FINAL | fn;
    bhs.writeUInt32BE(random.below(itt), 20);
    return encodePdu(bhs);
  }
  bhs[0] = random.pick([
    Opcode.NOP_OUT,
    Opcode.NOP_OUT,
    Opcode.TEXT_REQUEST,
    Opcode.SNACK_REQUEST,
    Opcode.LOGOUT_REQUEST,
  ]);
  bhs[1] = Flag.FINAL;
  const text =
    bhs[0] === Opcode.TEXT_REQUEST
      ? Buffer.from(random.pick(['SendTargets=All\0', 'SendTargets=\0', 'X=1\0', 'x']))
      : undefined;
  return encodePdu(bhs, text ?? Buffer.alloc(random.below(50)));
}

/** A conversation as an initiator could hold it. */
function generate(random: Random, isid: number): Buffer {
  const dataset = random.once(6) ? 'tank:vm0@s' : 'tank:vm0';
  const parts = [loginPdu(random, `${PREFIX_DEFAULT}:${random.once(40) ? 'none' : dataset}`, isid)];
  for (let n = random.below(24), i = 1; n > 0; n--, i++) parts.push(somePdu(random, i, i));
  return Buffer.concat(parts);
}

/** One in four changes the login, so that enough of them get past it. */
const mutated = (random: Random, bytes: Buffer) =>
  mutate(random, bytes, random.once(4) ? 0 : Math.min(400, bytes.length - 1));

// --- One connection ---

export interface FuzzResult {
  inputs: number;
  bytes: number;
  answers: number;
  sessions: number;
  protocolErrors: number;
}

class Fuzzer {
  readonly result: FuzzResult = { inputs: 0, bytes: 0, answers: 0, sessions: 0, protocolErrors: 0 };
  readonly #random: Random;
  readonly #provider = new MemoryProvider({ poolBytes: POOL_BYTES });
  readonly #metrics = newMetrics();
  readonly #shares: Shares;
  readonly #stash = new StashBudget(128 << 10);
  readonly #units: Units;
  readonly #targets: Targets;
  #tsih = 0;
  #isid = 0;
  #broken: Error | undefined;

  constructor(seed: number) {
    this.#random = new Random(seed);
    this.#provider.add('tank/vm0', VOLUME_BYTES, 4096).data.fill(7);
    this.#provider.snapshot('tank/vm0@s');
    this.#guard();
    this.#shares = new Shares(this.#provider);
    this.#units = new Units({
      provider: this.#provider,
      store: new MemoryStore(),
      limits: {
        transferBytes: 64 << 10,
        compareBlocks: 16,
        sameBytes: 256 << 10,
        unmapBytes: 256 << 10,
        unmapDescriptors: 4,
      },
      revision: 'fuzz',
    });
    this.#targets = new Targets({ provider: this.#provider, prefix: PREFIX_DEFAULT, blockBytes: 512, targets: [] }, {});
    trouble(this.#provider, this.#random);
  }

  /** Runs `count` inputs; throws at the first that breaks a promise. */
  async run(count: number): Promise<void> {
    for (let done = 0; done < count; done += PARALLEL) {
      await Promise.all(Array.from({ length: Math.min(PARALLEL, count - done) }, () => this.#session()));
      this.#settle();
    }
    this.result.protocolErrors = this.#metrics.connections.protocolErrors;
    this.result.sessions = this.#metrics.logins.succeeded;
  }

  /** What validation lets through must be right: the handles here do not forgive. */
  #guard(): void {
    const open = this.#provider.open.bind(this.#provider);
    this.#provider.open = async (name, options) => {
      const handle = await open(name, options);
      const check = (writes: boolean, offset: number, length: number) => {
        if (!(length > 0 && offset >= 0 && offset + length <= VOLUME_BYTES)) {
          this.#broken ??= new Error(`range ${offset}, ${length} passed validation`);
        }
        if (writes && options.readOnly) this.#broken ??= new Error('a change of a read-only unit passed validation');
      };
      const { read, write, zero, compareWrite, orWrite } = handle;
      return Object.assign(handle, {
        read(offset: number, buffer: IoBuffer) {
          check(false, offset, buffer.bytes.length);
          return read.call(handle, offset, buffer);
        },
        write(offset: number, buffer: IoBuffer, how: { readonly fua: boolean }) {
          check(true, offset, buffer.bytes.length);
          return write.call(handle, offset, buffer, how);
        },
        zero(offset: number, length: number, how: { readonly fua: boolean; readonly allocate: boolean }) {
          check(true, offset, length);
          return zero.call(handle, offset, length, how);
        },
        compareWrite(offset: number, buffer: IoBuffer, how: { readonly fua: boolean }) {
          check(true, offset, buffer.bytes.length / 2);
          return compareWrite.call(handle, offset, buffer, how);
        },
        orWrite(offset: number, buffer: IoBuffer, how: { readonly fua: boolean }) {
          check(true, offset, buffer.bytes.length);
          return orWrite.call(handle, offset, buffer, how);
        },
      });
    };
  }

  async #session(): Promise<void> {
    const random = new Random(this.#random.below(0x7fff_ffff));
    let input = generate(random, ++this.#isid);
    if (!random.once(4)) input = mutated(random, input);
    let closed = 0;
    const connection: Connection = new Connection({
      targets: this.#targets,
      units: this.#units,
      shares: this.#shares,
      stash: this.#stash,
      chap: undefined,
      limits,
      listener: 'fuzz',
      metrics: this.#metrics,
      log: quiet,
      address: '127.0.0.1',
      localAddress: '127.0.0.1:3260',
      admit: async () => {
        this.#tsih = (this.#tsih % 0xffff) + 1;
        return { tsih: this.#tsih };
      },
      onEstablished: () => {},
      onClosed: () => {
        closed++;
      },
    });
    const manners = random.pick<Manners>(['prompt', 'prompt', 'slow', 'deaf']);
    const wire = new FuzzWire(random, manners, 2, () => connection);
    connection.start(wire);
    let at = 0;
    let turns = 0;
    while (closed === 0 && turns++ < TURNS_MAX) {
      while (at < input.length && !wire.paused && !wire.closed) at += wire.deliver(input, at, 1 + random.below(3000));
      await turn();
      if (at < input.length && turns < TURNS_MAX / 2 && !wire.closed) continue;
      if (turns % 64 !== 0) continue;
      // It has sent all, or is not read any more: it hangs up, or the host does.
      if (random.once(3)) connection.shutDown();
      else if (random.once(2)) connection.ended();
      if (random.once(2)) wire.destroy();
    }
    this.result.inputs++;
    this.result.bytes += input.length;
    if (closed !== 1) throw new Error(`closed ${closed} times`);
    this.#judge(Buffer.concat(wire.output));
    if (this.#broken !== undefined) throw this.#broken;
  }

  /** All of the output is PDUs; the last may be cut off where the connection was. */
  #judge(output: Buffer): void {
    const known = new Set<number>(Object.values(Opcode));
    for (let at = 0; at < output.length; ) {
      if (at + BHS_BYTES > output.length) throw new Error('half a header');
      const opcode = output[at]!;
      if (opcode < 0x20 || !known.has(opcode)) throw new Error(`PDU 0x${opcode.toString(16)} of a target`);
      const length = output.readUIntBE(at + 5, 3);
      at += BHS_BYTES + length + padding(length);
      if (at > output.length) throw new Error('data that are not there');
      this.result.answers++;
    }
  }

  /** Between rounds nothing is left. */
  #settle(): void {
    const { buffers, handles } = this.#provider;
    nothingLeft({
      leases: buffers.leases,
      waiting: buffers.waiting,
      stash: this.#stash.usedBytes,
      handles,
      inFlight: this.#metrics.inFlight,
    });
  }
}

/** Runs `inputs` from `seed`; rejects with what went wrong, and where. */
export async function fuzz(inputs: number, seed: number): Promise<FuzzResult> {
  const fuzzer = new Fuzzer(seed);
  try {
    await handled(() => fuzzer.run(inputs));
  } catch (error) {
    throw new Error(
      `seed ${seed}, after ${fuzzer.result.inputs} inputs: ${error instanceof Error ? error.stack : error}`,
    );
  }
  return fuzzer.result;
}

if (import.meta.main) {
  const result = await fuzz(Number(process.argv[2] ?? 1_000_000), Number(process.argv[3] ?? 1));
  process.stdout.write(`${JSON.stringify(result)}\n`);
}
