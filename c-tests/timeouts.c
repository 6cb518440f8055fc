/* SO_RCVTIMEO, SO_SNDTIMEO and the waits of every call: they end when they should. */
#include "common.h"

static int a, b;
static char text[64];

static void receiving(void)
{
	section("SO_RCVTIMEO");
	tcp_pair(&a, &b);
	struct timeval time = {0, 80000};
	CALL(setsockopt(b, SOL_SOCKET, SO_RCVTIMEO, &time, sizeof time));
	long long start = now_ms();
	CALL(recv(b, text, 4, 0));
	took("recv", start, 60, 600);
	start = now_ms();
	CALL(read(b, text, 4));
	took("read", start, 60, 600);
	MUST(write(a, "ab", 2) == 2);
	start = now_ms();
	CALL(recv(b, text, 4, MSG_WAITALL));
	took("recv of a part", start, 60, 600);
	start = now_ms();
	CALL(recv(b, text, 4, MSG_DONTWAIT));
	took("MSG_DONTWAIT", start, 0, 50);
	close(a);
	close(b);
	struct sockaddr_in address;
	int fd = listener(0, 4, &address);
	CALL(setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &time, sizeof time));
	start = now_ms();
	CALL(accept(fd, NULL, NULL));
	took("accept", start, 60, 600);
	close(fd);
	udp_pair(&a, &b);
	CALL(setsockopt(b, SOL_SOCKET, SO_RCVTIMEO, &time, sizeof time));
	start = now_ms();
	CALL(recv(b, text, 4, 0));
	took("udp recv", start, 60, 600);
	MUST(write(a, "now", 3) == 3);
	CALL(recv(b, text, 4, 0));
	close(a);
	close(b);
}

static void sending(void)
{
	section("SO_SNDTIMEO");
	tcp_pair(&a, &b);
	struct timeval time = {0, 100000};
	CALL(setsockopt(a, SOL_SOCKET, SO_SNDTIMEO, &time, sizeof time));
	static char block[1 << 20];
	long long start = now_ms();
	ssize_t count;
	int calls = 0;
	while ((count = send(a, block, sizeof block, 0)) > 0 && calls++ < 200)
		start = now_ms();
	say("%zd %s", count, error_name(errno));
	took("send", start, 80, 800);
	close(a);
	close(b);
	struct sockaddr_in address;
	int fd = listener(0, 1, &address), held[2];
	held[0] = connect_to(address);
	held[1] = connect_to(address);
	int late = socket(AF_INET, SOCK_STREAM, 0);
	CALL(setsockopt(late, SOL_SOCKET, SO_SNDTIMEO, &time, sizeof time));
	start = now_ms();
	CALL(connect(late, ADDR(address)));
	took("connect", start, 80, 800);
	CALL(connect(late, ADDR(address)) == -1);
	close(late);
	close(held[0]);
	close(held[1]);
	close(fd);
}

static void user_timeout(void)
{
	section("keepalive leaves a living connection alone");
	tcp_pair(&a, &b);
	set_option(a, SOL_SOCKET, SO_KEEPALIVE, 1);
	set_option(a, IPPROTO_TCP, TCP_KEEPIDLE, 1);
	set_option(a, IPPROTO_TCP, TCP_KEEPINTVL, 1);
	set_option(a, IPPROTO_TCP, TCP_KEEPCNT, 1);
	struct pollfd entry = {a, POLLIN, 0};
	CALL(poll(&entry, 1, 2500));
	CALL(write(a, "alive", 5));
	CALL(recv(b, text, 5, MSG_WAITALL));
	close(a);
	close(b);
}

static void delayed_data(void)
{
	section("every wait ends when data comes");
	tcp_pair(&a, &b);
	for (int way = 0; way < 5; way++) {
		pid_t child = fork();
		if (child == 0) {
			pause_ms(80);
			(void)!write(a, "data", 4);
			_exit(0);
		}
		long long start = now_ms();
		struct pollfd entry = {b, POLLIN, 0};
		fd_set set;
		FD_ZERO(&set);
		FD_SET(b, &set);
		struct timeval limit = {3, 0};
		struct timespec limit_ns = {3, 0};
		if (way == 1)
			CALL(poll(&entry, 1, 3000));
		if (way == 2)
			CALL(select(b + 1, &set, NULL, NULL, &limit));
		if (way == 3)
			CALL(ppoll(&entry, 1, &limit_ns, NULL));
		if (way == 4)
			CALL(pselect(b + 1, &set, NULL, NULL, &limit_ns, NULL));
		CALL(recv(b, text, 4, MSG_WAITALL));
		took("the wait", start, 60, 700);
		waitpid(child, NULL, 0);
	}
	close(a);
	close(b);
}

int main(void)
{
	watchdog(30);
	receiving();
	sending();
	user_timeout();
	delayed_data();
	return 0;
}
