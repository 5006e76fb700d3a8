//! What a node exports.
//!
//! Counters of a port count from its addition: a pod that was attached anew starts at
//! zero, which Prometheus takes for a restart. Drop reasons without a packet are left out
//! for pods: a node of 250 pods would otherwise export 15,000 zeros.

use std::collections::BTreeMap;
use std::time::Duration;

use super::families::{Family, Labels};
use crate::daemon::Node;
use crate::drop_reason::DropReason;
use crate::path_stage::PathStage;
use crate::rpc::Word;
use crate::rpc::v1;
use crate::rpc_server::{neighbors, ports, tunnels};
use crate::totals::AdjacencyTotals;
use crate::worker::load::WorkerLoad;

/// Every family of a node.
pub(super) fn families(node: &Node) -> Vec<Family> {
    let mut out = Vec::new();
    of_ports(node, &mut out);
    of_tunnels(node, &mut out);
    of_next_hops(node, &mut out);
    of_workers(node, &mut out);
    of_tables(node, &mut out);
    super::policy::of_policy(node, &mut out);
    out
}

fn of_ports(node: &Node, out: &mut Vec<Family>) {
    let ports = ports::list(node);
    let by_port = |value: fn(&v1::Port) -> u64| {
        let labels = |port: &v1::Port| {
            vec![("port", port.name.clone()), ("role", v1::PortRole::word_of(port.role).to_owned())]
        };
        ports.iter().map(move |port| (labels(port), value(port))).collect::<Vec<_>>()
    };
    out.extend([
        Family::counter("port_rx_packets", "Packets received", by_port(|port| port.rx_packets)),
        Family::counter(
            "port_rx_bytes",
            "Bytes received, with Ethernet headers",
            by_port(|port| port.rx_bytes),
        ),
        Family::counter("port_tx_packets", "Packets sent", by_port(|port| port.tx_packets)),
        Family::counter("port_tx_bytes", "Bytes sent, with Ethernet headers", by_port(|port| port.tx_bytes)),
        Family::counter(
            "port_punts",
            "Packets received that went to the slow path",
            by_port(|port| port.punts),
        ),
        Family::counter(
            "port_consumed",
            "Packets received that were answered or replaced by fragments",
            by_port(|port| port.consumed),
        ),
        Family::counter(
            "port_originated",
            "Packets made because of what was received",
            by_port(|port| port.originated),
        ),
        Family::gauge(
            "port_up",
            "1 where packets can pass",
            by_port(|port| (port.admin_up && port.link_up).into()),
        ),
        Family::gauge(
            "port_frames_held",
            "Frames that the kernel holds for the port",
            by_port(|port| port.frames_held),
        ),
    ]);
    let losses =
        ports.iter().filter_map(|port| Some((port, port.kernel.as_ref()?))).flat_map(|(port, kernel)| {
            [
                ("rx_dropped", kernel.rx_dropped),
                ("rx_ring_full", kernel.rx_ring_full),
                ("rx_invalid", kernel.rx_invalid),
                ("tx_invalid", kernel.tx_invalid),
                ("xdp_dropped", kernel.xdp_dropped),
            ]
            .map(|(reason, packets)| {
                (vec![("port", port.name.clone()), ("reason", reason.to_owned())], packets)
            })
        });
    out.push(Family::counter(
        "port_kernel_lost",
        "Packets lost on the kernel's side of AF_XDP ports",
        losses,
    ));
    let drops = node.router.placements().iter().flat_map(|placement| {
        let totals = node.router.port_totals(placement.port).unwrap_or_default();
        let is_pod = node.pods.contains_key(&placement.name);
        DropReason::ALL.iter().filter_map(move |reason| {
            let packets = totals.drops[*reason as usize];
            let labels = vec![("port", placement.name.clone()), ("reason", reason.name().to_owned())];
            (packets > 0 || !is_pod).then_some((labels, packets))
        })
    });
    out.push(Family::counter("drops", "Packets dropped, by the port they came in by", drops));
}

