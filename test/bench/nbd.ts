/**
 * Overhead of the NBD protocol: fio's nbd engine against our server on volumes in memory, beside `nbdkit memory` and
 * `qemu-nbd` on a raw file in shared memory. All over unix sockets, one after the other, on one machine.
 *
 *   node test/bench/nbd.ts [seconds per cell, default 3] [row pattern]
 *
 * A cell is thousands of operations per second, or MiB/s where the block is 128 KiB and more.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { existsSync, mkdtempSync, readFileSync, rmSync, truncateSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { NbdServer } from '../../host/nbd/server.ts';
import { quiet, run } from '../host/nbd/fixture.ts';
import { MemoryProvider } from '../host/volumes/memory.ts';

const SIZE = 256 << 20;

interface Row {
  readonly rw: string;
  readonly bs: string;
  readonly depth: number;
  readonly jobs: number;
}

const rows: Row[] = [
  { rw: 'randread', bs: '4k', depth: 1, jobs: 1 },
  { rw: 'randread', bs: '4k', depth: 32, jobs: 1 },
  { rw: 'randread', bs: '4k', depth: 32, jobs: 4 },
  { rw: 'randwrite', bs: '4k', depth: 1, jobs: 1 },
  { rw: 'randwrite', bs: '4k', depth: 32, jobs: 1 },
  { rw: 'randwrite', bs: '4k', depth: 32, jobs: 4 },
  { rw: 'randread', bs: '16k', depth: 32, jobs: 1 },
  { rw: 'randwrite', bs: '16k', depth: 32, jobs: 1 },
  { rw: 'read', bs: '128k', depth: 8, jobs: 1 },
  { rw: 'write', bs: '128k', depth: 8, jobs: 1 },
  { rw: 'read', bs: '1m', depth: 4, jobs: 1 },
  { rw: 'write', bs: '1m', depth: 4, jobs: 1 },
];

interface Server {
  readonly name: string;
  /** Arguments of the process that serves SIZE bytes on the socket. */
  readonly command: (socket: string, directory: string) => string[];
  readonly export: string;
}

const servers: Server[] = [
  { name: 'zow', command: (socket) => [process.execPath, import.meta.filename, '--serve', socket], export: 'tank/vm0' },
  {
    name: 'nbdkit',
    command: (socket) => ['nbdkit', '--foreground', '--exit-with-parent', '-U', socket, 'memory', `size=${SIZE}`],
    export: '',
  },
  {
    name: 'qemu-nbd',
    command: (socket, directory) => {
      const file = path.join(directory, 'raw');
      writeFileSync(file, '');
      truncateSync(file, SIZE);
      return ['qemu-nbd', '--persistent', '--shared=16', '--format=raw', `--socket=${socket}`, file];
    },
    export: '',
  },
];

async function serve(socket: string): Promise<void> {
  const provider = new MemoryProvider({ poolBytes: 256 << 20 });
  provider.add('tank/vm0', SIZE).data.fill(1);
  const server = new NbdServer({ provider, listeners: [{ unix: socket }], log: quiet });
  await server.start();
  process.once('SIGTERM', () => server.close());
}

async function started(child: ChildProcess, socket: string): Promise<void> {
  for (let i = 0; i < 500; i++) {
    if (child.exitCode !== null) throw new Error(`${child.spawnfile} ended with ${child.exitCode}`);
    if (existsSync(socket)) return;
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
  throw new Error(`${child.spawnfile} did not start`);
}

/** Operations a second, and CPU microseconds of the server for each. */
async function measure(server: Server, row: Row, seconds: number): Promise<{ iops: number; cpuUs: number }> {
  const directory = mkdtempSync(path.join(existsSync('/dev/shm') ? '/dev/shm' : tmpdir(), 'zow-bench-'));
  const socket = path.join(directory, 's');
  const [program, ...args] = server.command(socket, directory);
  const child = spawn(program!, args, { stdio: 'inherit' });
  const exited = new Promise((resolve) => child.once('exit', resolve));
  try {
    await started(child, socket);
    const report = path.join(directory, 'report');
    const uri = `nbd+unix:///${server.export}?socket=${socket}`;
    const before = cpuSeconds(child.pid!);
    const engine = ['--name=b', '--ioengine=nbd', `--uri=${uri}`, `--aux-path=${directory}`, '--group_reporting'];
    const work = [`--rw=${row.rw}`, `--bs=${row.bs}`, `--iodepth=${row.depth}`, `--numjobs=${row.jobs}`, '--thread'];
    const time = ['--time_based', `--runtime=${seconds}`, `--size=${SIZE}`];
    await run('fio', [...engine, ...work, ...time, '--output-format=json', `--output=${report}`]);
    const text = readFileSync(report, 'utf8');
    const job = JSON.parse(text.slice(text.indexOf('{'))).jobs[0];
    const side = row.rw.includes('read') ? job.read : job.write;
    return { iops: side.iops, cpuUs: ((cpuSeconds(child.pid!) - before) * 1e6) / side.total_ios };
  } finally {
    child.kill('SIGTERM');
    await exited;
    rmSync(directory, { recursive: true, force: true });
  }
}

/** User and system time of a process, all threads. */
function cpuSeconds(pid: number): number {
  const fields = readFileSync(`/proc/${pid}/stat`, 'utf8').split(') ')[1]!.split(' ');
  return (Number(fields[11]) + Number(fields[12])) / 100;
}

function cell(row: Row, result: { iops: number; cpuUs: number }): string {
  const kib = Number.parseInt(row.bs, 10) * (row.bs.endsWith('m') ? 1024 : 1);
  const rate =
    kib >= 128 ? `${((result.iops * kib) / 1024).toFixed(0)} MiB/s` : `${(result.iops / 1000).toFixed(1)} k/s`;
  return `${rate} (${result.cpuUs.toFixed(1)} us)`.padStart(24);
}

async function main(seconds: number, only: RegExp): Promise<void> {
  const out = process.stdout;
  out.write(`${'operations (server CPU each)'.padEnd(32)}${servers.map(({ name }) => name.padStart(24)).join('')}\n`);
  for (const row of rows) {
    const name = `${row.rw} ${row.bs}, depth ${row.depth}, jobs ${row.jobs}`;
    if (!only.test(name)) continue;
    out.write(name.padEnd(32));
    for (const server of servers) out.write(cell(row, await measure(server, row, seconds)));
    out.write('\n');
  }
}

if (process.argv[2] === '--serve') await serve(process.argv[3]!);
else await main(Number(process.argv[2] ?? 3), new RegExp(process.argv[3] ?? ''));
