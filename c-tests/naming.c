/* bind, listen, connect, accept, getsockname, getpeername: their results and errors. */
#include "common.h"

static void show_address(const char *what, struct sockaddr_in address, socklen_t length)
{
	char text[64];
	inet_ntop(AF_INET, &address.sin_addr, text, sizeof text);
	say("%s: family %d %s port %s length %u", what, address.sin_family, text,
	    address.sin_port ? "given" : "zero", length);
}

static void show_local(const char *what, int fd)
{
	struct sockaddr_in address = {0};
	socklen_t length = sizeof address;
	if (CALL(getsockname(fd, (struct sockaddr *)&address, &length)) == 0)
		show_address(what, address, length);
}

static void show_peer(const char *what, int fd)
{
	struct sockaddr_in address = {0};
	socklen_t length = sizeof address;
	if (CALL(getpeername(fd, (struct sockaddr *)&address, &length)) == 0)
		show_address(what, address, length);
}

static void binding(void)
{
	section("bind");
	int fd = socket(AF_INET, SOCK_STREAM, 0);
	show_local("fresh", fd);
	show_peer("fresh", fd);
	struct sockaddr_in address = loopback(0);
	CALL(bind(fd, (struct sockaddr *)&address, 4));
	CALL(bind(fd, (struct sockaddr *)&address, 0));
	CALL(bind(fd, (struct sockaddr *)&address, sizeof address - 1));
	CALL(bind(-1, ADDR(address)));
	struct sockaddr_in other = address;
	other.sin_family = AF_INET6;
	CALL(bind(fd, ADDR(other)));
	other.sin_family = AF_UNIX;
	CALL(bind(fd, ADDR(other)));
	other = address;
	other.sin_addr.s_addr = htonl(0xc6336401); /* 198.51.100.1, nobody's */
	CALL(bind(fd, ADDR(other)));
	CALL(bind(fd, ADDR(address)));
	show_local("bound", fd);
	CALL(bind(fd, ADDR(address)));
	struct sockaddr_in taken = local_of(fd);
	int second = socket(AF_INET, SOCK_STREAM, 0);
	CALL(bind(second, ADDR(taken)));
	set_option(fd, SOL_SOCKET, SO_REUSEADDR, 1);
	set_option(second, SOL_SOCKET, SO_REUSEADDR, 1);
	CALL(bind(second, ADDR(taken)));
	CALL(listen(fd, 1));
	CALL(listen(second, 1));
	close(second);
	second = socket(AF_INET, SOCK_STREAM, 0);
	set_option(second, SOL_SOCKET, SO_REUSEADDR, 1);
	CALL(bind(second, ADDR(taken)));
	close(second);
	second = socket(AF_INET, SOCK_DGRAM, 0);
	CALL(bind(second, ADDR(taken)));
	close(second);
	close(fd);

	section("bind to the wildcard");
	fd = socket(AF_INET, SOCK_DGRAM, 0);
	struct sockaddr_in any = {.sin_family = AF_INET};
	CALL(bind(fd, ADDR(any)));
	show_local("wildcard", fd);
	close(fd);
	fd = socket(AF_INET, SOCK_STREAM, 0);
	any.sin_family = AF_UNSPEC; /* Linux takes this for the wildcard only */
	CALL(bind(fd, ADDR(any)));
	show_local("unspecified family", fd);
	close(fd);
	fd = socket(AF_INET, SOCK_STREAM, 0);
	any = loopback(0);
	any.sin_family = AF_UNSPEC;
	CALL(bind(fd, ADDR(any)));
	close(fd);

	section("SO_REUSEPORT");
	fd = socket(AF_INET, SOCK_STREAM, 0);
	set_option(fd, SOL_SOCKET, SO_REUSEPORT, 1);
	address = loopback(0);
	CALL(bind(fd, ADDR(address)));
	taken = local_of(fd);
	second = socket(AF_INET, SOCK_STREAM, 0);
	CALL(bind(second, ADDR(taken)));
	set_option(second, SOL_SOCKET, SO_REUSEPORT, 1);
	CALL(bind(second, ADDR(taken)));
	CALL(listen(fd, 64)); /* room for all at one of the two: they need not be spread evenly */
	CALL(listen(second, 64));
	int clients[16], got = 0;
	for (int i = 0; i < 16; i++)
		clients[i] = connect_to(taken);
	set_nonblocking(fd, true);
	set_nonblocking(second, true);
	settle();
	for (int i = 0; i < 32; i++) {
		int one = accept(i % 2 ? fd : second, NULL, NULL);
		if (one >= 0) {
			got++;
			close(one);
		}
	}
	say("sixteen connections, accepted %d", got);
	for (int i = 0; i < 16; i++)
		close(clients[i]);
	close(fd);
	close(second);
}

