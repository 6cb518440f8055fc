/* UDP: datagrams, connected and not, flags, errors from ICMP, ancillary data, batches. */
#include "common.h"
#include <linux/errqueue.h>
#include <netinet/udp.h>

static int a, b;
static char text[70000];
static struct sockaddr_in of_a, of_b;

static void start_pair(void)
{
	a = bound(SOCK_DGRAM, &of_a);
	b = bound(SOCK_DGRAM, &of_b);
}

static void end_pair(void)
{
	close(a);
	close(b);
}

static void plain(void)
{
	section("sendto, recvfrom");
	start_pair();
	CALL(sendto(a, "hello", 5, 0, ADDR(of_b)));
	note_path(a);
	struct sockaddr_in from = {0};
	socklen_t length = sizeof from;
	memset(text, 0, 16);
	wait_for(b, POLLIN);
	note_path(b);
	CALL(recvfrom(b, text, 100, 0, (struct sockaddr *)&from, &length));
	say("%s, from a: %d, length %u", text, from.sin_port == of_a.sin_port, length);
	CALL(sendto(b, "back", 4, 0, (struct sockaddr *)&from, sizeof from));
	CALL(recv(a, text, 100, 0));
	CALL(send(a, "x", 1, 0));
	CALL(write(a, "x", 1));
	CALL(sendto(a, "x", 1, 0, (struct sockaddr *)&of_b, 4));
	struct sockaddr_in wrong = of_b;
	wrong.sin_family = AF_INET6;
	CALL(sendto(a, "x", 1, 0, ADDR(wrong)));
	wrong = of_b;
	wrong.sin_port = 0;
	CALL(sendto(a, "x", 1, 0, ADDR(wrong)));
	wrong = of_b;
	wrong.sin_addr.s_addr = INADDR_BROADCAST;
	CALL(sendto(a, "x", 1, 0, ADDR(wrong)));
	CALL(recv(b, text, 100, MSG_DONTWAIT));

	section("empty and oversized datagrams");
	CALL(sendto(a, "", 0, 0, ADDR(of_b)));
	CALL(sendto(a, "after", 5, 0, ADDR(of_b)));
	wait_for(b, POLLIN);
	show_poll("an empty datagram waits", b);
	CALL(recv(b, text, 100, 0));
	CALL(recv(b, text, 100, 0));
	CALL(sendto(a, text, 65508, 0, ADDR(of_b)));
	CALL(sendto(a, text, 65507, 0, ADDR(of_b)));
	CALL(recv(b, text, sizeof text, 0));
	CALL(sendto(a, text, 9000, 0, ADDR(of_b)));
	CALL(recv(b, text, sizeof text, 0));

	section("truncation and MSG_TRUNC");
	CALL(sendto(a, "0123456789", 10, 0, ADDR(of_b)));
	CALL(sendto(a, "next", 4, 0, ADDR(of_b)));
	wait_for(b, POLLIN);
	CALL(recv(b, text, 4, MSG_PEEK));
	CALL(recv(b, text, 4, MSG_PEEK | MSG_TRUNC));
	CALL(recv(b, text, 4, MSG_TRUNC));
	CALL(recv(b, text, 100, 0));
	CALL(sendto(a, "0123456789", 10, 0, ADDR(of_b)));
	struct iovec part = {text, 3};
	struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1, .msg_name = &from,
	                         .msg_namelen = sizeof from};
	CALL(recvmsg(b, &message, 0));
	say("truncated: %d, name length %u", !!(message.msg_flags & MSG_TRUNC), message.msg_namelen);
	CALL(sendto(a, "x", 1, 0, ADDR(of_b)));
	CALL(recv(b, text, 0, 0));
	CALL(recv(b, text, 10, MSG_DONTWAIT));
	CALL(recv(b, text, 10, MSG_WAITALL | MSG_DONTWAIT));
	end_pair();
}

