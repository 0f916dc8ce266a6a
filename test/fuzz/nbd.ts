/**
 * Fuzzing of the NBD server's state machines, in this process and without sockets: sessions of options and requests are
 * generated, mutated, cut into pieces and delivered as a socket might, to clients' good and bad manners on the other
 * side (slow, deaf, gone). Everything follows from the seed.
 *
 *   node test/fuzz/nbd.ts [inputs, default 1000000] [seed, default 1] [guided]
 *
 * Guided: V8's block coverage is read after every round of sessions, and inputs of a round that reached something new are
 * mutated further.
 *
 * An input is the byte stream of one connection. What must hold for each, see `judge` and `settle`:
 *   - nothing throws or rejects unhandled, and the connection closes exactly once;
 *   - no buffer, volume handle, request or timer is left;
 *   - the connection never holds more than its budget of buffers;
 *   - every byte of output belongs to a well-formed reply to something the client sent;
 *   - no byte of one client reaches what another writes or reads, however and whenever a connection ends: what is written
 *     stands in the client's own input, and what a READ returns is what its volume had put into that buffer.
 */
import { Connection } from '../../host/nbd/connection.ts';
import { defaultLimits, type NbdLimits } from '../../host/nbd/limits.ts';
import { newMetrics } from '../../host/nbd/metrics.ts';
import type { ReplyStyle } from '../../host/nbd/reply.ts';
import { BASE_ALLOCATION, Cmd, CmdFlag, Magic, Opt, Rep, ReplyType } from '../../host/protocols/nbd.ts';
import { Exports } from '../../host/volumes/exports.ts';
import { Share } from '../../host/volumes/share.ts';
import type { IoBuffer, VolumeHandle, VolumeProvider } from '../../host/volumes/volume.ts';
import { encodeRequest, infoData, metaData, u32 } from '../host/nbd/client.ts';
import { quiet } from '../host/nbd/fixture.ts';
import { MemoryProvider } from '../host/volumes/memory.ts';
import { Coverage } from './coverage.ts';
import { mutate, Random } from './random.ts';
import { FuzzWire, handled, later, type Manners, nothingLeft, trouble, turn } from './wire.ts';

const VOLUME_BYTES = 1 << 20;
const REQUEST_BYTES = 64 << 10;
const limits: NbdLimits = {
  ...defaultLimits,
  requestsPerConnection: 6,
  bytesPerConnection: 24 << 10,
  requestBytes: REQUEST_BYTES,
};
/** The budget, and one request that was alone when it came. */
const HELD_BYTES_MAX = Math.max(limits.bytesPerConnection, REQUEST_BYTES);
/** Connections alive at once: they share the buffer pool, which is too small for all of them. */
const PARALLEL = 32;
const POOL_BYTES = 256 << 10;
/** Inputs kept for further mutation. */
const CORPUS_MAX = 4096;
/** Turns of the event loop after which a session must be over. */
const TURNS_MAX = 2000;

// --- Generation ---

function option(number: number, data: Uint8Array = Buffer.alloc(0)): Buffer {
  return Buffer.concat([u32(Magic.OPTION_HI), u32(Magic.OPTION_LO), u32(number), u32(data.length), data]);
}

const names = ['tank/vm0', 'tank/vm0@s', '', 'tank/none', 'tank/\u00e9', 'x'.repeat(300)];
const queries = [BASE_ALLOCATION, 'base:', 'qemu:dirty-bitmap:x', ''];

function someOption(random: Random): Buffer {
  const name = random.pick(names);
  switch (random.below(9)) {
    case 0:
      return option(Opt.LIST);
    case 1:
      return option(Opt.INFO, infoData(name, [0, 1, 2, 3, random.below(70_000) & 0xffff]));
    case 2:
      return option(Opt.STRUCTURED_REPLY);
    case 3:
      return option(Opt.EXTENDED_HEADERS);
    case 4:
      return option(Opt.LIST_META_CONTEXT, metaData(name, ...queries.slice(random.below(4))));
    case 5:
      return option(Opt.SET_META_CONTEXT, metaData(name, random.pick(queries)));
    case 6:
      return option(Opt.STARTTLS);
    case 7:
      return option(random.pick([0, 4, 12, 0xffffffff]), Buffer.alloc(random.below(40)));
    default:
      return option(Opt.GO, infoData(random.pick(names.slice(2)), [3]));
  }
}

