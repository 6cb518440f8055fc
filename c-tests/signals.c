/* Signals: which blocked calls they interrupt, what restarts, what masks do. */
#include "common.h"
#include <sched.h>

static int a, b;
static char text[64];
static volatile sig_atomic_t seen;

static void on_signal(int number)
{
	(void)number;
	seen++;
}

static void install(int number, int flags)
{
	struct sigaction action = {.sa_handler = on_signal, .sa_flags = flags};
	sigemptyset(&action.sa_mask);
	MUST(sigaction(number, &action, NULL) == 0);
}

/* SIGALRM once, after `milliseconds`. */
static void alarm_in(int milliseconds)
{
	struct itimerval timer = {.it_value = {milliseconds / 1000, milliseconds % 1000 * 1000}};
	MUST(setitimer(ITIMER_REAL, &timer, NULL) == 0);
}

/* A child that sends `number` to this process after `milliseconds`. */
static pid_t signal_in(int number, int milliseconds)
{
	pid_t parent = getpid(), child = fork();
	if (child == 0) {
		signal(SIGALRM, SIG_DFL);
		pause_ms(milliseconds);
		kill(parent, number);
		_exit(0);
	}
	return child;
}

static int full_listener(struct sockaddr_in *address, int held[2])
{
	int fd = listener(0, 1, address);
	for (int i = 0; i < 2; i++)
		held[i] = connect_to(*address);
	return fd;
}

static void each_call(int flags)
{
	install(SIGALRM, flags);
	struct sockaddr_in address;
	int fd = listener(0, 4, &address);
	fd_set set;
	struct epoll_event event = {EPOLLIN, {0}};
	int epoll = epoll_create1(0);
	tcp_pair(&a, &b);
	epoll_ctl(epoll, EPOLL_CTL_ADD, b, &event);
	struct pollfd entry = {b, POLLIN, 0};
	struct timespec five = {5, 0};
	struct timeval five_val = {5, 0};
	struct iovec part = {text, 4};
	struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1};
	struct mmsghdr batch = {.msg_hdr = message};
	long long start;
#define INTERRUPTED(call) do { \
		seen = 0; \
		alarm_in(60); \
		start = now_ms(); \
		CALL(call); \
		say("signals %d", seen); \
		took("it", start, 40, 1500); \
	} while (0)
	if (!(flags & SA_RESTART)) {
		INTERRUPTED(read(b, text, 4));
		INTERRUPTED(recv(b, text, 4, 0));
		INTERRUPTED(recvfrom(b, text, 4, MSG_WAITALL, NULL, NULL));
		INTERRUPTED(readv(b, &part, 1));
		INTERRUPTED(recvmsg(b, &message, 0));
		INTERRUPTED(recvmmsg(b, &batch, 1, 0, NULL));
		INTERRUPTED(recv(b, text, 4, MSG_PEEK));
		INTERRUPTED(accept(fd, NULL, NULL));
		INTERRUPTED(accept4(fd, NULL, NULL, SOCK_CLOEXEC));
	}
	INTERRUPTED(poll(&entry, 1, 5000));
	INTERRUPTED(ppoll(&entry, 1, &five, NULL));
	FD_ZERO(&set);
	FD_SET(b, &set);
	INTERRUPTED(select(b + 1, &set, NULL, NULL, &five_val));
	say("time left: %d", five_val.tv_sec == 4);
	FD_ZERO(&set);
	FD_SET(b, &set);
	INTERRUPTED(pselect(b + 1, &set, NULL, NULL, &five, NULL));
	INTERRUPTED(epoll_wait(epoll, &event, 1, 5000));
	INTERRUPTED(epoll_wait(epoll, &event, 1, -1));
	INTERRUPTED(epoll_pwait(epoll, &event, 1, 5000, NULL));
	INTERRUPTED(epoll_pwait2(epoll, &event, 1, &five, NULL));

	/* A receive with a time limit is interrupted whatever SA_RESTART says. */
	MUST(setsockopt(b, SOL_SOCKET, SO_RCVTIMEO, &five, sizeof five) == 0);
	INTERRUPTED(recv(b, text, 4, 0));
	five_val = (struct timeval){0, 0};
	MUST(setsockopt(b, SOL_SOCKET, SO_RCVTIMEO, &five_val, sizeof five_val) == 0);

	/* What was received before the signal is returned. */
	MUST(write(a, "ab", 2) == 2);
	wait_for(b, POLLIN);
	if (!(flags & SA_RESTART))
		INTERRUPTED(recv(b, text, 4, MSG_WAITALL));
	else
		MUST(read(b, text, 2) == 2);

	if (!(flags & SA_RESTART)) {
		static char block[1 << 20];
		set_nonblocking(a, true);
		while (write(a, block, sizeof block) > 0)
			;
		settle();
		while (write(a, block, sizeof block) > 0)
			;
		while (write(a, block, 1) > 0)
			;
		set_nonblocking(a, false);
		/* Buffers may have grown a little by now: a part may be taken before the signal. */
		INTERRUPTED(write(a, block, sizeof block) < (ssize_t)sizeof block);
		INTERRUPTED(send(a, block, sizeof block, 0) < (ssize_t)sizeof block);
		int held[2];
		struct sockaddr_in full;
		int busy = full_listener(&full, held);
		int late = socket(AF_INET, SOCK_STREAM, 0);
		INTERRUPTED(connect(late, ADDR(full)));
		set_nonblocking(late, true);
		CALL(connect(late, ADDR(full)));
		close(late);
		close(busy);
		close(held[0]);
		close(held[1]);
	}
	close(a);
	close(b);
	close(fd);
	close(epoll);
}

