/* Bulk transfers: content intact whatever the sizes of the calls and buffers, both ways at once. */
#include "common.h"
#include <sys/mman.h>

static void writer(int fd, size_t total, size_t chunk)
{
	unsigned char *block = malloc(chunk);
	for (size_t done = 0; done < total;) {
		size_t length = total - done < chunk ? total - done : chunk;
		fill_pattern(block, done, length);
		if (!write_full(fd, block, length))
			_exit(1);
		done += length;
	}
	free(block);
}

static bool reader(int fd, size_t total, size_t chunk)
{
	unsigned char *block = malloc(chunk);
	bool intact = true;
	size_t done = 0;
	while (done < total) {
		ssize_t count = read(fd, block, chunk);
		if (count == -1 && errno == EINTR)
			continue;
		if (count <= 0)
			break;
		intact = intact && is_pattern(block, done, count);
		done += count;
	}
	free(block);
	return intact && done == total;
}

static void one_way(const char *what, size_t total, size_t out, size_t in, int send_buffer, int receive_buffer)
{
	int a, b;
	struct sockaddr_in address;
	int fd = bound(SOCK_STREAM, &address);
	if (receive_buffer)
		set_option(fd, SOL_SOCKET, SO_RCVBUF, receive_buffer);
	MUST(listen(fd, 1) == 0);
	a = socket(AF_INET, SOCK_STREAM, 0);
	if (send_buffer)
		set_option(a, SOL_SOCKET, SO_SNDBUF, send_buffer);
	MUST(connect(a, ADDR(address)) == 0);
	b = accept(fd, NULL, NULL);
	note_path(a);
	note_path(b);
	close(fd);
	pid_t child = fork();
	if (child == 0) {
		close(b);
		writer(a, total, out);
		_exit(0);
	}
	close(a);
	bool intact = reader(b, total, in);
	char byte;
	ssize_t end = read(b, &byte, 1);
	int status;
	waitpid(child, &status, 0);
	say("%s: intact %d, then %zd, writer %d", what, intact, end, WEXITSTATUS(status));
	close(b);
}

struct job { int fd; size_t total; bool intact; };

static void *read_job(void *data)
{
	struct job *job = data;
	job->intact = reader(job->fd, job->total, 30011);
	return NULL;
}

static void *write_job(void *data)
{
	struct job *job = data;
	writer(job->fd, job->total, 70001);
	shutdown(job->fd, SHUT_WR);
	return NULL;
}

static void both_ways(void)
{
	section("both ways at once, two threads on each socket");
	int a, b;
	tcp_pair(&a, &b);
	struct job jobs[4] = {{a, 4 << 20, false}, {b, 4 << 20, false}, {a, 4 << 20, false}, {b, 4 << 20, false}};
	pthread_t threads[4];
	for (int i = 0; i < 4; i++)
		MUST(pthread_create(&threads[i], NULL, i < 2 ? write_job : read_job, &jobs[i]) == 0);
	for (int i = 0; i < 4; i++)
		pthread_join(threads[i], NULL);
	say("intact %d %d", jobs[2].intact, jobs[3].intact);
	close(a);
	close(b);
}

static void parallel(void)
{
	section("eight connections at once");
	enum { COUNT = 8 };
	int fds[COUNT];
	pid_t children[COUNT];
	for (int i = 0; i < COUNT; i++) {
		int a;
		tcp_pair(&a, &fds[i]);
		children[i] = fork();
		if (children[i] == 0) {
			writer(a, 1 << 20, 16384);
			_exit(0);
		}
		close(a);
	}
	size_t done[COUNT] = {0};
	bool intact = true;
	int open = COUNT;
	static unsigned char block[65536];
	while (open > 0) {
		struct pollfd entries[COUNT];
		for (int i = 0; i < COUNT; i++)
			entries[i] = (struct pollfd){fds[i], POLLIN, 0};
		MUST(poll(entries, COUNT, 5000) > 0);
		for (int i = 0; i < COUNT; i++) {
			if (!entries[i].revents || fds[i] < 0)
				continue;
			ssize_t count = read(fds[i], block, sizeof block);
			if (count <= 0) {
				close(fds[i]);
				fds[i] = -1;
				open--;
				continue;
			}
			intact = intact && is_pattern(block, done[i], count);
			done[i] += count;
		}
	}
	size_t total = 0;
	for (int i = 0; i < COUNT; i++) {
		total += done[i];
		waitpid(children[i], NULL, 0);
	}
	say("intact %d, %zu bytes", intact, total);
}

static void ping_pong(void)
{
	section("a thousand round trips of every size");
	int a, b;
	tcp_pair(&a, &b);
	set_option(a, IPPROTO_TCP, TCP_NODELAY, 1);
	set_option(b, IPPROTO_TCP, TCP_NODELAY, 1);
	pid_t child = fork();
	if (child == 0) {
		static unsigned char block[5000];
		for (int i = 1; i <= 1000; i++) {
			size_t length = i * 5;
			if (read_full(b, block, length) != length || !write_full(b, block, length))
				_exit(1);
		}
		_exit(0);
	}
	static unsigned char out[5000], in[5000];
	bool intact = true;
	for (int i = 1; i <= 1000; i++) {
		size_t length = i * 5;
		fill_pattern(out, i, length);
		MUST(write_full(a, out, length));
		MUST(read_full(a, in, length) == length);
		intact = intact && memcmp(in, out, length) == 0;
	}
	int status;
	waitpid(child, &status, 0);
	say("intact %d, child %d", intact, WEXITSTATUS(status));
	close(a);
	close(b);
}

int main(void)
{
	watchdog(50);
	section("one way");
	one_way("large calls", 16 << 20, 1 << 20, 1 << 20, 0, 0);
	one_way("odd calls", 4 << 20, 33333, 7777, 0, 0);
	one_way("tiny writes", 100000, 7, 4096, 0, 0);
	one_way("tiny reads", 300000, 65536, 11, 0, 0);
	one_way("small send buffer", 1 << 20, 65536, 65536, 4096, 0);
	one_way("small receive buffer", 1 << 20, 65536, 65536, 0, 4096);
	one_way("both small", 200000, 10000, 3000, 4096, 4096);
	both_ways();
	parallel();
	ping_pong();
	return 0;
}
