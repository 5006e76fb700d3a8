//! Next-hop groups: what FIB entries point to, and how it follows its next hops.
//!
//! ```text
//!   FIB entry --> group --> buckets --> adjacencies        a resolver changes: only from here on
//!   (prefix)        ^          `-- weights
//!                   '-- (family, next-hop set, pool's mode)
//! ```
//!
//! A group stands for a set of next hops as its source gave it, not for what the set comes down
//! to now. Routes with the same next hops share it, and when those resolve differently the
//! group's members change while all routes stay as they are: a hundred thousand routes move by
//! one write (prefix-independent convergence). The mode of the pool around the prefix is part of
//! what a group stands for, because it decides on tunnels.
//!
//! Groups are counted by the FIB entries that name them. One that nothing names keeps its number
//! until a grace period has passed, because a worker may still hold it from a lookup.

use core::net::IpAddr;

use fib::{Buckets, GroupId, SetId};

use crate::control::adjacencies::Adjacencies;
use crate::control::adjacency::Hop;
use crate::control::dependencies::Dependencies;
use crate::control::desired::IpipMode;
use crate::control::neighbors::Neighbors;
use crate::control::next_hop::Path;
use crate::control::resolution::{Reads, Resolver, UNRESOLVED, WHOLE};
use crate::ids::{AdjacencyId, VrfId};
use crate::publish::Epoch;
use crate::tables::{Chunked, Group, NeighborTable};

/// An address family, as an index.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum FamilyIndex {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

/// What a group stands for. The user of a key sees to it that the set stays in use.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Key {
    /// Whose routes they are.
    pub vrf: VrfId,
    /// Whose RIB has the set.
    pub family: FamilyIndex,
    /// The next hops.
    pub set: SetId,
    /// The mode of the pool around the prefix; `Never` where the next hops do not ask for it.
    pub mode: IpipMode,
}

#[derive(Debug)]
struct Entry {
    key: Key,
    users: usize,
    /// In the list of those to resolve.
    dirty: bool,
    /// In the list of those without users.
    dying: bool,
    /// Each hop with its share, in order.
    hops: Vec<(Hop, u64)>,
    /// In the order of `hops`.
    members: Vec<AdjacencyId>,
    /// `None` where there is one member. Before the first resolution: what to begin with.
    buckets: Option<Box<Buckets<AdjacencyId>>>,
    reads: Reads,
}

const NONE: u32 = u32::MAX;

/// All groups in use.
#[derive(Debug, Default)]
pub struct Groups {
    /// By VRF, family, set and mode.
    index: Vec<[Vec<[u32; 3]>; 2]>,
    entries: Vec<Option<Entry>>,
    free: Vec<u32>,
    dirty: Vec<u32>,
    /// Unused groups, with the epoch after which their number is free.
    dying: Vec<(u32, Option<Epoch>)>,
    dependencies: Dependencies,
    /// The hops that groups come down to.
    pub adjacencies: Adjacencies,
    table: Chunked<Group>,
    changed: bool,
}

impl Groups {
    /// The group of a key, made if needed, with one more user; and whether it was made. It is
    /// resolved by the next [`resolve`](Self::resolve). A new group begins with the buckets of
    /// its `predecessor`, the group that its prefix had before, so that flows stay where they
    /// can. `None` where all numbers are in use.
    pub fn acquire(
        &mut self,
        key: Key,
        predecessor: impl FnOnce() -> Option<GroupId>,
    ) -> Option<(GroupId, bool)> {
        let known = *self.place(&key);
        let index = if known == NONE { self.create(key, predecessor())? } else { known };
        self.entries[index as usize].as_mut()?.users += 1;
        Some((GroupId::new(index)?, known == NONE))
    }

    fn place(&mut self, key: &Key) -> &mut u32 {
        if self.index.len() <= key.vrf.index() {
            self.index.resize_with(key.vrf.index() + 1, Default::default);
        }
        let sets = &mut self.index[key.vrf.index()][key.family as usize];
        if sets.len() <= key.set.index() {
            sets.resize(key.set.index() + 1, [NONE; 3]);
        }
        &mut sets[key.set.index()][key.mode as usize]
    }

