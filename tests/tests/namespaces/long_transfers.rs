//! TCP transfers whose every byte is checked, in every combination of what they cross.
//!
//! | from, to | path | addresses |
//! |---|---|---|
//! | taps, veths, the node's own stack | one node; two nodes, plain and in IPIP | IPv4, IPv6 |
//!
//! Each carries `TRANSFER_BYTES` both ways at once: 3 MB, unless the environment says otherwise.

use std::net::IpAddr;
use std::time::Instant;

use vrouter_tests::testbed::{Attach, Netns, TwoNodes, checksum_errors, tcp_transfer};

fn bytes() -> usize {
    std::env::var("TRANSFER_BYTES").map_or(3_000_000, |text| text.parse().expect("a number of bytes"))
}

fn transfer(what: &str, from: &Netns, to: &Netns, addresses: [IpAddr; 2]) {
    for address in addresses {
        let start = Instant::now();
        tcp_transfer(from, to, address, bytes());
        let seconds = start.elapsed().as_secs_f64();
        let rate = 2.0 * bytes() as f64 * 8.0 / 1e9 / seconds;
        println!("{what} at {address}: {} bytes each way, {rate:.2} Gbit/s", bytes());
    }
}

fn all_pairs(mode: &str) {
    let attach: &[Attach] = &[Attach::Tap, Attach::Veth];
    let net = TwoNodes::new([&[Attach::Tap, Attach::Tap, Attach::Veth, Attach::Veth], attach])
        .ipip_mode(mode)
        .start();
    let [one, two] = &net.nodes;
    let pods = &one.pods;
    if mode == "Never" {
        for (from, to) in [(0, 1), (0, 2), (2, 3)] {
            let what = format!("{} to {}, one node", pods[from].attach.word(), pods[to].attach.word());
            transfer(&what, &pods[from].netns, &pods[to].netns, pods[to].ips());
        }
        for pod in [&pods[0], &pods[2]] {
            transfer(&format!("node to its {}", pod.attach.word()), &one.netns, &pod.netns, pod.ips());
        }
    }
    for (from, netns) in [
        (pods[0].attach.word(), &pods[0].netns),
        (pods[2].attach.word(), &pods[2].netns),
        ("node", &one.netns),
    ] {
        for to in &two.pods {
            let what = format!("{from} to {} across, IPIP {mode}", to.attach.word());
            transfer(&what, netns, &to.netns, to.ips());
        }
    }
    for pod in pods.iter().chain(&two.pods) {
        assert_eq!(checksum_errors(&pod.netns), 0, "{} refused packets", pod.name);
    }
    for node in &net.nodes {
        for reason in ["bad-segmentation-offload", "too-big-for-port", "length-mismatch", "no-frame"] {
            assert_eq!(node.router.drops(reason), 0, "{reason}");
        }
    }
}

#[test]
fn every_byte_arrives_plainly() {
    all_pairs("Never");
}

#[test]
fn every_byte_arrives_through_ipip() {
    all_pairs("Always");
}
