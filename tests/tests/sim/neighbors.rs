//! Neighbours: asked for by our own machine on exclusive uplinks, by the kernel on
//! shared ones; packets that wait for them.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use vrouter::Router;
use vrouter::control::NeighborRequest;
use vrouter::tables::NeighborState;
use vrouter_tests::lab::{Lab, mac_text, moved, uplink_spec};
use vrouter_tests::packet::{self, BROADCAST, GATEWAY_MAC, Mac};

use crate::two_nodes::route;

const POD_MAC: Mac = [2, 0, 0, 0, 1, 1];
const UP_MAC: Mac = [2, 0, 0, 0, 0, 0xfc];
const FAR: [Mac; 2] = [[2, 0, 0, 0, 0, 0xfd], [2, 0, 0, 0, 0, 0xfe]];
const POD: Ipv4Addr = Ipv4Addr::new(10, 1, 0, 1);
const UP: Ipv4Addr = Ipv4Addr::new(172, 16, 20, 252);
const PEER: Ipv4Addr = Ipv4Addr::new(172, 16, 20, 253);

fn lab(exclusive: bool) -> Lab {
    let mut lab = Lab::new(Router::builder().frames(512));
    lab.pod("pod", POD_MAC, &["10.1.0.1", "fd00:1::1"]);
    lab.uplink("up", UP_MAC, &["172.16.20.252/24", "fd00:20::252/64"], exclusive);
    lab.apply([route("10.2.0.0/16", "172.16.20.253"), route("fd00:2::/64", "fd00:20::253")]);
    lab.run();
    lab
}

fn ping(lab: &Lab, destination: &str, sequence: u16) {
    let frame = match destination.parse().unwrap() {
        IpAddr::V4(to) => {
            packet::ethernet(GATEWAY_MAC, POD_MAC, 0x0800, &packet::ping4(POD, to, 64, sequence))
        }
        IpAddr::V6(to) => {
            let own = "fd00:1::1".parse().unwrap();
            packet::ethernet(GATEWAY_MAC, POD_MAC, 0x86dd, &packet::ping6(own, to, 64, sequence))
        }
    };
    lab.send("pod", &frame);
}

/// The peer answers for its address.
fn answer(lab: &Lab, address: IpAddr, mac: Mac) {
    let frame = match address {
        IpAddr::V4(address) => {
            packet::ethernet(UP_MAC, mac, 0x0806, &packet::arp(2, mac, address, UP_MAC, UP))
        }
        IpAddr::V6(address) => {
            let own: Ipv6Addr = "fd00:20::252".parse().unwrap();
            packet::ethernet(UP_MAC, mac, 0x86dd, &packet::advert(address, own, 0x6000_0000, address, mac))
        }
    };
    lab.send("up", &frame);
}

fn is_ip4(frame: &[u8]) -> bool {
    frame[12..14] == [8, 0]
}

/// The questions for an address among frames.
fn questions(frames: &[Vec<u8>], address: IpAddr) -> usize {
    let asks = |frame: &&Vec<u8>| match address {
        IpAddr::V4(a) => frame[12..14] == [8, 6] && frame[20..22] == [0, 1] && frame[38..42] == a.octets(),
        IpAddr::V6(a) => frame[12..14] == [0x86, 0xdd] && frame[54] == 135 && frame[62..78] == a.octets(),
    };
    frames.iter().filter(asks).count()
}

/// Sequence numbers of the pings among frames, in order.
fn sequences(frames: &[Vec<u8>]) -> Vec<u16> {
    let ping = |frame: &&Vec<u8>| is_ip4(frame) && frame[14 + 9] == 1;
    frames.iter().filter(ping).map(|frame| u16::from_be_bytes([frame[40], frame[41]])).collect()
}

/// Whether a frame tells all stations where an address of the uplink is.
fn is_announcement(frame: &[u8]) -> bool {
    let gratuitous = packet::arp(1, UP_MAC, UP, [0; 6], UP);
    let arp = frame[..6] == BROADCAST && frame[14..42] == gratuitous;
    arp || frame[12..14] == [0x86, 0xdd] && frame[54] == 136
}

