//! Opening and removing flows.
//!
//! Find-or-insert of a key is atomic because it happens under the lock of the key's first bucket, which everyone takes
//! who opens or removes a flow of that key. Locks are taken in this order: buckets by number, then an entry.
//!
//! ```text
//!   open     take a free entry -> lock first bucket -> look for the key -> write the entry -> fill a slot -> unlock
//!            (first bucket full: lock it and one of the key's others, in order; look again)
//!   remove   lock the bucket(s) -> lock the entry, compare its incarnation -> empty the slot -> free -> unlock
//! ```

use super::atomic::Ordering;
use super::bucket::{self, Locked};
use super::entry::{FlowId, MAX_RULE, SideVerdict, Sides, State};
use super::error::Refused;
use super::hash::{Hash, Key};
use super::phase::{Phase, Tick};
use super::table::{Hit, View};
use super::tcp::connection::Connection;

/// A flow to be opened.
pub(super) struct Opening {
    pub(super) key: Key,
    pub(super) hash: Hash,
    pub(super) phase: Phase,
    pub(super) protocol: [u64; 4],
    pub(super) egress: SideVerdict,
    pub(super) ingress: SideVerdict,
    /// When its last packet was seen.
    pub(super) seen: Tick,
    /// The counters' words.
    pub(super) counted: [u64; 3],
    /// The flow of this key that has ended and is to be replaced.
    pub(super) replaces: Option<FlowId>,
}

/// How a flow was opened.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Opened {
    /// It is new.
    New(FlowId),
    /// Another packet of the flow, perhaps at another worker, has opened it meanwhile.
    Existing {
        /// The flow.
        flow: FlowId,
        /// Whether this packet is one of its replies.
        reply: bool,
    },
}

impl Opened {
    /// The flow.
    pub fn flow(self) -> FlowId {
        match self {
            Opened::New(flow) | Opened::Existing { flow, .. } => flow,
        }
    }
}

/// What an attempt to insert found.
enum Attempt {
    Done(State),
    Present(Hit),
    Full,
}

impl<'a> View<'a> {
    /// Opens a flow, or finds that it is open.
    pub(super) fn open(&self, opening: &Opening, now: Tick) -> Result<Opened, Refused> {
        let Opening { egress, ingress, .. } = opening;
        if egress.verdict.rule.0.max(ingress.verdict.rule.0) > MAX_RULE {
            return Err(Refused::RuleOutOfRange);
        }
        let account = self.account_for(egress.endpoint, ingress.endpoint).ok_or(Refused::UnknownEndpoint)?;
        self.admit(account, now)?;
        let number = self.allocate(account, now)?;
        // Before anyone can find the flow, and remove it.
        self.charge(account, opening.phase);
        let opened = self.find_or_place(opening, account, number, now);
        if !matches!(opened, Ok(Opened::New(_))) {
            self.discharge(Some(account), opening.phase);
            self.push_free(number);
        }
        opened
    }

    /// Finds the flow, or opens it in entry `number`, which belongs to the caller until then.
    fn find_or_place(
        &self,
        opening: &Opening,
        account: usize,
        number: u32,
        now: Tick,
    ) -> Result<Opened, Refused> {
        // Each turn but the last has removed a dead flow of the key or found another bucket full.
        for _ in 0..2 * bucket::PROBES {
            let attempt = match self.try_first(opening, number) {
                Attempt::Full => self.try_others(opening, number),
                attempt => attempt,
            };
            match attempt {
                Attempt::Done(state) => return Ok(Opened::New(FlowId::new(number, state))),
                Attempt::Present(hit) => {
                    let id = FlowId::new(hit.entry, hit.state);
                    let replaced = opening.replaces == Some(id);
                    let dead = |state: State| replaced || state.expired(now, &self.fixed.timeouts);
                    if !dead(hit.state) {
                        return Ok(Opened::Existing { flow: id, reply: hit.reply });
                    }
                    self.remove_if(id, dead);
                }
                Attempt::Full if self.evict_from_buckets(opening.hash, account, now) => {}
                Attempt::Full => break,
            }
        }
        Err(Refused::BucketsFull)
    }

