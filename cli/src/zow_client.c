/*
 * This file and its contents are supplied under the terms of the
 * Common Development and Distribution License ("CDDL"), version 1.0.
 * You may only use this file in accordance with the terms of version
 * 1.0 of the CDDL.
 */

/*
 * Sessions and ioctls. A session is one open of /dev/zfs; its descriptor is
 * the socket of its first lane. A lane carries one ioctl at a time, so when
 * several threads use the descriptor at once, each gets a lane of its own:
 *
 *	open()  = fd 3 -- session -+- lane fd 3   (closes with the session)
 *	                           +- lane fd 5   (made for a second thread)
 *	                           +- lane fd 6
 */

#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <sys/zfs_ioctl.h>

#include "zow_client.h"

/* Data moves between the socket and a descriptor in pieces of this size. */
#define	ZOW_STREAM_BUFFER	(256U << 10)

typedef struct zow_lane {
	int		zl_fd;
	int		zl_busy;
	char		*zl_buffer;	/* made by the first stream frame */
	struct zow_lane	*zl_next;
} zow_lane_t;

typedef struct zow_session {
	zow_lane_t	zs_first;
	uint32_t	zs_minor;
	struct zow_session *zs_next;
} zow_session_t;

/* Held for list operations only, never across a call that may block. */
static pthread_mutex_t zow_lock = PTHREAD_MUTEX_INITIALIZER;
static zow_session_t *zow_sessions;

extern int __real_close(int);

/*
 * The host is gone, does not make sense any more, or cannot go on. A system
 * call cannot answer that its kernel is gone; the program ends here, with one
 * line instead of whatever it would make of the errno.
 */
static _Noreturn void
zow_lost(const char *what)
{
	(void) fflush(stdout);
	(void) fprintf(stderr, "the ZoW host on %s %s\n", zow_socket_path(),
	    what);
	exit(1);
}

static void
zow_must_receive(zow_lane_t *lane, void *buffer, size_t size)
{
	if (zow_receive(lane->zl_fd, buffer, size) != 0)
		zow_lost("went away");
}

/* The host's last words. */
static _Noreturn void
zow_failed(zow_lane_t *lane, uint32_t length)
{
	char message[ZOW_MESSAGE_MAX + 16] = "failed: ";
	size_t at = strlen(message);
	uint32_t error;

	if (length < sizeof (error) ||
	    length > sizeof (error) + ZOW_MESSAGE_MAX)
		zow_lost("went away");
	zow_must_receive(lane, &error, sizeof (error));
	zow_must_receive(lane, message + at, length - sizeof (error));
	zow_lost(message);
}

static void
zow_must_send(zow_lane_t *lane, struct iovec *iov, int iovcnt)
{
	zow_header_t header;

	if (zow_send(lane->zl_fd, iov, iovcnt) == 0)
		return;
	/* It may have said why before it closed. */
	if (zow_receive(lane->zl_fd, &header, sizeof (header)) == 0 &&
	    header.zf_type == ZOW_FAILED)
		zow_failed(lane, header.zf_length);
	zow_lost("went away");
}

static zow_session_t *
zow_find(int fd)
{
	zow_session_t *zs = zow_sessions;

	while (zs != NULL && zs->zs_first.zl_fd != fd)
		zs = zs->zs_next;
	return (zs);
}

/* open(2) of /dev/zfs. Returns a descriptor, or -1 with errno. */
int
zow_open(void)
{
	zow_hello_reply_t reply;
	zow_session_t *zs;
	int fd;

	if ((zs = calloc(1, sizeof (*zs))) == NULL)
		return (-1);
	if ((fd = zow_connect(0, &reply)) < 0) {
		int error = errno;
		free(zs);
		errno = error;
		return (-1);
	}
	zs->zs_first.zl_fd = fd;
	zs->zs_minor = reply.zr_minor;
	(void) pthread_mutex_lock(&zow_lock);
	zs->zs_next = zow_sessions;
	zow_sessions = zs;
	(void) pthread_mutex_unlock(&zow_lock);
	return (fd);
}

int
zow_is_session(int fd)
{
	(void) pthread_mutex_lock(&zow_lock);
	int found = zow_find(fd) != NULL;
	(void) pthread_mutex_unlock(&zow_lock);
	return (found);
}

