import test from 'ava';
import {
  AsyncEvent,
  BHS_BYTES,
  Flag,
  Opcode,
  RESERVED_TAG,
  TaskFunction,
  TaskResponse,
} from '../../../host/iscsi/constants.ts';
import { crc32c } from '../../../host/iscsi/crc32c.ts';
import { encodeLun, parseLun } from '../../../host/iscsi/names.ts';
import { Asc } from '../../../host/scsi/constants.ts';
import { pattern, until } from '../nbd/fixture.ts';
import { cdb10, cdb16, encodePdu, Initiator } from './client.ts';
import { outcome, serve, vm0 } from './fixture.ts';

const READ = 0x28;
const WRITE = 0x2a;
const TEST_UNIT_READY = Buffer.alloc(6);
const TASK_SET_FULL = 0x28;

for (const digests of ['None', 'CRC32C']) {
  for (const keys of [
    { InitialR2T: 'No', ImmediateData: 'Yes' },
    { InitialR2T: 'Yes', ImmediateData: 'Yes' },
    { InitialR2T: 'Yes', ImmediateData: 'No' },
    {
      InitialR2T: 'No',
      ImmediateData: 'Yes',
      FirstBurstLength: '4096',
      MaxBurstLength: '8192',
      MaxOutstandingR2T: '3',
      MaxRecvDataSegmentLength: '1024',
    },
  ]) {
    const name = Object.entries(keys)
      .map(([key, value]) => `${key} ${value}`)
      .join(', ');
    test(`data arrive and come back: digests ${digests}, ${name}`, async (t) => {
      const { open, provider } = await serve(t);
      const initiator = await open({ keys: { ...keys, HeaderDigest: digests, DataDigest: digests } });
      const volume = provider.volumes.get('tank/vm0')!;
      for (const [i, blocks] of [1, 7, 8, 100, 128, 129, 1000, 4096].entries()) {
        const data = pattern(blocks * 512, i);
        const written = await initiator.command(cdb10(WRITE, 77, blocks), { write: data });
        t.is(written.status, 0);
        t.is(written.flags, 0);
        t.true(Buffer.from(volume.data.subarray(77 * 512, 77 * 512 + data.length)).equals(data), `${blocks} blocks`);
        const read = await initiator.command(cdb10(READ, 77, blocks), { read: data.length });
        t.is(read.status, 0);
        t.true(read.data.equals(data));
      }
      t.is(await initiator.logout(), 0);
    });
  }
}

test('a damaged digest ends the connection, and nothing is written', async (t) => {
  const { open, provider, server } = await serve(t);
  const initiator = await open({ keys: { HeaderDigest: 'CRC32C', DataDigest: 'CRC32C' } });
  const bhs = initiator.bhs(Opcode.SCSI_COMMAND, Flag.FINAL | Flag.WRITE | 1);
  bhs.writeUInt32BE(512, 20);
  bhs.set(cdb10(WRITE, 0, 1), 32);
  const pdu = encodePdu(bhs, Buffer.alloc(512, 1), { header: true, data: true });
  pdu[60] = pdu[60]! ^ 1;
  initiator.socket.write(pdu);
  await initiator.ended();
  t.is(provider.volumes.get('tank/vm0')!.calls.write, 0);
  t.is(server.metrics.connections.protocolErrors, 1);
  const other = await open({ keys: { HeaderDigest: 'CRC32C' } });
  const nop = encodePdu(other.bhs(Opcode.NOP_OUT, Flag.FINAL), Buffer.alloc(0), { header: true });
  nop.writeUInt32LE(crc32c(Buffer.alloc(4)), BHS_BYTES);
  other.socket.write(nop);
  await other.ended();
});

