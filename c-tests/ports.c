/*
 * How ports and connections are spread: ephemeral ports (RFC 6056) and SO_REUSEPORT. What is
 * printed is what any run must show: the ports themselves are chance.
 */
#include "common.h"

enum { LOW = 32768, HIGH = 60999, MANY = 128, LISTENERS = 4, CALLERS = 256 };

static int by_number(const void *a, const void *b)
{
	return *(const int *)a - *(const int *)b;
}

/* The local port of a new connection to `address`; the connection stays. */
static int port_towards(struct sockaddr_in address, int *fd)
{
	*fd = connect_to(address);
	return ntohs(local_of(*fd).sin_port);
}

/* Without TIME-WAIT: the next section finds every port free. */
static void drop(int fd)
{
	struct linger now = {.l_onoff = 1};
	setsockopt(fd, SOL_SOCKET, SO_LINGER, &now, sizeof now);
	close(fd);
}

/* `may_meet`: towards different destinations a port may serve twice, which chance decides. */
static void judge(const char *what, const int *ports, int count, bool may_meet)
{
	int sorted[MANY], outside = 0, even = 0, twice = 0;
	memcpy(sorted, ports, count * sizeof *ports);
	qsort(sorted, count, sizeof *sorted, by_number);
	for (int i = 0; i < count; i++) {
		outside += sorted[i] < LOW || sorted[i] > HIGH;
		even += sorted[i] % 2 == 0;
		twice += i > 0 && sorted[i] == sorted[i - 1];
	}
	say("%s: %d outside of the range, %s twice, %s", what, outside,
	    twice == 0 || (may_meet && twice <= count / 8) ? "hardly any" : "many",
	    even == count ? "all even" : even == 0 ? "all odd" : "even and odd");
}

/* Steps from one port to the next: how many different ones, and how far the ports are spread. */
static void judge_steps(const char *what, const int *ports, int count)
{
	int steps[MANY], different = 1, low = HIGH, high = LOW;
	for (int i = 0; i + 1 < count; i++)
		steps[i] = ports[i + 1] - ports[i];
	qsort(steps, count - 1, sizeof *steps, by_number);
	for (int i = 1; i < count - 1; i++)
		different += steps[i] != steps[i - 1];
	for (int i = 0; i < count; i++) {
		low = ports[i] < low ? ports[i] : low;
		high = ports[i] > high ? ports[i] : high;
	}
	say("%s: %s, %s", what, different > count / 2 ? "hardly a step twice" : "the same steps",
	    high - low > (HIGH - LOW) / 2 ? "over the whole range" : "side by side");
}

static void ephemeral(void)
{
	int ports[MANY], fds[MANY];
	section("the ports of connect, one destination");
	struct sockaddr_in address;
	int server = listener(0, MANY, &address);
	for (int i = 0; i < MANY; i++)
		ports[i] = port_towards(address, &fds[i]);
	judge("connect", ports, MANY, false);
	for (int i = 0; i < MANY; i++)
		drop(fds[i]);
	close(server);

	section("the ports of connect, many destinations");
	int servers[MANY / 2];
	for (int i = 0; i < MANY / 2; i++) {
		servers[i] = listener(0, 4, &address);
		ports[i] = port_towards(address, &fds[i]);
	}
	judge("connect", ports, MANY / 2, true);
	judge_steps("connect", ports, MANY / 2);
	for (int i = 0; i < MANY / 2; i++) {
		drop(fds[i]);
		close(servers[i]);
	}

	section("the ports of bind");
	for (int i = 0; i < MANY / 2; i++) {
		fds[i] = bound(SOCK_STREAM, &address);
		ports[i] = ntohs(address.sin_port);
	}
	judge("bind", ports, MANY / 2, false);
	judge_steps("bind", ports, MANY / 2);
	for (int i = 0; i < MANY / 2; i++)
		close(fds[i]);
}

/* Accepts `wanted` connections, however long they take; how many each listener from `first` had. */
static int accept_all(const int *listeners, int first, int wanted, int *counts)
{
	int sum = 0;
	for (int round = 0; round < 2000 && sum < wanted; round++) {
		for (int i = first; i < LISTENERS; i++)
			for (int fd; (fd = accept(listeners[i], NULL, NULL)) >= 0; close(fd), sum++)
				counts[i]++;
		if (sum < wanted)
			pause_ms(5);
	}
	return sum;
}

static void spreading(void)
{
	section("SO_REUSEPORT");
	struct sockaddr_in address = loopback(0);
	int listeners[LISTENERS], callers[CALLERS];
	for (int i = 0; i < LISTENERS; i++) {
		listeners[i] = socket(AF_INET, SOCK_STREAM, 0);
		set_option(listeners[i], SOL_SOCKET, SO_REUSEPORT, 1);
		MUST(bind(listeners[i], (struct sockaddr *)&address, sizeof address) == 0);
		address = local_of(listeners[i]);
		MUST(listen(listeners[i], CALLERS) == 0);
		set_nonblocking(listeners[i], true);
		note_path(listeners[i]);
	}
	for (int i = 0; i < CALLERS; i++)
		callers[i] = connect_to(address);
	int counts[LISTENERS] = {0}, uneven = 0;
	int sum = accept_all(listeners, 0, CALLERS, counts);
	/* 64 are expected; six standard deviations are 42. */
	for (int i = 0; i < LISTENERS; i++)
		uneven += abs(counts[i] - CALLERS / LISTENERS) > 42;
	say("%d connections at %d listeners, %d of which have too few or too many", sum, LISTENERS,
	    uneven);
	for (int i = 0; i < CALLERS; i++)
		drop(callers[i]);

	/* One that is closed has no part in it any more. */
	close(listeners[0]);
	for (int i = 0; i < 64; i++)
		callers[i] = connect_to(address);
	sum = accept_all(listeners, 1, 64, counts);
	say("%d connections at those that are left", sum);
	for (int i = 0; i < 64; i++)
		drop(callers[i]);
	for (int i = 1; i < LISTENERS; i++)
		close(listeners[i]);
}

int main(void)
{
	watchdog(60);
	ephemeral();
	spreading();
	return 0;
}