/* close(2) of a session: the host ends it when its first lane closes. */
int
zow_close(int fd)
{
	zow_session_t **link = &zow_sessions;
	zow_session_t *zs;

	(void) pthread_mutex_lock(&zow_lock);
	while ((zs = *link) != NULL && zs->zs_first.zl_fd != fd)
		link = &zs->zs_next;
	if (zs != NULL)
		*link = zs->zs_next;
	(void) pthread_mutex_unlock(&zow_lock);

	if (zs != NULL) {
		zow_lane_t *lane, *next;
		for (lane = zs->zs_first.zl_next; lane != NULL; lane = next) {
			next = lane->zl_next;
			(void) __real_close(lane->zl_fd);
			free(lane->zl_buffer);
			free(lane);
		}
		free(zs->zs_first.zl_buffer);
		free(zs);
	}
	return (__real_close(fd));
}

/*
 * A lane of this session that nobody uses. Returns 0 or an errno: the host
 * may refuse one lane more.
 */
static int
zow_lane_enter(int fd, zow_lane_t **lanep)
{
	zow_hello_reply_t reply;
	zow_session_t *zs;
	zow_lane_t *lane = NULL;
	uint32_t minor = 0;

	(void) pthread_mutex_lock(&zow_lock);
	if ((zs = zow_find(fd)) != NULL) {
		minor = zs->zs_minor;
		lane = &zs->zs_first;
		while (lane != NULL && lane->zl_busy)
			lane = lane->zl_next;
		if (lane != NULL)
			lane->zl_busy = 1;
	}
	(void) pthread_mutex_unlock(&zow_lock);
	*lanep = lane;
	if (zs == NULL)
		return (EBADF);
	if (lane != NULL)
		return (0);

	if ((lane = calloc(1, sizeof (*lane))) == NULL)
		return (ENOMEM);
	if ((lane->zl_fd = zow_connect(minor, &reply)) < 0) {
		int error = errno;
		free(lane);
		return (error);
	}
	lane->zl_busy = 1;
	(void) pthread_mutex_lock(&zow_lock);
	lane->zl_next = zs->zs_first.zl_next;
	zs->zs_first.zl_next = lane;
	(void) pthread_mutex_unlock(&zow_lock);
	*lanep = lane;
	return (0);
}

static void
zow_lane_exit(zow_lane_t *lane)
{
	(void) pthread_mutex_lock(&zow_lock);
	lane->zl_busy = 0;
	(void) pthread_mutex_unlock(&zow_lock);
}

static char *
zow_lane_buffer(zow_lane_t *lane)
{
	if (lane->zl_buffer == NULL &&
	    (lane->zl_buffer = malloc(ZOW_STREAM_BUFFER)) == NULL)
		zow_lost("wants to stream, and there is no memory for it");
	return (lane->zl_buffer);
}

/* write(2) until all is written. Returns 0 or an errno. */
static uint32_t
zow_write_all(int fd, const char *p, size_t size)
{
	while (size > 0) {
		ssize_t n = write(fd, p, size);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return (errno);
		p += n;
		size -= n;
	}
	return (0);
}

/*
 * The next frame. A signal interrupts what the host does, as it would what a
 * kernel does: the answer comes all the same, with EINTR perhaps.
 */
static void
zow_receive_header(zow_lane_t *lane, zow_header_t *header)
{
	char *p = (char *)header;
	size_t left = sizeof (*header);

	while (left > 0) {
		ssize_t n = read(lane->zl_fd, p, left);
		if (n < 0 && errno == EINTR) {
			zow_header_t interrupt = { ZOW_INTERRUPT, 0 };
			struct iovec iov = { &interrupt, sizeof (interrupt) };
			zow_must_send(lane, &iov, 1);
			continue;
		}
		if (n <= 0)
			zow_lost("went away");
		p += n;
		left -= n;
	}
}

/* The host writes to one of our descriptors. */
static void
zow_stream_write(zow_lane_t *lane, uint32_t length)
{
	char *buffer = zow_lane_buffer(lane);
	uint32_t error = 0;
	int32_t fd;

	if (length < sizeof (fd))
		zow_lost("sent a stream frame without a descriptor");
	zow_must_receive(lane, &fd, sizeof (fd));
	for (size_t left = length - sizeof (fd); left > 0; ) {
		ssize_t n = read(lane->zl_fd, buffer,
		    left < ZOW_STREAM_BUFFER ? left : ZOW_STREAM_BUFFER);
		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			zow_lost("went away");
		/* After an error the rest has to be taken, and dropped. */
		if (error == 0)
			error = zow_write_all(fd, buffer, n);
		left -= n;
	}
	zow_header_t header = { ZOW_STREAM_WRITTEN, sizeof (error) };
	struct iovec iov[] = {
		{ &header, sizeof (header) },
		{ &error, sizeof (error) },
	};
	zow_must_send(lane, iov, 2);
}

