/* Threads: many at one socket, and what shutdown and close do to a thread that is blocked. */
#include "common.h"

static int a, b;

struct result { long value; int error; long long at; };

static struct result outcome(long value)
{
	return (struct result){value, errno, now_ms()};
}

static void *block_read(void *data)
{
	char byte;
	errno = 0;
	*(struct result *)data = outcome(read(b, &byte, 1));
	return NULL;
}

static int listening;

static void *block_accept(void *data)
{
	errno = 0;
	*(struct result *)data = outcome(accept(listening, NULL, NULL));
	return NULL;
}

static void *block_poll(void *data)
{
	struct pollfd entry = {b, POLLIN, 0};
	errno = 0;
	*(struct result *)data = outcome(poll(&entry, 1, 3000));
	return NULL;
}

static void *block_write(void *data)
{
	static char block[1 << 22];
	ssize_t count;
	errno = 0;
	while ((count = send(a, block, sizeof block, MSG_NOSIGNAL)) == sizeof block)
		;
	*(struct result *)data = outcome(count < 0 ? -1 : 0);
	return NULL;
}

static void shutdowns(void)
{
	section("shutdown wakes who is blocked");
	pthread_t thread;
	struct result result;
	tcp_pair(&a, &b);
	MUST(pthread_create(&thread, NULL, block_read, &result) == 0);
	pause_ms(60);
	CALL(shutdown(b, SHUT_RDWR));
	pthread_join(thread, NULL);
	say("read: %ld %s", result.value, error_name(result.error));
	close(a);
	close(b);
	tcp_pair(&a, &b);
	MUST(pthread_create(&thread, NULL, block_poll, &result) == 0);
	pause_ms(60);
	CALL(shutdown(b, SHUT_RD));
	pthread_join(thread, NULL);
	say("poll: %ld", result.value);
	close(a);
	close(b);
	listening = listener(0, 4, NULL);
	MUST(pthread_create(&thread, NULL, block_accept, &result) == 0);
	pause_ms(60);
	CALL(shutdown(listening, SHUT_RDWR));
	pthread_join(thread, NULL);
	say("accept: %ld %s", result.value, error_name(result.error));
	close(listening);
	tcp_pair(&a, &b);
	MUST(pthread_create(&thread, NULL, block_write, &result) == 0);
	pause_ms(100);
	CALL(shutdown(a, SHUT_RDWR));
	pthread_join(thread, NULL);
	say("write: ended %ld", result.value <= 0 ? 1L : 0L);
	close(a);
	close(b);
}

static void resets(void)
{
	section("a reset wakes who is blocked");
	pthread_t thread;
	struct result result;
	tcp_pair(&a, &b);
	MUST(pthread_create(&thread, NULL, block_read, &result) == 0);
	pause_ms(60);
	struct linger linger = {1, 0};
	setsockopt(a, SOL_SOCKET, SO_LINGER, &linger, sizeof linger);
	close(a);
	pthread_join(thread, NULL);
	say("read: %ld %s", result.value, error_name(result.error));
	close(b);
}

static void *accept_one(void *data)
{
	(void)data;
	int one = accept(listening, NULL, NULL);
	char byte;
	MUST(read(one, &byte, 1) == 1);
	MUST(write(one, &byte, 1) == 1);
	close(one);
	return NULL;
}

static void accepters(void)
{
	section("many threads in accept, one connection each");
	enum { COUNT = 6 };
	struct sockaddr_in address;
	listening = listener(0, 16, &address);
	pthread_t threads[COUNT];
	for (int i = 0; i < COUNT; i++)
		MUST(pthread_create(&threads[i], NULL, accept_one, NULL) == 0);
	pause_ms(50);
	int good = 0;
	for (int i = 0; i < COUNT; i++) {
		int client = connect_to(address);
		char byte = 'a' + i;
		MUST(write(client, &byte, 1) == 1);
		char back = 0;
		good += read(client, &back, 1) == 1 && back == byte;
		close(client);
	}
	for (int i = 0; i < COUNT; i++)
		pthread_join(threads[i], NULL);
	say("%d served", good);
	close(listening);
}

