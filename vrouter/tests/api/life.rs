//! The end of a router, and what comes back with the next.

use serde_json::json;

use crate::node::{Netns, Site, pod};

#[test]
fn it_takes_with_it_what_it_made() {
    let p1 = Netns::new("pod");
    let site = Site::new("end");
    let before = site.node.devices();
    let mut router = site.start(&pod("a", &p1, "10.100.36.103/32", "tap"));
    assert!(router.site.node.devices().contains(&"vrouter0".to_owned()));
    assert_eq!(router.stop(), Some(0));
    assert_eq!(router.site.node.devices(), before);
    assert_eq!(p1.devices(), ["lo"]);
    assert!(!router.site.directory.join("v.sock").exists());
    let link = router.site.node.ip("link show dev eth1");
    assert!(!link.contains("xdp"), "{link}");
    let gone = router.vrctl("status");
    assert!(gone.code == Some(1) && gone.err.contains("no such socket"), "{gone:?}");
}

#[test]
fn what_the_api_was_told_is_in_force_again_after_a_restart() {
    let (p1, p2) = (Netns::new("pod"), Netns::new("pod"));
    let mut router = Site::new("again").start(&pod("a", &p1, "10.100.36.103/32", "tap"));
    let text = "apiVersion: vrouter.io/v1\nkind: Route\nmetadata:\n  name: r1\nspec:\n  prefix: 192.0.2.0/24\n  via: 172.16.20.2\n";
    assert_eq!(router.apply(text, "").code, Some(0));
    router.json(&format!("pod attach --netns {} --name default/b --address 10.100.36.104", p2.path()));
    assert_eq!(router.stop(), Some(0));
    router.start_again();
    let route = router.item("show routes", "prefix", "192.0.2.0/24");
    assert_eq!((&route["source"], &route["name"]), (&json!("api"), &json!("r1")));
    assert_eq!(router.item("show pods", "name", "default/b")["source"], "api");
    assert!(p2.pings("10.100.36.103", 1));
}

#[test]
fn a_pod_that_cannot_come_back_is_told_and_can_be_detached() {
    let p1 = Netns::new("pod");
    let mut router = Site::new("lost").start("");
    router.json(&format!("pod attach --netns {} --name default/a --address 10.100.36.104", p1.path()));
    assert_eq!(router.stop(), Some(0));
    let path = p1.path();
    drop(p1);
    router.start_again();
    let pod = router.item("show pods", "name", "default/a");
    assert_eq!((&pod["state"], &pod["source"]), (&json!("failed"), &json!("api")));
    assert!(pod["reason"].as_str().unwrap().contains(&path), "{pod:#}");
    assert_eq!(router.json("status")["ready"], false);
    assert!(router.http("GET", "/healthz").1.contains("pod default/a: "));
    assert_eq!(router.vrctl("pod detach default/a").code, Some(0));
    assert_eq!(router.json("show pods"), json!([]));
    assert_eq!(router.json("status")["ready"], true);
}
