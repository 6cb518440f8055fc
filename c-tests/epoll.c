/* epoll: level, edge, one shot, exclusive, nested; errors; sharing through dup and fork. */
#include "common.h"

static int set, a, b;
static char text[64];
static struct epoll_event events[64];

static const char *names(uint32_t bits)
{
	static char out[8][96];
	static int turn;
	char *line = out[turn++ % 8];
	line[0] = 0;
	static const struct { uint32_t bit; const char *name; } table[] = {
		{EPOLLIN, "IN "}, {EPOLLPRI, "PRI "}, {EPOLLOUT, "OUT "}, {EPOLLERR, "ERR "},
		{EPOLLHUP, "HUP "}, {EPOLLRDHUP, "RDHUP "}, {EPOLLRDNORM, "RDNORM "},
	};
	for (size_t i = 0; i < sizeof table / sizeof table[0]; i++)
		if (bits & table[i].bit)
			strcat(line, table[i].name);
	return line[0] ? line : "none ";
}

static int by_data(const void *one, const void *other)
{
	uint64_t x = ((const struct epoll_event *)one)->data.u64;
	uint64_t y = ((const struct epoll_event *)other)->data.u64;
	return x < y ? -1 : x > y;
}

static void show(const char *what, int timeout)
{
	int count = epoll_wait(set, events, 64, timeout);
	if (count == -1) {
		say("%s: %s", what, error_name(errno));
		return;
	}
	qsort(events, count, sizeof events[0], by_data);
	char line[512];
	int at = snprintf(line, sizeof line, "%s: %d", what, count);
	for (int i = 0; i < count && at < 400; i++)
		at += snprintf(line + at, sizeof line - at, " [%llu %s]",
		               (unsigned long long)events[i].data.u64, names(events[i].events));
	say("%s", line);
}

static int control(int operation, int fd, uint32_t bits, uint64_t data)
{
	struct epoll_event event = {bits, {.u64 = data}};
	return epoll_ctl(set, operation, fd, &event);
}

static void errors(void)
{
	section("errors");
	CALL(epoll_create(0));
	CALL(epoll_create(-1));
	CALL(epoll_create1(0x1234));
	set = epoll_create(1);
	say("create %d", set >= 0);
	close(set);
	set = epoll_create1(EPOLL_CLOEXEC);
	CALL(fcntl(set, F_GETFD));
	close(set);
	set = epoll_create1(0);
	tcp_pair(&a, &b);
	CALL(control(EPOLL_CTL_ADD, a, EPOLLIN, 1));
	CALL(control(EPOLL_CTL_ADD, a, EPOLLIN, 1));
	CALL(control(EPOLL_CTL_MOD, b, EPOLLIN, 1));
	CALL(control(EPOLL_CTL_DEL, b, 0, 0));
	CALL(control(77, a, EPOLLIN, 1));
	CALL(control(EPOLL_CTL_ADD, 99, EPOLLIN, 1));
	CALL(control(EPOLL_CTL_ADD, set, EPOLLIN, 1));
	int file = open("/dev/null", O_RDWR), plain = open("/etc/hostname", O_RDONLY);
	if (plain < 0)
		plain = open("/etc/passwd", O_RDONLY);
	CALL(control(EPOLL_CTL_ADD, plain, EPOLLIN, 1));
	CALL(control(EPOLL_CTL_ADD, b, EPOLLEXCLUSIVE | EPOLLONESHOT, 1));
	CALL(control(EPOLL_CTL_ADD, b, EPOLLIN | EPOLLEXCLUSIVE, 1));
	CALL(control(EPOLL_CTL_MOD, b, EPOLLIN, 1));
	CALL(control(EPOLL_CTL_DEL, b, 0, 0));
	CALL(epoll_wait(set, events, 0, 0));
	CALL(epoll_wait(set, events, -1, 0));
	CALL(epoll_wait(99, events, 1, 0));
	CALL(epoll_wait(a, events, 1, 0));
	CALL(epoll_wait(file, events, 1, 0));
	struct epoll_event event = {EPOLLIN, {0}};
	CALL(epoll_ctl(99, EPOLL_CTL_ADD, a, &event));
	CALL(epoll_ctl(a, EPOLL_CTL_ADD, b, &event));
	CALL(epoll_ctl(set, EPOLL_CTL_DEL, a, NULL));
	close(file);
	close(plain);
	close(a);
	close(b);
	close(set);
}

