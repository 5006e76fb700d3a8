//! Adjacencies in use: each resolved hop once, however many groups lead there.
//!
//! A hop has its number for as long as a group uses it. Numbers may be given out again at once,
//! since groups and adjacencies are published together; the slots of neighbours may not, since
//! their table is changed in place: who is no longer wanted is told by
//! [`take_unwanted`](Adjacencies::take_unwanted) and let go after a grace period.

use core::net::{IpAddr, Ipv4Addr};
use std::collections::{BTreeMap, HashMap};

use crate::control::adjacency::{self, Hop};
use crate::control::neighbors::Neighbors;
use crate::control::path_mtus::Ends;
use crate::drop_reason::DropReason;
use crate::ids::{AdjacencyId, PortId, TunnelId};
use crate::tables::{Adjacency, Chunked, NeighborTable, Port};

/// All hops in use and the adjacencies built of them.
#[derive(Debug)]
pub struct Adjacencies {
    ids: HashMap<Hop, AdjacencyId>,
    /// By number, with the number of groups' members that use it.
    hops: Vec<Option<(Hop, usize)>>,
    free: Vec<AdjacencyId>,
    table: Chunked<Adjacency>,
    /// To be built before the next publication.
    stale: Vec<AdjacencyId>,
    /// Remote ends of tunnels, with the number of hops that lead there.
    tunnels: BTreeMap<Ipv4Addr, usize>,
    tunnels_changed: bool,
    /// Numbers that belong to another hop than before.
    reused: Vec<AdjacencyId>,
    /// Neighbours that hops have let go of.
    unwanted: Vec<(PortId, IpAddr, bool)>,
}

/// What adjacencies are built from.
pub struct Parts<'a> {
    /// Ports by number.
    pub ports: &'a [Option<std::sync::Arc<Port>>],
    /// Slots of neighbours.
    pub neighbors: &'a Neighbors,
    /// Numbers of tunnels.
    pub tunnel_id: &'a dyn Fn(Ipv4Addr) -> TunnelId,
    /// What was learned of the paths of tunnels.
    pub path_mtu: &'a dyn Fn(Ends) -> Option<u32>,
}

impl Default for Adjacencies {
    fn default() -> Self {
        let mut table = Chunked::default();
        table.set(Self::NOWHERE.index(), unused(), &unused());
        Adjacencies {
            ids: HashMap::new(),
            hops: vec![None],
            free: Vec::new(),
            table,
            stale: Vec::new(),
            tunnels: BTreeMap::new(),
            tunnels_changed: false,
            reused: Vec::new(),
            unwanted: Vec::new(),
        }
    }
}

fn unused() -> Adjacency {
    Adjacency::dropping(DropReason::NextHopUnresolved)
}

impl Adjacencies {
    /// The adjacency of groups that are not in use: it drops.
    pub const NOWHERE: AdjacencyId = AdjacencyId(0);

    /// The number of a hop, given if needed, with one more user.
    pub fn acquire(&mut self, hop: Hop, neighbors: &mut Neighbors, table: &NeighborTable) -> AdjacencyId {
        if let Some(id) = self.ids.get(&hop) {
            if let Some((_, users)) = &mut self.hops[id.index()] {
                *users += 1;
            }
            return *id;
        }
        let id = match self.free.pop() {
            Some(id) => {
                self.reused.push(id);
                id
            }
            None => {
                self.hops.push(None);
                AdjacencyId(self.hops.len() as u32 - 1)
            }
        };
        self.hops[id.index()] = Some((hop, 1));
        self.ids.insert(hop, id);
        self.stale.push(id);
        if let Some((port, address, keep)) = hop.neighbor() {
            neighbors.acquire(port, address, keep, table);
        }
        if let Hop::Ipip(_, remote, ..) = hop {
            *self.tunnels.entry(remote).or_default() += 1;
            self.tunnels_changed = true;
        }
        id
    }

    /// One user less.
    pub fn release(&mut self, id: AdjacencyId) {
        let Some((hop, users)) = &mut self.hops[id.index()] else { return };
        *users -= 1;
        if *users > 0 {
            return;
        }
        let hop = *hop;
        self.hops[id.index()] = None;
        self.ids.remove(&hop);
        self.free.push(id);
        self.table.set(id.index(), unused(), &unused());
        self.unwanted.extend(hop.neighbor());
        if let Hop::Ipip(_, remote, ..) = hop
            && let Some(users) = self.tunnels.get_mut(&remote)
        {
            *users -= 1;
            if *users == 0 {
                self.tunnels.remove(&remote);
                self.tunnels_changed = true;
            }
        }
    }

    /// Has everything that leads to a port built anew, since the port has changed.
    pub fn port_changed(&mut self, port: PortId) {
        self.rebuild(|hop| hop.port() == Some(port));
    }

    /// Has what leads to a neighbour built anew, since it has got its slot.
    pub fn neighbor_changed(&mut self, port: PortId, address: IpAddr) {
        self.rebuild(|hop| hop.neighbor().is_some_and(|(at, of, _)| (at, of) == (port, address)));
    }

    /// Has what leads through a tunnel built anew, since more is known of its path.
    pub fn path_changed(&mut self, ends: Ends) {
        self.rebuild(|hop| hop.ends() == Some(ends));
    }

    fn rebuild(&mut self, concerned: impl Fn(&Hop) -> bool) {
        for (index, hop) in self.hops.iter().enumerate() {
            if hop.is_some_and(|(hop, _)| concerned(&hop)) {
                self.stale.push(AdjacencyId(index as u32));
            }
        }
    }

    /// Whether something is to be [built](Self::build).
    pub fn is_stale(&self) -> bool {
        !self.stale.is_empty()
    }

    /// Builds what is new or concerned by a change, and returns all adjacencies.
    pub fn build(&mut self, parts: &Parts<'_>) -> Chunked<Adjacency> {
        let port_of = |id: PortId| {
            let port = parts.ports.get(id.index())?.as_ref()?;
            Some((port.mac, port.peer_mac, port.mtu))
        };
        let slot = |port, address| parts.neighbors.slot(port, address);
        for id in self.stale.drain(..) {
            if let Some((hop, _)) = &self.hops[id.index()] {
                let built = adjacency::build(hop, &port_of, &slot, parts.tunnel_id, parts.path_mtu);
                self.table.set(id.index(), built, &unused());
            }
        }
        self.table.clone()
    }

    /// Remote ends of tunnels, if they are not those of the last call.
    pub fn take_changed_tunnels(&mut self) -> bool {
        core::mem::take(&mut self.tunnels_changed)
    }

    /// Remote ends of tunnels.
    pub fn tunnels(&self) -> impl Iterator<Item = Ipv4Addr> + '_ {
        self.tunnels.keys().copied()
    }

    /// Neighbours that no adjacency leads to any more: (port, address, whether it was kept
    /// resolved). Workers may still use their slots.
    pub fn take_unwanted(&mut self) -> Vec<(PortId, IpAddr, bool)> {
        core::mem::take(&mut self.unwanted)
    }

    /// Numbers that belong to another hop than at the last call.
    pub fn take_reused(&mut self) -> Vec<AdjacencyId> {
        core::mem::take(&mut self.reused)
    }

    /// The number of a hop in use.
    pub fn id(&self, hop: &Hop) -> Option<AdjacencyId> {
        self.ids.get(hop).copied()
    }

    /// Every hop in use.
    pub fn hops(&self) -> impl Iterator<Item = Hop> + '_ {
        self.hops.iter().flatten().map(|(hop, _)| *hop)
    }
}
