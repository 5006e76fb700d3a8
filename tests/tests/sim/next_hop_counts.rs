//! What is sent is counted by next hop, whatever else shares its bursts.

use std::net::Ipv4Addr;

use vrouter::control::adjacency::Hop;
use vrouter::tables::NeighborState;
use vrouter::{Event, Router};
use vrouter_tests::lab::{Lab, mac_text};
use vrouter_tests::packet::{self, GATEWAY_MAC, Mac};

use crate::two_nodes::route;

const POD: Mac = [2, 0, 0, 0, 1, 1];
const UP: Mac = [2, 0, 0, 0, 0, 0xfc];
const POD4: Ipv4Addr = Ipv4Addr::new(10, 1, 0, 1);

fn lab() -> Lab {
    let mut lab = Lab::new(Router::builder().frames(512));
    lab.pod("pod", POD, &["10.1.0.1"]);
    lab.pod("other", [2, 0, 0, 0, 1, 2], &["10.1.0.2"]);
    lab.uplink("up", UP, &["172.16.20.252/24"], true);
    lab.apply([route("10.2.0.0/16", "172.16.20.1"), route("10.3.0.0/16", "172.16.20.2")]);
    lab.run();
    know(&mut lab, 3);
    lab
}

/// The uplink's first neighbours are known.
fn know(lab: &mut Lab, count: u8) {
    let up = lab.id("up");
    for n in 1..=count {
        let mac = mac_text([2, 0, 0, 0, 9, n]).parse().unwrap();
        lab.router.neighbor(up, Ipv4Addr::new(172, 16, 20, n).into(), NeighborState::Usable(mac));
    }
    lab.router.commit().unwrap();
    lab.run();
    lab.receive_all();
}

fn send(lab: &Lab, to: [u8; 4], payload: usize) {
    let packet = packet::udp4((POD4, 1000), (to.into(), 53), &vec![7; payload]);
    lab.send("pod", &packet::ethernet(GATEWAY_MAC, POD, 0x0800, &packet));
}

/// Packets and bytes by way of a neighbour of the uplink.
fn by(lab: &Lab, n: u8) -> (u64, u64) {
    let hop = Hop::Neighbor(lab.id("up"), Ipv4Addr::new(172, 16, 20, n).into());
    let totals = lab.router.hop_totals(&hop);
    (totals.tx_packets, totals.tx_bytes)
}

#[test]
fn bursts_to_one_next_hop_and_to_many() {
    let mut lab = lab();
    (0..64).for_each(|_| send(&lab, [10, 2, 0, 1], 100));
    lab.run();
    assert_eq!((by(&lab, 1), by(&lab, 2)), ((64, 64 * 142), (0, 0)));
    // Mixed: to both, and to a pod.
    for n in 0..60u8 {
        send(
            &lab,
            [[10, 2, 0, 1], [10, 3, 0, 1], [10, 1, 0, 2]][usize::from(n % 3)],
            60 + usize::from(n % 3),
        );
    }
    lab.run();
    assert_eq!((by(&lab, 1), by(&lab, 2)), ((84, 64 * 142 + 20 * 102), (20, 20 * 103)));
    let to_pod = lab.router.hop_totals(&Hop::Direct(lab.id("other"), false));
    assert_eq!((to_pod.tx_packets, to_pod.tx_bytes), (20, 20 * 104));
    // Together they are what the ports sent, but for what is no packet of a route.
    let up = lab.router.port_totals(lab.id("up")).unwrap();
    lab.receive_all();
    assert!(up.tx_packets >= 104);
    // Dropped, so not sent.
    send(&lab, [10, 2, 0, 1], 1600);
    lab.run();
    assert_eq!(by(&lab, 2).0, 20);
}

#[test]
fn a_next_hop_that_gets_the_number_of_another_starts_at_nothing() {
    let mut lab = lab();
    (0..5).for_each(|_| send(&lab, [10, 2, 0, 1], 10));
    lab.run();
    assert_eq!(by(&lab, 1).0, 5);
    let id = |lab: &Lab, n: u8| {
        let hop = Hop::Neighbor(lab.id("up"), Ipv4Addr::new(172, 16, 20, n).into());
        lab.router.engine().adjacency_id(&hop)
    };
    let (first, prefix) = (id(&lab, 1), "10.2.0.0/16".parse().unwrap());
    assert!(first.is_some());
    lab.apply([Event::RemoveRoute(prefix, fib::RouteSource::Static)]);
    lab.run();
    lab.apply([]);
    lab.apply([route("10.4.0.0/16", "172.16.20.3")]);
    assert_eq!(id(&lab, 3), first, "the number is used again");
    know(&mut lab, 3);
    assert_eq!(by(&lab, 3), (0, 0));
    send(&lab, [10, 4, 0, 1], 10);
    lab.run();
    assert_eq!(by(&lab, 3), (1, 52));
}