    fn create(&mut self, key: Key, predecessor: Option<GroupId>) -> Option<u32> {
        let predecessor = predecessor.and_then(|id| self.entries.get(id.index())?.as_ref());
        let buckets = predecessor.and_then(|entry| match (&entry.buckets, entry.members.first()) {
            (Some(buckets), _) => Some(buckets.clone()),
            (None, only) => only.map(|only| Box::new(Buckets::new(*only))),
        });
        let index = match self.free.pop() {
            Some(index) => index,
            None => {
                let index = u32::try_from(self.entries.len()).ok()?;
                GroupId::new(index)?;
                self.entries.push(None);
                index
            }
        };
        self.entries[index as usize] = Some(Entry {
            key,
            users: 0,
            dirty: false,
            dying: false,
            hops: Vec::new(),
            members: Vec::new(),
            buckets,
            reads: Reads::default(),
        });
        *self.place(&key) = index;
        self.mark(index);
        Some(index)
    }

    /// One user less. The number stays reserved until [`reclaim`](Self::reclaim).
    pub fn release(&mut self, id: GroupId) {
        let Some(Some(entry)) = self.entries.get_mut(id.index()) else { return };
        entry.users = entry.users.saturating_sub(1);
        if entry.users == 0 && !entry.dying {
            entry.dying = true;
            self.dying.push((id.raw(), None));
        }
    }

    /// Has a group resolved anew.
    fn mark(&mut self, index: u32) {
        if let Some(Some(entry)) = self.entries.get_mut(index as usize)
            && !entry.dirty
        {
            entry.dirty = true;
            self.dirty.push(index);
        }
    }

    fn mark_all(&mut self, groups: Vec<u32>) {
        groups.into_iter().for_each(|index| self.mark(index));
    }

    /// The addresses of uplinks changed.
    pub fn links_changed(&mut self) {
        self.mark_all(self.dependencies.on_links().collect());
    }

    /// Another port, or none, is the host's.
    pub fn host_changed(&mut self) {
        self.mark_all(self.dependencies.on_host().collect());
    }

    /// Pools changed.
    pub fn pools_changed(&mut self) {
        self.mark_all(self.dependencies.on_pools().collect());
    }

    /// A port of this name appeared or went, or an uplink came up or went down.
    pub fn port_changed(&mut self, name: &str) {
        self.mark_all(self.dependencies.on_port(name).collect());
    }

    /// The best route changed of a prefix from `first` to `last`. `concerned` tells whether it
    /// is, or would be, the longest match of a next hop in it.
    pub fn route_changed(&mut self, first: IpAddr, last: IpAddr, concerned: impl Fn(IpAddr) -> bool) {
        if !self.dependencies.has_addresses() {
            return;
        }
        let on = self.dependencies.on_addresses(first, last);
        let marked: Vec<u32> =
            on.filter(|(address, _)| concerned(*address)).flat_map(|(_, groups)| groups).collect();
        self.mark_all(marked);
    }

    /// How many groups the next [`resolve`](Self::resolve) looks at.
    #[cfg(test)]
    pub(crate) fn pending(&self) -> usize {
        self.dirty.len()
    }

