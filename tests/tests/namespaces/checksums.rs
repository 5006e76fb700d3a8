//! TCP and UDP checksums in every combination of attach kinds, nodes and offloads of the pods, which
//! change while packets flow.

use std::time::Duration;

use vrouter_tests::testbed::{
    Attach, Capture, Pod, TcpSession, TwoNodes, checksum_errors, tcp_transfer, udp_exchange,
};

/// Offloads of a pod's device, as `ethtool -K` takes them.
const OFFLOADS: [&str; 3] = ["tx off", "tx on", "tx on tso on gso on"];

fn set(pod: &Pod, offloads: &str) {
    // A veth whose peer has an XDP program refuses some of them; what it takes counts.
    pod.netns.try_run(&format!("ethtool -K eth0 {offloads}"));
}

fn toggled_under_way(attach: [&[Attach]; 2], across: bool) {
    let net = TwoNodes::new(attach).without_offloads().start();
    let [one, two] = &net.nodes;
    let from = &one.pods[0];
    let to = if across { &two.pods[0] } else { &one.pods[1] };
    let capture = Capture::start(&net.testbed, &net.switch.netns, "node1", "ip or ip6");
    for ip in to.ips() {
        let mut session = TcpSession::open(&from.netns, &to.netns, ip);
        for ours in OFFLOADS {
            for theirs in OFFLOADS {
                eprintln!("{} ({ours}) to {} ({theirs}) at {ip}", from.attach.word(), to.attach.word());
                set(from, ours);
                set(to, theirs);
                session.exchange(300_000);
                tcp_transfer(&from.netns, &to.netns, ip, 100_000);
                // Odd and even lengths, and 0, whose UDP checksum is easily wrong.
                udp_exchange(&from.netns, &to.netns, ip, &[0, 1, 2, 999, 1000, 1432]);
            }
        }
    }
    for pod in [from, to] {
        assert_eq!(checksum_errors(&pod.netns), 0, "{} refused packets", pod.name);
    }
    // Whatever the kernels would forgive each other, the wire must carry complete checksums.
    if across {
        capture.wait_for(1000, Duration::from_secs(5));
    }
    let packets =
        capture.stop(&["ip.checksum.status", "tcp.checksum.status", "udp.checksum.status", "tcp.checksum"]);
    let mut judged = 0;
    for packet in &packets {
        for field in ["ip.checksum.status", "tcp.checksum.status", "udp.checksum.status"] {
            for status in packet.all(field) {
                // Linux writes the all ones of UDP for TCP too, where it sums up in software; receivers take it.
                if field == "tcp.checksum.status" && packet.all("tcp.checksum").contains(&"0xffff") {
                    continue;
                }
                // 0: bad. Fragments and the zero of IPv4 UDP have none to judge.
                assert_ne!(status, "0", "bad {field} on the wire");
                judged += usize::from(status == "1");
            }
        }
    }
    assert_eq!(judged > 1000, across, "{judged} checksums on the wire");
}

#[test]
fn tap_to_tap_on_one_node() {
    toggled_under_way([&[Attach::Tap, Attach::Tap], &[]], false);
}

#[test]
fn tap_to_veth_on_one_node() {
    toggled_under_way([&[Attach::Tap, Attach::Veth], &[]], false);
}

#[test]
fn veth_to_veth_on_one_node() {
    toggled_under_way([&[Attach::Veth, Attach::Veth], &[]], false);
}

#[test]
fn tap_to_tap_across_nodes() {
    toggled_under_way([&[Attach::Tap], &[Attach::Tap]], true);
}

#[test]
fn tap_to_veth_across_nodes() {
    toggled_under_way([&[Attach::Tap], &[Attach::Veth]], true);
}

#[test]
fn veth_to_veth_across_nodes() {
    toggled_under_way([&[Attach::Veth], &[Attach::Veth]], true);
}
