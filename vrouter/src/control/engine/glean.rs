//! News of neighbours, and routes to those that only traffic asks for.
//!
//! ```text
//!   packet meets a connected prefix --glean--> host route to the neighbour --> slot, question
//!   the neighbour is known no more, or never answered --> the host route goes
//! ```

use core::net::IpAddr;

use fib::{AnyPrefix, RouteSource};

use super::{Engine, Vrf, host_prefix};
use crate::control::neighbors::NeighborRequest;
use crate::control::next_hop::NextHop;
use crate::ids::PortId;
use crate::tables::NeighborState;

/// Neighbours gleaned at a time: a scan of a connected prefix must not fill the FIB.
const MAX_GLEANED: usize = 4096;
impl Engine {
    /// Takes news of a neighbour from whoever resolves on its port.
    pub fn neighbor(&mut self, port: PortId, address: IpAddr, state: NeighborState) {
        self.neighbors.learn(port, address, state, &self.neighbor_table);
        if state == NeighborState::Unresolved && self.gleaned.remove(&(port, address)) {
            self.withdraw_gleaned(port, address);
        }
    }

    /// Packets wait for the next hop of a route: sees to it that it is asked for.
    pub fn resolve(&mut self, port: PortId, address: IpAddr) {
        self.neighbors.resolve(port, address);
    }

    /// Packets wait for a neighbour that only a connected prefix leads to: gives it a
    /// route of its own, and with that an adjacency.
    pub fn glean(&mut self, port: PortId, address: IpAddr) {
        let Some(name) = self.port_name(port).map(str::to_owned) else { return };
        if self.gleaned.len() >= MAX_GLEANED || !self.gleaned.insert((port, address)) {
            return;
        }
        let vrf = self.desired.vrf_of(&name);
        let gleaned = NextHop::Gleaned(name, address);
        self.announce_hop(vrf, host_prefix(address), RouteSource::Connected, gleaned);
    }

    pub(super) fn withdraw_gleaned(&mut self, port: PortId, address: IpAddr) {
        let vrf = self.port_vrf(port);
        let (host, Vrf { v4, v6 }) = (host_prefix(address), &self.vrfs[vrf.index()]);
        let best = match &host {
            AnyPrefix::V4(prefix) => v4.rib.best(prefix),
            AnyPrefix::V6(prefix) => v6.rib.best(prefix),
        };
        let first = best.and_then(|route| route.next_hops.first());
        if first.is_some_and(|path| matches!(&path.next_hop, NextHop::Gleaned(_, at) if *at == address)) {
            self.withdraw(vrf, host, RouteSource::Connected);
        }
    }

    /// Forgets gleaned neighbours that did not answer; traffic asks for them again.
    pub fn expire_gleaned(&mut self) {
        let failed: Vec<(PortId, IpAddr)> = self
            .gleaned
            .iter()
            .filter(|(port, address)| {
                let slot = self.neighbors.slot(*port, *address);
                self.neighbor_table.get(slot) == NeighborState::Failed
            })
            .copied()
            .collect();
        for (port, address) in failed {
            self.neighbor(port, address, NeighborState::Unresolved);
        }
    }

    /// Asks anew for every neighbour of a port.
    pub fn ask_again(&mut self, port: PortId) {
        self.neighbors.ask_again(port);
    }

    /// The next request for the resolver of a port.
    pub fn next_neighbor_request(&mut self) -> Option<NeighborRequest> {
        self.neighbors.next_request()
    }
}
