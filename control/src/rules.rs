//! Which sockets the stack takes: a list of rules, the first that matches decides.
//!
//! A rule reads `use kernel|onwire [program=NAME] [protocol=tcp|udp] [direction=listen|connect]
//! [address=NETWORK] [port=N|N-M]`; what it does not mention, it does not care about.

use stack::addr::Cidr;
use std::fmt;
use std::net::IpAddr;
use std::ops::RangeInclusive;
use std::str::FromStr;

/// Whose network a socket uses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Path {
    /// The kernel's.
    Kernel,
    /// Ours; written `onwire`.
    Stack,
}

/// What a socket is about to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Direction {
    /// Accept connections or datagrams at a local address: bind(2), listen(2).
    Listen,
    /// Reach a remote address: connect(2), sendto(2).
    Connect,
}

impl Direction {
    const fn name(self) -> &'static str {
        match self {
            Self::Listen => "listen",
            Self::Connect => "connect",
        }
    }
}

/// What a socket speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Protocol {
    /// `SOCK_STREAM`.
    Tcp,
    /// `SOCK_DGRAM`.
    Udp,
}

impl Protocol {
    const fn name(self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
        }
    }
}

/// One line of policy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rule {
    /// Whose network what matches gets.
    pub path: Path,
    /// The program's file name; `*` stands for any text.
    pub program: Option<String>,
    /// What the socket speaks.
    pub protocol: Option<Protocol>,
    /// What the socket does.
    pub direction: Option<Direction>,
    /// The network of the local address when listening, of the remote one when connecting.
    pub address: Option<Cidr>,
    /// The ports of that address.
    pub ports: Option<RangeInclusive<u16>>,
}

impl Rule {
    /// Whether the rule speaks about this socket.
    #[must_use]
    pub fn matches(&self, what: &Question<'_>) -> bool {
        self.program.as_deref().is_none_or(|pattern| glob(pattern, what.program))
            && self.protocol.is_none_or(|wanted| wanted == what.protocol)
            && self.direction.is_none_or(|wanted| wanted == what.direction)
            && self.address.is_none_or(|network| network.contains(what.address.to_canonical()))
            && self.ports.as_ref().is_none_or(|ports| ports.contains(&what.port))
    }
}

/// What a rule is asked about.
#[derive(Debug, Clone, Copy)]
pub struct Question<'a> {
    /// The program's file name.
    pub program: &'a str,
    /// What the socket speaks.
    pub protocol: Protocol,
    /// What it is about to do.
    pub direction: Direction,
    /// The local address when listening, the remote one when connecting.
    pub address: IpAddr,
    /// The port there.
    pub port: u16,
}

/// Whether `text` matches `pattern`, in which `*` stands for any text.
fn glob(pattern: &str, text: &str) -> bool {
    let Some((head, rest)) = pattern.split_once('*') else { return pattern == text };
    let Some(mut text) = text.strip_prefix(head) else { return false };
    let mut parts: Vec<&str> = rest.split('*').collect();
    let tail = parts.pop().unwrap_or_default();
    for part in parts {
        let Some(at) = text.find(part) else { return false };
        text = &text[at + part.len()..];
    }
    text.ends_with(tail)
}

/// Why a text is no rule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InvalidRule(String);

impl fmt::Display for InvalidRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for InvalidRule {}

/// How a rule is written, for messages.
pub const RULE_FORM: &str = "use kernel|onwire [program=NAME] [protocol=tcp|udp] \
     [direction=listen|connect] [address=NETWORK] [port=N|N-M]";

impl FromStr for Rule {
    type Err = InvalidRule;

