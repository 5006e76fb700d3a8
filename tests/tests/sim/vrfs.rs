//! VRFs: uplinks with routes of their own, and addresses that mean another thing in each.

use std::net::{IpAddr, Ipv4Addr};

use vrouter::control::{Encap, EngineError, RouteSpec, RouteTarget};
use vrouter::ids::VrfId;
use vrouter::tables::NeighborState;
use vrouter::{Event, Router};
use vrouter_tests::lab::{Lab, host_spec, mac_text, moved, pod_spec, uplink_spec};
use vrouter_tests::packet::{self, GATEWAY_MAC, Mac};

use crate::two_nodes::route;

const POD: Mac = [2, 0, 0, 0, 1, 1];
/// Our MAC addresses on the uplinks.
const PORTS: [(&str, Mac, &str); 5] = [
    ("up", [2, 0, 0, 0, 0, 1], "172.16.20.252/24"),
    ("blue1", [2, 0, 0, 0, 0, 2], "10.0.1.1/24"),
    ("blue2", [2, 0, 0, 0, 0, 3], "10.0.2.1/24"),
    ("red1", [2, 0, 0, 0, 0, 4], "10.0.1.1/24"),
    ("red2", [2, 0, 0, 0, 0, 5], "10.0.2.1/24"),
];
const SENDER: Mac = [2, 0, 0, 0, 0, 9];

fn bind(port: &str, vrf: &str) -> Event {
    Event::BindPort { port: port.to_owned(), vrf: vrf.to_owned() }
}

fn spec(prefix: &str, via: &str) -> RouteSpec {
    let target = RouteTarget::Via(vec![via.parse().unwrap()], Encap::Pool);
    RouteSpec { prefix: prefix.parse().unwrap(), source: fib::RouteSource::Static, target, metric: 0 }
}

/// The default VRF with a pod, and two others with the same addresses in them.
fn lab() -> Lab {
    let mut lab = Lab::new(Router::builder().frames(512));
    lab.pod("pod", POD, &["10.1.0.1"]);
    for (name, mac, address) in PORTS {
        match name.trim_end_matches(['1', '2']) {
            "up" => {}
            vrf => lab.router.apply(bind(name, vrf)).unwrap(),
        }
        lab.uplink(name, mac, &[address], true);
    }
    lab.apply([
        route("10.9.0.0/16", "172.16.20.1"),
        Event::PutVrfRoute("blue".to_owned(), spec("10.9.0.0/16", "10.0.2.2")),
        Event::PutVrfRoute("red".to_owned(), spec("10.9.0.0/16", "10.0.2.3")),
    ]);
    lab.run();
    for (port, address, last) in [
        ("up", "172.16.20.1", 1),
        ("blue2", "10.0.2.2", 2),
        ("red2", "10.0.2.3", 3),
        ("blue1", "10.0.1.9", 4),
    ] {
        let mac = mac_text([2, 0, 0, 0, 9, last]).parse().unwrap();
        let id = lab.id(port);
        lab.router.neighbor(id, address.parse().unwrap(), NeighborState::Usable(mac));
    }
    lab.router.commit().unwrap();
    lab.run();
    lab.receive_all();
    lab
}

/// Where a packet goes that enters by a port: (port, last octet of the MAC address) of what is IP.
fn from(lab: &mut Lab, port: &str, to: &str) -> Vec<(String, u8)> {
    let (mac, source, ours) = match PORTS.iter().find(|(name, ..)| *name == port) {
        Some((_, ours, _)) => (SENDER, Ipv4Addr::new(10, 0, 1, 9), *ours),
        None => (POD, Ipv4Addr::new(10, 1, 0, 1), GATEWAY_MAC),
    };
    let packet = packet::udp4((source, 1000), (to.parse().unwrap(), 53), b"?");
    let sent = lab.exchange(port, &packet::ethernet(ours, mac, 0x0800, &packet));
    let ip = sent.into_iter().filter(|(_, frame)| frame[12..14] == [8, 0]);
    ip.map(|(port, frame)| (port, frame[5])).collect()
}

fn to(port: &str, last: u8) -> Vec<(String, u8)> {
    vec![(port.to_owned(), last)]
}

