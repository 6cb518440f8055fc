/* Every call that moves bytes over a TCP connection, with its flags, limits and errors. */
#include "common.h"
#include <limits.h>

static int a, b;
static char text[256];

static void reset_text(void)
{
	memset(text, 0, sizeof text);
}

static void plain(void)
{
	section("read, write, send, recv");
	CALL(write(a, "write", 5));
	reset_text();
	CALL(read(b, text, sizeof text));
	say("%s", text);
	CALL(send(a, "send", 4, 0));
	reset_text();
	wait_for(b, POLLIN);
	CALL(recv(b, text, sizeof text, 0));
	say("%s", text);
	struct sockaddr_in address = loopback(9), from = {0};
	CALL(sendto(a, "sendto", 6, 0, ADDR(address)));
	socklen_t length = sizeof from;
	reset_text();
	wait_for(b, POLLIN);
	CALL(recvfrom(b, text, sizeof text, 0, (struct sockaddr *)&from, &length));
	say("%s, address length %u, family %d", text, length, from.sin_family);
	CALL(write(a, "", 0));
	CALL(send(a, NULL, 0, 0));
	CALL(recv(b, text, 1, MSG_DONTWAIT));
	CALL(write(a, "xyz", 3));
	wait_for(b, POLLIN);
	CALL(recv(b, text, 0, 0));
	CALL(read(b, text, 0));
	CALL(read(b, text, 2));
	CALL(read(b, text, 2));
}

static void vectors(void)
{
	section("readv, writev, preadv2, pwritev2");
	struct iovec out[4] = {{"one ", 4}, {NULL, 0}, {"two ", 4}, {"three", 5}};
	CALL(writev(a, out, 4));
	reset_text();
	struct iovec in[3] = {{text, 3}, {text + 100, 0}, {text + 3, 60}};
	wait_for(b, POLLIN);
	CALL(readv(b, in, 3));
	say("%s", text);
	CALL(writev(a, out, 0));
	CALL(writev(a, out, -1));
	CALL(writev(a, out, IOV_MAX + 1));
	CALL(readv(b, in, -1));
	CALL(pwritev2(a, out, 4, -1, 0));
	reset_text();
	wait_for(b, POLLIN);
	CALL(preadv2(b, in, 3, -1, 0));
	say("%s", text);
	CALL(preadv2(b, in, 3, -1, RWF_NOWAIT));
	CALL(preadv2(b, in, 3, 5, 0));
	CALL(pwritev2(a, out, 4, 5, 0));
	CALL(preadv(b, in, 3, 0));
	CALL(pread(b, text, 3, 0));
	CALL(pwrite(a, "abc", 3, 0));
	CALL(pread64(b, text, 3, 0));
	CALL(lseek(a, 0, SEEK_CUR));
	struct iovec many[IOV_MAX];
	unsigned char data[IOV_MAX * 3];
	fill_pattern(data, 0, sizeof data);
	for (int i = 0; i < IOV_MAX; i++)
		many[i] = (struct iovec){data + 3 * i, 3};
	CALL(writev(a, many, IOV_MAX));
	unsigned char back[sizeof data];
	CALL(recv(b, back, sizeof back, MSG_WAITALL));
	say("intact: %d", is_pattern(back, 0, sizeof back));
	many[0].iov_len = SIZE_MAX / 2 + 1;
	CALL(writev(a, many, 1));
}

