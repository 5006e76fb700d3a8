//! The routing information base: every route that every source offers, and which one wins.
//!
//! ```text
//!  10.100.169.128/26   bgp     distance  20  metric 0  via 172.16.20.253   <- best
//!                      kernel  distance 110  metric 9  via 172.16.20.1
//!  10.100.36.103/32    static  distance   1  metric 0  dev cali12          <- best
//! ```
//!
//! One source has at most one candidate per prefix, with all its equal-cost next hops. The best
//! candidate has the lowest distance, then the lowest metric, then the first source in the order
//! of [`RouteSource`]; next hops of different sources are never mixed. What changed since the
//! last time is collected per prefix and handed out by [`Rib::drain_changes`], so that a route
//! which flaps in between costs one change or none.
//!
//! A base is one address family of one VRF: VRFs are further values of [`Rib`], which know
//! nothing of each other.
//!
//! **In memory.** Prefixes lie in an array of slots that a hash index finds; next hops are sets
//! that routes share ([`NextHopSets`]). A route costs 45 to 90 bytes, and replacing, withdrawing
//! and announcing it again allocates nothing. The longest match probes the index once for each
//! prefix length that occurs, longest first. There is no order among slots: who wants one (what
//! is drained, what is displayed) sorts prefixes.
//!
//! | file | what |
//! |---|---|
//! | `source` | who offers routes |
//! | `sets` | next-hop sets |
//! | `slot` | a prefix with its candidates in memory |
//! | `resync` | announcing anew, stale routes and their deadline |
//! | `folded_product` | the hash of both indices |

mod folded_product;
mod resync;
mod sets;
mod slot;
mod source;

use crate::{Address, Prefix};
use core::hash::Hash;
use std::collections::HashMap;
use thiserror::Error;

use folded_product::FoldedProduct;
use resync::Resync;
use slot::{Held, Losers, NONE, Slot, SlotIndex};

pub use sets::{NextHopSets, SetId};
pub use source::RouteSource;

#[cfg(test)]
mod laws;
#[cfg(test)]
mod tests;

/// What one source offers for one prefix.
#[derive(Debug, PartialEq, Eq)]
pub struct Candidate<'a, N> {
    /// Who offers it.
    pub source: RouteSource,
    /// Administrative distance: lower wins, [`Candidate::UNUSABLE`] never does.
    pub distance: u8,
    /// The source's own measure, compared only at equal distance: lower wins.
    pub metric: u32,
    /// The next hops, all of equal cost; never empty. Their order and repetitions are the
    /// source's, and a change of either is a change of the route.
    pub next_hops: &'a [N],
}

impl<N> Clone for Candidate<'_, N> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<N> Copy for Candidate<'_, N> {}

/// Why a candidate is not the one in use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lost {
    /// It is never used: [`Candidate::UNUSABLE`].
    Unusable,
    /// The best candidate has a lower distance.
    Distance,
    /// The best candidate has a lower metric at the same distance.
    Metric,
    /// The best candidate's source comes first at the same distance and metric.
    SourceOrder,
}

impl<'a, N> Candidate<'a, N> {
    /// The distance of candidates that are kept and shown but never used.
    pub const UNUSABLE: u8 = u8::MAX;

    /// A candidate with its source's default distance and metric 0.
    pub fn new(source: RouteSource, next_hops: &'a [N]) -> Self {
        Self { source, distance: source.default_distance(), metric: 0, next_hops }
    }

    /// Why this candidate is not in use where `best` is; `None` for the best itself.
    pub fn lost_to(&self, best: &Self) -> Option<Lost> {
        if self.distance == Self::UNUSABLE {
            Some(Lost::Unusable)
        } else if self.source == best.source {
            None
        } else if self.distance != best.distance {
            Some(Lost::Distance)
        } else if self.metric != best.metric {
            Some(Lost::Metric)
        } else {
            Some(Lost::SourceOrder)
        }
    }
}

/// A candidate was announced without next hops. To discard packets, announce the kind of next
/// hop that does so.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("a {source_name} route needs at least one next hop", source_name = .0.name())]
pub struct NoNextHops(pub RouteSource);

