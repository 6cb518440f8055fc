//! Generates the bindings and the C file with DPDK's inline functions.

use crate::fail;
use crate::probe::Dpdk;
use std::path::{Path, PathBuf};

/// What the safe layer calls.
const FUNCTIONS: &[&str] = &[
    "onwire_.*",
    "rte_eal_init",
    "rte_eal_hotplug_remove",
    "rte_dev_probe",
    "rte_dev_remove",
    "rte_log_set_.*",
    "rte_strerror",
    "rte_version",
    "rte_malloc_get_socket_stats",
    "rte_eth_(dev|rx|tx|stats|xstats|link|macaddr|promiscuous|allmulticast|find|iterator)_.*",
    "rte_eth_(link_get_nowait|stats_get|rx_burst|tx_burst|tx_prepare|promiscuous_enable)",
    "rte_pktmbuf_(pool_init|init|alloc|alloc_bulk|copy|free|free_seg|free_bulk|linearize)",
    "rte_mbuf_refcnt_update",
    "rte_mempool_(create_empty|set_ops_byname|populate_default|obj_iter)",
    "rte_mempool_(avail_count|in_use_count|put_bulk|free)",
];

const VARIABLES: &[&str] = &["ONWIRE_.*", "RTE_ETH_NAME_MAX_LEN", "RTE_PKTMBUF_HEADROOM"];

/// Writes `bindings.rs` to `out`; returns the C file with wrappers of the inline functions.
pub fn generate(dpdk: &Dpdk, out: &Path) -> PathBuf {
    let wrappers = out.join("inline_functions.c");
    let mut builder = bindgen::Builder::default()
        .header("glue/wrapper.h")
        .clang_args(&dpdk.cflags)
        .wrap_static_fns(true)
        .wrap_static_fns_path(&wrappers)
        .wrap_static_fns_suffix("__onwire_inline")
        .use_core()
        .layout_tests(false)
        .generate_comments(false)
        .derive_default(false)
        .default_enum_style(bindgen::EnumVariation::ModuleConsts)
        .opaque_type("rte_mbuf")
        .opaque_type("rte_mempool")
        .opaque_type("rte_eth_dev")
        .opaque_type("rte_device")
        .opaque_type("rte_.*hdr")
        .allowlist_type("onwire_mbuf_.*")
        .allowlist_type("rte_pktmbuf_pool_private");
    for name in FUNCTIONS {
        builder = builder.allowlist_function(name);
    }
    for name in VARIABLES {
        builder = builder.allowlist_var(name);
    }
    let bindings = builder.generate().unwrap_or_else(|error| {
        fail(&format!("bindgen could not read DPDK's headers (is libclang-dev there?): {error}"))
    });
    bindings
        .write_to_file(out.join("bindings.rs"))
        .unwrap_or_else(|error| fail(&format!("cannot write the bindings: {error}")));
    wrappers
}
