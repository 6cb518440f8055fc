//! Longest-prefix routes and source address choice.

use crate::addr::Cidr;
use crate::config::Route;
use core::net::{IpAddr, Ipv4Addr};

/// The MTU of paths that never leave the stack. Buffers, not a link, bound it.
pub const LOOPBACK_MTU: u16 = 65_535;

/// Where a route comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum RouteKind {
    /// A network that an address of ours is on.
    Connected,
    /// Configured.
    Static,
    /// To ourselves.
    Local,
    /// To everybody on the link.
    Broadcast,
    /// To a group on the link.
    Multicast,
}

/// The next station a packet goes to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hop {
    /// Ourselves.
    Loopback,
    /// The neighbor with this address.
    Neighbor(IpAddr),
    /// Everybody on the link.
    Broadcast,
    /// The stations that listen to this group.
    Multicast(Ipv4Addr),
}

/// The way to a destination.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RouteInfo {
    /// The address of ours that suits it.
    pub source: IpAddr,
    /// The largest packet that can go this way, in octets.
    pub mtu: u16,
    /// The router, if it is not on the link.
    pub gateway: Option<IpAddr>,
    /// Where it goes first.
    pub hop: Hop,
    /// Where the route comes from.
    pub kind: RouteKind,
}

/// No route leads there (ENETUNREACH).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RouteError;

/// One entry of the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Entry {
    /// The destinations it covers.
    pub destination: Cidr,
    /// The router, if any.
    pub gateway: Option<IpAddr>,
    /// Our address for packets that go this way.
    pub source: IpAddr,
    /// Where it comes from.
    pub kind: RouteKind,
}

/// The table: longest prefix first.
#[derive(Debug)]
pub struct Routes {
    entries: Vec<Entry>,
    mtu: u16,
}

impl Routes {
    /// The networks of `addresses`, and `routes`. A route whose family we have no address of is
    /// left out: nothing could be sent on it.
    #[must_use]
    pub fn new(addresses: &[Cidr], routes: &[Route], mtu: u16) -> Self {
        let connected = addresses.iter().map(|cidr| Entry {
            destination: *cidr,
            gateway: None,
            source: cidr.address(),
            kind: RouteKind::Connected,
        });
        let configured = routes.iter().filter_map(|route| {
            let towards = route.gateway.unwrap_or(route.destination.address());
            let near = addresses.iter().find(|c| c.contains(towards));
            let same_family = |c: &&Cidr| c.address().is_ipv4() == towards.is_ipv4();
            let source = near.or_else(|| addresses.iter().find(same_family))?.address();
            let Route { destination, gateway } = *route;
            Some(Entry { destination, gateway, source, kind: RouteKind::Static })
        });
        let mut entries: Vec<Entry> = connected.chain(configured).collect();
        // Stable: of equal prefixes the connected network, then the first configured, wins.
        entries.sort_by_key(|entry| core::cmp::Reverse(entry.destination.prefix_len()));
        Routes { entries, mtu }
    }

    /// The link's MTU has changed.
    pub(super) fn set_mtu(&mut self, mtu: u16) {
        self.mtu = mtu;
    }

    /// There is none any more.
    pub(super) fn clear(&mut self) {
        self.entries.clear();
    }

    /// Every route.
    pub fn iter(&self) -> impl Iterator<Item = &Entry> {
        self.entries.iter()
    }

    /// The most specific route that covers `destination`.
    #[inline]
    #[must_use]
    pub fn lookup(&self, destination: IpAddr) -> Option<&Entry> {
        self.entries.iter().find(|entry| entry.destination.contains(destination))
    }
}

impl super::Ip {
    /// The way to `destination`. Multicast and broadcast leave by the link of our first address
    /// (of the network, for a directed broadcast).
    #[inline]
    pub fn route(&self, destination: IpAddr) -> Result<RouteInfo, RouteError> {
        if self.is_local(destination) {
            // //= RFC 1122 §3.3.4.2: Linux prefers 127.0.0.1 among the loopback addresses.
            let source = match destination {
                IpAddr::V4(a) if a.is_loopback() => Ipv4Addr::LOCALHOST.into(),
                own => own,
            };
            let (hop, kind) = (Hop::Loopback, RouteKind::Local);
            return Ok(RouteInfo { source, mtu: LOOPBACK_MTU, gateway: None, hop, kind });
        }
        match destination {
            IpAddr::V4(to) if to.is_multicast() || self.is_broadcast(destination) => {
                self.route_to_many(to)
            }
            _ if destination.is_loopback() || destination.is_unspecified() => Err(RouteError),
            _ => self.route_to_one(destination),
        }
    }