static void *count_bytes(void *data)
{
	char byte;
	long count = 0;
	while (read(b, &byte, 1) == 1)
		count++;
	*(long *)data = count;
	return NULL;
}

static void *send_bytes(void *data)
{
	(void)data;
	for (int i = 0; i < 1000; i++)
		MUST(write(a, "x", 1) == 1);
	return NULL;
}

static void crowds(void)
{
	section("four writers and four readers on one connection");
	tcp_pair(&a, &b);
	pthread_t readers[4], writers[4];
	long counts[4];
	for (int i = 0; i < 4; i++) {
		MUST(pthread_create(&readers[i], NULL, count_bytes, &counts[i]) == 0);
		MUST(pthread_create(&writers[i], NULL, send_bytes, NULL) == 0);
	}
	for (int i = 0; i < 4; i++)
		pthread_join(writers[i], NULL);
	shutdown(a, SHUT_WR);
	long total = 0;
	for (int i = 0; i < 4; i++) {
		pthread_join(readers[i], NULL);
		total += counts[i];
	}
	say("%ld bytes", total);
	close(a);
	close(b);
}

static int exclusive;

static void *wait_exclusive(void *data)
{
	struct epoll_event event;
	*(int *)data = epoll_wait(exclusive, &event, 1, 3000);
	return NULL;
}

static void epoll_waiters(void)
{
	section("two threads in epoll_wait on one set, edge triggered");
	tcp_pair(&a, &b);
	exclusive = epoll_create1(0);
	struct epoll_event event = {EPOLLIN | EPOLLET, {0}};
	MUST(epoll_ctl(exclusive, EPOLL_CTL_ADD, b, &event) == 0);
	pthread_t one, other;
	int first, second;
	MUST(pthread_create(&one, NULL, wait_exclusive, &first) == 0);
	MUST(pthread_create(&other, NULL, wait_exclusive, &second) == 0);
	pause_ms(60);
	MUST(write(a, "x", 1) == 1);
	pause_ms(100);
	MUST(write(a, "y", 1) == 1);
	pthread_join(one, NULL);
	pthread_join(other, NULL);
	say("each had one event: %d %d", first, second);
	close(exclusive);
	close(a);
	close(b);
}

static void *churn(void *data)
{
	struct sockaddr_in *address = data;
	for (int i = 0; i < 100; i++) {
		int fd = connect_to(*address);
		char byte = i;
		MUST(write(fd, &byte, 1) == 1);
		MUST(read(fd, &byte, 1) == 1);
		close(fd);
	}
	return NULL;
}

static void *serve(void *data)
{
	(void)data;
	for (;;) {
		int one = accept(listening, NULL, NULL);
		if (one == -1)
			return NULL;
		char byte;
		if (read(one, &byte, 1) == 1)
			(void)!write(one, &byte, 1);
		close(one);
	}
}

static void churning(void)
{
	section("threads that connect, thread that serve");
	struct sockaddr_in address;
	listening = listener(0, 64, &address);
	pthread_t servers[2], clients[3];
	for (int i = 0; i < 2; i++)
		MUST(pthread_create(&servers[i], NULL, serve, NULL) == 0);
	for (int i = 0; i < 3; i++)
		MUST(pthread_create(&clients[i], NULL, churn, &address) == 0);
	for (int i = 0; i < 3; i++)
		pthread_join(clients[i], NULL);
	shutdown(listening, SHUT_RDWR);
	for (int i = 0; i < 2; i++)
		pthread_join(servers[i], NULL);
	say("three hundred round trips");
	close(listening);
}

int main(void)
{
	watchdog(40);
	signal(SIGPIPE, SIG_IGN);
	shutdowns();
	resets();
	accepters();
	crowds();
	epoll_waiters();
	churning();
	return 0;
}
