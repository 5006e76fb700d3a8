//! The engine: applies events and brings the tables up to date.
//!
//! Everything is derived: events change the desired state and the RIB;
//! [`Engine::commit`] resolves what changed, publishes, and changes the FIB. Events
//! that come together are committed together.
//!
//! | file | what |
//! |---|---|
//! | here | events, ports, routes |
//! | `ports` | ports, their numbers and the routes that they bring |
//! | `glean` | news of neighbours, routes to those that traffic asks for |
//! | `host_endpoints` | which host endpoint is at which port |
//! | `policy` | programs of pod ports, and flows that must be asked about again |
//! | `tunnels` | from whom tunnel packets are taken, and what is known of their paths |
//! | `vrfs` | routing tables beside the default one |
//! | `commit` | from the desired state to tables and FIB |

mod commit;
mod glean;
mod host_endpoints;
#[cfg(test)]
mod incremental;
mod policy;
mod ports;
mod tunnels;
mod vrfs;

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use fib::{Address, AnyPrefix, Candidate, Change, FibWriter, GroupId, Prefix, Rib, RouteSource};

use crate::control::desired::{Desired, Encap, RouteSpec, RouteTarget};
use crate::control::event::Event;
use crate::control::groups::{FamilyIndex, Groups};
use crate::control::neighbors::Neighbors;
use crate::control::next_hop::{NextHop, Path};
use crate::control::path_mtus::PathMtus;
use crate::control::tunnel_ids::TunnelIds;
use crate::drop_reason::DropReason;
use crate::ids::{MAX_PORTS, PortId, Timestamp, VrfId};
use crate::publish::{Epoch, Publisher};
use crate::sys::huge_pages;
use crate::tables::{
    FlowTable, GATEWAY_V4, GATEWAY_V6, NeighborTable, Port, Tables, TraceFilter, TunnelPeers,
};
pub use host_endpoints::HostPorts;
use policy::PolicySide;
use tunnels::TunnelEnds;

/// Why an event was refused. Nothing was changed.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EngineError {
    /// All port numbers are in use.
    #[error("all {MAX_PORTS} port numbers are in use")]
    TooManyPorts,
    /// Two ports with the same address.
    #[error("address {address} of port {port} belongs to port {owner} already")]
    AddressTaken {
        /// The address.
        address: IpAddr,
        /// Who asked for it.
        port: String,
        /// Who has it.
        owner: String,
    },
    /// Two ports of one workload: `pod` and `default/pod` are the same.
    #[error("port {0} is of the same workload as port {1}")]
    EndpointTaken(String, String),
    /// No such port.
    #[error("there is no port {0}")]
    NoSuchPort(String),
    /// No such pool.
    #[error("there is no pool {0}")]
    NoSuchPool(ipnet::IpNet),
    /// No such route.
    #[error("source {1} has no route to {0}")]
    NoSuchRoute(AnyPrefix, RouteSource),
    /// A route without next hops.
    #[error("route to {0} has no next hop")]
    NoNextHops(AnyPrefix),
    /// A next hop of the other address family (RFC 8950 is not built).
    #[error("next hop {1} of route {0} is of the other address family")]
    MixedFamilies(AnyPrefix, IpAddr),
    /// A path that no flow is to take; leave it out instead.
    #[error("next hop {1} of route {0} has weight 0")]
    NoWeight(AnyPrefix, IpAddr),
    /// No such VRF.
    #[error("there is no VRF {0}")]
    NoSuchVrf(String),
    /// All VRF numbers are in use.
    #[error("all {} VRFs are in use", VrfId::COUNT)]
    TooManyVrfs,
    /// Ports do not move between VRFs.
    #[error("port {0} exists already: a port is in one VRF all its life")]
    PortBound(String),
    /// Only uplinks can be in a VRF of their own.
    #[error("port {0} cannot be in a VRF: only exclusive uplinks can")]
    NotForVrf(String),
    /// Tunnels are the default VRF's.
    #[error("route to {0} of a VRF asks for a tunnel: only the default VRF has tunnels")]
    TunnelInVrf(AnyPrefix),
    /// All numbers of next-hop groups are in use.
    #[error("all {0} next-hop groups are in use")]
    GroupsFull(usize),
    /// The FIB's memory limit is reached.
    #[error("the FIB is full: {0}")]
    FibFull(String),
}

/// One address family's RIB and FIB.
pub(super) struct Family<A: Address> {
    pub(super) rib: Rib<A, Path>,
    pub(super) fib: FibWriter<A>,
    vrf: VrfId,
    index: FamilyIndex,
    pub(super) wrap: fn(Prefix<A>) -> AnyPrefix,
    /// An address as one of this family, if it is.
    narrow: fn(IpAddr) -> Option<A>,
    sealed: Option<(Epoch, fib::Retired)>,
    /// What a commit works on; kept for their memory.
    changes: Vec<Change<A>>,
    plan: Vec<(Prefix<A>, Option<GroupId>)>,
}

