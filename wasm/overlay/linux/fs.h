/* Of Linux's header, what upstream uses: the size of a block device. */
#ifndef	_ZOW_LINUX_FS_H
#define	_ZOW_LINUX_FS_H
/* musl's sys/mount.h has them too. */
#ifndef	BLKGETSIZE64
#define	BLKGETSIZE64	0x80041272
#define	BLKFLSBUF	0x1261
#endif
#endif
