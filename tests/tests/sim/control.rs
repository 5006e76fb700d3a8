//! Control while traffic flows: routes, pools, pods and ports change, and nothing is lost
//! but what the change itself takes away.

use std::net::Ipv4Addr;
use std::time::Duration;

use vrouter::control::{Encap, RouteSpec, RouteTarget};
use vrouter::{Event, PortSpec, Router};
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

/// A route by these next hops of 172.16.20.0/24, with weights.
fn weighted(prefix: &str, next_hops: &[(u8, u32)]) -> Event {
    let next_hops =
        next_hops.iter().map(|(next, weight)| (Ipv4Addr::new(172, 16, 20, *next).into(), *weight)).collect();
    Event::PutRoute(RouteSpec {
        prefix: prefix.parse().unwrap(),
        source: fib::RouteSource::Bgp,
        target: RouteTarget::Weighted(next_hops, Encap::None),
        metric: 0,
    })
}

/// Has neighbours 1 to 4 of the uplink answer from a MAC address of their own.
fn apart(lab: &mut Lab) {
    for n in 1..=4 {
        let mac = [2, 0, 0, 0, 9, n];
        let (address, ours) = (Ipv4Addr::new(172, 16, 20, n), Ipv4Addr::new(172, 16, 20, 252));
        lab.send("up", &packet::ethernet(UP, mac, 0x0806, &packet::arp(2, mac, address, UP, ours)));
    }
    lab.run();
    lab.receive_all();
}

/// By which of the neighbours each of `count` flows leaves; 0 where none does.
fn ways(lab: &mut Lab, to: Ipv4Addr, count: u16) -> Vec<u8> {
    let ways = (0..count).map(|flow| {
        let packet = packet::udp4((POD, 1000 + flow), (to, 53), b"?");
        let sent = lab.exchange("a", &packet::ethernet(GATEWAY_MAC, A, 0x0800, &packet));
        sent.iter().find(|(port, _)| port == "up").map_or(0, |(_, frame)| frame[5])
    });
    ways.collect()
}

#[test]
fn a_next_hop_that_goes_takes_only_its_own_flows_along() {
    let mut lab = lab(512);
    let to = Ipv4Addr::new(10, 9, 0, 1);
    lab.apply([weighted("10.9.0.0/16", &[(1, 1), (2, 1), (3, 1), (4, 1)])]);
    lab.run();
    apart(&mut lab);
    let before = ways(&mut lab, to, 400);
    let flows = [0, 1, 2, 3, 4].map(|n| before.iter().filter(|way| **way == n).count());
    assert!(flows[0] == 0 && flows[1..].iter().all(|n| (60..=140).contains(n)), "{flows:?}");
    lab.apply([weighted("10.9.0.0/16", &[(1, 1), (2, 1), (4, 1)])]);
    let after = ways(&mut lab, to, 400);
    for (was, is) in before.iter().zip(&after) {
        assert!(*is != 3 && (was == is || *was == 3), "from {was} to {is}");
    }
    // And one that comes takes flows, but none moves between the others.
    lab.apply([weighted("10.9.0.0/16", &[(1, 1), (2, 1), (3, 1), (4, 1)])]);
    lab.run();
    apart(&mut lab);
    for (was, is) in after.iter().zip(ways(&mut lab, to, 400)) {
        assert!(*was == is || is == 3, "from {was} to {is}");
    }
}

#[test]
fn flows_are_shared_by_weight() {
    let mut lab = lab(512);
    lab.apply([weighted("10.9.0.0/16", &[(1, 1), (2, 3)])]);
    lab.run();
    apart(&mut lab);
    let ways = ways(&mut lab, Ipv4Addr::new(10, 9, 0, 1), 800);
    let second = ways.iter().filter(|way| **way == 2).count();
    assert!((540..=660).contains(&second) && !ways.contains(&0), "{second} of 800");
}

#[test]
fn by_weight_too_a_change_moves_only_the_flows_that_it_must() {
    let mut lab = lab(512);
    let to = Ipv4Addr::new(10, 9, 0, 1);
    lab.apply([weighted("10.9.0.0/16", &[(1, 1), (2, 3), (3, 4)])]);
    lab.run();
    apart(&mut lab);
    let count = |ways: &[u8], n: u8| ways.iter().filter(|way| **way == n).count();
    let before = ways(&mut lab, to, 800);
    assert_eq!(count(&before, 0) + count(&before, 4), 0);
    for (n, share) in [(1, 100), (2, 300), (3, 400)] {
        assert!(count(&before, n).abs_diff(share) <= 60, "{n}: {}", count(&before, n));
    }
    // The heaviest goes: its flows go to the others by their weights, and no other moves.
    lab.apply([weighted("10.9.0.0/16", &[(1, 1), (2, 3)])]);
    let after = ways(&mut lab, to, 800);
    for (was, is) in before.iter().zip(&after) {
        assert!(*is != 3 && (was == is || *was == 3), "from {was} to {is}");
    }
    assert!(count(&after, 2).abs_diff(600) <= 60, "{}", count(&after, 2));
    // A weight that grows takes flows from the other, and gives none.
    lab.apply([weighted("10.9.0.0/16", &[(1, 3), (2, 3)])]);
    let grown = ways(&mut lab, to, 800);
    for (was, is) in after.iter().zip(&grown) {
        assert!(was == is || *is == 1, "from {was} to {is}");
    }
    assert!(count(&grown, 1).abs_diff(400) <= 60, "{}", count(&grown, 1));
}

