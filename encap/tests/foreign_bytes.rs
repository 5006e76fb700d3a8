//! Bytes made by another implementation: every vector is scapy's, see `scapy/generate.py`.
//!
//! What can be emitted is emitted and must equal scapy's bytes; what can only be read is read and must mean the same.
//! The vectors are checked in; where scapy is installed they are also made anew and compared.

mod scapy;

use std::net::{Ipv4Addr, Ipv6Addr};
use std::process::Command;

use encap::fragment::Fragmenter;
use encap::tunnel::ipip::{self, Inner, OuterIpv4, PopError};
use encap::wire::ndisc::{self, Message, NeighborAdvert, NeighborSolicit};
use encap::wire::{
    ArpRepr, EtherType, Ethernet, Icmpv4, Icmpv6, Ipv4, Ipv4Repr, Ipv6, Ipv6Repr, MacAddr, Tcp, Udp, VlanTag,
    checksum, ethernet, icmpv4, icmpv6, protocol, vlan,
};

use scapy::{VECTORS, all, vector};

const POD_MAC: MacAddr = MacAddr([2, 0, 0, 0, 0, 0x33]);
const GATEWAY_MAC: MacAddr = MacAddr([0xee; 6]);
const POD1: Ipv4Addr = Ipv4Addr::new(10, 100, 36, 103);
const POD2: Ipv4Addr = Ipv4Addr::new(10, 100, 169, 176);
const GATEWAY: Ipv4Addr = Ipv4Addr::new(169, 254, 1, 1);
const NODE1: Ipv4Addr = Ipv4Addr::new(172, 16, 20, 252);
const NODE2: Ipv4Addr = Ipv4Addr::new(172, 16, 20, 253);
const POD1_6: Ipv6Addr = Ipv6Addr::new(0xfd00, 0x10, 0, 0, 0, 0, 0x36, 0x103);
const POD2_6: Ipv6Addr = Ipv6Addr::new(0xfd00, 0x10, 0, 0, 0, 0, 0x169, 0x176);
const ROUTER_6: Ipv6Addr = Ipv6Addr::new(0xfd00, 0x20, 0, 0, 0, 0, 0, 0x252);
const LINK_LOCAL: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0xecee, 0xeeff, 0xfeee, 0xeeee);

#[test]
fn the_vectors_are_what_scapy_makes() {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/scapy/generate.py");
    let made = match Command::new("/usr/bin/python3").arg(script).output() {
        Ok(made) if made.status.success() => String::from_utf8(made.stdout).unwrap(),
        _ => {
            return eprintln!(
                "SKIPPED: Debian's python3-scapy is not installed; the checked-in vectors are used alone"
            );
        }
    };
    // The first line names scapy's version, which may differ.
    let body = |text: &str| text.lines().skip(1).map(str::to_owned).collect::<Vec<_>>();
    assert_eq!(body(&made), body(VECTORS));
}

#[test]
fn arp() {
    for (name, dst) in [("arp_request", MacAddr::BROADCAST), ("arp_reply", POD_MAC)] {
        let bytes = vector(name);
        let frame = Ethernet::new_checked(&bytes).unwrap();
        assert_eq!((frame.dst(), frame.ethertype()), (dst, EtherType::ARP));
        let arp = ArpRepr::parse(frame.payload()).unwrap();
        let mut again = vec![0; bytes.len()];
        ethernet::write_header(again.first_chunk_mut().unwrap(), frame.dst(), frame.src(), frame.ethertype());
        arp.emit(&mut again[14..]).unwrap();
        assert_eq!(again, bytes);
    }
    let request = ArpRepr::parse(&vector("arp_request")[14..]).unwrap();
    assert_eq!((request.sha, request.spa, request.tpa), (POD_MAC, POD1, GATEWAY));
    let mut answer = [0; 28];
    request.answer(GATEWAY_MAC).emit(&mut answer).unwrap();
    assert_eq!(answer, vector("arp_reply")[14..]);
}

