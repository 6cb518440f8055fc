/* pthread_cancel: blocked calls are cancellation points, on sockets and on what is none. */
#include "common.h"

static int a, b, listening, set, pipes[2], datagram;
static struct sockaddr_in nowhere;
static volatile int cleaned, reached, requested, polled = -1, asked = -1;

static void cleanup(void *nothing)
{
	(void)nothing;
	cleaned++;
}

typedef void body(void);

static void *run(void *argument)
{
	pthread_cleanup_push(cleanup, NULL);
	((body *)argument)();
	reached = 1;
	pthread_cleanup_pop(0);
	return NULL;
}

static void cancelled(const char *what, body *wait)
{
	pthread_t thread;
	void *result;
	cleaned = reached = requested = 0;
	MUST(pthread_create(&thread, NULL, run, (void *)wait) == 0);
	pause_ms(60);
	MUST(pthread_cancel(thread) == 0);
	requested = 1;
	MUST(pthread_join(thread, &result) == 0);
	say("%s: %s, cleaned %d, went on %d", what,
	    result == PTHREAD_CANCELED ? "cancelled" : "returned", cleaned, reached);
}

static char text[16];

static void in_recv(void) { (void)!recv(b, text, 1, 0); }
static void in_read(void) { (void)!read(b, text, 1); }
static void in_recvmsg(void)
{
	struct iovec part = {text, 1};
	struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1};
	(void)!recvmsg(b, &message, MSG_WAITALL);
}
static void in_accept(void) { accept(listening, NULL, NULL); }
static void in_poll(void)
{
	struct pollfd entries[] = {{b, POLLIN, 0}, {pipes[0], POLLIN, 0}};
	poll(entries, 2, -1);
}
static void in_select(void)
{
	fd_set in;
	FD_ZERO(&in);
	FD_SET(b, &in);
	select(b + 1, &in, NULL, NULL, NULL);
}
static void in_epoll(void)
{
	struct epoll_event event;
	epoll_wait(set, &event, 1, -1);
}
static void in_datagram(void) { (void)!recv(datagram, text, 1, 0); }
static void in_send(void)
{
	static char much[1 << 20];
	for (;;)
		(void)!send(a, much, sizeof much, 0);
}
static void in_pipe(void) { (void)!read(pipes[0], text, 1); }
static void in_pipe_poll(void)
{
	struct pollfd entry = {pipes[0], POLLIN, 0};
	poll(&entry, 1, -1);
}
static void in_pipe_epoll(void)
{
	int plain = epoll_create1(0);
	struct epoll_event event = {EPOLLIN, {0}};
	epoll_ctl(plain, EPOLL_CTL_ADD, pipes[0], &event);
	epoll_wait(plain, &event, 1, -1);
}

/* Unlike a pause, no cancellation point. */
static void until_requested(void)
{
	while (!requested)
		;
}

static void before(void)
{
	until_requested();
	recv(b, text, 1, MSG_DONTWAIT);
}

static void forbidden(void)
{
	pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, NULL);
	struct pollfd entry = {b, POLLIN, 0};
	polled = poll(&entry, 1, 150);
	pthread_setcancelstate(PTHREAD_CANCEL_ENABLE, NULL);
	int value;
	socklen_t length = sizeof value;
	asked = getsockopt(b, SOL_SOCKET, SO_ERROR, &value, &length); /* no point */
	(void)!recv(b, text, 1, 0);
}

/* Nothing that has come is lost: the call ends the thread before it takes anything. */
static void with_data(void)
{
	until_requested();
	recv(b, text, 1, 0);
}

int main(void)
{
	watchdog(30);
	tcp_pair(&a, &b);
	listening = listener(0, 4, &nowhere);
	MUST(pipe(pipes) == 0);
	datagram = bound(SOCK_DGRAM, NULL);
	set = epoll_create1(0);
	struct epoll_event event = {EPOLLIN, {0}};
	MUST(epoll_ctl(set, EPOLL_CTL_ADD, b, &event) == 0);

	section("the stack's");
	cancelled("recv", in_recv);
	cancelled("read", in_read);
	cancelled("recvmsg", in_recvmsg);
	cancelled("accept", in_accept);
	cancelled("poll", in_poll);
	cancelled("select", in_select);
	cancelled("epoll_wait", in_epoll);
	cancelled("recv of UDP", in_datagram);
	section("the kernel's");
	cancelled("read of a pipe", in_pipe);
	cancelled("poll of a pipe", in_pipe_poll);
	cancelled("epoll_wait on a pipe", in_pipe_epoll);
	section("when");
	cancelled("before the call", before);
	cancelled("forbidden for a while", forbidden);
	say("polled %d, asked %d", polled, asked);
	MUST(write(a, "xy", 2) == 2);
	settle();
	cancelled("with data", with_data);
	text[0] = 0;
	recv(b, text, 2, MSG_DONTWAIT);
	say("%.2s", text);
	section("afterwards");
	MUST(write(a, "z", 1) == 1);
	CALL(recv(b, text, 1, 0));
	CALL(write(b, "z", 1));
	CALL(recv(a, text, 1, 0));
	cancelled("send", in_send);
	return 0;
}
