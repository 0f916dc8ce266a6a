// The ioctls of a release, from upstream's own header.
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { BuildError } from './releases.ts';

export interface Ioctl {
  /** `ZFS_IOC_POOL_CREATE`. */
  readonly name: string;
  /** What ioctl(2) is called with: 0x5a00 and up. */
  readonly request: number;
  /** Further names of the same number. */
  readonly aliases: readonly string[];
}

/** Names of the enumeration that mark a place in it and are no ioctl. */
const MARKS = ['ZFS_IOC_FIRST', 'ZFS_IOC', 'ZFS_IOC_PLATFORM', 'ZFS_IOC_LAST'];

/** Every ioctl of `zfs_ioc_t` in include/sys/fs/zfs.h, as Linux numbers them, by number. `tree` is the unpacked release. */
export function readIoctls(tree: string): Ioctl[] {
  const header = readFileSync(join(tree, 'include/sys/fs/zfs.h'), 'utf8');
  const body = /typedef enum zfs_ioc \{([\s\S]*?)\} zfs_ioc_t;/.exec(header)?.[1];
  if (body === undefined) throw new BuildError('include/sys/fs/zfs.h: no enumeration zfs_ioc_t');
  const text = body.replaceAll(/\/\*[\s\S]*?\*\//g, '').replaceAll(/#ifdef __FreeBSD__[\s\S]*?#else|#endif/g, '');
  const values = new Map<string, number>();
  const names = new Map<number, string[]>();
  let next = 0;
  for (const entry of text.split(',').map((part) => part.trim())) {
    if (entry === '') continue;
    const [, name, value] = /^(\w+)(?:\s*=\s*(.+))?$/.exec(entry) ?? [];
    if (name === undefined) throw new BuildError(`include/sys/fs/zfs.h: zfs_ioc_t has an entry "${entry}"`);
    const number = value === undefined ? next : evaluate(value, values);
    values.set(name, number);
    if (!MARKS.includes(name)) names.set(number, [...(names.get(number) ?? []), name]);
    next = number + 1;
  }
  return [...names]
    .sort(([a], [b]) => a - b)
    .map(([request, [name, ...aliases]]) => ({ name: name!, request, aliases }));
}

/** The forms upstream has: a name before it, `NAME + 0x80`, `('Z' << 8)`. */
function evaluate(expression: string, values: ReadonlyMap<string, number>): number {
  const shifted = /^\('(.)' << (\d+)\)$/.exec(expression);
  if (shifted !== null) return shifted[1]!.charCodeAt(0) << Number(shifted[2]);
  const sum = /^(\w+)(?: \+ (\w+))?$/.exec(expression);
  const base = values.get(sum?.[1] ?? '');
  if (base === undefined) throw new BuildError(`include/sys/fs/zfs.h: zfs_ioc_t has a value "${expression}"`);
  return base + Number(sum?.[2] ?? 0);
}
