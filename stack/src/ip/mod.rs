//! IP: what is addressed to us, which way a packet leaves, with which address, in which pieces.
//!
//! `shard` asks [`Ip::classify`] about every received packet and [`Ip::route`] about every packet
//! to be sent; [`reassembly`] keeps fragments until their packet is whole. It holds addresses and
//! routes; it never touches a transport's octets, a link address or a device. Above it addresses
//! are of both families; below, only IPv4 is spoken so far.

pub mod identification;
pub mod pmtu;
pub mod reassembly;
mod route;

pub use route::{Hop, RouteError, RouteInfo, RouteKind, Routes};

use crate::addr::Cidr;
use crate::stats::IpCounters;
use crate::wire::ipv4::{Header, Malformed};
use core::net::{IpAddr, Ipv4Addr};

/// How the link delivered a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Arrival {
    /// To our own link address.
    Unicast,
    /// To everybody or a group.
    Broadcast,
    /// From ourselves; it never saw the link.
    Loopback,
}

/// Why a packet goes no further.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum DropReason {
    /// An impossible source address (RFC 1122 §3.2.1.3).
    MartianSource,
    /// An impossible destination address.
    MartianDestination,
    /// A group that nobody here joined.
    NotMember,
    /// For one host, in a frame for many (RFC 1122 §3.3.6).
    LinkBroadcast,
}

/// Whom a delivered packet was sent to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cast {
    /// One of our addresses.
    Unicast,
    /// Everybody on the network.
    Broadcast,
    /// A group.
    Multicast,
}

/// What to do with a received packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub enum Verdict {
    /// It is whole, and ours.
    Deliver(Cast),
    /// It is a fragment of one that is ours.
    Reassemble(Cast),
    /// It is for another host.
    Forward,
    /// It goes no further.
    Drop(DropReason),
}

/// All hosts on this network (RFC 1112 §4).
const ALL_HOSTS: Ipv4Addr = Ipv4Addr::new(224, 0, 0, 1);

/// Addresses and routes.
#[derive(Debug)]
pub struct Ip {
    addresses: Vec<Cidr>,
    loopback: bool,
    routes: Routes,
}

impl Ip {
    /// With our `addresses`; `loopback` says whether 127.0.0.0/8 is ours.
    #[must_use]
    pub fn new(
        addresses: &[Cidr],
        routes: &[crate::config::Route],
        loopback: bool,
        mtu: u16,
    ) -> Self {
        Ip { addresses: addresses.to_vec(), loopback, routes: Routes::new(addresses, routes, mtu) }
    }

    /// Our addresses on the link.
    #[must_use]
    pub fn addresses(&self) -> &[Cidr] {
        &self.addresses
    }

    /// The routes, longest prefix first.
    #[must_use]
    pub fn routes(&self) -> &Routes {
        &self.routes
    }

    /// The link's MTU has changed.
    pub fn set_mtu(&mut self, mtu: u16) {
        self.routes.set_mtu(mtu);
    }

    /// The device has gone, and with it every way out.
    pub fn forget_routes(&mut self) {
        self.routes.clear();
    }

    /// Whether a socket can have `address` as its own: it is assigned to us.
    #[inline]
    #[must_use]
    pub fn is_local(&self, address: IpAddr) -> bool {
        self.addresses.iter().any(|cidr| cidr.address() == address)
            || (self.loopback && address.is_loopback())
    }

    /// Whether `address` is of a network that we are on.
    #[must_use]
    pub fn is_on_link(&self, address: IpAddr) -> bool {
        self.addresses.iter().any(|cidr| cidr.contains(address))
    }

    /// Whether packets to `address` go to everybody on a network of ours.
    #[inline]
    #[must_use]
    pub fn is_broadcast(&self, address: IpAddr) -> bool {
        let IpAddr::V4(address) = address else { return false };
        address.is_broadcast() || self.addresses.iter().any(|c| c.broadcast() == Some(address))
    }

    /// Judges a packet whose header is well-formed.
    #[inline]
    pub fn classify(&self, header: &Header, arrival: Arrival) -> Verdict {
        let cast = match self.destination_cast(header.destination, arrival) {
            Ok(Some(cast)) => cast,
            Ok(None) => return Verdict::Forward,
            Err(reason) => return Verdict::Drop(reason),
        };
        if self.is_martian_source(header.source, arrival) {
            return Verdict::Drop(DropReason::MartianSource);
        }
        if cast == Cast::Unicast && arrival == Arrival::Broadcast {
            return Verdict::Drop(DropReason::LinkBroadcast);
        }
        if header.is_fragment() { Verdict::Reassemble(cast) } else { Verdict::Deliver(cast) }
    }

