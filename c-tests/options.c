/* getsockopt and setsockopt: values kept, doubled, clamped and refused as Linux does. */
#define CTESTS_LINUX_TCP
#include "common.h"
#include <linux/sockios.h>

static int tcp, udp;

static int get(int fd, int level, int name)
{
	int value = -12345;
	socklen_t length = sizeof value;
	if (getsockopt(fd, level, name, &value, &length) == -1)
		return -errno - 1000000;
	return value;
}

static void show_get(int fd, const char *what, int level, int name)
{
	int value = get(fd, level, name);
	if (value <= -1000000)
		say("get %s: %s", what, error_name(-(value + 1000000)));
	else
		say("get %s: %d", what, value);
}

static void show_set(int fd, const char *what, int level, int name, int value)
{
	int result = setsockopt(fd, level, name, &value, sizeof value);
	int error = errno, now = get(fd, level, name);
	if (result == -1)
		say("set %s %d: %s", what, value, error_name(error));
	else if (now <= -1000000)
		say("set %s %d: done", what, value);
	else
		say("set %s %d: %d", what, value, now);
}
#define GET(fd, level, name) show_get(fd, #fd " " #name, level, name)
#define SET(fd, level, name, value) show_set(fd, #fd " " #name, level, name, value)

static void socket_level(void)
{
	section("SOL_SOCKET");
	GET(tcp, SOL_SOCKET, SO_TYPE);
	GET(udp, SOL_SOCKET, SO_TYPE);
	GET(tcp, SOL_SOCKET, SO_PROTOCOL);
	GET(udp, SOL_SOCKET, SO_PROTOCOL);
	GET(tcp, SOL_SOCKET, SO_DOMAIN);
	GET(tcp, SOL_SOCKET, SO_ACCEPTCONN);
	GET(tcp, SOL_SOCKET, SO_ERROR);
	static const struct { int name; const char *text; } flags[] = {
		{SO_REUSEADDR, "SO_REUSEADDR"}, {SO_REUSEPORT, "SO_REUSEPORT"},
		{SO_KEEPALIVE, "SO_KEEPALIVE"}, {SO_BROADCAST, "SO_BROADCAST"},
		{SO_OOBINLINE, "SO_OOBINLINE"}, {SO_DONTROUTE, "SO_DONTROUTE"},
		{SO_TIMESTAMP, "SO_TIMESTAMP"}, {SO_TIMESTAMPNS, "SO_TIMESTAMPNS"},
	};
	for (size_t i = 0; i < sizeof flags / sizeof flags[0]; i++)
		for (int which = 0; which < 2; which++) {
			int fd = which ? udp : tcp;
			char label[64];
			snprintf(label, sizeof label, "%s %s", which ? "udp" : "tcp", flags[i].text);
			show_get(fd, label, SOL_SOCKET, flags[i].name);
			show_set(fd, label, SOL_SOCKET, flags[i].name, 1);
			show_set(fd, label, SOL_SOCKET, flags[i].name, 0);
			show_set(fd, label, SOL_SOCKET, flags[i].name, 7);
			show_set(fd, label, SOL_SOCKET, flags[i].name, 0);
		}
	SET(tcp, SOL_SOCKET, SO_SNDBUF, 10000);
	SET(tcp, SOL_SOCKET, SO_RCVBUF, 10000);
	SET(udp, SOL_SOCKET, SO_SNDBUF, 10000);
	SET(udp, SOL_SOCKET, SO_RCVBUF, 10000);
	SET(tcp, SOL_SOCKET, SO_SNDBUF, 1);
	SET(tcp, SOL_SOCKET, SO_RCVBUF, 1);
	SET(udp, SOL_SOCKET, SO_RCVBUF, 0);
	SET(tcp, SOL_SOCKET, SO_RCVLOWAT, 10);
	SET(tcp, SOL_SOCKET, SO_RCVLOWAT, 0);
	SET(tcp, SOL_SOCKET, SO_RCVLOWAT, 1);
	SET(tcp, SOL_SOCKET, SO_SNDLOWAT, 10);
	GET(tcp, SOL_SOCKET, SO_SNDLOWAT);
	SET(tcp, SOL_SOCKET, SO_PRIORITY, 5);
	GET(tcp, SOL_SOCKET, SO_MARK);
	SET(tcp, SOL_SOCKET, SO_MARK, 7);
	SET(udp, SOL_SOCKET, SO_MARK, 8);
	SET(udp, SOL_SOCKET, SO_PEEK_OFF, 0);
	SET(udp, SOL_SOCKET, SO_PEEK_OFF, -1);
	SET(tcp, SOL_SOCKET, SO_TYPE, 1);
	SET(tcp, SOL_SOCKET, SO_ERROR, 1);
	SET(tcp, SOL_SOCKET, SO_ACCEPTCONN, 1);
	GET(tcp, SOL_SOCKET, 9999);
	SET(tcp, SOL_SOCKET, 9999, 1);
	GET(tcp, 9999, 1);
	SET(tcp, 9999, 1, 1);
	struct linger linger = {0};
	socklen_t length = sizeof linger;
	CALL(getsockopt(tcp, SOL_SOCKET, SO_LINGER, &linger, &length));
	say("linger %d %d", linger.l_onoff, linger.l_linger);
	linger = (struct linger){1, 10};
	CALL(setsockopt(tcp, SOL_SOCKET, SO_LINGER, &linger, sizeof linger));
	CALL(setsockopt(tcp, SOL_SOCKET, SO_LINGER, &linger, 4));
	memset(&linger, 0, sizeof linger);
	CALL(getsockopt(tcp, SOL_SOCKET, SO_LINGER, &linger, &length));
	say("linger %d %d", linger.l_onoff, linger.l_linger);
	struct timeval time = {2, 500000};
	CALL(setsockopt(tcp, SOL_SOCKET, SO_RCVTIMEO, &time, sizeof time));
	CALL(setsockopt(tcp, SOL_SOCKET, SO_SNDTIMEO, &time, sizeof time));
	CALL(setsockopt(tcp, SOL_SOCKET, SO_SNDTIMEO, &time, 4));
	time = (struct timeval){0, 2000000};
	CALL(setsockopt(tcp, SOL_SOCKET, SO_SNDTIMEO, &time, sizeof time));
	length = sizeof time;
	CALL(getsockopt(tcp, SOL_SOCKET, SO_RCVTIMEO, &time, &length));
	say("%ld %ld, length %u", (long)time.tv_sec, (long)time.tv_usec, length);
}

