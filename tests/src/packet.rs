//! Frames for tests, written byte by byte from the RFCs, with nothing of the router's own code.

use std::net::{Ipv4Addr, Ipv6Addr};

/// A MAC address.
pub type Mac = [u8; 6];

/// The gateway's MAC address toward pods.
pub const GATEWAY_MAC: Mac = [0xee; 6];
/// All stations.
pub const BROADCAST: Mac = [0xff; 6];

/// The Internet checksum (RFC 1071) over `bytes`, added to a partial sum.
pub fn internet_checksum(start: u32, bytes: &[u8]) -> u16 {
    let mut sum = (start & 0xffff) + (start >> 16);
    for pair in bytes.chunks(2) {
        sum += u32::from(pair[0]) << 8 | u32::from(*pair.get(1).unwrap_or(&0));
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}

/// The sum of an IPv6 pseudo-header (RFC 8200 8.1).
pub fn pseudo_sum6(source: Ipv6Addr, destination: Ipv6Addr, protocol: u8, len: usize) -> u32 {
    let words = source.segments().into_iter().chain(destination.segments()).map(u32::from);
    words.sum::<u32>() + u32::from(protocol) + len as u32
}

/// The sum of an IPv4 pseudo-header (RFC 9293 3.1).
pub fn pseudo_sum4(source: Ipv4Addr, destination: Ipv4Addr, protocol: u8, len: usize) -> u32 {
    let halves = |address: Ipv4Addr| (u32::from(address) >> 16) + (u32::from(address) & 0xffff);
    halves(source) + halves(destination) + u32::from(protocol) + len as u32
}

/// An Ethernet frame.
pub fn ethernet(destination: Mac, source: Mac, ethertype: u16, payload: &[u8]) -> Vec<u8> {
    [&destination[..], &source, &ethertype.to_be_bytes(), payload].concat()
}

/// An IPv4 packet to be.
#[derive(Clone, Debug)]
pub struct Ip4 {
    /// DSCP and ECN.
    pub tos: u8,
    /// Identification.
    pub id: u16,
    /// Flags and fragment offset, as they stand in the header.
    pub fragment: u16,
    /// Time to live.
    pub ttl: u8,
    /// What the payload is.
    pub protocol: u8,
    /// Source.
    pub source: Ipv4Addr,
    /// Destination.
    pub destination: Ipv4Addr,
    /// Options; a multiple of 4 bytes.
    pub options: Vec<u8>,
}

impl Ip4 {
    /// A packet of TTL 64 that may be fragmented.
    pub fn new(source: Ipv4Addr, destination: Ipv4Addr, protocol: u8) -> Self {
        Ip4 { tos: 0, id: 0x1d, fragment: 0, ttl: 64, protocol, source, destination, options: Vec::new() }
    }

    /// The bytes, with the header checksum.
    pub fn bytes(&self, payload: &[u8]) -> Vec<u8> {
        let header_len = 20 + self.options.len();
        let total = (header_len + payload.len()) as u16;
        let mut out = vec![0x40 | (header_len / 4) as u8, self.tos];
        out.extend(total.to_be_bytes());
        out.extend(self.id.to_be_bytes());
        out.extend(self.fragment.to_be_bytes());
        out.extend([self.ttl, self.protocol, 0, 0]);
        out.extend(self.source.octets());
        out.extend(self.destination.octets());
        out.extend(&self.options);
        let sum = internet_checksum(0, &out);
        out[10..12].copy_from_slice(&sum.to_be_bytes());
        out.extend(payload);
        out
    }
}

/// An IPv6 packet.
pub fn ip6(source: Ipv6Addr, destination: Ipv6Addr, next: u8, hop_limit: u8, payload: &[u8]) -> Vec<u8> {
    let mut out = vec![0x60, 0, 0, 0];
    out.extend((payload.len() as u16).to_be_bytes());
    out.extend([next, hop_limit]);
    out.extend(source.octets());
    out.extend(destination.octets());
    out.extend(payload);
    out
}

/// An ICMP message with its checksum.
pub fn icmp(kind: u8, code: u8, rest: u32, data: &[u8]) -> Vec<u8> {
    let mut out = vec![kind, code, 0, 0];
    out.extend(rest.to_be_bytes());
    out.extend(data);
    let sum = internet_checksum(0, &out);
    out[2..4].copy_from_slice(&sum.to_be_bytes());
    out
}

/// An ICMPv6 message with its checksum.
pub fn icmp6(source: Ipv6Addr, destination: Ipv6Addr, kind: u8, code: u8, rest: u32, data: &[u8]) -> Vec<u8> {
    let mut out = vec![kind, code, 0, 0];
    out.extend(rest.to_be_bytes());
    out.extend(data);
    let sum = internet_checksum(pseudo_sum6(source, destination, 58, out.len()), &out);
    out[2..4].copy_from_slice(&sum.to_be_bytes());
    out
}

/// An IPv4 echo request.
pub fn ping4(source: Ipv4Addr, destination: Ipv4Addr, ttl: u8, sequence: u16) -> Vec<u8> {
    let message = icmp(8, 0, 0x7e57_0000 | u32::from(sequence), b"are you there?");
    Ip4 { ttl, ..Ip4::new(source, destination, 1) }.bytes(&message)
}

/// An IPv6 echo request.
pub fn ping6(source: Ipv6Addr, destination: Ipv6Addr, hop_limit: u8, sequence: u16) -> Vec<u8> {
    let rest = 0x7e57_0000 | u32::from(sequence);
    let message = icmp6(source, destination, 128, 0, rest, b"are you there?");
    ip6(source, destination, 58, hop_limit, &message)
}

/// A UDP datagram with its checksum, in IPv4.
pub fn udp4(source: (Ipv4Addr, u16), destination: (Ipv4Addr, u16), data: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    out.extend(source.1.to_be_bytes());
    out.extend(destination.1.to_be_bytes());
    out.extend((8 + data.len() as u16).to_be_bytes());
    out.extend([0, 0]);
    out.extend(data);
    let sum = internet_checksum(pseudo_sum4(source.0, destination.0, 17, out.len()), &out);
    out[6..8].copy_from_slice(&if sum == 0 { 0xffff } else { sum }.to_be_bytes());
    Ip4::new(source.0, destination.0, 17).bytes(&out)
}

/// An ARP packet for IPv4 over Ethernet (RFC 826).
pub fn arp(operation: u16, sha: Mac, spa: Ipv4Addr, tha: Mac, tpa: Ipv4Addr) -> Vec<u8> {
    let mut out = vec![0, 1, 8, 0, 6, 4];
    out.extend(operation.to_be_bytes());
    out.extend(sha);
    out.extend(spa.octets());
    out.extend(tha);
    out.extend(tpa.octets());
    out
}

/// The multicast address on which a node listens for questions about `target` (RFC 4291 2.7.1).
pub fn solicited_node(target: Ipv6Addr) -> Ipv6Addr {
    let [.., a, b, c] = target.octets();
    Ipv6Addr::new(0xff02, 0, 0, 0, 0, 1, 0xff00 | u16::from(a), u16::from_be_bytes([b, c]))
}

/// The MAC address of an IPv6 multicast address (RFC 2464 7).
pub fn multicast_mac(address: Ipv6Addr) -> Mac {
    let [.., a, b, c, d] = address.octets();
    [0x33, 0x33, a, b, c, d]
}

/// A neighbour solicitation as an IPv6 packet (RFC 4861 4.3); the link-layer address is left out
/// in duplicate address detection.
pub fn solicit(source: Ipv6Addr, destination: Ipv6Addr, target: Ipv6Addr, mac: Option<Mac>) -> Vec<u8> {
    nd(source, destination, 135, 0, target, mac.map(|mac| (1, mac)))
}

/// A neighbour advertisement as an IPv6 packet (RFC 4861 4.4), `flags` in the top bits.
pub fn advert(source: Ipv6Addr, destination: Ipv6Addr, flags: u32, target: Ipv6Addr, mac: Mac) -> Vec<u8> {
    nd(source, destination, 136, flags, target, Some((2, mac)))
}

fn nd(
    source: Ipv6Addr,
    destination: Ipv6Addr,
    kind: u8,
    rest: u32,
    target: Ipv6Addr,
    option: Option<(u8, Mac)>,
) -> Vec<u8> {
    let mut body = target.octets().to_vec();
    if let Some((kind, mac)) = option {
        body.extend([kind, 1]);
        body.extend(mac);
    }
    ip6(source, destination, 58, 255, &icmp6(source, destination, kind, 0, rest, &body))
}
