//! The descriptor on which the port announces frames, as far as it can be trusted.
//!
//! Leaders and the keeper ask before each sleep: a vhost port's descriptor appears and changes
//! with its peer, and one that is of no use (closed, or readable without frames) must not keep a
//! core busy. While it is not trusted the port is looked at by the clock. The interrupt of a card
//! must first prove itself: some drivers promise one that never comes.

use crate::clock;
use crate::link::Link;
use crate::shared::Held;
use crate::sys;
use core::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use dpdk::{DeviceKind, Port, PortStats, RxInterrupt};
use stack::steering;
use stack::time::{Duration, Instant};

/// The descriptor, as this process sees it.
#[derive(Debug)]
pub(crate) struct RxWatch {
    port: &'static Port,
    link: &'static Link,
    /// The kernel's descriptors, which never change.
    fixed: Option<Interrupts>,
    /// It is made of cards.
    cable: bool,
    trust: Trust,
}

impl RxWatch {
    pub(crate) fn new(port: &'static Port, link: &'static Link) -> Self {
        let kind = port.config().kind;
        let kernels = matches!(kind, DeviceKind::Tap | DeviceKind::AfPacket | DeviceKind::AfXdp);
        RxWatch {
            port,
            link,
            fixed: if kernels { Interrupts::of(port) } else { None },
            cable: port.config().has_cable(),
            trust: Trust::new(!matches!(kind, DeviceKind::Pci | DeviceKind::Other)),
        }
    }

    /// The same, for a process with trust of its own.
    pub(crate) fn again(&self) -> Self {
        let other = RxWatch::new(self.port, self.link);
        other.trust.proven.store(!self.is_doubtful(), Ordering::Relaxed);
        other
    }

    /// The device's kind.
    pub(crate) fn kind(&self) -> DeviceKind {
        self.port.config().kind
    }

    /// The port, while this process may use it.
    pub(crate) fn port(&self) -> Option<&'static Port> {
        (!self.link.is_lost()).then_some(self.port)
    }

    /// What to sleep on, if there is something at the moment.
    pub(crate) fn get(&self) -> Option<Interrupts> {
        if self.link.is_lost() || !self.trust.allows(clock::now) {
            return None; // A driver whose link is lost would look for its peer where there is none.
        }
        self.fixed.or_else(|| Interrupts::of(self.port))
    }

    /// Whether a sleep on it must end by the clock all the same.
    pub(crate) fn is_doubtful(&self) -> bool {
        !self.trust.proven.load(Ordering::Relaxed)
    }

    /// Whether the interrupt has to be armed before a sleep.
    pub(crate) fn needs_arming(&self) -> bool {
        self.fixed.is_none()
    }

    /// Asks the port for an interrupt on behalf of `who`; false if it gives none. A frame may have
    /// come before: look once more.
    pub(crate) fn arm(&self, rx: Interrupts, who: u32, held: &Held<'_>) -> bool {
        held.shared.arming.take(who);
        !self.link.is_lost() && rx.arm()
    }

    /// `who` has slept. Another may have armed the interrupt since and sleep on it: then it is
    /// theirs, with whatever it has announced.
    pub(crate) fn disarm(&self, rx: Interrupts, who: u32, held: &Held<'_>) {
        if held.shared.arming.give_back(who) && !self.link.is_lost() {
            rx.disarm();
        }
    }

    /// What poll(2) said of the descriptor, and how many frames there were then.
    pub(crate) fn learn(&self, found: libc::c_short, frames: usize) {
        let wakings = &self.link.wakings;
        wakings.sleeps.fetch_add(1, Ordering::Relaxed);
        if frames > 0 {
            let announced = found & libc::POLLIN != 0;
            let which = if announced { &wakings.announced } else { &wakings.unannounced };
            which.fetch_add(1, Ordering::Relaxed);
        }
        if self.trust.learn(found, frames, clock::now) == Verdict::GivenUp
            && self.port.rx_interrupt(0).is_some()
            && wakings.given_up.fetch_add(1, Ordering::Relaxed) == 0
        {
            let name = &self.port.config().setting;
            sys::complain(&format!(
                "onwire: {name}: its receive interrupt never came; the port is looked at by the \
                 clock, every millisecond"
            ));
        }
    }

    /// How a process that waits hears of frames, in one word.
    pub(crate) fn way(&self) -> &'static str {
        if self.fixed.is_some() {
            return "descriptor";
        }
        let gone = self.link.is_lost() || self.link.wakings.given_up.load(Ordering::Relaxed) > 0;
        if gone || self.port.rx_interrupt(0).is_none() { "clock" } else { "interrupt" }
    }

    /// Whether the device is a card, with registers of its own.
    pub(crate) fn is_card(&self) -> bool {
        self.kind() == DeviceKind::Pci
    }

    /// Whether it is a card, or a bond of cards.
    pub(crate) fn has_cable(&self) -> bool {
        self.cable
    }

    /// What the card counted, while it is there.
    pub(crate) fn card_stats(&self) -> Option<PortStats> {
        (self.has_cable() && !self.link.is_lost()).then(|| self.port.stats())
    }

    /// Looks whether the cable is in; whether that has changed. One process of the family only.
    pub(crate) fn look_at_cable(&self) -> bool {
        self.has_cable() && !self.link.is_lost() && self.link.carrier.found(self.port.link_up())
    }

    /// The card stops working on memory that will not be ours any more.
    pub(crate) fn stop_card(&self) {
        if self.has_cable() && !self.link.is_lost() {
            self.port.stop();
        }
    }
}

