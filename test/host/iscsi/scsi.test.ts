import test from 'ava';
import { Errno, ErrnoError } from '../../../host/errno.ts';
import { decodeCdb } from '../../../host/scsi/cdb.ts';
import { commands } from '../../../host/scsi/commands.ts';
import { Op, PrIn, PrOut } from '../../../host/scsi/constants.ts';
import { decodeTransportId, encodeTransportId } from '../../../host/scsi/nexus.ts';
import { PrType, REGISTRATIONS_MAX } from '../../../host/scsi/reservations.ts';
import { encodeSense } from '../../../host/scsi/sense.ts';
import { pattern, until } from '../nbd/fixture.ts';
import { cdb10, cdb16, type Initiator } from './client.ts';
import { outcome, serve } from './fixture.ts';
import { MemoryStore } from './store.ts';

const TEST_UNIT_READY = Buffer.alloc(6);
const other = { initiator: 'iqn.2026-11.io.zow.test:two' };

const inquiry = (page?: number) => Buffer.from([Op.INQUIRY, page === undefined ? 0 : 1, page ?? 0, 1, 0, 0]);
const modeSense = (page: number, control = 0) => Buffer.from([Op.MODE_SENSE_6, 8, (control << 6) | page, 0, 255, 0]);

/** UNMAP's parameter list. */
function unmapList(...ranges: [lba: number, blocks: number][]): Buffer {
  const list = Buffer.alloc(8 + 16 * ranges.length);
  list.writeUInt16BE(list.length - 2, 0);
  list.writeUInt16BE(16 * ranges.length, 2);
  for (const [i, [lba, blocks]] of ranges.entries()) {
    list.writeBigUInt64BE(BigInt(lba), 8 + 16 * i);
    list.writeUInt32BE(blocks, 16 + 16 * i);
  }
  return list;
}

function unmap(list: Buffer): Buffer {
  const cdb = Buffer.alloc(10);
  cdb[0] = Op.UNMAP;
  cdb.writeUInt16BE(list.length, 7);
  return cdb;
}

test('each command is decoded by its own row, and every bit that it does not have is refused', (t) => {
  for (const spec of commands) {
    const cdb = Buffer.alloc(16);
    cdb[0] = spec.op;
    if (spec.serviceAction !== undefined) cdb[1] = spec.serviceAction;
    const command = decodeCdb(cdb);
    if (!('spec' in command)) {
      t.fail(`0x${spec.op.toString(16)}`);
      continue;
    }
    t.is(command.spec, spec);
    for (let i = 1; i < spec.usage.length; i++) {
      for (let bit = 0; bit < 8; bit++) {
        if ((spec.usage[i]! & (1 << bit)) !== 0 || (i === 1 && spec.serviceAction !== undefined && bit < 5)) continue;
        const wrong = Buffer.from(cdb);
        wrong[i] = wrong[i]! | (1 << bit);
        const sense = decodeCdb(wrong);
        t.deepEqual('spec' in sense ? undefined : sense.field, { in: 'cdb', byte: i, bit });
      }
    }
  }
  const unknown = decodeCdb(Buffer.alloc(16, 0x04));
  t.is('spec' in unknown ? 0 : unknown.asc, 0x2000);
});

test('sense data in both formats', (t) => {
  const sense = { key: 5, asc: 0x2400, field: { in: 'cdb', byte: 7, bit: 3 }, information: 0x1234 } as const;
  const fixed = encodeSense(sense, false);
  t.deepEqual(
    [fixed[0], fixed[2], fixed[7], fixed.readUInt32BE(3), fixed.readUInt16BE(12), fixed[15], fixed.readUInt16BE(16)],
    [0xf0, 5, 10, 0x1234, 0x2400, 0xcb, 7],
  );
  const descriptor = encodeSense(sense, true);
  t.deepEqual(
    [descriptor[0], descriptor[1], descriptor.readUInt16BE(2), descriptor[7]],
    [0x72, 5, 0x2400, descriptor.length - 8],
  );
});