static void level(void)
{
	section("level triggered");
	set = epoll_create1(0);
	tcp_pair(&a, &b);
	CALL(control(EPOLL_CTL_ADD, b, EPOLLIN | EPOLLOUT | EPOLLRDHUP, 7));
	show("connected", 0);
	show("again", 0);
	CALL(control(EPOLL_CTL_MOD, b, EPOLLIN | EPOLLRDHUP, 8));
	show("only reading", 0);
	CALL(write(a, "data", 4));
	show("data", 1000);
	show("still", 0);
	CALL(read(b, text, 2));
	show("half read", 0);
	CALL(read(b, text, 2));
	show("read", 0);
	shutdown(a, SHUT_WR);
	show("end of file", 1000);
	show("end of file stays", 0);
	CALL(control(EPOLL_CTL_MOD, b, 0, 9));
	show("no interest", 0);
	shutdown(b, SHUT_WR);
	show("both ended", 1000);
	CALL(control(EPOLL_CTL_DEL, b, 0, 0));
	show("removed", 0);
	close(a);
	close(b);
	close(set);
}

static void edge(void)
{
	section("edge triggered");
	set = epoll_create1(0);
	tcp_pair(&a, &b);
	CALL(control(EPOLL_CTL_ADD, b, EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET, 1));
	show("first", 0);
	show("nothing new", 0);
	CALL(write(a, "one", 3));
	show("data", 1000);
	show("reported once", 20);
	CALL(write(a, "two", 3));
	show("more data is a new edge", 1000);
	CALL(read(b, text, 2));
	show("a read is none", 20);
	CALL(control(EPOLL_CTL_MOD, b, EPOLLIN | EPOLLRDHUP | EPOLLET, 2));
	show("MOD arms again", 0);
	CALL(read(b, text, 64));
	CALL(read(b, text, 0));
	show("drained", 20);
	shutdown(a, SHUT_WR);
	show("end of file", 1000);
	show("once", 20);
	close(a);
	close(b);

	section("edge of writability");
	tcp_pair(&a, &b);
	set_nonblocking(a, true);
	CALL(control(EPOLL_CTL_ADD, a, EPOLLOUT | EPOLLET, 3));
	show("writable", 0);
	static char block[65536];
	size_t total = 0;
	ssize_t count;
	while ((count = write(a, block, sizeof block)) > 0)
		total += count;
	show("full", 20);
	while (total > 0) {
		count = read(b, block, total < sizeof block ? total : sizeof block);
		MUST(count > 0);
		total -= count;
	}
	show("drained", 1000);
	show("once", 20);
	close(a);
	close(b);

	section("edge of a listener");
	struct sockaddr_in address;
	int fd = listener(SOCK_NONBLOCK, 8, &address);
	CALL(control(EPOLL_CTL_ADD, fd, EPOLLIN | EPOLLET, 4));
	show("no one", 0);
	a = connect_to(address);
	show("one", 1000);
	show("once", 20);
	b = connect_to(address);
	show("another", 1000);
	close(accept(fd, NULL, NULL));
	close(accept(fd, NULL, NULL));
	show("accepted", 20);
	close(a);
	close(b);
	close(fd);
	close(set);
}

