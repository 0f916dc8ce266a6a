/** sizeof (zfs_cmd_t), include/sys/zfs_ioctl.h; a host of another size refuses the hello. */
export const zfsCmdBytes = 13744;

/** Offsets of the members that the host itself fills or reads. */
export const ZfsCmd = {
  /** zc_name, zc_value and zc_string: NUL-terminated. */
  name: 0,
  /** u64: zc_nvlist_src_size. */
  srcSize: 4104,
  /** u64: zc_nvlist_dst_size. */
  dstSize: 4120,
  /** s32: zc_nvlist_dst_filled. */
  dstFilled: 4128,
  /** char[]: zc_value. */
  value: 4144,
  /** u64: zc_guid. */
  guid: 12592,
  /** u64: zc_cookie. */
  cookie: 12616,
  /** s32: zc_cleanup_fd. */
  cleanupFd: 13664,
} as const;
