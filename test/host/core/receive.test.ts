import test from 'ava';
import { Errno } from '../../../host/errno.ts';
import { DataType } from '../../../host/nvlist/nvlist.ts';
import { Typed } from '../nvlist/pack.ts';
import { TestCore, type TestSession } from './fixture.ts';
import { resumePlace } from './resume.ts';
import { begin, channel, end, endOf, type Field, headerBytes, object, record } from './stream.ts';

/** Send streams that no sender makes: records whose lengths do not fit each other. */

/** EBADE, which is what OpenZFS calls ECKSUM on Linux. */
const echksum = 52;

async function receive(session: TestSession, ...records: Buffer[]): Promise<number> {
  const cmd = { name: 'tank/r', value: 'tank/r@s', beginRecord: begin(), guid: 1, cookie: 0 };
  return (await session.ioctl('RECV', { cmd, dstRoom: 65536, streams: channel(...records) })).errno;
}

/** A block in its pointer, of bytes that are no compressed ones. */
function embedded(compression: number, logical: number, physical: number): Buffer {
  const fields: Field[] = [
    [0, 8, 7],
    [16, 8, 512],
    [32, 1, compression],
    [40, 4, logical],
    [44, 4, physical],
  ];
  return record(8, fields, physical).fill(0xff, headerBytes);
}

const freed = (first: number, count: number) =>
  record(2, [
    [0, 8, first],
    [8, 8, count],
  ]);

/** An object of blocks of 1 KiB, and one of them. */
const sized = (number: number) => object(number, [[16, 4, 1024]]);
function write(number: number, offset = 0): Buffer {
  const fields: Field[] = [
    [0, 8, number],
    [8, 4, 19],
    [16, 8, offset],
    [24, 8, 1024],
  ];
  return record(3, fields, 1024);
}

const huge = (1n << 32n) + 512n;
const bad: readonly (readonly [what: string, ...records: Buffer[]])[] = [
  ['a bonus that has no room in its dnode', object(7, [[20, 4, 4096]], 4096)],
  ['an object behind a later one', object(8), object(7)],
  ['an object that comes again behind its blocks', sized(7), write(7), object(7, [[16, 4, 512]])],
  // drr_freeobjects: 0 first, 8 how many
  ['an object that is freed behind its blocks', sized(7), write(7), freed(7, 1)],
  ['objects that are freed behind a later one', object(8), freed(6, 2)],
  ['a bonus of a raw stream, in one that is not', object(7, [[28, 4, 77]], 77)],
  [
    'a bonus of no type',
    object(
      7,
      [
        [12, 4, 0],
        [20, 4, 64],
      ],
      64,
    ),
  ],
  ['a bonus of no length', object(7, [[12, 4, 17]])],
  // 24 checksum, 25 compression
  ['a checksum that is for labels', object(7, [[24, 1, 3]])],
  ['a checksum that no object has of its own', object(7, [[24, 1, 10]])],
  ['a compression that is none', object(7, [[25, 1, 4]])],
  ['a compression that no object has of its own', object(7, [[25, 1, 16]])],
  // drr_write: 24 logical size, 42 compression, 88 compressed size
  [
    'a block of 4 GiB',
    object(7),
    record(
      3,
      [
        [0, 8, 7],
        [8, 4, 19],
        [24, 8, huge],
      ],
      512,
    ),
  ],
  [
    'a block of no bytes',
    object(7),
    record(3, [
      [0, 8, 7],
      [8, 4, 19],
    ]),
  ],
  [
    'a block of odd size',
    object(7),
    record(
      3,
      [
        [0, 8, 7],
        [8, 4, 19],
        [24, 8, 520],
      ],
      520,
    ),
  ],
  [
    'a compressed block larger than itself',
    object(7),
    record(
      3,
      [
        [0, 8, 7],
        [8, 4, 19],
        [24, 8, 512],
        [42, 1, 15],
        [88, 8, 4096],
      ],
      4096,
    ),
  ],
  [
    'a compressed block of 4 GiB',
    object(7),
    record(
      3,
      [
        [0, 8, 7],
        [8, 4, 19],
        [24, 8, 512],
        [42, 1, 15],
        [88, 8, huge],
      ],
      512,
    ),
  ],
  [
    'a compression that there is not',
    object(7),
    record(
      3,
      [
        [0, 8, 7],
        [8, 4, 19],
        [24, 8, 512],
        [42, 1, 200],
        [88, 8, 512],
      ],
      512,
    ),
  ],
  // drr_spill: 8 length, 32 compressed size
  [
    'a spill block that does not fit',
    object(7),
    record(
      7,
      [
        [0, 8, 7],
        [8, 8, 512],
        [32, 8, 131072],
      ],
      131072,
    ),
  ],
  [
    'a spill block of odd size',
    object(7),
    record(
      7,
      [
        [0, 8, 7],
        [8, 8, 520],
      ],
      520,
    ),
  ],
  // drr_write_embedded: 16 length, 32 compression, 33 type, 40 logical, 44 physical size
  ['an embedded block that cannot be decompressed', object(7, [[16, 4, 1024]]), embedded(15, 512, 64)],
  ['an embedded block of a compression that there is not', object(7, [[16, 4, 1024]]), embedded(200, 512, 64)],
  ['an embedded block that is not compressed, and has two lengths', object(7, [[16, 4, 1024]]), embedded(2, 64, 112)],
  [
    'an embedded block of 4 GiB',
    object(7),
    record(
      8,
      [
        [0, 8, 7],
        [16, 8, 512],
        [40, 4, 0xffffffff],
        [44, 4, 64],
      ],
      64,
    ),
  ],
  [
    'an embedded block of no bytes',
    object(7),
    record(8, [
      [0, 8, 7],
      [16, 8, 512],
      [40, 4, 512],
    ]),
  ],
  [
    'an embedded block that is none',
    object(7),
    record(
      8,
      [
        [0, 8, 7],
        [16, 8, 512],
        [33, 1, 2],
        [40, 4, 512],
        [44, 4, 64],
      ],
      64,
    ),
  ],
];

