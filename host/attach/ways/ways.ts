import { Errno, ErrnoError, errnoOf } from '../../errno.ts';
import { fuse, unmountFuse } from './fuse.ts';
import { disconnect, isConnected, kernel } from './kernel.ts';
import { isBound, loop, unbindLoop } from './loop.ts';
import { claim, userOf } from './use.ts';
import type { FrontRecord, Way, WayName } from './way.ts';

/** Best first. The kernel's nbd is only taken when it is asked for, until it was tried on a machine that has it. */
const AUTOMATIC: readonly Way[] = [loop, fuse];
const WAYS: readonly Way[] = [kernel, ...AUTOMATIC];

/** The way of that name, or the best that this machine has. @throws ErrnoError whose sentence says what is missing. */
export function chooseWay(name: WayName | undefined): Way {
  const candidates = name === undefined ? AUTOMATIC : WAYS.filter((way) => way.name === name);
  const lacks: string[] = [];
  for (const way of candidates) {
    const missing = way.missing();
    if (missing === undefined) return way;
    lacks.push(`${way.name} needs ${missing}`);
  }
  throw new ErrnoError(Errno.ENODEV, `nothing here can attach a volume: ${lacks.join('; ')}`);
}

export interface TakeDownOptions {
  /** What programs wrote is written out first; without it nothing is, for nobody is there to write it to. */
  readonly writes: boolean;
}

/** Takes a front apart. Rejects with EBUSY and who uses it, and then it is as it was. */
export async function takeDown(record: FrontRecord, { writes }: TakeDownOptions): Promise<void> {
  if (record.way === 'fuse') {
    await takeFileDown(record, writes);
    return;
  }
  const stands = record.way === 'nbd' ? isConnected(record.path) : isBound(record.path, record.mountpoint!);
  if (stands) {
    const user = userOf(record.path);
    if (user !== undefined) throw busy(record, user);
    await claim(record.path, { writes }).catch((error: unknown) => {
      throw errnoOf(error) === Errno.EBUSY ? busy(record, 'the kernel has it') : error;
    });
  }
  if (record.way === 'nbd') {
    if (stands) await disconnect(record.path);
    return;
  }
  if (!(await unbindLoop(record.path, record.mountpoint!))) throw busy(record, 'somebody has just opened it');
  await unmountFuse(record.mountpoint!, { force: !writes });
}

async function takeFileDown(record: FrontRecord, writes: boolean): Promise<void> {
  const user = userOf(record.path);
  if (user !== undefined) throw busy(record, user);
  await unmountFuse(record.mountpoint!, { force: !writes }).catch((error: unknown) => {
    throw /busy/i.test(String(error)) ? busy(record, 'the kernel has it, as a loop device may') : error;
  });
}

function busy({ path }: FrontRecord, user: string): ErrnoError {
  return new ErrnoError(Errno.EBUSY, `${path} is in use: ${user}`);
}
