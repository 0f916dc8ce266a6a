/*
 * This file and its contents are supplied under the terms of the
 * Common Development and Distribution License ("CDDL"), version 1.0.
 * You may only use this file in accordance with the terms of version
 * 1.0 of the CDDL.
 */

/*
 * POSIX calls through musl, wasm/libc/syscall.c and host/runtime/wasi.ts, in
 * the directory of the second argument.
 */

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

#include "scenario.h"

#define	FAILS(call, error) \
	do { \
		errno = 0; \
		CHECK((call) == -1); \
		CHECK(errno == (error)); \
	} while (0)

static char text[65536];

static void
enter(void)
{
	CHECK(chdir(scenario_args[2]) == 0);
}

static struct iovec
part(const void *base, size_t length)
{
	struct iovec iov = { (void *)base, length };

	return (iov);
}

static void
files(int arg)
{
	struct iovec iov[3];
	struct stat st;
	int fd;

	enter();
	FAILS(open("f", O_RDWR), ENOENT);
	CHECK((fd = open("f", O_RDWR | O_CREAT | O_EXCL, 0600)) >= 3);
	FAILS(open("f", O_RDWR | O_CREAT | O_EXCL, 0600), EEXIST);
	CHECK(write(fd, "0123456789", 10) == 10);
	CHECK(lseek(fd, 0, SEEK_CUR) == 10);
	CHECK(lseek(fd, -4, SEEK_END) == 6);
	CHECK(read(fd, text, 100) == 4 && memcmp(text, "6789", 4) == 0);
	CHECK(read(fd, text, 100) == 0);
	FAILS(lseek(fd, -1, SEEK_SET), EINVAL);
	FAILS(lseek(fd, 0, 9), EINVAL);
	CHECK(lseek(fd, 0, SEEK_CUR) == 10);

	/* Positioned I/O leaves the position alone. */
	CHECK(pwrite(fd, "xy", 2, 4) == 2);
	CHECK(pread(fd, text, 4, 3) == 4 && memcmp(text, "3xy6", 4) == 0);
	CHECK(lseek(fd, 0, SEEK_CUR) == 10);

	/* Parts, an empty one among them. */
	CHECK(lseek(fd, 2, SEEK_SET) == 2);
	iov[0] = part("AB", 2);
	iov[1] = part(NULL, 0);
	iov[2] = part("CDE", 3);
	CHECK(writev(fd, iov, 3) == 5);
	CHECK(lseek(fd, 0, SEEK_CUR) == 7);
	CHECK(lseek(fd, 0, SEEK_SET) == 0);
	iov[0] = part(text, 3);
	iov[1] = part(text + 8, 20);
	CHECK(readv(fd, iov, 2) == 10);
	CHECK(memcmp(text, "01A", 3) == 0);
	CHECK(memcmp(text + 8, "BCDE789", 7) == 0);

	/* Beyond 4 GiB, sparse. */
	CHECK(pwrite(fd, "end", 3, 5LL << 30) == 3);
	CHECK(fstat(fd, &st) == 0 && st.st_size == (5LL << 30) + 3);
	CHECK(S_ISREG(st.st_mode));
	CHECK(lseek(fd, (5LL << 30) + 1, SEEK_SET) == (5LL << 30) + 1);
	CHECK(read(fd, text, 10) == 2 && memcmp(text, "nd", 2) == 0);
	CHECK(ftruncate(fd, 5) == 0);
	CHECK(fstat(fd, &st) == 0 && st.st_size == 5);
	CHECK(fsync(fd) == 0 && fdatasync(fd) == 0);
	CHECK(close(fd) == 0);
	FAILS(close(fd), EBADF);
	FAILS(read(fd, text, 1), EBADF);
	FAILS(write(fd, text, 1), EBADF);
	FAILS(fstat(fd, &st), EBADF);

	/* Modes of opening. */
	CHECK((fd = open("f", O_RDONLY)) >= 3);
	FAILS(write(fd, "x", 1), EBADF);
	CHECK(close(fd) == 0);
	CHECK((fd = open("f", O_WRONLY | O_APPEND)) >= 3);
	CHECK(write(fd, "++", 2) == 2);
	CHECK(lseek(fd, 0, SEEK_SET) == 0);
	CHECK(write(fd, "!", 1) == 1);
	FAILS(read(fd, text, 1), EBADF);
	CHECK(close(fd) == 0);
	CHECK((fd = open("f", O_RDWR | O_TRUNC)) >= 3);
	CHECK(fstat(fd, &st) == 0 && st.st_size == 0);
	CHECK(close(fd) == 0);
}

static void
append(int arg)
{
	struct stat st;
	int fd;

	enter();
	CHECK((fd = open("a", O_WRONLY | O_CREAT | O_APPEND, 0600)) >= 3);
	CHECK(write(fd, "one", 3) == 3);
	CHECK(lseek(fd, 0, SEEK_SET) == 0);
	CHECK(write(fd, " two", 4) == 4);
	/* As in Linux, the position is the end of what was written. */
	CHECK(lseek(fd, 0, SEEK_CUR) == 7);
	CHECK(write(fd, " three", 6) == 6);
	CHECK(fstat(fd, &st) == 0 && st.st_size == 13);
	CHECK(close(fd) == 0);
}

