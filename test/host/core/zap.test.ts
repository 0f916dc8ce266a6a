import test from 'ava';
import { Errno } from '../../../host/errno.ts';
import { DataType } from '../../../host/nvlist/nvlist.ts';
import { Typed } from '../nvlist/pack.ts';
import { TestCore, type TestSession } from './fixture.ts';
import { begin, channel, endOf, type Field, object, record } from './stream.ts';
import { FatZap, microZap } from './zap.ts';

/**
 * ZAP objects that ZFS has not written, as a stream may bring them: wasm/core/mended/zap_check.c, and for attributes sa_check.c. One is looked up in, and one
 * is listed, by asking for the path of a file: the queue of files to be deleted, and the directory that it is in.
 */

/** dmu_object_type_t. */
const types = {
  znode: 17,
  file: 19,
  directory: 20,
  master: 21,
  unlinked: 22,
  volume: 23,
  volumeProps: 24,
  attributes: 44,
  sa: 45,
  registry: 46,
  layouts: 47,
};
const objects = { master: 1, unlinked: 2, file: 7, directory: 34 };

/** An object, and its blocks. */
function written(
  number: number,
  type: number,
  blocks: readonly Buffer[],
  bonus: Buffer = Buffer.alloc(0),
  bonusType = types.znode,
): Buffer[] {
  const size = blocks[0]?.length ?? 512;
  const fields: Field[] = [
    [8, 4, type],
    [12, 4, bonus.length > 0 ? bonusType : 0],
    [16, 4, size],
    [20, 4, bonus.length],
  ];
  const first = object(number, fields, bonus.length);
  first.set(bonus, first.length - bonus.length);
  return [
    first,
    ...blocks.map((block, i) => {
      const write = record(
        3,
        [
          [0, 8, number],
          [8, 4, type],
          [16, 8, i * size],
          [24, 8, size],
        ],
        size,
      );
      write.set(block, write.length - size);
      return write;
    }),
  ];
}

/** znode_phys_t. */
function znode(parent: number, mode: number): Buffer {
  const bytes = Buffer.alloc(264);
  bytes.writeBigUInt64LE(BigInt(mode), 72);
  bytes.writeBigUInt64LE(BigInt(parent), 88);
  return bytes;
}

const isDirectory = 0o040755;
const isFile = 0o100644;

/** A file system of one file, with these blocks of its ZAP objects. */
function filesystem(unlinked: readonly Buffer[], directory: readonly Buffer[]): Buffer[] {
  const master = microZap([
    ['DELETE_QUEUE', BigInt(objects.unlinked)],
    ['ROOT', BigInt(objects.directory)],
    ['VERSION', 3n],
  ]);
  return [
    ...written(objects.master, types.master, [master]),
    ...written(objects.unlinked, types.unlinked, unlinked),
    ...written(objects.file, types.file, [], znode(objects.directory, isFile)),
    ...written(objects.directory, types.directory, directory, znode(objects.directory, isDirectory)),
  ];
}

let core: TestCore;
let session: TestSession;

test.before(async () => {
  core = await TestCore.load({ memoryBytes: 128 * 1024 ** 2 });
  session = await core.open();
  await core.createPool(session);
});
test.after.always(() => core.core.close());

/** Receives tank/r@s. */
async function receive(first: Buffer, records: readonly Buffer[]): Promise<void> {
  const cmd = { name: 'tank/r', value: 'tank/r@s', beginRecord: first, guid: 1, cookie: 0 };
  const streams = channel(...records, endOf(first, ...records));
  await session.must('RECV', { cmd, dstRoom: 65536, streams });
}

async function destroy(): Promise<void> {
  await session.must('DESTROY', { cmd: { name: 'tank/r@s' } });
  await session.must('DESTROY', { cmd: { name: 'tank/r' } });
}

/** The errno of what is asked of a file system that was received. */
async function pathOf(records: readonly Buffer[]): Promise<number> {
  await receive(begin(), records);
  const { errno } = await session.ioctl('OBJ_TO_PATH', { cmd: { name: 'tank/r@s', obj: objects.file } });
  await destroy();
  return errno;
}

