//! Data Center TCP (RFC 8257), the sender's part: the window comes down by how much of the traffic
//! was marked. The receiver's part, which echoes every change of the marks, is in `ecn`.

use super::{AckEvent, CongestionControl, Reno, Window};
use crate::tcp::seq::SeqNumber;

/// DCTCP.Alpha is kept in 1/1024.
const ONE: u32 = 1 << 10;
/// g = 1/16 (RFC 8257 §3.3).
const GAIN_SHIFT: u32 = 4;

/// DCTCP. It grows as Reno does.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Dctcp {
    reno: Reno,
    /// DCTCP.Alpha, the estimated fraction of marked packets.
    alpha: u32,
    /// The observation window ends here.
    window_end: SeqNumber,
    started: bool,
    /// The counts when it began.
    delivered: u32,
    marked: u32,
}

impl Default for Dctcp {
    fn default() -> Self {
        //= RFC 8257 §3.3: alpha begins at 1.
        Dctcp {
            reno: Reno::default(),
            alpha: ONE,
            window_end: SeqNumber(0),
            started: false,
            delivered: 0,
            marked: 0,
        }
    }
}

impl CongestionControl for Dctcp {
    fn observe(&mut self, event: &AckEvent) {
        if self.started && event.una.before(self.window_end) {
            return;
        }
        if self.started {
            //= RFC 8257 §3.3: Alpha = Alpha * (1 - g) + g * M
            let delivered = event.total_delivered.wrapping_sub(self.delivered);
            let marked = event.total_ce.wrapping_sub(self.marked);
            let decay = self.alpha >> GAIN_SHIFT;
            self.alpha -= if decay == 0 { self.alpha } else { decay };
            let fraction = (u64::from(marked) << (10 - GAIN_SHIFT)) / u64::from(delivered.max(1));
            self.alpha = (self.alpha + fraction as u32).min(ONE);
        }
        self.started = true;
        self.window_end = event.nxt;
        self.delivered = event.total_delivered;
        self.marked = event.total_ce;
    }

    fn on_ack(&mut self, event: &AckEvent, window: Window) -> Window {
        self.reno.on_ack(event, window)
    }

    fn on_loss(&mut self, window: Window) -> u32 {
        //= RFC 8257 §3.4: loss is what it is for every TCP.
        self.reno.on_loss(window)
    }

    fn on_mark(&mut self, window: Window) -> u32 {
        //= RFC 8257 §3.3: cwnd = cwnd * (1 - Alpha / 2)
        let less = (u64::from(window.cwnd) * u64::from(self.alpha)) >> 11;
        window.cwnd.saturating_sub(less as u32).max(2)
    }

    fn on_timeout(&mut self) {
        self.reno.on_timeout();
    }
}

#[cfg(test)]
mod tests {
    use super::super::reno::tests::ack;
    use super::*;

    /// `rounds` windows of 100 packets, of which so many marked.
    fn run(dctcp: &mut Dctcp, from: u32, rounds: u32, marked: u32) -> u32 {
        for round in from..from + rounds {
            let event = AckEvent {
                una: SeqNumber(round * 1000),
                nxt: SeqNumber(round * 1000 + 1000),
                total_delivered: round * 100,
                total_ce: round * marked,
                ..ack(100, true)
            };
            dctcp.observe(&event);
        }
        from + rounds
    }

    #[test]
    fn rfc_8257_alpha_follows_the_marked_fraction() {
        let mut dctcp = Dctcp::default();
        let window = Window { cwnd: 100, ssthresh: 50 };
        assert_eq!(dctcp.on_mark(window), 50, "at first a mark halves");
        let next = run(&mut dctcp, 1, 200, 10);
        let threshold = dctcp.on_mark(window);
        assert!((94..=96).contains(&threshold), "a tenth marked: 5 % less, not {threshold}");
        assert_eq!(dctcp.on_loss(window), 50, "a loss halves");
        // The counts go on from there, and nothing is marked any more.
        dctcp.marked = 0;
        run(&mut dctcp, next, 200, 0);
        assert_eq!(dctcp.on_mark(window), 100);
    }
}
