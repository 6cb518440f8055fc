/* Sockets that are made after others were closed: nothing of those is left in them. */
#include "common.h"
#include <sys/resource.h>

static void echo_between(int client, int server, unsigned value)
{
	unsigned got = 0;
	MUST(send(client, &value, sizeof value, 0) == sizeof value);
	MUST(recv(server, &got, sizeof got, MSG_WAITALL) == sizeof got && got == value);
	MUST(send(server, &got, sizeof got, 0) == sizeof got);
	got = 0;
	MUST(recv(client, &got, sizeof got, MSG_WAITALL) == sizeof got && got == value);
}

static int get(int fd, int level, int name)
{
	int value = -1;
	socklen_t length = sizeof value;
	MUST(getsockopt(fd, level, name, &value, &length) == 0);
	return value;
}

static void show(const char *what, int fd)
{
	struct sockaddr_in local = local_of(fd);
	say("%s: fd %d, keepalive %d, reuseaddr %d, nodelay %d, error %d, listens %d, port %d, nonblock %d, "
	    "cloexec %d", what, fd, get(fd, SOL_SOCKET, SO_KEEPALIVE), get(fd, SOL_SOCKET, SO_REUSEADDR),
	    get(fd, IPPROTO_TCP, TCP_NODELAY), get(fd, SOL_SOCKET, SO_ERROR),
	    get(fd, SOL_SOCKET, SO_ACCEPTCONN), ntohs(local.sin_port),
	    !!(fcntl(fd, F_GETFL) & O_NONBLOCK), !!(fcntl(fd, F_GETFD) & FD_CLOEXEC));
}

static void options(void)
{
	section("options, flags and addresses");
	int on = 1;
	for (int round = 0; round < 3; round++) {
		int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
		show("nonblocking", fd);
		close(fd);
		fd = socket(AF_INET, SOCK_STREAM, 0);
		show("plain", fd);
		MUST(fcntl(fd, F_SETFL, O_NONBLOCK) == 0 && ioctl(fd, FIONBIO, &on) == 0);
		close(fd);
		fd = socket(AF_INET, SOCK_STREAM, 0);
		show("after fcntl", fd);
		setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &on, sizeof on);
		setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
		setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
		close(fd);
		fd = socket(AF_INET, SOCK_STREAM, 0);
		show("after options", fd);
		struct sockaddr_in any = loopback(0);
		MUST(bind(fd, ADDR(any)) == 0 && listen(fd, 1) == 0);
		close(fd);
		fd = socket(AF_INET, SOCK_STREAM, 0);
		show("after listen", fd);
		struct sockaddr_in nobody = loopback(1);
		CALL(connect(fd, ADDR(nobody)));
		close(fd);
		fd = socket(AF_INET, SOCK_STREAM, 0);
		show("after a refusal", fd);
		MUST(fcntl(fd, F_SETFL, O_APPEND | O_NONBLOCK) == 0);
		say("append %d", !!(fcntl(fd, F_GETFL) & O_APPEND));
		close(fd);
		fd = socket(AF_INET, SOCK_STREAM, 0);
		say("append %d", !!(fcntl(fd, F_GETFL) & O_APPEND));
		close(fd);
	}
}

static void numbers(void)
{
	section("numbers");
	int fds[4];
	for (int i = 0; i < 4; i++)
		fds[i] = socket(AF_INET, SOCK_STREAM, 0);
	close(fds[1]);
	close(fds[2]);
	CALL(open("/dev/null", O_RDONLY));
	CALL(socket(AF_INET, SOCK_STREAM, 0));
	CALL(socket(AF_INET, SOCK_STREAM, 0));
	for (int fd = 3; fd < 9; fd++)
		close(fd);
}

static void accepted(void)
{
	section("accepted sockets");
	struct sockaddr_in address;
	int listening = listener(0, 8, &address), on = 1;
	for (unsigned round = 0; round < 6; round++) {
		int client = connect_to(address);
		int server = accept4(listening, NULL, NULL, round & 1 ? SOCK_NONBLOCK : 0);
		MUST(server >= 0);
		say("round %u: nonblock %d keepalive %d", round, !!(fcntl(server, F_GETFL) & O_NONBLOCK),
		    get(server, SOL_SOCKET, SO_KEEPALIVE));
		MUST(fcntl(server, F_SETFL, 0) == 0);
		echo_between(client, server, round);
		if (round == 2)
			setsockopt(server, SOL_SOCKET, SO_KEEPALIVE, &on, sizeof on);
		note_path(server);
		close(client);
		close(server);
	}
	close(listening);
}