/// A prefix whose next hops are not what they were at the last [`Rib::drain_changes`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Change<A> {
    /// The prefix.
    pub prefix: Prefix<A>,
    /// The next hops of the best route, or `None` if the prefix must go from the FIB.
    pub best: Option<SetId>,
}

/// All candidates of all prefixes of one family. `N` is a next hop as control understands it.
pub struct Rib<A, N> {
    index: HashMap<Prefix<A>, SlotIndex, FoldedProduct>,
    slots: Vec<Slot<A>>,
    free: Vec<SlotIndex>,
    /// How many slots have a prefix of each length.
    lengths: Box<[u32]>,
    /// Prefixes with at least one candidate.
    len: usize,
    losers: Losers,
    sets: NextHopSets<N>,
    resyncs: [Resync; RouteSource::ALL.len()],
    /// Slots touched since the last drain.
    pending: Vec<SlotIndex>,
}

impl<A: Address, N: Clone + Eq + Hash> Default for Rib<A, N> {
    fn default() -> Self {
        Self::new()
    }
}

impl<A: Address, N: Clone + Eq + Hash> Rib<A, N> {
    /// An empty base.
    pub fn new() -> Self {
        Self {
            index: HashMap::default(),
            slots: Vec::new(),
            free: Vec::new(),
            lengths: vec![0; usize::from(A::BITS) + 1].into(),
            len: 0,
            losers: Losers::default(),
            sets: NextHopSets::new(),
            resyncs: Default::default(),
            pending: Vec::new(),
        }
    }

    /// Takes `candidate` as what its source now offers for `prefix`, in place of what it
    /// offered before; returns whether it had offered something.
    ///
    /// # Errors
    /// [`NoNextHops`] if there are none. Nothing has changed then.
    pub fn announce(&mut self, prefix: Prefix<A>, candidate: Candidate<'_, N>) -> Result<bool, NoNextHops> {
        let Candidate { source, distance, metric, next_hops } = candidate;
        if next_hops.is_empty() {
            return Err(NoNextHops(source));
        }
        let set = self.sets.intern(next_hops);
        let round = self.resyncs[source as usize].round;
        let held = Held { set, metric, source, distance, round };
        let at = self.slot_of(prefix);
        let best = self.slots[at as usize].best;
        if best.is_vacant() {
            self.len += 1;
        } else if best.source != source {
            // Another source's candidate is the best: ours, if any, is among the losers.
            let former = self.take_loser(at, source);
            let replaced = former.is_some();
            if let Some(former) = former {
                self.sets.release(former.set);
            }
            let slot = &mut self.slots[at as usize];
            let loser =
                if held.rank() < best.rank() { core::mem::replace(&mut slot.best, held) } else { held };
            slot.more = self.losers.insert(slot.more, loser);
            if loser.source != source {
                self.touch(at);
            }
            return Ok(replaced);
        }
        self.slots[at as usize].best = held;
        if !best.is_vacant() {
            self.sets.release(best.set);
            self.promote(at);
        }
        self.touch(at);
        Ok(!best.is_vacant())
    }

    /// Takes back what `source` offers for `prefix`; returns whether it offered something.
    pub fn withdraw(&mut self, prefix: &Prefix<A>, source: RouteSource) -> bool {
        let at = self.index.get(prefix).copied();
        at.is_some_and(|at| self.withdraw_at(at, source))
    }

    fn withdraw_at(&mut self, at: SlotIndex, source: RouteSource) -> bool {
        let slot = &mut self.slots[at as usize];
        if slot.best.is_vacant() {
            return false;
        }
        if slot.best.source != source {
            let Some(former) = self.take_loser(at, source) else { return false };
            self.sets.release(former.set);
            return true;
        }
        let former = core::mem::replace(&mut slot.best, Held::VACANT);
        self.sets.release(former.set);
        self.promote(at);
        if self.slots[at as usize].best.is_vacant() {
            self.len -= 1;
        }
        self.touch(at);
        true
    }

