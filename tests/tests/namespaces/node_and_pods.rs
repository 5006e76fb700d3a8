//! The node's own stack and pods, through the host port `vrouter0`.

use vrouter_tests::testbed::{Attach, TwoNodes, ping, tcp_transfer, udp_exchange};

const BOTH: &[Attach] = &Attach::ALL;

/// Every node and every pod of its own and of the other node reach each other.
fn nodes_and_pods_reach_each_other(net: &TwoNodes) {
    let [one, two] = &net.nodes;
    for node in [one, two] {
        for pod in one.pods.iter().chain(&two.pods) {
            for ip in pod.ips() {
                eprintln!("{} to {} ({}) at {ip}", node.netns.name(), pod.name, pod.attach.word());
                let stats = ping(&node.netns, ip, 2);
                assert_eq!(stats.received, 2, "{}", stats.text);
                tcp_transfer(&node.netns, &pod.netns, ip, 300_000);
                udp_exchange(&node.netns, &pod.netns, ip, &[1, 1400]);
            }
        }
        for pod in &node.pods {
            for ip in [node.ip4.into(), node.ip6.into()] {
                let ip: std::net::IpAddr = ip;
                eprintln!("{} ({}) to {ip}", pod.name, pod.attach.word());
                assert_eq!(ping(&pod.netns, ip, 2).received, 2);
                tcp_transfer(&pod.netns, &node.netns, ip, 300_000);
            }
        }
    }
}

#[test]
fn through_a_fabric_that_knows_no_pods() {
    let net = TwoNodes::new([BOTH, BOTH]);
    net.switch.drop_outside_tunnels(TwoNodes::POOL);
    let net = net.start();
    nodes_and_pods_reach_each_other(&net);
    assert_eq!(net.switch.dropped(), 0, "pool addresses were on the wire outside tunnels");
}

#[test]
fn through_a_fabric_that_routes_pods() {
    let net = TwoNodes::new([BOTH, BOTH]).ipip_mode("Never").start();
    nodes_and_pods_reach_each_other(&net);
}

#[test]
fn the_node_uses_a_block_address_where_the_pool_encapsulates() {
    let net = TwoNodes::new([&[Attach::Tap], &[Attach::Tap]]).start();
    let [one, two] = &net.nodes;
    let source = |to: std::net::Ipv4Addr| {
        let route = one.netns.ip_json(&format!("route get {to}"));
        route[0]["prefsrc"].as_str().unwrap_or_default().to_owned()
    };
    assert!(source(two.pods[0].ip4).starts_with("10.77.1."), "{}", source(two.pods[0].ip4));
    for node in &net.nodes {
        node.router.apply(&TwoNodes::pool_yaml("Never"));
    }
    assert_eq!(source(two.pods[0].ip4), "172.30.5.11");
    assert_eq!(ping(&one.netns, two.pods[0].ip4, 2).received, 2);
}
