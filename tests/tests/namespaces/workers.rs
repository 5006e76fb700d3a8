//! Workers and queues: one each, several workers on one queue, one worker on several queues.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::mpsc::Sender;
use std::time::Duration;

use rustix::net::sockopt::set_socket_recv_buffer_size_force;
use serde_json::Value;
use vrouter_tests::testbed::{Attach, Generator, Node, Pod, TwoNodes, ping, tcp_transfer};

const PODS: &[Attach] = &Attach::ALL;
/// Where pods send what leaves them.
const GATEWAY_MAC: &str = "ee:ee:ee:ee:ee:ee";

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

/// The options of `vrouter-pktgen` for what one pod sends to the other: addresses and ports. Flow number n
/// leaves by queue n modulo the number of queues.
type Flows = [String; 2];

/// Four flows from `a` to `b`, and four the other way, three of which are their answers.
fn four_flows(a: &Pod, b: &Pod) -> Flows {
    let way = |from: &Pod, to: &Pod, ports: &str| format!("--src {} --dst {} {ports}", from.ip4, to.ip4);
    [way(a, b, "--src-ports 5000-5003 --dst-ports 6000"), way(b, a, "--src-ports 6000 --dst-ports 4999-5002")]
}

/// One flow, and its answers. It leaves `a` by the first queue or by the second: then what goes by the
/// first is not from the pod's own address, and comes no further than its router.
fn one_flow(a: &Pod, b: &Pod, by_second: bool) -> Flows {
    let other = Ipv4Addr::from(u32::from(a.ip4) - 1);
    let first = if by_second { other } else { a.ip4 };
    [
        format!("--src {first}-{} --dst {} --src-ports 5000 --dst-ports 6000", a.ip4, b.ip4),
        format!("--src {} --dst {} --src-ports 6000 --dst-ports 5000", b.ip4, a.ip4),
    ]
}

/// Generators in both pods send as fast as they can. What nobody forwards as fast is lost, and the
/// batches that come are of packets of a flow that follow each other at once: any that overtakes shows.
fn exchange_bursts([a, b]: [&Pod; 2], flows: Flows) {
    let [there, back] = flows;
    let generators = [(a, there), (b, back)].map(|(from, flows)| {
        let how = format!("--dst-mac {GATEWAY_MAC} --duration 2 --drain 1");
        Generator::start(&from.netns, &format!("loop --port af_xdp:eth0 {how} {flows}"))
    });
    for report in generators.map(Generator::report) {
        let received = &report["received"];
        let came = received["packets"].as_u64().unwrap();
        assert!(came > 5_000, "{came} came");
        for field in ["reordered_in_flow", "duplicates"] {
            assert_eq!(received[field], 0, "{field} of {came}");
        }
    }
}

/// Packets that workers of a node have handed to each other.
fn handed_off(node: &Node) -> u64 {
    let workers = node.router.vrctl_json(&["show", "workers"]);
    workers.as_array().unwrap().iter().map(|worker| worker["handed_off"].as_u64().unwrap()).sum()
}

fn uplink(node: &Node) -> Value {
    node.router.port(|port| port["role"] == "uplink")
}

fn two_workers(pods: &[Attach], queues: u32) -> TwoNodes {
    let mut net = TwoNodes::with_queues([pods, pods], queues);
    for node in &mut net.nodes {
        node.config.workers = "cores = [0, 1]".to_owned();
    }
    let net = net.start();
    let [a, b] = [0, 1].map(|node: usize| &net.nodes[node].pods[0]);
    for (from, to) in [(a, b), (b, a)] {
        assert_eq!(ping(&from.netns, to.ip4, 3).lost(), 0);
    }
    net
}

