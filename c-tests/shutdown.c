/* Ends of a connection: shutdown in each direction, close with data unread, linger, resets. */
#include "common.h"

static int a, b;
static char text[64];

static void half_close(void)
{
	section("half close");
	tcp_pair(&a, &b);
	CALL(write(a, "request", 7));
	CALL(shutdown(a, SHUT_WR));
	CALL(send(a, "x", 1, MSG_NOSIGNAL));
	CALL(recv(b, text, 7, MSG_WAITALL));
	wait_for(b, POLLIN);
	settle();
	show_poll("peer of a half closed", b);
	CALL(read(b, text, 8));
	CALL(read(b, text, 8));
	CALL(write(b, "answer", 6));
	CALL(recv(a, text, 6, MSG_WAITALL));
	show_poll("half closed", a);
	CALL(shutdown(b, SHUT_WR));
	wait_for(a, POLLIN);
	settle();
	show_poll("both directions closed", a);
	CALL(read(a, text, 1));
	CALL(shutdown(a, SHUT_WR));
	CALL(shutdown(a, SHUT_RD));
	close(a);
	close(b);
}

static void read_side(void)
{
	section("SHUT_RD");
	tcp_pair(&a, &b);
	CALL(write(b, "early", 5));
	wait_for(a, POLLIN);
	CALL(shutdown(a, SHUT_RD));
	show_poll("read side shut", a);
	CALL(read(a, text, 10));
	CALL(read(a, text, 10));
	CALL(write(b, "late", 4));
	settle();
	CALL(recv(a, text, 10, MSG_DONTWAIT));
	CALL(recv(a, text, 10, MSG_DONTWAIT));
	CALL(write(a, "still", 5));
	CALL(recv(b, text, 5, MSG_WAITALL));
	close(a);
	close(b);
}

static void both(void)
{
	section("SHUT_RDWR");
	tcp_pair(&a, &b);
	CALL(write(a, "last", 4));
	CALL(shutdown(a, SHUT_RDWR));
	show_poll("shut", a);
	CALL(read(a, text, 4));
	CALL(send(a, "x", 1, MSG_NOSIGNAL));
	CALL(recv(b, text, 4, MSG_WAITALL));
	wait_for(b, POLLIN);
	CALL(read(b, text, 4));
	CALL(shutdown(a, 3));
	CALL(shutdown(a, -1));
	close(a);
	close(b);
}

static void errors(void)
{
	section("errors");
	int fd = socket(AF_INET, SOCK_STREAM, 0);
	CALL(shutdown(fd, SHUT_WR));
	CALL(shutdown(99, SHUT_WR));
	close(fd);
	fd = socket(AF_INET, SOCK_DGRAM, 0);
	CALL(shutdown(fd, SHUT_WR));
	close(fd);
	int pipes[2];
	MUST(pipe(pipes) == 0);
	CALL(shutdown(pipes[0], SHUT_RD));
	close(pipes[0]);
	close(pipes[1]);
}

static void *read_late(void *nothing)
{
	static char into[1 << 16];
	(void)nothing;
	pause_ms(200);
	while (read(b, into, sizeof into) > 0)
		;
	close(b);
	return NULL;
}

/* Closes `a` with so much unsent that the peer has to read first; prints how long it took. */
static void close_lingering(const char *what, int seconds, bool reads, int low, int high)
{
	static char much[1 << 20];
	struct linger linger = {1, seconds};
	pthread_t reader;
	tcp_pair(&a, &b);
	set_nonblocking(a, true);
	while (write(a, much, sizeof much) > 0)
		;
	set_nonblocking(a, false);
	MUST(setsockopt(a, SOL_SOCKET, SO_LINGER, &linger, sizeof linger) == 0);
	if (reads)
		MUST(pthread_create(&reader, NULL, read_late, NULL) == 0);
	long long start = now_ms();
	CALL(close(a));
	took(what, start, low, high);
	if (reads)
		pthread_join(reader, NULL);
	else
		close(b);
}

static void lingering(void)
{
	section("lingering");
	close_lingering("close with a reader", 10, true, 190, 3000);
	close_lingering("close without one", 1, false, 950, 2500);
}

static void unread_data(void)
{
	section("close with data unread resets");
	tcp_pair(&a, &b);
	CALL(write(a, "unread", 6));
	wait_for(b, POLLIN);
	close(b);
	settle();
	show_poll("reset", a);
	CALL(read(a, text, 8));
	CALL(read(a, text, 8));
	CALL(send(a, "x", 1, MSG_NOSIGNAL));
	CALL(send(a, "x", 1, MSG_NOSIGNAL));
	close(a);
	tcp_pair(&a, &b);
	CALL(write(a, "unread", 6));
	wait_for(b, POLLIN);
	close(b);
	settle();
	CALL(send(a, "x", 1, MSG_NOSIGNAL));
	CALL(send(a, "x", 1, MSG_NOSIGNAL));
	CALL(read(a, text, 8));
	show_socket_error("after", a);
	close(a);
}

