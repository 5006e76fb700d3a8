//! `status` and `show ...`.

use vrouter::rpc::Word;
use vrouter::rpc::v1;
use vrouter::rpc::v1::{
    DropCount, Encap, IdleMode, ListDropsRequest, ListNeighborsRequest, ListPortsRequest, ListRoutesRequest,
    ListTunnelsRequest, ListWorkersRequest, Neighbor, NeighborState, Port, PortKind, PortMode, PortRole,
    Tunnel, TunnelState, Worker, WorkerState,
};

use crate::cli::{Format, Show};
use crate::connect::Client;
use crate::failure::Failure;
use crate::output::{self, Column, bytes, span};
use crate::{flows, pods, routes, rules};

pub(crate) async fn status(client: &mut Client, format: Format) -> Result<(), Failure> {
    let status = client.status(v1::StatusRequest {}).await?.into_inner();
    let unwell: Vec<String> = status
        .conditions
        .iter()
        .filter(|condition| !condition.ok || format == Format::Wide)
        .map(|condition| {
            let state = if condition.ok { "ok" } else { "not ok" };
            format!("{}: {state} {}", condition.name, condition.message)
        })
        .collect();
    let ports = match status.ports_down {
        0 => status.ports.to_string(),
        down => format!("{} ({down} down)", status.ports),
    };
    let facts = [
        ("Node", status.node.clone()),
        ("Ready", yes(status.ready)),
        ("Version", status.version.clone()),
        ("Process", format!("{}, up {}", status.pid, span(status.uptime_seconds))),
        ("Configuration", status.config_file.clone()),
        ("Generation", status.generation.to_string()),
        ("Workers", status.workers.to_string()),
        ("Ports", ports),
        ("Pods", status.pods.to_string()),
        ("Pools", status.pools.to_string()),
        ("Routes", status.routes.to_string()),
        ("Neighbors", status.neighbors.to_string()),
        ("Tunnels", status.tunnels.to_string()),
        ("Packets", format!("{} in, {} out, {} dropped", status.rx_packets, status.tx_packets, status.drops)),
        ("Conditions", unwell.join("; ")),
    ];
    output::one(&status, &facts, format)
}

pub(crate) async fn show(client: &mut Client, what: Show, format: Format) -> Result<(), Failure> {
    match what {
        Show::Ports => {
            let reply = client.list_ports(ListPortsRequest {}).await?.into_inner();
            output::list(&reply.ports, &PORTS, format)
        }
        Show::Routes { prefix, longer, within, source, selected, vrf } => {
            let text = |net: Option<ipnet::IpNet>| net.map(|net| net.to_string()).unwrap_or_default();
            let (prefix, within) = if longer { (None, prefix) } else { (prefix, within) };
            let request = ListRoutesRequest {
                within: text(within),
                source: source.unwrap_or_default(),
                selected_only: selected,
                prefix: text(prefix),
                vrf: vrf.unwrap_or_default(),
            };
            routes::list(client, request, format).await
        }
        Show::Nexthops => routes::groups(client, format).await,
        Show::Neighbors => {
            let reply = client.list_neighbors(ListNeighborsRequest {}).await?.into_inner();
            output::list(&reply.neighbors, &NEIGHBORS, format)
        }
        Show::Drops { all } => {
            let request = ListDropsRequest { include_zero: all };
            let reply = client.list_drops(request).await?.into_inner();
            output::list(&reply.drops, &DROPS, format)
        }
        Show::Workers => {
            let reply = client.list_workers(ListWorkersRequest {}).await?.into_inner();
            workers(&reply.workers, format)
        }
        Show::Memory => memory(client, format).await,
        Show::Tunnels => {
            let reply = client.list_tunnels(ListTunnelsRequest {}).await?.into_inner();
            output::list(&reply.tunnels, &TUNNELS, format)
        }
        Show::Pods => pods::list(client, format).await,
        Show::Policy { name, tier, namespace, endpoint, counted } => {
            let request = v1::ListPoliciesRequest {
                tier: tier.unwrap_or_default(),
                namespace: namespace.unwrap_or_default(),
                name: name.unwrap_or_default(),
                endpoint: endpoint.unwrap_or_default(),
            };
            rules::list(client, request, counted, format).await
        }
        Show::Flows { headers, phase, both_ways, count } => {
            let request = v1::ListFlowsRequest {
                filter: Some(headers.packet_filter()),
                pod: headers.pod.unwrap_or_default(),
                rule: headers.rule.unwrap_or_default(),
                phase: phase.unwrap_or_default(),
                both_ways,
                count,
            };
            flows::list(client, request, format).await
        }
        Show::Denials { headers, logged, follow, count } => {
            let request = v1::ListFlowLogRequest {
                follow,
                logged,
                filter: Some(headers.packet_filter()),
                pod: headers.pod.unwrap_or_default(),
                rule: headers.rule.unwrap_or_default(),
                count,
            };
            flows::denials(client, request, format).await
        }
    }
}

