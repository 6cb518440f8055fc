/* O_ASYNC: SIGIO and F_SETSIG's signal to the owner, who, when and with what. */
#include "common.h"

static int a, b;
static char text[64];
static volatile sig_atomic_t plain, informed, last_code, last_band, last_fd;

static void on_io(int number)
{
	(void)number;
	plain++;
}

static void on_informed(int number, siginfo_t *info, void *context)
{
	(void)number;
	(void)context;
	informed++;
	last_code = info->si_code;
	last_band = info->si_band;
	last_fd = info->si_fd;
}

static void report(const char *what)
{
	settle();
	say("%s: SIGIO %s, informed %s", what, plain ? "yes" : "no", informed ? "yes" : "no");
	plain = informed = 0;
}

static void report_info(const char *what, int fd)
{
	settle();
	say("%s: informed %s, code %d, band %s, fd %s", what, informed ? "yes" : "no", (int)last_code,
	    poll_names(last_band), last_fd == fd ? "right" : "wrong");
	plain = informed = 0;
}

static void set_async(int fd, bool on)
{
	int flags = fcntl(fd, F_GETFL);
	CALL(fcntl(fd, F_SETFL, on ? flags | O_ASYNC : flags & ~O_ASYNC));
	say("O_ASYNC %d", !!(fcntl(fd, F_GETFL) & O_ASYNC));
}

int main(void)
{
	watchdog(20);
	signal(SIGIO, on_io);
	struct sigaction action = {.sa_sigaction = on_informed, .sa_flags = SA_SIGINFO};
	sigaction(SIGRTMIN + 3, &action, NULL);
	tcp_pair(&a, &b);

	section("without an owner");
	set_async(b, true);
	MUST(write(a, "x", 1) == 1);
	report("data");
	CALL(read(b, text, 1));

	section("with an owner");
	CALL(fcntl(b, F_SETOWN, getpid()));
	say("F_GETOWN %d", fcntl(b, F_GETOWN) == getpid());
	MUST(write(a, "x", 1) == 1);
	report("data");
	CALL(read(b, text, 1));
	set_async(b, false);
	MUST(write(a, "x", 1) == 1);
	report("data without O_ASYNC");
	CALL(read(b, text, 1));
	int on = 1;
	CALL(ioctl(b, FIOASYNC, &on));
	MUST(write(a, "x", 1) == 1);
	report("data after FIOASYNC");
	CALL(read(b, text, 1));

	section("a group");
	setpgid(0, 0);
	CALL(fcntl(b, F_SETOWN, -getpid()));
	MUST(write(a, "x", 1) == 1);
	report("data");
	CALL(read(b, text, 1));

	section("a signal of one's own");
	CALL(fcntl(b, F_SETOWN, getpid()));
	CALL(fcntl(b, F_SETSIG, SIGRTMIN + 3));
	say("F_GETSIG %d", fcntl(b, F_GETSIG) == SIGRTMIN + 3);
	MUST(write(a, "x", 1) == 1);
	report_info("data", b);
	CALL(read(b, text, 1));
	struct linger hard = {1, 0};
	MUST(setsockopt(a, SOL_SOCKET, SO_LINGER, &hard, sizeof hard) == 0);
	close(a);
	settle();
	say("reset: informed %s", informed ? "yes" : "no");
	informed = 0;
	close(b);

	section("a listener");
	struct sockaddr_in address;
	int listening = listener(0, 4, &address);
	CALL(fcntl(listening, F_SETOWN, getpid()));
	set_async(listening, true);
	a = connect_to(address);
	report("a connection");
	b = accept(listening, NULL, NULL);
	MUST(b >= 0);
	say("inherited %d", !!(fcntl(b, F_GETFL) & O_ASYNC));

	section("a datagram");
	int one, other;
	udp_pair(&one, &other);
	CALL(fcntl(other, F_SETOWN, getpid()));
	set_async(other, true);
	MUST(send(one, "d", 1, 0) == 1);
	report("data");
	CALL(recv(other, text, 8, 0));

	section("a reader that sleeps");
	alarm(0);
	set_async(other, false);
	CALL(fcntl(b, F_SETOWN, getpid()));
	set_async(b, true);
	pid_t child = fork();
	if (child == 0) {
		pause_ms(60);
		(void)!write(a, "late", 4);
		_exit(0);
	}
	int got;
	while ((got = recv(b, text, 8, 0)) == -1 && errno == EINTR)
		;
	say("got %d", got);
	waitpid(child, NULL, 0);
	report("data");
	return 0;
}