static void
zow_send_data(zow_lane_t *lane, char *buffer, size_t n, uint32_t error)
{
	zow_header_t header = { ZOW_STREAM_DATA, sizeof (error) + n };
	struct iovec iov[] = {
		{ &header, sizeof (header) },
		{ &error, sizeof (error) },
		{ buffer, n },
	};
	zow_must_send(lane, iov, 3);
}

/* The host reads from one of our descriptors: once, as read(2). */
static void
zow_stream_read(zow_lane_t *lane, uint32_t length)
{
	char *buffer = zow_lane_buffer(lane);
	struct {
		int32_t		fd;
		uint32_t	max;
	} ask;
	ssize_t n;

	if (length != sizeof (ask))
		zow_lost("sent a malformed stream frame");
	zow_must_receive(lane, &ask, sizeof (ask));
	do {
		n = read(ask.fd, buffer, ask.max < ZOW_STREAM_BUFFER ?
		    ask.max : ZOW_STREAM_BUFFER);
	} while (n < 0 && errno == EINTR);
	if (n < 0)
		zow_send_data(lane, buffer, 0, errno);
	else
		zow_send_data(lane, buffer, n, 0);
}

/* read(2) until the end or an error, which is set then. */
static size_t
zow_read_all(int fd, char *p, size_t size, uint32_t *error)
{
	size_t done = 0;

	while (done < size) {
		ssize_t n = read(fd, p + done, size - done);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			*error = errno;
		if (n <= 0)
			break;
		done += n;
	}
	return (done);
}

/*
 * The host reads records of a send stream: `left` bytes of one, then headers
 * and what belongs to them, as many as there is room for. Nothing is read
 * that may be behind the stream's end. An error that comes after data is left
 * to the next read, which meets it again.
 */
static void
zow_stream_records(zow_lane_t *lane, uint32_t length)
{
	char *buffer = zow_lane_buffer(lane);
	dmu_replay_record_t record;
	struct {
		int32_t		fd;
		uint32_t	max;
		uint32_t	left;
	} ask;
	uint32_t error = 0;
	size_t room, n = 0;

	if (length != sizeof (ask))
		zow_lost("sent a malformed stream frame");
	zow_must_receive(lane, &ask, sizeof (ask));
	room = ask.max < ZOW_STREAM_BUFFER ? ask.max : ZOW_STREAM_BUFFER;
	for (int64_t left = ask.left; left >= 0; ) {
		size_t want = left + sizeof (record);
		size_t got;

		if (want > room - n)
			want = (size_t)left < room - n ? left : room - n;
		got = zow_read_all(ask.fd, buffer + n, want, &error);
		n += got;
		if (got < want || got <= (size_t)left)
			break;
		(void) memcpy(&record, buffer + n - sizeof (record),
		    sizeof (record));
		left = zow_record_payload(&record);
	}
	zow_send_data(lane, buffer, n, n > 0 ? 0 : error);
}

/*
 * The result overwrites the command, but for the pointers, which are ours
 * and meant nothing to the host.
 */
static int
zow_result(zow_lane_t *lane, uint32_t length, const zow_ioctl_head_t *head,
    zfs_cmd_t *zc)
{
	uint64_t src = zc->zc_nvlist_src, dst = zc->zc_nvlist_dst;
	uint64_t conf = zc->zc_nvlist_conf, history = zc->zc_history;
	zow_result_head_t result;

	if (length < sizeof (result) + sizeof (*zc))
		zow_lost("sent a malformed result");
	zow_must_receive(lane, &result, sizeof (result));
	if (result.zr_dst_len > head->zi_dst_room ||
	    result.zr_history_len > head->zi_history_room ||
	    length != sizeof (result) + sizeof (*zc) + result.zr_dst_len +
	    result.zr_history_len)
		zow_lost("sent a malformed result");

	zow_must_receive(lane, zc, sizeof (*zc));
	zc->zc_nvlist_src = src;
	zc->zc_nvlist_dst = dst;
	zc->zc_nvlist_conf = conf;
	zc->zc_history = history;
	zow_must_receive(lane, (void *)(uintptr_t)dst, result.zr_dst_len);
	zow_must_receive(lane, (void *)(uintptr_t)history,
	    result.zr_history_len);
	return (result.zr_errno);
}

/*
 * What an ioctl reads and writes outside of its zfs_cmd_t. Returns 0 or an
 * errno when it is more than a host takes.
 */
