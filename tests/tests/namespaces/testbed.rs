//! The testbed itself, on kernels alone: what it measures must be true before it judges a router.

use std::process::Command;
use std::time::Duration;

use vrouter_tests::testbed::{
    Capture, Pinger, TcpSession, Testbed, TwoNodes, checksum_errors, ping, tcp_transfer, udp_exchange,
};

#[test]
fn traffic_between_the_nodes_own_stacks() {
    let TwoNodes { nodes, .. } = &TwoNodes::new([&[], &[]]);
    let [one, two] = nodes;
    let stats = ping(&one.netns, two.ip4, 5);
    assert_eq!((stats.received, stats.lost(), stats.gaps), (5, 0, 0));
    assert_eq!(stats.ttls, [64; 5]);
    assert_eq!(ping(&one.netns, two.ip6, 2).ttls, [64; 2]);

    tcp_transfer(&one.netns, &two.netns, two.ip4, 3_000_000);
    tcp_transfer(&two.netns, &one.netns, one.ip6, 3_000_000);
    udp_exchange(&one.netns, &two.netns, two.ip4, &[1, 1400, 9000]);
    udp_exchange(&one.netns, &two.netns, two.ip6, &[1, 1400, 9000]);
    assert_eq!(checksum_errors(&one.netns), 0);
}

#[test]
fn captures_are_decoded() {
    let TwoNodes { nodes, switch, testbed } = &TwoNodes::new([&[], &[]]);
    let [one, two] = nodes;
    let capture = Capture::start(testbed, &switch.netns, "node1", "icmp");
    ping(&one.netns, two.ip4, 3);
    capture.wait_for(6, Duration::from_secs(5));
    let packets = capture.stop(&["eth.src", "ip.src", "ip.dst", "icmp.type", "tcp.port"]);
    assert_eq!(packets.len(), 6);
    assert_eq!(packets[0].all("eth.src"), [one.netns.mac("eth1")]);
    assert_eq!(packets[0].all("ip.src"), ["172.30.5.11"]);
    assert_eq!(packets[0].all("icmp.type"), ["8"]);
    assert_eq!(packets[1].all("ip.src"), ["172.30.5.12"]);
    assert!(packets[0].all("tcp.port").is_empty());
}

#[test]
fn losses_are_seen() {
    let TwoNodes { nodes, .. } = &TwoNodes::new([&[], &[]]);
    let [one, two] = nodes;
    let pings = Pinger::start(&one.netns, two.ip4, Duration::from_millis(20));
    let mut session = TcpSession::open(&one.netns, &two.netns, two.ip4);
    pings.wait_for_answer();
    two.netns.ip("link set eth1 down");
    std::thread::sleep(Duration::from_millis(200));
    two.netns.ip("link set eth1 up");
    session.exchange(100_000);
    assert_eq!(ping(&one.netns, two.ip4, 3).received, 3);
    let stats = pings.stop();
    assert!(stats.gaps > 3, "{}", stats.text);
    assert!(stats.lost() >= stats.gaps, "{}", stats.text);
}

#[test]
fn the_switch_filters() {
    let TwoNodes { nodes, switch, .. } = &TwoNodes::new([&[], &[]]);
    let [one, two] = nodes;
    switch.drop_outside_tunnels("172.30.5.0/24");
    assert_eq!(ping(&one.netns, two.ip4, 2).received, 0);
    assert!(switch.dropped() >= 2);
    assert_eq!(ping(&one.netns, two.ip6, 2).received, 2);
}

#[test]
fn nothing_is_left() {
    let names = || {
        let output = Command::new("ip").args(["netns", "list"]).output().unwrap();
        String::from_utf8(output.stdout).unwrap()
    };
    let testbed = Testbed::new();
    let netns = testbed.netns("left");
    let name = netns.name().to_owned();
    let mut child = netns.command("sleep").arg("1000").spawn().unwrap();
    assert!(names().contains(&name));
    let dir = testbed.dir().to_owned();
    drop((netns, testbed));
    assert!(!names().contains(&name));
    assert!(!child.wait().unwrap().success());
    assert!(!dir.exists());
}