static void messages(void)
{
	section("sendmsg, recvmsg");
	struct iovec out[2] = {{"head ", 5}, {"body", 4}};
	struct msghdr message = {.msg_iov = out, .msg_iovlen = 2};
	CALL(sendmsg(a, &message, 0));
	reset_text();
	struct iovec in[2] = {{text, 2}, {text + 2, 100}};
	struct sockaddr_in from;
	char control[128];
	struct msghdr got = {.msg_iov = in, .msg_iovlen = 2, .msg_name = &from,
	                     .msg_namelen = sizeof from, .msg_control = control,
	                     .msg_controllen = sizeof control, .msg_flags = 0x1234};
	wait_for(b, POLLIN);
	CALL(recvmsg(b, &got, 0));
	say("%s; name length %u, control %zu, flags %#x", text, got.msg_namelen, got.msg_controllen,
	    got.msg_flags);
	message.msg_iovlen = 0;
	CALL(sendmsg(a, &message, 0));
	message.msg_iovlen = IOV_MAX + 1;
	CALL(sendmsg(a, &message, 0));
	CALL(recvmsg(99, &got, 0));

	section("sendmmsg, recvmmsg");
	struct mmsghdr batch[3] = {0};
	struct iovec pieces[3] = {{"first ", 6}, {"second ", 7}, {"third", 5}};
	for (int i = 0; i < 3; i++) {
		batch[i].msg_hdr.msg_iov = &pieces[i];
		batch[i].msg_hdr.msg_iovlen = 1;
	}
	CALL(sendmmsg(a, batch, 3, 0));
	say("lengths %u %u %u", batch[0].msg_len, batch[1].msg_len, batch[2].msg_len);
	wait_for(b, POLLIN);
	settle();
	reset_text();
	struct mmsghdr into[2] = {0};
	struct iovec parts[2] = {{text, 6}, {text + 6, 12}};
	for (int i = 0; i < 2; i++) {
		into[i].msg_hdr.msg_iov = &parts[i];
		into[i].msg_hdr.msg_iovlen = 1;
	}
	CALL(recvmmsg(b, into, 2, 0, NULL));
	say("%s; lengths %u %u", text, into[0].msg_len, into[1].msg_len);
	CALL(recvmmsg(b, into, 2, MSG_DONTWAIT, NULL));
	CALL(sendmmsg(a, batch, 0, 0));
	CALL(sendmmsg(99, batch, 1, 0));
	CALL(write(a, "only one", 8));
	wait_for(b, POLLIN);
	reset_text();
	parts[0].iov_len = 20;
	CALL(recvmmsg(b, into, 2, MSG_WAITFORONE, NULL));
	say("%s", text);
}

static void flags(void)
{
	section("MSG_PEEK");
	CALL(write(a, "abcdef", 6));
	reset_text();
	wait_for(b, POLLIN);
	CALL(recv(b, text, 3, MSG_PEEK));
	CALL(recv(b, text, 6, MSG_PEEK | MSG_WAITALL));
	say("%s", text);
	reset_text();
	CALL(recv(b, text, 4, 0));
	say("%s", text);
	CALL(recv(b, text, 20, MSG_PEEK));
	CALL(recv(b, text, 20, 0));
	CALL(recv(b, text, 20, MSG_PEEK | MSG_DONTWAIT));

	section("MSG_TRUNC discards");
	CALL(write(a, "0123456789", 10));
	wait_for(b, POLLIN);
	memset(text, '.', 10);
	text[10] = 0;
	CALL(recv(b, text, 4, MSG_TRUNC));
	say("%s", text);
	CALL(recv(b, NULL, 2, MSG_TRUNC));
	reset_text();
	CALL(recv(b, text, 10, 0));
	say("%s", text);

	section("MSG_WAITALL");
	pid_t child = fork();
	if (child == 0) {
		for (int i = 0; i < 4; i++) {
			pause_ms(40);
			(void)!write(a, "part", 4);
		}
		_exit(0);
	}
	reset_text();
	CALL(recv(b, text, 16, MSG_WAITALL));
	say("%s", text);
	waitpid(child, NULL, 0);
	CALL(write(a, "half", 4));
	wait_for(b, POLLIN);
	CALL(recv(b, text, 16, MSG_WAITALL | MSG_DONTWAIT));

	section("MSG_MORE and TCP_CORK hold a partial segment back");
	pause_ms(80); /* an acknowledgment that is still under way would send what is held */
	CALL(send(a, "held", 4, MSG_MORE));
	pause_ms(50);
	CALL(recv(b, text, 16, MSG_DONTWAIT));
	CALL(send(a, " back", 5, 0));
	reset_text();
	CALL(recv(b, text, 9, MSG_WAITALL));
	say("%s", text);
	pause_ms(80);
	set_option(a, IPPROTO_TCP, TCP_CORK, 1);
	CALL(write(a, "corked", 6));
	pause_ms(50);
	CALL(recv(b, text, 16, MSG_DONTWAIT));
	set_option(a, IPPROTO_TCP, TCP_CORK, 0);
	reset_text();
	CALL(recv(b, text, 6, MSG_WAITALL));
	say("%s", text);
	pause_ms(80);
	CALL(send(a, "late", 4, MSG_MORE));
	long long start = now_ms();
	CALL(recv(b, text, 4, MSG_WAITALL));
	took("a held segment", start, 100, 600);

	section("flags that change nothing here");
	CALL(send(a, "x", 1, MSG_NOSIGNAL | MSG_CONFIRM | MSG_DONTROUTE | MSG_EOR));
	CALL(recv(b, text, 1, MSG_CMSG_CLOEXEC));
	CALL(recv(b, text, 1, MSG_ERRQUEUE | MSG_DONTWAIT));
	CALL(recv(b, text, 1, MSG_OOB));
}

