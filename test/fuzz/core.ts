import { spawn } from 'node:child_process';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { setTimeout as sleep } from 'node:timers/promises';
import type { IoctlResult, StreamChannel } from '../../host/core/dev-zfs.ts';
import { type Call, type CmdFields, ioctlNumbers, packCmd, TestCore, type TestSession } from '../host/core/fixture.ts';
import { type NvPairs, type NvValue, packNvlist, Typed } from '../host/nvlist/pack.ts';
import { type IoctlKey, readIoctlTable } from './ioctl-table.ts';

/**
 * Fuzzes the ioctls of the real core, structured by upstream's own table: every number, names that exist and some that do not,
 * the pairs that the table asks for, fields of zfs_cmd_t, mutated bytes, several sessions that close in the middle, each other's
 * descriptors, and send streams that were damaged. A core lives for some thousand inputs, in a process of its own.
 *
 *   node test/fuzz/core.ts [inputs] [seed] [processes]
 *
 * ZOW_WASM=build/2.4.3/wasm-debug is how it finds most: then upstream asserts.
 */
const tree = join(import.meta.dirname, '../../zfs-src/upstream/2.4.3');
const table = readIoctlTable(tree);
/** Inputs of one core. */
const lifetime = 4000;
/** A core that answers nothing for so long hangs. */
const hangMs = 120_000;
const MiB = 1024 ** 2;

export class Dice {
  #state: number;

  constructor(seed: number) {
    this.#state = (seed * 2654435761 + 12345) >>> 0 || 1;
  }

  /** Marsaglia's xorshift32: below `n`. */
  roll(n: number): number {
    this.#state ^= this.#state << 13;
    this.#state ^= this.#state >>> 17;
    this.#state ^= this.#state << 5;
    return (this.#state >>> 0) % n;
  }

  chance(percent: number): boolean {
    return this.roll(100) < percent;
  }

  pick<T>(from: readonly T[]): T {
    return from[this.roll(from.length)]!;
  }

  bytes(length: number): Buffer {
    return Buffer.from(Array.from({ length }, () => this.roll(256)));
  }
}

const pools = ['tank', 'tank', 'tank', 'tank', 'pond', 'none'];
const datasets = [
  'tank',
  'tank/fs',
  'tank/vol',
  'tank/fs/a',
  'tank/clone',
  'tank/new',
  'tank/new/b',
  'tank/secret',
  'pond',
  'none/x',
];
const tags = ['one', 'two', 'three', 's', 'nope', 'x%recv'];
const marks = ['mark', 'other'];
const oddNames = [
  '',
  '/',
  '@',
  '#',
  'tank/',
  'tank//x',
  'tank@',
  'tank/fs@a@b',
  'tank/fs#',
  'a'.repeat(255),
  'tank/%recv',
  '$ORIGIN',
  'tank/$MOS',
  `tank/${'d/'.repeat(60)}e`,
];
const datasetProps = [
  'compression',
  'checksum',
  'quota',
  'refquota',
  'reservation',
  'volsize',
  'volblocksize',
  'recordsize',
  'dedup',
  'copies',
  'sync',
  'org.example:x',
  'special_small_blocks',
  'version',
  'canmount',
  'mountpoint',
  'snapdev',
  'volmode',
  'encryption',
  'keyformat',
  'keylocation',
  'pbkdf2iters',
  'mlslabel',
  'userquota@0',
  'groupquota@0',
  'filesystem_limit',
  'snapshot_limit',
  'redundant_metadata',
  'dnodesize',
  'name',
  'type',
  'used',
  'creation',
  'nonsense',
  'prefetch',
  'direct',
  'receive_resume_token',
];
const poolProps = [
  'comment',
  'autotrim',
  'delegation',
  'failmode',
  'bootfs',
  'autoexpand',
  'version',
  'feature@large_dnode',
  'feature@async_destroy',
  'multihost',
  'compatibility',
  'ashift',
  'cachefile',
  'dedup_table_quota',
  'org.example:p',
  'guid',
  'size',
  'tname',
  'readonly',
];
const programs = [
  'return 1',
  'args = ...; return args',
  'x = {} for i = 1, 100 do x[i] = zfs.list.snapshots("tank/fs") end return x',
  'return zfs.sync.snapshot("tank/fs@lua")',
  'return zfs.sync.destroy("tank/fs@lua")',
  'return zfs.check.promote("tank/clone")',
  'return zfs.get_prop("tank/vol", "volsize")',
  'error("no")',
  'while true do end',
  'return string.rep("x", 1000000)',
  'local t = {} t[1] = t return t',
  'return zfs.exists(...)',
  'return zfs.list.properties("tank")',
  '(',
  'return zfs.sync.set_prop("tank/fs", "org.example:l", "1")',
  'return zfs.sync.bookmark("tank/fs@one", "tank/fs#lua")',
  'return zfs.sync.rename_snapshot("tank/fs", "one", "uno")',
  'return zfs.sync.inherit("tank/fs", "org.example:l")',
  'return zfs.sync.rollback("tank/fs")',
];
const integers = [
  0n,
  1n,
  2n,
  3n,
  4n,
  7n,
  8n,
  9n,
  12n,
  16n,
  31n,
  255n,
  511n,
  512n,
  4096n,
  65536n,
  1n << 20n,
  (1n << 31n) - 1n,
  1n << 31n,
  (1n << 32n) - 1n,
  1n << 32n,
  (1n << 32n) + 16n,
  1n << 40n,
  (1n << 63n) - 1n,
  1n << 63n,
  (1n << 64n) - 1n,
  (1n << 64n) - 2n,
];

/** Inputs that a core lives for; kept as text for the report of its end. */
class History {
  readonly #last: string[] = [];

