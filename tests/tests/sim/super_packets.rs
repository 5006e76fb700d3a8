//! Super-packets: whole from end to end where both ends take them, cut up where one does not, and put
//! together where single packets meet an end that takes more.

use std::net::{Ipv4Addr, Ipv6Addr};

use vrouter::burst::{Gso, GsoKind};
use vrouter::port::memory::{MemoryHost, WirePacket};
use vrouter::{MemoryPort, Router};
use vrouter_tests::lab::{Lab, moved, pod_spec};
use vrouter_tests::packet::{self, GATEWAY_MAC, Ip4, Mac, internet_checksum, pseudo_sum4, pseudo_sum6};

use crate::two_nodes::{net, route};

const A: Mac = [2, 0, 0, 0, 1, 1];
const B: Mac = [2, 0, 0, 0, 1, 2];
const UP: Mac = [2, 0, 0, 0, 0, 0xfc];
const FAR: Mac = [2, 0, 0, 0, 0, 0xfd];
const TCP: u8 = 6;
const UDP: u8 = 17;
const DONT_FRAGMENT: u16 = 0x4000;
const PUSH_ACK: u8 = 0x18;

/// Pods `a` and `big` give and take super-packets, `plain` does not, nor does `narrow` (MTU 600), nor
/// `up`, an uplink with a tunnel behind it.
fn lab() -> (Lab, MemoryHost, MemoryHost) {
    let mut lab = Lab::new(Router::builder().frames(1024));
    let mut whole = |name: &str, mac: Mac, addresses: &[&str]| {
        let (port, host) = MemoryPort::with_host(128);
        lab.port_on(pod_spec(name, mac, addresses), port.carrying_super_packets());
        host
    };
    let a = whole("a", A, &["10.1.0.1", "fd00:1::1"]);
    let big = whole("big", [2, 0, 0, 0, 1, 3], &["10.1.0.3", "fd00:1::3"]);
    lab.pod("plain", B, &["10.1.0.2", "fd00:1::2"]);
    let mut narrow = pod_spec("narrow", [2, 0, 0, 0, 1, 4], &["10.1.0.4", "fd00:1::4"]);
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
    (lab, a, big)
}

/// What a packet of these tests is made of.
#[derive(Clone, Copy)]
struct Shape {
    v6: bool,
    protocol: u8,
    to: u8,
    id: u16,
    fragment: u16,
    seq: u32,
    flags: u8,
    from: (u8, Mac),
}

impl Shape {
    fn new(v6: bool, protocol: u8, to: u8) -> Self {
        let (fragment, flags) = (DONT_FRAGMENT, PUSH_ACK);
        Shape { v6, protocol, to, id: 7, fragment, seq: 1000, flags, from: (1, A) }
    }

    fn addresses6(&self) -> (Ipv6Addr, Ipv6Addr) {
        let address = |last: u8| Ipv6Addr::new(0xfd00, 1, 0, 0, 0, 0, 0, u16::from(last));
        (address(self.from.0), address(self.to))
    }

    fn addresses4(&self) -> (Ipv4Addr, Ipv4Addr) {
        let net = if self.to == 99 { 2 } else { 1 };
        (Ipv4Addr::new(10, 1, 0, self.from.0), Ipv4Addr::new(10, net, 0, self.to))
    }

    /// The frame, its checksum complete or only the pseudo-header's sum.
    fn frame(&self, data: &[u8], complete: bool) -> Vec<u8> {
        let mut transport = 4000u16.to_be_bytes().to_vec();
        transport.extend(5000u16.to_be_bytes());
        let field = if self.protocol == TCP {
            transport.extend(self.seq.to_be_bytes());
            transport.extend([0, 0, 0, 1, 0x50, self.flags, 1, 0, 0, 0, 0, 0]);
            16
        } else {
            transport.extend((8 + data.len() as u16).to_be_bytes());
            transport.extend([0, 0]);
            6
        };
        transport.extend(data);
        let pseudo = self.pseudo(transport.len());
        let sum = internet_checksum(pseudo, if complete { &transport } else { &[] });
        let sum = if complete { sum } else { !sum };
        transport[field..field + 2].copy_from_slice(&sum.to_be_bytes());
        let (ethertype, ip) = if self.v6 {
            let (from, to) = self.addresses6();
            (0x86dd, packet::ip6(from, to, self.protocol, 64, &transport))
        } else {
            let (from, to) = self.addresses4();
            let header = Ip4::new(from, to, self.protocol);
            (0x0800, Ip4 { id: self.id, fragment: self.fragment, ..header }.bytes(&transport))
        };
        packet::ethernet(GATEWAY_MAC, self.from.1, ethertype, &ip)
    }

