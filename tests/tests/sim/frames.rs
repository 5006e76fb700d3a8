//! Frames to try: valid ones, slightly damaged ones, edge addresses, tunnels, fragments,
//! options, extension headers, address resolution, of both families.

use std::net::{Ipv4Addr, Ipv6Addr};

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;
use vrouter_tests::model::{Kind, Model};
use vrouter_tests::packet::{self, BROADCAST, Ip4, Mac};

const V4: [&str; 34] = [
    "10.1.0.1",
    "10.1.0.2",
    "10.1.0.3",
    "10.1.0.4",
    "10.1.0.5",
    "10.1.0.62",
    "10.2.0.1",
    "10.2.127.255",
    "10.2.128.0",
    "10.2.129.7",
    "10.3.1.1",
    "10.4.1.1",
    "10.5.1.1",
    "10.6.1.1",
    "10.7.1.1",
    "10.8.1.1",
    "10.9.1.1",
    "10.10.1.1",
    "10.99.0.1",
    "172.16.0.1",
    "172.16.0.2",
    "172.16.0.3",
    "172.16.0.9",
    "172.16.0.77",
    "192.0.2.2",
    "192.0.2.3",
    "169.254.1.1",
    "169.254.7.7",
    "0.0.0.0",
    "127.0.0.1",
    "224.0.0.5",
    "240.0.0.1",
    "255.255.255.255",
    "192.168.3.4",
];
const V6: [&str; 27] = [
    "fd00:1::1",
    "fd00:1::2",
    "fd00:1::3",
    "fd00:1::4",
    "fd00:1::5",
    "fd00:3::1",
    "fd00:4::1",
    "fd00:5::1",
    "fd00:6::1",
    "fd00:7::1",
    "fd00:8::1",
    "fd00:9::1",
    "fd00:a::1",
    "fd00:99::1",
    "fd00:20::1",
    "fd00:20::2",
    "fd00:20::77",
    "fd00:21::2",
    "fd00:21::3",
    "fe80::ecee:eeff:feee:eeee",
    "fe80::1",
    "::",
    "::1",
    "ff02::1",
    "ff02::1:ffee:eeee",
    "ff0e::1",
    "2001:db8::9",
];

fn v4() -> impl Strategy<Value = Ipv4Addr> {
    select(&V4[..]).prop_map(|text| text.parse().unwrap())
}

fn v6() -> impl Strategy<Value = Ipv6Addr> {
    select(&V6[..]).prop_map(|text| text.parse().unwrap())
}

/// How a frame reaches its port.
#[derive(Clone, Debug)]
struct Link {
    port: usize,
    destination: Option<Mac>,
    source: Option<Mac>,
    padding: usize,
    /// Bytes to flip: (where, how).
    damage: Vec<(usize, u8)>,
    cut: Option<usize>,
}

fn link(ports: usize) -> impl Strategy<Value = Link> {
    let odd = |mac: Mac, usual: u32| prop_oneof![usual => Just(None), 1 => Just(Some(mac))];
    let destination = prop_oneof![
        40 => Just(None),
        1 => Just(Some(BROADCAST)),
        1 => Just(Some([0x33, 0x33, 0, 0, 0, 1])),
        1 => Just(Some([2, 9, 9, 9, 9, 9])),
    ];
    let damage = prop_oneof![6 => Just(Vec::new()), 1 => vec((0usize..90, 1u8..), 1..3)];
    let cut = prop_oneof![20 => Just(None), 1 => (0usize..80).prop_map(Some)];
    (0..ports, destination, odd([2, 8, 8, 8, 8, 8], 40), 0usize..20, damage, cut).prop_map(
        |(port, destination, source, padding, damage, cut)| Link {
            port,
            destination,
            source,
            padding,
            damage,
            cut,
        },
    )
}

/// What a frame carries, before its link is known.
#[derive(Clone, Debug)]
enum Body {
    Other(u16, Vec<u8>),
    Ip4 { own: Option<usize>, packet: Vec<u8> },
    Ip6 { own: Option<usize>, packet: Vec<u8> },
    Arp { operation: u16, own: bool, sender: Ipv4Addr, target: Ipv4Addr },
    Nd { kind: u8, own: bool, source: Ipv6Addr, to_node: bool, target: Ipv6Addr, mac: bool },
}

fn payload() -> impl Strategy<Value = Vec<u8>> {
    let len = prop_oneof![8 => 0usize..60, 1 => 1200usize..1520, 1 => Just(1480)];
    (len, any::<u8>()).prop_map(|(len, first)| (0..len).map(|n| first.wrapping_add(n as u8)).collect())
}

fn options() -> impl Strategy<Value = Vec<u8>> {
    let kinds: [&[u8]; 8] = [
        &[],
        &[1, 1, 1, 0],
        &[7, 7, 4, 0, 0, 0, 0, 0],
        &[0x88, 4, 0, 9],
        &[0x94, 4, 0, 0, 0x44, 4, 5, 0],
        &[131, 7, 4, 10, 1, 0, 1, 0],
        &[1, 137, 3, 4],
        &[0x82, 0, 9, 9],
    ];
    prop_oneof![6 => Just(Vec::new()), 1 => select(kinds.map(<[u8]>::to_vec).to_vec())]
}

