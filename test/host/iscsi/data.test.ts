import test from 'ava';
import {
  AsyncEvent,
  Flag,
  Opcode,
  RESERVED_TAG,
  RejectReason,
  TaskFunction,
  TaskResponse,
} from '../../../host/iscsi/constants.ts';
import type { Handled } from '../../../host/net/onread.ts';
import { Asc } from '../../../host/scsi/constants.ts';
import { pattern, until } from '../nbd/fixture.ts';
import { cdb10, encodePdu, Initiator } from './client.ts';
import { type Fixture, outcome, serve, vm0 } from './fixture.ts';

const READ = 0x28;
const WRITE = 0x2a;
const TEST_UNIT_READY = Buffer.alloc(6);
const isid = (n: number) => `80000000${n.toString().padStart(4, '0')}`;

/** A server whose pool has 512 KiB of buffers for its volumes, in requests of at most 256 KiB. */
const small = { provider: { poolBytes: 1 << 20 }, limits: { transferBytes: 256 << 10 } };

/** A session that holds 256 KiB until it is destroyed: it asks for a write, and never gives the data. */
async function holder({ open, provider }: Fixture, n: number): Promise<Initiator> {
  const before = provider.buffers.leasedBytes;
  const initiator = await open({ isid: isid(n) });
  initiator.sendCommand(cdb10(WRITE, 0, 512), { write: Buffer.alloc(512 * 512), immediate: 0 });
  await until(() => provider.buffers.leasedBytes === before + 512 * 512, 'it holds its buffer');
  return initiator;
}

/** A WRITE whose data come partly with it, and then unasked. */
function sendWrite(initiator: Initiator, blocks: number, immediate: Buffer, final: boolean, expected = blocks * 512) {
  const bhs = initiator.bhs(Opcode.SCSI_COMMAND, (final ? Flag.FINAL : 0) | Flag.WRITE | 1);
  bhs.writeUInt32BE(expected, 20);
  bhs.set(cdb10(WRITE, 0, blocks), 32);
  return { pdu: encodePdu(bhs, immediate), itt: bhs.readUInt32BE(16), bhs };
}

test('what came for a command that was aborted is not written by the next one', async (t) => {
  const { open, provider } = await serve(t);
  const [one, two] = [await open(), await open({ isid: isid(2) })];
  // More data than the command takes, of which the first half has come when another initiator resets the unit.
  const { pdu } = sendWrite(one, 1, Buffer.alloc(2048, 0xee), true, 2048);
  one.socket.write(pdu.subarray(0, 1000));
  await until(() => provider.buffers.leases === 1, 'it has its buffer');
  t.is(await two.manage(TaskFunction.LOGICAL_UNIT_RESET), TaskResponse.COMPLETE);
  one.socket.write(pdu.subarray(1000));
  t.is(await outcome(one, TEST_UNIT_READY), '02 6/2903');
  const data = pattern(512);
  t.is((await one.command(cdb10(WRITE, 0, 1), { write: data })).status, 0);
  t.true(Buffer.from(provider.volumes.get('tank/vm0')!.data.subarray(0, 512)).equals(data));
});

test('a command is aborted while the socket reads into its buffer: that is free, what still comes is dropped', async (t) => {
  const { open, provider } = await serve(t);
  const [one, two] = [await open(), await open({ isid: isid(2) })];
  const { pdu } = sendWrite(one, 128, Buffer.alloc(65_536, 0xee), true);
  one.socket.write(pdu.subarray(0, 20_000));
  await until(() => provider.buffers.leases === 1, 'it has its buffer');
  t.is(await two.manage(TaskFunction.LOGICAL_UNIT_RESET), TaskResponse.COMPLETE);
  t.is(provider.buffers.leases, 0, 'an initiator that says nothing more keeps memory');
  await two.settle();
  for (const [start, end] of [
    [20_000, 30_000],
    [30_000, 50_000],
    [50_000, pdu.length],
  ]) {
    one.socket.write(pdu.subarray(start, end));
    t.is(await outcome(two, TEST_UNIT_READY), '00'); // meanwhile it has come
  }
  t.is(await outcome(one, TEST_UNIT_READY), '02 6/2903');
  const data = pattern(65_536);
  t.is((await one.command(cdb10(WRITE, 0, 128), { write: data })).status, 0);
  t.true(Buffer.from(provider.volumes.get('tank/vm0')!.data.subarray(0, 65_536)).equals(data));
});

