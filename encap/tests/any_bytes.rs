//! No bytes make a parser, an accessor, a setter or a builder panic: random bytes, and real packets damaged at random.

mod scapy;

use std::net::{Ipv4Addr, Ipv6Addr};

use encap::fragment::Fragmenter;
use encap::tunnel::ipip::{self, OuterIpv4};
use encap::wire::{
    ArpPacket, ArpRepr, Ecn, EtherType, Ethernet, Icmpv4, Icmpv6, Ipv4, Ipv4Repr, Ipv6, MacAddr, Tcp, Udp,
    VlanTag, checksum, icmpv4, icmpv6, ipv6_ext, ndisc, show, vlan,
};
use proptest::prelude::*;
use proptest::sample::{Index, select};

fn read_link(bytes: &[u8]) {
    if let Ok(frame) = Ethernet::new_checked(bytes) {
        let _ = (frame.dst(), frame.src(), frame.ethertype(), frame.payload());
    }
    if let Ok(tag) = VlanTag::new_checked(bytes) {
        let _ = (tag.tci(), tag.vid(), tag.priority(), tag.drop_eligible(), tag.ethertype(), tag.payload());
    }
    if let Ok((_, offset)) = vlan::strip(bytes) {
        assert!(offset <= bytes.len());
    }
    if let Ok(arp) = ArpPacket::new_checked(bytes) {
        let _ = (arp.operation(), arp.sha(), arp.spa(), arp.tha(), arp.tpa());
    }
    if let Ok(arp) = ArpRepr::parse(bytes) {
        let _ = arp.answer(MacAddr::ZERO).emit(&mut [0; 28]);
    }
}

fn read_ipv4(ip: Ipv4<&[u8]>) {
    let _ = (ip.version(), ip.header_len(), ip.dscp(), ip.ecn(), ip.total_len(), ip.id());
    let _ = (ip.dont_fragment(), ip.more_fragments(), ip.fragment_offset(), ip.is_fragment());
    let _ = (ip.ttl(), ip.protocol(), ip.checksum(), ip.src(), ip.dst(), ip.header(), ip.options());
    let _ = (ip.payload(), ip.verify_checksum(), ip.pseudo_sum(), Ipv4Repr::parse(&ip));
    let _ = ipip::validate(&ip);
}

fn read_ipv6(ip: Ipv6<&[u8]>) {
    let _ = (ip.version(), ip.traffic_class(), ip.dscp(), ip.ecn(), ip.flow_label(), ip.payload_len());
    let _ = (ip.total_len(), ip.next_header(), ip.hop_limit(), ip.src(), ip.dst(), ip.payload());
    if let Ok(upper) = ip.upper() {
        assert!(upper.offset <= ip.payload().len());
    }
}

fn read_upper(bytes: &[u8]) {
    for udp in [Udp::new_checked(bytes), Udp::new_quoted(bytes)].into_iter().flatten() {
        let _ = (udp.src_port(), udp.dst_port(), udp.len(), udp.checksum(), udp.payload());
    }
    if let Ok(tcp) = Tcp::new_checked(bytes) {
        let _ = (tcp.src_port(), tcp.dst_port(), tcp.seq(), tcp.ack(), tcp.header_len(), tcp.flags());
        let _ = (tcp.window(), tcp.checksum(), tcp.options(), tcp.payload());
    }
    if let Ok(icmp) = Icmpv4::new_checked(bytes) {
        let _ =
            (icmp.ty(), icmp.code(), icmp.checksum(), icmp.echo_id(), icmp.echo_seq(), icmp.next_hop_mtu());
        let _ = (icmp.payload(), icmp.is_error(), icmp.verify_checksum());
    }
    if let Ok(icmp) = Icmpv6::new_checked(bytes) {
        let _ =
            (icmp.ty(), icmp.code(), icmp.checksum(), icmp.rest_of_header(), icmp.echo_id(), icmp.echo_seq());
        let _ = (icmp.payload(), icmp.is_error());
        let _ = icmp.verify_checksum(Ipv6Addr::LOCALHOST, Ipv6Addr::UNSPECIFIED);
    }
}

