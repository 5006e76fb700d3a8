//! What the kernel last said of the neighbours on shared uplinks.
//!
//! The packet path needs the MAC address alone; people want the state, and since when.

use std::net::IpAddr;
use std::time::Instant;

use encap::MacAddr;

use crate::agent::neighbor_mirror::{NeighborEvent, NeighborState};
use crate::daemon::node::Node;
use crate::ids::PortId;
use crate::tables;

/// A neighbour as the kernel described it last.
#[derive(Clone, Copy, Debug)]
pub struct KernelNeighbor {
    /// Where to send to, while the state is usable.
    pub mac: Option<MacAddr>,
    /// The kernel's state.
    pub state: NeighborState,
    /// When the kernel last said that it was confirmed; else when it was first heard of.
    pub confirmed: Instant,
}

impl Node {
    /// Takes the kernel's news of a neighbour.
    pub(super) fn neighbor_changed(&mut self, port: PortId, event: &NeighborEvent, now: Instant) {
        let state = match event.mac.filter(|_| event.state.is_usable()) {
            Some(mac) => tables::NeighborState::Usable(mac),
            None if event.state == NeighborState::Failed => tables::NeighborState::Failed,
            None => tables::NeighborState::Unresolved,
        };
        self.router.neighbor(port, event.ip, state);
        let key = (port, event.ip);
        if event.state == NeighborState::Removed {
            self.kernel_neighbors.remove(&key);
            return;
        }
        let known = self.kernel_neighbors.entry(key).or_insert(KernelNeighbor {
            mac: None,
            state: event.state,
            confirmed: now,
        });
        known.mac = event.mac;
        known.state = event.state;
        if event.state == NeighborState::Reachable {
            known.confirmed = now;
        }
    }

    /// What the kernel last said of a neighbour.
    pub fn kernel_neighbor(&self, port: PortId, address: IpAddr) -> Option<&KernelNeighbor> {
        self.kernel_neighbors.get(&(port, address))
    }

    /// Forgets the neighbours of ports that are gone.
    pub(super) fn forget_gone_neighbors(&mut self) {
        let engine = self.router.engine();
        self.kernel_neighbors.retain(|(port, _), _| engine.port_name(*port).is_some());
    }
}