test('a command that is broken while it asks for memory takes no other along', async (t) => {
  const fixture = await serve(t, small);
  const held = await holder(fixture, 2);
  const one = await fixture.open();
  const first = one.sendCommand(cdb10(WRITE, 0, 128), { write: Buffer.alloc(65_536), immediate: 0 });
  await one.answerFor(first);
  // It waits for memory, with its first data set aside.
  const { pdu, itt, bhs } = sendWrite(one, 256, Buffer.alloc(1024), false);
  one.socket.write(pdu);
  const second = one.sendCommand(cdb10(WRITE, 0, 16), { write: pattern(8192), immediate: 0 });
  const head = Buffer.from(bhs);
  head.writeUInt32BE(RESERVED_TAG, 20);
  one.sendDataOut(head, { offset: 1024, dataSn: 7, final: true }, Buffer.alloc(512));
  t.is((await one.finish(itt)).asc, Asc.DATA_PHASE_ERROR);
  held.destroy();
  t.is((await one.finish(second, pattern(8192))).status, 0);
});

test('a command that waits for memory goes on, whatever data come with it that it does not take', async (t) => {
  const fixture = await serve(t, small);
  const holders = [await holder(fixture, 2), await holder(fixture, 3)];
  const one = await fixture.open();
  const bhs = one.bhs(Opcode.SCSI_COMMAND, Flag.FINAL | Flag.READ | Flag.WRITE | 1);
  bhs.writeUInt32BE(4096, 20);
  bhs.set(cdb10(READ, 0, 8), 32);
  one.send(bhs, Buffer.alloc(512));
  for (const each of holders) each.destroy();
  t.is((await one.finish(bhs.readUInt32BE(16))).data.length, 4096);
});

test('data that nobody takes do not disturb the order of those that follow', async (t) => {
  const { open } = await serve(t);
  const one = await open();
  const bhs = one.bhs(Opcode.SCSI_COMMAND, Flag.WRITE | 1);
  bhs.writeUInt32BE(2048, 20);
  one.send(bhs, Buffer.alloc(1024)); // TEST UNIT READY
  const head = Buffer.from(bhs);
  head.writeUInt32BE(RESERVED_TAG, 20);
  one.sendDataOut(head, { offset: 1024, dataSn: 0, final: true }, Buffer.alloc(1024));
  t.is((await one.finish(bhs.readUInt32BE(16))).status, 0);
});

test('a command that waits for memory is aborted at once, and those behind it are served', async (t) => {
  const fixture = await serve(t, small);
  const holders = [await holder(fixture, 2), await holder(fixture, 3)];
  const one = await fixture.open();
  const data = pattern(65_536);
  const waiting = [0, 128].map((lba) => one.sendCommand(cdb10(WRITE, lba, 128), { write: data, immediate: 0 }));
  t.is(await one.manage(TaskFunction.ABORT_TASK, { referenced: waiting[0]! }), TaskResponse.COMPLETE);
  for (const each of holders) each.destroy();
  t.is((await one.finish(waiting[1]!, data)).status, 0);
});

test('a reset reaches the unit from a session that has asked nothing of it yet', async (t) => {
  const { open, address, provider } = await serve(t);
  const one = await open();
  const two = await Initiator.open(address, vm0, { isid: isid(2) });
  t.teardown(() => two.destroy());
  const waiting = one.sendCommand(cdb10(WRITE, 0, 512), { write: Buffer.alloc(512 * 512), immediate: 0 });
  await one.answerFor(waiting);
  t.is(await two.manage(TaskFunction.LOGICAL_UNIT_RESET), TaskResponse.COMPLETE);
  t.is(provider.buffers.leases, 0, 'its command is over');
  t.is(await outcome(one, TEST_UNIT_READY), '02 6/2903');
});

