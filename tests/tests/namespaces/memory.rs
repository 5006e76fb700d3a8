//! What a router takes of memory, and what it was said to take.

use std::net::Ipv4Addr;

use vrouter_tests::testbed::{Attach, Route, TwoNodes, binary, ping};

use crate::idle::resident;

/// What `vrouter plan` says of a node's file, in all, in bytes.
fn planned(net: &TwoNodes, arguments: &str) -> (u64, String) {
    let file = net.testbed.dir().join("node1/vrouter.toml");
    let program = binary("vrouter");
    let line = format!("{} plan --config {} {arguments}", program.display(), file.display());
    let text = net.nodes[0].netns.run(&line);
    let all = text.lines().find(|line| line.contains("in all")).expect("a sum");
    let mib: f64 = all.split_whitespace().next().and_then(|word| word.parse().ok()).expect("a number");
    ((mib * f64::from(1 << 20)) as u64, text)
}

#[test]
fn a_plan_is_right_within_a_tenth() {
    for (memory, cores, attach, routes) in [
        ("frames = 16384\nflows = 65536", "[0]", Attach::Tap, 0),
        ("frames = 32768\nflows = 1000000", "[0]", Attach::Tap, 0),
        ("frames = 16384\nflows = 262144", "[0, 1]", Attach::Veth, 10_000_u32),
    ] {
        let mut net = TwoNodes::new([&[attach; 6], &[]]);
        let config = &mut net.nodes[0].config;
        config.memory = memory.to_owned();
        config.workers = format!("cores = {cores}");
        config.routes.extend((0..routes).map(|number| Route {
            prefix: format!("{}/24", Ipv4Addr::from(0x1400_0000 + (number << 9))),
            via: "172.30.5.12".to_owned(),
        }));
        let net = net.start();
        let node = &net.nodes[0];
        for pod in &node.pods[1..] {
            assert_eq!(ping(&node.pods[0].netns, pod.ip4, 1).received, 1);
        }
        let taken = resident(node.router.pid());
        let (planned, text) = planned(&net, "");
        let ratio = planned as f64 / taken as f64;
        eprintln!("planned {planned}, resident {taken}: {ratio:.3}\n{text}");
        assert!((0.9..1.1).contains(&ratio), "planned {planned}, resident {taken}\n{text}");
    }
}

/// A node as large as they come, but for the number of pods, which take a while to attach.
#[test]
fn a_plan_of_a_large_node_is_right_too() {
    const PODS: usize = 60;
    let mut net = TwoNodes::new([&[Attach::Tap; PODS], &[]]);
    let config = &mut net.nodes[0].config;
    "10.77.1.0/24".clone_into(&mut config.blocks[0]);
    config.memory = "flows = 1000000".to_owned();
    config.workers = "cores = [0, 1]".to_owned();
    config.routes.extend((0..100_000_u32).map(|number| Route {
        prefix: format!("{}/24", Ipv4Addr::from(0x1400_0000 + (number << 9))),
        via: "172.30.5.12".to_owned(),
    }));
    let net = net.start();
    let node = &net.nodes[0];
    assert_eq!(ping(&node.pods[0].netns, node.pods[PODS - 1].ip4, 1).received, 1);
    let taken = resident(node.router.pid());
    let (planned, text) = planned(&net, "");
    let ratio = planned as f64 / taken as f64;
    eprintln!("planned {planned}, resident {taken}: {ratio:.3}\n{text}");
    assert!((0.9..1.1).contains(&ratio), "planned {planned}, resident {taken}\n{text}");
}

#[test]
fn larger_tables_take_more_and_are_named() {
    let net = TwoNodes::new([&[Attach::Tap], &[]]).start();
    let (small, _) = planned(&net, "");
    let (large, text) = planned(&net, "--pods 250 --workers 2 --routes 100000 --flows 1000000");
    for part in ["250 pods", "2 workers", "100000 routes", "1000000 flows"] {
        assert!(text.contains(part), "{text}");
    }
    assert!(large > small + 100_000_000, "{text}");
}

#[test]
fn what_does_not_fit_is_refused() {
    let mut net = TwoNodes::new([&[], &[]]);
    let node = &mut net.nodes[0];
    node.config.memory = "frames = 16000000".to_owned();
    node.router.launch(&node.config, &[]);
    assert!(!node.router.wait_for_end().success());
    let log = node.router.log();
    assert!(log.contains("MiB are available"), "{log}");
}
