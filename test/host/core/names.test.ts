import test from 'ava';
import { Errno } from '../../../host/errno.ts';
import { decodeNativeNvlist } from '../../../host/nvlist/native.ts';
import { TestCore } from './fixture.ts';

/** Names that libzfs refuses, and upstream's ioctls and channel programs take (wasm/core/mended/checked.c). */

const zpl = { version: 5n, normalization: 0n, utf8only: 0n, casesensitivity: 0n };

test('what is renamed to a snapshot is none', async (t) => {
  const core = await TestCore.load();
  t.teardown(() => core.core.close());
  const session = await core.open();
  await core.createPool(session);
  for (const name of ['tank/a', 'tank/b'])
    await session.must('CREATE', { cmd: { name }, src: { type: 2, props: zpl }, dstRoom: 4096 });
  for (const name of ['tank/a', 'tank/b'])
    t.is((await session.ioctl('RENAME', { cmd: { name, value: 'tank@s' } })).errno, Errno.EINVAL);
  await session.must('RENAME', { cmd: { name: 'tank/a', value: 'tank/c' } });
  await session.must('RENAME', { cmd: { name: 'tank/b', value: 'tank/c/b' } });
});

test('a channel program makes no snapshot of a name that no command could say', async (t) => {
  const core = await TestCore.load();
  t.teardown(() => core.core.close());
  const session = await core.open();
  await core.createPool(session);
  const run = async (program: string) => {
    const limits = { instrlimit: 10_000n, memlimit: 1n << 20n };
    const { dst } = await session.must('CHANNEL_PROGRAM', {
      cmd: { name: 'tank' },
      src: { program: `return ${program}`, arg: {}, ...limits },
      dstRoom: 65536,
    });
    return Number(decodeNativeNvlist(Buffer.from(dst)).get('return'));
  };
  t.is(await run('zfs.sync.snapshot("tank@s")'), 0);
  for (const name of ['a/b', 'a@b', 'a b?', ''])
    for (const program of [`snapshot("tank@${name}")`, `rename_snapshot("tank", "s", "${name}")`])
      t.is(await run(`zfs.sync.${program}`), Errno.EINVAL, program);
  t.is(await run('zfs.sync.rename_snapshot("tank", "s", "t")'), 0);
});
