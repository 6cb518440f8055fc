/* Bad pointers: EFAULT, as the kernel says it, never a crash and never lost data. */
#include "common.h"
#include <sys/mman.h>

int main(void)
{
	watchdog(20);
	int a, b;
	char text[16] = {0};
	void *bad = (void *)8;
	tcp_pair(&a, &b);
	CALL(send(a, bad, 4, 0));
	CALL(write(a, bad, 4));
	struct iovec part = {bad, 3};
	CALL(writev(a, &part, 1));
	CALL(write(a, "z", 1));
	wait_for(b, POLLIN);
	CALL(recv(b, bad, 1, 0));
	CALL(read(b, bad, 1));
	CALL(readv(b, &part, 1));
	CALL(recv(b, text, 1, MSG_DONTWAIT));
	say("%s", text);
	CALL(readv(b, bad, 1));
	CALL(sendmsg(a, bad, 0));
	CALL(recvmsg(b, bad, 0));
	CALL(connect(a, bad, 16));
	CALL(bind(a, bad, 16));
	CALL(getsockname(a, bad, bad));
	CALL(getsockopt(a, SOL_SOCKET, SO_ERROR, bad, bad));
	CALL(setsockopt(a, SOL_SOCKET, SO_KEEPALIVE, bad, 4));
	CALL(ioctl(a, FIONREAD, bad));
	CALL(ioctl(a, FIONBIO, bad));
	CALL(poll(bad, 1, 0));
	int set = epoll_create1(0);
	CALL(epoll_ctl(set, EPOLL_CTL_ADD, a, bad));
	struct epoll_event event = {EPOLLOUT, {0}};
	CALL(epoll_ctl(set, EPOLL_CTL_ADD, a, &event));
	CALL(epoll_wait(set, bad, 1, 0));
	CALL(epoll_wait(set, &event, 1, 0));

	section("a read-only page");
	char *page = mmap(NULL, 4096, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	MUST(page != MAP_FAILED);
	CALL(write(a, page, 4));
	wait_for(b, POLLIN);
	CALL(read(b, page, 4));
	CALL(read(b, text, 4));

	section("udp");
	int c, d;
	udp_pair(&c, &d);
	CALL(send(c, bad, 4, 0));
	CALL(send(c, "data", 4, 0));
	wait_for(d, POLLIN);
	CALL(recv(d, text, 4, 0));
	return 0;
}
