import test from 'ava';
import { Errno } from '../../../host/errno.ts';
import { TestCore } from './fixture.ts';

test('a block size that no block has is no property, and no estimate of a stream is divided by it', async (t) => {
  const core = await TestCore.load();
  const session = await core.open();
  await core.createPool(session);
  const zpl = { version: 5n, normalization: 0n, utf8only: 0n, casesensitivity: 0n };
  await session.must('CREATE', { cmd: { name: 'tank/fs' }, src: { type: 2, props: zpl }, dstRoom: 65536 });
  await session.must('SNAPSHOT', { cmd: { name: 'tank' }, src: { snaps: { 'tank/fs@1': true } }, dstRoom: 65536 });
  for (const recordsize of [0n, 1n, 256n]) {
    const { errno } = await session.ioctl('SET_PROP', {
      cmd: { name: 'tank/fs' },
      src: { recordsize },
      dstRoom: 65536,
    });
    t.is(errno, Errno.ERANGE, `${recordsize}`);
  }
  await session.must('SET_PROP', { cmd: { name: 'tank/fs' }, src: { recordsize: 512n }, dstRoom: 65536 });
  await session.must('SEND_SPACE', { cmd: { name: 'tank/fs@1' }, src: {}, dstRoom: 65536 });
  await core.core.close();
});
