//! Next-hop groups: the same set of hops always has the same number.
//!
//! Groups and adjacencies are interned and counted by the prefixes that use them. A
//! group that nothing uses keeps its number until a grace period has passed, because
//! a worker may still hold it from a lookup.

use std::collections::HashMap;

use fib::GroupId;

use crate::control::adjacency::Hop;
use crate::ids::AdjacencyId;
use crate::publish::Epoch;
use crate::tables::Group;

#[derive(Debug)]
struct Entry {
    hops: Vec<Hop>,
    users: usize,
}

/// All groups in use.
#[derive(Debug, Default)]
pub struct Groups {
    by_hops: HashMap<Vec<Hop>, u32>,
    entries: Vec<Option<Entry>>,
    /// Unused groups, with the epoch after which their number is free.
    dying: Vec<(u32, Option<Epoch>)>,
    adjacency_of: HashMap<Hop, AdjacencyId>,
    hops: Vec<Option<(Hop, usize)>>,
    grown: bool,
}

impl Groups {
    /// The group of these hops, made if needed, with one more user.
    /// `None` where all numbers are in use.
    pub fn acquire(&mut self, hops: Vec<Hop>) -> Option<GroupId> {
        let index = match self.by_hops.get(&hops) {
            Some(index) => *index,
            None => self.create(hops)?,
        };
        self.entries[index as usize].as_mut()?.users += 1;
        self.dying.retain(|(dying, _)| *dying != index);
        GroupId::new(index)
    }

    fn create(&mut self, hops: Vec<Hop>) -> Option<u32> {
        let free = self.entries.iter().position(Option::is_none);
        let index = free.unwrap_or(self.entries.len());
        GroupId::new(u32::try_from(index).ok()?)?;
        for hop in &hops {
            self.acquire_hop(*hop);
        }
        let entry = Some(Entry { hops: hops.clone(), users: 0 });
        if index == self.entries.len() {
            self.entries.push(entry);
        } else {
            self.entries[index] = entry;
        }
        self.by_hops.insert(hops, index as u32);
        self.grown = true;
        Some(index as u32)
    }

    fn acquire_hop(&mut self, hop: Hop) {
        if let Some(id) = self.adjacency_of.get(&hop) {
            if let Some((_, users)) = &mut self.hops[id.index()] {
                *users += 1;
            }
            return;
        }
        let index = self.hops.iter().position(Option::is_none).unwrap_or(self.hops.len());
        if index == self.hops.len() {
            self.hops.push(None);
        }
        self.hops[index] = Some((hop, 1));
        self.adjacency_of.insert(hop, AdjacencyId(index as u32));
    }

    /// One user less. The number stays reserved until [`reclaim`](Self::reclaim).
    pub fn release(&mut self, id: GroupId) {
        if let Some(Some(entry)) = self.entries.get_mut(id.index()) {
            entry.users = entry.users.saturating_sub(1);
            if entry.users == 0 {
                self.dying.push((id.raw(), None));
            }
        }
    }

    /// Notes that everything unused so far is invisible once `epoch` has passed.
    pub fn seal(&mut self, epoch: Epoch) {
        for (_, sealed) in self.dying.iter_mut().filter(|(_, sealed)| sealed.is_none()) {
            *sealed = Some(epoch);
        }
    }

    /// Frees the numbers of groups whose epoch has passed; returns whether there were any.
    pub fn reclaim(&mut self, passed: impl Fn(Epoch) -> bool) -> bool {
        let (free, kept): (Vec<_>, Vec<_>) =
            self.dying.drain(..).partition(|(_, sealed)| sealed.is_some_and(&passed));
        self.dying = kept;
        let any = !free.is_empty();
        for (index, _) in free {
            let Some(entry) = self.entries[index as usize].take() else { continue };
            self.by_hops.remove(&entry.hops);
            for hop in entry.hops {
                self.release_hop(hop);
            }
        }
        any
    }

    fn release_hop(&mut self, hop: Hop) {
        let Some(id) = self.adjacency_of.get(&hop).copied() else { return };
        if let Some((_, users)) = &mut self.hops[id.index()] {
            *users -= 1;
            if *users == 0 {
                self.hops[id.index()] = None;
                self.adjacency_of.remove(&hop);
            }
        }
    }

    /// Whether groups were made since the last call: tables must be published.
    pub fn take_grown(&mut self) -> bool {
        core::mem::take(&mut self.grown)
    }

    /// Groups and hops as tables hold them, unused numbers filled with drops.
    pub fn snapshot(&self) -> (Box<[Group]>, Vec<Hop>) {
        let none = Hop::Drop(crate::drop_reason::DropReason::NextHopUnresolved);
        let hops: Vec<Hop> = self.hops.iter().map(|hop| hop.map_or(none, |(hop, _)| hop)).collect();
        let groups = self
            .entries
            .iter()
            .map(|entry| match entry {
                Some(entry) => Group {
                    members: entry
                        .hops
                        .iter()
                        .filter_map(|hop| self.adjacency_of.get(hop))
                        .copied()
                        .collect(),
                },
                None => Group { members: Box::new([AdjacencyId(hops.len() as u32)]) },
            })
            .collect();
        (groups, hops)
    }

    /// The hops of a group.
    pub fn hops(&self, id: GroupId) -> &[Hop] {
        self.entries.get(id.index()).and_then(Option::as_ref).map_or(&[], |entry| &entry.hops)
    }

    /// Every hop in use.
    pub fn all_hops(&self) -> impl Iterator<Item = Hop> + '_ {
        self.hops.iter().flatten().map(|(hop, _)| *hop)
    }

    /// Groups in use.
    pub fn len(&self) -> usize {
        self.entries.iter().flatten().count()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}
