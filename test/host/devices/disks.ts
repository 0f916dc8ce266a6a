import { execFileSync } from 'node:child_process';
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';

/** An empty folder for one test's files. Remove it when done. */
export function scratch(): string {
  return fs.mkdtempSync(path.join(os.tmpdir(), 'zow-devices-'));
}

/** A block device on a file; undefined where this machine lets us make none (no root, no loop devices). */
export function loopDevice(file: string, ...options: string[]): { path: string; detach: () => void } | undefined {
  if (process.getuid?.() !== 0) return undefined;
  try {
    const device = execFileSync('losetup', ['--find', '--show', ...options, file], { stdio: 'pipe' })
      .toString()
      .trim();
    return { path: device, detach: () => execFileSync('losetup', ['--detach', device]) };
  } catch {
    return undefined;
  }
}

/** Why a test that needs loop devices cannot run where canLoop() says no. */
export const noLoop = 'only root can make a loop device, and a container may have none';

/** Whether loopDevice works here; tried once. */
export function canLoop(): boolean {
  const folder = scratch();
  const file = path.join(folder, 'try.img');
  fs.writeFileSync(file, new Uint8Array(1024 * 1024));
  const loop = loopDevice(file);
  loop?.detach();
  fs.rmSync(folder, { recursive: true });
  return loop !== undefined;
}
