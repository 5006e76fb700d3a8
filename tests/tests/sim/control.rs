//! Control while traffic flows: routes, pools, pods and ports change, and nothing is lost
//! but what the change itself takes away.

use std::net::Ipv4Addr;
use std::time::Duration;

use vrouter::control::{Encap, RouteSpec, RouteTarget};
use vrouter::{Event, Router};
use vrouter_tests::lab::{Lab, pod_spec};
use vrouter_tests::packet::{self, GATEWAY_MAC, Mac};

use crate::two_nodes::route;

const A: Mac = [2, 0, 0, 0, 1, 1];
const B: Mac = [2, 0, 0, 0, 1, 2];
const UP: Mac = [2, 0, 0, 0, 0, 0xfc];
const FAR: Mac = [2, 0, 0, 0, 0, 0xfd];
const POD: Ipv4Addr = Ipv4Addr::new(10, 1, 0, 1);

/// Two pods and an exclusive uplink with three neighbours that are known.
fn lab(frames: u32) -> Lab {
    let mut lab = Lab::new(Router::builder().frames(frames));
    lab.pod("a", A, &["10.1.0.1"]);
    lab.pod("b", B, &["10.1.0.2"]);
    lab.uplink("up", UP, &["172.16.20.252/24"], true);
    lab.apply([
        route("10.2.0.0/16", "172.16.20.1"),
        route("10.250.0.0/16", "172.16.20.2"),
        route("10.251.0.0/16", "172.16.20.3"),
    ]);
    lab.run();
    for n in 1..=3 {
        let reply = packet::arp(2, FAR, Ipv4Addr::new(172, 16, 20, n), UP, Ipv4Addr::new(172, 16, 20, 252));
        lab.send("up", &packet::ethernet(UP, FAR, 0x0806, &reply));
    }
    lab.run();
    lab.receive_all();
    lab
}

fn from_a(destination: Ipv4Addr, sequence: u16) -> Vec<u8> {
    packet::ethernet(GATEWAY_MAC, A, 0x0800, &packet::ping4(POD, destination, 64, sequence))
}

fn via(prefix: &str, next: u8, source: fib::RouteSource) -> Event {
    let target = RouteTarget::Via(vec![Ipv4Addr::new(172, 16, 20, next).into()], Encap::None);
    Event::PutRoute(RouteSpec { prefix: prefix.parse().unwrap(), source, target, metric: 0 })
}

#[test]
fn changes_of_routes_never_show_a_hole() {
    let mut lab = lab(512);
    let prefix: fib::AnyPrefix = "10.2.7.0/24".parse().unwrap();
    let bgp = fib::RouteSource::Bgp;
    for round in 0..200u16 {
        // More specific, replaced, doubled by a better source, withdrawn: always covered.
        let events = match round % 5 {
            0 => via("10.2.7.0/24", 2, bgp),
            1 => via("10.2.7.0/24", 3, bgp),
            2 => via("10.2.7.0/24", 1, fib::RouteSource::Static),
            3 => Event::RemoveRoute(prefix, bgp),
            _ => Event::RemoveRoute(prefix, fib::RouteSource::Static),
        };
        (0..8).for_each(|n| lab.send("a", &from_a(Ipv4Addr::new(10, 2, 7, 1), round * 16 + n)));
        lab.apply([events]);
        (8..16).for_each(|n| lab.send("a", &from_a(Ipv4Addr::new(10, 2, 7, 1), round * 16 + n)));
        lab.run();
        assert_eq!(lab.receive("up").len(), 16, "round {round}");
    }
}

