// SPDX-License-Identifier: Apache-2.0 OR MIT
//
// onwire's C interface, for programs that want to know whether they are accelerated. Nothing needs
// to be linked: declare the functions weak, or look them up with dlsym(RTLD_DEFAULT, ...), and they
// are there when the program runs under onwire.


#ifndef ONWIRE_H
#define ONWIRE_H

// Made by cbindgen from preload/src/api.rs; do not edit.

#include <stddef.h>
#include <stdint.h>

// The socket is neither bound, connected nor listening: either network could still take it.
#define ONWIRE_PATH_UNDECIDED 0

// The socket's traffic is carried by onwire.
#define ONWIRE_PATH_STACK 1

// The socket's traffic is carried by the kernel.
#define ONWIRE_PATH_KERNEL 2

// The socket lives in both networks: a listener or datagram socket on a wildcard address.
#define ONWIRE_PATH_BOTH 3

// One counter of the stack.
typedef struct {
  // Layer and name, such as "tcp.segments_in"; ends in a NUL.
  char name[56];
  // Its value, which wraps after 2^64.
  uint64_t value;
} onwire_stat_t;

// What onwire knows of a socket. Texts end in a NUL and are empty where there is nothing to say.
typedef struct {
  // One of the `ONWIRE_PATH_` values.
  int path;
  // `SOCK_STREAM` or `SOCK_DGRAM`.
  int kind;
  // Why it took its path.
  char reason[48];
  // TCP's state as ss(8) names it.
  char state[16];
  // The local address and port.
  char local[64];
  // The peer's address and port.
  char remote[64];
} onwire_socket_info_t;

#ifdef __cplusplus
extern "C" {
#endif // __cplusplus

// The version of the library: a static string such as "0.1.0".
const char *onwire_version(void);

// Whether onwire carries the traffic of a descriptor: 1 if it does (alone or beside the kernel),
// 0 if not.
int onwire_is_stack_fd(int fd);

// Copies up to `count` counters of the stack into `into` and returns how many there are, which may
// be more; 0 if the stack has not been started. `into` may be null if `count` is 0.
//
// # Safety
// `into` has room for `count` counters.
size_t onwire_stats(onwire_stat_t *into, size_t count);

// Says what onwire knows of a descriptor. Returns 0, or -1 if it is no socket that onwire has
// seen.
//
// # Safety
// `into` is null or has room for the struct.
int onwire_socket_info(int fd, onwire_socket_info_t *into);

#ifdef __cplusplus
}  // extern "C"
#endif  // __cplusplus

#endif  /* ONWIRE_H */
