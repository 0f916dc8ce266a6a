import test from 'ava';
import fc from 'fast-check';
import {
  decodeFrameHeader,
  decodeHello,
  decodeHelloReply,
  decodeIoctlHead,
  decodeResultHead,
  encodeFailed,
  encodeFrameHeader,
  encodeHello,
  encodeHelloReply,
  encodeIoctlHead,
  encodeResultHead,
  helloBytes,
  helloReplyBytes,
  ioctlHeadBytes,
  limits,
  ProtocolError,
} from '../../../host/ioctl/protocol.ts';

const u32 = fc.integer({ min: 0, max: 0xffffffff });
const i32 = fc.integer({ min: -0x80000000, max: 0x7fffffff });
const printable = (max: number) => fc.string({ minLength: 0, maxLength: max }).filter((s) => !/\p{Cc}/u.test(s));

test('a hello survives the wire', (t) => {
  fc.assert(
    fc.property(
      u32,
      u32,
      printable(31),
      fc.uint8Array({ minLength: 16, maxLength: 16 }),
      u32,
      i32,
      u32,
      u32,
      printable(31),
      (version, cmdSize, release, identity, pid, fd, attachMinor, stdio, program) => {
        const process = Buffer.from(identity).toString('hex');
        const hello = { version, cmdSize, release, process, pid, fd, attachMinor, stdio, program };
        const bytes = encodeHello(hello);
        t.is(bytes.length, helloBytes);
        t.deepEqual(decodeHello(bytes), hello);
      },
    ),
    { numRuns: 200 },
  );
});

test('a hello reply survives the wire', (t) => {
  fc.assert(
    fc.property(u32, printable(31), u32, u32, u32, printable(119), (cmdSize, release, status, minor, pid, message) => {
      const reply = { version: 1, cmdSize, release, status, minor, payloadBytesMax: 5, pid, hostid: 7, message };
      const bytes = encodeHelloReply(reply);
      t.is(bytes.length, helloReplyBytes);
      t.deepEqual(decodeHelloReply(bytes), reply);
    }),
    { numRuns: 200 },
  );
});

test('text is cut to its field between characters, and control characters do not reach the logs', (t) => {
  const hello = {
    version: 1,
    cmdSize: 1,
    release: '',
    process: '00'.repeat(16),
    pid: 1,
    fd: 1,
    attachMinor: 0,
    stdio: 0,
  };
  t.is(decodeHello(encodeHello({ ...hello, program: 'é'.repeat(40) })).program, 'é'.repeat(15));
  t.is(decodeHello(encodeHello({ ...hello, program: 'a\nb\u001b[31m\u2028' })).program, 'a?b?[31m?');
});

test('heads survive the wire', (t) => {
  fc.assert(
    fc.property(
      u32,
      fc.integer({ min: 0, max: limits.payloadBytes }),
      fc.integer({ min: 0, max: limits.payloadBytes }),
      fc.integer({ min: 0, max: limits.historyBytes }),
      fc.integer({ min: 0, max: limits.dstRoomBytes }),
      fc.integer({ min: 0, max: limits.historyRoomBytes }),
      (request, srcBytes, confBytes, historyBytes, dstRoom, historyRoom) => {
        const head = { request, srcBytes, confBytes, historyBytes, dstRoom, historyRoom };
        const frame = ioctlHeadBytes + 13744 + srcBytes + confBytes + historyBytes;
        t.deepEqual(decodeIoctlHead(encodeIoctlHead(head), frame, 13744), head);
        t.throws(() => decodeIoctlHead(encodeIoctlHead(head), frame + 1, 13744), { instanceOf: ProtocolError });
      },
    ),
    { numRuns: 200 },
  );
  const result = { errno: 5, dstBytes: 6, historyBytes: 7 };
  t.deepEqual(decodeResultHead(encodeResultHead(result)), result);
  t.deepEqual(decodeFrameHeader(encodeFrameHeader(3, 0xffffffff)), { type: 3, length: 0xffffffff });
});

test('a head of arbitrary bytes is refused or within every limit', (t) => {
  fc.assert(
    fc.property(fc.uint8Array({ minLength: ioctlHeadBytes, maxLength: ioctlHeadBytes }), u32, (bytes, frame) => {
      try {
        const head = decodeIoctlHead(Buffer.from(bytes), frame, 13744);
        t.true(head.srcBytes <= limits.payloadBytes && head.confBytes <= limits.payloadBytes);
        t.true(head.dstRoom <= limits.dstRoomBytes && head.historyRoom <= limits.historyRoomBytes);
      } catch (error) {
        t.true(error instanceof ProtocolError);
      }
    }),
    { numRuns: 1000 },
  );
  const over = { request: 0, srcBytes: 0, confBytes: 0, historyBytes: 0, dstRoom: 0, historyRoom: 0 };
  for (const key of ['srcBytes', 'confBytes', 'historyBytes', 'dstRoom', 'historyRoom'] as const) {
    const bytes = encodeIoctlHead({ ...over, [key]: 0xffffffff });
    t.throws(() => decodeIoctlHead(bytes, 0xffffffff, 13744), { message: /limit is/ }, key);
  }
});

test('last words are bounded', (t) => {
  const bytes = encodeFailed(5, 'x'.repeat(5000));
  t.is(bytes.readUInt32LE(4), 4 + limits.messageBytes);
  t.is(bytes.length, 8 + 4 + limits.messageBytes);
});
