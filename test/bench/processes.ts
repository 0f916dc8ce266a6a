import { readdirSync, readFileSync } from 'node:fs';

/** A process and those that it started, its engines for one. */
export function family(pid: number): number[] {
  const children = readdirSync(`/proc/${pid}/task`).flatMap((task) =>
    readFileSync(`/proc/${pid}/task/${task}/children`, 'utf8').split(' ').filter(Boolean).map(Number),
  );
  return [pid, ...children.flatMap(family)];
}

/** Seconds of all their threads, of what the scheduler charges them for (schedstat, nanoseconds). */
export function processorSeconds(pid: number): number {
  const times = family(pid).flatMap((each) =>
    readdirSync(`/proc/${each}/task`).map((task) =>
      Number(readFileSync(`/proc/${each}/task/${task}/schedstat`, 'utf8').split(' ')[0]),
    ),
  );
  return times.reduce((sum, time) => sum + time, 0) / 1e9;
}

/** MiB that they have resident, by a line of /proc/PID/status: `VmRSS`, or at most so far, `VmHWM`. */
export function residentMiB(pid: number, key: 'VmRSS' | 'VmHWM'): number {
  const kiB = family(pid).map((each) =>
    Number(new RegExp(`${key}:\\s+(\\d+) kB`).exec(readFileSync(`/proc/${each}/status`, 'utf8'))?.[1]),
  );
  return kiB.reduce((sum, value) => sum + value, 0) / 1024;
}
