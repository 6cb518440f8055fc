/*
 * Constructors, the captured log, and the descriptors of the driver.
 *
 * DPDK is linked into a library that is loaded into every program. So nothing of it may run before
 * a device is wanted: its constructors were moved out of the init array by the build script and
 * run here on demand. What it prints goes to memory, not to the program's terminal.
 */
#define _GNU_SOURCE
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <rte_ethdev.h>
#include <rte_log.h>

#include "glue.h"
#include "raw.h"

typedef void (*constructor)(int, char **, char **);
extern constructor onwire_dpdk_init_begin[];
extern constructor onwire_dpdk_init_end[];
extern char **environ;

void
onwire_dpdk_run_constructors(void)
{
	static atomic_flag ran = ATOMIC_FLAG_INIT;
	static char name[] = "onwire";
	static char *argv[] = { name, NULL };

	if (atomic_flag_test_and_set(&ran))
		return;
	for (constructor *c = onwire_dpdk_init_begin; c < onwire_dpdk_init_end; c++)
		(*c)(1, argv, environ);
}

/* ---- the log: the last LOG_SIZE octets, addressed by their position since the start ---- */

#define LOG_SIZE (32u * 1024u)

static char log_ring[LOG_SIZE];
static uint64_t log_end;
static int log_verbose;
static atomic_flag log_lock = ATOMIC_FLAG_INIT;

/* Gives up after a while: a fork may have copied the lock while another thread held it. */
static void
lock_log(void)
{
	for (int i = 0; i < 100000 && atomic_flag_test_and_set(&log_lock); i++)
		;
}

void
onwire_dpdk_capture(const char *text, size_t len)
{
	lock_log();
	for (size_t i = 0; i < len; i++)
		log_ring[(log_end + i) % LOG_SIZE] = text[i];
	log_end += len;
	atomic_flag_clear(&log_lock);
	if (log_verbose)
		(void)onwire_dpdk_libc_write(2, text, len);
}

uint64_t
onwire_dpdk_log_position(void)
{
	return log_end;
}

size_t
onwire_dpdk_log_read(uint64_t position, char *into, size_t room)
{
	lock_log();
	uint64_t oldest = log_end > LOG_SIZE ? log_end - LOG_SIZE : 0;
	uint64_t from = position > oldest ? position : oldest;
	size_t len = from < log_end ? (size_t)(log_end - from) : 0;
	if (len > room) {
		from += len - room;
		len = room;
	}
	for (size_t i = 0; i < len; i++)
		into[i] = log_ring[(from + i) % LOG_SIZE];
	atomic_flag_clear(&log_lock);
	return len;
}

static ssize_t
log_write(void *cookie, const char *text, size_t len)
{
	(void)cookie;
	onwire_dpdk_capture(text, len);
	return (ssize_t)len;
}

int
onwire_dpdk_capture_log(int verbose)
{
	cookie_io_functions_t functions = { .write = log_write };
	FILE *stream = fopencookie(NULL, "w", functions);

	if (stream == NULL)
		return -1;
	setvbuf(stream, NULL, _IONBF, 0);
	log_verbose = verbose;
	return rte_openlog_stream(stream);
}

/* ---- descriptors ---- */

#define DESCRIPTORS (1u << 20)

static _Atomic uint64_t owned[DESCRIPTORS / 64];
static int descriptor_base;

void
onwire_dpdk_set_descriptor_base(int base)
{
	descriptor_base = base;
}

void
onwire_dpdk_note_descriptor(int fd)
{
	if (fd >= 0 && (unsigned)fd < DESCRIPTORS)
		atomic_fetch_or(&owned[fd / 64], (uint64_t)1 << (fd % 64));
}

void
onwire_dpdk_forget_descriptor(int fd)
{
	if (fd >= 0 && (unsigned)fd < DESCRIPTORS)
		atomic_fetch_and(&owned[fd / 64], ~((uint64_t)1 << (fd % 64)));
}

int
onwire_dpdk_owns_descriptor(int fd)
{
	if (fd < 0 || (unsigned)fd >= DESCRIPTORS)
		return 0;
	return (int)(atomic_load(&owned[fd / 64]) >> (fd % 64) & 1);
}

int
onwire_dpdk_next_descriptor(int from)
{
	for (unsigned fd = from < 0 ? 0 : (unsigned)from; fd < DESCRIPTORS; fd++) {
		uint64_t word = atomic_load(&owned[fd / 64]);
		if (word == 0) {
			fd |= 63;
			continue;
		}
		if (word >> (fd % 64) & 1)
			return (int)fd;
	}
	return -1;
}

/* Moves a fresh descriptor out of the program's way, marks it close-on-exec and notes it. */
int
onwire_dpdk_raise(int fd)
{
	if (fd < 0)
		return fd;
	if (fd < descriptor_base) {
		int high = onwire_dpdk_raw_fcntl(fd, F_DUPFD_CLOEXEC, descriptor_base);
		if (high >= 0) {
			onwire_dpdk_raw_close(fd);
			fd = high;
		}
	}
	onwire_dpdk_raw_fcntl(fd, F_SETFD, FD_CLOEXEC);
	onwire_dpdk_note_descriptor(fd);
	return fd;
}

/* What drivers call, which no public header declares. */
struct rte_eth_dev *rte_eth_dev_allocated(const char *name);
int rte_eth_dev_callback_process(struct rte_eth_dev *dev, enum rte_eth_event_type event, void *answer);

void
onwire_dpdk_pretend_reset(uint16_t port)
{
	char name[RTE_ETH_NAME_MAX_LEN];
	struct rte_eth_dev *dev;

	if (rte_eth_dev_get_name_by_port(port, name) != 0)
		return;
	dev = rte_eth_dev_allocated(name);
	if (dev != NULL)
		rte_eth_dev_callback_process(dev, RTE_ETH_EVENT_INTR_RESET, NULL);
}

/* Drivers that the installed DPDK lacks are left out, so these may not be there. */
extern int rte_eth_vhost_get_vid_from_port_id(uint16_t port) __attribute__((weak));
extern int rte_vhost_get_negotiated_features(int vid, uint64_t *features) __attribute__((weak));

uint64_t
onwire_dpdk_vhost_features(uint16_t port)
{
	uint64_t features = 0;
	int vid;

	if (rte_eth_vhost_get_vid_from_port_id == NULL || rte_vhost_get_negotiated_features == NULL)
		return 0;
	vid = rte_eth_vhost_get_vid_from_port_id(port);
	if (vid < 0 || rte_vhost_get_negotiated_features(vid, &features) != 0)
		return 0;
	return features;
}
