import { readFileSync } from 'node:fs';
import { join } from 'node:path';

/** A pair that an ioctl takes, of upstream's tables zfs_keys_*. */
export interface IoctlKey {
  /** `<…>` stands for names of the caller's. */
  readonly name: string;
  /** DATA_TYPE_ without that. */
  readonly type: string;
  readonly isOptional: boolean;
}

/** How module/zfs/zfs_ioctl.c registers an ioctl. */
export interface IoctlEntry {
  /** ZFS_IOC_ without that. */
  readonly name: string;
  /** Undefined: it takes its input from zfs_cmd_t. */
  readonly keys: readonly IoctlKey[] | undefined;
  /** What its name has to be. */
  readonly scope: 'pool' | 'dataset' | 'entity' | 'none';
}

const scopes: { readonly [name: string]: IoctlEntry['scope'] } = {
  POOL: 'pool',
  DATASET: 'dataset',
  ENTITY: 'entity',
  NO: 'none',
  pool: 'pool',
  dataset: 'dataset',
  no: 'none',
};

/** Upstream's own dispatch table, read from its source. `tree` is the unpacked release. */
export function readIoctlTable(tree: string): IoctlEntry[] {
  const source = readFileSync(join(tree, 'module/zfs/zfs_ioctl.c'), 'utf8').replaceAll(/\/\*[\s\S]*?\*\//g, '');
  const names = constants(tree);
  const tables = new Map<string, IoctlKey[]>();
  for (const [, table, body] of source.matchAll(/static const zfs_ioc_key_t (\w+)\[\] = \{([\s\S]*?)\n\};/g)) {
    const keys = [...body!.matchAll(/\{\s*("[^"]*"|\w+),\s*DATA_TYPE_(\w+),\s*([^}]*)\}/g)].map(
      ([, name, type, flags]): IoctlKey => ({
        name: name!.startsWith('"') ? name!.slice(1, -1) : (names.get(name!) ?? name!),
        type: type!,
        isOptional: flags!.includes('ZK_OPTIONAL'),
      }),
    );
    tables.set(table!, keys);
  }
  const init = source.slice(source.indexOf('zfs_ioctl_init(void)\n{'));
  const entries = [...init.matchAll(/zfs_ioctl_register(\w*)\(([\s\S]*?)\);/g)].flatMap(([, kind, args]) => {
    const name = /ZFS_IOC_(\w+)/.exec(args!)?.[1];
    if (name === undefined) return [];
    const table = /(zfs_keys_\w+)/.exec(args!)?.[1];
    const scope =
      /\b(POOL|DATASET|ENTITY|NO)_NAME\b/.exec(args!)?.[1] ?? /pool(?!_meta)|dataset/.exec(kind!)?.[0] ?? 'no';
    return [{ name, keys: kind === '' ? (tables.get(table ?? '') ?? []) : undefined, scope: scopes[scope]! }];
  });
  if (entries.length < 80) throw new Error(`module/zfs/zfs_ioctl.c registers ${entries.length} ioctls only`);
  return entries;
}

/** `#define NAME "text"` of the headers that name keys. */
function constants(tree: string): Map<string, string> {
  const headers = ['include/sys/fs/zfs.h', 'include/sys/zcp.h', 'include/sys/dsl_bookmark.h'];
  return new Map(
    headers.flatMap((header) =>
      [...readFileSync(join(tree, header), 'utf8').matchAll(/#define\s+(\w+)\s+"([^"]*)"/g)].map(
        ([, name, text]): [string, string] => [name!, text!],
      ),
    ),
  );
}
