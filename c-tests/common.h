/*
 * What every program in c-tests/ shares: printing with errno names, socket pairs over 127.0.0.1,
 * and the note that tells the runner which path (stack or kernel) a socket took.
 *
 * The programs print nothing that differs between two runs (no ports, times, pids), so that the
 * output of a run on the kernel and a run under onwire can be compared byte for byte.
 */
#ifndef CTESTS_COMMON_H
#define CTESTS_COMMON_H

#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <arpa/inet.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#ifdef CTESTS_LINUX_TCP /* the newer fields of tcp_info, which glibc 2.36 lacks */
#include <linux/tcp.h>
#else
#include <netinet/tcp.h>
#endif
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/select.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

/* One line of output, written at once: a fork must not print a buffered line twice. */
static __attribute__((format(printf, 1, 2), unused)) void say(const char *format, ...)
{
	char line[4096];
	va_list arguments;
	va_start(arguments, format);
	int length = vsnprintf(line, sizeof line - 1, format, arguments);
	va_end(arguments);
	if (length > (int)sizeof line - 2)
		length = sizeof line - 2;
	line[length++] = '\n';
	if (write(STDOUT_FILENO, line, length) != length)
		_exit(99);
}

static __attribute__((unused)) const char *error_name(int error)
{
	const char *name = error ? strerrorname_np(error) : "0";
	return name ? name : "?";
}

/* Ends the program when the test itself (not what it tests) cannot go on. */
static __attribute__((unused)) void must_(bool held, const char *what, int line)
{
	if (held)
		return;
	int error = errno;
	say("BROKEN line %d: %s (%s)", line, what, error_name(error));
	_exit(98);
}
#define MUST(condition) must_((condition), #condition, __LINE__)

