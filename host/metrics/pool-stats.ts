/** Where upstream's structures of numbers (include/sys/fs/zfs.h) have what is read of them. */

/** Indexes of vdev_stat_t (include/sys/fs/zfs.h); operations and bytes are by zio_type_t. */
export const VdevStat = {
  state: 1,
  aux: 2,
  allocated: 3,
  space: 4,
  operations: 8,
  bytes: 14,
  readErrors: 20,
  writeErrors: 21,
  checksumErrors: 22,
  removing: 25,
  scanProcessed: 26,
  initializeDone: 28,
  initializeTotal: 29,
  initializeState: 30,
  initializeTime: 31,
  resilverDeferred: 33,
  slow: 34,
  trimDone: 37,
  trimTotal: 38,
  trimState: 39,
  trimTime: 40,
  rebuildProcessed: 41,
} as const;

/** Indexes of pool_scan_stat_t. */
export const ScanStat = {
  function: 0,
  state: 1,
  startTime: 2,
  endTime: 3,
  toExamine: 4,
  skipped: 6,
  errors: 8,
  passStart: 10,
  passPause: 11,
  passSpentPaused: 12,
  passIssued: 13,
  issued: 14,
} as const;
/** Indexes of vdev_rebuild_stat_t, of pool_removal_stat_t, and of pool_raidz_expand_stat_t, which has the same. */
export const RebuildStat = { state: 0, issued: 5, total: 7, passMs: 9, passIssued: 11 } as const;
export const RemovalStat = { state: 0, vdev: 1, startTime: 2, total: 4, done: 5 } as const;
