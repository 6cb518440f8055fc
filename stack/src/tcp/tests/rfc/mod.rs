//! One file for each RFC that TCP here follows, named by its number: what it demands of a sender
//! or a receiver, as packet scripts. What a state demands is in `state/`, what an attacker tries in
//! `attack/`.

mod rfc1191;
mod rfc1337;
mod rfc2018;
mod rfc2883;
mod rfc3042;
mod rfc3168;
mod rfc3522;
mod rfc3708;
mod rfc4821;
mod rfc4987;
mod rfc5681;
mod rfc5682;
mod rfc5961;
mod rfc6056;
mod rfc6093;
mod rfc6191;
mod rfc6298;
mod rfc6528;
mod rfc6582;
mod rfc6675;
mod rfc7323;
mod rfc7413;
mod rfc7661;
mod rfc8257;
mod rfc8985;
mod rfc9293;
mod rfc9406;
mod rfc9438;
mod rfc9937;
