//! Named workloads: which packets, over which tables.
//!
//! | name | packets | tables |
//! |---|---|---|
//! | `io` | IPv4 | none: straight from source to sink, the floor of the other numbers |
//! | `forward-64`, `forward-4096` | IPv4 to so many destinations | one route |
//! | `full-table` | IPv4 to 65,536 destinations, each in a random route | a full Internet table, 16 next hops |
//! | `one-route` | the same packets | one route, one next hop: what `full-table` is compared with |
//! | `encap` | IPv4 to 4,096 destinations | one route, into an IPIP tunnel |
//! | `decap` | the same in IPIP, to the router | one route |
//! | `ipv6` | IPv6 to 4,096 destinations | one route |
//! | `policy` | UDP of a pod in 4,096 flows, all known | one route; 100 egress rules of which the last allows them |
//! | `plain-4096`, `plain-65536` | UDP in so many flows to 64 destinations | one route |
//! | `udp-4096`, `udp-65536` | the same of a pod, all flows known and answered | one route; 1,000 egress rules of which the last two allow them |
//! | `tcp-4096`, `tcp-65536` | the same over TCP, after handshakes | the same |
//!
//! 64-byte frames (FCS included) where the headers fit: IPv6 and IPIP have 66. Peers measure
//! the same packets and routes: [`Workload::packets`] and [`Workload::routes`] give them away.

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use encap::MacAddr;
use encap::wire::checksum;
use fib::{AnyPrefix, Prefix, RouteSource};
use vrouter::control::{Encap, IpipMode, Pool, RouteSpec, RouteTarget};
use vrouter::tables::GATEWAY_MAC;
use vrouter::{Event, PortSpec};

use crate::internet;
use crate::random::Random;
use vrouter::port::synthetic::Packet;

/// MAC address of the router where packets enter, and where they leave.
pub(crate) const NEAR: MacAddr = MacAddr([2, 0, 0, 0, 0, 1]);
pub(crate) const FAR: MacAddr = MacAddr([2, 0, 0, 0, 0, 2]);
/// MAC address of who sends.
const SENDER: MacAddr = MacAddr([2, 0, 0, 0, 0, 9]);
/// The pod of workload `policy`.
const POD: Ipv4Addr = Ipv4Addr::new(10, 1, 0, 1);
/// The far end of the tunnel that packets arrive by, and ours.
const TUNNEL: (Ipv4Addr, Ipv4Addr) = (Ipv4Addr::new(172, 16, 1, 9), Ipv4Addr::new(172, 16, 1, 1));
const UDP: u8 = 17;
const TCP: u8 = 6;
const IPIP: u8 = 4;
/// Where the flows go.
const PEER_PORT: u16 = 9;
/// Destinations of the packets that go in flows.
const PEERS: u32 = 64;
/// TCP flags.
const SYN: u8 = 0x02;
const ACK: u8 = 0x10;
/// First sequence numbers of a connection's two sides.
const OPENER: u32 = 1_000_000;
const PEER: u32 = 5_000_000;

/// What a router is to do in a measurement.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum Workload {
    /// Nothing: from source to sink.
    Io,
    /// IPv4 over one route, to so many destinations.
    Forward(u32),
    /// IPv4 over a full Internet table.
    FullTable,
    /// The packets of [`Workload::FullTable`] over one route.
    OneRoute,
    /// Into an IPIP tunnel.
    Encap,
    /// Out of an IPIP tunnel.
    Decap,
    /// IPv6 over one route.
    Ipv6,
    /// Known flows of a pod with policy.
    Policy,
    /// UDP over one route in so many flows, with no policy.
    Plain(u32),
    /// So many known flows of a pod, of this protocol, under 1,000 rules.
    Established(Transport, u32),
}

/// A transport protocol of flows.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Transport {
    /// UDP.
    Udp,
    /// TCP.
    Tcp,
}

impl Workload {
    /// All that have a name.
    pub const ALL: [Workload; 15] = [
        Workload::Io,
        Workload::Forward(64),
        Workload::Forward(4096),
        Workload::FullTable,
        Workload::OneRoute,
        Workload::Encap,
        Workload::Decap,
        Workload::Ipv6,
        Workload::Policy,
        Workload::Plain(4096),
        Workload::Plain(1 << 16),
        Workload::Established(Transport::Udp, 4096),
        Workload::Established(Transport::Udp, 1 << 16),
        Workload::Established(Transport::Tcp, 4096),
        Workload::Established(Transport::Tcp, 1 << 16),
    ];

