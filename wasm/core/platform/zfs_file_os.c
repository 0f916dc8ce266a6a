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
 * Files as the core uses them, in the place of libzpool's, which split writes
 * at random for ztest: a client's descriptor during an ioctl (send, receive,
 * diff), a session by its descriptor, and a regular file (the cache file).
 */

#include <sys/zfs_context.h>
#include <sys/zfs_file.h>
#include <sys/spa_impl.h>
#include <sys/stat.h>

#include "seam.h"
#include "session.h"

typedef enum file_kind {
	FILE_STREAM,		/* the client's descriptor f_fd */
	FILE_SESSION,		/* an open of /dev/zfs */
	FILE_REGULAR,		/* the host's file */
	FILE_CACHE,		/* as regular: the host's own cache file */
	FILE_SINK		/* the cache file of a host without one */
} file_kind_t;

/* zfs_file_t of the kernel context. */
struct file {
	file_kind_t	zf_kind;
	int		zf_fd;		/* the client's, or ours of a regular */
	int		zf_request;	/* of a stream */
	session_t	*zf_session;
	zfs_file_reader_t *zf_reader;	/* of a stream that is received */
	void		*zf_reader_arg;
	zfs_file_checker_t *zf_checker;
	void		*zf_checker_arg;
	loff_t		zf_offset;
};

static int
stream_io(zfs_file_t *zf, void *buf, size_t len, boolean_t write)
{
	int number = fiber_io_start();

	return (fiber_io_end(write ?
	    zow_stream_write(number, zf->zf_request, zf->zf_fd, buf, len) :
	    zow_stream_read(number, zf->zf_request, zf->zf_fd, buf, len)));
}

int
zfs_file_open(const char *path, int flags, int mode,
#ifdef	TREE_FILE_OPEN_CRED
    cred_t *cr,
#endif
    zfs_file_t **fpp)
{
	zfs_file_t *zf;
	file_kind_t kind = FILE_REGULAR;
	int fd = -1;

	if (*path == '\0') {
		kind = FILE_SINK;
	} else {
		if (strcmp(path, spa_config_path) == 0)
			kind = FILE_CACHE;
		fd = open(path, flags, mode);
		if (fd < 0)
			return (errno);
	}
	zf = umem_zalloc(sizeof (*zf), UMEM_NOFAIL);
	zf->zf_kind = kind;
	zf->zf_fd = fd;
	*fpp = zf;
	return (0);
}

void
zfs_file_close(zfs_file_t *zf)
{
	if (zf->zf_kind == FILE_REGULAR || zf->zf_kind == FILE_CACHE)
		(void) close(zf->zf_fd);
	umem_free(zf, sizeof (*zf));
}

int
zfs_file_write(zfs_file_t *zf, const void *buf, size_t count, ssize_t *resid)
{
	size_t done = 0;

	switch (zf->zf_kind) {
	case FILE_STREAM: {
		int error = stream_io(zf, (void *)buf, count, B_TRUE);

		if (error < 0)
			return (-error);
		done = count;
		break;
	}
	case FILE_REGULAR:
	case FILE_CACHE:
		while (done < count) {
			ssize_t n = write(zf->zf_fd, (const char *)buf + done,
			    count - done);

			if (n < 0)
				return (errno);
			done += n;
		}
		break;
	case FILE_SINK:
		done = count;
		break;
	default:
		return (EBADF);
	}
	zf->zf_offset += done;
	if (resid != NULL)
		*resid = count - done;
	return (0);
}

int
zfs_file_pwrite(zfs_file_t *zf, const void *buf, size_t count, loff_t pos,
#ifdef	TREE_FILE_PWRITE_ASHIFT
    uint8_t ashift,
#endif
    ssize_t *resid)
{
	(void) zf, (void) buf, (void) count, (void) pos, (void) resid;
#ifdef	TREE_FILE_PWRITE_ASHIFT
	(void) ashift;
#endif
	return (ENOTSUP);
}