#[test]
fn vlan_tags() {
    let bytes = vector("vlan");
    let tag = VlanTag::new_checked(&bytes[14..]).unwrap();
    assert_eq!((tag.vid(), tag.priority(), tag.drop_eligible()), (100, 5, true));
    assert_eq!(vlan::strip(&bytes), Ok((EtherType::IPV4, 18)));
    let bytes = vector("qinq");
    assert_eq!(Ethernet::new_checked(&bytes).unwrap().ethertype(), EtherType::QINQ);
    assert_eq!(vlan::strip(&bytes), Ok((EtherType::IPV4, 22)));
    assert!(Ipv4::new_checked(&bytes[22..]).unwrap().verify_checksum());
}

#[test]
fn ip_headers_are_written_alike() {
    const NOT_PLAIN_IP: [&str; 5] = ["arp_request", "arp_reply", "vlan", "qinq", "options"];
    for (name, bytes) in all().filter(|(name, _)| !NOT_PLAIN_IP.contains(name)) {
        let Some(bytes) = bytes else { continue };
        let mut again = bytes.clone();
        if bytes[0] >> 4 == 4 {
            let ip = Ipv4::new_checked(&bytes).unwrap();
            assert!(ip.verify_checksum(), "{name}");
            let Ok(repr) = Ipv4Repr::parse(&ip) else {
                continue;
            };
            again[..20].fill(0);
            repr.emit(&mut again).unwrap();
        } else {
            again[..40].fill(0);
            Ipv6Repr::parse(&Ipv6::new_checked(&bytes).unwrap()).emit(&mut again).unwrap();
        }
        assert_eq!(again, bytes, "{name}");
    }
}

#[test]
fn transport_checksums_from_scratch() {
    for name in ["tcp4", "udp4", "udp_long4", "udp4_zero_sum", "tcp6", "udp6", "udp_long6", "echo6"] {
        let bytes = vector(name);
        let mut again = bytes.clone();
        if bytes[0] >> 4 == 4 {
            let protocol = bytes[9];
            again[20 + checksum::l4_checksum_offset(protocol).unwrap()] ^= 0xff;
            checksum::fill_l4_v4(POD1, POD2, protocol, &mut again[20..]).unwrap();
        } else {
            let protocol = bytes[6];
            again[40 + checksum::l4_checksum_offset(protocol).unwrap()] ^= 0xff;
            checksum::fill_l4_v6(POD1_6, POD2_6, protocol, &mut again[40..]).unwrap();
        }
        assert_eq!(again, bytes, "{name}");
    }
}

#[test]
fn transport_fields() {
    for (name, start) in [("tcp4", 20), ("tcp6", 40)] {
        let bytes = vector(name);
        let tcp = Tcp::new_checked(&bytes[start..]).unwrap();
        assert_eq!((tcp.src_port(), tcp.dst_port(), tcp.window()), (40000, 80, 512));
        assert_eq!((tcp.seq(), tcp.ack(), tcp.flags()), (0x0102_0304, 0x0506_0708, 0x52));
        assert_eq!((tcp.options().len(), tcp.payload().len()), (20, 11));
    }
    for (name, start) in [("udp4", 20), ("udp6", 40)] {
        let bytes = vector(name);
        let udp = Udp::new_checked(&bytes[start..]).unwrap();
        assert_eq!((udp.src_port(), udp.dst_port(), udp.len()), (53, 40001, 13));
        assert_eq!(udp.payload(), [0, 1, 2, 3, 4]);
    }
    let bytes = vector("udp6");
    let ip = Ipv6::new_checked(&bytes).unwrap();
    assert_eq!((ip.traffic_class(), ip.flow_label(), ip.hop_limit()), (0x28, 0xabcde, 63));
}

