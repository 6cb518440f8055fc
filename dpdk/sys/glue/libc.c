/*
 * libc as DPDK sees it.
 *
 * The build script renames DPDK's references: `socket` becomes `onwire_dpdk_libc_socket` and so
 * on (every function defined here with that prefix, found by reading this file). Three reasons:
 *   - the library that DPDK is linked into interposes these very functions, and the driver's own
 *     sockets must never be taken for the program's;
 *   - descriptors must land where the program does not look, be closed on exec, and be known, also
 *     those that a control thread opens or receives later;
 *   - signals, syslog, the environment and the terminal belong to the program.
 */
#define _GNU_SOURCE
#include <limits.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <linux/bpf.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/uio.h>

#include "glue.h"
#include "raw.h"

#define CALL(nr, a, b, c, d, e, f) \
	onwire_dpdk_call(SYS_##nr, (long)(a), (long)(b), (long)(c), (long)(d), (long)(e), (long)(f))

/* ---- functions that make descriptors ---- */

int
onwire_dpdk_libc_socket(int domain, int type, int protocol)
{
	return onwire_dpdk_raise((int)CALL(socket, domain, type | SOCK_CLOEXEC, protocol, 0, 0, 0));
}

int
onwire_dpdk_libc_accept(int fd, struct sockaddr *addr, socklen_t *len)
{
	return onwire_dpdk_raise((int)CALL(accept4, fd, addr, len, SOCK_CLOEXEC, 0, 0));
}

int
onwire_dpdk_libc_dup(int fd)
{
	return onwire_dpdk_raise((int)CALL(dup, fd, 0, 0, 0, 0, 0));
}

int
onwire_dpdk_libc_dup3(int from, int to, int flags)
{
	int fd = (int)CALL(dup3, from, to, flags | O_CLOEXEC, 0, 0, 0);

	onwire_dpdk_note_descriptor(fd);
	return fd;
}

int
onwire_dpdk_libc_epoll_create(int size)
{
	(void)size;
	return onwire_dpdk_raise((int)CALL(epoll_create1, 0, 0, 0, 0, 0, 0));
}

int
onwire_dpdk_libc_epoll_create1(int flags)
{
	return onwire_dpdk_raise((int)CALL(epoll_create1, flags, 0, 0, 0, 0, 0));
}

int
onwire_dpdk_libc_eventfd(unsigned int value, int flags)
{
	return onwire_dpdk_raise((int)CALL(eventfd2, value, flags, 0, 0, 0, 0));
}

int
onwire_dpdk_libc_timerfd_create(int clock, int flags)
{
	return onwire_dpdk_raise((int)CALL(timerfd_create, clock, flags, 0, 0, 0, 0));
}

int
onwire_dpdk_libc_memfd_create(const char *name, unsigned int flags)
{
	return onwire_dpdk_raise((int)CALL(memfd_create, name, flags, 0, 0, 0, 0));
}

int
onwire_dpdk_libc_pipe(int fds[2])
{
	int ret = (int)CALL(pipe2, fds, 0, 0, 0, 0, 0);

	if (ret == 0) {
		fds[0] = onwire_dpdk_raise(fds[0]);
		fds[1] = onwire_dpdk_raise(fds[1]);
	}
	return ret;
}

static int
open_at(int dir, const char *path, int flags, mode_t mode)
{
	return onwire_dpdk_raise((int)CALL(openat, dir, path, flags | O_CLOEXEC, mode, 0, 0));
}

#define MODE(flags, last) \
	mode_t mode = 0; \
	if ((flags) & (O_CREAT | O_TMPFILE)) { \
		va_list ap; \
		va_start(ap, last); \
		mode = va_arg(ap, mode_t); \
		va_end(ap); \
	}

int
onwire_dpdk_libc_open(const char *path, int flags, ...)
{
	MODE(flags, flags)
	return open_at(AT_FDCWD, path, flags, mode);
}

int
onwire_dpdk_libc_open64(const char *path, int flags, ...)
{
	MODE(flags, flags)
	return open_at(AT_FDCWD, path, flags, mode);
}

int
onwire_dpdk_libc_openat(int dir, const char *path, int flags, ...)
{
	MODE(flags, flags)
	return open_at(dir, path, flags, mode);
}

int
onwire_dpdk_libc_openat64(int dir, const char *path, int flags, ...)
{
	MODE(flags, flags)
	return open_at(dir, path, flags, mode);
}

int
onwire_dpdk_libc_mkstemp64(char *template)
{
	return onwire_dpdk_raise(mkstemp64(template));
}

/* bpf(2) is the one system call with descriptors among its results that has no libc function. */
long
onwire_dpdk_libc_syscall(long nr, ...)
{
	va_list ap;
	long a[6];

	va_start(ap, nr);
	for (int i = 0; i < 6; i++)
		a[i] = va_arg(ap, long);
	va_end(ap);
	long ret = onwire_dpdk_call(nr, a[0], a[1], a[2], a[3], a[4], a[5]);
	if (ret < 0 || nr != SYS_bpf)
		return ret;
	switch (a[0]) {
	case BPF_MAP_CREATE:
	case BPF_PROG_LOAD:
	case BPF_OBJ_GET:
	case BPF_PROG_GET_FD_BY_ID:
	case BPF_MAP_GET_FD_BY_ID:
	case BPF_BTF_LOAD:
	case BPF_BTF_GET_FD_BY_ID:
	case BPF_LINK_CREATE:
	case BPF_LINK_GET_FD_BY_ID:
	case BPF_RAW_TRACEPOINT_OPEN:
		return onwire_dpdk_raise((int)ret);
	default:
		return ret;
	}
}

/* Peers of vhost-user and memif send descriptors; these too are the driver's. */
static void
raise_received(struct msghdr *msg)
{
	for (struct cmsghdr *c = CMSG_FIRSTHDR(msg); c != NULL; c = CMSG_NXTHDR(msg, c)) {
		if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS)
			continue;
		size_t n = (c->cmsg_len - CMSG_LEN(0)) / sizeof(int);
		for (size_t i = 0; i < n; i++) {
			int fd;
			memcpy(&fd, CMSG_DATA(c) + i * sizeof(int), sizeof(int));
			fd = onwire_dpdk_raise(fd);
			memcpy(CMSG_DATA(c) + i * sizeof(int), &fd, sizeof(int));
		}
	}
}

