/*
 * musl's architecture header: the "thread pointer" of the whole module. Threads
 * are fibers with data of their own (wasm/libc/fiber.c); what musl itself keeps
 * per thread (locale) is shared by all of them.
 */
extern unsigned long __zow_tp[64];

static inline unsigned long
__get_tp(void)
{
	return ((unsigned long)__zow_tp);
}

#define	DTP_OFFSET	0
#define	MC_PC		__gregs[0]
