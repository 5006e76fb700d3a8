//! A link between the nodes that is narrower than their own, behind a router that is Linux.
//!
//! ```text
//!   node1 172.30.5.11 ── switch ── 172.30.5.1 fabric 172.30.6.1 ── MTU 1400 ── 172.30.6.12 node2
//! ```

use std::time::Duration;

use serde_json::Value;
use vrouter_tests::testbed::{Attach, Route, TcpSession, TwoNodes, Uplink, checksum_errors, within};

#[test]
fn a_tunnel_learns_the_mtu_of_its_path() {
    let mut net = TwoNodes::new([&[Attach::Tap], &[Attach::Tap]]);
    let fabric = net.testbed.netns("fabric");
    net.switch.plug("fabric", &fabric, "north", 1);
    fabric.ip("addr add 172.30.5.1/24 dev north");
    let [one, two] = &mut net.nodes;
    fabric
        .ip(&format!("link add south mtu 1400 type veth peer name eth2 mtu 1400 netns {}", two.netns.name()));
    fabric.ip("link set south up");
    fabric.ip("addr add 172.30.6.1/24 dev south");
    fabric.set_sysctl("ipv4/ip_forward", "1");
    two.netns.ip("link set eth2 up");
    two.netns.ip("addr add 172.30.6.12/24 dev eth2");
    two.config.uplinks.push(Uplink { device: "eth2".to_owned(), lines: String::new() });
    // Toward node2 by the narrow link; back by the switch.
    "172.30.6.12".clone_into(&mut one.config.routes[0].via);
    one.config.routes.push(Route { prefix: "172.30.6.0/24".to_owned(), via: "172.30.5.1".to_owned() });
    let net = net.start();
    let [one, two] = &net.nodes;
    let (from, to) = (&one.pods[0].netns, two.pods[0].ip4);
    let sized = |size: u32, flag: &str| {
        let line = format!("ping -n -c 4 -i 0.3 -W 2 -M {flag} -s {size} {to}");
        String::from_utf8_lossy(&from.try_run(&line).stdout).into_owned()
    };
    assert!(sized(1000, "do").contains(" 4 received"));
    // The first goes to the fabric, which tells us; the others are told by us.
    let text = sized(1480 - 28, "do");
    assert!(text.contains("mtu = 1380") && text.contains(" 0 received"), "{text}");
    let text = sized(1380 - 28, "do");
    assert!(text.contains(" 4 received"), "{text}");
    from.ip("route flush cache");
    let text = sized(1480 - 28, "dont");
    assert!(text.contains(" 4 received"), "cut inside the tunnel: {text}");
    let tunnels = one.router.vrctl_json(&["show", "tunnels"]);
    let shown = tunnels.as_array().expect("a list").iter().find(|tunnel| tunnel["remote"] == "172.30.6.12");
    let shown = shown.unwrap_or(&Value::Null);
    assert_eq!((&shown["path_mtu"], &shown["mtu"]), (&1400.into(), &1380.into()), "{tunnels:#}");
    assert!(shown["path_mtu_seconds"].as_u64().is_some_and(|left| (500..=600).contains(&left)), "{shown}");
    let decision = one.router.vrctl_json(&["route", "get", &to.to_string()]);
    assert_eq!(decision["mtu"], 1380, "{decision:#}");
}

/// Its super-packets are told of by the segment that no longer fits, and cut into smaller ones from then on.
#[test]
fn a_stream_goes_on_where_its_path_becomes_narrower() {
    for mode in ["Never", "Always"] {
        let net = TwoNodes::new([&[Attach::Tap], &[Attach::Tap]]).ipip_mode(mode).start();
        let [one, two] = &net.nodes;
        let (from, to) = (&one.pods[0], &two.pods[0]);
        let mut streams = to.ips().map(|ip| TcpSession::open(&from.netns, &to.netns, ip));
        streams.iter_mut().for_each(|stream| stream.exchange(2_000_000));
        let reasons = ["fragmentation-needed", "packet-too-big"];
        let refused =
            || [one, two].map(|node| reasons.map(|reason| node.router.drops(reason)).iter().sum::<u64>());
        assert_eq!(refused(), [0, 0], "{mode}");
        for (node, port) in [(one, "node1"), (two, "node2")] {
            net.switch.netns.ip(&format!("link set {port} mtu 1300"));
            node.netns.ip("link set eth1 mtu 1300");
        }
        for node in [one, two] {
            within(Duration::from_secs(10), "the port has the new MTU", || {
                let port = node.router.port(|port| port["role"] == "uplink");
                (port["mtu"] == 1300).then_some(())
            });
        }
        for stream in &mut streams {
            let before = refused();
            stream.exchange(2_000_000);
            let after = refused();
            assert!((0..2).all(|node| after[node] > before[node]), "{mode}: {before:?}, {after:?}");
        }
        for pod in [from, to] {
            assert_eq!(checksum_errors(&pod.netns), 0, "{} refused packets", pod.name);
        }
    }
}
