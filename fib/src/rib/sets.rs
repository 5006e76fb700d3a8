//! Sets of next hops, each kept once however many routes use it.
//!
//! ```text
//!  route 10.0.0.0/8  --+
//!  route 10.1.0.0/16 --+--> SetId 3: [via 172.16.20.1, via 172.16.20.2]   users 3
//!  group 17          --+
//! ```
//!
//! A full Internet table has hundreds of thousands of routes and a few hundred sets. Sets are
//! counted by their users: the candidates of the base, what the FIB was told, and whoever calls
//! [`NextHopSets::retain`]. The number of a set that nothing uses is used again.

use super::folded_product::FoldedProduct;
use core::fmt;
use core::hash::Hash;
use std::collections::HashMap;
use std::sync::Arc;

/// The number of a next-hop set. It means the same set for as long as something uses the set.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(transparent)]
pub struct SetId(u32);

impl SetId {
    /// Stands for "no set" where space counts.
    pub(super) const NONE: Self = Self(u32::MAX);

    /// The number, below [`NextHopSets::slots`].
    pub const fn index(self) -> usize {
        self.0 as usize
    }
}

impl fmt::Debug for SetId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "set {}", self.0)
    }
}

struct Interned<N> {
    /// `None` while the number is free.
    next_hops: Option<Arc<[N]>>,
    users: u32,
}

/// All next-hop sets in use.
pub struct NextHopSets<N> {
    by_content: HashMap<Arc<[N]>, SetId, FoldedProduct>,
    sets: Vec<Interned<N>>,
    free: Vec<SetId>,
    /// What was asked for last: routes come in runs with the same next hops.
    latest: SetId,
}

impl<N: Clone + Eq + Hash> NextHopSets<N> {
    pub(super) fn new() -> Self {
        Self { by_content: HashMap::default(), sets: Vec::new(), free: Vec::new(), latest: SetId::NONE }
    }

    /// The next hops of a set in use, as their source gave them; none of any other number.
    pub fn get(&self, id: SetId) -> &[N] {
        self.sets.get(id.index()).and_then(|set| set.next_hops.as_deref()).unwrap_or(&[])
    }

    /// The number of sets in use.
    pub fn len(&self) -> usize {
        self.by_content.len()
    }

    /// Whether no set is in use.
    pub fn is_empty(&self) -> bool {
        self.by_content.is_empty()
    }

    /// An upper bound of every [`SetId::index`].
    pub fn slots(&self) -> usize {
        self.sets.len()
    }

    /// Adds a user to a set in use.
    pub fn retain(&mut self, id: SetId) {
        if let Some(set) = self.sets.get_mut(id.index()) {
            set.users += 1;
        }
    }

    /// Takes a user away; without users the set is gone.
    pub fn release(&mut self, id: SetId) {
        let Some(set) = self.sets.get_mut(id.index()) else { return };
        debug_assert!(set.users > 0, "a set is released once by each of its users");
        set.users = set.users.saturating_sub(1);
        if set.users == 0
            && let Some(next_hops) = set.next_hops.take()
        {
            self.by_content.remove(&next_hops);
            self.free.push(id);
        }
    }

    /// The set of these next hops, made if needed, with one more user.
    pub(super) fn intern(&mut self, next_hops: &[N]) -> SetId {
        let known = if self.get(self.latest) == next_hops {
            Some(self.latest)
        } else {
            self.by_content.get(next_hops).copied()
        };
        let id = known.unwrap_or_else(|| self.make(next_hops));
        self.latest = id;
        self.sets[id.index()].users += 1;
        id
    }

    fn make(&mut self, next_hops: &[N]) -> SetId {
        let next_hops: Arc<[N]> = next_hops.into();
        let id = self.free.pop().unwrap_or(SetId(self.sets.len() as u32));
        self.by_content.insert(Arc::clone(&next_hops), id);
        let interned = Interned { next_hops: Some(next_hops), users: 0 };
        match self.sets.get_mut(id.index()) {
            Some(free) => *free = interned,
            None => self.sets.push(interned),
        }
        id
    }

    /// Bytes of the sets and of their index.
    pub(super) fn memory_bytes(&self) -> usize {
        let content: usize =
            self.by_content.keys().map(|set| size_of_val(&**set) + 2 * size_of::<usize>()).sum();
        content
            + self.by_content.capacity() * (size_of::<(Arc<[N]>, SetId)>() + 1)
            + self.sets.capacity() * size_of::<Interned<N>>()
            + self.free.capacity() * size_of::<SetId>()
    }
}