impl<A: Address> Family<A> {
    fn new(
        vrf: VrfId,
        index: FamilyIndex,
        wrap: fn(Prefix<A>) -> AnyPrefix,
        narrow: fn(IpAddr) -> Option<A>,
    ) -> Self {
        let mut fib = FibWriter::new();
        fib.advise_memory(huge_pages::advise);
        Family {
            rib: Rib::new(),
            fib,
            vrf,
            index,
            wrap,
            narrow,
            sealed: None,
            changes: Vec::new(),
            plan: Vec::new(),
        }
    }
}

/// The routes of one VRF.
pub(super) struct Vrf {
    pub(super) v4: Family<Ipv4Addr>,
    pub(super) v6: Family<Ipv6Addr>,
}

impl Vrf {
    fn new(id: VrfId) -> Self {
        let narrow4 = |address| match address {
            IpAddr::V4(address) => Some(address),
            IpAddr::V6(_) => None,
        };
        let narrow6 = |address| match address {
            IpAddr::V4(_) => None,
            IpAddr::V6(address) => Some(address),
        };
        Vrf {
            v4: Family::new(id, FamilyIndex::V4, AnyPrefix::V4, narrow4),
            v6: Family::new(id, FamilyIndex::V6, AnyPrefix::V6, narrow6),
        }
    }
}

/// What changed since the last commit, beside routes.
#[derive(Default)]
struct Changed {
    /// Something that tables hold.
    tables: bool,
    /// Addresses of uplinks.
    links: bool,
    /// Which port is the host's.
    host: bool,
    /// Peers by configuration.
    peers: bool,
    /// Pools with these prefixes.
    pools: Vec<ipnet::IpNet>,
    /// Ports that appeared or went, and uplinks that came up or went down.
    ports: BTreeSet<String>,
    /// Whether any uplink came up or went down.
    states: bool,
}

/// The writer of everything that workers read.
pub struct Engine {
    pub(super) desired: Desired,
    /// By number; the first is the default one.
    pub(super) vrfs: Vec<Vrf>,
    pub(super) groups: Groups,
    pub(super) neighbors: Neighbors,
    pub(super) neighbor_table: Arc<NeighborTable>,
    policy: PolicySide,
    ids: BTreeMap<String, PortId>,
    retired_ids: Vec<PortId>,
    next_id: u16,
    pub(super) tunnel_ids: TunnelIds,
    trace: Vec<TraceFilter>,
    publisher: Publisher<Tables>,
    generation: u64,
    changed: Changed,
    /// Ports as tables hold them.
    ports: Vec<Option<Arc<Port>>>,
    tunnel_ends: TunnelEnds,
    tunnel_peers: Arc<TunnelPeers>,
    pub(super) path_mtus: PathMtus,
    gleaned: BTreeSet<(PortId, IpAddr)>,
    /// The paths of a route on its way into the RIB; kept for its memory.
    paths: Vec<Path>,
}

impl Engine {
    /// An engine of a router with these flows, and the first tables; `make` turns them into a publisher.
    pub fn new(flows: Arc<FlowTable>, make: impl FnOnce(Arc<Tables>) -> Publisher<Tables>) -> Self {
        let default = Vrf::new(VrfId::DEFAULT);
        let neighbor_table = Arc::new(NeighborTable::new());
        let policy = PolicySide::new(flows);
        let (fib4, fib6) = (default.v4.fib.reader(), default.v6.fib.reader());
        let tables = Tables::empty(fib4, fib6, neighbor_table.clone(), policy.tables(&[]));
        let mut engine = Engine {
            desired: Desired::default(),
            vrfs: vec![default],
            groups: Groups::default(),
            neighbors: Neighbors::default(),
            neighbor_table,
            policy,
            ids: BTreeMap::new(),
            retired_ids: Vec::new(),
            next_id: 0,
            tunnel_ids: TunnelIds::default(),
            trace: Vec::new(),
            publisher: make(Arc::new(tables)),
            generation: 0,
            changed: Changed::default(),
            ports: Vec::new(),
            tunnel_ends: TunnelEnds::default(),
            tunnel_peers: Arc::default(),
            path_mtus: PathMtus::default(),
            gleaned: BTreeSet::new(),
            paths: Vec::new(),
        };
        engine.announce_local(IpAddr::V4(GATEWAY_V4));
        engine.announce_local(IpAddr::V6(GATEWAY_V6));
        engine
    }