    /// Its name.
    pub fn name(self) -> String {
        match self {
            Workload::Io => "io".to_owned(),
            Workload::Forward(count) => format!("forward-{count}"),
            Workload::FullTable => "full-table".to_owned(),
            Workload::OneRoute => "one-route".to_owned(),
            Workload::Encap => "encap".to_owned(),
            Workload::Decap => "decap".to_owned(),
            Workload::Ipv6 => "ipv6".to_owned(),
            Workload::Policy => "policy".to_owned(),
            Workload::Plain(flows) => format!("plain-{flows}"),
            Workload::Established(Transport::Udp, flows) => format!("udp-{flows}"),
            Workload::Established(Transport::Tcp, flows) => format!("tcp-{flows}"),
        }
    }

    /// The workload of this name.
    pub fn find(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|workload| workload.name() == name)
    }

    /// The packets, in the order of their sending.
    pub fn packets(self) -> Vec<Packet> {
        match self {
            Workload::Io => destinations(64).map(udp4).collect(),
            Workload::Forward(count) => destinations(count).map(udp4).collect(),
            Workload::FullTable | Workload::OneRoute => {
                in_prefix(&internet::routes(), 1 << 16).map(udp4).collect()
            }
            Workload::Encap => destinations(4096).map(udp4).collect(),
            Workload::Decap => destinations(4096).map(ipip).collect(),
            Workload::Ipv6 => (0..4096u32).map(destination6).map(udp6).collect(),
            Workload::Policy => (0..4096).map(of_pod).collect(),
            Workload::Plain(flows) => (0..flows).map(|flow| in_flow(NEAR, UDP, flow, &[])).collect(),
            Workload::Established(Transport::Udp, flows) => {
                (0..flows).map(|flow| in_flow(GATEWAY_MAC, UDP, flow, &[])).collect()
            }
            Workload::Established(Transport::Tcp, flows) => {
                let data = segment(OPENER + 1, PEER + 1, ACK);
                (0..flows).map(|flow| in_flow(GATEWAY_MAC, TCP, flow, &data)).collect()
            }
        }
    }

    /// What opens the flows, from the side of the packets and from the far side: the latter answers the former.
    pub(crate) fn handshakes(self) -> (Vec<Packet>, Vec<Packet>) {
        let Workload::Established(transport, flows) = self else { return Default::default() };
        let (protocol, first, answer) = match transport {
            Transport::Udp => (UDP, Vec::new(), vec![0, 8, 0, 0]),
            Transport::Tcp => (TCP, segment(OPENER, 0, SYN), segment(PEER, OPENER + 1, SYN | ACK)),
        };
        let from_peer = |flow| {
            let (peer, port) = ends(flow);
            let ports = [PEER_PORT.to_be_bytes(), port.to_be_bytes()].concat();
            ethernet(FAR, [8, 0], &ipv4(peer, POD, protocol, &[&ports[..], &answer].concat()))
        };
        let opener = (0..flows).map(|flow| in_flow(GATEWAY_MAC, protocol, flow, &first)).collect();
        (opener, (0..flows).map(from_peer).collect())
    }

    /// Whether the packets are a pod's.
    pub(crate) fn has_pod(self) -> bool {
        matches!(self, Workload::Policy | Workload::Established(..))
    }

    /// The routes, each with the number of its next hop.
    pub fn routes(self) -> Vec<(AnyPrefix, u8)> {
        match self {
            Workload::Io => Vec::new(),
            Workload::FullTable => {
                let routes = internet::routes::<Ipv4Addr>().into_iter().enumerate();
                routes.map(|(number, prefix)| (prefix.into(), (number * 7919 % 16) as u8)).collect()
            }
            Workload::Ipv6 => vec![(prefix("2001:db8::/32"), 0)],
            Workload::OneRoute => vec![(prefix("0.0.0.0/0"), 0)],
            _ => vec![(prefix("0.0.0.0/1"), 0)],
        }
    }

    /// The ports that packets enter and leave by.
    pub(crate) fn ports(self) -> (PortSpec, PortSpec) {
        let uplink = |name, mac, v4: &str, v6: &str| {
            PortSpec::uplink(name, mac, [v4, v6].map(|net| net.parse().expect("an address")))
        };
        let near = match self.has_pod() {
            true => PortSpec::pod("default/pod", SENDER, [IpAddr::V4(POD)]),
            false => uplink("in", NEAR, "172.16.1.1/24", "fd00:1::1/64"),
        };
        let mut far = uplink("out", FAR, "172.16.2.1/24", "fd00:2::1/64");
        // The neighbours are told, as the kernel tells them: no ARP is in the way.
        if let vrouter::control::PortRole::Uplink { exclusive, .. } = &mut far.role {
            *exclusive = false;
        }
        (near, far)
    }

    /// What brings the tables into being, ports apart.
    pub(crate) fn events(self) -> Vec<Event> {
        let ipip_mode = if self == Workload::Encap { IpipMode::Always } else { IpipMode::Never };
        let cidr = "0.0.0.0/0".parse().expect("a prefix");
        let mut events =
            vec![Event::PutPool(Pool { name: "pool".to_owned(), cidr, ipip_mode }), Event::PutPeer(TUNNEL.0)];
        events.extend(self.routes().into_iter().map(|(prefix, number)| {
            let target = RouteTarget::Via(vec![next_hop(&prefix, number)], Encap::Pool);
            Event::PutRoute(RouteSpec { prefix, source: RouteSource::Static, target, metric: 0 })
        }));
        if self.has_pod() {
            events.push(Event::PutPolicy(Box::new(policy(if self == Workload::Policy {
                100
            } else {
                1000
            }))));
        }
        events
    }

    /// The next hops on the port that packets leave by, with their MAC addresses.
    pub(crate) fn neighbors(self) -> impl Iterator<Item = (IpAddr, MacAddr)> {
        (0..16u8).flat_map(|number| {
            let mac = MacAddr([2, 0, 0, 0, 1, number]);
            [prefix("::/0"), prefix("0.0.0.0/0")].map(|family| (next_hop(&family, number), mac))
        })
    }
}

