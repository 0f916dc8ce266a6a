import { join } from 'node:path';
import { release } from '../../host/assets.ts';
import type { StreamChannel } from '../../host/core/dev-zfs.ts';
import { DataType } from '../../host/nvlist/nvlist.ts';
import type { Call, CmdFields } from '../host/core/fixture.ts';
import { type NvPairs, type NvValue, packNvlist, Typed } from '../host/nvlist/pack.ts';
import { type IoctlEntry, type IoctlKey, readIoctlTable } from './ioctl-table.ts';

/** What core.ts asks of the core: each input is that of a seed and a number, whatever was before it. */

export const tree = join(import.meta.dirname, '../../zfs-src/upstream', release);
export const table = readIoctlTable(tree);
const MiB = 1024 ** 2;

export class Dice {
  #state: number;

  constructor(seed: number, number = 0) {
    let mixed = Math.imul(seed ^ 0x9e3779b9, 0x85ebca6b) ^ Math.imul(number + 1, 0xc2b2ae35);
    mixed = Math.imul(mixed ^ (mixed >>> 15), 0x2c1b3c6d);
    mixed = Math.imul(mixed ^ (mixed >>> 12), 0x297a2d39);
    this.#state = (mixed ^ (mixed >>> 15)) >>> 0 || 1;
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

/** What there is comes twice and more. */
const pools = [...Array.from({ length: 10 }, () => 'tank'), 'pond', 'none'];
const there = ['tank', 'tank/fs', 'tank/vol', 'tank/fs/a', 'tank/clone', 'tank/secret'];
const datasets = [...there, ...there, ...there, 'tank/new', 'tank/new/b', 'pond', 'none/x'];
const tags = ['one', 'one', 'one', 'two', 'two', 'three', 's', 'nope', 'x%recv'];
const marks = ['mark', 'mark', 'mark', 'other'];
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
/** Not cachefile: it would be written wherever it says, on this machine. */
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
/** Numbers of what there is in a pool: whoever asks for objects, devices and handlers by number finds some. */
interface Known {
  readonly guids: bigint[];
  /** Of data sets. */
  readonly ids: bigint[];
}

/** Names that an ioctl is for. */
const habits: ReadonlyMap<string, readonly string[]> = new Map([
  ['PROMOTE', ['tank/clone']],
  ['DIFF', ['tank/fs@two', 'tank/clone@s']],
  ['LOAD_KEY', ['tank/secret']],
  ['UNLOAD_KEY', ['tank/secret']],
  ['CHANGE_KEY', ['tank/secret']],
  ['CREATE', ['tank/new', 'tank/new/b', 'tank/secret/c']],
  ['CLONE', ['tank/new', 'tank/new/b', 'tank/secret/c']],
  ['TMP_SNAPSHOT', there],
  ['GET_BOOKMARK_PROPS', ['tank/fs#mark', 'tank/vol#mark']],
  ['SEND_SPACE', ['tank/fs@two', 'tank/vol@one', 'tank/secret@two']],
  ['SEND_NEW', ['tank/fs@two', 'tank/vol@one', 'tank/secret@two']],
  ['SPACE_SNAPS', ['tank/fs@two', 'tank/vol@two', 'tank/secret@two']],
  ['REDACT', ['tank/fs@one']],
  ['RENAME', ['tank/fs/a', 'tank/new', 'tank/new/b', 'tank/fs@three', 'tank/fs/c']],
  ['OBJ_TO_PATH', ['tank/fs', 'tank/fs/a']],
  ['OBJ_TO_STATS', ['tank/fs', 'tank/fs/a']],
]);

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

  /** A name as upstream asks for it, most often. */
  named({ name, scope }: IoctlEntry): string {
    const { dice } = this;
    if (dice.chance(10)) return this.name();
    const habit = habits.get(name);
    if (habit !== undefined && dice.chance(60)) return dice.pick(habit);
    if (scope === 'pool') return dice.pick(pools);
    if (scope === 'dataset') return dice.chance(70) ? dice.pick(datasets) : this.snapshot();
    return scope === 'entity' ? this.bookmark() : this.name();
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
      const value = dice.chance(40)
        ? BigInt(dice.roll(20))
        : dice.chance(40)
          ? this.integer()
          : dice.chance(70)
            ? this.text()
            : this.any(2);
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
        return new Typed(DataType.BOOLEAN_VALUE, dice.roll(2));
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

  #snapshots(): NvPairs {
    return this.#names(
      () => this.snapshot(),
      () => true,
    );
  }

