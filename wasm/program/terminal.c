/*
 * This file and its contents are supplied under the terms of the
 * Common Development and Distribution License ("CDDL"), version 1.0.
 * You may only use this file in accordance with the terms of version
 * 1.0 of the CDDL.
 */

/*
 * The terminal. Its line discipline stays the operating system's: what a
 * program changes is whether it echoes, and reading lets other fibers, and
 * with them handlers of signals, run.
 */

#include <errno.h>
#include <stdint.h>
#include <string.h>
#include <sys/ioctl.h>
#include <termios.h>
#include <zow.h>

#include "fiber.h"
#include "process.h"

/* Rows in the high half and columns in the low; -ENOTTY: no terminal. */
ZOW_IMPORT("terminal-size")
extern int zow_terminal_size(int fd);
ZOW_IMPORT("terminal-echo")
extern int zow_terminal_echo(int fd, int on);
/* May return IO_PENDING and complete the fiber, with -EINTR at a signal. */
ZOW_IMPORT("terminal-read")
extern int zow_terminal_read_line(int fiber, int fd, void *buf, size_t length);

/* As Linux sets a new one up (drivers/tty/tty_io.c, tty_std_termios). */
static struct termios terminal = {
	.c_iflag = ICRNL | IXON,
	.c_oflag = OPOST | ONLCR,
	.c_cflag = B38400 | CS8 | CREAD | HUPCL,
	.c_lflag = ISIG | ICANON | ECHO | ECHOE | ECHOK | ECHOCTL | ECHOKE |
	    IEXTEN,
	.c_cc = { [VINTR] = 3, [VQUIT] = 28, [VERASE] = 127, [VKILL] = 21,
	    [VEOF] = 4, [VMIN] = 1, [VSTART] = 17, [VSTOP] = 19, [VSUSP] = 26,
	    [VREPRINT] = 18, [VDISCARD] = 15, [VWERASE] = 23, [VLNEXT] = 22 },
};

static long
set_terminal(int fd, const struct termios *wanted)
{
	int error = 0;

	if ((wanted->c_lflag ^ terminal.c_lflag) & ECHO)
		error = zow_terminal_echo(fd, (wanted->c_lflag & ECHO) != 0);
	if (error == 0)
		terminal = *wanted;
	return (error);
}

long
zow_terminal_ioctl(int fd, unsigned int request, void *arg)
{
	int size = zow_terminal_size(fd);

	if (size < 0)
		return (size);
	switch (request) {
	case TIOCGWINSZ:
		memset((void *)arg, 0, sizeof (struct winsize));
		((struct winsize *)arg)->ws_row = size >> 16;
		((struct winsize *)arg)->ws_col = size & 0xffff;
		return (0);
	case TCGETS:
		*(struct termios *)arg = terminal;
		return (0);
	case TCSETS:
	case TCSETSW:
	case TCSETSF:
		return (set_terminal(fd, arg));
	default:
		return (-ENOTTY);
	}
}

int
zow_is_terminal_input(int fd)
{
	static int is_terminal = -1;

	if (fd != 0)
		return (0);
	if (is_terminal < 0)
		is_terminal = zow_terminal_size(0) >= 0;
	return (is_terminal);
}

long
zow_terminal_read(int fd, void *buf, unsigned int length)
{
	return (fiber_io_end(zow_terminal_read_line(fiber_io_start(), fd, buf,
	    length)));
}
