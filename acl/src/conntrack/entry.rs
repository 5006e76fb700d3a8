//! One flow: its words and its lock.
//!
//! ```text
//!   head 0    lock 1 | incarnation 31 || last seen 24 | phase 5 | egress denied 1 | ingress denied 1 | 1
//!   head 1    addresses (see hash.rs), IPv4: both, IPv6: upper half of the lower one
//!   head 2    lower port 16 | higher port 16 | zone 16 | protocol 8 | 5 | asker | IPv6 | opened by the lower end
//!   head 3    egress generation 16 | ingress generation 16 | egress endpoint 16 | ingress endpoint 16
//!
//!   body 0-3  TCP windows (tcp.rs), SCTP tags (sctp.rs), or the code of the ICMP question that opened the flow
//!   body 4    packets of the opener 28 | bytes 36
//!   body 5    the same of the replies
//!   body 6    what has left words 4 and 5 above: packets 16 | bytes 16 || packets 16 | bytes 16
//!   body 7    egress verdict: deny 1, rule 31 || ingress verdict: deny 1, rule 31
//!
//!   extra 0-2 the other address words of an IPv6 flow
//! ```
//!
//! IPv4 lookups compare the head alone: two flows a cache line. IPv6 lookups read the extras too.
//!
//! **Incarnation.** It grows each time the entry is freed, and everyone who holds a [`FlowId`] compares it: a number
//! that has been given to another flow is noticed. Readers read head 0, then the key, then head 0 again; an incarnation
//! that has changed means that the flow they looked for is gone, so there is nothing to repeat.
//!
//! **Lock.** It is held for one packet's state change (bounded: no loops), so both directions of a flow see whole
//! states. Head 0 is written last and carries time and phase with the unlocking.
//!
//! **Address translation** is not here. IPv4 flows have their extras left for a second tuple, zero until then; an IPv6
//! flow will take a second entry for it. The index already allows several slots to lead to one entry.

use super::atomic::{AtomicU64, Ordering, fence, relax};
use super::hash::{Key, SOURCE_IS_LOWER};
use super::memory::{EXTRA_WORDS, Parts};
use super::phase::{Phase, Tick};
use crate::rule::{Action, RuleId, Verdict};

const LOCK: u64 = 1;
pub(super) const INCARNATION: u64 = 0xffff_fffe;
pub(super) const LAST_SHIFT: u32 = 32;
pub(super) const PHASE_SHIFT: u32 = 56;
const SEEN: u64 = (Tick::MASK as u64) << LAST_SHIFT;
const PHASE: u64 = 31 << PHASE_SHIFT;
/// Deny bits of the egress and the ingress verdict.
const DENIED_SHIFT: u32 = 61;
pub(super) const DENIED: u64 = 3 << DENIED_SHIFT;
/// Places of the words in a head.
const STATE: usize = 0;
const ADDRESSES: usize = 1;
const REST: usize = 2;
const POLICY: usize = 3;
/// Place of the verdicts in a body.
const VERDICTS: usize = 7;
/// The largest rule number that fits beside the action.
pub(super) const MAX_RULE: u32 = (1 << 31) - 1;
const DENY: u32 = 1 << 31;
/// What is compared of a state with that of a settled flow.
pub(super) const SETTLED: u64 = LOCK | INCARNATION | SEEN | PHASE;

/// A flow in the table, as long as it lives: later users of the entry have other ids.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
#[repr(transparent)]
pub struct FlowId(pub(super) u64);

impl FlowId {
    #[inline(always)]
    pub(super) fn new(entry: u32, state: State) -> Self {
        FlowId(u64::from(entry) << 32 | state.0 & INCARNATION)
    }

    /// The entry's number, below the table's capacity.
    #[inline(always)]
    pub fn entry(self) -> u32 {
        (self.0 >> 32) as u32
    }

    #[inline(always)]
    pub(super) fn is_of(self, state: State) -> bool {
        (self.0 ^ state.0) & INCARNATION == 0
    }
}

/// Head 0 of an entry.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct State(pub(super) u64);

impl State {
    pub(super) fn is_locked(self) -> bool {
        self.0 & LOCK != 0
    }

