import { chmodSync, mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import test from 'ava';
import { Lab, MiB } from '../e2e/host.ts';
import { natively } from './manual.ts';

/** zpool-status(8), zpool-list(8), zpool-iostat(8), zpool-get(8), zpool-wait(8): what is shown, as the native programs show it. */

test('status, list, iostat, get, history and wait show a pool as the natively built zpool does', async (t) => {
  const lab = await Lab.open(t);
  const [a, b, log, cache, spare] = lab.manyDisks(5, 128 * MiB) as [string, string, string, string, string];
  await lab.start();
  await lab.zpool('create', '-o', 'ashift=12', 'tank', 'mirror', a, b, 'log', log, 'cache', cache, 'spare', spare);
  await lab.zpool('offline', 'tank', b);
  await lab.zpool('sync');

  const scripts = join(lab.directory, 'scripts');
  mkdirSync(scripts);
  for (const [name, script, mode] of [
    ['where', '#!/bin/sh\n[ "$1" = -h ] && exit\necho "upath=$VDEV_UPATH"; echo "empty="\n', 0o755],
    ['plain', '#!/bin/sh\necho no title; echo never shown\n', 0o755],
    ['off', '#!/bin/sh\necho not executable\n', 0o644],
  ] as const) {
    writeFileSync(join(scripts, name), script);
    chmodSync(join(scripts, name), mode);
  }
  const run = { ZPOOL_SCRIPTS_AS_ROOT: '1', ZPOOL_SCRIPTS_PATH: scripts };
  const commands: readonly (readonly [string, NodeJS.ProcessEnv?])[] = [
    ['status -vDDpdiPst'],
    ['status -geL'],
    ['status --power tank'],
    ['status -j --json-int --json-flat-vdevs --json-pool-key-guid'],
    ['status -c where,plain,off tank', run],
    ['status -jc where', run],
    ['status -c where', { ...run, ZPOOL_SCRIPTS_AS_ROOT: '0' }],
    ['iostat -c where', { ...run, ZPOOL_SCRIPTS_ENABLED: '0' }],
    ['status -T x tank'],
    ['status tank', { ZPOOL_VDEV_NAME_GUID: '1' }],
    ['status tank', { ZPOOL_VDEV_NAME_PATH: '1', ZPOOL_VDEV_NAME_FOLLOW_LINKS: '1' }],
    ['status tank', { ZFS_COLOR: '1' }],
    ['list -HgLpPv'],
    ['list -jv --json-int'],
    ['list -o name,size,foo'],
    ['list -o name,feature@lz4_compress,health tank'],
    ['get -j --json-pool-key-guid all tank'],
    ['get -Hp -o value,source size,ashift tank'],
    ['get all tank mirror-0'],
    ['get nosuch tank'],
    ['history -il tank'],
    ['iostat -rw tank'],
    ['iostat -lq nopool'],
    ['iostat -rHp tank'],
    ['wait -Hp -t scrub,resilver tank 1'],
    ['wait -t nosuch tank'],
    ['version -j'],
    ['events -v'],
  ];
  for (const [line, vars = {}] of commands) {
    const args = line.split(' ');
    const both = async () => [await lab.run('zpool', args, { vars }), await natively(lab, 'zpool', args, { vars })];
    let [ours, theirs] = await both();
    // What a pool allocates and counts changes by itself between the two.
    for (let i = 0; i < 5 && ours!.stdout !== theirs!.stdout; i++) [ours, theirs] = await both();
    t.deepEqual(ours, theirs, line);
  }
  t.regex(await lab.zpool('status', 'tank'), /One or more devices has been taken offline[\s\S]*d1 +OFFLINE/);
  const stamped = await lab.zpool('list', '-T', 'u', '-Ho', 'name', 'tank', '1', '2');
  t.regex(stamped, /^\d{10}\ntank\n\d{10}\ntank\n$/);
  t.is((await lab.zpool('iostat', '-yn', 'tank', '0.1', '3')).match(/capacity/g)?.length, 1);
  for (const flags of ['-v', '-lqv', '-w', '-r', '-gHLpPv']) t.regex(await lab.zpool('iostat', flags), /\S/, flags);
  const own = await lab.run('zpool', ['status', '-c', 'media,upath', 'tank'], { vars: { ZPOOL_SCRIPTS_AS_ROOT: '1' } });
  t.regex(own.stdout, /media +upath\n[\s\S]*d0 +ONLINE +0 +0 +0 +file +\S+d0\n/, 'the scripts that come with ZoW');
});
