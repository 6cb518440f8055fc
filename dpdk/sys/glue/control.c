/*
 * What the driver's control threads do behind the data path's back, and when they do it.
 *
 * A link in memory (memif, vhost) is mapped and unmapped by a control thread of the process that
 * started DPDK, whenever its peer comes or goes. memif does so while others may be polling it: so
 * whatever the interrupt thread does between two waits happens between `enter` and `leave`, which
 * take the lock of whoever polls. And other processes never see a new mapping: `mapped` says that
 * there is one.
 */
#define _GNU_SOURCE
#include <stdatomic.h>
#include <sys/mman.h>
#include <sys/types.h>

#include "glue.h"
#include "raw.h"

#define CALL(nr, a, b, c, d, e, f) \
	onwire_dpdk_call(SYS_##nr, (long)(a), (long)(b), (long)(c), (long)(d), (long)(e), (long)(f))

typedef void (*callback)(void);

static _Atomic(callback) on_enter, on_leave, on_mapped;
static __thread callback to_leave;

void
onwire_dpdk_watch_control(callback enter, callback leave, callback mapped)
{
	atomic_store(&on_leave, leave);
	atomic_store(&on_mapped, mapped);
	atomic_store(&on_enter, enter);
}

/* Only the interrupt thread waits in epoll. */
int
onwire_dpdk_libc_epoll_wait(int epfd, void *events, int max, int timeout)
{
	if (to_leave != NULL) {
		callback leave = to_leave;

		to_leave = NULL;
		leave();
	}
	int ready = (int)CALL(epoll_wait, epfd, events, max, timeout, 0, 0);
	callback enter = atomic_load(&on_enter);

	if (ready > 0 && enter != NULL) {
		enter();
		to_leave = atomic_load(&on_leave);
	}
	return ready;
}

static void
note_mapping(void)
{
	callback mapped = atomic_load(&on_mapped);

	if (mapped != NULL)
		mapped();
}

void *
onwire_dpdk_libc_mmap(void *addr, size_t length, int prot, int flags, int fd, off_t offset)
{
	note_mapping();
	return mmap(addr, length, prot, flags, fd, offset);
}

void *
onwire_dpdk_libc_mmap64(void *addr, size_t length, int prot, int flags, int fd, off_t offset)
{
	note_mapping();
	return mmap(addr, length, prot, flags, fd, offset);
}

int
onwire_dpdk_libc_munmap(void *addr, size_t length)
{
	note_mapping();
	return munmap(addr, length);
}
