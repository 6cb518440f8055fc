//! Linux's socket interface as the stack speaks it: error numbers, the table of socket options,
//! C structs as slices and values.
//!
//! Called by whoever puts a C interface on the stack: `preload` and `packetdrill`. Never makes a
//! system call, and knows no socket.

pub mod errno;
pub mod memory;
pub mod messages;
pub mod option_table;
pub mod tcp_info;
