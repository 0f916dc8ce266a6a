#include <sys/zfs_context.h>
#include <sys/zfs_znode.h>
void zfs_create_fs(objset_t *os, cred_t *cr, nvlist_t *zplprops, dmu_tx_t *tx) {(void)os;(void)cr;(void)zplprops;(void)tx;}