static void lengths(void)
{
	section("lengths");
	int value = 1;
	CALL(setsockopt(tcp, SOL_SOCKET, SO_KEEPALIVE, &value, 3));
	CALL(setsockopt(tcp, SOL_SOCKET, SO_KEEPALIVE, &value, 0));
	CALL(setsockopt(tcp, SOL_SOCKET, SO_KEEPALIVE, NULL, 4));
	CALL(setsockopt(tcp, IPPROTO_TCP, TCP_NODELAY, &value, 3));
	CALL(setsockopt(tcp, IPPROTO_TCP, TCP_NODELAY, &value, 1));
	CALL(setsockopt(99, SOL_SOCKET, SO_KEEPALIVE, &value, 4));
	char wide[16] = {1};
	CALL(setsockopt(tcp, SOL_SOCKET, SO_KEEPALIVE, wide, 16));
	value = 0x11223344;
	socklen_t length = 1;
	CALL(getsockopt(tcp, SOL_SOCKET, SO_KEEPALIVE, &value, &length));
	say("%#x, length %u", value, length);
	length = 16;
	CALL(getsockopt(tcp, SOL_SOCKET, SO_KEEPALIVE, wide, &length));
	say("length %u", length);
	length = 0;
	CALL(getsockopt(tcp, SOL_SOCKET, SO_KEEPALIVE, &value, &length));
	length = -1;
	CALL(getsockopt(tcp, SOL_SOCKET, SO_KEEPALIVE, &value, &length));
	CALL(getsockopt(99, SOL_SOCKET, SO_KEEPALIVE, &value, &length));
	CALL(setsockopt(tcp, SOL_SOCKET, SO_KEEPALIVE, (int[]){0}, 4));
}

