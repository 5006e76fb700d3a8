//! `Status`: the node in a few lines.

use api::Kind;

use crate::daemon::Node;
use crate::ids::{MAX_PORTS, PortId};
use crate::rpc::v1;
use crate::rpc_server::ports;

/// The node as it is.
pub(super) fn status(node: &Node) -> v1::StatusReply {
    let engine = node.router.engine();
    let (mut rx_packets, mut tx_packets, mut drops) = (0, 0, 0);
    for worker in node.router.workers() {
        for port in (0..MAX_PORTS).map(|number| PortId(number as u16)) {
            let counters = worker.counters.port(port);
            rx_packets += counters.rx_packets.get();
            tx_packets += counters.tx_packets.get();
            drops += worker.counters.drops_of(port);
        }
    }
    let ports = ports::list(node);
    let count = |number: usize| u32::try_from(number).unwrap_or(u32::MAX);
    v1::StatusReply {
        node: node.config.node.name.clone().into_value(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        pid: std::process::id(),
        uptime_seconds: node.started.elapsed().as_secs(),
        ready: node.problems.is_empty(),
        generation: engine.generation(),
        conditions: conditions(node),
        ports: count(ports.len()),
        ports_down: count(ports.iter().filter(|port| !(port.admin_up && port.link_up)).count()),
        workers: count(node.router.workers().len()),
        pods: count(node.pods.len()),
        routes: engine.fib_len() as u64,
        neighbors: count(engine.neighbors().count()),
        pools: count(node.resources.of_kind(Kind::IpPool).count()),
        tunnels: count(engine.tables().tunnel_peers.remotes().len()),
        rx_packets,
        tx_packets,
        drops,
        config_file: node.config_file.clone(),
    }
}

/// Every uplink, worker and the host port, well or not, and whatever else is not well.
fn conditions(node: &Node) -> Vec<v1::Condition> {
    let uplinks = node.uplinks.keys().map(|name| format!("uplink {name}"));
    let workers = (0..node.router.workers().len()).map(|index| format!("worker {index}"));
    let host = node.host.iter().map(|_| "host port".to_owned());
    let well = uplinks.chain(workers).chain(host).filter(|part| !node.problems.contains_key(part));
    let mut out: Vec<v1::Condition> =
        well.map(|name| v1::Condition { name, ok: true, message: String::new() }).collect();
    // Accepted as they are, so the node is well.
    out.extend(node.not_enforced().into_iter().map(|told| v1::Condition {
        name: format!("{} {}", told.problem.kind, told.problem.name),
        ok: true,
        message: format!("{} {}", told.problem.path, told.problem.message),
    }));
    out.extend(node.router.engine().policy_problems().into_iter().map(|problem| v1::Condition {
        name: "policy".to_owned(),
        ok: false,
        message: problem,
    }));
    out.extend(node.problems.iter().map(|(part, problem)| v1::Condition {
        name: part.clone(),
        ok: false,
        message: problem.clone(),
    }));
    out.sort_by(|a, b| a.name.cmp(&b.name));
    out
}