static void errors(void)
{
	section("errors");
	CALL(read(99, text, 1));
	CALL(write(99, text, 1));
	CALL(send(99, text, 1, 0));
	CALL(recv(-1, text, 1, 0));
	int fresh = socket(AF_INET, SOCK_STREAM, 0);
	signal(SIGPIPE, SIG_IGN);
	CALL(send(fresh, "x", 1, 0));
	CALL(recv(fresh, text, 1, 0));
	CALL(read(fresh, text, 1));
	struct sockaddr_in address = loopback(9);
	CALL(sendto(fresh, "x", 1, 0, ADDR(address)));
	close(fresh);
	int pipes[2];
	MUST(pipe(pipes) == 0);
	CALL(send(pipes[1], "x", 1, 0));
	CALL(recv(pipes[0], text, 1, 0));
	CALL(write(pipes[1], "pipe", 4));
	CALL(read(pipes[0], text, 4));
	close(pipes[0]);
	close(pipes[1]);
}

static void fortified(void)
{
	section("the fortified calls");
	/* With _FORTIFY_SOURCE and sizes the compiler cannot see these become __read_chk and so on. */
	volatile size_t four = 4;
	char small[16] = {0};
	CALL(write(a, "chk1chk2chk3", 12));
	wait_for(b, POLLIN);
	CALL(read(b, small, four));
	CALL(recv(b, small, four, 0));
	CALL(recvfrom(b, small, four, 0, NULL, NULL));
	say("%s", small);
	struct pollfd entry = {a, POLLOUT, 0};
	volatile nfds_t one = 1;
	CALL(poll(&entry, one, 0));
	struct timespec zero = {0, 0};
	CALL(ppoll(&entry, one, &zero, NULL));
}

static void nonblocking_full(void)
{
	section("a full send buffer");
	set_nonblocking(a, true);
	static unsigned char block[65536];
	size_t total = 0;
	for (;;) {
		fill_pattern(block, total, sizeof block);
		ssize_t count = send(a, block, sizeof block, 0);
		if (count == -1) {
			say("then %s", error_name(errno));
			break;
		}
		total += count;
	}
	say("took some: %d", total > 100000);
	struct pollfd entry = {a, POLLOUT, 0};
	say("writable: %d", poll(&entry, 1, 0));
	size_t seen = 0;
	bool intact = true;
	while (seen < total) {
		ssize_t count = recv(b, block, sizeof block, 0);
		MUST(count > 0);
		intact = intact && is_pattern(block, seen, count);
		seen += count;
	}
	say("all came: %d, intact: %d", seen == total, intact);
	say("writable: %s", poll_names(wait_for(a, POLLOUT)));
	set_nonblocking(a, false);
}

int main(void)
{
	watchdog(30);
	tcp_pair(&a, &b);
	plain();
	vectors();
	messages();
	flags();
	errors();
	fortified();
	nonblocking_full();
	return 0;
}
