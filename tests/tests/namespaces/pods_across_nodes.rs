//! Pods of two nodes, tap and veth, IPv4 and IPv6: what they see and what they reach.

use std::time::Duration;

use serde_json::Value;
use vrouter_tests::testbed::{
    Attach, Capture, Node, Packet, Pod, TwoNodes, ping, tcp_transfer, udp_exchange,
};

const BOTH: &[Attach] = &Attach::ALL;

/// Pairs of different pods, with how many routers are between them.
fn pairs(nodes: &[Node; 2]) -> Vec<(&Pod, &Pod, u8)> {
    let [one, two] = nodes;
    let mut pairs = vec![(&one.pods[0], &one.pods[1], 1), (&one.pods[1], &one.pods[0], 1)];
    for from in &one.pods {
        for to in &two.pods {
            pairs.push((from, to, 2));
            pairs.push((to, from, 2));
        }
    }
    pairs
}

fn says(pair: (&Pod, &Pod)) -> String {
    let (from, to) = pair;
    format!("from {} of {} to {} of {}", from.attach.word(), from.name, to.attach.word(), to.name)
}

#[test]
fn a_pod_sees_its_address_and_one_gateway() {
    let net = TwoNodes::new([BOTH, &[]]).start();
    for pod in &net.nodes[0].pods {
        let link = pod.netns.link("eth0").expect("eth0");
        assert_eq!(link["mtu"], 1480, "{link}");
        assert_eq!(link["operstate"].as_str().map(|state| state != "DOWN"), Some(true), "{link}");

        let addresses = pod.netns.ip_json("addr show dev eth0 scope global");
        let addresses: Vec<(String, u64)> = addresses[0]["addr_info"]
            .as_array()
            .unwrap()
            .iter()
            // iproute2 leaves an empty object where its filter skips an address.
            .filter(|info| !info["local"].is_null())
            .map(|info| (text(&info["local"]), info["prefixlen"].as_u64().unwrap()))
            .collect();
        assert_eq!(addresses, [(pod.ip4.to_string(), 32), (pod.ip6.to_string(), 128)]);

        let route = &pod.netns.ip_json("route show default")[0];
        assert_eq!((text(&route["gateway"]), text(&route["dev"])), ("169.254.1.1".into(), "eth0".into()));
        let route = &pod.netns.ip_json("-6 route show default")[0];
        assert_eq!(text(&route["gateway"]), "fe80::ecee:eeff:feee:eeee");

        // Whoever answers first, the gateway is asked for by the very first packet.
        for ip in net.nodes[0].pods[0].ips() {
            ping(&pod.netns, ip, 1);
        }
        for neighbor in pod.netns.ip_json("neigh show dev eth0").as_array().unwrap() {
            assert_eq!(neighbor["lladdr"], "ee:ee:ee:ee:ee:ee", "{neighbor}");
        }
    }
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

#[test]
fn ttl_falls_by_one_at_each_node_and_the_first_packet_arrives() {
    let net = TwoNodes::new([BOTH, BOTH]).start();
    for (from, to, routers) in pairs(&net.nodes) {
        for ip in to.ips() {
            let stats = ping(&from.netns, ip, 3);
            assert_eq!(stats.lost(), 0, "{} {ip}\n{}", says((from, to)), stats.text);
            assert_eq!(stats.ttls, [64 - routers; 3], "{} {ip}", says((from, to)));
        }
    }
}

#[test]
fn tcp_and_udp_arrive_byte_by_byte() {
    let net = TwoNodes::new([BOTH, BOTH]).start();
    for (from, to, _) in pairs(&net.nodes) {
        for ip in to.ips() {
            eprintln!("{} {ip}", says((from, to)));
            tcp_transfer(&from.netns, &to.netns, ip, 2_000_000);
            // Up to the MTU, and beyond it in fragments.
            udp_exchange(&from.netns, &to.netns, ip, &[0, 1, 1000, 1432, 4000]);
        }
    }
}

/// What the switch sees of a ping between pods in this mode.
fn on_the_wire(mode: &str, ipv6: bool) -> (TwoNodes, Vec<Packet>) {
    let net = TwoNodes::new([&[Attach::Tap], &[Attach::Veth]]).ipip_mode(mode).start();
    let [one, two] = &net.nodes;
    let capture = Capture::start(
        &net.testbed,
        &net.switch.netns,
        "node1",
        "ip proto 4 or icmp or (icmp6 and ip6[40] >= 128 and ip6[40] <= 129)",
    );
    let target = two.pods[0].ips()[usize::from(ipv6)];
    assert_eq!(ping(&one.pods[0].netns, target, 2).received, 2);
    capture.wait_for(4, Duration::from_secs(5));
    let packets = capture.stop(&[
        "eth.src",
        "eth.dst",
        "ip.src",
        "ip.dst",
        "ip.proto",
        "ip.ttl",
        "ip.checksum.status",
        "ip.flags.df",
        "ipv6.src",
        "ipv6.hlim",
    ]);
    (net, packets)
}

#[test]
fn ipv4_travels_in_ipip_where_the_pool_says_always() {
    let (net, packets) = on_the_wire("Always", false);
    let [one, two] = &net.nodes;
    assert_eq!(packets.len(), 4);
    let request = &packets[0];
    assert_eq!(request.all("eth.src"), [one.netns.mac("eth1")]);
    assert_eq!(request.all("eth.dst"), [two.netns.mac("eth1")]);
    assert_eq!(request.all("ip.src"), ["172.30.5.11", "10.77.1.10"]);
    assert_eq!(request.all("ip.dst"), ["172.30.5.12", "10.77.2.10"]);
    assert_eq!(request.all("ip.proto"), ["4", "1"]);
    assert_eq!(request.all("ip.ttl")[1], "63");
    assert_eq!(request.all("ip.checksum.status"), ["1", "1"]);
    assert_eq!(packets[1].all("ip.src"), ["172.30.5.12", "10.77.2.10"]);
}

#[test]
fn ipv4_travels_plainly_where_the_nodes_share_the_subnet_or_the_pool_says_never() {
    for mode in ["CrossSubnet", "Never"] {
        let (net, packets) = on_the_wire(mode, false);
        let [one, two] = &net.nodes;
        assert_eq!(packets.len(), 4, "{mode}");
        let request = &packets[0];
        assert_eq!(request.all("eth.src"), [one.netns.mac("eth1")], "{mode}");
        assert_eq!(request.all("eth.dst"), [two.netns.mac("eth1")], "{mode}");
        assert_eq!(request.all("ip.src"), ["10.77.1.10"], "{mode}");
        assert_eq!(request.all("ip.proto"), ["1"], "{mode}");
        assert_eq!(request.all("ip.ttl"), ["63"], "{mode}");
    }
}

#[test]
fn ipv6_travels_plainly_in_every_mode() {
    for mode in ["Always", "Never"] {
        let (net, packets) = on_the_wire(mode, true);
        assert_eq!(packets.len(), 4, "{mode}");
        let request = &packets[0];
        assert_eq!(request.all("eth.dst"), [net.nodes[1].netns.mac("eth1")], "{mode}");
        assert_eq!(request.all("ipv6.src"), ["fd00:77:1::10"], "{mode}");
        assert_eq!(request.all("ipv6.hlim"), ["63"], "{mode}");
        assert!(request.all("ip.src").is_empty(), "{mode}");
    }
}
