/* sendfile, splice and copies between files, pipes and sockets. */
#include "common.h"
#include <sys/sendfile.h>

static int a, b;
static unsigned char data[300000], got[300000];

static int temporary(void)
{
	char name[] = "/tmp/ctest-XXXXXX";
	int fd = mkstemp(name);
	MUST(fd >= 0);
	unlink(name);
	MUST(write_full(fd, data, sizeof data));
	return fd;
}

static bool received(size_t offset, size_t length)
{
	memset(got, 0, length);
	return read_full(b, got, length) == length && is_pattern(got, offset, length);
}

static void files(int file)
{
	section("sendfile");
	tcp_pair(&a, &b);
	CALL(lseek(file, 0, SEEK_SET));
	CALL(sendfile(a, file, NULL, 1000));
	say("intact %d, file at %ld", received(0, 1000), (long)lseek(file, 0, SEEK_CUR));
	off_t offset = 5000;
	CALL(sendfile(a, file, &offset, 2000));
	say("intact %d, offset %ld, file at %ld", received(5000, 2000), (long)offset,
	    (long)lseek(file, 0, SEEK_CUR));
	off64_t offset64 = 100;
	CALL(sendfile64(a, file, &offset64, 300));
	say("intact %d, offset %ld", received(100, 300), (long)offset64);
	offset = sizeof data - 10;
	CALL(sendfile(a, file, &offset, 100));
	say("intact %d", received(sizeof data - 10, 10));
	CALL(sendfile(a, file, &offset, 100));
	CALL(sendfile(a, file, &offset, 0));
	offset = -1;
	CALL(sendfile(a, file, &offset, 10));
	CALL(sendfile(a, 99, NULL, 10));
	CALL(sendfile(99, file, NULL, 10));
	CALL(sendfile(a, b, NULL, 10));
	pid_t child = fork();
	if (child == 0) {
		off_t from = 0;
		size_t left = sizeof data;
		while (left > 0) {
			ssize_t count = sendfile(a, file, &from, left);
			if (count <= 0)
				_exit(1);
			left -= count;
		}
		_exit(0);
	}
	pause_ms(50);
	say("whole file intact %d", received(0, sizeof data));
	int status;
	waitpid(child, &status, 0);
	say("sender %d", WEXITSTATUS(status));
	set_nonblocking(a, true);
	offset = 0;
	ssize_t count;
	size_t total = 0;
	while (total < 200u << 20 && (count = sendfile(a, file, &offset, sizeof data)) > 0) {
		total += count;
		offset = 0;
	}
	say("nonblocking: ends with %s", error_name(errno));
	close(a);
	close(b);
	signal(SIGPIPE, SIG_IGN);
	tcp_pair(&a, &b);
	shutdown(a, SHUT_WR);
	CALL(sendfile(a, file, NULL, 10));
	close(a);
	close(b);
}

static void splices(int file)
{
	section("splice");
	tcp_pair(&a, &b);
	int pipes[2];
	MUST(pipe(pipes) == 0);
	CALL(write(a, data, 3000));
	wait_for(b, POLLIN);
	CALL(splice(b, NULL, pipes[1], NULL, 3000, 0));
	MUST(read_full(pipes[0], got, 3000) == 3000);
	say("intact %d", is_pattern(got, 0, 3000));
	set_nonblocking(b, true);
	CALL(splice(b, NULL, pipes[1], NULL, 10, 0));
	set_nonblocking(b, false);
	CALL(write(pipes[1], data, 2000));
	CALL(splice(pipes[0], NULL, a, NULL, 2000, SPLICE_F_MORE));
	CALL(write(pipes[1], data + 2000, 10));
	CALL(splice(pipes[0], NULL, a, NULL, 10, 0));
	say("intact %d", received(0, 2010));
	loff_t offset = 0;
	CALL(splice(b, &offset, pipes[1], NULL, 10, 0));
	CALL(splice(a, NULL, b, NULL, 10, 0));
	CALL(lseek(file, 0, SEEK_SET));
	CALL(splice(file, NULL, pipes[1], NULL, 4000, 0));
	CALL(splice(pipes[0], NULL, a, NULL, 4000, 0));
	say("intact %d", received(0, 4000));
	shutdown(a, SHUT_WR);
	wait_for(b, POLLIN);
	CALL(splice(b, NULL, pipes[1], NULL, 10, 0));
	close(a);
	close(b);
	close(pipes[0]);
	close(pipes[1]);
}

static void urgent(void)
{
	section("splice at urgent data");
	int pipes[2];
	MUST(pipe(pipes) == 0);
	tcp_pair(&a, &b);
	CALL(send(a, "ab", 2, 0));
	CALL(send(a, "X", 1, MSG_OOB));
	CALL(send(a, "cd", 2, 0));
	wait_for(b, POLLPRI);
	settle();
	CALL(splice(b, NULL, pipes[1], NULL, 10, 0));
	CALL(splice(b, NULL, pipes[1], NULL, 10, 0));
	CALL(splice(b, NULL, pipes[1], NULL, 10, SPLICE_F_NONBLOCK));
	set_nonblocking(b, true);
	CALL(splice(b, NULL, pipes[1], NULL, 10, 0));
	set_nonblocking(b, false);
	char octets[4];
	CALL(recv(b, octets, 4, 0));
	close(a);
	close(b);
	close(pipes[0]);
	close(pipes[1]);
}

int main(void)
{
	watchdog(30);
	fill_pattern(data, 0, sizeof data);
	int file = temporary();
	files(file);
	splices(file);
	urgent();
	return 0;
}