#[test]
fn own_addresses_are_announced_when_the_router_takes_the_port() {
    for exclusive in [true, false] {
        let mut lab = lab(exclusive);
        let frames = lab.receive("up");
        let told: Vec<_> = frames.iter().filter(|frame| is_announcement(frame)).collect();
        assert!(told.iter().any(|frame| frame[12..14] == [8, 6]), "gratuitous ARP");
        assert!(told.iter().any(|frame| frame[12..14] == [0x86, 0xdd]), "unsolicited advertisement");
        assert!(exclusive || told.len() == frames.len(), "the kernel asks, not we");
        lab.run_for(Duration::from_secs(5));
        // Another MAC address: peers must learn it from us, whoever answers them.
        lab.receive("up");
        let spec = uplink_spec("up", FAR[1], &["172.16.20.252/24", "fd00:20::252/64"], exclusive);
        lab.apply([vrouter::Event::PutPort(spec)]);
        lab.run();
        let arp = packet::arp(1, FAR[1], UP, [0; 6], UP);
        assert!(lab.receive("up").iter().any(|frame| frame[..6] == BROADCAST && frame[14..42] == arp));
    }
}

#[test]
fn next_hops_of_routes_are_asked_for_without_traffic() {
    let lab = lab(true);
    let frames = lab.receive("up");
    assert_eq!(questions(&frames, PEER.into()), 1);
    assert_eq!(questions(&frames, "fd00:20::253".parse().unwrap()), 1);
}

#[test]
fn packets_wait_and_leave_in_order_in_both_families() {
    for (destination, next_hop) in [("10.2.0.1", "172.16.20.253"), ("fd00:2::1", "fd00:20::253")] {
        let mut lab = lab(true);
        (0..10).for_each(|n| ping(&lab, destination, n));
        lab.run();
        assert_eq!(lab.counted().get("held"), Some(&10));
        lab.receive("up");
        // The answer and one more ping arrive together: those that waited go first.
        answer(&lab, next_hop.parse().unwrap(), FAR[0]);
        ping(&lab, destination, 10);
        lab.run();
        let frames = lab.receive("up");
        let pings: Vec<u16> = frames
            .iter()
            .map(|frame| u16::from_be_bytes([frame[frame.len() - 16], frame[frame.len() - 15]]))
            .collect();
        assert_eq!(pings, (0..11).collect::<Vec<_>>(), "{destination}");
        assert!(frames.iter().all(|frame| frame[..12] == [FAR[0], UP_MAC].concat()));
        assert_eq!(lab.counted().get("held"), None);
    }
}

#[test]
fn at_most_sixteen_wait_for_one_next_hop_and_256_in_all() {
    let mut lab = lab(true);
    (0..20).for_each(|n| ping(&lab, "10.2.0.1", n));
    lab.run();
    assert_eq!(lab.counted().get("pod.drop.hold-full"), Some(&4));
    for host in 1..=20 {
        (0..16).for_each(|n| ping(&lab, &format!("172.16.20.{host}"), n));
        lab.run();
    }
    let counted = lab.counted();
    assert_eq!(
        (counted.get("held"), counted.get("pod.drop.hold-full")),
        (Some(&256), Some(&(4 + 21 * 16 - 256)))
    );
    // Those of 16 next hops are answered, the rest runs out of time.
    answer(&lab, PEER.into(), FAR[0]);
    lab.run();
    lab.run_for(Duration::from_secs(5));
    assert_eq!(lab.counted().get("held"), None);
}

