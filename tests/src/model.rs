//! A model of the router, to compare the real one with: slow, plain, and stupid on purpose.
//!
//! ```text
//!   (configuration, ingress port, frame)  -->  frames that leave, counters that move
//! ```
//!
//! It reads packets byte by byte from the RFCs' pictures and shares no code with the
//! router: routes are a list that is searched from end to end, checksums are summed word
//! by word, every header is built from nothing. One packet at a time, no bursts.
//!
//! Not modelled: several next hops for one route, the exclusive uplinks' own questions,
//! the rate limit of ICMP errors (tests let time pass), chains of frames.

use std::collections::{BTreeMap, HashMap};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

mod header;
mod resolution;

use header::{Checked, Parsed};

/// A MAC address.
pub type Mac = [u8; 6];

const GATEWAY_V4: Ipv4Addr = Ipv4Addr::new(169, 254, 1, 1);
const GATEWAY_V6: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0xecee, 0xeeff, 0xfeee, 0xeeee);

/// What a port is.
#[derive(Clone, Debug, PartialEq)]
pub enum Kind {
    /// A pod.
    Pod {
        /// Its addresses.
        addresses: Vec<IpAddr>,
        /// What the profile says, both ways.
        allowed: bool,
    },
    /// An uplink.
    Uplink {
        /// The kernel has no part in it.
        exclusive: bool,
        /// Its addresses and the lengths of their connected prefixes.
        addresses: Vec<(IpAddr, u8)>,
    },
    /// The way to the node's own stack.
    Host {
        /// Addresses of the node that are reached there.
        addresses: Vec<IpAddr>,
    },
}

/// A port.
#[derive(Clone, Debug)]
pub struct Port {
    /// Its name.
    pub name: &'static str,
    /// Our MAC address there.
    pub mac: Mac,
    /// The one station behind a pod or host port.
    pub peer: Mac,
    /// The largest IP packet.
    pub mtu: usize,
    /// Whether it can send.
    pub up: bool,
    /// What it is.
    pub kind: Kind,
}

/// Where a route leads.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Target {
    /// To a neighbour of an uplink, plainly.
    Via(IpAddr),
    /// To a neighbour of an uplink, by IPIP.
    Tunnel(Ipv4Addr),
    /// To a next hop that no uplink reaches.
    Lost,
    /// Nowhere, silently.
    Blackhole,
    /// Nowhere: "host unreachable".
    Unreachable,
    /// Nowhere: "prohibited".
    Prohibit,
}

/// What should happen to one frame.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Expected {
    /// Frames that leave, in order, with their ports.
    pub sent: Vec<(String, Vec<u8>)>,
    /// Counters that move, named as in a lab.
    pub counted: BTreeMap<String, i64>,
}

/// The model: its configuration, and the little it remembers.
#[derive(Clone, Debug)]
pub struct Model {
    /// Ports in the order of their names.
    pub ports: Vec<Port>,
    /// Routes: prefix, length, target.
    pub routes: Vec<(IpAddr, u8, Target)>,
    /// Blocks of the node: unreachable where no pod is.
    pub blocks: Vec<(IpAddr, u8)>,
    /// Tunnel peers beside those of the routes.
    pub peers: Vec<Ipv4Addr>,
    /// Known neighbours: `None` are those that do not answer.
    pub neighbors: HashMap<IpAddr, Option<Mac>>,
    /// Identification of the last outer header.
    pub ip_id: u16,
    /// Next hops of packets that wait.
    pub held: Vec<IpAddr>,
}

/// A packet within the model.
#[derive(Clone)]
struct Packet {
    ip: Vec<u8>,
    in_port: usize,
    originated: bool,
}