pub(crate) async fn set_workers(client: &mut Client, count: u32, format: Format) -> Result<(), Failure> {
    let reply = client.set_workers(v1::SetWorkersRequest { count }).await?.into_inner();
    let facts =
        [("Workers", format!("{count} of {}", reply.most)), ("Queues moved", reply.moved.to_string())];
    output::one(&reply, &facts, format)
}

/// Two tables: what the workers do, and what a packet costs them by stage.
fn workers(workers: &[Worker], format: Format) -> Result<(), Failure> {
    output::list(workers, &WORKERS, format)?;
    if matches!(format, Format::Table | Format::Wide) && workers.iter().any(|w| w.cycles_per_packet > 0.0) {
        output::line("\nCycles a packet, by stage:")?;
        output::list(workers, &STAGES, format)?;
    }
    Ok(())
}

fn cycles(worker: &Worker, stage: &str) -> String {
    let found = worker.stages.iter().find(|cycles| cycles.stage == stage);
    found.map_or_else(String::new, |cycles| format!("{:.1}", cycles.cycles_per_packet))
}

fn headroom(worker: &Worker) -> String {
    match (worker.capacity_packets_per_second > 0.0, worker.capacity_at_least) {
        (false, _) => String::new(),
        (true, false) => format!("{:.2} Mpps", worker.headroom_mpps),
        (true, true) => format!(">{:.2} Mpps", worker.headroom_mpps),
    }
}

async fn memory(client: &mut Client, format: Format) -> Result<(), Failure> {
    let memory = client.memory(v1::MemoryRequest {}).await?.into_inner();
    let held: Vec<String> =
        memory.held.iter().map(|held| format!("{} {}", held.place, held.frames)).collect();
    let pages = match memory.huge_page_bytes {
        0 => "plain pages".to_owned(),
        size => format!("huge pages of {}", bytes(size)),
    };
    let facts = [
        (
            "Frames",
            format!("{} of {} B, {} free", memory.frames_total, memory.frame_size, memory.frames_free),
        ),
        ("Held by", held.join(", ")),
        ("Frame area", format!("{}, {pages}", bytes(memory.area_bytes))),
        ("Forwarding tables", bytes(memory.fib_bytes)),
        ("Resident", bytes(memory.rss_bytes)),
    ];
    output::one(&memory, &facts, format)
}

fn yes(value: bool) -> String {
    if value { "yes" } else { "no" }.to_owned()
}

fn link(port: &Port) -> String {
    match (port.admin_up, port.link_up) {
        (true, true) => "up",
        (true, false) => "no link",
        (false, _) => "down",
    }
    .to_owned()
}

/// Losses on the kernel's side. Empty rings are none (a packet that finds no frame counts
/// as dropped), nor is what was left to the kernel on purpose.
fn kernel_losses(port: &Port) -> u64 {
    port.kernel.as_ref().map_or(0, |kernel| {
        kernel.rx_dropped + kernel.rx_ring_full + kernel.rx_invalid + kernel.tx_invalid + kernel.xdp_dropped
    })
}

fn numbers(list: &[u32]) -> String {
    let list: Vec<String> = list.iter().map(u32::to_string).collect();
    list.join(",")
}

const PORTS: [Column<Port>; 21] = [
    Column::number("ID", |p| p.id.to_string()),
    Column::words("NAME", |p| p.name.clone()),
    Column::words("KIND", |p| PortKind::word_of(p.kind).to_owned()),
    Column::words("ROLE", |p| PortRole::word_of(p.role).to_owned()),
    Column::words("STATE", link),
    Column::words("MODE", |p| PortMode::word_of(p.mode).to_owned()),
    Column::number("MTU", |p| p.mtu.to_string()),
    Column::number("RX", |p| p.rx_packets.to_string()),
    Column::number("TX", |p| p.tx_packets.to_string()),
    Column::number("DROPS", |p| p.drops.to_string()),
    Column::number("KERNEL-LOSS", |p| kernel_losses(p).to_string()),
    Column::words("POD", |p| p.pod.clone()),
    Column::wide(Column::words("DEVICE", |p| p.device.clone())),
    Column::wide(Column::words("MAC", |p| p.mac.clone())),
    Column::wide(Column::words("ADDRESSES", |p| p.addresses.join(","))),
    Column::wide(Column::words("WORKERS", |p| numbers(&p.workers))),
    Column::wide(Column::words("VRF", |p| p.vrf.clone())),
    Column::wide(Column::number("RX-BYTES", |p| p.rx_bytes.to_string())),
    Column::wide(Column::number("TX-BYTES", |p| p.tx_bytes.to_string())),
    Column::wide(Column::number("HELD", |p| p.frames_held.to_string())),
    Column::wide(Column::words("WHY-MODE", |p| p.mode_reason.clone())),
];

