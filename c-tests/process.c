/* fork, exec, spawn, daemon and exit: who holds a socket and what its end does to the peer. */
#include "common.h"
#include <spawn.h>
#include <sys/syscall.h>

extern char **environ;
static char text[64];
static const char *self;

static int status_of(pid_t child)
{
	int status;
	MUST(waitpid(child, &status, 0) == child);
	return WIFEXITED(status) ? WEXITSTATUS(status) : 1000 + WTERMSIG(status);
}

static void accept_in_parent(void)
{
	section("accept in the parent, serve in the child");
	struct sockaddr_in address;
	int fd = listener(0, 16, &address);
	for (int i = 0; i < 5; i++) {
		int client = connect_to(address);
		int served = accept(fd, NULL, NULL);
		note_path(served);
		pid_t child = fork();
		if (child == 0) {
			close(fd);
			close(client);
			note_path(served);
			char got[8] = {0};
			if (read(served, got, 8) != 4)
				_exit(1);
			(void)!write(served, "pong", 4);
			_exit(0);
		}
		close(served);
		MUST(write(client, "ping", 4) == 4);
		memset(text, 0, sizeof text);
		size_t count = read_full(client, text, 8);
		say("%zu %s, child %d", count, text, status_of(child));
		close(client);
	}
	close(fd);
}

static void child_listens(void)
{
	section("the child accepts from the parent's listener");
	struct sockaddr_in address;
	int fd = listener(0, 16, &address);
	pid_t children[3];
	for (int i = 0; i < 3; i++) {
		children[i] = fork();
		if (children[i] == 0) {
			int one = accept(fd, NULL, NULL);
			(void)!write(one, "served", 6);
			_exit(one < 0);
		}
	}
	for (int i = 0; i < 3; i++) {
		int client = connect_to(address);
		memset(text, 0, sizeof text);
		size_t count = read_full(client, text, 8);
		say("%zu %s", count, text);
		close(client);
	}
	for (int i = 0; i < 3; i++)
		say("child %d", status_of(children[i]));
	close(fd);

	section("a listener made by the child, reached by the parent");
	int pipes[2];
	MUST(pipe(pipes) == 0);
	pid_t child = fork();
	if (child == 0) {
		int own = listener(0, 4, &address);
		(void)!write(pipes[1], &address, sizeof address);
		int one = accept(own, NULL, NULL);
		(void)!write(one, "hello", 5);
		_exit(0);
	}
	MUST(read(pipes[0], &address, sizeof address) == sizeof address);
	int client = connect_to(address);
	memset(text, 0, sizeof text);
	say("%zu %s", read_full(client, text, 8), text);
	say("child %d", status_of(child));
	int late = socket(AF_INET, SOCK_STREAM, 0);
	CALL(connect(late, ADDR(address)));
	close(late);
	close(client);
	close(pipes[0]);
	close(pipes[1]);
}

static void shared_descriptors(void)
{
	section("a socket two processes hold");
	int a, b;
	tcp_pair(&a, &b);
	pid_t child = fork();
	if (child == 0) {
		(void)!write(a, "child", 5);
		_exit(0);
	}
	CALL(status_of(child));
	CALL(recv(b, text, 5, MSG_WAITALL));
	CALL(recv(b, text, 5, MSG_DONTWAIT));
	CALL(write(a, "parent", 6));
	CALL(recv(b, text, 6, MSG_WAITALL));
	child = fork();
	if (child == 0) {
		pause_ms(80);
		(void)!write(a, "after", 5);
		_exit(0);
	}
	close(a);
	memset(text, 0, sizeof text);
	say("%zu %s", read_full(b, text, 32), text);
	CALL(status_of(child));
	close(b);

	section("shutdown in the child reaches everyone");
	tcp_pair(&a, &b);
	child = fork();
	if (child == 0) {
		shutdown(a, SHUT_WR);
		_exit(0);
	}
	CALL(status_of(child));
	CALL(read(b, text, 1));
	CALL(send(a, "x", 1, MSG_NOSIGNAL));
	close(a);
	close(b);

	section("flags set in the child are seen by the parent");
	tcp_pair(&a, &b);
	child = fork();
	if (child == 0) {
		set_nonblocking(a, true);
		set_option(a, IPPROTO_TCP, TCP_NODELAY, 1);
		_exit(0);
	}
	CALL(status_of(child));
	say("nonblocking %d", !!(fcntl(a, F_GETFL) & O_NONBLOCK));
	int value;
	socklen_t length = sizeof value;
	getsockopt(a, IPPROTO_TCP, TCP_NODELAY, &value, &length);
	say("TCP_NODELAY %d", value);
	CALL(read(a, text, 1));
	close(a);
	close(b);
}

