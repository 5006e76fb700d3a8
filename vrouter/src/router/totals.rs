//! What the workers counted, taken together.

use core::net::{IpAddr, Ipv4Addr};

use super::Router;
use crate::control::adjacency::Hop;
use crate::ids::{AdjacencyId, PortId, TunnelId};
use crate::totals::{AdjacencyTotals, PortTotals, TunnelTotals};

impl Router {
    /// What a port counted since it was added; `None` where there is no such port.
    pub fn port_totals(&self, port: PortId) -> Option<PortTotals> {
        let placement = self.ports.iter().find(|placement| placement.port == port)?;
        let counters = self.handles.iter().map(|handle| &*handle.counters);
        Some(PortTotals::sum(port, counters).since(&placement.start))
    }

    /// Packets that wait for a neighbour now.
    pub fn waiting_for(&self, port: PortId, address: IpAddr) -> u32 {
        let Some(slot) = self.engine.neighbor_slot(port, address) else { return 0 };
        let waiting: u64 = self.handles.iter().map(|handle| handle.counters.waiting(slot).get()).sum();
        u32::try_from(waiting).unwrap_or(u32::MAX)
    }

    /// What was sent by a hop, over all workers, since it has been in use.
    pub fn hop_totals(&self, hop: &Hop) -> AdjacencyTotals {
        let Some(id) = self.engine.adjacency_id(hop) else { return AdjacencyTotals::default() };
        let start = self.adjacency_starts.get(&id).copied().unwrap_or_default();
        self.count_adjacency(id).since(start)
    }

    fn count_adjacency(&self, id: AdjacencyId) -> AdjacencyTotals {
        AdjacencyTotals::sum(id, self.handles.iter().map(|handle| &*handle.counters))
    }

    /// Notes what numbers that changed hands have counted so far.
    pub(super) fn note_starts(&mut self) {
        for id in self.engine.take_reused_tunnels() {
            self.tunnel_starts.insert(id, self.count_tunnel(id));
        }
        for id in self.engine.take_reused_adjacencies() {
            self.adjacency_starts.insert(id, self.count_adjacency(id));
        }
    }

    /// What a tunnel counted, over all workers.
    pub fn tunnel_totals(&self, remote: Ipv4Addr) -> TunnelTotals {
        let id = self.engine.tunnel_id(remote);
        let start = self.tunnel_starts.get(&id).copied().unwrap_or_default();
        self.count_tunnel(id).since(start)
    }

    fn count_tunnel(&self, id: TunnelId) -> TunnelTotals {
        TunnelTotals::sum(id, self.handles.iter().map(|handle| &*handle.counters))
    }
}
