//! Which groups look at what, so that a change reaches its dependants and nobody else.

use core::net::IpAddr;
use std::collections::{BTreeMap, BTreeSet};

use crate::control::resolution::Reads;

/// The number of a group.
type Group = u32;

/// For everything that resolution reads, the groups that read it.
#[derive(Debug, Default)]
pub(super) struct Dependencies {
    links: BTreeSet<Group>,
    host: BTreeSet<Group>,
    pools: BTreeSet<Group>,
    ports: BTreeMap<String, BTreeSet<Group>>,
    addresses: BTreeMap<IpAddr, BTreeSet<Group>>,
}

impl Dependencies {
    /// Notes what a group reads.
    pub(super) fn add(&mut self, group: Group, reads: &Reads) {
        let sets =
            [(&mut self.links, reads.links), (&mut self.host, reads.host), (&mut self.pools, reads.pools)];
        for (set, _) in sets.into_iter().filter(|(_, reads)| *reads) {
            set.insert(group);
        }
        for name in &reads.ports {
            match self.ports.get_mut(name) {
                Some(groups) => drop(groups.insert(group)),
                None => drop(self.ports.insert(name.clone(), [group].into())),
            }
        }
        for address in &reads.addresses {
            self.addresses.entry(*address).or_default().insert(group);
        }
    }

    /// Forgets what a group read.
    pub(super) fn remove(&mut self, group: Group, reads: &Reads) {
        for set in [&mut self.links, &mut self.host, &mut self.pools] {
            set.remove(&group);
        }
        for name in &reads.ports {
            if let Some(groups) = self.ports.get_mut(name) {
                groups.remove(&group);
                if groups.is_empty() {
                    self.ports.remove(name);
                }
            }
        }
        for address in &reads.addresses {
            if let Some(groups) = self.addresses.get_mut(address) {
                groups.remove(&group);
                if groups.is_empty() {
                    self.addresses.remove(address);
                }
            }
        }
    }

    /// Groups with a next hop that may be on a link.
    pub(super) fn on_links(&self) -> impl Iterator<Item = Group> + '_ {
        self.links.iter().copied()
    }

    /// Groups that lead to the node itself.
    pub(super) fn on_host(&self) -> impl Iterator<Item = Group> + '_ {
        self.host.iter().copied()
    }

    /// Groups that lead through a route whose encapsulation a pool decides.
    pub(super) fn on_pools(&self) -> impl Iterator<Item = Group> + '_ {
        self.pools.iter().copied()
    }

    /// Groups that lead to a port by its name, or by an uplink that is named so.
    pub(super) fn on_port(&self, name: &str) -> impl Iterator<Item = Group> + '_ {
        self.ports.get(name).into_iter().flatten().copied()
    }

    /// Whether any next hop is looked up in the RIB.
    pub(super) fn has_addresses(&self) -> bool {
        !self.addresses.is_empty()
    }

    /// Next hops from `first` to `last` that are looked up in the RIB, with their groups.
    pub(super) fn on_addresses(
        &self,
        first: IpAddr,
        last: IpAddr,
    ) -> impl Iterator<Item = (IpAddr, impl Iterator<Item = Group> + '_)> + '_ {
        self.addresses.range(first..=last).map(|(address, groups)| (*address, groups.iter().copied()))
    }
}
