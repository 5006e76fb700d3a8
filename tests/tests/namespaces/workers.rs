//! Workers and queues: one each, several workers on one queue, one worker on several queues.

use std::collections::BTreeSet;
use std::net::{IpAddr, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

use rustix::net::sockopt::set_socket_recv_buffer_size_force;
use vrouter_tests::testbed::{Attach, Node, Pod, Router, TwoNodes, ping, tcp_transfer, within};

const PODS: &[Attach] = &Attach::ALL;

fn carries_traffic(cores: &str, queues: u32) {
    let mut net = TwoNodes::with_queues([PODS, PODS], queues);
    for node in &mut net.nodes {
        node.config.workers = format!("cores = {cores}");
    }
    let net = net.start();
    let [one, two] = &net.nodes;
    let port = one.router.port(|port| port["role"] == "uplink");
    assert_eq!(port["queues"], queues, "{port}");
    let workers = one.router.vrctl_json(&["show", "workers"]);
    assert_eq!(workers.as_array().map(Vec::len), Some(cores.split(',').count()), "{workers}");
    let all: Vec<&Pod> = one.pods.iter().chain(&two.pods).collect();
    for from in &all {
        for to in &all {
            if from.name == to.name {
                continue;
            }
            for ip in to.ips() {
                let stats = ping(&from.netns, ip, 3);
                assert_eq!(stats.lost(), 0, "{} to {}\n{}", from.name, to.name, stats.text);
                // Several connections: their hashes choose queues.
                for _ in 0..3 {
                    tcp_transfer(&from.netns, &to.netns, ip, 300_000);
                }
            }
        }
    }
}

#[test]
fn two_workers_and_an_uplink_of_one_queue() {
    carries_traffic("[0, 1]", 1);
}

#[test]
fn one_worker_and_an_uplink_of_many_queues() {
    carries_traffic("[0]", 4);
}

#[test]
fn two_workers_and_an_uplink_of_two_queues() {
    carries_traffic("[0, 1]", 2);
}

/// Numbered datagrams of so many flows from one pod to another, one of each flow in `every`, until told
/// to stop. Returns how many were sent and came, and how many came behind a later one of their flow.
fn stream(from: &Pod, to: &Pod, (flows, every): (usize, Duration), stop: &AtomicBool) -> (u64, u64, u64) {
    /// What comes while the receiving thread has to wait for a core.
    const BUFFER: usize = 8 << 20;
    let ip: IpAddr = to.ip4.into();
    std::thread::scope(|scope| {
        let (ready, wait) = std::sync::mpsc::channel();
        let receiver = scope.spawn(move || {
            to.netns.enter(|| {
                let socket = UdpSocket::bind((ip, 5000)).unwrap();
                set_socket_recv_buffer_size_force(&socket, BUFFER).unwrap();
                socket.set_read_timeout(Some(Duration::from_millis(500))).unwrap();
                ready.send(()).unwrap();
                let (mut came, mut late, mut next) = (0, 0, vec![0_u64; flows]);
                let mut buffer = [0; 64];
                loop {
                    let Ok((16, _)) = socket.recv_from(&mut buffer) else {
                        if stop.load(Relaxed) {
                            return (came, late);
                        }
                        continue;
                    };
                    let flow = u64::from_be_bytes(buffer[..8].try_into().unwrap()) as usize;
                    let number = u64::from_be_bytes(buffer[8..16].try_into().unwrap());
                    came += 1;
                    late += u64::from(number < next[flow]);
                    next[flow] = next[flow].max(number + 1);
                }
            })
        });
        wait.recv().unwrap();
        let sent = from.netns.enter(|| {
            let sockets: Vec<UdpSocket> =
                (0..flows).map(|_| UdpSocket::bind((from.ip4, 0)).unwrap()).collect();
            let mut number = 0_u64;
            while !stop.load(Relaxed) {
                for (flow, socket) in sockets.iter().enumerate() {
                    let mut bytes = [0; 16];
                    bytes[..8].copy_from_slice(&(flow as u64).to_be_bytes());
                    bytes[8..].copy_from_slice(&number.to_be_bytes());
                    socket.send_to(&bytes, (ip, 5000)).unwrap();
                }
                number += 1;
                std::thread::sleep(every);
            }
            number * flows as u64
        });
        let (came, late) = receiver.join().unwrap();
        (sent, came, late)
    })
}

/// Kernel objects behind a router's descriptors: sockets, taps.
fn sockets(router: &Router) -> BTreeSet<String> {
    let dir = format!("/proc/{}/fd", router.pid());
    let links = std::fs::read_dir(dir).unwrap().flatten();
    let names = links.filter_map(|entry| {
        let link = std::fs::read_link(entry.path()).ok()?.to_string_lossy().into_owned();
        let tap = link.contains("tun").then(|| format!("{link} {:?}", entry.file_name()));
        tap.or_else(|| link.starts_with("socket:").then_some(link))
    });
    names.collect()
}

/// Ownership of queues goes up and down on both nodes while datagrams flow both ways.
fn queues_move(attach: Attach, queues: u32) {
    let mut net = TwoNodes::with_queues([&[attach], &[attach]], queues);
    for node in &mut net.nodes {
        node.config.workers = "cores = [0, 1]".to_owned();
    }
    let net = net.start();
    let [one, two] = &net.nodes;
    let (a, b) = (&one.pods[0], &two.pods[0]);
    for (from, to) in [(a, b), (b, a)] {
        assert_eq!(ping(&from.netns, to.ip4, 3).lost(), 0);
    }
    let before = [one, two].map(|node| sockets(&node.router));
    let stop = AtomicBool::new(false);
    // So few that the shallowest ring holds what comes while a thread waits for a core, on a machine
    // that does other work too: a tenth of a second.
    let load = (8, Duration::from_millis(8));
    let streams = std::thread::scope(|scope| {
        let streams = [(a, b), (b, a)].map(|(from, to)| scope.spawn(|| stream(from, to, load, &stop)));
        for round in 0..12 {
            std::thread::sleep(Duration::from_millis(150));
            for node in [one, two] {
                let count = if round % 2 == 0 { 1 } else { 2 };
                let reply = node.router.vrctl_json(&["workers", "set", &count.to_string()]);
                assert!(reply["moved"].as_u64().unwrap() > 0, "{reply}");
                let workers = node.router.vrctl_json(&["show", "workers"]);
                let with_queues = workers.as_array().unwrap().iter();
                let with_queues =
                    with_queues.filter(|worker| !worker["queues"].as_array().unwrap().is_empty());
                assert_eq!(with_queues.count(), count, "{workers}");
            }
        }
        stop.store(true, Relaxed);
        streams.map(|stream| stream.join().unwrap())
    });
    for (sent, came, late) in streams {
        assert_eq!(late, 0, "of {came} datagrams came behind a later one");
        let lost = sent - came;
        let ports = || [one, two].map(|node| node.router.vrctl(&["show", "ports"])).concat();
        assert_eq!(lost, 0, "of {sent} datagrams were lost\n{}", ports());
    }
    for (node, before) in [one, two].into_iter().zip(before) {
        within(Duration::from_secs(5), "the same sockets as before", || {
            let now = sockets(&node.router);
            // Of those before, only a connection of vrctl may have gone.
            (before.difference(&now).count() <= 1).then_some(())
        });
        assert_eq!(node.router.drops("port-down"), 0);
        let refused = node.router.try_vrctl(&["workers", "set", "99"]);
        assert_eq!(refused.status.code(), Some(1));
    }
}

#[test]
fn queues_of_taps_and_a_single_uplink_queue_move_under_load() {
    queues_move(Attach::Tap, 1);
}

#[test]
fn queues_of_veths_and_several_uplink_queues_move_under_load() {
    queues_move(Attach::Veth, 2);
}

/// Packets by which each queue of a veth's host end was entered.
fn by_queue(node: &Node, device: &str) -> Vec<u64> {
    let text = node.netns.run(&format!("ethtool -S {device}"));
    let lines = text.lines().filter(|line| line.contains("rx_queue_") && line.contains("xdp_packets"));
    lines.map(|line| line.rsplit(' ').next().unwrap().parse().unwrap()).collect()
}

/// Pods on veth pairs have a queue for each worker: both carry flows, what comes back may be another
/// worker's (uplinks choose queues by a hash of their own), and no packet overtakes another of its flow.
#[test]
fn flows_of_veths_with_several_queues_stay_in_order() {
    let mut net = TwoNodes::with_queues([&[Attach::Veth], &[Attach::Veth]], 2);
    for node in &mut net.nodes {
        node.config.workers = "cores = [0, 1]".to_owned();
    }
    let net = net.start();
    let [one, two] = &net.nodes;
    let (a, b) = (&one.pods[0], &two.pods[0]);
    let stop = AtomicBool::new(false);
    let load = (32, Duration::from_millis(2));
    let streams = std::thread::scope(|scope| {
        let streams = [(a, b), (b, a)].map(|(from, to)| scope.spawn(|| stream(from, to, load, &stop)));
        std::thread::sleep(Duration::from_secs(2));
        stop.store(true, Relaxed);
        streams.map(|stream| stream.join().unwrap())
    });
    for (sent, came, late) in streams {
        assert!(came > sent / 2, "{came} of {sent} came");
        assert_eq!(late, 0, "of {came} datagrams came behind a later one");
    }
    for node in [one, two] {
        let pod = node.router.port(|port| port["role"] == "pod");
        assert_eq!(pod["queues"], 2, "{pod}");
        assert_eq!(pod["workers"].as_array().map(Vec::len), Some(2), "{pod}");
        let entered = by_queue(node, pod["device"].as_str().unwrap());
        assert!(entered.iter().all(|count| *count > 1000), "{entered:?}");
        tcp_transfer(&a.netns, &b.netns, b.ip4, 3_000_000);
    }
}

/// Two routers whose workers share a core: each leaves it to the other when it has nothing to do.
#[test]
fn two_routers_on_one_core_both_forward() {
    for idle in ["adaptive", "interrupt"] {
        let mut net = TwoNodes::new([PODS, PODS]);
        for node in &mut net.nodes {
            node.config.workers = format!("cores = [0]\nidle = {idle:?}");
        }
        let net = net.start();
        let [one, two] = &net.nodes;
        for (from, to) in one.pods.iter().zip(&two.pods) {
            for ip in to.ips() {
                assert_eq!(ping(&from.netns, ip, 5).lost(), 0, "{idle}: {} to {}", from.name, to.name);
                tcp_transfer(&from.netns, &to.netns, ip, 1_000_000);
            }
        }
        for node in [one, two] {
            let worker = &node.router.vrctl_json(&["show", "workers"])[0];
            assert_eq!(worker["core"], 0);
            assert!(worker["packets"].as_u64().unwrap() > 100, "{worker}");
        }
    }
}