    fn pseudo(&self, len: usize) -> u32 {
        if self.v6 {
            let (from, to) = self.addresses6();
            pseudo_sum6(from, to, self.protocol, len)
        } else {
            let (from, to) = self.addresses4();
            pseudo_sum4(from, to, self.protocol, len)
        }
    }

    fn transport(&self) -> usize {
        14 + if self.v6 { 40 } else { 20 }
    }

    fn super_packet(&self, data: &[u8], size: u16) -> WirePacket {
        let kind = match (self.protocol, self.v6) {
            (UDP, _) => GsoKind::Udp,
            (_, false) => GsoKind::Tcp4,
            (_, true) => GsoKind::Tcp6,
        };
        let field = if self.protocol == TCP { 16 } else { 6 };
        WirePacket {
            bytes: self.frame(data, false),
            partial_checksum: Some((self.transport() as u16, field)),
            gso: Gso { kind, size },
        }
    }

    /// The frames that this sender would have sent one by one, as they arrive: one hop older.
    fn segments(&self, data: &[u8], size: usize, to: Mac) -> Vec<Vec<u8>> {
        let pieces: Vec<_> = data.chunks(size).collect();
        let last = pieces.len() - 1;
        let one = |(i, piece): (usize, &&[u8])| {
            let mut shape = *self;
            shape.id += i as u16;
            shape.seq += (i * size) as u32;
            if i < last {
                shape.flags &= !0x09;
            }
            aged(shape.frame(piece, true), to)
        };
        pieces.iter().enumerate().map(one).collect()
    }
}

/// A frame from a pod as the router sends it to another.
fn aged(mut frame: Vec<u8>, to: Mac) -> Vec<u8> {
    frame[..6].copy_from_slice(&to);
    frame[6..12].copy_from_slice(&GATEWAY_MAC);
    if frame[14] >> 4 == 6 {
        frame[21] -= 1;
    } else {
        frame[22] -= 1;
        frame[24..26].fill(0);
        let sum = internet_checksum(0, &frame[14..34]);
        frame[24..26].copy_from_slice(&sum.to_be_bytes());
    }
    frame
}

fn data(len: usize) -> Vec<u8> {
    (0..len as u32).map(|i| (i * 31 + i / 253) as u8).collect()
}

const KINDS: [(bool, u8); 4] = [(false, TCP), (true, TCP), (false, UDP), (true, UDP)];

#[test]
fn they_arrive_whole_at_an_end_that_takes_them() {
    let (mut lab, a, big) = lab();
    for (v6, protocol) in KINDS {
        let shape = Shape::new(v6, protocol, 3);
        for len in [1401, 5000, 65_000] {
            let sent = shape.super_packet(&data(len), 1400);
            assert!(a.send_packet(sent.clone()));
            lab.run();
            let got = big.receive().expect("it arrives");
            assert_eq!(got.bytes, aged(sent.bytes, [2, 0, 0, 0, 1, 3]));
            assert_eq!((got.gso, got.partial_checksum), (sent.gso, sent.partial_checksum));
            assert_eq!(big.receive(), None);
        }
    }
}

#[test]
fn they_are_cut_up_for_an_end_that_does_not() {
    let (mut lab, a, _) = lab();
    for (v6, protocol) in KINDS {
        let shape = Shape::new(v6, protocol, 2);
        for len in [1400, 1401, 5000, 60_001] {
            let bytes = data(len);
            assert!(a.send_packet(shape.super_packet(&bytes, 1400)));
            lab.run();
            assert_eq!(lab.receive("plain"), shape.segments(&bytes, 1400, B), "{len} bytes");
        }
    }
}

