import { readFileSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import test from 'ava';
import { MiB, must, noise, root, until } from '../e2e/host.ts';
import { Manual } from './manual.ts';

/** zfs-send(8), zfs-receive(8), zfs-redact(8), zstream(8): the options that streams.test.ts does not use. */
const native = join(root, 'cli/native/bin');
/** Blocks of 16 KiB: half a block of noise, then zeroes, so that it compresses. */
function halves(lengthBytes: number, seed: number): Buffer {
  const data = noise(lengthBytes, seed);
  for (let at = 8192; at < data.length; at += 16384) data.fill(0, at, at + 8192);
  return data;
}

async function begin(m: Manual, stream: string): Promise<string> {
  return (await must(join(native, 'zstream'), ['dump', join(m.lab.directory, stream)])).replaceAll('\t', ' ');
}

test('what the options put into a stream', async (t) => {
  const m = await Manual.open(t, 'tank', 'back');
  const { lab } = m;
  const size = (file: string) => statSync(join(lab.directory, file)).size;
  await m.each(
    'create -o org.example:a=b tank/t',
    'create -s -o compression=lz4 -V 32M tank/t/v',
    'create tank/t/fs',
    'create tank/t/fs/sub',
  );
  const data = halves(4 * MiB, 1);
  await m.write('tank/t/v', 0, data);
  await m.each('snapshot -r tank/t@1', 'hold keep tank/t/v@1', 'bookmark tank/t/v@1 tank/t/v#1');
  await m.write('tank/t/v', 8 * MiB, noise(MiB, 2));
  await m.each('snapshot tank/t/v@2', 'snapshot tank/t/v@3', 'snapshot -r tank/t@4');

  await m.shell(
    'zfs send tank/t/v@1 > plain; zfs send -c tank/t/v@1 > c; zfs send -ceL tank/t/v@1 > ceL; zfs send -w tank/t/v@1 > w',
  );
  t.true(size('plain') > 4 * MiB && size('c') < 3 * MiB, `${size('plain')} ${size('c')}`);
  t.true(
    readFileSync(join(lab.directory, 'w')).equals(readFileSync(join(lab.directory, 'ceL'))),
    'raw of what is not encrypted is -Lec',
  );
  t.regex(await begin(m, 'plain'), /features = 0\n/);
  t.regex(await begin(m, 'c'), /features = [1-9a-f]\w+/);

  // Properties, backups of them, holds.
  await m.shell('zfs send -ph tank/t/v@1 > ph; zfs receive -h back/unheld < ph; zfs receive back/held < ph');
  t.is(await lab.get('back/held', 'compression'), 'lz4');
  t.deepEqual(
    (await m.lines('holds -H back/held@1 back/unheld@1')).map((line) => line.split('\t').slice(0, 2).join(' ')),
    ['back/held@1 keep'],
  );
  await m.shell('zfs send -p tank/t/v@1 | zfs receive -o compression=gzip -o org.example:c=d -x org.example:a back/o');
  t.deepEqual(await m.lines('get -Ho value,source compression,org.example:a,org.example:c back/o'), [
    'gzip\tlocal',
    '-\t-',
    'd\tlocal',
  ]);
  t.is((await m.lines('get -Ho value,received compression back/o')).join(), 'gzip\tlz4');
  await m.shell('zfs send -b back/o@1 | zfs receive back/b');
  t.is(await lab.get('back/b', 'compression'), 'lz4', '-b sends what was received, not what was set here');

  // -n, -v, -P: what would be sent, before anything is.
  t.regex(await m.zfs('send -nP tank/t/v@1'), /^full\ttank\/t\/v@1\t\d+\nsize\t\d+\n$/);
  t.regex(
    await m.zfs('send -nv -i @1 tank/t/v@4'),
    /^send from tank\/t\/v@1 to tank\/t\/v@4 estimated size is .*\ntotal estimated size is /,
  );
  t.deepEqual(
    (await m.lines('send -nP -I @1 tank/t/v@4')).map((line) => line.split('\t').slice(0, 3).join(' ')).slice(0, 3),
    ['incremental 1 tank/t/v@2', 'incremental 2 tank/t/v@3', 'incremental 3 tank/t/v@4'],
  );
  t.regex(await m.zfs('send -nP -i #1 tank/t/v@2'), /^incremental\ttank\/t\/v#1\ttank\/t\/v@2\t\d+\n/);
  t.regex(await m.zfs('send -nP -R -X tank/t/fs tank/t@4'), /^full\ttank\/t@1(?![\s\S]*fs)/);
  t.is((await m.shell('zfs send tank/t/v | zstream dump | grep toname')).trim(), 'toname = tank/t/v@--head--');
  const verbose = await lab.shell('zfs send -vP tank/t/v@1 2>&1 >/dev/null');
  t.regex(verbose.stdout, /^full\ttank\/t\/v@1\t\d+\nsize\t\d+\n/);

  // -V: ps shows how far it is, while nobody reads what it sends.
  const stalled = lab.shell(
    '{ echo $BASHPID > pid; exec zfs send -V tank/t/v@1; } | until [ -e go ]; do sleep 0.1; done; true',
  );
  const title = () => lab.shell('cat /proc/$(cat pid)/cmdline').then(({ stdout }) => stdout);
  await until('the title is set', async () => (await title()).startsWith('zfs: '));
  t.regex(await title(), /^zfs: sending tank\/t\/v@1 \(\d+%: [\d.]+[BKM]\/[\d.]+M\)/);
  writeFileSync(join(lab.directory, 'go'), '');
  await stalled;

  // Incremental from a bookmark, and from the origin of a clone.
  await m.shell('zfs send -i "#1" tank/t/v@2 | zfs receive back/held');
  t.is(await m.below('back/held'), ' @1 @2');
  await m.each('clone tank/t/v@1 tank/clone', 'snapshot tank/clone@c');
  await m.shell('zfs send -i tank/t/v@1 tank/clone@c | zfs receive -o origin=back/held@1 back/clone');
  t.is(await lab.get('back/clone', 'origin'), 'back/held@1');
  t.true((await m.read('back/clone', data.length)).equals(data));

  // -R, -s, -X and where receive puts things.
  await m.each('destroy tank/t/fs@4', 'create back/d', 'create back/e');
  const skipped = await lab.shell('zfs send -R tank/t@4 > missing');
  t.not(skipped.code, 0);
  t.regex(skipped.stderr, /tank\/t\/fs@4 missing .* -s to skip|does not exist|missing/);
  await m.shell('zfs send -Rs tank/t@4 > R; zfs receive -u -d back/d < R; zfs receive -u -e back/e < R');
  t.deepEqual((await m.below('back/d')).trim().split(' ').sort(), [
    '/t',
    '/t/v',
    '/t/v@1',
    '/t/v@2',
    '/t/v@3',
    '/t/v@4',
    '/t@1',
    '/t@4',
  ]);
  t.regex(await m.below('back/e'), /^ \/t\b/);
  await m.shell('zfs send -Rs -X tank/t/fs tank/t@4 2>/dev/null | zfs receive -uv back/x > said');
  t.regex(readFileSync(join(lab.directory, 'said'), 'utf8'), /^receiving full stream of tank\/t@1 into back\/x@1\n/);
  t.notRegex(await m.below('back/x'), /fs/);
  const dry = await lab.shell('zfs receive -nv back/new < c');
  t.is(dry.stdout, 'would receive full stream of tank/t/v@1 into back/new@1\n');
  const said = await lab.shell('zfs receive -v back/new < c');
  t.regex(
    said.stdout,
    /^receiving full stream of tank\/t\/v@1 into back\/new@1\nreceived [\d.]+[KM] stream in [\d.]+ seconds/,
  );
  const exists = await lab.shell('zfs receive back/new < c');
  t.is(exists.code, 1);
  t.regex(
    exists.stderr,
    /cannot receive new filesystem stream: destination 'back\/new' exists\nmust specify -F to overwrite it/,
  );
  await m.write('back/new', 0, noise(16384, 9));
  await m.zfs('snapshot back/new@mine');
  const more = await lab.shell('zfs send -i @1 tank/t/v@2 | zfs receive back/new');
  t.regex(more.stderr, /destination back\/new has been modified\nsince most recent snapshot/);
  await m.shell('zfs send -R -I @1 tank/t/v@4 | zfs receive -F back/new');
  t.is(await m.below('back/new'), ' @1 @2 @3 @4');
  await m.lab.finish('tank', 'back');
});

test('redacted streams', async (t) => {
  const m = await Manual.open(t, 'tank', 'back');
  const secret = noise(MiB, 3);
  const open = noise(2 * MiB, 4);
  await m.each('create -V 16M tank/v');
  await m.write('tank/v', 0, open);
  await m.write('tank/v', 4 * MiB, secret);
  await m.each('snapshot tank/v@full', 'clone tank/v@full tank/clean');
  await m.write('tank/clean', 4 * MiB, Buffer.alloc(MiB));
  await m.each('snapshot tank/clean@redact', 'redact tank/v@full book tank/clean@redact');
  t.regex(await m.lab.get('tank/v#book', 'redact_snaps'), /^\d+$/);
  await m.refuses(
    'redact tank/v@full book tank/clean@redact',
    /redaction bookmark \(book\) provided already exists/,
    17,
  );
  await m.refuses(
    'redact tank/v@full other tank/v@full',
    /redaction snapshot must be descendent of snapshot being redacted/,
    22,
  );
  await m.refuses('destroy tank/v@full', /dependent clones/);
  await m.shell('zfs send --redact book tank/v@full > redacted');
  const stream = readFileSync(join(m.lab.directory, 'redacted'));
  t.true(stream.includes(open.subarray(4096, 8192)) && !stream.includes(secret.subarray(4096, 8192)));
  // The hole before the secret is redacted with it.
  t.is(
    await m.shell('zstream dump -v < redacted | grep ^REDACT'),
    'REDACT object = 1 offset = 2097152 length = 3145728\n',
  );
  await m.shell('zfs receive back/v < redacted');
  t.regex(await m.lab.get('back/v', 'redacted'), /^(on|yes|1|-)$/);
  t.is(await m.lab.get('back/v@full', 'redact_snaps'), await m.lab.get('tank/v#book', 'redact_snaps'));
  await m.zfs('list -t all -r back');
  // An incremental from the redaction bookmark to the clone that hides the rest.
  await m.shell('zfs send -i tank/v#book tank/clean@redact | zfs receive -o origin=back/v@full back/clean');
  t.true((await m.read('back/clean', open.length)).equals(open));
  t.true((await m.read('back/clean', MiB, 4 * MiB)).equals(Buffer.alloc(MiB)));
  await m.each('destroy tank/v#book');
  await m.lab.finish('tank', 'back');
});

test('streams go to and from the natively built zstream and zdb', async (t) => {
  const m = await Manual.open(t, 'tank');
  const { lab } = m;
  const data = noise(2 * MiB, 5);
  await m.each('create -o compression=off -V 16M tank/v');
  await m.write('tank/v', 0, data);
  await m.zfs('snapshot tank/v@1');
  await m.shell('zfs send tank/v@1 > v1; zfs send -c tank/v@1 > c1');
  // The native tools read it, and what they write is received.
  await m.shell(`
    export PATH=${native}:$PATH
    zstream redup v1 > redup && cmp v1 redup
    zstream recompress -l 3 zstd < v1 > zstd
    zstream token 0-0-0-0 2> said || grep -q 'token is corrupt' said
  `);
  // Both say and write the same of the same streams.
  lab.key();
  await m.each(
    `create -V 8M -o compression=lz4 -o encryption=on -o keyformat=raw -o keylocation=file://${lab.directory}/key tank/e`,
    'create -s -V 8M -o volblocksize=512K -o compression=zstd tank/big',
  );
  for (const volume of ['tank/e', 'tank/big']) await m.write(volume, 0, halves(2 * MiB, 6));
  await m.each('snapshot tank/e@1', 'snapshot tank/big@1');
  await m.shell('zfs send -w tank/e@1 > e; zfs send tank/big@1 > big; zfs send -Lce tank/big@1 > bigc');
  await m.shell('zfs send -R tank/v@1 > R; head -c 1000000 v1 > cut; head -c 100000 /dev/urandom > noise; : > empty');
  const record = (await m.shell('zstream dump -v bigc')).match(/^WRITE.* offset = (\d+) .*/m)?.[1];
  for (const line of [
    ...['v1', 'c1', 'e', 'big', 'bigc', 'R', 'cut', 'noise', 'empty'].map((name) => `dump -v ${name}`),
    ...['dump -d bigc', 'dump -C v1', 'dump none', 'redup -v v1', 'token', 'token 1-x', 'nosuch', ''],
    ...['off', 'lz4', 'gzip-9', '-l 7 zstd', 'zle', 'nosuch'].map((how) => `recompress ${how} < v1`),
    ...[
      `decompress -v 1,${record} < bigc`,
      `decompress 1,${record},zstd < v1`,
      'decompress x',
      'recompress off < bigc',
    ],
  ]) {
    const [ours, theirs] = await Promise.all([
      lab.shell(`zstream ${line} > ours`),
      lab.shell(`${native}/zstream ${line} > theirs`),
    ]);
    t.deepEqual(ours, theirs, line);
    t.is((await lab.shell('cmp ours theirs')).code, 0, line);
  }
  await m.shell('zstream recompress off < bigc | zfs receive tank/plain');
  t.true((await m.read('tank/plain', 2 * MiB)).equals(halves(2 * MiB, 6)));
  await m.shell('zfs receive tank/zstd < zstd');
  t.true((await m.read('tank/zstd', data.length)).equals(data));
  await m.lab.zpool('export', 'tank');
  await m.shell(
    `${native}/zdb -B -e -p disks tank/$(${native}/zdb -e -p disks -d tank | sed -n 's/^Dataset tank.v@1 .ZVOL., ID \\([0-9]*\\),.*/\\1/p') > backup`,
  );
  await m.lab.zpool('import', '-d', lab.disks, 'tank');
  await m.shell('zfs receive tank/fromzdb < backup');
  t.true((await m.read('tank/fromzdb', data.length)).equals(data));
});
