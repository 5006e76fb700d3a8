//! What a tunnel carries in long packets: those that the kernel has joined before a packet socket got
//! them, and those that the router joins for a pod.
//!
//! ```text
//!   far node ══ IPIP ══> up (takes super-packets) ── router ── pod big    takes super-packets
//!                                                       ├────── pod plain  does not
//!                                                       └────── side       an uplink: other nodes
//! ```

use std::net::Ipv4Addr;

use vrouter::burst::{Gso, GsoKind};
use vrouter::control::{IpipMode, Pool};
use vrouter::port::memory::{MemoryHost, WirePacket};
use vrouter::{Event, MemoryPort, Router};
use vrouter_tests::lab::{Lab, moved, pod_spec, uplink_spec};
use vrouter_tests::packet::{self, GATEWAY_MAC, Ip4, Mac, internet_checksum, pseudo_sum4};

use crate::two_nodes::{net, route};

const UP: Mac = [2, 0, 0, 0, 0, 0xfc];
const SIDE: Mac = [2, 0, 0, 0, 0, 0xfb];
const FAR: Mac = [2, 0, 0, 0, 0, 0xfd];
const BIG: Mac = [2, 0, 0, 0, 1, 1];
const PLAIN: Mac = [2, 0, 0, 0, 1, 2];
const OWN: Ipv4Addr = Ipv4Addr::new(172, 16, 20, 252);
const PEER: Ipv4Addr = Ipv4Addr::new(172, 16, 20, 1);
const OTHER: Ipv4Addr = Ipv4Addr::new(172, 16, 30, 1);
const REMOTE: Ipv4Addr = Ipv4Addr::new(10, 2, 0, 9);
const SIZE: usize = 1400;
const DONT_FRAGMENT: u16 = 0x4000;
/// Where the headers begin that the tunnel carries, and the transport header.
const INNER: usize = 34;
const TRANSPORT: usize = 54;

fn lab() -> (Lab, MemoryHost, MemoryHost) {
    let mut lab = Lab::new(Router::builder().frames(1024));
    let (port, big) = MemoryPort::with_host(128);
    lab.port_on(pod_spec("big", BIG, &["10.1.0.1"]), port.carrying_super_packets());
    lab.pod("plain", PLAIN, &["10.1.0.2"]);
    let (port, up) = MemoryPort::with_host(128);
    lab.port_on(uplink_spec("up", UP, &["172.16.20.252/24"], true), port.carrying_super_packets());
    lab.uplink("side", SIDE, &["172.16.30.252/24"], true);
    let cidr = net("10.2.0.0/16");
    lab.apply([
        Event::PutPool(Pool { name: String::new(), cidr, ipip_mode: IpipMode::Always }),
        route("10.2.0.0/16", "172.16.20.1"),
    ]);
    lab.run();
    lab.receive_all();
    while up.receive().is_some() {}
    (lab, big, up)
}

fn data(len: usize) -> Vec<u8> {
    (0..len as u32).map(|i| (i * 31 + i / 253) as u8).collect()
}

/// A TCP packet for a pod; its checksum complete, or the pseudo-header's sum.
fn inner(to: Ipv4Addr, number: u32, bytes: &[u8], flags: u8, complete: bool, ttl: u8) -> Vec<u8> {
    let mut tcp = vec![0x0f, 0xa0, 0x13, 0x88];
    tcp.extend((1000 + number * SIZE as u32).to_be_bytes());
    tcp.extend([0, 0, 0, 1, 0x50, flags, 1, 0, 0, 0, 0, 0]);
    tcp.extend(bytes);
    let pseudo = pseudo_sum4(REMOTE, to, 6, tcp.len());
    let sum = if complete { internet_checksum(pseudo, &tcp) } else { !internet_checksum(pseudo, &[]) };
    tcp[16..18].copy_from_slice(&sum.to_be_bytes());
    Ip4 { id: 7 + number as u16, fragment: DONT_FRAGMENT, ttl, ..Ip4::new(REMOTE, to, 6) }.bytes(&tcp)
}

fn tunnelled(to: Ipv4Addr, id: u16, inner: &[u8]) -> Vec<u8> {
    let outer = Ip4 { id, fragment: DONT_FRAGMENT, ..Ip4::new(PEER, to, 4) };
    packet::ethernet(UP, FAR, 0x0800, &outer.bytes(inner))
}

/// A super-packet as the kernel joins it from a tunnel's packets.
fn joined(outer_to: Ipv4Addr, to: Ipv4Addr, bytes: &[u8]) -> WirePacket {
    WirePacket {
        bytes: tunnelled(outer_to, 99, &inner(to, 0, bytes, 0x18, false, 64)),
        partial_checksum: Some((TRANSPORT as u16, 16)),
        gso: Gso { kind: GsoKind::Tcp4, size: SIZE as u16 },
    }
}

fn pod(last: u8) -> Ipv4Addr {
    Ipv4Addr::new(10, 1, 0, last)
}

/// Checks that segments are what a sender would have sent one by one, and returns their data.
fn in_segments(packets: &[Vec<u8>], to: Ipv4Addr, ttl: u8) -> Vec<u8> {
    let mut whole = Vec::new();
    for (number, packet) in packets.iter().enumerate() {
        let last = number + 1 == packets.len();
        let flags = if last { 0x18 } else { 0x10 };
        let expected = inner(to, number as u32, &packet[40..], flags, true, ttl);
        assert_eq!(*packet, expected, "segment {number}");
        assert!(last || packet.len() == 40 + SIZE);
        whole.extend_from_slice(&packet[40..]);
    }
    whole
}