#[test]
fn nobody_answers_host_unreachable_and_it_is_asked_again() {
    let mut lab = lab(true);
    ping(&lab, "10.2.0.1", 1);
    lab.run();
    let mut asked = questions(&lab.receive("up"), PEER.into());
    for _ in 0..35 {
        lab.pass(Duration::from_millis(100));
        lab.run();
        asked += questions(&lab.receive("up"), PEER.into());
    }
    assert_eq!(asked, 3, "three questions a second apart");
    let error = lab.receive("pod").pop().expect("an answer to the pod");
    assert_eq!((error[34], error[35]), (3, 1), "host unreachable");
    let before = lab.counted();
    ping(&lab, "10.2.0.1", 2);
    lab.run();
    assert_eq!(moved(&before, &lab.counted()).get("pod.drop.neighbor-failed"), Some(&1));
    lab.run_for(Duration::from_secs(4));
    assert!(questions(&lab.receive("up"), PEER.into()) > 0, "a route's next hop goes on being asked for");
    answer(&lab, PEER.into(), FAR[0]);
    lab.run();
    ping(&lab, "10.2.0.1", 3);
    lab.run();
    assert_eq!(sequences(&lab.receive("up")), [3]);
}

#[test]
fn a_change_of_mac_is_followed() {
    let mut lab = lab(true);
    answer(&lab, PEER.into(), FAR[0]);
    lab.run();
    lab.receive("up");
    // Announced by a gratuitous ARP.
    let announcement = packet::arp(1, FAR[1], PEER, [0; 6], PEER);
    lab.send("up", &packet::ethernet(BROADCAST, FAR[1], 0x0806, &announcement));
    ping(&lab, "10.2.0.1", 1);
    lab.run();
    ping(&lab, "10.2.0.1", 2);
    lab.run();
    let pings: Vec<_> = lab.receive("up").into_iter().filter(|frame| is_ip4(frame)).collect();
    assert_eq!(pings.last().expect("two pings")[..6], FAR[1]);
    // Not announced: found by probing, while traffic goes on.
    let mut silent = 0;
    for n in 0..120u16 {
        lab.pass(Duration::from_secs(1));
        lab.run();
        for frame in lab.receive("up") {
            let asked = frame[12..14] == [8, 6] && frame[38..42] == PEER.octets();
            if asked && (frame[..6] == BROADCAST || frame[..6] == FAR[0]) {
                answer(&lab, PEER.into(), FAR[0]);
            }
            silent += usize::from(asked && frame[..6] == FAR[1]);
        }
        ping(&lab, "10.2.0.1", n);
        lab.run();
    }
    assert!(silent > 0, "the old address is probed first");
    ping(&lab, "10.2.0.1", 500);
    lab.run();
    let frames = lab.receive("up");
    assert_eq!(frames.last().expect("a ping")[..6], FAR[0]);
}

#[test]
fn a_connected_host_is_gleaned_by_traffic_and_forgotten_when_silent() {
    let mut lab = lab(true);
    lab.receive("up");
    let host: Ipv4Addr = "172.16.20.7".parse().unwrap();
    ping(&lab, "172.16.20.7", 1);
    lab.run();
    assert_eq!(questions(&lab.receive("up"), host.into()), 1);
    answer(&lab, host.into(), FAR[1]);
    lab.run();
    ping(&lab, "172.16.20.7", 2);
    lab.run();
    let frames = lab.receive("up");
    assert_eq!(sequences(&frames), [1, 2]);
    // Another host never answers: after a while nobody asks for it any more.
    ping(&lab, "172.16.20.8", 1);
    lab.run_for(Duration::from_secs(10));
    lab.receive("up");
    lab.run_for(Duration::from_secs(30));
    assert_eq!(questions(&lab.receive("up"), "172.16.20.8".parse().unwrap()), 0);
    assert_eq!(
        lab.counted().get("pod.drop.hold-expired").or(lab.counted().get("pod.drop.neighbor-failed")),
        Some(&1)
    );
    let named = |lab: &Lab, address: Ipv4Addr| {
        lab.router.engine().neighbors().any(|n| n.address == IpAddr::V4(address))
    };
    assert!(named(&lab, host) && !named(&lab, "172.16.20.8".parse().unwrap()));
    // And traffic may ask again.
    ping(&lab, "172.16.20.8", 2);
    lab.run();
    assert_eq!(questions(&lab.receive("up"), "172.16.20.8".parse().unwrap()), 1);
}

