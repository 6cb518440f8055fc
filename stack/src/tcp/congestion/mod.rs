//! Congestion control: what happened goes in, a window and a pacing rate come out. A controller
//! knows nothing of the connection it serves.

pub(crate) mod bbr;
mod cubic;
mod dctcp;
pub(crate) mod delivery_rate;
mod hystart;
mod reno;

use super::seq::SeqNumber;
use crate::options::CongestionAlgorithm;
use crate::time::Instant;
pub(crate) use bbr::Bbr;
pub(crate) use cubic::Cubic;
pub(crate) use dctcp::Dctcp;
pub(crate) use delivery_rate::{DeliveryRate, Newest, Sample, Snapshot};
pub(crate) use reno::Reno;

/// The window before the first loss has no bound worth naming.
pub(crate) const NO_THRESHOLD: u32 = i32::MAX as u32;
/// RFC 6928.
pub(crate) const INITIAL_WINDOW: u32 = 10;
const MAX_WINDOW: u32 = 1 << 24;

/// The congestion window, in packets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Window {
    /// Packets that may be in flight.
    pub cwnd: u32,
    /// Slow start ends here.
    pub ssthresh: u32,
}

impl Window {
    pub const INITIAL: Window = Window { cwnd: INITIAL_WINDOW, ssthresh: NO_THRESHOLD };

    pub fn in_slow_start(&self) -> bool {
        self.cwnd < self.ssthresh
    }

    /// RFC 5681 §3.1 with RFC 3465's byte counting, in packets; returns what slow start did not
    /// use up of `acked`.
    pub fn slow_start(&mut self, acked: u32) -> u32 {
        let room = self.ssthresh.saturating_sub(self.cwnd);
        let used = acked.min(room);
        self.cwnd = (self.cwnd + used).min(MAX_WINDOW);
        acked - used
    }
}

/// What is being mended, if anything.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Mending {
    /// No loss is known.
    Nothing,
    /// Fast recovery is under way.
    Loss,
    /// The retransmission timer ran out.
    Timeout,
}

/// An acknowledgment that told something.
#[derive(Debug, Clone, Copy)]
pub(crate) struct AckEvent {
    pub now: Instant,
    /// SND.UNA and SND.NXT.
    pub una: SeqNumber,
    pub nxt: SeqNumber,
    /// Payload per packet.
    pub mss: u32,
    /// Packets that it reported delivered for the first time.
    pub delivered: u32,
    /// Packets that it made us take for lost.
    pub lost: u32,
    /// Packets delivered so far, and how many of them in acknowledgments with ECE.
    pub total_delivered: u32,
    pub total_ce: u32,
    /// Packets in flight before and after it.
    pub prior_in_flight: u32,
    pub in_flight: u32,
    /// The round trip it showed, µs; 0 if none.
    pub rtt_us: u32,
    /// The smoothed round-trip time, µs.
    pub srtt_us: u32,
    /// The delivery rate it showed.
    pub sample: Option<Sample>,
    /// Where loss recovery stands.
    pub mending: Mending,
    /// The window was the limit: only then does its size mean anything (RFC 7661).
    pub limited_by_window: bool,
}

/// Sending goes on with nothing in flight.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Restart {
    pub now: Instant,
    /// How long nothing was sent, µs.
    pub idle_us: u64,
    /// The pause was the program's.
    pub app_limited: bool,
    pub mss: u32,
}

/// A congestion controller whose window loss recovery brings down (all but BBR).
pub(crate) trait CongestionControl {
    /// Sees every acknowledgment, whatever loss recovery does (see [`Controller::watches`]).
    fn observe(&mut self, _event: &AckEvent) {}
    /// The window after `event`: as it was unless it was the limit; not called while recovery sets
    /// the window.
    fn on_ack(&mut self, event: &AckEvent, window: Window) -> Window;
    /// The threshold after a loss was found at `window`.
    fn on_loss(&mut self, window: Window) -> u32;
    /// The threshold after the network marked packets (ECN) at `window`.
    fn on_mark(&mut self, window: Window) -> u32 {
        self.on_loss(window)
    }
    /// The retransmission timer ran out.
    fn on_timeout(&mut self) {}
    /// The loss was none: what was remembered of it is to be forgotten.
    fn on_undo(&mut self) {}
    /// Sending goes on after `idle_us` of silence.
    fn on_restart(&mut self, _idle_us: u64) {}
}

