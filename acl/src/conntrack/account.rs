//! Fair shares: what each endpoint has in the table, and who must give way.
//!
//! A flow is charged to its local source, or where the source is not local to its local destination: a flood from
//! outside against one pod is that pod's share. Only flows that nobody would miss are ever evicted
//! ([`Phase::is_evictable`](super::Phase::is_evictable)): half-open and ended ones.
//!
//! ```text
//!   own half-open and ended flows      >= evictable                 the new flow takes the place of one of its own
//!   fewer than `reserve` entries free  >= evictable_under_pressure  the same
//!   no entry free                      a flow of an endpoint that has at least as many gives way; else refused
//! ```
//!
//! Where all buckets of a key are full, a flow in one of them gives way by the last of these rules.
//!
//! So a flood uses the flooder's share, and what is left when the table runs full is kept for the others.

use super::atomic::Ordering;
use super::bucket::SLOTS;
use super::entry::{Entry, FlowId};
use super::error::Refused;
use super::hash::Hash;
use super::phase::{Phase, Tick};
use super::table::View;

/// Entries looked at for a victim.
const EVICTION_SCAN: u32 = 64;

/// One flow in an account's word.
const FLOW: u64 = 1 << 32;

impl View<'_> {
    /// The account that a flow with these endpoints is charged to.
    pub(super) fn account_for(&self, egress: u16, ingress: u16) -> Option<usize> {
        let (source, destination) = (self.account_of(egress)?, self.account_of(ingress)?);
        Some(if egress == super::SideVerdict::NO_ENDPOINT { destination } else { source })
    }

    /// The account of a flow in the table.
    #[inline]
    pub(super) fn charged(&self, entry: Entry<'_>) -> Option<usize> {
        let policy = entry.policy();
        self.account_for((policy >> 32) as u16, (policy >> 48) as u16)
    }

    pub(super) fn charge(&self, account: usize, phase: Phase) {
        let amount = FLOW + u64::from(phase.is_evictable());
        self.parts.account(account).fetch_add(amount, Ordering::Relaxed);
        self.parts.live().fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn discharge(&self, account: Option<usize>, phase: Phase) {
        let amount = FLOW + u64::from(phase.is_evictable());
        if let Some(account) = account {
            self.parts.account(account).fetch_sub(amount, Ordering::Relaxed);
        }
        self.parts.live().fetch_sub(1, Ordering::Relaxed);
    }

    /// Notes that a flow has gone from one phase to another.
    #[inline(always)]
    pub(super) fn moved(&self, entry: Entry<'_>, from: Phase, to: Phase) {
        if from.is_evictable() != to.is_evictable() {
            self.moved_across(entry, to.is_evictable());
        }
    }

    #[cold]
    fn moved_across(&self, entry: Entry<'_>, to_evictable: bool) {
        let Some(account) = self.charged(entry) else { return };
        let word = self.parts.account(account);
        if to_evictable {
            word.fetch_add(1, Ordering::Relaxed);
        } else {
            word.fetch_sub(1, Ordering::Relaxed);
        }
    }

    #[inline]
    fn evictable_of(&self, account: usize) -> u32 {
        self.parts.account(account).load(Ordering::Relaxed) as u32
    }

    /// Whether the account may open one more flow; makes room by evicting one of its own where it has its share.
    pub(super) fn admit(&self, account: usize, now: Tick) -> Result<(), Refused> {
        let limits = &self.fixed.limits;
        let word = self.parts.account(account).load(Ordering::Relaxed);
        if (word >> 32) as u32 >= limits.flows {
            return Err(Refused::FlowLimit);
        }
        let live = self.parts.live().load(Ordering::Relaxed);
        let free = u64::from(self.fixed.layout.capacity.flows).saturating_sub(live);
        let pressed = free < u64::from(limits.reserve);
        let share = if pressed { limits.evictable_under_pressure } else { limits.evictable };
        if word as u32 >= share.min(limits.evictable) && !self.evict_own(account, now) {
            return Err(Refused::EvictableLimit);
        }
        Ok(())
    }

    /// An entry for a new flow of the account.
    pub(super) fn allocate(&self, account: usize, now: Tick) -> Result<u32, Refused> {
        for _ in 0..3 {
            if let Some(number) = self.pop_free() {
                return Ok(number);
            }
            if !self.evict_other(account, now) {
                break;
            }
        }
        self.pop_free().ok_or(Refused::TableFull)
    }

    /// Evicts the first flow of the account that may be and that the hand meets; the hand stays there, since an
    /// account's flows lie together.
    fn evict_own(&self, account: usize, now: Tick) -> bool {
        let mut unseen = self.scan_len();
        self.scan().any(|number| {
            unseen -= 1;
            let Some((id, entry, _)) = self.victim(number) else { return false };
            let evicted = self.charged(entry) == Some(account) && self.evict(id, now);
            if evicted {
                self.parts.eviction_hand().fetch_sub(unseen, Ordering::Relaxed);
            }
            evicted
        })
    }

    /// Evicts, of the entries that the hand meets, one of the account that has most; an ended one rather than a
    /// half-open one, the oldest.
    fn evict_other(&self, account: usize, now: Tick) -> bool {
        let own = self.evictable_of(account);
        let mut best: Option<((u32, bool, u32), FlowId)> = None;
        for number in self.scan() {
            let Some(entry) = self.entry(number) else { continue };
            let state = entry.state();
            if state.phase() == Phase::Free {
                continue;
            }
            if state.expired(now, &self.fixed.timeouts) && self.evict(FlowId::new(number, state), now) {
                return true;
            }
            let Some((id, entry, age)) = self.victim(number) else { continue };
            let Some(theirs) = self.charged(entry).map(|account| self.evictable_of(account)) else {
                continue;
            };
            let score = (theirs, state.phase().has_ended(), now.since(age));
            if theirs >= own && best.is_none_or(|(found, _)| score > found) {
                best = Some((score, id));
            }
        }
        best.is_some_and(|(_, id)| self.evict(id, now))
    }

    /// Evicts one flow from the buckets of a key, of an account that has as many of the kind as this one.
    #[cold]
    pub(super) fn evict_from_buckets(&self, hash: Hash, account: usize, now: Tick) -> bool {
        let own = self.evictable_of(account);
        let slots = self.buckets_of(hash).flat_map(|at| (0..SLOTS).map(move |slot| (at, slot)));
        slots.into_iter().any(|(at, slot)| {
            let Some((id, entry, _)) = self.victim(self.entry_in(self.bucket(at), slot)) else {
                return false;
            };
            let theirs = self.charged(entry).map(|account| self.evictable_of(account));
            theirs.is_some_and(|theirs| theirs >= own) && self.evict(id, now)
        })
    }

    /// The next entries under the eviction hand.
    fn scan(&self) -> impl Iterator<Item = u32> + use<> {
        let flows = u64::from(self.fixed.layout.capacity.flows);
        let count = self.scan_len();
        let start = self.parts.eviction_hand().fetch_add(count, Ordering::Relaxed);
        (0..count).map(move |n| ((start + n) % flows) as u32)
    }

    fn scan_len(&self) -> u64 {
        u64::from(self.fixed.layout.capacity.flows.min(EVICTION_SCAN))
    }

    /// The flow of an entry, its last time, if it may be evicted.
    fn victim(&self, number: u32) -> Option<(FlowId, Entry<'_>, u32)> {
        let entry = self.entry(number)?;
        let state = entry.state();
        state.phase().is_evictable().then(|| (FlowId::new(number, state), entry, state.last_seen()))
    }

    fn evict(&self, id: FlowId, now: Tick) -> bool {
        self.remove_if(id, |state| state.phase().is_evictable() || state.expired(now, &self.fixed.timeouts))
    }
}