const NEIGHBORS: [Column<Neighbor>; 7] = [
    Column::words("ADDRESS", |n| n.address.clone()),
    Column::words("MAC", |n| n.mac.clone()),
    Column::words("STATE", |n| NeighborState::word_of(n.state).to_owned()),
    Column::words("PORT", |n| n.port.clone()),
    Column::words("AGE", |n| span(n.age_seconds)),
    Column::words("SOURCE", |n| n.source.clone()),
    Column::wide(Column::number("QUEUED", |n| n.queued.to_string())),
];

const DROPS: [Column<DropCount>; 4] = [
    Column::words("REASON", |d| d.reason.clone()),
    Column::words("PORT", |d| d.port.clone()),
    Column::number("PACKETS", |d| d.packets.to_string()),
    Column::words("MEANING", |d| d.description.clone()),
];

const WORKERS: [Column<Worker>; 13] = [
    Column::number("ID", |w| w.id.to_string()),
    Column::number("CORE", |w| w.core.to_string()),
    Column::words("STATE", |w| WorkerState::word_of(w.state).to_owned()),
    Column::words("IDLE", |w| IdleMode::word_of(w.idle).to_owned()),
    Column::number("BUSY", |w| format!("{:.1}%", w.busy * 100.0)),
    Column::number("PACKETS", |w| w.packets.to_string()),
    Column::number("MPPS", |w| format!("{:.3}", w.packets_per_second / 1e6)),
    Column::number("PER-BURST", |w| format!("{:.1}", w.packets_per_burst)),
    Column::number("HEADROOM", headroom),
    Column::words("QUEUES", |w| {
        let queues: Vec<String> =
            w.queues.iter().map(|queue| format!("{}:{}", queue.port, queue.queue)).collect();
        queues.join(",")
    }),
    Column::wide(Column::number("LOOPS", |w| w.loops.to_string())),
    Column::wide(Column::number("BURSTS", |w| w.bursts.to_string())),
    Column::wide(Column::number("HANDED-OFF", |w| w.handed_off.to_string())),
];

const STAGES: [Column<Worker>; 17] = [
    Column::number("ID", |w| w.id.to_string()),
    Column::number("ALL", |w| format!("{:.1}", w.cycles_per_packet)),
    Column::number("RECEIVE", |w| cycles(w, "receive")),
    Column::number("PARSE", |w| cycles(w, "parse")),
    Column::number("GATEWAY", |w| cycles(w, "gateway")).wide(),
    Column::number("HOOKS", |w| cycles(w, "hooks")).wide(),
    Column::number("DECAP", |w| cycles(w, "decap")),
    Column::number("ANTI-SPOOF", |w| cycles(w, "anti-spoof")),
    Column::number("FLOWS", |w| cycles(w, "flows")),
    Column::number("SRC-POLICY", |w| cycles(w, "source-policy")),
    Column::number("LOOKUP", |w| cycles(w, "lookup")),
    Column::number("DST-POLICY", |w| cycles(w, "dest-policy")),
    Column::number("TTL-MTU", |w| cycles(w, "ttl-mtu")),
    Column::number("ENCAP", |w| cycles(w, "encap")),
    Column::number("REWRITE", |w| cycles(w, "rewrite")),
    Column::number("OUTPUT", |w| cycles(w, "output")),
    Column::number("TRANSMIT", |w| cycles(w, "transmit")),
];

const TUNNELS: [Column<Tunnel>; 13] = [
    Column::words("KIND", |t| Encap::word_of(t.kind).to_owned()),
    Column::words("LOCAL", |t| t.local.clone()),
    Column::words("REMOTE", |t| t.remote.clone()),
    Column::words("STATE", |t| TunnelState::word_of(t.state).to_owned()),
    Column::words("PORT", |t| t.port.clone()),
    Column::number("MTU", |t| t.mtu.to_string()),
    Column::words("PATH-MTU", |t| match t.path_mtu {
        0 => String::new(),
        learned => format!("{learned} for {}", span(t.path_mtu_seconds)),
    }),
    Column::number("RX", |t| t.rx_packets.to_string()),
    Column::number("TX", |t| t.tx_packets.to_string()),
    Column::words("NEIGHBOR", |t| match t.neighbor.as_str() {
        "" => String::new(),
        address => format!("{address} {}", NeighborState::word_of(t.neighbor_state)),
    }),
    Column::wide(Column::number("RX-BYTES", |t| t.rx_bytes.to_string())),
    Column::wide(Column::number("TX-BYTES", |t| t.tx_bytes.to_string())),
    Column::wide(Column::words("SOURCE", |t| t.source.clone())),
];