  add(text: string): void {
    this.#last.push(text);
    if (this.#last.length > 40) this.#last.shift();
  }

  toString(): string {
    return this.#last.join('\n');
  }
}

/** Numbers of what there is in a pool: whoever asks for objects, devices and handlers by number finds some. */
interface Known {
  guids: bigint[];
}

class Generator {
  readonly dice: Dice;
  readonly known: Known;

  constructor(dice: Dice, known: Known) {
    this.dice = dice;
    this.known = known;
  }

  integer(): bigint {
    const { dice } = this;
    if (dice.chance(60)) return dice.pick(integers);
    if (dice.chance(30) && this.known.guids.length > 0) return dice.pick(this.known.guids);
    return BigInt(dice.roll(dice.pick([16, 256, 65536, 2 ** 32])));
  }

  snapshot(): string {
    return `${this.dice.pick(datasets)}@${this.dice.pick(tags)}`;
  }

  bookmark(): string {
    return `${this.dice.pick(datasets)}#${this.dice.pick(marks)}`;
  }

  name(): string {
    const { dice } = this;
    if (dice.chance(4)) return dice.pick(oddNames);
    return dice.chance(20)
      ? dice.pick(pools)
      : dice.chance(50)
        ? dice.pick(datasets)
        : dice.chance(80)
          ? this.snapshot()
          : this.bookmark();
  }

  text(): string {
    const { dice } = this;
    if (dice.chance(60)) return this.name();
    if (dice.chance(50))
      return dice.pick([
        'on',
        'off',
        'lz4',
        'zstd-3',
        'none',
        '1G',
        'aes-256-gcm',
        'raw',
        'passphrase',
        'prompt',
        'file:///k',
        'latest',
        'default',
        '%s%n',
        '.send-1',
        'disabled',
      ]);
    return 'x'.repeat(dice.pick([0, 1, 31, 255, 256, 257, 1023, 1024, 4096, 9000]));
  }

  props(names: readonly string[]): NvPairs {
    const { dice } = this;
    const pairs: Record<string, NvValue> = {};
    for (let i = dice.roll(4); i > 0; i--) {
      const value = dice.chance(60) ? this.integer() : this.any(2);
      pairs[dice.pick(names)] = value;
    }
    return pairs;
  }

  any(depth: number): NvValue {
    const { dice } = this;
    switch (dice.roll(depth > 0 ? 12 : 8)) {
      case 0:
        return true;
      case 1:
        return this.integer();
      case 2:
        return Number(BigInt.asIntN(32, this.integer()));
      case 3:
      case 4:
        return this.text();
      case 5:
        return dice.bytes(dice.roll(64));
      case 6:
        return BigUint64Array.from({ length: dice.roll(6) }, () => this.integer());
      case 7:
        return new Typed(21, dice.roll(2));
      case 8:
        return Array.from({ length: dice.roll(4) }, () => this.text());
      case 9:
        return Array.from({ length: dice.roll(3) }, () => this.list(depth - 1));
      default:
        return this.list(depth - 1);
    }
  }

  list(depth: number): NvPairs {
    const pairs: Record<string, NvValue> = {};
    for (let i = this.dice.roll(5); i > 0; i--) pairs[this.text()] = this.any(depth);
    return pairs;
  }

  #names(make: () => string, value: () => NvValue): NvPairs {
    const pairs: Record<string, NvValue> = {};
    for (let i = this.dice.roll(3); i >= 0; i--) pairs[make()] = value();
    return pairs;
  }

