//! Odd frames from real captures into the real ports: tap, veth, uplink, host port. The router goes
//! on, and every frame ends in exactly one counter.

use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

use serde_json::Value;
use vrouter_tests::odd_frames::odd_frames;
use vrouter_tests::testbed::{Attach, Netns, RawSender, Router, TwoNodes, ping, within};

/// What went in and what became of it, over all ports.
#[derive(Debug)]
struct Balance {
    came: u64,
    ended: u64,
}

fn balance(router: &Router) -> Balance {
    let ports = router.vrctl_json(&["show", "ports"]);
    let ports = ports.as_array().expect("a list");
    let sum = |keys: &[&str]| -> u64 {
        ports.iter().flat_map(|port| keys.iter().filter_map(|key| port[*key].as_u64())).sum()
    };
    let memory = router.vrctl_json(&["show", "memory"]);
    let held = memory["held"].as_array().expect("a list").iter();
    let waiting = held.filter(|held| held["place"] == "neighbor queues");
    Balance {
        came: sum(&["rx_packets", "originated"]),
        ended: sum(&["tx_packets", "drops", "punts", "consumed"])
            + waiting.filter_map(|held| held["frames"].as_u64()).sum::<u64>(),
    }
}

/// Sends the frames, made to look as if `to` were meant, a few at a time: a port that takes what
/// fits into its rings must not lose the rest.
fn replay(router: &Router, from: &Netns, device: &str, to: &str, port: &dyn Fn(&Value) -> bool) -> u64 {
    let mac = |text: &str| -> Vec<u8> {
        text.split(':').map(|octet| u8::from_str_radix(octet, 16).expect("a MAC address")).collect()
    };
    let (source, destination) = (mac(&from.mac(device)), mac(to));
    let sender = RawSender::new(from, device);
    let received = || router.port(port)["rx_packets"].as_u64().expect("a number");
    let before = received();
    let mut sent = 0;
    for (number, mut frame) in odd_frames().into_iter().enumerate() {
        // The device takes what a station could send on it.
        if !(14..=1494).contains(&frame.len()) {
            continue;
        }
        frame[..6].copy_from_slice(&destination);
        frame[6..12].copy_from_slice(&source);
        sent += u64::from(sender.send(&frame));
        if number % 100 == 99 {
            let until = Instant::now() + Duration::from_secs(5);
            while received() - before < sent {
                assert!(Instant::now() < until, "{device}: {sent} sent: {:#}", router.port(port));
            }
        }
    }
    assert!(sent > 15_000, "{sent} frames fit");
    sent
}

#[test]
fn every_port_kind_takes_them_and_loses_none() {
    let net = TwoNodes::new([&Attach::ALL, &[Attach::Tap]]).start();
    let [one, two] = &net.nodes;
    for pod in &one.pods {
        replay(&one.router, &pod.netns, "eth0", "ee:ee:ee:ee:ee:ee", &|port| {
            port["pod"] == pod.name.as_str()
        });
        eprintln!("{}: {:?}", pod.attach.word(), balance(&one.router));
    }
    replay(&one.router, &one.netns, "vrouter0", "ee:ee:ee:ee:ee:ee", &|port| port["role"] == "host");
    within(Duration::from_secs(15), "every frame is in one counter", || {
        let balance = balance(&one.router);
        (balance.came == balance.ended).then_some(())
    });
    for pod in &one.pods {
        for ip in two.pods[0].ips() {
            assert_eq!(ping(&pod.netns, ip, 2).received, 2, "{} goes on", pod.attach.word());
        }
    }
}

#[test]
fn an_exclusive_uplink_takes_them_too() {
    let mut net = TwoNodes::new([&[Attach::Tap], &[]]);
    net.nodes[0].config.uplinks[0].lines = "sharing = \"exclusive\"".to_owned();
    net.nodes[0].start();
    let one = &net.nodes[0];
    let mac = one.netns.mac("eth1");
    // Beside the switch's bridge, which has a mind of its own about odd frames.
    replay(&one.router, &net.switch.netns, "node1", &mac, &|port| port["role"] == "uplink");
    within(Duration::from_secs(15), "every frame is in one counter", || {
        let balance = balance(&one.router);
        (balance.came == balance.ended).then_some(())
    });
    assert_eq!(ping(&one.pods[0].netns, Ipv4Addr::new(169, 254, 1, 1), 2).received, 2);
}
