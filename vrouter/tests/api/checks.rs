//! `vrouter check`, and what stands in the way of a start: each fault with its place and words, and
//! nothing left behind.

use crate::node::{Netns, Site, pod};

/// Checks a configuration that must fail, and that nothing of it stays.
#[track_caller]
fn faults(site: &Site, text: &str) -> String {
    let file = site.directory.join("bad.toml");
    std::fs::write(&file, text).expect("the directory is writable");
    let before = site.node.devices();
    let run = site.check(&file);
    assert_eq!((run.code, run.out.as_str()), (Some(1), ""), "{text}");
    assert_eq!(site.node.devices(), before);
    assert!(!site.directory.join("v.sock").exists() && !site.directory.join("state").exists());
    run.err
}

#[test]
fn what_is_not_there_is_named() {
    let site = Site::new("check");
    let good = std::fs::read_to_string(site.config("")).expect("it was written");

    let missing = faults(&site, &good.replace("\"eth1\"", "\"eth7\""));
    assert!(missing.contains("eth7") && missing.contains("eth1"), "names what is there: {missing}");
    let line = good.lines().position(|line| line.starts_with("device")).expect("an uplink") + 1;
    assert!(missing.contains(&format!("bad.toml:{line}:")), "{missing}");

    let loopback = faults(&site, &good.replace("\"eth1\"", "\"lo\""));
    assert!(loopback.contains("loopback"), "{loopback}");

    let netns = good.clone()
        + "[[pod]]\nname = \"default/a\"\nnetns = \"/run/netns/none\"\naddresses = [\"10.100.36.103/32\"]\n";
    let netns = faults(&site, &netns);
    assert!(netns.contains("/run/netns/none") && netns.contains("ip netns add"), "{netns}");

    let unknown = faults(&site, &good.replace("frames = 4096", "frams = 4096"));
    assert!(unknown.contains("frams") && unknown.contains("frames"), "suggests the right word: {unknown}");

    // All faults are told at once.
    let both = faults(&site, &good.replace("frames = 4096", "frams = 4096").replace("\"eth1\"", "\"eth7\""));
    assert!(both.contains("frams") && both.contains("eth7"), "{both}");
}

#[test]
fn a_second_router_on_the_device_is_refused() {
    let p1 = Netns::new("pod");
    let router = Site::new("second").start(&pod("a", &p1, "10.100.36.103/32", "tap"));
    let first = std::fs::read_to_string(router.site.directory.join("node1.toml")).expect("it was written");
    let second = router.site.directory.join("second.toml");
    let other = first
        .replace("v.sock", "w.sock")
        .replace("/state", "/state2")
        .replace("[memory]", "metrics = \"127.0.0.1:9092\"\n[memory]");
    std::fs::write(&second, other.split("[[pod]]").next().expect("a head"))
        .expect("the directory is writable");
    let run = router.site.check(&second);
    assert_eq!(run.code, Some(1));
    assert!(run.err.contains("eth1") && run.err.contains(&router.pid().to_string()), "{}", run.err);
    let words = format!("{} run --config {}", env!("CARGO_BIN_EXE_vrouter"), second.display());
    let run = router.site.node.run(&words);
    assert_eq!(run.code, Some(1), "{run:?}");
    assert!(!router.site.directory.join("w.sock").exists());
    // The first one has not noticed.
    assert!(p1.pings("169.254.1.1", 2));
    assert_eq!(router.json("status")["ready"], true);
}

#[test]
fn a_good_configuration_says_what_it_needs() {
    let p1 = Netns::new("pod");
    let site = Site::new("good");
    let run = site.check(&site.config(&pod("a", &p1, "10.100.36.103/32", "veth")));
    assert_eq!(run.code, Some(0), "{}", run.err);
    assert!(run.out.contains("1 uplinks, 2 pools, 1 routes, 1 pods"), "{}", run.out);
    assert!(run.out.contains("of 4096 frames"), "{}", run.out);
    assert_eq!(p1.devices(), ["lo"]);
}
