/* The same calls through syscall(): numbers that concern sockets reach the same sockets. */
#include "common.h"
#include <sys/syscall.h>

int main(void)
{
	watchdog(20);
	struct sockaddr_in address = loopback(0);
	socklen_t length = sizeof address;
	int fd = CALL(syscall(SYS_socket, AF_INET, SOCK_STREAM, 0));
	CALL(syscall(SYS_bind, fd, &address, sizeof address));
	CALL(syscall(SYS_listen, fd, 4));
	CALL(syscall(SYS_getsockname, fd, &address, &length));
	int a = CALL(syscall(SYS_socket, AF_INET, SOCK_STREAM, 0));
	CALL(syscall(SYS_connect, a, &address, sizeof address));
	int b = CALL(syscall(SYS_accept4, fd, NULL, NULL, SOCK_CLOEXEC));
	note_path(a);
	note_path(b);
	char text[32] = {0};
	CALL(syscall(SYS_write, a, "written", 7));
	CALL(recv(b, text, 7, MSG_WAITALL));
	say("%s", text);
	CALL(send(b, "sent", 4, 0));
	wait_for(a, POLLIN);
	memset(text, 0, sizeof text);
	CALL(syscall(SYS_read, a, text, 10));
	say("%s", text);
	CALL(syscall(SYS_sendto, a, "to", 2, 0, NULL, 0));
	wait_for(b, POLLIN);
	CALL(syscall(SYS_recvfrom, b, text, 10, 0, NULL, NULL));
	struct iovec part = {"vector", 6};
	CALL(syscall(SYS_writev, a, &part, 1));
	wait_for(b, POLLIN);
	part = (struct iovec){text, 10};
	CALL(syscall(SYS_readv, b, &part, 1));
	int value = 0;
	length = sizeof value;
	CALL(syscall(SYS_setsockopt, a, IPPROTO_TCP, TCP_NODELAY, &(int){1}, 4));
	CALL(syscall(SYS_getsockopt, a, IPPROTO_TCP, TCP_NODELAY, &value, &length));
	say("TCP_NODELAY %d", value);
	struct pollfd entry = {b, POLLIN | POLLOUT, 0};
	CALL(syscall(SYS_poll, &entry, 1, 0));
	say("%s", poll_names(entry.revents));
	int set = CALL(syscall(SYS_epoll_create1, 0));
	struct epoll_event event = {EPOLLIN, {.u64 = 3}};
	CALL(syscall(SYS_epoll_ctl, set, EPOLL_CTL_ADD, b, &event));
	CALL(syscall(SYS_sendto, a, "event", 5, 0, NULL, 0));
	CALL(syscall(SYS_epoll_wait, set, &event, 1, 1000));
	say("data %llu", (unsigned long long)event.data.u64);
	int copy = CALL(syscall(SYS_dup, b));
	CALL(syscall(SYS_close, b));
	CALL(syscall(SYS_recvfrom, copy, text, 10, MSG_DONTWAIT, NULL, NULL));
	CALL(syscall(SYS_shutdown, a, SHUT_WR));
	CALL(syscall(SYS_recvfrom, copy, text, 10, 0, NULL, NULL));
	CALL(syscall(SYS_close, copy));
	CALL(syscall(SYS_close, a));
	CALL(syscall(SYS_close, a));
	CALL(syscall(SYS_getpid) == getpid());
	CALL(syscall(100000));
	return 0;
}