#[test]
fn every_segment_gets_an_outer_header_of_its_own() {
    let (mut lab, a, _) = lab();
    for len in [5000, 65_400] {
        let shape = Shape::new(false, TCP, 99);
        let bytes = data(len);
        assert!(a.send_packet(shape.super_packet(&bytes, 1400)));
        lab.run();
        let frames = lab.receive("up");
        let inner: Vec<_> = frames.iter().map(|frame| frame[34..].to_vec()).collect();
        let expected: Vec<_> = shape.segments(&bytes, 1400, B).iter().map(|f| f[14..].to_vec()).collect();
        assert_eq!(inner, expected);
        let mut ids = Vec::new();
        for frame in &frames {
            let outer = &frame[14..34];
            assert_eq!(internet_checksum(0, outer), 0);
            assert_eq!(usize::from(u16::from_be_bytes([outer[2], outer[3]])), frame.len() - 14);
            ids.push(u16::from_be_bytes([outer[4], outer[5]]));
        }
        assert!(ids.windows(2).all(|pair| pair[1] == pair[0].wrapping_add(1)), "{ids:?}");
    }
}

#[test]
fn single_packets_become_one_for_an_end_that_takes_more() {
    let (mut lab, _, big) = lab();
    for (v6, protocol) in KINDS {
        let shape = Shape { from: (2, B), ..Shape::new(v6, protocol, 3) };
        let bytes = data(20 * 1400 + 300);
        for (i, piece) in bytes.chunks(1400).enumerate() {
            let i = i as u32;
            let flags = if i == 20 { PUSH_ACK } else { 0x10 };
            let one = Shape { id: 7 + i as u16, seq: 1000 + i * 1400, flags, ..shape };
            lab.send("plain", &one.frame(piece, true));
        }
        lab.run();
        let got = big.receive().expect("they arrive");
        let whole = shape.super_packet(&bytes, 1400);
        assert_eq!(got.bytes, aged(whole.bytes, [2, 0, 0, 0, 1, 3]));
        assert_eq!((got.gso, got.partial_checksum), (whole.gso, whole.partial_checksum));
        assert_eq!(big.receive(), None, "all in one");
    }
}

#[test]
fn an_error_quotes_the_segment_that_met_the_obstacle() {
    let (mut lab, a, _) = lab();
    for v6 in [false, true] {
        let shape = Shape::new(v6, TCP, 4);
        let bytes = data(5000);
        assert!(a.send_packet(shape.super_packet(&bytes, 1000)));
        lab.run();
        assert_eq!(lab.receive("narrow").len(), 0);
        let error = a.receive().expect("an error comes back").bytes;
        let first = Shape { flags: 0x10, ..shape }.frame(&bytes[..1000], true);
        let (kind, quoted) = if v6 { (54, 62) } else { (34, 42) };
        assert_eq!(error[kind..kind + 2], if v6 { [2, 0] } else { [3, 4] });
        assert_eq!(error[kind + 6..kind + 8], 600u16.to_be_bytes());
        let quoted = &error[quoted..];
        assert_eq!(quoted, &first[14..14 + quoted.len()]);
        // Segments that fit pass, however large the whole is.
        assert!(a.send_packet(shape.super_packet(&bytes, 500)));
        lab.run();
        let narrow = lab.receive("narrow");
        assert_eq!(narrow, shape.segments(&bytes, 500, [2, 0, 0, 0, 1, 4]));
    }
}

#[test]
fn segments_that_may_be_fragmented_are() {
    let (mut lab, a, _) = lab();
    let shape = Shape { fragment: 0, ..Shape::new(false, UDP, 4) };
    let bytes = data(3000);
    assert!(a.send_packet(shape.super_packet(&bytes, 1000)));
    lab.run();
    let fragments = lab.receive("narrow");
    let mut datagrams = vec![Vec::new(); 3];
    for frame in &fragments {
        assert!(frame.len() <= 614);
        let ip = &frame[14..];
        let id = usize::from(u16::from_be_bytes([ip[4], ip[5]])) - 7;
        datagrams[id].extend_from_slice(&ip[20..]);
    }
    let whole = shape.segments(&bytes, 1000, B);
    let expected: Vec<_> = whole.iter().map(|frame| frame[34..].to_vec()).collect();
    assert_eq!(datagrams, expected);
}