    fn try_first(&self, opening: &Opening, number: u32) -> Attempt {
        let first = self.lock(opening.hash.bucket(self.fixed.layout.buckets));
        if let Some(hit) = self.find(&opening.key, opening.hash) {
            return Attempt::Present(hit);
        }
        match first.vacancy() {
            Some(slot) => Attempt::Done(self.place(&first, slot, opening, number)),
            None => Attempt::Full,
        }
    }

    #[cold]
    fn try_others(&self, opening: &Opening, number: u32) -> Attempt {
        let mut buckets = self.buckets_of(opening.hash);
        let Some(first_at) = buckets.next() else { return Attempt::Full };
        for (probe, at) in buckets.enumerate() {
            let (first, other) = self.lock_both(first_at, at);
            // The first bucket was unlocked in between.
            if let Some(hit) = self.find(&opening.key, opening.hash) {
                return Attempt::Present(hit);
            }
            if let Some(slot) = first.vacancy() {
                return Attempt::Done(self.place(&first, slot, opening, number));
            }
            if let Some(slot) = other.vacancy() {
                // Count first: a reader that sees the slot's tag missing in the first bucket must look further.
                first.overflow_to(probe + 1);
                return Attempt::Done(self.place(&other, slot, opening, number));
            }
        }
        Attempt::Full
    }

    /// Writes the entry, then leads to it. The first bucket of the key is locked.
    fn place(&self, into: &Locked<'_>, slot: usize, opening: &Opening, number: u32) -> State {
        let (words, counters) = self.protocol(number);
        // Who still has the words of the entry's last flow gives them back first.
        let connection = Connection(words).lock(self.parts.contention());
        counters.iter().zip(opening.counted).for_each(|(word, value)| word.store(value, Ordering::Relaxed));
        connection.write(opening.protocol);
        let sides = Sides::new(opening.egress, opening.ingress);
        let Some(entry) = self.entry(number) else { return State(0) };
        let state = entry.open(&opening.key, sides, opening.phase, opening.seen);
        into.fill(slot, opening.hash.tag(), self.marked(number, opening.hash));
        state
    }

    fn lock(&self, at: usize) -> Locked<'a> {
        self.bucket(at).lock(self.parts.contention())
    }

    /// Locks two different buckets in order of their numbers; returns them as they were named.
    fn lock_both(&self, a: usize, b: usize) -> (Locked<'a>, Locked<'a>) {
        if a < b {
            let a = self.lock(a);
            (a, self.lock(b))
        } else {
            let b = self.lock(b);
            (self.lock(a), b)
        }
    }

    /// Removes the flow `id` if it still lives and `condition` holds while it is locked. Returns whether it did.
    pub(super) fn remove_if(&self, id: FlowId, condition: impl Fn(State) -> bool) -> bool {
        let Some(entry) = self.entry(id.entry()) else { return false };
        let state = entry.state();
        let key = entry.key();
        if FlowId::new(id.entry(), state) != id
            || entry.still(state).is_none()
            || state.phase() == Phase::Free
        {
            return false;
        }
        let hash = self.fixed.seed.hash(&key);
        let first_at = hash.bucket(self.fixed.layout.buckets);
        let first = self.lock(first_at);
        if let Some(slot) = first.slot_of(hash.tag(), self.marked(id.entry(), hash)) {
            return self.end(&first, slot, id, condition);
        }
        if !first.overflows() {
            return false;
        }
        drop(first);
        for at in self.buckets_of(hash).skip(1) {
            let (first, other) = self.lock_both(first_at, at);
            if let Some(slot) = other.slot_of(hash.tag(), self.marked(id.entry(), hash)) {
                let ended = self.end(&other, slot, id, condition);
                if ended {
                    first.overflow_ends();
                }
                return ended;
            }
        }
        false
    }

    /// Ends the flow that a slot leads to. The first bucket of its key is locked.
    fn end(&self, bucket: &Locked<'_>, slot: usize, id: FlowId, condition: impl Fn(State) -> bool) -> bool {
        let Some(entry) = self.entry(id.entry()) else { return false };
        let Some(locked) = entry.lock(id) else { return false };
        let state = locked.state();
        if !condition(state) {
            locked.unlock_unchanged();
            return false;
        }
        let account = self.charged(entry);
        bucket.empty(slot);
        locked.free();
        self.discharge(account, state.phase());
        self.push_free(id.entry());
        true
    }
}
