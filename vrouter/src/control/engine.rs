//! The engine: applies events and brings the tables up to date.
//!
//! Everything is derived: events change the desired state and the RIB;
//! [`Engine::commit`] resolves what changed, publishes, and changes the FIB. Events
//! that come together are committed together.
//!
//! | file | what |
//! |---|---|
//! | here | events, ports, routes |
//! | `glean` | news of neighbours, routes to those that traffic asks for |
//! | `commit` | from the desired state to tables and FIB |

mod commit;
mod glean;

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use acl::RuleBook;
use fib::{Address, AnyPrefix, Candidate, FibWriter, Prefix, Rib, RouteSource};

use crate::control::adjacency::NextHop;
use crate::control::desired::{Desired, PortRole, PortSpec, RouteSpec, RouteTarget};
use crate::control::event::Event;
use crate::control::groups::Groups;
use crate::control::neighbors::Neighbors;
use crate::control::tunnel_ids::TunnelIds;
use crate::drop_reason::DropReason;
use crate::ids::{MAX_PORTS, PortId};
use crate::publish::{Epoch, Publisher};
use crate::tables::{GATEWAY_V4, GATEWAY_V6, NeighborTable, Tables, TraceFilter};

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
    /// The FIB's memory limit is reached.
    #[error("the FIB is full: {0}")]
    FibFull(String),
}

/// One address family's RIB and FIB.
pub(super) struct Family<A: Address> {
    pub(super) rib: Rib<A, NextHop>,
    pub(super) fib: FibWriter<A>,
    sealed: Option<(Epoch, fib::Retired)>,
}

impl<A: Address> Family<A> {
    fn new() -> Self {
        Family { rib: Rib::new(), fib: FibWriter::new(), sealed: None }
    }
}

/// The writer of everything that workers read.
pub struct Engine {
    pub(super) desired: Desired,
    pub(super) v4: Family<Ipv4Addr>,
    pub(super) v6: Family<Ipv6Addr>,
    pub(super) groups: Groups,
    pub(super) neighbors: Neighbors,
    pub(super) neighbor_table: Arc<NeighborTable>,
    pub(super) rules: RuleBook,
    ids: BTreeMap<String, PortId>,
    retired_ids: Vec<PortId>,
    next_id: u16,
    pub(super) tunnel_ids: TunnelIds,
    trace: Vec<TraceFilter>,
    publisher: Publisher<Tables>,
    generation: u64,
    /// Ports, pools or blocks changed: every route is resolved anew.
    environment_changed: bool,
    tables_changed: bool,
    gleaned: BTreeSet<(PortId, IpAddr)>,
    unreleased: bool,
}

