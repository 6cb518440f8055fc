//! One file for each RFC that TCP here follows, named by its number: what it demands of a sender
//! or a receiver, as packet scripts.

mod rfc1191;
mod rfc4821;