    fn from_str(text: &str) -> Result<Self, InvalidRule> {
        let invalid = |problem: String| InvalidRule(format!("{problem}; write {RULE_FORM}"));
        let mut words = text.split_whitespace();
        if words.next() != Some("use") {
            return Err(invalid("does not begin with \"use\"".into()));
        }
        let path = match words.next() {
            Some("kernel") => Path::Kernel,
            Some("onwire") => Path::Stack,
            Some(other) => return Err(invalid(format!("says use {other:?}"))),
            None => return Err(invalid("does not say what to use".into())),
        };
        let mut rule = Rule {
            path,
            program: None,
            protocol: None,
            direction: None,
            address: None,
            ports: None,
        };
        for word in words {
            let (name, value) = word.split_once('=').unwrap_or((word, ""));
            let repeated = match name {
                "program" => rule.program.replace(program(value).map_err(invalid)?).is_some(),
                "protocol" => rule.protocol.replace(protocol(value).map_err(invalid)?).is_some(),
                "direction" => rule.direction.replace(direction(value).map_err(invalid)?).is_some(),
                "address" => rule.address.replace(network(value).map_err(invalid)?).is_some(),
                "port" => rule.ports.replace(ports(value).map_err(invalid)?).is_some(),
                _ => return Err(invalid(format!("has the unknown word {word:?}"))),
            };
            if repeated {
                return Err(invalid(format!("says {name} twice")));
            }
        }
        Ok(rule)
    }
}

fn program(value: &str) -> Result<String, String> {
    if value.is_empty() || value.contains('/') {
        return Err(format!("has program={value:?}, which is no file name"));
    }
    Ok(value.to_owned())
}

fn protocol(value: &str) -> Result<Protocol, String> {
    match value {
        "tcp" => Ok(Protocol::Tcp),
        "udp" => Ok(Protocol::Udp),
        _ => Err(format!("has protocol={value:?}")),
    }
}

fn direction(value: &str) -> Result<Direction, String> {
    match value {
        "listen" => Ok(Direction::Listen),
        "connect" => Ok(Direction::Connect),
        _ => Err(format!("has direction={value:?}")),
    }
}

fn network(value: &str) -> Result<Cidr, String> {
    let host = |address: IpAddr| Cidr::new(address, if address.is_ipv4() { 32 } else { 128 });
    value
        .parse::<Cidr>()
        .ok()
        .or_else(|| value.parse().ok().and_then(host))
        .ok_or_else(|| format!("has address={value:?}, which is no network such as 10.0.0.0/8"))
}

fn ports(value: &str) -> Result<RangeInclusive<u16>, String> {
    let (first, last) = value.split_once('-').unwrap_or((value, value));
    match (first.parse::<u16>(), last.parse::<u16>()) {
        (Ok(first), Ok(last)) if first <= last => Ok(first..=last),
        _ => Err(format!("has port={value:?}, which is no port or range such as 80-90")),
    }
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let path = match self.path {
            Path::Kernel => "kernel",
            Path::Stack => "onwire",
        };
        write!(f, "use {path}")?;
        if let Some(program) = &self.program {
            write!(f, " program={program}")?;
        }
        if let Some(protocol) = self.protocol {
            write!(f, " protocol={}", protocol.name())?;
        }
        if let Some(direction) = self.direction {
            write!(f, " direction={}", direction.name())?;
        }
        if let Some(address) = self.address {
            write!(f, " address={address}")?;
        }
        match self.ports.as_ref().map(|ports| (*ports.start(), *ports.end())) {
            Some((first, last)) if first == last => write!(f, " port={first}"),
            Some((first, last)) => write!(f, " port={first}-{last}"),
            None => Ok(()),
        }
    }
}

/// The policy: rules in order.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Rules(pub Vec<Rule>);

impl Rules {
    /// What the first matching rule says; `None` if no rule matches, and the default holds.
    ///
    /// The wildcard address matches only rules without an address or with one that contains it,
    /// such as 0.0.0.0/0.
    #[must_use]
    pub fn decide(&self, what: &Question<'_>) -> Option<Path> {
        self.0.iter().find(|rule| rule.matches(what)).map(|rule| rule.path)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// About a program `p` that listens with TCP.
    const PLAIN: Question<'_> = Question {
        program: "p",
        protocol: Protocol::Tcp,
        direction: Direction::Listen,
        address: IpAddr::V4(core::net::Ipv4Addr::new(10, 0, 0, 1)),
        port: 80,
    };

