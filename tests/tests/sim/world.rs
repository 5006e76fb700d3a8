//! One configuration, told to a router and to the model alike.
//!
//! ```text
//!   pod1 pod2 pod3(denied) pod4(down)     host (or none)
//!     \___________\__________/_____________/
//!                 router ---- eth0, shared:    172.16.0.1/24  fd00:20::1/64
//!                    |             .2 known  .3 unknown  .4 silent
//!                   eth1, exclusive: 192.0.2.2/31  fd00:21::2/127, its peer known
//! ```

use std::collections::{BTreeMap, HashMap};
use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use ipnet::IpNet;
use vrouter::control::{Encap, IpipMode, Pool, PortRole, PortSpec, RouteSpec, RouteTarget};
use vrouter::router::RouterBuilder;
use vrouter::tables::NeighborState;
use vrouter::{Event, Router};
use vrouter_tests::lab::{Lab, mac_text, moved};
use vrouter_tests::model::{Expected, Kind, Model, Port, Target};
use vrouter_tests::packet::{self, GATEWAY_MAC, Mac};

/// The neighbour on the shared uplink that is known.
pub(crate) const NEIGHBOR: Mac = [2, 0, 0, 0, 0xa, 2];
/// The neighbour on the exclusive uplink.
pub(crate) const PEER: Mac = [2, 0, 0, 0, 0xb, 3];

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn prefix(text: &str) -> (IpAddr, u8) {
    let net: IpNet = text.parse().unwrap();
    (net.addr(), net.prefix_len())
}

/// The model of the configuration above.
pub(crate) fn model(with_host: bool) -> Model {
    let pod = |n: u8, allowed: bool| {
        let addresses = vec![ip(&format!("10.1.0.{n}")), ip(&format!("fd00:1::{n}"))];
        Kind::Pod { addresses, allowed }
    };
    let mac = |n: u8| [2, 0, 0, 0, 1, n];
    let uplink = |exclusive: bool, addresses: [&str; 2]| Kind::Uplink {
        exclusive,
        addresses: addresses.map(prefix).to_vec(),
    };
    let port = |name, mac, peer, mtu, kind| Port { name, mac, peer, mtu, up: name != "pod4", kind };
    let mut ports = vec![
        port("eth0", mac(0xe0), [0; 6], 1500, uplink(false, ["172.16.0.1/24", "fd00:20::1/64"])),
        port("eth1", mac(0xe1), [0; 6], 1300, uplink(true, ["192.0.2.2/31", "fd00:21::2/127"])),
        port("host", mac(0xf0), mac(0xf1), 1500, Kind::Host { addresses: vec![ip("10.1.0.62")] }),
        port("pod1", GATEWAY_MAC, mac(1), 1500, pod(1, true)),
        port("pod2", GATEWAY_MAC, mac(2), 1400, pod(2, true)),
        port("pod3", GATEWAY_MAC, mac(3), 1500, pod(3, false)),
        port("pod4", GATEWAY_MAC, mac(4), 1500, pod(4, true)),
    ];
    if !with_host {
        ports.remove(2);
    }
    let tunnel = Target::Tunnel(Ipv4Addr::new(172, 16, 0, 2));
    let via = |text: &str| Target::Via(ip(text));
    let routes = [
        ("10.2.0.0/16", tunnel),
        ("10.2.128.0/17", via("172.16.0.2")),
        ("10.2.129.0/24", Target::Blackhole),
        ("10.3.0.0/16", via("172.16.0.2")),
        ("10.4.0.0/16", via("172.16.0.3")),
        ("10.5.0.0/16", via("172.16.0.4")),
        ("10.6.0.0/16", via("192.0.2.3")),
        ("10.7.0.0/16", Target::Blackhole),
        ("10.8.0.0/16", Target::Unreachable),
        ("10.9.0.0/16", Target::Prohibit),
        ("10.10.0.0/16", Target::Lost),
        ("fd00:3::/32", via("fd00:20::2")),
        ("fd00:4::/32", via("fd00:20::3")),
        ("fd00:5::/32", via("fd00:20::4")),
        ("fd00:6::/32", via("fd00:21::3")),
        ("fd00:7::/32", Target::Blackhole),
        ("fd00:8::/32", Target::Unreachable),
        ("fd00:9::/32", Target::Prohibit),
        ("fd00:a::/32", Target::Lost),
    ];
    let routes = routes.map(|(text, target)| (prefix(text).0, prefix(text).1, target)).to_vec();
    let neighbors = [
        ("172.16.0.2", Some(NEIGHBOR)),
        ("172.16.0.4", None),
        ("192.0.2.3", Some(PEER)),
        ("fd00:20::2", Some(NEIGHBOR)),
        ("fd00:20::4", None),
        ("fd00:21::3", Some(PEER)),
    ];
    Model {
        ports,
        routes,
        blocks: ["10.1.0.0/26", "fd00:1::/64"].map(prefix).to_vec(),
        peers: vec![Ipv4Addr::new(172, 16, 0, 9)],
        neighbors: neighbors.map(|(address, mac)| (ip(address), mac)).into_iter().collect::<HashMap<_, _>>(),
        ip_id: 0,
        held: Vec::new(),
    }
}

