import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import test, { type ExecutionContext } from 'ava';
import { Cmd } from '../../host/protocols/nbd.ts';
import type { Client } from '../host/nbd/client.ts';
import { Lab, long, MiB, noise, sleep } from './host.ts';

/** Work of one pool that goes through very many things: the clients of another are served meanwhile. */

/** With ZOW_LONG=1 as many as some pools have. */
const datasets = long ? 1000 : 50;
const rounds = long ? 100 : 10;
const dedupBytes = (long ? 1024 : 64) * MiB;

/** Does something, while a client of the other pool reads block after block; logs what it waited. */
async function beside(t: ExecutionContext, client: Client, what: string, work: () => Promise<unknown>): Promise<void> {
  const waits: number[] = [];
  const start = performance.now();
  let isOver = false;
  const over = work().finally(() => {
    isOver = true;
  });
  while (!isOver) {
    const asked = performance.now();
    await client.readAt(4096 * (waits.length % 256), 4096);
    waits.push(performance.now() - asked);
    await sleep(5);
  }
  await over;
  const seconds = (performance.now() - start) / 1000;
  waits.sort((a, b) => a - b);
  t.log(
    `${what}: ${seconds.toFixed(1)} s, ${waits.length} reads of another pool, median ${waits[waits.length >> 1]!.toFixed(1)} ms, longest ${waits.at(-1)!.toFixed(0)} ms`,
  );
  t.true(waits.length > 5 * (seconds - 1), `${what}: ${waits.length} reads in ${seconds} s`);
}

async function withNeighbour(t: ExecutionContext): Promise<{ lab: Lab; client: Client }> {
  const lab = await Lab.withPool(t, 2048 * MiB);
  await lab.zpool('create', 'other', lab.disk('b'));
  await lab.zfs('create', '-V', '16M', 'other/v');
  const client = await lab.open('other/v');
  await client.writeAt(0, Buffer.alloc(MiB, 'x'));
  return { lab, client };
}

async function finish(t: ExecutionContext, lab: Lab, client: Client): Promise<void> {
  client.destroy();
  await lab.finish('tank', 'other');
  const [, ms, fiber] = /"longestTurnMs":([\d.]+),"fiber":"([^"]*)"/.exec(lab.hostLog) ?? [];
  t.log(`the longest turn of the host: ${ms} ms, ${fiber}`);
  t.truthy(fiber);
}

test(`${datasets} file systems with ${rounds} snapshots each: made, listed, renamed, destroyed`, async (t) => {
  const { lab, client } = await withNeighbour(t);
  await lab.zow('tunable', 'zfs_lua_max_instrlimit=10000000000');
  const run = async (script: string) => {
    const { code, stdout, stderr } = await lab.shell(script, { timeoutMs: 1_200_000 });
    t.is(code, 0, stderr);
    return stdout;
  };
  await lab.zfs('create', '-u', 'tank/all');
  await beside(t, client, 'made', () => run(`for i in {1..${datasets}}; do zfs create -u tank/all/f$i || exit; done`));
  await beside(t, client, 'snapshots', () =>
    run(`for i in {1..${rounds}}; do zfs snapshot -r tank/all@s$i || exit; done`),
  );
  await beside(t, client, 'all properties', () => run('zfs get -rH -t filesystem all tank/all | wc -l'));
  await beside(t, client, 'snapshots listed', async () => {
    const listed = await run('zfs list -rH -t snapshot -o name,used,creation tank/all | wc -l');
    t.is(Number(listed), (datasets + 1) * rounds);
  });
  const count = `local function walk(d) local n = 0; for _ in zfs.list.snapshots(d) do n = n + 1 end
    for c in zfs.list.children(d) do n = n + walk(c) end return n end; return walk("tank/all")`;
  writeFileSync(join(lab.directory, 'count.zcp'), count);
  await beside(t, client, 'counted by a channel program', async () => {
    t.regex(await run('zfs program -t 10000000000 tank count.zcp'), new RegExp(`return: ${(datasets + 1) * rounds}`));
  });
  await beside(t, client, 'size of a stream of all', () => run(`zfs send -nPR tank/all@s${rounds} | tail -n 1`));
  await beside(t, client, 'held', () => run('zfs hold -r keep tank/all@s1'));
  await beside(t, client, 'released', () => run('zfs release -r keep tank/all@s1'));
  await beside(t, client, 'an inherited property', () => run('zfs set compression=zstd tank/all'));
  await beside(t, client, 'renamed', () => run('zfs rename -u tank/all tank/every'));
  await beside(t, client, 'snapshots destroyed', () => run(`zfs destroy -r tank/every@s2%s${rounds}`));
  await beside(t, client, 'all destroyed', () => run('zfs destroy -r tank/every'));
  await finish(t, lab, client);
});

test(`a deduplication table of ${dedupBytes / 4096} blocks: filled, read, walked through, given back`, async (t) => {
  const { lab, client } = await withNeighbour(t);
  await lab.zfs('create', '-s', '-V', '1G', '-o', 'volblocksize=4K', '-o', 'dedup=sha512', 'tank/v');
  const writer = await lab.open('tank/v');
  await beside(t, client, 'filled', async () => {
    for (let at = 0; at < dedupBytes; at += MiB) await writer.writeAt(at, noise(MiB, at / MiB));
    await writer.request({ type: Cmd.FLUSH });
    await lab.zpool('sync', 'tank');
  });
  writer.destroy();
  await beside(t, client, 'its statistics', () => lab.zpool('status', '-D', 'tank'));
  await beside(t, client, 'scrubbed', () => lab.zpool('scrub', '-w', 'tank'));
  await lab.zfs('snapshot', 'tank/v@s');
  await beside(t, client, 'sent', async () => {
    t.is((await lab.shell('zfs send tank/v@s | wc -c', { timeoutMs: 600_000 })).code, 0);
  });
  await beside(t, client, 'pruned', () => lab.zpool('ddtprune', '-p', '100', 'tank'));
  await lab.zfs('destroy', 'tank/v@s');
  await beside(t, client, 'destroyed', async () => {
    await lab.zfs('destroy', 'tank/v');
    await lab.zpool('wait', '-t', 'free', 'tank');
  });
  await finish(t, lab, client);
});