    fn rules(texts: &[&str]) -> Rules {
        Rules(texts.iter().map(|text| text.parse().unwrap()).collect())
    }

    #[test]
    fn rules_read_back_as_they_were_written() {
        for text in [
            "use kernel",
            "use onwire program=redis-server direction=listen address=10.0.0.0/8 port=80-90",
            "use kernel port=53",
            "use kernel protocol=udp port=443",
        ] {
            assert_eq!(text.parse::<Rule>().unwrap().to_string(), text);
        }
        let host = "use kernel address=10.0.0.1".parse::<Rule>().unwrap();
        assert_eq!(host.to_string(), "use kernel address=10.0.0.1/32");
    }

    #[test]
    fn the_first_match_wins() {
        let rules = rules(&["use onwire port=80", "use kernel port=1-100", "use onwire"]);
        let at = |port| rules.decide(&Question { port, ..PLAIN });
        assert_eq!(at(80), Some(Path::Stack));
        assert_eq!(at(81), Some(Path::Kernel));
        assert_eq!(at(101), Some(Path::Stack));
        assert_eq!(Rules::default().decide(&PLAIN), None);
    }

    #[test]
    fn a_rule_can_be_about_one_protocol() {
        let rules = rules(&["use kernel protocol=udp", "use onwire protocol=tcp port=80"]);
        assert_eq!(rules.decide(&PLAIN), Some(Path::Stack));
        assert_eq!(rules.decide(&Question { port: 81, ..PLAIN }), None);
        let udp = Question { protocol: Protocol::Udp, ..PLAIN };
        assert_eq!(rules.decide(&udp), Some(Path::Kernel));
    }

    #[test]
    fn every_word_must_match() {
        let rules =
            rules(&["use kernel program=redis-* direction=connect address=10.0.0.0/8 port=6379"]);
        let decide = |program, direction, address: [u8; 4], port| {
            rules.decide(&Question { program, direction, address: address.into(), port, ..PLAIN })
        };
        let ten = [10, 9, 8, 7];
        assert_eq!(decide("redis-cli", Direction::Connect, ten, 6379), Some(Path::Kernel));
        assert_eq!(decide("nginx", Direction::Connect, ten, 6379), None);
        assert_eq!(decide("redis-cli", Direction::Listen, ten, 6379), None);
        assert_eq!(decide("redis-cli", Direction::Connect, [11, 0, 0, 1], 6379), None);
        assert_eq!(decide("redis-cli", Direction::Connect, ten, 6380), None);
    }

    #[test]
    fn mapped_addresses_match_rules_about_ipv4() {
        let rules = rules(&["use kernel address=10.0.0.0/8"]);
        let address = "::ffff:10.1.1.1".parse().unwrap();
        assert_eq!(rules.decide(&Question { address, ..PLAIN }), Some(Path::Kernel));
    }

    #[test]
    fn malformed_rules_are_refused_in_one_line() {
        for text in [
            "",
            "use",
            "kernel",
            "use nothing",
            "use kernel port=0-x",
            "use kernel port=9-1",
            "use kernel port=65536",
            "use kernel direction=up",
            "use kernel protocol=icmp",
            "use kernel address=10.0.0.0/33",
            "use kernel address=",
            "use kernel program=",
            "use kernel colour=red",
            "use kernel port=1 port=2",
            "use kernel program=/bin/x",
        ] {
            let error = text.parse::<Rule>().expect_err(text).to_string();
            assert!(error.contains("write use") && !error.contains('\n'), "{text}: {error}");
        }
    }

    #[test]
    fn stars_stand_for_any_text() {
        for (pattern, text, expected) in [
            ("*", "x", true),
            ("a*", "abc", true),
            ("*c", "abc", true),
            ("a*c", "abc", true),
            ("a*b*c", "aXbYc", true),
            ("a*b*c", "acb", false),
            ("abc", "ab", false),
            ("ab*ba", "aba", false),
        ] {
            assert_eq!(glob(pattern, text), expected, "{pattern} {text}");
        }
    }
}