    /// Applies one event to the desired state. Call [`commit`](Self::commit) after the last one.
    ///
    /// # Errors
    /// The event is refused whole, and nothing changes.
    pub fn apply(&mut self, event: Event) -> Result<(), EngineError> {
        match event {
            Event::PutPort(spec) => self.put_port(spec)?,
            Event::RemovePort(name) => self.remove_port(&name)?,
            Event::PutPool(pool) => {
                self.changed.pools.push(pool.cidr);
                self.desired.pools.insert(pool.cidr, pool);
            }
            Event::RemovePool(cidr) => {
                self.desired.pools.remove(&cidr).ok_or(EngineError::NoSuchPool(cidr))?;
                self.changed.pools.push(cidr);
            }
            Event::BindPort { port, vrf } => self.bind_port(port, vrf)?,
            Event::PutRoute(route) => self.put_route(VrfId::DEFAULT, route)?,
            Event::RemoveRoute(prefix, source) => self.remove_route(VrfId::DEFAULT, prefix, source)?,
            Event::PutVrfRoute(vrf, route) => self.put_route(self.named_vrf(&vrf)?, route)?,
            Event::RemoveVrfRoute(vrf, prefix, source) => {
                self.remove_route(self.named_vrf(&vrf)?, prefix, source)?;
            }
            Event::BeginResync(source) => {
                for vrf in &mut self.vrfs {
                    vrf.v4.rib.begin_resync(source);
                    vrf.v6.rib.begin_resync(source);
                }
            }
            Event::BeginResyncUntil(source, deadline) => {
                let deadline = core::time::Duration::from_nanos(deadline.0);
                for vrf in &mut self.vrfs {
                    vrf.v4.rib.begin_resync_until(source, deadline);
                    vrf.v6.rib.begin_resync_until(source, deadline);
                }
            }
            Event::EndResync(source) => {
                for vrf in &mut self.vrfs {
                    vrf.v4.rib.end_resync(source);
                    vrf.v6.rib.end_resync(source);
                }
            }
            Event::PutPeer(peer) => {
                self.desired.peers.insert(peer);
                self.changed.peers = true;
            }
            Event::RemovePeer(peer) => {
                self.desired.peers.remove(&peer);
                self.tunnel_ends.forget(peer);
                self.changed.peers = true;
            }
            Event::SetBlocks(blocks) => self.set_blocks(blocks),
            Event::SetNode(name) => self.set_node(name),
            Event::SetFailsafe(ports) => self.set_failsafe(ports),
            Event::SetSourceSpoofing(allowed) => self.set_source_spoofing(allowed),
            Event::PutPolicy(resource) => self.put_policy(&resource),
            Event::RemovePolicy(resource) => self.remove_policy(&resource),
            Event::SetTrace(filters) => {
                self.trace = filters;
                self.changed.tables = true;
            }
        }
        Ok(())
    }

    fn announce_local(&mut self, address: IpAddr) {
        self.announce_hop(VrfId::DEFAULT, host_prefix(address), RouteSource::Connected, NextHop::Local);
    }

    fn announce_hop(&mut self, vrf: VrfId, prefix: AnyPrefix, source: RouteSource, next_hop: NextHop) {
        // One next hop is never none, the only thing that is refused.
        let _ = self.announce(vrf, prefix, Candidate::new(source, &[next_hop.into()]));
    }

    fn announce(
        &mut self,
        vrf: VrfId,
        prefix: AnyPrefix,
        candidate: Candidate<'_, Path>,
    ) -> Result<(), EngineError> {
        let vrf = &mut self.vrfs[vrf.index()];
        let announced = match prefix {
            AnyPrefix::V4(to) => vrf.v4.rib.announce(to, candidate),
            AnyPrefix::V6(to) => vrf.v6.rib.announce(to, candidate),
        };
        announced.map(drop).map_err(|_| EngineError::NoNextHops(prefix))
    }

    /// Withdraws a route; whether there was one.
    fn withdraw(&mut self, vrf: VrfId, prefix: AnyPrefix, source: RouteSource) -> bool {
        let vrf = &mut self.vrfs[vrf.index()];
        match prefix {
            AnyPrefix::V4(prefix) => vrf.v4.rib.withdraw(&prefix, source),
            AnyPrefix::V6(prefix) => vrf.v6.rib.withdraw(&prefix, source),
        }
    }

    fn remove_route(
        &mut self,
        vrf: VrfId,
        prefix: AnyPrefix,
        source: RouteSource,
    ) -> Result<(), EngineError> {
        let removed = self.withdraw(vrf, prefix, source);
        if removed { Ok(()) } else { Err(EngineError::NoSuchRoute(prefix, source)) }
    }