  /** A number of something in the pool. */
  device(): bigint {
    return this.known.guids.length > 0 ? this.dice.pick(this.known.guids) : this.integer();
  }

  /** What a key of upstream's table may hold. */
  value({ name, type }: IoctlKey): NvValue {
    const { dice } = this;
    if (dice.chance(4)) return this.any(3);
    switch (name) {
      case 'snaps':
        return this.#snapshots();
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
        // That of tank/secret, most often.
        if (dice.chance(60)) return { wkeydata: new Uint8Array(32) };
        return dice.chance(70) ? { wkeydata: dice.bytes(dice.pick([0, 31, 32, 32, 32, 33])) } : this.list(1);
      case 'initialize_vdevs':
      case 'trim_vdevs':
        return this.#names(
          () => dice.pick(['a', 'b']),
          () => (dice.chance(70) ? this.device() : this.integer()),
        );
      case 'initialize_command':
      case 'trim_command':
        return BigInt(dice.roll(4));
      case 'snapnv':
        return dice.chance(70) ? { 'tank/clone@two': true } : this.#snapshots();
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
        return new Typed(DataType.BYTE_ARRAY, this.beginRecord());
      case 'wait_activity':
        return dice.roll(12);
      case 'vdevprops_get_vdev':
      case 'vdevprops_set_vdev':
        return this.device();
      case 'scan_type':
      case 'scan_command':
      case 'crypt_cmd':
        return BigInt(dice.roll(5));
    }
    switch (type) {
      case 'BOOLEAN':
        return true;
      case 'BOOLEAN_VALUE':
        return new Typed(DataType.BOOLEAN_VALUE, dice.roll(2));
      case 'INT32':
        return dice.chance(70) ? dice.roll(8) : Number(BigInt.asIntN(32, this.integer()));
      case 'UINT64':
        return dice.chance(50) ? BigInt(dice.roll(8)) : this.integer();
      case 'STRING':
        return this.text();
      case 'STRING_ARRAY':
        return Array.from({ length: dice.roll(4) }, () => dice.pick(poolProps));
      case 'BYTE_ARRAY':
        return new Typed(DataType.BYTE_ARRAY, dice.bytes(dice.roll(400)));
      case 'NVLIST':
        return this.list(2);
      default:
        return this.any(3);
    }
  }

  input(name: string, keys: readonly IoctlKey[]): NvPairs {
    const { dice } = this;
    if (name === 'CREATE' && dice.chance(60)) return this.creation();
    // As libzfs asks.
    if (name === 'BOOKMARK' && dice.chance(60))
      return { 'tank/fs#other': 'tank/fs@two', 'tank/vol#other': 'tank/vol@two' };
    if (name === 'CHANGE_KEY' && dice.chance(60))
      return {
        crypt_cmd: BigInt(dice.roll(6)),
        props: { keyformat: 1n },
        hidden_args: { wkeydata: new Uint8Array(32) },
      };
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

  /** As libzfs creates data sets, and one thing more. */
  creation(): NvPairs {
    const { dice } = this;
    const props = this.props(dice.chance(50) ? datasetProps : []);
    if (dice.chance(50)) return { type: 3, props: { volsize: 1n << 20n, volblocksize: 8192n, ...props } };
    const zpl = { version: 5n, normalization: 0n, utf8only: 0n, casesensitivity: 0n, ...props };
    if (dice.chance(70)) return { type: 2, props: zpl };
    const key = { encryption: BigInt(3 + dice.roll(6)), keyformat: 1n, keylocation: 'prompt' };
    return { type: 2, props: { ...zpl, ...key }, hidden_args: { wkeydata: new Uint8Array(32) } };
  }

  /** A disk more. */
  attached(): NvPairs {
    const disk = { type: 'file', path: `/disks/${this.dice.pick(['a', 'b', 'c'])}`, is_log: 0n };
    return { type: 'root', children: [disk] };
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
    if (name.startsWith('VDEV') && dice.chance(80)) fields.guid = this.device();
    // States to go to, whether to replace, versions, flags.
    if (name === 'VDEV_SET_STATE') fields.cookie = BigInt(dice.roll(8));
    if (name === 'VDEV_ATTACH' || name === 'POOL_IMPORT') fields.cookie = BigInt(dice.pick([0, 0, 0, 1, 2]));
    if (name === 'VDEV_SETPATH') fields.value = '/disks/tank';
    if (name === 'POOL_UPGRADE') fields.cookie = dice.pick([5000n, 28n, this.integer()]);
    if (name === 'RENAME' && dice.chance(50))
      fields.value = dice.pick(['tank/new', 'tank/new/b', 'tank/fs/c', 'tank/fs@three']);
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
    if (name === 'POOL_SCAN') fields.cookie = BigInt(dice.roll(5));
    if (name === 'TMP_SNAPSHOT') fields.cleanupFd = dice.pick([3, 4, 5, 6, -1]);
    if (name === 'INHERIT_PROP') fields.value = dice.pick(datasetProps);
    if (name === 'DIFF' || name === 'SPACE_WRITTEN') fields.value = this.snapshot();
    if ((name === 'SEND' || name === 'DSOBJ_TO_DSNAME') && this.known.ids.length > 0)
      Object.assign(fields, { sendobj: dice.pick(this.known.ids), obj: dice.pick(this.known.ids) });
    if (name === 'OBJ_TO_PATH' || name === 'OBJ_TO_STATS' || name === 'NEXT_OBJ')
      fields.obj = dice.chance(30) ? 34n : dice.chance(70) ? BigInt(dice.roll(200)) : this.integer();
    if (name === 'INJECT_FAULT') {
      // By design it panics (5, and 4 after its time), or keeps I/O for as long as is asked for (6, 8 and up).
      const record = Buffer.alloc(368);
      for (let at = 0; at < 64; at += 8)
        if (dice.chance(50)) record.writeBigUInt64LE(BigInt.asUintN(64, this.integer()), at);
      record.write(this.text().slice(0, 255), 64);
      record.writeUInt32LE(dice.roll(10), 320);
      record.writeUInt32LE(dice.pick([1, 2, 3, 7]), 344);
      record.writeUInt32LE(dice.roll(8), 348);
      fields.injectRecord = record;
      // Errors of a pool's own structures are a disk's, not a client's: what is injected is in data sets.
      // zc_guid has the flags.
      fields.guid = dice.chance(70) || this.known.ids.length === 0 ? 1 : dice.pick([0, 2, 8]);
      if (fields.guid !== 1) {
        record.writeBigUInt64LE(dice.pick(this.known.ids), 0);
        record.writeUInt32LE(dice.pick([1, 7]), 344);
      }
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
export class Streams implements StreamChannel {
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

/** A stream as it is, or without checksums and some of its records' fields wrong; its first record apart. */
function damage(dice: Dice, generator: Generator, stream: Buffer): { begin: Buffer; rest: Buffer } {
  const bytes = Buffer.from(stream);
  let at = 0;
  // Its last record has a checksum of all the others, which is looked at.
  if (dice.chance(25)) return { begin: bytes.subarray(0, 312), rest: bytes.subarray(312) };
  const edits = dice.chance(10) ? 0 : 1 + dice.roll(3);
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
export interface Input {
  /** ZFS_IOC_ without that, or a number. */
  readonly name: string | number;
  readonly call: Call;
}

/** What there is that inputs are made of: send streams, configurations of pools, numbers. */
interface Found {
  readonly streams: readonly Buffer[];
  readonly configs: readonly { readonly name: string; readonly guid: bigint; readonly bytes: Buffer }[];
}

/** The inputs of a seed. */
export class Inputs implements Found, Known {
  readonly streams: Buffer[] = [];
  readonly configs: { name: string; guid: bigint; bytes: Buffer }[] = [];
  readonly guids: bigint[] = [];
  readonly ids: bigint[] = [];
  readonly #seed: number;

  constructor(seed: number) {
    this.#seed = seed;
  }

  make(number: number): Input {
    const dice = new Dice(this.#seed, number);
    return make(dice, new Generator(dice, this), this);
  }
}

const needsConfig = new Set(['POOL_CREATE', 'VDEV_ADD', 'VDEV_ATTACH', 'VDEV_SPLIT']);
/** Not these, or rarely: by design they end or stop a pool. */
const rare = new Set([
  'POOL_FREEZE',
  'POOL_DESTROY',
  'POOL_EXPORT',
  'INJECT_FAULT',
  'DESTROY',
  'VDEV_SETPATH',
  'VDEV_SET_STATE',
]);

function make(dice: Dice, generator: Generator, { streams, configs }: Found): Input {
  if (dice.chance(1)) return { name: 'unknown', call: { cmd: generator.fields('') } };
  if (dice.chance(8) && streams.length > 0) return receive(dice, generator, dice.pick(streams));
  const entry = dice.pick(table);
  const { name, keys } = entry;
  if (name === 'POOL_FREEZE' || (rare.has(name) && !dice.chance(20)))
    return make(dice, generator, { streams, configs });
  let cmd: CmdFields = { name: generator.named(entry) };
  let src: NvPairs | Uint8Array | undefined;
  let conf: NvPairs | Uint8Array | undefined;
  if (keys === undefined) {
    cmd = { ...generator.fields(name), ...cmd };
    if (dice.chance(70)) src = generator.props(name.startsWith('POOL') ? poolProps : datasetProps);
    if (name === 'SET_FSACL' && dice.chance(60)) src = { [dice.pick(['el$', 'ed$', 'c$'])]: { mount: true } };
    if (dice.chance(needsConfig.has(name) ? 95 : 20)) conf = generator.config();
    if (name === 'VDEV_ATTACH' && dice.chance(60)) conf = generator.attached();
    if (name.endsWith('IMPORT') && configs.length > 0 && dice.chance(80)) {
      const known = dice.pick(configs);
      conf = dice.chance(50) ? known.bytes : generator.mutate(known.bytes);
      cmd = { ...cmd, name: known.name, guid: known.guid };
    }
  } else {
    src = generator.input(name, keys);
    if (dice.chance(5)) cmd = { ...generator.fields(name), ...cmd };
  }
  if (src !== undefined && dice.chance(6)) src = generator.mutate(packNvlist(src as NvPairs));
  if (conf !== undefined && dice.chance(6))
    conf = generator.mutate(Buffer.isBuffer(conf) ? conf : packNvlist(conf as NvPairs));
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

function receive(dice: Dice, generator: Generator, stream: Buffer): Input {
  const { begin, rest } = damage(dice, generator, stream);
  const target = `${dice.pick(['tank/new', 'tank/new/b', 'tank/recv', 'tank/recv', 'tank/fs', 'tank/secret'])}@${dice.pick(tags)}`;
  const name = target.split('@')[0]!;
  const streams = new Streams(rest);
  if (dice.chance(50)) {
    const src: Record<string, NvValue> = {
      snapname: target,
      begin_record: new Typed(DataType.BYTE_ARRAY, begin),
      input_fd: 0,
    };
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

/** For a person, and cut. */
export function describe({ name, call: { cmd, src, conf, dstRoom } }: Input): string {
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
    name,
    `cmd ${plain({ ...cmd, ...(cmd?.beginRecord === undefined ? {} : { beginRecord: 0 }) })}`,
    `src ${plain(src)}`,
    `conf ${plain(conf)}`,
    `room ${dstRoom}`,
  ].join(' ');
}