    /// Lets the first loser win if its rank is lower than that of the best.
    fn promote(&mut self, at: SlotIndex) {
        let slot = &mut self.slots[at as usize];
        let Some(first) = self.losers.get(slot.more).first() else { return };
        if !slot.best.is_vacant() && slot.best.rank() < first.rank() {
            return;
        }
        let (first, more) = self.losers.remove(slot.more, 0);
        let former = core::mem::replace(&mut slot.best, first);
        slot.more = if former.is_vacant() { more } else { self.losers.insert(more, former) };
    }

    fn take_loser(&mut self, at: SlotIndex, source: RouteSource) -> Option<Held> {
        let slot = &mut self.slots[at as usize];
        let position = self.losers.get(slot.more).iter().position(|held| held.source == source)?;
        let (held, more) = self.losers.remove(slot.more, position);
        slot.more = more;
        Some(held)
    }

    /// The slot of a prefix, made if needed.
    fn slot_of(&mut self, prefix: Prefix<A>) -> SlotIndex {
        let next = self.free.last().copied().unwrap_or(self.slots.len() as SlotIndex);
        let at = *self.index.entry(prefix).or_insert(next);
        if at != next {
            return at;
        }
        let fresh = Slot { prefix, pending: false, told: SetId::NONE, more: NONE, best: Held::VACANT };
        match self.free.pop() {
            Some(_) => self.slots[at as usize] = fresh,
            None => self.slots.push(fresh),
        }
        self.lengths[usize::from(prefix.len())] += 1;
        at
    }

    fn free_slot(&mut self, at: SlotIndex) {
        let prefix = self.slots[at as usize].prefix;
        self.index.remove(&prefix);
        self.lengths[usize::from(prefix.len())] -= 1;
        self.free.push(at);
    }

    fn touch(&mut self, at: SlotIndex) {
        let slot = &mut self.slots[at as usize];
        if !slot.pending {
            slot.pending = true;
            self.pending.push(at);
        }
    }

    /// Withdraws what `source` announced before its present round.
    fn sweep(&mut self, source: RouteSource, round: resync::Round) -> usize {
        let is_stale = |held: &Held| !held.is_vacant() && held.source == source && held.round != round;
        let mut swept = 0;
        for at in 0..self.slots.len() {
            let slot = &self.slots[at];
            if is_stale(&slot.best) || self.losers.get(slot.more).iter().any(is_stale) {
                swept += usize::from(self.withdraw_at(at as SlotIndex, source));
            }
        }
        swept
    }

    fn for_each_held(&mut self, mut each: impl FnMut(&mut Held)) {
        self.slots.iter_mut().for_each(|slot| each(&mut slot.best));
        self.losers.for_each_mut(each);
    }

