//! Uplinks on packet sockets: super-packets cross the wire whole, and what is the router's is nobody
//! else's, though the kernel stands behind every one of them.

use std::time::Duration;

use serde_json::Value;
use vrouter_tests::testbed::{
    Attach, Capture, Node, TcpSession, TwoNodes, checksum_errors, ping, tcp_transfer, udp_exchange,
};

const MODE: &str = "mode = \"packet-socket\"";

fn net(attach: [&[Attach]; 2], ipip: &str, lines: [&str; 2]) -> TwoNodes {
    let mut net = TwoNodes::new(attach).ipip_mode(ipip);
    for (node, lines) in net.nodes.iter_mut().zip(lines) {
        lines.clone_into(&mut node.config.uplinks[0].lines);
        // The kernel would forward what is left to it, and answer.
        node.netns.set_sysctl("ipv4/ip_forward", "1");
        node.netns.set_sysctl("ipv6/conf/all/forwarding", "1");
    }
    net.start()
}

/// Packets that a node's kernel has forwarded, IPv4 and IPv6.
fn forwarded(node: &Node) -> u64 {
    node.netns.enter(|| {
        let snmp = std::fs::read_to_string("/proc/thread-self/net/snmp").expect("procfs");
        let snmp6 = std::fs::read_to_string("/proc/thread-self/net/snmp6").expect("procfs");
        let ip: Vec<&str> = snmp.lines().filter(|line| line.starts_with("Ip: ")).collect();
        let mut columns = ip[0].split_whitespace().zip(ip[1].split_whitespace());
        let v4 = columns.find(|(name, _)| *name == "ForwDatagrams").expect("a column").1;
        let v6 = snmp6.lines().find(|line| line.starts_with("Ip6OutForwDatagrams")).expect("a line");
        let v6 = v6.split_whitespace().next_back().expect("a number");
        v4.parse::<u64>().expect("a number") + v6.parse::<u64>().expect("a number")
    })
}

fn number(value: &Value) -> u64 {
    value.as_u64().or_else(|| value.as_str().and_then(|text| text.parse().ok())).unwrap_or_default()
}

/// Bytes of a packet on a node's uplink, on average: received, sent.
fn sizes(node: &Node) -> (u64, u64) {
    let port = node.router.port(|port| port["role"] == "uplink");
    let size =
        |way: &str| number(&port[format!("{way}_bytes")]) / number(&port[format!("{way}_packets")]).max(1);
    (size("rx"), size("tx"))
}

fn carried(net: &TwoNodes) {
    let [one, two] = &net.nodes;
    let to = &two.pods[0];
    for from in &one.pods {
        for (ip, back) in to.ips().into_iter().zip(from.ips()) {
            let stats = ping(&from.netns, ip, 3);
            assert_eq!(stats.ttls, [62; 3], "{} to {ip}: {}", from.attach.word(), stats.text);
            tcp_transfer(&from.netns, &to.netns, ip, 20_000_000);
            tcp_transfer(&to.netns, &from.netns, back, 20_000_000);
            udp_exchange(&from.netns, &to.netns, ip, &[1, 60, 1400]);
        }
    }
    for pod in one.pods.iter().chain(&two.pods) {
        assert_eq!(checksum_errors(&pod.netns), 0, "{} refused packets", pod.name);
    }
    for node in &net.nodes {
        assert_eq!(forwarded(node), 0, "the kernel of {} forwards", node.netns.name());
        for reason in [
            "bad-checksum-offload",
            "bad-segmentation-offload",
            "too-big-for-port",
            "length-mismatch",
            "no-frame",
        ] {
            assert_eq!(node.router.drops(reason), 0, "{reason}");
        }
    }
}

#[test]
fn super_packets_cross_the_wire_whole() {
    let net = net([&[Attach::Tap], &[Attach::Tap]], "Never", [MODE, MODE]);
    let port = net.nodes[0].router.port(|port| port["role"] == "uplink");
    assert_eq!(port["mode"], "packet_socket", "{port:#}");
    carried(&net);
    for node in &net.nodes {
        let (received, sent) = sizes(node);
        assert!(received > 3000 && sent > 3000, "{received} and {sent} bytes a packet: not whole");
    }
}

#[test]
fn tunnels_are_the_routers_alone() {
    let net = net([&Attach::ALL, &[Attach::Tap]], "Always", [MODE, MODE]);
    // Without a tunnel device the kernel answers IP in IP by "protocol unreachable".
    let capture = Capture::start(&net.testbed, &net.switch.netns, "br0", "icmp[0] = 3 or icmp6[0] = 1");
    carried(&net);
    std::thread::sleep(Duration::from_millis(200));
    assert_eq!(capture.stop(&["frame.number"]).len(), 0, "somebody complains");
}

#[test]
fn what_the_kernel_joins_of_a_tunnel_comes_out_whole() {
    let net = net([&[Attach::Tap], &[Attach::Tap]], "Always", [MODE, MODE]);
    for node in &net.nodes {
        // A pair joins what it receives since Linux 5.13.
        node.netns.run("ethtool -K eth1 gro on");
    }
    carried(&net);
    for node in &net.nodes {
        let (received, _) = sizes(node);
        assert!(received > 1550, "{received} bytes a packet: the kernel joins nothing, so nothing is tested");
    }
}

#[test]
fn beside_af_xdp() {
    carried(&net([&Attach::ALL, &[Attach::Tap]], "Always", [MODE, ""]));
}

#[test]
fn the_host_keeps_what_is_its_own() {
    let net = net([&[Attach::Tap], &[Attach::Tap]], "Always", [MODE, MODE]);
    let [one, two] = &net.nodes;
    for (from, to) in [(one, two), (two, one)] {
        assert_eq!(ping(&from.netns, to.ip4, 2).ttls, [64; 2]);
        assert_eq!(ping(&from.netns, to.ip6, 2).ttls, [64; 2]);
        tcp_transfer(&from.netns, &to.netns, to.ip4, 5_000_000);
        tcp_transfer(&from.netns, &to.netns, to.ip6, 5_000_000);
        udp_exchange(&from.netns, &to.netns, to.ip4, &[1, 1400, 4000]);
    }
    assert_eq!(checksum_errors(&one.netns) + checksum_errors(&two.netns), 0);
}

#[test]
fn an_exclusive_one() {
    let exclusive = "sharing = \"exclusive\"\nmode = \"packet-socket\"";
    let net = net([&Attach::ALL, &[Attach::Tap]], "Never", [exclusive, MODE]);
    // What it learned before the router ran.
    net.nodes[0].netns.ip("neigh flush dev eth1");
    carried(&net);
    let [one, two] = &net.nodes;
    for (from, to) in [(one, two), (two, one)] {
        assert_eq!(ping(&from.netns, to.ip4, 2).received, 2);
        tcp_transfer(&from.netns, &to.netns, to.ip6, 300_000);
    }
    assert_eq!(one.netns.ip("neigh show dev eth1"), "", "the kernel has no part in it");
}

#[test]
fn when_the_process_is_killed_the_host_is_as_before() {
    let mut net = net([&[Attach::Tap], &[Attach::Tap]], "Always", [MODE, MODE]);
    let mut session = TcpSession::open(&net.nodes[0].netns, &net.nodes[1].netns, net.nodes[1].ip4);
    session.exchange(100_000);
    net.nodes[0].router.kill();
    session.exchange(100_000);
    net.nodes[0].start();
    session.exchange(100_000);
    carried(&net);
}
