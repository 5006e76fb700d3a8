//! The engine: applies events and brings the tables up to date.
//!
//! Everything is derived: events change the desired state and the RIB;
//! [`Engine::commit`] resolves what changed, publishes, and changes the FIB. Events
//! that come together are committed together.

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use acl::{EndpointPolicy, RuleBook};
use fib::{Address, AnyPrefix, Candidate, FibFull, FibWriter, GroupId, Prefix, Rib, RouteSource};

use crate::control::adjacency::{self, Hop, NextHop, Resolver};
use crate::control::desired::{Desired, PortRole, PortSpec, RouteSpec, RouteTarget};
use crate::control::event::Event;
use crate::control::groups::Groups;
use crate::control::neighbors::{NeighborRequest, Neighbors, WantedNeighbors};
use crate::control::tunnel_ids::TunnelIds;
use crate::drop_reason::DropReason;
use crate::ids::{MAX_PORTS, PortId};
use crate::publish::{Epoch, Publisher};
use crate::tables::{
    Adjacency, GATEWAY_V4, GATEWAY_V6, NeighborState, NeighborTable, Port, Role, Tables, TraceFilter,
    TunnelPeers,
};

/// Neighbours gleaned at a time: a scan of a connected prefix must not fill the FIB.
const MAX_GLEANED: usize = 4096;
/// How long a commit waits for workers to adopt tables. Longer means a stuck worker,
/// whose lookups then meet a checked bound instead of the new group.
const ADOPTION_TIMEOUT: Duration = Duration::from_secs(1);

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

    /// Takes news of a neighbour from whoever resolves on its port.
    pub fn neighbor(&mut self, port: PortId, address: IpAddr, state: NeighborState) {
        self.neighbors.learn(port, address, state, &self.neighbor_table);
        if state == NeighborState::Unresolved && self.gleaned.remove(&(port, address)) {
            self.withdraw_gleaned(address);
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
        let candidate = Candidate::new(RouteSource::Connected, vec![NextHop::Gleaned(name, address)]);
        let _ = self.announce(host_prefix(address), candidate);
    }

    fn withdraw_gleaned(&mut self, address: IpAddr) {
        let gleaned =
            |best: Option<&NextHop>| matches!(best, Some(NextHop::Gleaned(_, at)) if *at == address);
        match host_prefix(address) {
            AnyPrefix::V4(prefix) => {
                if gleaned(self.v4.rib.best(&prefix).and_then(|route| route.next_hops.first())) {
                    self.v4.rib.withdraw(&prefix, RouteSource::Connected);
                }
            }
            AnyPrefix::V6(prefix) => {
                if gleaned(self.v6.rib.best(&prefix).and_then(|route| route.next_hops.first())) {
                    self.v6.rib.withdraw(&prefix, RouteSource::Connected);
                }
            }
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

    /// Brings tables and FIB in line with the desired state. Returns the generation
    /// that is in force when it returns.
    ///
    /// # Errors
    /// Where the FIB is full; all that fits is in force then.
    pub fn commit(&mut self) -> Result<u64, EngineError> {
        let all = core::mem::take(&mut self.environment_changed);
        let plan4 = plan(&mut self.v4.rib, &self.v4.fib, all);
        let plan6 = plan(&mut self.v6.rib, &self.v6.fib, all);
        let plan4 = self.resolve_plan(plan4, AnyPrefix::V4);
        let plan6 = self.resolve_plan(plan6, AnyPrefix::V6);
        if self.groups.take_grown() || all || core::mem::take(&mut self.tables_changed) {
            self.publish();
        }
        let changed = !plan4.is_empty() || !plan6.is_empty();
        let mut result = program(&mut self.v4.fib, plan4, &mut self.groups);
        result = result.and(program(&mut self.v6.fib, plan6, &mut self.groups));
        if changed {
            self.generation += 1;
            self.neighbor_table.touch();
            self.seal();
        }
        self.reclaim();
        result.map_err(|full| EngineError::FibFull(full.to_string())).map(|()| self.generation)
    }

    fn resolve_plan<A: Address>(
        &mut self,
        plan: Vec<(Prefix<A>, Option<Vec<NextHop>>)>,
        wrap: fn(Prefix<A>) -> AnyPrefix,
    ) -> Vec<(Prefix<A>, Option<GroupId>)> {
        let ids = &self.ids;
        let port_id = |name: &str| ids.get(name).copied();
        let resolver =
            Resolver { desired: &self.desired, rib4: &self.v4.rib, rib6: &self.v6.rib, port_id: &port_id };
        let mut out = Vec::with_capacity(plan.len());
        for (prefix, next_hops) in plan {
            let group = next_hops.and_then(|next_hops| {
                let mut hops: Vec<Hop> =
                    next_hops.iter().map(|next_hop| resolver.resolve(&wrap(prefix), next_hop)).collect();
                hops.sort_unstable();
                hops.dedup();
                self.groups.acquire(hops)
            });
            out.push((prefix, group));
        }
        out
    }

    /// Publishes new tables and waits until every worker has adopted them.
    fn publish(&mut self) {
        let (groups, hops) = self.groups.snapshot();
        let wanted = wanted_neighbors(&hops);
        self.neighbors.want(&wanted, &self.neighbor_table);
        let mut ports: Vec<Option<Arc<Port>>> = vec![None; self.next_id as usize];
        for spec in self.desired.ports.values() {
            if let Some(id) = self.ids.get(&spec.name) {
                ports[id.index()] = Some(Arc::new(compile_port(spec, &mut self.rules)));
            }
        }
        let port_of = |id: PortId| {
            let port = ports.get(id.index())?.as_ref()?;
            Some((port.mac, port.peer_mac, port.mtu))
        };
        let slot = |port, address| self.neighbors.slot(port, address);
        let tunnels = hops.iter().filter_map(|hop| match hop {
            Hop::Ipip(_, remote, ..) => Some(*remote),
            _ => None,
        });
        let remotes: BTreeSet<Ipv4Addr> = tunnels.chain(self.desired.peers.iter().copied()).collect();
        self.tunnel_ids.assign(remotes.iter().copied());
        let tunnel_id = |remote| self.tunnel_ids.of(remote);
        let mut adjacencies: Vec<Adjacency> =
            hops.iter().map(|hop| adjacency::build(hop, &port_of, &slot, &tunnel_id)).collect();
        adjacencies.push(Adjacency::dropping(DropReason::NextHopUnresolved));
        let locals =
            self.desired.uplinks().flat_map(|(_, _, addresses)| addresses).filter_map(|net| match net {
                ipnet::IpNet::V4(net) => Some(net.addr()),
                ipnet::IpNet::V6(_) => None,
            });
        let tables = Tables {
            ports: ports.into(),
            fib4: self.v4.fib.reader(),
            fib6: self.v6.fib.reader(),
            groups,
            adjacencies: adjacencies.into(),
            neighbors: self.neighbor_table.clone(),
            tunnel_peers: TunnelPeers::new(
                locals,
                remotes.iter().map(|remote| (*remote, tunnel_id(*remote))),
            ),
            icmp_source4: self.desired.first_v4().unwrap_or(GATEWAY_V4),
            icmp_source6: self.desired.first_v6().unwrap_or(GATEWAY_V6),
            trace: self.trace.as_slice().into(),
        };
        let epoch = self.publisher.publish(Arc::new(tables));
        self.generation += 1;
        self.unreleased = true;
        self.wait(epoch);
    }

    /// Waits until `epoch` has passed, within [`ADOPTION_TIMEOUT`].
    fn wait(&self, epoch: Epoch) {
        let start = Instant::now();
        while !self.publisher.passed(epoch) {
            if start.elapsed() > ADOPTION_TIMEOUT {
                tracing::error!("a worker has not adopted new tables within {ADOPTION_TIMEOUT:?}");
                return;
            }
            std::thread::sleep(Duration::from_micros(20));
        }
    }

    /// Begins the grace period of what the FIB no longer names.
    fn seal(&mut self) {
        let epoch = self.publisher.advance();
        self.groups.seal(epoch);
        if self.v4.sealed.is_none() && self.v4.fib.retired() > 0 {
            self.v4.sealed = Some((epoch, self.v4.fib.seal()));
        }
        if self.v6.sealed.is_none() && self.v6.fib.retired() > 0 {
            self.v6.sealed = Some((epoch, self.v6.fib.seal()));
        }
    }

    /// Reuses what no worker can see any more. Called with every commit, and by the
    /// daemon's timer.
    pub fn reclaim(&mut self) {
        let publisher = &self.publisher;
        if let Some((_, retired)) = self.v4.sealed.take_if(|(epoch, _)| publisher.passed(*epoch)) {
            self.v4.fib.reclaim(retired);
        }
        if let Some((_, retired)) = self.v6.sealed.take_if(|(epoch, _)| publisher.passed(*epoch)) {
            self.v6.fib.reclaim(retired);
        }
        // Groups that are gone may have been the last to want their neighbours.
        self.unreleased |= self.groups.reclaim(|epoch| publisher.passed(epoch));
        if self.publisher.collect() == 0 && core::mem::take(&mut self.unreleased) {
            let wanted = wanted_neighbors(&self.groups.all_hops().collect::<Vec<_>>());
            self.neighbors.release(&wanted, &self.neighbor_table);
        }
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

/// What has to be looked at: (prefix, next hops of the best route).
fn plan<A: Address>(
    rib: &mut Rib<A, NextHop>,
    fib: &FibWriter<A>,
    all: bool,
) -> Vec<(Prefix<A>, Option<Vec<NextHop>>)> {
    let changes = rib.drain_changes();
    if !all {
        return changes
            .into_iter()
            .map(|change| (change.prefix, change.best.map(|best| best.next_hops)))
            .collect();
    }
    let mut prefixes: BTreeSet<Prefix<A>> = fib.iter().map(|(prefix, _)| prefix).collect();
    prefixes.extend(changes.into_iter().map(|change| change.prefix));
    prefixes
        .into_iter()
        .map(|prefix| (prefix, rib.best(&prefix).map(|best| best.next_hops.clone())))
        .collect()
}

/// Writes the plan into the FIB. Every planned group holds one user, which moves
/// into the FIB or is given back.
fn program<A: Address>(
    fib: &mut FibWriter<A>,
    plan: Vec<(Prefix<A>, Option<GroupId>)>,
    groups: &mut Groups,
) -> Result<(), FibFull> {
    let mut result = Ok(());
    for (prefix, group) in plan {
        let old = match group {
            Some(group) => match fib.insert(prefix, group) {
                Ok(old) => old,
                Err(full) => {
                    result = Err(full);
                    Some(group)
                }
            },
            None => fib.remove(&prefix),
        };
        if let Some(old) = old {
            groups.release(old);
        }
    }
    result
}

fn wanted_neighbors(hops: &[Hop]) -> WantedNeighbors {
    let mut wanted = WantedNeighbors::new();
    for hop in hops {
        match hop {
            Hop::Neighbor(port, address) | Hop::Ipip(_, _, port, address) => {
                wanted.insert((*port, *address), true);
            }
            Hop::Gleaned(port, address) => {
                wanted.entry((*port, *address)).or_insert(false);
            }
            _ => {}
        }
    }
    wanted
}

fn compile_port(spec: &PortSpec, rules: &mut RuleBook) -> Port {
    let (role, addresses, policy) = match &spec.role {
        PortRole::Uplink { exclusive, .. } => {
            (Role::Uplink { exclusive: *exclusive }, [].as_slice(), EndpointPolicy::NOT_POLICED)
        }
        PortRole::Pod { addresses, profiles } => {
            (Role::Pod, addresses.as_slice(), EndpointPolicy::compile(profiles, rules))
        }
        PortRole::Host { addresses } => (Role::Host, addresses.as_slice(), EndpointPolicy::NOT_POLICED),
    };
    let v4 = addresses.iter().filter_map(|address| match address {
        IpAddr::V4(address) => Some(*address),
        IpAddr::V6(_) => None,
    });
    let v6 = addresses.iter().filter_map(|address| match address {
        IpAddr::V6(address) => Some(*address),
        IpAddr::V4(_) => None,
    });
    Port {
        name: spec.name.as_str().into(),
        role,
        mac: spec.mac,
        peer_mac: spec.peer_mac,
        mtu: spec.mtu,
        up: spec.up,
        addresses4: v4.collect(),
        addresses6: v6.collect(),
        policy,
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
