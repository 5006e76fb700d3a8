//! Jumbo frames: uplinks of MTU 9000, pods of 8980, and narrower links beside them.

use std::net::IpAddr;
use std::time::Duration;

use vrouter_tests::testbed::{
    Attach, Capture, Netns, Packet, TwoNodes, Uplink, checksum_errors, tcp_transfer, udp_exchange, within,
};

const MTU: u32 = 9000;

/// Gives a node's cable to the switch this MTU.
fn widen(net: &TwoNodes, node: usize) {
    net.switch.netns.ip(&format!("link set node{} mtu {MTU}", node + 1));
    net.nodes[node].netns.ip(&format!("link set eth1 mtu {MTU}"));
}

/// Pings with don't-fragment and so many bytes of data; what ping printed.
fn sized(from: &Netns, to: IpAddr, size: u32) -> String {
    let line = format!("ping -n -c 2 -i 0.2 -W 2 -M do -s {size} {to}");
    String::from_utf8_lossy(&from.try_run(&line).stdout).into_owned()
}

/// The largest IP packet for a destination, less the headers of an echo request.
fn data_of(mtu: u32, to: IpAddr) -> u32 {
    mtu - 8 - if to.is_ipv4() { 20 } else { 40 }
}

fn carries(attach: [&[Attach]; 2], mode: &str) {
    let net = TwoNodes::new(attach).ipip_mode(mode);
    (0..2).for_each(|node| widen(&net, node));
    let net = net.start();
    let [one, two] = &net.nodes;
    let pod_mtu = if mode == "Never" { MTU } else { MTU - 20 };
    let capture = Capture::start(&net.testbed, &net.switch.netns, "node1", "greater 8000");
    let to = &two.pods[0];
    for from in &one.pods {
        for (ip, back) in to.ips().into_iter().zip(from.ips()) {
            for size in [1700, 1765, 3700, 8000, data_of(pod_mtu, ip)] {
                let text = sized(&from.netns, ip, size);
                assert!(text.contains(" 2 received"), "{} {size}: {text}", from.attach.word());
            }
            tcp_transfer(&from.netns, &to.netns, ip, 3_000_000);
            tcp_transfer(&to.netns, &from.netns, back, 3_000_000);
            udp_exchange(&from.netns, &to.netns, ip, &[1, 1400, 1780, 8000, 8900]);
        }
        assert_eq!(checksum_errors(&from.netns), 0, "{} refused packets", from.name);
    }
    assert_eq!(checksum_errors(&to.netns), 0, "{} refused packets", to.name);
    capture.wait_for(100, Duration::from_secs(5));
    let packets = capture.stop(&["frame.len", "ip.checksum.status", "tcp.checksum.status", "ip.proto"]);
    let len = |packet: &Packet| packet.all("frame.len")[0].parse::<u32>().expect("a number");
    assert!(packets.iter().any(|packet| len(packet) == MTU + 14), "no frame is as long as may be");
    for packet in &packets {
        assert!(packet.all("ip.checksum.status").iter().all(|status| *status != "0"), "a bad IP header");
        // A veth takes plain super-packets whole, and leaves their checksums to be finished.
        if packet.all("ip.proto").first() != Some(&"4") {
            continue;
        }
        assert!(len(packet) <= MTU + 14, "{} bytes in a tunnel", len(packet));
        let sums = packet.all("tcp.checksum.status");
        assert!(sums.iter().all(|status| *status != "0"), "a bad TCP checksum in a tunnel");
    }
    let longest = packets.iter().filter(|packet| len(packet) == MTU + 14);
    for packet in longest {
        if let Some(protocol) = packet.all("ip.proto").first() {
            assert_eq!(*protocol == "4", mode == "Always", "a long frame of protocol {protocol}");
        }
    }
    for node in &net.nodes {
        for reason in ["too-big-for-port", "length-mismatch", "no-frame", "packet-too-big"] {
            assert_eq!(node.router.drops(reason), 0, "{reason}");
        }
    }
}

#[test]
fn between_taps_plain() {
    carries([&[Attach::Tap], &[Attach::Tap]], "Never");
}

#[test]
fn between_taps_in_ipip() {
    carries([&[Attach::Tap], &[Attach::Tap]], "Always");
}

#[test]
fn between_veth_pods_plain() {
    carries([&[Attach::Veth], &[Attach::Veth]], "Never");
}

#[test]
fn from_both_kinds_in_ipip() {
    carries([&Attach::ALL, &[Attach::Veth]], "Always");
}

