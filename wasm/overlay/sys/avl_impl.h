/* One layout of avl_tree_t for every file of the module. */
#ifdef	_KERNEL
#undef	_KERNEL
#include_next <sys/avl_impl.h>
#define	_KERNEL
#else
#include_next <sys/avl_impl.h>
#endif
