/*
 * This file and its contents are supplied under the terms of the
 * Common Development and Distribution License ("CDDL"), version 1.0.
 * You may only use this file in accordance with the terms of version
 * 1.0 of the CDDL.
 */

/*
 * The client's end of docs/protocol.md: an open of /dev/zfs is a connection
 * to a ZoW host, an ioctl on it is a request. The same sources serve the
 * natively built programs and those built to WebAssembly.
 */

#ifndef _ZOW_CLIENT_H
#define	_ZOW_CLIENT_H

#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>
#include <sys/zfs_ioctl.h>

/* Layouts and limits of the protocol; host/ioctl/protocol.ts has the same. */
#define	ZOW_MAGIC		"ZOWIOCTL"
#define	ZOW_VERSION		3
#define	ZOW_PAYLOAD_MAX		(64U << 20)
#define	ZOW_DST_ROOM_MAX	(128U << 20)
#define	ZOW_HISTORY_ROOM_MAX	(64U << 20)
#define	ZOW_MESSAGE_MAX		1024

typedef struct zow_hello {
	char		zh_magic[8];
	uint32_t	zh_version;
	uint32_t	zh_cmd_size;
	char		zh_release[32];
	uint8_t		zh_process[16];
	uint32_t	zh_pid;
	int32_t		zh_fd;
	uint32_t	zh_attach_minor;
	uint32_t	zh_stdio;
	char		zh_program[32];
} zow_hello_t;

typedef struct zow_hello_reply {
	char		zr_magic[8];
	uint32_t	zr_version;
	uint32_t	zr_cmd_size;
	char		zr_release[32];
	uint32_t	zr_status;
	uint32_t	zr_minor;
	uint32_t	zr_payload_max;
	uint32_t	zr_pid;
	uint32_t	zr_hostid;
	uint32_t	zr_reserved;
	char		zr_message[120];
} zow_hello_reply_t;

_Static_assert(sizeof (zow_hello_t) == 112, "hello");
_Static_assert(sizeof (zow_hello_reply_t) == 192, "hello reply");

#if defined(__BYTE_ORDER__) && __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "the protocol's structures are little-endian, as this client is"
#endif

/* Frame types. */
#define	ZOW_IOCTL		1
#define	ZOW_RESULT		2
#define	ZOW_STREAM_READ		3
#define	ZOW_STREAM_DATA		4
#define	ZOW_STREAM_WRITE	5
#define	ZOW_STREAM_WRITTEN	6
#define	ZOW_FAILED		7
#define	ZOW_STREAM_RECORDS	8
#define	ZOW_QUERY		9
#define	ZOW_ITEM		10
#define	ZOW_DONE		11
#define	ZOW_INTERRUPT		12

/* Of queries: a remote disk's size, and what is at its ends. */
#define	ZOW_QUERY_DISK		6

typedef struct zow_header {
	uint32_t	zf_type;
	uint32_t	zf_length;	/* of what follows */
} zow_header_t;

typedef struct zow_ioctl_head {
	uint32_t	zi_request;
	uint32_t	zi_src_len;
	uint32_t	zi_conf_len;
	uint32_t	zi_history_len;
	uint32_t	zi_dst_room;
	uint32_t	zi_history_room;
} zow_ioctl_head_t;

typedef struct zow_result_head {
	uint32_t	zr_errno;
	uint32_t	zr_dst_len;
	uint32_t	zr_history_len;
	uint32_t	zr_reserved;
} zow_result_head_t;

/*
 * Bytes between this header of a send stream and the next, as
 * receive_read_record() of dmu_recv.c counts them; -1 when there is no next
 * one, or the receiver will not get that far.
 */
static inline int64_t
zow_record_payload(const dmu_replay_record_t *drr)
{
	uint64_t size = 0;

	switch (drr->drr_type) {
	case DRR_OBJECT:
		size = DRR_OBJECT_PAYLOAD_SIZE(&drr->drr_u.drr_object);
		break;
	case DRR_WRITE:
		size = DRR_WRITE_PAYLOAD_SIZE(&drr->drr_u.drr_write);
		break;
	case DRR_WRITE_EMBEDDED:
		size = P2ROUNDUP((uint64_t)
		    drr->drr_u.drr_write_embedded.drr_psize, 8);
		break;
	case DRR_SPILL:
		size = DRR_SPILL_PAYLOAD_SIZE(&drr->drr_u.drr_spill);
		break;
	case DRR_FREEOBJECTS:
	case DRR_FREE:
	case DRR_REDACT:
	case DRR_OBJECT_RANGE:
		break;
	default:
		return (-1);
	}
	return (size <= SPA_MAXBLOCKSIZE ? (int64_t)size : -1);
}

/* zow_socket.c: bytes, and finding the host */
int zow_connect(uint32_t attach_minor, zow_hello_reply_t *reply);
int zow_send(int fd, struct iovec *iov, int iovcnt);
int zow_receive(int fd, void *buffer, size_t size);
const char *zow_socket_path(void);
#define	ZOW_CACHE_FILE_MAX	128
int zow_cache_file(char *path, size_t size);
const char *zow_why_not(void);
uint32_t zow_host_id(void);

/* zow_client.c: sessions and ioctls */
int zow_open(void);
int zow_is_session(int fd);
int zow_ioctl(int fd, unsigned long request, void *zc);
int zow_close(int fd);

/* zow_remote.c: disks that the host reaches over a network */
#define	ZOW_REMOTE_DIR		"/dev/zow/"
int zow_is_remote(const char *path);
int zow_open_remote(const char *path, int flags);

/* zow_command.c: what the user called */
void zow_set_subcommand(const char *name);
const char *zow_get_subcommand(void);
int zow_subcommand_is(const char *name);

#endif	/* _ZOW_CLIENT_H */