function someRequest(random: Random, style: ReplyStyle, cookie: bigint): Buffer {
  const type = random.once(20) ? random.below(12) : random.pick([0, 0, 0, 1, 1, 1, 3, 4, 5, 6, 7]);
  const length = random.pick([
    random.below(600),
    random.below(30_000),
    4096,
    random.below(20_000),
    random.once(4) ? random.below(REQUEST_BYTES * 2) : 1000,
  ]);
  const offset = random.once(12) ? VOLUME_BYTES - random.below(5000) : random.below(VOLUME_BYTES - REQUEST_BYTES);
  let flags = random.once(4) ? 1 << random.below(7) : 0;
  let payload = Buffer.alloc(0);
  // So that what one client sends is found nowhere in what others send.
  if (type === Cmd.WRITE) payload = Buffer.alloc(length, u32(random.below(2 ** 32 - 1)));
  if (style === 'extended') {
    if (type === Cmd.WRITE) flags |= CmdFlag.PAYLOAD_LEN;
    else if (type === Cmd.BLOCK_STATUS && random.once(3)) {
      payload = Buffer.alloc(random.pick([12, 12, 12, 8, 16]));
      payload.writeUInt32BE(length, 4);
      if (payload.length === 12) payload.writeUInt32BE(random.below(3), 8);
      flags |= CmdFlag.PAYLOAD_LEN;
    } else if ((flags & CmdFlag.PAYLOAD_LEN) !== 0) payload = Buffer.alloc(length);
  }
  const announced = payload.length > 0 ? payload.length : type === Cmd.FLUSH && !random.once(10) ? 0 : length;
  const at = type === Cmd.FLUSH ? 0 : offset;
  return Buffer.concat([encodeRequest({ type, flags, cookie, offset: at, length: announced, style }), payload]);
}

/** A conversation as a client could hold it. */
function generate(random: Random): Buffer {
  const parts: Buffer[] = [u32(random.once(30) ? random.below(8) : random.pick([3, 3, 3, 1]))];
  for (let n = random.below(4); n > 0; n--) parts.push(someOption(random));
  const style = random.pick(['simple', 'structured', 'extended'] as const);
  if (style === 'structured') parts.push(option(Opt.STRUCTURED_REPLY));
  if (style === 'extended') parts.push(option(Opt.EXTENDED_HEADERS));
  const name = random.once(5) ? 'tank/vm0@s' : 'tank/vm0';
  if (random.once(2)) parts.push(option(Opt.SET_META_CONTEXT, metaData(name, BASE_ALLOCATION)));
  if (random.once(20)) parts.push(option(Opt.ABORT));
  if (random.once(8)) parts.push(option(Opt.EXPORT_NAME, Buffer.from(name)));
  else parts.push(option(Opt.GO, infoData(name, [1, 3])));
  for (let n = random.below(20), cookie = 1n; n > 0; n--) parts.push(someRequest(random, style, cookie++));
  if (random.once(3)) parts.push(encodeRequest({ type: Cmd.DISC, cookie: 999n, style }));
  return Buffer.concat(parts);
}

/** One in two leaves the handshake alone, so that enough of them get past it. */
const mutated = (random: Random, bytes: Buffer) =>
  mutate(random, bytes, random.once(2) ? 0 : Math.min(120, bytes.length - 1));

// --- One session ---

export interface FuzzResult {
  inputs: number;
  bytes: number;
  replies: number;
  reachedTransmission: number;
  protocolErrors: number;
}

/** What one client sent, and what its volume answered. */
interface Session {
  readonly input: Buffer;
  /** Data of READs that succeeded, as the volume left them. */
  readonly reads: Buffer[];
  handle: (VolumeHandle & { gone: boolean; goneListener?: ((reason: string) => void) | undefined }) | undefined;
}

class Fuzzer {
  readonly result: FuzzResult = { inputs: 0, bytes: 0, replies: 0, reachedTransmission: 0, protocolErrors: 0 };
  readonly #random: Random;
  readonly #provider = new MemoryProvider({ poolBytes: POOL_BYTES });
  readonly #metrics = newMetrics();
  readonly #share: Share;
  readonly #coverage: Coverage | undefined;
  #round: Buffer[] = [];
  #broken: Error | undefined;

