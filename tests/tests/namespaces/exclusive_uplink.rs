//! An uplink that is the router's alone: our own ARP and neighbour discovery, and the node's own stack
//! behind the host port.

use std::net::IpAddr;

use vrouter_tests::testbed::{Attach, TwoNodes, ping, tcp_transfer};

#[test]
fn pods_and_the_nodes_own_stack_cross_it() {
    let mut net = TwoNodes::new([&Attach::ALL, &[Attach::Tap]]);
    net.nodes[0].config.uplinks[0].lines = "sharing = \"exclusive\"".to_owned();
    let net = net.start();
    // What it learned before the router ran.
    net.nodes[0].netns.ip("neigh flush dev eth1");
    let [one, two] = &net.nodes;
    let there = &two.pods[0];
    for pod in &one.pods {
        for (ip, own) in there.ips().into_iter().zip(pod.ips()) {
            let stats = ping(&pod.netns, ip, 3);
            assert_eq!(stats.ttls, [62; 3], "{} to {ip}: {}", pod.attach.word(), stats.text);
            tcp_transfer(&pod.netns, &there.netns, ip, 300_000);
            tcp_transfer(&there.netns, &pod.netns, own, 300_000);
        }
    }
    for (from, to) in [(one, two), (two, one)] {
        for ip in [IpAddr::from(to.ip4), to.ip6.into()] {
            assert_eq!(ping(&from.netns, ip, 2).received, 2, "{} to {ip}", from.netns.name());
            tcp_transfer(&from.netns, &to.netns, ip, 300_000);
        }
    }
    // The kernel has no part in it: its table knows nobody on the device, ours does.
    assert_eq!(one.netns.ip("neigh show dev eth1"), "");
    let neighbors = one.router.vrctl_json(&["show", "neighbors"]);
    let known = neighbors.as_array().expect("a list").iter();
    let mac = known.filter(|neighbor| neighbor["address"] == "172.30.5.12").map(|neighbor| &neighbor["mac"]);
    assert_eq!(mac.collect::<Vec<_>>(), [two.netns.mac("eth1").as_str()]);
}