for (const [what, ...records] of bad) {
  test(`a stream with ${what} is a damaged one`, async (t) => {
    const core = await TestCore.load();
    const session = await core.open();
    await core.createPool(session);
    t.is(await receive(session, ...records), echksum);
    // And the next one is received as ever, up to where it ends.
    t.not(await receive(session, object(7), object(8)), echksum);
    await session.must('POOL_SYNC', {
      cmd: { name: 'tank' },
      src: { force: new Typed(DataType.BOOLEAN_VALUE, 1) },
      dstRoom: 4096,
    });
    await core.core.close();
  });
}

test('the objects of a whole block of dnodes come before what is in them, as from senders before 2.0', async (t) => {
  const core = await TestCore.load();
  const session = await core.open();
  await core.createPool(session);
  const records = [sized(7), sized(8), sized(9), write(7), write(8), sized(10), write(10)];
  t.is(await receive(session, ...records, end(...records)), 0);
  await core.core.close();
});

/** What has come when a receive is interrupted, and from where it goes on: nothing may be missing before that. */
const interrupted: readonly (readonly [what: string, records: Buffer[], object: bigint, offset: bigint])[] = [
  ['objects, whose blocks come later or are none', [sized(7), sized(8), sized(9)], 7n, 0n],
  ['objects, and blocks of the first', [sized(7), sized(8), write(7), write(7, 1024)], 7n, 1024n],
  ['objects, and blocks of the second', [sized(7), sized(8), sized(9), write(7), write(8)], 8n, 0n],
  ['each object with its block', [sized(7), write(7), sized(8), write(8)], 8n, 0n],
  ['an object with its block, and the next', [sized(7), write(7, 1024), sized(8)], 7n, 1024n],
  ['the first object of another block of dnodes', [sized(7), sized(8), write(7), sized(40)], 40n, 0n],
  ['more of them', [sized(7), sized(8), sized(40), sized(41), sized(42)], 40n, 0n],
];