static void exits(void)
{
	section("ways to end");
	for (int way = 0; way < 4; way++) {
		int a, b;
		tcp_pair(&a, &b);
		pid_t child = fork();
		if (child == 0) {
			close(b);
			(void)!write(a, "last words", 10);
			if (way == 0)
				_exit(0);
			if (way == 1)
				exit(0);
			if (way == 2)
				syscall(SYS_exit_group, 0);
			kill(getpid(), SIGTERM);
			pause();
		}
		close(a);
		memset(text, 0, sizeof text);
		say("way %d: %zu %s", way, read_full(b, text, 32), text);
		CALL(status_of(child));
		close(b);
	}
	section("a killed process ends its connections");
	int a, b;
	tcp_pair(&a, &b);
	pid_t child = fork();
	if (child == 0) {
		close(b);
		pause();
		_exit(0);
	}
	close(a);
	pause_ms(50);
	long long start = now_ms();
	kill(child, SIGKILL);
	int ready = wait_for(b, POLLIN);
	say("the peer hears of it: %d", !!(ready & POLLIN));
	took("which", start, 0, 1000);
	CALL(status_of(child));
	close(b);
	section("a killed process does not end what others hold");
	tcp_pair(&a, &b);
	child = fork();
	if (child == 0) {
		pause();
		_exit(0);
	}
	pause_ms(30);
	kill(child, SIGKILL);
	CALL(status_of(child));
	pause_ms(300);
	CALL(write(a, "alive", 5));
	CALL(recv(b, text, 5, MSG_WAITALL));
	close(a);
	close(b);
}

static void grandchildren(void)
{
	section("a grandchild whose parent is gone");
	int a, b;
	tcp_pair(&a, &b);
	pid_t child = fork();
	if (child == 0) {
		if (fork() == 0) {
			pause_ms(80);
			char got[8] = {0};
			if (read(a, got, 4) == 4)
				(void)!write(a, got, 4);
			_exit(0);
		}
		_exit(0);
	}
	CALL(status_of(child));
	close(a);
	CALL(write(b, "echo", 4));
	memset(text, 0, sizeof text);
	say("%zu %s", read_full(b, text, 8), text);
	close(b);

	section("daemon()");
	struct sockaddr_in address;
	int fd = listener(0, 4, &address);
	child = fork();
	if (child == 0) {
		if (daemon(1, 1) == -1)
			_exit(1);
		int one = accept(fd, NULL, NULL);
		(void)!write(one, "daemon", 6);
		close(one);
		_exit(0);
	}
	CALL(status_of(child));
	close(fd);
	int client = connect_to(address);
	memset(text, 0, sizeof text);
	say("%zu %s", read_full(client, text, 8), text);
	close(client);
}

