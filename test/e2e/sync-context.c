/*
 * This file and its contents are supplied under the terms of the
 * Common Development and Distribution License ("CDDL"), version 1.0.
 * You may only use this file in accordance with the terms of version
 * 1.0 of the CDDL.
 */

/*
 * Requests that no program makes, whose nvlists upstream believes until it is
 * in syncing context. Linked as the native programs are.
 *
 *	sync-context fsacl DATASET long|type
 *	sync-context pool POOL user|compatibility|long
 *	sync-context vdev POOL GUID name|value|type|index
 *	sync-context hold SNAPSHOT LENGTH
 *
 * Prints the errno.
 */

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <libzfs_core.h>
#include <sys/ioctl.h>
#include <sys/zfs_ioctl.h>

static char *
text(const char *prefix, char c, size_t length)
{
	char *s = malloc(length + 1);

	(void) memset(s, c, length);
	(void) memcpy(s, prefix, strlen(prefix));
	s[length] = '\0';
	return (s);
}

/* An ioctl of the old kind. */
static int
legacy(unsigned long request, const char *name, nvlist_t *nvl)
{
	zfs_cmd_t zc = { "\0" };
	int fd = open("/dev/zfs", O_RDWR);
	size_t size;
	char *packed = fnvlist_pack(nvl, &size);

	(void) strlcpy(zc.zc_name, name, sizeof (zc.zc_name));
	zc.zc_nvlist_src = (uint64_t)(uintptr_t)packed;
	zc.zc_nvlist_src_size = size;
	return (ioctl(fd, request, &zc) == 0 ? 0 : errno);
}

static int
fsacl(const char *name, const char *how)
{
	nvlist_t *nvl = fnvlist_alloc(), *perms = fnvlist_alloc();

	fnvlist_add_boolean(perms, "create");
	if (strcmp(how, "long") == 0)
		fnvlist_add_nvlist(nvl, text("ul$", '1', 300), perms);
	else
		fnvlist_add_uint64(nvl, "ul$1", 7);
	return (legacy(ZFS_IOC_SET_FSACL, name, nvl));
}

static int
pool(const char *name, const char *how)
{
	nvlist_t *nvl = fnvlist_alloc();

	if (strcmp(how, "user") == 0)
		fnvlist_add_uint64(nvl, "zow:number", 7);
	else if (strcmp(how, "long") == 0)
		fnvlist_add_string(nvl, "bootfs", text("", 'x', 9000));
	else
		fnvlist_add_uint64(nvl, "compatibility", 7);
	return (legacy(ZFS_IOC_POOL_SET_PROPS, name, nvl));
}

static int
vdev(const char *name, const char *guid, const char *how)
{
	nvlist_t *nvl = fnvlist_alloc(), *props = fnvlist_alloc(), *out = NULL;

	if (strcmp(how, "name") == 0)
		fnvlist_add_string(props, text("zow:", 'n', 300), "value");
	else if (strcmp(how, "value") == 0)
		fnvlist_add_string(props, "zow:value", text("", 'v', 9000));
	else if (strcmp(how, "type") == 0)
		fnvlist_add_uint64(props, "zow:type", 7);
	else
		fnvlist_add_uint64(props, "failfast", 77);
	fnvlist_add_uint64(nvl, ZPOOL_VDEV_PROPS_SET_VDEV,
	    strtoull(guid, NULL, 10));
	fnvlist_add_nvlist(nvl, ZPOOL_VDEV_PROPS_SET_PROPS, props);
	return (lzc_set_vdev_prop(name, nvl, &out));
}

static int
hold(const char *name, const char *length)
{
	nvlist_t *holds = fnvlist_alloc(), *errors = NULL;

	fnvlist_add_string(holds, name, text("", 't', atoi(length)));
	return (lzc_hold(holds, -1, &errors));
}

int
main(int argc, char **argv)
{
	int error = EINVAL;

	if (argc < 4 || libzfs_core_init() != 0)
		return (2);
	if (strcmp(argv[1], "fsacl") == 0)
		error = fsacl(argv[2], argv[3]);
	else if (strcmp(argv[1], "pool") == 0)
		error = pool(argv[2], argv[3]);
	else if (strcmp(argv[1], "vdev") == 0 && argc > 4)
		error = vdev(argv[2], argv[3], argv[4]);
	else if (strcmp(argv[1], "hold") == 0)
		error = hold(argv[2], argv[3]);
	(void) printf("%d\n", error);
	return (0);
}
