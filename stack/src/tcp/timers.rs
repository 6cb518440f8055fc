//! The timers of a connection. They are deadlines here; one wheel for the layer wakes the
//! connection at the earliest (see `settle`), and [`Connection::on_timers`] does what is due.

use super::connection::{Connection, Env, Pending};
use super::recovery::Phase;
use super::state::State;
use crate::config::TcpConfig;
use crate::error::Error;
use crate::packet::Allocator;
use crate::time::{Duration, Instant, Stamp, micros};

/// What the retransmission timer is for: one at a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Alarm {
    /// Nothing.
    None,
    /// RFC 6298.
    Retransmit,
    /// RFC 8985 §7: probe the tail before the timeout.
    TailProbe,
    /// RFC 8985 §6.2 step 5: a reordered segment's patience ends.
    Reordering,
    /// RFC 9293 §3.8.6.1: the window is closed, or corked data has waited long enough.
    WindowProbe,
}

/// Deadlines; `FAR_FUTURE` when not armed.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Timers {
    pub alarm: Alarm,
    pub alarm_at: Instant,
    /// A delayed acknowledgment.
    pub ack_at: Instant,
    /// Keepalive, or the end of an orphan in FIN-WAIT-2.
    pub keepalive_at: Instant,
    /// Pacing lets the next segment go; whether one waits for that.
    pub paced_until: Instant,
    pub held: bool,
}

impl Timers {
    pub const IDLE: Timers = Timers {
        alarm: Alarm::None,
        alarm_at: Instant::FAR_FUTURE,
        ack_at: Instant::FAR_FUTURE,
        keepalive_at: Instant::FAR_FUTURE,
        paced_until: Instant::ZERO,
        held: false,
    };

    pub fn set_alarm(&mut self, alarm: Alarm, at: Instant) {
        self.alarm = alarm;
        self.alarm_at = at;
    }

    pub fn stop_alarm(&mut self) {
        self.set_alarm(Alarm::None, Instant::FAR_FUTURE);
    }

    /// The earliest.
    pub fn earliest(&self) -> Instant {
        let earliest = self.alarm_at.min(self.ack_at).min(self.keepalive_at);
        if self.held { earliest.min(self.paced_until) } else { earliest }
    }
}

/// How long `retries` doublings of the least timeout take: what `tcp_retries2` means in time.
pub(crate) fn retries_take(retries: u8, config: &TcpConfig) -> Duration {
    let (mut total, mut rto) = (Duration::ZERO, config.rto_min);
    for _ in 0..=retries {
        total += rto;
        rto = (rto * 2).min(config.rto_max);
    }
    total
}

impl Connection {
    /// Does what is due.
    pub fn on_timers<A: Allocator>(&mut self, env: &mut Env<'_, '_, A>) {
        let now = env.cx.now;
        if self.state == State::Closed {
            self.timers = Timers::IDLE;
            return;
        }
        self.send.burst = 0;
        if self.timers.paced_until <= now {
            // Whoever called sends what can be sent.
            self.timers.held = false;
        }
        if self.timers.ack_at <= now {
            self.on_delayed_ack(env);
        }
        if self.timers.alarm_at <= now {
            let alarm = self.timers.alarm;
            self.timers.stop_alarm();
            match alarm {
                Alarm::None => {}
                Alarm::Retransmit => self.on_retransmission_timeout(env),
                Alarm::TailProbe => self.on_tail_probe(env),
                Alarm::Reordering => self.on_reordering_timeout(env),
                Alarm::WindowProbe => self.on_window_probe_timer(env),
            }
        }
        if self.timers.keepalive_at <= now && self.state != State::Closed {
            self.on_keepalive_timer(env);
        }
    }