test('residual counts: less and more than the command moves', async (t) => {
  const { open, provider } = await serve(t);
  const initiator = await open();
  const volume = provider.volumes.get('tank/vm0')!;
  const read = async (expected: number) => {
    const { status, data, flags, residual } = await initiator.command(cdb10(READ, 0, 2), { read: 1024, expected });
    return [status, data.length, flags, residual];
  };
  t.deepEqual(await read(1024), [0, 1024, 0, 0]);
  t.deepEqual(await read(4096), [0, 1024, Flag.UNDERFLOW, 3072]);
  t.deepEqual(await read(512), [0, 512, Flag.OVERFLOW, 512]);
  t.deepEqual(await read(100), [0, 100, Flag.OVERFLOW, 924]);
  const write = async (blocks: number, data: Buffer) => {
    volume.data.fill(0);
    const { status, asc, flags, residual } = await initiator.command(cdb10(WRITE, 0, blocks), { write: data });
    return [status, asc, flags, residual, volume.data.findLastIndex((byte) => byte !== 0) + 1];
  };
  t.deepEqual(await write(1, Buffer.alloc(2048, 1)), [0, 0, Flag.UNDERFLOW, 1536, 512]);
  t.deepEqual(await write(4, Buffer.alloc(1024, 1)), [0, 0, Flag.OVERFLOW, 1024, 1024], 'whole blocks are written');
  t.deepEqual(await write(4, Buffer.alloc(1000, 1)), [2, 0x0e03, Flag.OVERFLOW, 1048, 0], 'half ones are not');
  t.deepEqual(await write(200, Buffer.alloc(150_000, 1)), [0, 0, Flag.UNDERFLOW, 47_600, 102_400]);
});

test('the window of commands: outside of it is ignored, a gap within is a fault', async (t) => {
  const { open, server } = await serve(t);
  const initiator = await open();
  const send = (cmdSn: number) => {
    const bhs = initiator.bhs(Opcode.SCSI_COMMAND, Flag.FINAL | 1, { immediate: true });
    bhs[0] = Opcode.SCSI_COMMAND;
    bhs.writeUInt32BE(cmdSn >>> 0, 24);
    initiator.send(bhs);
  };
  send(initiator.maxCmdSn + 1);
  send(initiator.cmdSn - 1);
  send(initiator.cmdSn + 0x7000_0000);
  t.is((await initiator.command(TEST_UNIT_READY)).status, 0);
  t.is(server.metrics.inFlight, 0);
  send(initiator.cmdSn + 1);
  await initiator.ended();
});

test('the window grows with what the initiator takes, and holds back one that sends only', async (t) => {
  const { open } = await serve(t, { limits: { startBytes: 4 * 65_536, commandsPerSession: 32 } });
  const initiator = await open();
  const window = () => initiator.maxCmdSn - initiator.cmdSn + 1;
  t.is(window(), 4);
  for (let i = 0; i < 20; i++) await initiator.command(cdb10(READ, 0, 512), { read: 512 * 512 });
  t.is(window(), 32);
});

test('many commands at once, each with its own data', async (t) => {
  const { open, provider } = await serve(t);
  provider.volumes.get('tank/vm0')!.hook = () => new Promise((resolve) => setTimeout(resolve, Math.random() * 5));
  const initiator = await open();
  const jobs: { itt: number; data: Buffer; lba: number }[] = [];
  for (let i = 0; i < 16; i++) {
    const data = pattern(i % 2 === 0 ? 4096 : 200 * 512, i);
    jobs.push({
      data,
      lba: i * 256,
      itt: initiator.sendCommand(cdb10(WRITE, i * 256, data.length / 512), { write: data }),
    });
  }
  for (const { itt, data } of jobs) t.is((await initiator.finish(itt, data)).status, 0);
  const reads = jobs.map(({ lba, data }) =>
    initiator.sendCommand(cdb10(READ, lba, data.length / 512), { read: data.length }),
  );
  for (const [i, itt] of reads.entries()) t.true((await initiator.finish(itt)).data.equals(jobs[i]!.data));
});

test('Data-Out that is not as it was asked for ends the command, not the session', async (t) => {
  const { open, provider } = await serve(t);
  const initiator = await open();
  const data = pattern(1024);
  const attempts: ((r2t: Buffer) => void)[] = [
    (r2t) => initiator.sendDataOut(r2t, { offset: 0, dataSn: 1, final: true }, data),
    (r2t) => initiator.sendDataOut(r2t, { offset: 512, dataSn: 0, final: true }, data.subarray(512)),
    (r2t) => initiator.sendDataOut(r2t, { offset: 0, dataSn: 0, final: true }, data.subarray(512)),
    (r2t) => initiator.sendDataOut(r2t, { offset: 0, dataSn: 0, final: false }, data),
    (r2t) => initiator.sendDataOut(r2t, { offset: 0, dataSn: 0, final: true }, Buffer.alloc(4096)),
    (r2t) => {
      r2t.writeUInt32BE(0x1234, 20);
      initiator.sendDataOut(r2t, { offset: 0, dataSn: 0, final: true }, data);
    },
  ];
  for (const [i, attempt] of attempts.entries()) {
    const itt = initiator.sendCommand(cdb10(WRITE, 0, 2), { write: data, immediate: 0 });
    const r2t = await initiator.answerFor(itt);
    t.is(r2t.opcode, Opcode.R2T);
    attempt(r2t.bhs);
    const { key, asc } = await initiator.finish(itt);
    t.deepEqual([key, asc], [0xb, Asc.DATA_PHASE_ERROR], `attempt ${i}`);
    // What comes for a command that is over is dropped.
    initiator.sendDataOut(r2t.bhs, { offset: 0, dataSn: 0, final: true }, data);
  }
  t.is(provider.volumes.get('tank/vm0')!.calls.write, 0);
  t.is((await initiator.command(cdb10(WRITE, 0, 2), { write: data })).status, 0);
});