/// Who armed the port's interrupt last; changed under the lock. Leadership changes hands between a
/// sleeper's waking and its disarming: it must not take the interrupt from its successor.
#[derive(Debug, Default)]
pub(crate) struct Arming(AtomicU32);

impl Arming {
    /// The keeper; waiters are known by their index.
    pub(crate) const KEEPER: u32 = u32::MAX - 1;

    fn take(&self, who: u32) {
        self.0.store(who + 1, Ordering::Relaxed);
    }

    /// Whether it is still `who`'s, and it is nobody's then.
    fn give_back(&self, who: u32) -> bool {
        let own = self.0.load(Ordering::Relaxed) == who + 1;
        if own {
            self.0.store(0, Ordering::Relaxed);
        }
        own
    }
}

/// The interrupts of all receive queues.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Interrupts([Option<RxInterrupt>; steering::MOST as usize]);

impl Interrupts {
    /// Those of the port; `None` unless every queue has one.
    fn of(port: &Port) -> Option<Self> {
        let mut all = [None; steering::MOST as usize];
        for (queue, place) in (0..port.config().queues.max(1)).zip(&mut all) {
            *place = Some(port.rx_interrupt(queue)?);
        }
        Some(Interrupts(all))
    }

    fn all(&self) -> impl Iterator<Item = &RxInterrupt> {
        self.0.iter().flatten()
    }

    /// Their descriptors.
    pub(crate) fn fds(&self) -> impl Iterator<Item = libc::c_int> {
        self.all().map(RxInterrupt::fd)
    }

    /// Asks for interrupts; false: not every queue gives one.
    #[must_use]
    pub(crate) fn arm(&self) -> bool {
        // Each of them, whatever the others say.
        self.all().filter(|one| !one.arm()).count() == 0
    }

    /// No more interrupts.
    pub(crate) fn disarm(&self) {
        self.all().for_each(RxInterrupt::disarm);
    }
}

/// Wake-ups without a frame, one after another, that cost the descriptor its trust.
const FUTILE: u32 = 64;
/// For how long it is not used then.
const DISTRUST: Duration = Duration::from_millis(100);
/// Looks by the clock that found frames which a doubtful interrupt had not announced, until it is
/// given up for good.
const SILENT: u32 = 16;

