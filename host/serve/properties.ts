import { parseSize } from '../config/size.ts';

/** What a configured property means against the one on disk. */
export type PropertyVerdict = 'same' | 'set' | 'contradicts';

/** Properties of a volume that are decided at its creation (zfsprops(7)). */
const VOLUME_ONCE = new Set(['volblocksize', 'encryption', 'keyformat']);

/**
 * Compares a configured property of a volume with its value as `zfs get -Hp` prints it; undefined when it has none.
 */
export function judgeVolumeProperty(name: string, wanted: string, actual: string | undefined): PropertyVerdict {
  if (name === 'encryption' && wanted === 'on' && actual !== undefined && actual !== 'off') return 'same';
  if (actual !== undefined && sameValue(wanted, actual)) return 'same';
  return VOLUME_ONCE.has(name) ? 'contradicts' : 'set';
}

/** As judgeVolumeProperty, of a pool and `zpool get -Hp`. */
export function judgePoolProperty(name: string, wanted: string, actual: string | undefined): PropertyVerdict {
  // Applies to vdevs that are added; of those that exist the labels are the truth, and planPools has compared them.
  if (name === 'ashift') return 'same';
  if (name.startsWith('feature@')) {
    if (wanted === 'enabled') return actual === 'enabled' || actual === 'active' ? 'same' : 'set';
    return actual === 'disabled' ? 'same' : 'contradicts';
  }
  return actual !== undefined && sameValue(wanted, actual) ? 'same' : 'set';
}

/** `1G` and `1073741824`, `none` and `0` are the same; so is `auto`, which ZFS turns into a number when it is set. */
function sameValue(wanted: string, actual: string): boolean {
  if (wanted === actual || wanted === 'auto') return true;
  const number = wanted === 'none' ? 0 : parseSize(wanted);
  return number !== undefined && number === parseSize(actual);
}
