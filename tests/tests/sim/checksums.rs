//! Transport checksums that a sender left to be finished: whoever receives the packet at
//! last finds a right one, whatever happened to it on the way.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use vrouter::port::memory::{MemoryHost, WirePacket};
use vrouter::{MemoryPort, Router};
use vrouter_tests::lab::{Lab, pod_spec};
use vrouter_tests::packet::{self, GATEWAY_MAC, Ip4, Mac, internet_checksum, pseudo_sum4, pseudo_sum6};

use crate::two_nodes::{net, route};

const A: Mac = [2, 0, 0, 0, 1, 1];
const UP: Mac = [2, 0, 0, 0, 0, 0xfc];
const FAR: Mac = [2, 0, 0, 0, 0, 0xfd];
const TCP: u8 = 6;
const UDP: u8 = 17;

/// Pod `a` sends; pods `plain` and `offload` (which takes partial checksums), `narrow`
/// (MTU 600), and a tunnel by `up` receive.
fn lab() -> (Lab, MemoryHost) {
    let mut lab = Lab::new(Router::builder().frames(512));
    lab.pod("a", A, &["10.1.0.1", "fd00:1::1"]);
    lab.pod("plain", [2, 0, 0, 0, 1, 2], &["10.1.0.2", "fd00:1::2"]);
    let (port, offload) = MemoryPort::with_host(16);
    let spec = pod_spec("offload", [2, 0, 0, 0, 1, 3], &["10.1.0.3", "fd00:1::3"]);
    lab.port_on(spec, port.carrying_partial_checksums());
    let mut narrow = pod_spec("narrow", [2, 0, 0, 0, 1, 4], &["10.1.0.4"]);
    narrow.mtu = 600;
    lab.port(narrow);
    lab.uplink("up", UP, &["172.16.20.252/24"], true);
    let pool = vrouter::control::Pool {
        name: String::new(),
        cidr: net("10.2.0.0/16"),
        ipip_mode: vrouter::control::IpipMode::Always,
    };
    lab.apply([vrouter::Event::PutPool(pool), route("10.2.0.0/16", "172.16.20.1")]);
    lab.run();
    let reply = packet::arp(2, FAR, Ipv4Addr::new(172, 16, 20, 1), UP, Ipv4Addr::new(172, 16, 20, 252));
    lab.send("up", &packet::ethernet(UP, FAR, 0x0806, &reply));
    lab.run();
    lab.receive_all();
    (lab, offload)
}

/// The sum of the pseudo-header of a transport packet.
fn pseudo(source: IpAddr, destination: IpAddr, protocol: u8, len: usize) -> u32 {
    match (source, destination) {
        (IpAddr::V4(source), IpAddr::V4(destination)) => pseudo_sum4(source, destination, protocol, len),
        (IpAddr::V6(source), IpAddr::V6(destination)) => pseudo_sum6(source, destination, protocol, len),
        _ => panic!("two families"),
    }
}

/// A transport packet from pod `a` whose checksum field holds the folded pseudo-header
/// sum, as kernels leave it; with where the sum starts and where its field is.
fn partial(to: &str, protocol: u8, data: usize) -> WirePacket {
    let to: IpAddr = to.parse().unwrap();
    let from: IpAddr = match to {
        IpAddr::V4(_) => Ipv4Addr::new(10, 1, 0, 1).into(),
        IpAddr::V6(_) => "fd00:1::1".parse::<Ipv6Addr>().unwrap().into(),
    };
    let (header, field) = if protocol == TCP { (20, 16) } else { (8, 6) };
    let mut segment: Vec<u8> = (0..header + data).map(|n| n as u8).collect();
    if protocol == TCP {
        // A header without options, and a segment of a connection under way.
        segment[12..14].copy_from_slice(&[0x50, 0x10]);
    } else {
        segment[4..6].copy_from_slice(&((header + data) as u16).to_be_bytes());
    }
    let sum = !internet_checksum(pseudo(from, to, protocol, segment.len()), &[]);
    segment[field..field + 2].copy_from_slice(&sum.to_be_bytes());
    let (ethertype, ip, start) = match (from, to) {
        (IpAddr::V4(from), IpAddr::V4(to)) => (0x0800, Ip4::new(from, to, protocol).bytes(&segment), 34),
        (IpAddr::V6(from), IpAddr::V6(to)) => (0x86dd, packet::ip6(from, to, protocol, 64, &segment), 54),
        _ => panic!("two families"),
    };
    let mut bytes = packet::ethernet(GATEWAY_MAC, A, ethertype, &ip);
    bytes.extend([0xa5; 7]);
    WirePacket { bytes, partial_checksum: Some((start, field as u16)), ..WirePacket::default() }
}