test('unsolicited data beyond what was agreed on end the connection', async (t) => {
  const { open, server } = await serve(t);
  const attempts: [Record<string, string>, number, number, number][] = [
    [{ ImmediateData: 'No' }, Flag.FINAL | Flag.WRITE, 512, 512],
    [{ InitialR2T: 'Yes' }, Flag.WRITE, 512, 0],
    [{}, Flag.FINAL, 512, 512],
    [{}, Flag.FINAL | Flag.WRITE, 512, 1024],
    [{ FirstBurstLength: '512' }, Flag.FINAL | Flag.WRITE, 2048, 1024],
  ];
  for (const [keys, flags, expected, immediate] of attempts) {
    const initiator = await open({ keys });
    const bhs = initiator.bhs(Opcode.SCSI_COMMAND, flags | 1);
    bhs.writeUInt32BE(expected, 20);
    bhs.set(cdb10(WRITE, 0, 1), 32);
    initiator.send(bhs, Buffer.alloc(immediate));
    await initiator.ended();
  }
  t.is(server.metrics.connections.protocolErrors, attempts.length);
});

test('unsolicited Data-Out completes the command, also one that is refused', async (t) => {
  const { open, provider } = await serve(t);
  const initiator = await open();
  const data = pattern(4096);
  const send = (lba: number) => {
    const bhs = initiator.bhs(Opcode.SCSI_COMMAND, Flag.WRITE | 1);
    bhs.writeUInt32BE(data.length, 20);
    bhs.set(cdb10(WRITE, lba, 8), 32);
    initiator.send(bhs, data.subarray(0, 1024));
    const first = Buffer.alloc(BHS_BYTES);
    bhs.copy(first, 16, 16, 20);
    first.writeUInt32BE(RESERVED_TAG, 20);
    initiator.sendDataOut(first, { offset: 1024, dataSn: 0, final: false }, data.subarray(1024, 2048));
    initiator.sendDataOut(first, { offset: 2048, dataSn: 1, final: true }, data.subarray(2048));
    return bhs.readUInt32BE(16);
  };
  t.is((await initiator.finish(send(9))).status, 0);
  t.true(Buffer.from(provider.volumes.get('tank/vm0')!.data.subarray(9 * 512, 9 * 512 + 4096)).equals(data));
  t.is((await initiator.finish(send(0x7fff_0000))).asc, Asc.LBA_OUT_OF_RANGE);
  t.is((await initiator.command(TEST_UNIT_READY)).status, 0);
});

test('NOP-Out is echoed, what is not known is rejected', async (t) => {
  const { open } = await serve(t);
  const initiator = await open();
  const echo = await initiator.request(Opcode.NOP_OUT, Flag.FINAL, () => {}, Buffer.from('are you there?'));
  t.is(echo.opcode, Opcode.NOP_IN);
  t.is(echo.data.toString(), 'are you there?');
  for (const opcode of [0x1f, Opcode.SNACK_REQUEST, 0x07]) {
    const bhs = initiator.bhs(opcode, Flag.FINAL, { immediate: true });
    initiator.send(bhs);
    const reject = await initiator.answerFor(RESERVED_TAG);
    t.is(reject.opcode, Opcode.REJECT);
    t.true(reject.data.equals(bhs));
  }
  t.is((await initiator.command(TEST_UNIT_READY)).status, 0);
});

test('an initiator that is silent is asked, and cut when it does not answer', async (t) => {
  const { open, server } = await serve(t, { limits: { pingMs: 150 } });
  const answering = await open({ isid: '800000000002' });
  const silent = await open();
  const ping = await answering.answerFor(RESERVED_TAG);
  t.is(ping.opcode, Opcode.NOP_IN);
  const pong = answering.bhs(Opcode.NOP_OUT, Flag.FINAL, { immediate: true, itt: RESERVED_TAG });
  ping.bhs.copy(pong, 20, 20, 24);
  answering.send(pong);
  await silent.ended();
  await until(() => server.connections <= 1, 'the silent one is gone');
});