const empty = [microZap([])];
const listed = [microZap([['file', BigInt(objects.file)]])];
/** So long that its chunks are a chain. */
const long = 'a name that is longer than one chunk, and than two';
/** The name that is looked up in the queue of files to be deleted: the file's number. */
const looked = objects.file.toString(16);
const make = () => new FatZap([looked, long, 'other']);

test.serial('the file systems of these tests are ones, with micro ZAPs and fat ones', async (t) => {
  t.is(await pathOf(filesystem(empty, listed)), 0);
  t.is(await pathOf(filesystem(new FatZap([long, 'other']).blocks, listed)), 0);
  // Nothing in the directory is the file; and it is in the queue.
  t.is(await pathOf(filesystem(empty, make().blocks)), Errno.ENOENT);
  t.is(await pathOf(filesystem(make().blocks, listed)), 116); // ESTALE
});

const bad: readonly (readonly [what: string, damage: (zap: FatZap) => void])[] = [
  // zap_leaf_header
  ['no leaf', ({ leaf }) => leaf.fill(0)],
  ['a leaf of another magic number', ({ leaf }) => leaf.writeUInt32LE(1, 24)],
  ['a leaf that goes on in another', ({ leaf }) => leaf.writeBigUInt64LE(1n, 8)],
  ['a leaf of another prefix', ({ leaf }) => leaf.writeBigUInt64LE(1n, 16)],
  ['a prefix of 60 bits', ({ leaf }) => leaf.writeUInt16LE(60, 32)],
  ['a prefix of 65535 bits', ({ leaf }) => leaf.writeUInt16LE(65535, 32)],
  ['a prefix that its pointers are not of', ({ leaf }) => leaf.writeUInt16LE(1, 32)],
  ['more free chunks than there are', ({ leaf }) => leaf.writeUInt16LE(FatZap.chunks, 28)],
  ['a list of free chunks that leads outside', ({ leaf }) => leaf.writeUInt16LE(FatZap.chunks, 34)],
  ['a list of free chunks that are used', ({ leaf }) => leaf.writeUInt16LE(0, 34)],
  ['free chunks in a circle', (zap) => zap.chunk(FatZap.chunks - 1).writeUInt16LE(FatZap.chunks - 2, 22)],
  ['fewer entries than it says', ({ leaf }) => leaf.writeUInt16LE(4, 30)],
  // l_hash
  ['a bucket beyond the chunks', (zap) => zap.leaf.writeUInt16LE(FatZap.chunks, zap.bucketAt(looked))],
  ['a bucket far beyond them', (zap) => zap.leaf.writeUInt16LE(0xfffe, zap.bucketAt(looked))],
  ['a bucket that leads to a name', (zap) => zap.leaf.writeUInt16LE(zap.number(looked) + 1, zap.bucketAt(looked))],
  ['a bucket that is another’s', (zap) => zap.leaf.writeUInt16LE(zap.number('other'), zap.bucketAt(looked))],
  // zap_leaf_entry
  ['entries in a circle', (zap) => zap.entry(looked).writeUInt16LE(zap.number(looked), 2)],
  ['a next entry beyond the chunks', (zap) => zap.entry(looked).writeUInt16LE(0xfffe, 2)],
  ['an entry that is not linked', (zap) => zap.leaf.writeUInt16LE(0xffff, zap.bucketAt('other'))],
  ...[0, 3, 5, 9, 255].map(
    (bytes) =>
      [
        `integers of ${bytes} bytes`,
        (zap: FatZap) => {
          zap.entry(looked)[1] = bytes;
        },
      ] as const,
  ),
  ['a value of 65535 integers', (zap) => zap.entry(looked).writeUInt16LE(65535, 10)],
  ['a value of no integers that has chunks', (zap) => zap.entry(looked).writeUInt16LE(0, 10)],
  ['a value beyond the chunks', (zap) => zap.entry(looked).writeUInt16LE(0xfffe, 8)],
  ['a name of no bytes', (zap) => zap.entry(looked).writeUInt16LE(0, 6)],
  ['a name of 65535 bytes', (zap) => zap.entry(looked).writeUInt16LE(65535, 6)],
  ['a name that is shorter than its chunks', (zap) => zap.entry(long).writeUInt16LE(3, 6)],
  ['a name without its end', (zap) => zap.chunk(zap.number('other') + 1).fill(0x78, 1, 22)],
  ['a name beyond the chunks', (zap) => zap.entry(looked).writeUInt16LE(0xfffe, 4)],
  ['a name that is a value', (zap) => zap.entry(looked).writeUInt16LE(zap.entry(looked).readUInt16LE(8), 4)],
  ['a name in a circle', (zap) => zap.chunk(zap.number(long) + 1).writeUInt16LE(zap.number(long) + 1, 22)],
  ['a name that goes on beyond the chunks', (zap) => zap.chunk(zap.number(long) + 1).writeUInt16LE(0xfffe, 22)],
  ['the last cd of all', (zap) => zap.entry(looked).writeUInt32LE(0xffffffff, 12)],
  ['a hash of more bits', (zap) => zap.entry(looked).writeUInt8(1, 16)],
  // zap_phys_t
  ['a table of 2^63 pointers', ({ header }) => header.writeBigUInt64LE(63n, 32)],
  ['a table of one pointer', ({ header }) => header.writeBigUInt64LE(0n, 32)],
  ['a table of 2^1000 pointers', ({ header }) => header.writeBigUInt64LE(1000n, 32)],
  ['a table in a block, and in the header', ({ header }) => header.writeBigUInt64LE(1n, 16)],
  ['a table in a block that is not there', ({ header }) => header.writeBigUInt64LE(1n, 24)],
  [
    'a table in the header',
    ({ header }) => {
      header.writeBigUInt64LE(1n, 24);
      header.writeBigUInt64LE(9n, 32);
    },
  ],
  [
    'a table in a leaf',
    ({ header }) => {
      header.writeBigUInt64LE(1n, 16);
      header.writeBigUInt64LE(1n, 24);
      header.writeBigUInt64LE(9n, 32);
    },
  ],
  ['a table that grows to nowhere', ({ header }) => header.writeBigUInt64LE(1n << 60n, 40)],
  ['a table whose copy is further than it', ({ header }) => header.writeBigUInt64LE(5n, 48)],
  ['free blocks that are used', ({ header }) => header.writeBigUInt64LE(1n, 56)],
  ['free blocks at the end of everything', ({ header }) => header.writeBigUInt64LE((1n << 64n) - 1n, 56)],
  ['no salt', ({ header }) => header.writeBigUInt64LE(0n, 80)],
  ['normalization of every kind', ({ header }) => header.writeBigUInt64LE(0x7fffffffn, 88)],
  ['flags that there are not', ({ header }) => header.writeBigUInt64LE(8n, 96)],
  ['keys that are integers', ({ header }) => header.writeBigUInt64LE(3n, 96)],
  ['keys that are hashed already', ({ header }) => header.writeBigUInt64LE(4n, 96)],
  // Pointers
  ['pointers to the header', ({ header }) => fillPointers(header, 1n << 52n)],
  ['pointers to the leaf, and around', ({ header }) => fillPointers(header, (1n << 52n) + 1n)],
  ['pointers to a block that is not there', ({ header }) => fillPointers(header, 77n)],
  ['a last pointer to elsewhere', ({ header }) => header.writeBigUInt64LE(77n, header.length - 8)],
];