fn prefix(text: &str) -> AnyPrefix {
    vrouter::control::engine::net_prefix(text.parse().expect("a prefix"))
}

fn next_hop(prefix: &AnyPrefix, number: u8) -> IpAddr {
    match prefix {
        AnyPrefix::V4(_) => Ipv4Addr::new(172, 16, 2, 2 + number).into(),
        AnyPrefix::V6(_) => Ipv6Addr::new(0xfd00, 2, 0, 0, 0, 0, 0, 2 + u16::from(number)).into(),
    }
}

fn destinations(count: u32) -> impl Iterator<Item = Ipv4Addr> {
    (0..count).map(|number| Ipv4Addr::from(0x1400_0001 + number * 0x1_0107))
}

fn destination6(number: u32) -> Ipv6Addr {
    Ipv6Addr::from(0x2001_0db8 << 96 | u128::from(number.wrapping_mul(0x9e37_79b1)) << 48 | 1)
}

/// Random addresses, each in a random route. The router does not forward to some blocks
/// whatever the routes are; no address is of those.
fn in_prefix(routes: &[Prefix<Ipv4Addr>], count: usize) -> impl Iterator<Item = Ipv4Addr> {
    let mut random = Random::new(0x9e37_79b9_7f4a_7c15);
    let address = move || {
        let route = &routes[(random.next() % routes.len() as u64) as usize];
        let (first, last) = (u32::from(route.first()), u32::from(route.last()));
        Ipv4Addr::from(first | random.next() as u32 & (last - first))
    };
    let forwarded = |to: &Ipv4Addr| {
        let ours = to.octets()[..2] == [172, 16] || to.octets()[0] == 0;
        !ours && !to.is_loopback() && !to.is_multicast() && !to.is_link_local() && to.octets()[0] < 240
    };
    core::iter::repeat_with(address).filter(forwarded).take(count)
}

fn ethernet(destination: MacAddr, ethertype: [u8; 2], packet: &[u8]) -> Packet {
    let mut frame = [&destination.0[..], &SENDER.0, &ethertype, packet].concat();
    frame.resize(frame.len().max(60), 0);
    Packet::new(&frame)
}

