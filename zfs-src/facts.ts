// What is so in one release's sources and not in another's, as far as our C has to know: asked of the headers, never of the release's number.
import { existsSync, globSync, readFileSync } from 'node:fs';
import { join } from 'node:path';

/** A question to the headers of a release, whose answer is a macro of our C. */
export interface Fact {
  /** The macro that is defined where it is so. */
  readonly name: string;
  /** What is found in the headers where it is so: their text without comments. */
  readonly found: RegExp;
  /** The file that is looked into instead of the headers; where there is none, it is not so. */
  readonly file?: string;
  /** What it says, for the comment in the header. */
  readonly says: string;
}

/** Sorted by name. */
export const FACTS: readonly Fact[] = [
  {
    name: 'TREE_DATASET_KSTATS_INT',
    found: /\bint\s+dataset_kstats_create\(/,
    says: 'dataset_kstats_create() can fail, and there is a dataset_kstats_rename().',
  },
  {
    name: 'TREE_DBUF_BY_DNODE',
    found: /\bdmu_buf_hold_noread_by_dnode\(/,
    says: 'A buffer can be held by its dnode without reading it.',
  },
  {
    name: 'TREE_DECOMPRESS_ABD',
    found: /\bzio_decompress_data\([^)]*\bsrc,\s*abd_t\b/,
    says: 'A block is decompressed from one abd into another.',
  },
  {
    name: 'TREE_DEFAULT_QUOTAS',
    found: /\bz_defaultuserquota;/,
    says: 'A zfsvfs_t has default quotas.',
  },
  {
    name: 'TREE_DMU_TX_WAIT',
    found: /\bDMU_TX_WAIT\b/,
    says: 'How to wait for a transaction has a DMU_ name.',
  },
  {
    name: 'TREE_DMU_WRITE_FLAGS',
    found: /\bdmu_write_by_dnode\([^)]*\bdmu_flags_t\b/,
    says: 'dmu_write_by_dnode() takes flags and can fail.',
  },
  {
    name: 'TREE_FILE_OPEN_CRED',
    found: /\bzfs_file_open\([^)]*\bcred_t\b/,
    says: 'zfs_file_open() is told for whom.',
  },
  {
    name: 'TREE_FILE_PWRITE_ASHIFT',
    found: /\bzfs_file_pwrite\([^)]*\bashift\b/,
    says: 'zfs_file_pwrite() is told the ashift.',
  },
  {
    name: 'TREE_IOC_USERNS',
    found: /\bZFS_IOC_USERNS_ATTACH\b/,
    says: 'A filesystem can be given to a user namespace.',
  },
  {
    name: 'TREE_LWB_ALLOC_TXG',
    found: /\blwb_alloc_txg;/,
    says: 'A block of the log knows in which txgs it was allocated and issued.',
  },
  {
    name: 'TREE_NVLIST_CONST',
    found: /\bnvpair_value_string\([^)]*\bconst char \*\*/,
    says: 'Strings and lists in an nvlist are constants.',
  },
  {
    name: 'TREE_POST_REMOVE_BY_KERNEL',
    found: /\bzfs_post_remove\([^)]*\bboolean_t\b/,
    says: 'The event of a removed device says who removed it.',
  },
  {
    name: 'TREE_RAIDZ_EXPAND',
    found: /\bvn_vre;/,
    says: 'A raidz can be given another disk.',
  },
  {
    name: 'TREE_SPA_NAMESPACE_ENTER',
    found: /\bspa_namespace_enter\(/,
    says: "The lock of the pools' names is taken by a function.",
  },
  {
    name: 'TREE_TASKQ_CANCEL_WAIT',
    found: /\btaskq_cancel_id\([^)]*\bboolean_t\b/,
    says: 'taskq_cancel_id() is told whether to wait.',
  },
  {
    name: 'TREE_TUNABLES',
    found: /\bzfs_tunable_t;/,
    says: 'Tunables exist in user space too (sys/tunables.h).',
  },
  {
    name: 'TREE_TXG_WAIT_FLAGS',
    found: /\btxg_wait_synced_flags\(/,
    says: 'A wait for a txg can end with a suspended pool.',
  },
  {
    name: 'TREE_VDEV_FAULT_WANTED',
    found: /\bvdev_fault_wanted;/,
    says: 'A vdev can be faulted from where nothing may wait.',
  },
  {
    name: 'TREE_VDEV_OPEN_CRED',
    found: /\bvdev_open_func_t\)?\([^)]*\bcred_t\b/,
    says: "A vdev's open is told for whom.",
  },
  {
    name: 'TREE_VDEV_PROPS',
    found: /\bvdev_prop_set\(/,
    says: 'A vdev has properties.',
  },
  {
    name: 'TREE_VDEV_PSIZE_TO_ASIZE',
    found: /\bvdev_op_psize_to_asize;/,
    says: "A vdev's operations convert sizes both ways.",
  },
  {
    name: 'TREE_ZAP_ATTRIBUTE_ALLOC',
    found: /\bzap_attribute_alloc\(/,
    says: 'An entry of a ZAP is as long as its name needs.',
  },
  {
    name: 'TREE_ZAP_LONG_NAMES',
    found: /\bzap_value_search\([^)]*\bnamelen\b/,
    says: 'A name in a ZAP can be longer than ZAP_MAXNAMELEN.',
  },
  {
    name: 'TREE_ZFSDEV_STATE_INIT',
    found: /\bzfsdev_state_init\(/,
    says: 'The common code makes and ends the state of an open of /dev/zfs.',
  },
  {
    name: 'TREE_ZFSVFS_CREATE_HOLD',
    found: /\bzfsvfs_create_hold\(/,
    says: 'A filesystem is looked into by who does not own it.',
  },
  {
    name: 'TREE_ZFS_RANGE_TREE',
    found: /\bzfs_range_tree_clear\(/,
    says: "A range tree's functions have ZFS in their names.",
  },
  {
    name: 'TREE_ZIL_COMMIT_INT',
    found: /\bint(\s+__must_check)?\s+zil_commit\(/,
    says: 'zil_commit() can fail.',
  },
  {
    name: 'TREE_ZIL_MAX_LOG_DATA_HEADER',
    found: /\bzil_max_log_data\([^)]*,/,
    says: "What fits into a log block is asked with the record's header.",
  },
  {
    name: 'TREE_ZIL_REPLAY_BOOLEAN',
    found: /\bboolean_t\s+zil_replay\(/,
    says: 'zil_replay() says whether there was something to replay.',
  },
  {
    name: 'TREE_ZIL_SUMS',
    found: /\bdk_zil_sums;/,
    says: 'A dataset counts what its log does.',
  },
  {
    name: 'TREE_ZIL_WRITE_STATE',
    found: /\bzil_write_state\(/,
    says: 'zil.c decides how a write is logged.',
  },
  {
    name: 'TREE_ZIO_FLAG_T',
    found: /\bzio_flag_t;/,
    says: "A zio's flags are no enumeration.",
  },
  {
    name: 'TREE_ZIO_FLUSH',
    found: /\bZIO_TYPE_FLUSH\b/,
    says: 'A flush is a type of I/O, not an ioctl.',
  },
  {
    name: 'TREE_ZPLPROP',
    found: /^zfs_get_zplprop\(/m,
    file: 'module/zfs/zfs_znode.c',
    says: "The common code reads a filesystem's own properties.",
  },
  {
    name: 'TREE_ZVOL_CREATE_MINORS',
    found: /\bzvol_create_minors\(/,
    says: 'zvol_create_minors() has lost its suffix.',
  },
  {
    name: 'TREE_ZVOL_LOG_TRUNCATE_SYNC',
    found: /\bzvol_log_truncate\([^)]*\bsync\b/,
    says: 'zvol_log_truncate() is told whether it is for a synchronous write.',
  },
  {
    name: 'TREE_ZVOL_OPS',
    found: /\bzvol_platform_ops_t;/,
    says: 'The platform registers its part of volumes.',
  },
  {
    name: 'TREE_ZVOL_REMOVE_MINOR',
    found: /\bzvol_os_remove_minor\(/,
    says: 'zvol_os_remove_minor() is zvol_os_clear_private() with another name.',
  },
  {
    name: 'TREE_ZVOL_REMOVING',
    found: /\bZVOL_REMOVING\b/,
    says: 'A minor waits for its last close to be removed.',
  },
  {
    name: 'TREE_ZVOL_RENAME_INT',
    found: /\bint\s+zvol_os_rename_minor\(/,
    says: 'zvol_os_rename_minor() can fail.',
  },
  {
    name: 'TREE_ZVOL_SUSPEND_INT',
    found: /\bint\s+zvol_suspend\(/,
    says: 'zvol_suspend() can fail.',
  },
  {
    name: 'TREE_ZVOL_THREADING',
    found: /\bzv_threading;/,
    says: 'A volume has the property volthreading.',
  },
];

/** The headers that the core and the programs are compiled with, as one text for `Fact.found`. */
export function headerText(tree: string): string {
  return ['include', 'lib/libspl/include', 'lib/libzpool/include']
    .flatMap((folder) => globSync(`${folder}/**/*.h`, { cwd: tree }).sort())
    .filter((file) => !/^include\/os\/linux\/(spl|kernel)\/|\/freebsd\//.test(file))
    .map((file) => readFileSync(join(tree, file), 'utf8'))
    .join('\n')
    .replaceAll(/\/\*[\s\S]*?\*\//g, ' ');
}

/** What is so in one release. */
export interface Facts {
  /** The names, sorted. */
  readonly names: readonly string[];
  /** The header that says so to our C. */
  readonly header: string;
  has(name: string): boolean;
}

/** Asks the sources in `tree`. */
export function readFacts(tree: string): Facts {
  const headers = headerText(tree);
  const textOf = (file: string): string => {
    return existsSync(join(tree, file)) ? readFileSync(join(tree, file), 'utf8') : '';
  };
  const so = FACTS.filter(({ found, file }) => found.test(file === undefined ? headers : textOf(file)));
  const names = so.map(({ name }) => name);
  const lines = so.map(({ name, says }) => `/* ${says} */\n#define\t${name}\t1\n`);
  const header = `/* What is so in this release's sources (zfs-src/facts.ts). */\n#ifndef\t_ZOW_TREE_H\n#define\t_ZOW_TREE_H\n${lines.join('')}#endif\n`;
  return { names, header, has: (name) => names.includes(name) };
}