#[test]
fn what_enters_takes_the_routes_of_its_vrf() {
    let mut lab = lab();
    for port in ["pod", "up"] {
        assert_eq!(from(&mut lab, port, "10.9.0.1"), to("up", 1), "{port}");
    }
    assert_eq!(from(&mut lab, "blue1", "10.9.0.1"), to("blue2", 2));
    assert_eq!(from(&mut lab, "red1", "10.9.0.1"), to("red2", 3));
    // All of them in one burst, with IPv6 between.
    for (port, ours) in
        [("blue1", PORTS[1].1), ("up", PORTS[0].1), ("red1", PORTS[3].1), ("blue1", PORTS[1].1)]
    {
        let source = Ipv4Addr::new(10, 0, 1, 9);
        let packet = packet::udp4((source, 1000), (Ipv4Addr::new(10, 9, 7, 7), 53), b"?");
        lab.send(port, &packet::ethernet(ours, SENDER, 0x0800, &packet));
        let six = packet::ping6("2001:db8::1".parse().unwrap(), "2001:db8::2".parse().unwrap(), 64, 1);
        lab.send(port, &packet::ethernet(ours, SENDER, 0x86dd, &six));
    }
    lab.run();
    let count =
        |lab: &Lab, port: &str| lab.receive(port).iter().filter(|frame| frame[12..14] == [8, 0]).count();
    assert_eq!((count(&lab, "blue2"), count(&lab, "up"), count(&lab, "red2")), (2, 1, 1));
    // Nothing leads from one to another: not to a pod, not by a route of the default VRF.
    for (port, address) in [("blue1", "10.1.0.1"), ("blue1", "172.16.20.1"), ("red1", "169.254.1.1")] {
        let before = lab.counted();
        // The error about it goes back the way that it came, or is lost for want of a neighbour.
        let out = from(&mut lab, port, address);
        assert!(out.iter().all(|(to, _)| to == port), "{port} to {address}: {out:?}");
        let name = if address == "169.254.1.1" { "red1.drop.no-route" } else { "blue1.drop.no-route" };
        assert_eq!(moved(&before, &lab.counted()).get(name), Some(&1), "{port} to {address}");
    }
}

#[test]
fn errors_come_from_an_address_of_the_vrf_and_stay_in_it() {
    let mut lab = lab();
    let sent = from(&mut lab, "blue1", "192.0.2.1");
    assert_eq!(sent, to("blue1", 4));
    let packet = packet::udp4((Ipv4Addr::new(10, 0, 1, 9), 1000), (Ipv4Addr::new(192, 0, 2, 1), 53), b"?");
    let told = lab.exchange("blue1", &packet::ethernet(PORTS[1].1, SENDER, 0x0800, &packet));
    assert_eq!(told[0].1[14 + 12..14 + 16], [10, 0, 1, 1], "our address in blue");
    // Its own addresses are answered by each.
    let ping = packet::ping4(Ipv4Addr::new(10, 0, 1, 9), Ipv4Addr::new(10, 0, 2, 1), 64, 1);
    let answered = lab.exchange("blue1", &packet::ethernet(PORTS[1].1, SENDER, 0x0800, &ping));
    assert_eq!((answered.len(), answered[0].0.as_str(), answered[0].1[34]), (1, "blue1", 0), "an echo reply");
}

