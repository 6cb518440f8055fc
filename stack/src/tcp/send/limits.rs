//! What held the sender up, and for how long (the chronographs of Linux's `TCP_INFO`): nothing
//! but the path, the peer's window, or our own buffer.

use crate::time::Instant;

/// What limits sending; a later one takes precedence.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Limit {
    /// There is nothing to send.
    Idle = 0,
    /// Data is queued or in flight.
    Busy = 1,
    /// The peer's window is full.
    ReceiveWindow = 2,
    /// Our buffer is full, and all of it is in flight.
    SendBuffer = 3,
}

/// The stopwatches. Milliseconds, as Linux's.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    spent_ms: [u32; 3],
    since_ms: u32,
    now: Limit,
}

impl Limits {
    pub const fn new() -> Self {
        Limits { spent_ms: [0; 3], since_ms: 0, now: Limit::Idle }
    }

    fn change(&mut self, limit: Limit, now: Instant) {
        let ms = now.as_millis() as u32;
        if let Some(spent) =
            (self.now as usize).checked_sub(1).and_then(|n| self.spent_ms.get_mut(n))
        {
            *spent = spent.wrapping_add(ms.wrapping_sub(self.since_ms));
        }
        self.since_ms = ms;
        self.now = limit;
    }

    /// `limit` begins to hold the sender up, unless something stronger does.
    #[inline]
    pub fn begin(&mut self, limit: Limit, now: Instant) {
        if limit > self.now {
            self.change(limit, now);
        }
    }

    /// `limit` holds the sender up no longer.
    #[inline]
    pub fn end(&mut self, limit: Limit, now: Instant) {
        if limit == self.now {
            self.change(Limit::Busy, now);
        }
    }

    /// Everything is acknowledged.
    #[inline]
    pub fn rest(&mut self, now: Instant) {
        if self.now != Limit::Idle {
            self.change(Limit::Idle, now);
        }
    }

    /// Time busy in any way, limited by the peer's window, limited by our buffer: µs.
    pub fn times_us(mut self, now: Instant) -> (u64, u64, u64) {
        self.change(self.now, now);
        let [busy, window, buffer] = self.spent_ms.map(|ms| u64::from(ms) * 1_000);
        (busy + window + buffer, window, buffer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_strongest_limit_gets_the_time() {
        let at = Instant::from_millis;
        let mut limits = Limits::new();
        limits.begin(Limit::Busy, at(10));
        limits.begin(Limit::ReceiveWindow, at(20));
        limits.begin(Limit::Busy, at(25));
        limits.end(Limit::SendBuffer, at(26));
        limits.end(Limit::ReceiveWindow, at(30));
        limits.begin(Limit::SendBuffer, at(40));
        assert_eq!(limits.times_us(at(45)), (35_000, 10_000, 5_000));
        limits.rest(at(50));
        assert_eq!(limits.times_us(at(90)), (40_000, 10_000, 10_000));
    }
}
