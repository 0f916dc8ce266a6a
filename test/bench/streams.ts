/**
 * `zfs send | zfs receive` through the command line: a volume of incompressible data from a warm ARC, sent to /dev/null
 * and into another dataset of the same pool. Every round is a send, then a send into a receive; medians count.
 *
 *   node test/bench/streams.ts [rounds, default 5] [volblocksize, default 128K] [MiB, default 256]
 *
 * ZOW_BENCH_HOST: arguments of Node for the host (`--cpu-prof`). Beside the rates stand the host's CPU seconds a GB,
 * its largest resident memory before and after the rounds, and the programs' largest.
 */
import { type ChildProcess, execFile, spawn } from 'node:child_process';
import { randomFillSync } from 'node:crypto';
import { existsSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { promisify } from 'node:util';
import { processorSeconds, residentMiB } from './processes.ts';

const run = promisify(execFile);
const main = path.join(import.meta.dirname, '../../cli/main.ts');

interface Host {
  readonly child: ChildProcess;
  readonly ended: Promise<unknown>;
  readonly env: NodeJS.ProcessEnv;
}

async function start(folder: string, volumeBytes: number, volblocksize: string): Promise<Host> {
  const config = path.join(folder, 'pool.json');
  const vm0 = { size: `${volumeBytes}`, volblocksize };
  const tank = { vdevs: ['disk.img'], create: { size: '4G' }, volumes: { vm0 } };
  writeFileSync(config, JSON.stringify({ socket: 's', memory: '1G', pools: { tank }, nbd: [{ unix: 'nbd' }] }));
  const node = (process.env.ZOW_BENCH_HOST ?? '').split(' ').filter((word) => word !== '');
  const env = { ...process.env, ZOW_LOG: 'warn', ZOW_SOCKET: path.join(folder, 's') };
  const child = spawn(process.execPath, [...node, main, 'serve', config], {
    stdio: ['ignore', 'ignore', 'inherit'],
    env,
  });
  const ended = new Promise((resolve) => child.once('exit', resolve));
  while (!existsSync(path.join(folder, 'nbd'))) {
    if (child.exitCode !== null) throw new Error('the host ended');
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
  return { child, ended, env };
}

function median(values: readonly number[]): number {
  return [...values].sort((a, b) => a - b)[values.length >> 1]!;
}

async function bench(rounds: number, volblocksize: string, mib: number): Promise<void> {
  mkdirSync('build', { recursive: true });
  const folder = path.resolve(mkdtempSync('build/bench-'));
  const bytes = mib * 2 ** 20;
  const { child, ended, env } = await start(folder, bytes, volblocksize);
  const programs = path.join(import.meta.dirname, '../../cli/bin');
  const shell = (script: string) => run('sh', ['-ec', script], { env: { ...env, PATH: `${programs}:${env.PATH}` } });
  /** MB a second, and CPU seconds of the host for a GB. */
  const measure = async (script: string): Promise<[number, number]> => {
    const before = processorSeconds(child.pid!);
    const began = performance.now();
    await shell(script);
    const seconds = (performance.now() - began) / 1000;
    return [bytes / 1e6 / seconds, ((processorSeconds(child.pid!) - before) * 1e9) / bytes];
  };
  try {
    const image = path.join(folder, 'image');
    writeFileSync(image, randomFillSync(Buffer.alloc(bytes)));
    await run('nbdcopy', ['--flush', image, `nbd+unix:///tank/vm0?socket=${path.join(folder, 'nbd')}`]);
    await shell('zfs snapshot tank/vm0@s; zfs send tank/vm0@s > /dev/null');
    const results = { send: [] as [number, number][], 'send | receive': [] as [number, number][] };
    const before = residentMiB(child.pid!, 'VmHWM');
    for (let round = 0; round < rounds; round++) {
      results.send.push(await measure('zfs send tank/vm0@s > /dev/null'));
      results['send | receive'].push(await measure('zfs send tank/vm0@s | zfs receive tank/copy'));
      await shell('zfs destroy -r tank/copy; zpool sync; zpool wait -t free tank');
    }
    for (const [name, pairs] of Object.entries(results)) {
      const rates = pairs.map(([rate]) => rate);
      const spread = `${Math.min(...rates).toFixed(0)} to ${Math.max(...rates).toFixed(0)}`;
      const cpu = median(pairs.map(([, seconds]) => seconds));
      process.stdout.write(
        `${name.padEnd(16)}${median(rates).toFixed(0).padStart(6)} MB/s (${spread}), host CPU ${cpu.toFixed(2)} s/GB\n`,
      );
    }
    process.stdout.write(
      `host peak ${before.toFixed(0)} MiB before, ${residentMiB(child.pid!, 'VmHWM').toFixed(0)} MiB after\n`,
    );
  } finally {
    child.kill('SIGTERM');
    await ended;
    rmSync(folder, { recursive: true, force: true });
  }
}

await bench(Number(process.argv[2] ?? 5), process.argv[3] ?? '128K', Number(process.argv[4] ?? 256));