    fn on_delayed_ack<A: Allocator>(&mut self, env: &mut Env<'_, '_, A>) {
        self.timers.ack_at = Instant::FAR_FUTURE;
        let ack = &mut self.receive.ack;
        if !ack.owed {
            return;
        }
        if ack.interactive {
            // The answer did not come in time: acknowledge at once for a while.
            ack.interactive = false;
            ack.delay_us = env.config.delayed_ack_min.as_micros() as u32;
        } else {
            ack.delay_us = (ack.delay_us * 2).min(self.rtt.base_rto().as_micros() as u32);
        }
        env.cx.counters.delayed_acks += 1;
        self.pending |= Pending::ACK;
    }

    /// Whether timeouts have gone on for too long, and so the peer is given up.
    fn is_given_up<A: Allocator>(&self, env: &Env<'_, '_, A>, since: Stamp) -> bool {
        if since == Stamp::NEVER {
            return false;
        }
        let waited = since.elapsed(env.cx.now);
        if !env.options.user_timeout.is_zero() {
            return waited >= env.options.user_timeout.get();
        }
        let orphan = self.orphaned;
        let retries = if orphan { env.config.orphan_retries } else { env.config.retries };
        waited >= retries_take(retries, env.config)
    }

    fn on_retransmission_timeout<A: Allocator>(&mut self, env: &mut Env<'_, '_, A>) {
        if self.send.packets_out == 0 {
            return;
        }
        if self.awaits_ack {
            // First the SYN-ACK must get through; its own timer sees to that.
            return self.arm_retransmit(env);
        }
        if self.recovery.timeouts > 0 && self.is_given_up(env, self.recovery.stalled_since) {
            return self.give_up(env);
        }
        env.cx.counters.timeouts += 1;
        let since = self.recovery.stalled_since;
        let suspicious = retries_take(env.config.retries_to_suspect, env.config);
        if since != Stamp::NEVER && since.elapsed(env.cx.now) >= suspicious {
            self.suspect_black_hole(env);
        }
        self.enter_loss(env);
        if self.recovery.timeouts == 0 {
            self.count_trouble(env.rare, |troubles| {
                troubles.timeout_episodes = troubles.timeout_episodes.saturating_add(1);
            });
        }
        if self.recovery.stalled_since == Stamp::NEVER {
            self.recovery.stalled_since = env.cx.now.stamp();
        }
        self.recovery.timeouts = self.recovery.timeouts.saturating_add(1);
        self.count_trouble(env.rare, |t| t.timeouts = t.timeouts.saturating_add(1));
        self.pending |= Pending::FORCE_HEAD;
        self.rtt.backoff = self.rtt.backoff.saturating_add(1);
        self.arm_retransmit(env);
    }

    /// Arms the retransmission timer from now.
    pub fn arm_retransmit<A: Allocator>(&mut self, env: &Env<'_, '_, A>) {
        let mut rto_us = self.rtt.rto_with_backoff_us(env.config);
        if !env.options.user_timeout.is_zero()
            && let since = self.recovery.stalled_since
            && since != Stamp::NEVER
        {
            let waited = since.elapsed(env.cx.now);
            let left = env.options.user_timeout.get().saturating_sub(waited);
            rto_us = rto_us.min(micros(left).max(1_000));
        }
        self.timers.set_alarm(Alarm::Retransmit, env.cx.now.plus_micros(rto_us));
    }

    /// Something was acknowledged or sent: sets the timer that the queue now needs.
    pub fn rearm<A: Allocator>(&mut self, env: &Env<'_, '_, A>) {
        if self.send.packets_out == 0 {
            self.timers.stop_alarm();
            if self.send.unsent != super::queue::NONE {
                self.arm_window_probe(env);
            }
            return;
        }
        self.arm_retransmit(env);
        if let Some(delay) = self.tail_probe_delay(env) {
            let at = env.cx.now.plus_micros(delay).min(self.timers.alarm_at);
            self.timers.set_alarm(Alarm::TailProbe, at);
        }
    }

