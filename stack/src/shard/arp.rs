//! ARP between the wire and the neighbor cache.

use super::Shard;
use crate::addr::MacAddr;
use crate::device::Device;
use crate::neighbor::Claim;
use crate::packet::Buffer;
use crate::time::Instant;
use crate::wire::arp::{LEN, Operation, Packet};
use crate::wire::ethernet::{self, EtherType};
use core::net::{IpAddr, Ipv4Addr};

impl<D: Device> Shard<D> {
    /// A frame that carries ARP.
    pub(super) fn on_arp(&mut self, now: Instant, frame: D::Buffer) {
        let counters = &mut self.counters.neighbor;
        let packet = frame.data().get(ethernet::HEADER_LEN..).and_then(Packet::parse);
        let Some(arp) = packet.filter(is_plausible) else {
            counters.in_bogus += 1;
            return;
        };
        match arp.operation {
            Operation::Request => counters.in_requests += 1,
            Operation::Reply => counters.in_replies += 1,
        }
        if arp.sender_mac == self.mac {
            return; // Our own, come back.
        }
        if self.is_own(arp.sender) {
            if self.neighbors.on_conflict(now, &mut self.counters.neighbor) && self.share.is_first()
            {
                self.announce_one(now, arp.sender);
            }
            return;
        }
        let asks_us = self.is_own(arp.target);
        if !arp.sender.is_unspecified() {
            let near = self.ip.is_on_link(arp.sender.into());
            let claim = match arp.operation {
                Operation::Reply if asks_us => Claim::Answer,
                Operation::Request if asks_us && near => Claim::AsksUs,
                _ if arp.sender == arp.target => Claim::Announced,
                _ => Claim::Overheard,
            };
            let (rng, counters) = (&mut self.rng, &mut self.counters.neighbor);
            let sender = IpAddr::V4(arp.sender);
            self.neighbors.on_claim(now, sender, arp.sender_mac, claim, rng, counters);
            self.send_released(now);
        }
        // Every shard hears, one answers.
        if asks_us && arp.operation == Operation::Request && self.share.is_first() {
            self.counters.neighbor.out_replies += 1;
            let reply = Packet {
                operation: Operation::Reply,
                sender_mac: self.mac,
                sender: arp.target,
                target_mac: arp.sender_mac,
                target: arp.sender,
            };
            self.send_arp(now, arp.sender_mac, &reply);
        }
    }

    /// Asks for the neighbors that are wanted.
    pub(super) fn send_solicits(&mut self, now: Instant) {
        while let Some(solicit) = self.neighbors.poll_solicit() {
            let IpAddr::V4(target) = solicit.target else { continue };
            let Ok(route) = self.ip.route(solicit.target) else { continue };
            let IpAddr::V4(sender) = route.source else { continue };
            self.counters.neighbor.out_requests += 1;
            let request = Packet {
                operation: Operation::Request,
                sender_mac: self.mac,
                sender,
                target_mac: MacAddr::default(),
                target,
            };
            self.send_arp(now, solicit.known.unwrap_or(MacAddr::BROADCAST), &request);
        }
    }

    /// Announces every address of ours.
    ///
    /// //= RFC 5227 §2.3
    pub(super) fn announce(&mut self, now: Instant) {
        for at in 0..self.ip.addresses().len() {
            if let IpAddr::V4(address) = self.ip.addresses()[at].address() {
                self.announce_one(now, address);
            }
        }
    }

    fn announce_one(&mut self, now: Instant, address: Ipv4Addr) {
        self.counters.neighbor.out_announcements += 1;
        let announcement = Packet {
            operation: Operation::Request,
            sender_mac: self.mac,
            sender: address,
            target_mac: MacAddr::default(),
            target: address,
        };
        self.send_arp(now, MacAddr::BROADCAST, &announcement);
    }

    fn send_arp(&mut self, now: Instant, to: MacAddr, arp: &Packet) {
        let Some(mut packet) = self.device.allocate() else {
            self.counters.interface.tx_no_buffer += 1;
            return;
        };
        arp.emit(packet.append(LEN));
        self.emit(now, to, EtherType::Arp, packet);
    }

    fn is_own(&self, address: Ipv4Addr) -> bool {
        self.ip.addresses().iter().any(|cidr| cidr.address() == IpAddr::V4(address))
    }
}

/// Whether a station can have sent this: its link address is one station's, its address one
/// host's (or none yet, RFC 5227 §2.1.1).
fn is_plausible(arp: &Packet) -> bool {
    let sender = arp.sender;
    let first = sender.octets()[0];
    let host = sender.is_unspecified() || (first != 0 && first != 127 && first < 224);
    arp.sender_mac.is_unicast() && host
}
