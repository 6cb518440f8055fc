//! ICMP for IPv4 (RFC 792).

use super::checksum::{Sum, checksum, update};
use super::ipv4::{self, Malformed};
use super::read_u16;

/// Octets of the header of the messages we speak.
pub const HEADER_LEN: usize = 8;

/// Destination unreachable (type 3).
pub const UNREACHABLE: u8 = 3;
/// Time exceeded (type 11).
pub const TIME_EXCEEDED: u8 = 11;
/// Parameter problem (type 12).
pub const PARAMETER_PROBLEM: u8 = 12;
/// Echo reply (type 0).
pub const ECHO_REPLY: u8 = 0;
/// Echo request (type 8).
pub const ECHO_REQUEST: u8 = 8;

/// Codes of destination unreachable (RFC 792, RFC 1122 §3.2.2.1, RFC 1812 §5.2.7.1).
pub mod unreachable {
    /// Net.
    pub const NET: u8 = 0;
    /// Host.
    pub const HOST: u8 = 1;
    /// Protocol.
    pub const PROTOCOL: u8 = 2;
    /// Port.
    pub const PORT: u8 = 3;
    /// Fragmentation needed and DF set; carries the next hop's MTU (RFC 1191).
    pub const FRAGMENTATION_NEEDED: u8 = 4;
    /// Source route failed.
    pub const SOURCE_ROUTE_FAILED: u8 = 5;
    /// Destination network unknown.
    pub const NET_UNKNOWN: u8 = 6;
    /// Destination host unknown.
    pub const HOST_UNKNOWN: u8 = 7;
    /// Source host isolated.
    pub const HOST_ISOLATED: u8 = 8;
    /// Network administratively prohibited.
    pub const NET_PROHIBITED: u8 = 9;
    /// Host administratively prohibited.
    pub const HOST_PROHIBITED: u8 = 10;
    /// Network unreachable for this type of service.
    pub const NET_TOS: u8 = 11;
    /// Host unreachable for this type of service.
    pub const HOST_TOS: u8 = 12;
    /// Communication administratively prohibited by filtering.
    pub const FILTERED: u8 = 13;
    /// Host precedence violation.
    pub const PRECEDENCE_VIOLATION: u8 = 14;
    /// Precedence cutoff in effect.
    pub const PRECEDENCE_CUTOFF: u8 = 15;
}

/// An error message: what it says and what it quotes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ErrorMessage<'a> {
    /// Its type: unreachable, time exceeded or parameter problem.
    pub kind: u8,
    /// Its code.
    pub code: u8,
    /// The last 16 bits of its header: the next hop's MTU of "fragmentation needed".
    pub mtu: u16,
    /// The header of the packet it is about. Its total length is what was sent, not what is here.
    pub quoted: ipv4::Header,
    /// What it quotes of that packet's payload: at least 8 octets.
    pub payload: &'a [u8],
}

/// A message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Message<'a> {
    /// Asks for its own octets back.
    EchoRequest,
    /// Answers a request.
    EchoReply,
    /// Reports an error about a packet.
    Error(ErrorMessage<'a>),
    /// Anything else, by type.
    Other(u8),
}

/// Why octets are no ICMP message that we can use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unusable {
    /// Shorter than a header.
    TooShort,
    /// The checksum is wrong.
    Checksum,
    /// An error that quotes no packet, or too little of one.
    Quote,
}

impl<'a> Message<'a> {
    /// The message in `bytes`.
    pub fn parse(bytes: &'a [u8]) -> Result<Message<'a>, Unusable> {
        let Some(header) = bytes.first_chunk::<HEADER_LEN>() else {
            return Err(Unusable::TooShort);
        };
        if checksum(bytes) != 0 {
            return Err(Unusable::Checksum);
        }
        match header[0] {
            ECHO_REQUEST => Ok(Message::EchoRequest),
            ECHO_REPLY => Ok(Message::EchoReply),
            kind @ (UNREACHABLE | TIME_EXCEEDED | PARAMETER_PROBLEM) => {
                let quote = &bytes[HEADER_LEN..];
                let quoted =
                    ipv4::Header::parse_quoted(quote).map_err(|_: Malformed| Unusable::Quote)?;
                let payload = &quote[usize::from(quoted.header_len)..];
                if payload.len() < 8 {
                    return Err(Unusable::Quote);
                }
                let mtu = read_u16(header, 6).unwrap_or(0);
                let code = header[1];
                Ok(Message::Error(ErrorMessage { kind, code, mtu, quoted, payload }))
            }
            other => Ok(Message::Other(other)),
        }
    }
}

/// Turns the first octets of an echo request into its reply's, in place; the rest, which may lie
/// in other buffers, stays as it is.
///
/// # Panics
/// If `first` is shorter than [`HEADER_LEN`].
pub fn make_echo_reply(first: &mut [u8]) {
    let old = u16::from_be_bytes([first[0], first[1]]);
    let sum = u16::from_be_bytes([first[2], first[3]]);
    let new = u16::from(ECHO_REPLY) << 8 | u16::from(first[1]);
    first[0] = ECHO_REPLY;
    first[2..4].copy_from_slice(&update(sum, old, new).to_be_bytes());
}

/// Writes an error's header in front of the quote that already follows it in `message`.
///
/// # Panics
/// If `message` is shorter than [`HEADER_LEN`].
pub fn emit_error(message: &mut [u8], kind: u8, code: u8, mtu: u16) {
    let [high, low] = mtu.to_be_bytes();
    message[..HEADER_LEN].copy_from_slice(&[kind, code, 0, 0, 0, 0, high, low]);
    let sum = Sum::of(message).finish();
    message[2..4].copy_from_slice(&sum.to_be_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_echo_reply_differs_in_type_and_has_a_right_checksum() {
        let mut bytes = [ECHO_REQUEST, 0, 0, 0, 0x12, 0x34, 0, 1, b'h', b'i', b'!'];
        let sum = checksum(&bytes);
        bytes[2..4].copy_from_slice(&sum.to_be_bytes());
        assert_eq!(Message::parse(&bytes), Ok(Message::EchoRequest));
        make_echo_reply(&mut bytes);
        assert_eq!(Message::parse(&bytes), Ok(Message::EchoReply));
    }

    #[test]
    fn an_error_needs_a_quote_of_eight_octets() {
        let quoted = ipv4::Header {
            header_len: 20,
            traffic_class: 0,
            total_len: 1500,
            identification: 7,
            dont_fragment: false,
            more_fragments: false,
            fragment_offset: 0,
            hop_limit: 3,
            protocol: ipv4::Protocol::Udp,
            source: [10, 0, 0, 1].into(),
            destination: [10, 0, 0, 2].into(),
        };
        let mut bytes = [0u8; 36];
        quoted.emit(&mut bytes[8..], ipv4::ChecksumBy::Stack);
        emit_error(&mut bytes, UNREACHABLE, unreachable::PORT, 0);
        let Ok(Message::Error(error)) = Message::parse(&bytes) else { panic!("no error") };
        assert_eq!((error.kind, error.code, error.quoted), (3, 3, quoted));
        let mut short = bytes[..35].to_vec();
        emit_error(&mut short, UNREACHABLE, unreachable::PORT, 0);
        assert_eq!(Message::parse(&short), Err(Unusable::Quote));
        bytes[20] ^= 1;
        assert_eq!(Message::parse(&bytes), Err(Unusable::Checksum));
    }
}
