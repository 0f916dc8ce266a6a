import fs from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import test from 'ava';
import { compile, run } from './module.ts';

const file = compile('wasi.c');

/** A directory of its own for each test. */
function directory(remove: (work: () => void) => void): string {
  const path = fs.mkdtempSync(join(fs.realpathSync(tmpdir()), 'zow-wasi-'));
  remove(() => fs.rmSync(path, { recursive: true, force: true }));
  return path;
}

test('files: open, read, write, seek, truncate, and their errors', async (t) => {
  const path = directory((work) => t.teardown(work));
  await run(file, 'files', path);
  t.deepEqual(fs.readdirSync(path), ['f']);
});

test('appending writes go to the end, wherever the position is', async (t) => {
  const path = directory((work) => t.teardown(work));
  await run(file, 'append', path);
  t.is(fs.readFileSync(join(path, 'a'), 'utf8'), 'one two three');
});

test('paths: relative, links, renames, and their errors', async (t) => {
  const path = directory((work) => t.teardown(work));
  fs.writeFileSync(join(path, 'target'), 'x');
  fs.utimesSync(join(path, 'target'), 1_000_000_000.5, 1_000_000_000.5);
  fs.symlinkSync('target', join(path, 'link'));
  fs.symlinkSync('loop', join(path, 'loop'));
  await run(file, 'paths', path);
  t.deepEqual(fs.readdirSync(path).sort(), ['link', 'loop', 'target']);
});

for (const count of [1, 3, 700])
  test(`a directory of ${count} is listed whole, and again after rewinddir`, async (t) => {
    const path = directory((work) => t.teardown(work));
    fs.mkdirSync(join(path, '0'));
    // Long names: the listing does not fit one buffer.
    for (let n = 1; n < count; n++) fs.writeFileSync(join(path, `${n}-${'x'.repeat(n % 200)}é`), '');
    await t.notThrowsAsync(run(file, 'directories', String(count), path));
  });

test('stdio, mappings, clocks, sleep, randomness', async (t) => {
  const path = directory((work) => t.teardown(work));
  const [seconds] = await run(file, 'others', path);
  t.true(Math.abs(Number(seconds) - Date.now() / 1000) < 10);
});
