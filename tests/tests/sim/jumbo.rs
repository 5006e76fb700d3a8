//! Frames longer than the router's own: links of different MTUs in one router.
//!
//! ```text
//!   pod wide (8980) ── router ── jumbo (9000)   10.2.0.0/16 in a tunnel, 10.3.0.0/16 plainly
//!   pod small (1480) ──┘    └─── narrow (1500)  10.4.0.0/16 in a tunnel, 10.5.0.0/16 plainly
//! ```

use std::net::Ipv4Addr;

use vrouter::burst::{Gso, GsoKind};
use vrouter::control::{IpipMode, Pool};
use vrouter::port::memory::{MemoryHost, WirePacket};
use vrouter::{Event, MemoryPort, Router};
use vrouter_tests::lab::{Lab, moved, pod_spec, uplink_spec};
use vrouter_tests::packet::{self, GATEWAY_MAC, Ip4, Mac, internet_checksum, pseudo_sum4};

use crate::two_nodes::{net, route};

const WIDE: Mac = [2, 0, 0, 0, 1, 1];
const SMALL: Mac = [2, 0, 0, 0, 1, 2];
const UPLINKS: [(&str, Mac, &str, &str, u32); 2] = [
    ("jumbo", [2, 0, 0, 0, 0, 0xfa], "172.16.20.252/24", "172.16.20.1", 9000),
    ("narrow", [2, 0, 0, 0, 0, 0xfb], "172.16.30.252/24", "172.16.30.1", 1500),
];
const FAR: Mac = [2, 0, 0, 0, 0, 0xfd];
const FRAMES: u32 = 1024;

fn lab() -> (Lab, MemoryHost) {
    let mut lab = Lab::new(Router::builder().frames(FRAMES));
    let (port, wide) = MemoryPort::with_host(128);
    let spec = vrouter::PortSpec { mtu: 8980, ..pod_spec("wide", WIDE, &["10.1.0.1"]) };
    lab.port_on(spec, port.carrying_super_packets());
    lab.port(vrouter::PortSpec { mtu: 1480, ..pod_spec("small", SMALL, &["10.1.0.2"]) });
    for (name, mac, address, _, mtu) in UPLINKS {
        lab.port(vrouter::PortSpec { mtu, ..uplink_spec(name, mac, &[address], true) });
    }
    let pool = |cidr: &str| {
        Event::PutPool(Pool { name: cidr.to_owned(), cidr: net(cidr), ipip_mode: IpipMode::Always })
    };
    lab.apply([
        pool("10.2.0.0/16"),
        pool("10.4.0.0/16"),
        route("10.2.0.0/16", "172.16.20.1"),
        route("10.3.0.0/16", "172.16.20.1"),
        route("10.4.0.0/16", "172.16.30.1"),
        route("10.5.0.0/16", "172.16.30.1"),
    ]);
    lab.run();
    for (name, mac, address, via, _) in UPLINKS {
        let own: Ipv4Addr = address.split_once('/').expect("an address").0.parse().expect("an address");
        let reply = packet::arp(2, FAR, via.parse().expect("an address"), mac, own);
        lab.send(name, &packet::ethernet(mac, FAR, 0x0806, &reply));
    }
    lab.run();
    lab.receive_all();
    (lab, wide)
}

fn data(len: usize) -> Vec<u8> {
    (0..len as u32).map(|i| (i * 31 + i / 253) as u8).collect()
}

/// An IPv4 datagram of `len` bytes in all.
fn datagram(from: Ipv4Addr, to: Ipv4Addr, len: usize, fragment: u16, ttl: u8) -> Vec<u8> {
    let mut udp = vec![0x0f, 0xa0, 0x13, 0x88];
    udp.extend(((len - 20) as u16).to_be_bytes());
    udp.extend([0, 0]);
    udp.extend(data(len - 28));
    let sum = internet_checksum(pseudo_sum4(from, to, 17, udp.len()), &udp);
    udp[6..8].copy_from_slice(&sum.to_be_bytes());
    Ip4 { fragment, ttl, ..Ip4::new(from, to, 17) }.bytes(&udp)
}

const DONT_FRAGMENT: u16 = 0x4000;
const POD: Ipv4Addr = Ipv4Addr::new(10, 1, 0, 1);

/// A destination behind one of the routes.
fn at(net: u8) -> Ipv4Addr {
    Ipv4Addr::new(10, net, 0, 9)
}

