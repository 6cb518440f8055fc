/* Shared between the parts of the glue. */
#ifndef ONWIRE_DPDK_RAW_H
#define ONWIRE_DPDK_RAW_H

#include <errno.h>
#include <fcntl.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/syscall.h>
#include <sys/types.h>

/* A system call that passes through no libc function, so through no interposed one either. */
static inline long
onwire_dpdk_raw(long nr, long a, long b, long c, long d, long e, long f)
{
	register long r10 __asm__("r10") = d;
	register long r8 __asm__("r8") = e;
	register long r9 __asm__("r9") = f;
	long ret;

	__asm__ volatile("syscall" : "=a"(ret)
		: "a"(nr), "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8), "r"(r9)
		: "rcx", "r11", "memory");
	return ret;
}

/* The same with libc's convention for errors. */
static inline long
onwire_dpdk_call(long nr, long a, long b, long c, long d, long e, long f)
{
	long ret = onwire_dpdk_raw(nr, a, b, c, d, e, f);

	if ((unsigned long)ret > -4096UL) {
		errno = (int)-ret;
		return -1;
	}
	return ret;
}

static inline int
onwire_dpdk_raw_fcntl(int fd, int cmd, long arg)
{
	return (int)onwire_dpdk_raw(SYS_fcntl, fd, cmd, arg, 0, 0, 0);
}

static inline void
onwire_dpdk_raw_close(int fd)
{
	onwire_dpdk_raw(SYS_close, fd, 0, 0, 0, 0, 0);
}

int onwire_dpdk_raise(int fd);
void onwire_dpdk_forget_descriptor(int fd);
void onwire_dpdk_capture(const char *text, size_t len);
ssize_t onwire_dpdk_libc_write(int fd, const void *data, size_t len);

#endif