enum Hop {
    Drop(&'static str, Option<Error>),
    Local,
    Host(usize),
    Pod(usize),
    Neighbor { port: usize, next: IpAddr, tunnel: Option<Ipv4Addr> },
    Glean(usize),
}

/// ICMP errors by (type, code, second word), in both families.
#[derive(Clone, Copy)]
struct Error {
    v4: (u8, u8, u32),
    v6: (u8, u8, u32),
}

const NET: Error = Error { v4: (3, 0, 0), v6: (1, 0, 0) };
const HOST: Error = Error { v4: (3, 1, 0), v6: (1, 3, 0) };
const PROHIBITED: Error = Error { v4: (3, 13, 0), v6: (1, 1, 0) };
const NO_PROTOCOL: Error = Error { v4: (3, 2, 0), v6: (4, 1, 6) };
const NO_PORT: Error = Error { v4: (3, 3, 0), v6: (1, 4, 0) };
const EXPIRED: Error = Error { v4: (11, 0, 0), v6: (3, 0, 0) };

/// Why a packet ends here, and what is answered.
type End = (&'static str, Option<Error>);

impl Model {
    /// Decides what happens to a frame that enters by the port of this number.
    pub fn receive(&mut self, in_port: usize, frame: &[u8]) -> Expected {
        let mut expected = Expected::default();
        self.count(&mut expected, in_port, "rx");
        match self.ethernet(in_port, frame, &mut expected) {
            Ok(Some(packet)) => self.forward(packet, &mut expected),
            Ok(None) => {}
            Err(reason) => self.count(&mut expected, in_port, &format!("drop.{reason}")),
        }
        expected
    }

    fn count(&self, expected: &mut Expected, port: usize, what: &str) {
        *expected.counted.entry(format!("{}.{what}", self.ports[port].name)).or_insert(0) += 1;
    }

    fn send(
        &self,
        port: usize,
        destination: Mac,
        ethertype: [u8; 2],
        payload: &[u8],
        expected: &mut Expected,
    ) {
        let Port { name, mac, .. } = &self.ports[port];
        let frame = [&destination[..], &mac[..], &ethertype[..], payload].concat();
        expected.sent.push(((*name).to_owned(), frame));
        self.count(expected, port, "tx");
    }

    /// The frame's checks, address resolution, tunnels, and what pods may send.
    fn ethernet(
        &self,
        at: usize,
        frame: &[u8],
        expected: &mut Expected,
    ) -> Result<Option<Packet>, &'static str> {
        let port = &self.ports[at];
        if frame.len() < 14 {
            return Err("frame-too-short");
        }
        let group = frame[0] & 1 == 1;
        if !group && frame[..6] != port.mac {
            return Err("not-our-mac");
        }
        if matches!(port.kind, Kind::Pod { .. }) && frame[6..12] != port.peer {
            return Err("spoofed-mac");
        }
        let Parsed { checked, ip } = match [frame[12], frame[13]] {
            [0x08, 0x06] => return self.arp(at, frame, expected).map(|()| None),
            [0x81, 0x00] | [0x88, 0xa8] => return Err("vlan-tagged"),
            [0x08, 0x00] => header::check4(&frame[14..])?,
            [0x86, 0xdd] => header::check6(&frame[14..])?,
            _ => return Err("ethertype-unknown"),
        };
        if checked == Checked::Discovery {
            return self.discovery(at, &ip, expected).map(|()| None);
        }
        if group {
            return Err("multicast");
        }
        let ip = self.decapsulate(at, ip, expected)?;
        if let Kind::Pod { addresses, allowed } = &port.kind {
            let (source, destination) = (header::source(&ip), header::destination(&ip));
            let to_gateway = header::is_link_local6(source) && destination == IpAddr::V6(GATEWAY_V6);
            if !addresses.contains(&source) && !to_gateway {
                return Err("spoofed-source");
            }
            if !allowed {
                return Err("policy-egress");
            }
        }
        Ok(Some(Packet { ip, in_port: at, originated: false }))
    }

    fn own4(&self) -> impl Iterator<Item = (usize, Ipv4Addr, u8)> + '_ {
        self.own().filter_map(|(port, address, len)| match address {
            IpAddr::V4(address) => Some((port, address, len)),
            IpAddr::V6(_) => None,
        })
    }

