import test, { type ExecutionContext } from 'ava';
import type { StreamChannel } from '../../../host/core/dev-zfs.ts';
import { Errno } from '../../../host/errno.ts';
import { type NvPairs, Typed } from '../nvlist/pack.ts';
import { TestCore, type TestSession } from './fixture.ts';
import { resumePlace } from './resume.ts';

/** Raw streams, and what they may be received onto. */

const zpl = { version: 5n, normalization: 0n, utf8only: 0n, casesensitivity: 0n };
const encrypted: NvPairs = {
  type: 2,
  props: { ...zpl, encryption: 8n, keyformat: 1n, keylocation: 'prompt' },
  hidden_args: { wkeydata: new Uint8Array(32) },
};

/** Descriptors: one that is written, and read from its beginning. */
class Pipe implements StreamChannel {
  readonly #parts: Buffer[] = [];
  #at = 0;

  get bytes(): Buffer {
    return Buffer.concat(this.#parts);
  }

  /** The end is missing. */
  cut(): Pipe {
    const pipe = new Pipe();
    pipe.write(1, this.bytes.subarray(0, -1024));
    return pipe;
  }

  read(_fd: number, buffer: Uint8Array): number {
    const part = this.bytes.subarray(this.#at, this.#at + buffer.length);
    buffer.set(part);
    this.#at += part.length;
    return part.length;
  }

  readRecords(fd: number, buffer: Uint8Array): number {
    return this.read(fd, buffer);
  }

  write(_fd: number, buffer: Uint8Array): undefined {
    this.#parts.push(Buffer.from(buffer));
  }

  gather(): boolean {
    return false;
  }

  drain(): Promise<void> {
    return Promise.resolve();
  }
}

/** The pool tank: tank/plain@s, and tank/secret@s, which is encrypted. */
async function load(t: ExecutionContext): Promise<TestSession> {
  const core = await TestCore.load();
  t.teardown(() => core.core.close());
  const session = await core.open();
  const disk = { type: 'file', path: core.disk('tank'), ashift: 12n, is_log: 0n };
  await session.must('POOL_CREATE', {
    cmd: { name: 'tank' },
    src: { 'feature@encryption': 0n, 'feature@extensible_dataset': 0n, 'feature@bookmark_v2': 0n },
    conf: { type: 'root', children: [disk] },
    dstRoom: 65536,
  });
  await session.must('CREATE', { cmd: { name: 'tank/plain' }, src: { type: 2, props: zpl }, dstRoom: 4096 });
  await session.must('CREATE', { cmd: { name: 'tank/secret' }, src: encrypted, dstRoom: 4096 });
  const snaps = { 'tank/plain@s': true, 'tank/secret@s': true } as const;
  await session.must('SNAPSHOT', { cmd: { name: 'tank' }, src: { snaps }, dstRoom: 4096 });
  return session;
}

/** As `zfs send` with these options, of tank/secret@s. */
async function send(session: TestSession, options: NvPairs): Promise<Pipe> {
  const streams = new Pipe();
  await session.must('SEND_NEW', { cmd: { name: 'tank/secret@s' }, src: { fd: 1, ...options }, streams });
  return streams;
}

/** As `zfs receive` with these options. */
async function receive(session: TestSession, streams: Pipe, name: string, options: NvPairs = {}): Promise<number> {
  const header = new Uint8Array(312);
  streams.read(0, header);
  const src = { snapname: `${name}@s`, begin_record: new Typed(10, header), input_fd: 0, ...options };
  return (await session.ioctl('RECV_NEW', { cmd: { name }, src, dstRoom: 65536, streams })).errno;
}

test('a raw stream is no clone of what is not encrypted', async (t) => {
  const session = await load(t);
  const raw = { rawok: true } as const;
  const clone = async (name: string, origin: string) =>
    receive(session, await send(session, raw), name, { origin, resumable: true });
  t.is(await clone('tank/bad', 'tank/plain@s'), Errno.EINVAL);
  t.is((await session.ioctl('OBJSET_STATS', { cmd: { name: 'tank/bad' }, dstRoom: 65536 })).errno, Errno.ENOENT);
  t.is(await clone('tank/good', 'tank/secret@s'), 0);
});

test('what a raw stream began no other ends, and the other way around', async (t) => {
  const session = await load(t);
  for (const [name, begun, other] of [
    ['tank/raw', { rawok: true }, {}],
    ['tank/other', {}, { rawok: true }],
  ] as const) {
    const whole = await send(session, begun);
    t.not(await receive(session, whole.cut(), name, { resumable: true }), 0);
    const { object, offset } = await resumePlace(session, name);
    const where = { resume_object: object, resume_offset: offset };
    t.is(await receive(session, await send(session, { ...other, ...where }), name), Errno.EINVAL, name);
    t.is(await receive(session, await send(session, { ...begun, ...where }), name), 0, name);
  }
});