static void executing(void)
{
	section("exec closes what is marked so");
	int a, b;
	tcp_pair(&a, &b);
	pid_t child = fork();
	if (child == 0) {
		close(b);
		fcntl(a, F_SETFD, FD_CLOEXEC);
		execl("/bin/sleep", "sleep", "0.5", NULL);
		_exit(9);
	}
	close(a);
	long long start = now_ms();
	CALL(read(b, text, 1));
	took("end of file at exec", start, 0, 400);
	CALL(status_of(child));
	close(b);

	section("exec that fails leaves everything as it was");
	tcp_pair(&a, &b);
	fcntl(a, F_SETFD, FD_CLOEXEC);
	CALL(execl("/nonexistent/program", "program", NULL));
	CALL(write(a, "still", 5));
	CALL(recv(b, text, 5, MSG_WAITALL));

	section("spawned programs hold what is not marked");
	fcntl(a, F_SETFD, 0);
	char *arguments[] = {"sleep", "0.2", NULL};
	CALL(posix_spawn(&child, "/bin/sleep", NULL, NULL, arguments, environ));
	close(a);
	CALL(recv(b, text, 1, MSG_DONTWAIT));
	start = now_ms();
	CALL(read(b, text, 1));
	say("the end of file came %s", now_ms() - start < 100 ? "at once" : "at its exit");
	CALL(status_of(child));
	close(b);

	section("system, popen, vfork");
	tcp_pair(&a, &b);
	CALL(system("exit 3") >> 8);
	FILE *stream = popen("echo from popen", "r");
	MUST(fgets(text, sizeof text, stream) != NULL);
	say("%.10s, status %d", text, pclose(stream));
	child = vfork();
	if (child == 0) {
		execl("/bin/true", "true", NULL);
		_exit(9);
	}
	CALL(status_of(child));
	child = vfork();
	if (child == 0)
		_exit(7);
	CALL(status_of(child));
	CALL(write(a, "alive", 5));
	CALL(recv(b, text, 5, MSG_WAITALL));
	CALL(recv(b, text, 5, MSG_DONTWAIT));
	close(a);
	close(b);

	section("an exec'ed copy makes sockets of its own");
	child = fork();
	if (child == 0) {
		execl(self, self, "inner", NULL);
		_exit(9);
	}
	CALL(status_of(child));
}

static void many_forks(void)
{
	section("a hundred connections, a child each");
	struct sockaddr_in address;
	int fd = listener(0, 128, &address), good = 0;
	for (int i = 0; i < 100; i++) {
		int client = connect_to(address);
		int served = accept(fd, NULL, NULL);
		pid_t child = fork();
		if (child == 0) {
			close(client);
			close(fd);
			char got[4];
			_exit(!(read_full(served, got, 4) == 4 && write_full(served, got, 4)));
		}
		close(served);
		MUST(write(client, "ping", 4) == 4);
		good += read_full(client, text, 8) == 4 && status_of(child) == 0;
		close(client);
	}
	say("%d served", good);
	close(fd);
}

static void at_once(void)
{
	section("parent and children drive at the same time");
	enum { CHILDREN = 4, ROUNDS = 200 };
	struct sockaddr_in address;
	int fd = listener(0, 16, &address), clients[CHILDREN];
	pid_t children[CHILDREN];
	for (int i = 0; i < CHILDREN; i++) {
		clients[i] = connect_to(address);
		int served = accept(fd, NULL, NULL);
		children[i] = fork();
		if (children[i] == 0) {
			for (int j = 0; j < i; j++)
				close(clients[j]);
			close(clients[i]);
			char got[16];
			ssize_t count;
			while ((count = read(served, got, sizeof got)) > 0)
				if (!write_full(served, got, count))
					_exit(1);
			_exit(count != 0);
		}
		close(served);
	}
	int echoes = 0;
	for (int round = 0; round < ROUNDS; round++) {
		for (int i = 0; i < CHILDREN; i++)
			MUST(write(clients[i], "0123456789", 10) == 10);
		for (int i = 0; i < CHILDREN; i++)
			echoes += read_full(clients[i], text, 10) == 10;
	}
	say("%d echoes", echoes);
	for (int i = 0; i < CHILDREN; i++) {
		close(clients[i]);
		say("child %d", status_of(children[i]));
	}
	close(fd);
}

int main(int count, char **arguments)
{
	watchdog(50);
	self = "/proc/self/exe";
	if (count > 1) {
		int a, b;
		tcp_pair(&a, &b);
		CALL(write(a, "inner", 5));
		CALL(recv(b, text, 5, MSG_WAITALL));
		say("%s", text);
		return strcmp(arguments[1], "inner") != 0;
	}
	accept_in_parent();
	child_listens();
	shared_descriptors();
	exits();
	grandchildren();
	executing();
	many_forks();
	at_once();
	return 0;
}