#[test]
fn long_frames_leave_plainly_and_in_a_tunnel() {
    let (mut lab, wide) = lab();
    for (net, len, outer) in [(3, 8980, 0), (2, 8980, 20), (3, 1779, 0), (2, 1765, 20)] {
        let packet = datagram(POD, at(net), len, DONT_FRAGMENT, 64);
        assert!(wide.send(&packet::ethernet(GATEWAY_MAC, WIDE, 0x0800, &packet)));
        lab.run();
        let sent = lab.receive("jumbo");
        assert_eq!(sent.len(), 1, "{len} bytes to 10.{net}");
        let expected = datagram(POD, at(net), len, DONT_FRAGMENT, 63);
        assert_eq!(sent[0][14 + outer..], expected, "{len} bytes to 10.{net}");
        if outer > 0 {
            let header = &sent[0][14..34];
            assert_eq!(header[2..4], (len as u16 + 20).to_be_bytes());
            assert_eq!(internet_checksum(0, header), 0);
        }
    }
}

#[test]
fn long_frames_arrive_plainly_and_from_a_tunnel() {
    let (mut lab, wide) = lab();
    let (_, mac, own, via, _) = UPLINKS[0];
    for outer in [false, true] {
        let (from, len) = (at(2), 8980);
        let mut packet = datagram(from, POD, len, DONT_FRAGMENT, 64);
        if outer {
            let own: Ipv4Addr = own.split_once('/').expect("an address").0.parse().expect("an address");
            let header = Ip4::new(via.parse().expect("an address"), own, 4);
            packet = Ip4 { fragment: DONT_FRAGMENT, ..header }.bytes(&packet);
        }
        lab.send("jumbo", &packet::ethernet(mac, FAR, 0x0800, &packet));
        lab.run();
        let got = wide.receive().expect("it arrives").bytes;
        assert_eq!(got[14..], datagram(from, POD, len, DONT_FRAGMENT, 63), "from a tunnel: {outer}");
    }
}

/// The MTU that an ICMP error of the router names, with the bytes that it quotes.
fn needed(error: &[u8]) -> (u16, &[u8]) {
    assert_eq!(error[34..36], [3, 4], "fragmentation needed");
    (u16::from_be_bytes([error[40], error[41]]), &error[42..])
}

#[test]
fn a_narrower_way_out_is_told_of() {
    let (mut lab, wide) = lab();
    for (net, mtu) in [(5, 1500), (4, 1480), (1, 1480)] {
        let to = if net == 1 { Ipv4Addr::new(10, 1, 0, 2) } else { at(net) };
        let packet = datagram(POD, to, 8980, DONT_FRAGMENT, 64);
        let before = lab.counted();
        assert!(wide.send(&packet::ethernet(GATEWAY_MAC, WIDE, 0x0800, &packet)));
        lab.run();
        let error = wide
            .receive()
            .unwrap_or_else(|| panic!("no error about {to} comes back: {:?}", moved(&before, &lab.counted())))
            .bytes;
        let (named, quoted) = needed(&error);
        assert_eq!(named, mtu, "to {to}");
        assert_eq!(quoted, &packet[..quoted.len()]);
        let moved = moved(&before, &lab.counted());
        assert_eq!(moved.get("wide.drop.fragmentation-needed"), Some(&1), "{moved:?}");
        assert!(lab.receive_all().is_empty());

        // What may be fragmented is.
        let packet = datagram(POD, to, 8980, 0, 64);
        assert!(wide.send(&packet::ethernet(GATEWAY_MAC, WIDE, 0x0800, &packet)));
        lab.run();
        let outer = if net == 4 { 20 } else { 0 };
        let pieces = lab.receive_all();
        let bytes: Vec<u8> = pieces.iter().flat_map(|(_, frame)| frame[34 + outer..].to_vec()).collect();
        assert!(pieces.iter().all(|(_, frame)| frame.len() <= 1514), "to {to}");
        assert_eq!(bytes, packet[20..], "to {to}");
    }
}

#[test]
fn a_jumbo_frame_for_a_smaller_pod_is_told_of() {
    let (mut lab, _wide) = lab();
    let (_, mac, ..) = UPLINKS[0];
    let packet = datagram(at(3), Ipv4Addr::new(10, 1, 0, 2), 8980, DONT_FRAGMENT, 64);
    lab.send("jumbo", &packet::ethernet(mac, FAR, 0x0800, &packet));
    lab.run();
    let (small, jumbo) = (lab.receive("small"), lab.receive("jumbo"));
    assert_eq!((small.len(), jumbo.len()), (0, 1));
    assert_eq!(needed(&jumbo[0]).0, 1480);
}