static int
zow_measure(uint32_t request, const zfs_cmd_t *zc, zow_ioctl_head_t *head)
{
	uint64_t src = 0, conf = 0, dst = 0, room = 0;

	if (zc->zc_nvlist_src != 0)
		src = zc->zc_nvlist_src_size;
	if (zc->zc_nvlist_conf != 0)
		conf = zc->zc_nvlist_conf_size;
	if (zc->zc_nvlist_dst != 0)
		dst = zc->zc_nvlist_dst_size;
	/* Here the size is a number of bookmarks, see spa_get_errlog(). */
	if (request == ZFS_IOC_ERROR_LOG)
		dst = dst > ZOW_DST_ROOM_MAX ? dst :
		    dst * sizeof (zbookmark_phys_t);
	if (zc->zc_history != 0 && request == ZFS_IOC_POOL_GET_HISTORY)
		room = zc->zc_history_len;
	/* The limit of memory that `zfs program -m` asks for. */
	if (request == ZFS_IOC_CHANNEL_PROGRAM && dst > ZOW_DST_ROOM_MAX)
		return (EINVAL);
	if (src > ZOW_PAYLOAD_MAX || conf > ZOW_PAYLOAD_MAX ||
	    dst > ZOW_DST_ROOM_MAX || room > ZOW_HISTORY_ROOM_MAX)
		return (E2BIG);

	head->zi_request = request;
	head->zi_src_len = src;
	head->zi_conf_len = conf;
	head->zi_dst_room = dst;
	head->zi_history_room = room;
	head->zi_history_len = 0;
	/* Elsewhere it is the command line, see history_str_get(). */
	if (zc->zc_history != 0 && request != ZFS_IOC_POOL_GET_HISTORY)
		head->zi_history_len = strnlen((char *)(uintptr_t)
		    zc->zc_history, HIS_MAX_RECORD_LEN - 1) + 1;
	return (0);
}

static int
zow_exchange(zow_lane_t *lane, const zow_ioctl_head_t *head, zfs_cmd_t *zc)
{
	/* The string's NUL is sent even where the string was cut. */
	char nul = '\0';
	uint32_t text = head->zi_history_len > 0 ? head->zi_history_len - 1 : 0;
	zow_header_t header = { ZOW_IOCTL, sizeof (*head) + sizeof (*zc) +
	    head->zi_src_len + head->zi_conf_len + head->zi_history_len };
	struct iovec iov[] = {
		{ &header, sizeof (header) },
		{ (void *)head, sizeof (*head) },
		{ zc, sizeof (*zc) },
		{ (void *)(uintptr_t)zc->zc_nvlist_src, head->zi_src_len },
		{ (void *)(uintptr_t)zc->zc_nvlist_conf, head->zi_conf_len },
		{ (void *)(uintptr_t)zc->zc_history, text },
		{ &nul, head->zi_history_len - text },
	};

	zow_must_send(lane, iov, sizeof (iov) / sizeof (iov[0]));
	for (;;) {
		zow_receive_header(lane, &header);
		switch (header.zf_type) {
		case ZOW_RESULT:
			return (zow_result(lane, header.zf_length, head, zc));
		case ZOW_STREAM_READ:
			zow_stream_read(lane, header.zf_length);
			break;
		case ZOW_STREAM_RECORDS:
			zow_stream_records(lane, header.zf_length);
			break;
		case ZOW_STREAM_WRITE:
			zow_stream_write(lane, header.zf_length);
			break;
		case ZOW_FAILED:
			zow_failed(lane, header.zf_length);
		default:
			zow_lost("sent a frame of an unknown type");
		}
	}
}

/* ioctl(2) on a session. Returns 0, or -1 with errno. */
int
zow_ioctl(int fd, unsigned long request, void *arg)
{
	zow_ioctl_head_t head;
	zow_lane_t *lane;
	int error, state;

	/*
	 * Not a cancellation point, as ioctl(2) is none: a thread that is
	 * cancelled must not leave half an answer in its lane.
	 */
	(void) pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &state);
	if ((error = zow_measure(request, arg, &head)) == 0 &&
	    (error = zow_lane_enter(fd, &lane)) == 0) {
		error = zow_exchange(lane, &head, arg);
		zow_lane_exit(lane);
	}
	(void) pthread_setcancelstate(state, NULL);
	/* No kernel says that, and no program would know what to make of it. */
	if (error == ENOBUFS)
		zow_lost("has no memory left for that: give it more, by "
		    "'memory' in its configuration");
	if (error != 0) {
		errno = error;
		return (-1);
	}
	return (0);
}