/// The controller of a connection.
#[derive(Debug, Clone)]
pub(crate) enum Controller {
    Reno(Reno),
    Cubic(Cubic),
    Dctcp(Dctcp),
    Bbr(Bbr),
}

/// The controller, where it is one that loss recovery governs.
macro_rules! classic {
    ($self:ident, $c:ident => $what:expr, $bbr:ident => $otherwise:expr) => {
        match $self {
            Controller::Reno($c) => $what,
            Controller::Cubic($c) => $what,
            Controller::Dctcp($c) => $what,
            Controller::Bbr($bbr) => $otherwise,
        }
    };
}

impl Controller {
    /// `ecn`: the peers agreed on ECN.
    pub fn new(algorithm: CongestionAlgorithm, ecn: bool) -> Self {
        match algorithm {
            CongestionAlgorithm::Reno => Controller::Reno(Reno::default()),
            CongestionAlgorithm::Cubic => Controller::Cubic(Cubic::default()),
            // Without marks DCTCP is Reno, as on Linux.
            CongestionAlgorithm::Dctcp if !ecn => Controller::Reno(Reno::default()),
            CongestionAlgorithm::Dctcp => Controller::Dctcp(Dctcp::default()),
            CongestionAlgorithm::Bbr => Controller::Bbr(Bbr::new()),
        }
    }

    /// Whether it sets the window in every phase, recovery included, and paces.
    #[inline]
    pub fn governs(&self) -> bool {
        matches!(self, Controller::Bbr(_))
    }

    /// Whether it wants to see every acknowledgment, and not just those that may let the window grow.
    #[inline]
    pub fn watches(&self) -> bool {
        matches!(self, Controller::Dctcp(_) | Controller::Bbr(_))
    }

    /// Every packet is ECN-capable, and every mark is echoed as it is (RFC 8257).
    pub fn counts_marks(&self) -> bool {
        matches!(self, Controller::Dctcp(_))
    }

    /// The rate at which it wants to send, octets per second, if it has one.
    #[inline]
    pub fn pacing_rate(&self) -> Option<u64> {
        match self {
            Controller::Bbr(bbr) => Some(bbr.pacing_rate()),
            _ => None,
        }
    }

    /// What is delivered now says nothing about the path, for it keeps the path empty.
    pub fn drains_the_path(&self) -> bool {
        matches!(self, Controller::Bbr(bbr) if bbr.probes_round_trip())
    }

    /// A new connection, or a new controller for an old one.
    pub fn begin(&mut self, now: Instant, window: Window, srtt_us: u32, mss: u32) {
        if let Controller::Bbr(bbr) = self {
            bbr.begin(now, window, srtt_us, mss);
        }
    }

    /// Sees every acknowledgment. The window, if the controller governs it.
    #[inline]
    pub fn observe(&mut self, event: &AckEvent, window: Window) -> Option<Window> {
        classic!(self, c => { c.observe(event); None }, bbr => Some(bbr.on_ack(event, window)))
    }

    /// The window after `event`, while nothing is amiss or a timeout is mended.
    #[inline]
    pub fn grow(&mut self, event: &AckEvent, window: Window) -> Window {
        classic!(self, c => c.on_ack(event, window), _bbr => window)
    }

    /// The threshold after a loss was found at `window`.
    pub fn on_loss(&mut self, window: Window) -> u32 {
        classic!(self, c => c.on_loss(window), bbr => bbr.on_loss(window))
    }

    /// The threshold after the network marked packets at `window`.
    pub fn on_mark(&mut self, window: Window) -> u32 {
        classic!(self, c => c.on_mark(window), bbr => bbr.on_loss(window))
    }

    /// The retransmission timer ran out.
    pub fn on_timeout(&mut self) {
        classic!(self, c => c.on_timeout(), bbr => bbr.on_timeout());
    }

    /// The window when a loss turned out to be none; `prior` is that before it.
    pub fn on_undo(&mut self, window: Window, prior: Window) -> Window {
        classic!(self, c => {
            c.on_undo();
            Window {
                cwnd: window.cwnd.max(prior.cwnd),
                ssthresh: window.ssthresh.max(prior.ssthresh),
            }
        }, bbr => {
            bbr.on_undo();
            window
        })
    }

    /// Sending goes on with nothing in flight.
    #[inline]
    pub fn on_restart(&mut self, restart: &Restart, window: Window) -> Window {
        classic!(self, c => {
            c.on_restart(restart.idle_us);
            window
        }, bbr => bbr.on_restart(restart, window))
    }
}