#[test]
fn the_longest_of_many_routes_wins_and_withdrawal_uncovers_the_next() {
    let mut lab = lab(512);
    let address = Ipv4Addr::new(10, 2, 7, 77);
    let prefixes = ["10.2.7.0/24", "10.2.7.64/26", "10.2.7.76/30", "10.2.7.77/32"];
    let blackhole = |prefix: &str| {
        let prefix = prefix.parse().unwrap();
        let target = RouteTarget::Blackhole;
        Event::PutRoute(RouteSpec { prefix, source: fib::RouteSource::Api, target, metric: 0 })
    };
    for prefix in prefixes {
        lab.apply([blackhole(prefix)]);
        assert!(lab.exchange("a", &from_a(address, 1)).is_empty(), "{prefix}");
        lab.apply([via(prefix, 2, fib::RouteSource::Static)]);
        assert_eq!(lab.exchange("a", &from_a(address, 2)).len(), 1, "{prefix}: static wins over the API's");
    }
    for prefix in prefixes.into_iter().rev() {
        lab.apply([Event::RemoveRoute(prefix.parse().unwrap(), fib::RouteSource::Static)]);
        assert!(lab.exchange("a", &from_a(address, 3)).is_empty(), "{prefix}");
        lab.apply([Event::RemoveRoute(prefix.parse().unwrap(), fib::RouteSource::Api)]);
        assert_eq!(lab.exchange("a", &from_a(address, 4)).len(), 1, "{prefix}");
    }
}

#[test]
fn a_resync_withdraws_what_the_source_no_longer_names() {
    let mut lab = lab(512);
    let bgp = fib::RouteSource::Bgp;
    lab.apply([via("10.3.0.0/16", 1, bgp), via("10.4.0.0/16", 1, bgp)]);
    lab.apply([Event::BeginResync(bgp), via("10.4.0.0/16", 2, bgp)]);
    let reached = |lab: &mut Lab, third: u8| {
        let sent = lab.exchange("a", &from_a(Ipv4Addr::new(10, third, 0, 1), 1));
        sent.iter().any(|(port, _)| port == "up")
    };
    assert!(reached(&mut lab, 3) && reached(&mut lab, 4), "until the end nothing is withdrawn");
    lab.apply([Event::EndResync(bgp)]);
    assert!(!reached(&mut lab, 3) && reached(&mut lab, 4));
}

#[test]
fn equal_cost_next_hops_share_the_flows_and_keep_each_whole() {
    let mut lab = lab(512);
    let both = ["172.16.20.1", "172.16.20.2"].map(|next| next.parse().unwrap()).to_vec();
    let other: Mac = [2, 0, 0, 0, 0, 0xfe];
    let announcement =
        packet::arp(1, other, Ipv4Addr::new(172, 16, 20, 2), [0; 6], Ipv4Addr::new(172, 16, 20, 2));
    lab.send("up", &packet::ethernet(packet::BROADCAST, other, 0x0806, &announcement));
    lab.apply([Event::PutRoute(RouteSpec {
        prefix: "10.9.0.0/16".parse().unwrap(),
        source: fib::RouteSource::Static,
        target: RouteTarget::Via(both, Encap::None),
        metric: 0,
    })]);
    lab.run();
    lab.receive("up");
    let mut by_mac = [0; 2];
    for flow in 0..400u16 {
        let packet = packet::udp4((POD, 1000 + flow), (Ipv4Addr::new(10, 9, 0, 1), 53), b"?");
        let frame = packet::ethernet(GATEWAY_MAC, A, 0x0800, &packet);
        let sent: Vec<_> = (0..3).flat_map(|_| lab.exchange("a", &frame)).collect();
        assert!(sent.iter().all(|(_, frame)| frame[..6] == sent[0].1[..6]), "a flow keeps its way");
        by_mac[usize::from(sent[0].1[..6] == other)] += 1;
    }
    assert!(by_mac.iter().all(|n| (120..=280).contains(n)), "{by_mac:?}");
}

