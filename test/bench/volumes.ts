/**
 * Volumes as users have them: fio over NBD against a zvol of a pool on a file, beside `nbdkit file` and `qemu-nbd` with a
 * qcow2 image on the same disk. The servers run side by side and are measured in turn, row by row, several times; a cell
 * is the median, and its ratio to nbdkit's.
 *
 *   node test/bench/volumes.ts [seconds per cell, default 3] [rounds, default 3] [row pattern]
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, truncateSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { run } from '../host/nbd/fixture.ts';

const volumeBytes = 512 << 20;

interface Row {
  readonly rw: string;
  readonly bs: string;
  readonly depth: number;
  /** A flush after each write. */
  readonly sync?: boolean;
}

const rows: readonly Row[] = [
  { rw: 'randread', bs: '4k', depth: 1 },
  { rw: 'randread', bs: '4k', depth: 32 },
  { rw: 'randwrite', bs: '4k', depth: 1 },
  { rw: 'randwrite', bs: '4k', depth: 32 },
  { rw: 'randwrite', bs: '4k', depth: 1, sync: true },
  { rw: 'randread', bs: '16k', depth: 1 },
  { rw: 'randread', bs: '16k', depth: 32 },
  { rw: 'randwrite', bs: '16k', depth: 1 },
  { rw: 'randwrite', bs: '16k', depth: 32 },
  { rw: 'read', bs: '128k', depth: 1 },
  { rw: 'read', bs: '128k', depth: 32 },
  { rw: 'write', bs: '128k', depth: 1 },
  { rw: 'write', bs: '128k', depth: 32 },
];

interface Server {
  readonly name: string;
  readonly export: string;
  readonly start: (folder: string, socket: string) => Promise<ChildProcess>;
}

const zow: Server = {
  name: 'zow',
  export: 'tank/vm0',
  start: async (folder, socket) => {
    const config = path.join(folder, 'pool.json');
    const pool = {
      vdevs: ['disk.img'],
      create: { size: '2G' },
      volumes: { vm0: { size: `${volumeBytes}`, volblocksize: '16K' } },
    };
    writeFileSync(
      config,
      JSON.stringify({ socket: 's', memory: '1G', pools: { tank: pool }, nbd: [{ unix: socket }] }),
    );
    const main = path.join(import.meta.dirname, '../../cli/main.ts');
    return spawn(process.execPath, [main, 'serve', config], { stdio: ['ignore', 'ignore', 'inherit'], env: quietEnv });
  },
};

const quietEnv = { ...process.env, ZOW_LOG: 'warn' };

const nbdkit: Server = {
  name: 'nbdkit file',
  export: '',
  start: async (folder, socket) => {
    const file = path.join(folder, 'raw.img');
    writeFileSync(file, '');
    truncateSync(file, volumeBytes);
    return spawn('nbdkit', ['--foreground', '--exit-with-parent', '-U', socket, 'file', file], { stdio: 'inherit' });
  },
};

const qemu: Server = {
  name: 'qemu-nbd qcow2',
  export: '',
  start: async (folder, socket) => {
    const file = path.join(folder, 'image.qcow2');
    await run('qemu-img', ['create', '-q', '-f', 'qcow2', file, `${volumeBytes}`]);
    const args = ['--persistent', '--shared=16', '--format=qcow2', `--socket=${socket}`, file];
    return spawn('qemu-nbd', args, { stdio: 'inherit' });
  },
};

const servers = [zow, nbdkit, qemu] as const;

/** Bytes a second. */
async function fio(folder: string, uri: string, row: Row, limits: readonly string[]): Promise<number> {
  const report = path.join(folder, 'report');
  const work = [`--rw=${row.rw}`, `--bs=${row.bs}`, `--iodepth=${row.depth}`, ...(row.sync ? ['--fsync=1'] : [])];
  const engine = ['--name=b', '--ioengine=nbd', `--uri=${uri}`, `--aux-path=${folder}`, `--size=${volumeBytes}`];
  await run('fio', [...engine, ...work, ...limits, '--output-format=json', `--output=${report}`]);
  const text = readFileSync(report, 'utf8');
  const job = JSON.parse(text.slice(text.indexOf('{'))).jobs[0];
  return (row.rw.includes('read') ? job.read : job.write).bw_bytes;
}

async function listening(child: ChildProcess, socket: string): Promise<void> {
  for (let i = 0; i < 3000 && child.exitCode === null; i++) {
    if (existsSync(socket)) return;
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
  throw new Error(`${child.spawnfile} did not start`);
}

function median(values: readonly number[]): number {
  return [...values].sort((a, b) => a - b)[values.length >> 1]!;
}

async function main(seconds: number, rounds: number, only: RegExp): Promise<void> {
  mkdirSync('build', { recursive: true });
  const folder = mkdtempSync('build/bench-');
  const running: { server: Server; child: ChildProcess; uri: string; folder: string; ended: Promise<unknown> }[] = [];
  try {
    for (const server of servers) {
      const own = path.resolve(folder, server.name.replaceAll(' ', '-'));
      mkdirSync(own);
      const socket = path.join(own, 'nbd');
      const child = await server.start(own, socket);
      const ended = new Promise((resolve) => child.once('exit', resolve));
      running.push({ server, child, folder: own, ended, uri: `nbd+unix:///${server.export}?socket=${socket}` });
      await listening(child, socket);
    }
    // Every block is there before the first row is measured.
    for (const { uri, folder: own } of running)
      await fio(own, uri, { rw: 'write', bs: '1m', depth: 4 }, ['--end_fsync=1']);
    const out = process.stdout;
    out.write(`${'MiB/s (ratio)'.padEnd(32)}${servers.map(({ name }) => name.padStart(20)).join('')}\n`);
    for (const row of rows) {
      const name = `${row.rw} ${row.bs}, depth ${row.depth}${row.sync ? ', flush each' : ''}`;
      if (!only.test(name)) continue;
      const rates = running.map((): number[] => []);
      for (let round = 0; round < rounds; round++) {
        for (const [index, { uri, folder: own }] of running.entries())
          rates[index]!.push(await fio(own, uri, row, ['--time_based', `--runtime=${seconds}`]));
      }
      const medians = rates.map(median);
      const cells = medians.map((rate) =>
        `${(rate / 2 ** 20).toFixed(1)} (${(rate / medians[1]!).toFixed(2)})`.padStart(20),
      );
      out.write(`${name.padEnd(32)}${cells.join('')}\n`);
    }
  } finally {
    for (const { child } of running) child.kill('SIGTERM');
    await Promise.all(running.map(({ ended }) => ended));
    rmSync(folder, { recursive: true, force: true });
  }
}

await main(Number(process.argv[2] ?? 3), Number(process.argv[3] ?? 3), new RegExp(process.argv[4] ?? ''));