static void duplicates(void)
{
	section("duplicates live on");
	struct sockaddr_in address;
	int listening = listener(0, 8, &address);
	int client = connect_to(address), server = accept(listening, NULL, NULL);
	int other = dup(client);
	close(client);
	int client2 = connect_to(address), server2 = accept(listening, NULL, NULL);
	say("the number is taken again: %d", client2 == client);
	echo_between(other, server, 1);
	echo_between(client2, server2, 2);
	close(other);
	char byte;
	CALL(recv(server, &byte, 1, 0));
	echo_between(client2, server2, 3);
	CALL(dup2(client2, other));
	close(client2);
	echo_between(other, server2, 4);
	close(other);
	CALL(recv(server2, &byte, 1, 0));
	close(server);
	close(server2);
	close(listening);
}

static void forks(void)
{
	section("a child keeps what its parent closes");
	struct sockaddr_in address;
	int listening = listener(0, 8, &address);
	int client = connect_to(address), server = accept(listening, NULL, NULL);
	int left = connect_to(address), left_server = accept(listening, NULL, NULL);
	close(left);
	close(left_server);
	int go[2];
	MUST(pipe(go) == 0);
	pid_t child = fork();
	MUST(child >= 0);
	if (child == 0) {
		char byte;
		MUST(read(go[0], &byte, 1) == 1);
		MUST(send(client, "child", 5, 0) == 5);
		int mine = connect_to(address);
		MUST(send(mine, "new", 3, 0) == 3);
		_exit(0);
	}
	close(client);
	int again = connect_to(address), again_server = accept(listening, NULL, NULL);
	say("the number is taken again: %d", again == client);
	MUST(write(go[1], "x", 1) == 1);
	echo_between(again, again_server, 7);
	char text[8] = {0};
	CALL(recv(server, text, sizeof text, 0));
	say("%s", text);
	int from_child = accept(listening, NULL, NULL);
	memset(text, 0, sizeof text);
	MUST(recv(from_child, text, 3, MSG_WAITALL) == 3);
	say("%s", text);
	int status;
	MUST(waitpid(child, &status, 0) == child);
	say("child %d", status);
	CALL(recv(server, text, sizeof text, 0));
	echo_between(again, again_server, 8);
	for (int fd = 3; fd < 20; fd++)
		close(fd);
}

static void sets(void)
{
	section("epoll sets forget what was closed");
	struct sockaddr_in address;
	int listening = listener(0, 8, &address);
	int set = epoll_create1(0);
	for (int round = 0; round < 4; round++) {
		int client = connect_to(address), server = accept(listening, NULL, NULL);
		struct epoll_event event = {.events = EPOLLIN, .data.fd = client};
		CALL(epoll_ctl(set, EPOLL_CTL_DEL, client, NULL));
		CALL(epoll_ctl(set, EPOLL_CTL_ADD, client, &event));
		echo_between(client, server, round);
		CALL(epoll_wait(set, &event, 1, 0));
		MUST(send(server, "x", 1, 0) == 1);
		CALL(epoll_wait(set, &event, 1, 1000));
		close(client);
		CALL(epoll_wait(set, &event, 1, 0));
		close(server);
	}
	close(set);
	close(listening);
}

/* IPv6 is the kernel's under onwire: its sockets are the very ones that are used again. */
static void blocking_in_kernel(void)
{
	section("a socket of the kernel's blocks as it should");
	for (int round = 0; round < 4; round++) {
		int flags = round & 1 ? SOCK_NONBLOCK : 0;
		int listening = socket(AF_INET6, SOCK_STREAM, 0);
		struct sockaddr_in6 address = {.sin6_family = AF_INET6, .sin6_addr = IN6ADDR_LOOPBACK_INIT};
		socklen_t length = sizeof address;
		MUST(bind(listening, ADDR(address)) == 0 && listen(listening, 1) == 0);
		MUST(getsockname(listening, (struct sockaddr *)&address, &length) == 0);
		int client = socket(AF_INET6, SOCK_STREAM | flags, 0);
		int connected = connect(client, ADDR(address));
		MUST(connected == 0 || errno == EINPROGRESS);
		int server = accept(listening, NULL, NULL);
		MUST(server >= 0);
		char byte;
		if (flags) {
			CALL(recv(client, &byte, 1, 0));
		} else {
			pid_t child = fork();
			if (child == 0) {
				pause_ms(50);
				_exit(send(server, "x", 1, 0) == 1 ? 0 : 1);
			}
			CALL(recv(client, &byte, 1, 0));
			MUST(waitpid(child, NULL, 0) == child);
		}
		close(client);
		close(server);
		close(listening);
		client = socket(AF_INET6, SOCK_STREAM | (flags ? 0 : SOCK_NONBLOCK), 0);
		close(client);
	}
}