test("identification is of the pool's and the volume's guid: the same whatever the name", async (t) => {
  const { open, provider } = await serve(t);
  const initiator = await open();
  const page = (await initiator.command(inquiry(0x83), { read: 256 })).data;
  const serial = (await initiator.command(inquiry(0x80), { read: 256 })).data;
  const guid = provider.volumes.get('tank/vm0')!.guid;
  t.is(serial.toString('latin1', 4), `000000000000feed${guid.toString(16).padStart(16, '0')}`);
  t.true(page.includes(serial.subarray(4)));
  t.true(page.includes('iqn.2026-11.io.zow:tank:vm0,t,0x0001'));
  const pages = (await initiator.command(inquiry(0), { read: 256 })).data;
  t.deepEqual([...pages.subarray(4)], [0x00, 0x80, 0x83, 0x86, 0xb0, 0xb1, 0xb2]);
  for (const number of pages.subarray(4)) {
    const { data } = await initiator.command(inquiry(number), { read: 256 });
    t.deepEqual([data[1], data.readUInt16BE(2)], [number, data.length - 4]);
  }
  t.is(await outcome(initiator, inquiry(0x81), { read: 256 }), '02 5/2400');
  const limits = (await initiator.command(inquiry(0xb0), { read: 256 })).data;
  t.is(limits.readUInt16BE(6), 32, 'optimal granularity is the volblocksize');
});

test('blocks: what is out of range, too long or not allowed, has its own sense data', async (t) => {
  const { open } = await serve(t, { limits: { transferBytes: 1 << 20 } });
  const initiator = await open();
  const end = (64 << 20) / 512;
  t.is(await outcome(initiator, cdb10(Op.READ_10, end, 1), { read: 512 }), '02 5/2100');
  t.is(await outcome(initiator, cdb10(Op.READ_10, end - 1, 2), { read: 1024 }), '02 5/2100');
  t.is(await outcome(initiator, cdb16(Op.READ_16, 2 ** 52, 1), { read: 512 }), '02 5/2100');
  t.is(await outcome(initiator, cdb10(Op.READ_10, 0, 0)), '00');
  t.is(await outcome(initiator, cdb10(Op.READ_10, 0, 2049), { read: 2049 * 512 }), '02 5/2400');
  t.is(await outcome(initiator, cdb10(Op.READ_10, 0, 1, 0x20), { read: 512 }), '02 5/2400', 'RDPROTECT');
  t.is(await outcome(initiator, cdb10(Op.WRITE_SAME_10, 0, 0), { write: Buffer.alloc(512) }), '02 5/2400');
  t.is(await outcome(initiator, cdb10(Op.WRITE_SAME_10, 0, 1), { write: Buffer.alloc(1024) }), '02 5/0e03');
  t.is(await outcome(initiator, Buffer.from([0x48, 0, 0, 0, 0, 0, 0, 0, 0, 0])), '02 5/2000');
});

test('what is not carried out here is an INVALID COMMAND OPERATION CODE', async (t) => {
  const { open } = await serve(t);
  const initiator = await open();
  // EXTENDED COPY, RECEIVE COPY RESULTS, SANITIZE, WRITE ATOMIC 16, READ DEFECT DATA 10, FORMAT UNIT
  for (const op of [0x83, 0x84, 0x48, 0x9c, 0x37, 0x04]) {
    t.is(await outcome(initiator, Buffer.concat([Buffer.of(op), Buffer.alloc(15)])), '02 5/2000', op.toString(16));
  }
});

test("a volume's errors as sense data", async (t) => {
  const { open, provider } = await serve(t);
  const initiator = await open();
  const volume = provider.volumes.get('tank/vm0')!;
  const expected: [number, string, string][] = [
    [Errno.EIO, '02 3/1100', '02 3/0c00'],
    [Errno.ENOSPC, '02 7/2707', '02 7/2707'],
    [Errno.EROFS, '02 7/2700', '02 7/2700'],
    [Errno.ESHUTDOWN, '02 5/2500', '02 5/2500'],
    [Errno.ENOMEM, '02 b/5503', '02 b/5503'],
    [Errno.EPIPE, '02 4/4400', '02 4/4400'],
  ];
  for (const [errno, read, write] of expected) {
    volume.hook = () => {
      throw new ErrnoError(errno);
    };
    t.is(await outcome(initiator, cdb10(Op.READ_10, 0, 1), { read: 512 }), read);
    t.is(await outcome(initiator, cdb10(Op.WRITE_10, 0, 1), { write: Buffer.alloc(512) }), write);
  }
  volume.hook = undefined;
});

