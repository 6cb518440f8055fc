//! A timer in the words of ss(8), for `onwire ss -o`.

use stack::tcp::TimerSummary;
use stack::time::Instant;

/// Which it is, when it runs out and how often it has: `keepalive,118min,0`.
pub(crate) fn timer_text(timer: &TimerSummary, now: Instant) -> String {
    let left = timer.at.saturating_since(now);
    let (seconds, ms) = (left.as_secs(), left.subsec_millis());
    let time = match (seconds, ms) {
        (600.., _) => format!("{}min", seconds / 60),
        (60.., _) if seconds % 60 == 0 => format!("{}min", seconds / 60),
        (60.., _) => format!("{}min{}sec", seconds / 60, seconds % 60),
        (10.., _) | (1.., 0) => format!("{seconds}sec"),
        (1.., _) => format!("{seconds}.{ms:03}ms"),
        _ => format!("{ms:03}ms"),
    };
    format!("{},{time},{}", timer.kind.name(), timer.times)
}

#[cfg(test)]
mod tests {
    use super::*;
    use stack::tcp::TimerKind;
    use stack::time::Duration;

    #[test]
    fn times_read_as_in_ss() {
        let now = Instant::from_millis(5_000);
        for (ms, text) in [
            (204, "on,204ms,2"),
            (5, "on,005ms,2"),
            (1_200, "on,1.200ms,2"),
            (3_000, "on,3sec,2"),
            (59_999, "on,59sec,2"),
            (90_500, "on,1min30sec,2"),
            (120_000, "on,2min,2"),
            (7_180_000, "on,119min,2"),
        ] {
            let at = now + Duration::from_millis(ms);
            let timer = TimerSummary { kind: TimerKind::On, at, times: 2 };
            assert_eq!(timer_text(&timer, now), text);
        }
        let late = TimerSummary { kind: TimerKind::Persist, at: Instant::ZERO, times: 0 };
        assert_eq!(timer_text(&late, now), "persist,000ms,0");
    }
}
