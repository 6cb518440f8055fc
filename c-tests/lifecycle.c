/* socket, close, dup, fcntl, ioctl, close_range, fstat: the life of a descriptor. */
#include "common.h"
#include <linux/close_range.h>
#include <sys/un.h>

static void creation(void)
{
	section("creation");
	CALL(socket(AF_INET, SOCK_STREAM, 0));
	CALL(socket(AF_INET, SOCK_STREAM, IPPROTO_TCP));
	CALL(socket(AF_INET, SOCK_DGRAM, 0));
	CALL(socket(AF_INET, SOCK_DGRAM, IPPROTO_UDP));
	CALL(socket(AF_INET, SOCK_STREAM, IPPROTO_UDP));
	CALL(socket(AF_INET, SOCK_DGRAM, IPPROTO_TCP));
	CALL(socket(AF_INET, SOCK_SEQPACKET, 0));
	CALL(socket(AF_INET, 77, 0));
	CALL(socket(AF_INET, SOCK_STREAM, 9999));
	CALL(socket(9999, SOCK_STREAM, 0));
	CALL(socket(-1, SOCK_STREAM, 0));
	CALL(socket(AF_INET, SOCK_STREAM | 0x100000, 0));
	CALL(socketpair(AF_INET, SOCK_STREAM, 0, (int[2]){0}));
	CALL(close(6));
	CALL(close(4));
	CALL(socket(AF_INET, SOCK_STREAM, 0));
	CALL(close(4));
	CALL(close(3));
	CALL(close(5));
	CALL(close(5));
	CALL(close(-1));
	CALL(close(100000));
}

static void creation_flags(void)
{
	section("flags of socket()");
	int plain = socket(AF_INET, SOCK_STREAM, 0);
	int nonblocking = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
	int cloexec = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	int both = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	int all[] = {plain, nonblocking, cloexec, both};
	for (int i = 0; i < 4; i++) {
		int status = fcntl(all[i], F_GETFL), descriptor = fcntl(all[i], F_GETFD);
		say("%d: access %d nonblock %d cloexec %d", i, status & O_ACCMODE,
		    !!(status & O_NONBLOCK), !!(descriptor & FD_CLOEXEC));
		struct stat info;
		CALL(fstat(all[i], &info));
		say("socket by fstat: %d", S_ISSOCK(info.st_mode));
		CALL(isatty(all[i]));
	}
	for (int i = 0; i < 4; i++)
		close(all[i]);
}

static void flags(void)
{
	section("fcntl and ioctl");
	int a, b;
	tcp_pair(&a, &b);
	CALL(fcntl(a, F_SETFL, O_NONBLOCK));
	CALL(fcntl(a, F_GETFL) & O_NONBLOCK);
	char byte;
	CALL(read(a, &byte, 1));
	CALL(fcntl(a, F_SETFL, 0));
	CALL(fcntl(a, F_GETFL) & O_NONBLOCK);
	int on = 1, off = 0;
	CALL(ioctl(a, FIONBIO, &on));
	CALL(fcntl(a, F_GETFL) & O_NONBLOCK);
	CALL(recv(a, &byte, 1, 0));
	CALL(ioctl(a, FIONBIO, &off));
	CALL(fcntl(a, F_GETFL) & O_NONBLOCK);
	CALL(recv(a, &byte, 1, MSG_DONTWAIT));
	CALL(fcntl(a, F_SETFD, FD_CLOEXEC));
	CALL(fcntl(a, F_GETFD));
	CALL(ioctl(a, FIONCLEX));
	CALL(fcntl(a, F_GETFD));
	CALL(ioctl(a, FIOCLEX));
	CALL(fcntl(a, F_GETFD));
	CALL(fcntl(a, 9999, 0));
	CALL(ioctl(a, 0xdeadbeef, &on));
	CALL(fcntl(a, F_SETOWN, getpid()));
	say("owner is this process: %d", fcntl(a, F_GETOWN) == getpid());
	CALL(fcntl(a, F_SETSIG, SIGUSR1));
	CALL(fcntl(a, F_GETSIG) == SIGUSR1);
	CALL(fcntl(a, F_SETSIG, 0));
	int pending = -1;
	CALL(ioctl(b, FIONREAD, &pending));
	say("FIONREAD %d", pending);
	CALL(write(a, "twelve bytes", 12));
	wait_for(b, POLLIN);
	CALL(ioctl(b, FIONREAD, &pending));
	say("FIONREAD %d", pending);
	CALL(ioctl(a, TIOCOUTQ, &pending));
	close(a);
	close(b);
}