test('FUA, the write cache and SYNCHRONIZE CACHE: what is durable when', async (t) => {
  const { open, provider, store } = await serve(t);
  const [initiator, second] = [await open(), await open(other)];
  const { calls } = provider.volumes.get('tank/vm0')!;
  const write = { write: Buffer.alloc(512, 1) };
  await initiator.command(cdb10(Op.WRITE_10, 0, 1), write);
  t.is(calls.fua, 0);
  await initiator.command(cdb10(Op.WRITE_10, 0, 1, 8), write);
  t.is(calls.fua, 1);
  await initiator.command(cdb10(Op.SYNCHRONIZE_CACHE_10, 0, 0));
  t.is(calls.flush, 1);
  const wce = async () => (await initiator.command(modeSense(8), { read: 255 })).data[6]! & 4;
  t.is(await wce(), 4);
  store.syncs = 'always';
  t.is(await wce(), 0, 'as sync says');
  store.syncs = 'standard';
  const page = (await initiator.command(modeSense(8), { read: 255 })).data;
  page[0] = 0;
  page[6] = page[6]! & ~4;
  const select = Buffer.from([Op.MODE_SELECT_6, 0x10, 0, 0, page.length, 0]);
  t.is(await outcome(initiator, select, { write: page }), '00');
  t.is(await outcome(second, TEST_UNIT_READY), '02 6/2a01', 'the others are told');
  t.is(await wce(), 0);
  await initiator.command(cdb10(Op.WRITE_10, 0, 1), write);
  t.is(calls.fua, 2);
  t.is((await initiator.command(modeSense(8, 1), { read: 255 })).data[6], 4, 'changeable');
  t.is(await outcome(initiator, modeSense(8, 3), { read: 255 }), '02 5/3900');
  page[7] = 1;
  t.is(await outcome(initiator, select, { write: page }), '02 5/2600');
  t.is(
    await outcome(initiator, Buffer.from([Op.MODE_SELECT_6, 0x10, 0, 0, 2, 0]), { write: Buffer.alloc(2) }),
    '02 5/1a00',
  );
});

test('software write protection, and a control page for descriptor sense', async (t) => {
  const { open } = await serve(t);
  const initiator = await open();
  const page = (await initiator.command(modeSense(0x0a), { read: 255 })).data;
  page[0] = 0;
  const select = Buffer.from([Op.MODE_SELECT_6, 0x10, 0, 0, page.length, 0]);
  page[8] = 8;
  page[2] = 0;
  t.is(await outcome(initiator, select, { write: page }), '00');
  t.is(await outcome(initiator, cdb10(Op.WRITE_10, 0, 1), { write: Buffer.alloc(512) }), '02 7/2700');
  page[8] = 0;
  page[6] = 4;
  t.is(await outcome(initiator, select, { write: page }), '00');
  const { sense } = await initiator.command(cdb10(Op.READ_10, 0x7fff_ffff, 1), { read: 512 });
  t.deepEqual([...sense.subarray(0, 4)], [0x72, 5, 0x21, 0]);
});