  /** What a key of upstream's table may hold. */
  value({ name, type }: IoctlKey): NvValue {
    const { dice } = this;
    if (dice.chance(4)) return this.any(3);
    switch (name) {
      case 'snaps':
      case 'snapnv':
        return this.#names(
          () => this.snapshot(),
          () => true,
        );
      case 'holds':
        return this.#names(
          () => this.snapshot(),
          () => dice.pick(['keep', '.send-1', 't'.repeat(255), '']),
        );
      case 'props':
      case 'localprops':
        return this.props(datasetProps);
      case 'vdevprops_set_props':
        return this.props([
          'comment',
          'org.example:v',
          'checksum_n',
          'io_n',
          'failfast',
          'path',
          'allocating',
          'sit_out',
        ]);
      case 'hidden_args':
        return dice.chance(70) ? { wkeydata: dice.bytes(dice.pick([0, 31, 32, 32, 32, 33])) } : this.list(1);
      case 'initialize_vdevs':
      case 'trim_vdevs':
        return this.#names(
          () => dice.pick(['a', 'b']),
          () => this.integer(),
        );
      case 'program':
        return dice.pick(programs);
      case 'cleanup_fd':
      case 'fd':
      case 'input_fd':
        return dice.pick([0, 1, 3, 4, 5, 6, -1, 99]);
      case 'type':
        return dice.pick([2, 2, 3, 3, 0, 1, 4, 99]);
      case 'instrlimit':
        return dice.pick([1n, 1000n, 100_000n, this.integer()]);
      case 'memlimit':
        return dice.pick([1n, 65536n, 1n << 20n, 10n << 20n, this.integer()]);
      case 'firstsnap':
      case 'origin':
      case 'fromsnap':
      case 'snapname':
        return this.snapshot();
      case 'begin_record':
        return new Typed(10, this.beginRecord());
      case 'wait_activity':
        return dice.roll(12);
    }
    switch (type) {
      case 'BOOLEAN':
        return true;
      case 'BOOLEAN_VALUE':
        return new Typed(21, dice.roll(2));
      case 'INT32':
        return dice.chance(70) ? dice.roll(8) : Number(BigInt.asIntN(32, this.integer()));
      case 'UINT64':
        return dice.chance(50) ? BigInt(dice.roll(8)) : this.integer();
      case 'STRING':
        return this.text();
      case 'STRING_ARRAY':
        return Array.from({ length: dice.roll(4) }, () => dice.pick(poolProps));
      case 'BYTE_ARRAY':
        return new Typed(10, dice.bytes(dice.roll(400)));
      case 'NVLIST':
        return this.list(2);
      default:
        return this.any(3);
    }
  }

  input(keys: readonly IoctlKey[]): NvPairs {
    const { dice } = this;
    const pairs: Record<string, NvValue> = {};
    for (const key of keys) {
      if (key.isOptional ? dice.chance(55) : dice.chance(3)) continue;
      if (key.name.startsWith('<'))
        Object.assign(
          pairs,
          this.#names(
            () => (key.name.includes('bookmark') ? this.bookmark() : this.name()),
            () => this.value(key),
          ),
        );
      else pairs[key.name] = this.value(key);
    }
    if (dice.chance(3)) Object.assign(pairs, this.list(2));
    return pairs;
  }

  /** A configuration of devices. */
  config(): NvPairs {
    const { dice } = this;
    const disk = (): NvPairs => ({
      type: dice.chance(90) ? 'file' : dice.pick(['disk', 'missing', 'hole', 'nonsense']),
      path: `/disks/${dice.pick(['tank', 'pond', 'a', 'b', 'c', 'none'])}`,
      ...(dice.chance(70)
        ? { ashift: dice.pick([9n, 12n, 12n, 14n, 16n, this.integer()]), is_log: BigInt(dice.roll(2)) }
        : {}),
      ...(dice.chance(10) ? this.list(1) : {}),
    });
    const inner = (): NvPairs =>
      dice.chance(60)
        ? disk()
        : {
            type: dice.pick(['mirror', 'raidz', 'draid', 'replacing', 'spare', 'root', 'indirect']),
            children: Array.from({ length: dice.roll(4) }, disk),
            ...(dice.chance(60) ? { nparity: BigInt(dice.roll(4)) } : {}),
            ...(dice.chance(10) ? this.list(1) : {}),
          };
    const children = (): NvPairs[] => Array.from({ length: 1 + dice.roll(3) }, inner);
    return {
      type: 'root',
      children: children(),
      ...(dice.chance(10) ? { spares: children() } : {}),
      ...(dice.chance(10) ? { l2cache: children() } : {}),
      ...(dice.chance(15)
        ? {
            name: dice.pick(pools),
            pool_guid: this.integer(),
            version: 5000n,
            state: 0n,
            txg: 4n,
            vdev_tree: this.list(2),
          }
        : {}),
    };
  }

  /** dmu_replay_record_t of a stream's begin, or the drr_begin in it. */
  beginRecord(): Buffer {
    const record = Buffer.alloc(312);
    record.writeUInt32LE(0, 0);
    record.writeUInt32LE(this.dice.chance(90) ? 0 : Number(BigInt.asUintN(32, this.integer())), 4);
    this.begin().copy(record, 8);
    return record;
  }

  begin(): Buffer {
    const { dice } = this;
    const begin = Buffer.alloc(304);
    begin.writeBigUInt64LE(dice.chance(95) ? 0x2f5bacbacn : 0xaccbbaf502000000n, 0);
    const features = dice.pick([0n, 4n, 0x10000n, 0x10004n, this.integer()]);
    begin.writeBigUInt64LE(BigInt.asUintN(64, 1n | (features << 2n)), 8);
    begin.writeBigUInt64LE(1n, 16);
    begin.writeUInt32LE(dice.pick([2, 2, 3, 3, 0, 9]), 24);
    begin.writeUInt32LE(dice.pick([0, 1, 2, 4, 8, 12]), 28);
    begin.writeBigUInt64LE(BigInt(1 + dice.roll(5)), 32);
    begin.writeBigUInt64LE(dice.chance(80) ? 0n : BigInt(dice.roll(5)), 40);
    begin.write(this.snapshot(), 48);
    return begin;
  }

  fields(name: string): CmdFields {
    const { dice } = this;
    const fields: Record<string, string | number | bigint | Uint8Array> = {};
    for (const field of [
      'guid',
      'cookie',
      'objsetType',
      'permAction',
      'historyOffset',
      'obj',
      'actionHandle',
      'sendobj',
      'fromobj',
      'createtxg',
    ]) {
      if (dice.chance(40)) fields[field] = dice.chance(60) ? BigInt(dice.roll(6)) : this.integer();
    }
    if (dice.chance(60))
      fields.value = dice.chance(60)
        ? this.name()
        : dice.chance(50)
          ? dice.pick([...datasetProps, ...poolProps])
          : this.text();
    if (dice.chance(40)) fields.string = dice.chance(60) ? this.name() : this.text();
    if (dice.chance(40)) fields.cleanupFd = dice.pick([3, 4, 5, 6, -1, 0, 99]);
    if (dice.chance(30)) fields.flags = dice.roll(16);
    if (dice.chance(20)) fields.deferDestroy = dice.roll(2);
    if (dice.chance(20)) fields.simple = dice.roll(2);
    if (name === 'OBJ_TO_PATH' || name === 'OBJ_TO_STATS' || name === 'NEXT_OBJ')
      fields.obj = dice.chance(70) ? BigInt(dice.roll(200)) : this.integer();
    if (name === 'INJECT_FAULT') {
      // By design it panics (5), or keeps I/O for as long as is asked for (6, 8 and up).
      const record = Buffer.alloc(368);
      for (let at = 0; at < 64; at += 8)
        if (dice.chance(50)) record.writeBigUInt64LE(BigInt.asUintN(64, this.integer()), at);
      record.write(this.text().slice(0, 255), 64);
      record.writeUInt32LE(dice.roll(10), 320);
      record.writeUInt32LE(dice.pick([1, 2, 3, 4, 7]), 344);
      record.writeUInt32LE(dice.roll(8), 348);
      fields.injectRecord = record;
      fields.flags = dice.pick([1, 1, 2, 8]);
    }
    if (name === 'RECV') fields.beginRecord = this.begin();
    return fields;
  }

  /** Bytes of a packed list with some wrong. */
  mutate(packed: Buffer): Buffer {
    const { dice } = this;
    let bytes = Buffer.from(packed);
    for (let edits = 1 + dice.roll(4); edits > 0 && bytes.length > 8; edits--) {
      const at = dice.roll(bytes.length);
      switch (dice.roll(5)) {
        case 0:
          bytes[at] = dice.roll(256);
          break;
        case 1:
          bytes.writeUInt32BE(
            dice.pick([0, 1, 0x7fffffff, 0xffffffff, 0x10000, 19, 20]),
            Math.min(at & ~3, bytes.length - 4),
          );
          break;
        case 2:
          bytes = Buffer.concat([bytes.subarray(0, at), bytes.subarray(at + dice.roll(24))]);
          break;
        case 3:
          bytes = Buffer.concat([bytes.subarray(0, at), bytes.subarray(dice.roll(at + 1))]).subarray(0, 4 * MiB);
          break;
        default:
          bytes[at] = bytes[at]! ^ (1 << dice.roll(8));
      }
    }
    return bytes;
  }
}

