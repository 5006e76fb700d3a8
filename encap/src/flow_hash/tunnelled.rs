//! The flow inside a tunnel's packet.
//!
//! ```text
//!   IPv4 or IPv6, protocol 4 or 41    | IPv4 or IPv6 | ports        RFC 2003, 2473, 4213
//!   the same, UDP to 4789 | VXLAN | Ethernet | IPv4 or IPv6 | ports RFC 7348
//! ```
//!
//! All flows between two tunnel ends look like one from outside; whoever spreads them over several ways looks
//! inside. Fragments of the outer packet count as one flow, whatever they carry: only the first shows it.

use super::{symmetric_v4, symmetric_v6};
use crate::wire::ethernet::{EtherType, Ethernet};
use crate::wire::ipv4::{self, Ipv4};
use crate::wire::ipv6::{self, Ipv6};
use crate::wire::protocol;

/// UDP's header and VXLAN's.
const VXLAN_HEADERS: usize = 8 + 8;
/// The port of VXLAN (IANA).
const VXLAN_PORT: [u8; 2] = 4789u16.to_be_bytes();
/// The bit that says that there is a network identifier.
const VXLAN_VALID: u8 = 0x08;

/// A packet taken apart as far as its ports.
struct Layers<'a> {
    /// The hash by addresses, protocol and ports.
    hash: u32,
    protocol: u8,
    /// What the protocol carries; `None` in fragments.
    upper: Option<&'a [u8]>,
}

/// The hash of the flow inside `packet`, an IPv4 or IPv6 packet whose end may be missing: equal for both of its
/// directions, like [`symmetric_v4`]. `None` if it is no tunnel's packet, or what is inside cannot be seen.
pub fn tunnelled(packet: &[u8], seed: u32) -> Option<u32> {
    let outer = layers(packet, seed)?;
    let upper = outer.upper?;
    let inner = match outer.protocol {
        protocol::IPIP | protocol::IPV6 => upper,
        protocol::UDP if upper.get(2..4)? == VXLAN_PORT && upper.get(8)? & VXLAN_VALID != 0 => {
            let frame = Ethernet::new_checked(upper.get(VXLAN_HEADERS..)?).ok()?;
            let is_ip = matches!(frame.ethertype(), EtherType::IPV4 | EtherType::IPV6);
            return is_ip.then(|| layers(frame.payload(), seed).map(|inner| inner.hash))?;
        }
        _ => return None,
    };
    Some(layers(inner, seed)?.hash)
}

fn layers(packet: &[u8], seed: u32) -> Option<Layers<'_>> {
    let ports = |protocol, upper: Option<&[u8]>| match upper {
        Some(&[a, b, c, d, ..]) if ipv4::has_ports(protocol) => {
            (u16::from_be_bytes([a, b]), u16::from_be_bytes([c, d]))
        }
        _ => (0, 0),
    };
    if packet.first()? >> 4 == 4 {
        let ip = Ipv4::new_quoted(packet).ok()?;
        let upper = if ip.is_fragment() { None } else { packet.get(ip.header_len()..) };
        let (protocol, (source, destination)) = (ip.protocol(), ports(ip.protocol(), upper));
        let hash = symmetric_v4(ip.src(), ip.dst(), protocol, source, destination, seed);
        return Some(Layers { hash, protocol, upper });
    }
    let ip = Ipv6::new_quoted(packet).ok()?;
    let end = ip.upper().ok()?;
    let whole = end.fragment.is_none_or(|fragment| fragment.is_atomic());
    let upper = if whole { packet.get(ipv6::HEADER_LEN + end.offset..) } else { None };
    let (source, destination) = ports(end.protocol, upper);
    let hash = symmetric_v6(ip.src(), ip.dst(), end.protocol, source, destination, seed);
    Some(Layers { hash, protocol: end.protocol, upper })
}

#[cfg(test)]
mod tests {
    use core::net::Ipv6Addr;

    use etherparse::PacketBuilder;
    use proptest::prelude::*;

    use super::*;

    const SEED: u32 = 9;
    const A: [u8; 4] = [10, 0, 0, 1];
    const B: [u8; 4] = [10, 0, 0, 2];

    /// A UDP packet, made by another library.
    fn udp(source: [u8; 4], destination: [u8; 4], ports: (u16, u16)) -> Vec<u8> {
        let mut packet = Vec::new();
        let builder = PacketBuilder::ipv4(source, destination, 64).udp(ports.0, ports.1);
        builder.write(&mut packet, b"payload").unwrap();
        packet
    }