    /// Resolves what is new or concerned by a change.
    pub fn resolve<'a>(
        &mut self,
        resolver: impl Fn(VrfId) -> Resolver<'a>,
        neighbors: &mut Neighbors,
        table: &NeighborTable,
    ) {
        let mut dirty = core::mem::take(&mut self.dirty);
        for index in dirty.drain(..) {
            let Some(Some(entry)) = self.entries.get_mut(index as usize) else { continue };
            entry.dirty = false;
            let key = entry.key;
            let resolver = resolver(key.vrf);
            let paths: &[Path] = match key.family {
                FamilyIndex::V4 => resolver.rib4.sets().get(key.set),
                FamilyIndex::V6 => resolver.rib6.sets().get(key.set),
            };
            let mut resolution = resolver.resolve(key.mode, paths);
            if resolution.hops.is_empty() {
                resolution.hops.push((UNRESOLVED, WHOLE));
            }
            if resolution.reads != entry.reads {
                self.dependencies.remove(index, &entry.reads);
                self.dependencies.add(index, &resolution.reads);
                entry.reads = resolution.reads;
            }
            if resolution.hops != entry.hops {
                self.set_hops(index, resolution.hops, neighbors, table);
            }
        }
        self.dirty = dirty;
    }

    fn set_hops(
        &mut self,
        index: u32,
        hops: Vec<(Hop, u64)>,
        neighbors: &mut Neighbors,
        table: &NeighborTable,
    ) {
        let Some(Some(entry)) = self.entries.get_mut(index as usize) else { return };
        // The new members before the old ones go: a number must not change its meaning while
        // buckets are compared.
        let members: Vec<AdjacencyId> =
            hops.iter().map(|(hop, _)| self.adjacencies.acquire(*hop, neighbors, table)).collect();
        let former = core::mem::replace(&mut entry.members, members);
        let group = if let [only] = entry.members[..] {
            entry.buckets = None;
            Group::One(only)
        } else {
            let first = former.first().or(entry.members.first()).copied().unwrap_or(Adjacencies::NOWHERE);
            let buckets = entry.buckets.get_or_insert_with(|| Box::new(Buckets::new(first)));
            let weighted: Vec<(AdjacencyId, u64)> =
                entry.members.iter().zip(&hops).map(|(member, (_, share))| (*member, *share)).collect();
            buckets.update(&weighted);
            Group::Spread(buckets.table().into())
        };
        entry.hops = hops;
        former.into_iter().for_each(|member| self.adjacencies.release(member));
        self.table.set(index as usize, group, &Group::One(Adjacencies::NOWHERE));
        self.changed = true;
    }

    /// Notes that everything unused so far is invisible once `epoch` has passed.
    pub fn seal(&mut self, epoch: Epoch) {
        for (_, sealed) in self.dying.iter_mut().filter(|(_, sealed)| sealed.is_none()) {
            *sealed = Some(epoch);
        }
    }

    /// Frees the numbers of groups whose epoch has passed and that nothing has used again;
    /// returns what they stood for.
    pub fn reclaim(&mut self, passed: impl Fn(Epoch) -> bool) -> Vec<Key> {
        let mut ended = Vec::new();
        self.dying.retain(|(index, sealed)| {
            let wait = !sealed.is_some_and(&passed);
            if !wait {
                ended.push(*index);
            }
            wait
        });
        ended.into_iter().filter_map(|index| self.end(index)).collect()
    }

    fn end(&mut self, index: u32) -> Option<Key> {
        let slot = self.entries.get_mut(index as usize)?;
        let entry = slot.as_mut()?;
        entry.dying = false;
        if entry.users > 0 {
            return None;
        }
        let entry = slot.take()?;
        self.dependencies.remove(index, &entry.reads);
        entry.members.iter().for_each(|member| self.adjacencies.release(*member));
        self.table.set(index as usize, Group::One(Adjacencies::NOWHERE), &Group::One(Adjacencies::NOWHERE));
        *self.place(&entry.key) = NONE;
        self.free.push(index);
        Some(entry.key)
    }

    /// Whether groups changed since the last call: tables must be published.
    pub fn take_changed(&mut self) -> bool {
        core::mem::take(&mut self.changed)
    }

    /// Groups as tables hold them.
    pub fn table(&self) -> Chunked<Group> {
        self.table.clone()
    }

    /// What a group comes down to: each hop with its share of [`WHOLE`], in order.
    pub fn hops(&self, id: GroupId) -> &[(Hop, u64)] {
        self.entries.get(id.index()).and_then(Option::as_ref).map_or(&[], |entry| &entry.hops)
    }

    /// A group in use, as what it stands for, and how many FIB entries name it; `None` for an
    /// unused number. All numbers are below [`numbers`](Self::numbers).
    pub fn get(&self, id: GroupId) -> Option<(Key, usize)> {
        let entry = self.entries.get(id.index())?.as_ref()?;
        (entry.users > 0).then_some((entry.key, entry.users))
    }

    /// How many numbers were ever given out.
    pub fn numbers(&self) -> usize {
        self.entries.len()
    }

    /// Groups in use.
    pub fn len(&self) -> usize {
        self.entries.len() - self.free.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}
