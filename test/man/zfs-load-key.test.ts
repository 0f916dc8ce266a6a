import { pbkdf2Sync, randomBytes } from 'node:crypto';
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import test from 'ava';
import type { HostStatus } from '../../host/supervisor/status.ts';
import { execute, MiB, noise, root } from '../e2e/host.ts';
import { memoryHas } from '../process-memory.ts';
import { Manual } from './manual.ts';

/** zfs-load-key(8), zfs-unload-key(8), zfs-change-key(8), and "Encryption": beyond what encryption.test.ts does. */

const native = process.env.ZOW_TEST_PROGRAMS === 'native';

function keyFile(m: Manual, name: string, content: string | Buffer): string {
  const path = join(m.lab.directory, name);
  writeFileSync(path, content);
  return `file://${path}`;
}

/** Types at `zfs LINE` on a terminal; the exit code, what it showed, and whether the terminal echoed what was typed. */
async function type(
  m: Manual,
  line: string,
  script: [string, string][],
): Promise<{ code: number; shown: string; echo: boolean[] }> {
  const program = join(root, native ? 'cli/native/bin/zfs' : 'cli/bin/zfs');
  const args = [join(root, 'test/cli/terminal.py'), JSON.stringify(script), program, ...line.split(' ')];
  const { stdout } = await execute('python3', args, { vars: { ZOW_SOCKET: m.lab.socket } });
  return JSON.parse(stdout);
}