#[test]
fn a_thousand_pods_come_and_go_under_traffic_and_leave_nothing_behind() {
    let mut lab = lab(512);
    let free = lab.free_frames();
    assert_eq!(free, 512);
    for n in 0..1000u16 {
        let [high, low] = n.to_be_bytes();
        let address = Ipv4Addr::new(10, 1, 4 + high, low);
        lab.port(pod_spec("guest", [2, 0, 0, 2, high, low], &[&address.to_string()]));
        lab.apply([]);
        assert!(lab.router.frames().free_frames() <= 512);
        // Both ways, and packets that are still on the wires when the pod goes.
        let ping = packet::ping4(address, POD, 64, n);
        let frame = packet::ethernet(GATEWAY_MAC, [2, 0, 0, 2, high, low], 0x0800, &ping);
        let there = lab.exchange("guest", &frame);
        assert_eq!(there.len(), 1);
        assert_eq!(there[0].0, "a");
        assert_eq!(lab.exchange("a", &from_a(address, n)).len(), 1);
        (0..3).for_each(|_| lab.send("guest", &frame));
        lab.send("a", &from_a(address, n));
        lab.router.remove_port("guest").unwrap();
        lab.run();
        lab.receive_all();
        let after = lab.exchange("a", &from_a(address, n));
        assert!(after.iter().all(|(port, _)| port == "a"), "only the error comes back");
    }
    assert_eq!(lab.free_frames(), free);
    assert_eq!(lab.router.placements().len(), 3);
}

#[test]
fn a_port_goes_while_packets_wait_for_its_neighbors() {
    let mut lab = lab(512);
    (0..10).for_each(|n| lab.send("a", &from_a(Ipv4Addr::new(172, 16, 20, 77), n)));
    lab.run();
    assert_eq!(lab.counted().get("held"), Some(&10));
    lab.router.remove_port("up").unwrap();
    lab.run();
    assert_eq!(lab.counted().get("held"), None, "they have no route any more");
    assert_eq!(lab.counted().get("a.drop.no-route"), Some(&10));
    // And where the port is the one on which they came.
    let mut lab = self::lab(512);
    (0..10).for_each(|n| lab.send("a", &from_a(Ipv4Addr::new(172, 16, 20, 77), n)));
    lab.run();
    lab.router.remove_port("a").unwrap();
    lab.run_for(Duration::from_secs(5));
    assert_eq!(lab.counted().get("held"), None);
    assert_eq!(lab.free_frames(), 512);
}

#[test]
fn a_refused_event_changes_nothing() {
    let mut lab = lab(512);
    let taken = pod_spec("thief", B, &["10.1.0.1"]);
    assert!(lab.router.apply(Event::PutPort(taken)).is_err());
    assert!(lab.router.apply(Event::RemovePort("nobody".to_owned())).is_err());
    let withdrawal = Event::RemoveRoute("10.77.0.0/16".parse().unwrap(), fib::RouteSource::Bgp);
    assert!(lab.router.apply(withdrawal).is_err());
    assert!(lab.router.remove_port("nobody").is_err());
    assert_eq!(lab.exchange("a", &from_a(Ipv4Addr::new(10, 1, 0, 2), 1))[0].0, "b");
}

#[test]
fn a_link_that_goes_down_and_up_carries_again() {
    let mut lab = lab(512);
    let spec = lab.router.engine().desired().ports["up"].clone();
    let mut down = spec.clone();
    down.up = false;
    lab.apply([Event::PutPort(down)]);
    lab.exchange("a", &from_a(Ipv4Addr::new(10, 2, 0, 1), 1));
    assert_eq!(lab.counted().get("a.drop.port-down"), Some(&1));
    let mut narrow = spec;
    narrow.mtu = 1000;
    lab.apply([Event::PutPort(narrow)]);
    assert!(lab.exchange("a", &from_a(Ipv4Addr::new(10, 2, 0, 1), 2)).iter().any(|(port, _)| port == "up"));
    let big = packet::Ip4::new(POD, Ipv4Addr::new(10, 2, 0, 1), 17).bytes(&[0; 1200]);
    let pieces = lab.exchange("a", &packet::ethernet(GATEWAY_MAC, A, 0x0800, &big));
    assert_eq!(pieces.iter().filter(|(port, _)| port == "up").count(), 2, "the new MTU is in force");
}
