/* TCP_FASTOPEN_CONNECT and MSG_FASTOPEN towards a server that has no cookies to give. */
#include "common.h"

static struct sockaddr_in address;
static int server;
static unsigned char data[5000], got[5000];

static int client(void)
{
	int fd = socket(AF_INET, SOCK_STREAM, 0);
	MUST(fd >= 0);
	return fd;
}

/* The server's end, after it has read `length` octets. */
static void served(size_t length)
{
	int fd = accept(server, NULL, NULL);
	MUST(fd >= 0);
	note_path(fd);
	memset(got, 0, sizeof got);
	say("arrived %d", read_full(fd, got, length) == length && is_pattern(got, 0, length));
	close(fd);
}

static void on_connect(void)
{
	section("TCP_FASTOPEN_CONNECT");
	int fd = client(), value = 2;
	socklen_t length = sizeof value;
	CALL(setsockopt(fd, IPPROTO_TCP, TCP_FASTOPEN_CONNECT, &value, sizeof value));
	value = 1;
	CALL(setsockopt(fd, IPPROTO_TCP, TCP_FASTOPEN_CONNECT, &value, sizeof value));
	value = -1;
	CALL(getsockopt(fd, IPPROTO_TCP, TCP_FASTOPEN_CONNECT, &value, &length));
	say("value %d", value);
	CALL(connect(fd, (struct sockaddr *)&address, sizeof address));
	CALL(connect(fd, (struct sockaddr *)&address, sizeof address));
	CALL(send(fd, data, 5000, 0));
	served(5000);
	CALL(setsockopt(fd, IPPROTO_TCP, TCP_FASTOPEN_CONNECT, &value, sizeof value));
	note_path(fd);
	close(fd);
}

static void on_send(void)
{
	section("MSG_FASTOPEN");
	struct sockaddr *to = (struct sockaddr *)&address;
	int fd = client();
	CALL(sendto(fd, data, 5000, MSG_FASTOPEN, to, sizeof address));
	served(5000);
	note_path(fd);
	close(fd);
	fd = client();
	set_nonblocking(fd, true);
	CALL(sendto(fd, data, 3000, MSG_FASTOPEN, to, sizeof address));
	wait_for(fd, POLLOUT);
	CALL(send(fd, data, 3000, 0));
	served(3000);
	CALL(sendto(fd, data, 10, MSG_FASTOPEN, to, sizeof address));
	note_path(fd);
	close(fd);
	fd = client();
	CALL(sendto(fd, data, 0, MSG_FASTOPEN, to, sizeof address));
	CALL(send(fd, data, 100, 0));
	served(100);
	note_path(fd);
	close(fd);
}

int main(void)
{
	watchdog(20);
	fill_pattern(data, 0, sizeof data);
	address = loopback(0);
	socklen_t length = sizeof address;
	server = socket(AF_INET, SOCK_STREAM, 0);
	MUST(bind(server, (struct sockaddr *)&address, sizeof address) == 0);
	MUST(listen(server, 8) == 0);
	MUST(getsockname(server, (struct sockaddr *)&address, &length) == 0);
	on_connect();
	on_send();
	close(server);
	return 0;
}