fn ip4() -> BoxedStrategy<Vec<u8>> {
    let ttl = prop_oneof![6 => Just(64u8), 1 => select(vec![0u8, 1, 2, 255])];
    let fragment = prop_oneof![
        6 => select(vec![0u16, 0x4000]),
        1 => select(vec![0x2000u16, 0x2001, 0x0005, 0x6000, 0x1fff, 0x8000]),
    ];
    let kind = prop_oneof![8 => Just(8u8), 1 => select(vec![0u8, 3, 5, 11, 13, 99])];
    let upper = prop_oneof![
        3 => (kind, payload()).prop_map(|(kind, data)| (1, packet::icmp(kind, 0, 0x0102_0304, &data))),
        3 => (select(vec![6u8, 17, 47, 132, 1, 4, 41]), payload()),
    ];
    (v4(), v4(), any::<u8>(), ttl, fragment, options(), upper)
        .prop_map(|(source, destination, tos, ttl, fragment, options, (protocol, data))| {
            let header = Ip4 { tos, ttl, fragment, options, ..Ip4::new(source, destination, protocol) };
            header.bytes(&data)
        })
        .boxed()
}

fn ip6() -> BoxedStrategy<Vec<u8>> {
    let hops = prop_oneof![6 => Just(64u8), 1 => select(vec![0u8, 1, 2, 255])];
    let extension = select(vec![0u8, 43, 44, 51, 60, 60, 44]);
    let extensions =
        prop_oneof![5 => Just(Vec::new()), 1 => vec((extension, any::<[u8; 6]>(), 0u8..3), 1..10)];
    let kind = prop_oneof![8 => Just(128u8), 1 => select(vec![1u8, 2, 129, 133, 137, 200])];
    (v6(), v6(), hops, extensions, select(vec![58u8, 58, 6, 17, 50, 59]), kind, payload())
        .prop_map(|(source, destination, hops, extensions, protocol, kind, data)| {
            let message = match protocol {
                58 => packet::icmp6(source, destination, kind, 0, 0x0102_0304, &data),
                _ => data,
            };
            let mut next = protocol;
            let mut chain = Vec::new();
            for (kind, rest, len) in extensions.iter().rev() {
                let mut header = vec![next, if *kind == 44 { 0 } else { *len }];
                header.extend(rest);
                header.extend(vec![0; if *kind == 44 { 0 } else { usize::from(*len) * 8 }]);
                // Fragment offsets are mostly 0, so that the walk goes on behind them.
                if *kind == 44 && rest[0] & 3 != 0 {
                    header[2..4].fill(0);
                }
                header.extend(chain);
                chain = header;
                next = *kind;
            }
            chain.extend(message);
            packet::ip6(source, destination, next, hops, &chain)
        })
        .boxed()
}

/// A packet in a tunnel, mostly from a peer to our own address.
fn tunnelled() -> BoxedStrategy<Vec<u8>> {
    let remote = prop_oneof![4 => select(vec!["172.16.0.2", "172.16.0.9"]), 1 => select(vec!["172.16.0.3", "10.3.1.1"])];
    let local = prop_oneof![6 => select(vec!["172.16.0.1", "192.0.2.2"]), 1 => Just("10.1.0.1")];
    let fragment = prop_oneof![8 => Just(0x4000u16), 1 => select(vec![0x2000u16, 9])];
    let inner =
        prop_oneof![3 => ip4().prop_map(|inner| (4u8, inner)), 1 => ip6().prop_map(|inner| (41, inner))];
    let swap = prop_oneof![12 => Just(false), 1 => Just(true)];
    (remote, local, fragment, any::<u8>(), inner, swap)
        .prop_map(|(remote, local, fragment, tos, (protocol, inner), swap)| {
            let protocol = if swap { 45 - protocol } else { protocol };
            let header = Ip4::new(remote.parse().unwrap(), local.parse().unwrap(), protocol);
            Ip4 { tos, fragment, ..header }.bytes(&inner)
        })
        .boxed()
}

fn body() -> impl Strategy<Value = Body> {
    // Mostly one of the pod's own addresses as the source, or nothing gets past anti-spoof.
    let own = || prop_oneof![4 => (0usize..2).prop_map(Some), 1 => Just(None)];
    prop_oneof![
        1 => (any::<u16>(), payload()).prop_map(|(ethertype, data)| Body::Other(ethertype, data)),
        1 => (select(vec![0x8100u16, 0x88a8, 0x88cc]), payload()).prop_map(|(kind, data)| Body::Other(kind, data)),
        12 => (own(), ip4()).prop_map(|(own, packet)| Body::Ip4 { own, packet }),
        8 => (own(), ip6()).prop_map(|(own, packet)| Body::Ip6 { own, packet }),
        6 => tunnelled().prop_map(|packet| Body::Ip4 { own: None, packet }),
        3 => (select(vec![1u16, 1, 1, 2, 3]), any::<bool>(), v4(), v4())
            .prop_map(|(operation, own, sender, target)| Body::Arp { operation, own, sender, target }),
        4 => (select(vec![135u8, 135, 135, 136, 133, 134, 137]), any::<bool>(), v6(), any::<bool>(), v6(), any::<bool>())
            .prop_map(|(kind, own, source, to_node, target, mac)| Body::Nd { kind, own, source, to_node, target, mac }),
    ]
}