static void tcp_level(void)
{
	section("IPPROTO_TCP");
	static const struct { int name; const char *text; int values[6]; } options[] = {
		{TCP_NODELAY, "TCP_NODELAY", {1, 0, 5, 0}},
		{TCP_CORK, "TCP_CORK", {1, 0}},
		{TCP_KEEPIDLE, "TCP_KEEPIDLE", {10, 0, 32767, 32768, -1, 7200}},
		{TCP_KEEPINTVL, "TCP_KEEPINTVL", {10, 0, 32768, 75}},
		{TCP_KEEPCNT, "TCP_KEEPCNT", {3, 0, 127, 128, 9}},
		{TCP_SYNCNT, "TCP_SYNCNT", {3, 0, 127, 128, 6}},
		{TCP_DEFER_ACCEPT, "TCP_DEFER_ACCEPT", {1, 10, 0}},
		{TCP_QUICKACK, "TCP_QUICKACK", {0, 1}},
		{TCP_USER_TIMEOUT, "TCP_USER_TIMEOUT", {5000, -1, 0}},
		{TCP_NOTSENT_LOWAT, "TCP_NOTSENT_LOWAT", {16384, 0}},
		{TCP_MAXSEG, "TCP_MAXSEG", {1000, 10, 100000}},
		{TCP_LINGER2, "TCP_LINGER2", {10, -1, 60}},
		{TCP_FASTOPEN, "TCP_FASTOPEN", {5, -1, 0}},
	};
	for (size_t i = 0; i < sizeof options / sizeof options[0]; i++) {
		show_get(tcp, options[i].text, IPPROTO_TCP, options[i].name);
		for (int j = 0; j < 6 && (j == 0 || options[i].values[j] || options[i].values[j - 1]); j++)
			show_set(tcp, options[i].text, IPPROTO_TCP, options[i].name, options[i].values[j]);
	}
	char name[32] = {0};
	socklen_t length = sizeof name;
	CALL(setsockopt(tcp, IPPROTO_TCP, TCP_CONGESTION, "reno", 4));
	CALL(getsockopt(tcp, IPPROTO_TCP, TCP_CONGESTION, name, &length));
	say("%s, length %u", name, length);
	CALL(setsockopt(tcp, IPPROTO_TCP, TCP_CONGESTION, "nosuch", 6));
	CALL(setsockopt(tcp, IPPROTO_TCP, TCP_ULP, "nosuch", 6));
	GET(tcp, IPPROTO_TCP, 9999);
	SET(tcp, IPPROTO_TCP, 9999, 1);
	GET(udp, IPPROTO_TCP, TCP_NODELAY);
	SET(udp, IPPROTO_TCP, TCP_NODELAY, 1);
	GET(tcp, IPPROTO_UDP, 1);

	section("TCP_INFO");
	struct tcp_info info;
	length = sizeof info;
	memset(&info, 0, sizeof info);
	CALL(getsockopt(tcp, IPPROTO_TCP, TCP_INFO, &info, &length));
	say("closed: state %u", info.tcpi_state);
	length = 4;
	CALL(getsockopt(tcp, IPPROTO_TCP, TCP_INFO, &info, &length));
	say("length %u", length);
	int a, b;
	tcp_pair(&a, &b);
	char text[100] = {0};
	MUST(write(a, text, 100) == 100);
	MUST(recv(b, text, 100, MSG_WAITALL) == 100);
	MUST(write(b, text, 50) == 50);
	MUST(recv(a, text, 50, MSG_WAITALL) == 50);
	settle();
	length = sizeof info;
	CALL(getsockopt(a, IPPROTO_TCP, TCP_INFO, &info, &length));
	say("state %u, ca %u, retransmits %u, lost %u, unacked %u", info.tcpi_state,
	    info.tcpi_ca_state, info.tcpi_retransmits, info.tcpi_lost, info.tcpi_unacked);
	say("sacked %u, total retransmits %u, rtt measured %d, rto in range %d", info.tcpi_sacked,
	    info.tcpi_total_retrans, info.tcpi_rtt > 0, info.tcpi_rto >= 200000 && info.tcpi_rto < 1500000);
	say("options: timestamps %d sack %d window scaling %d", !!(info.tcpi_options & TCPI_OPT_TIMESTAMPS),
	    !!(info.tcpi_options & TCPI_OPT_SACK), !!(info.tcpi_options & TCPI_OPT_WSCALE));
	/* Linux counts the SYN among the acknowledged octets. */
	say("bytes acked %d received %llu sent %llu", info.tcpi_bytes_acked - 100 <= 1,
	    (unsigned long long)info.tcpi_bytes_received, (unsigned long long)info.tcpi_bytes_sent);
	say("cwnd %d mss %d", info.tcpi_snd_cwnd >= 10, info.tcpi_snd_mss > 500);
	close(a);
	close(b);
}