test('ABORT TASK, task sets and resets: no answer of what is aborted, and then nothing of it runs', async (t) => {
  const { open, provider, server } = await serve(t);
  const volume = provider.volumes.get('tank/vm0')!;
  const [one, two] = [await open(), await open({ isid: '800000000002' })];
  const release: (() => void)[] = [];
  volume.hook = () =>
    new Promise((resolve) => {
      release.push(resolve);
    });
  const start = async (initiator: Initiator) => {
    const running = release.length;
    const itt = initiator.sendCommand(cdb10(WRITE, 0, 1), { write: Buffer.alloc(512) });
    await until(() => release.length > running, 'it runs');
    return itt;
  };
  const finish = () => {
    for (const resolve of release.splice(0)) resolve();
  };
  // One that runs: the answer comes when it is over.
  const running = await start(one);
  const aborted = one.manage(TaskFunction.ABORT_TASK, { referenced: running });
  t.is(await Promise.race([aborted, new Promise((resolve) => setTimeout(resolve, 50, 'waits'))]), 'waits');
  finish();
  t.is(await aborted, TaskResponse.COMPLETE);
  t.is(await one.manage(TaskFunction.ABORT_TASK, { referenced: running }), TaskResponse.TASK_DOES_NOT_EXIST);
  // One that waits for data: at once, and its data are dropped.
  const waiting = one.sendCommand(cdb10(WRITE, 0, 300), { write: Buffer.alloc(300 * 512), immediate: 0 });
  const r2t = await one.answerFor(waiting);
  t.is(await one.manage(TaskFunction.ABORT_TASK, { referenced: waiting }), TaskResponse.COMPLETE);
  one.sendDataOut(r2t.bhs, { offset: 0, dataSn: 0, final: true }, Buffer.alloc(300 * 512).subarray(0, 65_536));
  // Those of one's own, those of all, and a reset.
  await start(one);
  const others = await start(two);
  const set = one.manage(TaskFunction.ABORT_TASK_SET);
  finish();
  t.is(await set, TaskResponse.COMPLETE);
  t.is((await two.finish(others)).status, 0);
  const lost = await start(two);
  const before = server.metrics.taskManagement;
  const cleared = one.manage(TaskFunction.CLEAR_TASK_SET);
  await until(() => server.metrics.taskManagement > before, 'it is being cleared');
  finish();
  t.is(await cleared, TaskResponse.COMPLETE);
  volume.hook = undefined;
  t.is(await outcome(two, TEST_UNIT_READY), '02 6/2f00', `${lost} was cleared by the other`);
  t.is(await outcome(one, TEST_UNIT_READY), '00');
  for (const reset of [TaskFunction.LOGICAL_UNIT_RESET, TaskFunction.TARGET_WARM_RESET]) {
    t.is(await one.manage(reset), TaskResponse.COMPLETE);
    for (const each of [one, two]) t.is(await outcome(each, TEST_UNIT_READY), '02 6/2903');
  }
  t.is(await one.manage(TaskFunction.CLEAR_ACA), TaskResponse.NOT_SUPPORTED);
  t.is(await one.manage(TaskFunction.TASK_REASSIGN), TaskResponse.REASSIGN_NOT_SUPPORTED);
  t.is(await one.manage(TaskFunction.LOGICAL_UNIT_RESET, { lun: 9 }), TaskResponse.LUN_DOES_NOT_EXIST);
  t.is(await one.manage(TaskFunction.TARGET_COLD_RESET), TaskResponse.COMPLETE);
  await one.ended();
});

test('ORDERED waits for those before it, and those after it wait', async (t) => {
  const { open, provider } = await serve(t);
  const volume = provider.volumes.get('tank/vm0')!;
  const initiator = await open();
  const started: number[] = [];
  const release: (() => void)[] = [];
  volume.hook = (_operation, offset) => {
    started.push(offset / 512);
    return new Promise((resolve) => {
      release.push(resolve);
    });
  };
  const send = (lba: number, attribute: number) =>
    initiator.sendCommand(cdb10(WRITE, lba, 1), { write: Buffer.alloc(512), attribute });
  const itts = [send(0, 1), send(1, 1), send(2, 2), send(3, 1), send(4, 3)];
  await until(() => started.length === 3, 'two, and the head of the queue');
  t.deepEqual(started, [0, 1, 4]);
  for (const resolve of release.splice(0)) resolve();
  await until(() => started.length === 4, 'the ordered one');
  t.is(started[3], 2);
  release.pop()!();
  await until(() => started.length === 5, 'the last');
  release.pop()!();
  for (const itt of itts) t.is((await initiator.finish(itt)).status, 0);
  volume.hook = undefined;
  t.is((await initiator.command(TEST_UNIT_READY, { attribute: 4 })).asc, 0x4900, 'ACA is not supported');
});

