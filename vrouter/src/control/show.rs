//! The engine as people want to see it: routes with what they come down to.
//!
//! Everything is read from the RIB, the FIB and the desired state at the time of the
//! call; nothing is kept for display.

use core::net::{IpAddr, Ipv4Addr};

use acl::RuleId;
use fib::{Address, AnyPrefix, Candidate, FibWriter, GroupId, Prefix, Rib, RouteSource};

use crate::control::adjacency::{Hop, NextHop, Resolver};
use crate::control::engine::Engine;
use crate::control::neighbors::NeighborEntry;
use crate::ids::{NeighborSlot, PortId, TunnelId};

/// A candidate route.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RouteView {
    /// What it matches.
    pub prefix: AnyPrefix,
    /// Who offers it.
    pub source: RouteSource,
    /// Administrative distance.
    pub distance: u8,
    /// The source's own measure.
    pub metric: u32,
    /// Next hops as the source gave them, and what each comes down to.
    pub next_hops: Vec<(NextHop, Hop)>,
    /// The best of its prefix.
    pub selected: bool,
    /// The group that the FIB has for the prefix, if this candidate is the best.
    pub group: Option<GroupId>,
}

impl Engine {
    /// All candidates that `wanted` lets pass, by prefix, the best of each first.
    pub fn routes(&self, wanted: impl Fn(&AnyPrefix) -> bool) -> Vec<RouteView> {
        let mut out = Vec::new();
        self.routes_of(&self.v4.rib, &self.v4.fib, AnyPrefix::V4, &wanted, &mut out);
        self.routes_of(&self.v6.rib, &self.v6.fib, AnyPrefix::V6, &wanted, &mut out);
        out
    }

    fn routes_of<A: Address>(
        &self,
        rib: &Rib<A, NextHop>,
        fib: &FibWriter<A>,
        wrap: fn(Prefix<A>) -> AnyPrefix,
        wanted: &impl Fn(&AnyPrefix) -> bool,
        out: &mut Vec<RouteView>,
    ) {
        let mut last = None;
        for (prefix, candidate) in rib.iter() {
            // The best candidate comes first.
            let first = last.replace(prefix) != Some(prefix);
            let wrapped = wrap(prefix);
            if !wanted(&wrapped) {
                continue;
            }
            let selected = first && candidate.distance != Candidate::<NextHop>::UNUSABLE;
            let group = fib.get(&prefix).filter(|_| selected);
            out.push(self.view(wrapped, candidate, selected, group));
        }
    }

    fn view(
        &self,
        prefix: AnyPrefix,
        candidate: &Candidate<NextHop>,
        selected: bool,
        group: Option<GroupId>,
    ) -> RouteView {
        let port_id = |name: &str| self.port_id(name);
        let resolver =
            Resolver { desired: &self.desired, rib4: &self.v4.rib, rib6: &self.v6.rib, port_id: &port_id };
        let resolved = |next_hop: &NextHop| (next_hop.clone(), resolver.resolve(&prefix, next_hop));
        RouteView {
            prefix,
            source: candidate.source,
            distance: candidate.distance,
            metric: candidate.metric,
            next_hops: candidate.next_hops.iter().map(resolved).collect(),
            selected,
            group,
        }
    }

    /// The route that a packet to `address` takes: what the FIB matches, explained by
    /// the RIB.
    pub fn route_to(&self, address: IpAddr) -> Option<RouteView> {
        match address {
            IpAddr::V4(address) => {
                let (prefix, group) = self.v4.fib.longest_match(address)?;
                Some(self.view(prefix.into(), self.v4.rib.best(&prefix)?, true, Some(group)))
            }
            IpAddr::V6(address) => {
                let (prefix, group) = self.v6.fib.longest_match(address)?;
                Some(self.view(prefix.into(), self.v6.rib.best(&prefix)?, true, Some(group)))
            }
        }
    }

    /// Prefixes in the forwarding tables.
    pub fn fib_len(&self) -> usize {
        self.v4.fib.len() + self.v6.fib.len()
    }

    /// Prefixes in the IPv4 and the IPv6 forwarding table.
    pub fn fib_lens(&self) -> (usize, usize) {
        (self.v4.fib.len(), self.v6.fib.len())
    }

    /// Bytes of the forwarding tables.
    pub fn fib_bytes(&self) -> usize {
        self.v4.fib.memory_bytes() + self.v6.fib.memory_bytes()
    }

    /// Neighbours that some route or packet needs, by port and address.
    pub fn neighbors(&self) -> impl Iterator<Item = NeighborEntry> + '_ {
        self.neighbors.entries(&self.neighbor_table)
    }

    /// What is known of a neighbour that some route or packet needs.
    pub fn neighbor_entry(&self, port: PortId, address: IpAddr) -> Option<NeighborEntry> {
        let slot = self.neighbor_slot(port, address)?;
        Some(NeighborEntry { port, address, state: self.neighbor_table.get(slot) })
    }

    /// The slot of such a neighbour.
    pub fn neighbor_slot(&self, port: PortId, address: IpAddr) -> Option<NeighborSlot> {
        self.neighbors.slot_of(port, address)
    }

    /// The number of the tunnel to a remote, by which workers count.
    pub fn tunnel_id(&self, remote: Ipv4Addr) -> TunnelId {
        self.tunnel_ids.of(remote)
    }

    /// Tunnel numbers that belong to another remote than at the last call.
    pub(crate) fn take_reused_tunnels(&mut self) -> Vec<TunnelId> {
        self.tunnel_ids.take_reused()
    }

    /// The name of a policy rule.
    pub fn rule_name(&self, id: u32) -> Option<&str> {
        self.rules.name(RuleId(id))
    }

    /// Every hop in use.
    pub fn hops(&self) -> impl Iterator<Item = Hop> + '_ {
        self.groups.all_hops()
    }

    /// The MTU of a port.
    pub fn port_mtu(&self, id: PortId) -> Option<u32> {
        Some(self.desired.ports.get(self.port_name(id)?)?.mtu)
    }
}