    #[inline(always)]
    pub(super) fn phase_number(self) -> usize {
        (self.0 >> PHASE_SHIFT & 31) as usize
    }

    #[inline(always)]
    pub(super) fn phase(self) -> Phase {
        Phase::from_number((self.0 >> PHASE_SHIFT) as u8 & 31)
    }

    #[inline(always)]
    pub(super) fn last_seen(self) -> u32 {
        (self.0 >> LAST_SHIFT) as u32 & Tick::MASK
    }

    #[inline(always)]
    pub(super) fn same_incarnation(self, other: State) -> bool {
        (self.0 ^ other.0) & INCARNATION == 0
    }

    /// Whether the flow has been silent for too long. Free entries count as expired.
    #[inline(always)]
    pub(super) fn expired(self, now: Tick, timeouts: &[u32; 32]) -> bool {
        now.since(self.last_seen()) >= timeouts[self.phase_number()]
    }

    /// Whether this is the flow `id`, not locked, in this phase and seen at this time.
    #[inline(always)]
    pub(super) fn is_settled(self, id: FlowId, phase: Phase, seen: Tick) -> bool {
        let wanted = State::settled(phase, seen).0 | id.0 & INCARNATION;
        (self.0 ^ wanted) & SETTLED == 0
    }

    /// A flow's state in this phase, seen at this time, without its incarnation.
    #[inline(always)]
    pub(super) fn settled(phase: Phase, seen: Tick) -> State {
        State(0).with(phase, seen)
    }

    #[inline(always)]
    fn with(self, phase: Phase, seen: Tick) -> State {
        let kept = self.0 & (INCARNATION | DENIED);
        State(kept | u64::from(seen.0) << LAST_SHIFT | (phase as u64) << PHASE_SHIFT)
    }

    /// Whether either verdict denies the flow.
    #[inline(always)]
    pub(super) fn denied(self) -> bool {
        self.0 & DENIED != 0
    }

    fn with_verdicts(self, sides: Sides) -> State {
        let (egress, ingress) = (sides.verdicts >> 31 & 1, sides.verdicts >> 63);
        State(self.0 & !DENIED | (egress | ingress << 1) << DENIED_SHIFT)
    }
}

/// The policy verdict of one side of a flow, and the policy that gave it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SideVerdict {
    /// The local endpoint of this side, [`SideVerdict::NO_ENDPOINT`] where there is none.
    pub endpoint: u16,
    /// Its verdict about the flow in the flow's original direction.
    pub verdict: Verdict,
    /// The generation of the endpoint's policy in this direction at that time.
    pub generation: u16,
}

impl SideVerdict {
    /// The side has no local endpoint: no policy applies, none is asked again.
    pub const NO_ENDPOINT: u16 = u16::MAX;

    /// A side without a local endpoint.
    pub const NONE: SideVerdict = SideVerdict {
        endpoint: Self::NO_ENDPOINT,
        verdict: Verdict { action: Action::Allow, rule: RuleId::NONE },
        generation: 0,
    };
}

pub(super) fn pack_verdict(verdict: Verdict) -> u32 {
    verdict.rule.0 & MAX_RULE | if verdict.action == Action::Deny { DENY } else { 0 }
}

pub(super) fn unpack_verdict(packed: u32) -> Verdict {
    let action = if packed & DENY == 0 { Action::Allow } else { Action::Deny };
    Verdict { action, rule: RuleId(packed & MAX_RULE) }
}

/// What policy said about both sides of a flow: body 7 and head 3.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Sides {
    pub(super) verdicts: u64,
    pub(super) policy: u64,
}

impl Sides {
    pub(super) fn new(egress: SideVerdict, ingress: SideVerdict) -> Self {
        Sides {
            verdicts: u64::from(pack_verdict(egress.verdict))
                | u64::from(pack_verdict(ingress.verdict)) << 32,
            policy: u64::from(egress.generation)
                | u64::from(ingress.generation) << 16
                | u64::from(egress.endpoint) << 32
                | u64::from(ingress.endpoint) << 48,
        }
    }

    pub(super) fn side(self, ingress: bool) -> SideVerdict {
        let shift = if ingress { 16 } else { 0 };
        SideVerdict {
            endpoint: (self.policy >> (32 + shift)) as u16,
            verdict: unpack_verdict((self.verdicts >> (2 * shift)) as u32),
            generation: (self.policy >> shift) as u16,
        }
    }
}

