import { Errno } from '../../host/errno.ts';

/** ZFS_ERR_IOC_CMD_UNAVAIL, include/sys/fs/zfs.h: upstream's answer to a number without a handler. */
const noHandler = 1029;

/** What no client can make succeed, with the errno it gets instead, and why. */
export const unavailable: Readonly<Record<string, { readonly errno: number; readonly reason: string }>> = {
  ZFS_IOC_SHARE: {
    errno: Errno.EOPNOTSUPP,
    reason: 'shares a mounted filesystem over NFS; upstream has it on no system any more',
  },
  ZFS_IOC_SMB_ACL: {
    errno: Errno.EOPNOTSUPP,
    reason: 'keeps the access lists of SMB shares in a mounted filesystem; upstream has it on no system any more',
  },
  ZFS_IOC_NEXTBOOT: { errno: noHandler, reason: 'exists on FreeBSD only' },
  ZFS_IOC_USERNS_ATTACH: {
    errno: Errno.EOPNOTSUPP,
    reason: 'lets the processes of a user namespace mount a filesystem; nothing is mounted here',
  },
  ZFS_IOC_USERNS_DETACH: { errno: Errno.EOPNOTSUPP, reason: 'as ZFS_IOC_USERNS_ATTACH' },
};