/** A descriptor that is a send stream, damaged in places; what is written to one is kept. */
class Streams implements StreamChannel {
  readonly #stream: Buffer;
  #at = 0;
  readonly written: Buffer[] = [];
  #bytes = 0;

  constructor(stream: Buffer) {
    this.#stream = stream;
  }

  read(_fd: number, buffer: Uint8Array): number {
    const part = this.#stream.subarray(this.#at, this.#at + buffer.length);
    buffer.set(part);
    this.#at += part.length;
    return part.length;
  }

  readRecords(_fd: number, buffer: Uint8Array, left: number): number {
    // Whole records: a header says what follows.
    let end = this.#at + left;
    for (;;) {
      if (end + 312 > this.#stream.length || end + 312 - this.#at > buffer.length) break;
      const payload = payloadBytes(this.#stream.subarray(end, end + 312));
      end += 312;
      if (payload < 0) break;
      if (end - this.#at + payload > buffer.length) break;
      end += payload;
    }
    const part = this.#stream.subarray(this.#at, Math.min(Math.max(end, this.#at), this.#at + buffer.length));
    buffer.set(part);
    this.#at += part.length;
    return part.length;
  }

  write(_fd: number, buffer: Uint8Array): undefined {
    this.#bytes += buffer.length;
    if (this.#bytes < 4 * MiB) this.written.push(Buffer.from(buffer));
  }

  gather(): boolean {
    return false;
  }

  drain(): Promise<void> {
    return Promise.resolve();
  }
}

/** Bytes behind a record's header, -1: nothing more (cli/src/zow_client.h, zow_record_payload). */
function payloadBytes(record: Buffer): number {
  const body = record.subarray(8);
  const type = record.readUInt32LE(0);
  let size = 0;
  if (type === 1) size = body.readUInt32LE(28) || (body.readUInt32LE(20) + 7) & ~7;
  else if (type === 3) size = Number(body[42] ? body.readBigUInt64LE(88) : body.readBigUInt64LE(24));
  else if (type === 7) size = Number(body.readBigUInt64LE(32) || body.readBigUInt64LE(8));
  else if (type === 8) size = (body.readUInt32LE(44) + 7) & ~7;
  else if (![2, 4, 9, 10].includes(type)) return -1;
  return size <= 16 * MiB ? size : -1;
}

/** A stream without checksums, some of its records' fields wrong; its first record apart. */
function damage(dice: Dice, generator: Generator, stream: Buffer): { begin: Buffer; rest: Buffer } {
  const bytes = Buffer.from(stream);
  let at = 0;
  const edits = dice.roll(4);
  const starts: number[] = [];
  while (at + 312 <= bytes.length) {
    starts.push(at);
    const payload = at === 0 ? bytes.readUInt32LE(4) : Math.max(payloadBytes(bytes.subarray(at, at + 312)), 0);
    bytes.fill(0, at + 280, at + 312);
    at += 312 + payload;
  }
  for (let i = 0; i < edits && starts.length > 1; i++) {
    const start = dice.pick(starts.slice(dice.chance(10) ? 0 : 1));
    const field = start + 8 * dice.roll(20);
    const value = generator.integer();
    switch (dice.roll(5)) {
      case 0:
        bytes.writeBigUInt64LE(BigInt.asUintN(64, value), field);
        break;
      case 1:
        bytes.writeUInt32LE(Number(BigInt.asUintN(32, value)), field + 4 * dice.roll(2));
        break;
      case 2:
        bytes[start + dice.roll(160)] = dice.roll(256);
        break;
      case 3:
        bytes[start + 8 + 40 + dice.roll(40)] = dice.roll(32);
        break;
      default:
        bytes[dice.roll(bytes.length)] = dice.roll(256);
    }
  }
  const end = dice.chance(5) ? dice.roll(bytes.length) : bytes.length;
  return { begin: bytes.subarray(0, 312), rest: bytes.subarray(312, end) };
}

export interface FuzzResult {
  readonly inputs: number;
  readonly ok: number;
  /** How often each ioctl succeeded. */
  readonly succeeded: ReadonlyMap<string, number>;
  /** How the core ended, if it did. */
  readonly lost: string | undefined;
}

/** One core's life: `inputs` ioctls that `seed` chooses. */
export async function fuzzCore(inputs: number, seed: number, progress: () => void = () => {}): Promise<FuzzResult> {
  const dice = new Dice(seed);
  const core = await TestCore.load({ memoryBytes: 256 * MiB });
  const known: Known = { guids: [] };
  const generator = new Generator(dice, known);
  const history = new History();
  const succeeded = new Map<string, number>();
  let lost: string | undefined;
  void core.core.lost.then((panic) => {
    lost = `${panic.message} at ${panic.file}:${panic.line} [${panic.fiber}] ${(panic.stack ?? []).slice(0, 14).join(' < ')}\nseed ${seed}; the last inputs:\n${history}`;
  });
  const witness = await core.open('cc'.repeat(16), 3);
  for (const name of ['a', 'b', 'c']) core.disk(name, 64 * MiB);
  const streams = await populate(core, witness);
  known.guids.push(...guids(await witness.ioctl('POOL_STATS', { cmd: { name: 'tank' }, dstRoom: 1 << 17 })));
  const sessions: TestSession[] = [];
  const running = new Set<Promise<unknown>>();
  let done = 0;
  let ok = 0;

  const one = async (): Promise<void> => {
    while (sessions.length < 4) sessions.push(await core.open('dd'.repeat(16), 3 + sessions.length));
    if (dice.chance(1) && sessions.length > 1) {
      const gone = sessions.splice(dice.roll(sessions.length), 1)[0]!;
      track(gone.close());
      return;
    }
    const session = dice.pick(sessions);
    const { name, call } = make(dice, generator, streams);
    history.add(`${done} ${name} ${describe(call)}`);
    const result = session.ioctl(name, call).then(
      ({ errno }) => {
        if (errno !== 0) return;
        ok++;
        succeeded.set(name, (succeeded.get(name) ?? 0) + 1);
      },
      () => undefined,
    );
    track(result);
    // Most are through at once; a few go on beside others.
    if (!dice.chance(10)) await Promise.race([result, sleep(dice.pick([5, 50, 200]))]);
  };
  const track = (work: Promise<unknown>): void => {
    const settled = work.catch(() => undefined).finally(() => running.delete(settled));
    running.add(settled);
  };
  for (; done < inputs && lost === undefined; done++) {
    if (running.size > 12) {
      await Promise.race([...running, sleep(500)]);
      if (running.size > 12) for (const session of sessions.splice(0, 2)) track(session.close());
    }
    await one();
    if (done % 50 === 0) progress();
    if (done % 1000 === 999 && lost === undefined) await repair(core, witness);
  }
  const end = Promise.all([...sessions.map((session) => session.close()), ...running]);
  await Promise.race([end, sleep(20_000)]);
  if (lost === undefined) {
    const { errno } = await Promise.race([
      witness.ioctl('POOL_CONFIGS', { dstRoom: 1 << 20 }),
      sleep(20_000).then(() => ({ errno: -1 })),
    ]);
    if (errno === -1) lost = `it does not answer any more\nseed ${seed}; the last inputs:\n${history}`;
  }
  await core.core.close();
  return { inputs: done, ok, succeeded, lost };
}

/** A pool that is gone, or suspended, comes again. */
async function repair(core: TestCore, witness: TestSession): Promise<void> {
  const limit = sleep(5000).then(
    (): IoctlResult => ({ errno: -1, cmd: Buffer.alloc(0), dst: Buffer.alloc(0), history: Buffer.alloc(0) }),
  );
  for (let id = 1; id < 40; id++) await Promise.race([witness.ioctl('CLEAR_FAULT', { cmd: { guid: id } }), limit]);
  await Promise.race([
    witness.ioctl('CLEAR', { cmd: { name: 'tank', cookie: 1 }, src: { 'rewind-request': 1 } }),
    limit,
  ]);
  const { errno } = await Promise.race([
    witness.ioctl('POOL_STATS', { cmd: { name: 'tank' }, dstRoom: 1 << 17 }),
    limit,
  ]);
  if (errno !== 0)
    await Promise.race([
      core
        .createPool(witness)
        .then(() => populate(core, witness))
        .catch(() => undefined),
      limit,
    ]);
}

/** What is in tank for the fuzzer to find, and streams of it. */
async function populate(core: TestCore, session: TestSession): Promise<Buffer[]> {
  const quiet = async (name: string, call: Call): Promise<number> =>
    (await session.ioctl(name, { dstRoom: 65536, ...call })).errno;
  const zpl = { version: 5n, normalization: 0n, utf8only: 0n, casesensitivity: 0n };
  const none = (await session.ioctl('POOL_STATS', { cmd: { name: 'tank' }, dstRoom: 1 << 17 })).errno !== 0;
  if (none) await core.createPool(session);
  await quiet('CREATE', { cmd: { name: 'tank/fs' }, src: { type: 2, props: zpl } });
  await quiet('CREATE', { cmd: { name: 'tank/fs/a' }, src: { type: 2, props: zpl } });
  await quiet('CREATE', {
    cmd: { name: 'tank/vol' },
    src: { type: 3, props: { volsize: 8n << 20n, volblocksize: 8192n } },
  });
  const secret = {
    type: 2,
    props: { ...zpl, encryption: 8n, keyformat: 1n, keylocation: 'prompt' },
    hidden_args: { wkeydata: new Uint8Array(32) },
  };
  await quiet('CREATE', { cmd: { name: 'tank/secret' }, src: secret });
  await writeVolume(core);
  for (const tag of ['one', 'two']) {
    const snaps = Object.fromEntries(
      ['tank', 'tank/fs', 'tank/vol', 'tank/secret'].map((name) => [`${name}@${tag}`, true as const]),
    );
    await quiet('SNAPSHOT', { cmd: { name: 'tank' }, src: { snaps } });
  }
  await quiet('CLONE', { cmd: { name: 'tank/clone' }, src: { origin: 'tank/fs@one' } });
  await quiet('BOOKMARK', {
    cmd: { name: 'tank' },
    src: { 'tank/fs#mark': 'tank/fs@one', 'tank/vol#mark': 'tank/vol@one' },
  });
  const streams: Buffer[] = [];
  for (const [from, flags] of [
    ['tank/fs@one', {}],
    ['tank/vol@two', {}],
    ['tank/vol@two', { compressok: true, embedok: true, largeblockok: true }],
    ['tank/secret@one', { rawok: true }],
    ['tank/fs@two', { fromsnap: 'tank/fs@one' }],
  ] as const) {
    const channel = new Streams(Buffer.alloc(0));
    await session.ioctl('SEND_NEW', { cmd: { name: from }, src: { fd: 1, ...flags }, dstRoom: 4096, streams: channel });
    const stream = Buffer.concat(channel.written);
    if (stream.length >= 624) streams.push(stream);
  }
  return streams;
}

async function writeVolume(core: TestCore): Promise<void> {
  const { volumes } = core.core;
  try {
    const volume = await volumes.open('tank/vol', { readOnly: false });
    for (let i = 0; i < 8; i++) {
      const buffer = await volumes.buffers.acquire(16384);
      buffer.bytes.fill(i === 3 ? 0 : i * 17);
      buffer.bytes.set(Buffer.from(`block ${i}`), i * 100);
      await volume.write(i * 65536, buffer, { fua: false });
      buffer.release();
    }
    await volume.flush();
    await volume.close();
  } catch {
    // It may not have come.
  }
}

function guids({ dst }: IoctlResult): bigint[] {
  const bytes = Buffer.from(dst);
  const found: bigint[] = [];
  for (let at = bytes.indexOf('guid\0'); at > 0 && found.length < 8; at = bytes.indexOf('guid\0', at + 8)) {
    const value = (at + 5 + 7) & ~7;
    if (value + 8 <= bytes.length) found.push(bytes.readBigUInt64LE(value));
  }
  return found;
}

/** Not these, or rarely: by design they end or stop a pool. */
const rare = new Set(['POOL_FREEZE', 'POOL_DESTROY', 'POOL_EXPORT', 'INJECT_FAULT', 'DESTROY']);

function make(dice: Dice, generator: Generator, streams: readonly Buffer[]): { name: string; call: Call } {
  if (dice.chance(1)) return { name: 'unknown', call: { cmd: generator.fields('') } };
  if (dice.chance(8) && streams.length > 0) return receive(dice, generator, dice.pick(streams));
  const entry = dice.pick(table);
  const { name, keys } = entry;
  if (name === 'POOL_FREEZE' || (rare.has(name) && !dice.chance(20))) return make(dice, generator, streams);
  const isPool =
    name.startsWith('POOL') || name.startsWith('VDEV') || /SNAPS|HOLD$|RELEASE|BOOKMARK|CHANNEL|LOG_HIS/.test(name);
  let cmd: CmdFields = { name: dice.chance(isPool ? 85 : 15) ? dice.pick(pools) : generator.name() };
  let src: NvPairs | Uint8Array | undefined;
  let conf: NvPairs | Uint8Array | undefined;
  if (keys === undefined) {
    cmd = { ...generator.fields(name), ...cmd };
    if (dice.chance(50)) src = generator.props(name.startsWith('POOL') ? poolProps : datasetProps);
    if (dice.chance(50)) conf = generator.config();
  } else {
    src = generator.input(keys);
    if (dice.chance(5)) cmd = { ...generator.fields(name), ...cmd };
  }
  if (src !== undefined && dice.chance(6)) src = generator.mutate(packNvlist(src as NvPairs));
  if (conf !== undefined && dice.chance(6)) conf = generator.mutate(packNvlist(conf as NvPairs));
  const dstRoom = dice.pick([0, 16, 256, 65536, 1 << 17, 1 << 20]);
  const historyRoom = name === 'POOL_GET_HISTORY' ? dice.pick([0, 64, 65536]) : 0;
  if (historyRoom > 0) cmd = { ...cmd, historyLength: historyRoom };
  // Claims that are not true.
  if (dice.chance(3))
    cmd = { ...cmd, [dice.pick(['srcSize', 'confSize', 'dstSize', 'historyLength'])]: generator.integer() };
  const call: Call = { cmd, dstRoom, historyRoom, streams: new Streams(Buffer.alloc(0)) };
  return {
    name,
    call: {
      ...call,
      ...(src === undefined ? {} : { src }),
      ...(conf === undefined ? {} : { conf }),
      ...(dice.chance(10) ? { history: generator.text().slice(0, 8000) } : {}),
    },
  };
}

function receive(dice: Dice, generator: Generator, stream: Buffer): { name: string; call: Call } {
  const { begin, rest } = damage(dice, generator, stream);
  const target = `${dice.pick(['tank/new', 'tank/new/b', 'tank/recv', 'tank/recv', 'tank/fs', 'tank/secret'])}@${dice.pick(tags)}`;
  const name = target.split('@')[0]!;
  const streams = new Streams(rest);
  if (dice.chance(50)) {
    const src: Record<string, NvValue> = { snapname: target, begin_record: new Typed(10, begin), input_fd: 0 };
    if (dice.chance(50)) src.force = true;
    if (dice.chance(50)) src.resumable = true;
    if (dice.chance(10)) src.heal = true;
    if (dice.chance(20)) src.origin = generator.snapshot();
    if (dice.chance(20)) src.localprops = generator.props(datasetProps);
    return { name: 'RECV_NEW', call: { cmd: { name }, src, dstRoom: 65536, streams } };
  }
  const cmd = { name, value: target, beginRecord: begin.subarray(8), guid: dice.roll(2), cookie: 0n };
  return { name: 'RECV', call: { cmd, dstRoom: 65536, streams } };
}

function describe({ cmd, src, conf, dstRoom }: Call): string {
  const plain = (value: unknown): string =>
    value instanceof Uint8Array
      ? `bytes ${Buffer.from(value).toString('hex').slice(0, 600)}`
      : JSON.stringify(value, (_, each) =>
          typeof each === 'bigint'
            ? `${each}n`
            : each instanceof Uint8Array
              ? `hex:${Buffer.from(each).toString('hex').slice(0, 80)}`
              : each,
        )?.slice(0, 1500);
  return [
    `cmd ${plain({ ...cmd, ...(cmd?.beginRecord === undefined ? {} : { beginRecord: 0 }) })}`,
    `src ${plain(src)}`,
    `conf ${plain(conf)}`,
    `room ${dstRoom}`,
  ].join(' ');
}

/** Runs one life in a child process; resolves with what it said, or that it hangs. */
function life(
  inputs: number,
  seed: number,
): Promise<{ inputs: number; ok: number; succeeded: [string, number][]; lost?: string }> {
  const child = spawn(process.execPath, [import.meta.filename, 'life', String(inputs), String(seed)], {
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  let stderr = '';
  child.stderr.setEncoding('utf8').on('data', (text: string) => {
    stderr = (stderr + text).slice(-4000);
  });
  let result: { inputs: number; ok: number; succeeded: [string, number][]; lost?: string } | undefined;
  let late = setTimeout(() => child.kill('SIGKILL'), hangMs);
  createInterface({ input: child.stdout }).on('line', (line) => {
    clearTimeout(late);
    late = setTimeout(() => child.kill('SIGKILL'), hangMs);
    if (line.startsWith('{')) result = JSON.parse(line);
  });
  return new Promise((resolve) =>
    child.on('close', (code, signal) => {
      clearTimeout(late);
      const reason =
        signal === 'SIGKILL'
          ? `it hangs (seed ${seed})`
          : `the process ended with ${code ?? signal} (seed ${seed})\n${stderr}`;
      resolve(result ?? { inputs: 0, ok: 0, succeeded: [], lost: reason });
    }),
  );
}

async function main(): Promise<void> {
  const [inputs = 100_000, seed = Date.now() % 2 ** 31, processes = 1] = process.argv.slice(2).map(Number);
  const seen = new Map<string, number>();
  const succeeded = new Map<string, number>();
  let done = 0;
  let ok = 0;
  let next = seed;
  const worker = async (): Promise<void> => {
    while (done < inputs) {
      const one = await life(lifetime, next++);
      done += one.inputs;
      ok += one.ok;
      for (const [name, count] of one.succeeded) succeeded.set(name, (succeeded.get(name) ?? 0) + count);
      if (one.lost === undefined) continue;
      const kind = one.lost
        .split('\n')[0]!
        .replaceAll(/0x[0-9a-f]+|\d{3,}/g, 'N')
        .slice(0, 160);
      seen.set(kind, (seen.get(kind) ?? 0) + 1);
      if (seen.get(kind)! <= 2) process.stdout.write(`-- after ${done} inputs: ${one.lost}\n`);
    }
  };
  await Promise.all(Array.from({ length: processes }, worker));
  process.stdout.write(
    `${done} inputs from seed ${seed}, ${ok} succeeded, ${[...seen.values()].reduce((a, b) => a + b, 0)} cores lost\n`,
  );
  for (const [kind, count] of seen) process.stdout.write(`${count} × ${kind}\n`);
  const never = table.map(({ name }) => name).filter((name) => !succeeded.has(name));
  process.stdout.write(`never succeeded: ${never.join(' ')}\n`);
  process.exitCode = seen.size === 0 ? 0 : 1;
}

if (process.argv[1] === import.meta.filename) {
  if (process.argv[2] === 'life') {
    const { inputs, ok, succeeded, lost } = await fuzzCore(Number(process.argv[3]), Number(process.argv[4]), () =>
      process.stdout.write('.\n'),
    );
    process.stdout.write(`${JSON.stringify({ inputs, ok, succeeded: [...succeeded], lost })}\n`);
    process.exit(0);
  }
  await main();
}

export { ioctlNumbers, packCmd };