/// An entry's words.
#[derive(Clone, Copy, Debug)]
pub(super) struct Entry<'v> {
    parts: &'v Parts<'v>,
    number: u32,
    head: &'v [AtomicU64; 4],
}

impl<'v> Entry<'v> {
    #[inline(always)]
    pub(super) fn new(parts: &'v Parts<'v>, number: u32) -> Option<Self> {
        Some(Entry { parts, number, head: parts.head(number)? })
    }

    #[inline(always)]
    pub(super) fn state(self) -> State {
        State(self.head[STATE].load(Ordering::Acquire))
    }

    /// Head 0 once more, if nobody has freed the entry since it was `before`. Call it after reading the key.
    #[inline(always)]
    pub(super) fn still(self, before: State) -> Option<State> {
        // Acquire: if the key came from a later incarnation, the load below sees that one's head 0.
        fence(Ordering::Acquire);
        let now = State(self.head[STATE].load(Ordering::Relaxed));
        now.same_incarnation(before).then_some(now)
    }

    /// The difference between a key's last word and this entry's: [`SOURCE_IS_LOWER`] or 0 where they agree.
    #[inline(always)]
    pub(super) fn difference(self, rest: u64) -> u64 {
        self.head[REST].load(Ordering::Relaxed) ^ rest
    }

    #[inline(always)]
    pub(super) fn address(self, word: usize) -> u64 {
        match word.checked_sub(1) {
            None => self.head[ADDRESSES].load(Ordering::Relaxed),
            Some(word) => self.parts.extra(self.number, word).load(Ordering::Relaxed),
        }
    }

    /// Whether this is the key's flow, and whether the key is that of a reply.
    #[inline(always)]
    pub(super) fn matches(self, key: &Key) -> Option<bool> {
        let difference = self.difference(key.rest);
        let words = if key.is_v6() { 1 + EXTRA_WORDS } else { 1 };
        let same = difference & !SOURCE_IS_LOWER == 0
            && (0..words).all(|word| self.address(word) == key.addresses[word]);
        same.then_some(difference != 0)
    }

    /// The key as the opener's packets have it. Only of use while the incarnation stays.
    #[inline]
    pub(super) fn key(self) -> Key {
        Key {
            addresses: core::array::from_fn(|word| self.address(word)),
            rest: self.head[REST].load(Ordering::Relaxed),
        }
    }

    #[inline(always)]
    pub(super) fn policy(self) -> u64 {
        // Acquire: a new generation is stored after its verdict.
        self.head[POLICY].load(Ordering::Acquire)
    }

    #[inline(always)]
    pub(super) fn verdicts(self) -> u64 {
        self.parts.body(self.number)[VERDICTS].load(Ordering::Relaxed)
    }

    #[inline(always)]
    pub(super) fn sides(self) -> Sides {
        let policy = self.policy();
        Sides { verdicts: self.verdicts(), policy }
    }

    /// Locks the entry if it is still the flow `id`.
    #[inline]
    pub(super) fn lock(self, id: FlowId) -> Option<LockedEntry<'v>> {
        let word = &self.head[STATE];
        let mut state = State(word.load(Ordering::Relaxed));
        let mut waited = false;
        loop {
            if !id.is_of(state) || state.phase_number() == Phase::Free as usize {
                return None;
            }
            if state.0 & LOCK == 0 {
                let locked = state.0 | LOCK;
                match word.compare_exchange_weak(state.0, locked, Ordering::Acquire, Ordering::Relaxed) {
                    Ok(_) => return Some(LockedEntry { entry: self, state }),
                    Err(now) => state = State(now),
                }
                continue;
            }
            if !waited {
                waited = true;
                self.parts.contention().fetch_add(1, Ordering::Relaxed);
            }
            relax();
            state = State(word.load(Ordering::Relaxed));
        }
    }

    /// Makes the flow of an entry that was taken from the free list, and so belongs to the caller alone. It is found
    /// once a bucket leads to it.
    pub(super) fn open(self, key: &Key, sides: Sides, phase: Phase, now: Tick) -> State {
        // Release: who reads a word of the new key sees that the old incarnation is over.
        fence(Ordering::Release);
        let [first, others @ ..] = key.addresses;
        self.head[ADDRESSES].store(first, Ordering::Relaxed);
        for (word, address) in others.into_iter().enumerate() {
            self.parts.extra(self.number, word).store(address, Ordering::Relaxed);
        }
        self.head[REST].store(key.rest, Ordering::Relaxed);
        self.head[POLICY].store(sides.policy, Ordering::Relaxed);
        self.parts.body(self.number)[VERDICTS].store(sides.verdicts, Ordering::Relaxed);
        let old = State(self.head[STATE].load(Ordering::Relaxed));
        let state = old.with(phase, now).with_verdicts(sides);
        self.head[STATE].store(state.0, Ordering::Release);
        state
    }

    /// The next entry of the free list, kept in head 1 of free entries.
    #[inline]
    pub(super) fn free_link(self) -> &'v AtomicU64 {
        &self.head[ADDRESSES]
    }
}