    fn put_route(&mut self, vrf: VrfId, route: RouteSpec) -> Result<(), EngineError> {
        let prefix = route.prefix;
        if vrf != VrfId::DEFAULT
            && let RouteTarget::Via(_, Encap::Ipip) | RouteTarget::Weighted(_, Encap::Ipip) = &route.target
        {
            return Err(EngineError::TunnelInVrf(prefix));
        }
        let v4 = matches!(prefix, AnyPrefix::V4(_));
        let via = |address: IpAddr, weight: u32, encap| {
            if address.is_ipv4() != v4 {
                return Err(EngineError::MixedFamilies(prefix, address));
            }
            if weight == 0 {
                return Err(EngineError::NoWeight(prefix, address));
            }
            Ok(Path { next_hop: NextHop::Via(address, encap), weight })
        };
        let mut paths = core::mem::take(&mut self.paths);
        paths.clear();
        let drop_for = |reason| Path::from(NextHop::Drop(reason));
        match route.target {
            RouteTarget::Via(to, encap) => {
                for address in to {
                    paths.push(via(address, 1, encap)?);
                }
            }
            RouteTarget::Weighted(to, encap) => {
                for (address, weight) in to {
                    paths.push(via(address, weight, encap)?);
                }
            }
            RouteTarget::Blackhole => paths.push(drop_for(DropReason::Blackhole)),
            RouteTarget::Unreachable => paths.push(drop_for(DropReason::Unreachable)),
            RouteTarget::Prohibit => paths.push(drop_for(DropReason::Prohibit)),
        }
        let mut candidate = Candidate::new(route.source, &paths);
        candidate.metric = route.metric;
        let announced = self.announce(vrf, prefix, candidate);
        self.paths = paths;
        announced
    }

    /// Does what time asks: routes of sources whose time is over go
    /// ([`Event::BeginResyncUntil`]), ends of former tunnels, and what was learned of paths. Returns how much it was; if
    /// it was anything, call [`commit`](Self::commit).
    pub fn expire(&mut self, now: Timestamp) -> usize {
        let ended = self.tunnel_ends.expire(now);
        self.changed.peers |= ended;
        let widened = self.widen_paths(now);
        let now = core::time::Duration::from_nanos(now.0);
        let routes = self.vrfs.iter_mut().map(|vrf| vrf.v4.rib.expire(now) + vrf.v6.rib.expire(now));
        routes.sum::<usize>() + usize::from(ended) + widened
    }

    /// When [`expire`](Self::expire) has something to do next.
    pub fn next_deadline(&self) -> Option<Timestamp> {
        let routes =
            self.vrfs.iter().flat_map(|vrf| [vrf.v4.rib.next_deadline(), vrf.v6.rib.next_deadline()]);
        let routes = routes.flatten();
        let routes = routes.map(|at| Timestamp(u64::try_from(at.as_nanos()).unwrap_or(u64::MAX)));
        routes.chain(self.tunnel_ends.next_deadline()).chain(self.path_mtus.next_deadline()).min()
    }

    /// Own blocks are unreachable but for the pods in them: an address that no pod has
    /// must not follow a default route back into the network.
    fn set_blocks(&mut self, blocks: Vec<ipnet::IpNet>) {
        for old in core::mem::take(&mut self.desired.blocks) {
            self.withdraw(VrfId::DEFAULT, net_prefix(old), RouteSource::Connected);
        }
        for block in &blocks {
            let unreachable = NextHop::Drop(DropReason::Unreachable);
            self.announce_hop(VrfId::DEFAULT, net_prefix(*block), RouteSource::Connected, unreachable);
        }
        self.desired.blocks = blocks;
    }

    /// The number of a port.
    pub fn port_id(&self, name: &str) -> Option<PortId> {
        self.ids.get(name).copied()
    }

    /// The name of a port.
    pub fn port_name(&self, id: PortId) -> Option<&str> {
        Some(&self.ports.get(id.index())?.as_ref()?.name)
    }

    /// The desired state.
    pub fn desired(&self) -> &Desired {
        &self.desired
    }

    /// The tables in force.
    pub fn tables(&self) -> Arc<Tables> {
        self.publisher.current()
    }

    /// Counts changes that workers have adopted.
    pub fn generation(&self) -> u64 {
        self.generation
    }
}

/// The prefix of one address.
pub fn host_prefix(address: IpAddr) -> AnyPrefix {
    net_prefix(ipnet::IpNet::from(address))
}

/// A prefix of configuration as the FIB's type; host bits are cut off.
pub fn net_prefix(net: ipnet::IpNet) -> AnyPrefix {
    let checked = "an IpNet's length fits its family";
    match net {
        ipnet::IpNet::V4(net) => AnyPrefix::V4(Prefix::masked(net.addr(), net.prefix_len()).expect(checked)),
        ipnet::IpNet::V6(net) => AnyPrefix::V6(Prefix::masked(net.addr(), net.prefix_len()).expect(checked)),
    }
}
