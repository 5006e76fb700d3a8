//! The engine as people want to see it: routes with what they come down to.
//!
//! Everything is read from the RIB, the FIB and the desired state at the time of the
//! call; nothing is kept for display. A walk through all routes is done in steps
//! ([`OrderedPrefixes`](crate::control::OrderedPrefixes), then [`Engine::routes_to`] each prefix), so
//! that the engine can work in between.

use core::net::{IpAddr, Ipv4Addr};

use encap::tunnel::{ipip, mtu};
use fib::{Address, AnyPrefix, Candidate, GroupId, Lost, Prefix, Rib, RouteSource};

use crate::control::adjacency::Hop;
use crate::control::desired::IpipMode;
use crate::control::engine::{Engine, Vrf};
use crate::control::groups::FamilyIndex;
use crate::control::neighbors::NeighborEntry;
use crate::control::next_hop::Path;
use crate::control::path_mtus::Ends;
use crate::control::resolution::{Resolution, Resolver};
use crate::ids::{AdjacencyId, NeighborSlot, PortId, Timestamp, TunnelId, VrfId};

/// One path of a candidate, and what it comes down to.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PathView {
    /// As the source gave it.
    pub path: Path,
    /// What it comes down to, by way of which routes, or why to nothing.
    pub resolution: Resolution,
}

/// A candidate route.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RouteView {
    /// Whose route it is.
    pub vrf: VrfId,
    /// What it matches.
    pub prefix: AnyPrefix,
    /// Who offers it.
    pub source: RouteSource,
    /// Administrative distance.
    pub distance: u8,
    /// The source's own measure.
    pub metric: u32,
    /// Its paths; at least one.
    pub paths: Vec<PathView>,
    /// Why it is not the one in use for its prefix; `None` if it is.
    pub lost: Option<Lost>,
    /// The group that the FIB has for the prefix, if this candidate is the one in use.
    pub group: Option<GroupId>,
}

/// A next-hop group of the forwarding table.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct GroupView {
    /// Whose routes lead there.
    pub vrf: VrfId,
    /// Its number.
    pub id: GroupId,
    /// How many prefixes of the forwarding table lead there.
    pub routes: usize,
    /// Its paths; at least one.
    pub paths: Vec<PathView>,
    /// What it comes down to: each hop with its share of
    /// [`WHOLE`](crate::control::resolution::WHOLE).
    pub hops: Vec<(Hop, u64)>,
}

impl Engine {
    /// All candidates of exactly this prefix in a VRF, the best first.
    pub fn routes_to(&self, vrf: VrfId, prefix: &AnyPrefix) -> Vec<RouteView> {
        let Some(Vrf { v4, v6 }) = self.vrfs.get(vrf.index()) else { return Vec::new() };
        match prefix {
            AnyPrefix::V4(of) => self.views(vrf, &v4.rib, of, *prefix, v4.fib.get(of)),
            AnyPrefix::V6(of) => self.views(vrf, &v6.rib, of, *prefix, v6.fib.get(of)),
        }
    }

    fn views<A: Address>(
        &self,
        vrf: VrfId,
        rib: &Rib<A, Path>,
        of: &Prefix<A>,
        prefix: AnyPrefix,
        group: Option<GroupId>,
    ) -> Vec<RouteView> {
        let Some(best) = rib.candidates(of).next() else { return Vec::new() };
        rib.candidates(of)
            .map(|candidate| self.view(vrf, prefix, candidate, candidate.lost_to(&best), group))
            .collect()
    }

    fn view(
        &self,
        vrf: VrfId,
        prefix: AnyPrefix,
        candidate: Candidate<'_, Path>,
        lost: Option<Lost>,
        group: Option<GroupId>,
    ) -> RouteView {
        let by_pool = candidate.next_hops.iter().any(|path| path.next_hop.is_by_pool());
        let mode = if by_pool { self.desired.pool_mode_in(vrf, &prefix) } else { IpipMode::Never };
        RouteView {
            vrf,
            prefix,
            source: candidate.source,
            distance: candidate.distance,
            metric: candidate.metric,
            paths: self.resolved(vrf, mode, candidate.next_hops),
            lost,
            group: group.filter(|_| lost.is_none()),
        }
    }

    fn resolved(&self, vrf: VrfId, mode: IpipMode, paths: &[Path]) -> Vec<PathView> {
        let port_id = |name: &str| self.port_id(name);
        let Vrf { v4, v6 } = &self.vrfs[vrf.index()];
        let resolver =
            Resolver { desired: &self.desired, vrf, rib4: &v4.rib, rib6: &v6.rib, port_id: &port_id };
        let resolved = |path: &Path| PathView {
            path: path.clone(),
            resolution: resolver.resolve(mode, core::slice::from_ref(path)),
        };
        paths.iter().map(resolved).collect()
    }