/// What experience says of the descriptor.
#[derive(Debug)]
struct Trust {
    /// It has announced frames once, or is of a kind that always does.
    proven: AtomicBool,
    silent: AtomicU32,
    futile: AtomicU32,
    distrusted_until: AtomicU64,
}

impl Trust {
    fn new(proven: bool) -> Self {
        Trust {
            proven: AtomicBool::new(proven),
            silent: AtomicU32::new(0),
            futile: AtomicU32::new(0),
            distrusted_until: AtomicU64::new(0),
        }
    }

    fn allows(&self, now: impl FnOnce() -> Instant) -> bool {
        if self.silent.load(Ordering::Relaxed) >= SILENT {
            return false;
        }
        let until = self.distrusted_until.load(Ordering::Relaxed);
        if until != 0 {
            if now().as_nanos() < until {
                return false;
            }
            self.distrusted_until.store(0, Ordering::Relaxed);
        }
        true
    }

    fn learn(&self, found: libc::c_short, frames: usize, now: impl FnOnce() -> Instant) -> Verdict {
        let mut verdict = Verdict::None;
        if frames > 0 && !self.proven.load(Ordering::Relaxed) {
            if found & libc::POLLIN != 0 {
                self.proven.store(true, Ordering::Relaxed);
                self.silent.store(0, Ordering::Relaxed);
            } else {
                // Where there is no descriptor at all nothing was promised.
                let silent = self.silent.fetch_add(1, Ordering::Relaxed) + 1;
                if silent == SILENT {
                    verdict = Verdict::GivenUp;
                }
            }
        }
        if frames > 0 || found == 0 {
            self.futile.store(0, Ordering::Relaxed);
            return verdict;
        }
        let broken = found & (libc::POLLNVAL | libc::POLLERR | libc::POLLHUP) != 0;
        if broken || self.futile.fetch_add(1, Ordering::Relaxed) >= FUTILE {
            self.futile.store(0, Ordering::Relaxed);
            let until = now() + DISTRUST;
            self.distrusted_until.store(until.as_nanos(), Ordering::Relaxed);
        }
        verdict
    }
}

/// What experience has changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verdict {
    None,
    /// The interrupt does not come.
    GivenUp,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(millis: u64) -> impl Fn() -> Instant {
        move || Instant::from_nanos(millis * 1_000_000)
    }

    #[test]
    fn who_wakes_late_leaves_the_interrupt_to_its_successor() {
        let arming = Arming::default();
        arming.take(Arming::KEEPER);
        arming.take(3);
        assert!(!arming.give_back(Arming::KEEPER));
        assert!(arming.give_back(3));
        assert!(!arming.give_back(3));
    }

    #[test]
    fn an_interrupt_that_announces_frames_is_proven() {
        let trust = Trust::new(false);
        trust.learn(0, 1, at(1));
        trust.learn(libc::POLLIN, 1, at(1));
        assert!(trust.proven.load(Ordering::Relaxed));
        for _ in 0..100 {
            trust.learn(0, 1, at(1));
        }
        assert!(trust.allows(at(1)));
    }

    #[test]
    fn an_interrupt_that_never_comes_is_given_up() {
        let trust = Trust::new(false);
        for turn in 1..=SILENT {
            assert!(trust.allows(at(1)));
            let verdict = trust.learn(0, 1, at(1));
            assert_eq!(verdict == Verdict::GivenUp, turn == SILENT);
        }
        assert!(!trust.allows(at(1)) && !trust.allows(at(100_000)));
    }

    #[test]
    fn wake_ups_without_frames_cost_trust_for_a_while() {
        let trust = Trust::new(true);
        for _ in 0..=FUTILE {
            assert!(trust.allows(at(1)));
            trust.learn(libc::POLLIN, 0, at(1));
        }
        assert!(!trust.allows(at(50)));
        assert!(trust.allows(at(102)));
        trust.learn(libc::POLLHUP, 0, at(200));
        assert!(!trust.allows(at(201)));
    }
}