static void many(void)
{
	section("many at once, closed out of order");
	enum { COUNT = 150 };
	struct sockaddr_in address;
	int listening = listener(0, COUNT, &address);
	static int clients[COUNT], servers[COUNT];
	for (int i = 0; i < COUNT; i++)
		clients[i] = servers[i] = -1;
	for (unsigned step = 0; step < 6 * COUNT; step++) {
		int at = step * 61 % COUNT;
		if (clients[at] >= 0) {
			echo_between(clients[at], servers[at], step);
			close(step & 1 ? clients[at] : servers[at]);
			close(step & 1 ? servers[at] : clients[at]);
		}
		clients[at] = connect_to(address);
		servers[at] = accept(listening, NULL, NULL);
		echo_between(clients[at], servers[at], step);
	}
	for (int i = 0; i < COUNT; i++) {
		echo_between(clients[i], servers[i], i);
		close(clients[i]);
		close(servers[i]);
	}
	close(listening);
	say("done");
}

static struct sockaddr_in shared_address;

static void *come_and_go(void *argument)
{
	unsigned mine = (unsigned)(uintptr_t)argument;
	for (unsigned i = 0; i < 300; i++) {
		unsigned value = mine << 16 | i, got = 0;
		int fd = connect_to(shared_address);
		MUST(send(fd, &value, sizeof value, 0) == sizeof value);
		MUST(recv(fd, &got, sizeof got, MSG_WAITALL) == sizeof got && got == value);
		close(fd);
	}
	return NULL;
}

static void *serve(void *argument)
{
	int listening = (int)(intptr_t)argument;
	for (int i = 0; i < 4 * 300; i++) {
		unsigned got = 0;
		int fd = accept(listening, NULL, NULL);
		MUST(fd >= 0);
		MUST(recv(fd, &got, sizeof got, MSG_WAITALL) == sizeof got);
		MUST(send(fd, &got, sizeof got, 0) == sizeof got);
		close(fd);
	}
	return NULL;
}

static void threads(void)
{
	section("threads, and forks among them");
	int listening = listener(0, 64, &shared_address);
	pthread_t server, clients[4];
	MUST(pthread_create(&server, NULL, serve, (void *)(intptr_t)listening) == 0);
	for (uintptr_t i = 0; i < 4; i++)
		MUST(pthread_create(&clients[i], NULL, come_and_go, (void *)i) == 0);
	for (int i = 0; i < 10; i++) {
		pid_t child = fork();
		if (child == 0)
			_exit(0);
		MUST(child > 0 && waitpid(child, NULL, 0) == child);
	}
	for (int i = 0; i < 4; i++)
		MUST(pthread_join(clients[i], NULL) == 0);
	MUST(pthread_join(server, NULL) == 0);
	close(listening);
	say("done");
}

/* Descriptors that were kept for later count for nobody. */
static void limit(void)
{
	section("the limit");
	int used = open("/dev/null", O_RDONLY);
	close(used);
	struct rlimit limit = {used + 40, used + 40};
	MUST(setrlimit(RLIMIT_NOFILE, &limit) == 0);
	for (int round = 0; round < 3; round++) {
		int count = 0, fds[64];
		while (count < 64 && (fds[count] = socket(AF_INET, SOCK_STREAM, 0)) >= 0)
			count++;
		int error = errno;
		say("%d sockets, then %s", count, error_name(error));
		while (count > 0)
			close(fds[--count]);
	}
}

int main(void)
{
	options();
	numbers();
	accepted();
	duplicates();
	forks();
	sets();
	blocking_in_kernel();
	many();
	threads();
	limit();
	return 0;
}
