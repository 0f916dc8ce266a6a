import { lstatSync, readlinkSync, rmdirSync, symlinkSync, unlinkSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { Errno, ErrnoError } from '../errno.ts';
import { makeFolders } from '../folder.ts';
import type { AttachmentRecord } from './record.ts';

type LinkFile = NonNullable<AttachmentRecord['link']>;

/** Where the link of a volume is to be. @throws ErrnoError when something else is there. */
export function linkFileOf(folder: string, volume: string): LinkFile {
  const path = join(folder, volume);
  const found = lstatSync(path, { throwIfNoEntry: false });
  if (found !== undefined && !found.isSymbolicLink())
    throw new ErrnoError(Errno.EEXIST, `${path} is there, and no link`);
  return { path, folder };
}

/** Makes it, as /dev/zvol/tank/vm0 leads to /dev/zd0. One that is left of an attachment before is replaced. */
export function makeLinkFile({ path }: LinkFile, target: string): void {
  makeFolders(dirname(path));
  if (lstatSync(path, { throwIfNoEntry: false })?.isSymbolicLink() === true) unlinkSync(path);
  symlinkSync(target, path);
}

/** Removes it, unless it leads elsewhere by now, and folders that are empty then. */
export function removeLinkFile({ path, folder }: LinkFile, target: string): void {
  try {
    if (readlinkSync(path) !== target) return;
    unlinkSync(path);
    for (let above = dirname(path); above !== folder && above.startsWith(`${folder}/`); above = dirname(above)) {
      rmdirSync(above);
    }
  } catch {
    // Gone already, or a folder that has others.
  }
}
