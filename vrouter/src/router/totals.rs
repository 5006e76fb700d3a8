//! What the workers counted, taken together.

use core::net::{IpAddr, Ipv4Addr};

use super::Router;
use crate::ids::{PortId, TunnelId};
use crate::totals::{PortTotals, TunnelTotals};

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

    /// What a tunnel counted, over all workers.
    pub fn tunnel_totals(&self, remote: Ipv4Addr) -> TunnelTotals {
        let id = self.engine.tunnel_id(remote);
        let start = self.tunnel_starts.get(&id).copied().unwrap_or_default();
        self.count_tunnel(id).since(start)
    }

    pub(super) fn count_tunnel(&self, id: TunnelId) -> TunnelTotals {
        TunnelTotals::sum(id, self.handles.iter().map(|handle| &*handle.counters))
    }
}
