//! The uplink stays the host's: before, while and after a router runs, and when it is killed.

use std::time::{Duration, Instant};

use vrouter_tests::testbed::{
    Attach, Node, TcpSession, TwoNodes, checksum_errors, ping, udp_exchange, within,
};

const POD: &[Attach] = &[Attach::Tap];

fn has_xdp(node: &Node) -> bool {
    node.netns.link("eth1").is_some_and(|link| !link["xdp"].is_null())
}

/// Sessions between the nodes' own addresses, both ways round.
fn sessions([one, two]: &[Node; 2]) -> Vec<TcpSession> {
    vec![
        TcpSession::open(&one.netns, &two.netns, two.ip4),
        TcpSession::open(&two.netns, &one.netns, one.ip4),
        TcpSession::open(&one.netns, &two.netns, two.ip6),
    ]
}

/// Old connections carry data, new ones open, datagrams and fragments pass.
fn host_traffic_works(nodes: &[Node; 2], old: &mut [TcpSession], when: &str) {
    eprintln!("{when}");
    for session in old {
        session.exchange(1_000_000);
    }
    for mut session in sessions(nodes) {
        session.exchange(100_000);
    }
    let [one, two] = nodes;
    udp_exchange(&one.netns, &two.netns, two.ip4, &[1, 1400, 4000]);
    udp_exchange(&two.netns, &one.netns, one.ip6, &[1, 1400, 4000]);
    assert_eq!(ping(&one.netns, two.ip4, 2).ttls, [64; 2], "{when}");
}

fn through_the_life_of_a_router(offloads: &str) {
    let mut net = TwoNodes::new([POD, POD]);
    for node in &net.nodes {
        node.netns.run(&format!("ethtool -K eth1 {offloads}"));
    }
    let mut old = sessions(&net.nodes);
    host_traffic_works(&net.nodes, &mut old, "before");

    net = net.start();
    assert!(net.nodes.iter().all(has_xdp));
    host_traffic_works(&net.nodes, &mut old, "while the routers run");

    net.nodes[0].router.kill();
    let killed = Instant::now();
    within(Duration::from_secs(1), "the XDP program is gone", || (!has_xdp(&net.nodes[0])).then_some(()));
    eprintln!("XDP gone {:?} after the process", killed.elapsed());
    host_traffic_works(&net.nodes, &mut old, "after kill -9");

    net.nodes[0].start();
    host_traffic_works(&net.nodes, &mut old, "after a new start");
    assert_eq!(ping(&net.nodes[0].pods[0].netns, net.nodes[1].pods[0].ip4, 2).received, 2);

    for node in &mut net.nodes {
        let status = node.router.terminate();
        assert!(status.success(), "{status}");
    }
    assert!(!net.nodes.iter().any(has_xdp));
    host_traffic_works(&net.nodes, &mut old, "after SIGTERM");
    for node in &net.nodes {
        assert_eq!(checksum_errors(&node.netns), 0);
    }
}

#[test]
fn host_traffic_with_checksum_offload() {
    through_the_life_of_a_router("tx on");
}

#[test]
fn host_traffic_without_checksum_offload() {
    through_the_life_of_a_router("tx off");
}
