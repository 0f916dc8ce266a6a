import { VdevStat } from './pool-stats.ts';
import type { ScanSample } from './sample.ts';

const HEALTHY = 7;
/** Of vdev_aux_t: what a spare is that has taken over. */
const SPARED = 10;
/** vdev_aux_t, in the words of print_status_config() of zpool_main.c. */
const auxNotes = new Map([
  [1, 'cannot open'],
  [3, 'insufficient replicas'],
  [4, 'missing device'],
  [6, 'invalid label'],
  [7, 'newer version'],
  [9, 'unsupported feature(s)'],
  [11, 'too many errors'],
  [12, 'experienced I/O failures'],
  [13, 'bad intent log'],
  [14, 'external device fault'],
  [15, 'split into new pool'],
  [18, 'currently in use'],
  [19, 'all children offline'],
  [20, 'unsupported minimum blocksize'],
]);

/** What `zpool status` says behind a device or group; empty: nothing. */
export function vdevNote(vdev: {
  readonly stats: readonly number[];
  readonly isLeaf: boolean;
  readonly isSpare: boolean;
  readonly scan: ScanSample | undefined;
  /** It is in a group that is rebuilt sequentially. */
  readonly rebuilds: boolean;
}): string {
  const { stats, isLeaf, isSpare, scan, rebuilds } = vdev;
  const at = (index: number): number => stats[index] ?? 0;
  const aux = at(VdevStat.aux);
  if (isSpare) return aux === SPARED ? 'in use' : '';
  if (aux !== 0) return auxNotes.get(aux) ?? 'corrupted data';
  const notes: string[] = [];
  if (at(VdevStat.removing) !== 0) notes.push('removing');
  if (isLeaf && at(VdevStat.state) === HEALTHY) {
    if (scan?.state === 'scanning') {
      if (at(VdevStat.scanProcessed) !== 0) notes.push(scan.kind === 'resilver' ? 'resilvering' : 'repairing');
      else if (at(VdevStat.resilverDeferred) !== 0) notes.push('awaiting resilver');
    }
    if (rebuilds && at(VdevStat.rebuildProcessed) !== 0) notes.push('resilvering');
  }
  if (isLeaf && at(VdevStat.initializeState) === 1) notes.push('initializing');
  if (isLeaf && at(VdevStat.trimState) === 1) notes.push('trimming');
  return notes.join(', ');
}
