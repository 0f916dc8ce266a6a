/* Its kernel half is the POSIX layer, which is not part of the core. */
#ifdef	_KERNEL
#undef	_KERNEL
#include_next <sys/zfs_znode.h>
#define	_KERNEL
extern void zfs_create_fs(objset_t *, cred_t *, nvlist_t *, dmu_tx_t *);
extern int zfs_get_zplprop(objset_t *, zfs_prop_t, uint64_t *);
#else
#include_next <sys/zfs_znode.h>
#endif