  constructor(seed: number, coverage?: Coverage) {
    this.#coverage = coverage;
    this.#random = new Random(seed);
    const volume = this.#provider.add('tank/vm0', VOLUME_BYTES, 4096);
    volume.data.fill(7);
    this.#provider.snapshot('tank/vm0@s');
    this.#share = new Share(this.#provider.buffers, POOL_BYTES / 2);
    trouble(this.#provider, this.#random);
  }

  /** Runs `count` inputs; throws at the first that breaks a promise, with what is needed to run it again. */
  async run(count: number): Promise<void> {
    for (let done = 0; done < count; done += PARALLEL) {
      const sessions = Array.from({ length: Math.min(PARALLEL, count - done) }, () => this.#session());
      await Promise.all(sessions);
      this.#settle();
      if (this.#coverage !== undefined) this.#learn(this.#coverage);
    }
    this.result.protocolErrors = this.#metrics.connections.protocolErrors;
  }

  /** What validation lets through must be right: the handles here do not forgive. */
  #guarded(session: Session): VolumeProvider {
    const provider = this.#provider;
    const open = async (name: string, options: { readonly readOnly: boolean }): Promise<VolumeHandle> => {
      if (this.#random.once(3)) await new Promise<void>((resolve) => later(this.#random.below(4), resolve));
      const handle = await provider.open(name, options);
      session.handle = handle as NonNullable<Session['handle']>;
      const broke = (what: string) => {
        this.#broken ??= new Error(what);
      };
      const check = (writes: boolean, offset: number, length: number) => {
        if (!(length > 0 && offset >= 0 && offset + length <= VOLUME_BYTES)) {
          broke(`range ${offset}, ${length} passed validation`);
        }
        if (writes && options.readOnly) broke('a change of a read-only export passed validation');
      };
      const { read, write, trim, zero, blockStatus } = handle;
      return Object.assign(handle, {
        async read(offset: number, buffer: IoBuffer) {
          const { bytes } = buffer;
          check(false, offset, bytes.length);
          await read.call(handle, offset, buffer);
          session.reads.push(Buffer.from(bytes));
        },
        async write(offset: number, buffer: IoBuffer, how: { readonly fua: boolean }) {
          const { bytes } = buffer;
          check(true, offset, bytes.length);
          const before = Buffer.from(bytes);
          if (!session.input.includes(before)) broke('a WRITE of what its client did not send');
          await write.call(handle, offset, buffer, how);
          if (!before.equals(bytes)) broke('the data of a WRITE changed while it was carried out');
        },
        trim(offset: number, length: number, how: { readonly fua: boolean }) {
          check(true, offset, length);
          return trim.call(handle, offset, length, how);
        },
        zero(offset: number, length: number, how: { readonly fua: boolean; readonly allocate: boolean }) {
          check(true, offset, length);
          return zero.call(handle, offset, length, how);
        },
        blockStatus(offset: number, length: number) {
          check(false, offset, length);
          return blockStatus!.call(handle, offset, length);
        },
      });
    };
    return { buffers: provider.buffers, list: () => provider.list(), find: (name) => provider.find(name), open };
  }

  #input(random: Random): Buffer {
    const corpus = this.#coverage?.corpus ?? [];
    let input: Buffer;
    if (corpus.length > 0 && random.once(2)) input = mutated(random, Buffer.from(random.pick(corpus)));
    else {
      input = generate(random);
      if (!random.once(4)) input = mutated(random, input);
    }
    if (this.#coverage !== undefined) this.#round.push(Buffer.from(input));
    return input;
  }

  #learn(coverage: Coverage): void {
    if (coverage.take() > 0) {
      for (const input of this.#round) {
        if (coverage.corpus.length < CORPUS_MAX) coverage.corpus.push(input);
        else coverage.corpus[this.#random.below(CORPUS_MAX)] = input;
      }
    }
    this.#round = [];
  }

  async #session(): Promise<void> {
    const seed = this.#random.below(2 ** 32 - 1);
    const random = new Random(seed);
    const input = this.#input(random);
    const manners = random.pick<Manners>(['prompt', 'prompt', 'slow', 'deaf']);
    this.result.inputs++;
    this.result.bytes += input.length;
    let closed = 0;
    const session: Session = { input, reads: [], handle: undefined };
    const connection: Connection = new Connection({
      exports: new Exports(this.#guarded(session), {}),
      shareOf: () => this.#share,
      tls: 'off',
      limits,
      requestBytesMax: REQUEST_BYTES,
      listener: 'fuzz',
      metrics: this.#metrics,
      log: quiet,
      startTls: () => Promise.reject(new Error('no TLS here')),
      onClosed: () => {
        closed++;
      },
    });
    const wire = new FuzzWire(random, manners, 1, () => connection);
    try {
      connection.start(wire);
      await this.#converse(random, wire, connection, session);
      for (let turns = 0; closed === 0; turns++) {
        if (turns === 40) wire.destroy(); // a client that never finished
        if (turns > TURNS_MAX) throw new Error('the connection does not close');
        await turn();
      }
      if (this.#broken !== undefined) throw this.#broken;
      if (closed !== 1) throw new Error(`closed ${closed} times`);
      if (connection.heldBytes !== 0) throw new Error(`${connection.heldBytes} bytes held after the end`);
      this.#judge(session, Buffer.concat(wire.output));
    } catch (error) {
      const where = `input ${this.result.inputs}, session seed ${seed}, ${manners}, ${input.toString('base64')}`;
      throw new Error(`${(error as Error).message}\n${where}`, { cause: error });
    }
  }

  /**
   * Delivers the input in pieces, and ends in one of the ways a connection can: after it, or in the middle of anything,
   * and then the client, who does not know yet, may go on sending.
   */
  async #converse(random: Random, wire: FuzzWire, connection: Connection, session: Session): Promise<void> {
    const { input } = session;
    const early = random.once(4);
    const goesAt = early ? random.below(input.length) : input.length;
    const at = await this.#deliver(random, wire, connection, input, 0, goesAt);
    if (wire.closed) return;
    this.#endSomehow(random, wire, connection, session);
    if (early && random.once(2)) await this.#deliver(random, wire, connection, input, at, input.length);
  }

  async #deliver(
    random: Random,
    wire: FuzzWire,
    connection: Connection,
    input: Buffer,
    from: number,
    to: number,
  ): Promise<number> {
    let at = from;
    for (let idle = 0; at < to && !wire.closed; ) {
      if (connection.heldBytes > HELD_BYTES_MAX) throw new Error(`${connection.heldBytes} bytes held`);
      if (wire.paused) {
        if (++idle > 60) break; // it waits for us to read
        await turn();
        continue;
      }
      idle = 0;
      const length = random.pick([1 + random.below(30), 500, 65_536]);
      at += wire.deliver(input, at, Math.min(length, to - at));
      if (random.once(3)) await turn();
    }
    return at;
  }

  #endSomehow(random: Random, wire: FuzzWire, connection: Connection, { handle }: Session): void {
    switch (random.below(6)) {
      case 0:
        if (!wire.paused) connection.ended();
        break;
      case 1:
        wire.destroy();
        break;
      case 2:
        connection.shutDown();
        break;
      case 3:
        connection.fail(new Error('stalled'));
        break;
      case 4:
        if (handle === undefined || handle.gone) break;
        handle.gone = true;
        handle.goneListener?.('destroyed');
        break;
      default: // says nothing more
    }
  }

  /** Nothing may be left between two rounds. */
  #settle(): void {
    const { buffers, allocator, handles } = this.#provider;
    nothingLeft({
      leases: buffers.leases,
      waiting: buffers.waiting + this.#share.waiting,
      handles,
      inFlight: this.#metrics.inFlight,
    });
    buffers.trim();
    if (allocator.live !== 0) throw new Error(`${allocator.live} allocations left`);
  }

