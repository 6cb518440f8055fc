/* poll, ppoll, select, pselect: what they report in every state of a socket. */
#include "common.h"

static int a, b;
static char text[64];

static void states(void)
{
	section("poll in every state");
	int fd = socket(AF_INET, SOCK_STREAM, 0);
	show_poll("fresh", fd);
	struct sockaddr_in address = loopback(0);
	MUST(bind(fd, ADDR(address)) == 0);
	show_poll("bound", fd);
	MUST(listen(fd, 4) == 0);
	show_poll("listening", fd);
	address = local_of(fd);
	a = connect_to(address);
	wait_for(fd, POLLIN);
	show_poll("a connection waits", fd);
	show_poll("client before accept", a);
	b = accept(fd, NULL, NULL);
	note_path(b);
	show_poll("accepted away", fd);
	show_poll("connected", b);
	CALL(write(a, "data", 4));
	wait_for(b, POLLIN);
	show_poll("data waits", b);
	CALL(read(b, text, 2));
	show_poll("half read", b);
	CALL(read(b, text, 2));
	show_poll("all read", b);
	shutdown(a, SHUT_WR);
	wait_for(b, POLLRDHUP);
	show_poll("peer shut", b);
	show_poll("self shut", a);
	close(b);
	settle();
	show_poll("both closed", a);
	close(a);
	shutdown(fd, SHUT_RDWR);
	show_poll("listener shut", fd);
	close(fd);
	show_poll("closed descriptor", fd);
	fd = socket(AF_INET, SOCK_DGRAM, 0);
	show_poll("fresh udp", fd);
	close(fd);
	int c, d;
	udp_pair(&c, &d);
	show_poll("connected udp", c);
	CALL(write(c, "datagram", 8));
	wait_for(d, POLLIN);
	show_poll("datagram waits", d);
	CALL(read(d, text, 3));
	show_poll("read", d);
	close(c);
	close(d);
}

static void select_states(void)
{
	section("select");
	tcp_pair(&a, &b);
	fd_set in, out, except;
	struct timeval zero = {0, 0};
#define TRY(what) do { \
		FD_ZERO(&in); FD_ZERO(&out); FD_ZERO(&except); \
		FD_SET(b, &in); FD_SET(b, &out); FD_SET(b, &except); \
		int count = select(b + 1, &in, &out, &except, &zero); \
		say("%s: %d in %d out %d except %d", what, count, !!FD_ISSET(b, &in), \
		    !!FD_ISSET(b, &out), !!FD_ISSET(b, &except)); \
	} while (0)
	TRY("connected");
	CALL(write(a, "data", 4));
	wait_for(b, POLLIN);
	TRY("data");
	CALL(read(b, text, 4));
	TRY("read");
	CALL(send(a, "!", 1, MSG_OOB));
	wait_for(b, POLLPRI);
	TRY("urgent");
	CALL(recv(b, text, 1, MSG_OOB));
	TRY("urgent read");
	shutdown(a, SHUT_WR);
	wait_for(b, POLLRDHUP);
	TRY("end of file");
	struct linger reset = {1, 0};
	setsockopt(a, SOL_SOCKET, SO_LINGER, &reset, sizeof reset);
	close(a);
	settle();
	TRY("reset");
	close(b);
	FD_ZERO(&in);
	FD_SET(b, &in);
	CALL(select(b + 1, &in, NULL, NULL, &zero));
	CALL(select(-1, NULL, NULL, NULL, &zero));
	CALL(select(0, NULL, NULL, NULL, &zero));
	struct timeval negative = {-1, 0};
	CALL(select(0, NULL, NULL, NULL, &negative));
	struct timeval left = {0, 50000};
	long long start = now_ms();
	tcp_pair(&a, &b);
	FD_ZERO(&in);
	FD_SET(b, &in);
	CALL(select(b + 1, &in, NULL, NULL, &left));
	took("select", start, 40, 500);
	say("time left %ld %ld; in %d", (long)left.tv_sec, (long)left.tv_usec, !!FD_ISSET(b, &in));
	left = (struct timeval){5, 0};
	CALL(write(a, "x", 1));
	FD_SET(b, &in);
	CALL(select(b + 1, &in, NULL, NULL, &left));
	say("time left over: %d", left.tv_sec == 4);
	struct timespec soon = {0, 20 * 1000 * 1000};
	FD_ZERO(&in);
	FD_SET(a, &in);
	CALL(pselect(b + 1, &in, NULL, NULL, &soon, NULL));
	say("pselect leaves its timeout alone: %d", soon.tv_nsec == 20 * 1000 * 1000);
	close(a);
	close(b);
}