ssize_t
onwire_dpdk_libc_recvmsg(int fd, struct msghdr *msg, int flags)
{
	ssize_t ret = CALL(recvmsg, fd, msg, flags | MSG_CMSG_CLOEXEC, 0, 0, 0);

	if (ret >= 0 && msg->msg_controllen > 0)
		raise_received(msg);
	return ret;
}

int
onwire_dpdk_libc_close(int fd)
{
	onwire_dpdk_forget_descriptor(fd);
	return (int)CALL(close, fd, 0, 0, 0, 0, 0);
}

/* net_tap asks for a signal per packet and receives only once that signal came, in the process
 * that asked. Without the signal it simply reads, in whichever process polls, which is what a
 * stack that is driven by its callers wants. So O_ASYNC never takes effect. */
static int
control(int fd, int cmd, long arg)
{
	if (cmd == F_DUPFD || cmd == F_DUPFD_CLOEXEC)
		return onwire_dpdk_raise((int)CALL(fcntl, fd, F_DUPFD_CLOEXEC, arg, 0, 0, 0));
	if (cmd == F_SETSIG || cmd == F_SETOWN)
		return 0;
	if (cmd == F_SETFL)
		arg &= ~(long)O_ASYNC;
	return (int)CALL(fcntl, fd, cmd, arg, 0, 0, 0);
}

#define FCNTL(name) \
	int name(int fd, int cmd, ...) \
	{ \
		va_list ap; \
		va_start(ap, cmd); \
		long arg = va_arg(ap, long); \
		va_end(ap); \
		return control(fd, cmd, arg); \
	}

FCNTL(onwire_dpdk_libc_fcntl)
FCNTL(onwire_dpdk_libc_fcntl64)

/* ---- functions that the library interposes ---- */

int
onwire_dpdk_libc_bind(int fd, const struct sockaddr *addr, socklen_t len)
{
	return (int)CALL(bind, fd, addr, len, 0, 0, 0);
}

