import { lstatSync, mkdtempSync, readdirSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { probeSocket } from './socket-path.ts';

const pattern = /^zow-(\d+)-[A-Za-z0-9]{6}$/;
const socketName = 'sock';

/** Where a host's private socket is: a new folder, mode 0700, in the folder for temporary files. */
export interface PrivateFolder {
  readonly folder: string;
  /** Path of the socket to be. */
  readonly socket: string;
}

/** Makes one, and removes those of this user's hosts that were killed. */
export async function makePrivateFolder(parent: string): Promise<PrivateFolder> {
  await removeAbandoned(parent);
  const folder = mkdtempSync(join(parent, `zow-${process.pid}-`));
  return { folder, socket: join(folder, socketName) };
}

async function removeAbandoned(parent: string): Promise<void> {
  for (const name of readdirSync(parent)) {
    const pid = pattern.exec(name)?.[1];
    if (pid === undefined || lives(Number(pid))) continue;
    const folder = join(parent, name);
    try {
      if (!isOurs(folder)) continue;
      // The pid may be one of another container, with which the folder is shared.
      if ((await probeSocket(join(folder, socketName))) !== undefined) continue;
      rmSync(folder, { recursive: true });
    } catch {
      // Somebody else's, or removed by another host that starts now: no reason not to start.
    }
  }
}

/** A folder, no link to one, that nobody else can have touched. */
function isOurs(folder: string): boolean {
  const stat = lstatSync(folder);
  return stat.isDirectory() && stat.uid === process.geteuid!() && (stat.mode & 0o077) === 0;
}

function lives(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    return (error as NodeJS.ErrnoException).code !== 'ESRCH';
  }
}
