//! Death and return of a router: pods keep their interface and their connections.

use std::time::Duration;

use serde_json::Value;
use vrouter_tests::testbed::{Attach, Node, Pod, TcpSession, TwoNodes, ping, tcp_transfer, within};

const BOTH: &[Attach] = &Attach::ALL;

/// What a pod can tell of its interface: index, MAC, addresses, routes. The flags of a route say
/// `linkdown` while nobody holds the tap, and change nothing of the route.
fn identity(pod: &Pod) -> [Value; 3] {
    let mut routes = pod.netns.ip_json("route show");
    for route in routes.as_array_mut().into_iter().flatten() {
        route.as_object_mut().expect("an object").remove("flags");
    }
    let link = pod.netns.link("eth0").expect("eth0");
    [
        serde_json::json!([link["ifindex"], link["address"], link["mtu"]]),
        pod.netns.ip_json("addr show dev eth0 scope global")[0]["addr_info"].clone(),
        routes,
    ]
}

/// Connections from each pod of the first node to the pod of the second, and between its own.
fn connections([one, two]: &[Node; 2]) -> Vec<TcpSession> {
    let mut sessions = Vec::new();
    for pod in &one.pods {
        for ip in two.pods[0].ips() {
            sessions.push(TcpSession::open(&pod.netns, &two.pods[0].netns, ip));
        }
    }
    sessions.push(TcpSession::open(&one.pods[0].netns, &one.pods[1].netns, one.pods[1].ip4));
    sessions
}

/// Names of all devices of a node.
fn devices(node: &Node) -> Vec<String> {
    let links = node.netns.ip_json("link show");
    let links = links.as_array().expect("a list").iter();
    links.filter_map(|link| link["ifname"].as_str().map(str::to_owned)).collect()
}

#[test]
fn connections_outlive_kill_9() {
    let mut net = TwoNodes::new([BOTH, &[Attach::Tap]]).start();
    let mut sessions = connections(&net.nodes);
    for session in &mut sessions {
        session.exchange(500_000);
    }
    for round in 0..3 {
        let before: Vec<_> = net.nodes[0].pods.iter().map(identity).collect();
        net.nodes[0].router.kill();
        let dead: Vec<_> = net.nodes[0].pods.iter().map(identity).collect();
        assert_eq!(before, dead, "round {round}: a pod noticed the death");
        net.nodes[0].start();
        let after: Vec<_> = net.nodes[0].pods.iter().map(identity).collect();
        assert_eq!(before, after, "round {round}: a pod noticed the return");
        for session in &mut sessions {
            session.exchange(500_000);
        }
        let pod = &net.nodes[0].pods[0];
        assert_eq!(ping(&pod.netns, net.nodes[1].pods[0].ip4, 2).ttls, [62; 2]);
    }
}

#[test]
fn a_connection_carries_data_again_soon_after_kill_9() {
    let mut net = TwoNodes::new([BOTH, &[Attach::Tap]]).start();
    let [one, two] = &mut net.nodes;
    let mut session = TcpSession::open(&one.pods[0].netns, &two.pods[0].netns, two.pods[0].ip4);
    session.exchange(100_000);
    std::thread::scope(|scope| {
        // Bytes are on their way the whole time.
        let transfer = scope.spawn(|| (0..20).try_for_each(|_| session.try_exchange(1_000_000)));
        one.router.kill();
        one.router.start(&one.config);
        let result = transfer.join().expect("no panic in a transfer");
        result.unwrap_or_else(|why| panic!("{why}"));
    });
}

#[test]
fn sigterm_removes_what_the_router_made() {
    let mut net = TwoNodes::new([BOTH, &[Attach::Tap]]);
    let [one, _] = &mut net.nodes;
    let (devices_before, routes_before) = (devices(one), one.netns.ip("route show table all"));
    one.start();
    assert_ne!(devices(one), devices_before);
    let status = one.router.terminate();
    assert!(status.success(), "{status}:\n{}", one.router.log());
    assert_eq!(devices(one), devices_before);
    assert_eq!(one.netns.ip("route show table all"), routes_before);
    for pod in &one.pods {
        assert!(pod.netns.link("eth0").is_none(), "{} keeps its eth0", pod.name);
    }
    // And all of it comes again.
    one.start();
    tcp_transfer(&one.pods[0].netns, &one.pods[1].netns, one.pods[1].ip4, 100_000);
}

#[test]
fn sigterm_with_keep_leaves_the_pods_as_they_are() {
    let mut net = TwoNodes::new([BOTH, &[Attach::Tap]]);
    net.nodes[1].start();
    let [one, two] = &mut net.nodes;
    one.router.launch(&one.config, &["--keep"]);
    one.router.wait_until_ready();
    let mut session = TcpSession::open(&one.pods[0].netns, &two.pods[0].netns, two.pods[0].ip4);
    session.exchange(100_000);
    let before: Vec<_> = one.pods.iter().map(identity).collect();
    let status = one.router.terminate();
    assert!(status.success(), "{status}");
    let after: Vec<_> = one.pods.iter().map(identity).collect();
    assert_eq!(before, after);
    one.start();
    session.exchange(100_000);
}

#[test]
fn a_pod_that_left_the_configuration_is_removed_at_the_next_start() {
    let mut net = TwoNodes::new([BOTH, &[]]);
    let [one, _] = &mut net.nodes;
    one.start();
    one.router.kill();
    let gone = one.config.pods.remove(1);
    one.start();
    let pods = one.router.vrctl_json(&["show", "pods"]);
    assert_eq!(pods.as_array().map(Vec::len), Some(1), "{pods}");
    within(Duration::from_secs(5), &format!("{} loses its eth0", gone.name), || {
        one.pods[1].netns.link("eth0").is_none().then_some(())
    });
}
