//! What `vrouter check` and `vrouter run` refuse on a real machine, and that they leave nothing.

use std::fs;
use std::process::Output;

use vrouter_tests::testbed::{Attach, Config, Node, TwoNodes, binary};

/// `vrouter check` of a configuration inside a node.
fn check(net: &TwoNodes, node: &Node, config: &Config) -> Output {
    let file = net.testbed.dir().join("check.toml");
    fs::write(&file, config.toml(net.testbed.dir())).unwrap();
    let program = binary("vrouter");
    node.netns.command(&program.to_string_lossy()).args(["check", "--config"]).arg(&file).output().unwrap()
}

/// Everything a half-made start could leave in the node and its pods.
fn devices(node: &Node) -> String {
    let mut all = node.netns.ip("-br link") + &node.netns.ip("route show table all");
    for pod in &node.pods {
        all += &pod.netns.ip("-br link");
    }
    all
}

fn refused(change: impl FnOnce(&mut Config), reasons: &[&str]) {
    let mut net = TwoNodes::new([&[Attach::Tap, Attach::Veth], &[]]);
    change(&mut net.nodes[0].config);
    let config = net.nodes[0].config.clone();
    let before = devices(&net.nodes[0]);

    let output = check(&net, &net.nodes[0], &config);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "{said}");
    for reason in reasons {
        assert!(said.contains(reason), "{reason} in: {said}");
    }

    let node = &mut net.nodes[0];
    node.router.launch(&config, &[]);
    let status = node.router.wait_for_end();
    assert_eq!(status.code(), Some(1), "{}", node.router.log());
    for reason in reasons {
        assert!(node.router.log().contains(reason), "{reason} in: {}", node.router.log());
    }
    assert_eq!(devices(node), before);
}

#[test]
fn a_good_configuration_is_called_good() {
    let net = TwoNodes::new([&[Attach::Tap], &[]]);
    let before = devices(&net.nodes[0]);
    let output = check(&net, &net.nodes[0], &net.nodes[0].config);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(devices(&net.nodes[0]), before);
}

#[test]
fn a_device_that_is_not_there() {
    refused(|config| config.uplinks[0].device = "eth7".to_owned(), &["eth7", "uplink"]);
}

#[test]
fn a_network_namespace_that_is_not_there() {
    refused(|config| config.pods[1].netns = "/run/netns/there-is-none".into(), &["there-is-none", "pod"]);
}

#[test]
fn pods_with_one_address() {
    refused(|config| config.pods[1].addresses = config.pods[0].addresses.clone(), &["10.77.1.10"]);
}

#[test]
fn an_address_outside_every_pool() {
    refused(|config| config.pods[1].addresses = vec!["192.0.2.9".to_owned()], &["192.0.2.9", "pool"]);
}

#[test]
fn a_key_that_does_not_exist() {
    refused(|config| config.uplinks[0].lines = "devise = \"eth1\"".to_owned(), &["devise"]);
}

#[test]
fn a_second_router_on_a_device() {
    let mut net = TwoNodes::new([&[Attach::Tap], &[]]);
    net.nodes[0].start();
    let net = net;
    let one = &net.nodes[0];
    let mut second = vrouter_tests::testbed::Router::new(&one.netns, net.testbed.dir().join("second"));
    let mut config = one.config.clone();
    config.pods.clear();
    let before = devices(one);
    second.launch(&config, &[]);
    let status = second.wait_for_end();
    assert_eq!(status.code(), Some(1));
    assert!(second.log().contains("eth1"), "{}", second.log());
    assert_eq!(devices(one), before);
    // The first one is not disturbed.
    assert_eq!(one.router.vrctl_json(&["status"])["ready"], true);
}
