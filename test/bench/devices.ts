/**
 * What a read or write of a file device costs in each I/O mode, and how long it keeps the host's thread from anything
 * else. Run by hand: `node test/bench/devices.ts [folder]`; the folder decides the file system, 256 MiB are used.
 *
 * Node 26.10, two shared cores, ext4 on a virtual disk, microseconds an operation (sync / async / adaptive):
 *   cached read   4K   depth 1    2.0 / 65 / 3.3     depth 8    2.0 / 9.1 / 2.9
 *   cached read 128K   depth 1     12 / 76 / 14      depth 8     11 / 15 / 12
 *   cached read 512K                                 depth 8     38 / 33 / 38
 *   cached read   4M                                 depth 8   3085 / 1666 / 1712
 *   cold read     4K                                 depth 8     90 / 55 / 62 (mean of four runs, which vary by a third)
 * So: ask the cache first; from 256K on let another core copy.
 */
import { execFileSync } from 'node:child_process';
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { isPending } from '../../host/devices/device.ts';
import { seededRandom } from '../../host/devices/faulty/faults.ts';
import { openFile } from '../../host/devices/file.ts';
import type { IoMode } from '../../host/devices/stall.ts';

const KiB = 1024;
const FILE_BYTES = 256 * KiB * KiB;
const RUN_MS = 1000;

interface Row {
  readonly what: 'read' | 'write';
  readonly cold: boolean;
  readonly bytes: number;
  readonly depth: number;
}

interface Result {
  /** Operations a second. */
  readonly rate: number;
  /** Longest time in milliseconds in which the thread did nothing else, by the calls themselves. */
  readonly stallMs: number;
}

const rows: readonly Row[] = [
  ...[4, 16, 128].flatMap((size) =>
    [1, 8].map((depth) => ({ what: 'read' as const, cold: false, bytes: size * KiB, depth })),
  ),
  ...[256, 512, 1024, 4096].map((size) => ({ what: 'read' as const, cold: false, bytes: size * KiB, depth: 8 })),
  ...[4, 128].map((size) => ({ what: 'read' as const, cold: true, bytes: size * KiB, depth: 8 })),
  ...[4, 128, 1024].map((size) => ({ what: 'write' as const, cold: false, bytes: size * KiB, depth: 8 })),
];

async function measure(file: string, mode: IoMode, row: Row): Promise<Result> {
  // dd's way to say POSIX_FADV_DONTNEED for a whole file; reading it brings it all in.
  if (row.cold) execFileSync('dd', [`if=${file}`, 'iflag=nocache', 'count=0'], { stdio: 'ignore' });
  else fs.readFileSync(file);
  const device = await openFile(file, { ioMode: mode });
  const memory = new SharedArrayBuffer(row.bytes * row.depth);
  const random = seededRandom(1);
  const start = performance.now();
  let done = 0;
  let stallMs = 0;
  const worker = async (index: number): Promise<void> => {
    const buffer = new Uint8Array(memory, index * row.bytes, row.bytes);
    while (performance.now() - start < RUN_MS) {
      const offset = Math.floor((random() * FILE_BYTES) / row.bytes) * row.bytes;
      const before = performance.now();
      const result = row.what === 'read' ? device.read(buffer, offset) : device.write(buffer, offset);
      stallMs = Math.max(stallMs, performance.now() - before);
      if (isPending(result)) await result;
      done += 1;
      // Without this the answers given at once would all go to the first worker.
      if (done % 64 === 0) await new Promise(setImmediate);
    }
  };
  await Promise.all(Array.from({ length: row.depth }, (_, index) => worker(index)));
  const rate = (done * 1000) / (performance.now() - start);
  await device.flush();
  await device.close();
  return { rate, stallMs };
}

const folder = fs.mkdtempSync(path.join(process.argv[2] ?? os.tmpdir(), 'zow-bench-'));
const file = path.join(folder, 'disk.img');
const table: Record<string, string>[] = [];
try {
  fs.writeFileSync(file, new Uint8Array(FILE_BYTES).fill(7), { flush: true });
  for (const row of rows) {
    const name = `${row.cold ? 'cold' : 'cached'} ${row.what} ${row.bytes / KiB}K depth ${row.depth}`;
    const line: Record<string, string> = { operation: name };
    for (const mode of ['sync', 'async', 'adaptive'] as const) {
      const { rate, stallMs } = await measure(file, mode, row);
      line[mode] = `${Math.round(rate)}/s ${(1e6 / rate).toFixed(1)} us, stall ${stallMs.toFixed(1)} ms`;
    }
    table.push(line);
  }
} finally {
  fs.rmSync(folder, { recursive: true });
}
const columns = Object.keys(table[0]!);
for (const line of [Object.fromEntries(columns.map((column) => [column, column])), ...table]) {
  process.stdout.write(`${columns.map((column) => (line[column] ?? '').padEnd(34)).join('')}\n`);
}
