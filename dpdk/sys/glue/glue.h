/* What the Rust layer calls besides DPDK itself, and the functions that stand in for libc's. */
#ifndef ONWIRE_DPDK_GLUE_H
#define ONWIRE_DPDK_GLUE_H

#include <stddef.h>
#include <stdint.h>

/* Runs DPDK's constructors, which were taken out of the object's init array. Once. */
void onwire_dpdk_run_constructors(void);
/* Lets the lazily bound libraries (libpcap, libibverbs, ...) be loaded from now on. */
void onwire_dpdk_arm_lazy(void);
/* 1 if the lazily bound library of that name can be loaded. */
int onwire_dpdk_have_library(const char *soname);

/* Descriptors of the driver land at `base` or above; 0 leaves them where the kernel puts them. */
void onwire_dpdk_set_descriptor_base(int base);
/* Whether the driver opened this descriptor and has not closed it. */
int onwire_dpdk_owns_descriptor(int fd);
/* Notes a descriptor that the driver opened by a way that the glue does not see. */
void onwire_dpdk_note_descriptor(int fd);
/* The lowest descriptor of the driver that is >= from, or -1. */
int onwire_dpdk_next_descriptor(int from);

/* Takes DPDK's log into memory; what is written is also copied to stderr when verbose. */
int onwire_dpdk_capture_log(int verbose);
/* Octets written to the log so far. */
uint64_t onwire_dpdk_log_position(void);
/* Copies what was logged since `position` (as far as it is still held); returns its length. */
size_t onwire_dpdk_log_read(uint64_t position, char *into, size_t room);

/* From now on the interrupt thread calls `enter` and `leave` around what it does, and any thread
 * that maps or unmaps memory for the driver calls `mapped` first. */
void onwire_dpdk_watch_control(void (*enter)(void), void (*leave)(void), void (*mapped)(void));
/* The virtio features that the peer of a vhost port has agreed to; 0 while there is none. */
uint64_t onwire_dpdk_vhost_features(uint16_t port);

/* Says to whoever listens that the port's card was reset, as its driver would. */
void onwire_dpdk_pretend_reset(uint16_t port);

/* While on, the clock calibration sleeps for milliseconds instead of 100 ms. */
void onwire_dpdk_fast_calibration(int on);

#endif