for (const [what, records, ...place] of interrupted) {
  test(`a receive is interrupted behind ${what}`, async (t) => {
    const core = await TestCore.load();
    const session = await core.open();
    const disk = { type: 'file', path: core.disk('tank'), ashift: 12n, is_log: 0n };
    await session.must('POOL_CREATE', {
      cmd: { name: 'tank' },
      src: { 'feature@extensible_dataset': 0n },
      conf: { type: 'root', children: [disk] },
      dstRoom: 65536,
    });
    const header = new Uint8Array(312);
    header.set(begin(), 8);
    const src = { snapname: 'tank/r@s', begin_record: new Typed(10, header), input_fd: 0, resumable: true } as const;
    // The last record is not taken before the header behind it is there: one that frees no object.
    const streams = channel(...records, freed(1000, 0));
    t.not((await session.ioctl('RECV_NEW', { cmd: { name: 'tank/r' }, src, dstRoom: 65536, streams })).errno, 0);
    const { object, offset } = await resumePlace(session, 'tank/r');
    t.deepEqual([object, offset], place);
    await core.core.close();
  });
}

test('a block that is none of its object is not written', async (t) => {
  const core = await TestCore.load();
  const session = await core.open();
  await core.createPool(session);
  for (const [offset, outcome] of [
    [512, Errno.EINVAL],
    [1024, 0],
  ] as const) {
    const fields: Field[] = [
      [0, 8, 7],
      [8, 4, 19],
      [16, 8, offset],
      [24, 8, 1024],
    ];
    const records = [object(7, [[16, 4, 1024]]), record(3, fields, 1024)];
    t.is(await receive(session, ...records, end(...records)), outcome, `at ${offset}`);
    await session.must('POOL_SYNC', {
      cmd: { name: 'tank' },
      src: { force: new Typed(DataType.BOOLEAN_VALUE, 1) },
      dstRoom: 4096,
    });
  }
  await core.core.close();
});

test('an object whose block is of another size than a power of two has no second one', async (t) => {
  const core = await TestCore.load();
  const session = await core.open();
  await core.createPool(session);
  for (const [offset, outcome] of [
    [1536, Errno.EINVAL],
    [0, 0],
  ] as const) {
    const fields: Field[] = [
      [0, 8, 7],
      [8, 4, 19],
      [16, 8, offset],
      [24, 8, 1536],
    ];
    const records = [object(7, [[16, 4, 1536]]), record(3, fields, 1536)];
    t.is(await receive(session, ...records, end(...records)), outcome, `at ${offset}`);
  }
  await core.core.close();
});

test('a volume whose size nobody has sent is there, and cannot be looked at', async (t) => {
  const core = await TestCore.load();
  const session = await core.open();
  await core.createPool(session);
  const first = begin(4n, 3); // DMU_OST_ZVOL
  const records = [object(1, [[16, 4, 1024]])];
  const cmd = { name: 'tank/r', value: 'tank/r@s', beginRecord: first, guid: 1, cookie: 0 };
  const streams = channel(...records, endOf(first, ...records));
  t.is((await session.ioctl('RECV', { cmd, dstRoom: 65536, streams })).errno, 0);
  for (const name of ['tank/r', 'tank/r@s'])
    t.is((await session.ioctl('OBJSET_STATS', { cmd: { name }, dstRoom: 65536 })).errno, Errno.EIO);
  await session.must('DESTROY', { cmd: { name: 'tank/r@s' } });
  await core.core.close();
});

test('a stream of what is neither a file system nor a volume', async (t) => {
  const core = await TestCore.load();
  const session = await core.open();
  await core.createPool(session);
  for (const type of [0, 1, 4, 5]) {
    const cmd = { name: 'tank/r', value: 'tank/r@s', beginRecord: begin(4n, type), guid: 1, cookie: 0 };
    t.is((await session.ioctl('RECV', { cmd, dstRoom: 65536, streams: channel() })).errno, Errno.EINVAL);
  }
  await core.core.close();
});