function fillPointers(header: Buffer, pointer: bigint): void {
  for (let at = header.length / 2; at < header.length; at += 8) header.writeBigUInt64LE(pointer, at);
}

for (const [what, damage] of bad) {
  test.serial(`a ZAP object with ${what} is a damaged one`, async (t) => {
    const zap = make();
    damage(zap);
    t.is(await pathOf(filesystem(zap.blocks, listed)), Errno.EIO, 'of one that is looked up in');
    t.is(await pathOf(filesystem(empty, zap.blocks)), Errno.EIO, 'of one that is listed');
  });
}

const badMicro: readonly (readonly [what: string, ...blocks: Buffer[]])[] = [
  [
    'a name twice',
    microZap([
      ['x', 1n],
      ['x', 2n],
    ]),
  ],
  [
    'a name twice, as of different cds',
    microZap([
      ['x', 1n],
      ['x', 2n, 1],
    ]),
  ],
  ['a name without its end', microZap([['x'.repeat(50), 1n]])],
  ['a cd of more than 16 bits', microZap([['x', 1n, 65536]])],
  ['two blocks', microZap([['x', 1n]]), microZap([['x', 1n]])],
  ['no salt', microZap([['x', 1n]]).fill(0, 8, 16)],
  ['normalization of every kind', microZap([['x', 1n]]).fill(0x7f, 16, 20)],
];