/// A builder whose router counts identifications from 0, as the model does.
pub(crate) fn builder() -> RouterBuilder {
    Router::builder().frames(2048).seed(0)
}

/// The router of the same configuration, its neighbours in place.
pub(crate) fn lab(model: &Model, builder: RouterBuilder) -> Lab {
    let mut lab = Lab::new(builder);
    for port in &model.ports {
        lab.port(spec(port));
    }
    let net = |(address, len): (IpAddr, u8)| IpNet::new(address, len).unwrap();
    let mut events = vec![
        Event::SetBlocks(model.blocks.iter().copied().map(net).collect()),
        Event::PutPool(Pool {
            name: String::new(),
            cidr: "10.2.0.0/17".parse().unwrap(),
            ipip_mode: IpipMode::Always,
        }),
    ];
    events.extend(model.peers.iter().map(|peer| Event::PutPeer(*peer)));
    events.extend(model.routes.iter().map(|(address, len, target)| {
        let via = |address: IpAddr, encap| RouteTarget::Via(vec![address], encap);
        let lost = if address.is_ipv4() { ip("203.0.113.1") } else { ip("2001:db8::1") };
        let target = match *target {
            Target::Via(next) => via(next, Encap::None),
            Target::Tunnel(remote) => via(remote.into(), Encap::Ipip),
            Target::Lost => via(lost, Encap::None),
            Target::Blackhole => RouteTarget::Blackhole,
            Target::Unreachable => RouteTarget::Unreachable,
            Target::Prohibit => RouteTarget::Prohibit,
        };
        let prefix = fib::AnyPrefix::new(*address, *len).unwrap();
        Event::PutRoute(RouteSpec { prefix, source: fib::RouteSource::Static, target, metric: 0 })
    }));
    lab.apply(events);
    lab.run();
    introduce_neighbors(model, &mut lab);
    lab
}

/// The kernel tells its neighbours; the peer on the exclusive uplink answers itself.
fn introduce_neighbors(model: &Model, lab: &mut Lab) {
    let eth0 = lab.id("eth0");
    for (address, mac) in &model.neighbors {
        let state = match mac {
            Some(mac) => NeighborState::Usable(mac_text(*mac).parse().unwrap()),
            None => NeighborState::Failed,
        };
        if *mac != Some(PEER) {
            lab.router.neighbor(eth0, *address, state);
        }
    }
    let own = [2, 0, 0, 0, 1, 0xe1];
    let reply = packet::arp(2, PEER, Ipv4Addr::new(192, 0, 2, 3), own, Ipv4Addr::new(192, 0, 2, 2));
    lab.send("eth1", &packet::ethernet(own, PEER, 0x0806, &reply));
    let (near, far) = ("fd00:21::2".parse().unwrap(), "fd00:21::3".parse().unwrap());
    let advert = packet::advert(far, near, 0x6000_0000, far, PEER);
    lab.send("eth1", &packet::ethernet(own, PEER, 0x86dd, &advert));
    lab.run();
    lab.receive_all();
    while lab.router.next_kernel_request().is_some() {}
}