fn next_incarnation(state: State) -> State {
    State((state.0 & INCARNATION).wrapping_add(2) & INCARNATION)
}

/// An entry whose lock is held. It must be given back by [`unlock`](Self::unlock) or [`free`](Self::free).
#[must_use]
pub(super) struct LockedEntry<'v> {
    entry: Entry<'v>,
    state: State,
}

impl LockedEntry<'_> {
    /// Head 0 before locking.
    #[inline(always)]
    pub(super) fn state(&self) -> State {
        self.state
    }

    /// Ends the flow.
    pub(super) fn free(self) {
        self.entry.head[STATE].store(next_incarnation(self.state).0, Ordering::Release);
    }

    /// Unlocks with a new phase and time.
    #[inline(always)]
    pub(super) fn unlock(self, phase: Phase, seen: Tick) {
        self.entry.head[STATE].store(self.state.with(phase, seen).0, Ordering::Release);
    }

    /// Unlocks without a change.
    #[inline(always)]
    pub(super) fn unlock_unchanged(self) {
        self.entry.head[STATE].store(self.state.0, Ordering::Release);
    }

    /// Replaces one side's verdict.
    pub(super) fn set_side(&mut self, ingress: bool, side: SideVerdict) {
        let old = self.entry.sides();
        let (egress, ingress) = if ingress { (old.side(false), side) } else { (side, old.side(true)) };
        let new = Sides::new(egress, ingress);
        self.state = self.state.with_verdicts(new);
        self.entry.head[STATE].store(self.state.0 | LOCK, Ordering::Relaxed);
        self.entry.parts.body(self.entry.number)[VERDICTS].store(new.verdicts, Ordering::Relaxed);
        // Release: who sees the generation sees the verdict.
        self.entry.head[POLICY].store(new.policy, Ordering::Release);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sides_keep_what_they_are_given() {
        let side = |endpoint, action, rule, generation| SideVerdict {
            endpoint,
            verdict: Verdict { action, rule: RuleId(rule) },
            generation,
        };
        let egress = side(7, Action::Deny, MAX_RULE, 65_535);
        let ingress = side(9, Action::Allow, 1, 2);
        let sides = Sides::new(egress, ingress);
        assert_eq!((sides.side(false), sides.side(true)), (egress, ingress));
        assert!(State(0).with_verdicts(sides).denied());
        let allowed = Sides::new(SideVerdict::NONE, ingress);
        assert!(!State(0).with_verdicts(sides).with_verdicts(allowed).denied());
        let denied = State(0).with_verdicts(Sides::new(SideVerdict::NONE, egress));
        assert!(denied.with(Phase::UdpReplied, Tick(1)).denied());
    }

    #[test]
    fn an_incarnation_ends_with_its_flow() {
        let state = State(INCARNATION);
        assert!(!next_incarnation(state).same_incarnation(state));
        assert!(FlowId::new(5, state).is_of(state.with(Phase::TcpEstablished, Tick(9))));
        let state = state.with(Phase::TcpClosed, Tick(0x00ff_fffe));
        assert_eq!((state.phase(), state.last_seen()), (Phase::TcpClosed, 0x00ff_fffe));
    }
}