/// A TCP super-packet of the pod `wide`.
fn super_packet(to: Ipv4Addr, bytes: &[u8], size: u16, fragment: u16) -> WirePacket {
    let mut tcp = vec![0x0f, 0xa0, 0x13, 0x88, 0, 0, 3, 232, 0, 0, 0, 1, 0x50, 0x18, 1, 0, 0, 0, 0, 0];
    tcp.extend(bytes);
    let sum = !internet_checksum(pseudo_sum4(POD, to, 6, tcp.len()), &[]);
    tcp[16..18].copy_from_slice(&sum.to_be_bytes());
    let ip = Ip4 { fragment, ..Ip4::new(POD, to, 6) }.bytes(&tcp);
    WirePacket {
        bytes: packet::ethernet(GATEWAY_MAC, WIDE, 0x0800, &ip),
        partial_checksum: Some((34, 16)),
        gso: Gso { kind: GsoKind::Tcp4, size },
    }
}

#[test]
fn super_packets_leave_in_jumbo_segments() {
    let (mut lab, wide) = lab();
    let free = lab.free_frames();
    let (from, size) = (POD, 8928);
    for (net, outer) in [(3, 0), (2, 20)] {
        let to = at(net);
        let bytes = data(60_000);
        assert!(wide.send_packet(super_packet(to, &bytes, size, DONT_FRAGMENT)));
        lab.run();
        let frames = lab.receive("jumbo");
        let lens: Vec<_> = frames.iter().map(Vec::len).collect();
        assert_eq!(lens.len(), 7, "{lens:?}");
        assert!(lens[..6].iter().all(|len| *len == 54 + outer + usize::from(size)), "{lens:?}");
        let mut whole = Vec::new();
        for frame in &frames {
            let segment = &frame[34 + outer..];
            assert_eq!(internet_checksum(pseudo_sum4(from, to, 6, segment.len()), segment), 0);
            whole.extend_from_slice(&segment[20..]);
        }
        assert_eq!(whole, bytes);
    }
    assert_eq!(lab.free_frames(), free, "frames are lost");
}

#[test]
fn jumbo_segments_that_may_be_fragmented_are() {
    let (mut lab, wide) = lab();
    let free = lab.free_frames();
    // Segments that no frame holds, that one just holds, and a short one at the end of each.
    for (net, outer) in [(5, 0), (4, 20)] {
        for size in [8928, 2500, 1600] {
            let (to, bytes) = (at(net), data(30_000));
            let before = lab.counted();
            assert!(wide.send_packet(super_packet(to, &bytes, size, 0)));
            lab.run();
            let pieces = lab.receive("narrow");
            let moved = moved(&before, &lab.counted());
            assert!(pieces.iter().all(|frame| frame.len() <= 1514), "{moved:?}");
            let mut segments: Vec<Vec<u8>> = Vec::new();
            for frame in &pieces {
                let packet = &frame[14 + outer..];
                let fragment = u16::from_be_bytes([packet[6], packet[7]]);
                assert_eq!(internet_checksum(0, &packet[..20]), 0);
                if fragment & 0x1fff == 0 {
                    segments.push(Vec::new());
                }
                let segment = segments.last_mut().expect("a first fragment");
                assert_eq!(segment.len(), usize::from(fragment & 0x1fff) * 8, "in order");
                segment.extend_from_slice(&packet[20..]);
            }
            let wanted = bytes.len().div_ceil(usize::from(size));
            assert_eq!(segments.len(), wanted, "size {size} to 10.{net}: {moved:?}");
            let mut whole = Vec::new();
            for segment in &segments {
                assert_eq!(internet_checksum(pseudo_sum4(POD, to, 6, segment.len()), segment), 0);
                let seq = u32::from_be_bytes([segment[4], segment[5], segment[6], segment[7]]);
                assert_eq!(seq as usize, 1000 + whole.len());
                whole.extend_from_slice(&segment[20..]);
            }
            assert!(whole == bytes, "size {size} to 10.{net}");
        }
    }
    assert_eq!(lab.free_frames(), free, "frames are lost");
}
