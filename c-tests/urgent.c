/* Urgent data: MSG_OOB, the mark, SO_OOBINLINE, SIGURG, POLLPRI. */
#include "common.h"

static int a, b;
static char text[64];
static volatile sig_atomic_t urgent_signals;

static void on_urgent(int number)
{
	(void)number;
	urgent_signals++;
}

static int at_mark(void)
{
	int value = -1;
	MUST(ioctl(b, SIOCATMARK, &value) == 0);
	return value;
}

int main(void)
{
	watchdog(20);
	signal(SIGURG, on_urgent);
	section("out of line");
	tcp_pair(&a, &b);
	CALL(fcntl(b, F_SETOWN, getpid()));
	CALL(recv(b, text, 1, MSG_OOB));
	CALL(send(a, "abc", 3, 0));
	CALL(send(a, "X", 1, MSG_OOB));
	CALL(send(a, "def", 3, 0));
	say("priority event: %s", poll_names(wait_for(b, POLLPRI)));
	settle();
	say("SIGURG %d", urgent_signals);
	show_poll("urgent data waits", b);
	say("at mark %d", at_mark());
	memset(text, 0, sizeof text);
	CALL(recv(b, text, 60, 0));
	say("%s", text);
	say("at mark %d", at_mark());
	memset(text, 0, sizeof text);
	CALL(recv(b, text, 1, MSG_OOB));
	say("%s", text);
	CALL(recv(b, text, 1, MSG_OOB));
	memset(text, 0, sizeof text);
	CALL(recv(b, text, 60, 0));
	say("%s", text);
	say("at mark %d", at_mark());
	show_poll("all read", b);
	close(a);
	close(b);

	section("in line");
	tcp_pair(&a, &b);
	set_option(b, SOL_SOCKET, SO_OOBINLINE, 1);
	CALL(send(a, "12", 2, 0));
	CALL(send(a, "34", 2, MSG_OOB));
	CALL(send(a, "56", 2, 0));
	wait_for(b, POLLPRI);
	settle();
	CALL(recv(b, text, 1, MSG_OOB));
	memset(text, 0, sizeof text);
	CALL(recv(b, text, 60, 0));
	say("%s, at mark %d", text, at_mark());
	memset(text, 0, sizeof text);
	CALL(recv(b, text, 60, 0));
	say("%s, at mark %d", text, at_mark());
	close(a);
	close(b);

	section("peeked and replaced");
	tcp_pair(&a, &b);
	CALL(send(a, "P", 1, MSG_OOB));
	wait_for(b, POLLPRI);
	memset(text, 0, sizeof text);
	CALL(recv(b, text, 1, MSG_OOB | MSG_PEEK));
	CALL(recv(b, text, 1, MSG_OOB));
	say("%s", text);
	CALL(send(a, "Q", 1, MSG_OOB));
	settle();
	CALL(send(a, "R", 1, MSG_OOB));
	settle();
	memset(text, 0, sizeof text);
	CALL(recv(b, text, 1, MSG_OOB));
	say("%s", text);
	memset(text, 0, sizeof text);
	CALL(recv(b, text, 60, MSG_DONTWAIT));
	say("%s", text);
	close(a);
	close(b);
	return 0;
}
