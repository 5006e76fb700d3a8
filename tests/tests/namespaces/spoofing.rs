//! What a pod or a stranger forges is dropped, and counted under the right name.

use std::time::Duration;

use vrouter_tests::testbed::{Attach, Capture, Router, TwoNodes, ping, scapy, within};

fn counted(router: &Router, reason: &str, at_least: u64) {
    within(Duration::from_secs(3), &format!("{at_least} drops for {reason}"), || {
        (router.drops(reason) >= at_least).then_some(())
    });
}

#[test]
fn a_pod_sends_only_from_its_own_addresses_and_mac() {
    let net = TwoNodes::new([&Attach::ALL, &[Attach::Tap]]).start();
    let [one, two] = &net.nodes;
    let target = &two.pods[0];
    let capture = Capture::start(&net.testbed, &target.netns, "eth0", "udp port 7777");
    for (pod, round) in one.pods.iter().zip(1..) {
        // A foreign address, the address of another pod, of the node; then a foreign MAC address.
        scapy(
            &pod.netns,
            &format!(
                "gateway = 'ee:ee:ee:ee:ee:ee'\n\
             for source in ['192.0.2.7', '10.77.1.60', '172.30.5.11']:\n\
             \x20   sendp(Ether(dst=gateway) / IP(src=source, dst='{dst4}') / UDP(dport=7777), iface='eth0')\n\
             sendp(Ether(dst=gateway) / IPv6(src='fd00:77:1::99', dst='{dst6}') / UDP(dport=7777), iface='eth0')\n\
             sendp(Ether(src='02:00:00:00:00:99', dst=gateway) / IP(src='{ip4}', dst='{dst4}') / UDP(dport=7777), iface='eth0')\n",
                dst4 = target.ip4,
                dst6 = target.ip6,
                ip4 = pod.ip4,
            ),
        );
        counted(&one.router, "spoofed-source", 4 * round);
        counted(&one.router, "spoofed-mac", round);
    }
    assert_eq!(capture.stop(&["ip.src"]).len(), 0);
    for pod in &one.pods {
        assert_eq!(ping(&pod.netns, target.ip4, 1).received, 1);
    }
}

#[test]
fn tunnels_are_taken_from_known_peers_only() {
    let net = TwoNodes::new([&[Attach::Tap], &[Attach::Tap]]).start();
    let [one, two] = &net.nodes;
    let pod = &one.pods[0];
    // A third host on the switch.
    let stranger = net.testbed.netns("stranger");
    net.switch.plug("stranger", &stranger, "eth1", 1);
    stranger.ip("addr add 172.30.5.99/24 dev eth1");
    let capture = Capture::start(&net.testbed, &pod.netns, "eth0", "udp port 7777");
    let inner = format!("IP(src='{}', dst='{}') / UDP(sport=1, dport=7777)", two.pods[0].ip4, pod.ip4);
    let send = |from: &vrouter_tests::testbed::Netns, source: &str, inner: &str, count: u32| {
        scapy(
            from,
            &format!(
                "sendp(Ether(dst='{}') / IP(src='{source}', dst='172.30.5.11', proto=4) / {inner}, iface='eth1', count={count})",
                one.netns.mac("eth1")
            ),
        );
    };
    send(&stranger, "172.30.5.99", &inner, 3);
    counted(&one.router, "tunnel-unknown-peer", 3);
    // A known peer, but what is inside is for nobody here, or is no packet.
    send(&two.netns, "172.30.5.12", "IP(src='10.77.2.10', dst='198.51.100.1') / UDP()", 2);
    send(&two.netns, "172.30.5.12", "Raw(b'\\x45' + b'\\x00' * 30)", 2);
    counted(&one.router, "no-route", 2);
    counted(&one.router, "ipv4-bad-checksum", 2);
    // And from the peer itself it arrives.
    send(&two.netns, "172.30.5.12", &inner, 1);
    capture.wait_for(1, Duration::from_secs(5));
    assert_eq!(capture.stop(&["ip.src"]).len(), 1);
}