test('COMPARE AND WRITE, ORWRITE, VERIFY and WRITE SAME do what they say', async (t) => {
  const { open, provider } = await serve(t);
  const initiator = await open();
  const volume = provider.volumes.get('tank/vm0')!;
  const at = (lba: number, blocks: number) => Buffer.from(volume.data.subarray(lba * 512, (lba + blocks) * 512));
  const [a, b] = [pattern(1024, 1), pattern(1024, 2)];
  const compare = Buffer.alloc(16);
  compare[0] = Op.COMPARE_AND_WRITE;
  compare[13] = 2;
  t.is((await initiator.command(compare, { write: Buffer.concat([Buffer.alloc(1024), a]) })).status, 0);
  t.true(at(0, 2).equals(a));
  const differs = Buffer.from(a);
  differs[700] = differs[700]! ^ 1;
  const miss = await initiator.command(compare, { write: Buffer.concat([differs, b]) });
  t.deepEqual([miss.key, miss.asc, miss.sense.readUInt32BE(3)], [0xe, 0x1d00, 700]);
  t.true(at(0, 2).equals(a));
  t.is((await initiator.command(cdb16(Op.ORWRITE_16, 0, 2), { write: b })).status, 0);
  t.true(at(0, 2).equals(Buffer.from(a.map((byte, i) => byte | b[i]!))));
  t.is((await initiator.command(cdb10(Op.VERIFY_10, 0, 2, 2), { write: at(0, 2) })).status, 0);
  t.is(await outcome(initiator, cdb10(Op.VERIFY_10, 0, 2, 2), { write: a }), '02 e/1d00');
  t.is(await outcome(initiator, cdb10(Op.VERIFY_10, 0, 5000)), '00', 'without data it is read');
  t.is((await initiator.command(cdb10(Op.WRITE_AND_VERIFY_10, 8, 2, 2), { write: b })).status, 0);
  t.true(at(8, 2).equals(b));
  const block = pattern(512, 3);
  t.is((await initiator.command(cdb16(Op.WRITE_SAME_16, 100, 5000), { write: block })).status, 0);
  t.true(at(100, 1).equals(block) && at(5099, 1).equals(block) && at(5100, 1).every((byte) => byte === 0));
  t.is(await outcome(initiator, cdb16(Op.VERIFY_16, 100, 5000, 6), { write: block }), '00', 'BYTCHK 3');
  t.is(await outcome(initiator, cdb16(Op.VERIFY_16, 100, 5001, 6), { write: block }), '02 e/1d00');
  t.is((await initiator.command(cdb16(Op.WRITE_SAME_16, 200, 100, 1))).status, 0, 'NDOB');
  t.true(at(200, 100).every((byte) => byte === 0) && !at(300, 1).every((byte) => byte === 0));
  t.is(volume.calls.allocate, 1);
  t.is((await initiator.command(cdb16(Op.WRITE_SAME_16, 300, 100, 9))).status, 0, 'NDOB, UNMAP');
  t.is(volume.calls.allocate, 1);
});

test('UNMAP and GET LBA STATUS', async (t) => {
  const { open, provider } = await serve(t);
  const initiator = await open();
  const data = pattern(200 * 512);
  await initiator.command(cdb10(Op.WRITE_10, 0, 200), { write: data });
  const status = async (lba: number) => {
    const cdb = Buffer.alloc(16);
    cdb[0] = Op.SERVICE_ACTION_IN_16;
    cdb[1] = 0x12;
    cdb.writeBigUInt64BE(BigInt(lba), 2);
    cdb.writeUInt32BE(1024, 10);
    const answer = (await initiator.command(cdb, { read: 1024 })).data;
    const runs = [];
    for (let i = 8; i < answer.length; i += 16)
      runs.push([Number(answer.readBigUInt64BE(i)), answer.readUInt32BE(i + 8), answer[i + 12]]);
    return runs;
  };
  t.deepEqual(await status(3), [
    [3, 221, 0],
    [224, 130848, 1],
  ]);
  const list = unmapList([32, 64], [150, 1]);
  t.is(await outcome(initiator, unmap(list), { write: list }), '00');
  t.deepEqual(await status(0), [
    [0, 32, 0],
    [32, 64, 1],
    [96, 128, 0],
    [224, 130848, 1],
  ]);
  t.true(
    provider.volumes
      .get('tank/vm0')!
      .data.subarray(150 * 512, 151 * 512)
      .every((byte) => byte === 0),
  );
  t.is(await outcome(initiator, unmap(Buffer.alloc(0))), '00');
  for (const [wrong, sense] of [
    [unmapList([131_072, 1]), '02 5/2100'],
    [Buffer.alloc(4), '02 5/1a00'],
    [unmapList(...Array.from({ length: 300 }, (): [number, number] => [0, 1])), '02 5/2600'],
  ] as const) {
    t.is(await outcome(initiator, unmap(wrong), { write: wrong }), sense);
  }
});

