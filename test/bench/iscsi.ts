/**
 * A volume over iSCSI beside the same volume over NBD, both over TCP from one host, and, where Debian's tgt is installed, beside
 * tgt with a file on the same disk. qemu's block drivers are the clients of all (`qemu-img bench`; qemu-block-extra has the one
 * for iSCSI). They are measured in turn, row by row, several times; a cell has medians: MiB/s, its ratio to NBD's, and the
 * processor time of the server's process for a GB, which stands a loaded machine better than the rate.
 *
 *   node test/bench/iscsi.ts [seconds per cell, default 3] [rounds, default 3] [row pattern]
 */
import { type ChildProcess, execFileSync, spawn } from 'node:child_process';
import { existsSync, mkdirSync, mkdtempSync, rmSync, truncateSync, writeFileSync } from 'node:fs';
import net from 'node:net';
import path from 'node:path';
import { freePort } from '../e2e/process.ts';
import { run } from '../host/nbd/fixture.ts';
import { processorSeconds } from './processes.ts';

const volumeBytes = 512 << 20;
const prefix = 'iqn.2026-11.io.zow';
/** What is written: neither zeroes nor compressed, for qemu does not read what it knows for holes. */
const PATTERN = 90;
/** Steps of this many blocks, around and around, are as good as random ones. */
const SCATTER = 7919;

interface Row {
  readonly name: string;
  readonly bytes: number;
  readonly depth: number;
  readonly write: boolean;
  readonly scattered: boolean;
}

const rows: readonly Row[] = [4, 16].flatMap((kib) =>
  ['randread', 'randwrite'].flatMap((rw) => [1, 32].map((depth) => row(rw, kib, depth))),
);
const sequential = ['read', 'write'].flatMap((rw) => [1, 32].map((depth) => row(rw, 128, depth)));

function row(rw: string, kib: number, depth: number): Row {
  const name = `${rw} ${kib}K, depth ${depth}`;
  return { name, bytes: kib << 10, depth, write: rw.endsWith('write'), scattered: rw.startsWith('rand') };
}

interface Server {
  /** How it is ended; tgtd outlives a SIGTERM. */
  readonly signal: NodeJS.Signals;
  readonly child: ChildProcess;
  readonly urls: Readonly<Record<string, string>>;
}

async function startZow(folder: string): Promise<Server> {
  const [nbd, iscsi] = [await freePort(), await freePort()];
  const config = path.join(folder, 'pool.json');
  const pool = {
    vdevs: ['disk.img'],
    create: { size: '2G' },
    volumes: { vm0: { size: `${volumeBytes}`, volblocksize: '16K', compression: 'off' } },
  };
  const listeners = { nbd: [{ tcp: `127.0.0.1:${nbd}` }], iscsi: [{ listen: `127.0.0.1:${iscsi}` }] };
  writeFileSync(config, JSON.stringify({ socket: 's', memory: '1G', pools: { tank: pool }, ...listeners }));
  const main = path.join(import.meta.dirname, '../../cli/main.ts');
  const env = { ...process.env, ZOW_LOG: 'warn' };
  const child = spawn(process.execPath, [main, 'serve', config], { stdio: ['ignore', 'ignore', 'inherit'], env });
  await listening(child, iscsi);
  return {
    child,
    signal: 'SIGTERM',
    urls: {
      'zow, NBD': `nbd://127.0.0.1:${nbd}/tank/vm0`,
      'zow, iSCSI': `iscsi://127.0.0.1:${iscsi}/${prefix}:tank:vm0/0`,
    },
  };
}

async function startTgt(folder: string): Promise<Server> {
  const port = await freePort();
  const file = path.join(folder, 'raw.img');
  writeFileSync(file, '');
  truncateSync(file, volumeBytes);
  const control = `${process.pid % 30_000}`;
  const args = ['-f', '-C', control, '--iscsi', `portal=127.0.0.1:${port}`];
  const child = spawn('setpriv', ['--pdeathsig', 'KILL', '/usr/sbin/tgtd', ...args], { stdio: 'ignore' });
  await listening(child, port);
  const admin = (...line: string[]) => execFileSync('tgtadm', ['-C', control, '--lld', 'iscsi', ...line]);
  const target = `${prefix}:tgt`;
  admin('--op', 'new', '--mode', 'target', '--tid', '1', '-T', target);
  admin('--op', 'new', '--mode', 'logicalunit', '--tid', '1', '--lun', '1', '-b', file);
  admin('--op', 'bind', '--mode', 'target', '--tid', '1', '-I', 'ALL');
  return { child, signal: 'SIGKILL', urls: { tgt: `iscsi://127.0.0.1:${port}/${target}/1` } };
}

