//! Answers to segments that might come from someone who only guesses (RFC 5961).

use super::connection::{Connection, Env, Pending};
use crate::packet::Allocator;
use crate::time::Duration;

/// How often one connection answers segments outside its window (Linux: `tcp_invalid_ratelimit`).
const STRAY_INTERVAL: Duration = Duration::from_millis(500);

impl Connection {
    /// Sends a challenge ACK, if the budget allows one.
    pub fn challenge<A: Allocator>(&mut self, env: &mut Env<'_, '_, A>) {
        //= RFC 5961 §7
        if !self.may_answer_stray(env) {
            return;
        }
        let limit = env.config.challenge_acks_per_second;
        let blur = env.cx.rng.next_u32();
        if env.rare.challenge.spend(env.cx.now, limit, blur, env.cx.counters) {
            self.pending |= Pending::ACK;
        }
    }

    /// Answers a segment outside the window (RFC 9293 §3.10.7.4, first step). Answers to segments
    /// without payload are limited, so that two confused ends do not answer each other for ever.
    pub fn answer_stray<A: Allocator>(&mut self, env: &mut Env<'_, '_, A>, payload: bool) {
        if payload || self.may_answer_stray(env) {
            self.pending |= Pending::ACK;
        }
    }

    fn may_answer_stray<A: Allocator>(&mut self, env: &Env<'_, '_, A>) -> bool {
        if self.answered_stray.elapsed(env.cx.now) < STRAY_INTERVAL {
            return false;
        }
        self.answered_stray = env.cx.now.stamp();
        true
    }
}