// --- Persistent reservations ---

function prOut(action: number, type = 0): Buffer {
  const cdb = Buffer.alloc(10);
  cdb[0] = Op.PERSISTENT_RESERVE_OUT;
  cdb[1] = action;
  cdb[2] = type;
  cdb.writeUInt32BE(24, 5);
  return cdb;
}

function prList(key: bigint, serviceActionKey = 0n, aptpl = false): Buffer {
  const list = Buffer.alloc(24);
  list.writeBigUInt64BE(key, 0);
  list.writeBigUInt64BE(serviceActionKey, 8);
  list[20] = aptpl ? 1 : 0;
  return list;
}

const register = (initiator: Initiator, key: bigint, aptpl = false) =>
  outcome(initiator, prOut(PrOut.REGISTER_AND_IGNORE_EXISTING_KEY), { write: prList(0n, key, aptpl) });
const change = (initiator: Initiator, action: number, key: bigint, type = 0, serviceActionKey = 0n) =>
  outcome(initiator, prOut(action, type), { write: prList(key, serviceActionKey) });

async function prIn(initiator: Initiator, action: number): Promise<Buffer> {
  const cdb = Buffer.from([Op.PERSISTENT_RESERVE_IN, action, 0, 0, 0, 0, 0, 16, 0, 0]);
  return (await initiator.command(cdb, { read: 4096 })).data;
}

async function keys(initiator: Initiator): Promise<bigint[]> {
  const data = await prIn(initiator, PrIn.READ_KEYS);
  return Array.from({ length: (data.length - 8) / 8 }, (_, i) => data.readBigUInt64BE(8 + 8 * i));
}

const readBlock = (initiator: Initiator) => outcome(initiator, cdb10(Op.READ_10, 0, 1), { read: 512 });
const writeBlock = (initiator: Initiator) => outcome(initiator, cdb10(Op.WRITE_10, 0, 1), { write: Buffer.alloc(512) });

test('each type of reservation: what holders, registrants and others may do', async (t) => {
  const { open } = await serve(t);
  const holder = await open();
  const registrant = await open(other);
  const stranger = await open({ initiator: 'iqn.2026-11.io.zow.test:three' });
  t.is(await register(holder, 1n), '00');
  t.is(await register(registrant, 2n), '00');
  const expected: Record<keyof typeof PrType, string> = {
    WRITE_EXCLUSIVE: '00 00, 00 18, 00 18',
    EXCLUSIVE_ACCESS: '00 00, 18 18, 18 18',
    WRITE_EXCLUSIVE_REGISTRANTS_ONLY: '00 00, 00 00, 00 18',
    EXCLUSIVE_ACCESS_REGISTRANTS_ONLY: '00 00, 00 00, 18 18',
    WRITE_EXCLUSIVE_ALL_REGISTRANTS: '00 00, 00 00, 00 18',
    EXCLUSIVE_ACCESS_ALL_REGISTRANTS: '00 00, 00 00, 18 18',
  };
  for (const [name, type] of Object.entries(PrType)) {
    t.is(await change(holder, PrOut.RESERVE, 1n, type), '00', name);
    const may: string[] = [];
    for (const each of [holder, registrant, stranger]) may.push(`${await readBlock(each)} ${await writeBlock(each)}`);
    t.is(may.join(', '), expected[name as keyof typeof PrType], name);
    t.is(await outcome(stranger, TEST_UNIT_READY), '00');
    t.is(await outcome(stranger, modeSense(8), { read: 255 }), '18');
    const all = type >= PrType.WRITE_EXCLUSIVE_ALL_REGISTRANTS;
    t.is(await change(registrant, PrOut.RESERVE, 2n, type), all ? '00' : '18');
    t.is(await change(holder, PrOut.RELEASE, 1n, type === 1 ? 3 : 1), '02 5/2604');
    t.is(await change(holder, PrOut.RELEASE, 1n, type), '00');
    const told = type >= PrType.WRITE_EXCLUSIVE_REGISTRANTS_ONLY;
    t.is(await outcome(registrant, TEST_UNIT_READY), told ? '02 6/2a04' : '00', name);
  }
});

