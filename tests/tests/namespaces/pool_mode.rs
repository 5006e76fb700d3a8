//! A pool's `ipipMode` changes on running routers, and pods that talk do not notice.

use std::time::Duration;

use vrouter_tests::testbed::{Attach, Capture, Pinger, TcpSession, TwoNodes, ping};

#[test]
fn no_packet_is_lost_when_the_mode_changes() {
    let net = TwoNodes::new([&[Attach::Tap, Attach::Veth], &[Attach::Tap]]).start();
    let [one, two] = &net.nodes;
    let there = &two.pods[0];
    // Both ends must know each other before losses count.
    for pod in &one.pods {
        assert_eq!(ping(&pod.netns, there.ip4, 2).received, 2);
    }
    let mut session = TcpSession::open(&one.pods[0].netns, &there.netns, there.ip4);
    let interval = Duration::from_millis(5);
    let pingers: Vec<Pinger> =
        one.pods.iter().map(|pod| Pinger::start(&pod.netns, there.ip4, interval)).collect();
    for mode in ["Never", "Always", "CrossSubnet", "Always", "Never"] {
        for node in &net.nodes {
            node.router.apply(&TwoNodes::pool_yaml(mode));
            session.exchange(200_000);
        }
        let tunnel = Capture::start(&net.testbed, &net.switch.netns, "node1", "ip proto 4");
        let plain = Capture::start(&net.testbed, &net.switch.netns, "node1", "icmp");
        let expected = if mode == "Always" { &tunnel } else { &plain };
        expected.wait_for(20, Duration::from_secs(5));
        let counts = [tunnel, plain].map(|capture| capture.stop(&["ip.src"]).len());
        let other = if mode == "Always" { counts[1] } else { counts[0] };
        assert_eq!(other, 0, "{mode}: tunnelled and plain packets: {counts:?}");
    }
    for pinger in pingers {
        let stats = pinger.stop();
        assert_eq!(stats.gaps, 0, "{}", stats.text);
        assert!(stats.lost() <= 1, "{}", stats.text);
        assert!(stats.ttls.iter().all(|ttl| *ttl == 62), "{}", stats.text);
    }
}
