//! Bindings of DPDK.