fn spec(port: &Port) -> PortSpec {
    let mac = |mac: Mac| mac_text(mac).parse().unwrap();
    let role = match &port.kind {
        Kind::Pod { addresses, allowed } => {
            let mut spec = PortSpec::pod(port.name, mac(port.peer), addresses.clone());
            if let (PortRole::Pod { workload, .. }, false) = (&mut spec.role, *allowed) {
                workload.profiles.clear();
            }
            spec.role
        }
        Kind::Uplink { exclusive, addresses } => PortRole::Uplink {
            exclusive: *exclusive,
            addresses: addresses.iter().map(|(a, len)| IpNet::new(*a, *len).unwrap()).collect(),
        },
        Kind::Host { addresses } => PortRole::Host { addresses: addresses.clone() },
    };
    PortSpec {
        role,
        peer_mac: mac(port.peer),
        mtu: port.mtu as u32,
        up: port.up,
        ..PortSpec::uplink(port.name, mac(port.mac), [])
    }
}

/// Sends one frame through both and says where they differ.
pub(crate) fn compare(model: &mut Model, lab: &mut Lab, port: usize, frame: &[u8]) -> Result<(), String> {
    let name = model.ports[port].name;
    let unchanged = model.clone();
    let expected = model.receive(port, frame);
    let before = lab.counted();
    lab.pass(Duration::from_millis(1));
    let sent = lab.exchange(name, frame);
    let actual = Expected { sent, counted: moved(&before, &lab.counted()) };
    // The model knows no flows: whether a packet fits one is tried elsewhere. What is dropped for it
    // must be of a kind that can fail to fit.
    let dropped = |what: &Expected, reasons: &[&str]| {
        let is_one = |counter: &String| reasons.iter().any(|reason| counter.ends_with(reason));
        what.sent.is_empty() && what.counted.keys().any(is_one)
    };
    let misfit = dropped(&actual, &["flow-invalid", "flow-unrelated", "fragment-unknown"]);
    if misfit && may_misfit(&frame[14..]) {
        *model = unchanged;
        return Ok(());
    }
    if by_port(&expected) == by_port(&actual) && expected.counted == actual.counted {
        return Ok(());
    }
    let show = |what: &Expected| {
        let frames = what.sent.iter().map(|(port, bytes)| format!("    {port} {}\n", hex(bytes)));
        format!("  {:?}\n{}", what.counted, frames.collect::<String>())
    };
    Err(format!("{name} {}\n model:\n{} router:\n{}", hex(frame), show(&expected), show(&actual)))
}

/// Whether an IP packet may fail to fit a flow: all but whole UDP datagrams and echo requests may, and
/// protocols without ports never do.
fn may_misfit(ip: &[u8]) -> bool {
    if ip.len() < 40 && ip.first().is_none_or(|first| first >> 4 != 4 || ip.len() < 20) {
        return true;
    }
    let length = |at: usize| usize::from(u16::from_be_bytes([ip[at], ip[at + 1]]));
    let end = if ip[0] >> 4 == 4 { length(2) } else { 40 + length(4) };
    let ip = &ip[..end.clamp(20, ip.len())];
    let (protocol, fragment, payload) = match ip[0] >> 4 {
        4 => (ip[9], ip[6] & 0x3f != 0 || ip[7] != 0, &ip[usize::from(ip[0] & 15) * 4..]),
        // Extension headers, fragments among them, count as what may.
        _ if matches!(ip[6], 0 | 43 | 44 | 51 | 60) => return true,
        _ => (ip[6], false, &ip[40..]),
    };
    match protocol {
        _ if fragment => true,
        4 | 41 => may_misfit(payload),
        1 => payload.len() < 8 || payload[0] != 8,
        58 => payload.len() < 8 || payload[0] != 128,
        17 => payload.len() < 4,
        6 | 33 | 132 | 136 => true,
        _ => false,
    }
}

fn by_port(what: &Expected) -> BTreeMap<&str, Vec<&[u8]>> {
    let mut frames = BTreeMap::<_, Vec<_>>::new();
    for (port, bytes) in &what.sent {
        frames.entry(port.as_str()).or_default().push(bytes.as_slice());
    }
    frames
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
