//! Etherparse, an independent parser, sees the same fields in the same bytes, and builds packets that read the same here.

use encap::tunnel::ipip::{OVERHEAD, OuterIpv4};
use encap::wire::{
    ArpOperation, ArpRepr, EtherType, Ethernet, Ipv4, Ipv4Repr, Ipv6, Tcp, Udp, protocol, vlan,
};
use etherparse::{
    ArpPacketSlice, IpDscp, IpEcn, IpFragOffset, IpNumber, Ipv4Header, Ipv4HeaderSlice, Ipv6FlowLabel,
    Ipv6Header, PacketBuilder, SlicedPacket,
};
use proptest::prelude::*;

fn bytes(len: core::ops::Range<usize>) -> impl Strategy<Value = Vec<u8>> {
    proptest::collection::vec(any::<u8>(), len)
}

proptest! {
    #[test]
    fn ipv4_fields(
        dscp in 0u8..64, ecn in 0u8..4, id: u16, df: bool, mf: bool, offset in 0u16..8192, ttl: u8,
        number: u8, src: [u8; 4], dst: [u8; 4], options in 0usize..=10, payload in bytes(0..60),
    ) {
        let mut header = Ipv4Header::new(payload.len() as u16, ttl, IpNumber(number), src, dst).unwrap();
        header.dscp = IpDscp::try_new(dscp).unwrap();
        header.ecn = IpEcn::try_new(ecn).unwrap();
        header.identification = id;
        (header.dont_fragment, header.more_fragments) = (df, mf);
        header.fragment_offset = IpFragOffset::try_new(offset).unwrap();
        header.options = vec![1u8; options * 4].as_slice().try_into().unwrap();
        header.total_len = (header.header_len() + payload.len()) as u16;
        header.header_checksum = header.calc_header_checksum();
        let packet = [&header.to_bytes()[..], &payload].concat();
        let ip = Ipv4::new_checked(&packet).unwrap();
        prop_assert!(ip.verify_checksum());
        prop_assert_eq!((ip.dscp(), ip.ecn().bits(), ip.id(), ip.ttl()), (dscp, ecn, id, ttl));
        prop_assert_eq!((ip.dont_fragment(), ip.more_fragments()), (df, mf));
        prop_assert_eq!((ip.fragment_offset(), ip.is_fragment()), (offset * 8, header.is_fragmenting_payload()));
        prop_assert_eq!((ip.src().octets(), ip.dst().octets(), ip.protocol()), (src, dst, number));
        prop_assert_eq!((ip.options().len(), ip.payload()), (options * 4, &payload[..]));
    }

    #[test]
    fn emitted_ipv4_headers(
        tos: u8, id: u16, dont_fragment: bool, ttl: u8, protocol: u8, src: [u8; 4], dst: [u8; 4], payload_len in 0..65516u16,
    ) {
        let (src4, dst4) = (src.into(), dst.into());
        let mut out = [0; 20];
        Ipv4Repr { tos, id, dont_fragment, ttl, protocol, src: src4, dst: dst4, payload_len }.emit(&mut out).unwrap();
        let header = Ipv4HeaderSlice::from_slice(&out).unwrap().to_header();
        prop_assert_eq!(header.header_checksum, header.calc_header_checksum());
        prop_assert_eq!((header.dscp.value(), header.ecn.value()), (tos >> 2, tos & 3));
        prop_assert_eq!((header.identification, header.dont_fragment), (id, dont_fragment));
        prop_assert_eq!((header.time_to_live, header.protocol.0), (ttl, protocol));
        prop_assert_eq!((header.source, header.destination), (src, dst));
        prop_assert_eq!(header.total_len, payload_len + 20);
        prop_assert!(!header.is_fragmenting_payload());
    }

    #[test]
    fn ipv6_fields(
        traffic_class: u8, label in 0u32..1 << 20, next: u8, hop_limit: u8, source: [u8; 16], destination: [u8; 16],
        payload in bytes(0..60),
    ) {
        let header = Ipv6Header {
            traffic_class,
            flow_label: Ipv6FlowLabel::try_new(label).unwrap(),
            payload_length: payload.len() as u16,
            next_header: IpNumber(next),
            hop_limit,
            source,
            destination,
        };
        let packet = [&header.to_bytes()[..], &payload].concat();
        let ip = Ipv6::new_checked(&packet).unwrap();
        prop_assert_eq!((ip.traffic_class(), ip.flow_label()), (traffic_class, label));
        prop_assert_eq!((ip.next_header(), ip.hop_limit()), (next, hop_limit));
        prop_assert_eq!((ip.src().octets(), ip.dst().octets()), (source, destination));
        prop_assert_eq!(ip.payload(), &payload[..]);
    }

    #[test]
    fn whole_frames_with_tags_and_transports(
        macs: ([u8; 6], [u8; 6]), v6: bool, tcp: bool, tagged: bool, vid in 0u16..4096, ports: (u16, u16), seq: u32,
        addresses: ([u8; 16], [u8; 16]), payload in bytes(0..90),
    ) {
        let link = PacketBuilder::ethernet2(macs.0, macs.1);
        let (a, b) = addresses;
        let [a4, b4] = [&a, &b].map(|address| *address.first_chunk::<4>().unwrap());
        let ip = match (tagged, v6) {
            (false, false) => link.ipv4(a4, b4, 64),
            (false, true) => link.ipv6(a, b, 64),
            (true, false) => link.single_vlan(vid.try_into().unwrap()).ipv4(a4, b4, 64),
            (true, true) => link.single_vlan(vid.try_into().unwrap()).ipv6(a, b, 64),
        };
        let mut frame = Vec::new();
        if tcp {
            ip.tcp(ports.0, ports.1, seq, 1024).write(&mut frame, &payload).unwrap();
        } else {
            ip.udp(ports.0, ports.1).write(&mut frame, &payload).unwrap();
        }
        let ethernet = Ethernet::new_checked(&frame).unwrap();
        prop_assert_eq!((ethernet.src().0, ethernet.dst().0), macs);
        let (ethertype, offset) = vlan::strip(&frame).unwrap();
        prop_assert_eq!(offset, if tagged { 18 } else { 14 });
        prop_assert_eq!(ethertype, if v6 { EtherType::IPV6 } else { EtherType::IPV4 });
        let (segment, pseudo) = if v6 {
            let ip = Ipv6::new_checked(&frame[offset..]).unwrap();
            let upper = ip.upper().unwrap();
            let segment = ip.payload()[upper.offset..].to_vec();
            let pseudo = ip.pseudo_sum(upper.protocol, segment.len() as u32);
            (segment, pseudo)
        } else {
            let ip = Ipv4::new_checked(&frame[offset..]).unwrap();
            prop_assert!(ip.verify_checksum());
            (ip.payload().to_vec(), ip.pseudo_sum())
        };
        prop_assert_eq!(encap::wire::checksum::fold(pseudo + encap::wire::checksum::sum(&segment)), 0xffff);
        if tcp {
            let tcp = Tcp::new_checked(&segment).unwrap();
            prop_assert_eq!((tcp.src_port(), tcp.dst_port()), ports);
            prop_assert_eq!((tcp.seq(), tcp.payload()), (seq, &payload[..]));
        } else {
            let udp = Udp::new_checked(&segment).unwrap();
            prop_assert_eq!((udp.src_port(), udp.dst_port()), ports);
            prop_assert_eq!(udp.payload(), &payload[..]);
        }
    }

    #[test]
    fn emitted_arp(request: bool, sha: [u8; 6], tha: [u8; 6], spa: [u8; 4], tpa: [u8; 4]) {
        let operation = if request { ArpOperation::Request } else { ArpOperation::Reply };
        let mut out = [0; 28];
        ArpRepr { operation, sha: sha.into(), spa: spa.into(), tha: tha.into(), tpa: tpa.into() }.emit(&mut out).unwrap();
        let arp = ArpPacketSlice::from_slice(&out).unwrap();
        prop_assert_eq!(arp.operation().0, operation as u16);
        prop_assert_eq!((arp.sender_hw_addr(), arp.target_hw_addr()), (&sha[..], &tha[..]));
        prop_assert_eq!((arp.sender_protocol_addr(), arp.target_protocol_addr()), (&spa[..], &tpa[..]));
    }

    #[test]
    fn pushed_tunnel_headers(src: [u8; 4], dst: [u8; 4], id: u16, tos: u8, df: bool, payload in bytes(0..60)) {
        let mut inner = vec![0; 20];
        Ipv4Repr {
            tos, id: 1, dont_fragment: df, ttl: 63, protocol: protocol::UDP, src: [10, 0, 0, 1].into(),
            dst: [10, 0, 0, 2].into(), payload_len: payload.len() as u16,
        }
        .emit(&mut inner)
        .unwrap();
        inner.extend(&payload);
        let mut packet = vec![0; OVERHEAD];
        OuterIpv4::new(src.into(), dst.into()).push(&mut packet, &inner, inner.len() as u16, id).unwrap();
        packet.extend(&inner);
        let sliced = SlicedPacket::from_ip(&packet).unwrap();
        let Some(etherparse::NetSlice::Ipv4(outer)) = sliced.net else { panic!("not IPv4") };
        let header = outer.header().to_header();
        prop_assert_eq!(header.header_checksum, header.calc_header_checksum());
        prop_assert_eq!((header.source, header.destination), (src, dst));
        prop_assert_eq!((header.protocol, header.identification), (IpNumber::IPV4, id));
        prop_assert_eq!((header.dont_fragment, header.dscp.value()), (df, tos >> 2));
        prop_assert_eq!(outer.payload().payload, &inner[..]);
    }
}