test('registering: keys, and what is refused', async (t) => {
  const { open } = await serve(t);
  const [one, two] = [await open(), await open(other)];
  const reg = (initiator: Initiator, key: bigint, next: bigint) =>
    outcome(initiator, prOut(PrOut.REGISTER), { write: prList(key, next) });
  t.is(await reg(one, 5n, 6n), '18', 'it has no key yet');
  t.is(await reg(one, 0n, 6n), '00');
  t.is(await reg(one, 0n, 7n), '18');
  t.is(await reg(one, 6n, 7n), '00');
  t.deepEqual(await keys(two), [7n]);
  t.is(await change(two, PrOut.RESERVE, 7n, 1), '18', 'not registered');
  t.is(await change(one, PrOut.RESERVE, 8n, 1), '18', 'another key');
  t.is(await change(one, PrOut.RESERVE, 7n, 2), '02 5/2400');
  t.is(await change(one, PrOut.RESERVE, 7n, 0x11), '02 5/2400', 'scope');
  const short = Buffer.from(prOut(0));
  short.writeUInt32BE(20, 5);
  t.is(await outcome(one, short, { write: Buffer.alloc(20) }), '02 5/1a00');
  const spec = prList(0n, 1n);
  spec[20] = 8;
  t.is(await outcome(two, prOut(PrOut.REGISTER), { write: spec }), '02 5/2600', 'SPEC_I_PT');
  t.is(
    await outcome(one, Buffer.from([Op.PERSISTENT_RESERVE_IN, 9, 0, 0, 0, 0, 0, 0, 8, 0]), { read: 8 }),
    '02 5/2400',
  );
  t.is(await change(one, PrOut.CLEAR, 7n), '00');
  t.deepEqual(await keys(one), []);
});

test('as many registrations as there is room for in the pool', async (t) => {
  const { open } = await serve(t);
  for (let i = 0; i < REGISTRATIONS_MAX; i++) {
    const initiator = await open({ isid: `80000000${i.toString(16).padStart(4, '0')}` });
    t.is(await register(initiator, BigInt(i + 1), true), '00');
  }
  t.is(await register(await open(other), 99n, true), '02 5/5504');
});

test('two initiators fight: preempt, preempt and abort', async (t) => {
  const { open, provider } = await serve(t);
  const volume = provider.volumes.get('tank/vm0')!;
  const [one, two] = [await open(), await open(other)];
  await register(one, 1n);
  await register(two, 2n);
  await change(one, PrOut.RESERVE, 1n, PrType.WRITE_EXCLUSIVE);
  t.is(await writeBlock(two), '18');
  t.is(await change(two, PrOut.PREEMPT, 2n, PrType.WRITE_EXCLUSIVE, 9n), '18', 'nobody has that key');
  t.is(await change(two, PrOut.PREEMPT, 2n, PrType.WRITE_EXCLUSIVE, 1n), '00');
  t.is(await outcome(one, TEST_UNIT_READY), '02 6/2a05');
  t.is(await writeBlock(one), '18');
  t.is(await writeBlock(two), '00');
  await register(one, 1n);
  t.is(await change(one, PrOut.PREEMPT, 1n, PrType.EXCLUSIVE_ACCESS, 2n), '00');
  t.is(await outcome(two, TEST_UNIT_READY), '02 6/2a05');
  // A write of the loser that is under way never gets its answer.
  await register(two, 2n);
  let release = () => {};
  volume.hook = (operation) =>
    operation === 'write'
      ? new Promise((resolve) => {
          release = resolve;
        })
      : undefined;
  const before = volume.calls.write;
  one.sendCommand(cdb10(Op.WRITE_10, 0, 1), { write: Buffer.alloc(512, 7) });
  await until(() => release.toString().length > 8, 'the write runs');
  const preempted = change(two, PrOut.PREEMPT_AND_ABORT, 2n, PrType.WRITE_EXCLUSIVE, 1n);
  t.is(await Promise.race([preempted, new Promise((resolve) => setTimeout(resolve, 50, 'waits'))]), 'waits');
  volume.hook = undefined;
  release();
  t.is(await preempted, '00');
  t.is(volume.calls.write, before + 1);
  t.is(await outcome(one, TEST_UNIT_READY), '02 6/2a05');
  t.deepEqual(await keys(two), [2n]);
});

