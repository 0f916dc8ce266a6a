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
 * Module parameters: how a kernel parses, shows and keeps them, and setters
 * that are Linux's own in upstream's tree.
 */

#include <sys/zfs_context.h>
#include <sys/mod.h>
#include <sys/arc_impl.h>
#include <sys/nvpair.h>
#include <sys/spa.h>
#include <sys/vdev_impl.h>
#include <sys/vdev_raidz.h>
#include <zfs_fletcher.h>

#include "inspect.h"

#define	VALUE_MAX	4096	/* a page, as in sysfs */
#define	CHARP_MAX	1024	/* as of Linux's param_set_charp() */

/* Both arrays are made by the linker. */
extern const zow_tunable_t __start_zow_tunables[];
extern const zow_tunable_t __stop_zow_tunables[];
extern const zow_tunable_desc_t __start_zow_tunable_descs[];
extern const zow_tunable_desc_t __stop_zow_tunable_descs[];

/*
 * Numbers. As kstrtoull(): decimal, 0x and 0, one newline at the end.
 */
static int
parse_number(const char *s, unsigned int base, boolean_t *negative,
    u_longlong_t *value)
{
	char *end;

	*negative = *s == '-';
	if (*s == '-' || *s == '+')
		s++;
	if (!isalnum((unsigned char)*s))
		return (-EINVAL);
	errno = 0;
	*value = strtoull(s, &end, base);
	if (*end == '\n')
		end++;
	if (end == s || *end != '\0')
		return (-EINVAL);
	return (errno == ERANGE ? -ERANGE : 0);
}

static int
parse_unsigned(const char *s, unsigned int base, u_longlong_t max,
    u_longlong_t *value)
{
	boolean_t negative;
	int error = parse_number(s, base, &negative, value);

	if (negative && error == 0)
		return (-EINVAL);
	return (error == 0 && *value > max ? -ERANGE : error);
}

int
kstrtoul(const char *s, unsigned int base, unsigned long *result)
{
	u_longlong_t value;
	int error = parse_unsigned(s, base, ULONG_MAX, &value);

	if (error == 0)
		*result = value;
	return (error);
}

int
kstrtouint(const char *s, unsigned int base, unsigned int *result)
{
	u_longlong_t value;
	int error = parse_unsigned(s, base, UINT_MAX, &value);

	if (error == 0)
		*result = value;
	return (error);
}

int
param_set_int(const char *val, zfs_kernel_param_t *kp)
{
	boolean_t negative;
	u_longlong_t value;
	int error = parse_number(val, 0, &negative, &value);

	if (error != 0)
		return (error);
	if (value > (u_longlong_t)INT_MAX + (negative ? 1 : 0))
		return (-ERANGE);
	*(int *)kp->arg = negative ? -(longlong_t)value : value;
	return (0);
}

int
param_set_uint(const char *val, zfs_kernel_param_t *kp)
{
	return (kstrtouint(val, 0, kp->arg));
}

int
param_set_ulong(const char *val, zfs_kernel_param_t *kp)
{
	return (kstrtoul(val, 0, kp->arg));
}

int
param_set_ullong(const char *val, zfs_kernel_param_t *kp)
{
	u_longlong_t value;
	int error = parse_unsigned(val, 0, UINT64_MAX, &value);

	if (error == 0)
		*(uint64_t *)kp->arg = value;
	return (error);
}

int
param_get_int(char *buf, zfs_kernel_param_t *kp)
{
	return (sprintf(buf, "%d\n", *(int *)kp->arg));
}

int
param_get_uint(char *buf, zfs_kernel_param_t *kp)
{
	return (sprintf(buf, "%u\n", *(uint_t *)kp->arg));
}

int
param_get_ulong(char *buf, zfs_kernel_param_t *kp)
{
	return (sprintf(buf, "%lu\n", *(ulong_t *)kp->arg));
}

int
param_get_ullong(char *buf, zfs_kernel_param_t *kp)
{
	return (sprintf(buf, "%llu\n", *(u_longlong_t *)kp->arg));
}

/* Strings: the copy that a parameter has is freed when it gets another. */
typedef struct charp {
	struct charp	*c_next;
	void		*c_arg;
	char		*c_value;
} charp_t;

static charp_t *charps;

int
param_set_charp(const char *val, zfs_kernel_param_t *kp)
{
	charp_t *c = charps;
	char *copy;

	if (strlen(val) > CHARP_MAX)
		return (-ENOSPC);
	if ((copy = strdup(val)) == NULL)
		return (-ENOMEM);
	while (c != NULL && c->c_arg != kp->arg)
		c = c->c_next;
	if (c == NULL) {
		if ((c = calloc(1, sizeof (*c))) == NULL) {
			free(copy);
			return (-ENOMEM);
		}
		c->c_arg = kp->arg;
		c->c_next = charps;
		charps = c;
	}
	free(c->c_value);
	c->c_value = copy;
	*(char **)kp->arg = copy;
	return (0);
}

int
param_get_charp(char *buf, zfs_kernel_param_t *kp)
{
	const char *value = *(char **)kp->arg;

	return (snprintf(buf, VALUE_MAX, "%s\n", value != NULL ? value : ""));
}

/*
 * Setters of parameters of common code that upstream has in the files of an
 * operating system: here module/os/linux/zfs/{arc_os,vdev_disk,vdev_raidz}.c.
 */
int
param_set_arc_u64(const char *val, zfs_kernel_param_t *kp)
{
	int error = spl_param_set_u64(val, kp);

	if (error == 0)
		arc_tuning_update(B_TRUE);
	return (error);
}