fn of_tunnels(node: &Node, out: &mut Vec<Family>) {
    let tunnels = tunnels::list(node);
    let by_remote = |value: fn(&v1::Tunnel) -> u64| {
        tunnels
            .iter()
            .map(move |tunnel| (vec![("remote", tunnel.remote.clone())], value(tunnel)))
            .collect::<Vec<_>>()
    };
    let up = |tunnel: &v1::Tunnel| u64::from(tunnel.state() == v1::TunnelState::Up);
    out.extend([
        Family::counter("tunnel_tx_packets", "Packets encapsulated", by_remote(|tunnel| tunnel.tx_packets)),
        Family::counter("tunnel_tx_bytes", "Inner bytes encapsulated", by_remote(|tunnel| tunnel.tx_bytes)),
        Family::counter("tunnel_rx_packets", "Packets decapsulated", by_remote(|tunnel| tunnel.rx_packets)),
        Family::counter("tunnel_rx_bytes", "Inner bytes decapsulated", by_remote(|tunnel| tunnel.rx_bytes)),
        Family::gauge("tunnel_up", "1 where the peer can be reached", by_remote(up)),
    ]);
}

/// Those with a neighbour: what goes to pods and to the node itself is counted by their ports.
fn of_next_hops(node: &Node, out: &mut Vec<Family>) {
    let engine = node.router.engine();
    // A neighbour may be a route's next hop and a destination at once, by two adjacencies.
    let mut counted: BTreeMap<Labels, AdjacencyTotals> = BTreeMap::new();
    for hop in engine.hops() {
        let Some((port, address, _)) = hop.neighbor() else { continue };
        let Some(port) = engine.port_name(port) else { continue };
        let tunnel = hop.ends().map(|(_, remote)| remote.to_string()).unwrap_or_default();
        let labels = vec![("port", port.to_owned()), ("address", address.to_string()), ("tunnel", tunnel)];
        let (totals, more) = (counted.entry(labels).or_default(), node.router.hop_totals(&hop));
        totals.tx_packets += more.tx_packets;
        totals.tx_bytes += more.tx_bytes;
    }
    let each = |value: fn(&AdjacencyTotals) -> u64| {
        counted.iter().map(move |(labels, totals)| (labels.clone(), value(totals))).collect::<Vec<_>>()
    };
    out.extend([
        Family::counter(
            "next_hop_tx_packets",
            "Packets sent to a neighbour, by the tunnel that they are in",
            each(|totals| totals.tx_packets),
        ),
        Family::counter(
            "next_hop_tx_bytes",
            "Bytes sent to a neighbour, with Ethernet headers",
            each(|totals| totals.tx_bytes),
        ),
    ]);
}