    fn udp6(source: u8, destination: u8, ports: (u16, u16)) -> Vec<u8> {
        let address = |last| Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, last).octets();
        let mut packet = Vec::new();
        let builder = PacketBuilder::ipv6(address(source.into()), address(destination.into()), 64)
            .udp(ports.0, ports.1);
        builder.write(&mut packet, b"payload").unwrap();
        packet
    }

    /// The packet in IPv4 or IPv6, by a protocol number.
    fn within(protocol: u8, inner: &[u8]) -> [Vec<u8>; 2] {
        let [mut v4, mut v6] = [Vec::new(), Vec::new()];
        PacketBuilder::ipv4([192, 0, 2, 1], [192, 0, 2, 2], 64)
            .write(&mut v4, protocol.into(), inner)
            .unwrap();
        PacketBuilder::ipv6([1; 16], [2; 16], 64).write(&mut v6, protocol.into(), inner).unwrap();
        [v4, v6]
    }

    fn vxlan(ethertype: u16, inner: &[u8]) -> Vec<u8> {
        let mut payload = vec![VXLAN_VALID, 0, 0, 0, 0, 0x10, 0, 0];
        payload.extend([2; 12]);
        payload.extend(ethertype.to_be_bytes());
        payload.extend(inner);
        let mut packet = Vec::new();
        let builder = PacketBuilder::ipv4([192, 0, 2, 1], [192, 0, 2, 2], 64).udp(50_000, 4789);
        builder.write(&mut packet, &payload).unwrap();
        packet
    }

    #[test]
    fn the_inner_flow_counts_whatever_carries_it() {
        let flow = symmetric_v4(A.into(), B.into(), 17, 1000, 53, SEED);
        let packet = udp(A, B, (1000, 53));
        for tunnel in within(protocol::IPIP, &packet) {
            assert_eq!(tunnelled(&tunnel, SEED), Some(flow));
        }
        assert_eq!(tunnelled(&vxlan(0x0800, &packet), SEED), Some(flow));
        let address = |last| Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, last);
        let flow = symmetric_v6(address(1), address(2), 17, 1000, 53, SEED);
        let packet = udp6(1, 2, (1000, 53));
        for tunnel in within(protocol::IPV6, &packet) {
            assert_eq!(tunnelled(&tunnel, SEED), Some(flow));
        }
        assert_eq!(tunnelled(&vxlan(0x86dd, &packet), SEED), Some(flow));
    }

    #[test]
    fn both_directions_are_one_flow_and_ports_tell_flows_apart() {
        let hash = |from, to, ports| tunnelled(&within(protocol::IPIP, &udp(from, to, ports))[0], SEED);
        assert_eq!(hash(A, B, (1000, 53)), hash(B, A, (53, 1000)));
        assert_ne!(hash(A, B, (1000, 53)), hash(A, B, (1001, 53)));
    }

    #[test]
    fn fragments_inside_count_by_their_addresses() {
        let mut fragment = udp(A, B, (1000, 53));
        fragment[6] = 0x20;
        let flow = symmetric_v4(A.into(), B.into(), 17, 0, 0, SEED);
        assert_eq!(tunnelled(&within(protocol::IPIP, &fragment)[0], SEED), Some(flow));
    }

    #[test]
    fn what_is_no_tunnel_or_hides_its_inside_has_no_inner_flow() {
        assert_eq!(tunnelled(&udp(A, B, (1000, 53)), SEED), None);
        assert_eq!(tunnelled(&vxlan(0x0806, &[0; 28]), SEED), None);
        let mut outer_fragment = within(protocol::IPIP, &udp(A, B, (1000, 53)))[0].clone();
        outer_fragment[7] = 1;
        assert_eq!(tunnelled(&outer_fragment, SEED), None);
        assert_eq!(tunnelled(&within(protocol::IPIP, &[0x45, 0])[0], SEED), None);
        assert_eq!(tunnelled(&[], SEED), None);
    }

    proptest! {
        #[test]
        fn any_bytes_are_taken(bytes in prop::collection::vec(any::<u8>(), 0..120), version in 4..7_u8) {
            let mut bytes = bytes;
            if let Some(first) = bytes.first_mut() {
                *first = version << 4 | *first & 0xf;
            }
            tunnelled(&bytes, SEED);
        }
    }
}
