//! Neighbours on the uplink: found, kept, followed when they change, waited for.

use std::time::{Duration, Instant};

use vrouter_tests::testbed::{Attach, Pinger, TwoNodes, ping, within};

const POD: &[Attach] = &[Attach::Tap];

#[test]
fn forwarding_goes_on_past_the_kernels_reachable_time() {
    let net = TwoNodes::new([POD, POD]);
    for node in &net.nodes {
        for family in ["ipv4", "ipv6"] {
            let key = |name: &str| format!("{family}/neigh/eth1/{name}");
            node.netns.set_sysctl(&key("base_reachable_time_ms"), "1000");
            node.netns.set_sysctl(&key("delay_first_probe_time"), "1");
            node.netns.set_sysctl(&key("gc_stale_time"), "2");
            node.netns.set_sysctl(&key("retrans_time_ms"), "200");
        }
    }
    let net = net.start();
    let [one, two] = &net.nodes;
    let from = &one.pods[0].netns;
    for ip in two.pods[0].ips() {
        assert_eq!(ping(from, ip, 2).received, 2);
    }
    let interval = Duration::from_millis(20);
    let pingers = two.pods[0].ips().map(|ip| Pinger::start(from, ip, interval));
    // No traffic of the nodes' own; the reachable time, at random up to 1.5 s, passes many times.
    let until = Instant::now() + Duration::from_secs(12);
    within(Duration::from_secs(15), "the time passes", || (Instant::now() > until).then_some(()));
    for pinger in pingers {
        let stats = pinger.stop();
        assert_eq!(stats.gaps, 0, "{}", stats.text);
    }
}

#[test]
fn a_new_mac_address_of_the_peer_is_followed() {
    let net = TwoNodes::new([POD, POD]).start();
    let [one, two] = &net.nodes;
    let from = &one.pods[0].netns;
    for ip in two.pods[0].ips() {
        assert_eq!(ping(from, ip, 2).received, 2);
    }
    two.netns.ip("link set eth1 address 02:00:00:00:00:77");
    // The kernel of node2 announces the change for itself, as drivers and bonds do after a failover.
    two.netns.try_run("arping -q -U -c 2 -w 1 -I eth1 172.30.5.12");
    for ip in two.pods[0].ips() {
        within(Duration::from_secs(10), &format!("{ip} answers again"), || {
            (ping(from, ip, 1).received == 1).then_some(())
        });
    }
    let neighbors = one.router.vrctl_json(&["show", "neighbors"]);
    let known = neighbors.as_array().unwrap().iter();
    let mac = known.filter(|neighbor| neighbor["address"] == "172.30.5.12").map(|neighbor| &neighbor["mac"]);
    assert_eq!(mac.collect::<Vec<_>>(), ["02:00:00:00:00:77"]);
}

#[test]
fn packets_wait_for_a_neighbour_and_are_sent_when_it_answers() {
    let mut net = TwoNodes::new([POD, POD]);
    // No router of node2 that would have introduced itself: its switch port is down.
    net.switch.netns.ip("link set node2 down");
    for node in &mut net.nodes {
        node.start();
    }
    let [one, two] = &net.nodes;
    let pinger = Pinger::start(&one.pods[0].netns, two.pods[0].ip4, Duration::from_millis(100));
    within(Duration::from_secs(5), "packets wait or are counted", || {
        let neighbors = one.router.vrctl_json(&["show", "neighbors"]);
        let queued = neighbors.as_array()?.iter().any(|neighbor| neighbor["queued"].as_u64() > Some(0));
        let dropped = ["hold-full", "hold-expired", "neighbor-failed", "next-hop-unresolved"];
        (queued || dropped.iter().any(|reason| one.router.drops(reason) > 0)).then_some(())
    });
    net.switch.netns.ip("link set node2 up");
    within(Duration::from_secs(10), "the pod answers", || {
        (ping(&one.pods[0].netns, two.pods[0].ip4, 1).received == 1).then_some(())
    });
    assert!(pinger.stop().received > 0);
}

#[test]
fn a_neighbour_that_never_answers_is_an_error_for_the_pod() {
    let mut net = TwoNodes::new([POD, &[]]);
    net.switch.netns.ip("link set node2 down");
    let [one, _] = &mut net.nodes;
    one.start();
    let stats = ping(&one.pods[0].netns, std::net::Ipv4Addr::new(10, 77, 2, 10), 60);
    assert_eq!(stats.received, 0);
    assert!(stats.text.contains("Destination Host Unreachable"), "{}", stats.text);
}