static void listening(void)
{
	section("listen");
	int fd = socket(AF_INET, SOCK_STREAM, 0);
	CALL(listen(fd, 5));
	struct sockaddr_in address = local_of(fd);
	say("listen bound a port: %d, address any: %d", address.sin_port != 0,
	    address.sin_addr.s_addr == INADDR_ANY);
	CALL(listen(fd, 50));
	CALL(listen(fd, 0));
	CALL(listen(fd, -1));
	int value = 0;
	socklen_t length = sizeof value;
	CALL(getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &value, &length));
	say("SO_ACCEPTCONN %d", value);
	struct sockaddr_in other = loopback(9);
	CALL(connect(fd, ADDR(other)));
	CALL(send(fd, "x", 1, MSG_NOSIGNAL));
	char byte;
	CALL(recv(fd, &byte, 1, 0));
	CALL(bind(fd, ADDR(other)));
	show_peer("listener", fd);
	CALL(shutdown(fd, SHUT_RDWR));
	CALL(accept(fd, NULL, NULL));
	close(fd);
	fd = socket(AF_INET, SOCK_DGRAM, 0);
	CALL(listen(fd, 5));
	CALL(accept(fd, NULL, NULL));
	close(fd);
	fd = socket(AF_INET, SOCK_STREAM, 0);
	CALL(accept(fd, NULL, NULL));
	close(fd);
	int a, b;
	tcp_pair(&a, &b);
	CALL(listen(a, 5));
	CALL(accept(a, NULL, NULL));
	close(a);
	close(b);
	CALL(listen(99, 1));
	CALL(accept(99, NULL, NULL));
}

