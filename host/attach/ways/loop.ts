import { accessSync, constants, readFileSync } from 'node:fs';
import { basename } from 'node:path';
import { findProgram, runProgram } from '../run.ts';
import { fuse, missingFuse, unmountFuse } from './fuse.ts';
import type { Front, Way, WayOptions } from './way.ts';

const CONTROL = '/dev/loop-control';

/** A loop device on the file of nbdfuse: the volume is a block device. */
export const loop: Way = { name: 'loop', missing: missingLoop, open: openLoop };

function missingLoop(): string | undefined {
  const fuseMissing = missingFuse();
  if (fuseMissing !== undefined) return fuseMissing;
  if (findProgram('losetup') === undefined) return 'the program losetup (Debian: mount)';
  try {
    accessSync(CONTROL, constants.R_OK | constants.W_OK);
  } catch (error) {
    return `${CONTROL} (${(error as NodeJS.ErrnoException).code}); loop devices are root's`;
  }
  return undefined;
}

async function openLoop(options: WayOptions): Promise<Front> {
  const { record, ended } = await fuse.open(options);
  const mountpoint = record.mountpoint!;
  try {
    // Direct I/O: what is cached is cached once, above the device.
    const args = ['--find', '--show', '--direct-io=on', ...(options.readOnly ? ['--read-only'] : []), record.path];
    const path = (await runProgram('losetup', args)).trim();
    return { record: { way: 'loop', path, mountpoint }, ended };
  } catch (error) {
    await unmountFuse(mountpoint, { force: true });
    throw error;
  }
}

/** Takes the loop device off the file. False: somebody has it open, and it is taken off when he is done. */
export async function unbindLoop(device: string, mountpoint: string): Promise<boolean> {
  if (!isBound(device, mountpoint)) return true;
  await runProgram('losetup', ['--detach', device]);
  return !isBound(device, mountpoint);
}

/** It may be another's by now. */
export function isBound(device: string, mountpoint: string): boolean {
  try {
    return readFileSync(`/sys/block/${basename(device)}/loop/backing_file`, 'utf8').startsWith(`${mountpoint}/`);
  } catch {
    return false;
  }
}