int
zfs_file_read(zfs_file_t *zf, void *buf, size_t count, ssize_t *resid)
{
	size_t done = 0;

	while (done < count) {
		ssize_t n;

		if (zf->zf_reader != NULL) {
			n = zf->zf_reader(zf->zf_reader_arg,
			    (char *)buf + done, count - done);
			if (n < 0)
				return (-n);
		} else if (zf->zf_kind == FILE_STREAM) {
			n = stream_io(zf, (char *)buf + done, count - done,
			    B_FALSE);
			if (n < 0)
				return (-n);
		} else if (zf->zf_kind == FILE_REGULAR ||
		    zf->zf_kind == FILE_CACHE) {
			n = read(zf->zf_fd, (char *)buf + done, count - done);
			if (n < 0)
				return (errno);
		} else {
			return (EBADF);
		}
		if (n == 0)
			break;
		done += n;
	}
	zf->zf_offset += done;
	if (resid != NULL)
		*resid = count - done;
	else if (done != count)
		return (EIO);
	return (zf->zf_checker != NULL && done == count ?
	    zf->zf_checker(zf->zf_checker_arg, buf, count) : 0);
}

int
zfs_file_pread(zfs_file_t *zf, void *buf, size_t count, loff_t off,
    ssize_t *resid)
{
	(void) zf, (void) buf, (void) count, (void) off, (void) resid;
	return (ENOTSUP);
}

int
zfs_file_seek(zfs_file_t *zf, loff_t *offp, int whence)
{
	(void) zf, (void) offp, (void) whence;
	return (ESPIPE);
}

int
zfs_file_getattr(zfs_file_t *zf, zfs_file_attr_t *attr)
{
	struct stat st;

	if (zf->zf_kind != FILE_REGULAR || fstat(zf->zf_fd, &st) != 0)
		return (EBADF);
	attr->zfa_size = st.st_size;
	attr->zfa_mode = st.st_mode;
	return (0);
}

/* The cache file is made anew by every import, and a flush stops everybody. */
int
zfs_file_fsync(zfs_file_t *zf, int flags)
{
	(void) flags;
	if (zf->zf_kind == FILE_REGULAR && fsync(zf->zf_fd) != 0)
		return (errno);
	return (0);
}

int
zfs_file_deallocate(zfs_file_t *zf, loff_t offset, loff_t len)
{
	(void) zf, (void) offset, (void) len;
	return (EOPNOTSUPP);
}

loff_t
zfs_file_off(zfs_file_t *zf)
{
	return (zf->zf_offset);
}

int
zfs_file_unlink(const char *path)
{
	if (*path == '\0')
		return (0);
	return (unlink(path) == 0 ? 0 : errno);
}

/* The client's descriptor, in the name of the ioctl that runs. */
zfs_file_t *
zfs_file_get(int fd)
{
	ioctl_request_t *r = ioctl_current();
	zfs_file_t *zf;

	if (r == NULL || fd < 0)
		return (NULL);
	zf = umem_zalloc(sizeof (*zf), UMEM_NOFAIL);
	zf->zf_fd = fd;
	zf->zf_request = r->r_id;
	zf->zf_session = session_hold(r->r_session->s_process, fd);
	zf->zf_kind = zf->zf_session != NULL ? FILE_SESSION : FILE_STREAM;
	return (zf);
}

void
zfs_file_put(zfs_file_t *zf)
{
	ASSERT3P(zf->zf_reader, ==, NULL);
	ASSERT3P(zf->zf_checker, ==, NULL);
	if (zf->zf_session != NULL)
		session_rele(zf->zf_session);
	umem_free(zf, sizeof (*zf));
}

/* Reads of the client's descriptor come from there; NULL: no more. */
void
zfs_file_read_from(zfs_file_t *zf, zfs_file_reader_t *reader, void *arg)
{
	zf->zf_reader = reader;
	zf->zf_reader_arg = arg;
}

/* They are looked at; NULL: no more. */
void
zfs_file_check_with(zfs_file_t *zf, zfs_file_checker_t *checker, void *arg)
{
	zf->zf_checker = checker;
	zf->zf_checker_arg = arg;
}

/* The ioctl and the client's number of its descriptor. */
boolean_t
zfs_file_is_stream(const zfs_file_t *zf, int *request, int *fd)
{
	*request = zf->zf_request;
	*fd = zf->zf_fd;
	return (zf->zf_kind == FILE_STREAM);
}

/* Of a session its zfsdev state; NULL of anything else. */
void *
zfs_file_private(zfs_file_t *zf)
{
	return (zf->zf_kind == FILE_SESSION ? zf->zf_session->s_state : NULL);
}
