import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import test from 'ava';
import { Lab, MiB, sleep, until } from './host.ts';

/** Work that computes for long and never blocks: others are served meanwhile, and who asked for it can take it back. */

/** A channel program that would run for minutes, without ever waiting for a disk. */
function endless(lab: Lab, body: string): string {
  const file = join(lab.directory, 'endless.zcp');
  writeFileSync(file, body);
  return file;
}

/** Tens of thousands of calls at a time that look into the pool, each of which only computes. */
const CHECKS = `
for i = 1, 100000000 do
  zfs.check.snapshot("tank@s"); zfs.check.destroy("tank@s"); zfs.check.destroy("tank/none"); zfs.get_prop("tank", "used")
end`;
/** One call of Lua's library, which no count of instructions ends: each \`.-\` tries all that is left. */
const PATTERN = `return string.find(string.rep("a", 5000), ".-.-.-.-b")`;

for (const [what, body, flags] of [
  ['calls in syncing context', CHECKS, []],
  ['calls in open context', CHECKS, ['-n']],
  ['instructions', 'while true do end', ['-n']],
  ['a pattern that does not match', PATTERN, ['-n']],
] as const) {
  test(`a channel program of ${what}: others are served, and Ctrl-C ends it`, async (t) => {
    const lab = await Lab.withPool(t);
    await lab.zpool('create', 'other', lab.disk('b'));
    await lab.zfs('create', '-V', '16M', 'other/v');
    const client = await lab.open('other/v');
    await client.writeAt(0, Buffer.alloc(MiB, 'x'));
    await lab.zow('tunable', 'zfs_lua_max_instrlimit=100000000000');
    const program = lab.spawn('zfs', ['program', ...flags, '-t', '100000000000', 'tank', endless(lab, body)]);
    let said = '';
    program.stderr!.setEncoding('utf8').on('data', (text: string) => {
      said += text;
    });
    const ended = new Promise<number | null>((resolve) => program.on('close', resolve));
    let code: number | null | undefined;
    void ended.then((status) => {
      code = status;
    });
    await sleep(1000);

    const waits: number[] = [];
    const end = performance.now() + 3000;
    while (performance.now() < end) {
      const start = performance.now();
      await client.readAt(0, 4096);
      waits.push(performance.now() - start);
    }
    t.is(code, undefined, `it has ended by itself: ${said}`);
    waits.sort((a, b) => a - b);
    t.log(
      `${waits.length} reads of another pool in 3 s: median ${waits[waits.length >> 1]!.toFixed(1)} ms, longest ${waits.at(-1)!.toFixed(1)} ms`,
    );
    t.true(waits.length > 15, `${waits.length} reads in 3 s`);
    t.regex(await lab.zpool('list', '-H', 'other'), /ONLINE/);

    program.kill('SIGINT');
    if (body !== PATTERN) await until('it ends', () => code !== undefined);
    client.destroy();
    if (body !== PATTERN) await lab.finish('tank', 'other');
  });
}