    /// Nothing is in flight but something waits: for the window, or for company.
    pub fn arm_window_probe<A: Allocator>(&mut self, env: &Env<'_, '_, A>) {
        let base = self.rtt.base_rto().max(env.config.rto_min);
        let wait = base.saturating_mul(1 << self.rtt.backoff.min(20)).min(env.config.rto_max);
        self.timers.set_alarm(Alarm::WindowProbe, env.cx.now + wait);
    }

    fn on_window_probe_timer<A: Allocator>(&mut self, env: &mut Env<'_, '_, A>) {
        if self.send.packets_out > 0 || self.send.unsent == super::queue::NONE {
            self.probes = 0;
            return;
        }
        if self.probes == 0 {
            self.probing_since = env.cx.now.stamp();
        }
        let limit = if self.orphaned { env.config.orphan_retries } else { env.config.retries };
        let user = env.options.user_timeout.get();
        let late =
            !user.is_zero() && self.probes > 0 && self.probing_since.elapsed(env.cx.now) >= user;
        if self.probes >= limit || late {
            return self.give_up(env);
        }
        self.probes += 1;
        self.pending |= Pending::WINDOW_PROBE;
        if self.rtt.backoff < env.config.retries {
            self.rtt.backoff += 1;
        }
        self.arm_window_probe(env);
    }

    /// Sets the keepalive timer as the options want it.
    pub fn arm_keepalive<A: Allocator>(&mut self, env: &Env<'_, '_, A>) {
        if self.state == State::FinWait2 && self.orphaned {
            return; // Holds the orphan's deadline.
        }
        self.timers.keepalive_at = if env.options.keepalive && self.state.is_synchronized() {
            self.heard.max(self.receive.ack.last_data) + env.options.keepalive_idle.get()
        } else {
            Instant::FAR_FUTURE
        };
    }

    fn on_keepalive_timer<A: Allocator>(&mut self, env: &mut Env<'_, '_, A>) {
        self.timers.keepalive_at = Instant::FAR_FUTURE;
        if self.state == State::FinWait2 && self.orphaned {
            env.cx.counters.orphans_timed_out += 1;
            return self.finish(None);
        }
        if !env.options.keepalive {
            return;
        }
        let idle = env.cx.now - self.heard.max(self.receive.ack.last_data);
        if self.send.packets_out > 0 || self.send.unsent != super::queue::NONE {
            self.timers.keepalive_at = env.cx.now + env.options.keepalive_idle.get();
            return;
        }
        if idle < env.options.keepalive_idle.get() {
            return self.arm_keepalive(env);
        }
        let user = env.options.user_timeout.get();
        let spent = if user.is_zero() {
            self.probes >= env.options.keepalive_count
        } else {
            idle >= user && self.probes > 0
        };
        if spent {
            self.send_reset(env);
            return self.give_up(env);
        }
        self.probes += 1;
        self.pending |= Pending::KEEPALIVE;
        self.timers.keepalive_at = env.cx.now + env.options.keepalive_interval.get();
    }

    /// The peer is not there any more.
    pub fn give_up<A: Allocator>(&mut self, env: &mut Env<'_, '_, A>) {
        env.cx.counters.timed_out += 1;
        self.finish(Some(self.soft_error.unwrap_or(Error::TimedOut)));
    }

    /// RFC 8985 §7.2: in how many µs to probe the tail, if a probe makes sense now.
    #[inline]
    fn tail_probe_delay<A: Allocator>(&self, env: &Env<'_, '_, A>) -> Option<u64> {
        let eligible = self.negotiated.sack
            && matches!(self.recovery.phase, Phase::Open | Phase::WindowReduction)
            && self.recovery.probe.is_none()
            && self.send.sacked_out == 0
            && self.rtt.has_sample();
        eligible.then(|| {
            // The acknowledgment of a single segment may be delayed.
            let single = self.send.packets_out == 1;
            let extra = if single { micros(env.config.rto_min) } else { 2_000 };
            2 * u64::from(self.rtt.srtt_us()) + extra
        })
    }
}