#[test]
fn a_long_packet_is_fragmented_from_its_chain() {
    let (mut lab, a, _) = lab();
    let shape = Shape { fragment: 0, ..Shape::new(false, UDP, 4) };
    let frame = shape.frame(&data(5001), true);
    assert!(a.send(&frame));
    lab.run();
    let parts: Vec<u8> = lab.receive("narrow").iter().flat_map(|frame| frame[34..].to_vec()).collect();
    assert_eq!(parts, &frame[34..]);
}

#[test]
fn the_router_answers_a_long_ping() {
    let (mut lab, a, _) = lab();
    let gateway = Ipv4Addr::new(169, 254, 1, 1);
    let request = Ip4::new(Ipv4Addr::new(10, 1, 0, 1), gateway, 1).bytes(&packet::icmp(8, 0, 1, &data(5001)));
    assert!(a.send(&packet::ethernet(GATEWAY_MAC, A, 0x0800, &request)));
    lab.run();
    // The answer is longer than the pod's MTU, and comes in fragments.
    let mut fragments: Vec<_> = std::iter::from_fn(|| a.receive()).map(|packet| packet.bytes).collect();
    fragments.sort_by_key(|frame| u16::from_be_bytes([frame[20], frame[21]]) & 0x1fff);
    let reply: Vec<u8> = fragments.iter().flat_map(|frame| frame[34..].to_vec()).collect();
    assert_eq!(reply[0], 0);
    assert_eq!(internet_checksum(0, &reply), 0);
    assert_eq!(reply[8..], request[28..]);
}

#[test]
fn segmentation_that_the_headers_do_not_allow_is_refused() {
    let good = Shape::new(false, TCP, 2).super_packet(&data(3000), 1000);
    let gso = |kind, size| WirePacket { gso: Gso { kind, size }, ..good.clone() };
    let mut fragment = good.clone();
    fragment.bytes = Shape { fragment: 0x2000, ..Shape::new(false, TCP, 2) }.frame(&data(3000), false);
    let mut odd_header = good.clone();
    odd_header.bytes[46] = 0x40;
    let faults = [
        gso(GsoKind::Tcp6, 1000),
        gso(GsoKind::Udp, 1000),
        gso(GsoKind::Tcp4, 0),
        gso(GsoKind::Tcp4, 1),
        WirePacket { partial_checksum: None, ..good.clone() },
        WirePacket { partial_checksum: Some((34, 14)), ..good.clone() },
        fragment,
        odd_header,
    ];
    for fault in faults {
        let (mut lab, a, _) = lab();
        let before = lab.counted();
        assert!(a.send_packet(fault.clone()));
        lab.run();
        let moved = moved(&before, &lab.counted());
        assert_eq!(moved.get("a.drop.bad-segmentation-offload"), Some(&1), "{:?}: {moved:?}", fault.gso);
    }
}

#[test]
fn headers_that_are_shorter_than_a_long_frame_are_refused() {
    let (mut lab, a, _) = lab();
    for v6 in [false, true] {
        let mut frame = Shape::new(v6, UDP, 3).frame(&data(3000), true);
        frame.push(0);
        assert!(a.send(&frame));
    }
    let before = lab.counted();
    lab.run();
    assert_eq!(moved(&before, &lab.counted()).get("a.drop.length-mismatch"), Some(&2));
}

#[test]
fn a_long_packet_is_too_big_for_a_port_of_single_frames() {
    let mut lab = Lab::new(Router::builder().frames(256));
    let (port, a) = MemoryPort::with_host(8);
    lab.port_on(pod_spec("a", A, &["10.1.0.1"]), port);
    let mut wide = pod_spec("plain", B, &["10.1.0.2"]);
    wide.mtu = 9000;
    let (port, _plain) = MemoryPort::with_host(8);
    lab.port_on(wide, port.of_single_frames());
    lab.apply([]);
    assert!(a.send(&Shape::new(false, UDP, 2).frame(&data(5000), true)));
    let before = lab.counted();
    lab.run();
    assert_eq!(moved(&before, &lab.counted()).get("a.drop.too-big-for-port"), Some(&1));
}
