import { once } from 'node:events';
import { copyFileSync, linkSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import test, { type ExecutionContext } from 'ava';
import type { Client } from '../host/nbd/client.ts';
import { Lab, MiB, noise, sleep, until } from './host.ts';

/** Disks that vanish while a pool is on them: files that are removed or replaced, block devices that are unplugged. */

async function stateOf(lab: Lab, name: string): Promise<string | undefined> {
  const status = await lab.zpool('status', 'tank');
  return [...status.matchAll(new RegExp(`^\\s+(?:\\S*/)?${name}\\s+([A-Z]+)`, 'gm'))].at(-1)?.[1];
}

function becomes(lab: Lab, name: string, state: string): Promise<void> {
  return until(`${name} is ${state}`, async () => (await stateOf(lab, name)) === state);
}

/** Writes and flushes 64 KiB pieces, one after another, until stopped; knows what was acknowledged. */
class Load {
  readonly #acknowledged = new Map<number, Buffer>();
  readonly #done: Promise<void>;
  #client: Client;
  #running = true;

  /** `again`: opens the volume anew where its pool may go back, which ends its clients. */
  constructor(client: Client, again?: () => Promise<Client>) {
    this.#client = client;
    this.#done = this.#run(again);
  }

  get count(): number {
    return this.#acknowledged.size;
  }

  async #run(again?: () => Promise<Client>): Promise<void> {
    for (let i = 0; this.#running; ) {
      const at = (i % 256) * 65536;
      const data = noise(65536, i + 1);
      const failed = await this.#writes(at, data).catch(String);
      if (failed === '') {
        this.#acknowledged.set(at, data);
        i++;
      } else if (again === undefined) {
        throw new Error(`write ${i}: ${failed}`);
      } else {
        this.#client.destroy();
        await until('the volume is there', async () => {
          this.#client = await again();
          return true;
        });
      }
    }
  }

  async #writes(at: number, data: Buffer): Promise<string> {
    const { errno } = await this.#client.writeAt(at, data);
    const flushed = await this.#client.request({ type: 3 });
    return errno === 0 && flushed.errno === 0 ? '' : `${errno}, flush: ${flushed.errno}`;
  }

  /** More is acknowledged than was. */
  async goesOn(): Promise<void> {
    const before = this.count;
    await until('writes go on', () => this.count >= Math.min(before + 5, 256));
  }

  async stop(): Promise<void> {
    this.#running = false;
    await this.#done;
  }

  /** Whether the volume holds what was acknowledged. Its last use. */
  async isAllThere(): Promise<boolean> {
    for (const [at, data] of this.#acknowledged) {
      if (!(await this.#client.readAt(at, data.length)).equals(data)) return false;
    }
    this.#client.destroy();
    return this.count > 0;
  }
}

async function pool(lab: Lab, ...vdevs: string[]): Promise<void> {
  await lab.zpool('create', '-o', 'ashift=12', '-O', 'primarycache=metadata', 'tank', ...vdevs);
  await lab.zfs('create', '-o', 'volblocksize=16K', '-V', '32M', 'tank/v');
}

async function mirror(lab: Lab, ...vdevs: string[]): Promise<Load> {
  await pool(lab, ...vdevs);
  return new Load(await lab.open('tank/v'));
}

test('a file that is removed under a mirror: degraded, I/O goes on; put back, online resilvers it', async (t) => {
  const lab = await Lab.open(t);
  const [a, b] = lab.manyDisks(2) as [string, string];
  await lab.start();
  const load = await mirror(lab, 'mirror', a, b);
  await load.goesOn();
  renameSync(b, `${b}.away`);
  await becomes(lab, 'd1', 'REMOVED');
  t.is(await stateOf(lab, 'tank'), 'DEGRADED');
  await load.goesOn();
  t.regex(await lab.zpool('status', 'tank'), /devices have been removed[\s\S]*zpool online/);
  t.regex(await lab.zpool('events'), /resource\.fs\.zfs\.removed/);
  await lab.run('zpool', ['online', 'tank', b]);
  t.is(await stateOf(lab, 'd1'), 'REMOVED', 'as long as it is away');
  renameSync(`${b}.away`, b);
  await lab.zpool('online', 'tank', b);
  await lab.zpool('wait', '-t', 'resilver', 'tank');
  t.is(await stateOf(lab, 'd1'), 'ONLINE');
  t.regex(await lab.zpool('status', 'tank'), /resilvered [1-9].* with 0 errors/);
  await load.stop();
  // Now the other one goes: what it had alone must be on this one.
  await lab.zpool('offline', 'tank', a);
  t.true(await load.isAllThere());
  await lab.zpool('online', 'tank', a);
  await lab.zpool('scrub', '-w', 'tank');
  t.regex(await lab.zpool('status', 'tank'), /repaired 0B .* with 0 errors/);
  await lab.finish('tank');
});

test('a hot spare takes the place of a removed file, and another file at its place is not taken for it', async (t) => {
  const lab = await Lab.open(t);
  const [a, b, spare, fresh] = lab.manyDisks(4) as [string, string, string, string];
  await lab.start();
  const load = await mirror(lab, 'mirror', a, b, 'spare', spare);
  await load.goesOn();
  // As an editor, or a restore, replaces a file.
  renameSync(fresh, b);
  await becomes(lab, 'd2', 'INUSE');
  t.is(await stateOf(lab, 'd1'), 'REMOVED');
  await load.stop();
  await lab.zpool('wait', '-t', 'resilver', 'tank');
  await lab.zpool('replace', '-w', 'tank', b);
  await becomes(lab, 'd2', 'AVAIL');
  t.is(await stateOf(lab, 'tank'), 'ONLINE');
  await lab.zpool('offline', 'tank', a);
  t.true(await load.isAllThere());
  await lab.zpool('online', 'tank', a);
  await lab.finish('tank');
});

test('what has the only copy stays in use without its path, and goes when it is needed no more', async (t) => {
  const lab = await Lab.open(t);
  const [a, b, c] = lab.manyDisks(3) as [string, string, string];
  await lab.start();
  const load = await mirror(lab, 'mirror', a, b);
  await load.goesOn();
  rmSync(a);
  rmSync(b);
  await until('one is removed', async () => /REMOVED/.test(await lab.zpool('status', 'tank')));
  await load.goesOn();
  const [gone, left] = (await stateOf(lab, 'd0')) === 'REMOVED' ? [a, 'd1'] : [b, 'd0'];
  t.is(await stateOf(lab, left), 'ONLINE');
  await lab.zpool('replace', '-w', 'tank', gone, c);
  await becomes(lab, left, 'REMOVED');
  t.is(await stateOf(lab, 'd2'), 'ONLINE');
  await load.stop();
  t.true(await load.isAllThere());
  await lab.zpool('detach', 'tank', left === 'd0' ? a : b);
  await lab.finish('tank');
});

test('disks of raidz, log, cache and spares that vanish', async (t) => {
  const lab = await Lab.open(t);
  const [a, b, c, log, cache, spare] = lab.manyDisks(6) as [string, string, string, string, string, string];
  await lab.start({ config: { zed: false } });
  const load = await mirror(lab, 'raidz1', a, b, c, 'log', log, 'cache', cache, 'spare', spare);
  await load.goesOn();
  for (const path of [log, cache, spare, a]) renameSync(path, `${path}.away`);
  await becomes(lab, 'd0', 'REMOVED');
  await becomes(lab, 'd4', 'REMOVED');
  await becomes(lab, 'd5', 'REMOVED');
  renameSync(b, `${b}.away`);
  await load.goesOn();
  await until('it is noticed', () => new RegExp(`${b}.*device is gone`).test(lab.hostLog));
  await load.goesOn();
  t.is(await stateOf(lab, 'd1'), 'ONLINE', 'raidz1 misses one disk, not two');
  t.is(await stateOf(lab, 'd3'), 'ONLINE', 'the only log');
  for (const path of [log, cache, spare, a, b]) renameSync(`${path}.away`, path);
  for (const path of [a, cache]) await lab.zpool('online', 'tank', path);
  // zpool online takes no spares.
  await lab.zpool('remove', 'tank', spare);
  await lab.zpool('add', 'tank', 'spare', spare);
  await lab.zpool('wait', '-t', 'resilver', 'tank');
  await load.stop();
  t.is(await stateOf(lab, 'tank'), 'ONLINE');
  t.is(await stateOf(lab, 'd5'), 'AVAIL');
  t.true(await load.isAllThere());
  await lab.finish('tank');
});

test('a disk that answers ENXIO is removed, not faulted; all of them suspend the pool until zpool clear', async (t) => {
  const lab = await Lab.open(t);
  const [a, b] = lab.manyDisks(2) as [string, string];
  const [first, second] = ['first', 'second'].map((name) => join(lab.directory, name)) as [string, string];
  const vars = {
    ZOW_FAULTS: `d0:error(errno=ENXIO,while=${first});d1:error(errno=ENXIO,while=${second})`,
  };
  await lab.start({ vars });
  await pool(lab, 'mirror', a, b);
  // The last one may be gone with what was not flushed yet: the pool goes back by as much.
  const load = new Load(await lab.open('tank/v'), () => lab.open('tank/v'));
  await load.goesOn();
  writeFileSync(first, '');
  await becomes(lab, 'd0', 'REMOVED');
  await load.goesOn();
  t.notRegex(await lab.zpool('events'), /probe_failure/);
  writeFileSync(second, '');
  await until('the pool is suspended', async () => /SUSPENDED/.test(await lab.zpool('list', '-H', 'tank')));
  await becomes(lab, 'd1', 'REMOVED');
  rmSync(first);
  rmSync(second);
  await lab.zpool('clear', 'tank');
  await load.goesOn();
  await load.stop();
  await lab.zpool('wait', '-t', 'resilver', 'tank');
  t.is(await stateOf(lab, 'tank'), 'ONLINE');
  t.true(await load.isAllThere());
  await lab.finish('tank');
});

for (const layout of [['d0'], ['mirror', 'd0', 'd1'], ['d0', 'd1']]) {
  for (const isLost of [false, true]) {
    const what = isLost ? 'have lost what was not flushed, and are gone' : 'are gone';
    test(`all copies ${what}: zpool clear fails until they are there again (${layout.join(' ')})`, async (t) => {
      const lab = await Lab.open(t);
      const disks = lab.manyDisks(2) as [string, string];
      const [away, loses] = ['away', 'loses'].map((name) => join(lab.directory, name)) as [string, string];
      const faults = ['d0', 'd1'].flatMap((disk) => [
        `${disk}:error(errno=ENXIO,while=${away})`,
        `${disk}:error(op=flush,while=${loses})`,
      ]);
      await lab.start({ vars: { ZOW_FAULTS: faults.join(';') }, config: { zed: false } });
      await pool(lab, ...layout.map((word) => (word === 'mirror' ? word : disks[Number(word.at(-1))]!)));
      const flushes = async (client: Client, at: number) => {
        t.is((await client.writeAt(at, noise(MiB, at + 1))).errno, 0);
        t.is((await client.request({ type: 3 })).errno, 0);
      };
      const isThere = async (client: Client, at: number) => (await client.readAt(at, MiB)).equals(noise(MiB, at + 1));
      const isSuspended = async () => /SUSPENDED/.test(await lab.zpool('list', '-H', 'tank'));
      const first = await lab.open('tank/v');
      await flushes(first, 0);
      await lab.zpool('sync', 'tank');
      t.is((await first.writeAt(MiB, noise(MiB, 7))).errno, 0);
      writeFileSync(isLost ? loses : away, '');
      void first.request({ type: 3 }).catch(() => undefined);
      await until('the pool is suspended', isSuspended);
      writeFileSync(away, '');
      // What nothing has in memory: it waits, and keeps the pool from going on.
      void first.readAt(0, MiB).catch(() => undefined);
      if (!isLost) await becomes(lab, 'd0', 'REMOVED');
      for (let i = 0; i < 2; i++) {
        t.regex(await lab.fails('zpool', 'clear', 'tank'), /I\/O error/);
        t.true(await isSuspended());
      }
      rmSync(away);
      if (isLost) rmSync(loses);
      await lab.zpool('clear', 'tank');
      t.is(await stateOf(lab, 'tank'), 'ONLINE');
      first.destroy();
      const second = await lab.open('tank/v');
      t.true(await isThere(second, 0));
      await flushes(second, 2 * MiB);
      second.destroy();
      await lab.kill();
      await lab.start();
      await lab.zpool('import', '-f', '-d', lab.disks, 'tank');
      const third = await lab.open('tank/v');
      t.true(await isThere(third, 0));
      t.true(await isThere(third, 2 * MiB), 'what was acknowledged after zpool clear');
      third.destroy();
      await lab.zpool('scrub', '-w', 'tank');
      t.regex(await lab.zpool('status', 'tank'), /scrub repaired 0B .* with 0 errors/);
      await lab.finish('tank');
    });
  }
}

/** A pool that is lost, whose only disk is gone, with a MiB that was flushed; `hangs` is the disk's other fault. */
async function lostAndGone(
  t: ExecutionContext<unknown>,
): Promise<{ lab: Lab; first: Client; away: string; hangs: string }> {
  const lab = await Lab.open(t);
  const [disk] = lab.manyDisks(1) as [string];
  const fault = (name: string) => join(lab.directory, name);
  const [away, loses, hangs] = [fault('away'), fault('loses'), fault('hangs')];
  // Its labels answer: it is gone as soon as something else is read.
  const gone = `error(errno=ENXIO,op=read,from=${4 * MiB},to=${120 * MiB},while=${away})`;
  const faults = [gone, `error(op=flush,while=${loses})`, `hang(op=read,while=${hangs})`];
  const vars = { ZOW_FAULTS: faults.map((rule) => `d0:${rule}`).join(';') };
  await lab.start({ vars, config: { zed: false } });
  await pool(lab, disk);
  const first = await lab.open('tank/v');
  t.is((await first.writeAt(0, noise(MiB, 1))).errno, 0);
  t.is((await first.request({ type: 3 })).errno, 0);
  await lab.zpool('sync', 'tank');
  t.is((await first.writeAt(MiB, noise(MiB, 2))).errno, 0);
  writeFileSync(loses, '');
  void first.request({ type: 3 }).catch(() => undefined);
  await until('the pool is suspended', async () => /SUSPENDED/.test(await lab.zpool('list', '-H', 'tank')));
  writeFileSync(away, '');
  void first.readAt(0, MiB).catch(() => undefined);
  await becomes(lab, 'd0', 'REMOVED');
  rmSync(loses);
  return { lab, first, away, hangs };
}

test('zpool clear of a lost pool whose disk hangs ends by a signal, or after a while, and goes back when it answers', async (t) => {
  const { lab, first, away, hangs } = await lostAndGone(t);
  writeFileSync(hangs, '');
  const interrupted = lab.spawn('zpool', ['clear', 'tank']);
  await sleep(1000);
  interrupted.kill('SIGINT');
  await once(interrupted, 'exit');
  t.regex(await lab.fails('zpool', 'clear', 'tank'), /I\/O error/);
  t.regex(await lab.zpool('list', '-H', 'tank'), /SUSPENDED/);
  rmSync(hangs);
  rmSync(away);
  await lab.zpool('clear', 'tank');
  t.is(await stateOf(lab, 'tank'), 'ONLINE');
  first.destroy();
  await lab.finish('tank');
});

test('the disk of a lost pool goes again while the pool is taken down: zpool clear goes on when it is back', async (t) => {
  const { lab, first, away } = await lostAndGone(t);
  const resumes = () => lab.hostLog.split('is being resumed').length;
  const before = resumes();
  const cleared = lab.run('zpool', ['clear', 'tank'], { timeoutMs: 60_000 });
  await until('it goes on, and is suspended again', () => resumes() > before + 1);
  rmSync(away);
  t.is((await cleared).code, 0);
  t.is(await stateOf(lab, 'tank'), 'ONLINE');
  first.destroy();
  const second = await lab.open('tank/v');
  t.true((await second.readAt(0, MiB)).equals(noise(MiB, 1)));
  second.destroy();
  await lab.zpool('scrub', '-w', 'tank');
  t.regex(await lab.zpool('status', 'tank'), /scrub repaired 0B .* with 0 errors/);
  await lab.finish('tank');
});

test('a disk that vanishes while it is offlined, replaced, detached or exported', async (t) => {
  const lab = await Lab.open(t);
  await lab.start({ config: { zed: false } });
  const commands: ((b: string, c: string) => string[])[] = [
    (b) => ['offline', 'tank', b],
    (b, c) => ['replace', '-w', 'tank', b, c],
    (b) => ['detach', 'tank', b],
    () => ['export', 'tank'],
    (b) => ['online', '-e', 'tank', b],
    () => ['reopen', 'tank'],
    () => ['scrub', '-w', 'tank'],
  ];
  for (const [i, command] of commands.entries()) {
    const [a, b, c] = lab.manyDisks(3, 128 * MiB, `${i}-`) as [string, string, string];
    await lab.zpool('create', '-o', 'ashift=12', 'tank', 'mirror', a, b);
    await lab.zfs('create', '-V', '16M', 'tank/v');
    const client = await lab.open('tank/v');
    await client.writeAt(0, noise(MiB, i));
    await client.request({ type: 3 });
    client.destroy();
    renameSync(b, `${b}.away`);
    // Over a second or so the host may notice at any point of it.
    const [verb = '', ...args] = command(b, c);
    const { stderr } = await lab.run('zpool', [verb, ...args]);
    t.notRegex(stderr, /internal|ZoW host/, verb);
    if (verb === 'export') await lab.zpool('import', '-d', lab.disks, 'tank');
    t.regex((await stateOf(lab, 'tank')) ?? '', /ONLINE|DEGRADED/, verb);
    const again = await lab.open('tank/v');
    t.true((await again.readAt(0, MiB)).equals(noise(MiB, i)), verb);
    again.destroy();
    await lab.zpool('destroy', 'tank');
  }
  await lab.stop();
});

test('another name of the same file, and writing over it in place, are no removal', async (t) => {
  const lab = await Lab.open(t);
  const [a, b] = lab.manyDisks(2) as [string, string];
  await lab.start();
  const load = await mirror(lab, 'mirror', a, b);
  await load.goesOn();
  linkSync(b, `${b}.link`);
  renameSync(b, `${b}.old`);
  renameSync(`${b}.link`, b);
  copyFileSync(a, `${a}.copy`);
  await load.goesOn();
  t.is(await stateOf(lab, 'd1'), 'ONLINE');
  t.false(lab.hostLog.includes('device is gone'));
  await load.stop();
  t.true(await load.isAllThere());
  rmSync(`${b}.old`);
  rmSync(`${a}.copy`);
  await lab.finish('tank');
});
