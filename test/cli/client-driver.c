/*
 * This file and its contents are supplied under the terms of the
 * Common Development and Distribution License ("CDDL"), version 1.0.
 * You may only use this file in accordance with the terms of version
 * 1.0 of the CDDL.
 */

/*
 * Does with /dev/zfs what upstream's programs do, one thing a command, so
 * that client.test.ts can see the client in cli/src from both of its ends.
 * Linked as they are, with the same --wrap options. Prints what it saw; its
 * exit code is an errno.
 */

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <sys/ioctl.h>
#include <sys/mnttab.h>
#include <sys/zfs_ioctl.h>
#include <sys/zfs_sysfs.h>

/* Requests that the test's table knows beside upstream's. */
#define	TEST_ECHO	0x5a70
#define	TEST_TOGETHER	0x5a71
#define	TEST_WAIT	0x5a72

static int fd;

static int
request(unsigned long number, zfs_cmd_t *zc)
{
	return (ioctl(fd, number, zc) == 0 ? 0 : errno);
}

static int
echo(const char *text)
{
	static char dst[256];
	zfs_cmd_t zc = { .zc_name = "tank" };

	zc.zc_nvlist_src = (uintptr_t)text;
	zc.zc_nvlist_src_size = strlen(text) + 1;
	zc.zc_nvlist_dst = (uintptr_t)dst;
	zc.zc_nvlist_dst_size = sizeof (dst);
	int error = request(TEST_ECHO, &zc);
	(void) printf("%s %s %d %d\n", zc.zc_name, dst,
	    zc.zc_nvlist_dst == (uintptr_t)dst,
	    zc.zc_nvlist_src == (uintptr_t)text);
	return (error);
}

static int
repeat(int count)
{
	zfs_cmd_t zc = { 0 };
	int error = 0;

	while (error == 0 && count-- > 0)
		error = request(TEST_ECHO, &zc);
	return (error);
}

/* A logged command line goes out; the pool's history comes in. */
static int
history(const char *text)
{
	static char room[64];
	zfs_cmd_t out = { .zc_history = (uintptr_t)text };
	zfs_cmd_t in = { .zc_history = (uintptr_t)room,
	    .zc_history_len = sizeof (room) };

	int error = request(ZFS_IOC_POOL_DESTROY, &out);
	if (error == 0)
		error = request(ZFS_IOC_POOL_GET_HISTORY, &in);
	(void) printf("%s\n", room);
	return (error);
}

/* The room for bookmarks is counted in bookmarks. */
static int
errlog(void)
{
	static zbookmark_phys_t room[10];
	zfs_cmd_t zc = { .zc_nvlist_dst = (uintptr_t)room,
	    .zc_nvlist_dst_size = 10 };

	int error = request(ZFS_IOC_ERROR_LOG, &zc);
	(void) printf("%d\n", (int)room[9].zb_blkid);
	return (error);
}

static void *
together_one(void *arg)
{
	zfs_cmd_t zc = { .zc_guid = (uintptr_t)arg };
	int error = request(TEST_TOGETHER, &zc);

	return ((void *)(uintptr_t)(error != 0 ? 0 : zc.zc_guid));
}

/* The host answers none of these before all have arrived. */
static int
together(int count)
{
	pthread_t threads[64];
	uintptr_t sum = 0;

	for (intptr_t i = 0; i < count; i++)
		(void) pthread_create(&threads[i], NULL, together_one,
		    (void *)(i + 1));
	for (int i = 0; i < count; i++) {
		void *result;
		(void) pthread_join(threads[i], &result);
		sum += (uintptr_t)result;
	}
	(void) printf("%d\n", (int)sum);
	return (0);
}

/* A cancelled thread's ioctl runs to its end, and its lane stays usable. */
static int
cancel(void)
{
	pthread_t thread;
	zfs_cmd_t zc = { .zc_guid = 2 };
	void *result;

	(void) pthread_create(&thread, NULL, together_one, (void *)1);
	(void) pthread_cancel(thread);
	int error = request(TEST_TOGETHER, &zc);
	(void) pthread_join(thread, &result);
	for (int i = 0; i < 3 && error == 0; i++)
		error = echo("after");
	return (error);
}

static int
stream(unsigned long number, int stream_fd)
{
	zfs_cmd_t zc = { .zc_cookie = stream_fd };

	return (request(number, &zc));
}

static int
wait_for_ever(void)
{
	zfs_cmd_t zc = { 0 };

	(void) printf("waiting\n");
	(void) fflush(stdout);
	return (request(TEST_WAIT, &zc));
}

/* More than a host takes is refused here. */
static int
too_much(void)
{
	zfs_cmd_t zc = { .zc_nvlist_src = (uintptr_t)"",
	    .zc_nvlist_src_size = 1ULL << 40 };

	return (request(TEST_ECHO, &zc));
}

static int
surroundings(void)
{
	FILE *f = fopen(MNTTAB, "re");
	DIR *d = opendir(ZFS_SYSFS_DIR "/" ZFS_SYSFS_POOL_FEATURES);

	(void) printf("%d %d %d %d %d\n", f != NULL && getc(f) == EOF,
	    d == NULL && errno == ENOENT, access(ZFS_DEV, F_OK),
	    access(ZFS_SYSFS_DIR, F_OK),
	    access(ZFS_SYSFS_DIR "/" ZFS_SYSFS_POOL_FEATURES, F_OK));
	return (f == NULL ? errno : 0);
}

int
main(int argc, char **argv)
{
	const char *command = argc > 1 ? argv[1] : "";
	const char *arg = argc > 2 ? argv[2] : "";
	int error = EINVAL;

	if ((fd = open(ZFS_DEV, O_RDWR | O_EXCL | O_CLOEXEC)) < 0)
		return (errno);
	if (strcmp(command, "echo") == 0)
		error = echo(arg);
	else if (strcmp(command, "repeat") == 0)
		error = repeat(atoi(arg));
	else if (strcmp(command, "history") == 0)
		error = history(arg);
	else if (strcmp(command, "errlog") == 0)
		error = errlog();
	else if (strcmp(command, "together") == 0)
		error = together(atoi(arg));
	else if (strcmp(command, "cancel") == 0)
		error = cancel();
	else if (strcmp(command, "send") == 0)
		error = stream(ZFS_IOC_SEND, STDOUT_FILENO);
	else if (strcmp(command, "receive") == 0)
		error = stream(ZFS_IOC_RECV, STDIN_FILENO);
	else if (strcmp(command, "badfd") == 0)
		error = stream(ZFS_IOC_SEND, 99);
	else if (strcmp(command, "wait") == 0)
		error = wait_for_ever();
	else if (strcmp(command, "toomuch") == 0)
		error = too_much();
	else if (strcmp(command, "surroundings") == 0)
		error = surroundings();
	if (close(fd) != 0)
		error = errno;
	return (error);
}
