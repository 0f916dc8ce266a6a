import { randomBytes } from 'node:crypto';
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import test from 'ava';
import { Lab, MiB } from './host.ts';

/** Native encryption: keys come and go, streams carry ciphertext, and the disks hold none of the data. */

const marker = Buffer.from('ZoW end-to-end: this line must not be on a disk. ');

/** A file with a key; its URI for keylocation. */
function keyFile(lab: Lab, name: string, content: string | Buffer): string {
  const path = join(lab.directory, name);
  writeFileSync(path, content);
  return `file://${path}`;
}

function holds(lab: Lab, disk: string): boolean {
  return readFileSync(join(lab.disks, disk)).includes(marker);
}

test('a volume is ciphertext on disk, and unavailable without its key', async (t) => {
  const lab = await Lab.withPool(t, undefined, '-O', 'compression=off');
  const location = keyFile(lab, 'raw', randomBytes(32));
  const key = ['-o', 'encryption=on', '-o', 'keyformat=raw', '-o', `keylocation=${location}`];
  await lab.zfs('create', ...key, '-V', '32M', 'tank/secret');
  await lab.zfs('create', '-V', '32M', 'tank/plain');
  const data = Buffer.alloc(MiB, marker);
  const client = await lab.open('tank/secret');
  t.is((await client.writeAt(0, data)).errno, 0);
  t.regex(await lab.fails('zfs', 'unload-key', 'tank/secret'), /is busy/, 'a client holds it');
  t.true((await client.readAt(0, data.length)).equals(data));
  client.destroy();
  await lab.zpool('sync', 'tank');
  t.false(holds(lab, 'a'), 'nothing of it is on disk');
  const plain = await lab.open('tank/plain');
  await plain.writeAt(0, data);
  plain.destroy();
  await lab.zpool('sync', 'tank');
  t.true(holds(lab, 'a'), 'the search finds what is not encrypted');

  t.is(await lab.get('tank/secret', 'encryption'), 'aes-256-gcm');
  t.is(await lab.get('tank/secret', 'keystatus'), 'available');
  await lab.zpool('export', 'tank');
  await lab.zpool('import', '-d', lab.disks, 'tank');
  t.is(await lab.get('tank/secret', 'keystatus'), 'unavailable');
  const locked = { message: /tank\/secret is encrypted, and its key is not loaded, or does not fit: EACCES/ };
  await t.throwsAsync(lab.open('tank/secret'), locked, 'no export without a key');
  keyFile(lab, 'raw', randomBytes(32));
  t.regex(await lab.fails('zfs', 'load-key', 'tank/secret'), /Incorrect key provided/);
  await t.throwsAsync(lab.open('tank/secret'), locked, 'nor with one that does not fit');
  await t.throwsAsync(lab.open('tank/none'), { message: /there is no volume tank\/none: ENOENT/ });
  await t.throwsAsync(lab.open('tank'), { message: /tank is not a volume: ENOENT/ });
  await lab.zfs('set', 'volmode=none', 'tank/plain');
  await t.throwsAsync(lab.open('tank/plain'), { message: /tank\/plain has volmode=none: ENXIO/ });
  await lab.finish('tank');
});

test('a volume has its content again once its key is loaded', async (t) => {
  const lab = await Lab.withPool(t, undefined, '-O', 'compression=off');
  const location = keyFile(lab, 'phrase', 'correct horse battery\n');
  await lab.zfs(
    'create',
    '-o',
    'encryption=aes-128-ccm',
    '-o',
    'keyformat=passphrase',
    '-o',
    `keylocation=${location}`,
    'tank/e',
  );
  await lab.zfs('create', '-V', '32M', 'tank/e/v');
  const data = Buffer.alloc(MiB, marker);
  const before = await lab.open('tank/e/v');
  await before.writeAt(4 * MiB, data);
  before.destroy();
  await lab.stop();
  await lab.start();
  await lab.zpool('import', '-d', lab.disks, 'tank');
  await t.throwsAsync(lab.open('tank/e/v'));
  await lab.zfs('load-key', '-r', 'tank/e');
  const after = await lab.open('tank/e/v');
  t.true((await after.readAt(4 * MiB, data.length)).equals(data));
  after.destroy();
  await lab.finish('tank');
});

test('filesystems: keys are loaded, unloaded, changed and inherited', async (t) => {
  const lab = await Lab.withPool(t, undefined, '-O', 'compression=off');
  const phrase = keyFile(lab, 'phrase', 'correct horse battery\n');
  await lab.zfs('create', '-o', 'encryption=on', '-o', 'keyformat=passphrase', '-o', `keylocation=${phrase}`, 'tank/e');
  await lab.zfs('create', 'tank/e/child');
  t.is(await lab.get('tank/e/child', 'encryptionroot'), 'tank/e');
  t.is(await lab.get('tank/e', 'pbkdf2iters'), '350000');
  t.regex(await lab.zfs('userspace', '-n', 'tank/e'), /POSIX User\s+0\s/);
  await lab.zfs('unload-key', '-r', 'tank/e');
  t.is(await lab.get('tank/e/child', 'keystatus'), 'unavailable');
  t.regex(await lab.fails('zfs', 'create', 'tank/e/no'), /key is not loaded/);
  t.regex(await lab.fails('zfs', 'userspace', 'tank/e'), /permission denied/);
  await lab.zfs('snapshot', '-r', 'tank/e@without-key');
  t.regex(await lab.zfs('get', 'all', 'tank/e'), /keyformat\s+passphrase/);
  const wrong = await lab.run('zfs', ['load-key', '-L', 'prompt', 'tank/e'], { input: 'wrong wrong\n' });
  t.not(wrong.code, 0);
  t.regex(wrong.stderr, /Incorrect key provided for 'tank\/e'/);
  const right = await lab.run('zfs', ['load-key', '-L', 'prompt', 'tank/e'], { input: 'correct horse battery\n' });
  t.is(right.code, 0, right.stderr);
  const hex = keyFile(lab, 'hex', randomBytes(32).toString('hex'));
  await lab.zfs('change-key', '-o', 'keyformat=hex', '-o', `keylocation=${hex}`, 'tank/e');
  await lab.zfs('unload-key', 'tank/e');
  t.regex(await lab.fails('zfs', 'load-key', '-L', phrase, 'tank/e'), /./, 'the old key is no key any more');
  await lab.zfs('load-key', 'tank/e');
  t.is(await lab.get('tank/e/child', 'keystatus'), 'available');
  await lab.finish('tank');
});

