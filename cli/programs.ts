/** Upstream's programs that come with ZoW, each a command of `zow` and an executable of the package. */
export const PROGRAMS = {
  zpool: 'configure storage pools',
  zfs: 'configure datasets: volumes, snapshots, properties',
  zdb: 'look into pools, for debugging; works on device files without a host',
  zstream: 'look into and rewrite streams of zfs send',
  zinject: 'inject faults into pools, for tests',
} as const;

/** Those that a host runs for itself. */
export const DAEMONS = ['zed'] as const;

export type ProgramName = keyof typeof PROGRAMS;

export function isProgram(name: string | undefined): name is ProgramName {
  return name !== undefined && Object.hasOwn(PROGRAMS, name);
}
