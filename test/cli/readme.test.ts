import { spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import test from 'ava';

/** Every command of the README's tour, in a folder that looks like a checkout after `make`. */

const readme = readFileSync('README.md', 'utf8');

test('the five minutes of the README', async (t) => {
  const folder = mkdtempSync(join(tmpdir(), 'zow-tour-'));
  t.teardown(() => rmSync(folder, { recursive: true }));
  mkdirSync(join(folder, 'examples'));
  mkdirSync(join(folder, 'cli/bin'), { recursive: true });
  const example = readFileSync('examples/pool.yaml', 'utf8');
  writeFileSync(join(folder, 'examples/pool.yaml'), example.replace(/127\.0\.0\.1:\d+/, '127.0.0.1:0'));
  for (const name of readdirSync('cli/bin')) symlinkSync(resolve('cli/bin', name), join(folder, 'cli/bin', name));

  const host = spawn('cli/bin/zow', ['serve', 'examples/pool.yaml'], {
    cwd: folder,
    stdio: ['ignore', 'ignore', 'pipe'],
  });
  t.teardown(() => host.kill('SIGKILL'));
  const ended = once(host, 'close');
  await new Promise<void>((done, fail) => {
    let log = '';
    host.stderr.setEncoding('utf8').on('data', (text: string) => {
      log += text;
      if (log.includes('"msg":"ready"')) done();
    });
    ended.then(() => fail(new Error(log)), fail);
  });

  const commands = [...readme.matchAll(/```sh\n([\s\S]*?)```/g)].map(([, block]) => block).join('');
  t.regex(commands, /zpool scrub/);
  const { status, stdout, stderr } = spawnSync('bash', ['-eux', '-o', 'pipefail', '-c', commands], {
    cwd: folder,
    encoding: 'utf8',
    timeout: 240_000,
  });
  t.is(status, 0, stderr);
  t.regex(stdout, /scan: scrub repaired [1-9]/);
  t.regex(stdout, /errors: No known data errors/);

  host.kill('SIGINT');
  t.is((await ended)[0], 0);
});
