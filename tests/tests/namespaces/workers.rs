//! Workers and queues: one each, several workers on one queue, one worker on several queues.

use vrouter_tests::testbed::{Attach, Pod, TwoNodes, ping, tcp_transfer};

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
