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

#ifndef	_ZOW_SESSION_H
#define	_ZOW_SESSION_H

#include <sys/zfs_context.h>
#include <sys/zfs_file.h>
#include <sys/zfs_ioctl.h>

#include "fiber.h"

/*
 * A process of a client: its sessions share what a kernel keeps per thread
 * or process.
 */
typedef struct client_process {
	list_node_t	cp_node;
	int		cp_id;		/* the host's number of it */
	int		cp_sessions;
	void		*cp_allow_log;	/* zfs_allow_log_key's value */
} client_process_t;

/* An open of /dev/zfs. */
typedef struct session {
	list_node_t	s_node;
	struct session	*s_self;	/* while it is open */
	client_process_t *s_process;
	int		s_fd;		/* the client's number of it */
	zfsdev_state_t	*s_state;
	int		s_running;	/* ioctls under way on it */
	int		s_files;	/* zfs_file_t of it, in any session */
	fiber_queue_t	s_idle;		/* who waits for both to be 0 */
	int		s_closing;
	/* Pool that its last ioctl was about; "": none yet. */
	char		s_pool[ZFS_MAX_DATASET_NAME_LEN];
} session_t;

/*
 * An ioctl under way. Its handler sees the client's buffers at addresses of
 * their own, which only ddi_copyin() and its kin can reach (zfs_ioctl_os.c).
 */
typedef struct ioctl_request {
	int		r_id;		/* the host's number of it */
	session_t	*r_session;
	list_node_t	r_node;		/* of all under way */
	fiber_t		*r_fiber;	/* NULL: in line for one */
	boolean_t	r_interrupted;	/* in line */
	unsigned int	r_number;
	zfs_cmd_t	*r_cmd;
	const char	*r_src;
	size_t		r_src_len;
	const char	*r_conf;
	size_t		r_conf_len;
	const char	*r_history;
	size_t		r_history_len;
	char		*r_dst;		/* grows to r_dst_len as written */
	size_t		r_dst_len;
	size_t		r_dst_room;
	char		*r_out_history;
	size_t		r_out_history_len;
	size_t		r_out_history_room;
	boolean_t	r_starved;	/* no memory for what it answers */
} ioctl_request_t;

/*
 * The session of the same process whose descriptor is `fd`, for which
 * session_rele() is called later; NULL: none. It may close meanwhile, but its
 * minor and what is of it stay until then, as of a kernel's struct file.
 */
session_t *session_hold(client_process_t *process, int fd);
void session_rele(session_t *s);

/* The ioctl that the running fiber serves; NULL: none. */
ioctl_request_t *ioctl_current(void);

/*
 * Who reads a client's descriptor in the place of zfs_file_os.c: bytes, 0 at
 * the end of the stream, or -errno.
 */
typedef ssize_t zfs_file_reader_t(void *arg, void *buf, size_t len);
void zfs_file_read_from(zfs_file_t *zf, zfs_file_reader_t *reader, void *arg);

/* And who looks at what was read: 0, or an errno for the reader. */
typedef int zfs_file_checker_t(void *arg, const void *buf, size_t len);
void zfs_file_check_with(zfs_file_t *zf, zfs_file_checker_t *checker,
    void *arg);

boolean_t zfs_file_is_stream(const zfs_file_t *zf, int *request, int *fd);

#endif	/* _ZOW_SESSION_H */