#[test]
fn frames_of_both_kinds_of_pods_come_back() {
    let net = TwoNodes::new([&Attach::ALL, &[Attach::Tap]]);
    (0..2).for_each(|node| widen(&net, node));
    let net = net.start();
    let one = &net.nodes[0];
    let under_way = || {
        let memory = one.router.vrctl_json(&["show", "memory"]);
        let held = memory["held"].as_array().expect("a list").iter();
        let frames = held.filter(|held| held["place"] == "under way").map(|held| &held["frames"]);
        frames.filter_map(|frames| frames.as_u64().or_else(|| frames.as_str()?.parse().ok())).sum::<u64>()
    };
    for from in &one.pods {
        tcp_transfer(&from.netns, &net.nodes[1].pods[0].netns, net.nodes[1].pods[0].ip4, 20_000_000);
    }
    // What is shown is of a second ago.
    within(Duration::from_secs(10), "frames are free again", || (under_way() <= 64).then_some(()));
}

/// Where links differ, who sends too much is told how much fits.
#[test]
fn a_narrow_uplink_beside_a_wide_one() {
    let mut net = TwoNodes::new([&[Attach::Tap], &[Attach::Tap]]);
    (0..2).for_each(|node| widen(&net, node));
    // The second node has a narrow uplink too: its pods have what fits both.
    net.switch.plug("spare", &net.nodes[1].netns, "eth2", 1);
    net.nodes[1].config.uplinks.push(Uplink { device: "eth2".to_owned(), lines: String::new() });
    let net = net.start();
    let [one, two] = &net.nodes;
    let (wide, narrow) = (&one.pods[0], &two.pods[0]);
    let mtu = |netns: &Netns| netns.link("eth0").expect("eth0")["mtu"].as_u64();
    assert_eq!((mtu(&wide.netns), mtu(&narrow.netns)), (Some(8980), Some(1480)));
    for ip in narrow.ips() {
        let text = sized(&wide.netns, ip, 8000);
        assert!(text.contains("1480") && !text.contains(" 2 received"), "{text}");
        let text = sized(&wide.netns, ip, data_of(1480, ip));
        assert!(text.contains(" 2 received"), "{text}");
        wide.netns.ip("route flush cache");
        // Streams find out by themselves.
        tcp_transfer(&wide.netns, &narrow.netns, ip, 5_000_000);
    }
    assert!(two.router.drops("fragmentation-needed") > 0 && two.router.drops("packet-too-big") > 0);
}

/// A pod that thinks that more fits than its node's uplink takes.
#[test]
fn a_wide_pod_before_a_narrow_uplink() {
    let net = TwoNodes::new([&[Attach::Tap], &[Attach::Tap]]).start();
    let [one, two] = &net.nodes;
    let from = &one.pods[0].netns;
    from.ip("link set eth0 mtu 8980");
    for (ip, mtu) in two.pods[0].ips().into_iter().zip(["1480", "1500"]) {
        let text = sized(from, ip, 8000);
        assert!(text.contains(mtu) && !text.contains(" 2 received"), "{text}");
        from.ip("route flush cache");
        tcp_transfer(from, &two.pods[0].netns, ip, 5_000_000);
    }
    assert_eq!(one.router.drops("too-big-for-port"), 0);
}

/// A device is opened anew when its MTU grows out of single frames, and when it shrinks back.
#[test]
fn an_mtu_that_grows_and_shrinks() {
    let net = TwoNodes::new([&[Attach::Tap], &[Attach::Tap]]).start();
    let [one, two] = &net.nodes;
    let (from, to) = (&one.pods[0].netns, &two.pods[0]);
    from.ip("link set eth0 mtu 9000");
    for (mtu, told) in [(9000, "1480"), (1500, "1480"), (9000, "1480")] {
        for (node, port) in [(one, "node1"), (two, "node2")] {
            net.switch.netns.ip(&format!("link set {port} mtu {mtu}"));
            node.netns.ip(&format!("link set eth1 mtu {mtu}"));
            within(Duration::from_secs(10), "the port has the new MTU", || {
                let port = node.router.port(|port| port["role"] == "uplink");
                (port["mtu"] == mtu).then_some(())
            });
        }
        within(Duration::from_secs(10), "pods reach each other", || {
            sized(from, to.ip4.into(), 100).contains(" 2 received").then_some(())
        });
        let before = two.router.drops("fragmentation-needed");
        let text = sized(from, to.ip4.into(), 8000);
        assert!(text.contains(told), "MTU {mtu}: {text}");
        // Over the wide link the frame came as far as the other node, which refused it.
        let there = two.router.drops("fragmentation-needed") > before;
        assert_eq!(there, mtu == 9000, "MTU {mtu}");
        from.ip("route flush cache");
        tcp_transfer(from, &to.netns, to.ip4, 2_000_000);
    }
}