int
onwire_dpdk_libc_connect(int fd, const struct sockaddr *addr, socklen_t len)
{
	return (int)CALL(connect, fd, addr, len, 0, 0, 0);
}

int
onwire_dpdk_libc_listen(int fd, int backlog)
{
	return (int)CALL(listen, fd, backlog, 0, 0, 0, 0);
}

int
onwire_dpdk_libc_getsockname(int fd, struct sockaddr *addr, socklen_t *len)
{
	return (int)CALL(getsockname, fd, addr, len, 0, 0, 0);
}

int
onwire_dpdk_libc_getsockopt(int fd, int level, int name, void *value, socklen_t *len)
{
	return (int)CALL(getsockopt, fd, level, name, value, len, 0);
}

int
onwire_dpdk_libc_setsockopt(int fd, int level, int name, const void *value, socklen_t len)
{
	return (int)CALL(setsockopt, fd, level, name, value, len, 0);
}

int
onwire_dpdk_libc_ioctl(int fd, unsigned long request, ...)
{
	va_list ap;

	va_start(ap, request);
	long arg = va_arg(ap, long);
	va_end(ap);
	return (int)CALL(ioctl, fd, request, arg, 0, 0, 0);
}

ssize_t
onwire_dpdk_libc_read(int fd, void *into, size_t len)
{
	return CALL(read, fd, into, len, 0, 0, 0);
}

ssize_t
onwire_dpdk_libc___read_chk(int fd, void *into, size_t len, size_t room)
{
	if (len > room)
		abort();
	return CALL(read, fd, into, len, 0, 0, 0);
}

ssize_t
onwire_dpdk_libc_readv(int fd, const struct iovec *into, int n)
{
	return CALL(readv, fd, into, n, 0, 0, 0);
}

ssize_t
onwire_dpdk_libc_pread(int fd, void *into, size_t len, off_t offset)
{
	return CALL(pread64, fd, into, len, offset, 0, 0);
}

ssize_t
onwire_dpdk_libc_pread64(int fd, void *into, size_t len, off_t offset)
{
	return CALL(pread64, fd, into, len, offset, 0, 0);
}

ssize_t
onwire_dpdk_libc_pwrite64(int fd, const void *data, size_t len, off_t offset)
{
	return CALL(pwrite64, fd, data, len, offset, 0, 0);
}

ssize_t
onwire_dpdk_libc_write(int fd, const void *data, size_t len)
{
	return CALL(write, fd, data, len, 0, 0, 0);
}

ssize_t
onwire_dpdk_libc_writev(int fd, const struct iovec *data, int n)
{
	return CALL(writev, fd, data, n, 0, 0, 0);
}

int
onwire_dpdk_libc_eventfd_write(int fd, uint64_t value)
{
	return CALL(write, fd, &value, sizeof(value), 0, 0, 0) == sizeof(value) ? 0 : -1;
}

ssize_t
onwire_dpdk_libc_recv(int fd, void *into, size_t len, int flags)
{
	return CALL(recvfrom, fd, into, len, flags, 0, 0);
}

ssize_t
onwire_dpdk_libc_recvfrom(int fd, void *into, size_t len, int flags, struct sockaddr *from,
	socklen_t *from_len)
{
	return CALL(recvfrom, fd, into, len, flags, from, from_len);
}

ssize_t
onwire_dpdk_libc_send(int fd, const void *data, size_t len, int flags)
{
	return CALL(sendto, fd, data, len, flags | MSG_NOSIGNAL, 0, 0);
}

ssize_t
onwire_dpdk_libc_sendto(int fd, const void *data, size_t len, int flags,
	const struct sockaddr *to, socklen_t to_len)
{
	return CALL(sendto, fd, data, len, flags | MSG_NOSIGNAL, to, to_len);
}

ssize_t
onwire_dpdk_libc_sendmsg(int fd, const struct msghdr *msg, int flags)
{
	return CALL(sendmsg, fd, msg, flags | MSG_NOSIGNAL, 0, 0, 0);
}

int
onwire_dpdk_libc_poll(struct pollfd *fds, nfds_t n, int timeout)
{
	return (int)CALL(poll, fds, n, timeout, 0, 0, 0);
}

