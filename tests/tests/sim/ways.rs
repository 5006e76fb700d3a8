//! Which of several next hops packets take, and that a way that was found once is not taken for longer than
//! it is right.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;

use vrouter::control::{Encap, RouteSpec, RouteTarget};
use vrouter::pipeline::spread::Spread;
use vrouter::tables::NeighborState;
use vrouter::{Event, Router};
use vrouter_tests::lab::{Lab, mac_text};
use vrouter_tests::packet::{self, Ip4, Mac};

use crate::two_nodes::route;

const IN: Mac = [2, 0, 0, 0, 0, 0xfb];
const UP: Mac = [2, 0, 0, 0, 0, 0xfc];
const SENDER: Mac = [2, 0, 0, 0, 8, 1];
const IPIP: u8 = 4;

fn neighbor(n: u8) -> Ipv4Addr {
    Ipv4Addr::new(172, 16, 20, n)
}

fn know(lab: &mut Lab, n: u8, mac: Mac) {
    let up = lab.id("up");
    let usable = NeighborState::Usable(mac_text(mac).parse().unwrap());
    lab.router.neighbor(up, neighbor(n).into(), usable);
}

fn lab(spread: Spread, routes: impl IntoIterator<Item = Event>) -> Lab {
    let mut lab = Lab::new(Router::builder().frames(1024).spread(spread));
    lab.uplink("in", IN, &["172.16.1.1/24"], false);
    lab.uplink("up", UP, &["172.16.20.252/24"], false);
    lab.apply(routes);
    lab.run();
    for n in 1..=3 {
        know(&mut lab, n, [2, 0, 0, 0, 9, n]);
    }
    lab.router.commit().unwrap();
    lab.run();
    lab.receive_all();
    lab
}

fn send(lab: &Lab, packet: &[u8]) {
    lab.send("in", &packet::ethernet(IN, SENDER, 0x0800, packet));
}

/// Sends packets in turn to two destinations of different routes, `count` in one burst, and returns the MAC
/// addresses that those to each of them went to.
fn to_both(lab: &mut Lab, count: u8) -> [BTreeSet<Mac>; 2] {
    for n in 0..count {
        let to = Ipv4Addr::new(10, 2 + n % 2, 0, 1);
        send(lab, &packet::udp4((Ipv4Addr::new(198, 18, 0, 1), 1000), (to, 53), b"to"));
    }
    lab.run();
    let mut went = [BTreeSet::new(), BTreeSet::new()];
    let frames = lab.receive("up");
    assert_eq!(frames.len(), usize::from(count));
    for frame in frames {
        went[usize::from(frame[31] - 2)].insert(frame[..6].try_into().unwrap());
    }
    went
}

/// Whether few packets come at once or many: then they are looked at one by one or side by side.
#[test]
fn a_way_that_was_taken_before_is_given_up_with_its_neighbor_or_route() {
    for count in [2, 6, 64] {
        let routes = [route("10.2.0.0/16", "172.16.20.1"), route("10.3.0.0/16", "172.16.20.2")];
        let mut lab = lab(Spread::default(), routes);
        let mac = |n| BTreeSet::from([[2, 0, 0, 0, 9, n]]);
        assert_eq!(to_both(&mut lab, count), [mac(1), mac(2)]);
        assert_eq!(to_both(&mut lab, count), [mac(1), mac(2)]);
        // The neighbour changes in place: no new tables.
        know(&mut lab, 1, [2, 0, 0, 0, 9, 7]);
        assert_eq!(to_both(&mut lab, count), [mac(7), mac(2)]);
        // The route changes, and with it the tables.
        lab.apply([route("10.3.0.0/16", "172.16.20.3")]);
        lab.run();
        assert_eq!(to_both(&mut lab, count), [mac(7), mac(3)]);
        lab.apply([route("10.2.0.0/16", "172.16.20.2"), route("10.3.0.0/16", "172.16.20.1")]);
        lab.run();
        assert_eq!(to_both(&mut lab, count), [mac(2), mac(7)]);
    }
}

/// How many of 256 packets of one tunnel, each of a flow of its own, go to the first of two next hops.
fn of_a_tunnel(inner: bool, seed: u32, backwards: bool) -> usize {
    let prefix = "192.0.2.0/24".parse().unwrap();
    let both = vec![neighbor(1).into(), neighbor(2).into()];
    let target = RouteTarget::Via(both, Encap::None);
    let spec = RouteSpec { prefix, source: fib::RouteSource::Static, target, metric: 0 };
    let mut lab = lab(Spread { seed, inner }, [Event::PutRoute(spec)]);
    for port in 0..256 {
        let ends = [(Ipv4Addr::new(10, 9, 0, 1), 5000 + port), (Ipv4Addr::new(10, 9, 0, 2), 80)];
        let flow =
            if backwards { packet::udp4(ends[1], ends[0], b"") } else { packet::udp4(ends[0], ends[1], b"") };
        let tunnel = Ip4::new(Ipv4Addr::new(192, 0, 2, 1), Ipv4Addr::new(192, 0, 2, 2), IPIP);
        send(&lab, &tunnel.bytes(&flow));
        if port % 64 == 63 {
            lab.run();
        }
    }
    let frames = lab.receive("up");
    assert_eq!(frames.len(), 256);
    frames.iter().filter(|frame| frame[..6] == [2, 0, 0, 0, 9, 1]).count()
}

#[test]
fn flows_inside_a_tunnel_are_spread_where_asked() {
    assert!(matches!(of_a_tunnel(false, 1, false), 0 | 256), "a tunnel is one flow");
    let spread = of_a_tunnel(true, 1, false);
    assert!((96..=160).contains(&spread), "{spread} of 256");
    assert_eq!(of_a_tunnel(true, 1, true), spread, "both directions go one way");
    assert_ne!(of_a_tunnel(true, 2, false), spread, "another seed chooses otherwise");
}