test('initiators that read nothing hold what they were given, and no more; others are served', async (t) => {
  const { address, open, provider, server } = await serve(t, { ...small, limits: { ...small.limits, stallMs: 300 } });
  const deaf = await Promise.all([1, 2, 3].map((n) => Initiator.open(address, vm0, { isid: isid(n) })));
  for (const initiator of deaf) {
    await initiator.settle();
    t.teardown(() => initiator.destroy());
    initiator.socket.pause();
    for (let i = 0; i < 16; i++) initiator.sendCommand(cdb10(READ, 0, 512), { read: 512 * 512 });
    // What needs no buffer is answered, until it is too much.
    for (let i = 0; i < 5000; i++) initiator.send(initiator.bhs(Opcode.NOP_OUT, Flag.FINAL, { immediate: true }));
  }
  const one = await open({ isid: isid(9) });
  for (let i = 0; i < 50; i++) {
    t.is((await one.command(cdb10(READ, i, 512), { read: 512 * 512 })).status, 0);
    t.true(provider.buffers.leasedBytes <= 512 << 10);
  }
  t.true(server.metrics.connections.stalled > 0);
});

test('an initiator that reads nothing is not echoed without end', async (t) => {
  const { open } = await serve(t);
  const deaf = await open();
  deaf.socket.pause();
  const nop = () => encodePdu(deaf.bhs(Opcode.NOP_OUT, Flag.FINAL, { immediate: true }), Buffer.alloc(65_536));
  const bytes = Buffer.concat(Array.from({ length: 1600 }, nop));
  deaf.socket.write(bytes);
  const taken = () => bytes.length - ((deaf.socket as Handled)._handle?.writeQueueSize ?? 0);
  for (let before = -1; before !== taken(); ) {
    before = taken();
    await new Promise((resolve) => setTimeout(resolve, 500));
  }
  t.true(taken() < bytes.length / 2, `${taken()} bytes are taken`); // sockets have some MiB, too
});

test('immediate commands and task management are bounded, though no window holds them back', async (t) => {
  const { open, provider, server } = await serve(t);
  const initiator = await open();
  const { promise, resolve } = Promise.withResolvers<void>();
  provider.volumes.get('tank/vm0')!.hook = () => promise;
  for (let i = 0; i < 500; i++) {
    const bhs = initiator.bhs(Opcode.SCSI_COMMAND, Flag.FINAL | Flag.READ | 1, { immediate: true });
    bhs.writeUInt32BE(512, 20);
    bhs.set(cdb10(READ, 0, 1), 32);
    initiator.send(bhs);
  }
  const managed = Array.from({ length: 500 }, () => {
    const bhs = initiator.bhs(Opcode.TASK_MANAGEMENT_REQUEST, Flag.FINAL | TaskFunction.ABORT_TASK_SET, {
      immediate: true,
    });
    initiator.send(bhs);
    return bhs;
  });
  let rejected = 0;
  for (; rejected < 500 - 16 + managed.length - 64; rejected++) {
    const { opcode, bhs } = await initiator.answerFor(RESERVED_TAG);
    t.deepEqual([opcode, bhs[2]], [Opcode.REJECT, RejectReason.TOO_MANY_IMMEDIATE]);
  }
  t.is(server.metrics.inFlight, 16);
  t.is(server.metrics.taskManagement, 64);
  resolve();
  t.is((await initiator.answerFor(managed[0]!.readUInt32BE(16))).opcode, Opcode.TASK_MANAGEMENT_RESPONSE);
  t.is((await initiator.command(TEST_UNIT_READY)).status, 0);
});

test('an initiator that asks nothing is told of a new size, and its next command, too', async (t) => {
  const { open, provider } = await serve(t);
  const initiator = await open();
  provider.resize('tank/vm0', 128 << 20);
  const { opcode, bhs, data } = await initiator.answerFor(RESERVED_TAG);
  t.is(opcode, Opcode.ASYNC_MESSAGE);
  t.is(bhs[36], AsyncEvent.SCSI);
  t.is(data.readUInt16BE(0), data.length - 2);
  t.deepEqual([data[4]! & 15, data.readUInt16BE(14)], [6, 0x2a09]);
  t.is(await outcome(initiator, TEST_UNIT_READY), '02 6/2a09');
  t.is(await outcome(initiator, TEST_UNIT_READY), '00');
});
