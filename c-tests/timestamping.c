/* SO_TIMESTAMPING on TCP: reports of sends on the error queue, times beside what is received. */
#include "common.h"
#include <linux/errqueue.h>
#include <linux/net_tstamp.h>

#define ID_TCP (1 << 16)
#define RECORD (SOF_TIMESTAMPING_TX_SCHED | SOF_TIMESTAMPING_TX_SOFTWARE | SOF_TIMESTAMPING_TX_ACK)
#define TOLD (SOF_TIMESTAMPING_SOFTWARE | SOF_TIMESTAMPING_OPT_TSONLY)

static int a, b;
static char data[5000];

static int set(int fd, int flags)
{
	return setsockopt(fd, SOL_SOCKET, SO_TIMESTAMPING, &flags, sizeof flags);
}

static bool is_now(const struct timespec *time)
{
	struct timespec now;
	clock_gettime(CLOCK_REALTIME, &now);
	long long late = (now.tv_sec - time->tv_sec) * 1000LL + (now.tv_nsec - time->tv_nsec) / 1000000;
	return late >= 0 && late < 5000;
}

static void show_control(struct msghdr *message)
{
	for (struct cmsghdr *c = CMSG_FIRSTHDR(message); c; c = CMSG_NXTHDR(message, c)) {
		if (c->cmsg_level == SOL_SOCKET && c->cmsg_type == SCM_TIMESTAMPING) {
			struct timespec times[3];
			memcpy(times, CMSG_DATA(c), sizeof times);
			say("  a time of %zu octets, now %d, others %ld %ld", c->cmsg_len,
			    is_now(&times[0]), (long)times[1].tv_sec, (long)times[2].tv_sec);
		} else if (c->cmsg_level == IPPROTO_IP && c->cmsg_type == IP_RECVERR) {
			struct sock_extended_err error;
			memcpy(&error, CMSG_DATA(c), sizeof error);
			say("  error %s, origin %d, type %d, code %d, stage %u, key %u",
			    error_name(error.ee_errno), error.ee_origin, error.ee_type, error.ee_code,
			    error.ee_info, error.ee_data);
		} else {
			say("  control %d %d", c->cmsg_level, c->cmsg_type);
		}
	}
}

/* Reads a message with its control data; prints what came. */
static ssize_t show_message(int fd, void *into, size_t room, int flags)
{
	char control[512];
	struct iovec iov = {into, room};
	struct msghdr message = {.msg_iov = &iov, .msg_iovlen = 1, .msg_control = control,
				 .msg_controllen = sizeof control};
	ssize_t count = recvmsg(fd, &message, flags);
	if (count < 0) {
		say("recvmsg: %s", error_name(errno));
		return count;
	}
	say("recvmsg: %zd, flags %#x", count, message.msg_flags);
	show_control(&message);
	return count;
}

static void show_reports(int fd)
{
	struct pollfd poller = {.fd = fd};
	int ready = poll(&poller, 1, 1000);
	say("poll %d, POLLERR %d", ready, !!(poller.revents & POLLERR));
	settle();
	while (show_message(fd, NULL, 0, MSG_ERRQUEUE) >= 0)
		;
	say("poll %d", poll(&poller, 1, 0));
}

static void values(void)
{
	section("values");
	int fd = socket(AF_INET, SOCK_STREAM, 0), both[2] = {-1, -1}, one = -1;
	socklen_t length = sizeof both;
	CALL(getsockopt(fd, SOL_SOCKET, SO_TIMESTAMPING, both, &length));
	say("%d %d, length %u", both[0], both[1], length);
	CALL(set(fd, RECORD | TOLD));
	length = sizeof one;
	CALL(getsockopt(fd, SOL_SOCKET, SO_TIMESTAMPING, &one, &length));
	say("%#x, length %u", one, length);
	CALL(set(fd, 1 << 30));
	CALL(set(fd, RECORD | SOF_TIMESTAMPING_OPT_ID));
	CALL(set(fd, SOF_TIMESTAMPING_OPT_STATS));
	CALL(setsockopt(fd, SOL_SOCKET, SO_TIMESTAMPING, &one, 3));
	CALL(set(fd, SOF_TIMESTAMPING_TX_HARDWARE | SOF_TIMESTAMPING_RAW_HARDWARE));
	CALL(set(fd, 0));
	close(fd);
	tcp_pair(&a, &b);
	note_path(a);
	CALL(set(a, ID_TCP | RECORD));
	CALL(set(a, ID_TCP | SOF_TIMESTAMPING_OPT_ID | RECORD));
	one = -1;
	length = sizeof one;
	CALL(getsockopt(a, SOL_SOCKET, SO_TIMESTAMPING, &one, &length));
	say("%#x", one);
	close(a);
	close(b);
}

