//! Congestion control: what happened goes in, a window comes out. A controller knows nothing of
//! the connection it serves.

mod cubic;
mod reno;

use crate::options::CongestionAlgorithm;
use crate::time::Instant;
pub(crate) use cubic::Cubic;
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

/// An acknowledgment that let the window grow.
#[derive(Debug, Clone, Copy)]
pub(crate) struct AckEvent {
    pub now: Instant,
    /// Packets that it reported delivered for the first time.
    pub delivered: u32,
    /// The smoothed round-trip time, µs.
    pub srtt_us: u32,
    /// The least round-trip time of late, µs.
    #[allow(dead_code)] // For controllers that go by delay.
    pub min_rtt_us: u32,
    /// The window was the limit: only then does its size mean anything (RFC 7661).
    pub limited_by_window: bool,
}

/// A congestion controller.
pub(crate) trait CongestionControl {
    /// The window after `event`; not called while recovery sets the window.
    fn on_ack(&mut self, event: &AckEvent, window: Window) -> Window;
    /// The threshold after a loss was found at `window`.
    fn on_loss(&mut self, window: Window) -> u32;
    /// The retransmission timer ran out.
    fn on_timeout(&mut self);
    /// Sending goes on after `idle_us` of silence.
    fn on_restart(&mut self, idle_us: u64);
}

/// The controller of a connection.
#[derive(Debug, Clone)]
pub(crate) enum Controller {
    Reno(Reno),
    Cubic(Cubic),
}

impl Controller {
    pub fn new(algorithm: CongestionAlgorithm) -> Self {
        match algorithm {
            CongestionAlgorithm::Reno => Controller::Reno(Reno::default()),
            CongestionAlgorithm::Cubic => Controller::Cubic(Cubic::default()),
        }
    }

    pub fn algorithm(&self) -> CongestionAlgorithm {
        match self {
            Controller::Reno(_) => CongestionAlgorithm::Reno,
            Controller::Cubic(_) => CongestionAlgorithm::Cubic,
        }
    }

    pub fn get(&mut self) -> &mut dyn CongestionControl {
        match self {
            Controller::Reno(reno) => reno,
            Controller::Cubic(cubic) => cubic,
        }
    }
}