#[test]
fn a_scan_of_the_connected_prefix_leaves_nothing_behind() {
    let mut lab = lab(true);
    for host in 1..=250u8 {
        if !matches!(host, 252 | 253) {
            ping(&lab, &format!("172.16.20.{host}"), 1);
        }
    }
    lab.run();
    let before = lab.router.engine().neighbors().count();
    assert!(before >= 250);
    lab.run_for(Duration::from_secs(15));
    assert_eq!(lab.router.engine().neighbors().count(), 2, "the next hops of the two routes");
    assert_eq!(lab.free_frames(), 512);
}

#[test]
fn the_kernel_is_asked_on_a_shared_uplink() {
    let mut lab = lab(false);
    lab.receive("up");
    let up = lab.id("up");
    let requests: Vec<_> = std::iter::from_fn(|| lab.router.next_kernel_request()).collect();
    let next_hops: [IpAddr; 2] = [PEER.into(), "fd00:20::253".parse().unwrap()];
    assert!(
        next_hops.iter().all(|next| requests.contains(&NeighborRequest::Keep(up, *next))),
        "{requests:?}"
    );
    ping(&lab, "10.2.0.1", 1);
    ping(&lab, "172.16.20.9", 2);
    lab.run();
    let requests: Vec<_> = std::iter::from_fn(|| lab.router.next_kernel_request()).collect();
    assert!(requests.contains(&NeighborRequest::Resolve(up, PEER.into())), "{requests:?}");
    assert!(requests.contains(&NeighborRequest::Resolve(up, "172.16.20.9".parse().unwrap())), "{requests:?}");
    assert!(lab.receive("up").is_empty(), "the kernel asks, not we");
    for (n, next) in ["172.16.20.253", "172.16.20.9"].into_iter().enumerate() {
        let mac = mac_text(FAR[n]).parse().unwrap();
        lab.router.neighbor(up, next.parse().unwrap(), NeighborState::Usable(mac));
    }
    lab.run();
    let frames = lab.receive("up");
    assert_eq!(sequences(&frames), [1, 2]);
    assert_eq!((&frames[0][..6], &frames[1][..6]), (&FAR[0][..], &FAR[1][..]));
    // The route goes, and with it the kernel's duty.
    lab.apply([vrouter::Event::RemoveRoute("10.2.0.0/16".parse().unwrap(), fib::RouteSource::Static)]);
    lab.run();
    let requests: Vec<_> = std::iter::from_fn(|| lab.router.next_kernel_request()).collect();
    assert!(requests.contains(&NeighborRequest::Release(up, PEER.into())), "{requests:?}");
}

#[test]
fn our_machine_answers_for_its_own_addresses_alone() {
    let mut lab = lab(true);
    lab.receive("up");
    let ask = |target: &str| {
        let arp = packet::arp(1, FAR[0], PEER, [0; 6], target.parse().unwrap());
        packet::ethernet(BROADCAST, FAR[0], 0x0806, &arp)
    };
    let replies = lab.exchange("up", &ask("172.16.20.252"));
    assert_eq!(replies.len(), 1);
    assert_eq!(replies[0].1[14..42], packet::arp(2, UP_MAC, UP, FAR[0], PEER));
    assert!(lab.exchange("up", &ask("10.1.0.1")).is_empty(), "no proxy ARP toward the network");
    let own: Ipv6Addr = "fd00:20::252".parse().unwrap();
    let node = packet::solicited_node(own);
    let solicit = packet::solicit("fd00:20::253".parse().unwrap(), node, own, Some(FAR[0]));
    let replies =
        lab.exchange("up", &packet::ethernet(packet::multicast_mac(node), FAR[0], 0x86dd, &solicit));
    assert_eq!(replies.len(), 1);
    assert_eq!((replies[0].1[54], &replies[0].1[..6]), (136, &FAR[0][..]));
}