static void connected(void)
{
	section("connected");
	start_pair();
	CALL(connect(a, ADDR(of_b)));
	CALL(send(a, "one", 3, 0));
	CALL(write(a, "two", 3));
	CALL(sendto(a, "three", 5, 0, ADDR(of_b)));
	for (int i = 0; i < 3; i++) {
		memset(text, 0, 8);
		CALL(recv(b, text, 100, 0));
		say("%s", text);
	}
	int stranger = bound(SOCK_DGRAM, NULL);
	CALL(sendto(stranger, "not for a", 9, 0, ADDR(of_a)));
	settle();
	CALL(recv(a, text, 100, MSG_DONTWAIT));
	CALL(sendto(b, "for a", 5, 0, ADDR(of_a)));
	wait_for(a, POLLIN);
	CALL(recv(a, text, 100, MSG_DONTWAIT));
	struct sockaddr_in peer;
	socklen_t length = sizeof peer;
	CALL(getpeername(a, (struct sockaddr *)&peer, &length));
	say("peer is b: %d", peer.sin_port == of_b.sin_port);
	struct sockaddr_in nobody = {.sin_family = AF_UNSPEC};
	CALL(connect(a, ADDR(nobody)));
	CALL(getpeername(a, (struct sockaddr *)&peer, &length));
	CALL(send(a, "x", 1, 0));
	CALL(connect(a, ADDR(of_b)));
	CALL(shutdown(a, SHUT_RD));
	show_poll("read side shut", a);
	CALL(recv(a, text, 10, 0));
	CALL(recv(a, text, 10, MSG_DONTWAIT));
	CALL(send(b, "after", 5, 0));
	wait_for(a, POLLIN);
	settle();
	CALL(recv(a, text, 10, MSG_DONTWAIT));
	CALL(recv(a, text, 10, 0));
	CALL(shutdown(a, SHUT_WR));
	CALL(send(a, "x", 1, MSG_NOSIGNAL));
	close(stranger);
	end_pair();
	int fresh = socket(AF_INET, SOCK_DGRAM, 0);
	struct sockaddr_in local = local_of(fresh);
	say("fresh port zero: %d", local.sin_port == 0);
	of_b = loopback(9);
	CALL(connect(fresh, ADDR(of_b)));
	local = local_of(fresh);
	say("after connect: port %d, loopback %d", local.sin_port != 0,
	    local.sin_addr.s_addr == htonl(INADDR_LOOPBACK));
	close(fresh);
}

static void refused(void)
{
	section("a port nobody listens on");
	struct sockaddr_in gone;
	close(bound(SOCK_DGRAM, &gone));
	a = socket(AF_INET, SOCK_DGRAM, 0);
	CALL(sendto(a, "x", 1, 0, ADDR(gone)));
	settle();
	CALL(recv(a, text, 1, MSG_DONTWAIT));
	CALL(connect(a, ADDR(gone)));
	CALL(send(a, "x", 1, 0));
	settle();
	show_poll("refused", a);
	CALL(recv(a, text, 1, MSG_DONTWAIT));
	CALL(recv(a, text, 1, MSG_DONTWAIT));
	CALL(send(a, "x", 1, 0));
	settle();
	CALL(send(a, "x", 1, 0));
	show_socket_error("refused", a);
	CALL(send(a, "x", 1, 0));
	settle();
	show_socket_error("refused", a);
	show_socket_error("taken", a);
	close(a);

	section("the error queue");
	a = socket(AF_INET, SOCK_DGRAM, 0);
	set_option(a, IPPROTO_IP, IP_RECVERR, 1);
	CALL(sendto(a, "query", 5, 0, ADDR(gone)));
	settle();
	show_poll("an error is queued", a);
	char control[512];
	struct sockaddr_in name = {0};
	struct iovec part = {text, 100};
	struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1, .msg_name = &name,
	                         .msg_namelen = sizeof name, .msg_control = control,
	                         .msg_controllen = sizeof control};
	memset(text, 0, 16);
	CALL(recvmsg(a, &message, MSG_ERRQUEUE));
	say("%s, to the port sent to: %d, flag %d", text, name.sin_port == gone.sin_port,
	    !!(message.msg_flags & MSG_ERRQUEUE));
	for (struct cmsghdr *c = CMSG_FIRSTHDR(&message); c; c = CMSG_NXTHDR(&message, c)) {
		struct sock_extended_err *error = (struct sock_extended_err *)CMSG_DATA(c);
		say("level %d type %d: %s origin %d icmp %d/%d", c->cmsg_level, c->cmsg_type,
		    error_name(error->ee_errno), error->ee_origin, error->ee_type, error->ee_code);
	}
	CALL(recvmsg(a, &message, MSG_ERRQUEUE));
	show_socket_error("after", a);
	close(a);
}

static void batches(void)
{
	section("sendmmsg, recvmmsg");
	start_pair();
	struct mmsghdr out[4] = {0}, in[4] = {0};
	struct iovec pieces[4] = {{"one", 3}, {"three", 5}, {"", 0}, {"seventh", 7}}, parts[4];
	char into[4][16];
	memset(into, 0, sizeof into);
	for (int i = 0; i < 4; i++) {
		out[i].msg_hdr = (struct msghdr){.msg_iov = &pieces[i], .msg_iovlen = 1,
		                                 .msg_name = &of_b, .msg_namelen = sizeof of_b};
		parts[i] = (struct iovec){into[i], 5};
		in[i].msg_hdr = (struct msghdr){.msg_iov = &parts[i], .msg_iovlen = 1};
	}
	CALL(sendmmsg(a, out, 4, 0));
	say("%u %u %u %u", out[0].msg_len, out[1].msg_len, out[2].msg_len, out[3].msg_len);
	wait_for(b, POLLIN);
	settle();
	CALL(recvmmsg(b, in, 4, 0, NULL));
	for (int i = 0; i < 4; i++)
		say("%.5s %u truncated %d", into[i], in[i].msg_len, !!(in[i].msg_hdr.msg_flags & MSG_TRUNC));
	CALL(recvmmsg(b, in, 4, MSG_DONTWAIT, NULL));
	CALL(sendmmsg(a, out, 2, 0));
	settle();
	CALL(recvmmsg(b, in, 4, MSG_WAITFORONE, NULL));
	CALL(sendmmsg(a, out, 1, 0));
	/* The time limit is looked at after each datagram only; MSG_WAITFORONE keeps this short. */
	struct timespec limit = {1, 0};
	CALL(recvmmsg(b, in, 1, 0, &limit));
	end_pair();
}