  /** Reads the server's output against what the client sent. */
  #judge({ input, reads }: Session, output: Buffer): void {
    const judge = new Judge(input, output, reads);
    judge.run();
    this.result.replies += judge.replies;
    if (judge.transmission) this.result.reachedTransmission++;
  }
}

/** A request as the judge read it. */
interface Sent {
  readonly type: number;
  readonly length: number;
}

/** Success of these has no data. */
const withoutData = ({ type }: Sent) => type !== Cmd.READ && type !== Cmd.BLOCK_STATUS;

/** A second, naive reading of the protocol: walks along input and output together. Output may end after any reply. */
class Judge {
  replies = 0;
  transmission = false;
  readonly #in: Buffer;
  readonly #out: Buffer;
  readonly #reads: readonly Buffer[];
  #i = 0;
  #o = 0;
  #style: ReplyStyle = 'simple';

  constructor(input: Buffer, output: Buffer, reads: readonly Buffer[]) {
    this.#in = input;
    this.#out = output;
    this.#reads = reads;
  }

  run(): void {
    if (this.#left() === 0) return;
    if (this.#out.toString('latin1', 0, 16) !== 'NBDMAGICIHAVEOPT') throw new Error('no greeting');
    this.#o = 18;
    this.#i = 4;
    while (this.#left() > 0 && !this.transmission) this.#option();
    if (this.transmission) this.#requests();
    if (this.#left() > 0) throw new Error(`${this.#left()} bytes of output belong to nothing`);
  }

  #left(): number {
    return this.#out.length - this.#o;
  }

  #take(length: number): Buffer {
    if (length > this.#left()) throw new Error('a reply is cut off');
    this.#o += length;
    return this.#out.subarray(this.#o - length, this.#o);
  }

  #option(): void {
    if (this.#i + 16 > this.#in.length) throw new Error('reply to an option that was not sent');
    const number = this.#in.readUInt32BE(this.#i + 8);
    this.#i += 16 + this.#in.readUInt32BE(this.#i + 12);
    if (number === Opt.EXPORT_NAME) {
      const zeroes = (this.#in.readUInt32BE(0) & 2) !== 0 ? 0 : 124;
      if (Number(this.#take(10 + zeroes).readBigUInt64BE(0)) !== VOLUME_BYTES) throw new Error('wrong size');
      this.transmission = true;
      return;
    }
    while (this.#left() > 0) {
      const header = this.#take(20);
      if (header.readUInt32BE(0) !== Magic.OPTION_REPLY_HI || header.readUInt32BE(4) !== Magic.OPTION_REPLY_LO) {
        throw new Error('option reply without magic');
      }
      if (header.readUInt32BE(8) !== number) throw new Error('reply to another option');
      const type = header.readUInt32BE(12);
      if (header.readUInt32BE(16) > 4096) throw new Error('long option reply');
      this.#take(header.readUInt32BE(16));
      this.replies++;
      if (type >= Rep.ERR_UNSUP) return;
      if (type !== Rep.ACK) continue;
      if (number === Opt.STRUCTURED_REPLY) this.#style = 'structured';
      if (number === Opt.EXTENDED_HEADERS) this.#style = 'extended';
      if (number === Opt.GO) this.transmission = true;
      return;
    }
  }

  #requests(): void {
    const extended = this.#style === 'extended';
    const sent = new Map<bigint, Sent[]>();
    const header = extended ? 32 : 28;
    while (this.#i + header <= this.#in.length) {
      const at = this.#i;
      const magic = this.#in.readUInt32BE(at);
      const type = this.#in.readUInt16BE(at + 6);
      if (magic !== (extended ? Magic.EXTENDED_REQUEST : Magic.REQUEST) || type === Cmd.DISC) break;
      const length = extended ? Number(this.#in.readBigUInt64BE(at + 24)) : this.#in.readUInt32BE(at + 24);
      const payload = type === Cmd.WRITE || (extended && (this.#in.readUInt16BE(at + 4) & CmdFlag.PAYLOAD_LEN) !== 0);
      const cookie = this.#in.readBigUInt64BE(at + 8);
      const same = sent.get(cookie);
      if (same === undefined) sent.set(cookie, [{ type, length }]);
      else same.push({ type, length });
      this.#i += header + (payload ? length : 0);
    }
    while (this.#left() > 0) {
      this.replies++;
      if (!this.#reply(sent)) return;
    }
  }

  /** False when two requests of one cookie make it impossible to tell what a reply belongs to. */
  #reply(sent: Map<bigint, Sent[]>): boolean {
    const extended = this.#style === 'extended';
    const magic = this.#take(4).readUInt32BE(0);
    if (magic === Magic.SIMPLE_REPLY && !extended) {
      const rest = this.#take(12);
      const requests = this.#requestsOf(sent, rest.readBigUInt64BE(4));
      if (this.#style === 'simple' && requests.length > 1 && requests.some(({ type }) => type === Cmd.READ)) {
        this.#o = this.#out.length;
        return false;
      }
      if (this.#style !== 'simple') {
        if (rest.readUInt32BE(0) !== 0) throw new Error('simple reply with an error');
        this.#close(requests, withoutData, 'simple reply');
        return true;
      }
      const request = requests.pop()!;
      if (request.type === Cmd.READ && rest.readUInt32BE(0) === 0) this.#data(this.#take(request.length));
      return true;
    }
    if (magic !== (extended ? Magic.EXTENDED_REPLY : Magic.STRUCTURED_REPLY)) throw new Error('reply without magic');
    if (this.#style === 'simple') throw new Error('structured reply without negotiation');
    const rest = this.#take(extended ? 28 : 16);
    const requests = this.#requestsOf(sent, rest.readBigUInt64BE(4));
    const length = extended ? Number(rest.readBigUInt64BE(20)) : rest.readUInt32BE(12);
    const payload = this.#take(length);
    const type = rest.readUInt16BE(2);
    if (type === ReplyType.ERROR) {
      if (payload.readUInt32BE(0) === 0) throw new Error('error chunk without error');
      if (payload.readUInt16BE(4) !== length - 6) throw new Error('error message of the wrong length');
    }
    if (type === ReplyType.ERROR) {
      if (requests.length === 1) requests.pop(); // of several, any may be meant
      return true;
    }
    const matches = (request: Sent) => {
      if (type === ReplyType.NONE) return withoutData(request);
      if (type === ReplyType.OFFSET_DATA) return request.type === Cmd.READ && request.length === length - 8;
      return request.type === Cmd.BLOCK_STATUS;
    };
    this.#close(requests, matches, `chunk of type ${type} with ${length} bytes`);
    if (type === ReplyType.OFFSET_DATA) this.#data(payload.subarray(8));
    return true;
  }

  #data(data: Buffer): void {
    if (!this.#reads.some((read) => read.equals(data))) throw new Error('a READ returns what its volume did not give');
  }

  #close(requests: Sent[], matches: (request: Sent) => boolean, what: string): void {
    const index = requests.findIndex(matches);
    if (index < 0) throw new Error(`${what} fits no request`);
    requests.splice(index, 1);
  }

  #requestsOf(sent: Map<bigint, Sent[]>, cookie: bigint) {
    const requests = sent.get(cookie);
    if (requests === undefined || requests.length === 0)
      throw new Error(`reply to cookie ${cookie}, which is not open`);
    return requests;
  }
}

/** Runs `inputs` inputs from `seed`. Rejects at the first broken promise, unhandled rejections included. */
export async function fuzz(inputs: number, seed: number, coverage?: Coverage): Promise<FuzzResult> {
  const fuzzer = new Fuzzer(seed, coverage);
  await handled(() => fuzzer.run(inputs));
  return fuzzer.result;
}

if (import.meta.main) {
  const inputs = Number(process.argv[2] ?? 1_000_000);
  let seed = Number(process.argv[3] ?? 1);
  const coverage = process.argv[4] === 'guided' ? new Coverage(/\/host\/nbd\//) : undefined;
  const started = performance.now();
  const total: FuzzResult = { inputs: 0, bytes: 0, replies: 0, reachedTransmission: 0, protocolErrors: 0 };
  // In rounds, each from a seed of its own: a failure names one that is quickly run again.
  while (total.inputs < inputs) {
    const result = await fuzz(Math.min(100_000, inputs - total.inputs), seed++, coverage);
    for (const key of Object.keys(total) as (keyof FuzzResult)[]) total[key] += result[key];
    const seconds = (performance.now() - started) / 1000;
    const rss = process.memoryUsage.rss() >> 20;
    const blocks = coverage === undefined ? '' : `${coverage.blocks} blocks, `;
    process.stdout.write(
      `${JSON.stringify(total)} ${blocks}${(total.inputs / seconds).toFixed(0)}/s, ${rss} MiB resident\n`,
    );
  }
}
