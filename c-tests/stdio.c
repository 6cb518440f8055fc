/* stdio on a socket: fdopen, fgets, fprintf, fread, dprintf reach the right socket. */
#include "common.h"
#include <stdio_ext.h>

static int a, b;
static char text[256];

static void lines(void)
{
	section("fdopen for reading and writing");
	tcp_pair(&a, &b);
	FILE *in = fdopen(b, "r"), *out = fdopen(dup(a), "w");
	MUST(in && out);
	say("fileno %d", fileno(in) == b);
	CALL(fprintf(out, "line %d\nline %s\n", 1, "two"));
	CALL(fflush(out));
	MUST(fgets(text, sizeof text, in) != NULL);
	say("%s", text);
	MUST(fgets(text, sizeof text, in) != NULL);
	say("%s", text);
	CALL(fputs("third\n", out) >= 0);
	CALL(fflush(out));
	char *line = NULL;
	size_t room = 0;
	CALL(getline(&line, &room, in));
	say("%s", line);
	free(line);
	CALL(fputc('x', out) == 'x');
	CALL(fflush(out));
	CALL(fgetc(in) == 'x');
	CALL(ungetc('y', in) == 'y');
	CALL(fgetc(in) == 'y');
	CALL(fprintf(out, "42 words "));
	CALL(fclose(out));
	int number;
	CALL(fscanf(in, "%d %100s", &number, text));
	say("%d %s", number, text);
	CALL(shutdown(a, SHUT_WR));
	CALL(fgetc(in));
	say("end of file %d, error %d", !!feof(in), !!ferror(in));
	CALL(fclose(in));
	CALL(write(b, "x", 1));
	close(a);
}

static void blocks(void)
{
	section("fread and fwrite of a lot");
	static unsigned char data[1 << 20], got[1 << 20];
	fill_pattern(data, 0, sizeof data);
	tcp_pair(&a, &b);
	pid_t child = fork();
	if (child == 0) {
		close(b);
		FILE *out = fdopen(a, "wb");
		size_t count = fwrite(data, 1, sizeof data, out);
		_exit(fclose(out) != 0 || count != sizeof data);
	}
	close(a);
	FILE *in = fdopen(b, "rb");
	size_t count = fread(got, 1, sizeof got, in);
	say("%zu bytes, intact %d", count, is_pattern(got, 0, count));
	CALL(fread(got, 1, 10, in));
	say("end of file %d", !!feof(in));
	fclose(in);
	int status;
	waitpid(child, &status, 0);
	say("writer %d", WEXITSTATUS(status));
}

static void both_ways(void)
{
	section("one stream both ways");
	tcp_pair(&a, &b);
	FILE *stream = fdopen(a, "r+");
	MUST(stream);
	CALL(fprintf(stream, "question\n"));
	CALL(fflush(stream));
	CALL(recv(b, text, 9, MSG_WAITALL));
	CALL(send(b, "answer\n", 7, 0));
	MUST(fgets(text, sizeof text, stream));
	say("%s", text);
	CALL(setvbuf(stream, NULL, _IONBF, 0));
	CALL(fprintf(stream, "unbuffered"));
	CALL(recv(b, text, 10, MSG_WAITALL));
	fclose(stream);
	CALL(recv(b, text, 1, 0));
	close(b);
}

static void descriptors(void)
{
	section("dprintf");
	tcp_pair(&a, &b);
	CALL(dprintf(a, "%s %d %.2f", "formatted", 12, 3.5));
	memset(text, 0, sizeof text);
	CALL(recv(b, text, sizeof text, 0));
	say("%s", text);
	close(a);
	close(b);
	section("errors");
	CALL(fdopen(99, "r") == NULL);
	say("%s", error_name(errno));
	int fd = socket(AF_INET, SOCK_STREAM, 0);
	FILE *in = fdopen(fd, "r");
	CALL(fgetc(in));
	say("%s, error %d", error_name(errno), !!ferror(in));
	fclose(in);
	section("a nonblocking stream");
	tcp_pair(&a, &b);
	set_nonblocking(b, true);
	in = fdopen(b, "r");
	CALL(fgetc(in));
	say("error %d", !!ferror(in));
	clearerr(in);
	MUST(write(a, "z", 1) == 1);
	wait_for(b, POLLIN);
	CALL(fgetc(in) == 'z');
	fclose(in);
	close(a);
	section("a pipe and a file still work");
	int pipes[2];
	MUST(pipe(pipes) == 0);
	CALL(dprintf(pipes[1], "pipe"));
	in = fdopen(pipes[0], "r");
	close(pipes[1]);
	MUST(fgets(text, sizeof text, in));
	say("%s", text);
	fclose(in);
}

int main(void)
{
	watchdog(30);
	signal(SIGPIPE, SIG_IGN);
	lines();
	blocks();
	both_ways();
	descriptors();
	return 0;
}