for (const [what, ...blocks] of badMicro) {
  test.serial(`a micro ZAP with ${what} is a damaged one`, async (t) => {
    t.is(await pathOf(filesystem(blocks, listed)), Errno.EIO, 'of one that is looked up in');
    t.is(await pathOf(filesystem(empty, blocks)), Errno.EIO, 'of one that is listed');
  });
}

/** A volume, and the blocks of the ZAP object that has its size. */
const volume = (props: readonly Buffer[]): Buffer[] => [
  ...written(1, types.volume, [Buffer.alloc(8192)]),
  ...written(2, types.volumeProps, props),
];
const beginVolume = begin(4n, 3); // DMU_OST_ZVOL
const resize = (MiB: number) =>
  session.ioctl('SET_PROP', { cmd: { name: 'tank/r' }, src: { volsize: BigInt(MiB * 1024 ** 2) }, dstRoom: 65536 });

/** A micro ZAP that is full, and cannot be larger: what is added makes it a fat one. */
const full = (entries: Parameters<typeof microZap>[0]) => microZap([['size', 1n << 20n], ...entries], 128 * 1024);
const names = (count: number): [string, bigint][] => Array.from({ length: count }, (_, i) => [`name ${i}`, BigInt(i)]);

test.serial('a volume, whose size is changed', async (t) => {
  for (const props of [[microZap([['size', 1n << 20n]])], [full(names(2046))]]) {
    await receive(beginVolume, volume(props));
    t.is((await resize(2)).errno, 0);
    await destroy();
  }
});

test.serial('a volume, whose size is in a damaged micro ZAP', async (t) => {
  for (const props of [
    [full([...names(2045), ['name 0', 1n, 1]])],
    [microZap([['size', 1n << 20n], ...names(6)], 512), Buffer.alloc(512)],
  ]) {
    await receive(beginVolume, volume(props));
    t.is((await resize(2)).errno, Errno.EIO);
    await destroy();
  }
});

/** Members of records, in bytes, behind those of all (type and length of payload). */
const swapped = new Map([
  [1, [8, 4, 4, 4, 4, 1, 1, 1, 1, 4, 8, 8]],
  [3, [8, 4, 4, 8, 8, 8]],
]);

function swap(bytes: Buffer, at: number, sizes: readonly number[]): Buffer {
  for (const size of sizes) {
    bytes.subarray(at, at + size).reverse();
    at += size;
  }
  return bytes;
}

test.serial('a leaf of the other byte order, with a chunk that is none', async (t) => {
  const zap = make();
  const { leaf } = zap;
  zap.entry('other')[0] = 7;
  swap(leaf, 0, [8]);
  const records = written(objects.unlinked, types.unlinked, zap.blocks).map((bytes) =>
    swap(swap(bytes, 8, swapped.get(bytes.readUInt32LE(0))!), 0, [4, 4]),
  );
  const first = swap(begin(), 0, [8, 8, 8, 4, 4, 8, 8]);
  // Its end has another checksum.
  await t.throwsAsync(receive(first, records));
  await session.must('POOL_SYNC', {
    cmd: { name: 'tank' },
    src: { force: new Typed(DataType.BOOLEAN_VALUE, 1) },
    dstRoom: 4096,
  });
});

