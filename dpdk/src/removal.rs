//! A card that is about to be taken out of the machine.
//!
//! vfio asks whoever holds the card to let go, on an event descriptor, and the removal waits until
//! every process of the family has: the descriptors closed, the registers unmapped. DPDK
//! listens in the process that started it only, which may have ended; so the descriptor is ours.
//! Whoever lets go must never touch the port again.

use std::fs;
use std::os::fd::RawFd;

/// What a card's descriptor is called in `/proc/self/fd` and `/proc/self/maps`.
const NAME: &str = "anon_inode:[vfio-device]";

/// VFIO_DEVICE_SET_IRQS, and its words for "signal this eventfd" (linux/vfio.h).
const SET_IRQS: libc::c_ulong = 0x3b6e;
const DATA_EVENTFD: u32 = 1 << 2;
const ACTION_TRIGGER: u32 = 1 << 5;
/// VFIO_PCI_REQ_IRQ_INDEX.
const REQUEST: u32 = 4;

/// `struct vfio_irq_set` with one descriptor.
#[repr(C)]
struct IrqSet {
    size: u32,
    flags: u32,
    index: u32,
    start: u32,
    count: u32,
    descriptor: i32,
}

/// An event descriptor that becomes readable when the card is asked for. `None`: no card, or a
/// kernel that does not ask.
#[must_use]
pub fn watch_removal() -> Option<RawFd> {
    let card = *card_descriptors().first()?;
    // SAFETY: a number and flags.
    let event = unsafe { libc::eventfd(0, libc::EFD_CLOEXEC | libc::EFD_NONBLOCK) };
    if event < 0 {
        return None;
    }
    let set = IrqSet {
        size: size_of::<IrqSet>() as u32,
        flags: DATA_EVENTFD | ACTION_TRIGGER,
        index: REQUEST,
        start: 0,
        count: 1,
        descriptor: event,
    };
    // SAFETY: the struct is complete and as long as it says; the kernel copies it.
    if unsafe { libc::ioctl(card, SET_IRQS, &set) } != 0 {
        // SAFETY: made above and given to nobody.
        unsafe { libc::close(event) };
        return None;
    }
    Some(event)
}

/// This process lets go of the card: its registers are unmapped, its descriptors become /dev/null.
///
/// # Safety
/// No thread of this process is in the driver, and none enters it again: the mappings are gone.
pub unsafe fn let_go_of_card() {
    let maps = fs::read_to_string("/proc/self/maps").unwrap_or_default();
    for (start, len) in mappings(&maps) {
        // SAFETY: the driver's own mapping, which nobody uses any more, as the caller promises.
        unsafe { libc::munmap(core::ptr::with_exposed_provenance_mut(start), len) };
    }
    // SAFETY: opens a file that is always there.
    let null = unsafe { libc::open(c"/dev/null".as_ptr(), libc::O_RDWR | libc::O_CLOEXEC) };
    for card in card_descriptors() {
        // The number stays taken: DPDK still believes in it.
        // SAFETY: the driver's own descriptor, which nobody uses any more.
        unsafe { libc::dup3(null, card, libc::O_CLOEXEC) };
    }
    // SAFETY: opened above.
    unsafe { libc::close(null) };
}

fn card_descriptors() -> Vec<RawFd> {
    let Ok(entries) = fs::read_dir("/proc/self/fd") else { return Vec::new() };
    let number = |name: std::ffi::OsString| name.to_str()?.parse().ok();
    entries
        .flatten()
        .filter(|entry| fs::read_link(entry.path()).is_ok_and(|to| to.as_os_str() == NAME))
        .filter_map(|entry| number(entry.file_name()))
        .collect()
}

/// Start and length of what is mapped of cards: proc_pid_maps(5).
fn mappings(maps: &str) -> Vec<(usize, usize)> {
    let range = |line: &str| {
        let (start, end) = line.split_once(' ')?.0.split_once('-')?;
        let start = usize::from_str_radix(start, 16).ok()?;
        Some((start, usize::from_str_radix(end, 16).ok()?.checked_sub(start)?))
    };
    maps.lines().filter(|line| line.ends_with(NAME)).filter_map(range).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_cards_are_unmapped() {
        let maps = "\
1100800000-1100820000 rw-s 00000000 00:0e 1054    anon_inode:[vfio-device]
7f0000000000-7f0000001000 r--p 00000000 08:01 5   /usr/lib/libc.so.6
7f0000002000-7f0000003000 rw-p 00000000 00:00 0
";
        assert_eq!(mappings(maps), [(0x11_0080_0000, 0x2_0000)]);
        assert!(mappings("").is_empty());
    }

    #[test]
    fn without_a_card_there_is_nothing_to_watch() {
        assert_eq!(watch_removal(), None);
    }
}
