// Fuzzes the ioctl server with mutated conversations while another client watches that it is served, and with streams that
// end in the middle: what a client still sends must not reach the memory that its ioctl has given back.
//   node test/fuzz/ioctl.ts [seconds] [seed]
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { encodeFrameHeader, FrameType } from '../../host/ioctl/protocol.ts';
import { IoctlServer } from '../../host/ioctl/server.ts';
import { LaneClient, RawClient } from '../host/ioctl/client.ts';
import * as script from '../host/ioctl/conversation.ts';
import { type FakeCall, FakeCore } from '../host/ioctl/fake-core.ts';

const seconds = Number(process.argv[2] ?? 60);
const seed = Number(process.argv[3] ?? Date.now() % 2 ** 32);

/** Marsaglia's xorshift32: the same seed, the same run. */
let state = seed | 1;
function random(below: number): number {
  state ^= state << 13;
  state ^= state >>> 17;
  state ^= state << 5;
  return (state >>> 0) % below;
}

function mutate(bytes: Buffer): Buffer {
  let out = Buffer.from(bytes);
  for (let edits = 1 + random(6); edits > 0; edits--) {
    const at = random(out.length);
    const kind = random(5);
    if (kind === 0) out[at] = random(256);
    else if (kind === 1)
      out.writeUInt32LE([0, 0xffffffff, 0x7fffffff, 0x10000][random(4)]!, Math.min(at, out.length - 4));
    else if (kind === 2) out = Buffer.concat([out.subarray(0, at), out.subarray(at + random(40))]);
    else if (kind === 3) out = Buffer.concat([out.subarray(0, at), out.subarray(random(at + 1))]);
    else out[at] = out[at]! ^ (1 << random(8));
    if (out.length < 8) out = Buffer.from(bytes);
  }
  return out;
}

const directory = mkdtempSync(join(tmpdir(), 'zow-fuzz-'));

/** Reads large pieces, as a receive does; what it read into is another's afterwards, and must stay as that one left it. */
const bulk = 0x5a02;
const pieceBytes = 64 * 1024;
const given: Uint8Array[] = [];
const handlers = {
  ...script.handlers,
  [bulk]: async ({ streams }: FakeCall) => {
    for (let pieces = 0; pieces < 8; pieces++) {
      const buffer = new Uint8Array(new SharedArrayBuffer(pieceBytes));
      try {
        if ((await streams.read(0, buffer)) === 0) return {};
      } finally {
        buffer.fill(0xee);
        given.push(buffer);
      }
    }
    return {};
  },
};

/** One lane streams, and the session ends in one of the ways it can while the data are on their way. */
async function streamThatEnds(path: string): Promise<void> {
  const process = random(2 ** 31)
    .toString(16)
    .padStart(32, '0');
  const first = await LaneClient.open(path, { cmdSize: script.cmdSize, process });
  const lane = await LaneClient.open(path, { cmdSize: script.cmdSize, process, attachMinor: first.reply.minor });
  lane.request(bulk);
  for (let pieces = random(4); pieces > 0; pieces--) {
    await lane.raw.frame();
    const data = Buffer.alloc(1 + random(pieceBytes), 0xaa);
    lane.raw.send(encodeFrameHeader(FrameType.streamData, 4 + data.length), Buffer.alloc(4), data);
  }
  await lane.raw.frame();
  lane.raw.send(encodeFrameHeader(FrameType.streamData, 4 + pieceBytes), Buffer.alloc(4));
  lane.raw.send(Buffer.alloc(1 + random(pieceBytes - 1), 0xaa));
  for (let turns = random(4); turns > 0; turns--) await new Promise((resolve) => setImmediate(resolve));
  const end = random(3);
  if (end === 0) first.close();
  else if (end === 1) lane.raw.socket.end();
  else lane.close();
  if (end === 0) lane.raw.send(Buffer.alloc(pieceBytes, 0xaa));
  await lane.raw.closed();
  first.close();
}

const core = new FakeCore(handlers, { cmdSize: script.cmdSize });
const server = await IoctlServer.listen(core, join(directory, 'zow.sock'));
// Of another process: a lane of its own session may break that session.
const witness = await LaneClient.open(server.path, { cmdSize: script.cmdSize, process: 'ee'.repeat(16) });
const steps = Buffer.concat(script.conversation());
const until = Date.now() + seconds * 1000;
let runs = 0;
for (; Date.now() < until; runs++) {
  if (random(4) === 0) await streamThatEnds(server.path);
  for (const buffer of given)
    if (buffer.some((byte) => byte !== 0xee))
      throw new Error(`seed ${seed}, run ${runs}: written after it was given back`);
  if (given.length > 64) given.splice(0, 32);
  const bytes = random(4) === 0 ? mutate(steps) : Buffer.concat([steps.subarray(0, 112), mutate(steps.subarray(112))]);
  const client = await RawClient.connect(server.path);
  const cut = random(bytes.length);
  client.send(bytes.subarray(0, cut));
  if (random(2) === 0) await new Promise((resolve) => setImmediate(resolve));
  client.send(bytes.subarray(cut));
  if (random(3) > 0) {
    client.socket.end();
    await client.closed();
  } else {
    client.close();
  }
  if ((await witness.ioctl(script.echo)).errno !== 0) throw new Error(`seed ${seed}, run ${runs}: the witness failed`);
}
witness.close();
await server.close('done');
if (core.open_.size !== 0) throw new Error(`seed ${seed}: ${core.open_.size} sessions are still open`);
rmSync(directory, { recursive: true });
process.stdout.write(`${runs} conversations, seed ${seed}\n`);