/// Receives the datagrams of generators until told to stop and none has come for half a second. Returns
/// how many came, and how many came behind a later one of their flow.
fn receive_in_order(to: &Pod, ready: Sender<()>, stop: &AtomicBool) -> (u64, u64) {
    to.netns.enter(|| {
        let socket = UdpSocket::bind((to.ip4, 6000)).unwrap();
        socket.set_read_timeout(Some(Duration::from_millis(500))).unwrap();
        ready.send(()).unwrap();
        let (mut came, mut late, mut next) = (0, 0, BTreeMap::new());
        let mut buffer = [0; 64];
        loop {
            match socket.recv_from(&mut buffer) {
                // The stamp: a mark of 2 bytes, the number of the packet.
                Ok((18, from)) => {
                    let number = u64::from_be_bytes(buffer[2..10].try_into().unwrap());
                    let next = next.entry(from).or_insert(0);
                    came += 1;
                    late += u64::from(number < *next);
                    *next = number.max(*next);
                }
                Ok((length, from)) => panic!("{length} bytes from {from}"),
                Err(_) if stop.load(Relaxed) => return (came, late),
                Err(_) => {}
            }
        }
    })
}

/// Ownership of queues goes up and down on both nodes while datagrams flow both ways.
fn queues_move(attach: Attach, queues: u32) {
    let net = two_workers(&[attach; 2], queues);
    let [one, two] = &net.nodes;
    let (a, b) = (&one.pods[0], &two.pods[0]);
    let before = [one, two].map(|node| node.router.mark_queue_files());
    // Two queues of each pod's port, and those of the uplink.
    for files in &before {
        assert!(files.len() >= 4 + queues as usize, "{files:?}");
    }
    let count = |count: usize| {
        for node in [one, two] {
            let reply = node.router.vrctl_json(&["workers", "set", &count.to_string()]);
            assert!(reply["moved"].as_u64().unwrap() > 0, "{reply}");
            let workers = node.router.vrctl_json(&["show", "workers"]);
            let with_queues = workers.as_array().unwrap().iter();
            let with_queues = with_queues.filter(|worker| !worker["queues"].as_array().unwrap().is_empty());
            assert_eq!(with_queues.count(), count, "{workers}");
        }
    };

    // So few that the shallowest ring holds what comes while a thread waits for a core, on a machine
    // that does other work too: a tenth of a second. None may be lost.
    let load = (8, Duration::from_millis(8));
    let stop = AtomicBool::new(false);
    let streams = std::thread::scope(|scope| {
        let streams = [(a, b), (b, a)].map(|(from, to)| scope.spawn(|| stream(from, to, load, &stop)));
        for round in 0..12 {
            std::thread::sleep(Duration::from_millis(150));
            count(1 + round % 2);
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

    // Fifty times as many, in batches; none may overtake. Kernels receive them: a queue of a veth is a
    // queue of its other end too, and only who takes what is in all of them in one order knows of an
    // order. As many as there can be would be too many: a device that gets no time on a core to take what
    // is on its way is not waited for without end.
    let ways = [(a, &two.pods[1]), (b, &one.pods[1])];
    let stop = AtomicBool::new(false);
    let received = std::thread::scope(|scope| {
        let receivers = ways.map(|(_, to)| {
            let (ready, wait) = std::sync::mpsc::channel();
            let receiver = scope.spawn(|| receive_in_order(to, ready, &stop));
            wait.recv().unwrap();
            receiver
        });
        let mut generators = ways.map(|(from, to)| {
            let flows = format!("--src {} --dst {} --src-ports 5000-5003 --dst-ports 6000", from.ip4, to.ip4);
            let how = format!("tx --port af_xdp:eth0 --dst-mac {GATEWAY_MAC} --duration 3 --rate 50k");
            Generator::start(&from.netns, &format!("{how} {flows}"))
        });
        let mut rounds = 0;
        while generators.iter_mut().all(Generator::runs) {
            count(1 + rounds % 2);
            rounds += 1;
        }
        assert!(rounds > 2, "queues moved {rounds} times");
        generators.into_iter().for_each(|generator| drop(generator.report()));
        stop.store(true, Relaxed);
        receivers.map(|receiver| receiver.join().unwrap())
    });
    for (came, late) in received {
        assert!(came > 5000, "{came} came");
        assert_eq!(late, 0, "of {came} datagrams came behind a later one");
    }

    for (node, before) in [one, two].into_iter().zip(before) {
        assert_eq!(node.router.queue_files(), before, "the same queues as before");
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

/// One queue to the network, two workers: one of them hands over what it receives from its pods' queues,
/// and what comes back enters by the other one.
fn one_worker_hands_over(attach: Attach) {
    let net = two_workers(&[attach], 1);
    let [one, two] = &net.nodes;
    let before = [one, two].map(handed_off);
    let (a, b) = (&one.pods[0], &two.pods[0]);
    exchange_bursts([a, b], four_flows(a, b));
    for (node, before) in [one, two].into_iter().zip(before) {
        let pod = node.router.port(|port| port["role"] == "pod");
        assert_eq!(pod["workers"].as_array().map(Vec::len), Some(2), "{pod}");
        // A pod's port has a queue of either worker: only what leaves by the uplink is handed over. It
        // entered by the worker that has not the uplink's queue, by which the answers come.
        assert_eq!(uplink(node)["workers"].as_array().map(Vec::len), Some(1), "{}", uplink(node));
        let handed = handed_off(node) - before;
        assert!(handed > 1000, "{handed} packets handed over");
        assert_eq!(node.router.drops("port-down"), 0);
    }
}

#[test]
fn what_taps_queues_hand_to_the_uplinks_worker_stays_in_order() {
    one_worker_hands_over(Attach::Tap);
}

#[test]
fn what_veths_queues_hand_to_the_uplinks_worker_stays_in_order() {
    one_worker_hands_over(Attach::Veth);
}

/// Pods on veth pairs have a queue for each worker: both carry flows, what comes back may enter by the
/// other worker, and no packet overtakes another of its flow.
#[test]
fn flows_of_veths_with_several_queues_stay_in_order() {
    let net = two_workers(&[Attach::Veth], 2);
    let [one, two] = &net.nodes;
    let (a, b) = (&one.pods[0], &two.pods[0]);
    // Of each node: what entered by the queues of its pod, and of its uplink.
    let entered = |node: &Node| {
        ["pod", "uplink"].map(|role| {
            let port = node.router.port(|port| port["role"] == role);
            assert_eq!(port["queues"], 2, "{port}");
            assert_eq!(port["workers"].as_array().map(Vec::len), Some(2), "{port}");
            by_queue(node, port["device"].as_str().unwrap())
        })
    };
    exchange_bursts([a, b], four_flows(a, b));
    for node in [one, two] {
        for queues in entered(node) {
            assert!(queues.iter().all(|count| *count > 1000), "{queues:?}");
        }
    }
    // Which queue answers come by is a matter of the kernel's hash: once it is the one that the flow enters
    // by, once it is the other.
    let answers_by = [false, true].map(|by_second| {
        let before = entered(one);
        exchange_bursts([a, b], one_flow(a, b, by_second));
        let [sent, answers] = [0, 1].map(|port: usize| {
            let now = &entered(one)[port];
            now.iter().zip(&before[port]).map(|(now, before)| now - before).collect::<Vec<u64>>()
        });
        assert!(sent[usize::from(by_second)] > 1000, "{sent:?}");
        let queue = usize::from(answers[1] > answers[0]);
        // Besides, the kernels of nodes say something of their own now and then.
        assert!(answers[queue] > 1000 && answers[1 - queue] < 100, "{answers:?}");
        queue
    });
    assert_eq!(answers_by[0], answers_by[1], "one flow's answers come by one queue");
    tcp_transfer(&a.netns, &b.netns, b.ip4, 3_000_000);
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