test('every format and location of a key, encryption roots, and what is refused', async (t) => {
  const m = await Manual.open(t, 'tank');
  const hex = keyFile(m, 'hex', `${randomBytes(32).toString('hex')}\n`);
  const raw = keyFile(m, 'raw', randomBytes(32));
  const phrase = keyFile(m, 'phrase', 'a passphrase\n');

  const typed = await type(m, 'create -o encryption=on -o keyformat=passphrase -o pbkdf2iters=100000 tank/p', [
    ['Enter new passphrase:', 'terminal phrase\n'],
    ['Re-enter new passphrase:', 'terminal phrase\n'],
  ]);
  t.is(typed.code, 0, typed.shown);
  t.false(typed.echo.includes(true) || typed.shown.includes('terminal phrase'), 'nothing typed is shown');
  t.is((await m.lines('get -Hpo value keylocation,pbkdf2iters,keyformat tank/p')).join(), 'prompt,100000,passphrase');
  const differ = await type(m, 'create -o encryption=on -o keyformat=passphrase tank/no', [
    ['Enter new passphrase:', 'terminal phrase\n'],
    ['Re-enter new passphrase:', 'another phrase\n'],
  ]);
  t.is(differ.code, 1);
  t.regex(differ.shown, /Provided keys do not match/);
  const suites = ['aes-128-ccm', 'aes-192-ccm', 'aes-256-ccm', 'aes-128-gcm', 'aes-192-gcm', 'aes-256-gcm'];
  for (const suite of suites.slice(0, 5)) await m.zfs(`create -o encryption=${suite} tank/p/${suite}`);
  t.deepEqual(
    [...new Set(await m.lines('get -Ho value encryptionroot -r tank/p'))],
    ['tank/p'],
    'a suite alone makes no root',
  );
  await m.each(
    `create -o encryption=on -o keyformat=hex -o keylocation=${hex} tank/p/hex`,
    `create -o encryption=on -o keyformat=raw -o keylocation=${raw} tank/p/hex/raw`,
    'create tank/p/hex/raw/child',
    'snapshot tank/p/hex/raw@s',
    'clone tank/p/hex/raw@s tank/p/clone',
  );
  t.is(await m.lab.get('tank/p/clone', 'encryptionroot'), 'tank/p/hex/raw');
  await m.refuses('create -o encryption=on tank/x', /Keyformat required for new encryption root/);
  await m.refuses('create -o keyformat=raw tank/x', /Encryption must be turned on|keyformat/);
  await m.refuses(
    `create -o encryption=on -o keyformat=raw -o keylocation=${phrase} tank/x`,
    /Raw key too short \(expected 32\)/,
  );
  await m.refuses(
    `create -o encryption=on -o keyformat=hex -o keylocation=${phrase} tank/x`,
    /Hex key too short|Invalid hex character/,
  );
  keyFile(m, 'short', 'short\n');
  await m.refuses(
    `create -o encryption=on -o keyformat=passphrase -o keylocation=file://${m.lab.directory}/short tank/x`,
    /Passphrase too short \(min 8\)/,
  );
  await m.refuses(
    `create -o encryption=on -o keyformat=passphrase -o keylocation=file:///none tank/x`,
    /Failed to open key material file|No such file/,
  );
  await m.refuses(
    'create -o encryption=on -o keyformat=passphrase -o keylocation=nowhere tank/x',
    /keylocation|Invalid keylocation/,
  );
  await m.refuses(
    `create -o encryption=on -o keyformat=passphrase -o pbkdf2iters=99999 -o keylocation=${phrase} tank/x`,
    /minimum pbkdf2 iterations is 100000/,
  );
  await m.refuses('set encryption=off tank/p', /readonly|set.*at creation/i);
  await m.refuses('set keyformat=raw tank/p', /readonly|set-once|change-key/i);
  await m.refuses(`set keylocation=${raw} tank/p/aes-128-ccm`, /keylocation/);
  await m.zfs(`set keylocation=${phrase} tank/p`);

  await m.refuses(
    'unload-key tank/p/aes-128-ccm',
    /Keys must be unloaded for encryption root of 'tank\/p\/aes-128-ccm' \(tank\/p\)/,
  );
  await m.zfs('unload-key -a');
  t.is(
    (await m.lines('get -Ho value keystatus -r -t filesystem tank/p')).filter((value) => value !== 'unavailable')
      .length,
    0,
  );
  await m.refuses('unload-key tank/p', /Key already unloaded for 'tank\/p'/);
  await m.refuses('load-key tank/p', /Incorrect key provided for 'tank\/p'/);
  const dry = await type(m, 'load-key -n -L prompt tank/p', [["Enter passphrase for 'tank/p':", 'terminal phrase\n']]);
  t.is(dry.code, 0, dry.shown);
  t.regex(dry.shown, /1 \/ 1 key\(s\) successfully verified/);
  t.is(await m.lab.get('tank/p', 'keystatus'), 'unavailable');
  const retried = await type(m, 'load-key -L prompt tank/p', [
    ['Enter passphrase', 'a wrong one\n'],
    ['Enter passphrase', 'terminal phrase\n'],
  ]);
  t.is(retried.code, 0, retried.shown);
  t.regex(retried.shown, /Incorrect key provided for 'tank\/p'/);
  await m.refuses('load-key tank/p', /Key already loaded for 'tank\/p'/);
  t.regex(await m.zfs('load-key -r tank/p/hex'), /2 \/ 2 key\(s\) successfully loaded/);
  await m.zfs('load-key -n tank/p/hex');
  await m.refuses(`load-key -r -L ${raw} tank/p`, /alternate keylocation may only be 'prompt'/, 2);
  await m.refuses('load-key tank', /Failed to load key|not encrypted/);

  // change-key: a child becomes a root, a root joins its parent again, -l loads first.
  await m.zfs(`change-key -o keyformat=raw -o keylocation=${raw} tank/p/aes-128-gcm`);
  t.is(await m.lab.get('tank/p/aes-128-gcm', 'encryptionroot'), 'tank/p/aes-128-gcm');
  await m.zfs('unload-key tank/p/aes-128-gcm');
  await m.refuses('change-key -i tank/p/aes-128-gcm', /Dataset key must be loaded|key/i);
  await m.zfs('change-key -l -i tank/p/aes-128-gcm');
  t.is(await m.lab.get('tank/p/aes-128-gcm', 'encryptionroot'), 'tank/p');
  await m.refuses('change-key -i tank/p', /Parent must be encrypted/);
  const changed = await type(m, 'change-key -o keylocation=prompt -o pbkdf2iters=200000 tank/p', [
    ["Enter new passphrase for 'tank/p':", 'changed phrase\n'],
    ['Re-enter new passphrase', 'changed phrase\n'],
  ]);
  t.is(changed.code, 0, changed.shown);
  t.is((await m.lines('get -Hpo value keylocation,pbkdf2iters tank/p')).join(), 'prompt,200000');
  await m.each('unload-key -r tank/p');
  keyFile(m, 'phrase', 'changed phrase\n');
  t.regex(await m.zfs(`load-key -L ${phrase} tank/p`), /^$/);
  t.regex(await m.zfs('load-key -a'), /2 \/ 2 key\(s\) successfully loaded/);
  await m.each('rename tank/p/hex/raw tank/raw');
  t.is(await m.lab.get('tank/raw/child', 'encryptionroot'), 'tank/raw');
  await m.refuses('rename tank/p/aes-192-ccm tank/away', /cannot move encrypted child outside of its encryption root/);
  await m.lab.finish('tank');
});