#[test]
fn one_hop() {
    let mut bytes = vector("tcp4");
    assert!(Ipv4::new_checked(&mut bytes[..]).unwrap().decrement_ttl());
    assert_eq!(bytes, vector("tcp4_next_hop"));
}

#[test]
fn echo_replies() {
    let mut bytes = vector("echo4");
    icmpv4::echo_reply_in_place(&mut bytes[20..]).unwrap();
    assert_eq!(bytes, vector("echo4_reply"));
    assert!(Icmpv4::new_checked(&bytes[20..]).unwrap().verify_checksum());
    let mut bytes = vector("echo6");
    icmpv6::echo_reply_in_place(&mut bytes[40..]).unwrap();
    let reply = Icmpv6::new_checked(&bytes[40..]).unwrap();
    assert!(reply.verify_checksum(POD2_6, POD1_6));
    assert_eq!((reply.echo_id(), reply.echo_seq()), (0x4321, 9));
}

#[test]
fn extension_headers() {
    let bytes = vector("ext_chain");
    let ip = Ipv6::new_checked(&bytes).unwrap();
    let upper = ip.upper().unwrap();
    let fragment = upper.fragment.unwrap();
    assert_eq!((upper.protocol, upper.routing_type, upper.hop_by_hop), (protocol::UDP, Some(4), true));
    assert_eq!((fragment.offset, fragment.more, fragment.id), (0, true, 0xcafe_babe));
    assert_eq!(&ip.payload()[upper.offset + 8..], b"upper");
    let bytes = vector("ext_later_fragment");
    let ip = Ipv6::new_checked(&bytes).unwrap();
    let upper = ip.upper().unwrap();
    assert!(upper.is_later_fragment());
    assert_eq!((upper.protocol, upper.fragment.unwrap().offset), (protocol::UDP, 1448));
    assert_eq!(&ip.payload()[upper.offset..], b"tail");
}

#[test]
fn outer_headers_are_written_alike_and_come_off() {
    let outer = OuterIpv4::new(NODE1, NODE2);
    for (name, kind) in [("ipip", Inner::Ipv4), ("ipip_df", Inner::Ipv4), ("6in4", Inner::Ipv6)] {
        let mut bytes = vector(name);
        let inner = bytes[20..].to_vec();
        let mut header = [0; 20];
        outer.push(&mut header, &inner, inner.len() as u16, 0xbeef).unwrap();
        assert_eq!(header, bytes[..20], "{name}");
        let popped = ipip::pop(&mut bytes).unwrap();
        assert_eq!((popped.inner, popped.offset, popped.len), (kind, 20, inner.len()));
        assert_eq!(bytes[20..], inner, "{name}");
    }
}

#[test]
fn every_ecn_combination_comes_out_as_rfc6040_says() {
    let mut seen = 0;
    for (name, after) in all() {
        let Some(before) = name.strip_suffix("_popped") else {
            continue;
        };
        let mut bytes = vector(before);
        match (ipip::pop(&mut bytes), after) {
            (Err(PopError::Ecn(_)), None) => {}
            (Ok(popped), Some(after)) => assert_eq!(bytes[popped.offset..], after, "{before}"),
            (popped, after) => panic!("{before}: {popped:?} instead of {after:?}"),
        }
        seen += 1;
    }
    assert_eq!(seen, 2 * 16);
}

