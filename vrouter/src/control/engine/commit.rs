//! From the desired state to tables and FIB.

use core::net::{IpAddr, Ipv4Addr};
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use acl::{EndpointPolicy, RuleBook};
use fib::{Address, AnyPrefix, FibFull, FibWriter, GroupId, Prefix, Rib};

use super::{Engine, EngineError};
use crate::control::adjacency::{self, Hop, NextHop, Resolver};
use crate::control::desired::{PortRole, PortSpec};
use crate::control::groups::Groups;
use crate::control::neighbors::WantedNeighbors;
use crate::drop_reason::DropReason;
use crate::ids::PortId;
use crate::publish::Epoch;
use crate::tables::{Adjacency, GATEWAY_V4, GATEWAY_V6, Port, Role, Tables, TunnelPeers};

/// How long a commit waits for workers to adopt tables. Longer means a stuck worker,
/// whose lookups then meet a checked bound instead of the new group.
const ADOPTION_TIMEOUT: Duration = Duration::from_secs(1);

impl Engine {
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