for (const engines of ['one', 'processes']) {
  test(`keys and passphrases are in no log, no trace, no panic, no history, no stream, and on no disk; engines: ${engines}`, async (t) => {
    const m = await Manual.open(t);
    const { lab } = m;
    await lab.stop();
    await execute('prlimit', ['--pid', `${process.pid}`, '--core=unlimited:']);
    await lab.start({ config: { memory: '256M' }, vars: { ZOW_ENGINES: engines, ZOW_LOG: 'trace', ZOW_TRACE: 'all' } });
    const disks = ['tank', 'back'];
    for (const pool of disks) await lab.zpool('create', '-O', 'compression=off', pool, lab.disk(pool, 96 * MiB));
    const raw = randomBytes(32);
    const hex = randomBytes(32);
    const phrases = ['first secret phrase', 'second secret phrase'];
    const marker = Buffer.from('this line must not be on a disk and in no stream ');
    const locations = [keyFile(m, 'raw', raw), keyFile(m, 'hex', hex.toString('hex'))];
    await m.zfs('create -o encryption=on -o keyformat=passphrase tank/p', { input: `${phrases[0]}\n${phrases[0]}\n` });
    await m.each(
      `create -o encryption=on -o keyformat=raw -o keylocation=${locations[0]} tank/raw`,
      `create -o encryption=on -o keyformat=hex -o keylocation=${locations[1]} -V 16M tank/hex`,
    );
    await m.write('tank/hex', 0, Buffer.alloc(MiB, marker));
    await m.zfs('snapshot tank/hex@1');
    await m.write('tank/hex', 4 * MiB, Buffer.alloc(MiB, marker));
    await m.zfs('snapshot tank/hex@2');
    await m.shell(
      'zfs send -w tank/hex@1 | tee s1 | zfs receive back/hex; zfs send -w -i @1 tank/hex@2 | tee s2 | zfs receive back/hex',
    );
    await m.zfs('change-key tank/p', { input: `${phrases[1]}\n${phrases[1]}\n` });
    await m.zfs('unload-key -a');
    await m.zfs('load-key tank/p', { input: `${phrases[1]}\n` });
    await m.refuses(`load-key -L ${locations[0]} tank/hex`, /Hex key too short/);
    await m.zfs(`load-key -L ${locations[1]} back/hex`);
    t.true((await m.read('back/hex', MiB, 4 * MiB)).equals(Buffer.alloc(MiB, marker)));
    const said = [
      await lab.zpool('history', '-il'),
      await lab.zpool('events', '-v'),
      await m.zfs('get -r all tank'),
      (await lab.run('zdb', ['-e', '-p', lab.disks, '-C', 'tank'])).stdout,
    ].join('\n');
    const salt = Buffer.alloc(8);
    salt.writeBigUInt64LE(BigInt(await lab.get('tank/p', 'pbkdf2salt')));
    const derived = pbkdf2Sync(phrases[1]!, salt, Number(await lab.get('tank/p', 'pbkdf2iters')), 32, 'sha1');
    // What is loaded is in the host's memory, and no longer than that; but in no core dump.
    const { stdout } = await lab.zow('status', '--json');
    const all = engines === 'one' ? [] : (JSON.parse(stdout) as HostStatus).engines;
    const pidOf = (pool: string) => all.find(({ pools }) => pools.includes(pool))?.pid ?? lab.pid;
    const loaded = {
      tank: await memoryHas(pidOf('tank'), [raw, hex, derived]),
      back: await memoryHas(pidOf('back'), [raw, hex, derived]),
      host: await memoryHas(lab.pid, [raw, hex, derived]),
    };
    const both = [false, true, true];
    if (engines === 'one') t.deepEqual(loaded, { tank: both, back: both, host: both }, 'raw was unloaded');
    else t.deepEqual(loaded, { tank: [false, false, true], back: [false, true, false], host: [false, false, false] });
    for (const pid of [lab.pid, pidOf('tank'), pidOf('back')])
      t.regex(readFileSync(`/proc/${pid}/limits`, 'utf8'), /^Max core file size +0 /m);
    await lab.zinject('-p', 'spa_vdev_exit', 'back');
    await lab.fails('zpool', 'add', '-f', 'back', lab.disk('more', 64 * MiB));
    if (engines === 'one') t.is(await lab.ended(), 70);
    else await lab.stop();
    t.regex(lab.hostLog, /spa_vdev_exit/);

    const texts: Record<string, Buffer> = { said: Buffer.from(said), log: Buffer.from(lab.hostLog) };
    for (const name of ['s1', 's2']) texts[name] = readFileSync(join(lab.directory, name));
    for (const name of disks) texts[name] = readFileSync(join(lab.disks, name));
    t.true(texts.log!.includes('"trace":"ioctl"') && texts.log!.includes('"trace":"wasi"'), 'everything is traced');
    t.true(texts.said!.includes('change-key'));
    const secrets = [raw, hex, derived, marker, ...phrases.map((phrase) => Buffer.from(phrase))];
    for (const secret of secrets) {
      const half = secret.subarray(0, 16);
      const forms = [
        half,
        Buffer.from(half.toString('hex')),
        Buffer.from(half.toString('hex').toUpperCase()),
        // Base64 of three alignments: what of it does not depend on what is before.
        ...[0, 1, 2].map((skip) => Buffer.from(secret.subarray(skip, skip + 12).toString('base64'))),
        Buffer.from([...half].join(',')),
      ];
      for (const [where, text] of Object.entries(texts)) {
        for (const form of forms) t.false(text.includes(form), `${where} has ${secret.toString('latin1')} as ${form}`);
      }
    }
    t.true(Buffer.concat([noise(64), marker]).includes(marker.subarray(0, 16)), 'the search finds what is there');
  });
}
