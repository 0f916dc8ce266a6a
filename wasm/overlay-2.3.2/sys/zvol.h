#include_next <sys/zvol.h>
/* What 2.4 calls it. */
#define	zvol_create_minors	zvol_create_minors_recursive