#[test]
fn next_hops_and_neighbors_are_found_in_the_vrf() {
    let mut lab = lab();
    // Through another route of the VRF; the default VRF has one to the same address elsewhere.
    lab.apply([
        route("192.0.2.0/24", "172.16.20.1"),
        Event::PutVrfRoute("blue".to_owned(), spec("10.8.0.0/16", "192.0.2.9")),
    ]);
    assert_eq!(from(&mut lab, "blue1", "10.8.0.1"), to("blue1", 4), "no way: an error");
    lab.apply([Event::PutVrfRoute("blue".to_owned(), spec("192.0.2.0/24", "10.0.2.2"))]);
    assert_eq!(from(&mut lab, "blue1", "10.8.0.1"), to("blue2", 2));
    // A neighbour that only traffic asks for.
    let packet = packet::udp4((Ipv4Addr::new(10, 0, 1, 9), 1), (Ipv4Addr::new(10, 0, 2, 77), 2), b"?");
    let asked = lab.exchange("blue1", &packet::ethernet(PORTS[1].1, SENDER, 0x0800, &packet));
    assert_eq!(
        asked.iter().map(|(port, frame)| (port.as_str(), frame[13])).collect::<Vec<_>>(),
        [("blue2", 6)]
    );
    let (mac, ours) = ([2, 0, 0, 0, 9, 77], PORTS[2].1);
    let reply = packet::arp(2, mac, Ipv4Addr::new(10, 0, 2, 77), ours, Ipv4Addr::new(10, 0, 2, 1));
    let released = lab.exchange("blue2", &packet::ethernet(ours, mac, 0x0806, &reply));
    assert_eq!(
        released.iter().map(|(port, frame)| (port.as_str(), frame[5])).collect::<Vec<_>>(),
        [("blue2", 77)]
    );
    // Withdrawn in one, it stays in the others.
    lab.apply([Event::RemoveVrfRoute(
        "blue".to_owned(),
        "10.9.0.0/16".parse().unwrap(),
        fib::RouteSource::Static,
    )]);
    assert_eq!(from(&mut lab, "blue1", "10.9.0.1"), to("blue1", 4), "no route: an error");
    assert_eq!(from(&mut lab, "red1", "10.9.0.1"), to("red2", 3));
    assert_eq!(from(&mut lab, "pod", "10.9.0.1"), to("up", 1));
    lab.router.remove_port("blue2").unwrap();
    lab.run();
    assert_eq!(from(&mut lab, "red1", "10.9.0.1"), to("red2", 3));
}

#[test]
fn each_is_shown_apart() {
    let lab = lab();
    let engine = lab.router.engine();
    let id = |name: &str| engine.desired().vrf(name).unwrap();
    assert_eq!((id(""), id("blue"), id("red")), (VrfId::DEFAULT, VrfId(1), VrfId(2)));
    let address: IpAddr = "10.9.0.1".parse().unwrap();
    let by = |vrf| {
        let view = engine.route_to(vrf, address).unwrap();
        (view.vrf, engine.group_hops(view.group.unwrap())[0].0.neighbor().unwrap().1)
    };
    for (vrf, neighbor) in [("", "172.16.20.1"), ("blue", "10.0.2.2"), ("red", "10.0.2.3")] {
        assert_eq!(by(id(vrf)), (id(vrf), neighbor.parse().unwrap()));
        assert_eq!(engine.routes_to(id(vrf), &"10.9.0.0/16".parse().unwrap()).len(), 1);
    }
    assert_eq!(engine.routes_to(VrfId(3), &"10.9.0.0/16".parse().unwrap()), []);
}

#[test]
fn what_a_vrf_cannot_have_is_refused() {
    let mut lab = lab();
    let mut refusal = |event| lab.router.apply(event).unwrap_err();
    let tunnel = RouteTarget::Via(vec!["10.0.2.2".parse().unwrap()], Encap::Ipip);
    let tunnel = RouteSpec { target: tunnel, ..spec("10.7.0.0/16", "10.0.2.2") };
    let prefix = "10.7.0.0/16".parse().unwrap();
    assert_eq!(refusal(Event::PutVrfRoute("blue".to_owned(), tunnel)), EngineError::TunnelInVrf(prefix));
    let unknown = EngineError::NoSuchVrf("green".to_owned());
    assert_eq!(refusal(Event::PutVrfRoute("green".to_owned(), spec("10.7.0.0/16", "10.0.2.2"))), unknown);
    assert_eq!(refusal(bind("up", "blue")), EngineError::PortBound("up".to_owned()));
    assert_eq!(refusal(bind("blue1", "red")), EngineError::PortBound("blue1".to_owned()));
    for (name, spec) in [
        ("p", pod_spec("p", POD, &["10.1.0.9"])),
        ("h", host_spec("h", POD, SENDER, &[])),
        ("u", uplink_spec("u", POD, &["10.3.0.1/24"], false)),
    ] {
        lab.router.apply(bind(name, "blue")).unwrap();
        let refused = lab.router.apply(Event::PutPort(spec)).unwrap_err();
        assert_eq!(refused, EngineError::NotForVrf(name.to_owned()));
    }
    // The same address twice in one VRF.
    lab.router.apply(bind("blue3", "blue")).unwrap();
    let twice = uplink_spec("blue3", POD, &["10.0.1.1/24"], true);
    assert!(matches!(lab.router.apply(Event::PutPort(twice)), Err(EngineError::AddressTaken { .. })));
}