    /// `Ok(None)` means that it is not ours.
    #[inline]
    fn destination_cast(&self, to: Ipv4Addr, arrival: Arrival) -> Result<Option<Cast>, DropReason> {
        if to.is_loopback() {
            // //= RFC 1122 §3.2.1.3 (g): must not appear outside a host.
            let inside = arrival == Arrival::Loopback && self.loopback;
            return if inside {
                Ok(Some(Cast::Unicast))
            } else {
                Err(DropReason::MartianDestination)
            };
        }
        if self.is_local(to.into()) {
            return Ok(Some(Cast::Unicast));
        }
        if self.is_broadcast(to.into()) {
            return Ok(Some(Cast::Broadcast));
        }
        if to.is_multicast() {
            let member = to == ALL_HOSTS;
            return if member { Ok(Some(Cast::Multicast)) } else { Err(DropReason::NotMember) };
        }
        let reserved = to.octets()[0] >= 240 || to.octets()[0] == 0;
        if reserved { Err(DropReason::MartianDestination) } else { Ok(None) }
    }

    /// //= RFC 1122 §3.2.1.3; RFC 1812 §5.3.7
    #[inline]
    fn is_martian_source(&self, from: Ipv4Addr, arrival: Arrival) -> bool {
        if arrival == Arrival::Loopback {
            return from.is_multicast() || from.is_unspecified();
        }
        let first = from.octets()[0];
        first == 0
            || first == 127
            || first >= 224
            || self.is_local(from.into())
            || self.is_broadcast(from.into())
    }
}

/// Counts a malformed header.
pub fn count_malformed(malformed: Malformed, counters: &mut IpCounters) {
    match malformed {
        Malformed::TooShort
        | Malformed::Version
        | Malformed::HeaderLength
        | Malformed::TotalLength => counters.in_header_errors += 1,
        Malformed::Checksum => counters.in_checksum_errors += 1,
        Malformed::SourceRoute => counters.in_source_routes += 1,
    }
}

/// Counts a dropped packet.
pub fn count_drop(reason: DropReason, counters: &mut IpCounters) {
    match reason {
        DropReason::MartianSource => counters.in_martian_sources += 1,
        DropReason::MartianDestination => counters.in_martian_destinations += 1,
        DropReason::NotMember => counters.in_not_member += 1,
        DropReason::LinkBroadcast => counters.in_link_broadcast += 1,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::ipv4::Protocol;

    fn ip() -> Ip {
        Ip::new(&["10.0.0.2/24".parse().unwrap()], &[], false, 1500)
    }

    fn verdict(ip: &Ip, source: &str, destination: &str, arrival: Arrival) -> Verdict {
        let header = Header {
            header_len: 20,
            traffic_class: 0,
            total_len: 40,
            identification: 0,
            dont_fragment: false,
            more_fragments: false,
            fragment_offset: 0,
            hop_limit: 64,
            protocol: Protocol::Udp,
            source: source.parse().unwrap(),
            destination: destination.parse().unwrap(),
        };
        ip.classify(&header, arrival)
    }

    #[test]
    fn what_is_ours_is_delivered_and_what_is_not_is_forwarded() {
        let ip = ip();
        let on_wire = |d| verdict(&ip, "10.0.0.9", d, Arrival::Unicast);
        assert_eq!(on_wire("10.0.0.2"), Verdict::Deliver(Cast::Unicast));
        assert_eq!(on_wire("10.0.0.255"), Verdict::Deliver(Cast::Broadcast));
        assert_eq!(on_wire("255.255.255.255"), Verdict::Deliver(Cast::Broadcast));
        assert_eq!(on_wire("224.0.0.1"), Verdict::Deliver(Cast::Multicast));
        assert_eq!(on_wire("224.0.0.251"), Verdict::Drop(DropReason::NotMember));
        assert_eq!(on_wire("10.0.0.3"), Verdict::Forward);
    }

    #[test]
    fn martians_of_rfc_1122_section_3_2_1_3() {
        let ip = ip();
        for source in
            ["0.0.0.0", "127.0.0.1", "224.0.0.1", "255.255.255.255", "10.0.0.2", "10.0.0.255"]
        {
            let verdict = verdict(&ip, source, "10.0.0.2", Arrival::Unicast);
            assert_eq!(verdict, Verdict::Drop(DropReason::MartianSource), "{source}");
        }
        for destination in ["127.0.0.1", "0.0.0.0", "240.0.0.1"] {
            let verdict = verdict(&ip, "10.0.0.9", destination, Arrival::Unicast);
            assert_eq!(verdict, Verdict::Drop(DropReason::MartianDestination), "{destination}");
        }
        let own = verdict(&ip, "10.0.0.2", "10.0.0.2", Arrival::Loopback);
        assert_eq!(own, Verdict::Deliver(Cast::Unicast));
    }

    #[test]
    fn a_packet_for_one_host_in_a_frame_for_many_is_dropped() {
        let verdict = verdict(&ip(), "10.0.0.9", "10.0.0.2", Arrival::Broadcast);
        assert_eq!(verdict, Verdict::Drop(DropReason::LinkBroadcast));
    }
}