int
onwire_dpdk_libc___poll_chk(struct pollfd *fds, nfds_t n, int timeout, size_t room)
{
	if (room / sizeof(*fds) < n)
		abort();
	return (int)CALL(poll, fds, n, timeout, 0, 0, 0);
}

int
onwire_dpdk_libc_epoll_ctl(int epfd, int op, int fd, void *event)
{
	return (int)CALL(epoll_ctl, epfd, op, fd, event, 0, 0);
}

/* ---- what belongs to the program ---- */

/* Threads of the driver take none of the program's signals. */
int
onwire_dpdk_libc_pthread_create(pthread_t *thread, const pthread_attr_t *attr,
	void *(*run)(void *), void *arg)
{
	uint64_t all = ~(uint64_t)0, old;

	onwire_dpdk_raw(SYS_rt_sigprocmask, SIG_SETMASK, (long)&all, (long)&old, sizeof(all), 0, 0);
	int ret = pthread_create(thread, attr, run, arg);
	onwire_dpdk_raw(SYS_rt_sigprocmask, SIG_SETMASK, (long)&old, 0, sizeof(old), 0, 0);
	return ret;
}

/* EAL pins its main thread to a core, where it would wait for whoever is busy there. Its threads
 * run where the program's do. */
int
onwire_dpdk_libc_pthread_setaffinity_np(pthread_t thread, size_t size, const void *set)
{
	(void)thread;
	(void)size;
	(void)set;
	return 0;
}

/* The driver may look at dispositions and set none: what it would handle (a bus error while it
 * tries a hugepage, net_tap's packet signal) is checked before the start or switched off. */
int
onwire_dpdk_libc_sigaction(int signal, const struct sigaction *action, struct sigaction *old)
{
	(void)signal;
	(void)action;
	if (old != NULL)
		memset(old, 0, sizeof(*old));
	return 0;
}

int
onwire_dpdk_libc_setrlimit64(int resource, const struct rlimit64 *limit)
{
	if (resource != (int)RLIMIT_MEMLOCK)
		return 0;
	return (int)CALL(prlimit64, 0, resource, limit, 0, 0, 0);
}

int
onwire_dpdk_libc_setenv(const char *name, const char *value, int overwrite)
{
	(void)name;
	(void)value;
	(void)overwrite;
	return 0;
}

int
onwire_dpdk_libc_unsetenv(const char *name)
{
	(void)name;
	return 0;
}

/* EAL makes its folder under /run even where it will put nothing there. */
int
onwire_dpdk_libc_mkdir(const char *path, mode_t mode)
{
	(void)path;
	(void)mode;
	return 0;
}

void
onwire_dpdk_libc_openlog(const char *ident, int option, int facility)
{
	(void)ident;
	(void)option;
	(void)facility;
}

void
onwire_dpdk_libc_closelog(void)
{
}

static void
capture_format(const char *format, va_list ap)
{
	char line[1024];
	int len = vsnprintf(line, sizeof(line), format, ap);

	if (len > 0)
		onwire_dpdk_capture(line, (size_t)len < sizeof(line) ? (size_t)len : sizeof(line) - 1);
}

void
onwire_dpdk_libc___syslog_chk(int priority, int flag, const char *format, ...)
{
	(void)priority;
	(void)flag;
	(void)format;
}

int
onwire_dpdk_libc___printf_chk(int flag, const char *format, ...)
{
	va_list ap;

	(void)flag;
	va_start(ap, format);
	capture_format(format, ap);
	va_end(ap);
	return 0;
}

int
onwire_dpdk_libc___vfprintf_chk(FILE *stream, int flag, const char *format, va_list ap)
{
	(void)flag;
	if (stream != stdout && stream != stderr)
		return vfprintf(stream, format, ap);
	capture_format(format, ap);
	return 0;
}

int
onwire_dpdk_libc___fprintf_chk(FILE *stream, int flag, const char *format, ...)
{
	va_list ap;

	va_start(ap, format);
	int ret = onwire_dpdk_libc___vfprintf_chk(stream, flag, format, ap);
	va_end(ap);
	return ret;
}

int
onwire_dpdk_libc_puts(const char *text)
{
	onwire_dpdk_capture(text, strlen(text));
	onwire_dpdk_capture("\n", 1);
	return 0;
}