fn write_all(bytes: &mut [u8], value: u32) {
    let (half, byte) = (value as u16, value as u8);
    if let Ok(mut frame) = Ethernet::new_checked(&mut *bytes) {
        frame.set_ethertype(EtherType(half));
        frame.payload_mut().reverse();
        frame.payload_mut().reverse();
    }
    if let Ok(mut ip) = Ipv4::new_checked(&mut *bytes) {
        ip.decrement_ttl();
        ip.mark_ecn(Ecn::from_tos(byte));
        ip.set_total_len(half);
        ip.set_fragment(half, byte & 1 != 0, byte & 2 != 0);
        ip.payload_mut().reverse();
        ip.payload_mut().reverse();
        ip.fill_checksum();
        assert!(ip.verify_checksum());
    }
    if let Ok(mut ip) = Ipv6::new_checked(&mut *bytes) {
        ip.decrement_hop_limit();
        ip.set_flow_label(value);
        ip.set_payload_len(half);
        ip.payload_mut().reverse();
        ip.payload_mut().reverse();
        ip.mark_ecn(Ecn::from_tos(byte));
    }
    if let Ok(mut udp) = Udp::new_quoted(&mut *bytes) {
        udp.set_len(half);
        assert!(udp.payload().len() <= usize::from(half));
    }
    let _ = icmpv4::echo_reply_in_place(&mut bytes.to_vec());
    let _ = icmpv6::echo_reply_in_place(&mut bytes.to_vec());
    let (a, b) = (Ipv4Addr::from(value), Ipv6Addr::from_bits(value.into()));
    let _ = checksum::fill_l4_v4(a, a, byte, &mut bytes.to_vec());
    let _ = checksum::fill_l4_v6(b, b, byte, &mut bytes.to_vec());
    let _ = checksum::is_partial(value.into(), byte, bytes);
    let _ = OuterIpv4::new(a, a).push(&mut [0; 20], bytes, half, half);
    let _ = ipip::pop(&mut bytes.to_vec());
    let _ = ipip::pop_head(&mut bytes.to_vec(), half.into());
}

fn everything(bytes: &[u8], value: u32) {
    read_link(bytes);
    [Ipv4::new_checked(bytes), Ipv4::new_quoted(bytes)].into_iter().flatten().for_each(read_ipv4);
    [Ipv6::new_checked(bytes), Ipv6::new_quoted(bytes)].into_iter().flatten().for_each(read_ipv6);
    read_upper(bytes);
    let _ = ipv6_ext::walk(value as u8, bytes);
    let _ = ndisc::parse(bytes);
    let _ =
        (icmpv4::may_answer_v4(bytes), icmpv6::may_answer_v6(bytes), icmpv6::may_answer_too_big_v6(bytes));
    let _ = (show::frame(bytes), show::packet(bytes));
    if let Ok(plan) = Fragmenter::new(bytes, value as u16) {
        for piece in plan {
            plan.emit_header(&piece, &mut [0; 60]).expect("60 bytes hold any header");
            assert_eq!(plan.data(&piece).len(), piece.len);
        }
    }
    let mut out = vec![0; (value >> 16) as usize % 2048];
    let (a, b) = (Ipv4Addr::from(value), Ipv6Addr::from_bits(value.into()));
    assert!(icmpv4::emit_error_v4(&mut out, a, a, 3, 4, value, bytes) <= out.len().min(576));
    assert!(icmpv6::emit_error_v6(&mut out, b, b, 2, 0, value, bytes) <= out.len().min(1280));
    write_all(&mut bytes.to_vec(), value);
}

fn real_packets() -> Vec<Vec<u8>> {
    scapy::all().filter_map(|(_, bytes)| bytes).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn random_bytes(bytes in proptest::collection::vec(any::<u8>(), 0..160), value: u32) {
        everything(&bytes, value);
    }

    #[test]
    fn damaged_packets(
        mut bytes in select(real_packets()),
        damage in proptest::collection::vec((any::<Index>(), any::<u8>()), 0..6),
        cut in proptest::option::of(any::<Index>()),
        value: u32,
    ) {
        for (at, byte) in damage {
            // Headers, where it matters, are in the first bytes.
            let at = at.index(bytes.len().min(90));
            bytes[at] = byte;
        }
        if let Some(cut) = cut {
            bytes.truncate(cut.index(bytes.len()));
        }
        everything(&bytes, value);
        if bytes.len() > 14 {
            everything(&bytes[14..], value);
        }
    }
}