/// Whether the transport checksum of an IP packet is right.
fn is_right(ip: &[u8]) -> bool {
    let (source, destination, protocol, at) = if ip[0] >> 4 == 4 {
        let address = |at: usize| IpAddr::from(<[u8; 4]>::try_from(&ip[at..at + 4]).unwrap());
        (address(12), address(16), ip[9], 20)
    } else {
        let address = |at: usize| IpAddr::from(<[u8; 16]>::try_from(&ip[at..at + 16]).unwrap());
        (address(8), address(24), ip[6], 40)
    };
    internet_checksum(pseudo(source, destination, protocol, ip.len() - at), &ip[at..]) == 0
}

#[test]
fn they_are_finished_for_a_port_that_cannot() {
    let (mut lab, _) = lab();
    for to in ["10.1.0.2", "fd00:1::2"] {
        for protocol in [TCP, UDP] {
            for data in [0, 1, 100, 1301] {
                lab.wire("a").send_packet(partial(to, protocol, data));
                lab.run();
                let frame = lab.receive("plain").pop().expect("it arrives");
                assert!(is_right(&frame[14..]), "{to} protocol {protocol}, {data} bytes");
            }
        }
    }
}

#[test]
fn they_are_finished_within_a_tunnel() {
    let (mut lab, _) = lab();
    for protocol in [TCP, UDP] {
        lab.wire("a").send_packet(partial("10.2.0.1", protocol, 333));
        lab.run();
        let frame = lab.receive("up").pop().expect("it leaves");
        assert_eq!(frame[14 + 9], 4, "in a tunnel");
        assert!(is_right(&frame[34..]));
    }
}

#[test]
fn they_are_finished_before_a_packet_is_cut_into_fragments() {
    let (mut lab, _) = lab();
    lab.wire("a").send_packet(partial("10.1.0.4", UDP, 1000));
    lab.run();
    let pieces = lab.receive("narrow");
    assert_eq!(pieces.len(), 2);
    let mut whole = pieces[0][14..].to_vec();
    whole.extend(&pieces[1][34..]);
    assert!(is_right(&whole));
}

#[test]
fn they_are_passed_on_to_a_port_that_can() {
    let (mut lab, offload) = lab();
    for (to, start) in [("10.1.0.3", 34), ("fd00:1::3", 54)] {
        let sent = partial(to, TCP, 50);
        lab.wire("a").send_packet(sent.clone());
        lab.run();
        let got = offload.receive().expect("it arrives");
        assert_eq!(got.partial_checksum, Some((start, 16)));
        let transport = usize::from(start);
        assert_eq!(
            got.bytes[transport..],
            sent.bytes[transport..sent.bytes.len() - 7],
            "untouched, padding gone"
        );
    }
    lab.send(
        "a",
        &packet::ethernet(
            GATEWAY_MAC,
            A,
            0x0800,
            &packet::ping4([10, 1, 0, 1].into(), [10, 1, 0, 3].into(), 64, 1),
        ),
    );
    lab.run();
    assert_eq!(offload.receive().expect("it arrives").partial_checksum, None);
}

#[test]
fn whole_ones_are_never_touched_even_when_wrong() {
    let (mut lab, _) = lab();
    let mut packet = partial("10.1.0.2", UDP, 20);
    packet.partial_checksum = None;
    let sum = packet.bytes[40..42].to_vec();
    lab.wire("a").send_packet(packet);
    lab.run();
    assert_eq!(lab.receive("plain")[0][40..42], sum);
}
