//! A narrow link on the path of a tunnel: a router there says so, and packets become shorter.

use std::net::Ipv4Addr;
use std::time::Duration;

use vrouter::control::IpipMode;
use vrouter::tables::NeighborState;
use vrouter::{Event, Router};
use vrouter_tests::lab::Lab;
use vrouter_tests::packet::{self, GATEWAY_MAC, Mac};

use crate::two_nodes::{net, pool, route};

const POD: Mac = [2, 0, 0, 0, 1, 1];
const NODE: Mac = [2, 0, 0, 0, 0, 0xfc];
const HOST: Mac = [2, 0, 0, 0, 9, 9];
const ROUTER: Mac = [2, 0, 0, 0, 0, 0xfe];
const LOCAL: Ipv4Addr = Ipv4Addr::new(172, 16, 20, 252);
const REMOTE: Ipv4Addr = Ipv4Addr::new(172, 16, 30, 253);
const POD4: Ipv4Addr = Ipv4Addr::new(10, 100, 36, 103);
const FAR4: Ipv4Addr = Ipv4Addr::new(10, 100, 169, 176);
const DONT_FRAGMENT: u16 = 0x4000;

/// A pod, and a remote node behind a router of the fabric.
fn lab(exclusive: bool) -> Lab {
    let mut lab = Lab::new(Router::builder().frames(512));
    lab.pod("pod", POD, &["10.100.36.103", "fd00:10:36::103"]);
    lab.uplink("up", NODE, &["172.16.20.252/24", "fd00:20::252/64"], exclusive);
    if !exclusive {
        lab.host("host", NODE, HOST, &[]);
    }
    lab.apply([
        pool(IpipMode::Always),
        Event::SetBlocks(vec![net("10.100.36.64/26")]),
        route("10.100.169.128/26", "172.16.30.253"),
        route("172.16.30.0/24", "172.16.20.1"),
        route("fd00:10:169::/64", "fd00:20::1"),
    ]);
    lab.run();
    resolve(&mut lab);
    lab
}

/// The fabric's router is known.
fn resolve(lab: &mut Lab) {
    let up = lab.id("up");
    for gateway in ["172.16.20.1", "fd00:20::1"] {
        let mac = vrouter_tests::lab::mac_text(ROUTER).parse().unwrap();
        lab.router.neighbor(up, gateway.parse().unwrap(), NeighborState::Usable(mac));
    }
    lab.router.commit().unwrap();
    lab.run();
    lab.receive_all();
}

/// What comes of a packet of the pod with so many bytes: (port, packet) of each.
fn send(lab: &mut Lab, bytes: usize, flags: u16) -> Vec<(String, Vec<u8>)> {
    let packet = packet::Ip4 { fragment: flags, ..packet::Ip4::new(POD4, FAR4, 253) };
    let packet = packet.bytes(&vec![7; bytes - 20]);
    let sent = lab.exchange("pod", &packet::ethernet(GATEWAY_MAC, POD, 0x0800, &packet));
    // Neighbours are asked for as well.
    let ip = sent.into_iter().filter(|(_, frame)| frame[12..14] == [8, 0]);
    ip.map(|(port, frame)| (port, frame[14..].to_vec())).collect()
}

/// The one packet that left by the uplink.
#[track_caller]
fn tunnelled(lab: &mut Lab, bytes: usize) -> Vec<u8> {
    match &send(lab, bytes, DONT_FRAGMENT)[..] {
        [(port, outer)] if port == "up" => outer.clone(),
        other => panic!("{bytes} bytes: {other:?}"),
    }
}

/// The MTU that the pod is told.
#[track_caller]
fn refused(lab: &mut Lab, bytes: usize) -> u16 {
    match &send(lab, bytes, DONT_FRAGMENT)[..] {
        [(port, error)] if port == "pod" => {
            assert_eq!((error[9], &error[20..22]), (1, &[3, 4][..]), "fragmentation needed");
            u16::from_be_bytes([error[26], error[27]])
        }
        other => panic!("{bytes} bytes: {other:?}"),
    }
}

/// A report about what we sent, to one of our addresses; and what comes of it.
fn report(lab: &mut Lab, outer: &[u8], mtu: u16) -> Vec<(String, Vec<u8>)> {
    let message = packet::icmp(3, 4, mtu.into(), &outer[..28]);
    let report = packet::Ip4::new(Ipv4Addr::new(172, 16, 20, 1), LOCAL, 1).bytes(&message);
    lab.exchange("up", &packet::ethernet(NODE, ROUTER, 0x0800, &report))
}