static void writing_to_closed(void)
{
	section("writing to a peer that closed");
	tcp_pair(&a, &b);
	close(b);
	wait_for(a, POLLIN);
	settle();
	show_poll("peer closed", a);
	CALL(send(a, "first", 5, MSG_NOSIGNAL));
	settle();
	show_poll("after the first send", a);
	CALL(send(a, "second", 6, MSG_NOSIGNAL));
	CALL(read(a, text, 1));
	show_poll("after the second", a);
	close(a);
}

static volatile sig_atomic_t pipes_seen;

static void on_pipe(int number)
{
	(void)number;
	pipes_seen++;
}

static void sigpipe(void)
{
	section("SIGPIPE");
	signal(SIGPIPE, on_pipe);
	tcp_pair(&a, &b);
	shutdown(a, SHUT_WR);
	CALL(send(a, "x", 1, MSG_NOSIGNAL));
	say("signals %d", pipes_seen);
	CALL(send(a, "x", 1, 0));
	say("signals %d", pipes_seen);
	CALL(write(a, "x", 1));
	say("signals %d", pipes_seen);
	struct iovec part = {"x", 1};
	CALL(writev(a, &part, 1));
	struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1};
	CALL(sendmsg(a, &message, 0));
	say("signals %d", pipes_seen);
	CALL(write(a, "", 0));
	say("signals %d", pipes_seen);
	close(a);
	close(b);
	pid_t child = fork();
	if (child == 0) {
		signal(SIGPIPE, SIG_DFL);
		tcp_pair(&a, &b);
		shutdown(a, SHUT_WR);
		(void)!write(a, "x", 1);
		_exit(0);
	}
	int status;
	waitpid(child, &status, 0);
	say("default action: killed by %s", WIFSIGNALED(status) ? sigabbrev_np(WTERMSIG(status)) : "none");
}

static void linger(void)
{
	section("SO_LINGER zero resets");
	tcp_pair(&a, &b);
	struct linger option = {1, 0};
	CALL(setsockopt(a, SOL_SOCKET, SO_LINGER, &option, sizeof option));
	struct linger back = {0};
	socklen_t length = sizeof back;
	CALL(getsockopt(a, SOL_SOCKET, SO_LINGER, &back, &length));
	say("linger %d %d", back.l_onoff, back.l_linger);
	close(a);
	settle();
	show_poll("reset", b);
	show_socket_error("reset", b);
	CALL(read(b, text, 1));
	CALL(send(b, "x", 1, MSG_NOSIGNAL));
	close(b);

	section("a reset discards what was queued before it");
	tcp_pair(&a, &b);
	CALL(setsockopt(a, SOL_SOCKET, SO_LINGER, &option, sizeof option));
	CALL(write(a, "data", 4));
	settle();
	close(a);
	settle();
	CALL(read(b, text, 8));
	close(b);

	section("SO_LINGER with everything sent closes at once");
	tcp_pair(&a, &b);
	option.l_linger = 5;
	CALL(setsockopt(a, SOL_SOCKET, SO_LINGER, &option, sizeof option));
	CALL(write(a, "kept", 4));
	long long start = now_ms();
	CALL(close(a));
	took("close", start, 0, 1000);
	CALL(recv(b, text, 4, MSG_WAITALL));
	CALL(recv(b, text, 4, 0));
	close(b);

	section("SO_LINGER waits while the peer does not read");
	tcp_pair(&a, &b);
	option.l_linger = 1;
	CALL(setsockopt(a, SOL_SOCKET, SO_LINGER, &option, sizeof option));
	set_nonblocking(a, true);
	static char block[65536];
	while (send(a, block, sizeof block, MSG_NOSIGNAL) > 0)
		;
	set_nonblocking(a, false);
	start = now_ms();
	CALL(close(a));
	took("close", start, 800, 2500);
	close(b);
}

static void both_close(void)
{
	section("simultaneous close");
	tcp_pair(&a, &b);
	shutdown(a, SHUT_WR);
	shutdown(b, SHUT_WR);
	wait_for(a, POLLIN);
	wait_for(b, POLLIN);
	CALL(read(a, text, 1));
	CALL(read(b, text, 1));
	settle();
	show_poll("a", a);
	show_poll("b", b);
	close(a);
	close(b);
}

static void data_before_close(void)
{
	section("everything written before close arrives");
	tcp_pair(&a, &b);
	pid_t child = fork();
	if (child == 0) {
		close(b);
		static unsigned char data[1 << 20];
		fill_pattern(data, 0, sizeof data);
		bool written = write_full(a, data, sizeof data);
		close(a);
		_exit(written ? 0 : 1);
	}
	close(a);
	pause_ms(100);
	static unsigned char got[(1 << 20) + 1];
	size_t count = read_full(b, got, sizeof got);
	say("%zu bytes, intact %d", count, is_pattern(got, 0, count));
	int status;
	waitpid(child, &status, 0);
	say("status %d", WEXITSTATUS(status));
	close(b);
}

int main(void)
{
	watchdog(30);
	half_close();
	read_side();
	both();
	errors();
	lingering();
	unread_data();
	writing_to_closed();
	sigpipe();
	linger();
	both_close();
	data_before_close();
	return 0;
}
