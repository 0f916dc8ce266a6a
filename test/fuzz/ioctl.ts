// Fuzzes the ioctl server with mutated conversations while another client watches that it is served.
//   node test/fuzz/ioctl.ts [seconds] [seed]
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { IoctlServer } from '../../host/ioctl/server.ts';
import { LaneClient, RawClient } from '../host/ioctl/client.ts';
import * as script from '../host/ioctl/conversation.ts';
import { FakeCore } from '../host/ioctl/fake-core.ts';

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
const core = new FakeCore(script.handlers, { cmdSize: script.cmdSize });
const server = await IoctlServer.listen(core, join(directory, 'zow.sock'));
// Of another process: a lane of its own session may break that session.
const witness = await LaneClient.open(server.path, { cmdSize: script.cmdSize, process: 'ee'.repeat(16) });
const steps = Buffer.concat(script.conversation());
const until = Date.now() + seconds * 1000;
let runs = 0;
for (; Date.now() < until; runs++) {
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