static void
paths(int arg)
{
	struct stat st, other;
	int fd;

	enter();
	CHECK(getcwd(text, sizeof (text)) == text);
	CHECK(strcmp(text, scenario_args[2]) == 0);
	CHECK(mkdir("d", 0755) == 0);
	FAILS(mkdir("d", 0755), EEXIST);
	CHECK((fd = open("d/f", O_WRONLY | O_CREAT, 0600)) >= 3);
	CHECK(close(fd) == 0);
	CHECK(stat("d", &st) == 0 && S_ISDIR(st.st_mode));
	CHECK(access("d/f", F_OK) == 0);
	FAILS(access("d/none", F_OK), ENOENT);
	FAILS(stat("d/f/x", &st), ENOTDIR);
	FAILS(open("d", O_WRONLY), EISDIR);
	FAILS(open("d/f", O_RDONLY | O_DIRECTORY), ENOTDIR);
	FAILS(rmdir("d"), ENOTEMPTY);
	FAILS(rmdir("d/f"), ENOTDIR);
	CHECK(rename("d/f", "d/g") == 0);
	FAILS(rename("d/f", "d/h"), ENOENT);
	CHECK(stat("d/../d/./g", &st) == 0 && S_ISREG(st.st_mode));

	/* The test made these. */
	CHECK(lstat("link", &st) == 0 && S_ISLNK(st.st_mode));
	CHECK(readlink("link", text, sizeof (text)) == 6);
	CHECK(memcmp(text, "target", 6) == 0);
	CHECK(readlink("link", text, 3) == 3);
	CHECK(stat("link", &st) == 0 && S_ISREG(st.st_mode));
	CHECK(stat("target", &other) == 0 && st.st_ino == other.st_ino);
	CHECK(st.st_mtime == 1000000000 && st.st_mtim.tv_nsec == 500000000);
	FAILS(open("loop", O_RDONLY), ELOOP);
	FAILS(readlink("target", text, 10), EINVAL);
	CHECK(realpath("d/../link", NULL) != NULL);

	memset(text, 'x', 300);
	text[300] = '\0';
	FAILS(open(text, O_RDONLY), ENAMETOOLONG);
	memset(text, 'x', 5000);
	text[5000] = '\0';
	FAILS(open(text, O_RDONLY), ENAMETOOLONG);
	FAILS(open("", O_RDONLY), ENOENT);

	CHECK(unlink("d/g") == 0);
	FAILS(unlink("d/g"), ENOENT);
	CHECK(rmdir("d") == 0);
	FAILS(chdir("none"), ENOENT);
	CHECK(getcwd(text, sizeof (text)) == text);
	CHECK(strcmp(text, scenario_args[2]) == 0);
}

/* Every entry once, also when read again; `count` files that the test made. */
static void
directories(int count)
{
	static char seen[1000];
	struct dirent *entry;
	DIR *dir;

	CHECK(chdir(scenario_args[3]) == 0);
	CHECK(opendir("none") == NULL && errno == ENOENT);
	CHECK((dir = opendir(".")) != NULL);
	for (int round = 0; round < 2; round++) {
		int found = 0;

		memset(seen, 0, sizeof (seen));
		while ((entry = readdir(dir)) != NULL) {
			struct stat st;
			int n;

			if (entry->d_name[0] == '.')
				continue;
			n = atoi(entry->d_name);
			CHECK(n >= 0 && n < count && !seen[n]);
			seen[n] = 1;
			found++;
			CHECK(entry->d_type == (n == 0 ? DT_DIR : DT_REG));
			CHECK(fstatat(dirfd(dir), entry->d_name, &st, 0) == 0);
		}
		CHECK(found == count);
		rewinddir(dir);
	}
	CHECK(closedir(dir) == 0);
}

/* stdio, a mapping, time and randomness, as programs use them. */
static void
others(int arg)
{
	struct timespec realtime, before, after;
	unsigned char bytes[2][64];
	char *line = NULL, *map;
	size_t room = 0;
	FILE *f;

	enter();
	CHECK((f = fopen("t", "w")) != NULL);
	for (int i = 0; i < 2000; i++)
		CHECK(fprintf(f, "line %d\n", i) > 0);
	CHECK(fclose(f) == 0);
	CHECK((f = fopen("t", "r")) != NULL);
	for (int i = 0; i < 2000; i++) {
		CHECK(getline(&line, &room, f) > 0);
		CHECK(atoi(line + 5) == i);
	}
	CHECK(getline(&line, &room, f) == -1 && feof(f));
	map = mmap(NULL, 100, PROT_READ, MAP_PRIVATE, fileno(f), 0);
	CHECK(map != MAP_FAILED && memcmp(map, "line 0\nline 1\n", 14) == 0);
	CHECK(munmap(map, 100) == 0);
	CHECK(fclose(f) == 0);

	CHECK(clock_gettime(CLOCK_REALTIME, &realtime) == 0);
	say("%lld", (long long)realtime.tv_sec);
	CHECK(clock_gettime(CLOCK_MONOTONIC, &before) == 0);
	CHECK(usleep(20000) == 0);
	CHECK(clock_gettime(CLOCK_MONOTONIC, &after) == 0);
	CHECK((after.tv_sec - before.tv_sec) * 1000 * MS + after.tv_nsec -
	    before.tv_nsec >= 20 * MS);

	CHECK(getrandom(bytes[0], 64, 0) == 64);
	CHECK(getrandom(bytes[1], 64, 0) == 64);
	CHECK(memcmp(bytes[0], bytes[1], 64) != 0);
}

const scenario_t scenarios[] = {
	{ "files", files },
	{ "append", append },
	{ "paths", paths },
	{ "directories", directories },
	{ "others", others },
	{ NULL, NULL }
};