    /// The candidate in use for exactly this prefix.
    pub fn best(&self, prefix: &Prefix<A>) -> Option<Candidate<'_, N>> {
        Some(self.view(self.usable(self.slot(prefix)?)?))
    }

    /// The next hops in use for exactly this prefix.
    pub fn best_set(&self, prefix: &Prefix<A>) -> Option<SetId> {
        Some(self.usable(self.slot(prefix)?)?.set)
    }

    /// All candidates of exactly this prefix, the best first.
    pub fn candidates(&self, prefix: &Prefix<A>) -> impl Iterator<Item = Candidate<'_, N>> {
        self.slot(prefix).into_iter().flat_map(|slot| self.held(slot)).map(|held| self.view(held))
    }

    /// How many positions [`prefix_at`](Rib::prefix_at) knows.
    pub fn positions(&self) -> usize {
        self.slots.len()
    }

    /// The prefix at a position, if there is one with a candidate.
    ///
    /// Walking through all positions, in as many steps as one likes and with changes in
    /// between, meets every prefix that stays exactly once. The order means nothing.
    pub fn prefix_at(&self, position: usize) -> Option<Prefix<A>> {
        let slot = self.slots.get(position)?;
        (!slot.best.is_vacant()).then_some(slot.prefix)
    }

    /// All prefixes with at least one candidate, in no order.
    pub fn prefixes(&self) -> impl Iterator<Item = Prefix<A>> + '_ {
        (0..self.slots.len()).filter_map(|position| self.prefix_at(position))
    }

    /// The route in use for `addr`: the best of the longest prefix that has a usable candidate.
    pub fn longest_match(&self, addr: A) -> Option<(Prefix<A>, Candidate<'_, N>)> {
        self.matches(addr).next()
    }

    /// The routes of all prefixes that contain `addr` and have a usable candidate, longest first.
    pub fn matches(&self, addr: A) -> impl Iterator<Item = (Prefix<A>, Candidate<'_, N>)> {
        let host = Prefix::host(addr);
        let lengths = (0..=A::BITS).rev().filter(|len| self.lengths[usize::from(*len)] > 0);
        lengths.filter_map(move |len| {
            let prefix = host.shortened(len);
            Some((prefix, self.best(&prefix)?))
        })
    }

    /// The number of prefixes with at least one candidate.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there is no candidate at all.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The next-hop sets of all candidates.
    pub fn sets(&self) -> &NextHopSets<N> {
        &self.sets
    }

    /// The next-hop sets, for users beside the candidates.
    pub fn sets_mut(&mut self) -> &mut NextHopSets<N> {
        &mut self.sets
    }

    /// Appends to `changes` what the FIB must be told since the last call: each prefix once,
    /// with its present next hops, and only if they differ from what the FIB was told before.
    ///
    /// Routes to set come first and prefixes to remove last, each in ascending order. Applied in
    /// this order, no address loses its last route while another is about to take over.
    pub fn drain_changes(&mut self, changes: &mut Vec<Change<A>>) {
        let first = changes.len();
        let mut pending = core::mem::take(&mut self.pending);
        changes.reserve(pending.len());
        for at in pending.drain(..) {
            let slot = &self.slots[at as usize];
            let (prefix, told) = (slot.prefix, slot.told);
            let best = self.usable(slot).map(|held| held.set);
            let gone = slot.best.is_vacant();
            let slot = &mut self.slots[at as usize];
            slot.pending = false;
            slot.told = best.unwrap_or(SetId::NONE);
            if slot.told != told {
                changes.push(Change { prefix, best });
                if let Some(best) = best {
                    self.sets.retain(best);
                }
                self.sets.release(told);
            }
            if gone {
                self.free_slot(at);
            }
        }
        self.pending = pending;
        sort(&mut changes[first..]);
    }

    /// Bytes held, next hops that own memory of their own not looked into.
    pub fn memory_bytes(&self) -> usize {
        // A hash table keeps one byte a place beside its entries, and an eighth of it empty.
        let places = self.index.capacity() * 8 / 7;
        places * (size_of::<(Prefix<A>, SlotIndex)>() + 1)
            + self.slots.capacity() * size_of::<Slot<A>>()
            + (self.free.capacity() + self.pending.capacity()) * size_of::<SlotIndex>()
            + self.losers.memory_bytes()
            + self.sets.memory_bytes()
    }

    fn slot(&self, prefix: &Prefix<A>) -> Option<&Slot<A>> {
        Some(&self.slots[*self.index.get(prefix)? as usize])
    }

    /// The candidates of a slot, the best first.
    fn held<'a>(&'a self, slot: &'a Slot<A>) -> impl Iterator<Item = &'a Held> {
        let best = (!slot.best.is_vacant()).then_some(&slot.best);
        best.into_iter().chain(self.losers.get(slot.more))
    }

    /// The best candidate, unless even that one is unusable.
    fn usable<'a>(&self, slot: &'a Slot<A>) -> Option<&'a Held> {
        (slot.best.distance != Candidate::<N>::UNUSABLE).then_some(&slot.best)
    }

    fn view(&self, held: &Held) -> Candidate<'_, N> {
        Candidate {
            source: held.source,
            distance: held.distance,
            metric: held.metric,
            next_hops: self.sets.get(held.set),
        }
    }
}

/// Routes to set before those to remove, by prefix.
fn sort<A: Address>(changes: &mut [Change<A>]) {
    // One comparison of numbers tells most prefixes apart: the first 32 bits and the length.
    let key = |change: &Change<A>| {
        let gone = u64::from(change.best.is_none());
        gone << 40 | (change.prefix.addr().slice(0, 32) as u64) << 8 | u64::from(change.prefix.len())
    };
    if A::BITS == 32 {
        changes.sort_unstable_by_key(key);
    } else {
        changes.sort_unstable_by_key(|change| (change.best.is_none(), change.prefix));
    }
}