static void duplicates(void)
{
	section("duplicates");
	int a, b;
	tcp_pair(&a, &b);
	int second = dup(a);
	note_path(second);
	say("dup gives the lowest free number: %d", second - b);
	CALL(write(second, "one", 3));
	char text[16] = {0};
	CALL(recv(b, text, 3, MSG_WAITALL));
	say("%s", text);
	CALL(close(a));
	CALL(write(a, "x", 1));
	CALL(write(second, "two", 3));
	CALL(recv(b, text, 3, MSG_WAITALL));
	say("%s", text);
	CALL(recv(b, text, 3, MSG_DONTWAIT));
	int third = fcntl(second, F_DUPFD, 50);
	say("F_DUPFD: %d", third);
	int fourth = fcntl(second, F_DUPFD_CLOEXEC, 60);
	say("F_DUPFD_CLOEXEC: %d, cloexec %d", fourth, fcntl(fourth, F_GETFD));
	CALL(fcntl(second, F_DUPFD, -1));
	CALL(fcntl(third, F_GETFD));
	CALL(fcntl(third, F_SETFL, O_NONBLOCK));
	say("status flags are shared: %d", !!(fcntl(second, F_GETFL) & O_NONBLOCK));
	CALL(dup2(second, 70));
	CALL(dup2(second, second) == second);
	CALL(dup2(99, 70));
	CALL(dup2(99, 99));
	CALL(dup2(second, -1));
	CALL(dup3(second, 71, O_CLOEXEC));
	CALL(fcntl(71, F_GETFD));
	CALL(dup3(second, 72, 0x1));
	CALL(dup3(72, 72, 0));
	CALL(dup3(99, 73, 0));
	CALL(write(71, "all", 3));
	CALL(recv(b, text, 3, MSG_WAITALL));
	say("%s", text);
	close(second);
	close(third);
	close(fourth);
	close(70);
	CALL(recv(b, text, 3, MSG_DONTWAIT));
	close(71);
	wait_for(b, POLLIN);
	CALL(recv(b, text, 3, 0));
	close(b);
}

static void replaced(void)
{
	section("dup2 over a socket closes it");
	int a, b, pipes[2];
	tcp_pair(&a, &b);
	MUST(pipe(pipes) == 0);
	CALL(dup2(pipes[1], a) == a);
	char text[8] = {0};
	wait_for(b, POLLIN);
	CALL(read(b, text, 8));
	CALL(write(a, "pipe", 4));
	CALL(read(pipes[0], text, 8));
	say("%s", text);
	CALL(send(a, "x", 1, 0));
	close(a);
	close(pipes[1]);
	CALL(dup2(b, pipes[0]) == pipes[0]);
	struct stat info;
	CALL(fstat(pipes[0], &info));
	say("a socket now: %d", S_ISSOCK(info.st_mode));
	close(b);
	close(pipes[0]);

	section("dup of a listener");
	struct sockaddr_in address;
	int listening = listener(0, 4, &address);
	int copy = dup(listening);
	close(listening);
	a = connect_to(address);
	b = accept(copy, NULL, NULL);
	MUST(b >= 0);
	CALL(write(b, "hello", 5));
	CALL(recv(a, text, 5, MSG_WAITALL));
	close(copy);
	int late = socket(AF_INET, SOCK_STREAM, 0);
	CALL(connect(late, ADDR(address)));
	close(late);
	close(a);
	close(b);
}

static void ranges(void)
{
	section("close_range and closefrom");
	int a, b;
	tcp_pair(&a, &b);
	MUST(dup2(a, 80) == 80);
	MUST(dup2(b, 81) == 81);
	close(a);
	close(b);
	CALL(close_range(80, 80, CLOSE_RANGE_CLOEXEC));
	CALL(fcntl(80, F_GETFD));
	CALL(write(80, "ab", 2));
	char text[8] = {0};
	CALL(recv(81, text, 2, MSG_WAITALL));
	CALL(close_range(80, 80, 0));
	CALL(write(80, "ab", 2));
	wait_for(81, POLLIN);
	CALL(recv(81, text, 2, 0));
	CALL(close_range(90, 80, 0));
	CALL(close_range(80, 90, 0x40));
	closefrom(70);
	CALL(fcntl(81, F_GETFD));
	CALL(close(81));
	int next = socket(AF_INET, SOCK_STREAM, 0);
	say("next descriptor %d", next);
	for (int fd = 3; fd < 1024; fd++)
		close(fd);
	tcp_pair(&a, &b);
	CALL(write(a, "still", 5));
	CALL(recv(b, text, 5, MSG_WAITALL));
	say("%s works after closing every descriptor", text);
	closefrom(3);
	tcp_pair(&a, &b);
	CALL(write(b, "again", 5));
	CALL(recv(a, text, 5, MSG_WAITALL));
	say("%s works after closefrom(3)", text);
	close(a);
	close(b);
}

static void other_families(void)
{
	section("other families stay the kernel's");
	int pair[2];
	CALL(socketpair(AF_UNIX, SOCK_STREAM, 0, pair));
	CALL(write(pair[0], "unix", 4));
	char text[8] = {0};
	CALL(read(pair[1], text, 8));
	say("%s", text);
	close(pair[0]);
	CALL(read(pair[1], text, 8));
	close(pair[1]);
	int netlink = socket(AF_NETLINK, SOCK_RAW, 0);
	say("netlink: %d", netlink >= 0);
	close(netlink);
	int six = socket(AF_INET6, SOCK_STREAM, 0);
	say("inet6 socket: %d", six >= 0);
	close(six);
}

static void many(void)
{
	section("five hundred sockets");
	closefrom(3);
	int fds[500], made = 0;
	for (int i = 0; i < 500; i++) {
		fds[i] = socket(AF_INET, i % 2 ? SOCK_STREAM : SOCK_DGRAM, 0);
		if (i == 0 || fds[i] == fds[i - 1] + 1)
			made++;
	}
	say("%d, numbered one after another", made);
	for (int i = 0; i < 500; i++)
		close(fds[i]);
	int again = socket(AF_INET, SOCK_STREAM, 0);
	say("then %d", again);
	close(again);
}

int main(void)
{
	watchdog(30);
	creation();
	creation_flags();
	flags();
	duplicates();
	replaced();
	other_families();
	many();
	ranges();
	return 0;
}
