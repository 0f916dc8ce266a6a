import { existsSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import test from 'ava';
import { stringify } from 'yaml';
import { Lab, must, until } from './host.ts';

/** SIGHUP and `zow check --diff`: a host that serves takes over another configuration. */

const BEFORE = {
  pools: {
    tank: { vdevs: ['disks/a.img'], create: { size: '128M' }, volumes: { v: { size: '8M' }, old: { size: '1M' } } },
  },
  nbd: [{ unix: 'run/nbd.sock' }, { unix: 'run/gone.sock' }],
};

const AFTER = {
  memory: '1G',
  log: { level: 'debug' },
  tunables: { zfs_txg_timeout: 3 },
  pools: {
    tank: {
      vdevs: ['disks/a.img'],
      properties: { comment: 'reloaded' },
      volumes: { v: { size: '16M' }, new: { size: '2M', compression: 'lz4' } },
    },
    more: { vdevs: ['disks/b.img'], create: { size: '128M' }, volumes: { w: { size: '4M' } } },
  },
  nbd: [{ unix: 'run/nbd.sock' }, { unix: 'run/extra.sock', exports: ['more/*'] }],
  iscsi: [{ listen: '127.0.0.1:0' }],
  http: { unix: 'run/http.sock' },
};

test('a reload does what check --diff shows, and clients that stay notice nothing', async (t) => {
  const lab = await Lab.open(t);
  const file = join(lab.directory, 'pool.yaml');
  await lab.start({ config: { ...BEFORE, zed: false } });
  const write = (config: object) =>
    writeFileSync(file, stringify({ socket: 'run/zow.sock', memory: '512M', zed: false, ...config }));
  const reload = async (end: string) => {
    const from = lab.hostLog.length;
    process.kill(lab.pid, 'SIGHUP');
    await until('the reload is over', () => lab.hostLog.slice(from).includes(end));
    return lab.hostLog.slice(from);
  };
  const stays = await lab.open('tank/v');
  await stays.writeAt(0, Buffer.alloc(4096, 7));

  write(AFTER);
  const shown = await lab.zow('check', '--diff', file);
  t.is(shown.code, 0, shown.stderr);
  t.is(
    shown.stdout,
    `change  tunable zfs_txg_timeout=3
change  pool more: created
change  volume more/w: created
change  zpool set comment=reloaded tank
change  zfs set volsize=16777216 tank/v
change  zfs create -V 2097152 -o compression=lz4 tank/new
change  nbd ${lab.directory}/run/gone.sock: closed, with its clients
change  nbd ${lab.directory}/run/extra.sock: opened
change  iscsi 127.0.0.1:0: opened
change  http ${lab.directory}/run/http.sock: opened
change  log.level: debug
start   memory: 1G at the next start; it is 512M
left    volume tank/old: not in the file any more; it is left as it is
`,
  );
  t.deepEqual(await lab.exports(), ['tank/old', 'tank/v'], 'to look changes nothing');

  const log = await reload('configuration read again');
  t.regex(log, /memory: 1G at the next start; it is 512M: only a new start changes that/);
  t.is(
    await lab.zfs('list', '-Hpo', 'name,volsize', '-t', 'volume'),
    'more/w\t4194304\ntank/new\t2097152\ntank/old\t1048576\ntank/v\t16777216\n',
  );
  t.deepEqual(await lab.exports(), ['more/w', 'tank/new', 'tank/old', 'tank/v']);
  const extra = `nbd+unix:///?socket=${lab.directory}/run/extra.sock`;
  t.regex(await must('nbdinfo', ['--list', '--json', extra]), /"more\/w"/);
  t.false(existsSync(join(lab.directory, 'run/gone.sock')));
  t.regex(log, /iscsi listening/);
  t.is(
    await must('curl', ['-s', '--unix-socket', join(lab.directory, 'run/http.sock'), 'http://localhost/readyz']),
    'ready\n',
  );
  t.is((await lab.zow('tunable', 'zfs_txg_timeout')).stdout, 'zfs_txg_timeout=3\n');
  t.deepEqual(await stays.readAt(0, 4096), Buffer.alloc(4096, 7));

  // Nothing is taken over of a file that is wrong, or contradicts what is there.
  writeFileSync(file, 'memory: [\n');
  t.regex(await reload('was not taken over'), /pool\.yaml:2:1: is not valid YAML/);
  const { tank, more } = AFTER.pools;
  const smaller = {
    ...AFTER,
    pools: { tank: { ...tank, volumes: { v: { size: '8M' }, x: { size: '1M' } } }, more },
    nbd: [],
  };
  write(smaller);
  t.regex(
    await reload('was not taken over'),
    /tank\/v has size 16M on disk, 8M in the configuration; zow makes no volume smaller/,
  );
  const refused = await lab.zow('check', '--diff', file);
  t.is(refused.code, 1);
  t.regex(refused.stderr, /^zow: volume tank\/v has size 16M on disk/);
  t.deepEqual(await lab.exports(), ['more/w', 'tank/new', 'tank/old', 'tank/v'], 'all or nothing');

  // A pool that left the file stays; clients of a listener that left it are ended.
  write({ pools: { tank: { vdevs: ['disks/a.img'] } }, nbd: [{ unix: 'run/other.sock' }] });
  t.regex(await reload('configuration read again'), /pool more: not in the file any more; it stays imported/);
  t.is(await lab.zpool('list', '-Ho', 'name'), 'more\ntank\n');
  await stays.closed();
  t.false(existsSync(lab.nbdSocket));
  await lab.stop();
  await lab.zdb('tank');
});

test('a reload reads the token of the page again; one that cannot be used changes nothing', async (t) => {
  const lab = await Lab.open(t);
  const file = join(lab.directory, 'token');
  const token = (word: string): void => writeFileSync(file, `${word}\n`, { mode: 0o600 });
  const [first, second] = ['first-of-the-tokens', 'second-of-the-tokens'];
  token(first);
  await lab.start({ config: { http: { unix: 'run/http.sock', token: file } } });
  const status = (word: string): Promise<string> =>
    must('curl', [
      ...['-s', '-o', '/dev/null', '-w', '%{http_code}', '--unix-socket', join(lab.directory, 'run/http.sock')],
      ...['-H', `Authorization: Bearer ${word}`, '--json', '{"do":"nothing"}', 'http://localhost/act'],
    ]);
  const reload = async (end: string): Promise<void> => {
    const from = lab.hostLog.length;
    process.kill(lab.pid, 'SIGHUP');
    await until('the reload is over', () => lab.hostLog.slice(from).includes(end));
  };
  t.deepEqual([await status(first), await status(second)], ['200', '401']);
  token(second);
  await reload('configuration read again');
  t.deepEqual([await status(first), await status(second)], ['401', '200']);
  token('short');
  await reload('must have 16 to 255 characters');
  t.deepEqual([await status(second), await status('short')], ['200', '401']);
  await lab.stop();
});