int
onwire_dpdk_libc_putchar(int c)
{
	char octet = (char)c;

	onwire_dpdk_capture(&octet, 1);
	return c;
}

int
onwire_dpdk_libc_fputs(const char *text, FILE *stream)
{
	if (stream != stdout && stream != stderr)
		return fputs(text, stream);
	onwire_dpdk_capture(text, strlen(text));
	return 0;
}

int
onwire_dpdk_libc_fputc(int c, FILE *stream)
{
	return stream == stdout || stream == stderr ? onwire_dpdk_libc_putchar(c) : fputc(c, stream);
}

size_t
onwire_dpdk_libc_fwrite(const void *data, size_t size, size_t n, FILE *stream)
{
	if (stream != stdout && stream != stderr)
		return fwrite(data, size, n, stream);
	onwire_dpdk_capture(data, size * n);
	return n;
}

/* ---- odds and ends ---- */

static int fast_calibration;

void
onwire_dpdk_fast_calibration(int on)
{
	fast_calibration = on;
}

/* EAL measures the time stamp counter over a nanosleep of 100 ms and divides by the time that
 * really passed, rounding to 10 MHz: a few milliseconds are plenty. */
int
onwire_dpdk_libc_nanosleep(const struct timespec *wanted, struct timespec *left)
{
	struct timespec shorter = { .tv_sec = 0, .tv_nsec = 5 * 1000 * 1000 };
	int calibrating = fast_calibration && wanted->tv_sec == 0 && wanted->tv_nsec == 100000000;

	return (int)CALL(nanosleep, calibrating ? &shorter : wanted, left, 0, 0, 0, 0);
}

/* The highest CPU that this machine can have. */
static long
last_cpu(void)
{
	static long last = -1;
	char text[256];

	if (last < 0) {
		int fd = (int)CALL(openat, AT_FDCWD, "/sys/devices/system/cpu/possible", O_RDONLY | O_CLOEXEC,
			0, 0, 0);
		ssize_t len = fd >= 0 ? CALL(read, fd, text, sizeof(text) - 1, 0, 0, 0) : 0;
		if (fd >= 0)
			onwire_dpdk_raw_close(fd);
		/* "0-7" or "0-3,8-11": the last number is the highest. */
		while (len > 0 && (text[len - 1] < '0' || text[len - 1] > '9'))
			len--;
		text[len > 0 ? len : 0] = '\0';
		while (len > 0 && text[len - 1] >= '0' && text[len - 1] <= '9')
			len--;
		last = text[0] != '\0' ? strtol(text + len, NULL, 10) : LONG_MAX;
	}
	return last;
}

/* EAL asks for each of 1024 CPUs on each of 32 nodes whether it is there: 5000 system calls. */
int
onwire_dpdk_libc_access(const char *path, int mode)
{
	static const char *const prefixes[] = {
		"/sys/devices/system/cpu/cpu", "/sys/devices/system/node/node"
	};

	for (int i = 0; i < 2; i++) {
		if (strncmp(path, prefixes[i], strlen(prefixes[i])) != 0)
			continue;
		const char *cpu = i == 0 ? path + strlen("/sys/devices/system/cpu") : strrchr(path, '/');
		if (strncmp(cpu, "/cpu", 4) == 0 && strtol(cpu + 4, NULL, 10) > last_cpu()) {
			errno = ENOENT;
			return -1;
		}
	}
	return (int)CALL(access, path, mode, 0, 0, 0, 0);
}

/* For the optical power of a transceiver, in one place of ethdev; saves libm. */
double
onwire_dpdk_libc_log10(double x)
{
	double result;

	__asm__("fldlg2\n\tfldl %1\n\tfyl2x\n\tfstpl %0" : "=m"(result) : "m"(x));
	return result;
}

size_t
onwire_dpdk_libc_strlcpy(char *to, const char *from, size_t room)
{
	size_t len = strlen(from);

	if (room > 0) {
		size_t n = len < room ? len : room - 1;
		memcpy(to, from, n);
		to[n] = '\0';
	}
	return len;
}

size_t
onwire_dpdk_libc_strlcat(char *to, const char *from, size_t room)
{
	size_t used = strnlen(to, room);

	return used + onwire_dpdk_libc_strlcpy(to + used, from, room - used);
}
