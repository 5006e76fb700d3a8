//! Protocols, ports and ICMP types as rules name them.

use std::fmt;

use serde::{Serialize, Serializer};
use serde_yaml_ng::Value;

use crate::fields::{Fields, show};

/// An IP protocol, by one of Calico's names or by number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Protocol(pub u8);

impl Protocol {
    /// TCP.
    pub const TCP: Protocol = Protocol(6);
    /// UDP.
    pub const UDP: Protocol = Protocol(17);
    /// SCTP.
    pub const SCTP: Protocol = Protocol(132);
    /// ICMP for IPv4.
    pub const ICMP: Protocol = Protocol(1);
    /// ICMP for IPv6.
    pub const ICMPV6: Protocol = Protocol(58);

    /// The names that Calico has for protocols.
    pub const NAMES: [(&'static str, Protocol); 6] = [
        ("TCP", Self::TCP),
        ("UDP", Self::UDP),
        ("ICMP", Self::ICMP),
        ("ICMPv6", Self::ICMPV6),
        ("SCTP", Self::SCTP),
        ("UDPLite", Protocol(136)),
    ];

    /// Whether rules may name ports of this protocol.
    pub fn has_ports(self) -> bool {
        matches!(self, Self::TCP | Self::UDP | Self::SCTP)
    }

    /// Takes a protocol field.
    pub(crate) fn take(fields: &mut Fields<'_>, key: &'static str) -> Option<Protocol> {
        const EXPECTED: &str = "TCP, UDP, ICMP, ICMPv6, SCTP, UDPLite or a number from 1 to 255";
        let value = fields.take(key)?;
        let found = match value {
            Value::String(text) => Self::NAMES
                .iter()
                .find(|(name, _)| name == text)
                .map(|(_, protocol)| *protocol)
                .or_else(|| text.parse().ok().map(Protocol)),
            other => other.as_u64().and_then(|number| u8::try_from(number).ok()).map(Protocol),
        };
        let found = found.filter(|protocol| protocol.0 != 0);
        if found.is_none() {
            fields.problem(key, format!("found {}", show(value)), EXPECTED);
        }
        found
    }
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match Self::NAMES.iter().find(|(_, protocol)| protocol == self) {
            Some((name, _)) => f.write_str(name),
            None => self.0.fmt(f),
        }
    }
}

impl Serialize for Protocol {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match Self::NAMES.iter().find(|(_, protocol)| protocol == self) {
            Some((name, _)) => serializer.serialize_str(name),
            None => serializer.serialize_u8(self.0),
        }
    }
}

/// Ports of a rule: a range, or the name that endpoints give to ports of theirs.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Port {
    /// From the first to the last, both included.
    Range(u16, u16),
    /// A named port.
    Named(String),
}

const PORT: &str = "a port from 1 to 65535, a range such as \"80:90\", or a port's name";

impl Port {
    /// Reads one port as YAML writes it: `80`, `"80"`, `"80:90"` or a name.
    pub(crate) fn of(value: &Value) -> Option<Port> {
        let number = |text: &str| text.parse::<u16>().ok().filter(|port| *port != 0);
        let digits = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
        match value {
            Value::Number(port) => {
                let port = u16::try_from(port.as_u64()?).ok().filter(|port| *port != 0)?;
                Some(Port::Range(port, port))
            }
            Value::String(text) if digits(text) => number(text).map(|port| Port::Range(port, port)),
            Value::String(text) => match text.split_once(':') {
                Some((first, last)) => {
                    let (first, last) = (number(first)?, number(last)?);
                    (first <= last).then_some(Port::Range(first, last))
                }
                None => is_port_name(text).then(|| Port::Named(text.clone())),
            },
            _ => None,
        }
    }

    /// Takes a list of ports.
    pub(crate) fn take_list(fields: &mut Fields<'_>, key: &'static str) -> Vec<Port> {
        let mut out = Vec::new();
        for (index, value) in fields.list(key, "ports").unwrap_or_default().iter().enumerate() {
            match Port::of(value) {
                Some(port) => out.push(port),
                None => fields.problem(&format!("{key}[{index}]"), format!("found {}", show(value)), PORT),
            }
        }
        out
    }
}

/// A port's name: 1 to 128 of letters, digits, `_`, `.` and `-`.
pub(crate) fn is_port_name(text: &str) -> bool {
    (1..=128).contains(&text.len())
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b'-'))
}

impl fmt::Display for Port {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Port::Range(first, last) if first == last => first.fmt(f),
            Port::Range(first, last) => write!(f, "{first}:{last}"),
            Port::Named(name) => f.write_str(name),
        }
    }
}

impl Serialize for Port {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Port::Range(first, last) if first == last => serializer.serialize_u16(*first),
            other => serializer.collect_str(other),
        }
    }
}

/// An ICMP type, with or without a code, in the numbers of the packet's own family. Neither: any ICMP.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
pub struct Icmp {
    /// The type.
    #[serde(rename = "type", skip_serializing_if = "Option::is_none")]
    pub kind: Option<u8>,
    /// The code; only beside a type.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub code: Option<u8>,
}

impl Icmp {
    pub(crate) fn take(fields: &mut Fields<'_>, key: &'static str) -> Option<Icmp> {
        let mut part = fields.mapping(key, false)?;
        // Type 255 is reserved for experiments and refused by Calico.
        let kind = part.number("type", 0..=254).map(|number| number as u8);
        let code = part.number("code", 0..=255).map(|number| number as u8);
        if code.is_some() && kind.is_none() && !part.has_problem("type") {
            part.problem("code", "is given without a type", "a type beside it");
        }
        fields.absorb(part.finish());
        Some(Icmp { kind, code })
    }
}
