import { spawn } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import test from 'ava';
import { encodeFrameHeader, encodeIoctlHead, FrameType, ioctlHeadBytes } from '../../../host/ioctl/protocol.ts';
import { memoryHas } from '../../process-memory.ts';
import { hello, LaneClient } from './client.ts';

const answers = 0x5a00;
const hangs = 0x5a01;

/** An IOCTL frame whose source is `bytes` long and has `key` at its end. */
function frame(request: number, key: Buffer, bytes: number, dstRoom = 0): Buffer {
  const src = Buffer.concat([Buffer.alloc(bytes - key.length), key]);
  const head = { request, srcBytes: src.length, confBytes: 0, historyBytes: 0, dstRoom, historyRoom: 0 };
  const length = ioctlHeadBytes + hello.cmdSize + src.length;
  return Buffer.concat([
    encodeFrameHeader(FrameType.ioctl, length),
    encodeIoctlHead(head),
    Buffer.alloc(hello.cmdSize),
    src,
  ]);
}

/** Some requests lack their last byte. */
function most(key: Buffer): Buffer {
  return key.subarray(0, -1);
}

test('a key that came with a request is nowhere in the host once that is over, however it ended', async (t) => {
  const folder = mkdtempSync(join(tmpdir(), 'zow-keys-'));
  t.teardown(() => rmSync(folder, { recursive: true }));
  const socket = join(folder, 'sock');
  const script = fileURLToPath(new URL('serve-fake-core.ts', import.meta.url));
  const child = spawn(process.execPath, [script, socket], { stdio: ['pipe', 'pipe', 'inherit'] });
  const ended = once(child, 'exit');
  t.teardown(async () => {
    child.stdin.end();
    await ended;
  });
  await once(child.stdout, 'data');

  const names = [
    ...['answered', 'interrupted', 'cut, small', 'cut, large', 'no room', 'behind an answer that nobody takes'],
    'behind a broken frame',
  ];
  const keys = new Map(names.map((name) => [name, randomBytes(32)]));
  const key = (name: string): Buffer => keys.get(name)!;
  const lane = (): Promise<LaneClient> => LaneClient.open(socket);

  const first = await lane();
  first.raw.send(frame(answers, key('answered'), 100));
  await first.raw.frame();
  first.close();

  const second = await lane();
  second.raw.send(frame(hangs, key('interrupted'), 100));
  const cut = await lane();
  cut.raw.send(frame(answers, key('cut, small'), 100).subarray(0, -1));
  const large = await lane();
  large.raw.send(frame(answers, key('cut, large'), 200_000).subarray(0, -1));
  const noRoom = await lane();
  noRoom.raw.send(frame(answers, key('no room'), 1_000_000));
  const behind = await lane();
  behind.raw.socket.pause();
  behind.raw.send(frame(answers, Buffer.alloc(32), 100, 16 << 20));
  behind.raw.send(frame(answers, key('behind an answer that nobody takes'), 100));
  const broken = await lane();
  broken.raw.send(Buffer.concat([encodeFrameHeader(99, 4), key('behind a broken frame')]));

  // Until it has come, it is there: else nothing would be looked for.
  const pending = [key('interrupted'), key('cut, small'), key('cut, large')].map(most);
  for (let tries = 0; (await memoryHas(child.pid!, pending)).includes(false); tries++) {
    if (tries === 100) return t.fail('the requests did not arrive');
  }
  for (const { raw } of [second, cut, large, noRoom, behind, broken]) raw.close();
  // A last client is served after those are gone.
  let left: string[] = names;
  for (let tries = 0; left.length > 0 && tries < 20; tries++) {
    const last = await lane();
    last.raw.send(frame(answers, Buffer.alloc(32), 100));
    await last.raw.frame();
    last.close();
    const has = await memoryHas(child.pid!, [...keys.values()].map(most));
    left = names.filter((_, i) => has[i]);
  }
  t.deepEqual(left, []);
});
