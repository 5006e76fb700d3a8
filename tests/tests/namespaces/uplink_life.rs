//! What becomes of an uplink under a running router: down and up, another MTU, gone and back.

use std::time::Duration;

use vrouter_tests::testbed::{Attach, Node, TcpSession, TwoNodes, ping, tcp_transfer, within};

const PODS: &[Attach] = &Attach::ALL;

fn recovers(net: &TwoNodes) {
    let [one, two] = &net.nodes;
    for pod in &one.pods {
        for ip in two.pods[0].ips() {
            within(Duration::from_secs(15), &format!("{ip} answers {} again", pod.name), || {
                (ping(&pod.netns, ip, 1).received == 1).then_some(())
            });
            tcp_transfer(&pod.netns, &two.pods[0].netns, ip, 500_000);
        }
    }
}

#[test]
fn link_down_and_up() {
    let net = TwoNodes::new([PODS, &[Attach::Tap]]).start();
    recovers(&net);
    let [one, two] = &net.nodes;
    let mut session = TcpSession::open(&one.pods[0].netns, &two.pods[0].netns, two.pods[0].ip4);
    session.exchange(100_000);
    // Its cable is pulled.
    net.switch.netns.ip("link set node1 down");
    within(Duration::from_secs(5), "the port shows no link", || {
        let port = one.router.port(|port| port["role"] == "uplink");
        (port["link_up"] == false).then_some(())
    });
    assert_eq!(ping(&one.pods[0].netns, one.pods[1].ip4, 2).received, 2, "pods here need no uplink");
    net.switch.netns.ip("link set node1 up");
    session.exchange(100_000);
    recovers(&net);

    // Switched off by hand, IPv6 addresses go.
    one.netns.ip("link set eth1 down");
    one.netns.ip("link set eth1 up");
    one.netns.ip(&format!("addr replace {}/64 dev eth1 nodad", one.ip6));
    session.exchange(100_000);
    recovers(&net);
}

/// MTU of a node's first pod.
fn pod_mtu(node: &Node) -> u64 {
    let link = node.pods[0].netns.link("eth0").expect("eth0");
    link["mtu"].as_u64().expect("an MTU")
}

#[test]
fn a_smaller_mtu_is_respected() {
    let net = TwoNodes::new([PODS, &[Attach::Tap]]).start();
    recovers(&net);
    let [one, two] = &net.nodes;
    assert_eq!(pod_mtu(one), 1480);
    // The whole link has the smaller MTU, as a link must; pods keep theirs and learn.
    for (node, port) in [(one, "node1"), (two, "node2")] {
        net.switch.netns.ip(&format!("link set {port} mtu 1400"));
        node.netns.ip("link set eth1 mtu 1400");
        within(Duration::from_secs(10), "the port has the new MTU", || {
            let port = node.router.port(|port| port["role"] == "uplink");
            (port["mtu"] == 1400).then_some(())
        });
    }
    recovers(&net);
    // 1400 - 20 of the tunnel: 1352 bytes of echo data fit with 28 of IP and ICMP, one more does not.
    let pod = &one.pods[0].netns;
    let sized = |size: u32| pod.try_run(&format!("ping -n -c 1 -W 2 -M do -s {size} {}", two.pods[0].ip4));
    assert!(sized(1352).status.success());
    let refused = String::from_utf8_lossy(&sized(1353).stdout).into_owned();
    assert!(!refused.contains(" 1 received"), "{refused}");
}

#[test]
fn a_device_that_goes_and_comes_again() {
    let net = TwoNodes::new([PODS, &[Attach::Tap]]).start();
    recovers(&net);
    let [one, two] = &net.nodes;
    let pid = one.router.pid();
    let mut session = TcpSession::open(&one.pods[0].netns, &two.pods[0].netns, two.pods[0].ip4);
    session.exchange(100_000);
    one.netns.ip("link del eth1");
    within(Duration::from_secs(5), "the router reports the loss", || {
        let status = one.router.vrctl_json(&["status"]);
        (status["ports_down"].as_u64() > Some(0) || status["ready"] == false).then_some(())
    });
    assert_eq!(ping(&one.pods[0].netns, one.pods[1].ip4, 2).received, 2, "pods here need no uplink");

    net.switch.plug("node1", &one.netns, "eth1", 1);
    one.netns.ip(&format!("addr add {}/24 dev eth1", one.ip4));
    one.netns.ip(&format!("addr add {}/64 dev eth1 nodad", one.ip6));
    session.exchange(100_000);
    recovers(&net);
    assert_eq!(one.router.pid(), pid);
}