fn ipv4(from: Ipv4Addr, to: Ipv4Addr, protocol: u8, payload: &[u8]) -> Vec<u8> {
    let mut header = [0x45, 0, 0, 0, 0, 0, 0x40, 0, 64, protocol, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    header[2..4].copy_from_slice(&(20 + payload.len() as u16).to_be_bytes());
    header[12..16].copy_from_slice(&from.octets());
    header[16..].copy_from_slice(&to.octets());
    let sum = checksum::checksum(&header);
    header[10..12].copy_from_slice(&sum.to_be_bytes());
    [&header[..], payload].concat()
}

/// A UDP header without checksum (RFC 768 allows that over IPv4) and `len` zeros.
fn datagram(source_port: u16, len: usize) -> Vec<u8> {
    let ports = [source_port.to_be_bytes(), PEER_PORT.to_be_bytes(), (8 + len as u16).to_be_bytes(), [0, 0]];
    let mut datagram = ports.concat();
    datagram.resize(8 + len, 0);
    datagram
}

fn udp4(to: Ipv4Addr) -> Packet {
    ethernet(NEAR, [8, 0], &ipv4(Ipv4Addr::new(198, 18, 0, 1), to, UDP, &datagram(1024, 18)))
}

fn ipip(to: Ipv4Addr) -> Packet {
    let inner = ipv4(Ipv4Addr::new(198, 18, 0, 1), to, UDP, &datagram(1024, 0));
    ethernet(NEAR, [8, 0], &ipv4(TUNNEL.0, TUNNEL.1, IPIP, &inner))
}

fn udp6(to: Ipv6Addr) -> Packet {
    let from = Ipv6Addr::new(0x2001, 0xdb8, 0xffff, 0, 0, 0, 0, 1);
    let mut datagram = datagram(1024, 0);
    let pseudo = checksum::pseudo_v6(from, to, UDP, datagram.len() as u32);
    let sum = match !checksum::fold(pseudo + checksum::sum(&datagram)) {
        0 => 0xffff,
        sum => sum,
    };
    datagram[6..8].copy_from_slice(&sum.to_be_bytes());
    let mut header = vec![0x60, 0, 0, 0, 0, datagram.len() as u8, UDP, 64];
    header.extend(from.octets().into_iter().chain(to.octets()));
    ethernet(NEAR, [0x86, 0xdd], &[header, datagram].concat())
}

fn of_pod(flow: u16) -> Packet {
    let to = peer(u32::from(flow));
    ethernet(GATEWAY_MAC, [8, 0], &ipv4(POD, to, UDP, &datagram(1024 + flow, 18)))
}

fn peer(flow: u32) -> Ipv4Addr {
    Ipv4Addr::from(0x1400_0001 + flow % PEERS * 0x1_0107)
}

/// The peer of a flow and the port of its opener.
fn ends(flow: u32) -> (Ipv4Addr, u16) {
    (peer(flow), 1024 + (flow / PEERS) as u16)
}

/// A packet of a flow's opener; `transport` is what follows the ports, of UDP length and checksum by default.
fn in_flow(mac: MacAddr, protocol: u8, flow: u32, transport: &[u8]) -> Packet {
    let (to, port) = ends(flow);
    let payload = match transport {
        [] => datagram(port, 18),
        rest => [&port.to_be_bytes()[..], &PEER_PORT.to_be_bytes(), rest].concat(),
    };
    ethernet(mac, [8, 0], &ipv4(POD, to, protocol, &payload))
}

/// A TCP header behind its ports, without options. Its checksum, which a router leaves alone, is 0.
fn segment(sequence: u32, acknowledgment: u32, flags: u8) -> Vec<u8> {
    let numbers = [sequence.to_be_bytes(), acknowledgment.to_be_bytes()].concat();
    [&numbers[..], &[5 << 4, flags, 0xff, 0xff, 0, 0, 0, 0]].concat()
}

/// Egress of all pods: all rules but the last two allow something else, these allow this.
fn policy(rules: u32) -> api::Resource {
    let mut text = "apiVersion: projectcalico.org/v3\nkind: GlobalNetworkPolicy\nmetadata: { name: p }\n\
                    spec:\n  types: [Egress]\n  egress:\n"
        .to_owned();
    for number in 0..rules - 2 {
        text += &format!(
            "  - {{ action: Allow, protocol: TCP, destination: {{ nets: [ 20.{}.0.0/16 ], ports: [ {} ] }} }}\n",
            number % 250,
            1000 + number
        );
    }
    for protocol in ["TCP", "UDP"] {
        let ports = format!("{{ ports: [ {PEER_PORT} ] }}");
        text += &format!("  - {{ action: Allow, protocol: {protocol}, destination: {ports} }}\n");
    }
    api::read(&text).remove(0).outcome.expect("a right policy")
}