static void oneshot(void)
{
	section("one shot");
	set = epoll_create1(0);
	tcp_pair(&a, &b);
	CALL(control(EPOLL_CTL_ADD, b, EPOLLIN | EPOLLONESHOT, 1));
	show("nothing", 0);
	CALL(write(a, "one", 3));
	show("data", 1000);
	CALL(write(a, "two", 3));
	show("disarmed", 20);
	CALL(control(EPOLL_CTL_MOD, b, EPOLLIN | EPOLLONESHOT, 2));
	show("armed", 0);
	show("disarmed", 0);
	CALL(control(EPOLL_CTL_MOD, b, EPOLLIN | EPOLLONESHOT | EPOLLET, 3));
	show("with edge", 0);
	shutdown(a, SHUT_WR);
	show("disarmed", 20);
	CALL(control(EPOLL_CTL_MOD, b, EPOLLIN | EPOLLRDHUP | EPOLLONESHOT, 4));
	show("armed", 0);
	close(a);
	close(b);
	close(set);
}

static void lifetimes(void)
{
	section("close removes, a duplicate keeps");
	set = epoll_create1(0);
	tcp_pair(&a, &b);
	CALL(control(EPOLL_CTL_ADD, b, EPOLLIN, 1));
	CALL(write(a, "x", 1));
	show("there", 1000);
	int copy = dup(b);
	close(b);
	show("a duplicate is open", 0);
	CALL(control(EPOLL_CTL_DEL, b, 0, 0));
	CALL(control(EPOLL_CTL_ADD, copy, EPOLLIN, 2));
	show("both registrations", 0);
	close(copy);
	show("gone", 0);
	close(a);

	section("a number used again");
	tcp_pair(&a, &b);
	CALL(control(EPOLL_CTL_ADD, b, EPOLLIN, 3));
	int number = b;
	close(b);
	close(a);
	int pipes[2];
	MUST(pipe(pipes) == 0);
	MUST(dup2(pipes[0], number) == number);
	CALL(control(EPOLL_CTL_ADD, number, EPOLLIN, 4));
	CALL(write(pipes[1], "y", 1));
	show("a pipe now", 1000);
	close(number);
	close(pipes[0]);
	close(pipes[1]);

	section("two sets, one socket");
	int other = epoll_create1(0);
	tcp_pair(&a, &b);
	CALL(control(EPOLL_CTL_ADD, b, EPOLLIN | EPOLLET, 5));
	struct epoll_event event = {EPOLLIN | EPOLLET, {.u64 = 6}};
	CALL(epoll_ctl(other, EPOLL_CTL_ADD, b, &event));
	CALL(write(a, "x", 1));
	show("first", 1000);
	CALL(epoll_wait(other, events, 4, 1000));
	CALL(epoll_wait(other, events, 4, 0));
	show("first again", 0);
	close(other);

	section("a duplicate of the set");
	int twin = dup(set);
	CALL(write(a, "y", 1));
	CALL(epoll_wait(twin, events, 4, 1000));
	CALL(epoll_wait(set, events, 4, 0));
	event.data.u64 = 9;
	event.events = EPOLLIN;
	CALL(epoll_ctl(twin, EPOLL_CTL_MOD, b, &event));
	close(set);
	set = twin;
	show("through the duplicate", 0);
	close(a);
	close(b);
	close(set);
}