int
param_set_arc_min(const char *val, zfs_kernel_param_t *kp)
{
	return (param_set_arc_u64(val, kp));
}

int
param_set_arc_max(const char *val, zfs_kernel_param_t *kp)
{
	return (param_set_arc_u64(val, kp));
}

int
param_set_arc_int(const char *val, zfs_kernel_param_t *kp)
{
	int error = param_set_int(val, kp);

	if (error == 0)
		arc_tuning_update(B_TRUE);
	return (error);
}

int
param_set_min_auto_ashift(const char *val, zfs_kernel_param_t *kp)
{
	uint_t ashift;
	int error = kstrtouint(val, 0, &ashift);

	if (error != 0)
		return (error);
	if (ashift < ASHIFT_MIN || ashift > zfs_vdev_max_auto_ashift)
		return (-EINVAL);
	return (param_set_uint(val, kp));
}

int
param_set_max_auto_ashift(const char *val, zfs_kernel_param_t *kp)
{
	uint_t ashift;
	int error = kstrtouint(val, 0, &ashift);

	if (error != 0)
		return (error);
	if (ashift > ASHIFT_MAX || ashift < zfs_vdev_min_auto_ashift)
		return (-EINVAL);
	return (param_set_uint(val, kp));
}

/*
 * Implementations that are chosen by name. Upstream can tell which one is
 * only where it also measures them at load, before the engine has compiled
 * them well; so what was set is what is shown.
 */
static char raidz_impl[16] = "fastest";
static char fletcher_4_impl[16] = "fastest";

int
param_set_raidz_impl(const char *val, zfs_kernel_param_t *kp)
{
	int error = vdev_raidz_impl_set(val);

	(void) kp;
	if (error == 0)
		(void) strlcpy(raidz_impl, val, sizeof (raidz_impl));
	return (error);
}

int
param_get_raidz_impl(char *buf, zfs_kernel_param_t *kp)
{
	(void) kp;
	return (sprintf(buf, "%s\n", raidz_impl));
}

static int
fletcher_4_param_set(const char *val, zfs_kernel_param_t *kp)
{
	int error = fletcher_4_impl_set(val);

	(void) kp;
	if (error == 0)
		(void) strlcpy(fletcher_4_impl, val, sizeof (fletcher_4_impl));
	return (error);
}

static int
fletcher_4_param_get(char *buf, zfs_kernel_param_t *kp)
{
	(void) kp;
	return (sprintf(buf, "%s\n", fletcher_4_impl));
}

ZFS_MODULE_VIRTUAL_PARAM_CALL(zfs, zfs_, fletcher_4_impl,
    fletcher_4_param_set, fletcher_4_param_get, ZMOD_RW,
	"Select fletcher 4 implementation.");

/*
 * What the host asks for.
 */
static const char *
tunable_type(const zow_tunable_t *zt)
{
	if (zt->zt_get == param_get_int)
		return ("int");
	if (zt->zt_get == param_get_uint)
		return ("uint");
	if (zt->zt_get == param_get_ulong)
		return ("ulong");
	if (zt->zt_get == param_get_ullong)
		return ("u64");
	if (zt->zt_get == param_get_charp)
		return ("string");
	return ("text");
}

static const char *
tunable_desc(const zow_tunable_t *zt)
{
	if (zt->zt_desc != NULL)
		return (zt->zt_desc);
	for (const zow_tunable_desc_t *zd = __start_zow_tunable_descs;
	    zd < __stop_zow_tunable_descs; zd++) {
		if (strcmp(zd->zd_name, zt->zt_name) == 0)
			return (zd->zd_desc);
	}
	return ("");
}

void
tunables_list(nvlist_t *nvl)
{
	uint_t count = __stop_zow_tunables - __start_zow_tunables;
	nvlist_t **list = kmem_alloc(count * sizeof (*list), KM_SLEEP);
	char *value = kmem_alloc(VALUE_MAX, KM_SLEEP);

	for (uint_t i = 0; i < count; i++) {
		const zow_tunable_t *zt = &__start_zow_tunables[i];
		int len = zt->zt_get(value, &zt->zt_param);

		len = MAX(len, 0);
		while (len > 0 && isspace((unsigned char)value[len - 1]))
			len--;
		value[len] = '\0';
		list[i] = fnvlist_alloc();
		fnvlist_add_string(list[i], "name", zt->zt_name);
		fnvlist_add_string(list[i], "value", value);
		fnvlist_add_string(list[i], "type", tunable_type(zt));
		fnvlist_add_boolean_value(list[i], "writable",
		    (zt->zt_mode & 0200) != 0);
		fnvlist_add_string(list[i], "description", tunable_desc(zt));
	}
	fnvlist_add_nvlist_array(nvl, "tunables",
	    (const nvlist_t *const *)list, count);
	for (uint_t i = 0; i < count; i++)
		fnvlist_free(list[i]);
	kmem_free(value, VALUE_MAX);
	kmem_free(list, count * sizeof (*list));
}

int
tunable_set(const char *name, const char *value, boolean_t load)
{
	for (const zow_tunable_t *zt = __start_zow_tunables;
	    zt < __stop_zow_tunables; zt++) {
		if (strcmp(zt->zt_name, name) != 0)
			continue;
		if (!load && (zt->zt_mode & 0200) == 0)
			return (EACCES);
		/* Upstream's setters return one sign or the other. */
		return (ABS(zt->zt_set(value, &zt->zt_param)));
	}
	return (ENOENT);
}