static void accepting(void)
{
	section("accept");
	struct sockaddr_in address;
	int fd = listener(0, 8, &address);
	note_path(fd);
	int client = connect_to(address);
	struct sockaddr_in peer = {0}, mine = local_of(client);
	socklen_t length = sizeof peer;
	int one = accept(fd, (struct sockaddr *)&peer, &length);
	show_address("peer", peer, length);
	say("the peer is the client: %d", peer.sin_port == mine.sin_port);
	show_local("accepted", one);
	show_peer("accepted", one);
	show_local("client", client);
	show_peer("client", client);
	say("same port: %d", local_of(one).sin_port == address.sin_port);
	int flags = fcntl(one, F_GETFL);
	say("accept: nonblock %d cloexec %d", !!(flags & O_NONBLOCK), fcntl(one, F_GETFD));
	close(one);
	close(client);

	client = connect_to(address);
	one = accept4(fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
	say("accept4: nonblock %d cloexec %d", !!(fcntl(one, F_GETFL) & O_NONBLOCK),
	    fcntl(one, F_GETFD));
	close(one);
	close(client);
	CALL(accept4(fd, NULL, NULL, 0x40000000));

	client = connect_to(address);
	length = 4;
	memset(&peer, 0xee, sizeof peer);
	one = accept(fd, (struct sockaddr *)&peer, &length);
	say("short: accepted %d, length %u, port bytes %s, address untouched %d", one >= 0, length,
	    peer.sin_port == 0xeeee ? "untouched" : "written", peer.sin_addr.s_addr == 0xeeeeeeee);
	length = 4;
	CALL(getsockname(one, (struct sockaddr *)&peer, &length));
	say("length %u", length);
	length = (socklen_t)-1;
	CALL(getsockname(one, (struct sockaddr *)&peer, &length));
	length = sizeof peer;
	CALL(getpeername(one, NULL, &length));
	CALL(getpeername(99, (struct sockaddr *)&peer, &length));
	close(one);
	close(client);

	section("accept inherits flags as Linux does (not)");
	set_nonblocking(fd, true);
	CALL(accept(fd, NULL, NULL));
	client = connect_to(address);
	wait_for(fd, POLLIN);
	one = accept(fd, NULL, NULL);
	say("nonblocking listener: accepted nonblock %d", !!(fcntl(one, F_GETFL) & O_NONBLOCK));
	close(one);
	close(client);

	section("a client that left before accept");
	client = connect_to(address);
	CALL(write(client, "bye", 3));
	close(client);
	wait_for(fd, POLLIN);
	one = accept(fd, NULL, NULL);
	char text[8] = {0};
	CALL(read(one, text, 8));
	CALL(read(one, text, 8));
	close(one);
	client = connect_to(address);
	struct linger reset = {1, 0};
	MUST(setsockopt(client, SOL_SOCKET, SO_LINGER, &reset, sizeof reset) == 0);
	close(client);
	wait_for(fd, POLLIN);
	settle();
	one = accept(fd, NULL, NULL);
	say("reset before accept: accepted %d", one >= 0);
	if (one >= 0) {
		CALL(read(one, text, 8));
		CALL(read(one, text, 8));
		close(one);
	}
	close(fd);
}

static void connecting(void)
{
	section("connect");
	struct sockaddr_in address, refused;
	int unused = bound(SOCK_STREAM, &refused);
	int fd = socket(AF_INET, SOCK_STREAM, 0);
	CALL(connect(fd, ADDR(refused)));
	struct sockaddr_in kept = local_of(fd);
	say("the port stays %d, the address %d", kept.sin_port != 0, kept.sin_addr.s_addr != 0);
	show_socket_error("after refusal", fd);
	int server = listener(0, 8, &address);
	CALL(connect(fd, ADDR(address)));
	CALL(connect(fd, ADDR(address)));
	close(fd);
	close(accept(server, NULL, NULL));
	close(unused);

	fd = socket(AF_INET, SOCK_STREAM, 0);
	CALL(connect(fd, (struct sockaddr *)&address, 3));
	CALL(connect(fd, (struct sockaddr *)&address, sizeof address - 1));
	struct sockaddr_in six = address;
	six.sin_family = AF_INET6;
	CALL(connect(fd, ADDR(six)));
	CALL(connect(99, ADDR(address)));
	CALL(connect(fd, NULL, sizeof address));
	struct sockaddr_in any = address;
	any.sin_addr.s_addr = INADDR_ANY;
	CALL(connect(fd, ADDR(any)));
	show_peer("connected to the wildcard", fd);
	int one = accept(server, NULL, NULL);
	show_peer("its peer", one);
	close(one);
	close(fd);

	section("nonblocking connect");
	fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
	int result = connect(fd, ADDR(address));
	say("%s", result == 0 || errno == EINPROGRESS ? "connected or in progress" : error_name(errno));
	say("poll: %s", poll_names(wait_for(fd, POLLOUT | POLLIN)));
	show_socket_error("connected", fd);
	CALL(connect(fd, ADDR(address)));
	close(fd);
	close(accept(server, NULL, NULL));
	unused = bound(SOCK_STREAM, &refused);
	fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
	result = connect(fd, ADDR(refused));
	say("%s", result == -1 && (errno == EINPROGRESS || errno == ECONNREFUSED)
	              ? "refused or in progress" : "unexpected");
	settle();
	show_poll("refused", fd);
	show_socket_error("first", fd);
	show_socket_error("second", fd);
	show_poll("refused, error taken", fd);
	CALL(connect(fd, ADDR(refused)) == -1);
	close(fd);
	close(unused);

	section("dissolving");
	fd = connect_to(address);
	one = accept(server, NULL, NULL);
	struct sockaddr_in nobody = {.sin_family = AF_UNSPEC};
	CALL(connect(fd, ADDR(nobody)));
	show_peer("dissolved", fd);
	char byte;
	wait_for(one, POLLIN);
	CALL(read(one, &byte, 1));
	CALL(connect(fd, ADDR(address)));
	close(accept(server, NULL, NULL));
	close(fd);
	close(one);

	section("bound before connect");
	struct sockaddr_in mine;
	fd = bound(SOCK_STREAM, &mine);
	CALL(connect(fd, ADDR(address)));
	say("kept its port: %d", local_of(fd).sin_port == mine.sin_port);
	one = accept(server, NULL, NULL);
	close(fd);
	close(one);
	close(server);

	section("a socket connected to itself");
	fd = bound(SOCK_STREAM, &mine);
	CALL(connect(fd, ADDR(mine)));
	CALL(write(fd, "echo", 4));
	char text[8] = {0};
	CALL(recv(fd, text, 4, MSG_WAITALL));
	say("%s", text);
	close(fd);
}

static void backlog(void)
{
	section("order of the accept queue");
	struct sockaddr_in address;
	int fd = listener(0, 16, &address), clients[8];
	for (int i = 0; i < 8; i++) {
		clients[i] = connect_to(address);
		char digit = '0' + i;
		MUST(write(clients[i], &digit, 1) == 1);
	}
	char order[9] = {0};
	for (int i = 0; i < 8; i++) {
		int one = accept(fd, NULL, NULL);
		MUST(read(one, &order[i], 1) == 1);
		close(one);
		close(clients[i]);
	}
	say("%s", order);

	section("closing a listener resets what waits in its queue");
	int client = connect_to(address);
	close(fd);
	say("poll: %s", poll_names(wait_for(client, POLLIN)));
	char byte;
	CALL(read(client, &byte, 1));
	close(client);
	int late = socket(AF_INET, SOCK_STREAM, 0);
	CALL(connect(late, ADDR(address)));
	close(late);
	fd = socket(AF_INET, SOCK_STREAM, 0);
	set_option(fd, SOL_SOCKET, SO_REUSEADDR, 1);
	CALL(bind(fd, ADDR(address)));
	CALL(listen(fd, 1));
	close(fd);

	section("a full accept queue");
	fd = listener(SOCK_NONBLOCK, 1, &address);
	int held[3];
	for (int i = 0; i < 2; i++) {
		held[i] = connect_to(address);
		MUST(held[i] >= 0);
	}
	held[2] = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
	CALL(connect(held[2], ADDR(address)));
	pause_ms(100);
	show_poll("third client", held[2]);
	close(accept(fd, NULL, NULL));
	close(accept(fd, NULL, NULL));
	int ready = wait_for(held[2], POLLOUT);
	say("third client, room again: %s", poll_names(ready));
	for (int i = 0; i < 3; i++)
		close(held[i]);
	close(fd);
}

static void time_wait(void)
{
	section("an address in TIME-WAIT");
	struct sockaddr_in address;
	int fd = bound(SOCK_STREAM, &address);
	set_option(fd, SOL_SOCKET, SO_REUSEADDR, 1);
	MUST(listen(fd, 4) == 0);
	int client = connect_to(address);
	int one = accept(fd, NULL, NULL);
	close(one); /* the server closes first: its port goes to TIME-WAIT */
	char byte;
	CALL(read(client, &byte, 1));
	close(client);
	close(fd);
	settle();
	fd = socket(AF_INET, SOCK_STREAM, 0);
	CALL(bind(fd, ADDR(address)));
	set_option(fd, SOL_SOCKET, SO_REUSEADDR, 1);
	CALL(bind(fd, ADDR(address)));
	CALL(listen(fd, 4));
	client = connect_to(address);
	one = accept(fd, NULL, NULL);
	CALL(write(client, "x", 1));
	CALL(read(one, &byte, 1));
	close(client);
	close(one);
	close(fd);
}

int main(void)
{
	watchdog(30);
	binding();
	listening();
	accepting();
	connecting();
	backlog();
	time_wait();
	return 0;
}
