//! From the desired state to tables and FIB.
//!
//! ```text
//!   RIB changes --> groups acquired        port, link, pool changes --> groups marked
//!                        `-----------> groups resolved <------------------'
//!                                           |
//!                            tables published and adopted
//!                                           |
//!                                FIB changed in place
//!                                           |
//!                  grace period: numbers, slots and nodes are used again
//! ```
//!
//! Nothing is looked at that a change does not concern, but for one case: a pool that comes,
//! goes or changes its mode has the RIB searched for the prefixes in it, whose routes may have
//! to go to another group.
//!
//! Invariants: a FIB entry is written only after tables that hold its group were adopted; a
//! group's number and a neighbour's slot are used again only after a grace period.

use std::sync::Arc;
use std::time::{Duration, Instant};

use fib::{Address, Change, FibFull, GroupId, Prefix, SetId};
use ipnet::IpNet;

use super::{Changed, Engine, EngineError, Family, Vrf};
use crate::control::adjacencies::Parts;
use crate::control::desired::{Desired, IpipMode, to_ipnet};
use crate::control::groups::{FamilyIndex, Groups, Key};
use crate::control::resolution::Resolver;
use crate::ids::VrfId;
use crate::publish::Epoch;
use crate::tables::{GATEWAY_V4, GATEWAY_V6, Tables};

/// How long a commit waits for workers to adopt tables. Longer means a stuck worker,
/// whose lookups then meet a checked bound instead of the new group.
const ADOPTION_TIMEOUT: Duration = Duration::from_secs(1);

/// Changes that a commit keeps room for when it is done: more than a busy peer brings at a time.
const KEPT_CHANGES: usize = 1 << 14;

impl Engine {
    /// Brings tables and FIB in line with the desired state. Returns the generation
    /// that is in force when it returns.
    ///
    /// # Errors
    /// Where the FIB is full; all that fits is in force then.
    pub fn commit(&mut self) -> Result<u64, EngineError> {
        let changed = core::mem::take(&mut self.changed);
        self.mark_groups(&changed);
        let mut result = Ok(());
        for vrf in &mut self.vrfs {
            result = result.and(vrf.v4.plan(&mut self.groups, &self.desired, &changed.pools));
            result = result.and(vrf.v6.plan(&mut self.groups, &self.desired, &changed.pools));
        }
        self.resolve_groups();
        let mut publish = self.renew_policy();
        publish |= self.groups.take_changed() | self.groups.adjacencies.is_stale() | changed.tables;
        if self.groups.adjacencies.take_changed_tunnels() | changed.links | changed.states | changed.peers {
            self.renew_tunnels();
            publish = true;
        }
        if publish {
            self.publish();
        }
        self.settle_policy();
        let planned = self.vrfs.iter().any(|vrf| !vrf.v4.plan.is_empty() || !vrf.v6.plan.is_empty());
        let full = |full: FibFull| EngineError::FibFull(full.to_string());
        for vrf in &mut self.vrfs {
            result = result.and(vrf.v4.program(&mut self.groups).map_err(full));
            result = result.and(vrf.v6.program(&mut self.groups).map_err(full));
        }
        if planned {
            self.generation += 1;
            self.seal();
        }
        if planned || publish {
            self.neighbor_table.touch();
        }
        self.reclaim();
        result.map(|()| self.generation)
    }

    /// Has the groups resolved again that a change concerns, beside one of routes.
    pub(super) fn mark_groups(&mut self, changed: &Changed) {
        changed.ports.iter().for_each(|name| self.groups.port_changed(name));
        if changed.links {
            self.groups.links_changed();
        }
        if changed.host {
            self.groups.host_changed();
        }
        if !changed.pools.is_empty() {
            self.groups.pools_changed();
        }
    }

    fn resolve_groups(&mut self) {
        let ids = &self.ids;
        let port_id = |name: &str| ids.get(name).copied();
        let (desired, vrfs) = (&self.desired, &self.vrfs);
        let resolver = |vrf: VrfId| {
            let Vrf { v4, v6 } = &vrfs[vrf.index()];
            Resolver { desired, vrf, rib4: &v4.rib, rib6: &v6.rib, port_id: &port_id }
        };
        self.groups.resolve(resolver, &mut self.neighbors, &self.neighbor_table);
    }

    /// Publishes new tables and waits until every worker has adopted them.
    pub(super) fn publish(&mut self) {
        for (port, address) in self.neighbors.feed(&self.neighbor_table) {
            self.groups.adjacencies.neighbor_changed(port, address);
        }
        let tunnel_id = |remote| self.tunnel_ids.of(remote);
        let path_mtu = |ends| self.path_mtus.get(ends);
        let parts = Parts {
            ports: &self.ports,
            neighbors: &self.neighbors,
            tunnel_id: &tunnel_id,
            path_mtu: &path_mtu,
        };
        let tables = Tables {
            ports: self.ports.as_slice().into(),
            fib4: self.vrfs[0].v4.fib.reader(),
            fib6: self.vrfs[0].v6.fib.reader(),
            vrfs: self.vrf_tables().collect(),
            groups: self.groups.table(),
            adjacencies: self.groups.adjacencies.build(&parts),
            neighbors: self.neighbor_table.clone(),
            tunnel_peers: self.tunnel_peers.clone(),
            icmp_source4: self.desired.first_v4(VrfId::DEFAULT).unwrap_or(GATEWAY_V4),
            icmp_source6: self.desired.first_v6(VrfId::DEFAULT).unwrap_or(GATEWAY_V6),
            policy: self.policy.tables(&self.ports),
            trace: self.trace.as_slice().into(),
        };
        let epoch = self.publisher.publish(Arc::new(tables));
        self.generation += 1;
        let adopted = self.wait(epoch);
        self.await_policy((!adopted).then_some(epoch));
    }

