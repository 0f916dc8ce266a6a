import { inflateSync } from 'node:zlib';
import { decodeNativeNvlist } from '../../../host/nvlist/native.ts';
import type { TestSession } from './fixture.ts';

/** Where a receive that was interrupted goes on, of its `receive_resume_token` (zfs-send(8), -t). */
export async function resumePlace(session: TestSession, name: string): Promise<{ object: bigint; offset: bigint }> {
  const { dst } = await session.must('OBJSET_STATS', { cmd: { name }, dstRoom: 65536 });
  const [, token = ''] = /\b1-[0-9a-f]+-[0-9a-f]+-([0-9a-f]+)/.exec(Buffer.from(dst).toString('latin1'))!;
  const { pairs } = decodeNativeNvlist(inflateSync(Buffer.from(token, 'hex')));
  const value = (key: string) => pairs.find((pair) => pair.name === key)!.value as bigint;
  return { object: value('object'), offset: value('offset') };
}