    fn route_to_one(&self, destination: IpAddr) -> Result<RouteInfo, RouteError> {
        let entry = self.routes.lookup(destination).ok_or(RouteError)?;
        Ok(RouteInfo {
            source: entry.source,
            mtu: self.routes.mtu,
            gateway: entry.gateway,
            hop: Hop::Neighbor(entry.gateway.unwrap_or(destination)),
            kind: entry.kind,
        })
    }

    fn route_to_many(&self, to: Ipv4Addr) -> Result<RouteInfo, RouteError> {
        let directed = self.addresses.iter().find(|c| c.broadcast() == Some(to));
        let first = || self.addresses.iter().find(|c| c.address().is_ipv4());
        let source = directed.or_else(first).ok_or(RouteError)?.address();
        let (hop, kind) = if to.is_multicast() {
            (Hop::Multicast(to), RouteKind::Multicast)
        } else {
            (Hop::Broadcast, RouteKind::Broadcast)
        };
        Ok(RouteInfo { source, mtu: self.routes.mtu, gateway: None, hop, kind })
    }
}

#[cfg(test)]
mod tests {
    use super::super::Ip;
    use super::*;

    fn cidr(text: &str) -> Cidr {
        text.parse().unwrap()
    }

    fn ip() -> Ip {
        let route = |destination: &str, gateway: Option<&str>| Route {
            destination: cidr(destination),
            gateway: gateway.map(|g| g.parse().unwrap()),
        };
        let routes = [
            route("0.0.0.0/0", Some("10.0.0.1")),
            route("10.9.0.0/16", Some("192.168.0.9")),
            route("10.9.1.0/24", None),
        ];
        Ip::new(&[cidr("10.0.0.2/24"), cidr("192.168.0.2/24")], &routes, true, 1500)
    }

    fn hop_and_source(to: &str) -> (Hop, String) {
        let info = ip().route(to.parse().unwrap()).unwrap();
        (info.hop, info.source.to_string())
    }

    fn neighbor(text: &str) -> Hop {
        Hop::Neighbor(text.parse().unwrap())
    }

    #[test]
    fn the_longest_prefix_wins_and_gives_the_source() {
        assert_eq!(hop_and_source("10.0.0.7"), (neighbor("10.0.0.7"), "10.0.0.2".into()));
        assert_eq!(hop_and_source("8.8.8.8"), (neighbor("10.0.0.1"), "10.0.0.2".into()));
        assert_eq!(hop_and_source("10.9.7.7"), (neighbor("192.168.0.9"), "192.168.0.2".into()));
        assert_eq!(hop_and_source("10.9.1.7"), (neighbor("10.9.1.7"), "10.0.0.2".into()));
    }

    #[test]
    fn our_own_addresses_and_loopback_stay_here() {
        assert_eq!(hop_and_source("192.168.0.2"), (Hop::Loopback, "192.168.0.2".into()));
        assert_eq!(hop_and_source("127.1.2.3"), (Hop::Loopback, "127.0.0.1".into()));
        let kernel_loopback = Ip::new(&[cidr("10.0.0.2/24")], &[], false, 1500);
        assert_eq!(kernel_loopback.route("127.0.0.1".parse().unwrap()), Err(RouteError));
    }

    #[test]
    fn broadcast_and_groups_leave_by_the_link() {
        assert_eq!(hop_and_source("192.168.0.255"), (Hop::Broadcast, "192.168.0.2".into()));
        assert_eq!(hop_and_source("255.255.255.255"), (Hop::Broadcast, "10.0.0.2".into()));
        let group = Ipv4Addr::new(239, 1, 2, 3);
        assert_eq!(hop_and_source("239.1.2.3"), (Hop::Multicast(group), "10.0.0.2".into()));
    }

    #[test]
    fn without_a_route_there_is_no_way() {
        let ip = Ip::new(&[cidr("10.0.0.2/24")], &[], false, 1500);
        assert_eq!(ip.route("8.8.8.8".parse().unwrap()), Err(RouteError));
    }
}