    /// Waits until `epoch` has passed, within [`ADOPTION_TIMEOUT`]; whether it has.
    fn wait(&self, epoch: Epoch) -> bool {
        let start = Instant::now();
        while !self.publisher.passed(epoch) {
            if start.elapsed() > ADOPTION_TIMEOUT {
                tracing::error!("a worker has not adopted new tables within {ADOPTION_TIMEOUT:?}");
                return false;
            }
            std::thread::sleep(Duration::from_micros(20));
        }
        true
    }

    /// Begins the grace period of what the FIB no longer names.
    fn seal(&mut self) {
        let epoch = self.publisher.advance();
        self.groups.seal(epoch);
        for vrf in &mut self.vrfs {
            vrf.v4.seal(epoch);
            vrf.v6.seal(epoch);
        }
    }

    /// Reuses what no worker can see any more. Called with every commit, and by the
    /// daemon's timer.
    pub fn reclaim(&mut self) {
        let publisher = &self.publisher;
        let passed = |epoch| publisher.passed(epoch);
        for vrf in &mut self.vrfs {
            vrf.v4.reclaim(passed);
            vrf.v6.reclaim(passed);
        }
        for key in self.groups.reclaim(passed) {
            let vrf = &mut self.vrfs[key.vrf.index()];
            match key.family {
                FamilyIndex::V4 => vrf.v4.rib.sets_mut().release(key.set),
                FamilyIndex::V6 => vrf.v6.rib.sets_mut().release(key.set),
            }
        }
        // Adjacencies that went were in tables that some worker may still have; no table in
        // force names the others, whose groups have ended.
        if self.publisher.collect() == 0 {
            for (port, address, keep) in self.groups.adjacencies.take_unwanted() {
                self.neighbors.release(port, address, keep, &self.neighbor_table);
            }
        }
        self.changed.tables |= self.neighbors.can_feed();
    }
}

impl<A: Address> Family<A> {
    /// Gives every prefix that changed its group, and marks the groups that it concerns.
    fn plan(&mut self, groups: &mut Groups, desired: &Desired, pools: &[IpNet]) -> Result<(), EngineError> {
        self.changes.clear();
        self.rib.drain_changes(&mut self.changes);
        let moved = self.changes.len();
        if !pools.is_empty() && self.vrf == VrfId::DEFAULT {
            let inside = |prefix: &Prefix<A>| {
                let net = to_ipnet(&(self.wrap)(*prefix));
                pools.iter().any(|pool| pool.contains(&net))
            };
            let prefixes = self.rib.prefixes().filter(inside);
            self.changes.extend(prefixes.map(|prefix| Change { prefix, best: self.rib.best_set(&prefix) }));
        }
        self.plan.clear();
        let mut result = Ok(());
        for (number, change) in self.changes.iter().enumerate() {
            let prefix = change.prefix;
            if number < moved {
                let (rib, narrow) = (&self.rib, self.narrow);
                groups.route_changed(prefix.first().into(), prefix.last().into(), |address| {
                    let longest = narrow(address).and_then(|address| rib.longest_match(address));
                    longest.is_none_or(|(longest, _)| longest.len() <= prefix.len())
                });
            }
            let group = match change.best {
                None => None,
                Some(set) => {
                    let mode = self.mode(set, &prefix, desired);
                    let key = Key { vrf: self.vrf, family: self.index, set, mode };
                    match groups.acquire(key, || self.fib.get(&prefix)) {
                        Some((group, new)) => {
                            if new {
                                self.rib.sets_mut().retain(set);
                            }
                            Some(group)
                        }
                        None => {
                            result = Err(EngineError::GroupsFull(groups.len()));
                            None
                        }
                    }
                }
            };
            self.plan.push((prefix, group));
        }
        result
    }

    /// The mode of the pool around a prefix, if it matters to these next hops.
    fn mode(&self, set: SetId, prefix: &Prefix<A>, desired: &Desired) -> IpipMode {
        let by_pool = self.rib.sets().get(set).iter().any(|path| path.next_hop.is_by_pool());
        if by_pool { desired.pool_mode_in(self.vrf, &(self.wrap)(*prefix)) } else { IpipMode::Never }
    }

    /// Writes the plan into the FIB. Every planned group holds one user, which moves
    /// into the FIB or is given back.
    fn program(&mut self, groups: &mut Groups) -> Result<(), FibFull> {
        let mut result = Ok(());
        for (prefix, group) in self.plan.drain(..) {
            let old: Option<GroupId> = match group {
                Some(group) => match self.fib.insert(prefix, group) {
                    Ok(old) => old,
                    Err(full) => {
                        result = Err(full);
                        Some(group)
                    }
                },
                None => self.fib.remove(&prefix),
            };
            if let Some(old) = old {
                groups.release(old);
            }
        }
        self.changes.clear();
        self.changes.shrink_to(KEPT_CHANGES);
        self.plan.shrink_to(KEPT_CHANGES);
        result
    }

    fn seal(&mut self, epoch: Epoch) {
        if self.sealed.is_none() && self.fib.retired() > 0 {
            self.sealed = Some((epoch, self.fib.seal()));
        }
    }

    fn reclaim(&mut self, passed: impl Fn(Epoch) -> bool) {
        if let Some((_, retired)) = self.sealed.take_if(|(epoch, _)| passed(*epoch)) {
            self.fib.reclaim(retired);
        }
    }
}