static __attribute__((unused)) long report_(const char *what, long result, int error)
{
	if (result == -1)
		say("%s = -1 %s", what, error_name(error));
	else
		say("%s = %ld", what, result);
	errno = error;
	return result;
}
/* Evaluates a call and prints its source text, its result and its errno. */
#define CALL(expression) \
	({ errno = 0; long result_ = (long)(expression); report_(#expression, result_, errno); })
/* As CALL, for results whose exact value is not the same in two runs: ok or the errno. */
#define OK(expression) \
	({ errno = 0; long result_ = (long)(expression); \
	   int error_ = errno; \
	   if (result_ < 0) say(#expression " = -1 %s", error_name(error_)); \
	   else say(#expression " ok"); \
	   errno = error_; result_; })

static __attribute__((unused)) long long now_ms(void)
{
	struct timespec time;
	clock_gettime(CLOCK_MONOTONIC, &time);
	return time.tv_sec * 1000LL + time.tv_nsec / 1000000;
}

/* Prints whether the time since `start` is within a generous range around what was asked. */
static __attribute__((unused)) void took(const char *what, long long start, int low, int high)
{
	long long elapsed = now_ms() - start;
	if (elapsed >= low && elapsed <= high)
		say("%s took the time expected", what);
	else
		say("%s took %lld ms, expected %d to %d", what, elapsed, low, high);
}

/* Gives what is under way (a FIN, a RST) the time to arrive. */
static __attribute__((unused)) void settle(void)
{
	struct timespec time = {0, 30 * 1000 * 1000};
	while (nanosleep(&time, &time) == -1 && errno == EINTR)
		;
}

static __attribute__((unused)) void pause_ms(int milliseconds)
{
	struct timespec time = {milliseconds / 1000, (milliseconds % 1000) * 1000000L};
	while (nanosleep(&time, &time) == -1 && errno == EINTR)
		;
}

/*
 * Appends "stack" or "kernel" to the file CTEST_PATHS names. Without onwire there is no such
 * symbol and no such file, and nothing happens.
 */
static __attribute__((unused)) void note_path(int fd)
{
	const char *file = getenv("CTEST_PATHS");
	int (*is_stack_fd)(int) = (int (*)(int))dlsym(RTLD_DEFAULT, "onwire_is_stack_fd");
	if (!file || !is_stack_fd)
		return;
	const char *word = is_stack_fd(fd) == 1 ? "stack\n" : "kernel\n";
	int out = open(file, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
	if (out >= 0) {
		(void)!write(out, word, strlen(word));
		close(out);
	}
}

static __attribute__((unused)) struct sockaddr_in loopback(uint16_t port)
{
	struct sockaddr_in address = {0};
	address.sin_family = AF_INET;
	address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	address.sin_port = htons(port);
	return address;
}
#define ADDR(address) ((struct sockaddr *)&(address)), sizeof(address)

static __attribute__((unused)) struct sockaddr_in local_of(int fd)
{
	struct sockaddr_in address = {0};
	socklen_t length = sizeof address;
	MUST(getsockname(fd, (struct sockaddr *)&address, &length) == 0);
	return address;
}

/* A socket of `type` bound to a free port of 127.0.0.1. */
static __attribute__((unused)) int bound(int type, struct sockaddr_in *address)
{
	int fd = socket(AF_INET, type, 0);
	MUST(fd >= 0);
	struct sockaddr_in any = loopback(0);
	MUST(bind(fd, ADDR(any)) == 0);
	if (address)
		*address = local_of(fd);
	return fd;
}

static __attribute__((unused)) int listener(int flags, int backlog, struct sockaddr_in *address)
{
	int fd = bound(SOCK_STREAM | flags, address);
	MUST(listen(fd, backlog) == 0);
	return fd;
}

static __attribute__((unused)) int connect_to(struct sockaddr_in address)
{
	int fd = socket(AF_INET, SOCK_STREAM, 0);
	MUST(fd >= 0);
	MUST(connect(fd, ADDR(address)) == 0);
	return fd;
}

/* Two connected TCP sockets of this process: `client` connected, `server` was accepted. */
static __attribute__((unused)) void tcp_pair(int *client, int *server)
{
	struct sockaddr_in address;
	int listening = listener(0, 4, &address);
	*client = connect_to(address);
	*server = accept(listening, NULL, NULL);
	MUST(*server >= 0);
	note_path(*client);
	note_path(*server);
	close(listening);
}

/* Two UDP sockets connected to each other. */
static __attribute__((unused)) void udp_pair(int *a, int *b)
{
	struct sockaddr_in first, second;
	*a = bound(SOCK_DGRAM, &first);
	*b = bound(SOCK_DGRAM, &second);
	MUST(connect(*a, ADDR(second)) == 0);
	MUST(connect(*b, ADDR(first)) == 0);
	note_path(*a);
	note_path(*b);
}

static __attribute__((unused)) void set_nonblocking(int fd, bool on)
{
	int flags = fcntl(fd, F_GETFL);
	MUST(flags >= 0);
	MUST(fcntl(fd, F_SETFL, on ? flags | O_NONBLOCK : flags & ~O_NONBLOCK) == 0);
}

static __attribute__((unused)) void set_option(int fd, int level, int name, int value)
{
	MUST(setsockopt(fd, level, name, &value, sizeof value) == 0);
}

/* Waits up to two seconds for any of `events`; returns what poll reported. */
static __attribute__((unused)) int wait_for(int fd, int events)
{
	struct pollfd entry = {fd, events, 0};
	long long end = now_ms() + 2000;
	int ready;
	do
		ready = poll(&entry, 1, 2000);
	while (ready == -1 && errno == EINTR && now_ms() < end);
	return ready == 1 ? entry.revents : 0;
}

/* Reads until `length` bytes or end of file; the count read. */
static __attribute__((unused)) size_t read_full(int fd, void *into, size_t length)
{
	size_t done = 0;
	while (done < length) {
		ssize_t count = read(fd, (char *)into + done, length - done);
		if (count == -1 && errno == EINTR)
			continue;
		if (count <= 0)
			break;
		done += count;
	}
	return done;
}

static __attribute__((unused)) bool write_full(int fd, const void *from, size_t length)
{
	size_t done = 0;
	while (done < length) {
		ssize_t count = write(fd, (const char *)from + done, length - done);
		if (count == -1 && errno == EINTR)
			continue;
		if (count <= 0)
			return false;
		done += count;
	}
	return true;
}

/* Byte `offset` of the endless test pattern; its period shares no factor with powers of two. */
static __attribute__((unused)) unsigned char pattern(size_t offset)
{
	return (unsigned char)((offset * 131 + offset / 251) % 251);
}

static __attribute__((unused)) void fill_pattern(unsigned char *into, size_t offset, size_t length)
{
	for (size_t i = 0; i < length; i++)
		into[i] = pattern(offset + i);
}

static __attribute__((unused)) bool is_pattern(const unsigned char *data, size_t offset, size_t length)
{
	for (size_t i = 0; i < length; i++)
		if (data[i] != pattern(offset + i))
			return false;
	return true;
}

static __attribute__((unused)) const char *poll_names(int events)
{
	static char text[16][128];
	static int turn;
	static const struct { int bit; const char *name; } names[] = {
		{POLLIN, "IN"}, {POLLPRI, "PRI"}, {POLLOUT, "OUT"}, {POLLERR, "ERR"}, {POLLHUP, "HUP"},
		{POLLNVAL, "NVAL"}, {POLLRDNORM, "RDNORM"}, {POLLRDBAND, "RDBAND"},
		{POLLWRNORM, "WRNORM"}, {POLLWRBAND, "WRBAND"}, {0x2000, "RDHUP"},
	};
	char *out = text[turn++ % 16];
	out[0] = 0;
	for (size_t i = 0; i < sizeof names / sizeof names[0]; i++)
		if (events & names[i].bit) {
			if (out[0])
				strcat(out, "|");
			strcat(out, names[i].name);
		}
	return out[0] ? out : "none";
}

/* Prints what poll(0) reports for every kind of event. */
static __attribute__((unused)) void show_poll(const char *what, int fd)
{
	struct pollfd entry = {fd, POLLIN | POLLPRI | POLLOUT | POLLRDHUP | POLLRDNORM | POLLWRNORM |
	                               POLLRDBAND | POLLWRBAND, 0};
	int count = poll(&entry, 1, 0);
	say("%s: poll = %d %s", what, count, poll_names(entry.revents));
}

static __attribute__((unused)) void show_socket_error(const char *what, int fd)
{
	int error = -1;
	socklen_t length = sizeof error;
	MUST(getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &length) == 0);
	say("%s: SO_ERROR = %s", what, error_name(error));
}

static __attribute__((unused)) void section(const char *name)
{
	say("== %s", name);
}

/* Ends the program with a message should a call hang for ever. */
static __attribute__((unused)) void watchdog(int seconds)
{
	alarm(seconds);
}

#endif