test('what a volume does is told: its size, and its end', async (t) => {
  const { open, provider } = await serve(t);
  const initiator = await open();
  provider.resize('tank/vm0', 32 << 20);
  t.is((await initiator.answerFor(RESERVED_TAG)).bhs[36], AsyncEvent.SCSI);
  t.is(await outcome(initiator, TEST_UNIT_READY), '02 6/2a09');
  t.is((await initiator.command(cdb10(0x25, 0, 0), { read: 8 })).data.readUInt32BE(0), (32 << 11) - 1);
  t.is(await outcome(initiator, cdb10(READ, 32 << 11, 1), { read: 512 }), '02 5/2100');
  provider.destroy('tank/vm0');
  const message = await initiator.answerFor(RESERVED_TAG);
  t.is(message.opcode, Opcode.ASYNC_MESSAGE);
  t.is(message.bhs[36], AsyncEvent.SESSION_DROPS);
  await initiator.ended();
});

test('the end of the server: what runs is answered and flushed, and initiators are told', async (t) => {
  const { open, provider, server } = await serve(t);
  const initiator = await open();
  const volume = provider.volumes.get('tank/vm0')!;
  let release = () => {};
  volume.hook = (operation) =>
    operation === 'write'
      ? new Promise((resolve) => {
          release = resolve;
        })
      : undefined;
  const itt = initiator.sendCommand(cdb10(WRITE, 0, 1), { write: Buffer.alloc(512, 1) });
  await until(() => server.metrics.inFlight === 1, 'it runs');
  const closed = server.close();
  setTimeout(() => release(), 50);
  t.is((await initiator.answerFor(RESERVED_TAG)).opcode, Opcode.ASYNC_MESSAGE);
  t.is((await initiator.finish(itt)).status, 0);
  await closed;
  await initiator.ended();
  t.is(volume.calls.flush, 1);
});

test('several LUNs behind one target, and what is no LUN', async (t) => {
  const name = 'iqn.2026-11.io.zow:vms';
  const luns = new Map([
    [0, { volume: 'tank/vm0' }],
    [5, { volume: 'tank/vm5', readOnly: true }],
    [9, { volume: 'tank/none' }],
  ]);
  const { open, provider, address } = await serve(t, { server: { targets: [{ name, luns, blockBytes: 4096 }] } });
  provider.add('tank/vm5', 1 << 20);
  const initiator = await open({ target: name });
  const report = await initiator.command(Buffer.from([0xa0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0]), { read: 256 });
  t.deepEqual([...report.data.subarray(0, 4)], [0, 0, 0, 24]);
  t.deepEqual(
    [8, 16, 24].map((at) => parseLun(report.data.subarray(at, at + 8))),
    [0, 5, 9],
  );
  t.is((await initiator.command(cdb10(0x25, 0, 0), { read: 8 })).data.readUInt32BE(4), 4096);
  await initiator.settle(5);
  t.is(await outcome(initiator, cdb10(WRITE, 0, 1), { lun: 5, write: Buffer.alloc(4096) }), '02 7/2700');
  t.is(await outcome(initiator, TEST_UNIT_READY, { lun: 9 }), '02 5/2500', 'its volume is not there');
  t.is(await outcome(initiator, TEST_UNIT_READY, { lun: 3 }), '02 5/2500');
  const absent = await initiator.command(Buffer.from([0x12, 0, 0, 0, 96, 0]), { lun: 3, read: 96 });
  t.is(absent.data[0], 0x7f);
  provider.add('tank/none', 1 << 20);
  await initiator.settle(9);
  provider.destroy('tank/vm5');
  t.is(await outcome(initiator, TEST_UNIT_READY), '02 6/3f0e');
  t.is(await outcome(initiator, TEST_UNIT_READY, { lun: 5 }), '02 5/2500');
  const refused = await Initiator.connect(address);
  t.is(await refused.login({ target: vm0 }), 0x0203, 'a volume of a target has none of its own');
  t.is(parseLun(Buffer.from([0x40, 7, 0, 0, 0, 0, 0, 0])), 7);
  for (const odd of ['c101000000000000', '0001000000000001', '0101000000000000', '8001000000000000']) {
    t.is(parseLun(Buffer.from(odd, 'hex')), undefined);
  }
  t.is(parseLun(encodeLun(255)), 255);
});