static void poll_details(void)
{
	section("poll");
	tcp_pair(&a, &b);
	struct pollfd entries[5] = {{-1, POLLIN, 77}, {b, POLLIN, 77}, {99, POLLIN, 0},
	                            {a, POLLOUT, 0}, {a, 0, 0}};
	CALL(poll(entries, 5, 0));
	for (int i = 0; i < 5; i++)
		say("%d: %s", i, poll_names(entries[i].revents));
	long long start = now_ms();
	CALL(poll(entries + 1, 1, 60));
	took("poll", start, 50, 500);
	CALL(poll(entries, 1, 10));
	CALL(poll(NULL, 0, 10));
	struct timespec soon = {0, 60 * 1000 * 1000};
	start = now_ms();
	CALL(ppoll(entries + 1, 1, &soon, NULL));
	took("ppoll", start, 50, 500);
	struct timespec wrong = {0, 2000000000};
	CALL(ppoll(entries + 1, 1, &wrong, NULL));
	wrong = (struct timespec){-1, 0};
	CALL(ppoll(entries + 1, 1, &wrong, NULL));
	close(b);
	entries[0] = (struct pollfd){a, 0, 0};
	settle();
	CALL(poll(entries, 1, 0));
	CALL(write(a, "x", 1));
	settle();
	CALL(poll(entries, 1, 0));
	say("errors are reported unasked: %s", poll_names(entries[0].revents));
	close(a);
}

static void mixed(void)
{
	section("kernel and stack descriptors together");
	int pipes[2];
	MUST(pipe(pipes) == 0);
	tcp_pair(&a, &b);
	struct pollfd entries[3] = {{pipes[0], POLLIN, 0}, {b, POLLIN, 0}, {pipes[1], POLLOUT, 0}};
	CALL(poll(entries, 3, 0));
	say("%s %s %s", poll_names(entries[0].revents), poll_names(entries[1].revents),
	    poll_names(entries[2].revents));
	CALL(write(a, "x", 1));
	wait_for(b, POLLIN);
	CALL(write(pipes[1], "y", 1));
	CALL(poll(entries, 3, 1000));
	say("%s %s %s", poll_names(entries[0].revents), poll_names(entries[1].revents),
	    poll_names(entries[2].revents));
	CALL(read(b, text, 1));
	CALL(read(pipes[0], text, 1));
	pid_t child = fork();
	if (child == 0) {
		pause_ms(60);
		(void)!write(pipes[1], "k", 1);
		pause_ms(60);
		(void)!write(a, "s", 1);
		_exit(0);
	}
	CALL(poll(entries, 2, 2000));
	say("first the pipe: %s %s", poll_names(entries[0].revents), poll_names(entries[1].revents));
	CALL(read(pipes[0], text, 1));
	CALL(poll(entries, 2, 2000));
	say("then the socket: %s %s", poll_names(entries[0].revents), poll_names(entries[1].revents));
	waitpid(child, NULL, 0);
	fd_set in, out;
	FD_ZERO(&in);
	FD_ZERO(&out);
	FD_SET(b, &in);
	FD_SET(pipes[0], &in);
	FD_SET(pipes[1], &out);
	FD_SET(a, &out);
	CALL(select(20, &in, &out, NULL, NULL));
	say("%d %d %d %d", !!FD_ISSET(b, &in), !!FD_ISSET(pipes[0], &in), !!FD_ISSET(pipes[1], &out),
	    !!FD_ISSET(a, &out));
	close(a);
	close(b);
	close(pipes[0]);
	close(pipes[1]);
}

static void lowat(void)
{
	section("SO_RCVLOWAT");
	tcp_pair(&a, &b);
	set_option(b, SOL_SOCKET, SO_RCVLOWAT, 5);
	CALL(write(a, "1234", 4));
	settle();
	show_poll("below the mark", b);
	CALL(write(a, "5", 1));
	wait_for(b, POLLIN);
	show_poll("at the mark", b);
	CALL(recv(b, text, 10, 0));
	CALL(write(a, "123", 3));
	shutdown(a, SHUT_WR);
	wait_for(b, POLLIN);
	settle();
	show_poll("end of file below the mark", b);
	CALL(recv(b, text, 10, 0));
	close(a);
	close(b);
}

static void many(void)
{
	section("many descriptors");
	enum { PAIRS = 100 };
	static int left[PAIRS], right[PAIRS];
	struct pollfd entries[PAIRS];
	for (int i = 0; i < PAIRS; i++) {
		tcp_pair(&left[i], &right[i]);
		entries[i] = (struct pollfd){right[i], POLLIN, 0};
	}
	CALL(poll(entries, PAIRS, 0));
	for (int i = 0; i < PAIRS; i += 7)
		MUST(write(left[i], "x", 1) == 1);
	for (int i = 0; i < PAIRS; i += 7)
		wait_for(right[i], POLLIN);
	CALL(poll(entries, PAIRS, 100));
	int right_ones = 0;
	for (int i = 0; i < PAIRS; i++)
		right_ones += !!(entries[i].revents & POLLIN) == (i % 7 == 0);
	say("%d of %d as expected", right_ones, PAIRS);
	for (int i = 0; i < PAIRS; i++) {
		close(left[i]);
		close(right[i]);
	}
}

int main(void)
{
	watchdog(30);
	signal(SIGPIPE, SIG_IGN);
	states();
	select_states();
	poll_details();
	mixed();
	lowat();
	many();
	return 0;
}
