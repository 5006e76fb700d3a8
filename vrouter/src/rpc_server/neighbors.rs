//! `ListNeighbors`: whom the router knows on its links, and how well.
//!
//! On shared uplinks the kernel knows; on exclusive ones the router's own machine.

use std::net::IpAddr;
use std::time::Instant;

use crate::agent::neighbor_mirror::NeighborState as KernelState;
use crate::clock;
use crate::daemon::Node;
use crate::ids::PortId;
use crate::neighbor::State as OwnState;
use crate::rpc::v1;
use crate::tables::NeighborState;

/// Neighbours that a route or a packet needs.
pub(crate) fn list(node: &Node) -> Vec<v1::Neighbor> {
    node.router.engine().neighbors().map(|entry| look(node, entry.port, entry.address)).collect()
}

/// What is known of a neighbour; without a state where nobody needed it yet.
pub(super) fn look(node: &Node, port: PortId, address: IpAddr) -> v1::Neighbor {
    let engine = node.router.engine();
    let mut neighbor = v1::Neighbor {
        address: address.to_string(),
        port: engine.port_name(port).unwrap_or_default().to_owned(),
        queued: node.router.waiting_for(port, address),
        ..v1::Neighbor::default()
    };
    if let Some(cache) = node.router.neighbor_ports().cache(port) {
        neighbor.source = if address.is_ipv4() { "arp" } else { "nd" }.to_owned();
        if let Some(entry) = cache.entry(address) {
            neighbor.set_state(own_state(entry.state));
            neighbor.mac = entry.mac.map(|mac| mac.to_string()).unwrap_or_default();
            neighbor.age_seconds = clock::now().since(entry.since).as_secs();
            return neighbor;
        }
    } else {
        neighbor.source = "kernel".to_owned();
        if let Some(known) = node.kernel_neighbor(port, address) {
            neighbor.set_state(kernel_state(known.state));
            neighbor.mac = known.mac.map(|mac| mac.to_string()).unwrap_or_default();
            if neighbor.state() == v1::NeighborState::Permanent {
                neighbor.source = "static".to_owned();
            } else {
                neighbor.age_seconds = Instant::now().duration_since(known.confirmed).as_secs();
            }
            return neighbor;
        }
    }
    // Wanted, and nobody has said anything of it yet; or not even wanted.
    if let Some(entry) = engine.neighbor_entry(port, address) {
        let failed = entry.state == NeighborState::Failed;
        neighbor.set_state(if failed { v1::NeighborState::Failed } else { v1::NeighborState::Incomplete });
    }
    neighbor
}

fn own_state(state: OwnState) -> v1::NeighborState {
    match state {
        OwnState::Incomplete => v1::NeighborState::Incomplete,
        OwnState::Reachable => v1::NeighborState::Reachable,
        OwnState::Stale => v1::NeighborState::Stale,
        OwnState::Delay => v1::NeighborState::Delay,
        OwnState::Probe => v1::NeighborState::Probe,
        OwnState::Failed => v1::NeighborState::Failed,
    }
}

fn kernel_state(state: KernelState) -> v1::NeighborState {
    match state {
        KernelState::Reachable => v1::NeighborState::Reachable,
        KernelState::Stale => v1::NeighborState::Stale,
        KernelState::Delay => v1::NeighborState::Delay,
        KernelState::Probe => v1::NeighborState::Probe,
        KernelState::Permanent | KernelState::NoArp => v1::NeighborState::Permanent,
        KernelState::Incomplete | KernelState::Removed => v1::NeighborState::Incomplete,
        KernelState::Failed => v1::NeighborState::Failed,
    }
}

/// Whether packets may be sent to a neighbour in this state.
pub(super) fn is_usable(state: v1::NeighborState) -> bool {
    use v1::NeighborState::{Delay, Permanent, Probe, Reachable, Stale};
    matches!(state, Delay | Permanent | Probe | Reachable | Stale)
}
