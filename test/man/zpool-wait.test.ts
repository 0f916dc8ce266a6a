import test from 'ava';
import { Lab, MiB, noise, until } from '../e2e/host.ts';
import { promises, typed } from './manual.ts';

/** zpool-wait(8), zpool-resilver(8), zpool-events(8), and the intervals of zpool-list(8) and zpool-iostat(8). */

/** Starts `zpool LINE`. Its output when it has ended, which it must do with 0. */
function started(lab: Lab, line: string) {
  const child = lab.spawn('zpool', line.split(' '));
  let stdout = '';
  let ended = false;
  child.stdout!.on('data', (text: Buffer) => {
    stdout += text;
  });
  const end = new Promise<string>((resolve, reject) => {
    child.on('close', (code) => {
      ended = true;
      if (code === 0) resolve(stdout);
      else reject(new Error(`zpool ${line} -> ${code}\n${stdout}`));
    });
  });
  end.catch(() => {}); // whoever waits for it sees it
  return { end, seen: () => stdout, ended: () => ended };
}

test('zpool wait ends when what it waits for ceases: done, paused, cancelled, or the pool is gone', async (t) => {
  const lab = await Lab.open(t);
  const [a, b, c] = lab.manyDisks(3, 256 * MiB) as [string, string, string];
  // A scan that is held back is in progress for as long as a test needs it.
  await lab.start({ config: { zed: false, tunables: { zfs_scan_suspend_progress: 1 } } });
  const zpool = typed(lab);
  await zpool(`create -o ashift=12 tank mirror ${a} ${b}`);
  await lab.zfs('create', '-s', '-V', '64M', 'tank/v');
  const client = await lab.open('tank/v');
  for (let at = 0; at < 32; at++) await client.writeAt(at * MiB, noise(MiB, at));
  client.destroy();
  await zpool('sync');

  t.is(await zpool('wait tank'), '', 'nothing goes on');
  await zpool('scrub tank');
  const shown = started(lab, 'wait -Hp -t scrub tank 0.2');
  const all = started(lab, 'wait tank');
  const other = started(lab, 'wait -t resilver,initialize,trim,replace,remove,discard,raidz_expand tank');
  t.is(await other.end, '', 'it waits for nothing else');
  await until('lines are shown', () => shown.seen().split('\n').length > 2);
  t.regex(shown.seen(), /^\t\d+\n\t\d+\n/, 'bytes that are left');
  t.false(shown.ended());
  await zpool('scrub -p tank');
  await Promise.all([shown.end, all.end]);
  await zpool('scrub tank');
  const cancelled = started(lab, 'wait -t scrub tank');
  const timed = started(lab, 'wait -T u -t scrub tank 0.2');
  await until('time stamps', () => /^\d{10}$/m.test(timed.seen()));
  t.false(cancelled.ended());
  await zpool('scrub -s tank');
  await Promise.all([cancelled.end, timed.end]);

  // zpool resilver starts one anew that is under way, and says why it cannot when there is none to do.
  await zpool(`attach tank ${a} ${c}`);
  const resilver = started(lab, 'wait -t resilver tank');
  const replace = started(lab, 'wait -t replace tank');
  t.is(await replace.end, '');
  await zpool('resilver tank');
  t.regex(await zpool('status tank'), /resilver in progress/);
  t.false(resilver.ended());
  await lab.zow('tunable', 'zfs_scan_suspend_progress=0');
  await resilver.end;
  t.regex(await zpool('status tank'), /resilvered [\s\S]*errors: No known data errors/);
  await zpool('resilver tank');
  await zpool('wait tank');

  await lab.zow('tunable', 'zfs_scan_suspend_progress=1');
  await zpool('scrub tank');
  const gone = started(lab, 'wait -t scrub tank');
  await until('it waits', async () => /scrub in progress/.test(await zpool('status tank')));
  await zpool('export tank');
  await gone.end;
  await promises(t, lab, 'zpool', [
    ['wait tank', 1, /no such pool/],
    ['wait', 2, /missing 'pool' argument/],
    ['wait -t scrub,x tank', 2, /invalid activity 'x'/],
    ['wait tank 0', 2, /interval cannot be zero/],
    ['resilver', 2, /missing pool name argument/],
    ['resilver nosuch', 1, /no such pool/],
    ['events nosuch', 0, /^TIME/],
    ['events -x', 2, /invalid option 'x'/],
    ['list nosuch 1 1', 1, /no such pool/],
    ['iostat 1 1 1', 1, /Unable to parse pools\/vdevs list/],
  ]);
});

test('list and iostat repeat at their interval, as often as asked, and go on when pools come and go', async (t) => {
  const lab = await Lab.open(t);
  const [a, b] = lab.manyDisks(2, 128 * MiB) as [string, string];
  await lab.start({ config: { zed: false } });
  const zpool = typed(lab);
  await zpool(`create one ${a}`);
  const list = started(lab, 'list -Ho name 0.2 15');
  const iostat = started(lab, 'iostat -Hy 0.2 15');
  await until('the first pool is listed', () => list.seen().includes('one\n'));
  await zpool(`create two ${b}`);
  await until('the second, too', () => list.seen().includes('two\n') && /^two\t/m.test(iostat.seen()));
  t.regex(await list.end, /^(one\n)+(one\ntwo\n)+$/);
  t.regex(await iostat.end, /^one\t[\s\S]*^two\t/m);
  t.is((await zpool('list -Ho name one 0.1 3')).split('\n').length, 3);
  for (const flags of ['-w', '-r', '-lq', '-vHp', '-T d', '-yn']) {
    const twice = await zpool(`iostat ${flags} one two 0.1 2`);
    t.true(twice.split('\n').length > 2, flags);
  }
});