test('raw send | receive: the other pool gets ciphertext, and the key opens it', async (t) => {
  const lab = await Lab.withPool(t, undefined, '-O', 'compression=off');
  await lab.zpool('create', '-O', 'compression=off', 'backup', lab.disk('b'));
  const location = keyFile(lab, 'raw', randomBytes(32));
  await lab.zfs('create', '-o', 'encryption=on', '-o', 'keyformat=raw', '-o', `keylocation=${location}`, 'tank/e');
  await lab.zfs('create', 'tank/e/fs');
  await lab.zfs('create', '-V', '32M', 'tank/e/v');
  const data = Buffer.alloc(MiB, marker);
  const client = await lab.open('tank/e/v');
  await client.writeAt(0, data);
  await lab.zfs('snapshot', '-r', 'tank/e@one');
  await client.writeAt(2 * MiB, data);
  client.destroy();
  await lab.zfs('snapshot', '-r', 'tank/e@two');
  await lab.zfs('unload-key', '-r', 'tank/e');

  for (const script of [
    'zfs send -w -R tank/e@one | tee stream | zfs receive -u backup/e',
    'zfs send -w -R -i @one tank/e@two | zfs receive -u backup/e',
  ]) {
    const result = await lab.shell(script);
    t.is(result.code, 0, `${script}\n${result.stderr}`);
  }
  t.false(readFileSync(join(lab.directory, 'stream')).includes(marker));
  t.is(await lab.get('backup/e/v', 'keystatus'), 'unavailable');
  t.is(await lab.get('backup/e/v', 'encryptionroot'), 'backup/e');
  const plain = await lab.shell('zfs send -R tank/e@one | zfs receive -u backup/plain');
  t.not(plain.code, 0, 'without the key only raw');
  await lab.zfs('load-key', '-L', location, 'backup/e');
  const copy = await lab.open('backup/e/v');
  t.true((await copy.readAt(0, data.length)).equals(data));
  t.true((await copy.readAt(2 * MiB, data.length)).equals(data));
  copy.destroy();
  await lab.finish('tank', 'backup');
  t.false(holds(lab, 'a'));
  t.false(holds(lab, 'b'));
});

test('a key below that does not fit its root: change-key is refused, and the host goes on', async (t) => {
  const lab = await Lab.withPool(t);
  const [a, b] = [keyFile(lab, 'a', 'passphrase A\n'), keyFile(lab, 'b', 'passphrase B\n')];
  const encrypted = ['-o', 'encryption=on', '-o', 'keyformat=passphrase'];
  await lab.zpool('create', 'backup', lab.disk('b'));
  await lab.zfs('create', ...encrypted, '-o', `keylocation=${a}`, 'tank/e');
  await lab.zfs('create', '-s', '-V', '1M', 'tank/e/v');
  await lab.zfs('snapshot', 'tank/e/v@1');
  await lab.zfs('snapshot', 'tank/e/v@2');
  await lab.zfs('create', ...encrypted, '-o', `keylocation=${b}`, 'backup/e');
  await lab.zfs('create', 'backup/e/other');
  const script = `
    set -e
    zfs send -w tank/e/v@1 | zfs receive backup/e/v
    zfs load-key -L ${a} backup/e/v
    zfs change-key -i backup/e/v
    zfs send -w -i @1 tank/e/v@2 | zfs receive backup/e/v`;
  const received = await lab.shell(script);
  t.is(received.code, 0, received.stderr);
  t.is(await lab.get('backup/e/v', 'keystatus'), 'available', "its root's");
  await t.throwsAsync(lab.open('backup/e/v'), { message: /its key is not loaded, or does not fit: EACCES/ });

  const change = ['-o', 'keyformat=passphrase', '-o', `keylocation=${a}`];
  t.regex(await lab.fails('zfs', 'change-key', ...change, 'backup/e'), /Key change error/);
  t.regex(lab.hostLog, /key of 'backup\/e\/v' does not fit/, 'the host says which');
  t.regex(await lab.fails('zfs', 'change-key', '-i', 'backup'), /Key change error|not encrypted|root/i);
  await lab.zfs('destroy', '-r', 'backup/e/v');
  await lab.zfs('change-key', ...change, 'backup/e');
  await lab.zfs('unload-key', 'backup/e');
  await lab.zfs('load-key', '-L', a, 'backup/e');
  await lab.finish('tank', 'backup');
});