static void ancillary(void)
{
	section("ancillary data");
	start_pair();
	set_option(b, IPPROTO_IP, IP_PKTINFO, 1);
	set_option(b, IPPROTO_IP, IP_RECVTTL, 1);
	set_option(b, IPPROTO_IP, IP_RECVTOS, 1);
	set_option(b, SOL_SOCKET, SO_TIMESTAMP, 1);
	set_option(a, IPPROTO_IP, IP_TTL, 42);
	set_option(a, IPPROTO_IP, IP_TOS, 0x20);
	CALL(sendto(a, "data", 4, 0, ADDR(of_b)));
	wait_for(b, POLLIN);
	char control[512];
	struct iovec part = {text, 100};
	struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1, .msg_control = control,
	                         .msg_controllen = sizeof control};
	CALL(recvmsg(b, &message, 0));
	for (struct cmsghdr *c = CMSG_FIRSTHDR(&message); c; c = CMSG_NXTHDR(&message, c)) {
		if (c->cmsg_level == SOL_SOCKET && c->cmsg_type == SO_TIMESTAMP) {
			struct timeval *time = (struct timeval *)CMSG_DATA(c);
			struct timeval now;
			gettimeofday(&now, NULL);
			say("timestamp, recent %d", now.tv_sec - time->tv_sec >= 0 && now.tv_sec - time->tv_sec < 5);
		} else if (c->cmsg_level == IPPROTO_IP && c->cmsg_type == IP_TTL) {
			say("ttl %d", *(int *)CMSG_DATA(c));
		} else if (c->cmsg_level == IPPROTO_IP && c->cmsg_type == IP_TOS) {
			say("tos %d", *(unsigned char *)CMSG_DATA(c));
		} else if (c->cmsg_level == IPPROTO_IP && c->cmsg_type == IP_PKTINFO) {
			struct in_pktinfo *info = (struct in_pktinfo *)CMSG_DATA(c);
			say("pktinfo: interface %d, to loopback %d", info->ipi_ifindex > 0,
			    info->ipi_addr.s_addr == htonl(INADDR_LOOPBACK));
		} else {
			say("other %d %d", c->cmsg_level, c->cmsg_type);
		}
	}
	CALL(sendto(a, "data", 4, 0, ADDR(of_b)));
	wait_for(b, POLLIN);
	message.msg_controllen = 4;
	CALL(recvmsg(b, &message, 0));
	say("control truncated %d, length %zu", !!(message.msg_flags & MSG_CTRUNC), message.msg_controllen);

	section("per-message TOS and TTL");
	struct {
		struct cmsghdr header;
		int value;
	} ttl = {{CMSG_LEN(sizeof(int)), IPPROTO_IP, IP_TTL}, 13};
	struct iovec out = {"data", 4};
	struct msghdr send_message = {.msg_iov = &out, .msg_iovlen = 1, .msg_name = &of_b,
	                              .msg_namelen = sizeof of_b, .msg_control = &ttl,
	                              .msg_controllen = CMSG_SPACE(sizeof(int))};
	CALL(sendmsg(a, &send_message, 0));
	wait_for(b, POLLIN);
	message.msg_controllen = sizeof control;
	CALL(recvmsg(b, &message, 0));
	for (struct cmsghdr *c = CMSG_FIRSTHDR(&message); c; c = CMSG_NXTHDR(&message, c))
		if (c->cmsg_level == IPPROTO_IP && c->cmsg_type == IP_TTL)
			say("ttl %d", *(int *)CMSG_DATA(c));
	end_pair();
}

