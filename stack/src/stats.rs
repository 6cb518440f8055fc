//! Counters. A layer declares its own as one table; names, documentation, listings and the C
//! header come from it. Each counts up from zero and wraps after 2^64.

/// Declares a struct of `u64` counters from one table of `/// doc` and name.
#[macro_export]
macro_rules! counters {
    ($(#[$outer:meta])* $vis:vis struct $name:ident { $($(#[doc = $doc:literal])+ $field:ident,)* }) => {
        $(#[$outer])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
        $vis struct $name { $($(#[doc = $doc])+ pub $field: u64,)* }

        impl $name {
            /// Name and meaning of every counter, in order.
            pub const TABLE: &'static [(&'static str, &'static str)] =
                &[$((stringify!($field), concat!($($doc),+)),)*];

            /// Adds another shard's.
            pub fn add(&mut self, other: &Self) {
                $(self.$field += other.$field;)*
            }

            /// Calls `each` with the name and value of every counter, in the table's order.
            pub fn for_each(&self, mut each: impl FnMut(&'static str, u64)) {
                $(each(stringify!($field), self.$field);)*
            }
        }
    };
}

counters! {
    /// What crossed the device and the loopback.
    pub struct InterfaceCounters {
        /// Frames received from the device.
        rx_frames,
        /// Octets of frames received from the device.
        rx_octets,
        /// Frames taken by the device.
        tx_frames,
        /// Octets of frames taken by the device.
        tx_octets,
        /// Packets sent to an address of our own.
        loopback_packets,
        /// Packets for an address of our own dropped because the loopback ring was full.
        loopback_full,
        /// Packets for an address of our own dropped because no buffer was free.
        loopback_no_buffer,
        /// Received frames too short for an Ethernet header.
        rx_short,
        /// Received frames for another station.
        rx_other_station,
        /// Received frames for a group, not for everybody.
        rx_multicast,
        /// Received frames of a protocol we do not speak.
        rx_unknown_ether_type,
        /// Frames dropped because the device took none for too long and the backlog was full.
        tx_backlog_full,
        /// Frames dropped because the device took nothing for five seconds.
        tx_given_up,
        /// Packets dropped because their buffer had no room for the link header.
        tx_no_headroom,
        /// Frames of our own (ARP, ICMP) not sent because no buffer was free.
        tx_no_buffer,
        /// Frames kept because the device had no room for them at once.
        tx_backlogged,
        /// Units of several TCP segments that the device was given to cut (TSO).
        tx_tso_packets,
        /// Segments in them.
        tx_tso_segments,
        /// Units of several TCP segments that were cut before the device (GSO).
        tx_gso_packets,
        /// Packets that the device handed over as several segments joined (LRO).
        rx_lro_packets,
        /// Packets joined of several segments of one burst (GRO).
        rx_gro_packets,
        /// Frames in them.
        rx_gro_frames,
    }
}

counters! {
    /// IPv4 (RFC 4293's names where it has them).
    pub struct IpCounters {
        /// Packets received.
        in_receives,
        /// Packets handed to a transport.
        in_delivers,
        /// Packets sent.
        out_requests,
        /// Dropped: shorter than a header, wrong version or lengths.
        in_header_errors,
        /// Dropped: wrong header checksum.
        in_checksum_errors,
        /// Dropped: a source route.
        in_source_routes,
        /// Dropped: an impossible source address.
        in_martian_sources,
        /// Dropped: an impossible destination address.
        in_martian_destinations,
        /// Dropped: not for an address of ours.
        in_address_errors,
        /// Dropped: a group that we have not joined.
        in_not_member,
        /// Dropped: a transport that we do not speak.
        in_unknown_protocols,
        /// Dropped: a frame sent to a group with a packet for one host inside.
        in_link_broadcast,
        /// Dropped: a TCP segment with a wrong checksum.
        in_tcp_checksum_errors,
        /// Dropped: no route to the destination.
        out_no_routes,
        /// Fragments received.
        reassembly_required,
        /// Packets put together from fragments.
        reassembly_ok,
        /// Packets given up: a fragment never came.
        reassembly_timeouts,
        /// Packets given up: fragments overlapped (RFC 5722) or made no sense.
        reassembly_malformed,
        /// Fragments dropped or packets given up because the table was full.
        reassembly_full,
        /// Packets put together that their transport cannot take in several buffers.
        reassembly_too_large,
        /// Fragments sent.
        fragments_created,
    }
}

counters! {
    /// ICMP for IPv4.
    pub struct IcmpCounters {
        /// Messages received.
        in_messages,
        /// Dropped: too short or a wrong checksum.
        in_errors,
        /// Dropped: an error that quotes nothing of ours.
        in_bad_quotes,
        /// Echo requests received.
        in_echo_requests,
        /// Echo replies received.
        in_echo_replies,
        /// Errors received and handed to a transport.
        in_unreachables,
        /// Messages received of a type that we do not use.
        in_ignored,
        /// Echo replies sent.
        out_echo_replies,
        /// Errors sent.
        out_unreachables,
        /// Errors not sent: over the limit (RFC 1812 §4.3.2.8).
        out_rate_limited,
        /// Errors not sent: none may be sent about that packet (RFC 1122 §3.2.2).
        out_suppressed,
    }
}

counters! {
    /// ARP and the neighbor table.
    pub struct NeighborCounters {
        /// Requests received.
        in_requests,
        /// Replies received.
        in_replies,
        /// Dropped: malformed, or from an impossible sender.
        in_bogus,
        /// Requests sent.
        out_requests,
        /// Replies sent.
        out_replies,
        /// Announcements sent.
        out_announcements,
        /// Somebody else claimed an address of ours.
        conflicts,
        /// Neighbors that did not answer.
        resolution_failures,
        /// Packets dropped: their neighbor did not answer.
        dropped_unresolved,
        /// Packets dropped: too many waited already.
        dropped_queue_full,
        /// Neighbors forgotten to make room for others.
        evictions,
        /// Packets dropped: the table was full of neighbors in use.
        dropped_table_full,
    }
}

counters! {
    /// UDP (RFC 4113's names where it has them).
    pub struct UdpCounters {
        /// Datagrams received into a socket.
        in_datagrams,
        /// Datagrams sent.
        out_datagrams,
        /// Dropped: no socket on that port.
        no_ports,
        /// Dropped: a wrong length.
        in_length_errors,
        /// Dropped: a wrong checksum.
        in_checksum_errors,
        /// Dropped: the socket's receive buffer was full.
        receive_buffer_errors,
        /// Dropped: the table of queued datagrams was full.
        table_full_errors,
        /// Dropped: below the socket's least TTL (`IP_MINTTL`).
        in_hop_limit_errors,
        /// Not sent: no buffer was free.
        send_buffer_errors,
        /// Errors dropped: the socket's error queue was full.
        error_queue_full,
    }
}

counters! {
    /// The capture ring.
    pub struct CaptureCounters {
        /// Frames captured.
        captured,
        /// Frames not captured: the ring was full.
        dropped,
    }
}