static void nested(void)
{
	section("nested, polled, selected");
	set = epoll_create1(0);
	int outer = epoll_create1(0);
	tcp_pair(&a, &b);
	CALL(control(EPOLL_CTL_ADD, b, EPOLLIN, 1));
	struct epoll_event event = {EPOLLIN, {.u64 = 2}};
	CALL(epoll_ctl(outer, EPOLL_CTL_ADD, set, &event));
	CALL(epoll_ctl(set, EPOLL_CTL_ADD, outer, &event));
	CALL(epoll_wait(outer, events, 4, 20));
	struct pollfd entry = {set, POLLIN, 0};
	CALL(poll(&entry, 1, 20));
	CALL(write(a, "x", 1));
	CALL(poll(&entry, 1, 1000));
	say("poll on a set: %s", poll_names(entry.revents));
	fd_set in;
	FD_ZERO(&in);
	FD_SET(set, &in);
	struct timeval second = {1, 0};
	CALL(select(set + 1, &in, NULL, NULL, &second));
	CALL(epoll_wait(outer, events, 4, 1000));
	say("outer: data %llu %s", (unsigned long long)events[0].data.u64, names(events[0].events));
	show("inner", 0);
	CALL(read(b, text, 1));
	CALL(epoll_wait(outer, events, 4, 20));
	CALL(poll(&entry, 1, 0));
	pid_t child = fork();
	if (child == 0) {
		pause_ms(60);
		(void)!write(a, "late", 4);
		_exit(0);
	}
	CALL(epoll_wait(outer, events, 4, 2000));
	waitpid(child, NULL, 0);
	show("inner", 0);
	close(outer);
	close(a);
	close(b);
	close(set);
}

static void waits(void)
{
	section("timeouts");
	set = epoll_create1(0);
	tcp_pair(&a, &b);
	CALL(control(EPOLL_CTL_ADD, b, EPOLLIN, 1));
	long long start = now_ms();
	CALL(epoll_wait(set, events, 4, 60));
	took("epoll_wait", start, 50, 500);
	start = now_ms();
	CALL(epoll_pwait(set, events, 4, 60, NULL));
	took("epoll_pwait", start, 50, 500);
	struct timespec soon = {0, 60 * 1000 * 1000};
	start = now_ms();
	CALL(epoll_pwait2(set, events, 4, &soon, NULL));
	took("epoll_pwait2", start, 50, 500);
	pid_t child = fork();
	if (child == 0) {
		pause_ms(80);
		(void)!write(a, "x", 1);
		_exit(0);
	}
	start = now_ms();
	CALL(epoll_wait(set, events, 4, -1));
	took("a wait for a child's data", start, 50, 1000);
	waitpid(child, NULL, 0);
	CALL(read(b, text, 4));

	section("mixed with kernel descriptors");
	int pipes[2];
	MUST(pipe(pipes) == 0);
	CALL(control(EPOLL_CTL_ADD, pipes[0], EPOLLIN, 2));
	CALL(write(pipes[1], "p", 1));
	show("pipe", 1000);
	CALL(write(a, "s", 1));
	wait_for(b, POLLIN);
	show("both", 1000);
	CALL(epoll_wait(set, events, 1, 0));
	uint64_t first = events[0].data.u64;
	CALL(epoll_wait(set, events, 1, 0));
	say("one at a time takes turns: %d", first != events[0].data.u64);
	CALL(read(pipes[0], text, 1));
	CALL(read(b, text, 1));
	show("none", 0);
	close(pipes[1]);
	show("hung up pipe", 1000);
	close(pipes[0]);

	section("a set changed while another thread waits");
	child = fork();
	if (child == 0) {
		pause_ms(60);
		struct epoll_event event = {EPOLLOUT, {.u64 = 5}};
		epoll_ctl(set, EPOLL_CTL_ADD, a, &event);
		_exit(0);
	}
	show("added by a child", 2000);
	waitpid(child, NULL, 0);
	close(a);
	close(b);
	close(set);
}

static void *add_later(void *data)
{
	(void)data;
	pause_ms(60);
	/* Silently: who waits says what it finds at the same moment. */
	struct epoll_event later = {EPOLLOUT, {.u64 = 5}};
	MUST(epoll_ctl(set, EPOLL_CTL_ADD, a, &later) == 0);
	return NULL;
}

static void threads(void)
{
	section("a set changed by another thread");
	set = epoll_create1(0);
	tcp_pair(&a, &b);
	pthread_t thread;
	MUST(pthread_create(&thread, NULL, add_later, NULL) == 0);
	show("added by a thread", 2000);
	pthread_join(thread, NULL);
	close(a);
	close(b);
	close(set);
}