#[test]
fn a_report_shortens_the_tunnel_until_it_is_old() {
    for exclusive in [true, false] {
        let mut lab = lab(exclusive);
        let outer = tunnelled(&mut lab, 1480);
        assert_eq!((outer.len(), &outer[12..20]), (1500, &[LOCAL.octets(), REMOTE.octets()].concat()[..]));
        assert!(report(&mut lab, &outer, 1400).is_empty());
        assert_eq!(lab.counted().get("up.consumed"), Some(&1), "exclusive: {exclusive}");
        assert_eq!(refused(&mut lab, 1381), 1380);
        assert_eq!(tunnelled(&mut lab, 1380).len(), 1400);
        // A packet that may be cut is, inside the tunnel.
        let pieces = send(&mut lab, 1480, 0);
        assert_eq!(pieces.len(), 2);
        assert!(pieces.iter().all(|(port, outer)| port == "up" && outer.len() <= 1400 && outer[9] == 4));
        // Plain packets by the same link are as long as ever.
        let v6 = packet::ip6(
            "fd00:10:36::103".parse().unwrap(),
            "fd00:10:169::176".parse().unwrap(),
            253,
            64,
            &[7; 1460],
        );
        let sent = lab.exchange("pod", &packet::ethernet(GATEWAY_MAC, POD, 0x86dd, &v6));
        assert_eq!(
            sent.iter().map(|(port, frame)| (port.as_str(), frame.len())).collect::<Vec<_>>(),
            [("up", 1514)]
        );
        // An even narrower link; a wider one is not believed.
        let outer = tunnelled(&mut lab, 1380);
        report(&mut lab, &outer, 1300);
        report(&mut lab, &outer, 1350);
        assert_eq!(refused(&mut lab, 1380), 1280);
        let ends = (LOCAL, REMOTE);
        assert_eq!(lab.router.engine().path_mtu_of(ends).map(|(mtu, _)| mtu), Some(1300));
        assert!(lab.router.next_timeout().is_some());
        lab.pass(Duration::from_secs(590));
        resolve(&mut lab);
        assert_eq!(refused(&mut lab, 1480), 1280);
        lab.pass(Duration::from_secs(11));
        resolve(&mut lab);
        assert_eq!(tunnelled(&mut lab, 1480).len(), 1500);
        assert_eq!(lab.router.engine().path_mtu_of(ends), None);
    }
}

#[test]
fn reports_of_strangers_change_nothing() {
    let mut lab = lab(true);
    let outer = tunnelled(&mut lab, 1480);
    let changed = |at: usize, byte: u8| {
        let mut other = outer.clone();
        other[at] = byte;
        other
    };
    for (quoted, mtu, what) in [
        (changed(19, 99), 1400, "no tunnel leads there"),
        (changed(15, 251), 1400, "not from our end"),
        (changed(9, 17), 1400, "not a tunnel's packet"),
        (changed(6, 0), 1400, "it says that it may be cut"),
        (outer.clone(), 1500, "it would have fitted"),
        (outer.clone(), 551, "below what any path has"),
        (outer.clone(), 68, "far below"),
    ] {
        report(&mut lab, &quoted, mtu);
        assert_eq!(tunnelled(&mut lab, 1480).len(), 1500, "{what}");
    }
    // From a pod, whatever it quotes.
    let message = packet::icmp(3, 4, 1400, &outer[..28]);
    let forged = packet::Ip4::new(POD4, LOCAL, 1).bytes(&message);
    lab.exchange("pod", &packet::ethernet(GATEWAY_MAC, POD, 0x0800, &forged));
    assert_eq!(tunnelled(&mut lab, 1480).len(), 1500);
    // What is learned goes with the tunnel.
    report(&mut lab, &outer, 1400);
    assert_eq!(refused(&mut lab, 1480), 1380);
    lab.apply([pool(IpipMode::Never)]);
    lab.run_for(Duration::from_millis(300));
    lab.apply([pool(IpipMode::Always)]);
    resolve(&mut lab);
    assert_eq!(tunnelled(&mut lab, 1480).len(), 1500);
}

#[test]
fn a_report_about_a_plain_packet_is_for_the_pod_that_sent_it() {
    let mut lab = lab(true);
    lab.apply([pool(IpipMode::Never)]);
    lab.run();
    let sent = tunnelled(&mut lab, 1500);
    assert_eq!((sent.len(), sent[9]), (1500, 253), "no tunnel");
    let message = packet::icmp(3, 4, 1400, &sent[..28]);
    let error = packet::Ip4::new(Ipv4Addr::new(172, 16, 20, 1), POD4, 1).bytes(&message);
    let told = lab.exchange("up", &packet::ethernet(NODE, ROUTER, 0x0800, &error));
    assert_eq!(told.iter().map(|(port, _)| port.as_str()).collect::<Vec<_>>(), ["pod"]);
    assert_eq!(told[0].1[14 + 20..], message[..]);
    assert_eq!(tunnelled(&mut lab, 1500).len(), 1500);
    // The same for IPv6's packet too big (RFC 8201).
    let (pod, far, router) = (
        "fd00:10:36::103".parse().unwrap(),
        "fd00:10:169::176".parse().unwrap(),
        "2001:db8::1".parse().unwrap(),
    );
    let sent = packet::ip6(pod, far, 253, 64, &[7; 1460]);
    lab.exchange("pod", &packet::ethernet(GATEWAY_MAC, POD, 0x86dd, &sent));
    let message = packet::icmp6(router, pod, 2, 0, 1400, &sent[..1232]);
    let error = packet::ip6(router, pod, 58, 64, &message);
    let told = lab.exchange("up", &packet::ethernet(NODE, ROUTER, 0x86dd, &error));
    assert_eq!(told.iter().map(|(port, _)| port.as_str()).collect::<Vec<_>>(), ["pod"]);
    assert_eq!(told[0].1[14 + 40..], message[..]);
}
