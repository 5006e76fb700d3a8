//! Pods come and go on a running router, and leave nothing behind.

use std::fs;
use std::path::Path;
use std::time::Duration;

use serde_json::Value;
use vrouter_tests::testbed::{Attach, Netns, Pinger, Router, TwoNodes, ping, tcp_transfer, within};

fn attach(router: &Router, netns: &Netns, name: &str, address: &str, kind: Attach) -> std::process::Output {
    let path = netns.path();
    router.try_vrctl(&[
        "pod",
        "attach",
        "--netns",
        &path.to_string_lossy(),
        "--name",
        name,
        "--address",
        address,
        "--attach",
        kind.word(),
    ])
}

/// Descriptors of a process.
fn descriptors(pid: u32) -> usize {
    let dir = Path::new("/proc").join(pid.to_string()).join("fd");
    fs::read_dir(dir).expect("procfs").count()
}

/// What attaching and detaching must leave as it was.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Footprint {
    /// Frames that nobody accounts for.
    stray_frames: u64,
    descriptors: usize,
    devices: usize,
}

fn frames(router: &Router, counts: impl Fn(&str) -> bool) -> u64 {
    let memory = router.vrctl_json(&["show", "memory"]);
    let places = memory["held"].as_array().expect("a list").iter();
    let held = places.filter(|held| counts(held["place"].as_str().expect("a name")));
    held.filter_map(|held| held["frames"].as_u64()).sum()
}

/// Frames that are free, in the store or with a worker.
fn free_frames(router: &Router) -> u64 {
    let free = router.vrctl_json(&["show", "memory"])["frames_free"].as_u64().expect("a number");
    free + frames(router, |place| place.starts_with("worker"))
}

fn footprint(net: &TwoNodes) -> Footprint {
    let node = &net.nodes[0];
    Footprint {
        stray_frames: frames(&node.router, |place| place == "under way"),
        descriptors: descriptors(node.router.pid()),
        devices: node.netns.ip_json("link show").as_array().map_or(0, Vec::len),
    }
}

/// The footprint, once it stands still.
fn settled(net: &TwoNodes) -> Footprint {
    within(Duration::from_secs(10), "the footprint stands still", || {
        let before = footprint(net);
        // Ports and workers are surveyed once a second.
        std::thread::sleep(Duration::from_millis(1200));
        (footprint(net) == before).then_some(before)
    })
}

#[test]
fn a_thousand_cycles_under_load_leave_nothing() {
    let net = TwoNodes::new([&Attach::ALL, &[Attach::Tap]]).start();
    let [one, two] = &net.nodes;
    let guests = Attach::ALL.map(|kind| (kind, net.testbed.netns(&format!("guest-{}", kind.word()))));
    let interval = Duration::from_millis(2);
    let load = || -> Vec<Pinger> {
        one.pods.iter().map(|pod| Pinger::start(&pod.netns, two.pods[0].ip4, interval)).collect()
    };
    let cycle = |number: u32| {
        for (kind, netns) in &guests {
            let address = format!("10.77.1.{}", 40 + number % 20);
            let output = attach(&one.router, netns, "test/guest", &address, *kind);
            assert!(output.status.success(), "cycle {number}: {}", String::from_utf8_lossy(&output.stderr));
            // Every so often the guest talks: its frames must come home too.
            if number.is_multiple_of(50) {
                assert_eq!(ping(netns, two.pods[0].ip4, 1).received, 1, "cycle {number}");
            }
            one.router.vrctl(&["pod", "detach", "test/guest"]);
        }
    };
    let under_load = |numbers: std::ops::Range<u32>| {
        let pingers = load();
        numbers.for_each(cycle);
        for pinger in pingers {
            let stats = pinger.stop();
            assert_eq!(stats.gaps, 0, "{}", stats.text);
        }
    };
    // The first cycles may allocate what stays for good. Counted is without load: packets
    // on their way hold frames.
    under_load(0..10);
    let (before, free_before) = (settled(&net), free_frames(&one.router));
    assert_eq!(before.stray_frames, 0, "{before:?}");
    under_load(10..510);
    assert_eq!(settled(&net), before);
    // A device returns the frames of its last burst when it sends the next.
    let free = free_frames(&one.router);
    assert!(free.abs_diff(free_before) <= 64, "{free_before} frames were free, {free} are");
}

#[test]
fn an_attached_pod_works_and_is_shown() {
    let net = TwoNodes::new([&[], &[Attach::Tap]]).start();
    let [one, two] = &net.nodes;
    for kind in Attach::ALL {
        let guest = net.testbed.netns(&format!("guest-{}", kind.word()));
        let output = attach(&one.router, &guest, "test/guest", "10.77.1.50", kind);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        // It is in force when vrctl returns: not one packet is lost.
        assert_eq!(ping(&guest, two.pods[0].ip4, 3).ttls, [62; 3]);
        tcp_transfer(&two.pods[0].netns, &guest, std::net::Ipv4Addr::new(10, 77, 1, 50), 100_000);
        let pods = one.router.vrctl_json(&["show", "pods"]);
        assert_eq!(pods[0]["name"], "test/guest");
        assert_eq!(pods[0]["state"], "ready");
        one.router.vrctl(&["pod", "detach", "test/guest"]);
        assert!(guest.link("eth0").is_none());
        assert_eq!(one.router.vrctl_json(&["show", "pods"]), Value::Array(Vec::new()));
    }
}

#[test]
fn a_pod_whose_namespace_is_gone_can_be_detached() {
    let net = TwoNodes::new([&[], &[]]).start();
    let one = &net.nodes[0];
    for kind in Attach::ALL {
        let guest = net.testbed.netns(&format!("gone-{}", kind.word()));
        let output = attach(&one.router, &guest, "test/guest", "10.77.1.50", kind);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        drop(guest);
        one.router.vrctl(&["pod", "detach", "test/guest"]);
        assert_eq!(one.router.vrctl_json(&["show", "pods"]), Value::Array(Vec::new()));
    }
}

#[test]
fn what_cannot_be_attached_is_refused_with_the_reason_and_leaves_nothing() {
    let net = TwoNodes::new([&[Attach::Tap], &[]]).start();
    let one = &net.nodes[0];
    let guest = net.testbed.netns("guest");
    let before = settled(&net);
    let refused = |name: &str, netns: &str, address: &str| {
        let output =
            one.router.try_vrctl(&["pod", "attach", "--netns", netns, "--name", name, "--address", address]);
        assert_eq!(output.status.code(), Some(1), "{name} {netns} {address}");
        String::from_utf8_lossy(&output.stderr).into_owned()
    };
    let path = guest.path().to_string_lossy().into_owned();
    let taken = one.pods[0].ip4.to_string();
    for (name, netns, address, reason) in [
        ("test/guest", path.as_str(), "192.0.2.1", "192.0.2.1"),
        ("test/guest", path.as_str(), taken.as_str(), taken.as_str()),
        (one.pods[0].name.as_str(), path.as_str(), "10.77.1.50", one.pods[0].name.as_str()),
        ("test/guest", "/run/netns/there-is-none", "10.77.1.50", "there-is-none"),
    ] {
        let said = refused(name, netns, address);
        assert!(said.contains(reason), "{said}");
    }
    // Something else holds the interface's name.
    guest.ip("link add eth0 type veth peer name other");
    let said = refused("test/guest", &path, "10.77.1.50");
    assert!(said.contains("eth0"), "{said}");
    guest.ip("link del eth0");
    assert!(guest.link("eth0").is_none());
    assert_eq!(settled(&net), before);
}