#[test]
fn a_route_goes_where_the_route_to_its_next_hop_goes() {
    let mut lab = lab(512);
    let route = |prefix: &str, next: &str, source| {
        let target = RouteTarget::Via(vec![next.parse().unwrap()], Encap::None);
        Event::PutRoute(RouteSpec { prefix: prefix.parse().unwrap(), source, target, metric: 0 })
    };
    let (bgp, fixed) = (fib::RouteSource::Bgp, fib::RouteSource::Static);
    let to = Ipv4Addr::new(10, 9, 0, 1);
    lab.apply([route("10.9.0.0/16", "192.0.2.9", bgp)]);
    assert_eq!(ways(&mut lab, to, 1), [0]);
    assert_eq!(lab.counted().get("a.drop.next-hop-unresolved"), Some(&1));
    lab.apply([weighted("172.30.0.0/16", &[(1, 1)]), route("192.0.2.0/24", "172.30.0.7", fixed)]);
    lab.run();
    apart(&mut lab);
    assert_eq!(ways(&mut lab, to, 2), [1, 1], "bgp over static over a neighbour");
    lab.apply([weighted("172.30.0.0/16", &[(2, 1)])]);
    lab.run();
    apart(&mut lab);
    assert_eq!(ways(&mut lab, to, 2), [2, 2]);
    // Two next hops that lead to each other: what goes through them is dropped, nothing else.
    lab.apply([route("172.30.0.0/16", "192.0.2.1", bgp)]);
    assert_eq!(ways(&mut lab, to, 1), [0]);
    assert_eq!(ways(&mut lab, Ipv4Addr::new(10, 2, 0, 1), 1), [1]);
    // To a pod, and to nowhere.
    lab.apply([route("192.0.2.0/24", "10.1.0.2", fixed)]);
    let sent = lab.exchange("a", &from_a(to, 1));
    assert_eq!(sent.iter().map(|(port, _)| port.as_str()).collect::<Vec<_>>(), ["b"]);
    let prefix = "192.0.2.0/24".parse().unwrap();
    let nowhere = RouteSpec { prefix, source: fixed, target: RouteTarget::Blackhole, metric: 0 };
    lab.apply([Event::PutRoute(nowhere)]);
    lab.exchange("a", &from_a(to, 2));
    assert_eq!(lab.counted().get("a.drop.blackhole"), Some(&1));
}

#[test]
fn stale_routes_forward_until_their_time_is_over() {
    let mut lab = lab(512);
    let bgp = fib::RouteSource::Bgp;
    lab.apply([via("10.3.0.0/16", 1, bgp), via("10.4.0.0/16", 1, bgp)]);
    let deadline = lab.now.after(Duration::from_secs(30));
    lab.apply([Event::BeginResyncUntil(bgp, deadline), via("10.4.0.0/16", 2, bgp)]);
    let reached = |lab: &mut Lab, third: u8| {
        let sent = lab.exchange("a", &from_a(Ipv4Addr::new(10, third, 0, 1), 1));
        sent.iter().any(|(port, _)| port == "up")
    };
    lab.run_for(Duration::from_secs(29));
    apart(&mut lab);
    assert!(reached(&mut lab, 3) && reached(&mut lab, 4));
    assert!(lab.router.next_timeout().is_some_and(|next| next <= deadline));
    lab.run_for(Duration::from_secs(2));
    apart(&mut lab);
    assert!(!reached(&mut lab, 3) && reached(&mut lab, 4));
}

#[test]
fn flows_leave_a_link_that_is_down_where_there_is_another() {
    let mut lab = lab(512);
    lab.uplink("up2", [2, 0, 0, 0, 0, 0xfb], &["172.16.21.252/24"], true);
    let spec = lab.router.engine().desired().ports["up2"].clone();
    let next_hops = [("172.16.20.1", 1), ("172.16.21.1", 1)];
    let next_hops = next_hops.map(|(next, weight)| (next.parse().unwrap(), weight)).to_vec();
    lab.apply([Event::PutRoute(RouteSpec {
        prefix: "10.9.0.0/16".parse().unwrap(),
        source: fib::RouteSource::Bgp,
        target: RouteTarget::Weighted(next_hops, Encap::None),
        metric: 0,
    })]);
    lab.run();
    let (far, ours) = (Ipv4Addr::new(172, 16, 21, 1), Ipv4Addr::new(172, 16, 21, 252));
    let reply = packet::arp(2, FAR, far, [2, 0, 0, 0, 0, 0xfb], ours);
    lab.send("up2", &packet::ethernet([2, 0, 0, 0, 0, 0xfb], FAR, 0x0806, &reply));
    lab.run();
    lab.receive_all();
    let mut by_port = |up: bool| {
        lab.apply([Event::PutPort(PortSpec { up, ..spec.clone() })]);
        let mut flows = [0; 2];
        for flow in 0..100u16 {
            let packet = packet::udp4((POD, 1000 + flow), (Ipv4Addr::new(10, 9, 0, 1), 53), b"?");
            let sent = lab.exchange("a", &packet::ethernet(GATEWAY_MAC, A, 0x0800, &packet));
            sent.iter().for_each(|(port, _)| flows[usize::from(port == "up2")] += 1);
        }
        flows
    };
    assert!(by_port(true).iter().all(|flows| (20..=80).contains(flows)));
    assert_eq!(by_port(false), [100, 0]);
    assert!(by_port(true).iter().all(|flows| (20..=80).contains(flows)));
}