static void sends(void)
{
	section("sends");
	tcp_pair(&a, &b);
	note_path(a);
	CALL(show_message(a, NULL, 0, MSG_ERRQUEUE));
	CALL(set(a, RECORD | TOLD | SOF_TIMESTAMPING_OPT_ID));
	CALL(write(a, data, 100));
	show_reports(a);
	CALL(write(a, data, 5000));
	show_reports(a);
	CALL(set(a, SOF_TIMESTAMPING_TX_SOFTWARE | TOLD));
	CALL(write(a, data, 100));
	show_reports(a);
	CALL(set(a, SOF_TIMESTAMPING_TX_SOFTWARE | SOF_TIMESTAMPING_SOFTWARE));
	CALL(write(a, data, 100));
	show_reports(a);
	CALL(set(a, SOF_TIMESTAMPING_TX_ACK | SOF_TIMESTAMPING_OPT_TSONLY));
	CALL(write(a, data, 100));
	show_reports(a);
	CALL(set(a, 0));
	CALL(write(a, data, 100));
	settle();
	CALL(show_message(a, NULL, 0, MSG_ERRQUEUE));
	close(a);
	close(b);
}

static ssize_t send_asking(unsigned asked, size_t length)
{
	char control[CMSG_SPACE(sizeof asked)] = {0};
	struct iovec iov = {data, 10};
	struct msghdr message = {.msg_iov = &iov, .msg_iovlen = 1, .msg_control = control,
				 .msg_controllen = sizeof control};
	struct cmsghdr *c = CMSG_FIRSTHDR(&message);
	c->cmsg_level = SOL_SOCKET;
	c->cmsg_type = SO_TIMESTAMPING;
	c->cmsg_len = CMSG_LEN(length);
	memcpy(CMSG_DATA(c), &asked, length);
	return sendmsg(a, &message, 0);
}

static void by_message(void)
{
	section("by message");
	tcp_pair(&a, &b);
	CALL(set(a, TOLD | SOF_TIMESTAMPING_OPT_ID));
	CALL(write(a, data, 10));
	settle();
	CALL(show_message(a, NULL, 0, MSG_ERRQUEUE));
	CALL(send_asking(SOF_TIMESTAMPING_TX_SOFTWARE, 4));
	show_reports(a);
	CALL(send_asking(SOF_TIMESTAMPING_SOFTWARE, 4));
	CALL(send_asking(SOF_TIMESTAMPING_TX_ACK, 2));
	CALL(set(a, TOLD | RECORD | SOF_TIMESTAMPING_OPT_ID));
	CALL(send_asking(0, 4));
	settle();
	CALL(show_message(a, NULL, 0, MSG_ERRQUEUE));
	close(a);
	close(b);
}

static void received(void)
{
	section("received");
	tcp_pair(&a, &b);
	note_path(b);
	CALL(set(b, SOF_TIMESTAMPING_RX_SOFTWARE | SOF_TIMESTAMPING_SOFTWARE));
	pause_ms(20);
	CALL(write(a, data, 100));
	settle();
	char into[200];
	CALL(show_message(b, into, 50, 0));
	CALL(show_message(b, into, 200, 0));
	CALL(set(b, SOF_TIMESTAMPING_RX_SOFTWARE));
	CALL(write(a, data, 100));
	settle();
	CALL(show_message(b, into, 200, 0));
	close(a);
	close(b);
}

int main(void)
{
	values();
	sends();
	by_message();
	received();
	return 0;
}
