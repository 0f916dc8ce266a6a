/*
 * Upstream bounds volumes of 32-bit systems by what Linux's block layer can
 * count there, 1 TiB. Here it is the host that counts bytes, in doubles.
 */
#include_next <sys/zvol.h>
#undef	SPEC_MAXOFFSET_T
#define	SPEC_MAXOFFSET_T	((1LL << 53) - 2)

#if defined(ZOW_CORE) && !defined(TREE_ZVOL_CREATE_MINORS)
/* What newer releases call it. */
#define	zvol_create_minors	zvol_create_minors_recursive
#endif