#[test]
fn icmp_errors_are_written_alike() {
    let mut out = [0xaa; 2048];
    let about = vector("about4");
    for (name, ty, code, rest) in [
        ("error4_too_big", icmpv4::UNREACHABLE, icmpv4::CODE_FRAGMENTATION_NEEDED, 1480),
        ("error4_time_exceeded", icmpv4::TIME_EXCEEDED, icmpv4::CODE_TTL_EXCEEDED, 0),
    ] {
        let len = icmpv4::emit_error_v4(&mut out, NODE1, POD1, ty, code, rest, &about);
        assert_eq!(out[..len], vector(name), "{name}");
    }
    let about = vector("about6");
    for (name, ty, code, rest) in [
        ("error6_too_big", icmpv6::PACKET_TOO_BIG, 0, 1480),
        ("error6_time_exceeded", icmpv6::TIME_EXCEEDED, icmpv6::CODE_HOP_LIMIT_EXCEEDED, 0),
        ("error6_unreachable", icmpv6::UNREACHABLE, icmpv6::CODE_ADDRESS_UNREACHABLE, 0),
    ] {
        let len = icmpv6::emit_error_v6(&mut out, ROUTER_6, POD1_6, ty, code, rest, &about);
        assert_eq!(out[..len], vector(name), "{name}");
    }
}

#[test]
fn neighbour_discovery_is_written_and_read_alike() {
    let mut out = [0xaa; 128];
    let group = ndisc::solicited_node(POD2_6);
    for (name, src, source_ll) in [("ns", POD1_6, Some(POD_MAC)), ("ns_dad", Ipv6Addr::UNSPECIFIED, None)] {
        let len = ndisc::emit_neighbor_solicit(&mut out, src, group, POD2_6, source_ll);
        assert_eq!(out[..len], vector(name), "{name}");
        let expected = NeighborSolicit { target: POD2_6, source_ll, is_dad: source_ll.is_none() };
        assert_eq!(ndisc::parse(&out[..len]), Ok(Message::NeighborSolicit(expected)));
    }
    let answer = NeighborAdvert {
        target: POD2_6,
        target_ll: Some(GATEWAY_MAC),
        router: true,
        solicited: true,
        override_: false,
    };
    let announcement =
        NeighborAdvert { target: LINK_LOCAL, router: false, solicited: false, override_: true, ..answer };
    for (name, dst, advert) in [("na", POD1_6, answer), ("na_unsolicited", ndisc::ALL_NODES, announcement)] {
        let len = ndisc::emit_neighbor_advert(&mut out, LINK_LOCAL, dst, &advert);
        assert_eq!(out[..len], vector(name), "{name}");
        assert_eq!(ndisc::parse(&out[..len]), Ok(Message::NeighborAdvert(advert)));
    }
    let Ok(Message::RouterSolicit(rs)) = ndisc::parse(&vector("rs")) else { panic!("no RS") };
    assert_eq!(rs.source_ll, Some(POD_MAC));
    let Ok(Message::RouterAdvert(ra)) = ndisc::parse(&vector("ra")) else { panic!("no RA") };
    assert_eq!((ra.hop_limit, ra.lifetime_secs, ra.mtu), (64, 1800, Some(1480)));
    assert_eq!(ra.source_ll, Some(GATEWAY_MAC));
    let Ok(Message::Redirect(redirect)) = ndisc::parse(&vector("redirect")) else { panic!("no redirect") };
    assert_eq!((redirect.destination, redirect.target_ll), (POD2_6, Some(POD_MAC)));
}

#[test]
fn fragments_are_cut_alike() {
    let whole = vector("whole");
    // 776 bytes of data each, as scapy was told.
    let plan = Fragmenter::new(&whole, 20 + 776).unwrap();
    let pieces: Vec<Vec<u8>> = plan
        .map(|fragment| {
            let mut bytes = vec![0; fragment.header_len];
            plan.emit_header(&fragment, &mut bytes).unwrap();
            bytes.extend(plan.data(&fragment));
            bytes
        })
        .collect();
    let expected: Vec<Vec<u8>> = (0..3).map(|i| vector(&format!("whole_piece{i}"))).collect();
    assert_eq!(pieces, expected);
}

#[test]
fn ip_options() {
    let bytes = vector("options");
    let ip = Ipv4::new_checked(&bytes).unwrap();
    assert!(ip.verify_checksum());
    assert_eq!((ip.header_len(), ip.options().len()), (36, 16));
    assert_eq!(&ip.payload()[8..], b"options");
}