/// (ingress port, frame) for a model's ports.
pub(crate) fn frame(model: &Model) -> impl Strategy<Value = (usize, Vec<u8>)> + use<> {
    let model = model.clone();
    (link(model.ports.len()), body()).prop_map(move |(link, body)| (link.port, build(&model, &link, body)))
}

fn build(model: &Model, link: &Link, body: Body) -> Vec<u8> {
    let port = &model.ports[link.port];
    let own = match &port.kind {
        Kind::Pod { addresses, .. } => addresses.clone(),
        Kind::Uplink { addresses, .. } => addresses.iter().map(|(address, _)| *address).collect(),
        Kind::Host { addresses } => addresses.clone(),
    };
    let own4 = own.iter().find_map(|a| if let std::net::IpAddr::V4(a) = a { Some(*a) } else { None });
    let own6 = own.iter().find_map(|a| if let std::net::IpAddr::V6(a) = a { Some(*a) } else { None });
    let pod = matches!(port.kind, Kind::Pod { .. });
    let from = link.source.unwrap_or(port.peer);
    let mut to = port.mac;
    let (ethertype, payload) = match body {
        Body::Other(ethertype, data) => (ethertype, data),
        Body::Ip4 { own, mut packet } => {
            if let (true, Some(_), Some(address)) = (pod, own, own4) {
                resource4(&mut packet, address);
            }
            (0x0800, packet)
        }
        Body::Ip6 { own, mut packet } => {
            if let (true, Some(_), Some(address)) = (pod, own, own6) {
                resource6(&mut packet, address);
            }
            (0x86dd, packet)
        }
        Body::Arp { operation, own, sender, target } => {
            to = BROADCAST;
            let sender = own4.filter(|_| own).unwrap_or(sender);
            (0x0806, packet::arp(operation, from, sender, [0; 6], target))
        }
        Body::Nd { kind, own, source, to_node, target, mac } => {
            let source = own6.filter(|_| own).unwrap_or(source);
            let node = packet::solicited_node(target);
            let destination = if to_node { node } else { target };
            to = if to_node { packet::multicast_mac(node) } else { to };
            let mut message = match kind {
                136 => packet::advert(source, destination, 0x2000_0000, target, from),
                _ => packet::solicit(source, destination, target, mac.then_some(from)),
            };
            retype(&mut message, source, destination, kind);
            (0x86dd, message)
        }
    };
    let mut frame = packet::ethernet(link.destination.unwrap_or(to), from, ethertype, &payload);
    frame.extend(vec![0x5a; link.padding]);
    for (at, how) in &link.damage {
        if let Some(byte) = frame.get_mut(14 + at) {
            *byte ^= how;
        }
    }
    frame.truncate(link.cut.unwrap_or(usize::MAX));
    // Exclusive uplinks answer and learn for themselves, which the model does not.
    if matches!(port.kind, Kind::Uplink { exclusive: true, .. }) && frame.get(12..14) == Some(&[8, 6]) {
        frame[12] = 9;
    }
    frame
}

/// Another source address, with the header checksum set right where it was right.
fn resource4(packet: &mut [u8], source: Ipv4Addr) {
    let header = usize::from(packet[0] & 15) * 4;
    packet[12..16].copy_from_slice(&source.octets());
    packet[10..12].fill(0);
    let sum = packet::internet_checksum(0, &packet[..header]);
    packet[10..12].copy_from_slice(&sum.to_be_bytes());
}

/// Another source address; the checksum of a plain ICMPv6 message follows.
fn resource6(packet: &mut [u8], source: Ipv6Addr) {
    packet[8..24].copy_from_slice(&source.octets());
    if packet[6] == 58 {
        let kind = packet[40];
        let destination = Ipv6Addr::from(<[u8; 16]>::try_from(&packet[24..40]).unwrap());
        retype(packet, source, destination, kind);
    }
}

/// Sets the type of an ICMPv6 message, and its checksum.
fn retype(packet: &mut [u8], source: Ipv6Addr, destination: Ipv6Addr, kind: u8) {
    packet[40] = kind;
    packet[42..44].fill(0);
    let sum = packet::pseudo_sum6(source, destination, 58, packet.len() - 40);
    let sum = packet::internet_checksum(sum, &packet[40..]);
    packet[42..44].copy_from_slice(&sum.to_be_bytes());
}