test('a reservation moves to another port', async (t) => {
  const { open } = await serve(t);
  const [one, two] = [await open(), await open(other)];
  await register(one, 1n);
  await change(one, PrOut.RESERVE, 1n, PrType.EXCLUSIVE_ACCESS);
  const id = encodeTransportId({ initiator: other.initiator, isid: '800000000001', target: '' });
  t.deepEqual(decodeTransportId(id), { initiator: other.initiator, isid: '800000000001' });
  const list = Buffer.alloc(24);
  list.writeBigUInt64BE(1n, 0);
  list.writeBigUInt64BE(2n, 8);
  list[17] = 2; // UNREG
  list[19] = 1;
  list.writeUInt32BE(id.length, 20);
  const cdb = prOut(PrOut.REGISTER_AND_MOVE, PrType.EXCLUSIVE_ACCESS);
  cdb.writeUInt32BE(24 + id.length, 5);
  t.is(await outcome(one, cdb, { write: Buffer.concat([list, id]) }), '00');
  t.is(await readBlock(one), '18');
  t.is(await readBlock(two), '00');
  const full = await prIn(two, PrIn.READ_FULL_STATUS);
  t.true(full.includes(other.initiator));
  t.is(full[8 + 12], 1, 'it holds');
});

test('APTPL: what is kept over a restart of the host, and what is not', async (t) => {
  const store = new MemoryStore();
  await t.notThrowsAsync(async () => {
    const first = await serve(t, { store });
    const [one, two] = [await first.open(), await first.open(other)];
    await register(one, 1n, true);
    await register(two, 2n, true);
    await change(one, PrOut.RESERVE, 1n, PrType.WRITE_EXCLUSIVE_REGISTRANTS_ONLY);
    t.is(store.saved.size, 1);
    await one.logout();
    await two.logout();
    const again = await first.open({ initiator: 'iqn.2026-11.io.zow.test:three' });
    t.is(await writeBlock(again), '18', 'it outlives all sessions');
    const guid = [...store.saved.keys()][0]!;
    const saved = store.saved.get(guid)!;
    // The same volume in another host.
    const second = await serve(t, { store });
    store.saved.set(second.provider.volumes.get('tank/vm0')!.guid, saved);
    const stranger = await second.open({ initiator: 'iqn.2026-11.io.zow.test:three' });
    t.is(await writeBlock(stranger), '18');
    const back = await second.open();
    t.is(await writeBlock(back), '00');
    t.deepEqual(await keys(back), [1n, 2n]);
    t.is(await register(back, 1n, false), '00');
    t.is(store.saved.size, 1, 'the last REGISTER says whether it is kept');
  });
});

test('a pool that cannot keep a reservation: the command fails, and nothing has changed', async (t) => {
  const { open, store } = await serve(t);
  const initiator = await open();
  store.refuse = new ErrnoError(Errno.ENOSPC);
  t.is(await register(initiator, 1n, true), '02 5/5504');
  t.deepEqual(await keys(initiator), []);
  store.refuse = undefined;
  t.is(await register(initiator, 1n, true), '00');
});

test('RESERVE and RELEASE of SPC-2', async (t) => {
  const { open } = await serve(t);
  const [one, two] = [await open(), await open(other)];
  const [reserve, release] = [Buffer.from([Op.RESERVE_6, 0, 0, 0, 0, 0]), Buffer.from([Op.RELEASE_6, 0, 0, 0, 0, 0])];
  t.is(await outcome(one, reserve), '00');
  t.is(await outcome(two, reserve), '18');
  t.is(await outcome(two, TEST_UNIT_READY), '18');
  t.is(await outcome(two, release), '00', "another's is not released");
  t.is(await readBlock(two), '18');
  t.is(await outcome(two, inquiry(), { read: 256 }), '00');
  t.is(await register(one, 1n), '18', 'not both kinds');
  await one.logout();
  t.is(await readBlock(two), '00', 'it ends with the session');
});
