/*
 * This file and its contents are supplied under the terms of the
 * Common Development and Distribution License ("CDDL"), version 1.0.
 * You may only use this file in accordance with the terms of version
 * 1.0 of the CDDL.
 */

/*
 * ioctls that no program issues, or not in the way a test needs them. Opens
 * /dev/zfs and issues each ioctl of its arguments in turn, on one descriptor;
 * prints a line of JSON for each: the errno, and what came back. Linked as
 * the native programs are.
 *
 *	raw-ioctl NUMBER [FIELD=VALUE]... [-- NUMBER [FIELD=VALUE]...]...
 *
 * A FIELD is one of zfs_cmd_t without its zc_, or
 *	string.KEY, uint64.KEY	a pair of the input nvlist
 *	begin			a file whose first record is zc_begin_record
 *	dst			room for the output nvlist, in bytes
 *	self			1: zc_cleanup_fd is the descriptor of /dev/zfs
 */

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <libnvpair.h>
#include <sys/ioctl.h>
#include <sys/zfs_ioctl.h>

static int fd;

static void
fail(const char *what)
{
	(void) fprintf(stderr, "raw-ioctl: %s\n", what);
	exit(2);
}

static void
read_begin(const char *file, zfs_cmd_t *zc)
{
	dmu_replay_record_t record;
	FILE *f = fopen(file, "r");

	if (f == NULL || fread(&record, sizeof (record), 1, f) != 1)
		fail(file);
	zc->zc_begin_record = record.drr_u.drr_begin;
	(void) fclose(f);
}

static void
set_number(zfs_cmd_t *zc, const char *field, uint64_t n)
{
	const struct {
		const char	*name;
		uint64_t	*at;
	} numbers[] = {
		{ "guid", &zc->zc_guid },
		{ "cookie", &zc->zc_cookie },
		{ "obj", &zc->zc_obj },
		{ "objset_type", &zc->zc_objset_type },
		{ "sendobj", &zc->zc_sendobj },
		{ "fromobj", &zc->zc_fromobj },
		{ "dst", &zc->zc_nvlist_dst_size },
	};

	for (int i = 0; i < sizeof (numbers) / sizeof (numbers[0]); i++) {
		if (strcmp(field, numbers[i].name) == 0) {
			*numbers[i].at = n;
			return;
		}
	}
	if (strcmp(field, "flags") == 0)
		zc->zc_flags = n;
	else if (strcmp(field, "cleanup_fd") == 0)
		zc->zc_cleanup_fd = n;
	else if (strcmp(field, "self") == 0)
		zc->zc_cleanup_fd = fd;
	else
		fail(field);
}

static void
set_field(zfs_cmd_t *zc, nvlist_t *src, char *argument)
{
	char *value = strchr(argument, '=');

	if (value == NULL)
		fail(argument);
	*value++ = '\0';
	if (strcmp(argument, "name") == 0)
		(void) strlcpy(zc->zc_name, value, sizeof (zc->zc_name));
	else if (strcmp(argument, "value") == 0)
		(void) strlcpy(zc->zc_value, value, sizeof (zc->zc_value));
	else if (strcmp(argument, "string") == 0)
		(void) strlcpy(zc->zc_string, value, sizeof (zc->zc_string));
	else if (strcmp(argument, "begin") == 0)
		read_begin(value, zc);
	else if (strncmp(argument, "string.", 7) == 0)
		fnvlist_add_string(src, argument + 7, value);
	else if (strncmp(argument, "uint64.", 7) == 0)
		fnvlist_add_uint64(src, argument + 7, strtoull(value, NULL, 0));
	else
		set_number(zc, argument, strtoull(value, NULL, 0));
}

static void
print(const zfs_cmd_t *zc, int error)
{
	nvlist_t *out = fnvlist_alloc();
	nvlist_t *dst;

	fnvlist_add_int64(out, "errno", error);
	fnvlist_add_string(out, "name", zc->zc_name);
	fnvlist_add_string(out, "value", zc->zc_value);
	fnvlist_add_uint64(out, "cookie", zc->zc_cookie);
	fnvlist_add_uint64(out, "obj", zc->zc_obj);
	fnvlist_add_uint64(out, "objset_type", zc->zc_objset_type);
	fnvlist_add_uint64(out, "mode", zc->zc_stat.zs_mode);
	if (zc->zc_nvlist_dst_filled && nvlist_unpack(
	    (char *)(uintptr_t)zc->zc_nvlist_dst,
	    zc->zc_nvlist_dst_size, &dst, 0) == 0) {
		fnvlist_add_nvlist(out, "dst", dst);
		nvlist_free(dst);
	}
	/* Not on the standard output: an ioctl may have written there. */
	(void) nvlist_print_json(stderr, out);
	(void) fputc('\n', stderr);
	nvlist_free(out);
}

int
main(int argc, char **argv)
{
	int at = 1;

	if ((fd = open(ZFS_DEV, O_RDWR)) < 0)
		fail(strerror(errno));
	while (at < argc) {
		zfs_cmd_t zc = { 0 };
		nvlist_t *src = fnvlist_alloc();
		char *packed = NULL;
		size_t size = 0;
		unsigned long number = strtoul(argv[at++], NULL, 0);

		for (; at < argc && strcmp(argv[at], "--") != 0; at++)
			set_field(&zc, src, argv[at]);
		at++;
		if (!nvlist_empty(src)) {
			packed = fnvlist_pack(src, &size);
			zc.zc_nvlist_src = (uintptr_t)packed;
			zc.zc_nvlist_src_size = size;
		}
		if (zc.zc_nvlist_dst_size != 0)
			zc.zc_nvlist_dst = (uintptr_t)
			    calloc(1, zc.zc_nvlist_dst_size);
		int error = ioctl(fd, number, &zc) == 0 ? 0 : errno;
		print(&zc, error);
		free((void *)(uintptr_t)zc.zc_nvlist_dst);
		free(packed);
		nvlist_free(src);
	}
	(void) close(fd);
	return (0);
}