#[test]
fn super_packets_come_out_whole() {
    let (mut lab, big, up) = lab();
    let free = lab.free_frames();
    for len in [SIZE + 1, 3000, 60_000] {
        let bytes = data(len);
        assert!(up.send_packet(joined(OWN, pod(1), &bytes)));
        lab.run();
        let got = big.receive().unwrap_or_else(|| panic!("{len}: {:?}", lab.counted()));
        let expected = packet::ethernet(BIG, GATEWAY_MAC, 0x0800, &inner(pod(1), 0, &bytes, 0x18, false, 63));
        assert!(got.bytes == expected, "{len}");
        assert_eq!(got.partial_checksum, Some((34, 16)));
        assert_eq!(got.gso, Gso { kind: GsoKind::Tcp4, size: SIZE as u16 });
        assert_eq!(big.receive(), None);
    }
    assert_eq!(lab.free_frames(), free, "frames are lost");
}

#[test]
fn super_packets_are_cut_up_where_one_end_takes_none() {
    let (mut lab, _, up) = lab();
    let bytes = data(20 * SIZE + 300);
    assert!(up.send_packet(joined(OWN, pod(2), &bytes)));
    lab.run();
    let frames: Vec<Vec<u8>> = lab.receive("plain").iter().map(|frame| frame[14..].to_vec()).collect();
    assert_eq!(frames.len(), 21);
    assert!(in_segments(&frames, pod(2), 63) == bytes);
}

#[test]
fn a_tunnel_of_others_passes_in_segments() {
    let (mut lab, _, up) = lab();
    let bytes = data(20 * SIZE + 300);
    assert!(up.send_packet(joined(OTHER, pod(2), &bytes)));
    lab.run();
    // It waits for its neighbor.
    lab.receive("side");
    let reply = packet::arp(2, FAR, OTHER, SIDE, Ipv4Addr::new(172, 16, 30, 252));
    lab.send("side", &packet::ethernet(SIDE, FAR, 0x0806, &reply));
    lab.run();
    let frames = lab.receive("side");
    assert_eq!(frames.len(), 21, "{:?}", lab.counted());
    for (number, frame) in frames.iter().enumerate() {
        let outer = &frame[14..INNER];
        assert_eq!(internet_checksum(0, outer), 0);
        assert_eq!((usize::from(u16::from_be_bytes([outer[2], outer[3]])), outer[8]), (frame.len() - 14, 63));
        assert_eq!(u16::from_be_bytes([outer[4], outer[5]]), 99 + number as u16);
    }
    // What it carries is nobody's to age.
    let carried: Vec<Vec<u8>> = frames.iter().map(|frame| frame[INNER..].to_vec()).collect();
    assert!(in_segments(&carried, pod(2), 64) == bytes);
}

#[test]
fn packets_of_a_tunnel_reach_a_pod_as_one() {
    let (mut lab, big, up) = lab();
    let bytes = data(20 * SIZE + 300);
    for (number, piece) in bytes.chunks(SIZE).enumerate() {
        let flags = if number == 20 { 0x18 } else { 0x10 };
        let packet = inner(pod(1), number as u32, piece, flags, true, 64);
        assert!(up.send(&tunnelled(OWN, number as u16, &packet)));
    }
    lab.run();
    let got = big.receive().expect("they arrive");
    assert_eq!(got.gso, Gso { kind: GsoKind::Tcp4, size: SIZE as u16 });
    assert_eq!(got.partial_checksum, Some((34, 16)));
    let expected = packet::ethernet(BIG, GATEWAY_MAC, 0x0800, &inner(pod(1), 0, &bytes, 0x18, false, 63));
    assert!(got.bytes == expected);
    assert_eq!(big.receive(), None, "all in one");
}

#[test]
fn what_the_inner_headers_do_not_allow_is_refused() {
    let good = joined(OWN, pod(1), &data(3000));
    let gso = |kind, size| WirePacket { gso: Gso { kind, size }, ..good.clone() };
    let checksum_at = |start, field| WirePacket { partial_checksum: Some((start, field)), ..good.clone() };
    let none = Gso::default();
    let edited = |at: usize, byte: u8| {
        let mut packet = good.clone();
        packet.bytes[at] = byte;
        packet
    };
    for (fault, reason) in [
        (gso(GsoKind::Tcp6, 1000), "bad-segmentation-offload"),
        (gso(GsoKind::Udp, 1000), "bad-segmentation-offload"),
        (gso(GsoKind::Tcp4, 0), "bad-segmentation-offload"),
        (checksum_at(TRANSPORT as u16, 14), "bad-segmentation-offload"),
        // A checksum inside the header that has been checked.
        (checksum_at(INNER as u16, 16), "bad-checksum-offload"),
        (WirePacket { gso: none, ..checksum_at(INNER as u16, 10) }, "bad-checksum-offload"),
        // Inner headers that are none, of another length, of a fragment, of another protocol.
        (edited(INNER, 0x55), "bad-checksum-offload"),
        (edited(INNER + 3, 0), "bad-checksum-offload"),
        (edited(INNER + 6, 0x20), "bad-segmentation-offload"),
        (edited(INNER + 9, 17), "bad-segmentation-offload"),
        // A tunnel in the tunnel.
        (edited(INNER + 9, 4), "bad-segmentation-offload"),
    ] {
        let (mut lab, big, up) = lab();
        let before = lab.counted();
        assert!(up.send_packet(fault.clone()));
        lab.run();
        let moved = moved(&before, &lab.counted());
        let shown = (fault.gso, fault.partial_checksum, &fault.bytes[INNER..TRANSPORT]);
        assert_eq!(moved.get(&format!("up.drop.{reason}")), Some(&1), "{shown:?}: {moved:?}");
        assert_eq!(big.receive(), None);
    }
}
