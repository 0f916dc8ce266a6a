import { readFileSync } from 'node:fs';
import type { Recovery } from './recovery.ts';
import type { Supervisor } from './supervisor.ts';

/** What `zow status` shows: plain data, as it is in its JSON. */
export interface HostStatus {
  readonly pid: number;
  readonly release: string;
  readonly engines: readonly EngineStatus[];
  readonly lost: readonly LostStatus[];
}

export interface EngineStatus {
  readonly pools: readonly string[];
  /** Of its process; of one in this process, this one's. */
  readonly pid: number;
  /** False: it did not answer the last question. */
  readonly answers: boolean;
  readonly started: string;
  readonly memory_bytes: number;
  readonly resident_bytes: number;
  readonly cpu_seconds: number;
  readonly volumes: number;
  readonly clients: number;
}

export interface LostStatus {
  readonly pool: string;
  readonly reason: string;
  readonly failures: number;
  /** When it is tried again; null: now. */
  readonly again: string | null;
}

/** `clientsOf`: how many clients the volumes of a pool have. */
export async function statusOf(
  supervisor: Supervisor,
  recovery: Recovery,
  clientsOf: (pool: string) => number,
): Promise<HostStatus> {
  const answering = new Set(await supervisor.answering());
  const volumes = supervisor.volumes.list();
  const inPools = (pools: readonly string[], name: string): boolean => pools.includes(name.split(/[/@]/, 1)[0]!);
  return {
    pid: process.pid,
    release: supervisor.release,
    engines: supervisor.members.map((member) => {
      const pools = [...member.pools.keys()].sort();
      const pid = member.core.pid ?? process.pid;
      return {
        pools,
        pid,
        answers: answering.has(member),
        started: new Date(member.startedAt).toISOString(),
        memory_bytes: member.memoryBytes,
        ...usageOf(pid),
        volumes: volumes.filter(({ name }) => inPools(pools, name)).length,
        clients: pools.reduce((sum, pool) => sum + clientsOf(pool), 0),
      };
    }),
    lost: [...supervisor.lostPools].map(([pool, { panic }]) => {
      const { failures = 0, againAt } = recovery.outlook(pool) ?? {};
      const again = againAt === undefined ? null : new Date(againAt).toISOString();
      return { pool, reason: panic.message, failures, again };
    }),
  };
}

/** USER_HZ; the same on every Linux that Node runs on. */
const TICKS_A_SECOND = 100;
const PAGE_BYTES = 4096;

/** What the kernel counts of a process; zeroes of one that is gone, and where there is no /proc. */
function usageOf(pid: number): { resident_bytes: number; cpu_seconds: number } {
  try {
    // Behind the name, which may have anything in it: state is field 3, utime and stime 14 and 15, rss 24 (proc(5)).
    const stat = readFileSync(`/proc/${pid}/stat`, 'latin1');
    const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
    const ticks = Number(fields[11]) + Number(fields[12]);
    return { resident_bytes: Number(fields[21]) * PAGE_BYTES, cpu_seconds: ticks / TICKS_A_SECOND };
  } catch {
    return { resident_bytes: 0, cpu_seconds: 0 };
  }
}

/** The table that `zow status` prints. */
export function statusText(status: HostStatus): string {
  const MiB = 1024 * 1024;
  const head = ['POOL', 'STATE', 'PID', 'MEMORY', 'RESIDENT', 'CPU', 'VOLUMES', 'CLIENTS'];
  const rows = status.engines.map((engine) => [
    engine.pools.join(',') || '-',
    engine.answers ? (engine.pools.length === 0 ? 'spare' : 'serving') : 'silent',
    String(engine.pid),
    `${Math.round(engine.memory_bytes / MiB)}M`,
    `${Math.round(engine.resident_bytes / MiB)}M`,
    `${engine.cpu_seconds.toFixed(1)}s`,
    String(engine.volumes),
    String(engine.clients),
  ]);
  for (const { pool } of status.lost) rows.push([pool, 'lost', ...Array<string>(6).fill('-')]);
  const widths = head.map((title, i) => Math.max(title.length, ...rows.map((row) => row[i]!.length)));
  const line = (cells: readonly string[]): string =>
    `${cells.map((cell, i) => (i < 2 ? cell.padEnd(widths[i]!) : cell.padStart(widths[i]!))).join('  ')}\n`;
  const lost = status.lost.map(({ pool, reason, failures, again }) => {
    const next = again === null ? 'it is being imported again' : `it is tried again at ${again}`;
    return `\n${pool}: its engine ended (${reason}), ${failures} ${failures === 1 ? 'time' : 'times'}; ${next}\n`;
  });
  return [line(head), ...rows.map(line), ...lost].join('');
}
