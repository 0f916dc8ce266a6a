const UNITS = 'BKMGTPE';

/**
 * Bytes of a size as ZFS writes it: a plain number of bytes, or a number with K, M, G, T, P or E (powers of 1024), which
 * may have a fraction and a trailing `B` or `iB`. Undefined when it is none, or not an exact JavaScript integer.
 * Follows zfs_nicestrtonum() in lib/libzfs/libzfs_util.c.
 */
export function parseSize(value: string | number): number | undefined {
  if (typeof value === 'number') return Number.isSafeInteger(value) && value >= 0 ? value : undefined;
  const match = /^(\d+(?:\.\d*)?|\.\d+)(?:([kmgtpe])(?:i?b)?|b)?$/i.exec(value);
  if (match === null) return undefined;
  const shift = match[2] === undefined ? 0 : UNITS.indexOf(match[2].toUpperCase());
  const bytes = Math.floor(Number(match[1]) * 1024 ** shift);
  return Number.isSafeInteger(bytes) ? bytes : undefined;
}

/** The shortest exact way to write a number of bytes: `4G`, `1536M`, `1000`. */
export function formatSize(bytes: number): string {
  if (bytes === 0) return '0';
  let unit = 0;
  let value = bytes;
  while (value % 1024 === 0 && unit < UNITS.length - 1) {
    value /= 1024;
    unit++;
  }
  return unit === 0 ? `${value}` : `${value}${UNITS[unit]}`;
}