static void ip_level(void)
{
	section("IPPROTO_IP");
	static const struct { int name; const char *text; int values[6]; } options[] = {
		{IP_TOS, "IP_TOS", {16, 184, 0}},
		{IP_TTL, "IP_TTL", {10, 255, 256, 0, -1, 64}},
		{IP_MTU_DISCOVER, "IP_MTU_DISCOVER", {IP_PMTUDISC_DO, IP_PMTUDISC_DONT, 99, IP_PMTUDISC_WANT}},
		{IP_RECVERR, "IP_RECVERR", {1, 0}},
		{IP_PKTINFO, "IP_PKTINFO", {1, 0}},
		{IP_RECVTOS, "IP_RECVTOS", {1, 0}},
		{IP_RECVTTL, "IP_RECVTTL", {1, 0}},
		{IP_FREEBIND, "IP_FREEBIND", {1, 0}},
		{IP_BIND_ADDRESS_NO_PORT, "IP_BIND_ADDRESS_NO_PORT", {1, 0}},
		{IP_MINTTL, "IP_MINTTL", {5, 256, 0}},
		{IP_MULTICAST_TTL, "IP_MULTICAST_TTL", {5, 0, 256, 1}},
		{IP_MULTICAST_LOOP, "IP_MULTICAST_LOOP", {0, 1}},
	};
	for (size_t i = 0; i < sizeof options / sizeof options[0]; i++)
		for (int which = 0; which < 2; which++) {
			int fd = which ? udp : tcp;
			char label[64];
			snprintf(label, sizeof label, "%s %s", which ? "udp" : "tcp", options[i].text);
			show_get(fd, label, IPPROTO_IP, options[i].name);
			for (int j = 0; j < 6 && (j == 0 || options[i].values[j] || options[i].values[j - 1]); j++)
				show_set(fd, label, IPPROTO_IP, options[i].name, options[i].values[j]);
		}
	GET(udp, IPPROTO_IP, IP_MTU);
	GET(tcp, IPPROTO_IP, IP_MTU);
	unsigned char tos = 8;
	CALL(setsockopt(udp, IPPROTO_IP, IP_TOS, &tos, 1));
	GET(udp, IPPROTO_IP, IP_TOS);
	GET(tcp, IPPROTO_IP, 9999);
	SET(tcp, IPPROTO_IP, 9999, 1);
}

