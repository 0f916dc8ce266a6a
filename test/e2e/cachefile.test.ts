import { existsSync } from 'node:fs';
import { join } from 'node:path';
import test from 'ava';
import { execute, Lab, root, until } from './host.ts';

/** The cache file of imported pools, by which zdb finds them: `SOCKET.cache`, or where the property `cachefile` says. */

test('zdb finds an imported pool, and the cache file goes with the last one', async (t) => {
  const lab = await Lab.open(t);
  const cache = `${lab.socket}.cache`;
  await lab.start({ config: { pools: { tank: { vdevs: ['disks/a'], create: { size: '256M' } } } } });
  await until('cache is written', () => existsSync(cache));
  await lab.zfs('create', '-s', '-V', '10M', 'tank/v');
  await lab.zpool('create', 'other', lab.disk('b'));
  await lab.zpool('sync');
  for (const pool of ['tank', 'other']) {
    const ours = await lab.run('zdb', ['-C', pool]);
    t.regex(ours.stdout, new RegExp(`name: '${pool}'`), ours.stderr);
    const native = await execute(join(root, 'cli/native/bin/zdb'), ['-C', pool], { vars: { ZOW_SOCKET: lab.socket } });
    t.regex(native.stdout, new RegExp(`name: '${pool}'`), native.stderr);
  }
  t.regex((await lab.run('zdb', ['-d', 'tank'])).stdout, /Dataset tank\/v \[ZVOL\]/);
  await lab.zpool('export', 'other');
  t.notRegex((await lab.run('zdb', ['-C'])).stdout, /name: 'other'/);

  const own = join(lab.directory, 'own.cache');
  await lab.zpool('set', `cachefile=${own}`, 'tank');
  await until('own is written', () => existsSync(own));
  await until('it has no pool any more', () => !existsSync(cache));
  t.regex((await lab.run('zdb', ['-C', 'tank'])).stdout, /name: 'tank'/);
  await lab.zpool('set', 'cachefile=', 'tank');
  await until('cache is written', () => existsSync(cache));
  await lab.stop();
  t.false(existsSync(cache));
  await lab.zdb('tank');
});

test('after a crash the cache file says what was imported', async (t) => {
  const lab = await Lab.withPool(t);
  const cache = `${lab.socket}.cache`;
  await lab.zfs('create', 'tank/a');
  await lab.zpool('sync');
  await lab.kill();
  await lab.start();
  t.regex(await lab.zpool('import', '-c', cache), /pool: tank/);
  await lab.zpool('import', '-c', cache, 'tank');
  t.is(await lab.get('tank/a', 'name'), 'tank/a');
  await lab.finish('tank');
});
