//! The sending half of a connection: what is queued, what is in flight, how long a round trip is.

pub(crate) mod buffer;
pub(crate) mod inflight;
pub(crate) mod limits;
pub(crate) mod pacing;
mod probe;
pub(crate) mod rtt;
pub(crate) mod scoreboard;
pub(crate) mod sender;

pub(crate) use inflight::Delivery;
pub(crate) use limits::{Limit, Limits};
pub(crate) use rtt::Rtt;
pub(crate) use sender::Sender;
