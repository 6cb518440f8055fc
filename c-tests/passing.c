/* Sockets handed from process to process over a Unix socket. */
#include "common.h"

static int hand_over(int through, int fd)
{
	char byte = 'f', control[CMSG_SPACE(sizeof(int))] = {0};
	struct iovec part = {&byte, 1};
	struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1, .msg_control = control,
	                         .msg_controllen = sizeof control};
	struct cmsghdr *header = CMSG_FIRSTHDR(&message);
	header->cmsg_level = SOL_SOCKET;
	header->cmsg_type = SCM_RIGHTS;
	header->cmsg_len = CMSG_LEN(sizeof(int));
	memcpy(CMSG_DATA(header), &fd, sizeof fd);
	return sendmsg(through, &message, 0) == 1 ? 0 : -1;
}

static int take(int through)
{
	char byte, control[CMSG_SPACE(sizeof(int))] = {0};
	struct iovec part = {&byte, 1};
	struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1, .msg_control = control,
	                         .msg_controllen = sizeof control};
	if (recvmsg(through, &message, 0) != 1)
		return -1;
	struct cmsghdr *header = CMSG_FIRSTHDR(&message);
	int fd;
	memcpy(&fd, CMSG_DATA(header), sizeof fd);
	return fd;
}

int main(void)
{
	watchdog(20);
	signal(SIGPIPE, SIG_IGN);
	int pair[2];
	char text[16] = {0};
	section("within one process");
	MUST(socketpair(AF_UNIX, SOCK_STREAM, 0, pair) == 0);
	int a, b;
	tcp_pair(&a, &b);
	CALL(hand_over(pair[0], a));
	int copy = take(pair[1]);
	say("a new number: %d", copy > a);
	CALL(write(copy, "copy", 4));
	shutdown(a, SHUT_WR);
	CALL(recv(b, text, 4, MSG_WAITALL));
	say("%s", text);
	close(copy);
	close(a);
	close(b);

	section("a parent accepts, a worker serves");
	pid_t worker = fork();
	if (worker == 0) {
		close(pair[0]);
		for (int i = 0; i < 3; i++) {
			int served = take(pair[1]);
			char got[8] = {0};
			if (read(served, got, 4) == 4)
				(void)!write(served, got, 4);
			close(served);
		}
		_exit(0);
	}
	close(pair[1]);
	struct sockaddr_in address;
	int fd = listener(0, 4, &address);
	for (int i = 0; i < 3; i++) {
		int client = connect_to(address), served = accept(fd, NULL, NULL);
		CALL(hand_over(pair[0], served));
		close(served);
		MUST(write(client, "ping", 4) == 4);
		memset(text, 0, sizeof text);
		size_t count = read_full(client, text, 8);
		say("%zu %s", count, text);
		close(client);
	}
	int status;
	waitpid(worker, &status, 0);
	say("worker %d", WEXITSTATUS(status));
	return 0;
}
