import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { accessSync, constants, mkdirSync, readFileSync, rmdirSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { findProgram, lastLine, ProgramError, runProgram } from '../run.ts';
import type { Front, Way, WayOptions } from './way.ts';

const LOOK_MS = 20;
const STDERR_BYTES_MAX = 4096;

const isRoot = () => process.geteuid!() === 0;

/** nbdfuse: the volume is a file. */
export const fuse: Way = {
  name: 'fuse',
  missing: missingFuse,
  open: openFuse,
};

export function missingFuse(): string | undefined {
  if (findProgram('nbdfuse') === undefined) {
    return 'the program nbdfuse (Debian: nbdfuse, before 13 libnbd-bin)';
  }
  if (!isRoot() && findProgram('fusermount3') === undefined) return 'the program fusermount3 (Debian: fuse3)';
  try {
    accessSync('/dev/fuse', constants.R_OK | constants.W_OK);
  } catch (error) {
    return `/dev/fuse (${(error as NodeJS.ErrnoException).code}); a container needs it given, and the right to mount`;
  }
  return undefined;
}

async function openFuse({ socket, folder, readOnly }: WayOptions): Promise<Front> {
  const mountpoint = join(folder, 'fuse');
  const path = join(mountpoint, 'disk');
  const ready = join(folder, 'nbdfuse.pid');
  mkdirSync(mountpoint);
  const args = [...(readOnly ? ['-r'] : []), '-P', ready, path, '--unix', socket];
  // A session of its own: signals for the keeper's are not meant for the file system.
  const child = spawn(findProgram('nbdfuse')!, args, { stdio: ['ignore', 'ignore', 'pipe'], detached: true });
  let stderr = '';
  child.stderr.on('data', (chunk: Buffer) => {
    stderr = (stderr + chunk).slice(-STDERR_BYTES_MAX);
  });
  let failure: string | undefined;
  const ended = once(child, 'close').then(
    ([code, signal]) => {
      failure = `nbdfuse ended: ${lastLine(stderr) ?? `with ${code ?? signal}`}`;
      return failure;
    },
    (error: Error) => {
      failure = `nbdfuse: ${error.message}`;
      return failure;
    },
  );
  // A file system whose process has nothing to say yet is not there; nbdfuse writes its pid when it is.
  while (failure === undefined && textOf(ready) === '') await sleep(LOOK_MS);
  if (failure === undefined) return { record: { way: 'fuse', path, mountpoint }, ended };
  await runProgram('umount', ['-l', mountpoint]).catch(() => undefined);
  rmdirSync(mountpoint);
  rmSync(ready, { force: true });
  throw new ProgramError(failure);
}

function isMounted(mountpoint: string): boolean {
  const field = mountpoint.replaceAll(/[ \t\n\\]/g, (c) => `\\${c.charCodeAt(0).toString(8).padStart(3, '0')}`);
  return readFileSync('/proc/self/mountinfo', 'utf8')
    .split('\n')
    .some((line) => line.split(' ')[4] === field);
}

function textOf(path: string): string {
  try {
    return readFileSync(path, 'utf8');
  } catch {
    return '';
  }
}

/** Ends nbdfuse, unless somebody did. Rejects when somebody uses the file; `force`: whether or not. */
export async function unmountFuse(mountpoint: string, { force }: { readonly force: boolean }): Promise<void> {
  if (!isMounted(mountpoint)) return;
  if (isRoot()) await runProgram('umount', [...(force ? ['-l'] : []), mountpoint]);
  else await runProgram('fusermount3', ['-u', ...(force ? ['-z'] : []), mountpoint]);
}
