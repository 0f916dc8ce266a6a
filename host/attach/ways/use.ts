import { constants, readdirSync, readFileSync, readlinkSync, statSync } from 'node:fs';
import { open } from 'node:fs/promises';

/** Who uses a block device or a file, as a sentence goes on after "in use: "; undefined: nobody that can be seen from here. */
export function userOf(path: string): string | undefined {
  return mountOf(path) ?? openerOf(path);
}

/** `it is mounted on /mnt`. */
function mountOf(path: string): string | undefined {
  const { rdev } = statSync(path);
  if (rdev === 0) return undefined;
  const device = `${(rdev >> 8) & 0xfff}:${(rdev & 0xff) | ((rdev >> 12) & 0xfff00)}`;
  for (const line of readFileSync('/proc/self/mountinfo', 'utf8').split('\n')) {
    const fields = line.split(' ');
    if (fields[2] === device) return `it is mounted on ${fields[4]!.replaceAll('\\040', ' ')}`;
  }
  return undefined;
}

/** `process 123 (dd) has it open`. */
function openerOf(path: string): string | undefined {
  for (const pid of readdirSync('/proc')) {
    if (!/^\d+$/.test(pid) || Number(pid) === process.pid) continue;
    try {
      const isUser = readdirSync(`/proc/${pid}/fd`).some((fd) => linkOf(`/proc/${pid}/fd/${fd}`) === path);
      if (isUser) return `process ${pid} (${readFileSync(`/proc/${pid}/comm`, 'utf8').trim()}) has it open`;
    } catch {
      // It has ended, or is somebody else's.
    }
  }
  return undefined;
}

function linkOf(path: string): string | undefined {
  try {
    return readlinkSync(path);
  } catch {
    return undefined;
  }
}

/**
 * Opens a block device so that nobody mounts it meanwhile, and writes out what the kernel holds of it. Rejects with EBUSY
 * when somebody has it that way (a mount, LVM, RAID), with EIO when it cannot be written. Never on the thread that serves
 * the device: opening and closing read and write it, too.
 */
export async function claim(path: string, { writes }: { readonly writes: boolean }): Promise<void> {
  const file = await open(path, (writes ? constants.O_RDWR : constants.O_RDONLY) | constants.O_EXCL);
  try {
    if (writes) await file.sync();
  } finally {
    await file.close();
  }
}