test('a snapshot is a read-only unit for who asks for it by name', async (t) => {
  const { open, provider, address } = await serve(t);
  provider.volumes.get('tank/vm0')!.data.fill(5);
  provider.snapshot('tank/vm0@monday');
  const initiator = await open({ target: 'iqn.2026-11.io.zow:tank/vm0@monday' });
  t.is((await initiator.command(cdb10(READ, 0, 1), { read: 512 })).data[0], 5);
  t.is(await outcome(initiator, cdb10(WRITE, 0, 1), { write: Buffer.alloc(512) }), '02 7/2700');
  const mode = await initiator.command(Buffer.from([0x1a, 8, 0x3f, 0, 255, 0]), { read: 255 });
  t.is(mode.data[2]! & 0x80, 0x80);
  const same = await Initiator.connect(address);
  t.is(await same.login({ target: 'iqn.2026-11.io.zow:tank:vm0.40monday', isid: '800000000009' }), 0);
  same.destroy();
});

test('a pool of memory that is too small for all: everybody is served in turn, nobody for ever', async (t) => {
  const { address, provider, server } = await serve(t, {
    provider: { poolBytes: 1 << 20 },
    limits: { transferBytes: 256 << 10, stallMs: 3000 },
  });
  const write = pattern(200 * 512);
  const work = async (i: number) => {
    const initiator = await Initiator.open(address, vm0, { isid: `80000000${i.toString().padStart(4, '0')}` });
    await initiator.settle();
    const lba = i * 2048;
    const send = (k: number) =>
      initiator.sendCommand(cdb10(WRITE, lba + k * 200, 200), { write, immediate: k % 2 === 0 ? 65_536 : 0 });
    let full = 0;
    const finish = async (itt: number, k: number): Promise<number> => {
      const { status } = await initiator.finish(itt, write);
      // As initiators do whose data came when there was no room at all.
      if (status !== TASK_SET_FULL || ++full > 10_000) return status;
      return finish(send(k), k);
    };
    const itts = Array.from({ length: 10 }, (_, k) => send(k));
    const statuses = [];
    for (const [k, itt] of itts.entries()) statuses.push(await finish(itt, k));
    initiator.destroy();
    return statuses;
  };
  // One asks for much, and never sends it, nor reads.
  const idle = await Initiator.open(address, vm0, { isid: '8000000000ff' });
  await idle.settle();
  for (let i = 0; i < 4; i++) idle.sendCommand(cdb10(WRITE, i, 400), { write: Buffer.alloc(400 * 512), immediate: 0 });
  const statuses = (await Promise.all(Array.from({ length: 8 }, (_, i) => work(i)))).flat();
  t.deepEqual(new Set(statuses), new Set([0]));
  t.true(provider.buffers.leasedBytes <= 1 << 20);
  t.true(server.stashedBytes <= 1 << 18);
  idle.destroy();
});

test('initiators that vanish in the middle of anything leave nothing behind', async (t) => {
  const { address, provider } = await serve(t);
  provider.volumes.get('tank/vm0')!.hook = () => new Promise((resolve) => setTimeout(resolve, 5));
  for (let i = 0; i < 40; i++) {
    const initiator = await Initiator.open(address, vm0, { isid: `80000000${i.toString().padStart(4, '0')}` });
    initiator.sendCommand(cdb10(READ, 0, 1024), { read: 1024 * 512 });
    initiator.sendCommand(cdb10(WRITE, 0, 1024), { write: Buffer.alloc(1024 * 512) });
    const bhs = initiator.bhs(Opcode.SCSI_COMMAND, Flag.FINAL | Flag.WRITE | 1);
    bhs.writeUInt32BE(65_536, 20);
    bhs.set(cdb16(0x8a, 0, 128), 32);
    const pdu = encodePdu(bhs, Buffer.alloc(65_536));
    initiator.socket.write(pdu.subarray(0, 48 + ((i * 1733) % 65_536)));
    await new Promise((resolve) => setTimeout(resolve, i % 7));
    initiator.destroy();
  }
  t.pass(); // the fixture looks
});