static void restarts(void)
{
	section("SA_RESTART restarts");
	install(SIGALRM, SA_RESTART);
	tcp_pair(&a, &b);
	pid_t child = fork();
	if (child == 0) {
		pause_ms(150);
		(void)!write(a, "data", 4);
		_exit(0);
	}
	seen = 0;
	alarm_in(50);
	CALL(read(b, text, 4));
	say("signals %d", seen);
	waitpid(child, NULL, 0);
	struct sockaddr_in address;
	int fd = listener(0, 4, &address);
	child = fork();
	if (child == 0) {
		pause_ms(150);
		int client = connect_to(address);
		pause_ms(50);
		close(client);
		_exit(0);
	}
	seen = 0;
	alarm_in(50);
	int one = accept(fd, NULL, NULL);
	say("accepted %d, signals %d", one >= 0, seen);
	waitpid(child, NULL, 0);
	close(one);

	section("MSG_WAITALL goes on after a restart");
	child = fork();
	if (child == 0) {
		(void)!write(a, "ab", 2);
		pause_ms(150);
		(void)!write(a, "cd", 2);
		_exit(0);
	}
	seen = 0;
	alarm_in(50);
	long count = recv(b, text, 4, MSG_WAITALL);
	say("%ld, signals %d", count, seen);
	if (count < 4)
		(void)!read(b, text, 4 - count);
	waitpid(child, NULL, 0);

	section("signal() restarts, siginterrupt() ends that");
	signal(SIGALRM, on_signal);
	child = fork();
	if (child == 0) {
		pause_ms(150);
		(void)!write(a, "data", 4);
		_exit(0);
	}
	seen = 0;
	alarm_in(50);
	CALL(read(b, text, 4));
	say("signals %d", seen);
	waitpid(child, NULL, 0);
#pragma GCC diagnostic ignored "-Wdeprecated-declarations"
	siginterrupt(SIGALRM, 1);
	seen = 0;
	alarm_in(50);
	CALL(read(b, text, 4));
	say("signals %d", seen);
	struct sigaction current;
	sigaction(SIGALRM, NULL, &current);
	say("sigaction tells the program's own handler: %d", current.sa_handler == on_signal);
	void (*old)(int) = signal(SIGALRM, SIG_IGN);
	say("signal too: %d", old == on_signal);
	say("ignored: %d", signal(SIGALRM, SIG_DFL) == SIG_IGN);
	close(a);
	close(b);
	close(fd);
}

static void masks(void)
{
	section("masks");
	install(SIGUSR1, 0);
	tcp_pair(&a, &b);
	sigset_t blocked, none, old;
	sigemptyset(&blocked);
	sigemptyset(&none);
	sigaddset(&blocked, SIGUSR1);
	MUST(sigprocmask(SIG_BLOCK, &blocked, &old) == 0);
	raise(SIGUSR1);
	seen = 0;
	struct pollfd entry = {b, POLLIN, 0};
	CALL(poll(&entry, 1, 30));
	say("signals %d", seen);
	struct timespec second = {1, 0};
	CALL(ppoll(&entry, 1, &second, &none));
	say("signals %d", seen);
	raise(SIGUSR1);
	fd_set set;
	FD_ZERO(&set);
	FD_SET(b, &set);
	CALL(pselect(b + 1, &set, NULL, NULL, &second, &none));
	say("signals %d", seen);
	raise(SIGUSR1);
	struct epoll_event event = {EPOLLIN, {0}};
	int epoll = epoll_create1(0);
	epoll_ctl(epoll, EPOLL_CTL_ADD, b, &event);
	CALL(epoll_pwait(epoll, &event, 1, 1000, &none));
	say("signals %d", seen);
	raise(SIGUSR1);
	CALL(epoll_pwait2(epoll, &event, 1, &second, &none));
	say("signals %d", seen);
	sigset_t now;
	sigprocmask(SIG_SETMASK, NULL, &now);
	say("the mask is as before: %d", sigismember(&now, SIGUSR1));
	MUST(write(a, "x", 1) == 1);
	wait_for(b, POLLIN);
	raise(SIGUSR1);
	CALL(ppoll(&entry, 1, &second, &none));
	say("signals %d", seen);
	sigprocmask(SIG_SETMASK, &old, NULL);
	say("signals %d", seen);
	close(epoll);
	close(a);
	close(b);
}