/** Those of sa_legacy_attrs (module/zfs/sa.c), which are what a znode_phys_t has: their names, and their bytes. */
const attributes: readonly (readonly [name: string, bytes: number])[] = [
  ...['ATIME', 'MTIME', 'CTIME', 'CRTIME'].map((name) => [name, 16] as const),
  ...['GEN', 'MODE', 'SIZE', 'PARENT', 'LINKS', 'XATTR', 'RDEV', 'FLAGS', 'UID', 'GID'].map(
    (name) => [name, 8] as const,
  ),
  ['PAD', 32],
  ['ACL', 88],
];
/** The number of an attribute, its byte order and its length. */
const registered = (number: number, bytes: number, swap = 0) => BigInt(number + swap * 2 ** 16 + bytes * 2 ** 24);
const registry = attributes.map(([name, bytes], i) => [`ZPL_${name}`, registered(i, bytes)] as [string, bigint]);
/** Layouts: the numbers of attributes, by their own. */
function layouts(entries: Readonly<Record<string, readonly number[]>>): Buffer[] {
  const values = Object.values(entries).map((numbers) =>
    Buffer.from(numbers.flatMap((number) => [number >> 8, number & 255])),
  );
  return new FatZap(Object.keys(entries), values, 2).blocks;
}
/** PARENT, FLAGS and MODE. */
const layout = [7, 11, 5];
const file = sa(2, [BigInt(objects.directory), 0n, BigInt(isFile)]);

/** sa_hdr_phys_t, and attributes of 8 bytes. */
function sa(number: number, values: readonly bigint[], magic = 0x2f505a): Buffer {
  const bytes = Buffer.alloc(8 + 8 * values.length);
  bytes.writeUInt32LE(magic, 0);
  bytes.writeUInt16LE(number | (1 << 10), 4);
  values.forEach((value, i) => {
    bytes.writeBigUInt64LE(value, 8 + 8 * i);
  });
  return bytes;
}

/** A file system of version 5. */
function attributed(
  entries: readonly (readonly [string, bigint])[],
  layoutBlocks: readonly Buffer[],
  bonus = file,
): Buffer[] {
  const [saObject, registryObject, layoutsObject] = [3, 4, 5];
  const master = microZap([
    ['DELETE_QUEUE', BigInt(objects.unlinked)],
    ['VERSION', 5n],
    ['SA_ATTRS', BigInt(saObject)],
  ]);
  const names = microZap([
    ['REGISTRY', BigInt(registryObject)],
    ['LAYOUTS', BigInt(layoutsObject)],
  ]);
  return [
    ...written(objects.master, types.master, [master]),
    ...written(objects.unlinked, types.unlinked, empty),
    ...written(saObject, types.sa, [names]),
    ...written(registryObject, types.registry, [microZap(entries, 2048)]),
    ...written(layoutsObject, types.layouts, layoutBlocks),
    ...written(objects.file, types.file, [], bonus, types.attributes),
    ...written(objects.directory, types.directory, listed, znode(objects.directory, isDirectory)),
  ];
}

test.serial('a file system whose files have attributes in a layout', async (t) => {
  t.is(await pathOf(attributed(registry, layouts({ 2: layout }))), 0);
});

const badAttributes: readonly (readonly [what: string, records: Buffer[]])[] = [
  ['fewer than upstream knows', attributed(registry.slice(1), layouts({ 2: layout }))],
  ['one of a number beyond them', attributed([...registry, ['x', registered(65535, 8)]], layouts({ 2: layout }))],
  [
    'one of a byte order that there is not',
    attributed([...registry, ['x', registered(16, 8, 200)]], layouts({ 2: layout })),
  ],
  ['a layout of an attribute beyond them', attributed(registry, layouts({ 2: [...layout, 65535] }))],
  ['a layout that has no number', attributed(registry, layouts({ x: layout }))],
  ['two layouts of one number', attributed(registry, layouts({ 2: layout, '02': layout }))],
  ['a layout of upstream’s own', attributed(registry, layouts({ 1: layout, 2: layout }))],
  ['a file of a layout that there is not', attributed(registry, layouts({ 2: layout }), sa(500, [1n]))],
  ['a layout of more than a file has room for', attributed(registry, layouts({ 2: [...layout, 15, 15, 15, 15] }))],
  ['a file of another magic number', attributed(registry, layouts({ 2: layout }), sa(2, [1n, 2n, 3n], 1))],
];

for (const [what, records] of badAttributes) {
  test.serial(`a file system with attributes, and ${what}, is a damaged one`, async (t) => {
    t.is(await pathOf(records), Errno.EIO);
  });
}