impl Engine {
    /// An engine and the first tables; `make` turns them into a publisher.
    pub fn new(make: impl FnOnce(Arc<Tables>) -> Publisher<Tables>) -> Self {
        let (v4, v6) = (Family::<Ipv4Addr>::new(), Family::<Ipv6Addr>::new());
        let neighbor_table = Arc::new(NeighborTable::new());
        let tables = Tables::empty(v4.fib.reader(), v6.fib.reader(), neighbor_table.clone());
        let mut engine = Engine {
            desired: Desired::default(),
            v4,
            v6,
            groups: Groups::default(),
            neighbors: Neighbors::default(),
            neighbor_table,
            rules: RuleBook::default(),
            ids: BTreeMap::new(),
            retired_ids: Vec::new(),
            next_id: 0,
            tunnel_ids: TunnelIds::default(),
            trace: Vec::new(),
            publisher: make(Arc::new(tables)),
            generation: 0,
            environment_changed: false,
            tables_changed: false,
            gleaned: BTreeSet::new(),
            unreleased: false,
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
                self.desired.pools.insert(pool.cidr, pool);
                self.environment_changed = true;
            }
            Event::RemovePool(cidr) => {
                self.desired.pools.remove(&cidr).ok_or(EngineError::NoSuchPool(cidr))?;
                self.environment_changed = true;
            }
            Event::PutRoute(route) => self.put_route(route)?,
            Event::RemoveRoute(prefix, source) => {
                let found = match prefix {
                    AnyPrefix::V4(prefix) => self.v4.rib.withdraw(&prefix, source).is_some(),
                    AnyPrefix::V6(prefix) => self.v6.rib.withdraw(&prefix, source).is_some(),
                };
                if !found {
                    return Err(EngineError::NoSuchRoute(prefix, source));
                }
            }
            Event::BeginResync(source) => {
                self.v4.rib.begin_resync(source);
                self.v6.rib.begin_resync(source);
            }
            Event::EndResync(source) => {
                self.v4.rib.end_resync(source);
                self.v6.rib.end_resync(source);
            }
            Event::PutPeer(peer) => {
                self.desired.peers.insert(peer);
                self.tables_changed = true;
            }
            Event::RemovePeer(peer) => {
                self.desired.peers.remove(&peer);
                self.tables_changed = true;
            }
            Event::SetBlocks(blocks) => self.set_blocks(blocks),
            Event::SetTrace(filters) => {
                self.trace = filters;
                self.tables_changed = true;
            }
        }
        Ok(())
    }

    fn put_port(&mut self, spec: PortSpec) -> Result<(), EngineError> {
        self.check_addresses(&spec)?;
        let id = match self.ids.get(&spec.name) {
            Some(id) => *id,
            None => self.allocate_id()?,
        };
        self.ids.insert(spec.name.clone(), id);
        if let Some(old) = self.desired.ports.insert(spec.name.clone(), spec.clone()) {
            if old == spec {
                return Ok(());
            }
            if old.role != spec.role {
                self.withdraw_port(&old);
            }
        }
        self.announce_port(&spec);
        self.environment_changed = true;
        Ok(())
    }

    fn check_addresses(&self, spec: &PortSpec) -> Result<(), EngineError> {
        let addresses = |port: &PortSpec| match &port.role {
            PortRole::Pod { addresses, .. } | PortRole::Host { addresses } => addresses.clone(),
            PortRole::Uplink { addresses, .. } => addresses.iter().map(ipnet::IpNet::addr).collect(),
        };
        let wanted = addresses(spec);
        for other in self.desired.ports.values().filter(|other| other.name != spec.name) {
            if let Some(address) = addresses(other).into_iter().find(|address| wanted.contains(address)) {
                return Err(EngineError::AddressTaken {
                    address,
                    port: spec.name.clone(),
                    owner: other.name.clone(),
                });
            }
        }
        Ok(())
    }

    fn allocate_id(&mut self) -> Result<PortId, EngineError> {
        // Fresh numbers first, so that a number rests as long as possible before it
        // means another port.
        if (self.next_id as usize) < MAX_PORTS {
            self.next_id += 1;
            return Ok(PortId(self.next_id - 1));
        }
        if self.retired_ids.is_empty() {
            return Err(EngineError::TooManyPorts);
        }
        Ok(self.retired_ids.remove(0))
    }

    fn remove_port(&mut self, name: &str) -> Result<(), EngineError> {
        let old = self.desired.ports.remove(name).ok_or_else(|| EngineError::NoSuchPort(name.to_owned()))?;
        self.withdraw_port(&old);
        if let Some(id) = self.ids.remove(name) {
            self.neighbors.forget_port(id);
            let gleaned = core::mem::take(&mut self.gleaned);
            let (gone, kept) = gleaned.into_iter().partition(|(port, _)| *port == id);
            self.gleaned = kept;
            let gone: BTreeSet<(PortId, IpAddr)> = gone;
            gone.into_iter().for_each(|(_, address)| self.withdraw_gleaned(address));
            self.retired_ids.push(id);
        }
        self.environment_changed = true;
        Ok(())
    }

    /// The routes that a port brings with it.
    fn port_routes(spec: &PortSpec) -> Vec<(AnyPrefix, RouteSource, NextHop)> {
        let mut routes = Vec::new();
        match &spec.role {
            PortRole::Uplink { exclusive, addresses } => {
                for net in addresses {
                    let own = if *exclusive { NextHop::Local } else { NextHop::Host };
                    routes.push((host_prefix(net.addr()), RouteSource::Connected, own));
                    if net.prefix_len() < net.max_prefix_len() {
                        let connected = NextHop::Connected(spec.name.clone());
                        routes.push((net_prefix(net.trunc()), RouteSource::Connected, connected));
                    }
                }
            }
            PortRole::Pod { addresses, .. } => {
                for address in addresses {
                    let endpoint = NextHop::Endpoint(spec.name.clone());
                    routes.push((host_prefix(*address), RouteSource::Endpoint, endpoint));
                }
            }
            PortRole::Host { addresses } => {
                for address in addresses {
                    routes.push((host_prefix(*address), RouteSource::Connected, NextHop::Host));
                }
            }
        }
        routes
    }

    fn announce_port(&mut self, spec: &PortSpec) {
        for (prefix, source, next_hop) in Self::port_routes(spec) {
            // One next hop is never none, the only thing `announce` refuses.
            let _ = self.announce(prefix, Candidate::new(source, vec![next_hop]));
        }
    }

    fn withdraw_port(&mut self, spec: &PortSpec) {
        for (prefix, source, _) in Self::port_routes(spec) {
            match prefix {
                AnyPrefix::V4(prefix) => drop(self.v4.rib.withdraw(&prefix, source)),
                AnyPrefix::V6(prefix) => drop(self.v6.rib.withdraw(&prefix, source)),
            }
        }
    }

    fn announce_local(&mut self, address: IpAddr) {
        let candidate = Candidate::new(RouteSource::Connected, vec![NextHop::Local]);
        let _ = self.announce(host_prefix(address), candidate);
    }

    fn announce(&mut self, prefix: AnyPrefix, candidate: Candidate<NextHop>) -> Result<(), EngineError> {
        let announced = match prefix {
            AnyPrefix::V4(to) => self.v4.rib.announce(to, candidate).map(drop),
            AnyPrefix::V6(to) => self.v6.rib.announce(to, candidate).map(drop),
        };
        announced.map_err(|_| EngineError::NoNextHops(prefix))
    }

    fn put_route(&mut self, route: RouteSpec) -> Result<(), EngineError> {
        let next_hops = match route.target {
            RouteTarget::Via(via, encap) => {
                let v4 = matches!(route.prefix, AnyPrefix::V4(_));
                if let Some(odd) = via.iter().find(|address| address.is_ipv4() != v4) {
                    return Err(EngineError::MixedFamilies(route.prefix, *odd));
                }
                via.into_iter().map(|address| NextHop::Via(address, encap)).collect()
            }
            RouteTarget::Blackhole => vec![NextHop::Drop(DropReason::Blackhole)],
            RouteTarget::Unreachable => vec![NextHop::Drop(DropReason::Unreachable)],
            RouteTarget::Prohibit => vec![NextHop::Drop(DropReason::Prohibit)],
        };
        let mut candidate = Candidate::new(route.source, next_hops);
        candidate.metric = route.metric;
        self.announce(route.prefix, candidate)
    }

    /// Own blocks are unreachable but for the pods in them: an address that no pod has
    /// must not follow a default route back into the network.
    fn set_blocks(&mut self, blocks: Vec<ipnet::IpNet>) {
        for old in core::mem::take(&mut self.desired.blocks) {
            match net_prefix(old) {
                AnyPrefix::V4(prefix) => drop(self.v4.rib.withdraw(&prefix, RouteSource::Connected)),
                AnyPrefix::V6(prefix) => drop(self.v6.rib.withdraw(&prefix, RouteSource::Connected)),
            }
        }
        for block in &blocks {
            let hop = NextHop::Drop(DropReason::Unreachable);
            let _ = self.announce(net_prefix(*block), Candidate::new(RouteSource::Connected, vec![hop]));
        }
        self.desired.blocks = blocks;
    }

    /// The number of a port.
    pub fn port_id(&self, name: &str) -> Option<PortId> {
        self.ids.get(name).copied()
    }

    /// The name of a port.
    pub fn port_name(&self, id: PortId) -> Option<&str> {
        self.ids.iter().find(|(_, at)| **at == id).map(|(name, _)| name.as_str())
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