static void with_information(int number, siginfo_t *information, void *context)
{
	seen = number == SIGUSR2 && information->si_pid != 0 && context != NULL;
	/* A handler may use sockets itself. */
	(void)!write(a, "handler", 7);
	errno = 12345;
}

static void handlers(void)
{
	section("a handler with information, using a socket");
	tcp_pair(&a, &b);
	struct sigaction action = {.sa_sigaction = with_information, .sa_flags = SA_SIGINFO | SA_RESTART};
	sigemptyset(&action.sa_mask);
	MUST(sigaction(SIGUSR2, &action, NULL) == 0);
	seen = 0;
	pid_t child = signal_in(SIGUSR2, 60);
	memset(text, 0, sizeof text);
	CALL(read(b, text, 16));
	say("%s, seen %d", text, seen);
	waitpid(child, NULL, 0);

	section("many signals during a transfer");
	install(SIGALRM, SA_RESTART);
	struct itimerval often = {{0, 500}, {0, 500}}, off = {0};
	static unsigned char data[1 << 20], got[1 << 20];
	fill_pattern(data, 0, sizeof data);
	child = fork();
	if (child == 0) {
		bool written = write_full(a, data, sizeof data);
		_exit(!written);
	}
	seen = 0;
	setitimer(ITIMER_REAL, &often, NULL);
	size_t count = 0;
	while (count < sizeof got) {
		ssize_t some = recv(b, got + count, 1000, 0);
		if (some == -1 && errno == EINTR)
			continue;
		MUST(some > 0);
		count += some;
		if (count % 100 == 0)
			sched_yield();
	}
	pause_ms(10);
	setitimer(ITIMER_REAL, &off, NULL);
	say("intact %d, signals came %d", is_pattern(got, 0, count), seen > 0);
	int status;
	waitpid(child, &status, 0);
	say("writer %d", WEXITSTATUS(status));
	close(a);
	close(b);

	section("SA_RESETHAND and SA_NODEFER");
	install(SIGUSR1, SA_RESETHAND);
	raise(SIGUSR1);
	struct sigaction current;
	sigaction(SIGUSR1, NULL, &current);
	say("reset: %d", current.sa_handler == SIG_DFL);
	CALL(sigaction(SIGKILL, &action, NULL));
	CALL(sigaction(999, &action, NULL));
}

static void default_actions(void)
{
	section("Ctrl-C ends a blocked program");
	for (int way = 0; way < 4; way++) {
		int pipes[2];
		MUST(pipe(pipes) == 0);
		pid_t child = fork();
		if (child == 0) {
			tcp_pair(&a, &b);
			(void)!write(pipes[1], "r", 1);
			struct pollfd entry = {b, POLLIN, 0};
			struct epoll_event event = {EPOLLIN, {0}};
			int epoll = epoll_create1(0);
			epoll_ctl(epoll, EPOLL_CTL_ADD, b, &event);
			if (way == 0)
				(void)!read(b, text, 1);
			if (way == 1)
				poll(&entry, 1, -1);
			if (way == 2)
				epoll_wait(epoll, &event, 1, -1);
			if (way == 3)
				accept(listener(0, 1, NULL), NULL, NULL);
			_exit(0);
		}
		MUST(read(pipes[0], text, 1) == 1);
		pause_ms(60);
		long long start = now_ms();
		kill(child, SIGINT);
		int status;
		waitpid(child, &status, 0);
		say("way %d: killed by %s", way, WIFSIGNALED(status) ? sigabbrev_np(WTERMSIG(status)) : "none");
		took("ending", start, 0, 500);
		close(pipes[0]);
		close(pipes[1]);
	}
}

static void *blocked_thread(void *data)
{
	(void)data;
	long count = read(b, text, 4);
	say("the thread's read: %ld %s", count, count == -1 ? error_name(errno) : "");
	return NULL;
}

static void threads(void)
{
	section("a signal to one thread");
	install(SIGUSR1, 0);
	tcp_pair(&a, &b);
	pthread_t thread;
	seen = 0;
	MUST(pthread_create(&thread, NULL, blocked_thread, NULL) == 0);
	pause_ms(60);
	pthread_kill(thread, SIGUSR1);
	pthread_join(thread, NULL);
	say("signals %d", seen);
	close(a);
	close(b);
}

int main(void)
{
	section("without SA_RESTART");
	each_call(0);
	section("with SA_RESTART");
	each_call(SA_RESTART);
	restarts();
	masks();
	handlers();
	default_actions();
	threads();
	return 0;
}
