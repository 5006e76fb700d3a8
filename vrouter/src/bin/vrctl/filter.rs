//! Conditions on packets, from the command line to the API.

use vrouter::rpc::v1::PacketFilter;

use crate::cli::{FilterArguments, HeaderArguments};

/// IP protocols by name (IANA's assigned numbers).
const PROTOCOLS: [(&str, u8); 11] = [
    ("icmp", 1),
    ("igmp", 2),
    ("ipip", 4),
    ("tcp", 6),
    ("udp", 17),
    ("ipv6", 41),
    ("gre", 47),
    ("esp", 50),
    ("icmpv6", 58),
    ("sctp", 132),
    ("udplite", 136),
];

/// Reads a protocol's name or number.
pub(crate) fn parse_protocol(text: &str) -> Result<u8, String> {
    let named = PROTOCOLS.iter().find(|(name, _)| name.eq_ignore_ascii_case(text));
    match named {
        Some((_, number)) => Ok(*number),
        None => text.parse().map_err(|_| {
            let names: Vec<&str> = PROTOCOLS.iter().map(|(name, _)| *name).collect();
            format!("a number from 0 to 255, or one of {}", names.join(", "))
        }),
    }
}

/// A protocol's name, or its number where it has none here.
pub(crate) fn protocol_name(number: u8) -> String {
    PROTOCOLS
        .iter()
        .find(|(_, known)| *known == number)
        .map_or_else(|| format!("protocol {number}"), |(name, _)| (*name).to_owned())
}

impl From<FilterArguments> for PacketFilter {
    fn from(arguments: FilterArguments) -> Self {
        let text = |net: Option<ipnet::IpNet>| net.map(|net| net.to_string()).unwrap_or_default();
        Self {
            src: text(arguments.src),
            dst: text(arguments.dst),
            protocol: arguments.proto.map(u32::from),
            port: arguments.port.unwrap_or_default(),
            src_port: arguments.sport.map(u32::from),
            dst_port: arguments.dport.map(u32::from),
            drops_only: arguments.drops_only,
        }
    }
}

impl HeaderArguments {
    /// The conditions on addresses, protocol and ports.
    pub(crate) fn packet_filter(&self) -> PacketFilter {
        let text = |net: Option<ipnet::IpNet>| net.map(|net| net.to_string()).unwrap_or_default();
        PacketFilter {
            src: text(self.src),
            dst: text(self.dst),
            protocol: self.proto.map(u32::from),
            src_port: self.sport.map(u32::from),
            dst_port: self.dport.map(u32::from),
            ..PacketFilter::default()
        }
    }
}