    /// The addresses of uplinks.
    fn own(&self) -> impl Iterator<Item = (usize, IpAddr, u8)> + '_ {
        self.ports.iter().enumerate().flat_map(|(at, port)| match &port.kind {
            Kind::Uplink { addresses, .. } => addresses.iter().map(|(a, len)| (at, *a, *len)).collect(),
            _ => Vec::new(),
        })
    }

    fn decapsulate(&self, at: usize, ip: Vec<u8>, expected: &mut Expected) -> Result<Vec<u8>, &'static str> {
        let uplink = matches!(self.ports[at].kind, Kind::Uplink { .. });
        if !uplink || ip[0] >> 4 != 4 || (ip[9] != 4 && ip[9] != 41) {
            return Ok(ip);
        }
        let (IpAddr::V4(from), IpAddr::V4(to)) = (header::source(&ip), header::destination(&ip)) else {
            return Ok(ip);
        };
        if !self.own4().any(|(_, own, _)| own == to) {
            return Ok(ip);
        }
        let of_routes = self.routes.iter().any(|(.., target)| *target == Target::Tunnel(from));
        if !of_routes && !self.peers.contains(&from) {
            return Err("tunnel-unknown-peer");
        }
        if header::word(&ip, 6) & 0x3fff != 0 {
            return Err("tunnel-fragment");
        }
        let mark = ip[1] & 3;
        let inner = &ip[usize::from(ip[0] & 15) * 4..];
        let mut inner = if ip[9] == 4 {
            header::check4(inner)?.ip
        } else {
            match header::check6(inner)? {
                Parsed { checked: Checked::Discovery, .. } => return Err("tunnel-bad-inner"),
                parsed => parsed.ip,
            }
        };
        // RFC 6040, figure 4.
        let new = match (header::ecn(&inner), mark) {
            (0, 3) => return Err("tunnel-ecn"),
            (0, _) => 0,
            (1 | 2, 3) => 3,
            (2, 1) => 1,
            (old, _) => old,
        };
        header::set_ecn(&mut inner, new);
        self.count(expected, at, "decapsulated");
        Ok(inner)
    }

    /// Everything from the lookup on.
    fn forward(&mut self, packet: Packet, expected: &mut Expected) {
        if let Err((reason, error)) = self.deliver(&packet, expected) {
            if let Some(error) = error {
                self.report(&packet, error, expected);
            }
            self.count(expected, packet.in_port, &format!("drop.{reason}"));
        }
    }

    fn host(&self) -> Option<usize> {
        self.ports.iter().position(|port| matches!(port.kind, Kind::Host { .. }))
    }

    /// The longest match, by looking at everything.
    fn lookup(&self, to: IpAddr) -> Hop {
        let whole = if to.is_ipv4() { 32 } else { 128 };
        let mut best: Option<(u8, Hop)> = None;
        let mut offer = |prefix: IpAddr, len: u8, hop: Hop| {
            if header::matches(to, prefix, len) && best.as_ref().is_none_or(|(old, _)| *old < len) {
                best = Some((len, hop));
            }
        };
        offer(IpAddr::V4(GATEWAY_V4), 32, Hop::Local);
        offer(IpAddr::V6(GATEWAY_V6), 128, Hop::Local);
        let host = || self.host().map_or(Hop::Local, Hop::Host);
        for (at, port) in self.ports.iter().enumerate() {
            match &port.kind {
                Kind::Pod { addresses, .. } => {
                    addresses.iter().filter(|a| **a == to).for_each(|a| offer(*a, whole, Hop::Pod(at)));
                }
                Kind::Host { addresses } => {
                    addresses.iter().filter(|a| **a == to).for_each(|a| offer(*a, whole, host()));
                }
                Kind::Uplink { exclusive, addresses } => {
                    for (address, len) in addresses {
                        if *address == to {
                            offer(*address, whole, if *exclusive { Hop::Local } else { host() });
                        }
                        offer(*address, *len, Hop::Glean(at));
                    }
                }
            }
        }
        for (prefix, len) in &self.blocks {
            offer(*prefix, *len, Hop::Drop("unreachable", Some(HOST)));
        }
        for (prefix, len, target) in &self.routes {
            let neighbor = |next: IpAddr, tunnel| {
                let (port, ..) =
                    self.own().find(|(_, own, len)| header::matches(next, *own, *len)).expect("connected");
                Hop::Neighbor { port, next, tunnel }
            };
            let hop = match *target {
                Target::Via(next) => neighbor(next, None),
                Target::Tunnel(remote) => neighbor(IpAddr::V4(remote), Some(remote)),
                Target::Lost => Hop::Drop("next-hop-unresolved", Some(HOST)),
                Target::Blackhole => Hop::Drop("blackhole", None),
                Target::Unreachable => Hop::Drop("unreachable", Some(HOST)),
                Target::Prohibit => Hop::Drop("prohibit", Some(PROHIBITED)),
            };
            offer(*prefix, *len, hop);
        }
        best.map_or(Hop::Drop("no-route", Some(NET)), |(_, hop)| hop)
    }

    fn deliver(&mut self, packet: &Packet, expected: &mut Expected) -> Result<(), End> {
        let to = header::destination(&packet.ip);
        let hop = self.lookup(to);
        let (out, mac, tunnel, local) = match hop {
            Hop::Drop(reason, error) => return Err((reason, error)),
            Hop::Local => match self.local(packet, expected)? {
                Some(host) => (host, self.ports[host].peer, None, true),
                None => return Ok(()),
            },
            Hop::Host(port) => (port, self.ports[port].peer, None, true),
            Hop::Pod(port) => (port, self.ports[port].peer, None, false),
            Hop::Glean(port) => (port, self.mac(to, expected)?, None, false),
            Hop::Neighbor { port, next, tunnel } => (port, self.mac(next, expected)?, tunnel, false),
        };
        if mac == WAITS {
            return Ok(());
        }
        let from_host = matches!(self.ports[packet.in_port].kind, Kind::Host { .. });
        let denied = matches!(self.ports[out].kind, Kind::Pod { allowed: false, .. });
        if denied && !from_host && !packet.originated {
            return Err(("policy-ingress", None));
        }
        let mut ip = packet.ip.clone();
        let v4 = ip[0] >> 4 == 4;
        let ages = !from_host && !local && !packet.originated;
        if ages && ip[if v4 { 8 } else { 7 }] <= 1 {
            return Err((if v4 { "ttl-expired" } else { "hop-limit-expired" }, Some(EXPIRED)));
        }
        let mtu = self.ports[out].mtu - if tunnel.is_some() { 20 } else { 0 };
        let fragment = ip.len() > mtu;
        if fragment && (!v4 || ip[6] & 0x40 != 0) {
            let error = Error { v4: (3, 4, mtu as u32), v6: (2, 0, mtu as u32) };
            return Err((if v4 { "fragmentation-needed" } else { "packet-too-big" }, Some(error)));
        }
        if ages {
            header::age(&mut ip);
        }
        if !fragment {
            return self.transmit(ip, out, mac, tunnel, expected);
        }
        let pieces = header::fragments(&ip, mtu).ok_or(("ipv4-truncated", None))?;
        self.count(expected, packet.in_port, "consumed");
        for piece in pieces {
            self.count(expected, packet.in_port, "originated");
            // Fragments find the same way again, and end there one by one.
            if let Err((reason, _)) = self.transmit(piece, out, mac, tunnel, expected) {
                self.count(expected, packet.in_port, &format!("drop.{reason}"));
            }
        }
        Ok(())
    }

    /// Outer header, Ethernet header, port.
    fn transmit(
        &mut self,
        ip: Vec<u8>,
        out: usize,
        mac: Mac,
        tunnel: Option<Ipv4Addr>,
        expected: &mut Expected,
    ) -> Result<(), End> {
        let ip = match tunnel {
            Some(remote) => {
                self.ip_id = self.ip_id.wrapping_add(1);
                let near = |(_, own, len): &(usize, Ipv4Addr, u8)| {
                    header::matches(remote.into(), (*own).into(), *len)
                };
                let (_, local, _) = self.own4().find(near).expect("the remote end is connected");
                header::outer(&ip, local, remote, self.ip_id)
            }
            None => ip,
        };
        if !self.ports[out].up {
            return Err(("port-down", None));
        }
        let ethertype = if ip[0] >> 4 == 4 { [0x08, 0x00] } else { [0x86, 0xdd] };
        self.send(out, mac, ethertype, &ip, expected);
        Ok(())
    }

    /// The neighbour's MAC address; [`WAITS`] where the packet waits for it.
    fn mac(&mut self, next: IpAddr, expected: &mut Expected) -> Result<Mac, End> {
        match self.neighbors.get(&next) {
            Some(Some(mac)) => Ok(*mac),
            Some(None) => Err(("neighbor-failed", Some(HOST))),
            None if self.held.iter().filter(|held| **held == next).count() >= 16
                || self.held.len() >= 256 =>
            {
                Err(("hold-full", None))
            }
            None => {
                self.held.push(next);
                *expected.counted.entry("held".to_owned()).or_insert(0) += 1;
                Ok(WAITS)
            }
        }
    }

    /// A packet to the router itself: `Some` passes it to the node's stack.
    fn local(&mut self, packet: &Packet, expected: &mut Expected) -> Result<Option<usize>, End> {
        let ip = &packet.ip;
        let v4 = ip[0] >> 4 == 4;
        let (protocol, at, fragment) = header::upper(ip).expect("checked before");
        if protocol == if v4 { 1 } else { 58 } && !fragment {
            let message = &ip[at..];
            if message.first() != Some(if v4 { &8 } else { &128 }) {
                if self.host().is_none() {
                    self.count(expected, packet.in_port, "consumed");
                }
                return Ok(self.host());
            }
            let valid = message.len() >= 8 && message[1] == 0 && header::icmp_sum(ip, at) == 0;
            if !valid {
                return Err(("icmp-malformed", None));
            }
            let reply = header::echo_reply(ip, at);
            let asker = header::source(ip);
            if header::is_link_local6(asker) {
                let port = &self.ports[packet.in_port];
                if matches!(port.kind, Kind::Uplink { .. }) {
                    return Err(("link-local", None));
                }
                self.send(packet.in_port, port.peer, [0x86, 0xdd], &reply, expected);
                return Ok(None);
            }
            self.forward(Packet { ip: reply, originated: true, ..packet.clone() }, expected);
            return Ok(None);
        }
        match self.host() {
            Some(host) => Ok(Some(host)),
            None => Err(("not-local", Some(if matches!(protocol, 6 | 17) { NO_PORT } else { NO_PROTOCOL }))),
        }
    }

    /// Answers with an ICMP error, where one may be sent.
    fn report(&mut self, packet: &Packet, error: Error, expected: &mut Expected) {
        if packet.originated || !header::may_report(&packet.ip) {
            return;
        }
        let to = header::source(&packet.ip);
        let own = self.own().map(|(_, address, _)| address).find(|own| own.is_ipv4() == to.is_ipv4());
        let from = own.expect("an uplink of either family");
        let ip = match (from, to) {
            (IpAddr::V4(from), IpAddr::V4(to)) => header::error4(from, to, error.v4, &packet.ip),
            (IpAddr::V6(from), IpAddr::V6(to)) => header::error6(from, to, error.v6, &packet.ip),
            _ => return,
        };
        self.count(expected, packet.in_port, "originated");
        self.forward(Packet { ip, in_port: packet.in_port, originated: true }, expected);
    }
}

/// Stands for "waits for its neighbour": no station has this address.
const WAITS: Mac = [0; 6];
