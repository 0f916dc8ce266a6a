import { spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import {
  chmodSync,
  existsSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import test, { type ExecutionContext } from 'ava';
import { PROGRAMS } from '../../cli/programs.ts';
import { zowCommand } from '../../cli/zow.ts';
import schema from '../../host/config/schema.json' with { type: 'json' };
import { bashCompletion, fishCompletion, zshCompletion } from '../../packaging/completion.ts';
import { makeDeb } from '../../packaging/deb.ts';
import { configPage, zowPage } from '../../packaging/man.ts';
import { run } from '../../packaging/run.ts';
import { makeSingle } from '../../packaging/single.ts';
import { skip } from '../skip.ts';

/** What `make dist` makes. The executable itself, which takes its time, only with ZOW_LONG=1. */

const commands = () => zowCommand(() => Promise.resolve());
const names = commands().commands.map((command) => command.name());

function scratch(t: ExecutionContext): string {
  const folder = mkdtempSync(join(tmpdir(), 'zow-packages-'));
  t.teardown(() => rmSync(folder, { recursive: true }));
  return folder;
}

test('bash completes commands, options and configurations', (t) => {
  const folder = scratch(t);
  writeFileSync(join(folder, 'zow'), bashCompletion(commands()));
  writeFileSync(join(folder, 'pool.yaml'), '');
  // What bash-completion gives such functions.
  const script = `
_init_completion() { words=("\${COMP_WORDS[@]}"); cword=$COMP_CWORD; cur=\${words[cword]}; prev=\${words[cword-1]}; }
_filedir() { COMPREPLY+=($(compgen -f -X "!*.$1" -- "$cur") $(compgen -f -- "$cur")); }
_command_offset() { COMPREPLY=("offset-$1"); }
. ./zow
ask() { COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); COMPREPLY=(); _zow; echo "\${COMPREPLY[*]}"; }
ask zow ch
ask zow check --d
ask zow --socket x top -
ask zow serve po
ask zow zpool status ''
`;
  t.deepEqual(spawnSync('bash', ['-euc', script], { cwd: folder, encoding: 'utf8' }).stdout.split('\n'), [
    'check',
    '--diff',
    '-b --batch -j --json -h --help',
    'pool.yaml',
    'offset-1',
    '',
  ]);
});

test('zsh and fish know every command, and read what is made for them', (t) => {
  const folder = scratch(t);
  for (const [shell, text] of [
    ['zsh', zshCompletion(commands())],
    ['fish', fishCompletion(commands())],
  ] as const) {
    for (const name of names) t.regex(text, new RegExp(`\\b${name}\\b`), `${shell}: ${name}`);
    const file = join(folder, shell);
    writeFileSync(file, text);
    const { error, status, stderr } = spawnSync(shell, ['-n', file], { encoding: 'utf8' });
    if (error === undefined) t.is(status, 0, stderr);
  }
});

test('man pages have every command and every key, and man finds nothing wrong', (t) => {
  const folder = scratch(t);
  const pages = { 'zow.8': zowPage(commands(), '1.2.3'), 'zow.yaml.5': configPage('1.2.3') };
  for (const name of names) t.regex(pages['zow.8'], new RegExp(`^\\.SS "zow ${name}`, 'm'));
  for (const key of Object.keys(schema.properties).filter((name) => name !== 'log'))
    t.regex(pages['zow.yaml.5'], new RegExp(`(\\bfB|\\b)${key}\\b`), key);
  for (const [name, text] of Object.entries(pages)) {
    writeFileSync(join(folder, name), text);
    const { error, stderr } = spawnSync('man', ['--warnings', '-l', join(folder, name)], {
      encoding: 'utf8',
      env: { ...process.env, MANPAGER: 'cat', MANWIDTH: '120', LC_ALL: 'C.UTF-8' },
    });
    if (error !== undefined) return skip(t, 'no man here');
    t.is(stderr, '', name);
  }
});

test('the Debian package: what is in it, and what systemd thinks of the unit', (t) => {
  if (spawnSync('dpkg-deb', ['--version']).error !== undefined) return skip(t, 'no dpkg here');
  const folder = scratch(t);
  const executable = join(folder, 'executable');
  writeFileSync(executable, '#!/bin/sh\n');
  const deb = makeDeb(executable, folder);
  const root = join(folder, 'there');
  run('dpkg-deb', ['--raw-extract', deb, root]);
  const field = (name: string) => run('dpkg-deb', ['--field', deb, name]).trim();
  t.is(field('Package'), 'zow');
  t.regex(field('Depends'), /libc6 .*libatomic1/);
  t.is(readFileSync(join(root, 'DEBIAN/conffiles'), 'utf8'), '/etc/zow/zow.yaml\n');
  const licences = readFileSync(join(root, 'usr/share/doc/zow/copyright'), 'utf8');
  for (const part of [/COMMON DEVELOPMENT AND DISTRIBUTION LICENSE/i, /^pino \d/m, /^Node\.js v26[\s\S]*V8/m])
    t.regex(licences, part);
  const sums = spawnSync('md5sum', ['--check', '--quiet', 'DEBIAN/md5sums'], { cwd: root, encoding: 'utf8' });
  t.is(sums.status, 0, sums.stdout);
  for (const script of ['postinst', 'prerm', 'postrm']) {
    t.is(statSync(join(root, 'DEBIAN', script)).mode & 0o777, 0o755);
    run('sh', ['-n', join(root, 'DEBIAN', script)]);
  }
  for (const name of Object.keys(PROGRAMS)) t.true(existsSync(join(root, 'usr/lib/zow/bin', name)), `link ${name}`);
  const owners = run('dpkg-deb', ['--contents', deb]).trim().split('\n');
  t.deepEqual(
    owners.filter((line) => !/^[dl-]rwxr.xr.x root\/root|^-rw-r--r-- root\/root/.test(line)),
    [],
  );
  const config = join(root, 'etc/zow/zow.yaml');
  const checked = spawnSync(process.execPath, ['cli/main.ts', 'check', config], { encoding: 'utf8' });
  t.is(checked.status, 0, checked.stderr);
  t.regex(checked.stdout, /^socket {2}\/run\/zow\/zow\.sock\n/);

  const unit = readFileSync(join(root, 'usr/lib/systemd/system/zow.service'), 'utf8');
  t.regex(unit, /^Type=notify$/m);
  const here = join(folder, 'zow.service');
  writeFileSync(here, unit.replace('/usr/bin/zow', executable));
  chmodSync(executable, 0o755);
  const verified = spawnSync('systemd-analyze', ['verify', '--man=no', here], { encoding: 'utf8' });
  if (verified.error !== undefined) return skip(t, 'no systemd here: the unit is not verified');
  t.is(verified.stderr, '');
  t.is(verified.status, 0);
});

/** Making it takes a minute and 250 MB. */
const long = process.env.ZOW_LONG === '1';
(long ? test : () => undefined)('one executable file is the host and the programs, without Node', async (t) => {
  const folder = scratch(t);
  const zow = join(folder, 'zow');
  await makeSingle(join(folder, 'work'), zow);
  for (const name of Object.keys(PROGRAMS)) symlinkSync('zow', join(folder, name));
  const pool = { vdevs: ['a.img'], create: { size: '128M' }, volumes: { v: { size: '8M' } } };
  const file = join(folder, 'pool.yaml');
  for (const ZOW_ENGINES of ['one', 'processes']) {
    writeFileSync(file, JSON.stringify({ socket: 'zow.sock', memory: '256M', pools: { tank: pool } }));
    const env = { PATH: `${folder}:/usr/bin:/bin`, ZOW_SOCKET: join(folder, 'zow.sock'), ZOW_ENGINES };
    const host = spawn(zow, ['serve', '--hints', file], { env, stdio: ['ignore', 'pipe', 'pipe'] });
    const closed = once(host, 'close');
    t.teardown(() => host.kill('SIGKILL'));
    let log = '';
    host.stderr.setEncoding('utf8').on('data', (text: string) => {
      log += text;
    });
    let hints = '';
    for await (const text of host.stdout.setEncoding('utf8')) {
      hints += text;
      if (hints.includes('Ctrl-C')) break;
    }
    t.regex(hints, /\n {2}zpool status\n/, log);
    const run = (program: string, ...args: string[]) => spawnSync(program, args, { env, encoding: 'utf8' });
    t.is(run('zfs', 'list', '-Ho', 'name,volsize', '-t', 'volume').stdout, 'tank/v\t8M\n');
    t.is(run('zow', 'zpool', 'set', 'compatibility=openzfs-2.2-linux', 'tank').status, 0, 'shared files are in it');
    host.kill('SIGTERM');
    t.is((await closed)[0], 0, log);
  }
});
