import { accessSync, constants, readdirSync, readFileSync } from 'node:fs';
import { findProgram, ProgramError, runProgram } from '../run.ts';
import type { Front, Way, WayOptions } from './way.ts';

/** Between the kernel and the keeper: it spreads its requests over them. */
const CONNECTIONS = 4;

/** The kernel's NBD client: the volume is a block device. nbd-client configures it by netlink, and the kernel does the rest. */
export const kernel: Way = { name: 'nbd', missing: missingKernel, open: openKernel };

function missingKernel(): string | undefined {
  if (findProgram('nbd-client') === undefined) return 'the program nbd-client (Debian: nbd-client)';
  const [device] = devices();
  if (device === undefined) return `the kernel's nbd (no /dev/nbd0; modprobe nbd)`;
  try {
    accessSync(device, constants.R_OK | constants.W_OK);
  } catch (error) {
    return `${device} (${(error as NodeJS.ErrnoException).code}); the kernel's nbd is root's`;
  }
  return undefined;
}

function devices(): string[] {
  return readdirSync('/dev')
    .filter((name) => /^nbd\d+$/.test(name))
    .sort((a, b) => Number(a.slice(3)) - Number(b.slice(3)))
    .map((name) => `/dev/${name}`);
}

/** Whether the kernel has it connected. */
export function isConnected(device: string): boolean {
  try {
    return Number(readFileSync(device.replace('/dev/', '/sys/block/').concat('/size'), 'utf8')) > 0;
  } catch {
    return false;
  }
}

async function openKernel({ socket, readOnly }: WayOptions): Promise<Front> {
  let failure: Error = new ProgramError('all /dev/nbd* are connected; modprobe nbd nbds_max=… makes more');
  for (const path of devices()) {
    if (isConnected(path)) continue;
    try {
      const args = ['-unix', socket, path, '-block-size', '512', '-connections', String(CONNECTIONS)];
      await runProgram('nbd-client', [...args, ...(readOnly ? ['-readonly'] : [])]);
      return { record: { way: 'nbd', path }, ended: new Promise(() => undefined) };
    } catch (error) {
      // Somebody may have been faster with this one.
      failure = error as Error;
    }
  }
  throw failure;
}

export async function disconnect(device: string): Promise<void> {
  await runProgram('nbd-client', ['-d', device]);
}