static void inheritance(void)
{
	section("what an accepted socket inherits");
	struct sockaddr_in address;
	int fd = bound(SOCK_STREAM, &address);
	set_option(fd, SOL_SOCKET, SO_KEEPALIVE, 1);
	set_option(fd, IPPROTO_TCP, TCP_NODELAY, 1);
	set_option(fd, IPPROTO_TCP, TCP_KEEPIDLE, 33);
	set_option(fd, SOL_SOCKET, SO_RCVBUF, 30000);
	set_option(fd, SOL_SOCKET, SO_SNDBUF, 40000);
	set_option(fd, SOL_SOCKET, SO_REUSEADDR, 1);
	set_option(fd, SOL_SOCKET, SO_OOBINLINE, 1);
	set_option(fd, IPPROTO_IP, IP_TTL, 77);
	set_option(fd, IPPROTO_TCP, TCP_USER_TIMEOUT, 4000);
	struct linger linger = {1, 3};
	setsockopt(fd, SOL_SOCKET, SO_LINGER, &linger, sizeof linger);
	struct timeval time = {3, 0};
	setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &time, sizeof time);
	MUST(listen(fd, 4) == 0);
	int client = connect_to(address);
	int accepted = accept(fd, NULL, NULL);
	GET(accepted, SOL_SOCKET, SO_KEEPALIVE);
	GET(accepted, IPPROTO_TCP, TCP_NODELAY);
	GET(accepted, IPPROTO_TCP, TCP_KEEPIDLE);
	GET(accepted, SOL_SOCKET, SO_RCVBUF);
	GET(accepted, SOL_SOCKET, SO_SNDBUF);
	GET(accepted, SOL_SOCKET, SO_REUSEADDR);
	GET(accepted, SOL_SOCKET, SO_OOBINLINE);
	GET(accepted, IPPROTO_IP, IP_TTL);
	GET(accepted, IPPROTO_TCP, TCP_USER_TIMEOUT);
	GET(accepted, SOL_SOCKET, SO_ACCEPTCONN);
	socklen_t length = sizeof linger;
	memset(&linger, 0, sizeof linger);
	getsockopt(accepted, SOL_SOCKET, SO_LINGER, &linger, &length);
	say("linger %d %d", linger.l_onoff, linger.l_linger);
	length = sizeof time;
	memset(&time, 0, sizeof time);
	getsockopt(accepted, SOL_SOCKET, SO_RCVTIMEO, &time, &length);
	say("receive timeout %ld", (long)time.tv_sec);
	close(client);
	close(accepted);
	close(fd);
}

static void queues(void)
{
	section("queue lengths by ioctl");
	int a, b, value;
	tcp_pair(&a, &b);
	CALL(ioctl(b, SIOCINQ, &value));
	say("%d", value);
	MUST(write(a, "1234567", 7) == 7);
	wait_for(b, POLLIN);
	settle();
	CALL(ioctl(b, SIOCINQ, &value));
	say("in %d", value);
	CALL(ioctl(a, SIOCOUTQ, &value));
	say("out %d", value);
	CALL(ioctl(a, SIOCOUTQNSD, &value));
	say("out, not sent %d", value);
	CALL(ioctl(a, SIOCATMARK, &value));
	say("at mark %d", value);
	shutdown(a, SHUT_WR);
	settle();
	CALL(ioctl(b, SIOCINQ, &value));
	say("in with end of file %d", value);
	close(a);
	close(b);
	int fd = socket(AF_INET, SOCK_STREAM, 0);
	CALL(ioctl(fd, SIOCINQ, &value));
	CALL(ioctl(fd, SIOCOUTQ, &value));
	CALL(listen(fd, 1));
	CALL(ioctl(fd, SIOCINQ, &value));
	CALL(ioctl(fd, SIOCOUTQ, &value));
	close(fd);
	udp_pair(&a, &b);
	MUST(write(a, "12345", 5) == 5);
	MUST(write(a, "123", 3) == 3);
	wait_for(b, POLLIN);
	settle();
	CALL(ioctl(b, SIOCINQ, &value));
	say("first datagram %d", value);
	CALL(ioctl(a, SIOCOUTQ, &value));
	say("out %d", value);
	close(a);
	close(b);
}

int main(void)
{
	watchdog(30);
	tcp = socket(AF_INET, SOCK_STREAM, 0);
	udp = socket(AF_INET, SOCK_DGRAM, 0);
	socket_level();
	lengths();
	tcp_level();
	ip_level();
	inheritance();
	queues();
	return 0;
}