static void *add_pipe_waiter(void *data)
{
	(void)data;
	show("a set of a pipe that gets its first socket while a thread waits", 2000);
	return NULL;
}

static void first_sockets(void)
{
	section("a duplicate made before the first socket");
	tcp_pair(&a, &b);
	set = epoll_create1(0);
	int twin = fcntl(set, F_DUPFD_CLOEXEC, 0);
	struct epoll_event event = {EPOLLOUT, {.u64 = 4}};
	CALL(epoll_ctl(twin, EPOLL_CTL_ADD, a, &event));
	show("through the original", 1000);
	close(twin);
	show("after the duplicate is closed", 1000);
	close(set);

	section("the first socket beside a pipe");
	int pipes[2];
	MUST(pipe(pipes) == 0);
	set = epoll_create1(0);
	CALL(control(EPOLL_CTL_ADD, pipes[0], EPOLLIN, 1));
	pthread_t thread;
	MUST(pthread_create(&thread, NULL, add_pipe_waiter, NULL) == 0);
	pause_ms(60);
	/* Silently: the waiter says what it finds at the same moment. */
	struct epoll_event first = {EPOLLOUT, {.u64 = 2}};
	MUST(epoll_ctl(set, EPOLL_CTL_ADD, a, &first) == 0);
	pthread_join(thread, NULL);
	close(set);
	close(pipes[0]);
	close(pipes[1]);
	close(a);
	close(b);
}

static void failures(void)
{
	section("failures");
	set = epoll_create1(0);
	struct sockaddr_in refused;
	int unused = bound(SOCK_STREAM, &refused);
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
	CALL(control(EPOLL_CTL_ADD, fd, EPOLLIN | EPOLLOUT | EPOLLRDHUP, 1));
	show("fresh", 0);
	(void)!connect(fd, ADDR(refused));
	settle();
	show("refused", 1000);
	show_socket_error("refused", fd);
	show("error taken", 0);
	close(fd);
	close(unused);
	tcp_pair(&a, &b);
	CALL(control(EPOLL_CTL_ADD, a, EPOLLIN, 2));
	struct linger reset = {1, 0};
	setsockopt(b, SOL_SOCKET, SO_LINGER, &reset, sizeof reset);
	close(b);
	show("reset", 1000);
	CALL(read(a, text, 1));
	show("error taken", 0);
	close(a);
	close(set);
}

static void many(void)
{
	section("many sockets");
	enum { PAIRS = 60 };
	set = epoll_create1(0);
	int left[PAIRS], right[PAIRS];
	for (int i = 0; i < PAIRS; i++) {
		tcp_pair(&left[i], &right[i]);
		MUST(control(EPOLL_CTL_ADD, right[i], EPOLLIN, i) == 0);
	}
	for (int i = 0; i < PAIRS; i += 3) {
		MUST(write(left[i], "x", 1) == 1);
		wait_for(right[i], POLLIN);
	}
	int count = epoll_wait(set, events, 64, 1000);
	say("%d ready", count);
	/* With room for five a call the ready ones take turns: after enough calls all were seen. */
	bool seen[PAIRS] = {false};
	for (int i = 0; i < 4; i++) {
		int some = epoll_wait(set, events, 5, 0);
		for (int j = 0; j < some; j++)
			seen[events[j].data.u64] = true;
	}
	int total = 0;
	for (int i = 0; i < PAIRS; i++)
		total += seen[i];
	say("%d seen in four calls of five", total);
	for (int i = 0; i < PAIRS; i++) {
		close(left[i]);
		close(right[i]);
	}
	show("all closed", 0);
	close(set);
}

int main(void)
{
	watchdog(30);
	signal(SIGPIPE, SIG_IGN);
	errors();
	level();
	edge();
	oneshot();
	lifetimes();
	nested();
	waits();
	threads();
	first_sockets();
	failures();
	many();
	return 0;
}
