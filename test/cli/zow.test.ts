import { spawnSync } from 'node:child_process';
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import test from 'ava';

const main = fileURLToPath(new URL('../../cli/main.ts', import.meta.url));

function zow(...args: string[]) {
  const { status, stdout, stderr } = spawnSync(process.execPath, [main, ...args], {
    encoding: 'utf8',
    env: { ...process.env, ZOW_SOCKET: '/run/zow/zow.sock' },
  });
  return { status, stdout, stderr };
}

const folder = mkdtempSync(join(tmpdir(), 'zow-cli-'));
test.after.always(() => rmSync(folder, { recursive: true }));

function config(name: string, text: string): string {
  const file = join(folder, name);
  writeFileSync(file, text);
  return file;
}

test('help is complete', (t) => {
  // What is printed is the interface: who changes it changes test/cli/help.txt with it.
  const shown = [
    ['--help'],
    ['serve', '--help'],
    ['check', '--help'],
    ['status', '--help'],
    ['kstat', '--help'],
    ['tunable', '--help'],
    ['events', '--help'],
    ['top', '--help'],
    ['attach', '--help'],
    ['attachments', '--help'],
    ['detach', '--help'],
  ].map((args) => {
    const { status, stdout, stderr } = zow(...args);
    t.is(status, 0);
    t.is(stderr, '');
    return `$ zow ${args.join(' ')}\n${stdout}`;
  });
  t.is(shown.join('\n'), readFileSync(new URL('help.txt', import.meta.url), 'utf8'));
  t.is(zow().stdout, zow('--help').stdout);
  t.is(zow('help', 'serve').stdout, zow('serve', '--help').stdout);
});

test('the version names both', (t) => {
  t.regex(zow('--version').stdout, /^zow \d+\.\d+\.\d+, OpenZFS \d+\.\d+\.\d+\n$/);
});

test('wrong command lines end with 1 and one clear line', (t) => {
  const cases: readonly (readonly [string[], string])[] = [
    [['chekc'], `zow: unknown command 'chekc'\n(Did you mean check?)\n`],
    [['serve'], `zow: missing required argument 'config'\n`],
    [['check', '--frob', 'x'], `zow: unknown option '--frob'\n`],
    [['serve', 'a', 'b'], `zow: too many arguments for 'serve'. Expected 1 argument but got 2: a, b.\n`],
    [['--socket'], `zow: option '--socket <path>' argument missing\n`],
  ];
  for (const [args, message] of cases) t.deepEqual(zow(...args), { status: 1, stdout: '', stderr: message });
});

test('check says what serve would do, and does none of it', (t) => {
  const file = config(
    'good.yaml',
    'socket: zow.sock\npools:\n  tank:\n    vdevs: [mirror, disks/a, disks/b]\n    create: { size: 1G }\n    volumes: { v: { size: 1M, sparse: true, volblocksize: 8K } }\nnbd: [{ tcp: "127.0.0.1:10809" }]\n',
  );
  const before = readdirSync(folder);
  t.deepEqual(zow('check', file), {
    status: 0,
    stdout: `socket  ${folder}/zow.sock
memory  1G
nbd     127.0.0.1:10809
pool    tank: mirror of 2; would be created
          ${folder}/disks/a: missing
          ${folder}/disks/b: missing
volume  tank/v: 1M, sparse volblocksize=8K; would be created
`,
    stderr: '',
  });
  t.deepEqual(readdirSync(folder), before);
  t.regex(zow('--socket', '/else/where', 'check', file).stdout, /^socket {2}\/else\/where\n/);
});

test('check refuses what serve would refuse', (t) => {
  const bad = config('bad.yaml', 'memory: 1M\nnbd: 7\n');
  t.deepEqual(zow('check', bad), {
    status: 1,
    stdout: '',
    stderr: `${bad}:1:9: memory: must be 256M to 4G (the core is a 32-bit program), not '1M'\n${bad}:2:6: nbd: must be a list of listeners, each with unix or tcp, not 7\n`,
  });
  const absent = config('absent.yaml', 'pools: { tank: { vdevs: [none] } }\n');
  const { status, stderr } = zow('check', absent);
  t.is(status, 1);
  t.regex(stderr, /^zow: pool 'tank' does not exist \(.*none is missing\); create: /);
  const missing = join(folder, 'missing.yaml');
  t.is(zow('check', missing).stderr, `${missing}:1:1: cannot be read: no such file or directory\n`);
  t.is(zow('serve', folder).stderr, `${folder}:1:1: is a directory; a configuration is a file, such as pool.yaml\n`);
  t.is(zow('serve', folder).status, 1);
});

test('the example is valid', (t) => {
  for (const name of readdirSync('examples').filter((entry) => entry.endsWith('.yaml'))) {
    const { status, stderr } = zow('check', join('examples', name));
    t.is(stderr, '', name);
    t.is(status, 0, name);
  }
  t.true(existsSync('examples/pool.yaml'));
});

test('a reader that goes away early is no error', (t) => {
  const { status, stderr } = spawnSync('/bin/sh', ['-c', `'${process.execPath}' '${main}' --help | head -n 1`], {
    encoding: 'utf8',
  });
  t.is(status, 0);
  t.is(stderr, '');
  const closed = spawnSync(
    '/bin/sh',
    ['-c', `{ sleep 0.3; '${process.execPath}' '${main}' --help; echo $? >&2; } | true`],
    {
      encoding: 'utf8',
    },
  );
  t.is(closed.stderr, '0\n');
});