/** Bytes a second, and what they cost the server: seconds of its processes for a GB. */
interface Figures {
  readonly rate: number;
  readonly cost: number;
}

async function bench(
  pid: number,
  url: string,
  { bytes, depth, write, scattered }: Row,
  count: number,
): Promise<Figures> {
  const step = scattered ? SCATTER * bytes : bytes;
  const how = [
    '-c',
    `${count}`,
    '-d',
    `${depth}`,
    '-s',
    `${bytes}`,
    '-S',
    `${step}`,
    ...(write ? ['-w', `--pattern=${PATTERN}`] : []),
  ];
  const before = processorSeconds(pid);
  const output = await run('qemu-img', ['bench', '-f', 'raw', '-t', 'none', ...how, url], 120_000);
  const cost = (processorSeconds(pid) - before) / ((count * bytes) / 1e9);
  return { rate: (count * bytes) / Number(/completed in ([\d.]+) seconds/.exec(output)![1]), cost };
}

async function listening(child: ChildProcess, port: number): Promise<void> {
  for (let i = 0; i < 3000 && child.exitCode === null; i++) {
    const socket = net.connect(port, '127.0.0.1');
    const isThere = await new Promise<boolean>((resolve) => {
      socket.once('connect', () => resolve(true)).once('error', () => resolve(false));
    });
    socket.destroy();
    if (isThere) return;
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
  throw new Error(`${child.spawnfile} did not start`);
}

function median(values: readonly number[]): number {
  return [...values].sort((a, b) => a - b)[values.length >> 1]!;
}

async function main(seconds: number, rounds: number, only: RegExp): Promise<void> {
  mkdirSync('build', { recursive: true });
  const folder = path.resolve(mkdtempSync('build/bench-'));
  const servers: Server[] = [];
  try {
    servers.push(await startZow(folder));
    if (existsSync('/usr/sbin/tgtd')) servers.push(await startTgt(folder));
    const clients = servers.flatMap(({ child, urls }) =>
      Object.entries(urls).map(([name, url]) => ({ name, run: bench.bind(undefined, child.pid!, url) })),
    );
    // Every block is there before the first row is measured.
    for (const { run: once } of clients) await once(row('write', 1024, 4), volumeBytes >> 20);
    const out = process.stdout;
    out.write(`${'MiB/s (ratio), s/GB'.padEnd(28)}${clients.map(({ name }) => name.padStart(22)).join('')}\n`);
    for (const each of [...rows, ...sequential].filter(({ name }) => only.test(name))) {
      const figures = clients.map((): Figures[] => []);
      for (let round = 0; round < rounds; round++) {
        for (const [i, { run: measure }] of clients.entries()) {
          const { rate } = figures[i]!.at(-1) ?? (await measure(each, 500));
          figures[i]!.push(await measure(each, Math.max(100, Math.round((rate * seconds) / each.bytes))));
        }
      }
      const medians = figures.map((found) => ({
        rate: median(found.map(({ rate }) => rate)),
        cost: median(found.map(({ cost }) => cost)),
      }));
      const reference = medians[0]!.rate;
      const cells = medians.map(({ rate, cost }) =>
        `${(rate / 2 ** 20).toFixed(1)} (${(rate / reference).toFixed(2)}) ${cost.toFixed(2)}`.padStart(22),
      );
      out.write(`${each.name.padEnd(28)}${cells.join('')}\n`);
    }
  } finally {
    for (const { child, signal } of servers) child.kill(signal);
    await Promise.all(servers.map(({ child }) => new Promise((resolve) => child.once('exit', resolve))));
    rmSync(folder, { recursive: true, force: true });
  }
}

await main(Number(process.argv[2] ?? 3), Number(process.argv[3] ?? 3), new RegExp(process.argv[4] ?? ''));