    /// Those next-hop groups in use whose number lies in `numbers`, and whether there are
    /// higher numbers.
    pub fn groups(&self, numbers: core::ops::Range<usize>) -> (Vec<GroupView>, bool) {
        let more = numbers.end < self.groups.numbers();
        let ids = numbers.filter_map(|number| GroupId::new(u32::try_from(number).ok()?));
        let views = ids.filter_map(|id| {
            let (key, routes) = self.groups.get(id)?;
            let Vrf { v4, v6 } = &self.vrfs[key.vrf.index()];
            let paths = match key.family {
                FamilyIndex::V4 => v4.rib.sets().get(key.set),
                FamilyIndex::V6 => v6.rib.sets().get(key.set),
            };
            let paths = self.resolved(key.vrf, key.mode, paths);
            Some(GroupView { vrf: key.vrf, id, routes, paths, hops: self.groups.hops(id).to_vec() })
        });
        (views.collect(), more)
    }

    /// The route that a packet to `address` takes in a VRF: what the FIB matches, explained by
    /// the RIB.
    pub fn route_to(&self, vrf: VrfId, address: IpAddr) -> Option<RouteView> {
        let Vrf { v4, v6 } = self.vrfs.get(vrf.index())?;
        match address {
            IpAddr::V4(address) => {
                let (prefix, group) = v4.fib.longest_match(address)?;
                Some(self.view(vrf, prefix.into(), v4.rib.best(&prefix)?, None, Some(group)))
            }
            IpAddr::V6(address) => {
                let (prefix, group) = v6.fib.longest_match(address)?;
                Some(self.view(vrf, prefix.into(), v6.rib.best(&prefix)?, None, Some(group)))
            }
        }
    }

    /// What a group comes down to now: each hop with its share of
    /// [`WHOLE`](crate::control::resolution::WHOLE).
    pub fn group_hops(&self, group: GroupId) -> &[(Hop, u64)] {
        self.groups.hops(group)
    }

    /// Next-hop groups in use.
    pub fn group_count(&self) -> usize {
        self.groups.len()
    }

    /// Prefixes in the forwarding tables.
    pub fn fib_len(&self) -> usize {
        let (v4, v6) = self.fib_lens();
        v4 + v6
    }

    /// Prefixes in the IPv4 and the IPv6 forwarding table.
    pub fn fib_lens(&self) -> (usize, usize) {
        let lens = self.vrfs.iter().map(|vrf| (vrf.v4.fib.len(), vrf.v6.fib.len()));
        lens.fold((0, 0), |(v4, v6), (more4, more6)| (v4 + more4, v6 + more6))
    }

    /// Bytes of the forwarding tables.
    pub fn fib_bytes(&self) -> usize {
        self.vrfs.iter().map(|vrf| vrf.v4.fib.memory_bytes() + vrf.v6.fib.memory_bytes()).sum()
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

    /// The number of the adjacency that packets of a hop take, by which workers count.
    pub fn adjacency_id(&self, hop: &Hop) -> Option<AdjacencyId> {
        self.groups.adjacencies.id(hop)
    }

    /// Adjacency numbers that belong to another hop than at the last call.
    pub(crate) fn take_reused_adjacencies(&mut self) -> Vec<AdjacencyId> {
        self.groups.adjacencies.take_reused()
    }

    /// Every hop in use.
    pub fn hops(&self) -> impl Iterator<Item = Hop> + '_ {
        self.groups.adjacencies.hops()
    }

    /// Bytes of the longest IP packet that a hop takes, encapsulation taken off; `None` where it
    /// leads to no port.
    pub fn hop_mtu(&self, hop: &Hop) -> Option<u32> {
        let link = self.port_mtu(hop.port()?)?;
        let Some(ends) = hop.ends() else { return Some(link) };
        let outer = self.path_mtus.get(ends).map_or(link, |path| path.min(link));
        Some(mtu::inner_mtu(outer, ipip::OVERHEAD as u16).into())
    }

    /// What routers on a tunnel's path have told: bytes of the longest outer packet, and until
    /// when that is believed.
    pub fn path_mtu_of(&self, ends: Ends) -> Option<(u32, Timestamp)> {
        Some((self.path_mtus.get(ends)?, self.path_mtus.until(ends)?))
    }

    /// The MTU of a port.
    pub fn port_mtu(&self, id: PortId) -> Option<u32> {
        Some(self.desired.ports.get(self.port_name(id)?)?.mtu)
    }
}