static void corked(void)
{
	section("MSG_MORE and UDP_CORK join pieces into one datagram");
	start_pair();
	CALL(connect(a, ADDR(of_b)));
	CALL(send(a, "one ", 4, MSG_MORE));
	CALL(send(a, "two ", 4, MSG_MORE));
	settle();
	CALL(recv(b, text, 100, MSG_DONTWAIT));
	CALL(send(a, "three", 5, 0));
	wait_for(b, POLLIN);
	memset(text, 0, 32);
	CALL(recv(b, text, 100, 0));
	say("%s", text);
	set_option(a, IPPROTO_UDP, UDP_CORK, 1);
	CALL(send(a, "held ", 5, 0));
	CALL(send(a, "back", 4, 0));
	settle();
	CALL(recv(b, text, 100, MSG_DONTWAIT));
	set_option(a, IPPROTO_UDP, UDP_CORK, 0);
	wait_for(b, POLLIN);
	memset(text, 0, 32);
	CALL(recv(b, text, 100, 0));
	say("%s", text);
	end_pair();
}

static void segmentation(void)
{
	section("UDP_SEGMENT");
	start_pair();
	CALL(setsockopt(a, IPPROTO_UDP, UDP_SEGMENT, (int[]){100}, 4));
	CALL(sendto(a, text, 250, 0, ADDR(of_b)));
	for (int i = 0; i < 3; i++)
		CALL(recv(b, text, 1000, 0));
	CALL(recv(b, text, 1000, MSG_DONTWAIT));
	end_pair();
}

static void sharing(void)
{
	section("SO_REUSEADDR and SO_REUSEPORT");
	struct sockaddr_in address = loopback(0);
	a = socket(AF_INET, SOCK_DGRAM, 0);
	set_option(a, SOL_SOCKET, SO_REUSEPORT, 1);
	MUST(bind(a, ADDR(address)) == 0);
	address = local_of(a);
	b = socket(AF_INET, SOCK_DGRAM, 0);
	CALL(bind(b, ADDR(address)));
	set_option(b, SOL_SOCKET, SO_REUSEPORT, 1);
	CALL(bind(b, ADDR(address)));
	int total = 0;
	for (int i = 0; i < 20; i++) {
		int from = bound(SOCK_DGRAM, NULL);
		MUST(sendto(from, "x", 1, 0, ADDR(address)) == 1);
		close(from);
	}
	settle();
	while (recv(a, text, 10, MSG_DONTWAIT) == 1)
		total++;
	while (recv(b, text, 10, MSG_DONTWAIT) == 1)
		total++;
	say("%d arrived at one of the two", total);
	end_pair();

	section("the wildcard and an exact address");
	a = socket(AF_INET, SOCK_DGRAM, 0);
	b = socket(AF_INET, SOCK_DGRAM, 0);
	set_option(a, SOL_SOCKET, SO_REUSEADDR, 1);
	set_option(b, SOL_SOCKET, SO_REUSEADDR, 1);
	struct sockaddr_in any = {.sin_family = AF_INET};
	MUST(bind(a, ADDR(any)) == 0);
	address = loopback(ntohs(local_of(a).sin_port));
	CALL(bind(b, ADDR(address)));
	int from = bound(SOCK_DGRAM, NULL);
	CALL(sendto(from, "exact", 5, 0, ADDR(address)));
	wait_for(b, POLLIN);
	CALL(recv(a, text, 10, MSG_DONTWAIT));
	CALL(recv(b, text, 10, MSG_DONTWAIT));
	close(from);
	end_pair();
}

static void buffers(void)
{
	section("a full receive buffer drops, and loses nothing else");
	start_pair();
	set_option(b, SOL_SOCKET, SO_RCVBUF, 4096);
	for (int i = 0; i < 100; i++)
		MUST(sendto(a, text, 1000, 0, ADDR(of_b)) == 1000);
	settle();
	int count = 0;
	while (recv(b, text, sizeof text, MSG_DONTWAIT) == 1000)
		count++;
	say("some but not all: %d", count > 0 && count < 100);
	CALL(sendto(a, "later", 5, 0, ADDR(of_b)));
	wait_for(b, POLLIN);
	CALL(recv(b, text, 100, MSG_DONTWAIT));
	end_pair();

	section("order and content");
	start_pair();
	bool intact = true;
	for (int round = 0; round < 50; round++) {
		for (int i = 0; i < 20; i++) {
			unsigned char datagram[600];
			fill_pattern(datagram, round * 20 + i, 100 + i * 25);
			MUST(sendto(a, datagram, 100 + i * 25, 0, ADDR(of_b)) == 100 + i * 25);
		}
		for (int i = 0; i < 20; i++) {
			ssize_t length = recv(b, text, sizeof text, 0);
			intact = intact && length == 100 + i * 25 &&
			         is_pattern((unsigned char *)text, round * 20 + i, length);
		}
	}
	say("a thousand datagrams intact: %d", intact);
	end_pair();
}

int main(void)
{
	watchdog(30);
	signal(SIGPIPE, SIG_IGN);
	plain();
	connected();
	refused();
	batches();
	ancillary();
	corked();
	segmentation();
	sharing();
	buffers();
	return 0;
}
