//! What a driver says of its card while it runs.
//!
//! The one event that nobody can see otherwise is a virtual function's reset: the physical
//! function's driver has reset its card, and what the function was told is gone. (Links are looked
//! at, and a card that is taken out is `removal`'s.) A control thread of the process that started
//! DPDK hears of it.

use crate::error::{Error, LogMark};
use crate::port::Port;
use core::ffi::{c_int, c_void};
use core::sync::atomic::{AtomicPtr, Ordering};
use dpdk_sys as sys;

/// What is called, of the type `extern "C" fn()`.
static ON_RESET: AtomicPtr<c_void> = AtomicPtr::new(core::ptr::null_mut());

/// From now on `on_reset` is called, in this process and on a thread of DPDK's, when the card
/// behind `port` was reset by its host. It must not unwind, and must not wait for whoever is in the
/// driver.
///
/// # Errors
/// DPDK refuses.
pub fn watch_reset(port: &Port, on_reset: extern "C" fn()) -> Result<(), Error> {
    ON_RESET.store(on_reset as *mut c_void, Ordering::Release);
    let mark = LogMark::now();
    let event = sys::rte_eth_event_type::RTE_ETH_EVENT_INTR_RESET;
    // SAFETY: a plain number and a function that lives as long as the process.
    let result = unsafe {
        sys::rte_eth_dev_callback_register(port.id(), event, Some(heard), core::ptr::null_mut())
    };
    if result == 0 {
        return Ok(());
    }
    let setting = format!("device {}", port.config().setting);
    Err(Error::with_log(setting, "its resets cannot be heard of", mark))
}

/// As if the driver of `port` had said that its card was reset. For tests: no card that can be
/// emulated says so.
pub fn pretend_reset(port: u16) {
    // SAFETY: a plain number; the glue looks whether there is such a port.
    unsafe { sys::onwire_dpdk_pretend_reset(port) };
}

unsafe extern "C" fn heard(
    _port: u16,
    _event: sys::rte_eth_event_type::Type,
    _argument: *mut c_void,
    _answer: *mut c_void,
) -> c_int {
    let function = ON_RESET.load(Ordering::Acquire);
    if !function.is_null() {
        // SAFETY: only `watch_reset` stores, and it stores such a function.
        let function: extern "C" fn() = unsafe { core::mem::transmute(function) };
        function();
    }
    0
}
