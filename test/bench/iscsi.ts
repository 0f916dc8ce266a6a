/**
 * A volume over iSCSI beside the same volume over NBD, both over TCP from one host, and beside Debian's tgt with a file on the
 * same disk. qemu's block drivers are the clients of all (`qemu-img bench`). The three are measured in turn, row by row,
 * several times; a cell is the median in MiB/s, and its ratio to tgt's.
 *
 *   node test/bench/iscsi.ts [seconds per cell, default 3] [rounds, default 3] [row pattern]
 */
import { type ChildProcess, execFileSync, spawn } from 'node:child_process';
import { mkdirSync, mkdtempSync, rmSync, truncateSync, writeFileSync } from 'node:fs';
import net from 'node:net';
import path from 'node:path';
import { run } from '../host/nbd/fixture.ts';

const volumeBytes = 512 << 20;
const prefix = 'iqn.2026-11.io.zow';
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
  readonly child: ChildProcess;
  readonly urls: Readonly<Record<string, string>>;
}

async function startZow(folder: string): Promise<Server> {
  const [nbd, iscsi] = [await freePort(), await freePort()];
  const config = path.join(folder, 'pool.json');
  const pool = {
    vdevs: ['disk.img'],
    create: { size: '2G' },
    volumes: { vm0: { size: `${volumeBytes}`, volblocksize: '16K' } },
  };
  const listeners = { nbd: [{ tcp: `127.0.0.1:${nbd}` }], iscsi: [{ listen: `127.0.0.1:${iscsi}` }] };
  writeFileSync(config, JSON.stringify({ socket: 's', memory: '1G', pools: { tank: pool }, ...listeners }));
  const main = path.join(import.meta.dirname, '../../cli/main.ts');
  const env = { ...process.env, ZOW_LOG: 'warn' };
  const child = spawn(process.execPath, [main, 'serve', config], { stdio: ['ignore', 'ignore', 'inherit'], env });
  await listening(child, iscsi);
  return {
    child,
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
  const child = spawn('tgtd', args, { stdio: ['ignore', 'ignore', 'inherit'] });
  await listening(child, port);
  const admin = (...line: string[]) => execFileSync('tgtadm', ['-C', control, '--lld', 'iscsi', ...line]);
  const target = `${prefix}:tgt`;
  admin('--op', 'new', '--mode', 'target', '--tid', '1', '-T', target);
  admin('--op', 'new', '--mode', 'logicalunit', '--tid', '1', '--lun', '1', '-b', file);
  admin('--op', 'bind', '--mode', 'target', '--tid', '1', '-I', 'ALL');
  return { child, urls: { tgt: `iscsi://127.0.0.1:${port}/${target}/1` } };
}

/** Bytes a second. */
async function bench(url: string, { bytes, depth, write, scattered }: Row, count: number): Promise<number> {
  const step = scattered ? SCATTER * bytes : bytes;
  const how = ['-c', `${count}`, '-d', `${depth}`, '-s', `${bytes}`, '-S', `${step}`, ...(write ? ['-w'] : [])];
  const output = await run('qemu-img', ['bench', '-f', 'raw', '-t', 'none', ...how, url], 120_000);
  return (count * bytes) / Number(/completed in ([\d.]+) seconds/.exec(output)![1]);
}

async function freePort(): Promise<number> {
  const server = net.createServer();
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const { port } = server.address() as net.AddressInfo;
  await new Promise((resolve) => server.close(resolve));
  return port;
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
    for (const start of [startZow, startTgt]) servers.push(await start(folder));
    const urls = servers.flatMap((server) => Object.entries(server.urls));
    // Every block is there before the first row is measured.
    for (const [, url] of urls) await bench(url, row('write', 1024, 4), volumeBytes >> 20);
    const out = process.stdout;
    out.write(`${'MiB/s (ratio)'.padEnd(28)}${urls.map(([name]) => name.padStart(18)).join('')}\n`);
    for (const each of [...rows, ...sequential].filter(({ name }) => only.test(name))) {
      const rates = urls.map((): number[] => []);
      for (let round = 0; round < rounds; round++) {
        for (const [i, [, url]] of urls.entries()) {
          const guess = rates[i]!.at(-1) ?? (await bench(url, each, 500));
          rates[i]!.push(await bench(url, each, Math.max(100, Math.round((guess * seconds) / each.bytes))));
        }
      }
      const medians = rates.map(median);
      const cells = medians.map((rate) =>
        `${(rate / 2 ** 20).toFixed(1)} (${(rate / medians.at(-1)!).toFixed(2)})`.padStart(18),
      );
      out.write(`${each.name.padEnd(28)}${cells.join('')}\n`);
    }
  } finally {
    for (const { child } of servers) child.kill('SIGTERM');
    await Promise.all(servers.map(({ child }) => new Promise((resolve) => child.once('exit', resolve))));
    rmSync(folder, { recursive: true, force: true });
  }
}

await main(Number(process.argv[2] ?? 3), Number(process.argv[3] ?? 3), new RegExp(process.argv[4] ?? ''));
