//! Workers allocate nothing between real devices: from AF_XDP and packet sockets to taps and veths, whatever happens to
//! the packets and to the tables. `tests/allocation.rs` shows the same on memory ports, event by event.

use std::net::IpAddr;

use vrouter_tests::testbed::{
    Allocations, Attach, Counts, Node, Pod, TwoNodes, ping, tcp_transfer, udp_exchange,
};

const BOTH: &[Attach] = &Attach::ALL;
/// A port that the policy denies.
const DENIED: u16 = 4999;

/// Denies datagrams to one port, and so has all flows tracked.
fn policy(order: u32) -> String {
    format!(
        "apiVersion: projectcalico.org/v3\nkind: GlobalNetworkPolicy\nmetadata: {{ name: p }}\nspec:\n  \
         order: {order}\n  types: [Ingress]\n  ingress:\n  \
         - {{ action: Deny, protocol: UDP, destination: {{ ports: [ {DENIED} ] }} }}\n  - action: Allow\n"
    )
}

/// Everything that a pod does to its router, in both families.
fn traffic(from: &Pod, to: &Pod) {
    for ip in to.ips() {
        ping(&from.netns, ip, 2);
        tcp_transfer(&from.netns, &to.netns, ip, 300_000);
        udp_exchange(&from.netns, &to.netns, ip, &[0, 1000, 4000]);
        from.netns.try_run(&format!("ping -n -c 1 -W 1 -t 1 {ip}"));
        from.netns.enter(|| {
            let any: IpAddr = if ip.is_ipv4() { [0; 4].into() } else { [0; 16].into() };
            let socket = std::net::UdpSocket::bind((any, 0)).unwrap();
            socket.send_to(b"denied", (ip, DENIED)).unwrap();
        });
    }
    for nowhere in ["10.99.0.1", "fd00:99::1"] {
        from.netns.try_run(&format!("ping -n -c 1 -W 1 {nowhere}"));
    }
}

/// The generation of the tables that every worker has adopted.
fn generation(node: &Node) -> u64 {
    node.router.vrctl_json(&["status"])["generation"].as_u64().unwrap()
}

fn allocates_nothing(uplink: &str) {
    let mut net = TwoNodes::new([BOTH, BOTH]);
    let TwoNodes { nodes, testbed, .. } = &mut net;
    let watchers = nodes.each_mut().map(|node| {
        node.config.uplinks[0].lines.push_str(uplink);
        Allocations::of(testbed, &mut node.router)
    });
    watchers.iter().for_each(|watcher| watcher.watch(true));
    let net = net.start();
    let [one, two] = &net.nodes;
    for watcher in &watchers {
        assert!(watcher.counts().allocated > 0, "a worker that makes room for its ports is not seen");
        watcher.forget();
    }
    let before = net.nodes.each_ref().map(generation);
    for order in [1, 2] {
        net.nodes.iter().for_each(|node| node.router.apply(&policy(order)));
        for (from, to) in
            [(&one.pods[0], &one.pods[1]), (&one.pods[1], &two.pods[0]), (&two.pods[1], &one.pods[0])]
        {
            traffic(from, to);
        }
        for node in &net.nodes {
            node.netns.ip("neigh flush dev eth1");
            node.router.apply(&TwoNodes::pool_yaml(if order == 1 { "CrossSubnet" } else { "Always" }));
        }
    }
    watchers.iter().for_each(|watcher| watcher.watch(false));
    for ((node, watcher), before) in net.nodes.iter().zip(&watchers).zip(before) {
        let Counts { allocated, freed, first_size, elsewhere } = watcher.counts();
        assert!(elsewhere > 0, "the library is not there");
        assert_eq!(
            (allocated, freed),
            (0, 0),
            "the first one of {first_size} bytes, by {}",
            node.config.name
        );
        for reason in ["ttl-expired", "hop-limit-expired", "no-route", "policy-ingress"] {
            assert!(node.router.drops(reason) > 0, "{} has not dropped for {reason}", node.config.name);
        }
        assert!(generation(node) > before);
    }
}

#[test]
fn nor_between_af_xdp_taps_and_veths() {
    allocates_nothing("");
}

#[test]
fn nor_between_packet_sockets_taps_and_veths() {
    allocates_nothing("mode = \"packet-socket\"\n");
}
