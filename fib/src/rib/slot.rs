//! How a prefix with its candidates lies in memory.
//!
//! ```text
//!  slot, 28 bytes for IPv4:  prefix | pending | told | more | best candidate
//!                                               |      |
//!                       set that the FIB knows -+      +-> list of the candidates that lost
//! ```
//!
//! Most prefixes have one candidate, which lies in the slot itself. A slot stays for as long as
//! there is a candidate, or the FIB has yet to be told that there is none.

use super::resync::Round;
use super::{RouteSource, SetId};
use crate::Prefix;

/// The number of a slot, or [`NONE`].
pub(super) type SlotIndex = u32;
/// No slot, no list.
pub(super) const NONE: u32 = u32::MAX;

/// A candidate as it is kept.
#[derive(Clone, Copy)]
pub(super) struct Held {
    pub(super) set: SetId,
    pub(super) metric: u32,
    pub(super) source: RouteSource,
    pub(super) distance: u8,
    pub(super) round: Round,
}

impl Held {
    /// What a slot without candidates holds.
    pub(super) const VACANT: Self =
        Self { set: SetId::NONE, metric: 0, source: RouteSource::Connected, distance: u8::MAX, round: 0 };

    /// What decides between candidates of one prefix: the least wins.
    pub(super) fn rank(&self) -> (u8, u32, RouteSource) {
        (self.distance, self.metric, self.source)
    }

    pub(super) fn is_vacant(&self) -> bool {
        self.set == SetId::NONE
    }
}

/// A prefix and its best candidate.
pub(super) struct Slot<A> {
    pub(super) prefix: Prefix<A>,
    /// Whether it is in the list of what changed.
    pub(super) pending: bool,
    /// The set that the FIB was told, which counts as a user of it.
    pub(super) told: SetId,
    /// The list of further candidates in ascending rank, or [`NONE`].
    pub(super) more: u32,
    /// The candidate of the lowest rank; vacant if there is none, or if the slot is free.
    pub(super) best: Held,
}

/// Lists of candidates that lost, by number.
#[derive(Default)]
pub(super) struct Losers {
    /// An empty list is free; it keeps its memory.
    lists: Vec<Vec<Held>>,
    free: Vec<u32>,
}

impl Losers {
    pub(super) fn get(&self, list: u32) -> &[Held] {
        self.lists.get(list as usize).map_or(&[], Vec::as_slice)
    }

    pub(super) fn for_each_mut(&mut self, each: impl FnMut(&mut Held)) {
        self.lists.iter_mut().flatten().for_each(each);
    }

    /// Adds a candidate to a list, or to a new one; returns the list.
    pub(super) fn insert(&mut self, list: u32, held: Held) -> u32 {
        let list = if list == NONE { self.make() } else { list };
        let of = &mut self.lists[list as usize];
        let at = of.partition_point(|other| other.rank() < held.rank());
        of.insert(at, held);
        list
    }

    fn make(&mut self) -> u32 {
        self.free.pop().unwrap_or_else(|| {
            self.lists.push(Vec::new());
            self.lists.len() as u32 - 1
        })
    }

    /// Takes out the candidate at a position; returns it and what is left of the list.
    pub(super) fn remove(&mut self, list: u32, at: usize) -> (Held, u32) {
        let of = &mut self.lists[list as usize];
        let held = of.remove(at);
        if of.is_empty() {
            self.free.push(list);
            return (held, NONE);
        }
        (held, list)
    }

    pub(super) fn memory_bytes(&self) -> usize {
        let lists: usize = self.lists.iter().map(|list| list.capacity() * size_of::<Held>()).sum();
        lists + self.lists.capacity() * size_of::<Vec<Held>>() + self.free.capacity() * size_of::<u32>()
    }
}
