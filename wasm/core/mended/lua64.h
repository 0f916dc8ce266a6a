/*
 * CDDL HEADER START
 *
 * This file and its contents are supplied under the terms of the
 * Common Development and Distribution License ("CDDL"), version 1.0.
 * You may only use this file in accordance with the terms of version
 * 1.0 of the CDDL.
 *
 * A full copy of the text of the CDDL should have accompanied this
 * source.
 *
 * CDDL HEADER END
 */

/*
 * For Lua and those who call it: its integers have 64 bits, as on the machines
 * that upstream's channel programs are written for.  There its lua_Integer is
 * a ptrdiff_t, which has 32 here.
 */
#ifndef	_ZOW_LUA64_H
#define	_ZOW_LUA64_H

#include <stddef.h>
#include <stdint.h>
#include <sys/zfs_context.h>

#define	ptrdiff_t	int64_t

#ifdef	ZOW_LUA_POSITIONS
#include <sys/lua/lua.h>
#include <sys/lua/lauxlib.h>

/*
 * For lstrlib.c, which takes positions in strings as ptrdiff_t: what is beyond
 * that is beyond every string, on either side.
 */
static inline lua_Integer
zow_lua_position(lua_Integer n)
{
	return (n > PTRDIFF_MAX ? PTRDIFF_MAX :
	    n < -PTRDIFF_MAX ? -PTRDIFF_MAX : n);
}

#undef	luaL_checkint
#define	luaL_checkint(L, n)	((int)(luaL_checkinteger)(L, n))
#define	luaL_checkinteger(L, n)	zow_lua_position((luaL_checkinteger)(L, n))
#define	luaL_optinteger(L, n, d) \
	zow_lua_position((luaL_optinteger)(L, n, d))
#endif

#endif	/* _ZOW_LUA64_H */
