//! TCP Fast Open (RFC 7413): data in the SYN, for peers that proved before that they receive what
//! is sent to their address.
//!
//! Here are the cookies: how a server makes and checks them, and the table in which a client keeps
//! those that servers gave it. What becomes of the data is in `early`.

use crate::config::FastOpenKey;
use crate::rng::HashKey;
use crate::time::{Duration, Instant};
use arrayvec::ArrayVec;
use core::net::IpAddr;

/// The setting's bit: connects may send data.
pub(crate) const CLIENT: u32 = 0x1;
/// Listeners take it.
pub(crate) const SERVER: u32 = 0x2;
/// Connects send data though they have no cookie.
pub(crate) const CLIENT_NO_COOKIE: u32 = 0x4;
/// Listeners take data without a cookie.
pub(crate) const SERVER_NO_COOKIE: u32 = 0x200;
/// Every listener takes it, `TCP_FASTOPEN` or not.
pub(crate) const EVERY_LISTENER: u32 = 0x400;

/// A cookie of 4 to 16 octets; an empty one asks for one (RFC 7413 §4.1.1).
pub(crate) type Cookie = ArrayVec<u8, 16>;

/// Destinations that a client remembers.
const DESTINATIONS: usize = 256;
/// How long a destination that swallowed a SYN with data gets none, the first time; each further
/// time twice as long.
const BLACK_HOLE: Duration = Duration::from_secs(60);

/// Whether a cookie is ours.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Match {
    /// Made with the current key.
    Current,
    /// Made with the key before: good, and time for a new one.
    Former,
    /// No.
    None,
}

/// The cookie of `client` at `server` (RFC 7413 §4.1.2): a keyed hash of both addresses, the same
/// that Linux computes.
pub(crate) fn cookie(key: [u8; 16], client: IpAddr, server: IpAddr) -> Cookie {
    let mut octets = ArrayVec::<u8, 32>::new();
    for address in [client, server] {
        let _ = match address {
            IpAddr::V4(a) => octets.try_extend_from_slice(&a.octets()),
            IpAddr::V6(a) => octets.try_extend_from_slice(&a.octets()),
        };
    }
    HashKey::from_octets(key).hash(&octets).to_le_bytes().into_iter().collect()
}

/// Whether `theirs`, which `client` sent to `server`, was made with one of the keys.
pub(crate) fn check(key: &FastOpenKey, theirs: &Cookie, client: IpAddr, server: IpAddr) -> Match {
    if *theirs == cookie(key.primary, client, server) {
        return Match::Current;
    }
    match key.backup {
        Some(backup) if *theirs == cookie(backup, client, server) => Match::Former,
        _ => Match::None,
    }
}

/// Which kind the option has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Form {
    /// 34.
    #[default]
    Registered,
    /// The one that experiments share (RFC 6994), which servers from before RFC 7413 know.
    Experimental,
}

/// What a server's SYN-ACK says about Fast Open.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Told<'a> {
    /// Nothing that was not known.
    Nothing,
    /// A cookie.
    Cookie(&'a Cookie, Form),
    /// There is none though one was asked for in this form.
    Refusal(Form),
    /// Our SYN with data was lost.
    Loss,
}

/// What a client knows about a server.
#[derive(Debug, Clone)]
struct Destination {
    address: IpAddr,
    cookie: Cookie,
    /// That of the cookie; without one, that in which it is asked for next.
    form: Form,
    /// It has been asked for in both.
    exhausted: bool,
    mss: u16,
    /// SYNs with data that were lost in a row, and when the last one was.
    losses: u8,
    lost_at: Instant,
}

/// The servers that a client knows, a bounded number: the newest takes the oldest's place.
#[derive(Debug)]
pub(crate) struct Destinations {
    entries: Vec<Destination>,
    next: usize,
}

/// What to do about a server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Advice {
    /// Send data with this cookie; the server's MSS.
    Use(Cookie, Form, u16),
    /// Ask for a cookie.
    Ask(Form),
    /// Leave the option out: something on the way swallows SYNs that have it.
    Avoid,
}

impl Destinations {
    pub fn new() -> Self {
        Destinations { entries: Vec::with_capacity(DESTINATIONS), next: 0 }
    }

    pub fn advice(&self, address: IpAddr, now: Instant) -> Advice {
        let Some(entry) = self.entries.iter().find(|entry| entry.address == address) else {
            return Advice::Ask(Form::Registered);
        };
        let wait = BLACK_HOLE * (1 << entry.losses.saturating_sub(1).min(10));
        if entry.losses > 0 && now - entry.lost_at < wait {
            return Advice::Avoid;
        }
        if entry.cookie.is_empty() {
            Advice::Ask(entry.form)
        } else {
            Advice::Use(entry.cookie.clone(), entry.form, entry.mss)
        }
    }