fn of_workers(node: &Node, out: &mut Vec<Family>) {
    use crate::counters::LoopCounters;
    let by_worker = |value: fn(&LoopCounters) -> u64| {
        let workers = node.router.workers().iter().enumerate();
        let sample = move |(index, worker): (usize, &crate::router::WorkerHandle)| -> (Labels, u64) {
            (vec![("worker", index.to_string())], value(&worker.counters.run))
        };
        workers.map(sample).collect::<Vec<_>>()
    };
    let seconds = |value: fn(&LoopCounters) -> u64| {
        let samples = by_worker(value).into_iter();
        samples.map(|(labels, ns)| (labels, Duration::from_nanos(ns).as_secs_f64())).collect::<Vec<_>>()
    };
    let loads = |value: fn(&WorkerLoad) -> f64| {
        let workers = 0..node.router.workers().len();
        let sample = |index: usize| -> (Labels, u64) {
            (vec![("worker", index.to_string())], value(&node.worker_load(index)) as u64)
        };
        workers.map(sample).collect::<Vec<_>>()
    };
    let stages = node.router.workers().iter().enumerate().flat_map(|(index, worker)| {
        PathStage::ALL.iter().map(move |stage| {
            let labels = vec![("worker", index.to_string()), ("stage", stage.name().to_owned())];
            (labels, worker.counters.run.stage_cycles[*stage as usize].get())
        })
    });
    out.extend([
        Family::counter("worker_loops", "Turns of the main loop", by_worker(|run| run.loops.get())),
        Family::seconds("worker_busy_seconds", "Time spent on packets", seconds(|run| run.busy_ns.get())),
        Family::seconds(
            "worker_seconds",
            "Time since the worker's first turn",
            seconds(|run| run.total_ns.get()),
        ),
        Family::counter("worker_bursts", "Bursts that held a packet", by_worker(|run| run.bursts.get())),
        Family::counter(
            "worker_sleeps",
            "Times that it blocked for want of work",
            by_worker(|run| run.sleeps.get()),
        ),
        Family::counter(
            "worker_handoffs",
            "Packets handed to another worker",
            by_worker(|run| run.handoffs.get()),
        ),
        Family::counter(
            "worker_icmp_suppressed",
            "ICMP errors not sent because of the rate limit",
            by_worker(|run| run.icmp_suppressed.get()),
        ),
        Family::gauge(
            "worker_capacity_packets_per_second",
            "Packets a second that the worker can carry; 0 before it has carried any",
            loads(|load| load.capacity.map_or(0.0, |known| known.packets_per_second)),
        ),
        Family::gauge(
            "worker_headroom_packets_per_second",
            "Packets a second that may come on top of what comes now",
            loads(|load| load.headroom().unwrap_or(0.0)),
        ),
        Family::counter("worker_stage_cycles", "Cycles of sampled bursts, by stage", stages),
        Family::counter(
            "worker_sampled_packets",
            "Packets in the bursts whose cycles were counted",
            by_worker(|run| run.sampled_packets.get()),
        ),
        Family::gauge(
            "worker_held_packets",
            "Packets that wait for a neighbour",
            by_worker(|run| run.held.get()),
        ),
    ]);
}

fn of_tables(node: &Node, out: &mut Vec<Family>) {
    let engine = node.router.engine();
    let frames = node.router.frames();
    let in_workers: u64 =
        node.router.workers().iter().map(|worker| worker.counters.run.free_frames.get()).sum();
    let one = |value: u64| [(Labels::new(), value)];
    let (v4, v6) = engine.fib_lens();
    let by_family =
        [("4", v4), ("6", v6)].map(|(family, routes)| (vec![("family", family.to_owned())], routes as u64));
    let mut states: BTreeMap<&str, u64> =
        ["incomplete", "reachable", "stale", "delay", "probe", "failed", "permanent"]
            .map(|state| (state, 0))
            .into();
    for neighbor in neighbors::list(node) {
        *states.entry(v1::NeighborState::word_of(neighbor.state)).or_default() += 1;
    }
    let by_state = states.into_iter().map(|(state, count)| (vec![("state", state.to_owned())], count));
    out.extend([
        Family::gauge("frames", "Packet frames in all", one(frames.area().count().into())),
        Family::gauge(
            "frames_free",
            "Packet frames that nobody holds",
            one(frames.free_frames() as u64 + in_workers),
        ),
        Family::gauge("fib_routes", "Prefixes in the forwarding table", by_family),
        Family::gauge("fib_bytes", "Bytes of the forwarding tables", one(engine.fib_bytes() as u64)),
        Family::gauge("neighbors", "Neighbours that a route or a packet needs", by_state),
        Family::gauge("pods", "Attached pods", one(node.pods.len() as u64)),
        Family::gauge("generation", "Changes that workers have adopted", one(engine.generation())),
        Family::gauge("ready", "1 where every part is well", one(node.problems.is_empty().into())),
        Family::gauge(
            "build_info",
            "Version of the program",
            [(vec![("version", env!("CARGO_PKG_VERSION").to_owned())], 1)],
        ),
    ]);
}