    /// The MSS that the server had, for a SYN with data but no cookie.
    pub fn mss(&self, address: IpAddr) -> Option<u16> {
        self.entries.iter().find(|entry| entry.address == address).map(|entry| entry.mss)
    }

    /// A SYN-ACK came.
    pub fn learn(&mut self, address: IpAddr, mss: u16, told: Told<'_>, now: Instant) {
        let Some(entry) = self.entry(address, now) else { return };
        entry.mss = mss;
        entry.losses = match told {
            Told::Loss => entry.losses.saturating_add(1),
            _ => 0,
        };
        match told {
            Told::Loss => entry.lost_at = now,
            Told::Cookie(cookie, form) if cookie.len() >= 4 => {
                (entry.cookie, entry.form) = (cookie.clone(), form);
            }
            // As Linux: the other form is tried once, and after that the first for ever.
            Told::Refusal(form) if entry.cookie.is_empty() => {
                entry.exhausted |= form == Form::Experimental;
                let again = entry.exhausted;
                entry.form = if again { Form::Registered } else { Form::Experimental };
            }
            _ => {}
        }
    }

    /// Forgets every server.
    pub fn clear(&mut self) {
        self.entries.clear();
        self.next = 0;
    }

    fn entry(&mut self, address: IpAddr, now: Instant) -> Option<&mut Destination> {
        let known = self.entries.iter().position(|entry| entry.address == address);
        let at = known.unwrap_or_else(|| {
            let fresh = Destination {
                address,
                cookie: Cookie::new(),
                form: Form::Registered,
                exhausted: false,
                mss: 0,
                losses: 0,
                lost_at: now,
            };
            if self.entries.len() < DESTINATIONS {
                self.entries.push(fresh);
                return self.entries.len() - 1;
            }
            let at = self.next % DESTINATIONS;
            self.next = at + 1;
            self.entries[at] = fresh;
            at
        });
        self.entries.get_mut(at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use core::net::Ipv4Addr;

    fn address(n: u32) -> IpAddr {
        IpAddr::V4(Ipv4Addr::from_bits(0x0a00_0000 + n))
    }

    fn given(cookie: &Cookie) -> Told<'_> {
        Told::Cookie(cookie, Form::Registered)
    }

    fn using(cookie: &Cookie) -> Advice {
        Advice::Use(cookie.clone(), Form::Registered, 1460)
    }

    #[test]
    fn a_cookie_is_good_for_its_client_and_as_long_as_its_key_is_kept() {
        let old = FastOpenKey { primary: [1; 16], backup: None };
        let new = FastOpenKey { primary: [2; 16], backup: Some([1; 16]) };
        let given = cookie(old.primary, address(1), address(2));
        assert_eq!(given.len(), 8);
        assert_eq!(check(&old, &given, address(1), address(2)), Match::Current);
        assert_eq!(check(&old, &given, address(3), address(2)), Match::None);
        assert_eq!(check(&new, &given, address(1), address(2)), Match::Former);
        let newer = FastOpenKey { primary: [3; 16], backup: Some([2; 16]) };
        assert_eq!(check(&newer, &given, address(1), address(2)), Match::None);
    }

    #[test]
    fn the_table_is_bounded_and_forgets_the_oldest() {
        let mut table = Destinations::new();
        let cookie: Cookie = [7; 8].into_iter().collect();
        let now = Instant::from_millis(1_000);
        for n in 0..1_000 {
            table.learn(address(n), 1460, given(&cookie), now);
        }
        assert_eq!(table.entries.len(), DESTINATIONS);
        assert_eq!(table.advice(address(999), now), using(&cookie));
        assert_eq!(table.advice(address(0), now), Advice::Ask(Form::Registered));
        table.clear();
        assert_eq!(table.advice(address(999), now), Advice::Ask(Form::Registered));
    }

    #[test]
    fn a_destination_that_swallows_data_is_left_alone_for_longer_and_longer() {
        let mut table = Destinations::new();
        let cookie: Cookie = [7; 8].into_iter().collect();
        let at = |s: u64| Instant::from_millis(1_000 * s);
        table.learn(address(1), 1460, given(&cookie), at(0));
        table.learn(address(1), 1460, Told::Loss, at(100));
        assert_eq!(table.advice(address(1), at(159)), Advice::Avoid);
        assert_eq!(table.advice(address(1), at(160)), using(&cookie));
        table.learn(address(1), 1460, Told::Loss, at(200));
        assert_eq!(table.advice(address(1), at(319)), Advice::Avoid);
        table.learn(address(1), 1460, Told::Nothing, at(400));
        assert_eq!(table.advice(address(1), at(400)), using(&cookie));
    }
}
